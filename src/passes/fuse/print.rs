//! The text of a fused function: each group bracketed, with its space, its nodes and what it stores.

use std::fmt;

use super::{Destination, Fused, Group, Kind};
use crate::ir::graph::{NodeId, ValueId};
use crate::ir::ops::Attribute;

/// Prints every group in the order in which they run.
pub fn print(fused: &Fused, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    print_function(fused, 0, f)
}

/// Prints a function, or a loop's body some levels deeper.
fn print_function(fused: &Fused, depth: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let margin = 4 * depth;
    writeln!(f, "{:margin$}fused {} {{", "", fused.function.name)?;
    for (number, group) in fused.groups.iter().enumerate() {
        print_group(fused, number, group, depth, f)?;
    }
    writeln!(f, "{:margin$}}}", "")
}

fn print_group(fused: &Fused, number: usize, group: &Group, depth: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let margin = 4 * depth;
    let kind = match group.kind {
        Kind::Map => "map",
        Kind::Reduce(_) => "reduce",
        Kind::Contract(_) => "contract",
        Kind::Opaque(_) => "opaque",
        Kind::Loop(_) => "loop",
        Kind::Copy => "copy",
    };
    let sizes: Vec<String> = group.space.iter().map(ToString::to_string).collect();
    writeln!(f, "{:margin$}  group {number} {kind} [{}] {{", "", sizes.join(", "))?;
    let mut nodes: Vec<(NodeId, bool)> = group.inlined.iter().map(|id| (*id, true)).collect();
    nodes.extend(group.members.iter().map(|id| (*id, false)));
    nodes.sort_unstable();
    for (id, inside) in nodes {
        write!(f, "{:margin$}    ", "")?;
        print_node(fused, id, f)?;
        writeln!(f, "{}", if inside { "  // inside its consumer" } else { "" })?;
    }
    if let Kind::Loop(id) = group.kind {
        print_function(&fused.bodies[&id], depth + 1, f)?;
    }
    for store in &group.stores {
        write!(f, "{:margin$}    store {} -> ", "", Reference(fused, store.value))?;
        match store.destination {
            Destination::Temporary => writeln!(f, "workspace")?,
            Destination::Result(r) => writeln!(f, "result `{}`", fused.function.results[r as usize].name)?,
        }
    }
    writeln!(f, "{:margin$}  }}", "")
}

fn print_node(fused: &Fused, id: NodeId, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let node = fused.function.graph.node(id);
    let outputs: Vec<String> = (0..node.outputs.len() as u32)
        .map(|output| Reference(fused, ValueId { node: id, output }).to_string())
        .collect();
    let types: Vec<String> = node.outputs.iter().map(ToString::to_string).collect();
    write!(f, "{}: {} = ", outputs.join(", "), types.join(", "))?;
    print_call(fused, id, f)
}

fn print_call(fused: &Fused, id: NodeId, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let node = fused.function.graph.node(id);
    // A loop's body is printed in its group.
    let short = |(_, a): &(_, Attribute)| !matches!(a, Attribute::Function(_));
    let attributes = node.op.attributes().0.into_iter().filter(short).map(|(name, a)| format!("{name}={a}"));
    let operands = node.inputs.iter().map(|v| Reference(fused, *v).to_string());
    let all: Vec<String> = operands.chain(attributes).collect();
    write!(f, "{}({})", node.op.doc().name, all.join(", "))
}

/// A value by number, or written out where it is an argument or computed anew at each use.
struct Reference<'a>(&'a Fused, ValueId);

impl fmt::Display for Reference<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Reference(fused, value) = self;
        let node = fused.function.graph.node(value.node);
        match &node.op {
            crate::ir::ops::Op::Argument(a) => write!(f, "{}", fused.function.arguments[a.index as usize].name),
            _ if fused.analysis.is_real(value.node) => match value.output {
                0 => write!(f, "%{}", value.node.0),
                output => write!(f, "%{}.{output}", value.node.0),
            },
            _ => print_call(fused, value.node, f),
        }
    }
}
