//! Finds attention in a graph: what lies between a product of queries and keys and the product with the values.
//!
//! From the second product backwards: a node that depends on scores is in the region, and each of its axes is an axis of the weights, or one that is summed or
//! folded whole. Beside it stand the nodes that make masks out of places and of smaller tensors. All else is read from outside.

use std::collections::BTreeSet;

use rustc_hash::{FxHashMap, FxHashSet};

use super::blocks::Axis;
use crate::ir::graph::{Function, Graph, Node, NodeId, ValueId};
use crate::ir::ops::Op;
use crate::ir::ops::contract::Contract;
use crate::ir::scalar::{Monoid, ScalarFunction};
use crate::ir::types::TensorType;
use crate::passes::keep::is_dear;

/// For each axis of a value the axis of the weights that it is, if an element's row of the result reads one element of it alone.
pub type Axes = Vec<Option<usize>>;

/// A value under one reading of its axes. One tensor may be read as queries and as keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reading {
    pub value: ValueId,
    pub axes: Axes,
}

/// Attention, ready to be cut along axes of its weights.
#[derive(Clone, Debug)]
pub struct Region {
    /// The product of the weights and the values; its axes are those of the result.
    pub product: Reading,
    /// What is computed in the region, in order, without the product: each with the readings of its operands.
    pub inside: Vec<(Reading, Vec<Reading>)>,
    /// The readings of the product's operands.
    pub operands: [Reading; 2],
    /// Which of them the weights are.
    pub weights: usize,
    /// What the region reads from around it.
    pub outside: Vec<Reading>,
    /// The sizes of the weights, `[.., queries, keys]`.
    pub sizes: Vec<usize>,
    /// What each axis of the weights is.
    pub axes: Vec<Axis>,
    /// Bytes of the weights.
    pub bytes: u64,
    /// Whether there are random numbers in the region, one for each weight.
    pub draws: bool,
}

impl Region {
    /// The attention whose product with the values is node `id`.
    pub fn of(function: &Function, readers: &Readers, id: NodeId) -> Option<Region> {
        let node = function.graph.node(id);
        let Op::Contract(contract) = &node.op else { return None };
        (0..2).find_map(|weights| Search::new(function, id, node, contract, weights)?.finish(readers))
    }
}

/// Who reads each node.
pub struct Readers {
    nodes: Vec<Vec<NodeId>>,
    results: FxHashSet<NodeId>,
}

impl Readers {
    /// Of the nodes of a function.
    pub fn new(function: &Function) -> Readers {
        let mut nodes = vec![Vec::new(); function.graph.len()];
        for (id, node) in function.graph.nodes() {
            node.inputs.iter().for_each(|v| nodes[v.node.0 as usize].push(id));
        }
        Readers { nodes, results: function.results.iter().map(|r| r.value.node).collect() }
    }

    /// Whether some node that is not `inside` reads `id`, or it is a result.
    fn escapes(&self, id: NodeId, inside: &FxHashSet<NodeId>) -> bool {
        self.results.contains(&id) || self.nodes[id.0 as usize].iter().any(|reader| !inside.contains(reader))
    }
}

/// The search for one region.
struct Search<'a> {
    graph: &'a Graph,
    product: Reading,
    operands: [Reading; 2],
    /// Which operand of the product the weights are.
    weights: usize,
    sizes: Vec<usize>,
    /// Which nodes depend on scores.
    depends: FxHashSet<NodeId>,
}

impl<'a> Search<'a> {
    fn new(function: &'a Function, id: NodeId, node: &Node, contract: &Contract, weights: usize) -> Option<Search<'a>> {
        let graph = &function.graph;
        let labels = if weights == 0 { &contract.left } else { &contract.right };
        let sizes = graph.type_of(node.inputs[weights]).sizes()?;
        let axis = |label: &u32| {
            let axis = labels.iter().position(|l| l == label)?;
            (contract.result.contains(label) && sizes[axis] > 1).then_some(axis)
        };
        let of = |value: ValueId, labels: &[u32]| Reading { value, axes: labels.iter().map(axis).collect() };
        let operands = [of(node.inputs[0], &contract.left), of(node.inputs[1], &contract.right)];
        let product = of(ValueId { node: id, output: 0 }, &contract.result);
        let depends = dependents(graph, node.inputs[weights]);
        (!depends.is_empty()).then_some(Search { graph, product, operands, weights, sizes, depends })
    }

    /// The region, if the weights are a softmax and nobody else reads what it is made of.
    fn finish(self, readers: &Readers) -> Option<Region> {
        let mut inside: Vec<(Reading, Vec<Reading>)> = Vec::new();
        let mut outside: Vec<Reading> = Vec::new();
        // The last first: all readers of a node have been seen before it.
        let mut waiting = BTreeSet::from([self.operands[self.weights].clone()]);
        outside.push(self.operands[1 - self.weights].clone());
        while let Some(reading) = waiting.pop_last() {
            match self.operands_of(&reading) {
                Some(operands) => {
                    match self.graph.node(reading.value.node).op {
                        Op::Contract(_) => outside.extend(operands.iter().cloned()),
                        _ => waiting.extend(operands.iter().cloned()),
                    }
                    inside.push((reading, operands));
                }
                None if self.depends.contains(&reading.value.node) => return None,
                None => outside.push(reading),
            }
        }
        inside.reverse();
        outside.sort();
        outside.dedup();
        let dependent: Vec<NodeId> =
            inside.iter().map(|(r, _)| r.value.node).filter(|n| self.depends.contains(n)).collect();
        let mut nodes: FxHashSet<NodeId> = dependent.iter().copied().collect();
        let read_in_two_ways = nodes.len() < dependent.len();
        nodes.insert(self.product.value.node);
        let escapes = dependent.iter().any(|node| readers.escapes(*node, &nodes));
        if read_in_two_ways || escapes || !self.is_softmax(&dependent) {
            return None;
        }
        let draws = inside.iter().any(|(r, _)| matches!(self.graph.node(r.value.node).op, Op::RandomBits(_)));
        let bytes = bytes(self.graph.type_of(self.operands[self.weights].value));
        let axes = (0..self.sizes.len()).map(|axis| self.kind(axis)).collect();
        let Search { product, operands, weights, sizes, .. } = self;
        Some(Region { product, inside, operands, weights, outside, sizes, axes, bytes, draws })
    }

    /// What an axis of the weights is.
    fn kind(&self, axis: usize) -> Axis {
        let values = &self.operands[1 - self.weights];
        match self.axis(axis) {
            None => Axis::Whole,
            Some(_) if values.axes.contains(&Some(axis)) => Axis::Shared,
            Some(_) => Axis::Rows,
        }
    }

    /// The axis of the weights at a place, if it may be cut.
    fn axis(&self, place: usize) -> Option<usize> {
        self.product.axes.contains(&Some(place)).then_some(place)
    }

    /// Whether there is an exponential and a sum in the region.
    fn is_softmax(&self, nodes: &[NodeId]) -> bool {
        let any = |is: &dyn Fn(&Op) -> bool| nodes.iter().any(|id| is(&self.graph.node(*id).op));
        any(&|op| matches!(op, Op::Map(map) if map.function == ScalarFunction::Exp))
            && any(&|op| matches!(op, Op::Reduce(reduce) if reduce.monoid == Monoid::Sum))
    }

    /// The readings of the operands of a node that is computed in the region; none of one that is read from outside.
    fn operands_of(&self, reading: &Reading) -> Option<Vec<Reading>> {
        let node = self.graph.node(reading.value.node);
        let depends = self.depends.contains(&reading.value.node);
        if !depends && (!is_free_mask(node) || reading.axes.iter().all(Option::is_none) && !node.inputs.is_empty()) {
            return None;
        }
        let axes = match node.op {
            Op::RandomBits(_) => self.of_draws(node, &reading.axes)?,
            _ => operand_axes(self.graph, node, &reading.axes)?,
        };
        Some(node.inputs.iter().zip(axes).map(|(value, axes)| Reading { value: *value, axes }).collect())
    }

    /// For each operand of random numbers, one for each of the weights, that it is read whole.
    fn of_draws(&self, node: &Node, axes: &Axes) -> Option<Vec<Axes>> {
        let as_weights = axes.iter().enumerate().all(|(place, axis)| *axis == self.axis(place));
        let all = node.outputs[0].sizes()? == self.sizes && as_weights;
        let whole = |v: &ValueId| vec![None; self.graph.type_of(*v).rank()];
        all.then(|| node.inputs.iter().map(whole).collect())
    }
}

/// For each operand of a node, which axes of the weights its axes are if those of the result are `axes`.
pub fn operand_axes(graph: &Graph, node: &Node, axes: &Axes) -> Option<Vec<Axes>> {
    Some(match &node.op {
        Op::Map(_) | Op::Cast(_) | Op::StopGradient(_) => vec![axes.clone(); node.inputs.len()],
        Op::Iota(_) | Op::Constant(_) => Vec::new(),
        Op::Broadcast(op) => {
            let shape = &graph.type_of(node.inputs[0]).shape;
            let kept = op.axes.iter().zip(shape).map(|(a, dim)| axes[*a].filter(|_| *dim == op.shape[*a]));
            vec![kept.collect()]
        }
        Op::Transpose(op) => vec![op.inverse().into_iter().map(|i| axes[i]).collect()],
        Op::Reduce(op) => {
            let rank = graph.type_of(node.inputs[0]).rank();
            let mut kept = axes.iter().copied();
            vec![(0..rank).map(|a| if op.axes.contains(&a) { None } else { kept.next().flatten() }).collect()]
        }
        Op::Reshape(_) => {
            let from = graph.type_of(node.inputs[0]).sizes()?;
            vec![reshaped(&node.outputs[0].sizes()?, axes, &from)?]
        }
        Op::Contract(op) => {
            let of = |labels: &[u32]| {
                let place = |l: &u32| op.result.iter().position(|r| r == l).and_then(|i| axes[i]);
                labels.iter().map(place).collect()
            };
            vec![of(&op.left), of(&op.right)]
        }
        _ => return None,
    })
}

/// The nodes behind the weights that depend on scores, the scores themselves included: products as large as the weights.
fn dependents(graph: &Graph, weights: ValueId) -> FxHashSet<NodeId> {
    let elements = graph.type_of(weights).elements();
    let mut seen: FxHashMap<NodeId, bool> = FxHashMap::default();
    let mut waiting = vec![weights.node];
    while let Some(id) = waiting.pop() {
        let node = graph.node(id);
        let scores = matches!(node.op, Op::Contract(_)) && node.outputs[0].elements() == elements;
        if seen.insert(id, scores).is_none() && !scores && is_rowwise(&node.op) {
            waiting.extend(node.inputs.iter().map(|v| v.node));
        }
    }
    let mut order: Vec<NodeId> = seen.keys().copied().collect();
    order.sort_unstable();
    let mut found: FxHashSet<NodeId> = FxHashSet::default();
    for id in order {
        let node = graph.node(id);
        let reaches = is_rowwise(&node.op) && node.inputs.iter().any(|v| found.contains(&v.node));
        if seen[&id] || reaches {
            found.insert(id);
        }
    }
    found
}

/// Whether a row of the result may depend on the same row of the operands alone.
fn is_rowwise(op: &Op) -> bool {
    matches!(
        op,
        Op::Map(_)
            | Op::Cast(_)
            | Op::StopGradient(_)
            | Op::Broadcast(_)
            | Op::Transpose(_)
            | Op::Reshape(_)
            | Op::Reduce(_)
    )
}

/// Whether a node that depends on no scores is made again in each round: it is cheap, or takes as much memory as the weights.
fn is_free_mask(node: &Node) -> bool {
    match &node.op {
        op @ Op::Map(_) => !is_dear(op),
        Op::Iota(_) | Op::Constant(_) | Op::RandomBits(_) => true,
        Op::Cast(_) | Op::StopGradient(_) | Op::Broadcast(_) | Op::Transpose(_) | Op::Reshape(_) => true,
        _ => false,
    }
}

/// The axes of the operand of a reshape: those that go on as they are, with as many elements before them.
fn reshaped(to: &[usize], axes: &Axes, from: &[usize]) -> Option<Axes> {
    let mut operand = vec![None; from.len()];
    for (place, axis) in axes.iter().enumerate().filter(|(_, axis)| axis.is_some()) {
        let before: usize = to[..place].iter().product();
        let same = |i: &usize| from[*i] == to[place] && from[..*i].iter().product::<usize>() == before;
        operand[(0..from.len()).find(same)?] = *axis;
    }
    Some(operand)
}

/// Bytes of a tensor.
pub fn bytes(ty: &TensorType) -> u64 {
    ty.elements().map_or(u64::MAX, |n| (n as u64).saturating_mul(ty.dtype.bytes() as u64))
}
