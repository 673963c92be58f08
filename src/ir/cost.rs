//! What a function costs, counted on its graph: floating-point operations and bytes.

use std::collections::BTreeMap;

use super::graph::{Function, Node, Role};
use super::ops::Op;
use super::types::TensorType;

/// Operations and bytes of one call of a function of concrete sizes. Counts saturate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// A multiplication and an addition for each product that is summed, one operation for each element of anything else that computes.
    pub flops: u64,
    /// Bytes of the inputs and targets read and of the results written.
    pub bytes: u64,
}

/// The cost of a function; `None` while a dim is symbolic.
pub fn cost(function: &Function) -> Option<Cost> {
    let mut total = Cost::default();
    for (_, node) in function.graph.nodes() {
        total.flops = total.flops.saturating_add(flops(function, node)?);
    }
    let inputs = function.arguments.iter().filter(|a| matches!(a.role, Role::Input | Role::Target)).map(|a| &a.ty);
    let results = function.results.iter().map(|r| function.graph.type_of(r.value));
    for ty in inputs.chain(results) {
        total.bytes = total.bytes.saturating_add(elements(ty)?.saturating_mul(ty.dtype.bytes() as u64));
    }
    Some(total)
}

fn flops(function: &Function, node: &Node) -> Option<u64> {
    let operand = |i: usize| node.inputs.get(i).map(|value| function.graph.type_of(*value));
    match &node.op {
        Op::Map(_) => elements(&node.outputs[0]),
        Op::Reduce(_) => elements(operand(0)?),
        Op::ScatterAdd(_) => elements(node.inputs.last().map(|value| function.graph.type_of(*value))?),
        Op::Contract(contract) => {
            let labels = contract.left.iter().zip(&operand(0)?.shape);
            let sizes: BTreeMap<_, _> = labels.chain(contract.right.iter().zip(&operand(1)?.shape)).collect();
            let products = sizes
                .values()
                .try_fold(1u64, |product, dim| Some(product.saturating_mul(u64::try_from(dim.constant()?).ok()?)));
            Some(products?.saturating_mul(2))
        }
        _ => Some(0),
    }
}

fn elements(ty: &TensorType) -> Option<u64> {
    ty.sizes().map(|sizes| sizes.iter().fold(1u64, |product, size| product.saturating_mul(*size as u64)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::builder::GraphBuilder;
    use crate::ir::graph::{Argument, FunctionResult, ResultRole};
    use crate::ir::ops::contract::Contract;
    use crate::ir::types::DType;

    #[test]
    fn a_matrix_product() {
        let (x, w) = (TensorType::new(DType::F32, [2i64, 3]), TensorType::new(DType::F32, [3i64, 5]));
        let mut builder = GraphBuilder::new();
        let (a, b) = (builder.argument(0, x.clone()), builder.argument(1, w.clone()));
        let product = Contract { left: vec![0, 1], right: vec![1, 2], result: vec![0, 2] };
        let y = builder.emit(product, &[a, b]);
        let function = Function {
            name: "infer".into(),
            arguments: vec![
                Argument { name: "x".into(), role: Role::Input, ty: x },
                Argument { name: "w".into(), role: Role::Parameter, ty: w },
            ],
            graph: builder.finish(),
            results: vec![FunctionResult { name: "y".into(), role: ResultRole::Output, value: y }],
        };
        assert_eq!(cost(&function), Some(Cost { flops: 60, bytes: 4 * (6 + 10) }));
    }
}
