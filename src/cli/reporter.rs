//! How a training run is shown: a bar or plain lines, JSON lines, the history file.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::console::Console;
use super::values::{seconds_text, tables_text, values_text};
use crate::diag::{Diagnostic, Sources};
use crate::formats::tensorboard::EventFile;
use crate::frontend::model::MAIN_PHASE;
use crate::train::event::{Epoch, Event, Start, Values};
use crate::train::run::{Listener, Progress};

/// Prints a run: a bar or plain lines, JSON lines, and the history file.
pub struct Reporter<'a> {
    console: &'a Console,
    history: Option<(PathBuf, BufWriter<File>)>,
    bar: Option<ProgressBar>,
    drawn: Instant,
    events: Option<EventFile>,
    /// The phase that runs, and its epochs, if known.
    phase: String,
    epochs: Option<u64>,
}

/// How often the bar's words change.
const REDRAW: Duration = Duration::from_millis(100);

impl<'a> Reporter<'a> {
    /// A reporter; with `append` the lines of the history so far are kept.
    ///
    /// # Errors
    /// If the history cannot be written.
    pub fn new(console: &'a Console, history: Option<&Path>, append: bool) -> Result<Reporter<'a>, Diagnostic> {
        let open = |path: &Path| {
            let mut options = File::options();
            options.write(true).create(true).append(append).truncate(!append);
            let file = options.open(path).map_err(|e| unwritable(path, &e))?;
            Ok((path.to_owned(), BufWriter::new(file)))
        };
        let history = history.map(open).transpose()?;
        let visible = io::stderr().is_terminal() && !console.quiet;
        let bar = visible.then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{prefix} {bar:30} {pos}/{len} {eta} {msg}");
            bar.with_style(style.expect("the template is well formed"))
        });
        Ok(Reporter { console, history, bar, drawn: Instant::now(), events: None, phase: String::new(), epochs: None })
    }

    /// Also writes the scalars of steps and epochs for TensorBoard into `folder`.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn with_tensorboard(mut self, folder: Option<&Path>) -> Result<Reporter<'a>, Diagnostic> {
        let open =
            |folder| EventFile::create(folder, now()).map_err(|e| Diagnostic::error_without_place(e.to_string()));
        self.events = folder.map(open).transpose()?;
        Ok(self)
    }

    fn scalars(&mut self, event: &Event) -> Result<(), Diagnostic> {
        let Some(file) = &mut self.events else { return Ok(()) };
        let named = |split: &str, values: &Values| -> Vec<(String, f64)> {
            let numbers = values.0.iter().filter_map(|(name, _)| Some((name, values.get(name)?)));
            numbers.map(|(name, value)| (format!("{split}/{name}"), value)).collect()
        };
        let (step, scalars) = match event {
            Event::Step { step, train } => (*step, named("step", train)),
            Event::Epoch(epoch) => {
                let mut all = named("train", &epoch.train);
                all.extend(epoch.val.iter().flat_map(|val| named("val", val)));
                (epoch.step, all)
            }
            Event::Done(done) => (done.steps, done.test.iter().flat_map(|test| named("test", test)).collect()),
            Event::Start(_) => return Ok(()),
        };
        file.scalars(now(), step, &scalars).map_err(|e| Diagnostic::error_without_place(e.to_string()))
    }

    fn epoch_label(&self, epoch: u64) -> String {
        if self.phase != MAIN_PHASE {
            return format!("{}, {}", self.phase, self.epoch_count(epoch));
        }
        self.epoch_count(epoch)
    }

    fn epoch_count(&self, epoch: u64) -> String {
        match self.epochs {
            Some(epochs) => format!("epoch {epoch:>width$}/{epochs}", width = epochs.to_string().len()),
            None => format!("epoch {epoch}"),
        }
    }

    /// A line for people: a result, or progress when standard output is for programs.
    fn line(&self, text: &str) {
        if let Some(bar) = &self.bar {
            return bar.suspend(|| self.line_below(text));
        }
        self.line_below(text);
    }

    fn line_below(&self, text: &str) {
        if self.console.json {
            self.console.progress(text);
        } else {
            self.console.result(text);
        }
    }

    fn describe(&self, event: &Event) {
        match event {
            Event::Start(start) if !self.console.quiet => self.line(&start_text(start)),
            Event::Step { step, train } if !self.console.quiet => {
                self.line(&format!("step {step}  {}", values_text(train)))
            }
            Event::Epoch(epoch) if !self.console.quiet => self.line(&self.epoch_text(epoch)),
            Event::Done(done) => {
                if let Some(bar) = &self.bar {
                    bar.finish_and_clear();
                }
                if let Some(reason) = done.stopped.as_ref().filter(|_| !self.console.quiet) {
                    self.line(&format!("stopped early: {reason}"));
                }
                if let Some(epoch) = done.best_epoch.filter(|_| !self.console.quiet) {
                    self.line(&format!("kept the weights of epoch {epoch}"));
                }
                if let Some(test) = &done.test {
                    self.line(&format!("test  {}", values_text(test)));
                    tables_text(test).iter().for_each(|line| self.line(line));
                }
                if !self.console.quiet {
                    let steps = format!("{} steps in {}", done.steps, seconds_text(done.seconds));
                    self.line(&done.weights.as_ref().map_or(steps.clone(), |w| format!("{steps}, weights in {w}")));
                }
            }
            _ => {}
        }
    }

    fn epoch_text(&self, epoch: &Epoch) -> String {
        let mut text = format!(
            "{}  step {}  {}  {}",
            self.epoch_label(epoch.epoch),
            epoch.step,
            seconds_text(epoch.seconds),
            values_text(&epoch.train)
        );
        if let Some(val) = &epoch.val {
            text.push_str(&format!("  val {}", values_text(val)));
        }
        text
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    // A clock before 1970 is wrong, and no reason to stop training.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |passed| passed.as_secs_f64())
}

fn start_text(start: &Start) -> String {
    let mut text = format!("{}: {} parameters", start.model, start.parameters);
    if let Some(rows) = start.rows {
        text.push_str(&format!(", {rows} rows in batches of {}", start.batch));
    }
    if let Some(rows) = start.val_rows {
        text.push_str(&format!(", {rows} rows to validate"));
    }
    if let Some(steps) = start.resumed {
        text.push_str(&format!(", resumed after {steps} steps"));
    }
    text.push_str(&format!(", compiled in {}", seconds_text(start.compile_ms / 1e3)));
    text
}

fn unwritable(path: &Path, error: &io::Error) -> Diagnostic {
    Diagnostic::error_without_place(format!("cannot write `{}`: {error}", path.display()))
}

impl Listener for Reporter<'_> {
    fn event(&mut self, event: &Event) -> Result<(), Diagnostic> {
        if let Some((path, file)) = &mut self.history {
            let line = serde_json::to_string(event).expect("events have no keys but text");
            writeln!(file, "{line}").and_then(|()| file.flush()).map_err(|e| unwritable(path, &e))?;
        }
        if let Event::Start(start) = event {
            self.phase.clone_from(&start.phase);
            self.epochs = start.epochs;
        }
        self.scalars(event)?;
        self.console.object(event);
        self.describe(event);
        Ok(())
    }

    fn warning(&mut self, warning: &Diagnostic) {
        self.console.report(std::slice::from_ref(warning), &Sources::default());
    }

    fn progress(&mut self, progress: &Progress<'_>) {
        let Some(bar) = &self.bar else { return };
        if progress.done > 1 && progress.done < progress.total && self.drawn.elapsed() < REDRAW {
            return;
        }
        self.drawn = Instant::now();
        if progress.done == 1 {
            bar.reset();
        }
        bar.set_length(progress.total as u64);
        bar.set_prefix(self.epoch_label(progress.epoch));
        bar.set_message(values_text(progress.means));
        bar.set_position(progress.done as u64);
    }
}
