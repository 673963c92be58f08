//! `nnc compile F.nn -o F.o`: an object file and its C header.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::Serialize;

use super::console::Console;
use super::model::{EntryName, ModelArguments};
use super::tune::TuneArgument;
use super::{Failure, Global};
use crate::diag::Diagnostic;
use crate::driver::header::identifier;
use crate::driver::object::ObjectOptions;
use crate::driver::{Compiled, Cpu, Entry, Stage, Target};
use crate::formats::{FormatError, atomic};

/// Compile a model ahead of time, into an object file and a C header
#[derive(Debug, clap::Args)]
pub struct Compile {
    #[command(flatten)]
    model: ModelArguments,
    /// The object file, or `-` for the text of `--emit` [default: the file's name with .o]
    #[arg(short, long, value_name = "OUT.o")]
    output: Option<PathBuf>,
    /// The C header [default: the object's name with .h]
    #[arg(long, value_name = "H")]
    header: Option<PathBuf>,
    /// Rows of the batches that inference is specialised to
    #[arg(long, value_name = "N,N", value_delimiter = ',', value_parser = clap::value_parser!(u64).range(1..))]
    batch: Vec<u64>,
    /// The functions [default: all that the model has]
    #[arg(long, value_enum, value_name = "ENTRY,ENTRY", value_delimiter = ',')]
    entry: Vec<EntryName>,
    /// The phase of the recipe whose training step is meant [default: the first]
    #[arg(long, value_name = "NAME")]
    phase: Option<String>,
    /// The machine, such as aarch64-unknown-linux-gnu [default: this one]
    #[arg(long, value_name = "TRIPLE")]
    target: Option<String>,
    /// The instructions to use: native, x86-64-v2, x86-64-v3, x86-64-v4
    #[arg(long, value_name = "CPU")]
    cpu: Option<String>,
    /// What to write
    #[arg(long, value_enum, value_name = "KIND", default_value = "obj")]
    emit: Emit,
    #[command(flatten)]
    tune: TuneArgument,
    #[arg(long, hide = true)]
    weights: Option<PathBuf>,
}

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Emit {
    Obj,
    Graph,
    Loops,
    Clif,
    Asm,
}

#[derive(Serialize)]
struct Written<'a> {
    event: &'static str,
    object: String,
    header: String,
    bytes: usize,
    prefix: &'a str,
}

impl Compile {
    /// Runs the command.
    pub fn run(&self, console: &Console, global: &Global) -> Result<(), Failure> {
        if self.weights.is_some() {
            return Err(Failure::unsupported("`--weights`, weights inside the object,"));
        }
        if global.threads.is_some_and(|threads| threads > 1) {
            return Err(Failure::unsupported("an object that runs on several threads"));
        }
        let target = self.target()?;
        let output = self
            .output
            .clone()
            .unwrap_or_else(|| PathBuf::from(self.model.file.file_stem().unwrap_or_default()).with_extension("o"));
        check_kind(&output, self.emit)?;
        let mut compiled = self.model.open(console, |settings| settings.phase.clone_from(&self.phase))?;
        let options = self.options(target.clone());
        self.tune.run(console, (1, 1), |tune, listener| compiled.tune_object(&options, tune, listener))?;
        match self.emit {
            Emit::Obj => self.object(console, &compiled, &options, &output),
            Emit::Graph => self.text(console, &compiled, Stage::Graph, &target),
            Emit::Loops => self.text(console, &compiled, Stage::Loops, &target),
            Emit::Clif => self.text(console, &compiled, Stage::Clif, &target),
            Emit::Asm => self.text(console, &compiled, Stage::Asm, &target),
        }
    }

    fn target(&self) -> Result<Target, Failure> {
        let mut target = Target::host();
        if let Some(name) = &self.target {
            target.triple = name.parse().map_err(|error| Failure::Usage(format!("`--target {name}`: {error}")))?;
        }
        match self.cpu.as_deref() {
            None => {}
            Some("multi") => return Err(Failure::unsupported("`--cpu multi`")),
            Some(name) => {
                target.cpu = Cpu::from_name(name).ok_or_else(|| {
                    let names = Cpu::NAMED.map(|(name, _)| name).join(", ");
                    Failure::Usage(format!("`--cpu {name}`: the names are {names}"))
                })?;
            }
        }
        if self.tune.is_wanted() && target != Target::host() {
            let machine = if target.cpu == Cpu::Native { "`--target`" } else { "`--cpu`" };
            let message = format!("`--tune` measures on this machine, and {machine} asks for code for another one");
            return Err(Failure::Usage(message));
        }
        Ok(target)
    }

    fn options(&self, target: Target) -> ObjectOptions {
        ObjectOptions {
            prefix: identifier(&self.model.file.file_stem().unwrap_or_default().to_string_lossy()),
            entries: self.entry.iter().map(|entry| entry.0).collect(),
            batches: self.batch.iter().filter_map(|b| usize::try_from(*b).ok()).collect(),
            target,
        }
    }

    fn object(
        &self,
        console: &Console,
        compiled: &Compiled,
        options: &ObjectOptions,
        output: &Path,
    ) -> Result<(), Failure> {
        let header = self.header.clone().unwrap_or_else(|| output.with_extension("h"));
        let object = compiled.object(options)?;
        object.excesses.iter().for_each(|excess| console.warn(excess.to_string()));
        write(output, &object.bytes)?;
        write(&header, object.header.as_bytes())?;
        let (object_name, header_name) = (output.display().to_string(), header.display().to_string());
        if !console.quiet {
            console.result(&format!("{object_name} ({} bytes), {header_name}", object.bytes.len()));
        }
        let bytes = object.bytes.len();
        console.object(&Written {
            event: "compile",
            object: object_name,
            header: header_name,
            bytes,
            prefix: &options.prefix,
        });
        Ok(())
    }

    /// The text of each entry, in the output or on standard output.
    fn text(&self, console: &Console, compiled: &Compiled, stage: Stage, target: &Target) -> Result<(), Failure> {
        let mut text = String::new();
        let rows = self.batch.first().and_then(|b| usize::try_from(*b).ok()).unwrap_or(compiled.nominal_rows());
        let wanted: Vec<Entry> = match self.entry.as_slice() {
            [] => Entry::ALL.iter().map(|(_, e)| *e).filter(|e| compiled.function(*e).is_ok()).collect(),
            some => some.iter().map(|entry| entry.0).collect(),
        };
        for entry in wanted {
            text.push_str(&format!("// {}\n{}\n", entry.name(), compiled.dump(stage, entry, rows, target)?.trim_end()));
        }
        match &self.output {
            Some(path) if path.as_os_str() != "-" => write(path, text.as_bytes()),
            _ => {
                console.result(text.trim_end());
                Ok(())
            }
        }
    }
}

/// Only object files can be made, whatever an output's name asks for.
fn check_kind(output: &Path, emit: Emit) -> Result<(), Failure> {
    let extension = output.extension().and_then(|e| e.to_str()).unwrap_or_default();
    match (emit, extension) {
        (Emit::Obj, "o" | "obj") => Ok(()),
        (Emit::Obj, "") => Err(Failure::unsupported("an executable (an output without extension)")),
        (Emit::Obj, other) => Err(Failure::unsupported(&format!("an output of the kind `.{other}`"))),
        _ => Ok(()),
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let outcome: Result<(), FormatError> = atomic::write(path, |out| out.write_all(bytes));
    outcome.map_err(|e| Diagnostic::error_without_place(e.to_string()).into())
}
