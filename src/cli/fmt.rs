//! `nnc fmt F.nn...`: the canonical layout.

use std::io::stdin;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Failure;
use super::console::Console;
use crate::diag::{Diagnostic, Sources};
use crate::driver::{Formatted, format_file, format_stream};
use crate::formats::atomic;

/// Set the canonical layout of files, comments included
#[derive(Debug, clap::Args)]
pub struct Fmt {
    /// The .nn files; `-` reads standard input and writes standard output
    #[arg(value_name = "F.nn", required = true)]
    files: Vec<PathBuf>,
    /// Write nothing; list the files that would change, and fail if there are any
    #[arg(long)]
    check: bool,
}

#[derive(Serialize)]
struct Laid<'a> {
    event: &'static str,
    file: &'a str,
    /// Whether the file had another layout.
    changed: bool,
    /// The result, where it goes to standard output.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
}

impl Fmt {
    /// Runs the command. A file that is wrong is reported and left alone; the others are laid out all the same.
    pub fn run(&self, console: &Console) -> Result<(), Failure> {
        let (mut changed, mut wrong) = (0, false);
        for path in &self.files {
            match self.file(console, path) {
                Ok(differs) => changed += usize::from(differs),
                Err(Failure::Mistakes(diagnostics, sources)) => {
                    console.report(&diagnostics, &sources);
                    wrong = true;
                }
                Err(usage) => return Err(usage),
            }
        }
        let mut mistakes = Vec::new();
        if self.check && changed > 0 {
            let what = if changed == 1 { "one file has".to_owned() } else { format!("{changed} files have") };
            let message = format!("{what} another layout; `nnc fmt` without `--check` sets it");
            mistakes.push(Diagnostic::error_without_place(message));
        }
        if wrong || !mistakes.is_empty() { Err(Failure::Mistakes(mistakes, Sources::default())) } else { Ok(()) }
    }

    /// Lays out one file and says whether it had another layout.
    fn file(&self, console: &Console, path: &Path) -> Result<bool, Failure> {
        let standard = path == Path::new("-");
        let formatted = if standard { format_stream("<stdin>", stdin().lock())? } else { format_file(path)? };
        let changed = formatted.differs();
        let name = path.display().to_string();
        let to_output = standard && !self.check;
        let text = to_output.then_some(formatted.text.as_str());
        if to_output && !console.json {
            console.raw(formatted.text.as_bytes());
        } else if changed && self.check {
            console.result(if standard { "<stdin>" } else { &name });
        }
        if changed && !self.check && !standard {
            write(path, &formatted)?;
            if !console.quiet {
                console.result(&format!("{name}: formatted"));
            }
        }
        console.object(&Laid { event: "fmt", file: &name, changed, text });
        Ok(changed)
    }
}

/// Replaces the file, or what it is a link to.
fn write(path: &Path, formatted: &Formatted) -> Result<(), Failure> {
    let target = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    atomic::write(&target, |out| out.write_all(formatted.text.as_bytes()))
        .map_err(|error| Diagnostic::error_without_place(error.to_string()).into())
}
