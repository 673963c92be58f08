//! Texts with their names, shapes and what may be written in them, without any protocol.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::Analysis;
use super::complete::CandidateKind;
use super::context::Asked;

fn read(text: &str) -> Analysis {
    Analysis::new("<string>", text.into(), &Arc::default())
}

/// A text in which `$` marks a place, without the mark, and the place.
fn marked(text: &str) -> (Analysis, u32) {
    let at = text.find('$').expect("a place is marked");
    (read(&text.replacen('$', "", 1)), at as u32)
}

/// The lines, from 1, on which the name at the mark is defined.
fn defined_on(text: &str) -> Vec<usize> {
    let (analysis, at) = marked(text);
    let line = |start: u32| analysis.text[..start as usize].matches('\n').count() + 1;
    analysis.definitions_at(at).iter().map(|span| line(span.start)).collect()
}

/// How often the symbol at the mark is written.
fn occurrences(text: &str) -> usize {
    let (analysis, at) = marked(text);
    let site = analysis.names.meant_at(at)[0];
    analysis.names.places_of(analysis.names.sites[site].symbol).len()
}

fn described(text: &str) -> String {
    let (analysis, at) = marked(text);
    analysis.describe_at(at).map(|(description, _, _)| description.markdown()).unwrap_or_default()
}

fn candidates(text: &str) -> Vec<String> {
    let (analysis, at) = marked(text);
    analysis.complete(at).1.into_iter().map(|c| c.name).collect()
}

#[test]
fn a_use_means_the_bindings_that_reach_it() {
    let body = |text: &str| format!("model M(deep = true) {{\n input x: f32[batch, 4]\n {text}\n output y\n}}\n");
    assert_eq!(defined_on(&body("y = x\n y = $y + 1")), [3]);
    assert_eq!(defined_on(&body("y = x\n if deep { y = 2 * y }\n z = $y")), [3, 4]);
    assert_eq!(defined_on(&body("y = x\n if deep {\n y = 1 * x } else {\n y = 2 * x }\n z = $y")), [5, 6]);
    assert_eq!(defined_on(&body("y = x\n for i in 0..2 {\n y = $y + i\n}")), [3, 5]);
    assert_eq!(defined_on(&body("y = x\n net = |y| $y + 1")), [4]);
    assert_eq!(defined_on(&body("y = x\n net = |v| {\n w = $y\n w }\n y = net(y)")), [3]);
    assert_eq!(defined_on(&body("y = x + [deep for y in 0..4][$deep]")), [1]);
}

#[test]
fn a_carry_is_what_the_body_makes_of_it() {
    let scan = |text: &str| {
        format!(
            "layer l(x: f32[n, t, d]) {{\n h0 = 0\n scan xt in x axis 1 carry h: f32[n, d] = 0 {{\n h = h + xt\n yield h\n }} -> hs\n {text}\n}}\n"
        )
    };
    assert_eq!(defined_on(&scan("return $h")), [3, 4]);
    assert_eq!(defined_on(&scan("return $hs")), [3 + 3]);
    assert_eq!(occurrences(&scan("return $h")), 5);
    assert_eq!(occurrences("layer l(x: f32[$n, d]) { param w: f32[n] = zeros\n y: 0\n x * w + n }"), 3);
}

#[test]
fn states_arguments_and_members_lead_to_their_declarations() {
    let text = "layer norm(x: f32[n, d], eps = 1e-3) {
    state mean: f32[d] = zeros
    mean <- 0.9 * mean
    x - mean + eps
}
model M {
    input x: f32[batch, 4]
    net = dense(3)
    y = norm(x, EPS=1e-2) |> net
    output y = y + net.w[0]
}
train { epochs 1 }
";
    assert_eq!(defined_on(&text.replacen("mean <-", "$mean <-", 1)), [2]);
    assert_eq!(defined_on(&text.replacen("- mean", "- $mean", 1)), [3]);
    assert_eq!(defined_on(&text.replacen("EPS", "$eps", 1)), [1]);
    assert_eq!(occurrences(&text.replacen("EPS", "$eps", 1)), 3);
    assert_eq!(occurrences(&text.replacen("mean <-", "$mean <-", 1).replacen("EPS", "eps", 1)), 4);
    let (analysis, at) = marked(&text.replacen("net.w", "net.$w", 1).replacen("EPS", "eps", 1));
    let place = analysis.definitions_at(at)[0];
    assert!(analysis.project.is_library(place));
    assert_eq!(&analysis.source(place.file)[place.start as usize..place.end as usize], "w");
}

#[test]
fn recipes_see_their_model() {
    let text = "model M {
    input x: f32[batch, 4]
    target t: f32[batch, 1]
    net = dense(1)
    loss l = mse(net(x), t)
    metric m = mae(net(x), t)
}
data { train { X = csv(\"a.csv\"); t = csv(\"a.csv\") }
       test { from TRAIN take 0.1 } }
train {
    minimize L over NET with sgd(lr=0.1)
    stop when val.METRIC has not improved for 3 epochs
}
";
    let at = |word: &str| {
        let lower = if word == "METRIC" { "m".to_owned() } else { word.to_lowercase() };
        let marked = text.replacen(word, &format!("${lower}"), 1);
        ["METRIC", "TRAIN", "NET", "X", "L"].iter().fold(marked, |text, word| {
            let lower = if *word == "METRIC" { "m".to_owned() } else { word.to_lowercase() };
            text.replace(word, &lower)
        })
    };
    assert_eq!(defined_on(&at("X")), [2]);
    assert_eq!(defined_on(&at("TRAIN")), [8]);
    assert_eq!(defined_on(&at("NET")), [4]);
    assert_eq!(defined_on(&at("METRIC")), [6]);
    assert_eq!(defined_on(&text.replacen("minimize L", "minimize $l", 1).replace("METRIC", "m")), [5]);
}

#[test]
fn names_are_described_with_shape_and_documentation() {
    let text = "/// Twice as much.
layer twice(x, by = 2) { by * x }
model M {
    input x: f32[batch, 3]
    /// What is in between.
    hidden = x |> dense(4) |> twice
    output y = HIDDEN + 1
}
";
    let at = |from: &str, to: &str| described(&text.replacen(from, to, 1).replace("HIDDEN", "hidden"));
    assert!(at("hidden =", "$hidden =").contains("hidden: f32[batch, 4]"));
    assert!(at("HIDDEN", "$hidden").contains("What is in between."));
    let applied = at("|> twice", "|> $twice");
    assert!(applied.contains("layer twice(x, by = 2)\n// gives f32[batch, 4]"), "{applied}");
    assert!(applied.contains("Twice as much."));
    let library = at("dense", "$dense");
    assert!(library.contains("layer dense(x: float[.., n], units,"), "{library}");
    assert!(library.contains("// gives f32[batch, 4]") && library.contains("Fully connected"), "{library}");
    assert!(!at("input", "$input").is_empty() && at("f32", "$f32").contains("32"));
    assert!(at("x |>", "$x |>").contains("input x: f32[batch, 3]"));
    assert!(at("by * x", "by * $x").contains("argument x: f32[batch, 4]"));
    let primitive = described("model M { input x: f32[batch, 3]\n output y = $reshape(x, [3, batch]) }");
    assert!(primitive.contains("reshape(") && primitive.contains("// gives f32[3, batch]"), "{primitive}");
}

#[test]
fn what_is_asked_for_follows_from_what_stands_around() {
    let asked = |text: &str| {
        let (analysis, at) = marked(text);
        analysis.context_at(at).kind
    };
    assert_eq!(asked("$"), Asked::Item);
    assert_eq!(asked("const a = 1\n$"), Asked::Item);
    assert_eq!(asked("model M {\n  $\n}"), Asked::Statement);
    assert_eq!(asked("model M {\n  inp$\n}"), Asked::Statement);
    assert_eq!(asked("model M {\n  input x: $\n}"), Asked::Type);
    assert_eq!(asked("model M {\n  y = x\n    |> $\n}"), Asked::Value);
    assert_eq!(asked("model M {\n  y = dense(x, $\n}"), Asked::Value);
    assert_eq!(asked("layer l(x: $"), Asked::Type);
    assert_eq!(asked("layer l($"), Asked::Nothing);
    assert_eq!(asked("layer $"), Asked::Nothing);
    assert_eq!(asked("// input $"), Asked::Nothing);
    assert_eq!(asked("const a = \"$\""), Asked::Nothing);
    assert_eq!(asked("train {\n  epochs 3\n  $\n}"), Asked::Entry);
    assert_eq!(asked("train {\n  batch $ }"), Asked::InEntry { entry: "batch".into(), after: "batch".into() });
    assert_eq!(asked("data {\n  $ }"), Asked::Split);
    assert_eq!(asked("data { train { $ } }"), Asked::Bound);
    assert_eq!(asked("data { train { x = $ } }"), Asked::Reader);
    assert!(matches!(asked("model M { y = net.$ }"), Asked::Field { .. }));
}

#[test]
fn candidates_fit_their_place() {
    let model = |text: &str| {
        format!("model M {{\n input x: f32[batch, 4]\n net = dense(3)\n y = net(x)\n loss l = mean(y)\n {text}\n}}\n")
    };
    let found = candidates(&model("z = $"));
    for name in ["x", "net", "y", "dense", "relu", "reshape", "f32", "if"] {
        assert!(found.iter().any(|f| f == name), "{name}");
    }
    assert!(!found.iter().any(|f| f == "adam" || f == "input" || f == "z"));
    assert_eq!(candidates(&model("z = net.$")), ["b", "w"]);
    assert_eq!(candidates(&model("z = net.$ + 1")), ["b", "w"]);
    let (analysis, at) = marked(&model("z = x |> dense(3, bias=false, $)"));
    let arguments = analysis.complete(at).1.into_iter().filter(|c| c.kind == CandidateKind::Argument);
    assert_eq!(arguments.map(|c| c.name).collect::<Vec<_>>(), ["bias_init", "init"]);
    let statements = candidates(&model("$"));
    assert!(statements.iter().any(|f| f == "output") && !statements.iter().any(|f| f == "return"));
    let recipe = |text: &str| candidates(&format!("{}train {{\n {text}\n}}\n", model("")));
    assert_eq!(recipe("minimize $"), ["l"]);
    let optimizers = recipe("minimize l with $");
    assert!(optimizers.iter().any(|f| f == "adam") && !optimizers.iter().any(|f| f == "dense"));
    assert_eq!(recipe("keep best val.$"), ["l"]);
    assert!(recipe("$").iter().any(|f| f == "minimize"));
    assert!(candidates("data { train { x = $ } }").iter().any(|f| f == "csv"));
}

#[test]
fn calls_are_known_while_they_are_written() {
    let (analysis, at) = marked("model M {\n input x: f32[batch, 4]\n y = x |> dense(units=(3), bias=$\n}\n");
    let call = analysis.context_at(at).call.expect("a call is open");
    assert_eq!((call.before, call.piped, call.current.as_deref()), (1, true, Some("bias")));
    let callee = analysis.callee_at(&call).expect("it is known");
    let names: Vec<String> = analysis.parameters_of(&callee).into_iter().map(|p| p.name).collect();
    assert_eq!(names, ["x", "units", "bias", "init", "bias_init"]);
}

#[test]
fn what_was_known_stays_while_a_line_is_being_written() {
    let before = read("model M {\n input x: f32[batch, 4]\n net = dense(3)\n y = net(x)\n output y\n}\n");
    let (mut after, at) =
        marked("model M {\n input x: f32[batch, 4]\n net = dense(3)\n y = net(x)$ |> )\n output y\n}\n");
    assert!(!after.project.is_readable());
    assert!(after.describe_at(at - 5).is_none());
    after.fill_from(&before);
    let (description, _, _) = after.describe_at(at - 2).expect("it was known");
    assert!(description.code.contains("x: f32[batch, 4]"), "{description:?}");
    let y = after.text.rfind('y').expect("it is there") as u32;
    assert_eq!(after.definitions_at(y).len(), 1);
}

/// The project's programs, and those that its tests check.
fn programs() -> Vec<(PathBuf, String)> {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder can be read") {
            let path = entry.expect("a folder can be read").path();
            let hidden = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.') || n == "target");
            if path.is_dir() && !hidden {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "nn") {
                found.push((path.clone(), fs::read_to_string(&path).unwrap_or_default()));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn every_place_of_every_program_can_be_asked_about() {
    let programs = programs();
    assert!(programs.len() > 10);
    for (path, text) in &programs {
        let analysis = read(text);
        analysis.stretches();
        for at in (0..=text.len()).step_by(7) {
            let at = at as u32;
            analysis.describe_at(at);
            analysis.definitions_at(at);
            analysis.context_at(at);
        }
        for site in &analysis.names.sites {
            let span = site.name.span;
            assert_eq!(analysis.slice(span.start, span.end), &*site.name.text, "{}", path.display());
            assert!(analysis.names.places_of(site.symbol).contains(&span), "{}", path.display());
        }
    }
}

#[test]
fn a_program_may_end_anywhere() {
    let mut asked = 0;
    for (_, text) in programs() {
        let mut earlier: Option<Analysis> = None;
        // Some prefixes of each, at places that differ from program to program.
        let step = (text.len() / 12).max(1);
        for end in (step / 2..text.len()).step_by(step) {
            let prefix = &text[..text.floor_char_boundary(end)];
            // Names only: what models come to is the elaborator's, whose tests have their own.
            let stop = Arc::new(AtomicBool::new(text.len() > 4000));
            let mut analysis = Analysis::new("<string>", prefix.into(), &stop);
            if let Some(earlier) = &earlier {
                analysis.fill_from(earlier);
            }
            let at = prefix.len() as u32;
            analysis.complete(at);
            analysis.describe_at(at.saturating_sub(2));
            if let Some(call) = analysis.context_at(at).call {
                analysis.callee_at(&call);
            }
            asked += 1;
            earlier = Some(analysis);
        }
    }
    assert!(asked > 100);
}

#[test]
fn a_long_program_is_read_soon() {
    let mut text = String::from("model Long {\n    input x: f32[batch, 16]\n    y = x\n");
    for i in 0..290 {
        text.push_str(&format!("    y = y |> dense({}) |> relu\n", 16 + i % 3));
    }
    text.push_str("    output y\n}\n");
    read("const a = 1\n");
    let started = Instant::now();
    let analysis = read(&text);
    let taken = started.elapsed();
    assert!(analysis.diagnostics.is_empty(), "{:#?}", analysis.diagnostics);
    // Unoptimized, on a busy machine; it is tens of milliseconds otherwise.
    assert!(taken < Duration::from_secs(5), "{taken:?}");
}
