//! The models of `models/` train on their real data to the figures that their headers quote.
//!
//! The digits always; MNIST when asked for, in release and after `models/fetch mnist`:
//! `cargo test --release --test models -- --ignored`.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn model(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(name).with_extension("nn")
}

/// The JSON lines that a command of `nnc` prints.
fn json_of(arguments: &[&str], file: &Path) -> Vec<Value> {
    let (command, flags) = arguments.split_first().expect("a command");
    let output = Command::new(env!("CARGO_BIN_EXE_nnc"))
        .arg(command)
        .arg(file)
        .args(flags)
        .arg("--json")
        .output()
        .expect("nnc starts");
    assert!(output.status.success(), "nnc {command} failed:\n{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("the output is UTF-8");
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

/// Trains by the recipe and checks the accuracy on the test split.
fn reaches(name: &str, accuracy: f64) {
    let lines = json_of(&["train"], &model(name));
    let done = lines.last().expect("training ends with a line");
    assert_eq!(done["event"], "done");
    let found = done["test"]["accuracy"].as_f64().expect("a test accuracy");
    println!("{name}: test accuracy {found:.4} in {} s", done["seconds"]);
    assert!(found >= accuracy, "{name}: test accuracy {found} is below {accuracy}");
}

#[test]
fn digits_reach_their_accuracy() {
    reaches("digits", 0.96);
}

#[test]
#[ignore = "needs `models/fetch mnist` and a release build"]
fn mnist_mlp_reaches_its_accuracy() {
    reaches("mnist_mlp", 0.96);
}

#[test]
#[ignore = "needs `models/fetch mnist`, a release build and several minutes"]
fn mnist_mlp_deep_reaches_its_accuracy() {
    reaches("mnist_mlp_deep", 0.980);
}

#[test]
#[ignore = "needs `models/fetch mnist`, a release build and a minute"]
fn convnet_reaches_its_accuracy() {
    reaches("convnet", 0.98);
}

#[test]
fn the_oscillator_is_solved() {
    let lines = json_of(&["train"], &model("pinn"));
    let error = lines.last().expect("training ends with a line")["test"]["error"].as_f64().expect("a mean error");
    assert!(error < 1e-3, "the mean error of u'' = -u is {error}");
}

#[test]
fn the_generator_comes_nearer_to_the_digits() {
    let lines = json_of(&["train", "--epochs", "16"], &model("wgan_gp"));
    let epochs: Vec<&Value> = lines.iter().filter(|line| line["event"] == "epoch").collect();
    let of = |epoch: usize, name: &str| epochs[epoch - 1]["train"][name].as_f64().expect("a finite number");
    assert!(of(16, "distance") < 0.8 * of(5, "distance"), "the distance stays at {}", of(16, "distance"));
    for epoch in 3..=16 {
        let steepness = of(epoch, "steepness");
        assert!((0.9..1.2).contains(&steepness), "epoch {epoch}: the critic is {steepness} steep");
    }
}

/// The parameters of each layer that has some, and in total.
fn parameter_counts(name: &str) -> (Vec<u64>, u64) {
    let lines = json_of(&["summary"], &model(name));
    let count = |value: &Value| value["parameters"].as_u64().expect("a number of parameters");
    let layers = lines[0]["layers"].as_array().expect("a list of layers");
    (layers.iter().map(count).filter(|n| *n > 0).collect(), count(&lines[0]))
}

#[test]
fn summaries_count_the_parameters() {
    assert_eq!(parameter_counts("digits"), (vec![8320, 8256, 650], 17226));
    assert_eq!(parameter_counts("mnist_mlp"), (vec![25120, 330], 25450));
    assert_eq!(parameter_counts("convnet"), (vec![320, 9248, 51264, 650], 61482));
    assert_eq!(parameter_counts("mnist_mlp_deep"), (vec![401920, 262656, 5130], 669706));
}

#[test]
fn weights_are_the_same_for_any_number_of_threads() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let runs = ["1", "2", "1"].iter().enumerate().map(|(run, threads)| {
        let file = folder.path().join(format!("{run}.safetensors"));
        let path = file.to_str().expect("temporary folders have plain names");
        json_of(&["train", "--epochs", "2", "--threads", threads, "--save", path], &model("digits"));
        std::fs::read(&file).expect("the weights were saved")
    });
    let files: Vec<Vec<u8>> = runs.collect();
    assert!(files[0] == files[1], "1 and 2 threads give different weights");
    assert!(files[0] == files[2], "two runs give different weights");
}
