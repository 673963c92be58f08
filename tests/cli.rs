//! The `nnc` binary on small files: exit codes, JSON lines, training, weights, inference, and what wrong data gives.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use nnc::formats::{Array, npy, safetensors::WeightFile};
use serde_json::Value;
use tempfile::TempDir;

/// Two inputs, two classes, one hidden layer.
const MODEL: &str = r#"
model Blobs(hidden = 8) {
    input  x: f32[batch, 2]
    target label: index(2)[batch]
    logits = x |> dense(hidden) |> relu |> dense(2)
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
    epochs   5
    batch    16
    seed     3
    validate 0.1
    minimize ce with adam(lr=0.01)
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
        let label = row % 2;
        let center = if label == 0 { -1.0 } else { 1.0 };
        text.push_str(&format!("{:.4},{:.4},{label}\n", center + next(), center + next()));
    }
    text
}

struct Folder(TempDir);

impl Folder {
    /// A folder with the model and its data.
    fn new() -> Folder {
        let folder = Folder(tempfile::tempdir().unwrap());
        folder.write("m.nn", MODEL);
        folder.write("blobs.csv", blobs(200));
        folder
    }

    fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, contents).unwrap();
        path
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs `nnc` in the folder.
    fn nnc(&self, arguments: &[&str]) -> Run {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nnc"));
        Run(command.args(arguments).current_dir(self.0.path()).output().unwrap())
    }

    /// Runs `nnc`, which must succeed.
    fn good(&self, arguments: &[&str]) -> Run {
        let run = self.nnc(arguments);
        assert_eq!(run.code(), 0, "{arguments:?}: {}{}", run.out(), run.err());
        run
    }

    /// Runs `nnc`, which must find a mistake; what it says.
    fn wrong(&self, arguments: &[&str]) -> String {
        let run = self.nnc(arguments);
        assert_eq!(run.code(), 1, "{arguments:?}: {}{}", run.out(), run.err());
        run.err()
    }

    /// The message for a model whose text was changed.
    fn wrong_with(&self, from: &str, to: &str) -> String {
        assert!(MODEL.contains(from));
        self.write("changed.nn", MODEL.replace(from, to));
        self.wrong(&["train", "changed.nn"])
    }
}

struct Run(Output);

impl Run {
    fn code(&self) -> i32 {
        self.0.status.code().unwrap()
    }

    fn out(&self) -> String {
        String::from_utf8_lossy(&self.0.stdout).into_owned()
    }

    fn err(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }

    /// Standard output, every line of which must be a JSON object.
    fn lines(&self) -> Vec<Value> {
        self.out()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
            .collect()
    }
}

#[test]
fn exit_codes() {
    let folder = Folder::new();
    assert_eq!(folder.nnc(&[]).code(), 2);
    assert_eq!(folder.nnc(&["trian", "m.nn"]).code(), 2);
    assert_eq!(folder.nnc(&["train", "m.nn", "--batch", "0"]).code(), 2);
    assert_eq!(folder.nnc(&["train", "m.nn", "--lr", "nan"]).code(), 2);
    assert_eq!(folder.nnc(&["--version"]).code(), 0);
    folder.good(&["check", "m.nn"]);
    assert!(folder.wrong(&["check", "none.nn"]).contains("none.nn"));
    folder.write("bad.nn", "model M { input x: f32[batch, 2]\n output y = x |> dens(3) }\n");
    assert!(folder.wrong(&["check", "bad.nn"]).contains("did you mean `dense`?"));
    assert!(folder.wrong(&["train", "m.nn", "--report", "d"]).contains("not supported yet"));
}

#[test]
fn mistakes_are_objects_with_json() {
    let folder = Folder::new();
    folder.write("bad.nn", "model M { input x: f32[batch, 2]\n output y = x |> dens(3) }\n");
    let run = folder.nnc(&["check", "bad.nn", "--json"]);
    assert_eq!(run.code(), 1);
    let lines = run.lines();
    assert_eq!((lines[0]["event"].as_str(), lines[0]["line"].as_u64()), (Some("diagnostic"), Some(2)));
}

#[test]
fn summary_counts_parameters() {
    let folder = Folder::new();
    let text = folder.good(&["summary", "m.nn"]).out();
    assert!(text.contains("f32[batch, 8]") && text.contains(" 24\n") && text.contains(" 18\n"), "{text}");
    let lines = folder.good(&["summary", "m.nn", "--json", "--set", "hidden=4"]).lines();
    assert_eq!(lines.len(), 1);
    assert_eq!((lines[0]["parameters"].as_u64(), lines[0]["trainable"].as_u64()), (Some(22), Some(22)));
    assert_eq!(lines[0]["layers"][0]["name"], "dense_1");
}

#[test]
fn entries_are_timed() {
    let folder = Folder::new();
    let run = folder.good(&["bench", "m.nn", "--json", "--repeat", "3", "--batch", "8", "--threads", "1"]);
    let lines = run.lines();
    let entries: Vec<&str> = lines.iter().map(|line| line["entry"].as_str().unwrap()).collect();
    assert_eq!(entries, ["infer", "train_step"]);
    for line in &lines {
        let number = |key: &str| line[key].as_f64().unwrap_or_else(|| panic!("{key} of {line}"));
        assert_eq!((number("batch"), number("threads"), number("calls")), (8.0, 1.0, 3.0));
        assert!(number("min_us") > 0.0 && number("min_us") <= number("median_us"), "{line}");
        assert!(number("median_us") <= number("p99_us") && number("compile_ms") > 0.0, "{line}");
        assert!(number("gflops") > 0.0 && number("peak_share") > 0.0 && number("arena_bytes") > 0.0, "{line}");
    }
    assert!(folder.wrong(&["bench", "m.nn", "--batch", "99999999999999"]).contains("too large"));
}

#[test]
fn steps_are_explained_by_kernels() {
    let folder = Folder::new();
    let arguments = ["explain", "m.nn", "--entry", "train_step", "--repeat", "3", "--threads", "1"];
    let lines = folder.good(&[&arguments[..], &["--json"]].concat()).lines();
    let of = |event: &str| lines.iter().filter(|l| l["event"] == event).collect::<Vec<&Value>>();
    let kernels = of("kernel");
    assert!(kernels.iter().any(|k| k["kernel"].as_str().unwrap().starts_with("contract_add_max")), "{kernels:?}");
    // The forward products of 16 rows by 2x8 and 8x2 weights at least.
    let total = of("explain")[0];
    assert!(total["us"].as_f64().unwrap() * total["gflops"].as_f64().unwrap() * 1e3 >= 1000.0, "{total}");
    assert!(of("apart").iter().all(|a| a["why"].is_string()), "{lines:?}");
    let text = folder.good(&arguments).out();
    assert!(text.contains("the whole") && text.contains("not fused:") && text.contains("arena of"), "{text}");
}

#[test]
fn what_takes_more_than_the_limit_on_memory_is_said() {
    let folder = Folder::new();
    for command in ["bench", "explain"] {
        let arguments = [command, "m.nn", "--entry", "train_step", "--repeat", "1"];
        let said = |limit: &str| folder.good(&[&arguments[..], &["--memory", limit]].concat()).err();
        assert!(said("64B").contains("more than the limit of 0.0 MB"), "{command}: {}", said("64B"));
        assert!(!said("1GB").contains("more than the limit"), "{command}: {}", said("1GB"));
    }
}

#[test]
fn training_reports_json_lines() {
    let folder = Folder::new();
    let arguments = ["train", "m.nn", "--json", "--history", "h.jsonl", "--log-every", "4", "--save", "w.safetensors"];
    let run = folder.good(&arguments);
    let lines = run.lines();
    assert_eq!(fs::read_to_string(folder.path("h.jsonl")).unwrap(), run.out());
    let events: Vec<&str> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!((events[0], *events.last().unwrap()), ("start", "done"));
    // Of 200 rows 40 are for the test and 16 validate; 144 rows are 9 steps.
    assert_eq!((lines[0]["rows"].as_u64(), lines[0]["val_rows"].as_u64()), (Some(144), Some(16)));
    assert_eq!(lines[0]["parameters"], 42);
    let epochs: Vec<&Value> = lines.iter().filter(|line| line["event"] == "epoch").collect();
    assert_eq!(epochs.len(), 5);
    assert_eq!(epochs[4]["step"], 45);
    assert!(epochs.iter().all(|e| e["train"]["ce"].is_f64() && e["val"]["accuracy"].is_f64()));
    assert_eq!(events.iter().filter(|event| **event == "step").count(), 11);
    let done = lines.last().unwrap();
    assert_eq!((done["steps"].as_u64(), done["weights"].as_str()), (Some(45), Some("w.safetensors")));
    assert!(done["test"]["accuracy"].as_f64().unwrap() > 0.9, "{done}");
}

#[test]
fn flags_override_the_recipe() {
    let folder = Folder::new();
    let last =
        |arguments: &[&str]| folder.good(&[&["train", "m.nn", "--json"], arguments].concat()).lines().pop().unwrap();
    assert_eq!(last(&["--steps", "7"])["steps"], 7);
    assert_eq!(last(&["--epochs", "2", "--batch", "144"])["steps"], 2);
    assert_eq!(last(&["--epochs", "0"])["steps"], 0);
    let still = folder.good(&["train", "m.nn", "--json", "--lr", "0", "--no-shuffle", "--epochs", "2"]).lines();
    assert_eq!(still[1]["val"], still[2]["val"]);
}

#[test]
fn the_same_run_gives_the_same_bytes() {
    let folder = Folder::new();
    let weights = |name: &str, more: &[&str]| {
        folder.good(&[&["train", "m.nn", "--quiet", "--save", name], more].concat());
        fs::read(folder.path(name)).unwrap()
    };
    let one = weights("one.safetensors", &["--threads", "1"]);
    assert!(one == weights("two.safetensors", &["--threads", "2"]), "threads change the weights");
    assert!(one == weights("again.safetensors", &["--threads", "1"]), "the second run differs");
    assert!(one != weights("other.safetensors", &["--seed", "4"]), "the seed changes nothing");
    assert!(one != weights("ordered.safetensors", &["--no-shuffle"]), "shuffling changes nothing");
}

#[test]
fn saved_weights_evaluate_and_run() {
    let folder = Folder::new();
    let done = folder.good(&["train", "m.nn", "--json", "--save", "w.safetensors"]).lines().pop().unwrap();
    let eval = folder.good(&["eval", "m.nn", "--weights", "w.safetensors", "--json"]).lines().pop().unwrap();
    assert_eq!((&eval["values"], eval["rows"].as_u64()), (&done["test"], Some(40)));
    assert!(
        folder
            .wrong(&["eval", "m.nn", "--weights", "w.safetensors", "--split", "tets"])
            .contains("did you mean `test`?")
    );

    let rows: Vec<f32> = (0..600).map(|i| i as f32 / 300.0 - 1.0).collect();
    npy::write(&folder.path("x.npy"), &Array::from_f32(vec![300, 2], &rows).unwrap()).unwrap();
    let run = ["run", "m.nn", "--weights", "w.safetensors", "--input", "x=x.npy"];
    folder.good(&[&run[..], &["--output", "probs=y.npy"]].concat());
    let probs = npy::read(&folder.path("y.npy")).unwrap();
    assert_eq!(probs.shape, [300, 2]);
    let values: Vec<f64> = probs.values().collect();
    assert!(values.chunks(2).all(|row| (row[0] + row[1] - 1.0).abs() < 1e-6));
    assert_eq!(folder.good(&[&run[..], &["--output", "-"]].concat()).0.stdout, fs::read(folder.path("y.npy")).unwrap());
    npy::write(&folder.path("none.npy"), &Array::from_f32(vec![0, 2], &[]).unwrap()).unwrap();
    folder.good(&["run", "m.nn", "--weights", "w.safetensors", "--input", "none.npy", "--output", "empty.npy"]);
    assert_eq!(npy::read(&folder.path("empty.npy")).unwrap().shape, [0, 2]);
    let text = folder.good(&[&run[..], &["--output", "probs=-", "--csv"]].concat()).out();
    let printed: Vec<f32> = text.split([',', '\n']).filter(|t| !t.is_empty()).map(|t| t.parse().unwrap()).collect();
    assert_eq!(printed, values.iter().map(|v| *v as f32).collect::<Vec<_>>());
    assert_eq!(folder.nnc(&[&run[..4], &["--input", "y=x.npy"]].concat()).code(), 2);
    assert_eq!(folder.nnc(&run[..4]).code(), 2);
}

#[test]
fn weights_of_another_model_are_named() {
    let folder = Folder::new();
    folder.good(&["train", "m.nn", "--quiet", "--epochs", "1", "--save", "w.safetensors"]);
    let text = folder.wrong(&["train", "m.nn", "--init", "w.safetensors", "--set", "hidden=9"]);
    assert!(text.contains("`dense_1.w` is f32[2, 9] in the model, f32[2, 8] in the file"), "{text}");
    let mut renamed = fs::read(folder.path("w.safetensors")).unwrap();
    let at = renamed.windows(9).position(|name| name == b"dense_2.b").unwrap();
    renamed[at + 8] = b'c';
    folder.write("r.safetensors", renamed);
    let text = folder.wrong(&["eval", "m.nn", "--weights", "r.safetensors"]);
    assert!(text.contains("no `dense_2.b`") && text.contains("did you mean its `dense_2.c`?"), "{text}");
    assert!(folder.wrong(&["eval", "m.nn", "--weights", "no.safetensors"]).contains("no such file"));
}

#[test]
fn initial_weights_continue_a_run() {
    let folder = Folder::new();
    folder.good(&["train", "m.nn", "--quiet", "--epochs", "0", "--save", "w.safetensors"]);
    let entries = WeightFile::open(&folder.path("w.safetensors")).unwrap();
    let names: Vec<&str> = entries.entries().iter().map(|e| e.name.as_str()).collect();
    assert_eq!(names, ["dense_1.b", "dense_1.w", "dense_2.b", "dense_2.w"]);
    let fresh = folder.good(&["train", "m.nn", "--json", "--epochs", "1"]).lines();
    let loaded = folder.good(&["train", "m.nn", "--json", "--epochs", "1", "--init", "w.safetensors"]).lines();
    assert_eq!(fresh[1]["train"], loaded[1]["train"]);
}

#[test]
fn wrong_data_is_named() {
    let folder = Folder::new();
    let text = folder.wrong_with("csv(\"blobs.csv\", columns=\"label\")", "csv(\"sets/none.csv\", columns=\"label\")");
    assert!(
        text.contains("no such file") && text.contains("changed.nn:12") && text.contains("the path tried is"),
        "{text}"
    );
    folder.write("fetch", "case $1 in sets) echo ... ;; esac");
    let text = folder.wrong_with("csv(\"blobs.csv\", columns=\"label\")", "csv(\"sets/none.csv\", columns=\"label\")");
    assert!(text.contains("fetch sets` fetches the data"), "{text}");
    let text = folder.wrong_with("columns=\"label\"", "columns=\"lable\"");
    assert!(text.contains("did you mean `label`?"), "{text}");
    let text = folder.wrong_with("[\"a\", \"b\"]", "[\"a\", \"b\", \"label\"]");
    assert!(text.contains("a row has 3 columns, not 2") && text.contains("expected f32[batch, 2]"), "{text}");
    folder.write("short.csv", blobs(190));
    let text = folder.wrong_with("csv(\"blobs.csv\", columns=\"label\")", "csv(\"short.csv\", columns=\"label\")");
    assert!(text.contains("`label` has 190 rows, but `x` has 200"), "{text}");
    let text = folder.wrong_with("take 0.2", "take first 201");
    assert!(text.contains("takes 201 rows, of 200 that there are"), "{text}");
    let text = folder.wrong_with("label = csv(\"blobs.csv\", columns=\"label\")", "");
    assert!(text.contains("label"), "{text}");
}

#[test]
fn wrong_numbers_are_named() {
    let folder = Folder::new();
    let good = blobs(200);
    folder.write("blobs.csv", good.replacen(",1\n", ",2\n", 1));
    let text = folder.wrong(&["train", "m.nn"]);
    assert!(text.contains("label 2 in row 1 is outside 0..2") && text.contains("blobs.csv"), "{text}");
    folder.write("blobs.csv", good.replacen(",1\n", ",0.5\n", 1));
    assert!(folder.wrong(&["train", "m.nn"]).contains("row 1 is 0.5"));
    let mut values = vec![0.5f32; 400];
    values[7] = f32::NAN;
    npy::write(&folder.path("x.npy"), &Array::from_f32(vec![200, 2], &values).unwrap()).unwrap();
    folder.write("blobs.csv", good);
    let text = folder.wrong_with("csv(\"blobs.csv\", columns=[\"a\", \"b\"])", "npy(\"x.npy\")");
    assert!(text.contains("row 3, column 1 is NaN") && text.contains("x.npy"), "{text}");
}

#[test]
fn a_diverging_run_ends_with_the_step() {
    let folder = Folder::new();
    let text = folder.wrong(&["train", "m.nn", "--lr", "1e30", "--epochs", "50"]);
    assert!(text.contains("the loss `ce` is") && text.contains("at step"), "{text}");
}

#[test]
#[cfg(unix)]
fn an_interrupt_ends_training_cleanly() {
    let folder = Folder::new();
    let mut child = Command::new(env!("CARGO_BIN_EXE_nnc"))
        .args(["train", "m.nn", "--epochs", "1000000", "--save", "w.safetensors", "--history", "h.jsonl", "--quiet"])
        .current_dir(folder.0.path())
        .spawn()
        .unwrap();
    let history = || fs::read_to_string(folder.path("h.jsonl")).unwrap_or_default();
    for _ in 0..600 {
        if history().contains("\"epoch\":2") {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(history().contains("\"stopped\":\"interrupted\""), "{}", history());
    assert!(WeightFile::open(&folder.path("w.safetensors")).is_ok());
}

#[test]
fn blocks_that_are_missing() {
    let folder = Folder::new();
    let start = MODEL.find("data {").unwrap();
    let end = MODEL.find("train {\n    epochs").unwrap();
    folder.write("nodata.nn", format!("{}{}", &MODEL[..start], &MODEL[end..]));
    assert!(folder.wrong(&["train", "nodata.nn"]).contains("no `data` block"));
    folder.write("norecipe.nn", &MODEL[..end]);
    assert!(folder.wrong(&["train", "norecipe.nn"]).contains("no `train` block"));
}

#[test]
fn stopping_early_and_keeping_the_best() {
    let folder = Folder::new();
    let recipe = "    keep best val.ce\n    stop when val.ce has not improved for 2 epochs\n    minimize";
    folder.write("stop.nn", MODEL.replace("    minimize", recipe));
    let lines = folder.good(&["train", "stop.nn", "--json", "--lr", "0", "--epochs", "20"]).lines();
    let done = lines.last().unwrap();
    assert_eq!((done["best_epoch"].as_u64(), done["steps"].as_u64()), (Some(1), Some(27)));
    assert!(done["stopped"].as_str().unwrap().contains("val.ce has not improved for 2 epochs"));
}

#[test]
fn stages_and_objects() {
    let folder = Folder::new();
    for stage in ["ast", "graph", "grad", "fused", "loops", "clif", "asm"] {
        assert!(folder.good(&["dump", "m.nn", "--stage", stage]).out().len() > 50, "{stage}");
    }
    folder.good(&["compile", "m.nn", "--threads", "1", "-o", "m.o"]);
    assert!(fs::metadata(folder.path("m.o")).unwrap().len() > 100);
    assert!(fs::read_to_string(folder.path("m.h")).unwrap().contains("m_train_step"));
    assert!(folder.wrong(&["compile", "m.nn", "-o", "m.so"]).contains("not supported yet"));
    assert_eq!(folder.nnc(&["compile", "m.nn", "--cpu", "z80"]).code(), 2);
}

#[test]
#[cfg(target_os = "linux")]
fn an_endless_file_is_refused() {
    let folder = Folder::new();
    assert!(folder.wrong(&["check", "/dev/zero"]).contains("larger than 512 KiB"));
    assert!(
        folder.wrong_with("csv(\"blobs.csv\", columns=\"label\")", "idx(\"/dev/zero\")").contains("not a regular file")
    );
}

#[test]
fn nets_of_every_float_dtype_train_and_run_from_files() {
    for (dtype, bytes) in [("f16", 2), ("bf16", 2), ("f32", 4), ("f64", 8)] {
        let folder = Folder::new();
        folder.write("m.nn", MODEL.replace("f32[batch, 2]", &format!("{dtype}[batch, 2]")));
        folder.good(&["train", "m.nn", "--epochs", "20", "--save", "w.safetensors", "--history", "h.jsonl"]);
        let history = fs::read_to_string(folder.path("h.jsonl")).unwrap();
        let epochs: Vec<Value> = history.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        let losses: Vec<f64> = epochs.iter().filter_map(|e| e["train"]["ce"].as_f64()).collect();
        assert!(losses.last().unwrap() < &(losses[0] / 3.0), "{dtype}: {losses:?}");

        let weights = WeightFile::open(&folder.path("w.safetensors")).unwrap();
        assert_eq!(weights.data().len(), (2 * 8 + 8 + 8 * 2 + 2) * bytes, "{dtype}");
        let rows: Vec<f64> = (0..40).map(|i| f64::from(i) / 10.0 - 2.0).collect();
        npy::write(&folder.path("x.npy"), &Array::from_f64(vec![20, 2], &rows).unwrap()).unwrap();
        let run = ["run", "m.nn", "--weights", "w.safetensors", "--input", "x=x.npy", "--output"];
        let text = folder.good(&[&run[..], &["probs=y.csv"]].concat());
        assert_eq!(text.err(), "", "{dtype}");
        let probs = fs::read_to_string(folder.path("y.csv")).unwrap();
        let sums = probs.lines().skip(1).map(|l| l.split(',').map(|v| v.parse::<f64>().unwrap()).sum::<f64>());
        assert!(sums.map(|s| (s - 1.0).abs()).all(|e| e < 0.02), "{dtype}: {probs}");
    }
}

#[test]
fn a_new_folder_trains_at_once() {
    let folder = Folder(tempfile::tempdir().unwrap());
    let said = folder.good(&["new", "two-spirals"]).out();
    assert!(said.contains("nnc train two-spirals/two_spirals.nn"), "{said}");
    let run = folder.good(&["train", "two-spirals/two_spirals.nn", "--json"]);
    let done = run.lines().pop().unwrap();
    assert_eq!(done["event"], "done");
    assert!(done["test"]["accuracy"].as_f64().unwrap() > 0.95, "{done}");
    assert!(folder.wrong(&["new", "two-spirals"]).contains("is there already"));
    assert!(folder.wrong(&["new", "2 spirals"]).contains("cannot name a model"));
}
