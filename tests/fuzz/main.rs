//! The frontend on millions of broken programs: parse, resolve and elaborate, without a panic, a hang or a full memory.
//!
//! An engine inside the process: inputs are the project's own `.nn` files and what became of them (`mutate`); one whose
//! messages were never seen together is kept and changed further. A plain run does a few hundred. The long run is
//!
//! ```text
//! FUZZ_RUNS=10000000 cargo test --release --test fuzz -- --ignored --nocapture
//! ```
//!
//! with `FUZZ_THREADS` (default: all cores), `FUZZ_SEED`, `FUZZ_TARGET=parse` for the parser alone, and `FUZZ_SECONDS` as
//! another end. What fails is written to `target/fuzz/`; `FUZZ_INPUT=FILE` runs that one input.
//!
//! The same is run under libFuzzer, which is guided by the code that an input reaches: `docs/evidence.md` has the command.
//! What it found is minimised into `fuzz/corpus`, which a plain run replays.

mod corpus;
mod mutate;
mod target;

use std::collections::HashSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mutate::Random;

/// No input may take longer; a build without optimization is given more.
const SLOW: Duration = if cfg!(debug_assertions) { Duration::from_secs(20) } else { Duration::from_secs(1) };
/// What takes longer is a hang, however busy the machine is.
const HANGS: Duration = Duration::from_secs(20);
/// The most memory that the process may ever have had.
const MEMORY: u64 = 1 << 30;
/// How many kept inputs there may be.
const POOL: usize = 20_000;
/// After how many inputs the memory is looked at.
const LOOK: u64 = 64;

/// What is run on an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Parse,
    Check,
}

/// How long a run is.
struct Plan {
    target: Target,
    runs: u64,
    end: Duration,
    threads: usize,
    seed: u64,
}

/// What the threads of a run share.
struct State {
    pool: Mutex<Vec<String>>,
    seen: Mutex<HashSet<String>>,
    done: AtomicU64,
    failures: Mutex<Vec<String>>,
    longest: AtomicU64,
    folder: PathBuf,
}

#[test]
fn a_few_hundred_broken_programs() {
    for target in [Target::Parse, Target::Check] {
        let runs = if target == Target::Parse { 2_000 } else { 400 };
        fuzz(&Plan { target, runs, end: Duration::from_secs(60), threads: 2, seed: 1 });
    }
}

/// The inputs that cargo-fuzz found and `fuzz/corpus` keeps.
#[test]
fn the_kept_corpus() {
    for (target, name) in [(Target::Parse, "parse"), (Target::Check, "check")] {
        let inputs = corpus::kept(name);
        assert!(inputs.len() > 50, "the corpus of {name} is there");
        for (path, input) in inputs {
            let begin = Instant::now();
            let outcome = catch_unwind(AssertUnwindSafe(|| run(target, &input)));
            assert!(outcome.is_ok(), "{} panics", path.display());
            assert!(begin.elapsed() < HANGS, "{} takes {:?}", path.display(), begin.elapsed());
        }
    }
}

#[test]
#[ignore = "runs for hours; see the head of this file"]
fn millions_of_broken_programs() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    fuzz(&Plan {
        target: if std::env::var("FUZZ_TARGET").is_ok_and(|name| name == "parse") {
            Target::Parse
        } else {
            Target::Check
        },
        runs: number("FUZZ_RUNS").unwrap_or(1_000_000),
        end: Duration::from_secs(number("FUZZ_SECONDS").unwrap_or(u64::from(u32::MAX))),
        threads: number("FUZZ_THREADS").map_or(cores, |threads| threads as usize),
        seed: number("FUZZ_SEED").unwrap_or(0),
    });
}

#[test]
#[ignore = "runs the input that FUZZ_INPUT names"]
fn one_input() {
    let path = std::env::var("FUZZ_INPUT").expect("FUZZ_INPUT names a file");
    let input = fs::read(&path).expect("the input can be read");
    let start = Instant::now();
    let messages = run(Target::Check, &input);
    println!("{:?}, {} MiB at most\n{}", start.elapsed(), peak_memory() >> 20, messages.join("\n"));
}

fn fuzz(plan: &Plan) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/fuzz");
    fs::create_dir_all(&folder).expect("a folder for failures");
    let state = State {
        pool: Mutex::new(corpus::read()),
        seen: Mutex::default(),
        done: AtomicU64::new(0),
        failures: Mutex::default(),
        longest: AtomicU64::new(0),
        folder,
    };
    let start = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..plan.threads {
            let state = &state;
            scope.spawn(move || worker(plan, state, thread, start));
        }
    });
    let failures = state.failures.into_inner().expect("no thread panics");
    let done = state.done.load(Ordering::Relaxed);
    println!(
        "{:?}: {done} runs in {:?}, {} inputs kept, longest {:?}, {} MiB at most, {} failures",
        plan.target,
        start.elapsed(),
        state.pool.into_inner().expect("no thread panics").len(),
        Duration::from_nanos(state.longest.into_inner()),
        peak_memory() >> 20,
        failures.len()
    );
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn worker(plan: &Plan, state: &State, thread: usize, start: Instant) {
    let mut random = Random::new(plan.seed.wrapping_mul(1_000_003).wrapping_add(thread as u64));
    let current = state.folder.join(format!("current-{thread}.nn"));
    let mut recent: Vec<String> = Vec::new();
    while start.elapsed() < plan.end {
        let done = state.done.fetch_add(1, Ordering::Relaxed);
        if done >= plan.runs {
            state.done.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let input = next_input(state, &mut random);
        // An overflow of the stack ends the process: then this file is the input.
        fs::write(&current, &input).expect("the input can be written");
        let begin = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| run(plan.target, input.as_bytes())));
        let taken = begin.elapsed();
        state.longest.fetch_max(taken.as_nanos() as u64, Ordering::Relaxed);
        match outcome {
            Err(_) => fail(state, "panic", done, &input),
            Ok(_) if taken > SLOW => fail(state, "slow", done, &input),
            Ok(messages) => keep(state, &messages, &input),
        }
        recent.push(input);
        if done.is_multiple_of(LOOK) {
            if peak_memory() > MEMORY {
                fail(state, "memory", done, &recent.join("\n// ------------------------------------- next\n"));
                return;
            }
            recent.clear();
        }
        if done.is_multiple_of(500_000) && done > 0 {
            println!("{done} runs after {:?}, {} MiB at most", start.elapsed(), peak_memory() >> 20);
        }
    }
}

/// The messages about an input; what is right gives none.
fn run(what: Target, input: &[u8]) -> Vec<String> {
    match what {
        Target::Parse => target::parses(input),
        Target::Check => target::checks(input),
    }
}

fn next_input(state: &State, random: &mut Random) -> String {
    let (first, second) = {
        let pool = state.pool.lock().expect("no thread panics here");
        (pool[random.below(pool.len())].clone(), pool[random.below(pool.len())].clone())
    };
    mutate::mutate(&first, &second, random)
}

/// Keeps an input whose messages, names and numbers left out, were never seen together.
fn keep(state: &State, messages: &[String], input: &str) {
    let mut kinds: Vec<String> = messages.iter().map(|message| without_names(message)).collect();
    kinds.sort();
    kinds.dedup();
    if state.seen.lock().expect("no thread panics here").insert(kinds.join("\n")) {
        let mut pool = state.pool.lock().expect("no thread panics here");
        if pool.len() < POOL {
            pool.push(input.to_owned());
        }
    }
}

fn without_names(message: &str) -> String {
    let outside = message.split('`').step_by(2);
    outside.flat_map(str::chars).filter(|character| !character.is_ascii_digit()).collect()
}

fn fail(state: &State, what: &str, number: u64, input: &str) {
    let path = state.folder.join(format!("{what}-{number}.nn"));
    fs::write(&path, input).expect("the input can be written");
    println!("{what}: {}", path.display());
    state.failures.lock().expect("no thread panics here").push(path.display().to_string());
}

/// The most memory in bytes that the process has had in use, where the system says.
fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|text| text.trim().split(' ').next()?.parse::<u64>().ok()).map_or(0, |kilobytes| kilobytes << 10)
}
