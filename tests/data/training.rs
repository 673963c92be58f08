//! One model trained from every reader: the same weights, whether rows are held in memory or read from their files.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use nnc::diag::Diagnostic;
use nnc::formats::safetensors::{self, Entry};
use nnc::formats::{Array, npy, npz};
use nnc::ir::types::DType;
use nnc::train::data::RunData;
use nnc::train::dataset::Shapes;
use nnc::train::event::Event;
use nnc::train::run::{Listener, Plan, Progress, train};
use nnc::train::source::{LARGEST_RESIDENT, Places};
use tempfile::TempDir;

use super::{contents, fixture, table, values};

struct Silent;

impl Listener for Silent {
    fn event(&mut self, _: &Event) -> Result<(), Diagnostic> {
        Ok(())
    }

    fn warning(&mut self, _: &Diagnostic) {}

    fn progress(&mut self, _: &Progress<'_>) {}
}

/// A classifier of rows of three numbers, with the data block `data` and the lines `recipe`.
fn model(data: &str, recipe: &str) -> String {
    format!(
        "model M {{
    input  x: f32[batch, 3]
    target label: index(3)[batch]
    logits = x |> dense(4) |> tanh |> dense(3)
    output probs = softmax(logits)
    loss   ce = cross_entropy(logits, label)
}}
data {{ {data} }}
train {{ epochs 3; batch 5; seed 3; minimize ce with sgd(lr=0.5); {recipe} }}"
    )
}

/// The weights after training, or what is wrong with the data. At most `resident` bytes are held.
fn weights(source: &str, root: &Path, resident: u64) -> Result<Vec<u8>, Vec<String>> {
    let compiled = nnc::compile("m.nn", source).unwrap_or_else(|error| panic!("{error}"));
    let model = compiled.model();
    let (recipe, data) = (model.recipe.clone().expect("a recipe"), model.data.clone().expect("a data block"));
    let shapes = Shapes { fields: model.fields.iter().collect(), batch: compiled.batch_symbol() };
    let places = Places { root: root.to_owned(), model_folder: root.to_owned(), resident };
    let told = |errors: Vec<Diagnostic>| errors.into_iter().map(|error| error.message).collect::<Vec<_>>();
    let data = RunData::load(&data, &recipe, &shapes, &places).map_err(told)?;
    let mut session = compiled.jit().unwrap_or_else(|error| panic!("{error}"));
    let interrupt = AtomicBool::new(false);
    let plan = Plan {
        recipe: &recipe,
        data: &data,
        log_every: None,
        interrupt: &interrupt,
        checkpoints: None,
        resume: None,
        earlier_steps: 0,
    };
    train(&mut session, &plan, &mut Silent).map_err(|error| told(vec![error]))?;
    Ok(session.parameter_bytes().to_vec())
}

fn trained(data: &str, recipe: &str, root: &Path, resident: u64) -> Vec<u8> {
    weights(&model(data, recipe), root, resident).unwrap_or_else(|errors| panic!("{data}: {errors:?}"))
}

/// A folder with the table in every format.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let place = |name: &str| folder.path().join(name);
    for name in ["table.csv", "part-0.csv", "part-1.csv", "part-2.csv", "table.parquet", "earliest.h5"] {
        fs::write(place(name), contents(name)).expect("a copy");
    }
    let (x, label) = (table(&["a", "b", "c"]), table(&["label"]));
    let floats: Vec<f32> = x.values().map(|value| value as f32).collect();
    let x = Array::from_f32(vec![24, 3], &floats).expect("24 rows");
    let bytes: Vec<u8> = label.values().map(|value| value as u8).collect();
    let label = Array::new(DType::U8, vec![24], bytes.clone()).expect("24 rows");
    npy::write(&place("x.npy"), &x).expect("written");
    npy::write(&place("label.npy"), &label).expect("written");
    npz::write(&place("xy.npz"), &[("x", &x), ("label", &label)]).expect("written");
    let entry = |name: &str, dtype, shape: Vec<usize>, offset, length| Entry {
        name: name.into(),
        dtype,
        shape,
        offset,
        length,
    };
    let entries = [entry("x", DType::F32, vec![24, 3], 0, 288), entry("label", DType::U8, vec![24], 288, 24)];
    safetensors::write(&place("xy.safetensors"), &entries, &[&x.bytes[..], &label.bytes].concat()).expect("written");
    let idx = |code: u8, sizes: &[u8], data: Vec<u8>| {
        let mut file = vec![0, 0, code, sizes.len() as u8];
        sizes.iter().for_each(|size| file.extend([0, 0, 0, *size]));
        [file, data].concat()
    };
    let big_endian = floats.iter().flat_map(|value| value.to_be_bytes()).collect();
    fs::write(place("x.idx"), idx(0x0d, &[24, 3], big_endian)).expect("written");
    fs::write(place("label.idx"), idx(0x08, &[24], bytes)).expect("written");
    folder
}

/// Every reader of tables, as a split's contents.
const READERS: [&str; 8] = [
    "x = npy(\"x.npy\"); label = npy(\"label.npy\")",
    "x = npz(\"xy.npz\", key=\"x\"); label = npz(\"xy.npz\", \"label\")",
    "x = idx(\"x.idx\"); label = idx(\"label.idx\")",
    "x = csv(\"table.csv\", columns=[\"a\", \"b\", \"c\"], header=true); label = csv(\"table.csv\", columns=\"label\")",
    "x = csv(\"part-*.csv\", columns=[0, 1, 2]); label = csv(\"part-?.csv\", columns=\"label\")",
    "x = parquet(\"table.parquet\", columns=[\"a\", \"b\", \"c\"]); label = parquet(\"*.parquet\", columns=\"label\")",
    "x = hdf5(\"earliest.h5\", \"packed/x\"); label = hdf5(\"*.h5\", key=\"events/label\")",
    "x = safetensors(\"xy.safetensors\", \"x\"); label = safetensors(\"xy.safetensors\", key=\"label\")",
];

#[test]
fn every_reader_gives_the_same_weights() {
    let folder = folder();
    let train =
        |split: &str, recipe: &str, resident| trained(&format!("train {{ {split} }}"), recipe, folder.path(), resident);
    let expected = train(READERS[0], "validate 0.2", LARGEST_RESIDENT);
    for reader in READERS {
        assert_eq!(train(reader, "validate 0.2", LARGEST_RESIDENT), expected, "{reader}");
    }
    // From files that are read row by row in the same order, from those read in blocks in file order.
    for reader in [READERS[0], READERS[2], READERS[7]] {
        assert_eq!(train(reader, "validate 0.2", 0), expected, "{reader} from its file");
    }
    let in_order = train(READERS[0], "shuffle false", LARGEST_RESIDENT);
    assert_ne!(in_order, expected);
    for reader in READERS {
        assert_eq!(train(reader, "shuffle false", 0), in_order, "{reader} in file order from its file");
    }
}

#[test]
fn blocks_are_mixed_by_the_seed_alone() {
    let folder = folder();
    let train = |recipe: &str| trained(&format!("train {{ {} }}", READERS[5]), recipe, folder.path(), 0);
    assert_eq!(train("validate 0.2"), train("validate 0.2"));
    assert_ne!(train("validate 0.2"), train("validate 0.2; shuffle false"));
}

#[test]
fn splits_are_cut_by_rows() {
    let folder = folder();
    let run = |data: &str, recipe: &str| trained(data, recipe, folder.path(), LARGEST_RESIDENT);
    let split = READERS[0];
    let half = run(&format!("train {{ {split}; take first 12 }}"), "");
    assert_eq!(run(&format!("train {{ {split} }} test {{ from train take 0.5 }}"), ""), half);
    assert_eq!(run(&format!("train {{ {split} }} held {{ from train take 12 }}"), "validate held"), half);
    assert_eq!(run(&format!("train {{ {split} }}"), "validate 0.5"), half);
    assert_ne!(run(&format!("train {{ {split} }} test {{ from train take first 12 }}"), ""), half);
}

#[test]
fn constants_and_whole_inputs() {
    let source = "model M {
    input  x: f32[batch, 3]
    input  scale: f32[3]
    input  shift: f32[batch]
    target label: index(3)[batch]
    logits = (x * scale + expand_dims(shift, 1)) |> dense(3)
    output probs = softmax(logits)
    loss   ce = cross_entropy(logits, label)
}
data { train { READ; scale = SCALE; shift = SHIFT } }
train { epochs 1; batch 5; minimize ce with sgd(lr=0.5) }";
    let folder = folder();
    let scale = Array::from_f32(vec![3], &[1.0, 2.0, 0.5]).expect("three numbers");
    npy::write(&folder.path().join("scale.npy"), &scale).expect("written");
    let shift = Array::from_f32(vec![24], &[0.25; 24]).expect("24 numbers");
    npy::write(&folder.path().join("shift.npy"), &shift).expect("written");
    let run = |scale: &str, shift: &str, resident| {
        let source = source.replace("READ", READERS[0]).replace("SCALE", scale).replace("SHIFT", shift);
        weights(&source, folder.path(), resident)
    };
    let expected = run("npy(\"scale.npy\")", "npy(\"shift.npy\")", LARGEST_RESIDENT).expect("good data");
    for resident in [0, LARGEST_RESIDENT] {
        assert_eq!(run("constant([1, 2, 0.5])", "constant(0.25)", resident), Ok(expected.clone()));
    }
    let wrong = run("constant([1, 2])", "constant(0.25)", 0).expect_err("two numbers for three");
    assert_eq!(wrong, ["the constant has 2 numbers, expected 1 or 3"]);
    let several = run("npy(\"s*.npy\")", "constant(1)", 0).expect_err("two files for one array");
    assert_eq!(several, ["a field without a `batch` dim is one array, but 2 files match"]);
}

#[test]
fn text_in_windows() {
    let source = "model M {
    input bytes: index(256)[batch, 9]
    x = one_hot(bytes, 256) |> flatten |> dense(2)
    loss l = mean(x^2)
}
data { train { bytes = text(\"t.txt\", window=9, step=4) } }
train { epochs 2; batch 3; minimize l with sgd(lr=0.1) }";
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("t.txt"), "Whoever reads this text reads it in windows.").expect("written");
    let held = weights(source, folder.path(), LARGEST_RESIDENT).expect("good data");
    assert_eq!(weights(source, folder.path(), 0), Ok(held));
}

#[test]
fn pictures_and_their_classes() {
    let source = "model M {
    input  image: u8[batch, 4, 5, 1]
    target label: index(2)[batch]
    logits = f32(image) / 255 |> flatten |> dense(2)
    output probs = softmax(logits)
    loss   ce = cross_entropy(logits, label)
}
data { train { image = images(\"pictures\"); label = images(\"pictures\") } }
train { epochs 2; batch 4; minimize ce with sgd(lr=0.1) }";
    let root = fixture("");
    let held = weights(source, &root, LARGEST_RESIDENT).expect("good data");
    assert_eq!(weights(source, &root, 0), Ok(held));
    let three = source.replace("index(2)", "index(3)").replace("dense(2)", "dense(3)");
    let errors = weights(&three, &root, 0).expect_err("two folders for three classes");
    assert_eq!(errors, ["`pictures` has 2 classes, expected 3"]);
}

/// The mistakes in the rows of `x` and `label` that stay in their files are told when they are read.
#[test]
fn bad_rows_of_files_are_named() {
    let folder = folder();
    let bad = "a,b,c,label\n1,2,3,0\n1,2,3,7\n1,nan,3,0\n";
    let path: PathBuf = folder.path().join("part-3.csv");
    fs::write(&path, bad).expect("written");
    for resident in [0, LARGEST_RESIDENT] {
        let errors = weights(&model(&format!("train {{ {} }}", READERS[4]), "shuffle false"), folder.path(), resident);
        let errors = errors.expect_err("a label of 7").join("\n");
        let label = errors.contains("part-3.csv`: label 7 in row 1 is outside 0..3");
        let nan = errors.contains("part-3.csv`: line 4, column 1 (`b`): `nan` is not a finite number");
        assert!(label || nan, "{errors}");
        assert_eq!(label && nan, resident > 0, "all mistakes of data in memory are told at once: {errors}");
    }
    assert_eq!(values(&table(&["label"])).len(), 24);
}
