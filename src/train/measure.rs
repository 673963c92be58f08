//! Means of losses and metrics over rows, and the evaluation of a data set.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::diag::Diagnostic;
use crate::driver::{Error, Output, Report, Session, Slice};
use crate::ir::types::DType;

use super::dataset::Dataset;
use super::event::{Measured, Values};
use super::feed;
use super::order::in_file_order;

/// Losses and metrics over rows of a data set, as means over the rows.
///
/// # Errors
/// If the model has no losses and metrics, or the data does not fit.
pub fn evaluate(
    session: &mut Session,
    dataset: &Dataset,
    rows: Range<usize>,
    batch: usize,
) -> Result<Values, Diagnostic> {
    let mut means = Means::default();
    let mut gathered: Vec<(String, DType, Vec<u8>)> = Vec::new();
    let order = in_file_order(rows.len());
    feed::ahead(dataset, chunks(dataset, &order, batch), rows.start, |batches| {
        for chunk in chunks(dataset, &order, batch) {
            let rows = batches.next(chunk)?;
            let (report, outputs) = session.gather(&rows.fields()).map_err(|e| plain(&e))?;
            means.add(&report, chunk.len());
            for (at, output) in outputs.iter().enumerate() {
                match gathered.get_mut(at) {
                    Some((_, _, bytes)) => bytes.extend_from_slice(output.bytes()),
                    None => gathered.push((output.name.clone(), output.dtype, output.bytes().to_vec())),
                }
            }
        }
        Ok(())
    })?;
    let mut values = means.values();
    if !gathered.is_empty() {
        let fields: Vec<(&str, Slice<'_>)> =
            gathered.iter().map(|(name, dtype, bytes)| (name.as_str(), Slice::from_bytes(*dtype, bytes))).collect();
        let metrics = session.finish(order.len(), &fields).map_err(|e| plain(&e))?;
        values.0.extend(metrics.into_iter().map(|m| (m.name.clone(), measured(&m))));
    }
    Ok(values)
}

fn measured(output: &Output) -> Measured {
    let elements = output.to_f64();
    match output.shape.as_slice() {
        [] => Measured::Number(elements[0]),
        shape => Measured::Array(shape.to_vec(), elements),
    }
}

/// The batches of an order; one batch for data without rows.
pub(super) fn chunks<'a>(dataset: &Dataset, order: &'a [u32], batch: usize) -> std::slice::Chunks<'a, u32> {
    match dataset.rows() {
        Some(_) => order.chunks(batch.max(1)),
        None => order.chunks(order.len().max(1)),
    }
}

/// An error of the driver without a place.
pub(super) fn plain(error: &Error) -> Diagnostic {
    Diagnostic::error_without_place(error.to_string())
}

/// [`Means`] as a checkpoint keeps them: the bits of the sums.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct MeansMemory {
    sums: Vec<(String, u64)>,
    rows: usize,
}

/// Means weighted by rows, in the order of the first report.
#[derive(Default)]
pub(super) struct Means {
    sums: Vec<(String, f64)>,
    rows: usize,
}

impl Means {
    /// Takes in what a call on `rows` rows reported.
    pub(super) fn add(&mut self, report: &Report, rows: usize) {
        if self.sums.is_empty() {
            self.sums = report.values().map(|(name, _)| (name.to_owned(), 0.0)).collect();
        }
        for ((_, sum), (_, value)) in self.sums.iter_mut().zip(report.values()) {
            *sum += value * rows as f64;
        }
        self.rows += rows;
    }

    /// The sums and the number of rows, exactly: what a checkpoint keeps.
    pub(super) fn memory(&self) -> MeansMemory {
        MeansMemory { sums: self.sums.iter().map(|(n, s)| (n.clone(), s.to_bits())).collect(), rows: self.rows }
    }

    /// Goes on from a checkpoint.
    pub(super) fn remember(memory: &MeansMemory) -> Means {
        let sums = memory.sums.iter().map(|(n, bits)| (n.clone(), f64::from_bits(*bits))).collect();
        Means { sums, rows: memory.rows }
    }

    /// The means so far.
    pub(super) fn values(&self) -> Values {
        Values(self.sums.iter().map(|(name, sum)| (name.clone(), (sum / self.rows.max(1) as f64).into())).collect())
    }
}
