//! Passes: one file each, listed here.
//!
//! A pass on the tensor graph is a [`GraphPass`], a value with a name; the driver runs [`GRAPH_PASSES`] in order, verifies
//! the function after each, and takes the names for `--dump-after` and `--stop-after`. Every pass builds a new
//! function and leaves the old one alone. `fuse` and what follows turn graphs into loops and have entry points of their own.

use std::sync::Arc;

use crate::ir::graph::Function;
use crate::ir::loops::Program;

pub mod accumulate;
pub mod ahead;
pub mod attention;
pub mod autodiff;
pub mod bodies;
mod carry_in_sequences;
pub mod clip_folds;
mod copied;
pub mod copy_early;
pub mod cse;
pub mod dce;
mod divide_bytes;
pub mod expand_convolutions;
pub mod expand_math;
pub mod fuse;
pub mod gather_sums;
pub mod half;
pub mod hoist;
pub mod in_place;
pub mod interleave;
mod join_cells;
pub mod join_kernels;
pub mod keep;
pub mod lower;
mod pad_rows;
pub mod plan_memory;
pub mod project_tables;
pub mod recompute;
mod reuse_rounds;
pub mod segment;
mod share_states;
pub mod simplify;
pub mod store_joined;
pub mod store_packed;
pub mod strips;
pub mod tile;
mod zigzag;

#[cfg(test)]
mod tests;

/// Why a pass cannot do what the user asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PassError {
    /// One sentence without a full stop.
    pub message: String,
    /// The layer path of the node concerned, empty at the top of the model.
    pub scope: Arc<str>,
}

/// What passes may use and do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory for what changes the order of sums where memory is short: the rounds of loops that are kept, attention in
    /// blocks.
    pub memory: u64,
    /// Bytes of memory for what computes the same in other kernels: what is kept of the forward half, what becomes one kernel, what runs in strips. Passes estimate what is
    /// in memory at a time, so to have a program that keeps to `memory` this may have to be less.
    pub aim: u64,
    /// Whether parts of the forward half that run again make copies of their own of what the gradient computes again as well, so that none has to wait for the other.
    pub apart: bool,
    /// Whether to leave out what multiplies less and rounds more.
    pub exact: bool,
    /// Whether what depends on parameters alone is computed ahead of the calls, see [`ahead`].
    pub ahead: bool,
    /// What the machine sums in. It decides the shapes of tiles, and no result.
    pub registers: tile::Registers,
    /// What was measured of products on the machine. It decides how they are cut, and no result.
    pub tuning: Arc<tile::Tuning>,
}

impl Limits {
    /// The default with so many bytes of memory.
    pub fn within(memory: u64) -> Limits {
        Limits { memory, aim: memory, ..Limits::default() }
    }

    /// Whether memory is short: passes aim at something else than the limit, with which they have taken too much.
    pub fn is_short(&self) -> bool {
        self.aim != self.memory
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            memory: segment::DEFAULT_LIMIT,
            aim: segment::DEFAULT_LIMIT,
            apart: false,
            exact: false,
            ahead: false,
            registers: tile::Registers::default(),
            tuning: Arc::default(),
        }
    }
}

/// A pass on a function over a tensor graph of concrete types.
#[derive(Clone, Copy, Debug)]
pub struct GraphPass {
    /// What `--dump-after` calls it.
    pub name: &'static str,
    /// One line.
    pub doc: &'static str,
    /// The pass on one function, the bodies of whose loops it has been through.
    run: fn(&Function, &Limits) -> Result<Function, PassError>,
}

impl GraphPass {
    /// The function after the pass went through the bodies of its loops, innermost first, and then through the function itself.
    ///
    /// # Errors
    /// What the pass cannot do, as a sentence for the user.
    pub fn apply(&self, function: &Function) -> Result<Function, PassError> {
        self.apply_within(function, &Limits::default())
    }

    /// As [`apply`](Self::apply), within limits.
    ///
    /// # Errors
    /// As `apply`.
    pub fn apply_within(&self, function: &Function, limits: &Limits) -> Result<Function, PassError> {
        let inside = bodies::map(function, |body| self.apply_within(body, limits))?;
        (self.run)(&inside, limits)
    }
}

/// The passes on the tensor graph, in the order in which they run. Only the last may ask for [`Limits::aim`] and [`Limits::apart`]: plans that differ in these share what the others make.
pub const GRAPH_PASSES: &[GraphPass] = &[
    project_tables::PASS,
    attention::PASS,
    clip_folds::PASS,
    autodiff::PASS,
    keep::PASS,
    gather_sums::PASS,
    accumulate::PASS,
    expand_convolutions::PASS,
    simplify::PASS,
    half::PASS,
    cse::PASS,
    dce::PASS,
    hoist::PASS,
    recompute::PASS,
];

/// A pass on a loop program.
#[derive(Clone, Copy, Debug)]
pub struct LoopPass {
    /// What `--dump-after` calls it.
    pub name: &'static str,
    /// One line.
    pub doc: &'static str,
    pub run: fn(Program, &Limits) -> Result<Program, PassError>,
}

/// The passes on loop programs, in the order in which they run.
pub const LOOP_PASSES: &[LoopPass] = &[
    tile::PASS,
    store_joined::PASS,
    store_packed::PASS,
    divide_bytes::PASS,
    expand_math::PASS,
    interleave::PASS,
    in_place::PASS,
    share_states::PASS,
    carry_in_sequences::PASS,
    strips::PASS,
    pad_rows::PASS,
    reuse_rounds::PASS,
    join_cells::PASS,
    copy_early::PASS,
    join_kernels::PASS,
    zigzag::PASS,
    plan_memory::PASS,
];
