//! The loop: the epochs of one phase, validation, stopping, checkpoints, the best weights.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::diag::Diagnostic;
use crate::driver::{Entry, Report, Session};
use crate::frontend::model::{Every, Recipe};

use super::checkpoint::{self, Checkpoint, Position, RowOrder};
use super::data::RunData;
use super::event::{Epoch, Event, Start, Values};
use super::feed;
use super::measure::{Means, chunks, evaluate, plain};
use super::order::{in_file_order, shuffled, shuffled_in_blocks};
use super::schedule::{Moment, Stopper, Watch};
use super::sets::SplitRows;

/// What the loop tells while it runs.
pub trait Listener {
    /// Takes a line of the history.
    ///
    /// # Errors
    /// If it cannot be written; training ends.
    fn event(&mut self, event: &Event) -> Result<(), Diagnostic>;

    /// Takes what is to be known and is no reason to stop.
    fn warning(&mut self, warning: &Diagnostic);

    /// Called after every step.
    fn progress(&mut self, progress: &Progress<'_>);
}

/// How far an epoch is.
pub struct Progress<'a> {
    pub epoch: u64,
    /// Steps of this epoch done, and in all.
    pub done: usize,
    pub total: usize,
    /// Means over the epoch so far.
    pub means: &'a Values,
}

/// How a phase ended.
pub struct Outcome {
    /// Steps of this phase and those before it.
    pub steps: u64,
    /// Why it ended before its last epoch.
    pub stopped: Option<String>,
    /// Whether the user ended it.
    pub interrupted: bool,
    pub best_epoch: Option<u64>,
}

/// What a phase needs besides the session.
pub struct Plan<'a> {
    pub recipe: &'a Recipe,
    pub data: &'a RunData,
    /// Report every so many steps.
    pub log_every: Option<u64>,
    /// Set from outside to end after the current step.
    pub interrupt: &'a AtomicBool,
    /// Where checkpoints go.
    pub checkpoints: Option<&'a Path>,
    /// Where to go on from.
    pub resume: Option<&'a Checkpoint>,
    /// The steps of the phases before.
    pub earlier_steps: u64,
}

/// Trains one phase by the recipe; afterwards the session holds the last weights, their averages, or the best ones.
///
/// # Errors
/// If a loss is no finite number, data does not fit, the checkpoint is of another run, or something cannot be written.
pub fn train(session: &mut Session, plan: &Plan<'_>, listener: &mut dyn Listener) -> Result<Outcome, Diagnostic> {
    session.set_seed(plan.recipe.phase_seed());
    Run::new(session, plan, listener)?.all()
}

/// Losses and metrics of the test split, if the data has one.
///
/// # Errors
/// If the data does not fit.
pub fn test(session: &mut Session, recipe: &Recipe, data: &RunData) -> Result<Option<Values>, Diagnostic> {
    data.test.as_ref().map(|split| measure(session, recipe, data, split)).transpose()
}

fn measure(session: &mut Session, recipe: &Recipe, data: &RunData, split: &SplitRows) -> Result<Values, Diagnostic> {
    let batch = usize::try_from(recipe.batch).unwrap_or(usize::MAX).min(split.rows.len());
    evaluate(session, data.sets.get(split), split.rows.clone(), batch)
}

/// The state of a phase.
struct Run<'a> {
    session: &'a mut Session,
    plan: &'a Plan<'a>,
    listener: &'a mut dyn Listener,
    position: Position,
    stops: Vec<Stopper>,
    keep: Option<Watch>,
    /// The best weights so far; `position` knows their epoch.
    best: Option<Vec<u8>>,
    /// Why the phase ends before its last epoch.
    stopped: Option<String>,
    interrupted: bool,
    /// When the last checkpoint was written.
    saved: Instant,
}

/// How a pass over the rows ended.
struct Pass {
    means: Means,
    wait: Duration,
    /// Whether every row has been seen.
    whole: bool,
}

impl<'a> Run<'a> {
    fn new(
        session: &'a mut Session,
        plan: &'a Plan<'a>,
        listener: &'a mut dyn Listener,
    ) -> Result<Run<'a>, Diagnostic> {
        let has_validation = plan.data.validation.is_some();
        let stops = plan.recipe.stop.iter().map(|s| Stopper::new(s, has_validation)).collect::<Result<_, _>>()?;
        let keep = plan.recipe.keep_best.as_ref().map(|metric| Watch::new(metric, has_validation)).transpose()?;
        let model = session.compiled().model().name.clone();
        let order = row_order(plan);
        let mut run = Run {
            position: Position::start(&model, plan.recipe, order.clone(), plan.earlier_steps),
            session,
            plan,
            listener,
            stops,
            keep,
            best: None,
            stopped: None,
            interrupted: false,
            saved: Instant::now(),
        };
        if let Some(checkpoint) = plan.resume {
            checkpoint.check(&model, &order)?;
            run.resume(checkpoint)?;
        }
        Ok(run)
    }

    fn resume(&mut self, checkpoint: &Checkpoint) -> Result<(), Diagnostic> {
        self.best = checkpoint.restore(self.session)?;
        self.position = checkpoint.position.clone();
        if let (Some(keep), Some(memory)) = (&mut self.keep, &self.position.keep) {
            keep.remember(memory);
        }
        let watches = self.stops.iter_mut().filter_map(Stopper::watch);
        watches.zip(&self.position.stops).for_each(|(watch, memory)| watch.remember(memory));
        Ok(())
    }

    fn all(mut self) -> Result<Outcome, Diagnostic> {
        self.start()?;
        let mut saved = false;
        while !self.is_finished() {
            saved = self.epoch()?;
        }
        if !saved {
            self.save()?;
        }
        let best_epoch = self.finish();
        let steps = self.position.earlier_steps + self.position.steps;
        Ok(Outcome { steps, stopped: self.stopped, interrupted: self.interrupted, best_epoch })
    }

    /// Compiles the step and reports what is about to happen.
    fn start(&mut self) -> Result<(), Diagnostic> {
        let (recipe, data) = (self.plan.recipe, self.plan.data);
        let has_rows = data.sets.get(&data.train).rows().is_some();
        let batch = self.position.order.rows_of_a_step;
        let begin = Instant::now();
        self.session.prepare(Entry::TrainStep, batch).map_err(|e| plain(&e))?;
        let compile_ms = begin.elapsed().as_secs_f64() * 1e3;
        if let Some(excess) = self.session.excess(Entry::TrainStep, batch) {
            self.listener.warning(&Diagnostic::warning_without_place(excess.to_string()));
        }
        let elements = |trained_only: bool| {
            let slots = self.session.parameters().slots().iter().filter(|s| s.trained || !trained_only);
            slots.map(|s| s.shape.iter().product::<usize>()).sum()
        };
        let start = Start {
            model: self.position.model.clone(),
            phase: recipe.phase.clone(),
            parameters: elements(false),
            trainable: elements(true),
            compile_ms,
            rows: has_rows.then_some(data.train.rows.len()),
            val_rows: data.validation.as_ref().filter(|_| has_rows).map(|v| v.rows.len()),
            batch,
            epochs: recipe.epochs,
            steps: recipe.steps,
            seed: recipe.seed,
            resumed: self.plan.resume.map(|c| c.position.earlier_steps + c.position.steps),
        };
        self.listener.event(&Event::Start(start))
    }

    fn is_finished(&self) -> bool {
        let recipe = self.plan.recipe;
        self.stopped.is_some()
            || recipe.epochs.is_some_and(|epochs| self.position.epoch > epochs)
            || recipe.steps.is_some_and(|steps| self.position.steps >= steps)
            || (recipe.epochs.is_none() && recipe.steps.is_none())
    }

    /// Runs an epoch, or what is left of it; whether a checkpoint of its end has been written.
    fn epoch(&mut self) -> Result<bool, Diagnostic> {
        let begin = Instant::now();
        let epoch = self.position.epoch;
        let number = i32::try_from(epoch)
            .map_err(|_| Diagnostic::error(self.plan.recipe.span, "more than 2147483647 epochs are not supported"))?;
        self.session.set_epoch(number);
        let pass = self.steps_of_epoch()?;
        if !pass.whole {
            // From here the epoch goes on when it is resumed, so nothing that its end brings is part of the checkpoint.
            self.position.means = pass.means.memory();
            self.save()?;
        }
        let train = pass.means.values();
        let val = self.validate()?;
        self.watch(&train, val.as_ref());
        let event = Epoch {
            phase: self.plan.recipe.phase.clone(),
            epoch,
            step: self.position.earlier_steps + self.position.steps,
            seconds: begin.elapsed().as_secs_f64(),
            data_wait: pass.wait.as_secs_f64(),
            train,
            val,
        };
        self.listener.event(&Event::Epoch(event))?;
        if !pass.whole {
            return Ok(true);
        }
        self.position.epoch += 1;
        self.position.batch = 0;
        self.position.means = Means::default().memory();
        let due = match self.plan.recipe.checkpoint {
            None => true,
            Some(Every::Epochs(every)) => epoch.is_multiple_of(every),
            Some(_) => false,
        };
        if due {
            self.save()?;
        }
        Ok(due)
    }

    fn steps_of_epoch(&mut self) -> Result<Pass, Diagnostic> {
        let data = self.plan.data;
        let (recipe, epoch) = (self.plan.recipe, self.position.epoch);
        let dataset = data.sets.get(&data.train);
        let rows = data.train.rows.clone();
        let seed = recipe.phase_seed();
        let order = match (recipe.shuffle, dataset.mixing()) {
            (true, None) => shuffled(rows.len(), seed, epoch as u32),
            (true, Some(mixing)) => shuffled_in_blocks(rows.len(), mixing, seed, epoch as u32),
            (false, _) => in_file_order(rows.len()),
        };
        let batch = self.position.order.rows_of_a_step;
        let total = chunks(dataset, &order, batch).len();
        let done = self.position.batch;
        // A run that is resumed within an epoch goes on with the batches that are left.
        let left = &order[done.saturating_mul(batch).min(order.len())..];
        feed::ahead(dataset, chunks(dataset, left, batch), rows.start, |batches| {
            let mut means = Means::remember(&self.position.means);
            for (index, chunk) in chunks(dataset, &order, batch).enumerate().skip(done) {
                let gathered = batches.next(chunk)?;
                let report = self.session.train_step(&gathered.fields()).map_err(|e| plain(&e))?;
                self.position.steps += 1;
                self.position.batch = index + 1;
                self.check_finite(&report)?;
                means.add(&report, chunk.len());
                self.log(&report)?;
                self.listener.progress(&Progress { epoch, done: index + 1, total, means: &means.values() });
                self.save_if_due(&means)?;
                if self.plan.interrupt.load(Ordering::Relaxed) {
                    self.interrupted = true;
                    self.stopped = Some("interrupted".into());
                    break;
                }
                if recipe.steps.is_some_and(|steps| self.position.steps >= steps) {
                    break;
                }
            }
            Ok(Pass { means, wait: batches.wait(), whole: self.position.batch >= total })
        })
    }

    fn log(&mut self, report: &Report) -> Result<(), Diagnostic> {
        let step = self.position.earlier_steps + self.position.steps;
        if !self.plan.log_every.is_some_and(|every| every > 0 && step.is_multiple_of(every)) {
            return Ok(());
        }
        let train = Values(report.values().map(|(name, value)| (name.to_owned(), value.into())).collect());
        self.listener.event(&Event::Step { step, train })
    }

    /// Writes a checkpoint in the middle of an epoch, if it is time.
    fn save_if_due(&mut self, means: &Means) -> Result<(), Diagnostic> {
        let due = match self.plan.recipe.checkpoint {
            Some(Every::Steps(every)) => self.position.steps.is_multiple_of(every),
            Some(Every::Minutes(minutes)) => self.saved.elapsed().as_secs_f64() >= minutes * 60.0,
            Some(Every::Epochs(_)) | None => false,
        };
        if due {
            self.position.means = means.memory();
            self.save()?;
        }
        Ok(())
    }

    /// Writes a checkpoint, if there is a place for it.
    fn save(&mut self) -> Result<(), Diagnostic> {
        self.saved = Instant::now();
        let Some(folder) = self.plan.checkpoints else { return Ok(()) };
        self.position.keep = self.keep.as_ref().map(Watch::memory);
        self.position.stops = self.stops.iter_mut().filter_map(Stopper::watch).map(|w| w.memory()).collect();
        checkpoint::save(self.session, &self.position, self.best.as_deref(), folder)
    }

    fn check_finite(&self, report: &Report) -> Result<(), Diagnostic> {
        let Some((name, value)) = report.losses.iter().find(|(_, value)| !value.is_finite()) else { return Ok(()) };
        let (step, epoch) = (self.position.steps, self.position.epoch);
        let message = format!("the loss `{name}` is {value} at step {step} (epoch {epoch})");
        let minimize = self.plan.recipe.minimize.iter().find(|m| m.loss == *name);
        let span = minimize.map_or(self.plan.recipe.span, |m| m.span);
        Err(Diagnostic::error(span, message).help("a lower learning rate often helps; is the data scaled?"))
    }

    /// Evaluates the validation rows, with the averages in the place of the weights where there are any.
    fn validate(&mut self) -> Result<Option<Values>, Diagnostic> {
        let Some(split) = &self.plan.data.validation else { return Ok(None) };
        let mut averaged = self.session.averaged();
        if let Some(averaged) = &mut averaged {
            self.session.swap_parameters(averaged);
        }
        let values = measure(self.session, self.plan.recipe, self.plan.data, split);
        if let Some(averaged) = &mut averaged {
            self.session.swap_parameters(averaged);
        }
        values.map(Some)
    }

    /// Keeps the weights if they are the best, and decides whether to stop.
    fn watch(&mut self, train: &Values, validation: Option<&Values>) {
        let epoch = self.position.epoch;
        if let Some(keep) = &mut self.keep
            && keep.observe(train, validation)
        {
            self.best = Some(self.session.averaged().unwrap_or_else(|| self.session.parameter_bytes().to_vec()));
            self.position.best_epoch = Some(epoch);
        }
        let now = Moment { epoch, steps: self.position.steps, train, validation };
        for stop in &mut self.stops {
            let reason = stop.observe(&now);
            if self.stopped.is_none() {
                self.stopped = reason;
            }
        }
    }

    /// Leaves the weights in the session that the phase is for; the epoch of the best ones, if those were to be kept.
    fn finish(&mut self) -> Option<u64> {
        let best = self.best.take();
        let epoch = self.position.best_epoch.filter(|_| best.is_some());
        if let Some(weights) = best.or_else(|| self.session.averaged()) {
            self.session.parameter_bytes_mut().copy_from_slice(&weights);
        }
        epoch
    }
}

/// What decides the rows of each step; a full batch is no more than there are rows.
fn row_order(plan: &Plan<'_>) -> RowOrder {
    let asked = usize::try_from(plan.recipe.batch).unwrap_or(usize::MAX);
    let rows = plan.data.train.rows.len();
    let has_rows = plan.data.sets.get(&plan.data.train).rows().is_some();
    let rows_of_a_step = if has_rows { asked.min(rows) } else { asked };
    RowOrder { seed: plan.recipe.seed, rows, rows_of_a_step, shuffle: plan.recipe.shuffle }
}
