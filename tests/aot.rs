//! An object from `nnc compile`, linked into a C program with nothing else, computes the same bytes as the code in memory.
//!
//! The C program is `tests/aot/main.c`. Without a C compiler the tests say so and pass.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nnc::driver::{JitOptions, Session, Slice};

/// A model with one image input, one label and one vector of probabilities.
struct Classifier {
    /// The folder of its source, and its name in the object.
    folder: &'static str,
    name: &'static str,
    pixels: usize,
    classes: usize,
    /// Grey levels of the image, 0 to this number.
    white: u8,
    /// Rows of a training batch.
    batch: usize,
}

const DIGITS: Classifier =
    Classifier { folder: "models", name: "digits", pixels: 64, classes: 10, white: 16, batch: 32 };
const MNIST_MLP: Classifier =
    Classifier { folder: "models", name: "mnist_mlp", pixels: 784, classes: 10, white: 255, batch: 128 };
/// Its dropout draws random numbers in each step.
const MNIST_MLP_DEEP: Classifier = Classifier { name: "mnist_mlp_deep", ..MNIST_MLP };
/// Its layers are loops.
const ROWS_NET: Classifier = Classifier { folder: "tests/aot", name: "rows", ..DIGITS };

const STEPS: usize = 3;
/// Not a multiple of any batch, so that inference needs several variants.
const ROWS: usize = 37;
const SEED: u64 = 7;

impl Classifier {
    fn source(&self) -> PathBuf {
        root().join(self.folder).join(self.name).with_extension("nn")
    }

    /// Made-up images and labels for `STEPS` batches.
    fn data(&self) -> (Vec<u8>, Vec<i32>) {
        let count = STEPS * self.batch;
        let images = noise(count * self.pixels).map(|x| (x % (u32::from(self.white) + 1)) as u8).collect();
        let labels = noise(count).map(|x| (x % self.classes as u32) as i32).collect();
        (images, labels)
    }
}

/// Numbers from a linear congruential generator.
fn noise(count: usize) -> impl Iterator<Item = u32> {
    let mut state = 1u64;
    (0..count).map(move |_| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as u32
    })
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Whether `tool` can be run; if not, says that the test is skipped.
fn available(tool: &str, test: &str) -> bool {
    let found = Command::new(tool).arg("--version").output().is_ok_and(|o| o.status.success());
    if !found {
        // Past the test harness, which keeps the output of passing tests to itself.
        let _ = writeln!(std::io::stderr(), "{test}: SKIPPED, because `{tool}` cannot be run");
    }
    found
}

fn run(command: &mut Command) -> Output {
    let output = command.output().expect("the program starts");
    assert!(output.status.success(), "{command:?} failed:\n{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Compiles the model ahead of time into `folder/m.o` and `folder/m.h`.
fn compile_object(model: &Classifier, folder: &Path) -> PathBuf {
    let object = folder.join("m.o");
    run(Command::new(env!("CARGO_BIN_EXE_nnc"))
        .arg("compile")
        .arg(model.source())
        .args(["--threads", "1", "--batch", "1,8", "-o"])
        .arg(&object)
        .arg("--header")
        .arg(folder.join("m.h")));
    object
}

/// The parts that the C program writes, by name, computed by code in memory.
fn in_memory(model: &Classifier, weights: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let (images, labels) = model.data();
    let mut session = session(model);
    session.initialize(SEED).expect("initial values");
    let mut parts = vec![("initial parameters", session.parameter_bytes().to_vec())];

    session.parameter_bytes_mut().copy_from_slice(weights);
    let mut losses = Vec::new();
    let batches = images.chunks_exact(model.batch * model.pixels).zip(labels.chunks_exact(model.batch));
    for (image, label) in batches {
        let report = session.train_step(&[("image", Slice::from(image)), ("label", Slice::from(label))]);
        let loss = report.expect("a step").get("ce").expect("the loss");
        losses.extend((loss as f32).to_le_bytes());
    }
    parts.push(("losses", losses));
    parts.push(("trained parameters", session.parameter_bytes().to_vec()));

    let image = &images[..ROWS * model.pixels];
    let outputs = session.infer(&[("image", Slice::from(image))]).expect("an inference");
    parts.push(("probabilities", outputs[0].bytes().to_vec()));
    parts
}

fn session(model: &Classifier) -> Session {
    let compiled = nnc::compile_file(model.source()).unwrap_or_else(|error| panic!("{error}"));
    compiled.jit_with(JitOptions { threads: 2 }).expect("the model compiles")
}

fn check(model: &Classifier) {
    let test = format!("aot {}", model.name);
    if !available("cc", &test) {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    let object = compile_object(model, folder);
    if available("nm", &test) {
        let undefined = run(Command::new("nm").arg("-u").arg(&object)).stdout;
        assert_eq!(String::from_utf8_lossy(&undefined), "", "the object has undefined symbols");
    }
    let program = folder.join("program");
    run(Command::new("cc")
        .args(["-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-DHEADER=\"m.h\""])
        .arg(format!("-DMODEL={}", model.name))
        .arg(format!("-DPIXELS={}", model.pixels))
        .arg(format!("-DCLASSES={}", model.classes))
        .arg(format!("-DBATCH={}", model.batch))
        .arg("-I")
        .arg(folder)
        .arg(root().join("tests/aot/main.c"))
        .arg(&object)
        .arg("-o")
        .arg(&program));

    let mut other = session(model);
    other.initialize(SEED + 1).expect("initial values");
    let weights = other.parameter_bytes().to_vec();
    let (images, labels) = model.data();
    let labels: Vec<u8> = labels.iter().flat_map(|l| l.to_le_bytes()).collect();
    let files = [("parameters", &weights), ("images", &images), ("labels", &labels)].map(|(name, bytes)| {
        let path = folder.join(name);
        std::fs::write(&path, bytes).expect("a file can be written");
        path
    });
    let output = run(Command::new(&program).args(files).args([STEPS.to_string(), ROWS.to_string()])).stdout;

    let mut rest = output.as_slice();
    for (part, expected) in in_memory(model, &weights) {
        let (found, after) = rest.split_at_checked(expected.len()).expect("the program wrote every part");
        let first = found.iter().zip(&expected).position(|(a, b)| a != b);
        assert_eq!(first, None, "{}: the {part} differ from byte {first:?} on", model.name);
        rest = after;
    }
    assert!(rest.is_empty(), "the program wrote {} bytes too many", rest.len());
}

#[test]
fn digits_object_computes_the_same_bytes() {
    check(&DIGITS);
}

#[test]
fn mnist_object_computes_the_same_bytes() {
    check(&MNIST_MLP);
}

#[test]
fn random_numbers_of_an_object_are_the_same() {
    check(&MNIST_MLP_DEEP);
}

#[test]
fn recurrent_nets_of_an_object_are_the_same() {
    check(&ROWS_NET);
}
