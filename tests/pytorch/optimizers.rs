//! Twenty steps of each optimizer, as PyTorch or optax takes them.

use std::path::Path;

use nnc::driver::JitOptions;
use serde_json::Value;

/// How far a loss or a parameter may be from the fixture's, relative to the larger of it and 1.
const TOLERANCE: f64 = 1e-5;

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(|v| v.as_f64().expect("a number")).collect()
}

fn singles(value: &Value) -> Vec<f32> {
    numbers(value).into_iter().map(|v| v as f32).collect()
}

fn near(what: &str, found: &[f64], wanted: &[f64]) -> Result<(), String> {
    assert_eq!(found.len(), wanted.len(), "{what}");
    for (i, (a, b)) in found.iter().zip(wanted).enumerate() {
        let off = (a - b).abs() / b.abs().max(1.0);
        if off > TOLERANCE || off.is_nan() {
            return Err(format!("{what}: {a} instead of {b} at {i}, off by {off:.1e}"));
        }
    }
    Ok(())
}

/// The net of `optimizers.py`, trained by an optimizer.
fn check(optimizer: &str, given: &Value, run: &Value) -> Result<(), String> {
    let source = format!(
        "model Net {{
    input x: f32[batch, 3]
    target t: f32[batch, 2]
    param w1: f32[3, 5] = zeros
    param b1: f32[5] = zeros
    param w2: f32[5, 2] = zeros
    loss error = mse(tanh(x @ w1 + b1) @ w2, t)
}}
train {{ minimize error with {optimizer} }}"
    );
    let compiled = nnc::compile("net.nn", &source).map_err(|e| e.to_string())?;
    let mut session = compiled.jit_with(JitOptions { threads: 1 }).map_err(|e| e.to_string())?;
    for name in ["w1", "b1", "w2"] {
        session.set_parameter(name, &singles(&given[name])).map_err(|e| e.to_string())?;
    }
    let (x, t) = (singles(&given["x"]), singles(&given["t"]));
    let wanted = numbers(&run["losses"]);
    let mut losses = Vec::new();
    for _ in 0..wanted.len() {
        let report = session.train_step(&[("x", (&x).into()), ("t", (&t).into())]).map_err(|e| e.to_string())?;
        losses.push(report.get("error").expect("the loss is reported"));
    }
    near("losses", &losses, &wanted)?;
    for name in ["w1", "b1", "w2"] {
        let found = session.parameter(name).expect("the model has it").to_f64();
        near(name, &found, &numbers(&run["parameters"][name]))?;
    }
    Ok(())
}

#[test]
fn optimizers_take_the_same_steps() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pytorch/optimizers.json");
    let text = std::fs::read_to_string(file).expect("the fixture exists");
    let all: Value = serde_json::from_str(&text).expect("the fixture is JSON");
    let runs = all["runs"].as_object().expect("a table of runs");
    let failed = runs.iter().filter_map(|(optimizer, run)| {
        check(optimizer, &all["given"], run).err().map(|e| format!("{optimizer} as by {}: {e}", run["by"]))
    });
    let failed: Vec<String> = failed.collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    let names: std::collections::BTreeSet<&str> = runs.keys().filter_map(|k| k.split('(').next()).collect();
    let library = ["adadelta", "adagrad", "adam", "adamax", "adamw", "lion", "momentum", "nadam", "rmsprop", "sgd"];
    assert_eq!(names.into_iter().collect::<Vec<_>>(), library);
}
