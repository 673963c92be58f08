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
    let mut total = Cost { flops: all_flops(function)?, bytes: 0 };
    let inputs = function.arguments.iter().filter(|a| matches!(a.role, Role::Input | Role::Target)).map(|a| &a.ty);
    let results = function.results.iter().map(|r| function.graph.type_of(r.value));
    for ty in inputs.chain(results) {
        total.bytes = total.bytes.saturating_add(elements(ty)?.saturating_mul(ty.dtype.bytes() as u64));
    }
    Some(total)
}

fn all_flops(function: &Function) -> Option<u64> {
    let of_node = |(_, node)| flops(function, node);
    function.graph.nodes().map(of_node).try_fold(0u64, |total, flops| Some(total.saturating_add(flops?)))
}

/// The operations of one node, counted as those of a function; `None` while a dim is symbolic.
pub fn flops(function: &Function, node: &Node) -> Option<u64> {
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
        Op::Scan(scan) => {
            let rounds = u64::try_from(scan.length.constant()?).ok()?;
            Some(all_flops(&scan.body)?.saturating_mul(rounds))
        }
        // Each element of the result, or of its gradient, meets the kernel's window of its group's channels.
        Op::Convolve(op) => {
            let kernel = operand(1)?.sizes()?;
            let window = elements_of(&kernel[..=op.geometry.rank()]);
            Some(elements(&node.outputs[0])?.saturating_mul(2).saturating_mul(window))
        }
        Op::ConvolveKernel(op) => {
            let kernel = node.outputs[0].sizes()?;
            let window = elements_of(&kernel[..=op.geometry.rank()]);
            Some(elements(operand(1)?)?.saturating_mul(2).saturating_mul(window))
        }
        _ => Some(0),
    }
}

fn elements(ty: &TensorType) -> Option<u64> {
    ty.sizes().map(|sizes| elements_of(&sizes))
}

fn elements_of(sizes: &[usize]) -> u64 {
    sizes.iter().fold(1u64, |product, size| product.saturating_mul(*size as u64))
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

    #[test]
    fn a_loop_costs_its_rounds() {
        let source = "function f
            argument h: input f32[4]
            %0 = argument() index=0 dtype=f32 shape=[4] : f32[4]
            %1 = scan(%0) length=10 carries=1 sequences=0 reverse=false body={
                function round
                argument round: step i32[]
                argument h: state f32[4]
                %0 = argument() index=1 dtype=f32 shape=[4] : f32[4]
                %1 = map(%0, %0) function=mul : f32[4]
                result h: update 1 = %1
            } : f32[4]
            result y: output = %1";
        let function = crate::ir::text::parse(source).unwrap();
        assert_eq!(cost(&function), Some(Cost { flops: 40, bytes: 32 }));
    }
}
