//! The update of one more parameter of the same type, without running the optimizer's body again.
//!
//! A body sees a parameter by its type alone, so for two of one type it makes the same nodes of other operands. These are copied, which takes a fraction of
//! the time of making them. Not so where the body draws, since draws are told apart by paths, or goes on with a state of an earlier update.

use std::ops::Range;

use rustc_hash::FxHashMap;

use super::member::Member;
use super::{Elaborator, limits};
use crate::ir::graph::{NodeId, Role, ValueId};
use crate::ir::ops::Op;
use crate::ir::types::TensorType;

/// Updates that a body made, by the types of parameter and gradient; of one objective.
pub(super) type Updates = FxHashMap<(TensorType, TensorType), Update>;

/// One run of an optimizer's body.
pub(super) struct Update {
    /// The parameter and the gradient that it was run for.
    pub value: ValueId,
    pub gradient: ValueId,
    /// The nodes that it made.
    pub nodes: Range<u32>,
    /// The states that it declared, and what they became.
    pub states: Vec<Member>,
    /// The path of the parameter, with which those of the states end.
    pub path: String,
    /// The new value of the parameter.
    pub updated: ValueId,
}

impl Elaborator<'_> {
    /// The new value of another parameter, called `path`, by the update of one like it; `None` if that has to be found by the body itself.
    pub(super) fn replay(&mut self, update: &Update, value: ValueId, gradient: ValueId, path: &str) -> Option<ValueId> {
        let new_path =
            |state: &Member| state.path.strip_suffix(update.path.as_str()).map(|start| format!("{start}{path}"));
        let paths: Vec<String> = update.states.iter().map(new_path).collect::<Option<_>>()?;
        let known = paths.iter().any(|path| self.optimizer_state_index.contains_key(path));
        if known || self.builder.graph().len() + update.nodes.len() > limits::NODES {
            return None;
        }
        let mut moved = FxHashMap::from_iter([(update.value, value), (update.gradient, gradient)]);
        for (state, path) in update.states.iter().zip(&paths) {
            let argument = self.argument(path.clone(), Role::OptimizerState, state.ty.clone());
            moved.insert(state.argument, argument);
        }
        for number in update.nodes.clone() {
            self.copy_moved(NodeId(number), &mut moved);
        }
        let place = |value: ValueId| moved.get(&value).copied().unwrap_or(value);
        for (state, path) in update.states.iter().zip(paths) {
            let (argument, current) = (place(state.argument), place(state.current));
            let initial = state.initial.map(place);
            self.optimizer_state_index.insert(path.clone(), self.optimizer_states.len());
            self.optimizer_states.push(Member { path, argument, current, initial, ..state.clone() });
        }
        Some(place(update.updated))
    }

    /// Copies a node that depends on what has moved.
    fn copy_moved(&mut self, id: NodeId, moved: &mut FxHashMap<ValueId, ValueId>) {
        let node = self.builder.graph().node(id);
        if matches!(node.op, Op::Argument(_)) || !node.inputs.iter().any(|input| moved.contains_key(input)) {
            return;
        }
        let node = node.clone();
        let inputs = node.inputs.iter().map(|input| moved.get(input).copied().unwrap_or(*input)).collect();
        let copy = self.builder.copy_node(&node, inputs);
        for output in 0..node.outputs.len() as u32 {
            moved.insert(ValueId { node: id, output }, ValueId { node: copy, output });
        }
    }
}
