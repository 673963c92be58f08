//! Groups around a reduction.

use super::emit::{Context, Emitter};
use super::finish::Draft;
use super::fold::Fold;
use super::monoid;
use crate::ir::graph::NodeId;
use crate::ir::loops::build::BlockBuilder;
use crate::ir::loops::{Affine, Value};
use crate::ir::scalar::Monoid;
use crate::passes::fuse::{Class, Group};

/// The kernels of a group whose root reduces `axes` of its operand.
pub fn lower(cx: &mut Context<'_>, group: &Group, root: NodeId, axes: &[usize], monoid: Monoid) -> Vec<Draft> {
    let (function, analysis) = (cx.function, cx.analysis);
    let operand = function.graph.node(root).inputs[0];
    let extents: Vec<u64> = analysis.sizes_of(operand).iter().map(|s| *s as u64).collect();
    let reduced: Vec<bool> = (0..extents.len()).map(|a| axes.contains(&a)).collect();
    let element = move |e: &mut Emitter<'_>, b: &mut BlockBuilder<'_>, index: &[Affine]| {
        let value = e.element(b, operand, index);
        e.apply(b, root, &[value], index).first().copied().unwrap_or(value)
    };
    let space: Vec<usize> = (0..extents.len()).filter(|a| !reduced[*a] && extents[*a] != 1).collect();
    let dtype = function.graph.type_of(operand).dtype;
    let fold = Fold { monoid, dtype, extents, reduced, element: Box::new(element) };
    // A fold that looks for a place has found what is there.
    let is_fold = |id: &&NodeId| **id != root && matches!(analysis.class(**id), Class::Reduce { .. });
    let companion = group.members.iter().find(is_fold).copied();
    fold.lower(cx, group, &|e, b, results, index| {
        let result: Value = results[usize::from(monoid::keeps_index(monoid))];
        let roots: Vec<(NodeId, Value)> =
            std::iter::once((root, result)).chain(companion.map(|id| (id, results[0]))).collect();
        let point: Vec<Affine> = space.iter().map(|a| index[*a].clone()).collect();
        e.scope(&roots, |e| e.stores(b, group, &point));
    })
}
