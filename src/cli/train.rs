//! `nnc train F.nn`: the recipe of a file, run.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::console::Console;
use super::model::ModelArguments;
use super::reporter::Reporter;
use super::{Failure, Global};
use crate::diag::Diagnostic;
use crate::driver::{Compiled, JitOptions, Settings};
use crate::train::data::RunData;
use crate::train::dataset::Shapes;
use crate::train::event::Event;
use crate::train::run::{Listener, Plan, train};
use crate::train::source::Places;
use crate::train::weights;

/// Train a model by its recipe; test metrics at the end if the data has a `test` split
#[derive(Debug, clap::Args)]
pub struct Train {
    #[command(flatten)]
    model: ModelArguments,
    /// The folder that data paths are relative to [default: the file's]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Passes over the training rows
    #[arg(long, value_name = "N")]
    epochs: Option<u64>,
    /// Training steps, if they end before the epochs
    #[arg(long, value_name = "N")]
    steps: Option<u64>,
    /// Rows in a step
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    batch: Option<u64>,
    /// The learning rate
    #[arg(long, value_name = "X", value_parser = learning_rate)]
    lr: Option<f64>,
    /// The seed of all random numbers
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Keep the rows in file order
    #[arg(long)]
    no_shuffle: bool,
    /// Start from these weights
    #[arg(long, value_name = "W.safetensors")]
    init: Option<PathBuf>,
    /// Write the weights here at the end
    #[arg(long, value_name = "W.safetensors")]
    save: Option<PathBuf>,
    /// Write the JSON lines of the run here
    #[arg(long, value_name = "H.jsonl")]
    history: Option<PathBuf>,
    /// Report the losses of every K-th step
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u64).range(1..))]
    log_every: Option<u64>,
    #[arg(long, hide = true)]
    checkpoint: Option<PathBuf>,
    #[arg(long, hide = true)]
    resume: Option<PathBuf>,
    #[arg(long, hide = true)]
    tensorboard: Option<PathBuf>,
    #[arg(long, hide = true)]
    report: Option<PathBuf>,
}

/// Set by Ctrl-C.
static INTERRUPT: AtomicBool = AtomicBool::new(false);

impl Train {
    /// Runs the command.
    pub fn run(&self, console: &Console, global: &Global) -> Result<(), Failure> {
        self.refuse_unsupported()?;
        let mut compiled = self.model.open(console, |settings| self.change(settings, 1))?;
        let data = load_data(&compiled, &self.model.file, self.data.as_deref())?;
        self.check_targets()?;
        let recipe = compiled.model().recipe.clone().expect("`load_data` has seen the recipe");
        if recipe.steps.is_none() {
            // Only now is it known how many steps there will be, which a schedule may ask for.
            compiled = self.model.check(|settings| self.change(settings, data.steps(&recipe)))?;
        }
        let sources = compiled.project().sources.clone();
        let mut session = compiled.jit_with(JitOptions { threads: global.threads() })?;
        if let Some(path) = &self.init {
            weights::load(&mut session, path)?;
        }
        listen_to_ctrl_c();
        let mut reporter = Reporter::new(console, self.history.as_deref(), recipe.epochs)?;
        let plan = Plan { recipe: &recipe, data: &data, log_every: self.log_every, interrupt: &INTERRUPT };
        let outcome = train(&mut session, &plan, &mut reporter).map_err(|e| Failure::Mistakes(e, sources))?;
        if let Some(path) = &self.save {
            weights::save(&session, path)?;
        }
        let done = outcome.done(self.save.as_ref().map(|path| path.display().to_string()));
        Ok(reporter.event(&Event::Done(done))?)
    }

    /// What the command line changes in the recipe.
    fn change(&self, settings: &mut Settings, total_steps: u64) {
        settings.epochs = self.epochs;
        settings.steps = self.steps;
        settings.batch = self.batch;
        settings.learning_rate = self.lr;
        settings.seed = self.seed;
        settings.shuffle = self.no_shuffle.then_some(false);
        settings.total_steps = Some(total_steps);
    }

    fn refuse_unsupported(&self) -> Result<(), Failure> {
        let flags = [
            ("--checkpoint", &self.checkpoint),
            ("--resume", &self.resume),
            ("--tensorboard", &self.tensorboard),
            ("--report", &self.report),
        ];
        match flags.iter().find(|(_, value)| value.is_some()) {
            Some((flag, _)) => Err(Failure::unsupported(&format!("`{flag}`"))),
            None => Ok(()),
        }
    }

    /// A missing folder is better found before the training than after it.
    fn check_targets(&self) -> Result<(), Failure> {
        for path in [&self.save, &self.history].into_iter().flatten() {
            let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
            if let Some(folder) = folder.filter(|f| !f.is_dir()) {
                let message = format!("cannot write `{}`: there is no folder `{}`", path.display(), folder.display());
                return Err(Diagnostic::error_without_place(message).into());
            }
            if path.is_dir() {
                let message = format!("cannot write `{}`: it is a folder", path.display());
                return Err(Diagnostic::error_without_place(message).into());
            }
        }
        Ok(())
    }
}

fn learning_rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.0..=f64::MAX).contains(&rate) => Ok(rate),
        _ => Err("a learning rate is a number from 0".into()),
    }
}

/// What the fields of a model need to be read.
pub fn shapes(compiled: &Compiled) -> Shapes<'_> {
    Shapes { fields: compiled.model().fields.iter().collect(), batch: compiled.batch_symbol() }
}

/// Reads the splits that the recipe needs.
fn load_data(compiled: &Compiled, file: &Path, root: Option<&Path>) -> Result<RunData, Failure> {
    let model = compiled.model();
    let lacks = |what: &str, example: &str| {
        let message = format!("`{}` has no `{what}` block for the model {}", file.display(), model.name);
        Failure::from(Diagnostic::error_without_place(message).help(example.to_owned()))
    };
    let Some(recipe) = &model.recipe else {
        return Err(lacks("train", "add `train { epochs 10; batch 32; minimize LOSS with adam }`"));
    };
    let Some(data) = &model.data else {
        return Err(lacks(
            "data",
            "add `data { train { FIELD = idx(\"file\") } }`, one line for each input and target",
        ));
    };
    RunData::load(data, recipe, &shapes(compiled), &Places::new(file, root))
        .map_err(|errors| Failure::Mistakes(errors, compiled.project().sources.clone()))
}

/// The first Ctrl-C ends training after the current step, the second one at once.
fn listen_to_ctrl_c() {
    let handler = || {
        if INTERRUPT.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    };
    // Without the handler Ctrl-C still ends the process, only less cleanly.
    let _ = ctrlc::set_handler(handler);
}
