//! A new op is one file and one line: who names an op is counted here, and the recipe itself is tried out.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nnc::ir::ops::Op;

/// Ops that are no functions of tensors but structure: where values come from, a derivative to be expanded, a function inside
/// a function. Passes know them; what follows is about all others.
const STRUCTURE: [&str; 3] = ["argument", "grad", "scan"];

/// Parts of the code that know certain ops by name, and why; every other mention of an op in them or elsewhere is a mistake.
///
/// Code that says nothing of an op treats it by what its `OpDef` says, so none of these places has to grow with the list.
const KNOWS: &[(&str, &[&str], &str)] = &[
    ("src/ir/builder.rs", &[], "conveniences that make nodes"),
    ("src/passes/simplify", &[], "named rules, each about certain ops"),
    ("src/ir/cost.rs", &[], "what counts as an operation; everything else counts as none"),
    ("src/passes/expand_convolutions.rs", &[], "what convolutions are made of"),
    ("src/ir/outline.rs", &["constant", "broadcast"], "what is made again inside a loop instead of handed in"),
    ("src/frontend/elaborate/scan.rs", &["reshape"], "a node that is another name of a value"),
    ("src/ir/slope.rs", &["map", "stop_gradient"], "where gradients end: in steps, and where the user says so"),
    ("src/passes/attention.rs", &["contract", "concat"], "the product that attention ends in, and groups side by side"),
    ("src/passes/attention/", &[], "what attention is made of; what is made of anything else stays whole"),
    ("src/passes/accumulate.rs", &["map", "constant"], "what a sum is"),
    ("src/passes/segment.rs", &["slice", "concat"], "cuts sequences and joins what rounds yield"),
    ("src/passes/cse.rs", &["map"], "which functions commute"),
    ("src/passes/half.rs", &[], "what only moves elements; everything else computes in f32, which is right for all"),
    (
        "src/passes/fuse/prepare.rs",
        &["reshape", "concat", "constant"],
        "makes nodes that move a value or stand in memory",
    ),
    (
        "src/passes/expand_convolutions/",
        &["concat", "convolve_kernel", "pad", "slice", "transpose", "winograd"],
        "what convolutions are made of",
    ),
    ("src/passes/gather_sums.rs", &["contract"], "the sum that it gathers"),
    (
        "src/passes/project_tables.rs",
        &["broadcast", "contract", "gather", "map", "transpose"],
        "picked rows, and what is computed of each",
    ),
    ("src/passes/clip_folds.rs", &["constant", "map"], "what clips numbers, and by what"),
    ("src/passes/keep.rs", &["contract", "convolve", "convolve_kernel", "map"], "what is dear to compute again"),
    ("src/passes/recompute.rs", &["map"], "what a mask says of a maximum"),
    ("src/passes/recompute/", &["pad", "winograd"], "copies with borders and transforms, cheap to make again"),
    ("src/passes/lower/name.rs", &["map"], "names of kernels"),
    ("src/driver.rs", &["random_bits"], "the hash of a site, of which seeds are made"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the sources can be read") {
        let path = entry.expect("an entry of a folder").path();
        match path.is_dir() {
            true => rust_files(&path, out),
            false if path.extension().is_some_and(|e| e == "rs") => out.push(path),
            false => {}
        }
    }
}

/// The text without comments and unit tests.
fn code(text: &str) -> String {
    let end = text.find("#[cfg(test)]\nmod tests").unwrap_or(text.len());
    text[..end].lines().map(|l| l.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n")
}

/// Module and type of every op, as the list in `ops!` has them.
fn listed() -> Vec<(String, String)> {
    let text = fs::read_to_string(root().join("src/ir/ops/mod.rs")).expect("the list of ops can be read");
    let list = text.split("\nops! {\n").nth(1).expect("the list follows the macro");
    let lines = list.lines().take_while(|l| *l != "}").filter_map(|l| l.trim().strip_suffix(',')?.split_once("::"));
    lines.map(|(module, name)| (module.to_string(), name.to_string())).collect()
}

#[test]
fn an_op_is_named_in_its_file_its_line_and_where_certain_ops_are_known() {
    let ops = listed();
    assert_eq!(ops.len(), Op::DOCS.len());
    let mut paths = Vec::new();
    rust_files(&root().join("src"), &mut paths);
    let mut wrong: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in &paths {
        let name = path.strip_prefix(root()).expect("below the root").to_string_lossy().replace('\\', "/");
        // Ops may be made of each other: derivatives, and functions of the language.
        if name.starts_with("src/ir/ops/") || name.ends_with("/tests.rs") {
            continue;
        }
        let text = code(&fs::read_to_string(path).expect("a source can be read"));
        for (module, ty) in ops.iter().filter(|(module, _)| !STRUCTURE.contains(&module.as_str())) {
            let named = text.contains(&format!("Op::{ty}")) || text.contains(&format!("ops::{module}::"));
            let known = KNOWS.iter().any(|(place, which, _)| {
                name.starts_with(place) && (which.is_empty() || which.contains(&module.as_str()))
            });
            if named && !known {
                wrong.entry(module.clone()).or_default().push(name.clone());
            }
        }
    }
    assert!(wrong.is_empty(), "ops are named where KNOWS does not say why: {wrong:#?}");
}

#[test]
fn each_op_has_one_line_and_one_file() {
    let list = fs::read_to_string(root().join("src/ir/ops/mod.rs")).expect("the list of ops can be read");
    for (module, ty) in listed() {
        let lines = code(&list).lines().filter(|l| l.contains(&format!("{module}::{ty}"))).count();
        assert_eq!(lines, 1, "{module} in src/ir/ops/mod.rs");
        let own = root().join(format!("src/ir/ops/{module}.rs"));
        let text = fs::read_to_string(&own).unwrap_or_else(|e| panic!("{}: {e}", own.display()));
        assert!(text.contains(&format!("impl OpDef for {ty} ")), "{module}.rs holds the op");
    }
}

/// An op that the compiler does not have, as its recipe wants it: pointwise, so that fusion, lowering and every backend take it up.
const NEW_OP: &str = r#"//! `twice`: the sum of an operand with itself.

use super::*;
use crate::ir::scalar::ScalarFunction;

/// The operand and itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Twice;

impl OpDef for Twice {
    const DOC: OpDoc = OpDoc {
        name: "twice",
        summary: "the sum of an operand with itself",
        shapes: "x[s] -> [s]",
        equation: "y[i] = x[i] + x[i]",
        derivative: "dx = twice(dy)",
        dtypes: "numbers",
        error: "exact",
    };

    fn attributes(&self) -> Attributes {
        Attributes::default()
    }

    fn from_attributes(_: &Attributes) -> Result<Self, String> {
        Ok(Twice)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x] = expect_operands(inputs)?;
        if x.dtype == crate::ir::types::DType::Bool {
            return Err(TypeError::new(format!("twice {x}")).at([0]));
        }
        Ok(vec![x.with_dtype(x.dtype.storage())])
    }

    fn eval(&self, inputs: &[&Tensor], outputs: &[TensorType]) -> Vec<Tensor> {
        let twice = |v: &f64| ScalarFunction::Add.eval(outputs[0].dtype, &[*v, *v]);
        vec![Tensor::new(outputs[0].clone(), inputs[0].data.iter().map(twice).collect())]
    }

    fn vjp(&self, cx: &mut VjpContext<'_>) -> Result<Vec<Option<ValueId>>, NotDifferentiable> {
        let gradient = cx.gradient();
        Ok(vec![Some(cx.builder.emit(Twice, &[gradient]))])
    }

    fn access(&self, _: &[TensorType], outputs: &[TensorType]) -> Access {
        Access::Pointwise(vec![IndexMap::identity(outputs[0].rank())])
    }

    fn lower(&self, cx: &mut LowerContext<'_, '_>) -> Vec<Value> {
        let x = cx.element(0);
        vec![cx.block.map(ScalarFunction::Add, &[x, x])]
    }

    fn primitives() -> Vec<Primitive> {
        vec![Primitive {
            name: "twice",
            doc: "the sum of a tensor with itself",
            parameters: const { &[Parameter::required("x", "a tensor")] },
            rest: false,
            draws: false,
            build: |b, a| {
                let x = a.tensor(b, 0)?;
                Ok(vec![b.add_one(Twice, &[x])?])
            },
        }]
    }

    fn samples() -> Vec<Sample<Self>> {
        vec![Sample { op: Twice, inputs: vec![sample::signed(&[3, 5], 1)] }]
    }
}
"#;

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder can be made");
    for entry in fs::read_dir(from).expect("a folder can be read") {
        let path = entry.expect("an entry of a folder").path();
        let target = to.join(path.file_name().expect("an entry has a name"));
        match path.is_dir() {
            true => copy(&path, &target),
            false => drop(fs::copy(&path, &target).expect("a file can be copied")),
        }
    }
}

/// `cargo test --test recipes -- --ignored`: the crate with one file and one line more builds, and the tests that every op
/// gets (shapes, text, derivatives, derivatives of derivatives, compiled code) run on the new op.
#[test]
#[ignore = "builds the crate once more"]
fn a_new_op_is_one_file_and_one_line() {
    let folder = tempfile::tempdir().expect("a folder for the copy");
    for part in ["src", "runtime", "grammar", "tests", "benches", "examples"] {
        copy(&root().join(part), &folder.path().join(part));
    }
    for file in ["Cargo.toml", "Cargo.lock"] {
        fs::copy(root().join(file), folder.path().join(file)).expect("a file can be copied");
    }
    fs::write(folder.path().join("src/ir/ops/twice.rs"), NEW_OP).expect("the one file");
    let list = folder.path().join("src/ir/ops/mod.rs");
    let text = fs::read_to_string(&list).expect("the list can be read");
    fs::write(&list, text.replace("\nops! {\n", "\nops! {\n    twice::Twice,\n")).expect("the one line");
    let status = Command::new(env!("CARGO"))
        .args(["test", "--quiet", "--offline", "--test", "ops", "--test", "lowering"])
        .current_dir(folder.path())
        .env("CARGO_TARGET_DIR", root().join("target"))
        .status()
        .expect("cargo runs");
    assert!(status.success(), "the crate with the new op does not pass its tests");
}
