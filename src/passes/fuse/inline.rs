//! Which pointwise nodes are computed inside their only consumer.

use super::analysis::{Analysis, Read};
use super::classify::Class;
use crate::ir::graph::{Function, NodeId, ValueId};
use crate::passes::lower::view;

/// No expression grows beyond this many nodes by inlining, so that walks over it stay short.
const LARGEST_EXPRESSION: usize = 48;

/// For each node whether it is computed inside its consumer, and what each node that is work of its own reads.
#[derive(Clone, Debug)]
pub struct Inlined {
    pub inside: Vec<bool>,
    pub reads: Vec<Vec<Read>>,
}

/// Decides for every node, producers first.
pub fn inline(function: &Function, analysis: &Analysis) -> Inlined {
    let count = function.graph.len();
    let mut reads = vec![Vec::new(); count];
    let mut users: Vec<Vec<NodeId>> = vec![Vec::new(); count];
    for (id, _) in function.graph.nodes().filter(|(id, _)| analysis.is_real(*id)) {
        let found = analysis.reads(function, id);
        found.iter().for_each(|r| users[r.value.node.0 as usize].push(id));
        reads[id.0 as usize] = found;
    }
    let mut inside = vec![false; count];
    let mut weight = vec![1usize; count];
    for (id, node) in function.graph.nodes().filter(|(id, _)| analysis.is_real(*id)) {
        let at = id.0 as usize;
        let own: usize =
            reads[at].iter().map(|r| r.value.node.0 as usize).filter(|n| inside[*n]).map(|n| weight[n]).sum();
        weight[at] = own + 1;
        let [user] = users[at].as_slice() else { continue };
        let value = ValueId { node: id, output: 0 };
        let wanted: usize = reads[user.0 as usize]
            .iter()
            .map(|r| r.value.node.0 as usize)
            .filter(|n| inside[*n])
            .map(|n| weight[n])
            .sum();
        inside[at] = node.outputs.len() == 1
            && matches!(analysis.class(id), Class::Pointwise { .. })
            && !analysis.stored.contains(&value)
            && wanted + weight[at] < LARGEST_EXPRESSION
            && evaluations(analysis, function, *user)
                .is_some_and(|times| times <= view::elements(analysis.sizes_of(value)));
    }
    Inlined { inside, reads }
}

/// How often a consumer computes what it reads; `None` if it reads whole buffers.
fn evaluations(analysis: &Analysis, function: &Function, user: NodeId) -> Option<usize> {
    match analysis.class(user) {
        Class::Reduce { .. } => Some(view::elements(analysis.sizes_of(function.graph.node(user).inputs[0]))),
        Class::Contract { .. } | Class::Opaque | Class::Loop | Class::Source => None,
        _ => Some(view::elements(&analysis.sizes[user.0 as usize][0])),
    }
}
