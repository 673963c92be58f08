//! Loop nests that fold: the same for reductions and for contractions that no tile computes.
//!
//! If the vector axis is reduced, each result is a `Fold` (16 fixed lanes and a fixed tree); if it is kept, each lane accumulates
//! a result of its own in a serial loop. Either goes in blocks, and blocks of blocks, so that rounding errors grow with the logarithm
//! of the length ([`fold_nest`](super::fold_nest)). A large fold with few results goes in two steps through partial results in memory, cut by shape alone.

use super::axes::{Addresses, Axis};
use super::emit::{Context, Emitter};
use super::finish::{CHUNK_WORK, Draft};
use super::fold_nest::Nest;
use super::monoid;
use crate::ir::loops::build::{BlockBuilder, KernelBuilder};
use crate::ir::loops::sums::divisor;
use crate::ir::loops::{Affine, Block, Value};
use crate::ir::scalar::Monoid;
use crate::ir::types::DType;
use crate::passes::fuse::Group;
use crate::passes::fuse::classify::block_cost;

/// Writes the element to be folded at an index of the fold's axes.
type Element<'s> = dyn Fn(&mut Emitter<'_>, &mut BlockBuilder<'_>, &[Affine]) -> Value + 's;

/// Writes what follows a fold, from its accumulators and the index of its axes, in which the reduced ones are 0.
pub type Sink<'s> = dyn Fn(&mut Emitter<'_>, &mut BlockBuilder<'_>, &[Value], &[Affine]) + 's;

/// A fold of elements over some of its axes.
pub struct Fold<'s> {
    pub monoid: Monoid,
    /// Of the elements.
    pub dtype: DType,
    pub extents: Vec<u64>,
    pub reduced: Vec<bool>,
    pub element: Box<Element<'s>>,
}

/// The axes of one kernel of a fold.
pub struct Plan {
    pub axes: Vec<Axis>,
    /// Position in `axes` of the vector axis.
    pub vector: Option<usize>,
    /// Cost of one element.
    pub cost: u64,
}

/// Elements that a `Fold` takes together. So few are added up in no more time than what follows takes, which is better done for several results at once.
const ROUND: u64 = 16;

/// What an element costs where it is decided into how many pieces a fold goes: what is computed for it is not to change the order of a sum.
const ELEMENT_COST: u64 = 8;

/// The class of axes that the result has.
pub const KEPT: u8 = 0;
/// The class of axes that the fold removes.
pub const REDUCED: u8 = 1;

impl Fold<'_> {
    /// The kernels: one, or two where partial results go through memory.
    pub fn lower(&self, cx: &mut Context<'_>, group: &Group, sink: &Sink<'_>) -> Vec<Draft> {
        let plan = self.plan(cx, group, sink);
        if let Some((at, size)) = self.split(&plan) {
            return self.lower_in_two(cx, group, &plan, at, size, sink);
        }
        vec![write(cx, group, |e, b| self.write(e, b, &plan, None, sink))]
    }

    fn plan(&self, cx: &Context<'_>, group: &Group, sink: &Sink<'_>) -> Plan {
        let mut emitter = Emitter::new(cx, group);
        let mut element = Block::default();
        let kernel = KernelBuilder::new().finish("probe", None, |b| {
            let index: Vec<Affine> = self.extents.iter().map(|_| Affine::scaled(b.variable(), 1)).collect();
            element = b.block(|b| {
                let value = (self.element)(&mut emitter, b, &index);
                monoid::element(b, self.monoid, value, self.position(&index));
            });
            let results: Vec<Value> = self.neutral().iter().map(|(dtype, _)| b.value(*dtype)).collect();
            let kept: Vec<Affine> = self.kept_only(&index);
            emitter.scope(&[], |e| sink(e, b, &results, &kept));
        });
        let cost = u64::from(block_cost(&element));
        let reduced = self.extents.iter().zip(&self.reduced).filter(|(_, r)| **r).map(|(e, _)| *e).product::<u64>();
        let addresses = Addresses::of(&element).times(reduced.div_ceil(ROUND)).and(Addresses::of(&kernel.body));
        let classes: Vec<u8> = self.reduced.iter().map(|r| if *r { REDUCED } else { KEPT }).collect();
        let axes = addresses.collapse(&self.extents, &classes);
        Plan { vector: addresses.vector_axis(&axes), axes, cost: cost + 1 }
    }

    /// The accumulators' dtypes and neutral elements.
    pub fn neutral(&self) -> Vec<(DType, f64)> {
        monoid::neutral(self.monoid, self.dtype)
    }

    /// The index with 0 for the reduced axes.
    fn kept_only(&self, index: &[Affine]) -> Vec<Affine> {
        index.iter().zip(&self.reduced).map(|(i, r)| if *r { Affine::default() } else { i.clone() }).collect()
    }

    /// The number of an element among those of one result, in row-major order.
    pub fn position(&self, index: &[Affine]) -> Affine {
        let axes = index.iter().zip(&self.extents).zip(&self.reduced).filter(|(_, reduced)| **reduced);
        axes.fold(Affine::default(), |sum, ((i, extent), _)| sum.times(*extent as i64).sum(i))
    }

    /// Whether partial results go through memory: the axis to be cut and the rounds of one piece.
    fn split(&self, plan: &Plan) -> Option<(usize, u64)> {
        let product = |class: u8| plan.axes.iter().filter(|a| a.class == class).map(|a| a.extent).product::<u64>();
        let (kept, reduced) = (product(KEPT), product(REDUCED));
        let total = kept.saturating_mul(reduced).saturating_mul(ELEMENT_COST);
        let vector_kept = plan.vector.is_some_and(|v| plan.axes[v].class == KEPT);
        let independent = if vector_kept { kept / 64 } else { kept };
        if total < 8 * CHUNK_WORK || independent >= 8 || monoid::keeps_index(self.monoid) {
            return None;
        }
        let largest = (0..plan.axes.len()).filter(|a| plan.axes[*a].class == REDUCED);
        let at = largest.max_by_key(|a| (plan.axes[*a].extent, usize::MAX - a))?;
        let extent = plan.axes[at].extent;
        let most = (2 * CHUNK_WORK).div_ceil((total / extent).max(1)).clamp(1, extent);
        let size = divisor(extent, most.div_ceil(4), most).unwrap_or(most);
        (size < extent).then_some((at, size))
    }

    /// First the partial results of each piece of axis `at`, then their fold and what follows it.
    fn lower_in_two(
        &self,
        cx: &mut Context<'_>,
        group: &Group,
        plan: &Plan,
        at: usize,
        size: u64,
        sink: &Sink<'_>,
    ) -> Vec<Draft> {
        let extent = plan.axes[at].extent;
        let pieces = extent.div_ceil(size);
        let kept: Vec<usize> =
            self.extents.iter().zip(&self.reduced).map(|(e, r)| if *r { 1 } else { *e as usize }).collect();
        let stride: i64 = kept.iter().product::<usize>() as i64;
        let partial = cx.temporary("partial", self.dtype, pieces * stride as u64);
        let mut drafts = Vec::new();
        let whole = Piece { at, start: 0, first: 0, blocks: extent / size, size };
        let rest = Piece { at, start: extent - extent % size, first: extent / size, blocks: 1, size: extent % size };
        for piece in [whole, rest].into_iter().filter(|p| p.size > 0) {
            drafts.push(write(cx, group, |e, b| {
                self.write(e, b, plan, Some(&piece), &|e, b, results, index| {
                    let buffer = e.buffer(b, partial);
                    let (piece, index) = index.split_last().expect("the piece's number follows the index");
                    let address = super::view::linear(&kept, index).sum(&piece.times(stride));
                    b.store(buffer, address, results[0]);
                });
            }));
        }
        let load = |e: &mut Emitter<'_>, b: &mut BlockBuilder<'_>, index: &[Affine]| {
            let buffer = e.buffer(b, partial);
            let address = super::view::linear(&kept, &index[1..]).sum(&index[0].times(stride));
            b.load(buffer, address)
        };
        let rest = Fold {
            monoid: self.monoid,
            dtype: self.dtype,
            extents: std::iter::once(pieces).chain(kept.iter().map(|k| *k as u64)).collect(),
            reduced: std::iter::once(true).chain(kept.iter().map(|_| false)).collect(),
            element: Box::new(load),
        };
        let after: &Sink<'_> = &|e, b, results, index| sink(e, b, results, &index[1..]);
        let plan = rest.plan(cx, group, after);
        drafts.push(write(cx, group, |e, b| rest.write(e, b, &plan, None, after)));
        drafts
    }

    /// Writes the nest. With a piece, the index given to `sink` is followed by the piece's number.
    fn write(
        &self,
        e: &mut Emitter<'_>,
        b: &mut BlockBuilder<'_>,
        plan: &Plan,
        piece: Option<&Piece>,
        sink: &Sink<'_>,
    ) {
        let Some(piece) = piece else { return Nest { fold: self, plan, sink, run: None, number: None }.write(e, b) };
        let run = |start: Affine| Some((piece.at, start, piece.size));
        if piece.blocks == 1 {
            let number = Some(Affine::constant(piece.first as i64));
            return Nest { fold: self, plan, sink, run: run(Affine::constant(piece.start as i64)), number }.write(e, b);
        }
        b.for_each(piece.blocks, |b, block| {
            let start = Affine::scaled(block, piece.size as i64).offset(piece.start as i64);
            let number = Some(Affine::scaled(block, 1).offset(piece.first as i64));
            Nest { fold: self, plan, sink, run: run(start), number }.write(e, b);
        });
    }
}

/// A range of axis `at`: `blocks` pieces of `size` from `start`, the first with number `first`.
struct Piece {
    at: usize,
    start: u64,
    first: u64,
    blocks: u64,
    size: u64,
}

fn write(cx: &Context<'_>, group: &Group, body: impl FnOnce(&mut Emitter<'_>, &mut BlockBuilder<'_>)) -> Draft {
    let mut emitter = Emitter::new(cx, group);
    let kernel = KernelBuilder::new().finish("fold", None, |b| body(&mut emitter, b));
    emitter.draft(kernel)
}
