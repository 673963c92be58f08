//! `nnc train F.nn`: the recipe of a file, run.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::console::Console;
use super::model::ModelArguments;
use super::reporter::Reporter;
use super::{Failure, Global};
use crate::diag::Diagnostic;
use crate::driver::{Compiled, JitOptions, Session, Settings};
use crate::frontend::model::Recipe;
use crate::train::checkpoint::Checkpoint;
use crate::train::data::RunData;
use crate::train::dataset::Shapes;
use crate::train::event::{Done, Event, Values};
use crate::train::run::{Listener, Outcome, Plan, test, train};
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
    /// Write checkpoints into this folder, after every epoch unless the recipe says when
    #[arg(long, value_name = "DIR")]
    checkpoint: Option<PathBuf>,
    /// Go on from the checkpoint in this folder, and write further ones there
    #[arg(long, value_name = "DIR", conflicts_with = "init")]
    resume: Option<PathBuf>,
    /// Write losses and metrics for TensorBoard into this folder
    #[arg(long, value_name = "DIR")]
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
        let begin = Instant::now();
        let compiled = self.model.open(console, |settings| self.change(settings, None, 1))?;
        let sources = compiled.project().sources.clone();
        let data = load_data(&compiled, &self.model.file, self.data.as_deref())?;
        self.check_targets()?;
        let recipe = compiled.model().recipe.clone().expect("`load_data` has seen the recipe");
        let resume = self.resume.as_deref().map(Checkpoint::open).transpose()?;
        let first = match &resume {
            Some(checkpoint) => place_of(&checkpoint.position.phase, &recipe)?,
            None => 0,
        };
        let folder = self.checkpoint_folder(&recipe);
        let mut reporter = Reporter::new(console, self.history.as_deref(), resume.is_some())?
            .with_tensorboard(self.tensorboard.as_deref())?;
        listen_to_ctrl_c();
        let at = |error| Failure::Mistakes(vec![error], sources.clone());
        let (mut weights, mut steps) = (None, resume.as_ref().map_or(0, |c| c.position.earlier_steps));
        for (number, phase) in recipe.phases.iter().enumerate().skip(first) {
            let compiled = self.compile_phase(phase, &data)?;
            let recipe = compiled.model().recipe.clone().expect("the model has a recipe");
            let mut session = compiled.jit_with(JitOptions { threads: global.threads() })?;
            let resume = resume.as_ref().filter(|_| number == first);
            if resume.is_none() {
                self.first_weights(&mut session, &recipe, weights.as_deref()).map_err(at)?;
            }
            let plan = Plan {
                recipe: &recipe,
                data: &data,
                log_every: self.log_every,
                interrupt: &INTERRUPT,
                checkpoints: folder.as_deref(),
                resume,
                earlier_steps: steps,
            };
            let outcome = train(&mut session, &plan, &mut reporter).map_err(at)?;
            steps = outcome.steps;
            if outcome.interrupted || number + 1 == recipe.phases.len() {
                let test = test(&mut session, &recipe, &data).map_err(at)?;
                return self.done(&session, outcome, test, begin, &mut reporter);
            }
            weights = Some(session.parameter_bytes().to_vec());
        }
        Ok(())
    }

    /// The model with the training step of one phase. Only when the data is known is it known how many steps there will be, which a schedule may ask for.
    fn compile_phase(&self, phase: &str, data: &RunData) -> Result<Compiled, Failure> {
        let compiled = self.model.check(|settings| self.change(settings, Some(phase), 1))?;
        let recipe = compiled.model().recipe.as_ref().expect("the model has a recipe");
        match recipe.steps {
            Some(_) => Ok(compiled),
            None => self.model.check(|settings| self.change(settings, Some(phase), data.steps(recipe))),
        }
    }

    /// The weights that a phase begins with: those of the phase before or of `--init`, then what the recipe loads.
    fn first_weights(&self, session: &mut Session, recipe: &Recipe, before: Option<&[u8]>) -> Result<(), Diagnostic> {
        match (before, &self.init) {
            (Some(before), _) => session.parameter_bytes_mut().copy_from_slice(before),
            (None, Some(path)) => weights::load(session, path)?,
            (None, None) => {}
        }
        let folder = self.model.file.parent().map(Path::to_owned).unwrap_or_default();
        recipe.load.iter().try_for_each(|load| weights::load_for_recipe(session, load, &folder))
    }

    /// Saves the weights and reports the end.
    fn done(
        &self,
        session: &Session,
        outcome: Outcome,
        test: Option<Values>,
        begin: Instant,
        reporter: &mut Reporter<'_>,
    ) -> Result<(), Failure> {
        if let Some(path) = &self.save {
            weights::save(session, path)?;
        }
        let done = Done {
            steps: outcome.steps,
            seconds: begin.elapsed().as_secs_f64(),
            stopped: outcome.stopped,
            best_epoch: outcome.best_epoch,
            test,
            weights: self.save.as_ref().map(|path| path.display().to_string()),
        };
        Ok(reporter.event(&Event::Done(done))?)
    }

    /// Where checkpoints go: as the command line says, to where the run goes on from, or, if the recipe asks for some, beside the file.
    fn checkpoint_folder(&self, recipe: &Recipe) -> Option<PathBuf> {
        let beside = || self.model.file.with_extension("checkpoints");
        self.checkpoint.clone().or_else(|| self.resume.clone()).or_else(|| recipe.checkpoint.map(|_| beside()))
    }

    /// What the command line changes in the recipe.
    fn change(&self, settings: &mut Settings, phase: Option<&str>, total_steps: u64) {
        settings.phase = phase.map(str::to_owned);
        settings.epochs = self.epochs;
        settings.steps = self.steps;
        settings.batch = self.batch;
        settings.learning_rate = self.lr;
        settings.seed = self.seed;
        settings.shuffle = self.no_shuffle.then_some(false);
        settings.total_steps = Some(total_steps);
    }

    fn refuse_unsupported(&self) -> Result<(), Failure> {
        match &self.report {
            Some(_) => Err(Failure::unsupported("`--report`")),
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

/// The number of the phase that a checkpoint is of.
fn place_of(phase: &str, recipe: &Recipe) -> Result<usize, Failure> {
    recipe.phases.iter().position(|p| p == phase).ok_or_else(|| {
        let message = format!("training cannot go on: the recipe has no phase `{phase}`");
        Diagnostic::error_without_place(message).help(format!("it has {}", recipe.phases.join(", "))).into()
    })
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
