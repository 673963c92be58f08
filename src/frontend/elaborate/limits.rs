//! Limits that keep a hostile or mistaken file from exhausting memory or time.

use std::time::{Duration, Instant};

use crate::ir::dim::{Dim, Sizes};
use crate::ir::types::TensorType;

/// Calls inside calls.
pub(super) const CALL_DEPTH: usize = 200;
/// Calls, all together.
pub(super) const CALLS: usize = 100_000;
/// Rounds of compile-time loops and comprehensions, all together.
pub(super) const ROUNDS: usize = 20_000;
/// Nodes of one graph.
pub(super) const NODES: usize = 500_000;
/// Items of one list, those of lists in it included.
pub(super) const LIST_LENGTH: usize = 100_000;
/// Lists inside lists.
pub(super) const LIST_DEPTH: usize = 64;
/// Dims of one tensor.
pub(super) const RANK: usize = 64;
/// Bytes of one string.
pub(super) const TEXT_LENGTH: usize = 1 << 20;
/// Elements of one tensor, symbolic dims counted as 1.
pub(super) const ELEMENTS: i64 = 1 << 40;
/// Errors of one run.
pub(super) const ERRORS: usize = 50;
/// The time that the expansion of one model may take.
pub(super) const TIME: Duration = Duration::from_secs(30);

/// What has been used up.
pub(super) struct Budget {
    pub rounds: usize,
    pub calls: usize,
    started: Instant,
}

impl Budget {
    pub fn new() -> Budget {
        Budget { rounds: 0, calls: 0, started: Instant::now() }
    }

    /// Whether the time is over; looked at now and then only.
    pub fn out_of_time(&self) -> bool {
        self.started.elapsed() > TIME
    }
}

/// Whether a tensor of this type is too large whatever its symbolic dims are.
pub(super) fn too_large(ty: &TensorType) -> bool {
    let mut elements: i64 = 1;
    for dim in &ty.shape {
        let Some(size) = smallest(dim) else { return true };
        match elements.checked_mul(size.max(1)) {
            Some(product) if product <= ELEMENTS => elements = product,
            _ => return true,
        }
    }
    false
}

/// The dim with every symbol 1; `None` on overflow.
fn smallest(dim: &Dim) -> Option<i64> {
    let sizes: Sizes = dim.symbols().into_iter().map(|s| (s, 1)).collect();
    dim.substitute(&sizes)?.constant()
}
