//! Rewrites a graph into the form in which it is cut into groups.

use crate::ir::graph::{Function, ResultRole, ValueId};
use crate::ir::ops::Op;
use crate::ir::ops::reshape::Reshape;
use crate::ir::rewrite::Rewriter;

/// The function with a node of its own for each result that is an argument, so that it is stored as any other value.
///
/// An argument that is its own update is left alone.
pub fn prepare(function: &Function) -> Function {
    let mut rewriter = Rewriter::new(function.graph.len());
    function.graph.nodes().for_each(|(id, node)| rewriter.copy(id, node));
    let values: Vec<ValueId> =
        function.results.iter().map(|r| own_result(function, &mut rewriter, r.value, r.role)).collect();
    let mut out = rewriter.finish(function);
    out.results.iter_mut().zip(values).for_each(|(result, value)| result.value = value);
    out
}

fn own_result(function: &Function, rewriter: &mut Rewriter, old: ValueId, role: ResultRole) -> ValueId {
    let value = rewriter.value(old);
    match &function.graph.node(old.node).op {
        Op::Argument(argument) if role != ResultRole::Update(argument.index) => {
            let shape = rewriter.builder.shape_of(value);
            rewriter.builder.emit(Reshape { shape }, &[value])
        }
        _ => value,
    }
}
