//! Files that use files: what each form of `use` brings, and that every command knows the files.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use nnc::driver::{Entry, Stage, Target, compile_file};
use tempfile::TempDir;

const MAIN: &str = r#"
use "parts/layers.nn"
use "parts/layers.nn" as parts
use "parts/deep.nn" {
    tower,
    half as halved,
}

/// The library's and the used file's own are hidden by the file's.
fn relu(x) { x * 2 }
fn hidden(x) { x + 1 }

model M {
    input x: f32[batch, 4]
    y = x |> block |> parts.block(units=parts.width * 2) |> tower
    shared = parts.block(3)
    output y = halved(shared(y) + shared(relu(y) / 2)) |> hidden
    loss l = mean(y^2)
}
train { epochs 1; minimize l with parts.plain(0.5) }
"#;

const LAYERS: &str = r#"
const width = 3

layer block(x, units = width) { x |> dense(units) |> relu }

fn hidden(x) { x * 1000 }

optimizer plain(lr) { param <- param - lr * gradient }

model Other { input x: f32[batch, 2]; output x }
data { train { x = npy("none.npy") } }
"#;

const DEEP: &str = r#"
use "layers.nn"
use "../parts/layers.nn" as again
layer tower(x) { x |> block |> again.block(again.width) |> dense(width) }
fn half(x) { x / 2 }
"#;

fn folder(main: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::create_dir(folder.path().join("parts")).expect("a folder in it");
    for (name, text) in [("main.nn", main), ("parts/layers.nn", LAYERS), ("parts/deep.nn", DEEP)] {
        fs::write(folder.path().join(name), text).expect("a file can be written");
    }
    folder
}

fn nnc(arguments: &[&str], folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nnc")).args(arguments).current_dir(folder).output().expect("nnc starts")
}

#[test]
fn every_form_brings_its_names() {
    let folder = folder(MAIN);
    let compiled = compile_file(folder.path().join("main.nn")).expect("the files are right");
    let paths: Vec<String> = compiled
        .model()
        .parameters
        .iter()
        .filter(|p| p.path.ends_with(".w"))
        .map(|p| format!("{} {}", p.path, p.ty))
        .collect();
    assert_eq!(
        paths,
        [
            "block_1.dense_1.w f32[4, 3]",
            "block_2.dense_1.w f32[3, 6]",
            "shared.dense_1.w f32[3, 3]",
            "tower_1.block_1.dense_1.w f32[6, 3]",
            "tower_1.block_2.dense_1.w f32[3, 3]",
            "tower_1.dense_1.w f32[3, 3]",
        ]
    );
    assert!(compiled.warnings().is_empty(), "hiding a name is no mistake");
    // Layers of a used file see that file's names: its `relu` is the library's.
    let graph = compiled.dump(Stage::Graph, Entry::Infer, 2, &Target::host()).expect("the graph can be printed");
    assert_eq!(graph.matches("function=max").count(), 6, "{graph}");
    let tree = compiled.dump(Stage::Ast, Entry::Infer, 2, &Target::host()).expect("the tree can be printed");
    for line in ["use \"parts/deep.nn\" { tower, half as halved }", "layer tower(x)", "const width = 3"] {
        assert!(tree.contains(line), "{line} is not in\n{tree}");
    }
    assert_eq!(tree.matches("layer block(x, units = width)").count(), 1, "a file is read once");
}

#[test]
fn commands_know_the_files() {
    let folder = folder(MAIN);
    for arguments in [&["check", "main.nn"][..], &["summary", "main.nn"], &["compile", "main.nn", "-o", "m.o"]] {
        let output = nnc(arguments, folder.path());
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    // From elsewhere: paths are relative to the file that says them.
    let path = folder.path().join("main.nn");
    let output = nnc(&["check", path.to_str().expect("plain names")], Path::new("/"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    fs::write(folder.path().join("parts/layers.nn"), LAYERS.replace("dense(units)", "dense(unitz)")).expect("written");
    let output = nnc(&["check", "main.nn"], folder.path());
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("parts/layers.nn:4:44") && said.contains("unknown name `unitz`"), "{said}");
    let output = nnc(&["check", "main.nn", "--json"], folder.path());
    assert!(String::from_utf8_lossy(&output.stdout).contains("\"file\":\"parts/layers.nn\""));
}

#[test]
fn what_a_used_file_uses_is_its_own() {
    let folder = folder("use \"parts/deep.nn\"\nmodel M { input x: f32[batch, 4]; output y = x |> tower |> block }\n");
    let error = compile_file(folder.path().join("main.nn")).expect_err("`block` is not seen");
    assert!(error.to_string().contains("unknown name `block`"), "{error}");
}

#[test]
fn files_that_are_no_texts() {
    let folder = folder("use \"parts\"\nuse \"bytes.nn\"\nuse \"large.nn\"\nmodel M {}\n");
    fs::write(folder.path().join("bytes.nn"), b"fn f(x) { x }\xFF").expect("written");
    fs::write(folder.path().join("large.nn"), vec![b' '; 10 << 20]).expect("written");
    let said = compile_file(folder.path().join("main.nn")).expect_err("nothing of it can be used").to_string();
    for part in ["cannot read `parts`: it is no plain file", "byte 0xFF", "larger than 512 KiB"] {
        assert!(said.contains(part), "{part} is not in\n{said}");
    }
}

/// A chain of files, each using the next, and one file that uses very many.
#[test]
fn very_many_files() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let write = |name: String, text: String| fs::write(folder.path().join(name), text).expect("written");
    for i in 0..40 {
        write(format!("c{i}.nn"), format!("use \"c{}.nn\"\nfn f{i}(x) {{ x }}\n", i + 1));
    }
    write("c40.nn".into(), String::new());
    let said = compile_file(folder.path().join("c0.nn")).expect_err("it is too deep").to_string();
    assert!(said.contains("32 deep"), "{said}");
    let uses: String = (0..300).map(|i| format!("use \"w{i}.nn\" as w{i}\n")).collect();
    (0..300).for_each(|i| write(format!("w{i}.nn"), String::new()));
    write("wide.nn".into(), uses);
    let said = compile_file(folder.path().join("wide.nn")).expect_err("these are too many").to_string();
    assert!(said.contains("more than 256 files"), "{said}");
}
