//! Common subexpressions: of nodes with equal op and equal operands the first one stands for all.
//!
//! Every op is a function of its operands and attributes (a random draw of seed, step and site too), so any two may be
//! merged. Expanding gradients makes many such pairs.

use rustc_hash::FxHashMap;

use super::{GraphPass, Limits, PassError};
use crate::ir::graph::{Function, ValueId};
use crate::ir::ops::Op;
use crate::ir::rewrite::Rewriter;
use crate::ir::scalar::ScalarFunction;

/// The pass.
pub const PASS: GraphPass = GraphPass { name: "cse", doc: "computes equal expressions once", run };

fn run(function: &Function, _: &Limits) -> Result<Function, PassError> {
    let mut rewriter = Rewriter::new(function.graph.len());
    let mut known: FxHashMap<(Op, Vec<ValueId>), Vec<ValueId>> = FxHashMap::default();
    for (id, node) in function.graph.nodes() {
        let key = key(&node.op, rewriter.inputs(node));
        if let Some(values) = known.get(&key) {
            rewriter.set(id, values.clone());
            continue;
        }
        rewriter.copy(id, node);
        let values =
            (0..node.outputs.len() as u32).map(|output| rewriter.value(ValueId { node: id, output })).collect();
        known.insert(key, values);
    }
    Ok(rewriter.finish(function))
}

/// The op and its operands, in a fixed order where the order does not matter.
fn key(op: &Op, mut inputs: Vec<ValueId>) -> (Op, Vec<ValueId>) {
    use ScalarFunction as F;
    if let Op::Map(map) = op
        && matches!(map.function, F::Add | F::Mul | F::Equal | F::NotEqual | F::And | F::Or | F::Xor)
    {
        inputs.sort_unstable();
    }
    (op.clone(), inputs)
}

#[cfg(test)]
mod tests {
    #[test]
    fn equal_expressions_merge() {
        let nodes = "%2 = map(%0, %1) function=add : f32[3] in a
            %3 = map(%1, %0) function=add : f32[3] in b
            %4 = map(%0, %1) function=sub : f32[3]
            %5 = map(%1, %0) function=sub : f32[3]
            %6 = map(%2, %3) function=mul : f32[3]
            result z: output = %6
            result u: output = %4
            result v: output = %5";
        let expected = "\
%0 = argument() index=0 dtype=f32 shape=[3] : f32[3]
%1 = argument() index=1 dtype=f32 shape=[3] : f32[3]
%2 = map(%0, %1) function=add : f32[3] in a
%3 = map(%0, %1) function=sub : f32[3]
%4 = map(%1, %0) function=sub : f32[3]
%5 = map(%2, %2) function=mul : f32[3]
result z: output = %5
result u: output = %3
result v: output = %4
";
        assert_eq!(crate::passes::tests::after(&super::PASS, nodes), expected);
    }
}
