//! Builds graphs: every node's types are inferred as it is added.

use std::sync::Arc;

use super::graph::{Graph, Node, ValueId};
use super::ops::{Op, TypeError};
use super::types::TensorType;

/// Builds a graph.
#[derive(Clone, Debug)]
pub struct GraphBuilder {
    graph: Graph,
    scope: Arc<str>,
}

impl Default for GraphBuilder {
    fn default() -> Self {
        GraphBuilder { graph: Graph::default(), scope: Arc::from("") }
    }
}

impl GraphBuilder {
    /// An empty graph.
    pub fn new() -> Self {
        Self::default()
    }

    /// The graph so far.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The finished graph.
    pub fn finish(self) -> Graph {
        self.graph
    }

    /// The type of a value.
    pub fn type_of(&self, value: ValueId) -> &TensorType {
        self.graph.type_of(value)
    }

    /// Nodes added from now on carry this layer path; returns the one before.
    pub fn set_scope(&mut self, scope: Arc<str>) -> Arc<str> {
        std::mem::replace(&mut self.scope, scope)
    }

    /// Adds a node and returns its outputs.
    ///
    /// # Errors
    /// What the op's `infer` says of its operands.
    pub fn add(&mut self, op: impl Into<Op>, inputs: &[ValueId]) -> Result<Vec<ValueId>, TypeError> {
        let op = op.into();
        let types: Vec<&TensorType> = inputs.iter().map(|v| self.graph.type_of(*v)).collect();
        let outputs = op.infer(&types)?;
        let count = outputs.len() as u32;
        let node = self.graph.push(Node { op, inputs: inputs.to_vec(), outputs, scope: self.scope.clone() });
        Ok((0..count).map(|output| ValueId { node, output }).collect())
    }

    /// Adds a node with one output whose operands are known to fit: for VJPs and rules.
    ///
    /// # Panics
    /// If the op refuses its operands, which is a bug of the caller.
    pub fn emit(&mut self, op: impl Into<Op>, inputs: &[ValueId]) -> ValueId {
        let outputs = self.add(op, inputs).unwrap_or_else(|e| panic!("ill-typed node emitted: {e}"));
        outputs[0]
    }
}
