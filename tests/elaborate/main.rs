//! Elaboration, from source to entry points: the language, the library and what mistakes are told.

mod arrays;
mod convolution;
mod dtypes;
mod language;
mod library;
mod mistakes;
mod paths;
mod recipes;
mod scans;

use nnc::diag::Diagnostic;
use nnc::frontend::model::{CheckedModel, Clip, Stop};
use nnc::frontend::{Project, Settings, check};
use nnc::ir::dim::{Sizes, Symbol};
use nnc::ir::graph::{Function, ResultRole, Role};
use nnc::ir::tensor::Tensor;

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

/// The outputs of a model whose inputs are given in order as shape and values, in f64.
fn outputs(source: &str, inputs: &[(&[usize], &[f64])]) -> Vec<Vec<f64>> {
    let model = checked(source);
    let infer = model.entries.infer().expect("the model has outputs");
    run(infer, inputs).into_iter().map(|t| t.data).collect()
}

fn run(function: &Function, inputs: &[(&[usize], &[f64])]) -> Vec<Tensor> {
    let function = function.specialize(&Sizes::from([(Symbol("batch".into()), 3)])).unwrap();
    let mut given = inputs.iter();
    let arguments: Vec<Tensor> = function
        .arguments
        .iter()
        .map(|a| match a.role {
            Role::Seed => Tensor::new(a.ty.clone(), vec![7.0, 0.0]),
            Role::Step => Tensor::new(a.ty.clone(), vec![0.0]),
            _ => {
                let (shape, data) = given.next().expect("an input for every argument");
                assert_eq!(a.ty.sizes().unwrap(), *shape, "{}", a.name);
                Tensor::new(a.ty.clone(), data.to_vec())
            }
        })
        .collect();
    nnc::ir::interpret::run(&function, &arguments).unwrap()
}

fn close(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (f, e) in found.iter().zip(expected) {
        assert!((f - e).abs() <= 1e-6 * (1.0 + e.abs()), "found {found:?}, expected {expected:?}");
    }
}

fn paths(model: &CheckedModel) -> Vec<&str> {
    model.parameters.iter().map(|p| p.path.as_str()).collect()
}

/// The training step of a source with its gradients expanded, and a step of it on the given arguments by name.
fn step(source: &str, arguments: &[(&str, &[f64])]) -> Vec<(String, Vec<f64>)> {
    let model = checked(source);
    let function = model.entries.train_step().expect("the recipe minimizes something");
    let mut function = function.specialize(&Sizes::from([(Symbol("batch".into()), 2)])).unwrap();
    for pass in nnc::passes::GRAPH_PASSES {
        function = pass.apply(&function).unwrap();
    }
    let values = function.arguments.iter().map(|a| {
        let data = arguments.iter().find(|(name, _)| *name == a.name).map(|(_, data)| data.to_vec());
        Tensor::new(a.ty.clone(), data.unwrap_or_else(|| panic!("no value for `{}`", a.name)))
    });
    let results = nnc::ir::interpret::run(&function, &values.collect::<Vec<_>>()).unwrap();
    function.results.iter().map(|r| r.name.clone()).zip(results.into_iter().map(|t| t.data)).collect()
}
