//! nnc's side of `benches/run`: compiles a model, holds one batch, and runs training steps when told to on standard input.
//!
//! `step MODEL.nn WEIGHTS.safetensors IMAGES LABELS ROWS [NAME=VALUE]...`, where IMAGES holds raw bytes and LABELS raw
//! little-endian `i32`. It says `ready MILLISECONDS` after compiling; then for each line it answers:
//! `losses N` → `losses A,B,...` of N steps; `steps N` → `seconds T` for N steps; `clock` → `ghz F`.

use std::error::Error;
use std::hint::black_box;
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

use nnc::driver::{Entry, JitOptions, Session, Slice, compile_file_with};
use nnc::frontend::Settings;

/// One batch.
struct Batch {
    images: Vec<u8>,
    labels: Vec<i32>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let [model, weights, images, labels, rows, settings @ ..] = arguments.as_slice() else {
        println!("this is a part of `benches/run`, which starts it");
        return Ok(());
    };
    let batch = Batch { images: std::fs::read(images)?, labels: read_labels(Path::new(labels))? };
    let start = Instant::now();
    let mut session = compile(Path::new(model), settings)?;
    session.prepare(Entry::TrainStep, rows.parse()?)?;
    let compile_ms = start.elapsed().as_secs_f64() * 1e3;
    load(&mut session, Path::new(weights))?;
    answer(&format!("ready {compile_ms}"))?;
    for line in std::io::stdin().lock().lines() {
        let reply = obey(&mut session, &batch, &line?)?;
        answer(&reply)?;
    }
    Ok(())
}

fn answer(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

fn obey(session: &mut Session, batch: &Batch, line: &str) -> Result<String, Box<dyn Error>> {
    let (word, number) = line.split_once(' ').unwrap_or((line, "0"));
    let count: usize = number.parse()?;
    match word {
        "losses" => {
            let losses: Result<Vec<f64>, _> = (0..count).map(|_| step(session, batch)).collect();
            let texts: Vec<String> = losses?.iter().map(f64::to_string).collect();
            Ok(format!("losses {}", texts.join(",")))
        }
        "steps" => {
            let start = Instant::now();
            for _ in 0..count {
                black_box(step(session, batch)?);
            }
            Ok(format!("seconds {}", start.elapsed().as_secs_f64()))
        }
        "clock" => Ok(format!("ghz {}", clock())),
        _ => Err(format!("unknown request `{line}`").into()),
    }
}

/// One training step; gives the loss before its update.
fn step(session: &mut Session, batch: &Batch) -> Result<f64, Box<dyn Error>> {
    let fields = [("image", Slice::from(&batch.images)), ("label", Slice::from(&batch.labels))];
    Ok(session.train_step(&fields)?.get("ce").ok_or("the model has no loss `ce`")?)
}

/// The core's clock in GHz: a chain of which each link is a 64-bit multiplication and an exclusive or, 4 cycles on every
/// current x86-64 core. (A chain of multiplications alone would be folded by the compiler.)
fn clock() -> f64 {
    const LINKS: u32 = 500_000;
    const CYCLES_A_LINK: f64 = 4.0;
    let start = Instant::now();
    let end = (0..LINKS).fold(black_box(1u64), |x, _| x.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (x >> 32));
    let seconds = start.elapsed().as_secs_f64();
    black_box(end);
    f64::from(LINKS) * CYCLES_A_LINK / seconds * 1e-9
}

fn compile(model: &Path, settings: &[String]) -> Result<Session, Box<dyn Error>> {
    let split = settings.iter().map(|s| s.split_once('=').ok_or("an argument of the model is NAME=VALUE"));
    let arguments: Result<_, _> = split.map(|s| s.map(|(name, value)| (name.to_string(), value.to_string()))).collect();
    let settings = Settings { arguments: arguments?, ..Settings::default() };
    let options = JitOptions { threads: 1 };
    Ok(compile_file_with(model, &settings)?.jit_with(options)?)
}

fn read_labels(path: &Path) -> std::io::Result<Vec<i32>> {
    let bytes = std::fs::read(path)?;
    Ok(bytes.chunks_exact(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
}

fn load(session: &mut Session, weights: &Path) -> Result<(), Box<dyn Error>> {
    let bytes = std::fs::read(weights)?;
    let file = safetensors::SafeTensors::deserialize(&bytes)?;
    for (path, tensor) in file.tensors() {
        let numbers: Vec<f32> =
            tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        session.set_parameter(&path, &numbers)?;
    }
    Ok(())
}
