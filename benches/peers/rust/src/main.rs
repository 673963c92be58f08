//! The peers of `benches/run` that are Rust libraries: candle, burn and tract on one workload.
//!
//! `peers VARIANT KEY WEIGHTS THREADS [NAME=FILE]...`, as the Python peers are called and with the same talk (`../talk.py`): WEIGHTS is a safetensors file
//! with nnc's names and layouts, FILE the raw bytes of an input or target. tract takes the graph of ONNX that lies beside the weights, `model.onnx`.

mod burn_peer;
mod candle_peer;
mod tract_peer;

use std::collections::HashMap;
use std::error::Error;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

type Answer<T> = Result<T, Box<dyn Error>>;

/// A library on a workload's batch.
trait Peer {
    /// One training step; gives the loss before its update.
    fn loss(&mut self) -> Answer<f64>;

    /// The first output of one inference.
    fn output(&mut self) -> Answer<Vec<f32>>;

    /// What is timed: a training step or an inference.
    fn step(&mut self) -> Answer<()>;
}

/// A dense layer's numbers.
struct Dense {
    /// Inputs × outputs.
    weights: Vec<f32>,
    inputs: usize,
    biases: Vec<f32>,
}

/// What the command line says.
struct Task {
    /// The workload's key, such as `I2`.
    key: String,
    weights: PathBuf,
    /// The bytes of each input and target by name.
    inputs: HashMap<String, Vec<u8>>,
    threads: usize,
}

impl Task {
    /// The layers `dense_1`, `dense_2`, ...
    fn dense_layers(&self) -> Answer<Vec<Dense>> {
        let bytes = std::fs::read(&self.weights)?;
        let file = safetensors::SafeTensors::deserialize(&bytes)?;
        let numbers = |name: String| -> Answer<(Vec<f32>, usize)> {
            let tensor = file.tensor(&name)?;
            let (words, _) = tensor.data().as_chunks::<4>();
            Ok((words.iter().map(|word| f32::from_le_bytes(*word)).collect(), tensor.shape()[0]))
        };
        let count = (1..).take_while(|i| file.tensor(&format!("dense_{i}.w")).is_ok()).count();
        let layer = |i| {
            let (weights, inputs) = numbers(format!("dense_{i}.w"))?;
            Ok(Dense { weights, inputs, biases: numbers(format!("dense_{i}.b"))?.0 })
        };
        (1..=count).map(layer).collect()
    }

    /// The bytes of an input or target.
    fn input(&self, name: &str) -> Answer<&[u8]> {
        Ok(self.inputs.get(name).ok_or_else(|| format!("the workload has no `{name}`"))?)
    }

    /// The labels of a batch.
    fn labels(&self) -> Answer<Vec<i32>> {
        let (words, _) = self.input("label")?.as_chunks::<4>();
        Ok(words.iter().map(|word| i32::from_le_bytes(*word)).collect())
    }

    /// Whether a key is that of a training step.
    fn is_training(&self) -> bool {
        self.key.starts_with('T')
    }
}

fn main() -> Answer<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [variant, key, weights, threads, inputs @ ..] = arguments.as_slice() else {
        return Err("usage: peers VARIANT KEY WEIGHTS THREADS [NAME=FILE]...".into());
    };
    let read = |input: &String| -> Answer<(String, Vec<u8>)> {
        let (name, file) = input.split_once('=').ok_or("an input is NAME=FILE")?;
        Ok((name.to_string(), std::fs::read(file)?))
    };
    let task = Task {
        key: key.clone(),
        weights: Path::new(weights).to_path_buf(),
        inputs: inputs.iter().map(read).collect::<Answer<_>>()?,
        threads: threads.parse()?,
    };
    let start = Instant::now();
    let made = make(variant, &task).and_then(|(version, mut peer)| {
        if !task.is_training() {
            peer.step()?;
        }
        Ok((version, peer))
    });
    let (version, mut peer) = match made {
        Ok(made) => made,
        Err(reason) => {
            say(&format!("unavailable {}", reason.to_string().lines().next().unwrap_or_default()))?;
            return Err(reason);
        }
    };
    say(&format!("ready {} 0 {version}", start.elapsed().as_secs_f64() * 1e3))?;
    for line in std::io::stdin().lock().lines() {
        say(&obey(&mut *peer, &line?)?)?;
    }
    Ok(())
}

/// A peer and its version, which Cargo.toml pins.
fn make(variant: &str, task: &Task) -> Answer<(&'static str, Box<dyn Peer>)> {
    match variant {
        "burn" => Ok(("0.21.0", burn_peer::make(task)?)),
        "candle" => Ok(("0.11.1", candle_peer::make(task)?)),
        "tract" => Ok(("0.23.9", tract_peer::make(task)?)),
        other => Err(format!("there is no peer `{other}`").into()),
    }
}

fn say(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

fn obey(peer: &mut dyn Peer, line: &str) -> Answer<String> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    match word {
        "losses" => {
            let losses: Answer<Vec<String>> = (0..rest.parse()?).map(|_| Ok(peer.loss()?.to_string())).collect();
            Ok(format!("losses {}", losses?.join(",")))
        }
        "outputs" => {
            let output = peer.output()?;
            std::fs::write(rest, output.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())?;
            Ok(format!("outputs {}", output.len()))
        }
        "steps" => {
            let count: usize = rest.parse()?;
            let start = Instant::now();
            for _ in 0..count {
                peer.step()?;
            }
            Ok(format!("seconds {}", start.elapsed().as_secs_f64()))
        }
        // None of these libraries accounts for its memory.
        "memory" => Ok("bytes 0".into()),
        _ => Err(format!("unknown request `{line}`").into()),
    }
}
