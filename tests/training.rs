//! Recipes run by the `nnc` binary: phases, weights that are loaded, averages, and runs that go on from a checkpoint with the same bits.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use nnc::formats::safetensors::WeightFile;
use serde_json::Value;
use tempfile::TempDir;

/// A net with everything that a step may keep: parameters, running statistics, draws, optimizer states. RECIPE is replaced.
const MODEL: &str = r#"
model Blobs {
    input  x: f32[batch, 2]
    target label: index(2)[batch]
    backbone = |x| x |> dense(8) |> batch_norm |> relu |> dropout(0.1)
    head = dense(2)
    logits = x |> backbone |> head
    output probs    = softmax(logits)
    loss   ce       = cross_entropy(logits, label)
    metric accuracy = accuracy(logits, label)
}
data {
    train { x     = csv("blobs.csv", columns=["a", "b"])
            label = csv("blobs.csv", columns="label") }
    test  { from train take 0.2 }
}
train {
    batch 16; seed 3; validate 0.1
    RECIPE
}
"#;

/// Rows of two point clouds, by a small linear congruential generator.
fn blobs(rows: usize) -> String {
    let mut state = 12345u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(state >> 8) / f64::from(1 << 24) - 0.5
    };
    let mut text = String::from("a,b,label\n");
    for row in 0..rows {
        let center = if row % 2 == 0 { -0.3 } else { 0.3 };
        text.push_str(&format!("{:.4},{:.4},{}\n", center + next(), center + next(), row % 2));
    }
    text
}

struct Folder(TempDir);

impl Folder {
    fn new(recipe: &str) -> Folder {
        let folder = Folder(tempfile::tempdir().unwrap());
        fs::write(folder.path("m.nn"), MODEL.replace("RECIPE", recipe)).unwrap();
        fs::write(folder.path("blobs.csv"), blobs(200)).unwrap();
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nnc"));
        command.args(["train", "m.nn", "--json"]).args(arguments).current_dir(self.0.path());
        command
    }

    /// Trains, which must succeed; the JSON lines.
    fn train(&self, arguments: &[&str]) -> Vec<Value> {
        let output: Output = self.command(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect()
    }

    /// Trains, which must find a mistake; what it says.
    fn wrong(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    /// The elements of a parameter in a weight file.
    fn parameter(&self, file: &str, name: &str) -> Vec<f64> {
        WeightFile::open(&self.path(file)).unwrap().array(name).unwrap().values().collect()
    }
}

/// The last epoch's and the last line's numbers that do not depend on the clock.
fn numbers(lines: &[Value]) -> Vec<Value> {
    let epoch = lines.iter().rfind(|l| l["event"] == "epoch").unwrap();
    let done = lines.last().unwrap();
    [
        &epoch["epoch"],
        &epoch["step"],
        &epoch["train"],
        &epoch["val"],
        &done["test"],
        &done["best_epoch"],
        &done["steps"],
    ]
    .into_iter()
    .cloned()
    .collect()
}

const WHOLE: &str = "epochs 6; minimize ce with adam(lr=0.01); accumulate 2; average ema 0.9; clip norm 1
    keep best val.ce; stop when val.ce has not improved for 50 epochs";

#[test]
fn a_run_that_goes_on_ends_with_the_same_bits() {
    let folder = Folder::new(WHOLE);
    // 144 rows of 16: 9 steps an epoch. The run is cut in the middle of an epoch, at the end of one, and in the middle again.
    let whole = folder.train(&["--save", "whole.safetensors"]);
    folder.train(&["--steps", "17", "--checkpoint", "c"]);
    folder.train(&["--steps", "27", "--resume", "c"]);
    folder.train(&["--steps", "43", "--resume", "c", "--threads", "1"]);
    let end = folder.train(&["--resume", "c", "--save", "parts.safetensors"]);
    assert_eq!(end[0]["resumed"], 43);
    assert_eq!(numbers(&whole), numbers(&end));
    assert!(folder.bytes("whole.safetensors") == folder.bytes("parts.safetensors"));
    // The run has ended; going on says the same once more, and further epochs follow those that were.
    let again = folder.train(&["--resume", "c", "--save", "again.safetensors"]);
    assert_eq!(again.last().unwrap()["test"], whole.last().unwrap()["test"]);
    assert!(folder.bytes("whole.safetensors") == folder.bytes("again.safetensors"));
    let further = folder.train(&["--resume", "c", "--epochs", "7"]);
    assert_eq!(further.iter().filter(|l| l["event"] == "epoch").map(|l| l["epoch"].clone()).collect::<Vec<_>>(), [7]);
}

#[test]
fn a_run_that_is_killed_goes_on_from_its_last_checkpoint() {
    let folder = Folder::new("epochs 40; checkpoint every 3 steps; minimize ce with momentum(0.05)");
    folder.train(&["--save", "whole.safetensors", "--checkpoint", "other"]);
    let mut child = folder.command(&["--save", "parts.safetensors"]).stdout(Stdio::null()).spawn().unwrap();
    let file = folder.path("m.checkpoints/checkpoint.safetensors");
    let begin = Instant::now();
    while !file.exists() {
        assert!(begin.elapsed() < Duration::from_secs(120), "no checkpoint was written");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    folder.train(&["--resume", "m.checkpoints", "--save", "parts.safetensors"]);
    assert!(folder.bytes("whole.safetensors") == folder.bytes("parts.safetensors"));
}

#[test]
fn a_checkpoint_of_another_run_is_refused() {
    let folder = Folder::new("epochs 1; minimize ce with adam");
    assert!(folder.wrong(&["--resume", "c"]).contains("checkpoint.safetensors"));
    folder.train(&["--checkpoint", "c"]);
    assert!(folder.wrong(&["--resume", "c", "--seed", "4"]).contains("the seed was 3, it is 4"));
    assert!(folder.wrong(&["--resume", "c", "--batch", "8"]).contains("a step took 16 rows, it takes 8"));
    let changed = MODEL.replace("RECIPE", "epochs 1; minimize ce with sgd");
    fs::write(folder.path("m.nn"), &changed).unwrap();
    assert!(
        folder
            .wrong(&["--resume", "c"])
            .contains("its `optimizer/adam.m/backbone.batch_norm_1.beta` is not in the model")
    );
    fs::write(folder.path("m.nn"), changed.replace("dense(8)", "dense(9)")).unwrap();
    assert!(folder.wrong(&["--resume", "c"]).contains("f32[9]"));
    fs::write(folder.path("c/checkpoint.safetensors"), &folder.bytes("c/checkpoint.safetensors")[..500]).unwrap();
    assert!(folder.wrong(&["--resume", "c"]).contains("safetensors file, or truncated"));
}

const PHASES: &str = "minimize ce with adam(lr=0.01)
    phase \"head\" { epochs 2; freeze backbone }
    phase \"all\" { epochs 3; minimize ce with sgd(0.01); keep best val.accuracy }";

#[test]
fn phases_run_in_order_and_go_on_from_each_other() {
    let folder = Folder::new(PHASES);
    let lines = folder.train(&["--save", "w.safetensors"]);
    let epochs: Vec<String> = lines
        .iter()
        .filter(|l| l["event"] == "epoch")
        .map(|l| format!("{} {} {}", l["phase"].as_str().unwrap(), l["epoch"], l["step"]))
        .collect();
    assert_eq!(epochs, ["head 1 9", "head 2 18", "all 1 27", "all 2 36", "all 3 45"]);
    let trainable = lines.iter().filter(|l| l["event"] == "start").map(|l| l["trainable"].as_u64().unwrap());
    assert_eq!(trainable.collect::<Vec<_>>(), [18, 18 + 24 + 16]);
    assert_eq!(lines.last().unwrap()["steps"], 45);

    // Cut in the middle of the second phase.
    folder.train(&["--epochs", "0", "--save", "zero.safetensors"]);
    let first = Folder::new(&PHASES.replace("epochs 3", "epochs 0"));
    first.train(&["--save", "one.safetensors"]);
    let (zero, one) = (
        folder.parameter("zero.safetensors", "backbone.dense_1.w"),
        first.parameter("one.safetensors", "backbone.dense_1.w"),
    );
    assert_eq!(zero, one, "the first phase freezes the backbone");
    assert_ne!(one, folder.parameter("w.safetensors", "backbone.dense_1.w"));
    assert_ne!(folder.parameter("zero.safetensors", "head.w"), first.parameter("one.safetensors", "head.w"));

    let cut = Folder::new(&PHASES.replace("epochs 3", "epochs 3; steps 17"));
    cut.train(&["--checkpoint", "c"]);
    fs::write(cut.path("m.nn"), MODEL.replace("RECIPE", PHASES)).unwrap();
    let end = cut.train(&["--resume", "c", "--save", "w.safetensors"]);
    assert_eq!(end[0]["phase"], "all");
    assert_eq!(end.last().unwrap()["steps"], 45);
    assert!(folder.bytes("w.safetensors") == cut.bytes("w.safetensors"));
}

#[test]
fn weights_are_loaded_into_a_layer_and_into_the_model() {
    let folder = Folder::new("epochs 1; minimize ce with adam");
    folder.train(&["--save", "w.safetensors"]);
    let recipe = |text: &str| fs::write(folder.path("m.nn"), MODEL.replace("RECIPE", text)).unwrap();
    recipe("epochs 0; seed 9; load \"w.safetensors\"; minimize ce with adam".replace("seed 9; ", "").as_str());
    folder.train(&["--seed", "9", "--save", "same.safetensors"]);
    assert!(folder.bytes("w.safetensors") == folder.bytes("same.safetensors"));
    recipe("epochs 0; load \"w.safetensors\" into backbone; minimize ce with adam");
    folder.train(&["--seed", "9", "--save", "part.safetensors"]);
    let of = |file: &str, name: &str| folder.parameter(file, name);
    for name in ["backbone.dense_1.w", "backbone.batch_norm_1.mean"] {
        assert_eq!(of("part.safetensors", name), of("w.safetensors", name));
    }
    assert_ne!(of("part.safetensors", "head.w"), of("w.safetensors", "head.w"));
    recipe("epochs 0; load \"w.safetensors\" into head; minimize ce with adam");
    folder.train(&["--seed", "9", "--save", "head.safetensors"]);
    assert_eq!(of("head.safetensors", "head.w"), of("w.safetensors", "head.w"));

    // The weights of a layer alone: those of a model that is the layer.
    let alone = "model Alone {\ninput x: f32[batch, 8]\nparam w: f32[8, 2] = glorot_uniform\nparam b: f32[2] = ones\nloss l = mean((x @ w + b)^2)\n}\ndata { train { x = constant(1) } }\ntrain { epochs 0; batch 4; minimize l with sgd }";
    fs::write(folder.path("alone.nn"), alone).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_nnc"));
    let status = command
        .args(["train", "alone.nn", "--quiet", "--save", "alone.safetensors"])
        .current_dir(folder.0.path())
        .status();
    assert!(status.unwrap().success());
    recipe("epochs 0; load \"alone.safetensors\" into head; minimize ce with adam");
    folder.train(&["--save", "head.safetensors"]);
    assert_eq!(of("head.safetensors", "head.b"), [1.0, 1.0]);
    assert_eq!(of("head.safetensors", "head.w"), of("alone.safetensors", "w"));

    recipe("epochs 0; load \"alone.safetensors\" into backbone; minimize ce with adam");
    let said = folder.wrong(&[]);
    assert!(
        said.contains("does not fit `backbone`") && said.contains("the file has no `dense_1.w` (f32[2, 8])"),
        "{said}"
    );
    assert!(said.contains("the file's `w` (f32[8, 2]) is not in `backbone`") && said.contains("m.nn"), "{said}");
    recipe("epochs 0; load \"none.safetensors\"; minimize ce with adam");
    assert!(folder.wrong(&[]).contains("none.safetensors"));
}

#[test]
fn averages_are_what_is_evaluated_and_saved() {
    let folder = Folder::new("epochs 2; average ema 0.9; minimize ce with adam(lr=0.05)");
    let lines = folder.train(&["--save", "average.safetensors"]);
    let plain = Folder::new("epochs 2; minimize ce with adam(lr=0.05)");
    let other = plain.train(&["--save", "plain.safetensors"]);
    // Training is the same, what is measured and saved is not.
    let last = |lines: &[Value]| lines.iter().rfind(|l| l["event"] == "epoch").unwrap().clone();
    assert_eq!(last(&lines)["train"], last(&other)["train"]);
    assert_ne!(last(&lines)["val"], last(&other)["val"]);
    let (average, plain) =
        (folder.parameter("average.safetensors", "head.w"), plain.parameter("plain.safetensors", "head.w"));
    assert!(average.iter().zip(&plain).all(|(a, b)| a != b && (a - b).abs() < 1.0));
}

#[test]
fn training_stops_when_a_condition_holds() {
    let folder = Folder::new("epochs 50; minimize ce with adam(lr=0.01); stop when epoch >= 2 and train.ce < 10");
    let lines = folder.train(&[]);
    let done = lines.last().unwrap();
    assert_eq!(done["stopped"], "epoch >= 2 and train.ce < 10");
    assert_eq!(done["steps"], 18);
}

#[test]
fn accumulated_batches_are_one_large_batch() {
    let recipe = "epochs 3; shuffle false; minimize ce with adam(lr=0.01)";
    let model = |recipe: &str, batch: usize| {
        let folder = Folder::new(recipe);
        // Without what depends on the batch itself; 128 rows are 4 batches of 32 and 8 of 16.
        let text = MODEL.replace("RECIPE", recipe).replace(" |> batch_norm |> relu |> dropout(0.1)", " |> relu");
        let text = text.replace("validate 0.1", "validate 0.2").replace("batch 16", &format!("batch {batch}"));
        fs::write(folder.path("m.nn"), text).unwrap();
        folder.train(&["--save", "w.safetensors"]);
        [folder.parameter("w.safetensors", "backbone.dense_1.w"), folder.parameter("w.safetensors", "head.w")].concat()
    };
    let (large, small) = (model(recipe, 32), model(&format!("accumulate 2; {recipe}"), 16));
    let distance = large.iter().zip(&small).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(distance < 1e-5, "{distance}: {large:?} {small:?}");
    assert_ne!(large, model(recipe, 16));
}

/// Six samples, measured in batches of four and two.
const WHOLE_SET: &str = r#"
model Scores {
    input  x: f32[batch]
    target label: index(2)[batch]
    param w: f32[] = 1
    y = x * w
    logits = stack([0 * y, y], axis=-1)
    loss   l = mse(y, f32(label))
    metric accuracy  = accuracy(y, label, threshold=0.5)
    metric area      = auc(y, label)
    metric confusion = confusion_matrix(y, label, threshold=0.5)
    metric p         = precision(y, label, threshold=0.5)
    metric r         = recall(y, label, threshold=0.5)
    metric f         = f1(y, label, threshold=0.5)
    metric explained = r2(y, f32(label))
    metric doubt     = perplexity(logits, label)
    metric curve     = roc_curve(logits, label, points=3)
}
data {
    train { x = csv("s.csv", columns="x"); label = csv("s.csv", columns="label") }
    test  { x = csv("s.csv", columns="x"); label = csv("s.csv", columns="label") }
}
train { epochs 0; batch 4; minimize l with sgd }
"#;

#[test]
fn metrics_of_a_whole_set_are_no_means_of_batches() {
    let folder = Folder::new("epochs 1; minimize ce with adam");
    fs::write(folder.path("m.nn"), WHOLE_SET).unwrap();
    fs::write(folder.path("s.csv"), "x,label\n0.1,0\n0.4,0\n0.35,1\n0.8,1\n0.4,1\n0.9,1\n").unwrap();
    let lines = folder.train(&["--tensorboard", "events"]);
    let test = &lines.last().unwrap()["test"];
    let close = |name: &str, expected: f64| {
        let found = test[name].as_f64().unwrap_or_else(|| panic!("{name} in {test}"));
        assert!((found - expected).abs() < 1e-6, "{name} is {found}, not {expected}");
    };
    // Of the eight pairs, six are in order and one is tied.
    close("area", 6.5 / 8.0);
    assert_eq!(test["confusion"], serde_json::json!([[2.0, 0.0], [2.0, 2.0]]));
    close("accuracy", 4.0 / 6.0);
    close("p", 1.0);
    close("r", 0.5);
    close("f", 2.0 / 3.0);
    close("explained", 1.0 - 1.0025 / (12.0 / 9.0));
    let nll = |x: f64, label: u8| (1.0 + (if label == 1 { -x } else { x }).exp()).ln();
    let samples = [(0.1, 0), (0.4, 0), (0.35, 1), (0.8, 1), (0.4, 1), (0.9, 1)];
    close("doubt", (samples.iter().map(|(x, label)| nll(*x, *label)).sum::<f64>() / 6.0).exp());
    let points: Vec<Vec<f64>> = serde_json::from_value(test["curve"].clone()).unwrap();
    let expected = [[0.9, 0.0, 0.25], [0.4, 0.5, 0.75], [0.1, 1.0, 1.0]];
    for (point, expected) in points.iter().flatten().zip(expected.iter().flatten()) {
        assert!((point - expected).abs() < 1e-6, "{points:?}");
    }
    assert_eq!(fs::read_dir(folder.path("events")).unwrap().count(), 1);

    let wrong = |from: &str, to: &str| {
        fs::write(folder.path("m.nn"), WHOLE_SET.replace(from, to)).unwrap();
        folder.wrong(&[])
    };
    let mixed = wrong("auc(y, label)", "auc(y, label) + mean(y)");
    assert!(mixed.contains("also depends on single batches of `x`"), "{mixed}");
    assert!(wrong("loss   l = mse(y, f32(label))", "loss l = r2(y, f32(label))").contains("which only a metric may"));
    assert!(wrong("minimize", "validate 0.5; keep best val.curve; minimize").contains("`curve` is no single number"));
    assert!(wrong("minimize", "keep best train.area; minimize").contains("write `val.area`"));
}
