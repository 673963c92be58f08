//! Random graphs over all ops: every form of a graph, down to machine code, agrees with what the graph means.
//!
//! `cargo test --test differential` checks 100 graphs, `GRAPHS=2000` in the environment as many as it says. A failure
//! shrinks, and what is left is written to `tests/cases/graphs`, where it is checked forever. A long run, with its
//! progress and from any first seed:
//!
//! ```text
//! GRAPHS=100000 FIRST=0 cargo test --release --test differential -- --ignored --nocapture long_run
//! ```

mod choices;
mod draft;
mod makers;
#[path = "../programs/mod.rs"]
mod programs;
mod reduction;
#[path = "../wide/mod.rs"]
mod wide;
#[path = "../wide/programs.rs"]
mod wide_programs;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use choices::Gene;
use nnc::ir::graph::Function;
use nnc::ir::ops::Op;
use nnc::ir::scalar::{Monoid, ScalarFunction as F};
use nnc::ir::text;
use nnc::ir::types::DType;
use programs::agreement::{Coverage, agree, agree_in};
use programs::arguments_for;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// A failure is shrunk no longer.
const MOST_SHRINKING: u32 = 60;

fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/graphs")
}

/// A number from the environment.
fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

fn genes() -> impl Strategy<Value = Vec<Gene>> {
    proptest::collection::vec(any::<Gene>(), 30..75)
}

fn runner(seed: u64) -> TestRunner {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config { failure_persistence: None, max_shrink_iters: MOST_SHRINKING, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

/// The genes of a seed.
fn sample(seed: u64) -> Vec<Gene> {
    genes().new_tree(&mut runner(seed)).expect("genes have no filter").current()
}

/// What a check says; a panic is an error like another.
fn caught(check: impl FnOnce() -> Result<Coverage, String>) -> Result<Coverage, String> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        Err(format!("panic: {}", text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("of no text")))
    })
}

/// Checks the graph of one seed, every fourth in all forms; a failure is shrunk and becomes a case.
fn check_seed(seed: u64) -> Result<Coverage, String> {
    let all = seed.is_multiple_of(4);
    let check = |function: &Function| caught(|| agree_in(function, &arguments_for(function), all));
    let first = match check(&draft::function(&sample(seed))) {
        Ok(coverage) => return Ok(coverage),
        Err(first) => first,
    };
    let shrunk = runner(seed).run(&genes(), |genes| {
        check(&draft::function(&genes)).map(|_| ()).map_err(proptest::test_runner::TestCaseError::fail)
    });
    let genes = match shrunk {
        Err(proptest::test_runner::TestError::Fail(_, genes)) => genes,
        _ => sample(seed),
    };
    let function = reduction::reduce(draft::function(&genes), &|f| check(f).is_err());
    let error = check(&function).err().unwrap_or(first);
    let file = cases().join(format!("seed_{seed}.txt"));
    let header: String = error.lines().map(|line| format!("# {line}\n")).collect();
    std::fs::write(&file, format!("{header}{function}")).map_err(|e| e.to_string())?;
    Err(format!("seed {seed}: {error}\nshrunk to {}\n{function}", file.display()))
}

#[test]
fn graphs_agree_in_all_forms() {
    let (first, count) = (setting("FIRST", 0), setting("GRAPHS", 100));
    let (coverage, failures) = run(first, count, |_| {});
    assert!(failures.is_empty(), "{} graphs fail:\n{}", failures.len(), failures.join("\n\n"));
    println!("{count} graphs: {coverage:?}");
    // The check is worth something only where bounds are tight.
    assert!(coverage.bounded * 10 > coverage.elements * 9, "{coverage:?}");
    assert!(coverage.sharp * 10 > coverage.elements * 7, "{coverage:?}");
}

/// Graphs compiled for AVX-512, whose wide kernels run on the emulated machine.
#[test]
#[ignore = "needs the emulator Bochs, and minutes"]
fn avx512_gives_the_same_bits() {
    let (first, count) = (setting("FIRST", 0), setting("EMULATED", 100));
    let example = |seed: u64| {
        let function = draft::function(&sample(seed));
        wide_programs::example(format!("seed {seed}"), &function, &arguments_for(&function))
    };
    let examples: Vec<_> = (first..first + count).map(example).collect();
    if let Some(calls) = wide_programs::emulate(&examples) {
        assert!(calls as u64 >= 10 * count, "{calls} calls in {count} programs");
    }
}

#[test]
#[ignore = "as long as GRAPHS in the environment says"]
fn long_run() {
    let (first, count) = (setting("FIRST", 0), setting("GRAPHS", 100_000));
    let start = std::time::Instant::now();
    let (coverage, failures) = run(first, count, |done| {
        if done.is_multiple_of(500) {
            let seconds = start.elapsed().as_secs_f64();
            eprintln!("{done} of {count} graphs, {:.0} a second", done as f64 / seconds);
        }
    });
    eprintln!("{count} graphs in {:.0} s: {coverage:?}", start.elapsed().as_secs_f64());
    assert!(failures.is_empty(), "{} graphs fail:\n{}", failures.len(), failures.join("\n\n"));
}

/// Checks graphs on all cores; stops after some failures.
fn run(first: u64, count: u64, progress: impl Fn(u64) + Sync) -> (Coverage, Vec<String>) {
    const MOST_FAILURES: usize = 12;
    let next = AtomicU64::new(0);
    let found = Mutex::new((Coverage::default(), Vec::new()));
    let worker = || loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= count || found.lock().expect("no worker panics").1.len() >= MOST_FAILURES {
            break;
        }
        let outcome = check_seed(first + number);
        let mut found = found.lock().expect("no worker panics");
        match outcome {
            Ok(coverage) => found.0 = found.0.plus(coverage),
            Err(failure) => {
                eprintln!("{failure}");
                found.1.push(failure);
            }
        }
        drop(found);
        progress(number + 1);
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(worker))));
    found.into_inner().expect("no worker panics")
}

#[test]
fn graphs_that_once_failed() {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(cases()).expect("the cases are there").map(|e| e.expect("readable").path()).collect();
    files.sort();
    for file in files.iter().filter(|f| f.extension().is_some_and(|e| e == "txt")) {
        let content = std::fs::read_to_string(file).expect("a case is text");
        let lines: Vec<&str> = content.lines().filter(|line| !line.starts_with('#')).collect();
        let function = text::parse(&lines.join("\n")).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        caught(|| agree(&function, &arguments_for(&function))).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    }
}

/// How often something is in the graphs of the first seeds.
fn counts() -> (BTreeMap<&'static str, usize>, usize) {
    let mut counts = BTreeMap::new();
    let mut nodes = Vec::new();
    for seed in 0..200 {
        let function = draft::function(&sample(seed));
        nodes.push(function.graph.len());
        for (_, node) in function.graph.nodes() {
            *counts.entry(node.op.doc().name).or_default() += 1;
            for (name, _) in DType::NAMED.iter().filter(|(_, dtype)| node.outputs.iter().any(|ty| ty.dtype == *dtype)) {
                *counts.entry(name).or_default() += 1;
            }
            match &node.op {
                Op::Map(map) => *counts.entry(map.function.name()).or_default() += 1,
                Op::Reduce(reduce) => *counts.entry(reduce.monoid.name()).or_default() += 1,
                _ => {}
            }
        }
    }
    nodes.sort_unstable();
    (counts, nodes[nodes.len() / 2])
}

#[test]
fn every_op_and_every_function_is_in_the_graphs() {
    let (counts, median) = counts();
    assert!(median >= 50, "half of the graphs have less than {median} nodes");
    let names = Op::DOCS.iter().map(|d| d.name).chain(F::ALL.iter().map(|f| f.name()));
    let rare: Vec<&str> =
        names.chain(Monoid::ALL.iter().map(|(n, _)| *n)).filter(|n| counts.get(n).copied().unwrap_or(0) < 5).collect();
    assert!(rare.is_empty(), "hardly ever made: {rare:?}");
}
