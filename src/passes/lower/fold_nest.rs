//! Writes the loops of one kernel of a fold.

use super::axes::{Axis, spread};
use super::emit::Emitter;
use super::fold::{Fold, KEPT, Plan, Sink};
use super::map::{nested, parts};
use super::monoid;
use crate::ir::loops::build::BlockBuilder;
use crate::ir::loops::sums::divisor;
use crate::ir::loops::{Affine, Value};
use crate::ir::scalar::Monoid;

/// Rounds of a serial accumulation in one block, where no divisor of the extent is near.
const ROUNDS: u64 = 32;

/// Elements of one `Fold`, where no divisor of the extent is near: 64 for each lane.
const FOLD: u64 = 1024;

/// One kernel of a fold being written.
pub struct Nest<'n> {
    pub fold: &'n Fold<'n>,
    pub plan: &'n Plan,
    pub sink: &'n Sink<'n>,
    /// The axis of which only a run is folded, where the run starts and how long it is.
    pub run: Option<(usize, Affine, u64)>,
    /// What follows the index given to the sink.
    pub number: Option<Affine>,
}

/// The indices of the loops around, by position of their axis in the plan.
type Around = Vec<(usize, Affine)>;

impl Nest<'_> {
    /// Writes everything.
    pub fn write(&self, e: &mut Emitter<'_>, b: &mut BlockBuilder<'_>) {
        let vector = self.plan.vector;
        let kept = |a: &usize| self.plan.axes[*a].class == KEPT && Some(*a) != vector;
        let order: Vec<usize> = (0..self.plan.axes.len()).filter(kept).collect();
        let extents: Vec<u64> = order.iter().map(|a| self.plan.axes[*a].extent).collect();
        nested(b, &extents, &mut Vec::new(), &mut |b, vars| {
            let around: Around = order.iter().zip(vars).map(|(a, v)| (*a, Affine::scaled(*v, 1))).collect();
            match vector.filter(|v| self.plan.axes[*v].class == KEPT) {
                Some(vector) => self.write_lanes(e, b, vector, around),
                None => self.write_one(e, b, around),
            }
        });
    }

    /// Each lane has a result of its own. With no other loop around, the lanes are cut into blocks for threads.
    fn write_lanes(&self, e: &mut Emitter<'_>, b: &mut BlockBuilder<'_>, vector: usize, around: Around) {
        let extent = self.plan.axes[vector].extent;
        let rounds: u64 = self.reduced().iter().map(|a| self.extent(*a)).product();
        let cut = match parts(extent, rounds.saturating_mul(self.plan.cost).max(1)).as_slice() {
            [part] if around.is_empty() && self.run.is_none() && part.blocks > 1 => Some((part.blocks, part.size)),
            _ => None,
        };
        let mut lanes = |b: &mut BlockBuilder<'_>, extent: u64, start: Affine| {
            b.lanes(extent, |b, lane| {
                let mut around = around.clone();
                around.push((vector, start.plus(lane, 1)));
                self.write_one(e, b, around);
            });
        };
        match cut {
            Some((blocks, size)) => {
                b.for_each(blocks, |b, block| lanes(b, size, Affine::scaled(block, size as i64)));
            }
            None => lanes(b, extent, Affine::default()),
        }
    }

    /// One result: the fold and what follows it.
    fn write_one(&self, e: &mut Emitter<'_>, b: &mut BlockBuilder<'_>, around: Around) {
        let mut loops = self.reduced();
        loops.retain(|a| Some(*a) != self.plan.vector);
        let results = self.accumulate(e, b, &loops, &around);
        let mut index = self.index(&around);
        index.extend(self.number.clone());
        e.scope(&[], |e| (self.sink)(e, b, &results, &index));
    }

    fn reduced(&self) -> Vec<usize> {
        (0..self.plan.axes.len()).filter(|a| self.plan.axes[*a].class != KEPT).collect()
    }

    fn index(&self, around: &Around) -> Vec<Affine> {
        let loops: Vec<(&Axis, Affine)> = around.iter().map(|(a, i)| (&self.plan.axes[*a], i.clone())).collect();
        spread(self.fold.extents.len(), &loops)
    }

    fn extent(&self, axis: usize) -> u64 {
        match &self.run {
            Some((at, _, size)) if *at == axis => *size,
            _ => self.plan.axes[axis].extent,
        }
    }

    fn start(&self, axis: usize) -> Affine {
        match &self.run {
            Some((at, start, _)) if *at == axis => start.clone(),
            _ => Affine::default(),
        }
    }

    /// The accumulators after serial loops over `loops` around the vector fold, or around single elements.
    fn accumulate(
        &self,
        e: &mut Emitter<'_>,
        b: &mut BlockBuilder<'_>,
        loops: &[usize],
        around: &Around,
    ) -> Vec<Value> {
        let Some((axis, rest)) = loops.split_first() else { return self.leaf(e, b, around) };
        let mut inner = |b: &mut BlockBuilder<'_>, index: Affine| {
            let mut around = around.clone();
            around.push((*axis, index));
            self.accumulate(e, b, rest, &around)
        };
        self.in_blocks(b, self.start(*axis), self.extent(*axis), ROUNDS, &mut |s, b, start, extent| {
            s.carried(b, extent, &mut |b, var| inner(b, start.clone().sum(&var)))
        })
    }

    fn vector_is_kept(&self) -> bool {
        self.plan.vector.is_none_or(|v| self.plan.axes[v].class == KEPT)
    }

    /// Whether the order of the fold's steps changes its rounding.
    fn rounds(&self) -> bool {
        self.fold.dtype.is_float() && matches!(self.fold.monoid, Monoid::Sum | Monoid::Prod)
    }

    /// One element, or the fold of the vector axis.
    fn leaf(&self, e: &mut Emitter<'_>, b: &mut BlockBuilder<'_>, around: &Around) -> Vec<Value> {
        if self.vector_is_kept() {
            return self.element(e, b, around);
        }
        let Some(vector) = self.plan.vector else { return self.element(e, b, around) };
        let (start, extent) = (self.start(vector), self.extent(vector));
        self.in_blocks(b, start, extent, FOLD, &mut |s, b, start, extent| {
            let element = |b: &mut BlockBuilder<'_>, var| {
                let mut around = around.clone();
                around.push((vector, start.plus(var, 1)));
                s.element(e, b, &around)
            };
            b.fold(extent, &s.fold.neutral(), element, |b, l, r| monoid::merge(b, s.fold.monoid, l, r))
        })
    }

    fn element(&self, e: &mut Emitter<'_>, b: &mut BlockBuilder<'_>, around: &Around) -> Vec<Value> {
        let index = self.index(around);
        let value = e.scope(&[], |e| (self.fold.element)(e, b, &index));
        monoid::element(b, self.fold.monoid, value, self.fold.position(&index))
    }

    /// Runs `fold` on an axis at once, or on blocks of it if it is longer than two: their results are folded in blocks of [`ROUNDS`] in
    /// turn, so that no number takes part in more than some dozens of additions at each of log(extent) levels. What is exact in any
    /// order needs no blocks.
    fn in_blocks(
        &self,
        b: &mut BlockBuilder<'_>,
        start: Affine,
        extent: u64,
        block: u64,
        fold: &mut dyn FnMut(&Self, &mut BlockBuilder<'_>, Affine, u64) -> Vec<Value>,
    ) -> Vec<Value> {
        if extent < 2 * block || !self.rounds() {
            return fold(self, b, start, extent);
        }
        let size = divisor(extent, block / 2, 2 * block).unwrap_or(block);
        let blocks = self.in_blocks(b, Affine::default(), extent / size, ROUNDS, &mut |s, b, first, count| {
            s.carried(b, count, &mut |b, var| {
                let at = first.clone().sum(&var).times(size as i64);
                fold(s, b, start.clone().sum(&at), size)
            })
        });
        match extent % size {
            0 => blocks,
            rest => {
                let last = fold(self, b, start.offset((extent - rest) as i64), rest);
                monoid::merge(b, self.fold.monoid, &blocks, &last)
            }
        }
    }

    /// A serial loop that merges what each round gives. Where all folded axes are such loops, rounds come in the order of their elements' indices: a fold
    /// that keeps one begins with the first round, and each later one has to be better.
    fn carried(
        &self,
        b: &mut BlockBuilder<'_>,
        extent: u64,
        round: &mut dyn FnMut(&mut BlockBuilder<'_>, Affine) -> Vec<Value>,
    ) -> Vec<Value> {
        let monoid = self.fold.monoid;
        if monoid::keeps_index(monoid) && self.vector_is_kept() && extent > 0 {
            let first = round(b, Affine::default());
            return b.for_carried(extent - 1, &first, |b, var, so_far| {
                let next = round(b, Affine::scaled(var, 1).offset(1));
                monoid::merge_later(b, monoid, so_far, &next)
            });
        }
        let initial: Vec<Value> = self.fold.neutral().iter().map(|(d, v)| b.constant(*d, *v)).collect();
        b.for_carried(extent, &initial, |b, var, so_far| {
            let next = round(b, Affine::scaled(var, 1));
            monoid::merge(b, monoid, so_far, &next)
        })
    }
}
