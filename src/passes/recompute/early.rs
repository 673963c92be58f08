//! Folds of forward values that the gradient alone asks for, such as where in each window the largest element was, run in the forward half if what they fold need not be kept then.
//!
//! Their results are a fraction of what they fold, and there the elements are at hand.

use rustc_hash::{FxHashMap, FxHashSet};

use super::super::fuse::classify::{Class, classify};
use crate::ir::graph::{Function, NodeId};
use crate::ir::rewrite::Rewriter;

/// The function with such folds right behind what they fold.
pub fn early(function: &Function, turn: NodeId) -> Function {
    let moved = moved(function, turn);
    if moved.is_empty() {
        return function.clone();
    }
    let folds: FxHashSet<NodeId> = moved.values().flatten().copied().collect();
    let mut rewriter = Rewriter::new(function.graph.len());
    for (id, node) in function.graph.nodes() {
        if !folds.contains(&id) {
            rewriter.copy(id, node);
        }
        for fold in moved.get(&id).into_iter().flatten() {
            rewriter.copy(*fold, function.graph.node(*fold));
        }
    }
    rewriter.finish(function)
}

/// By the node that makes their operand the folds that move.
fn moved(function: &Function, turn: NodeId) -> FxHashMap<NodeId, Vec<NodeId>> {
    let classes = classify(function);
    let graph = &function.graph;
    let mut folds: FxHashMap<NodeId, Vec<NodeId>> = FxHashMap::default();
    // Values that the gradient reads in other ways.
    let mut kept = vec![false; turn.0 as usize + 1];
    for (id, node) in graph.nodes().skip(kept.len()) {
        let forward = node.inputs.iter().map(|value| value.node).filter(|maker| *maker <= turn);
        match classes[id.0 as usize] {
            Class::Reduce { .. } => forward.for_each(|operand| folds.entry(operand).or_default().push(id)),
            _ => forward.for_each(|maker| kept[origin(function, &classes, maker).0 as usize] = true),
        }
    }
    folds.retain(|operand, _| {
        let origin = origin(function, &classes, *operand);
        !kept[origin.0 as usize] && !matches!(classes[origin.0 as usize], Class::Source)
    });
    folds
}

/// What a node is a view of.
fn origin(function: &Function, classes: &[Class], mut node: NodeId) -> NodeId {
    while matches!(classes[node.0 as usize], Class::View(_) | Class::Reshape) {
        node = function.graph.node(node).inputs[0].node;
    }
    node
}
