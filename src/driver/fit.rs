//! Keeps to the limit on memory that the user gave, or weighs memory against time where there is none.
//!
//! Passes choose what is kept, joined and cut by estimates of what is in memory at a time; only the plan at their end knows. So where the plan takes more than the limit,
//! the stages run again with less for the passes, until one plan keeps to it. Where none does, the smallest is taken, and [`Excess`] says so.
//!
//! Without a limit a training step keeps all that makes it fast, unless that is much, and about half of it does for a few operations more: see [`Fit::by_cost`].
//!
//! With a limit another plan may add up in another order, so it is chosen for a machine that all share: results are the same bits whatever the vector width, and in an object as
//! in memory.

use std::fmt;
use std::sync::Arc;

use super::error::Error;
use super::object::without_metrics;
use super::stages::{self, Lowered, Prepared};
use super::{Compiled, Entry};
use crate::ir::dim::Sizes;
use crate::ir::graph::{Function, ResultRole};
use crate::ir::loops::cost;
use crate::passes::Limits;
use crate::passes::tile::Registers;

/// Parts of the limit for [`Limits::memory`], in turn, and the eighths of the limit that passes aim at with each.
const TRIES: [(u64, &[u64]); 4] =
    [(1, &[8, 7, 6, 5, 4, 3, 2, 1, 0]), (4, &[8, 4, 0]), (16, &[8, 4, 0]), (64, &[8, 4, 0])];

/// So many bytes of workspace are at hand wherever something is trained.
const AT_HAND: u64 = 64 << 20;

/// The part of a workspace that is aimed at to come to about half of it, and what counts as that: what is aimed at is seldom met.
const AIMED_AT: (u64, u64) = (31, 64);
const ABOUT_HALF: (u64, u64) = (8, 15);

/// About half of the memory is worth one in so many operations more.
const MORE_FLOPS: u64 = 4;

/// An entry point that takes more memory than the limit, since nothing less can be kept to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excess {
    pub entry: Entry,
    pub rows: usize,
    /// Bytes of its workspace, and of the limit.
    pub bytes: u64,
    pub limit: u64,
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Excess { entry, rows, bytes, limit } = self;
        let (entry, [bytes, limit]) = (entry.name(), [bytes, limit].map(|n| *n as f64 / 1e6));
        write!(f, "`{entry}` with {rows} rows takes {bytes:.1} MB of memory, more than the limit of {limit:.1} MB")
    }
}

impl Compiled {
    /// Runs the stages of a function, within the limit on memory if that can be.
    ///
    /// # Errors
    /// If an op has no gradient or no lowering.
    pub(super) fn lower(&self, function: &Function, sizes: &Sizes, limits: &Limits) -> Result<Lowered, Error> {
        Ok(self.fit(function, sizes, limits)?.lowered)
    }

    /// The limits with which [`lower`](Self::lower) runs its stages.
    ///
    /// # Errors
    /// As `lower`.
    pub(super) fn fitting(&self, function: &Function, sizes: &Sizes, limits: &Limits) -> Result<Limits, Error> {
        Ok(self.fit(function, sizes, limits)?.limits)
    }

    fn fit(&self, function: &Function, sizes: &Sizes, limits: &Limits) -> Result<Fit, Error> {
        match self.memory {
            Some(limit) => Fit::of(function, sizes, limits, limit),
            None => Fit::by_cost(function, sizes, limits),
        }
    }

    /// Whether an entry point with a workspace of so many bytes takes more than the limit.
    pub(super) fn excess(&self, entry: Entry, rows: usize, bytes: u64) -> Option<Excess> {
        self.memory.filter(|limit| bytes > *limit).map(|limit| Excess { entry, rows, bytes, limit })
    }
}

/// A program, and the limits that passes had for it.
struct Fit {
    limits: Limits,
    lowered: Lowered,
}

impl Fit {
    /// The fastest program; of a training step that takes much memory one with about half of it, if that costs at most a quarter more operations. Both compute the same bits.
    fn by_cost(function: &Function, sizes: &Sizes, limits: &Limits) -> Result<Fit, Error> {
        let prepared = stages::prepare(function, sizes, limits)?;
        let usual = Fit::prepared(&prepared, limits.clone())?;
        if function.turn().is_none() || usual.bytes() <= AT_HAND {
            return Ok(usual);
        }
        let part = |(part, of): (u64, u64)| usual.bytes() / of * part;
        let aim = part(AIMED_AT);
        let ways = [false, true].map(|apart| Limits { aim, apart, ..limits.clone() });
        let found = std::thread::scope(|scope| {
            let tries = ways.map(|limits| scope.spawn(|| Fit::prepared(&prepared, limits)));
            tries.map(|found| found.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        let (most, flops) = (part(ABOUT_HALF), usual.flops());
        let pays = |fit: &Fit| fit.bytes() <= most && fit.flops().saturating_sub(flops) <= flops / MORE_FLOPS;
        let paying = found.into_iter().collect::<Result<Vec<Fit>, Error>>()?.into_iter().filter(pays);
        Ok(paying.min_by_key(Fit::flops).unwrap_or(usual))
    }

    fn new(function: &Function, sizes: &Sizes, limits: Limits) -> Result<Fit, Error> {
        Fit::prepared(&stages::prepare(function, sizes, &limits)?, limits)
    }

    fn prepared(prepared: &Prepared, limits: Limits) -> Result<Fit, Error> {
        let lowered = stages::lower_prepared(prepared, &limits)?;
        Ok(Fit { limits, lowered })
    }

    /// A program that keeps to a limit on memory, or else the smallest that was found.
    fn of(function: &Function, sizes: &Sizes, limits: &Limits, limit: u64) -> Result<Fit, Error> {
        let anywhere =
            Limits { registers: Registers::default(), tuning: Arc::default(), ahead: false, ..limits.clone() };
        let bare = bare(function);
        let found = Fit::within(&bare, sizes, &anywhere, limit)?;
        if anywhere == *limits && bare.results.len() == function.results.len() {
            return Ok(found);
        }
        let Limits { memory, aim, apart, .. } = found.limits;
        Fit::new(function, sizes, Limits { memory, aim, apart, ..limits.clone() })
    }

    /// A program within the limit by the way to run parts again that takes less with all of it, or else by the other, or else the smallest.
    fn within(function: &Function, sizes: &Sizes, limits: &Limits, limit: u64) -> Result<Fit, Error> {
        let mut ways = ways(function, limits, limit);
        let mut best = Fit::first(function, sizes, limit, ways.iter().cloned())?;
        ways.sort_by_key(|way| way.apart != best.limits.apart);
        for way in &ways {
            if best.bytes() > limit {
                best = best.or_smaller(Fit::first(function, sizes, limit, tries(way, limit).skip(1))?);
            }
        }
        Ok(best)
    }

    /// The first program that keeps to the limit, or else the smallest.
    fn first(
        function: &Function,
        sizes: &Sizes,
        limit: u64,
        tries: impl Iterator<Item = Limits>,
    ) -> Result<Fit, Error> {
        let mut best: Option<Fit> = None;
        for limits in tries {
            let fit = Fit::new(function, sizes, limits)?;
            let fits = fit.bytes() <= limit;
            best = Some(match best {
                Some(best) => best.or_smaller(fit),
                None => fit,
            });
            if fits {
                break;
            }
        }
        Ok(best.expect("there is something to try"))
    }

    fn bytes(&self) -> u64 {
        self.lowered.workspace_bytes()
    }

    fn flops(&self) -> u64 {
        cost::flops(&self.lowered.program)
    }

    /// This one, or the other if that takes less memory.
    fn or_smaller(self, other: Fit) -> Fit {
        if other.bytes() < self.bytes() { other } else { self }
    }
}

/// All of the limit, with each way to run parts of a training step again.
fn ways(function: &Function, limits: &Limits, limit: u64) -> Vec<Limits> {
    let ways: &[bool] = if function.turn().is_some() { &[false, true] } else { &[false] };
    ways.iter().map(|apart| Limits { memory: limit, aim: limit, apart: *apart, ..limits.clone() }).collect()
}

/// What passes may have, in turn, beginning with all of the limit.
fn tries(limits: &Limits, limit: u64) -> impl Iterator<Item = Limits> {
    let all = TRIES.into_iter().flat_map(|(part, eighths)| eighths.iter().map(move |eighths| (part, *eighths)));
    let aim = move |eighths: u64| (u128::from(limit) * u128::from(eighths) / 8) as u64;
    all.map(move |(part, eighths)| Limits { memory: limit / part, aim: aim(eighths), ..limits.clone() })
}

/// A training step without what an object leaves out of it.
fn bare(function: &Function) -> Function {
    let trains = function.results.iter().any(|r| matches!(r.role, ResultRole::Update(_)));
    if trains { without_metrics(function) } else { function.clone() }
}
