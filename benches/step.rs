//! nnc's side of `benches/run`: compiles one entry of a model, holds one batch, and runs it when told to on standard input.
//!
//! `step MODEL.nn train|infer WEIGHTS ROWS THREADS [NAME=FILE]... [-- NAME=VALUE...]`: WEIGHTS is a safetensors file or `-` for the
//! model's own first values, FILE holds the raw little-endian elements of an input or target, and what follows `--` are arguments of the
//! model. It says `ready MILLISECONDS WORKSPACE_BYTES OPERATIONS` after compiling; then for each line it answers:
//! `parameters` → `parameters PATH:DTYPE:DIM,DIM ...`; `load FILE` → `loaded`; `losses N` → `losses A,B,...` of N steps;
//! `outputs FILE` → `outputs COUNT` with the first output written as raw `f32`; `steps N` → `seconds T` for N calls; `memory` → `bytes N` of parameters,
//! states, the batch and the workspace; `kernels TURNS` → `share F`, the time of the kernels that `nnc explain` shows as a part of the whole call's, in the median of the turns; `clock` → `ghz F`.

use std::error::Error;
use std::hint::black_box;
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

use nnc::driver::layout::Slot;
use nnc::driver::{Entry, JitOptions, Quiet, Session, Slice, compile_file_with};
use nnc::frontend::Settings;
use nnc::ir::cost::cost;
use nnc::ir::types::DType;

type Answer<T> = Result<T, Box<dyn Error>>;

/// One batch: the name, element type and bytes of every input and target.
type Fields = Vec<(String, DType, Vec<u8>)>;

/// A compiled entry point and what it is called with.
struct Contestant {
    session: Session,
    entry: Entry,
    rows: usize,
    fields: Fields,
}

fn main() -> Answer<()> {
    let mut arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let settings = match arguments.iter().position(|a| a == "--") {
        Some(at) => arguments.split_off(at).split_off(1),
        None => Vec::new(),
    };
    let [model, entry, weights, rows, threads, inputs @ ..] = arguments.as_slice() else {
        println!("this is a part of `benches/run`, which starts it");
        return Ok(());
    };
    let entry = match entry.as_str() {
        "train" => Entry::TrainStep,
        "infer" => Entry::Infer,
        other => return Err(format!("an entry is `train` or `infer`, not `{other}`").into()),
    };
    let rows: usize = rows.parse()?;
    let start = Instant::now();
    let mut session = compile(Path::new(model), threads.parse()?, &settings)?;
    session.prepare(entry, rows)?;
    let compile_ms = start.elapsed().as_secs_f64() * 1e3;
    let workspace = session.workspace_bytes(entry, rows);
    if weights != "-" {
        load(&mut session, Path::new(weights))?;
    }
    let operations = operations(&session, entry, rows)?;
    let fields = read(&session, inputs)?;
    let mut contestant = Contestant { session, entry, rows, fields };
    answer(&format!("ready {compile_ms} {workspace} {operations}"))?;
    for line in std::io::stdin().lock().lines() {
        answer(&contestant.obey(&line?)?)?;
    }
    Ok(())
}

fn answer(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

impl Contestant {
    fn obey(&mut self, line: &str) -> Answer<String> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "parameters" => {
                let texts: Vec<String> = self.session.parameters().slots().iter().map(described).collect();
                Ok(format!("parameters {}", texts.join(" ")))
            }
            "load" => {
                load(&mut self.session, Path::new(rest))?;
                Ok("loaded".into())
            }
            "losses" => {
                let losses: Answer<Vec<String>> = (0..rest.parse()?).map(|_| Ok(self.loss()?.to_string())).collect();
                Ok(format!("losses {}", losses?.join(",")))
            }
            "outputs" => {
                let outputs = self.session.infer(&slices(&self.fields))?;
                let first = outputs.first().and_then(|o| o.as_f32()).ok_or("the first output is not f32")?;
                let bytes: Vec<u8> = first.iter().flat_map(|x| x.to_le_bytes()).collect();
                std::fs::write(rest, bytes)?;
                Ok(format!("outputs {}", first.len()))
            }
            "steps" => {
                let count: usize = rest.parse()?;
                let start = Instant::now();
                for _ in 0..count {
                    self.call()?;
                }
                Ok(format!("seconds {}", start.elapsed().as_secs_f64()))
            }
            "memory" => {
                let kept = self.session.parameters().bytes() + self.session.optimizer_bytes().len();
                let batch: usize = self.fields.iter().map(|(_, _, bytes)| bytes.len()).sum();
                Ok(format!("bytes {}", kept + batch + self.session.workspace_bytes(self.entry, self.rows)))
            }
            "kernels" => {
                let profile = self.session.profile(self.entry, &slices(&self.fields), rest.parse()?, true)?;
                Ok(format!("share {}", profile.in_kernels()))
            }
            "clock" => Ok(format!("ghz {}", clock())),
            _ => Err(format!("unknown request `{line}`").into()),
        }
    }

    /// One training step; gives the loss before its update.
    fn loss(&mut self) -> Answer<f64> {
        let report = self.session.train_step(&slices(&self.fields))?;
        Ok(report.losses.first().ok_or("the model has no loss")?.1)
    }

    fn call(&mut self) -> Answer<()> {
        if self.entry == Entry::TrainStep {
            black_box(self.loss()?);
        } else {
            black_box(self.session.infer_in_place(&slices(&self.fields))?);
        }
        Ok(())
    }
}

/// Floating-point operations of one call as it was compiled, gradients and optimizer included.
fn operations(session: &Session, entry: Entry, rows: usize) -> Answer<u64> {
    let compiled = session.compiled();
    let lowered = compiled.program(entry, &compiled.sizes(rows)?, &nnc::driver::Target::host(), &mut Quiet)?;
    Ok(cost(&lowered.function).map_or(0, |c| c.flops))
}

fn slices(fields: &Fields) -> Vec<(&str, Slice<'_>)> {
    fields.iter().map(|(name, dtype, bytes)| (name.as_str(), Slice::from_bytes(*dtype, bytes))).collect()
}

fn described(slot: &Slot) -> String {
    let dims: Vec<String> = slot.shape.iter().map(usize::to_string).collect();
    format!("{}:{}:{}", slot.path, slot.dtype, dims.join(","))
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

/// Compiles a model with arguments of the form `NAME=VALUE`, and `--memory=BYTES` for a limit.
fn compile(model: &Path, threads: usize, settings: &[String]) -> Answer<Session> {
    let (options, settings): (Vec<&String>, Vec<&String>) = settings.iter().partition(|s| s.starts_with("--"));
    let split = settings.iter().map(|s| s.split_once('=').ok_or("an argument of the model is NAME=VALUE"));
    let arguments: Result<_, _> = split.map(|s| s.map(|(name, value)| (name.to_string(), value.to_string()))).collect();
    let settings = Settings { arguments: arguments?, ..Settings::default() };
    let mut compiled = compile_file_with(model, &settings)?;
    for option in options {
        let limit = option.strip_prefix("--memory=").ok_or_else(|| format!("there is no option `{option}`"))?;
        compiled.set_memory(limit.parse()?);
    }
    Ok(compiled.jit_with(JitOptions { threads })?)
}

fn read(session: &Session, inputs: &[String]) -> Answer<Fields> {
    let declared = &session.compiled().model().fields;
    let mut fields = Fields::new();
    for input in inputs {
        let (name, file) = input.split_once('=').ok_or("an input is NAME=FILE")?;
        let field =
            declared.iter().find(|f| f.name == name).ok_or_else(|| format!("the model has no field `{name}`"))?;
        fields.push((name.to_string(), field.ty.dtype, std::fs::read(file)?));
    }
    Ok(fields)
}

fn load(session: &mut Session, weights: &Path) -> Answer<()> {
    let bytes = std::fs::read(weights)?;
    let file = safetensors::SafeTensors::deserialize(&bytes)?;
    for (path, tensor) in file.tensors() {
        session.set_parameter(&path, Slice::from_bytes(DType::F32, tensor.data()))?;
    }
    Ok(())
}
