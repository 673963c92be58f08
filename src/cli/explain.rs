//! `nnc explain F.nn`: the kernels of an entry point with the time that each takes, and where its memory lies.

use std::collections::BTreeMap;

use serde::Serialize;

use super::bench::{Bench, Measured};
use super::console::Console;
use super::{Failure, Global};

/// Show the kernels of an entry point, their time and share of the machine's peak, and the memory plan
#[derive(Debug, clap::Args)]
pub struct Explain {
    #[command(flatten)]
    bench: Bench,
}

/// One call of a kernel.
#[derive(Serialize)]
struct Row {
    event: &'static str,
    entry: &'static str,
    kernel: String,
    rounds: u64,
    us: f64,
    /// Of the whole step.
    share: f64,
    gflops: f64,
    peak_share: f64,
    /// Bytes of the kernel's buffers a second, in billions.
    gigabytes: f64,
}

/// The sum over all calls, beside the step as a whole.
#[derive(Serialize)]
struct Total {
    event: &'static str,
    entry: &'static str,
    batch: usize,
    threads: usize,
    us: f64,
    /// How much of it the kernels account for.
    in_kernels: f64,
    gflops: f64,
    peak_share: f64,
    peak_gflops: f64,
    arena_bytes: usize,
    compile_ms: f64,
}

impl Explain {
    /// Runs the command.
    pub fn run(&self, console: &Console, global: &Global) -> Result<(), Failure> {
        for measured in self.bench.measure(console, global)? {
            let (rows, total) = (rows(&measured), total(&measured));
            rows.iter().for_each(|row| console.object(row));
            console.object(&total);
            console.result(&text(&rows, &total));
            for (maker, reader, why) in &measured.apart {
                console.object(&Apart { event: "apart", entry: measured.entry.name(), maker, reader, why });
            }
            console.result(&apart_text(&measured.apart));
            console.result(&format!("\nmemory\n{}", measured.memory_plan.trim_end()));
        }
        Ok(())
    }
}

/// Two kernels of which one reads what the other makes.
#[derive(Serialize)]
struct Apart<'a> {
    event: &'static str,
    entry: &'static str,
    maker: &'a str,
    reader: &'a str,
    why: &'a str,
}

/// Why kernels are not one, by reason.
fn apart_text(apart: &[(String, String, &'static str)]) -> String {
    let mut by_reason: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (maker, reader, why) in apart {
        by_reason.entry(why).or_default().push(format!("  {maker} → {reader}"));
    }
    let reasons = by_reason.iter().map(|(why, pairs)| format!("not fused: {why}\n{}", pairs.join("\n")));
    format!("\n{}", reasons.collect::<Vec<_>>().join("\n"))
}

fn rows(measured: &Measured) -> Vec<Row> {
    let whole = measured.profile.median();
    let row = |call: &crate::driver::CallProfile| {
        let gflops = measured.gflops(call.seconds, call.cost.flops.saturating_mul(call.rounds));
        let bytes = call.cost.bytes.saturating_mul(call.rounds) as f64;
        Row {
            event: "kernel",
            entry: measured.entry.name(),
            kernel: call.kernel.clone(),
            rounds: call.rounds,
            us: 1e6 * call.seconds,
            share: call.seconds / whole,
            gflops,
            peak_share: measured.peak_share(gflops),
            gigabytes: 1e-9 * bytes / call.seconds.max(1e-12),
        }
    };
    measured.profile.calls.iter().map(row).collect()
}

fn total(measured: &Measured) -> Total {
    let profile = &measured.profile;
    let gflops = measured.gflops(profile.median(), profile.flops());
    Total {
        event: "explain",
        entry: measured.entry.name(),
        batch: measured.batch,
        threads: measured.threads,
        us: 1e6 * profile.median(),
        in_kernels: profile.in_kernels(),
        gflops,
        peak_share: measured.peak_share(gflops),
        peak_gflops: 1e-9 * profile.peak,
        arena_bytes: measured.arena_bytes,
        compile_ms: measured.compile_ms,
    }
}

fn text(rows: &[Row], total: &Total) -> String {
    let name = rows.iter().map(|r| r.kernel.chars().count()).max().unwrap_or(0).max("kernel".len());
    let mut text = format!(
        "{}, batch {}, threads {}\n{:name$}  {:>7}  {:>10}  {:>6}  {:>8}  {:>6}  {:>6}\n",
        total.entry, total.batch, total.threads, "kernel", "rounds", "µs", "share", "GFLOP/s", "peak", "GB/s"
    );
    for row in rows {
        text.push_str(&format!(
            "{:name$}  {:>7}  {:>10.2}  {:>5.1}%  {:>8.1}  {:>5.0}%  {:>6.1}\n",
            row.kernel,
            row.rounds,
            row.us,
            100.0 * row.share,
            row.gflops,
            100.0 * row.peak_share,
            row.gigabytes
        ));
    }
    text.push_str(&format!(
        "{:name$}  {:>7}  {:>10.2}  {:>5.1}%  {:>8.1}  {:>5.0}%\n",
        "the whole",
        "",
        total.us,
        100.0 * total.in_kernels,
        total.gflops,
        100.0 * total.peak_share
    ));
    text.push_str(&format!(
        "peak of one thread {:.1} GFLOP/s, workspace {} bytes, compiled in {:.1} ms",
        total.peak_gflops, total.arena_bytes, total.compile_ms
    ));
    text
}
