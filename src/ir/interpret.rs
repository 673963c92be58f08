//! Evaluates a function naively in f64: the meaning that every later stage must keep. Results of `f16` and `bf16` are rounded to their
//! dtype, each op's; other floats are not rounded.

use super::graph::{Function, ValueId};
use super::ops::Op;
use super::scalar::meaning::round_half;
use super::tensor::Tensor;

/// The results of a function for arguments in its order.
///
/// # Errors
/// A sentence: a symbolic size, a `grad` that is not expanded, or arguments that are not of the declared types.
pub fn run(function: &Function, arguments: &[Tensor]) -> Result<Vec<Tensor>, String> {
    let values = evaluate(function, arguments)?;
    let value = |v: ValueId| values[v.node.0 as usize][v.output as usize].clone();
    Ok(function.results.iter().map(|r| value(r.value)).collect())
}

/// The outputs of every node, in the order of the graph.
///
/// # Errors
/// As [`run`].
pub fn evaluate(function: &Function, arguments: &[Tensor]) -> Result<Vec<Vec<Tensor>>, String> {
    check_arguments(function, arguments)?;
    let mut values: Vec<Vec<Tensor>> = Vec::with_capacity(function.graph.len());
    for (id, node) in function.graph.nodes() {
        if let Some(ty) = node.outputs.iter().find(|ty| ty.sizes().is_none()) {
            return Err(format!("node {} has the symbolic type {ty}", id.0));
        }
        let inputs: Vec<&Tensor> = node.inputs.iter().map(|v| &values[v.node.0 as usize][v.output as usize]).collect();
        let outputs = match &node.op {
            Op::Argument(argument) => vec![arguments[argument.index as usize].clone()],
            Op::Grad(_) => return Err(format!("node {} is a gradient that is not expanded", id.0)),
            Op::Scan(scan) => scan.evaluate(&inputs, &node.outputs).map_err(|e| format!("node {}: {e}", id.0))?,
            op => op.eval(&inputs, &node.outputs),
        };
        values.push(outputs.into_iter().map(rounded).collect());
    }
    Ok(values)
}

/// The tensor with `f16` and `bf16` elements rounded to their dtype; all other floats keep the precision of f64.
fn rounded(mut tensor: Tensor) -> Tensor {
    let dtype = tensor.ty.dtype;
    if dtype.is_half() {
        tensor.data.iter_mut().for_each(|x| *x = round_half(*x, dtype));
    }
    tensor
}

fn check_arguments(function: &Function, arguments: &[Tensor]) -> Result<(), String> {
    if arguments.len() != function.arguments.len() {
        return Err(format!(
            "`{}` takes {} arguments, found {}",
            function.name,
            function.arguments.len(),
            arguments.len()
        ));
    }
    for (declared, given) in function.arguments.iter().zip(arguments) {
        if declared.ty != given.ty {
            return Err(format!("argument `{}` is {}, found {}", declared.name, declared.ty, given.ty));
        }
    }
    Ok(())
}
