//! The batches of a pass, read one ahead on a thread of their own where rows come from files.
//!
//! Which rows a batch has is settled before; the thread only decides when they are read. So no result depends on it.

use std::slice::Chunks;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::diag::Diagnostic;

use super::batch::Batch;
use super::dataset::Dataset;

/// How many batches are ready and not yet asked for, at most.
const AHEAD: usize = 1;

/// The batches of a pass.
pub struct Batches<'a> {
    dataset: &'a Dataset,
    start: usize,
    /// Where they come from if they are read ahead.
    ahead: Option<Receiver<Result<Batch, Diagnostic>>>,
    wait: Duration,
}

/// Calls `work` with the batches of `chunks`, whose rows count from `start`.
pub fn ahead<'a, R>(
    dataset: &'a Dataset,
    chunks: Chunks<'_, u32>,
    start: usize,
    work: impl FnOnce(&mut Batches<'a>) -> R,
) -> R {
    let mut batches = Batches { dataset, start, ahead: None, wait: Duration::ZERO };
    if !dataset.reads_files() {
        return work(&mut batches);
    }
    thread::scope(|scope| {
        let (sender, receiver) = sync_channel(AHEAD);
        scope.spawn(move || {
            for chunk in chunks {
                // The receiver is gone when the pass ended early.
                if sender.send(gather(dataset, chunk, start)).is_err() {
                    break;
                }
            }
        });
        let mut batches = Batches { ahead: Some(receiver), ..batches };
        work(&mut batches)
    })
}

impl Batches<'_> {
    /// The next batch, which has the rows of `chunk`.
    ///
    /// # Errors
    /// As [`Batch::gather`].
    pub fn next(&mut self, chunk: &[u32]) -> Result<Batch, Diagnostic> {
        let begin = Instant::now();
        let batch = match &self.ahead {
            Some(receiver) => receiver.recv().expect("the thread sends a batch for every chunk"),
            None => gather(self.dataset, chunk, self.start),
        };
        self.wait += begin.elapsed();
        batch
    }

    /// How long callers have waited for batches.
    pub fn wait(&self) -> Duration {
        self.wait
    }
}

/// The rows of one batch; `chunk` counts from `start`.
fn gather(dataset: &Dataset, chunk: &[u32], start: usize) -> Result<Batch, Diagnostic> {
    let start = u32::try_from(start).expect("data sets have fewer than 2^32 rows");
    let rows: Vec<u32> = chunk.iter().map(|row| row + start).collect();
    Batch::gather(dataset, &rows)
}
