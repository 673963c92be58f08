//! What the fuzzer begins with: every `.nn` file of the project, long ones cut into items.

use std::fs;
use std::path::{Path, PathBuf};

/// Inputs are kept below this many bytes: short ones run faster, and mistakes do not need more.
pub const LONGEST: usize = 3_000;

/// The inputs in `fuzz/corpus` for one of the targets there, in the order of their names.
pub fn kept(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a folder can be read").path()).collect();
    paths.sort();
    let input = |path: PathBuf| {
        let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        (path, bytes)
    };
    paths.into_iter().map(input).collect()
}

/// The inputs to begin with.
pub fn read() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = Vec::new();
    for folder in ["models", "src/frontend/std", "tests"] {
        below(&root.join(folder), &mut all);
    }
    all.sort();
    let mut inputs: Vec<String> = all.iter().flat_map(|text| pieces(text)).collect();
    inputs.dedup();
    assert!(inputs.len() > 50, "the project has files to begin with");
    inputs
}

fn below(folder: &Path, out: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("a folder can be read").path();
        if path.is_dir() {
            below(&path, out);
        } else if path.extension().is_some_and(|extension| extension == "nn") {
            out.push(String::from_utf8_lossy(&fs::read(&path).expect("a file can be read")).into_owned());
        }
    }
}

/// The text, or where it is long its items in groups. A group without a model gets one, so that it is expanded.
fn pieces(text: &str) -> Vec<String> {
    let mut groups = vec![String::new()];
    for item in text.split_inclusive("\n}\n") {
        let last = groups.last_mut().expect("there is one from the beginning");
        if !last.is_empty() && last.len() + item.len() > LONGEST {
            groups.push(String::new());
        }
        groups.last_mut().expect("there is one from the beginning").push_str(item);
    }
    groups.retain(|group| !group.trim().is_empty() && group.len() <= LONGEST);
    for group in &mut groups {
        if !group.contains("model ") {
            group.push_str(MODEL);
        }
    }
    groups
}

const MODEL: &str = "
model M(units = 4) {
    input x: f32[batch, 8]
    target t: f32[batch, 4]
    y = x |> dense(units) |> relu
    scan r in x axis 1 carry h: f32[batch] = 0 { h = tanh(h + r); yield h } -> hs
    output y; output hs
    loss l = mean((y - t)^2)
}
train { epochs 1; minimize l with adam }
";
