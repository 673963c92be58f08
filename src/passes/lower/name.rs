//! Names of kernels and buffers, by what they hold.

use crate::ir::graph::{NodeId, ValueId};
use crate::ir::ops::Op;
use crate::passes::fuse::{Class, Fused, Group, Kind};

/// So many operations stand in a kernel's name.
const MOST_WORDS: usize = 3;

/// `contract_max_128x784x512`: what the kernel does and on which sizes.
pub fn of_group(fused: &Fused, group: &Group) -> String {
    let mut words = match group.kind {
        Kind::Reduce(node) => vec![word(fused, node)],
        Kind::Contract(_) => vec!["contract".to_string()],
        Kind::Opaque(node) | Kind::Loop(node) => vec![word(fused, node)],
        Kind::Map => Vec::new(),
        Kind::Copy => vec!["copy".to_string()],
    };
    let root = match group.kind {
        Kind::Reduce(node) | Kind::Contract(node) | Kind::Opaque(node) | Kind::Loop(node) => Some(node),
        Kind::Map | Kind::Copy => None,
    };
    let mut rest: Vec<NodeId> =
        group.members.iter().chain(&group.inlined).copied().filter(|id| Some(*id) != root).collect();
    rest.sort_unstable();
    // The last operations say most about what a kernel makes.
    let first = rest.len().saturating_sub(MOST_WORDS);
    words.extend(rest[first..].iter().map(|id| word(fused, *id)));
    words.push(sizes_of(fused, group));
    words.retain(|w| !w.is_empty());
    words.join("_")
}

fn sizes_of(fused: &Fused, group: &Group) -> String {
    let sizes = match group.kind {
        Kind::Reduce(node) => fused.analysis.sizes_of(fused.function.graph.node(node).inputs[0]).to_vec(),
        Kind::Contract(node) => contract_sizes(fused, node),
        _ => group.space.clone(),
    };
    sizes.iter().filter(|s| **s != 1).map(ToString::to_string).collect::<Vec<_>>().join("x")
}

/// The sizes of all labels: the result's, then those summed over.
fn contract_sizes(fused: &Fused, node: NodeId) -> Vec<usize> {
    let mut sizes = fused.analysis.sizes[node.0 as usize][0].clone();
    if let Class::Contract { left, result, .. } = fused.analysis.class(node) {
        let operand = fused.analysis.sizes_of(fused.function.graph.node(node).inputs[0]);
        sizes.extend(left.iter().zip(operand).filter(|(label, _)| !result.contains(label)).map(|(_, size)| *size));
    }
    sizes
}

fn word(fused: &Fused, id: NodeId) -> String {
    let op = &fused.function.graph.node(id).op;
    match (op, fused.analysis.class(id)) {
        (_, Class::Reduce { monoid, .. }) => format!("reduce_{}", monoid.name()),
        (Op::Map(map), _) => map.function.name().to_string(),
        _ => op.doc().name.to_string(),
    }
}

/// The name of a value's buffer: what makes it, and its number in the graph.
pub fn of_value(fused: &Fused, value: ValueId) -> String {
    format!("{}_{}", word(fused, value.node), value.node.0)
}

/// For every two kernels of which one reads what the other makes, why they are two: once for kernels of the same names.
pub fn apart(fused: &Fused) -> Vec<(String, String, &'static str)> {
    let group = |id: NodeId| fused.groups.iter().find(|g| g.members.contains(&id)).map(|g| of_group(fused, g));
    let mut all: Vec<(String, String, &'static str)> = Vec::new();
    for apart in &fused.apart {
        if let (Some(maker), Some(reader)) = (group(apart.maker), group(apart.reader)) {
            let entry = (maker, reader, apart.why);
            if !all.contains(&entry) {
                all.push(entry);
            }
        }
    }
    all
}
