//! Attention that never has all of its weights in memory: where they are many, they are computed block by block.
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

pub(super) mod blocks;
pub(super) mod region;
pub(super) mod rounds;

use self::blocks::Cut;
use self::region::{Readers, Region, bytes};
use self::rounds::Rounds;
use super::{GraphPass, Limits, PassError};
use crate::ir::graph::{Function, NodeId, ValueId};
use crate::ir::ops::Op;
use crate::ir::rewrite::Rewriter;

/// The pass.
pub const PASS: GraphPass =
    GraphPass { name: "attention", doc: "computes attention in blocks where its weights are many", run };

/// Bytes of weights that stay whole: above, blocks mostly take less time on one thread, below about the same (`docs/performance.md`).
const AT_ONCE: u64 = 32 << 20;

/// Bytes of one block: it stays in the caches while scores become exponentials and are multiplied, and has rows enough for products near the machine's peak.
const BLOCK: u64 = 2 << 20;

/// The weights of one attention take no more than this part of the limit on memory.
const SHARE: u64 = 16;

fn run(function: &Function, limits: &Limits) -> Result<Function, PassError> {
    let at_once = AT_ONCE.min(limits.memory / SHARE);
    let found = found(function, at_once, BLOCK.min(at_once));
    if found.is_empty() {
        return Ok(function.clone());
    }
    let mut rewriter = Rewriter::new(function.graph.len());
    for (id, node) in function.graph.nodes() {
        let Some((region, cuts)) = found.iter().find(|(region, _)| region.product.value.node == id) else {
            rewriter.copy(id, node);
            continue;
        };
        let outside: Vec<ValueId> = region.outside.iter().map(|r| rewriter.value(r.value)).collect();
        let rounds = Rounds { graph: &function.graph, region, cuts };
        let value = rounds.write(&mut rewriter.builder, outside);
        rewriter.set(id, vec![value]);
    }
    Ok(super::dce::prune(&rewriter.finish(function)))
}

/// The attention of a function whose weights take more than `at_once` bytes, and all that it reads much less, with cuts into blocks of about `block` bytes.
fn found(function: &Function, at_once: u64, block: u64) -> Vec<(Region, Vec<Cut>)> {
    let graph = &function.graph;
    let large = |v: &ValueId| bytes(graph.type_of(*v)) > at_once;
    let products =
        graph.nodes().filter(|(_, node)| matches!(node.op, Op::Contract(_)) && node.inputs.iter().any(large));
    let products: Vec<NodeId> = products.map(|(id, _)| id).collect();
    if products.is_empty() {
        return Vec::new();
    }
    let readers = Readers::new(function);
    let is_small = |v: ValueId, weights: u64| {
        let is_argument = matches!(graph.node(v.node).op, Op::Argument(_));
        is_argument || bytes(graph.type_of(v)) <= weights / 2
    };
    let cut = |id: NodeId| {
        let region = Region::of(function, &readers, id)?;
        let reads_little = region.outside.iter().all(|o| is_small(o.value, region.bytes));
        let elements = block / graph.type_of(region.product.value).dtype.bytes() as u64;
        let cuts = blocks::cuts(&region.sizes, &region.axes, elements as usize);
        let drawn_alike = !region.draws || blocks::are_whole_draws(&region.sizes, &cuts);
        (region.bytes > at_once && reads_little && drawn_alike && !cuts.is_empty()).then_some((region, cuts))
    };
    products.into_iter().filter_map(cut).collect()
}
