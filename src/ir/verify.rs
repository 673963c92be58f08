//! Checks the invariants of a function over a tensor graph, by inferring every type again.
//!
//! Runs after every pass; a failure is a bug of the pass before, never of the user's file.

use std::collections::BTreeSet;

use super::graph::{Function, Node, NodeId, ResultRole, ValueId};
use super::ops::Op;
use super::types::TensorType;

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{function}` is invalid: {message}")]
pub struct Invalid {
    pub function: String,
    /// What is wrong, and at which node.
    pub message: String,
}

/// Checks that nodes are in topological order and well typed, bodies of loops included, and that arguments and results fit the graph.
///
/// # Errors
/// The first invariant that does not hold.
pub fn function(function: &Function) -> Result<(), Invalid> {
    check(function).map_err(|message| Invalid { function: function.name.clone(), message })
}

fn check(function: &Function) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for (id, node) in function.graph.nodes() {
        let place = |message: String| format!("node {} ({}): {message}", id.0, node.op.doc().name);
        check_node(function, id, node).map_err(place)?;
        if let Op::Argument(argument) = &node.op {
            check_argument(function, argument.index, &argument.ty).map_err(place)?;
            if !seen.insert(argument.index) {
                return Err(place(format!("a second node for argument {}", argument.index)));
            }
        }
    }
    function
        .results
        .iter()
        .try_for_each(|r| check_result(function, r.value, r.role).map_err(|m| format!("result `{}`: {m}", r.name)))
}

fn exists(function: &Function, value: ValueId) -> bool {
    (value.node.0 as usize) < function.graph.len()
        && (value.output as usize) < function.graph.node(value.node).outputs.len()
}

fn check_node(function: &Function, id: NodeId, node: &Node) -> Result<(), String> {
    for value in &node.inputs {
        if value.node >= id || !exists(function, *value) {
            return Err(format!("operand {}.{} is not there before it", value.node.0, value.output));
        }
    }
    if let Op::Scan(scan) = &node.op {
        self::function(&scan.body).map_err(|e| e.to_string())?;
    }
    let inputs: Vec<&TensorType> = node.inputs.iter().map(|v| function.graph.type_of(*v)).collect();
    let outputs = node.op.infer(&inputs).map_err(|e| e.to_string())?;
    if outputs != node.outputs {
        let list = |types: &[TensorType]| types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        return Err(format!("has types {}, should have {}", list(&node.outputs), list(&outputs)));
    }
    Ok(())
}

fn check_argument(function: &Function, index: u32, ty: &TensorType) -> Result<(), String> {
    match function.arguments.get(index as usize) {
        None => Err(format!("the function has no argument {index}")),
        Some(declared) if declared.ty != *ty => Err(format!("argument {index} is declared as {}", declared.ty)),
        Some(_) => Ok(()),
    }
}

fn check_result(function: &Function, value: ValueId, role: ResultRole) -> Result<(), String> {
    if !exists(function, value) {
        return Err("its value does not exist".into());
    }
    let ty = function.graph.type_of(value);
    match role {
        ResultRole::Update(index) => check_argument(function, index, ty),
        _ => Ok(()),
    }
}
