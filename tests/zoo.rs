//! Programs that a user of the language would write, each in a file of `tests/zoo`: they are checked and compiled, train a few
//! steps on made-up data, and behave as their first lines say.
//!
//! `// falls: LOSS`: on one batch the loss falls to less than nine tenths. `// output NAME: TYPE`: the type of an
//! output for six rows. `// paths: ...`: the parameters. `// size NAME=N`: a size other than the batch's.

use std::fs;
use std::path::{Path, PathBuf};

use nnc::driver::{Compiled, Entry, Session, Slice, compile_file};
use nnc::ir::dim::{Sizes, Symbol};
use nnc::ir::types::DType;

const ROWS: usize = 6;
const STEPS: usize = 40;

/// What the first lines of a program state after a word.
fn stated<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = &'a str> {
    text.lines().filter_map(move |line| line.strip_prefix("// ")?.strip_prefix(word)).map(str::trim)
}

/// The bytes of one field: numbers between -1 and 1, classes in turn.
fn made_up(dtype: DType, count: usize, field: usize) -> Vec<u8> {
    let number = |i: usize| ((i * 37 + field * 11 + 5) % 101) as f32 / 50.5 - 1.0;
    match dtype {
        DType::F32 => (0..count).flat_map(|i| number(i).to_le_bytes()).collect(),
        DType::Index { classes } => {
            (0..count).flat_map(|i| ((i * 7 + i / 3 + field) as i32 % classes as i32).to_le_bytes()).collect()
        }
        other => panic!("no made-up data of {other}"),
    }
}

fn fields(compiled: &Compiled, sizes: &Sizes) -> Vec<(String, DType, Vec<u8>)> {
    let of_field = |(number, field): (usize, &nnc::frontend::model::Field)| {
        let size =
            |dim: &nnc::ir::dim::Dim| dim.substitute(sizes).and_then(|dim| dim.constant()).expect("a known size");
        let count: i64 = field.ty.shape.iter().map(size).product();
        (field.name.clone(), field.ty.dtype, made_up(field.ty.dtype, count as usize, number))
    };
    compiled.model().fields.iter().enumerate().map(of_field).collect()
}

fn losses(session: &mut Session, data: &[(&str, Slice<'_>)], loss: &str) -> (f64, f64) {
    let reports = (0..STEPS).map(|_| session.train_step(data).expect("a step runs"));
    let values: Vec<f64> = reports.map(|report| report.get(loss).expect("the loss has this name")).collect();
    (values[0], values[STEPS - 1])
}

fn behaves(path: &Path) -> Result<(), String> {
    let text = fs::read_to_string(path).expect("a program can be read");
    let mut compiled = compile_file(path).map_err(|error| error.to_string())?;
    if let Some(warning) = compiled.warnings().first() {
        return Err(warning.render(&compiled.project().sources, false));
    }
    for (name, size) in stated(&text, "size ").filter_map(|line| line.split_once('=')) {
        compiled.set_size(name, size.parse().expect("a size is a number"));
    }
    for paths in stated(&text, "paths:") {
        let mut found: Vec<&str> = Vec::new();
        found.extend(compiled.model().parameters.iter().filter(|p| p.is_parameter).map(|p| p.path.as_str()));
        found.sort_unstable();
        if found.join(" ") != paths {
            return Err(format!("the paths are {}", found.join(" ")));
        }
    }
    let mut sizes = compiled.sizes(ROWS).map_err(|error| error.to_string())?;
    sizes.insert(Symbol("batch".into()), ROWS as i64);
    let owned = fields(&compiled, &sizes);
    let data: Vec<(&str, Slice<'_>)> =
        owned.iter().map(|(name, dtype, bytes)| (name.as_str(), Slice::from_bytes(*dtype, bytes))).collect();
    let targets: Vec<String> = compiled
        .model()
        .fields
        .iter()
        .filter(|field| field.role == nnc::ir::graph::Role::Target)
        .map(|field| field.name.clone())
        .collect();
    let mut session = compiled.jit().map_err(|error| error.to_string())?;
    session.prepare(Entry::Infer, ROWS).map_err(|error| error.to_string())?;
    let inputs: Vec<(&str, Slice<'_>)> =
        data.iter().filter(|(name, _)| !targets.iter().any(|target| target == name)).copied().collect();
    let outputs = session.infer(&inputs).map_err(|error| error.to_string())?;
    for (name, ty) in stated(&text, "output ").filter_map(|line| line.split_once(": ")) {
        let output = outputs.iter().find(|output| output.name == name).ok_or(format!("no output `{name}`"))?;
        let found = format!("{}{:?}", output.dtype, output.shape);
        if found != ty || !output.to_f64().iter().all(|x| x.is_finite()) {
            return Err(format!("the output `{name}` is {found}, {:?}", output.to_f64()));
        }
    }
    let loss = stated(&text, "falls:").next().expect("a program says which loss falls");
    let (first, last) = losses(&mut session, &data, loss);
    if last < 0.9 * first || first < 0.0 && last < first { Ok(()) } else { Err(format!("`{loss}`: {first} to {last}")) }
}

fn programs() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/zoo");
    let entries = fs::read_dir(folder).expect("the folder can be read");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "nn"));
    paths.sort();
    paths
}

#[test]
fn programs_behave_as_they_say() {
    let mut wrong = Vec::new();
    for path in programs() {
        if let Err(said) = behaves(&path) {
            wrong.push(format!("{}: {said}", path.file_stem().unwrap_or_default().to_string_lossy()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
