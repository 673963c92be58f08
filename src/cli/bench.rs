//! `nnc bench F.nn`: how long entry points take on made-up data.

use serde::Serialize;

use super::console::Console;
use super::model::{EntryName, ModelArguments, any_number_of_steps};
use super::tune::TuneArgument;
use super::{Failure, Global, synthetic};
use crate::driver::{Compiled, Entry, JitOptions, Profile, quantile};

/// Time the calls of entry points on made-up data
#[derive(Debug, clap::Args)]
pub struct Bench {
    #[command(flatten)]
    pub(super) model: ModelArguments,
    /// The functions, separated by commas [default: infer, and train_step where the file has a recipe]
    #[arg(long, value_enum, value_name = "ENTRY", value_delimiter = ',')]
    pub(super) entry: Vec<EntryName>,
    /// Rows of the batch [default: the recipe's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) batch: Option<u64>,
    /// Calls that are timed [default: as many as take about two seconds]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) repeat: Option<u64>,
    #[command(flatten)]
    tune: TuneArgument,
}

#[derive(Serialize)]
struct Line {
    event: &'static str,
    entry: &'static str,
    batch: usize,
    threads: usize,
    median_us: f64,
    min_us: f64,
    p99_us: f64,
    gflops: f64,
    /// Of what all threads together could do.
    peak_share: f64,
    arena_bytes: usize,
    compile_ms: f64,
    calls: usize,
}

/// A measured entry.
pub struct Measured {
    pub entry: Entry,
    pub batch: usize,
    pub threads: usize,
    pub profile: Profile,
    pub arena_bytes: usize,
    pub compile_ms: f64,
    pub memory_plan: String,
    /// Kernels that read each other's results, and why they are not one.
    pub apart: Vec<(String, String, &'static str)>,
}

impl Measured {
    /// Operations a second, in billions.
    pub fn gflops(&self, seconds: f64, flops: u64) -> f64 {
        if seconds > 0.0 { flops as f64 / seconds * 1e-9 } else { 0.0 }
    }

    /// The share of all threads' measured peak.
    pub fn peak_share(&self, gflops: f64) -> f64 {
        gflops * 1e9 / (self.profile.peak * self.threads as f64)
    }
}

/// Calls of one entry that are timed where nobody says how many.
const SECONDS: f64 = 2.0;
const MOST_CALLS: f64 = 2000.0;
const LEAST_CALLS: f64 = 10.0;

impl Bench {
    /// Runs the command.
    pub fn run(&self, console: &Console, global: &Global) -> Result<(), Failure> {
        for measured in self.measure(console, global)? {
            let profile = &measured.profile;
            let gflops = measured.gflops(profile.median(), profile.flops());
            let line = Line {
                event: "bench",
                entry: measured.entry.name(),
                batch: measured.batch,
                threads: measured.threads,
                median_us: 1e6 * profile.median(),
                min_us: 1e6 * quantile(&profile.whole, 0.0),
                p99_us: 1e6 * quantile(&profile.whole, 0.99),
                gflops,
                peak_share: measured.peak_share(gflops),
                arena_bytes: measured.arena_bytes,
                compile_ms: measured.compile_ms,
                calls: profile.whole.len(),
            };
            console.object(&line);
            console.result(&line.text());
        }
        Ok(())
    }

    /// Compiles and times the entries that are wanted.
    pub(super) fn measure(&self, console: &Console, global: &Global) -> Result<Vec<Measured>, Failure> {
        let change = |settings: &mut crate::driver::Settings| {
            any_number_of_steps(settings);
            settings.batch = self.batch;
        };
        let compiled = self.model.open(console, change)?;
        let defaults = [Entry::Infer, Entry::TrainStep].into_iter().filter(|e| compiled.function(*e).is_ok());
        let entries: Vec<Entry> = match self.entry.as_slice() {
            [] => defaults.collect(),
            some => some.iter().map(|name| name.0).collect(),
        };
        let parts = entries.len();
        let measure = |entry| {
            let mut compiled = self.model.check(change)?;
            compiled.function(entry)?;
            let batch = [(entry, self.rows(&compiled))];
            let shares = (global.threads(), parts);
            self.tune.run(console, shares, |tune, listener| compiled.tune_session(&batch, tune, listener))?;
            self.measure_one(entry, compiled, console, global)
        };
        entries.into_iter().map(measure).collect()
    }

    fn rows(&self, compiled: &Compiled) -> usize {
        self.batch.and_then(|b| usize::try_from(b).ok()).unwrap_or(compiled.nominal_rows())
    }

    fn measure_one(
        &self,
        entry: Entry,
        compiled: Compiled,
        console: &Console,
        global: &Global,
    ) -> Result<Measured, Failure> {
        let batch = self.rows(&compiled);
        let fields = synthetic::batch(&compiled, batch)?;
        let fields = synthetic::slices(&fields);
        let mut session = compiled.jit_with(JitOptions { threads: global.threads() })?;
        let start = std::time::Instant::now();
        session.prepare(entry, batch)?;
        let compile_ms = 1e3 * start.elapsed().as_secs_f64();
        session.excess(entry, batch).into_iter().for_each(|excess| console.warn(excess.to_string()));
        let once = session.profile(entry, &fields, 3, false)?.median();
        let wanted = (SECONDS / once.max(1e-9)).clamp(LEAST_CALLS, MOST_CALLS);
        let turns = self.repeat.map_or(wanted as usize, |n| usize::try_from(n).unwrap_or(usize::MAX));
        let profile = session.profile(entry, &fields, turns, true)?;
        let (arena_bytes, threads) = (session.workspace_bytes(entry, batch), session.threads());
        let memory_plan = session.memory_plan(entry, batch);
        let compiled = session.compiled();
        let apart = compiled.apart(entry, &compiled.sizes(batch)?)?;
        Ok(Measured { entry, batch, threads, profile, arena_bytes, compile_ms, memory_plan, apart })
    }
}

impl Line {
    fn text(&self) -> String {
        format!(
            "{:10}  batch {}, {} thread{}: {:.1} µs (least {:.1}, 99 % {:.1}), {:.1} GFLOP/s, {:.0} % of peak, workspace {} bytes, compiled in {:.1} ms",
            self.entry,
            self.batch,
            self.threads,
            if self.threads == 1 { "" } else { "s" },
            self.median_us,
            self.min_us,
            self.p99_us,
            self.gflops,
            100.0 * self.peak_share,
            self.arena_bytes,
            self.compile_ms,
        )
    }
}
