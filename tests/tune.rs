//! `--tune` and what it remembers: the same bits whatever was found, files that are right, wrong, old or missing, and the command's flags.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use nnc::driver::{Entry, TuneEvent, TuneOptions, Tuned};
use nnc::{Compiled, Slice, compile};
use serde_json::Value;
use tempfile::TempDir;

const MODEL: &str = "
model M {
    input x: f32[batch, 40]
    target t: f32[batch, 5]
    y = x |> dense(70) |> relu |> dense(5)
    output y
    loss error = mse(y, t)
}
train { batch 24; epochs 1; minimize error with adam(lr=0.01) }
";

const ROWS: usize = 24;

const ENTRIES: [(Entry, usize); 2] = [(Entry::Infer, ROWS), (Entry::TrainStep, ROWS)];

fn model() -> Compiled {
    compile("m.nn", MODEL).unwrap()
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Tunes a model: what came of it, and the warnings.
fn tune(compiled: &mut Compiled, seconds: u64, folder: &Path) -> (Vec<Tuned>, Vec<String>) {
    let options = TuneOptions { budget: Duration::from_secs(seconds), threads: 1, cache: Some(folder.to_path_buf()) };
    let mut warnings = Vec::new();
    let tuned = compiled.tune_session(&ENTRIES, &options, &mut |event| {
        if let TuneEvent::Warning(text) = event {
            warnings.push(text);
        }
    });
    (tuned.unwrap(), warnings)
}

/// The one file in a folder.
fn file(folder: &Path) -> PathBuf {
    let mut files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let file = files.next().expect("there is a file");
    assert_eq!(files.next(), None);
    file
}

/// Outputs and parameters after some steps, as bytes.
fn results(compiled: Compiled) -> Vec<Vec<u8>> {
    let numbers = |count: usize, by: f32| -> Vec<f32> { (0..count).map(|i| (i as f32 * by).sin()).collect() };
    let (x, t) = (numbers(ROWS * 40, 0.37), numbers(ROWS * 5, 1.3));
    let fields = [("x", Slice::from(x.as_slice())), ("t", Slice::from(t.as_slice()))];
    let mut session = compiled.jit_with(nnc::driver::JitOptions { threads: 1 }).unwrap();
    for _ in 0..3 {
        session.train_step(&fields).unwrap();
    }
    let outputs = session.infer(&fields[..1]).unwrap();
    vec![outputs[0].bytes().to_vec(), session.parameter_bytes().to_vec(), session.optimizer_bytes().to_vec()]
}

#[test]
fn what_was_found_is_remembered_and_changes_no_bit() {
    let folder = folder();
    let mut compiled = model();
    let (first, warnings) = tune(&mut compiled, 60, folder.path());
    assert_eq!(warnings, [""; 0]);
    assert!(first.iter().all(|t| t.products >= 2 && t.cached + t.tried == t.products), "{first:?}");
    let usual = results(model());
    assert!(results(compiled) == usual);

    // As if the other place of right operands had been faster everywhere.
    let path = file(folder.path());
    let mut contents: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    for (_, choice) in contents["products"].as_object_mut().unwrap() {
        let other = if choice["right"] == "packed" { "in_place" } else { "packed" };
        choice["right"] = other.into();
    }
    fs::write(&path, contents.to_string()).unwrap();
    let mut compiled = model();
    let (second, warnings) = tune(&mut compiled, 0, folder.path());
    assert_eq!(warnings, [""; 0]);
    assert!(second.iter().all(|t| t.tried == 0 && t.share.is_none()), "{second:?}");
    assert!(second.iter().any(|t| t.changed > 0), "{second:?}");
    assert!(results(compiled) == usual);
}

#[test]
fn files_of_no_use_are_ignored() {
    let folder = folder();
    tune(&mut model(), 60, folder.path());
    let path = file(folder.path());
    let good = fs::read_to_string(&path).unwrap();
    let other_version = good.replace(&format!("\"nnc\": \"{}\"", env!("CARGO_PKG_VERSION")), "\"nnc\": \"0.0.1\"");
    assert_ne!(other_version, good);
    for (text, why) in [("{ \"nnc\": ", "is no cache"), ("[]", "is no cache"), (&other_version, "another version")] {
        fs::write(&path, text).unwrap();
        let (tuned, warnings) = tune(&mut model(), 0, folder.path());
        assert!(warnings.len() == 1 && warnings[0].contains(why), "{warnings:?}");
        assert!(tuned.iter().all(|t| t.cached == 0 && t.changed == 0), "{tuned:?}");
        // Nothing was measured, so nothing is written.
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    fs::write(&path, &good).unwrap();
    let (tuned, warnings) = tune(&mut model(), 0, folder.path());
    assert_eq!(warnings, [""; 0]);
    assert!(tuned.iter().all(|t| t.cached == t.products), "{tuned:?}");
}

#[test]
fn a_folder_that_cannot_be_written_is_a_warning() {
    let folder = folder();
    let occupied = folder.path().join("occupied");
    fs::write(&occupied, "a file").unwrap();
    let (tuned, warnings) = tune(&mut model(), 60, &occupied.join("inside"));
    assert!(tuned.iter().any(|t| t.tried > 0), "{tuned:?}");
    assert!(warnings.iter().any(|w| w.contains("not kept")), "{warnings:?}");
}

/// Runs `nnc` in a folder where it also keeps what it finds.
fn nnc(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nnc"));
    command.args(arguments).current_dir(folder).env("NNC_CACHE_DIR", folder.join("kept")).output().unwrap()
}

/// The lines of a kind that a successful run prints.
fn lines(folder: &Path, arguments: &[&str], event: &str) -> Vec<Value> {
    let output = nnc(folder, arguments);
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{arguments:?}: {out}{error}");
    let lines = out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["event"] == event).collect()
}

#[test]
fn objects_are_tuned_once() {
    let folder = folder();
    let here = folder.path();
    fs::write(here.join("m.nn"), MODEL).unwrap();
    let compile = |tune: &str, name: &str| {
        let tuned = lines(here, &["compile", "m.nn", "-o", name, "--tune", tune, "--json"], "tune");
        (tuned, fs::read(here.join(name)).unwrap())
    };
    let (first, object) = compile("60", "a.o");
    let named = |entry: &str| first.iter().filter(|line| line["entry"] == entry).count();
    assert_eq!((named("infer"), named("train_step"), named("eval")), (2, 1, 1));
    assert!(first.iter().any(|line| line["tried"].as_u64() > Some(0)));
    for (tune, name) in [("60", "b.o"), ("0", "c.o")] {
        let (again, same) = compile(tune, name);
        assert!(again.iter().all(|line| line["cached"] == line["products"] && line["tried"] == 0), "{again:?}");
        assert!(same == object, "{tune}");
    }
    let without = |name: &str| {
        assert!(nnc(here, &["compile", "m.nn", "-o", name]).status.success());
        fs::read(here.join(name)).unwrap()
    };
    let usual = without("d.o");
    fs::remove_dir_all(here.join("kept")).unwrap();
    assert!(without("e.o") == usual, "what is remembered is for `--tune` alone");
    assert!(!here.join("kept").exists());
}

#[test]
fn a_bench_says_what_it_gains() {
    let folder = folder();
    fs::write(folder.path().join("m.nn"), MODEL).unwrap();
    let bench = ["bench", "m.nn", "--tune", "0.2", "--repeat", "2", "--threads", "2", "--json"];
    let tuned = lines(folder.path(), &bench, "tune");
    let entries: Vec<&str> = tuned.iter().filter_map(|line| line["entry"].as_str()).collect();
    assert_eq!(entries, ["infer", "train_step"]);
    assert!(tuned.iter().all(|line| line["threads"] == 2 && line.get("gain_percent").is_some()), "{tuned:?}");
}

#[test]
fn only_code_for_this_machine_is_tuned() {
    let folder = folder();
    fs::write(folder.path().join("m.nn"), MODEL).unwrap();
    let foreign = if cfg!(target_arch = "aarch64") { "x86_64-unknown-linux-gnu" } else { "aarch64-unknown-linux-gnu" };
    for flags in [["--target", foreign], ["--cpu", "x86-64-v3"]] {
        let mut arguments = vec!["compile", "m.nn", "-o", "m.o", "--tune", "1"];
        arguments.extend(flags);
        let output = nnc(folder.path(), &arguments);
        assert_eq!(output.status.code(), Some(2));
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains("`--tune` measures on this machine") && error.contains(flags[0]), "{error}");
        assert!(!folder.path().join("m.o").exists());
    }
    for seconds in ["-1", "nan", "inf", "soon", "1e300"] {
        let output = nnc(folder.path(), &["compile", "m.nn", &format!("--tune={seconds}")]);
        assert_eq!(output.status.code(), Some(2), "{seconds}");
    }
}
