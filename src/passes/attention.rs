//! Attention that leaves out what a causal mask hides ([`groups`]), and never has all of its weights in memory: where they are many, they are computed block by block.
//!
//! `softmax(q k^T + mask) v` has weights `[.., queries, keys]`, more than all else in a model for long sequences. They are cut along axes of the result: samples and heads, and the queries
//! of one head where its weights alone are too many. A loop computes one block after the other: its scores, their softmax over all keys and the product with the values. Rows of the weights stay whole,
//! so every number of the result is the same sum in the same order, to the bit; gradients of keys and values are added up block by block. The pass comes before [`autodiff`](super::autodiff): the gradient of such a loop is a loop that computes the scores again from queries and
//! keys, because nothing of the rounds of a [`lean`](crate::ir::ops::scan::Scan::lean) loop is kept.
//!
//! Of weights that are dropped out a round draws the numbers of its block, the same that the whole draw has there. Draws are made of 64 numbers together: where blocks are not made of
//! such (a number of keys that is not a multiple of 64, mostly), that attention stays whole.
//!
//! Sources: Rabe and Staats, *Self-attention Does Not Need O(n²) Memory*, 2021; Dao, Fu, Ermon, Rudra, Ré, *FlashAttention*, 2022, whose gradient this is but for the statistics of rows, which are computed again here.

mod blocks;
mod groups;
mod hidden;
mod keys;
mod region;
mod rounds;

use self::blocks::Cut;
use self::groups::Group;
use self::region::{Readers, Region, bytes};
use self::rounds::{Range, Rounds};
use super::{GraphPass, Limits, PassError};
use crate::ir::builder::GraphBuilder;
use crate::ir::graph::{Function, Graph, NodeId, ValueId};
use crate::ir::ops::Op;
use crate::ir::ops::concat::Concat;
use crate::ir::rewrite::Rewriter;

/// The pass.
pub const PASS: GraphPass = GraphPass {
    name: "attention",
    doc: "leaves out what is hidden in attention, and computes it in blocks where its weights are many",
    run,
};

/// Bytes of weights that stay whole: above, blocks mostly take less time on one thread, below about the same (`docs/performance.md`).
const AT_ONCE: u64 = 32 << 20;

/// Bytes of one block: it stays in the caches while scores become exponentials and are multiplied, and has rows enough for products near the machine's peak.
const BLOCK: u64 = 2 << 20;

/// The weights of one attention take no more than this part of the limit on memory.
const SHARE: u64 = 16;

fn run(function: &Function, limits: &Limits) -> Result<Function, PassError> {
    let at_once = AT_ONCE.min(limits.memory / SHARE);
    let found = found(function, at_once);
    if found.is_empty() {
        return Ok(function.clone());
    }
    let mut rewriter = Rewriter::new(function.graph.len());
    for (id, node) in function.graph.nodes() {
        let Some(attention) = found.iter().find(|attention| attention.region.product.value.node == id) else {
            rewriter.copy(id, node);
            continue;
        };
        let outside: Vec<ValueId> = attention.region.outside.iter().map(|r| rewriter.value(r.value)).collect();
        let value = attention.write(&function.graph, &mut rewriter.builder, &outside);
        rewriter.set(id, vec![value]);
    }
    Ok(super::dce::prune(&rewriter.finish(function)))
}

/// Attention that is written in another way: in groups, in blocks or in both.
struct Attention {
    region: Region,
    pieces: Vec<Piece>,
}

/// A group of queries, or all of them, and how they are cut into blocks.
struct Piece {
    group: Option<Group>,
    cuts: Vec<Cut>,
}

impl Attention {
    fn write(&self, graph: &Graph, b: &mut GraphBuilder, outside: &[ValueId]) -> ValueId {
        let write = |piece: &Piece| {
            let ranges: Vec<Range> = piece.group.iter().flat_map(|group| [group.queries, group.keys]).collect();
            Rounds { graph, region: &self.region, cuts: &piece.cuts }.write(b, outside, &ranges)
        };
        let written: Vec<ValueId> = self.pieces.iter().map(write).collect();
        match (written.as_slice(), &self.pieces[0].group) {
            (parts, Some(group)) => {
                let axis = rounds::place(&self.region.product, group.queries.axis).expect("queries are in the result");
                b.emit(Concat { axis }, parts)
            }
            (parts, None) => parts[0],
        }
    }
}

/// The attention of a function of which something is hidden, or whose weights take more than `at_once` bytes, and all that it reads much less.
fn found(function: &Function, at_once: u64) -> Vec<Attention> {
    let graph = &function.graph;
    let is_worth = |v: &ValueId| bytes(graph.type_of(*v)) >= groups::LEAST_BYTES.min(at_once + 1);
    let products =
        graph.nodes().filter(|(_, node)| matches!(node.op, Op::Contract(_)) && node.inputs.iter().any(is_worth));
    let products: Vec<NodeId> = products.map(|(id, _)| id).collect();
    if products.is_empty() {
        return Vec::new();
    }
    let readers = Readers::new(function);
    let attention = |id: NodeId| {
        let region = Region::of(function, &readers, id)?;
        let in_blocks = region.bytes > at_once && reads_little(graph, &region);
        let block = BLOCK.min(at_once) / graph.type_of(region.product.value).dtype.bytes() as u64;
        let (region, groups) = match groups::of(graph, &region) {
            Some((region, groups)) => (region, groups.into_iter().map(Some).collect()),
            None => (region, vec![None]),
        };
        let piece = |group: Option<Group>| {
            let cuts = if in_blocks { cuts(&region, group, block as usize) } else { Vec::new() };
            Piece { group, cuts }
        };
        let pieces: Vec<Piece> = groups.into_iter().map(piece).collect();
        let changes = pieces.iter().any(|piece| piece.group.is_some() || !piece.cuts.is_empty());
        changes.then_some(Attention { region, pieces })
    };
    products.into_iter().filter_map(attention).collect()
}

/// Whether all that attention reads is much less than its weights.
fn reads_little(graph: &Graph, region: &Region) -> bool {
    let is_argument = |v: ValueId| matches!(graph.node(v.node).op, Op::Argument(_));
    let is_small = |v: ValueId| is_argument(v) || bytes(graph.type_of(v)) <= region.bytes / 2;
    region.outside.iter().all(|reading| is_small(reading.value))
}

/// The cuts of the weights of some queries into blocks of about `block` elements, none if that is not possible.
fn cuts(region: &Region, group: Option<Group>, block: usize) -> Vec<Cut> {
    let mut sizes = region.sizes.clone();
    for Range { axis, size, .. } in group.iter().flat_map(|group| [group.queries, group.keys]) {
        sizes[axis] = size;
    }
    let cuts = blocks::cuts(&sizes, &region.axes, block);
    if region.draws && !blocks::are_whole_draws(&sizes, &cuts) { Vec::new() } else { cuts }
}
