//! Which values are kept: a minimum cut.
//!
//! Every value of the forward half is an edge as wide as its bytes, from *computed* to *at hand in the gradient*. What the gradient reads has to be at hand. A value that is cheap is also at
//! hand if all that it is made of is, so a line from these to it cannot be cut. The narrowest cut between what can only be computed once and what
//! the gradient reads is the least that has to be kept; of several, the one nearest to the readers computes the least again.

use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::EdgeRef;

use super::super::fuse::classify::Class;
use super::reads_buffers;
use crate::ir::graph::{Function, Node, NodeId, ValueId};
use crate::ir::ops::Op;

/// While all that is kept is no larger than this, it stays in the cache, and writing a tensor again takes longer than keeping it.
const CACHED_BYTES: u64 = 16 << 20;

/// No reader computes more nodes again than this.
const LONGEST: usize = 24;

/// What computing again costs, in bytes kept.
struct Prices {
    /// A value of more instructions than this is kept.
    dearest: u32,
    /// For any value: small ones are kept.
    value: u64,
    /// One part in so many of a tensor that is written once more for an op that reads buffers.
    written_part: u64,
}

impl Prices {
    /// Where the gradient reads so many bytes of the forward half, and so many are to be kept at most.
    fn of(read: u64, memory: u64) -> Prices {
        match read {
            _ if read > memory => Prices { dearest: 100, value: 4096, written_part: 16 },
            // Beyond the cache, writing and reading a value takes as long as a function such as `exp` or `erf`.
            _ if read > CACHED_BYTES => Prices { dearest: 20, value: 4096, written_part: 4 },
            _ => Prices { dearest: 10, value: 4096, written_part: 1 },
        }
    }

    /// What computing a node again costs, beside having its operands at hand.
    fn again(&self, node: &Node, class: &Class, bytes: u64, read: Option<Reader>) -> u64 {
        match class {
            Class::View(_) | Class::Reshape | Class::Pointwise { cost: 0, .. } => 0,
            Class::Pointwise { cost, .. } if *cost <= self.dearest && node.outputs.len() == 1 => {
                let written = if read == Some(Reader::OfBuffers) { bytes } else { 0 };
                self.value + written / self.written_part
            }
            // Its operand is written again as well.
            Class::Opaque if matches!(node.op, Op::Pad(_) | Op::Winograd(_)) => {
                self.value + 2 * bytes / self.written_part
            }
            _ => ENDLESS,
        }
    }
}

/// More than all tensors together.
const ENDLESS: u64 = 1 << 50;

/// For each node whether it is computed again for its readers behind `turn`, where the gradient is to keep at most so many bytes.
pub fn choose(function: &Function, classes: &[Class], turn: NodeId, memory: u64) -> Vec<bool> {
    let count = turn.0 as usize + 1;
    let read = read_late(function, classes, turn);
    let in_memory = (0..count).filter(|i| read[*i].is_some() && !stands_elsewhere(&classes[*i]));
    let prices = Prices::of(in_memory.map(|i| bytes(function, i)).sum(), memory);
    let mut network = Network::new(count);
    for i in 0..count {
        let node = function.graph.node(NodeId(i as u32));
        let (made, at_hand) = (network.made(i), network.at_hand(i));
        network.add(network.source, made, prices.again(node, &classes[i], bytes(function, i), read[i]));
        network.add(made, at_hand, width(&classes[i], bytes(function, i)));
        for input in &node.inputs {
            network.add(network.at_hand(input.node.0 as usize), made, ENDLESS);
        }
        if read[i].is_some() {
            network.add(at_hand, network.readers, ENDLESS);
        }
    }
    let near = network.nearest_cut();
    let again = |i: usize| i < count && near[network.made(i).index()] && !matches!(classes[i], Class::Source);
    (0..function.graph.len()).map(again).collect()
}

/// What is computed `again` without those nodes at which more than [`LONGEST`] would have to be computed again one after another.
pub fn shortened(function: &Function, classes: &[Class], turn: NodeId, mut again: Vec<bool>) -> Vec<bool> {
    for node in 0..=turn.0 as usize {
        let computes = matches!(classes[node], Class::Pointwise { cost: 1.., .. });
        if again[node] && computes && behind(function, &again, node) > LONGEST {
            again[node] = false;
        }
    }
    again
}

/// How many nodes are computed again for one of them, itself included; of very many only some are counted.
fn behind(function: &Function, again: &[bool], node: usize) -> usize {
    let (mut seen, mut stack) = (Vec::new(), vec![node]);
    while let (Some(at), true) = (stack.pop(), seen.len() <= LONGEST) {
        if again[at] && !seen.contains(&at) {
            seen.push(at);
            stack.extend(function.graph.node(NodeId(at as u32)).inputs.iter().map(|v| v.node.0 as usize));
        }
    }
    seen.len()
}

/// For each node of the forward half whether the gradient keeps its values, if what is `again` is computed again.
pub fn kept(function: &Function, classes: &[Class], turn: NodeId, again: &[bool]) -> Vec<bool> {
    let count = turn.0 as usize + 1;
    let mut needed: Vec<bool> = read_late(function, classes, turn).iter().map(Option::is_some).collect();
    for node in (0..count).rev() {
        if needed[node] && (again[node] || matches!(classes[node], Class::View(_) | Class::Reshape)) {
            function.graph.node(NodeId(node as u32)).inputs.iter().for_each(|v| needed[v.node.0 as usize] = true);
        }
    }
    let takes_memory = |class: &Class| !stands_elsewhere(class) && !matches!(class, Class::Pointwise { cost: 0, .. });
    (0..count).map(|node| needed[node] && !again[node] && takes_memory(&classes[node])).collect()
}

/// Whether a value is an argument or another view of one that is in memory.
fn stands_elsewhere(class: &Class) -> bool {
    matches!(class, Class::Source | Class::View(_) | Class::Reshape)
}

/// What keeping a value costs.
fn width(class: &Class, bytes: u64) -> u64 {
    match class {
        Class::Source | Class::Pointwise { cost: 0, .. } => 0,
        // What it is a view of is kept.
        Class::View(_) | Class::Reshape => ENDLESS,
        _ => bytes,
    }
}

/// How the gradient reads a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reader {
    OfElements,
    OfBuffers,
}

/// For each node of the forward half whether a node behind the turn reads it. What reads a view of a value reads the value.
fn read_late(function: &Function, classes: &[Class], turn: NodeId) -> Vec<Option<Reader>> {
    let mut read: Vec<Option<Reader>> = vec![None; turn.0 as usize + 1];
    for (id, node) in function.graph.nodes().skip(read.len()) {
        let how = if reads_buffers(&classes[id.0 as usize]) { Reader::OfBuffers } else { Reader::OfElements };
        for input in node.inputs.iter().filter(|v| v.node <= turn) {
            let mut value = *input;
            loop {
                let at = &mut read[value.node.0 as usize];
                *at = (*at).max(Some(how));
                match classes[value.node.0 as usize] {
                    Class::View(_) | Class::Reshape => value = function.graph.node(value.node).inputs[0],
                    _ => break,
                }
            }
        }
    }
    read
}

pub fn bytes(function: &Function, node: usize) -> u64 {
    let of = |output: u32| {
        let ty = function.graph.type_of(ValueId { node: NodeId(node as u32), output });
        (ty.elements().unwrap_or(0) * ty.dtype.bytes()) as u64
    };
    (0..function.graph.node(NodeId(node as u32)).outputs.len() as u32).map(of).sum()
}

/// The values as edges between what is made and what is at hand.
struct Network {
    graph: DiGraph<(), u64>,
    source: NodeIndex,
    readers: NodeIndex,
}

impl Network {
    fn new(values: usize) -> Network {
        let mut graph = DiGraph::with_capacity(2 * values + 2, 4 * values);
        (0..2 * values).for_each(|_| {
            graph.add_node(());
        });
        let (source, readers) = (graph.add_node(()), graph.add_node(()));
        Network { graph, source, readers }
    }

    fn made(&self, value: usize) -> NodeIndex {
        NodeIndex::new(2 * value)
    }

    fn at_hand(&self, value: usize) -> NodeIndex {
        NodeIndex::new(2 * value + 1)
    }

    fn add(&mut self, from: NodeIndex, to: NodeIndex, width: u64) {
        self.graph.add_edge(from, to, width);
    }

    /// Which ends of edges are on the readers' side of the minimum cut that is nearest to them.
    fn nearest_cut(&self) -> Vec<bool> {
        let (_, flow) = petgraph::algo::dinics(&self.graph, self.source, self.readers);
        let mut near = vec![false; self.graph.node_count()];
        near[self.readers.index()] = true;
        let mut stack = vec![self.readers];
        while let Some(node) = stack.pop() {
            let into = self.graph.edges_directed(node, petgraph::Direction::Incoming);
            let before = into.filter(|e| flow[e.id().index()] < *e.weight()).map(|e| e.source());
            let out_of = self.graph.edges_directed(node, petgraph::Direction::Outgoing);
            let behind = out_of.filter(|e| flow[e.id().index()] > 0).map(|e| e.target());
            for next in before.chain(behind) {
                if !std::mem::replace(&mut near[next.index()], true) {
                    stack.push(next);
                }
            }
        }
        near
    }
}
