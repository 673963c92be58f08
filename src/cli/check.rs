//! `nnc check F.nn`: parse, names, types, shapes; all independent mistakes.

use serde::Serialize;

use super::Failure;
use super::console::Console;
use super::model::{ModelArguments, any_number_of_steps};

/// Check a file: syntax, names, types, shapes
#[derive(Debug, clap::Args)]
pub struct Check {
    #[command(flatten)]
    model: ModelArguments,
}

#[derive(Serialize)]
struct Checked<'a> {
    event: &'static str,
    model: &'a str,
    warnings: usize,
}

impl Check {
    /// Runs the command.
    pub fn run(&self, console: &Console) -> Result<(), Failure> {
        let compiled = self.model.open(console, any_number_of_steps)?;
        let model = &compiled.model().name;
        console.object(&Checked { event: "check", model, warnings: compiled.warnings().len() });
        if !console.quiet {
            console.result(&format!("{}: no mistakes in the model {model}", self.model.file.display()));
        }
        // The process ends: to give back a large model piece by piece would take a tenth of the time.
        std::mem::forget(compiled);
        Ok(())
    }
}
