//! `nnc eval F.nn --weights W`: losses and metrics over a split.

use std::path::PathBuf;

use serde::Serialize;

use super::console::Console;
use super::model::{ModelArguments, any_number_of_steps};
use super::train::shapes;
use super::values::{tables_text, values_text};
use super::{Failure, Global};
use crate::diag::{Diagnostic, nearest};
use crate::driver::JitOptions;
use crate::train::event::Values;
use crate::train::measure::evaluate;
use crate::train::sets::DataSets;
use crate::train::source::Places;
use crate::train::{splits, weights};

/// Losses and metrics of trained weights over a split of the data
#[derive(Debug, clap::Args)]
pub struct Eval {
    #[command(flatten)]
    model: ModelArguments,
    /// The weights
    #[arg(long, value_name = "W.safetensors")]
    weights: PathBuf,
    /// The split of the data block
    #[arg(long, default_value = "test", value_name = "NAME")]
    split: String,
    /// The folder that data paths are relative to [default: the file's]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Rows evaluated at once [default: the recipe's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    batch: Option<u64>,
}

#[derive(Serialize)]
struct Evaluated<'a> {
    event: &'static str,
    split: &'a str,
    rows: usize,
    values: &'a Values,
}

impl Eval {
    /// Runs the command.
    pub fn run(&self, console: &Console, global: &Global) -> Result<(), Failure> {
        let compiled = self.model.open(console, |settings| {
            any_number_of_steps(settings);
            settings.batch = self.batch;
        })?;
        let file = self.model.file.display();
        let Some(data) = &compiled.model().data else {
            let message = format!("`{file}` has no `data` block for the model {}", compiled.model().name);
            return Err(Diagnostic::error_without_place(message).into());
        };
        let sources = compiled.project().sources.clone();
        let at = |errors| Failure::Mistakes(errors, sources.clone());
        let split = splits::find(data, &self.split).ok_or_else(|| {
            let diagnostic = Diagnostic::error(data.span, format!("the data block has no split `{}`", self.split));
            at(vec![match nearest(&self.split, data.splits.iter().map(|s| s.name.as_str())) {
                Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
                None => diagnostic,
            }])
        })?;
        let mut sets = DataSets::default();
        let places = Places::new(&self.model.file, self.data.as_deref());
        let split = sets.open(data, split, &shapes(&compiled), &places).map_err(at)?;
        let batch = self.batch.and_then(|b| usize::try_from(b).ok()).unwrap_or(compiled.nominal_rows());
        let batch = batch.min(split.rows.len());
        let mut session = compiled.jit_with(JitOptions { threads: global.threads() })?;
        weights::load(&mut session, &self.weights)?;
        let values = evaluate(&mut session, sets.get(&split), split.rows.clone(), batch)?;
        let rows = split.rows.len();
        console.object(&Evaluated { event: "eval", split: &self.split, rows, values: &values });
        console.result(&format!("{}  {}", self.split, values_text(&values)));
        tables_text(&values).iter().for_each(|line| console.result(line));
        Ok(())
    }
}
