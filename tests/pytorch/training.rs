//! The first 20 training steps of the dense models give PyTorch's losses.
//!
//! `tests/fixtures/pytorch/losses.py` made the losses; it also says by which formula both sides make the initial weights.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use safetensors::tensor::{Dtype, TensorView};
use serde_json::Value;

/// How far a loss may be from PyTorch's, relative to it.
const TOLERANCE: f64 = 1e-5;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What the fixture holds for one model.
struct Reference {
    /// The sizes of the layers, the input's first.
    sizes: Vec<usize>,
    /// CRC-32 of the initial parameters' bytes, in the order of the layers.
    checksum: u64,
    losses: Vec<f64>,
}

fn reference(model: &str) -> Reference {
    let text = std::fs::read_to_string(root().join("tests/fixtures/pytorch/losses.json")).expect("the fixture exists");
    let all: Value = serde_json::from_str(&text).expect("the fixture is JSON");
    let entry = &all[model];
    let numbers = |key: &str| entry[key].as_array().expect("a list").clone();
    Reference {
        sizes: numbers("sizes").iter().map(|n| n.as_u64().expect("a size") as usize).collect(),
        checksum: entry["crc32"].as_u64().expect("a checksum"),
        losses: numbers("f32").iter().map(|n| n.as_f64().expect("a loss")).collect(),
    }
}

/// A parameter as it goes into a weight file.
struct Parameter {
    path: String,
    shape: Vec<usize>,
    /// Little-endian f32.
    bytes: Vec<u8>,
}

/// The fixture's initial weights of a dense net: `dense_1.w`, `dense_1.b`, `dense_2.w`, ...
fn initial_weights(sizes: &[usize]) -> Vec<Parameter> {
    let mut state = 0u64;
    let mut parameters = Vec::new();
    for (layer, pair) in sizes.windows(2).enumerate() {
        let (inputs, outputs) = (pair[0], pair[1]);
        let glorot = (6.0 / (inputs + outputs) as f64).sqrt();
        for (name, shape, limit) in [("w", vec![inputs, outputs], glorot), ("b", vec![outputs], 0.1)] {
            let unit = (limit / f64::from(1 << 23)) as f32;
            let count = shape.iter().product::<usize>();
            let mut bytes = Vec::with_capacity(4 * count);
            for _ in 0..count {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let whole = (state >> 40) as i32 - (1 << 23);
                bytes.extend((whole as f32 * unit).to_le_bytes());
            }
            parameters.push(Parameter { path: format!("dense_{}.{name}", layer + 1), shape, bytes });
        }
    }
    parameters
}

fn write_weights(parameters: &[Parameter], file: &Path) {
    let views = parameters.iter().map(|parameter| {
        let view = TensorView::new(Dtype::F32, parameter.shape.clone(), &parameter.bytes);
        (parameter.path.as_str(), view.expect("the bytes fill the shape"))
    });
    safetensors::serialize_to_file(views, None, file).expect("the weights can be written");
}

/// Runs `nnc train` from `weights` on unshuffled data and gives the loss of each step.
fn losses_of(model: &Path, weights: &Path, steps: usize, extra: &[&str]) -> Vec<f64> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let history: PathBuf = folder.path().join("history.jsonl");
    let output = Command::new(env!("CARGO_BIN_EXE_nnc"))
        .arg("train")
        .arg(model)
        .arg("--init")
        .arg(weights)
        .arg("--history")
        .arg(&history)
        .args(["--no-shuffle", "--log-every", "1", "--steps", &steps.to_string()])
        .args(extra)
        .output()
        .expect("nnc starts");
    assert!(output.status.success(), "nnc train failed:\n{}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(&history).expect("the history was written");
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("each line is JSON"));
    let steps = lines.filter(|line| line["event"] == "step");
    steps.map(|line| line["train"]["ce"].as_f64().expect("a step has its loss")).collect()
}

fn compare(model: &str, extra: &[&str]) {
    let reference = reference(model);
    let parameters = initial_weights(&reference.sizes);
    let mut checksum = flate2::Crc::new();
    parameters.iter().for_each(|parameter| checksum.update(&parameter.bytes));
    assert_eq!(u64::from(checksum.sum()), reference.checksum, "the initial weights are not the fixture's");

    let folder = tempfile::tempdir().expect("a temporary folder");
    let weights = folder.path().join("initial.safetensors");
    write_weights(&parameters, &weights);
    let file = root().join("models").join(model).with_extension("nn");
    let losses = losses_of(&file, &weights, reference.losses.len(), extra);
    assert_eq!(losses.len(), reference.losses.len(), "one loss a step");
    for (step, (ours, theirs)) in losses.iter().zip(&reference.losses).enumerate() {
        let difference = (ours / theirs - 1.0).abs();
        assert!(
            difference <= TOLERANCE,
            "{model}, step {}: {ours} is not PyTorch's {theirs}, off by {difference:.1e}",
            step + 1
        );
    }
}

/// Whether the MNIST files are there; says what to do if not.
fn mnist_is_there(test: &str) -> bool {
    let there = root().join("models/mnist/train-images-idx3-ubyte").exists();
    if !there {
        // Past the test harness, which keeps the output of passing tests to itself.
        let _ = writeln!(
            std::io::stderr(),
            "{test}: SKIPPED, because models/mnist is not there; `models/fetch mnist` brings it"
        );
    }
    there
}

#[test]
fn digits_losses_are_pytorchs() {
    compare("digits", &[]);
}

#[test]
fn mnist_mlp_losses_are_pytorchs() {
    if mnist_is_there("mnist_mlp") {
        compare("mnist_mlp", &[]);
    }
}

#[test]
fn mnist_mlp_deep_losses_are_pytorchs() {
    if mnist_is_there("mnist_mlp_deep") {
        compare("mnist_mlp_deep", &["--set", "rate=0"]);
    }
}
