//! Attention whose queries look at no key behind their own place: the hidden half of the weights is not computed.
//!
//! Under a causal mask the weights `[.., queries, keys]` are 0 above the diagonal. Queries are taken in a few groups, one after the other, and each group with the keys up to its last
//! query alone: for four groups five eighths of the weights are left, forward and backward. A mask is found by what it says of places ([`hidden`]), so any order of operations that
//! gives exactly 0 there will do. A weight of exactly 0 adds nothing, so the result is the same sum with fewer terms; only a value that is hidden and no number is not read any more.
//! The pass comes before [`attention`](super::attention), which cuts each group into blocks if its weights are still many.
//!
//! Weights that are dropped out stay whole: their random numbers are drawn for all of them in one order.

mod hidden;
mod keys;

use self::hidden::Diagonal;
use super::attention::region::{Readers, Region};
use super::attention::rounds::{Range, Rounds};
use super::{GraphPass, Limits, PassError};
use crate::ir::graph::{Function, NodeId, ValueId};
use crate::ir::ops::Op;
use crate::ir::ops::concat::Concat;
use crate::ir::rewrite::Rewriter;

/// The pass.
pub const PASS: GraphPass = GraphPass { name: "causal", doc: "leaves out what a causal mask hides in attention", run };

/// Fewer bytes of weights stay whole: there is little to gain.
const LEAST_BYTES: u64 = 1 << 17;

/// A group has no fewer queries than this, and there are no more groups: products of fewer rows and keys take longer by the operation (`docs/performance.md`).
const LEAST_QUERIES: usize = 64;
const MOST_GROUPS: usize = 4;

/// Groups begin at multiples of this many queries, so that their keys are whole vectors.
const WHOLE: usize = 16;

fn run(function: &Function, _: &Limits) -> Result<Function, PassError> {
    let found = found(function);
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
        let rounds = Rounds { graph: &function.graph, region: &attention.region, cuts: &[] };
        let groups: Vec<ValueId> =
            attention.groups.iter().map(|ranges| rounds.piece(&mut rewriter.builder, &outside, ranges)).collect();
        let value = rewriter.builder.emit(Concat { axis: attention.axis }, &groups);
        rewriter.set(id, vec![value]);
    }
    Ok(super::dce::prune(&rewriter.finish(function)))
}

/// Attention of which something is hidden.
struct Causal {
    /// Its readings know the axis of keys.
    region: Region,
    /// The queries and the keys of each group.
    groups: Vec<[Range; 2]>,
    /// The axis of queries in the result.
    axis: usize,
}

fn found(function: &Function) -> Vec<Causal> {
    let is_product = |op: &Op| matches!(op, Op::Contract(_));
    let products: Vec<NodeId> = function.graph.nodes().filter(|(_, n)| is_product(&n.op)).map(|(id, _)| id).collect();
    if !function.graph.nodes().any(|(_, node)| matches!(node.op, Op::Iota(_))) || products.is_empty() {
        return Vec::new();
    }
    let readers = Readers::new(function);
    products.into_iter().filter_map(|id| causal(function, &readers, id)).collect()
}

/// The attention whose product with the values is node `id`, if it is worth to be taken in groups.
fn causal(function: &Function, readers: &Readers, id: NodeId) -> Option<Causal> {
    let region = Region::of(function, readers, id)?;
    if region.draws || region.bytes < LEAST_BYTES {
        return None;
    }
    let (region, keys) = keys::followed(&function.graph, region)?;
    let diagonal = hidden::diagonal(&function.graph, &region, keys)?;
    let axis = region.product.axes.iter().position(|axis| *axis == Some(diagonal.queries))?;
    let groups = groups(region.sizes[diagonal.queries], region.sizes[keys], diagonal);
    let group = |(first, queries, seen): (usize, usize, usize)| {
        [Range { axis: diagonal.queries, first, size: queries }, Range { axis: keys, first: 0, size: seen }]
    };
    (groups.len() > 1).then(|| Causal { groups: groups.into_iter().map(group).collect(), axis, region })
}

/// The first query of each group, their number, and how many keys they see; one group if less than an eighth of the weights is hidden to all queries of a group.
fn groups(queries: usize, keys: usize, diagonal: Diagonal) -> Vec<(usize, usize, usize)> {
    let count = (queries / LEAST_QUERIES).clamp(1, MOST_GROUPS);
    let size = queries.div_ceil(count).next_multiple_of(WHOLE);
    let group = |first: usize| {
        let end = (first + size).min(queries);
        let seen = (end as i64 + diagonal.offset).clamp(1, keys as i64) as usize;
        (first, end - first, seen)
    };
    let groups: Vec<_> = (0..queries).step_by(size).map(group).collect();
    let left: usize = groups.iter().map(|(_, queries, seen)| queries * seen).sum();
    if 8 * left <= 7 * queries * keys { groups } else { vec![(0, queries, keys)] }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(queries: usize, keys: usize, offset: i64) -> Vec<(usize, usize, usize)> {
        groups(queries, keys, Diagonal { queries: 0, offset })
    }

    #[test]
    fn groups_see_the_keys_up_to_their_last_query() {
        assert_eq!(of(256, 256, 0), [(0, 64, 64), (64, 64, 128), (128, 64, 192), (192, 64, 256)]);
        assert_eq!(of(130, 130, 0), [(0, 80, 80), (80, 50, 130)]);
        // Each query sees one key less, and ten keys more than there are queries.
        assert_eq!(of(128, 128, -1), [(0, 64, 63), (64, 64, 127)]);
        assert_eq!(of(128, 138, 10), [(0, 64, 74), (64, 64, 138)]);
    }

    #[test]
    fn nothing_is_cut_where_little_is_hidden() {
        assert_eq!(of(127, 127, 0), [(0, 127, 127)]);
        assert_eq!(of(128, 640, 512), [(0, 128, 640)]);
        // No query sees a key: each has one all the same, so that there is something to fold.
        assert_eq!(of(128, 4, -200), [(0, 64, 1), (64, 64, 1)]);
    }
}
