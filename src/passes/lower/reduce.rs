//! Groups around a reduction.

use super::emit::{Context, Emitter};
use super::finish::Draft;
use super::fold::Fold;
use super::monoid;
use crate::ir::graph::NodeId;
use crate::ir::loops::build::BlockBuilder;
use crate::ir::loops::{Affine, Value};
use crate::ir::scalar::Monoid;
use crate::passes::fuse::Group;

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
    fold.lower(cx, group, &|e, b, results, index| {
        let result: Value = results[usize::from(monoid::keeps_index(monoid))];
        let point: Vec<Affine> = space.iter().map(|a| index[*a].clone()).collect();
        e.scope(Some((root, result)), |e| e.stores(b, group, &point));
    })
}
