//! Through which values of a graph a gradient flows, asked before gradients are expanded.
//!
//! Gradients flow along floats. They end at steps (`floor`, `sign`), at whatever makes integers or bools of floats, and at `stop_gradient`.

use rustc_hash::FxHashSet;

use super::graph::{Graph, ValueId};
use super::ops::Op;
use super::scalar::ScalarFunction;

/// What a value's gradient reaches.
#[derive(Debug)]
pub struct Slopes<'g> {
    graph: &'g Graph,
    reached: FxHashSet<ValueId>,
    /// Where the gradient ends though the value goes on: steps, and values that are no floats.
    ends: Vec<ValueId>,
}

impl<'g> Slopes<'g> {
    /// Follows the gradient of `y`.
    pub fn of(graph: &'g Graph, y: ValueId) -> Slopes<'g> {
        let mut slopes = Slopes { graph, reached: FxHashSet::default(), ends: Vec::new() };
        let mut waiting = vec![y];
        while let Some(value) = waiting.pop() {
            if !slopes.reached.insert(value) {
                continue;
            }
            let node = graph.node(value.node);
            if ends(graph, value) {
                slopes.reached.remove(&value);
                slopes.ends.push(value);
            } else if !matches!(node.op, Op::Argument(_)) {
                waiting.extend(&node.inputs);
            }
        }
        slopes.ends.sort_unstable();
        slopes.ends.dedup();
        slopes
    }

    /// Whether the gradient reaches `x`.
    pub fn reaches(&self, x: ValueId) -> bool {
        self.reached.contains(&x)
    }

    /// The ends between the value and `x`, in the order in which they were made: none where the value does not depend on `x` at all.
    pub fn ends_before(&self, x: ValueId) -> Vec<ValueId> {
        let mut above: FxHashSet<ValueId> = FxHashSet::from_iter([x]);
        for (id, node) in self.graph.nodes().filter(|(id, _)| *id > x.node) {
            if !matches!(node.op, Op::Argument(_)) && node.inputs.iter().any(|input| above.contains(input)) {
                above.extend((0..node.outputs.len() as u32).map(|output| ValueId { node: id, output }));
            }
        }
        self.ends.iter().copied().filter(|end| above.contains(end)).collect()
    }
}

/// Whether no gradient goes from a value to what it is made of.
fn ends(graph: &Graph, value: ValueId) -> bool {
    let node = graph.node(value.node);
    let flat = match &node.op {
        Op::Map(map) => is_step(map.function),
        Op::StopGradient(_) => true,
        _ => false,
    };
    flat || !node.outputs[value.output as usize].dtype.is_float()
}

/// Whether a function of floats is flat wherever it has a derivative.
fn is_step(function: ScalarFunction) -> bool {
    use ScalarFunction as F;
    matches!(function, F::Floor | F::Ceil | F::Round | F::Sign)
}

/// Whether the gradient ends at a value because the user says so.
pub fn is_stopped(graph: &Graph, value: ValueId) -> bool {
    matches!(graph.node(value.node).op, Op::StopGradient(_))
}

/// Whether a gradient that comes to a value ends there, though the value is made of others.
pub fn is_end(graph: &Graph, value: ValueId) -> bool {
    !graph.node(value.node).inputs.is_empty() && ends(graph, value)
}

/// The name by which a user knows what made a value.
pub fn name_of(graph: &Graph, value: ValueId) -> &'static str {
    match &graph.node(value.node).op {
        Op::Map(map) => map.function.name(),
        other => other.doc().name,
    }
}
