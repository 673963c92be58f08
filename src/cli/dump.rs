//! `nnc dump F.nn --stage S`: the text of a stage.

use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

use super::Failure;
use super::console::Console;
use super::model::{EntryName, ModelArguments};
use crate::driver::{Compiled, Entry, Error, Observer, Stage, Target};

/// Print what the compiler makes of a model, stage by stage
#[derive(Debug, clap::Args)]
pub struct Dump {
    #[command(flatten)]
    model: ModelArguments,
    /// The stage
    #[arg(long, value_enum, value_name = "STAGE", required_unless_present_any = ["dump_after", "stop_after"])]
    stage: Option<StageName>,
    /// The function [default: infer; train_step for the stage grad]
    #[arg(long, value_enum, value_name = "ENTRY")]
    entry: Option<EntryName>,
    /// The phase of the recipe whose training step is meant [default: the first]
    #[arg(long, value_name = "NAME")]
    phase: Option<String>,
    /// Rows of the batch [default: the recipe's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    batch: Option<u64>,
    /// Print what this pass yields; may be given several times
    #[arg(long, value_name = "PASS")]
    dump_after: Vec<String>,
    /// Go no further than this pass, and print what it yields
    #[arg(long, value_name = "PASS")]
    stop_after: Option<String>,
}

/// The stages by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct StageName(Stage);

impl ValueEnum for StageName {
    fn value_variants<'a>() -> &'a [Self] {
        const ALL: [StageName; Stage::ALL.len()] = {
            let mut all = [StageName(Stage::ALL[0].1); Stage::ALL.len()];
            let mut i = 0;
            while i < all.len() {
                all[i] = StageName(Stage::ALL[i].1);
                i += 1;
            }
            all
        };
        &ALL
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Stage::ALL.iter().find(|(_, stage)| *stage == self.0).map(|(name, _)| clap::builder::PossibleValue::new(*name))
    }
}

#[derive(Serialize)]
struct Dumped<'a> {
    event: &'static str,
    stage: &'a str,
    text: &'a str,
}

impl Dump {
    /// Runs the command.
    pub fn run(&self, console: &Console) -> Result<(), Failure> {
        let compiled = self.model.open(console, |settings| settings.phase.clone_from(&self.phase))?;
        let rows = self.batch.and_then(|b| usize::try_from(b).ok()).unwrap_or(compiled.nominal_rows());
        if !self.dump_after.is_empty() || self.stop_after.is_some() {
            return self.passes(console, &compiled, rows);
        }
        let stage = self.stage.expect("clap asks for a stage where no pass is named").0;
        let text = compiled.dump(stage, self.entry(stage == Stage::Grad), rows, &Target::host())?;
        let name = Stage::ALL.iter().find(|(_, s)| *s == stage).map_or("", |(name, _)| name);
        print(console, name, &text);
        Ok(())
    }

    fn entry(&self, training: bool) -> Entry {
        self.entry.map_or(if training { Entry::TrainStep } else { Entry::Infer }, |entry| entry.0)
    }

    /// Prints after each of the passes that were named.
    fn passes(&self, console: &Console, compiled: &Compiled, rows: usize) -> Result<(), Failure> {
        let mut printer = Printer { dump: self, console, seen: Vec::new() };
        let sizes = compiled.sizes(rows)?;
        let outcome = compiled.program(self.entry(false), &sizes, &Target::host(), &mut printer);
        match outcome {
            Ok(_) | Err(Error::Stopped(_)) => {}
            Err(error) => return Err(error.into()),
        }
        let named = self.dump_after.iter().chain(&self.stop_after);
        match named.into_iter().find(|name| !printer.seen.contains(name)) {
            Some(name) => Err(Error::NoPass { pass: name.clone(), passes: printer.seen.join(", ") }.into()),
            None => Ok(()),
        }
    }
}

struct Printer<'a> {
    dump: &'a Dump,
    console: &'a Console,
    seen: Vec<String>,
}

impl Observer for Printer<'_> {
    fn stage(&mut self, name: &str, time: Duration, text: &dyn Fn() -> String) -> bool {
        self.seen.push(name.to_owned());
        let stops = self.dump.stop_after.as_deref() == Some(name);
        if stops || self.dump.dump_after.iter().any(|wanted| wanted == name) {
            self.console.result(&format!("// after {name}, {:.3} ms", time.as_secs_f64() * 1e3));
            print(self.console, name, &text());
        }
        !stops
    }
}

fn print(console: &Console, stage: &str, text: &str) {
    console.object(&Dumped { event: "dump", stage, text });
    console.result(text.trim_end_matches('\n'));
}
