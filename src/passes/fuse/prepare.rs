//! Rewrites a graph into the form in which it is cut into groups.

use std::sync::Arc;

use crate::ir::graph::{Function, ResultRole, ValueId};
use crate::ir::ops::Op;
use crate::ir::ops::reshape::Reshape;
use crate::ir::rewrite::Rewriter;

/// The function with a node of its own for each result that is an argument, so that it is stored as any other value, and with a constant of its own for each op that
/// reads it from memory, so that it need not be kept from one to the next.
///
/// An argument that is its own update is left alone. A result of another shape than what is computed is that itself: in memory both are the same.
pub fn prepare(function: &Function) -> Function {
    let mut rewriter = Rewriter::new(function.graph.len());
    for (id, node) in function.graph.nodes() {
        if matches!(node.op, Op::Concat(_)) {
            let inputs: Vec<ValueId> = node.inputs.iter().map(|v| own_constant(function, &mut rewriter, *v)).collect();
            rewriter.builder.set_scope(Arc::clone(&node.scope));
            let values = rewriter.builder.add(node.op.clone(), &inputs).expect("operands are of the same types");
            rewriter.set(id, values);
            continue;
        }
        rewriter.copy(id, node);
    }
    let values: Vec<ValueId> =
        function.results.iter().map(|r| own_result(function, &mut rewriter, r.value, r.role)).collect();
    let mut out = rewriter.finish(function);
    out.results.iter_mut().zip(values).for_each(|(result, value)| result.value = value);
    out
}

fn own_constant(function: &Function, rewriter: &mut Rewriter, old: ValueId) -> ValueId {
    let node = function.graph.node(old.node);
    match &node.op {
        Op::Constant(_) => rewriter.add(node, node.op.clone()).expect("a constant has no operands")[0],
        _ => rewriter.value(old),
    }
}

fn own_result(function: &Function, rewriter: &mut Rewriter, old: ValueId, role: ResultRole) -> ValueId {
    let old = in_shape_computed(function, old);
    let value = rewriter.value(old);
    match &function.graph.node(old.node).op {
        Op::Argument(argument) if role != ResultRole::Update(argument.index) => {
            let shape = rewriter.builder.shape_of(value);
            rewriter.builder.emit(Reshape { shape }, &[value])
        }
        _ => value,
    }
}

/// A value before it was reshaped, if it is not an argument.
fn in_shape_computed(function: &Function, mut value: ValueId) -> ValueId {
    let op = |value: ValueId| &function.graph.node(value.node).op;
    while let Op::Reshape(_) = op(value) {
        let operand = function.graph.node(value.node).inputs[0];
        if matches!(op(operand), Op::Argument(_)) {
            break;
        }
        value = operand;
    }
    value
}
