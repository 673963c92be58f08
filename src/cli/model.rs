//! The arguments that say which model is meant, and how it is opened.

use std::path::PathBuf;

use clap::ValueEnum;
use clap::builder::PossibleValue;

use super::Failure;
use super::console::Console;
use crate::driver::{Compiled, Entry, Settings, compile_file_with};

/// The file and what changes in it.
#[derive(Debug, clap::Args)]
pub struct ModelArguments {
    /// The .nn file
    #[arg(value_name = "F.nn")]
    pub file: PathBuf,
    /// The model, in a file with several
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Sets an argument of the model
    #[arg(long, value_name = "NAME=VALUE", value_parser = assignment)]
    set: Vec<(String, String)>,
    /// Sets a size that the model leaves open, besides the batch
    #[arg(long, value_name = "NAME=N", value_parser = size)]
    size: Vec<(String, i64)>,
    /// Limits the memory of a call beside parameters, optimizer state and data, such as 200MB: what is not kept is computed again. Without it, a training step that would take more than 64 MiB makes do with about half if that costs at most a quarter more operations
    #[arg(long, value_name = "LIMIT", value_parser = bytes)]
    memory: Option<u64>,
    /// Computes convolutions as sums of all their products, even where Winograd's transforms, which round more, are faster
    #[arg(long)]
    exact: bool,
}

impl ModelArguments {
    /// Checks the model; warnings are reported. `change` says what the command line changes in the recipe.
    pub fn open(&self, console: &Console, change: impl FnOnce(&mut Settings)) -> Result<Compiled, Failure> {
        let compiled = self.check(change)?;
        console.report(compiled.warnings(), &compiled.project().sources);
        Ok(compiled)
    }

    /// Checks the model.
    pub fn check(&self, change: impl FnOnce(&mut Settings)) -> Result<Compiled, Failure> {
        let mut settings = Settings { model: self.model.clone(), arguments: self.set.clone(), ..Settings::default() };
        change(&mut settings);
        let mut compiled = compile_file_with(&self.file, &settings)?;
        for (name, size) in &self.size {
            compiled.set_size(name, *size);
        }
        if let Some(limit) = self.memory {
            compiled.set_memory(limit);
        }
        compiled.set_exact(self.exact);
        Ok(compiled)
    }
}

/// For commands that do not train: a schedule may ask for the number of steps, which only the data says.
pub fn any_number_of_steps(settings: &mut Settings) {
    settings.total_steps = Some(1);
}

fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.trim().to_owned(), value.trim().to_owned())),
        _ => Err("write NAME=VALUE".into()),
    }
}

fn size(text: &str) -> Result<(String, i64), String> {
    let (name, value) = assignment(text)?;
    match value.parse() {
        Ok(size) if size >= 1 => Ok((name, size)),
        _ => Err(format!("`{value}` is not a whole number from 1")),
    }
}

/// Bytes, with or without a unit: kB, MB and GB count in thousands, KiB, MiB and GiB in 1024.
fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "kib" => 1024.0,
        "mib" => 1_048_576.0,
        "gib" => 1_073_741_824.0,
        _ => return Err(format!("`{unit}` is no unit of memory: kB, MB, GB, KiB, MiB, GiB")),
    };
    match number.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok((number * factor) as u64),
        _ => Err("write a size such as 200MB".into()),
    }
}

/// The entry points by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryName(pub Entry);

impl ValueEnum for EntryName {
    fn value_variants<'a>() -> &'a [Self] {
        &[EntryName(Entry::Init), EntryName(Entry::Infer), EntryName(Entry::Eval), EntryName(Entry::TrainStep)]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.0.name()))
    }
}
