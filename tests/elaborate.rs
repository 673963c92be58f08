//! Elaboration: types of results, paths of parameters, entry points, the library's numbers, and what mistakes are told.

use std::collections::HashMap;

use nnc::diag::Diagnostic;
use nnc::frontend::model::CheckedModel;
use nnc::frontend::{Project, Settings, check};

fn diagnostics(source: &str) -> (Project, Vec<Diagnostic>) {
    let (project, mut found) = Project::parse("test.nn", source);
    match check(&project, &Settings::default()) {
        Ok(model) => found.extend(model.warnings),
        Err(more) => found.extend(more),
    }
    (project, found)
}

fn checked(source: &str) -> CheckedModel {
    let (project, found) = Project::parse("test.nn", source);
    assert!(found.is_empty(), "{}", told(&project, &found));
    match check(&project, &Settings::default()) {
        Ok(model) => model,
        Err(found) => panic!("{}", told(&project, &found)),
    }
}

/// The diagnostics as `line:column message | label | note | help`.
fn told(project: &Project, found: &[Diagnostic]) -> String {
    let line = |d: &Diagnostic| {
        let mut parts = vec![d.message.clone()];
        if let Some(span) = d.span() {
            let (line, column) = project.sources.line_column(span);
            parts[0] = format!("{line}:{column} {}", d.message);
        }
        parts.extend(d.labels.iter().skip(1).map(|l| {
            let (line, column) = project.sources.line_column(l.span);
            format!("{}:{line}:{column} {}", project.sources.get(l.span.file).name, l.text)
        }));
        parts.extend(d.notes.iter().cloned());
        parts.extend(d.help.iter().cloned());
        parts.join("\n    | ")
    };
    found.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn messages(source: &str) -> String {
    let (project, found) = diagnostics(source);
    told(&project, &found)
}

const MLP: &str = r#"
model Mlp(classes = 10) {
    input  image: u8[batch, 28, 28]
    target label: index(classes)[batch]
    logits = f32(image) / 255 |> flatten |> dense(32) |> relu |> dropout(0.2) |> dense(classes)
    output probs    = softmax(logits)
    loss   ce       = cross_entropy(logits, label)
    metric accuracy = accuracy(logits, label)
}
data {
    train { image = idx("a.gz")
            label = idx("b.gz") }
    test  { from train take 0.2 }
}
train {
    epochs   12
    batch    128
    seed     7
    validate 0.1
    minimize ce with adam(lr=1e-3)
    stop     when val.ce has not improved for 3 epochs
    keep     best val.accuracy
}
"#;

#[test]
fn a_complete_file() {
    let model = checked(MLP);
    let paths: Vec<String> = model.parameters.iter().map(|p| format!("{} {}", p.path, p.ty)).collect();
    assert_eq!(
        paths,
        ["dense_1.b f32[32]", "dense_1.w f32[784, 32]", "dense_2.b f32[10]", "dense_2.w f32[32, 10]"]
    );
    let layers: Vec<String> = model.layers.iter().map(|l| format!("{} {} {}", l.path, l.layer, l.output[0])).collect();
    assert_eq!(
        layers,
        [
            "flatten_1 flatten f32[batch, 784]",
            "dense_1 dense f32[batch, 32]",
            "dropout_1 dropout f32[batch, 32]",
            "dense_2 dense f32[batch, 10]"
        ]
    );
    let names = |f: &nnc::ir::graph::Function| f.arguments.iter().map(|a| a.name.clone()).collect::<Vec<_>>().join(" ");
    let infer = model.entries.infer.as_ref().unwrap();
    assert_eq!(names(infer), "image dense_1.b dense_1.w dense_2.b dense_2.w");
    let eval = model.entries.eval.as_ref().unwrap();
    assert_eq!(names(eval), "image label dense_1.b dense_1.w dense_2.b dense_2.w");
    assert_eq!(names(&model.entries.init), "seed step");
    let step = model.entries.train_step.as_ref().unwrap();
    assert!(names(step).starts_with("seed step image label dense_1.b"), "{}", names(step));
    assert!(names(step).ends_with("adam.v/dense_2.w"), "{}", names(step));
    assert_eq!(step.results.len(), 2 + 4 + 8);
    let _ = HashMap::<i32, i32>::new();
    println!("{}", messages(MLP));
}
