//! The tensor graph: SSA nodes in topological order, and the functions made of them.
//!
//! A node's operands are an ordered list of earlier values, so the arena order is always a valid order of
//! evaluation. Passes rebuild a graph through [`GraphBuilder`](super::builder::GraphBuilder) instead of
//! editing it in place. [`Graph::to_petgraph`] derives edges where an algorithm wants them.

use std::sync::Arc;

use super::dim::Sizes;
use super::ops::Op;
use super::types::TensorType;

/// A node of one graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u32);

/// One output of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId {
    pub node: NodeId,
    pub output: u32,
}

/// One operation applied to earlier values.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    pub op: Op,
    pub inputs: Vec<ValueId>,
    pub outputs: Vec<TensorType>,
    /// The layer path under which the node was made (`dense_1`), empty at the top of the model.
    pub scope: Arc<str>,
}

/// Nodes in topological order. Invariant: every input of node `i` belongs to a node before `i`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Graph {
    nodes: Vec<Node>,
}

impl Graph {
    /// The nodes with their ids, in topological order.
    pub fn nodes(&self) -> impl DoubleEndedIterator<Item = (NodeId, &Node)> + ExactSizeIterator {
        self.nodes.iter().enumerate().map(|(i, n)| (NodeId(i as u32), n))
    }

    /// The number of nodes.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is no node.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The node `id`.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    /// The type of a value.
    pub fn type_of(&self, value: ValueId) -> &TensorType {
        &self.node(value.node).outputs[value.output as usize]
    }

    /// Appends a node whose types were inferred by the caller (the builder, or a parser that verifies after).
    pub(super) fn push(&mut self, node: Node) -> NodeId {
        self.nodes.push(node);
        NodeId(u32::try_from(self.nodes.len() - 1).expect("fewer than 2^32 nodes"))
    }

    /// The graph as petgraph edges from producer to consumer; the edge weight is the consumer's operand number.
    pub fn to_petgraph(&self) -> petgraph::graph::DiGraph<NodeId, u32> {
        let mut out = petgraph::graph::DiGraph::with_capacity(self.len(), self.len() * 2);
        let index: Vec<_> = self.nodes().map(|(id, _)| out.add_node(id)).collect();
        for (id, node) in self.nodes() {
            for (operand, input) in node.inputs.iter().enumerate() {
                out.add_edge(index[input.node.0 as usize], index[id.0 as usize], operand as u32);
            }
        }
        out
    }
}

/// What an argument of a compiled function is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// A declared `input`.
    Input,
    /// A declared `target`.
    Target,
    /// A trained `param`; its name is its path.
    Parameter,
    /// A `state` of the model.
    State,
    /// A `state` of an optimizer, named `optimizer.state/parameter`.
    OptimizerState,
    /// `u32[2]`: the seed, low word first.
    Seed,
    /// `i32[]`: the number of the training step, from 1; at initialization and inference 0. Of a scan's body: the number of the round, from 0.
    Step,
    /// `i32[]`: the number of the epoch, from 1.
    Epoch,
}

/// An argument of a [`Function`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Argument {
    pub name: String,
    pub role: Role,
    pub ty: TensorType,
}

/// What a result of a compiled function is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResultRole {
    Output,
    Loss,
    Metric,
    /// The new value of the argument with this index (a parameter or a state), stored in its place.
    Update(u32),
    /// The first value of a parameter or state, computed by the `init` entry.
    Initial,
}

/// A result of a [`Function`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FunctionResult {
    pub name: String,
    pub role: ResultRole,
    pub value: ValueId,
}

/// One entry point as a graph (`init`, `infer`, `eval` or `train_step`), or the body of a [`scan`](super::ops::scan).
///
/// Invariant: the node `Op::Argument(i)` has the type of `arguments[i]`; each argument has at most one such node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Function {
    pub name: String,
    pub arguments: Vec<Argument>,
    pub graph: Graph,
    pub results: Vec<FunctionResult>,
}

impl Function {
    /// The last node of the forward half of a training step, behind which its gradient is computed: that of the last loss. None where nothing is updated or there is no loss.
    pub fn turn(&self) -> Option<NodeId> {
        let updates = self.results.iter().any(|r| matches!(r.role, ResultRole::Update(_)));
        let losses = self.results.iter().filter(|r| r.role == ResultRole::Loss).map(|r| r.value.node);
        losses.max().filter(|_| updates)
    }

    /// The function with symbolic dims replaced by concrete sizes.
    ///
    /// # Errors
    /// The first node whose type cannot be made concrete or no longer checks, as a sentence.
    pub fn specialize(&self, sizes: &Sizes) -> Result<Function, String> {
        super::rewrite::specialize(self, sizes)
    }
}
