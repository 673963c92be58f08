//! Which operands a loop addresses where they stand, though they are no whole row-major arrays.
//!
//! A sequence along the second axis of a batch is a transposed array: each round takes elements far apart. Whatever a body computes element
//! by element, folds or multiplies can be told strides; what it hands to an op that takes whole buffers cannot.

use std::collections::BTreeMap;

use super::analysis::Analysis;
use super::classify::{Class, class_of};
use crate::ir::graph::{Function, Node, NodeId, ValueId};
use crate::ir::loops::{Affine, LoopVar};
use crate::ir::ops::scan::Scan;
use crate::passes::lower::view::{self, View};

/// Whether the body can take an operand of the node (a sequence or a capture) with strides.
pub fn reads_in_place(scan: &Scan, operand: usize) -> bool {
    let carried = operand < scan.carries as usize;
    let Some(argument) = scan.argument_value(1 + operand) else { return !carried };
    let mut views = vec![argument];
    let mut accepted = !carried;
    for (id, node) in scan.body.graph.nodes() {
        if node.inputs.iter().any(|v| views.contains(v)) {
            match class_of(&scan.body, node) {
                Class::View(_) => views.push(ValueId { node: id, output: 0 }),
                Class::Reshape if is_told_by_index(&scan.body, node) => views.push(ValueId { node: id, output: 0 }),
                Class::Reshape | Class::Opaque | Class::Loop => accepted = false,
                Class::Source | Class::Pointwise { .. } | Class::Reduce { .. } | Class::Contract { .. } => {}
            }
        }
    }
    accepted
}

/// Whether no axis is joined with another.
fn is_told_by_index(function: &Function, node: &Node) -> bool {
    let sizes = |ty: &crate::ir::types::TensorType| ty.sizes();
    let (Some(from), Some(to)) = (sizes(function.graph.type_of(node.inputs[0])), sizes(&node.outputs[0])) else {
        return false;
    };
    let index: Vec<Affine> = (0..to.len()).map(|a| Affine::scaled(LoopVar(a as u32), 1)).collect();
    view::reshape_index(&from, &to, &index).is_some()
}

/// An operand of a loop where it stands.
#[derive(Clone, Debug)]
pub struct Placed {
    /// The value whose array holds it.
    pub base: ValueId,
    /// The lowest element of round 0.
    pub offset: i64,
    /// Elements from one round to the next.
    pub step: i64,
    /// What a round reads, from its own lowest element on.
    pub view: View,
}

/// The operand `operand` of the scan `id`.
pub fn placed(function: &Function, analysis: &Analysis, id: NodeId, scan: &Scan, operand: usize) -> Placed {
    let value = function.graph.node(id).inputs[operand];
    let whole = || (value, View::whole(analysis.sizes_of(value)));
    let (base, mut view) = analysis.base(function, value).unwrap_or_else(whole);
    let mut step = 0;
    if scan.sequence_arguments().contains(&(1 + operand)) {
        view.sizes.remove(0);
        step = view.strides.remove(0);
    }
    let backwards =
        view.sizes.iter().zip(&view.strides).map(|(size, stride)| (*size as i64 - 1).max(0) * stride.min(&0));
    let lowest = view.offset + backwards.sum::<i64>();
    view.offset -= lowest;
    Placed { base, offset: lowest, step, view }
}

/// The places of the body's arguments that are no whole arrays.
pub fn places(function: &Function, analysis: &Analysis, id: NodeId, scan: &Scan) -> BTreeMap<u32, View> {
    let operands = 0..function.graph.node(id).inputs.len();
    let views = operands.map(|o| (1 + o as u32, placed(function, analysis, id, scan, o).view));
    views.filter(|(_, view)| !view.is_whole()).collect()
}

/// The elements from the first to the last that a view reaches.
pub fn reach(view: &View) -> u64 {
    if view.sizes.contains(&0) {
        return 0;
    }
    1 + view
        .sizes
        .iter()
        .zip(&view.strides)
        .map(|(size, stride)| (*size as u64 - 1) * stride.unsigned_abs())
        .sum::<u64>()
}
