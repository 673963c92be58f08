//! Whether any size falls off a cliff: the time of a sample at neighbouring batches and widths.
//!
//! `cargo bench --bench sizes [NAME]`. Each row is a model at ascending sizes; a step's time is divided by its floating-point operations, since
//! wider layers have more of them. A size is on a cliff if it is dearer by the operation than the size below it, or takes longer in all than the size above
//! it: the last column is the larger of these two ratios. (By the operation a batch of one is dearer than one of two in any case: weights are read once for all samples.)
//! One thread.

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use nnc::codegen::Target;
use nnc::driver::{Entry, JitOptions, Quiet, Session, Slice, compile_file_with};
use nnc::frontend::Settings;
use nnc::ir::cost::cost;
use nnc::ir::graph::Role;
use nnc::ir::types::DType;

type Answer<T> = Result<T, Box<dyn Error>>;

/// Calls of each size, of which the median counts; sizes take turns, so that a core whose speed drifts does not matter.
const TURNS: usize = 9;
/// A turn lasts about so long.
const TURN_SECONDS: f64 = 0.02;

/// What changes from column to column.
enum Axis {
    Batch(&'static [usize]),
    /// An argument of the model, at one batch.
    Argument(&'static str, &'static [usize], usize),
}

struct Row {
    name: &'static str,
    model: &'static str,
    entry: Entry,
    settings: &'static [(&'static str, &'static str)],
    axis: Axis,
}

const BATCHES: &[usize] = &[1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16, 17, 32, 33, 100, 127, 128, 129, 255, 256, 257];
const FEW_BATCHES: &[usize] = &[1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16, 17, 32, 33];
const WIDTHS: &[usize] = &[97, 100, 127, 128, 129, 250, 255, 256, 257, 300, 500, 511, 512, 513];

const ROWS: &[Row] = &[
    row("mlp train", "models/mnist_mlp_deep.nn", Entry::TrainStep, &[("rate", "0")], Axis::Batch(BATCHES)),
    row("mlp infer", "models/mnist_mlp_deep.nn", Entry::Infer, &[("rate", "0")], Axis::Batch(BATCHES)),
    row("vae train", "benches/models/vae.nn", Entry::TrainStep, &[], Axis::Batch(BATCHES)),
    row("convnet train", "models/convnet.nn", Entry::TrainStep, &[], Axis::Batch(BATCHES)),
    row("convnet infer", "models/convnet.nn", Entry::Infer, &[], Axis::Batch(BATCHES)),
    row("lstm train", "benches/models/char_lstm.nn", Entry::TrainStep, &[], Axis::Batch(FEW_BATCHES)),
    row("lstm infer", "benches/models/char_lstm.nn", Entry::Infer, &[], Axis::Batch(FEW_BATCHES)),
    row("gpt train", "benches/models/gpt.nn", Entry::TrainStep, &[], Axis::Batch(FEW_BATCHES)),
    row("gpt infer", "benches/models/gpt.nn", Entry::Infer, &[], Axis::Batch(FEW_BATCHES)),
    row("vae width, train", "benches/models/vae.nn", Entry::TrainStep, &[], Axis::Argument("units", WIDTHS, 128)),
    row("vae width, batch 1", "benches/models/vae.nn", Entry::Infer, &[], Axis::Argument("units", WIDTHS, 1)),
];

const fn row(
    name: &'static str,
    model: &'static str,
    entry: Entry,
    settings: &'static [(&'static str, &'static str)],
    axis: Axis,
) -> Row {
    Row { name, model, entry, settings, axis }
}

/// A model at one size.
struct Case {
    size: usize,
    session: Session,
    entry: Entry,
    fields: Vec<(String, DType, Vec<u8>)>,
    operations: f64,
    seconds: Vec<f64>,
}

impl Case {
    fn new(row: &Row, size: usize) -> Answer<Case> {
        let (rows, changed) = match row.axis {
            Axis::Batch(_) => (size, None),
            Axis::Argument(name, _, rows) => (rows, Some((name, size.to_string()))),
        };
        let given = row.settings.iter().map(|(name, value)| (*name, (*value).to_string()));
        let arguments = given.chain(changed).map(|(name, value)| (name.to_string(), value)).collect();
        let settings = Settings { arguments, total_steps: Some(1000), ..Settings::default() };
        let mut session = compile_file_with(Path::new(row.model), &settings)?.jit_with(JitOptions { threads: 1 })?;
        session.prepare(row.entry, rows)?;
        let compiled = session.compiled();
        let sizes = compiled.sizes(rows)?;
        let lowered = compiled.program(row.entry, &sizes, &Target::host(), &mut Quiet)?;
        let operations = cost(&lowered.function).map_or(1.0, |c| c.flops as f64);
        let mut fields = Vec::new();
        for field in &compiled.model().fields {
            if row.entry == Entry::Infer && field.role != Role::Input {
                continue;
            }
            let known = field.ty.substitute(&sizes).and_then(|ty| ty.elements());
            let elements = known.ok_or("a size of an input is not known")?;
            // Half of one, or the number one: any class and any pixel.
            let one = if field.ty.dtype == DType::F32 { 0.5f32.to_le_bytes() } else { 1i32.to_le_bytes() };
            let bytes = one[..field.ty.dtype.bytes()].repeat(elements);
            fields.push((field.name.clone(), field.ty.dtype, bytes));
        }
        Ok(Case { size, session, entry: row.entry, fields, operations, seconds: Vec::new() })
    }

    fn run(&mut self, count: usize) -> Answer<f64> {
        let slices: Vec<(&str, Slice<'_>)> =
            self.fields.iter().map(|(name, dtype, bytes)| (name.as_str(), Slice::from_bytes(*dtype, bytes))).collect();
        let start = Instant::now();
        for _ in 0..count {
            match self.entry {
                Entry::TrainStep => drop(self.session.train_step(&slices)?),
                _ => drop(self.session.infer(&slices)?),
            }
        }
        Ok(start.elapsed().as_secs_f64() / count as f64)
    }

    fn time(&self) -> f64 {
        let mut sorted = self.seconds.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    }

    fn time_of_an_operation(&self) -> f64 {
        self.time() / self.operations
    }
}

fn main() -> Answer<()> {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    for row in ROWS.iter().filter(|r| wanted.is_empty() || wanted.iter().any(|w| r.name.contains(w.as_str()))) {
        measure(row)?;
    }
    Ok(())
}

fn measure(row: &Row) -> Answer<()> {
    let sizes = match row.axis {
        Axis::Batch(sizes) | Axis::Argument(_, sizes, _) => sizes,
    };
    let mut cases: Vec<Case> = sizes.iter().map(|size| Case::new(row, *size)).collect::<Answer<_>>()?;
    for _ in 0..TURNS {
        for case in &mut cases {
            let once = case.run(1)?;
            let count = ((TURN_SECONDS / once) as usize).clamp(1, 1000);
            let seconds = case.run(count)?;
            case.seconds.push(seconds);
        }
    }
    println!("{}", row.name);
    for (i, case) in cases.iter().enumerate() {
        let below = i.checked_sub(1).map(|j| case.time_of_an_operation() / cases[j].time_of_an_operation());
        let above = cases.get(i + 1).map(|next| case.time() / next.time());
        let ratio = below.into_iter().chain(above).fold(0.0, f64::max);
        let (time, cost) = (1e3 * case.time(), 1e12 * case.time_of_an_operation());
        let mark = if ratio > 1.5 { "  cliff" } else { "" };
        println!("  {:>4}  {time:>9.4} ms  {cost:>6.1} ns / 1000 operations  {ratio:.2}{mark}", case.size);
    }
    Ok(())
}
