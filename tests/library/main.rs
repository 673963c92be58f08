//! The standard library: every item says what it is, and its example runs and gives the numbers that it claims.

mod comment;
mod draws;
mod example;

use comment::Comment;
use nnc::frontend::ast::Item;
use nnc::frontend::library::items;

/// What every doc comment of the library has, beside its sentences and its example.
const LABELS: [&str; 3] = ["Equation", "Shapes", "Source"];

/// Files whose comments have no labels and examples yet.
const PLAIN: &[&str] = &[
    "math.nn",
    "arrays.nn",
    "initializers.nn",
    "convolution.nn",
    "pooling.nn",
    "recurrent.nn",
    "losses.nn",
    "metrics.nn",
    "optimizers.nn",
    "schedules.nn",
];

/// The documented items of the library: file, name, comment. Those without are internal to it.
fn documented() -> impl Iterator<Item = (&'static str, String, Comment)> {
    items().filter_map(|(file, item)| {
        let (name, doc) = match item {
            Item::Function(d) | Item::Model(d) | Item::Optimizer(d) => (&d.name, &d.doc),
            Item::Const { name, doc, .. } => (name, doc),
            Item::Use { .. } | Item::Data(_) | Item::Train(_) => return None,
        };
        Some((file, name.text.to_string(), Comment::parse(doc.as_deref()?)))
    })
}

#[test]
fn every_item_has_an_equation_shapes_a_source_and_an_example() {
    let mut wrong = Vec::new();
    for (file, name, comment) in documented().filter(|(file, ..)| !PLAIN.contains(file)) {
        let missing = LABELS.iter().filter(|label| comment.labelled(label).is_none_or(str::is_empty));
        wrong.extend(missing.map(|label| format!("{file}: `{name}` has no line `{label}: ...`")));
        if comment.text.is_empty() {
            wrong.push(format!("{file}: `{name}` is not described"));
        }
        if comment.examples.len() != 1 {
            wrong.push(format!("{file}: `{name}` has {} examples", comment.examples.len()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Runs the examples of one file.
fn run_examples_of(file: &str) {
    let mut failures = Vec::new();
    for (_, name, comment) in documented().filter(|(own, ..)| *own == file) {
        for example in &comment.examples {
            failures.extend(example::run(example).err().map(|e| format!("`{name}`: {e}\n{example}\n")));
        }
    }
    assert!(failures.is_empty(), "{file}: {} examples fail\n{}", failures.len(), failures.join("\n"));
}

/// A test for each file of the library, and one that no file is left out.
macro_rules! files {
    ($($name:ident),* $(,)?) => {
        $(#[test] fn $name() { run_examples_of(concat!(stringify!($name), ".nn")); })*

        #[test]
        fn every_file_is_run() {
            let run = [$(concat!(stringify!($name), ".nn")),*];
            let all: Vec<&str> = nnc::frontend::library::FILES.iter().map(|(name, _)| *name).collect();
            assert_eq!(run.as_slice(), all.as_slice());
        }
    };
}

files!(
    math,
    arrays,
    activations,
    initializers,
    layers,
    attention,
    convolution,
    pooling,
    recurrent,
    losses,
    regularizers,
    metrics,
    optimizers,
    schedules,
    augmentation,
    solvers,
);
