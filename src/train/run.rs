//! The loop: epochs of steps, validation, stopping, the best weights, the test.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::diag::Diagnostic;
use crate::driver::{Entry, Report, Session};
use crate::frontend::model::Recipe;

use super::data::RunData;
use super::event::{Done, Epoch, Event, Start, Values};
use super::measure::{Means, chunks, evaluate, gather, plain};
use super::order::{in_file_order, shuffled};
use super::schedule::Watch;
use super::sets::SplitRows;

/// What the loop tells while it runs.
pub trait Listener {
    /// Takes a line of the history.
    ///
    /// # Errors
    /// If it cannot be written; training ends.
    fn event(&mut self, event: &Event) -> Result<(), Diagnostic>;

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

/// How a run ended.
pub struct Outcome {
    pub steps: u64,
    pub seconds: f64,
    pub stopped: Option<String>,
    pub best_epoch: Option<u64>,
    pub test: Option<Values>,
}

impl Outcome {
    /// The last event.
    pub fn done(self, weights: Option<String>) -> Done {
        let Outcome { steps, seconds, stopped, best_epoch, test } = self;
        Done { steps, seconds, stopped, best_epoch, test, weights }
    }
}

/// What a run needs besides the session.
pub struct Plan<'a> {
    pub recipe: &'a Recipe,
    pub data: &'a RunData,
    /// Report every so many steps.
    pub log_every: Option<u64>,
    /// Set from outside to end after the current step.
    pub interrupt: &'a AtomicBool,
}

/// Trains by the recipe; afterwards the session holds the last weights, or the best ones.
///
/// # Errors
/// If a loss is no finite number, data does not fit, or the listener cannot write.
pub fn train(session: &mut Session, plan: &Plan<'_>, listener: &mut dyn Listener) -> Result<Outcome, Vec<Diagnostic>> {
    Run::new(session, plan, listener).map_err(|e| vec![e])?.all()
}

/// The state of a run.
struct Run<'a> {
    session: &'a mut Session,
    plan: &'a Plan<'a>,
    listener: &'a mut dyn Listener,
    stops: Vec<(Watch, u64)>,
    keep: Option<Watch>,
    /// The best weights so far and their epoch.
    best: Option<(Vec<u8>, u64)>,
    steps: u64,
    /// Why training ends before its last epoch.
    stopped: Option<String>,
}

/// One epoch's means and the time its steps waited for data.
struct Pass {
    means: Means,
    wait: Duration,
}

impl<'a> Run<'a> {
    fn new(
        session: &'a mut Session,
        plan: &'a Plan<'a>,
        listener: &'a mut dyn Listener,
    ) -> Result<Run<'a>, Diagnostic> {
        let has_validation = plan.data.validation.is_some();
        let stops = plan.recipe.stop.iter();
        let stops = stops.map(|s| Ok((Watch::new(&s.metric, has_validation)?, s.epochs))).collect::<Result<_, _>>()?;
        let keep = plan.recipe.keep_best.as_ref().map(|metric| Watch::new(metric, has_validation)).transpose()?;
        Ok(Run { session, plan, listener, stops, keep, best: None, steps: 0, stopped: None })
    }

    fn all(mut self) -> Result<Outcome, Vec<Diagnostic>> {
        let begin = Instant::now();
        self.start().map_err(|e| vec![e])?;
        let mut epoch = 0;
        while !self.is_finished(epoch) {
            epoch += 1;
            self.epoch(epoch).map_err(|e| vec![e])?;
        }
        let best_epoch = self.restore_best();
        let test = match &self.plan.data.test {
            Some(split) => Some(self.evaluate(split).map_err(|e| vec![e])?),
            None => None,
        };
        let seconds = begin.elapsed().as_secs_f64();
        Ok(Outcome { steps: self.steps, seconds, stopped: self.stopped, best_epoch, test })
    }

    /// Compiles the step and reports what is about to happen.
    fn start(&mut self) -> Result<(), Diagnostic> {
        let (recipe, data) = (self.plan.recipe, self.plan.data);
        let has_rows = data.sets.get(&data.train).rows().is_some();
        let batch = self.batch();
        let begin = Instant::now();
        self.session.prepare(Entry::TrainStep, batch).map_err(|e| plain(&e))?;
        let compile_ms = begin.elapsed().as_secs_f64() * 1e3;
        let elements = |trained_only: bool| {
            let slots = self.session.parameters().slots().iter().filter(|s| s.trained || !trained_only);
            slots.map(|s| s.shape.iter().product::<usize>()).sum()
        };
        let start = Start {
            model: self.session.compiled().model().name.clone(),
            parameters: elements(false),
            trainable: elements(true),
            compile_ms,
            rows: has_rows.then_some(data.train.rows.len()),
            val_rows: data.validation.as_ref().filter(|_| has_rows).map(|v| v.rows.len()),
            batch,
            epochs: recipe.epochs,
            steps: recipe.steps,
            seed: recipe.seed,
        };
        self.listener.event(&Event::Start(start))
    }

    /// Rows of a full batch, which is no more than there are.
    fn batch(&self) -> usize {
        let asked = usize::try_from(self.plan.recipe.batch).unwrap_or(usize::MAX);
        match self.plan.data.sets.get(&self.plan.data.train).rows() {
            Some(_) => asked.min(self.plan.data.train.rows.len()),
            None => asked,
        }
    }

    fn is_finished(&self, epochs_done: u64) -> bool {
        let recipe = self.plan.recipe;
        self.stopped.is_some()
            || recipe.epochs.is_some_and(|epochs| epochs_done >= epochs)
            || recipe.steps.is_some_and(|steps| self.steps >= steps)
            || (recipe.epochs.is_none() && recipe.steps.is_none())
    }

    fn epoch(&mut self, epoch: u64) -> Result<(), Diagnostic> {
        let begin = Instant::now();
        let number = i32::try_from(epoch)
            .map_err(|_| Diagnostic::error(self.plan.recipe.span, "more than 2147483647 epochs are not supported"))?;
        self.session.set_epoch(number);
        let pass = self.steps_of_epoch(epoch)?;
        let train = pass.means.values();
        let val = match &self.plan.data.validation {
            Some(split) => Some(self.evaluate(split)?),
            None => None,
        };
        self.watch(epoch, &train, val.as_ref());
        let event = Epoch {
            phase: "main",
            epoch,
            step: self.steps,
            seconds: begin.elapsed().as_secs_f64(),
            data_wait: pass.wait.as_secs_f64(),
            train,
            val,
        };
        self.listener.event(&Event::Epoch(event))
    }

    fn steps_of_epoch(&mut self, epoch: u64) -> Result<Pass, Diagnostic> {
        let data = self.plan.data;
        let dataset = data.sets.get(&data.train);
        let rows = data.train.rows.clone();
        let order = match self.plan.recipe.shuffle {
            true => shuffled(rows.len(), self.plan.recipe.seed, epoch as u32),
            false => in_file_order(rows.len()),
        };
        let batch = self.batch();
        let total = chunks(dataset, &order, batch).len();
        let mut pass = Pass { means: Means::default(), wait: Duration::ZERO };
        for (index, chunk) in chunks(dataset, &order, batch).enumerate() {
            let begin = Instant::now();
            let gathered = gather(dataset, chunk, rows.start);
            pass.wait += begin.elapsed();
            let report = self.session.train_step(&gathered.fields()).map_err(|e| plain(&e))?;
            self.steps += 1;
            self.check_finite(&report, epoch)?;
            pass.means.add(&report, chunk.len());
            if self.plan.log_every.is_some_and(|every| every > 0 && self.steps.is_multiple_of(every)) {
                let train = Values(report.values().map(|(name, value)| (name.to_owned(), value)).collect());
                self.listener.event(&Event::Step { step: self.steps, train })?;
            }
            self.listener.progress(&Progress { epoch, done: index + 1, total, means: &pass.means.values() });
            if self.plan.interrupt.load(Ordering::Relaxed) {
                self.stopped = Some("interrupted".into());
                break;
            }
            if self.plan.recipe.steps.is_some_and(|steps| self.steps >= steps) {
                break;
            }
        }
        Ok(pass)
    }

    fn check_finite(&self, report: &Report, epoch: u64) -> Result<(), Diagnostic> {
        let Some((name, value)) = report.losses.iter().find(|(_, value)| !value.is_finite()) else { return Ok(()) };
        let step = self.steps;
        let message = format!("the loss `{name}` is {value} at step {step} (epoch {epoch})");
        let minimize = self.plan.recipe.minimize.iter().find(|m| m.loss == *name);
        let span = minimize.map_or(self.plan.recipe.span, |m| m.span);
        Err(Diagnostic::error(span, message).help("a lower learning rate often helps; is the data scaled?"))
    }

    fn evaluate(&mut self, split: &SplitRows) -> Result<Values, Diagnostic> {
        let batch = usize::try_from(self.plan.recipe.batch).unwrap_or(usize::MAX);
        let batch = batch.min(split.rows.len());
        evaluate(self.session, self.plan.data.sets.get(split), split.rows.clone(), batch)
    }

    /// Keeps the weights if they are the best, and decides whether to stop.
    fn watch(&mut self, epoch: u64, train: &Values, validation: Option<&Values>) {
        if let Some(keep) = &mut self.keep
            && keep.observe(train, validation)
        {
            self.best = Some((self.session.parameter_bytes().to_vec(), epoch));
        }
        for (watch, patience) in &mut self.stops {
            watch.observe(train, validation);
            if watch.since >= *patience && self.stopped.is_none() {
                self.stopped = Some(format!("{} has not improved for {} epochs", watch.name(), watch.since));
            }
        }
    }

    /// Puts the best weights back; the epoch they are of.
    fn restore_best(&mut self) -> Option<u64> {
        let (weights, epoch) = self.best.take()?;
        self.session.parameter_bytes_mut().copy_from_slice(&weights);
        Some(epoch)
    }
}
