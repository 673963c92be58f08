//! Copies graphs with changes: what every pass is made of.
//!
//! A pass never edits a graph. A [`Rewriter`] walks the old one in order and builds the new one, remembering where
//! each old value went; [`Rewriter::copy`] is the step that changes nothing.

use std::sync::Arc;

use super::builder::GraphBuilder;
use super::dim::Sizes;
use super::graph::{Argument, Function, Node, NodeId, ValueId};
use super::ops::{Op, TypeError};
use super::types::TensorType;

/// Elements are counted with `i32` in compiled code.
pub const MOST_ELEMENTS: usize = i32::MAX as usize;

/// A new graph under construction, and where the values of the old one are in it.
#[derive(Debug)]
pub struct Rewriter {
    pub builder: GraphBuilder,
    /// For each old node the new values of its outputs; empty for nodes left out.
    values: Vec<Vec<ValueId>>,
}

impl Rewriter {
    /// A rewriter for a graph of `nodes` nodes.
    pub fn new(nodes: usize) -> Rewriter {
        Rewriter { builder: GraphBuilder::new(), values: vec![Vec::new(); nodes] }
    }

    /// Where an old value is in the new graph.
    ///
    /// # Panics
    /// If its node was left out, which is a bug of the pass.
    pub fn value(&self, old: ValueId) -> ValueId {
        self.values[old.node.0 as usize][old.output as usize]
    }

    /// Where output `output` of an old node is, which may be one that the old node did not have.
    pub fn value_of(&self, old: NodeId, output: u32) -> ValueId {
        self.values[old.0 as usize][output as usize]
    }

    /// Where the operands of an old node are.
    pub fn inputs(&self, node: &Node) -> Vec<ValueId> {
        node.inputs.iter().map(|v| self.value(*v)).collect()
    }

    /// Says where the outputs of an old node went.
    pub fn set(&mut self, old: NodeId, values: Vec<ValueId>) {
        self.values[old.0 as usize] = values;
    }

    /// Adds the old node with another op and the new operands, under its own scope.
    ///
    /// # Errors
    /// The op does not take the operands.
    pub fn add(&mut self, node: &Node, op: Op) -> Result<Vec<ValueId>, TypeError> {
        let inputs = self.inputs(node);
        self.builder.set_scope(Arc::clone(&node.scope));
        self.builder.add(op, &inputs)
    }

    /// Adds the old node unchanged.
    ///
    /// # Panics
    /// If the op does not take the new operands: a pass that changes types uses [`Rewriter::add`].
    pub fn copy(&mut self, id: NodeId, node: &Node) {
        let values = self.add(node, node.op.clone()).unwrap_or_else(|e| panic!("a copied node no longer checks: {e}"));
        self.set(id, values);
    }

    /// The function with the new graph in place of the old one.
    pub fn finish(self, function: &Function) -> Function {
        let mut results = function.results.clone();
        results.iter_mut().for_each(|r| r.value = self.value(r.value));
        Function {
            name: function.name.clone(),
            arguments: function.arguments.clone(),
            graph: self.builder.finish(),
            results,
        }
    }
}

/// See [`Function::specialize`].
pub(super) fn specialize(function: &Function, sizes: &Sizes) -> Result<Function, String> {
    let mut rewriter = Rewriter::new(function.graph.len());
    for (id, node) in function.graph.nodes() {
        let place = || match &*node.scope {
            "" => format!("`{}`", node.op.doc().name),
            scope => format!("`{}` in `{scope}`", node.op.doc().name),
        };
        let attributes = node.op.attributes().substitute(sizes).map_err(|e| format!("{}: {e}", place()))?;
        let op = Op::from_attributes(node.op.doc().name, &attributes).map_err(|e| format!("{}: {e}", place()))?;
        let values = rewriter.add(node, op).map_err(|e| format!("{}: {e}", place()))?;
        for value in &values {
            check_concrete(rewriter.builder.type_of(*value)).map_err(|e| format!("{}: {e}", place()))?;
        }
        rewriter.set(id, values);
    }
    let mut out = rewriter.finish(function);
    out.arguments = function.arguments.iter().map(|a| concrete_argument(a, sizes)).collect::<Result<_, _>>()?;
    Ok(out)
}

fn concrete_argument(argument: &Argument, sizes: &Sizes) -> Result<Argument, String> {
    let ty = argument.ty.substitute(sizes).ok_or_else(|| format!("a size of `{}` overflows", argument.name))?;
    check_concrete(&ty).map_err(|e| format!("`{}`: {e}", argument.name))?;
    Ok(Argument { name: argument.name.clone(), role: argument.role, ty })
}

/// Every dim is a number, none is negative, and the elements can be counted.
fn check_concrete(ty: &TensorType) -> Result<(), String> {
    if let Some(symbol) = ty.shape.iter().flat_map(|d| d.symbols()).next() {
        return Err(format!("the size `{}` of {ty} is not known", symbol.0));
    }
    match ty.elements() {
        Some(elements) if elements <= MOST_ELEMENTS => Ok(()),
        Some(_) => Err(format!("{ty} has more than {MOST_ELEMENTS} elements")),
        None => Err(format!("{ty} has a negative size or too many elements")),
    }
}
