//! `--tune SECONDS`: the flag, and what is said while products are measured.

use std::time::Duration;

use serde::Serialize;

use super::Failure;
use super::console::Console;
use crate::driver::{Error, TuneEvent, TuneOptions, Tuned, cache_folder};

/// The flag.
#[derive(Clone, Debug, clap::Args)]
pub struct TuneArgument {
    /// Measure for so long how products are best cut on this machine, and remember it; with 0, use what is remembered. Results stay the same
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    tune: Option<Duration>,
}

impl TuneArgument {
    /// Whether it was given.
    pub fn is_wanted(&self) -> bool {
        self.tune.is_some()
    }

    /// Tunes if that is wanted, for one of `parts` equal parts of the time, and reports what came of it. `tune` calls the compiler.
    pub fn run(
        &self,
        console: &Console,
        (threads, parts): (usize, usize),
        tune: impl FnOnce(&TuneOptions, &mut dyn FnMut(TuneEvent)) -> Result<Vec<Tuned>, Error>,
    ) -> Result<(), Failure> {
        let Some(budget) = self.tune else { return Ok(()) };
        let options = TuneOptions { budget: budget / parts.max(1) as u32, threads, cache: cache_folder() };
        tune(&options, &mut |event| show(console, &event))?;
        Ok(())
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a number of seconds from 0");
    let number: f64 = text.parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(number).ok().filter(|time| time.as_secs() <= LONGEST).ok_or_else(wrong)
}

/// Nobody waits for longer than a year.
const LONGEST: u64 = 366 * 24 * 3600;

fn show(console: &Console, event: &TuneEvent) {
    match event {
        TuneEvent::Started { entry, rows, products, cached } => {
            let entry = entry.name();
            console.progress(&format!("tuning {entry}, batch {rows}: {products} products, {cached} of them known"));
        }
        TuneEvent::Faster { product, choice, share } => {
            console.progress(&format!("  {:.1} % less time for {product}: {choice}", 100.0 * (1.0 - share)));
        }
        TuneEvent::Done(tuned) => {
            let line = Line::of(tuned);
            console.object(&line);
            console.progress(&line.text());
        }
        TuneEvent::Warning(text) => console.warn(text),
    }
}

/// What tuning an entry came to.
#[derive(Serialize)]
struct Line {
    event: &'static str,
    entry: &'static str,
    batch: usize,
    threads: usize,
    products: usize,
    cached: usize,
    tried: usize,
    changed: usize,
    dropped: usize,
    /// How much less time the whole entry takes; null if that was not measured.
    gain_percent: Option<f64>,
    seconds: f64,
}

impl Line {
    fn of(tuned: &Tuned) -> Line {
        Line {
            event: "tune",
            entry: tuned.entry.name(),
            batch: tuned.rows,
            threads: tuned.threads,
            products: tuned.products,
            cached: tuned.cached,
            tried: tuned.tried,
            changed: tuned.changed,
            dropped: tuned.dropped,
            gain_percent: tuned.share.map(|share| 100.0 * (1.0 - share)),
            seconds: tuned.seconds,
        }
    }

    fn text(&self) -> String {
        let Line { entry, batch, products, cached, tried, changed, seconds, .. } = self;
        let dropped = match self.dropped {
            0 => String::new(),
            n => format!(", {n} dropped that are no faster in the whole or were not tried there"),
        };
        let gain = match self.gain_percent {
            Some(gain) if gain < 0.0 => format!("; {:.1} % more time", -gain),
            Some(gain) => format!("; {gain:.1} % less time"),
            None => String::new(),
        };
        format!(
            "tuned {entry}, batch {batch}, in {seconds:.1} s: of {products} products {cached} known, {tried} tried, {changed} changed{dropped}{gain}"
        )
    }
}
