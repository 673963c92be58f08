//! What kind of work each node is, from its [`Access`] and from the scalar code its `lower` writes.
//!
//! No op is known here by name: a node whose code hands an operand through rearranges, one whose code is only constants is free,
//! and the instructions written are the cost of one element.

use crate::ir::graph::{Function, Node, ValueId};
use crate::ir::loops::build::{BlockBuilder, KernelBuilder};
use crate::ir::loops::{Affine, Block, Instruction, Value};
use crate::ir::ops::{Access, IndexMap, LowerContext, LowerOperands};
use crate::ir::scalar::{Monoid, ScalarFunction};
use crate::ir::types::TensorType;

/// What a node is to fusion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Class {
    /// A function argument.
    Source,
    /// Operand 0 at another index.
    View(IndexMap),
    /// Operand 0 in the same row-major order under another shape.
    Reshape,
    /// Scalar code on one element of each operand; `cost` in simple instructions, 0 for constants.
    Pointwise { maps: Vec<IndexMap>, cost: u32 },
    /// A fold of operand 0.
    Reduce { axes: Vec<usize>, monoid: Monoid },
    /// A sum of products over labels.
    Contract { left: Vec<u32>, right: Vec<u32>, result: Vec<u32> },
    /// A nest of its own from buffers to buffers.
    Opaque,
    /// A loop over a function of its own, from buffers to buffers.
    Loop,
}

impl Class {
    /// Whether nothing is computed in the same group, and every result is stored.
    pub fn is_alone(&self) -> bool {
        matches!(self, Class::Opaque | Class::Loop)
    }
}

/// The classes of all nodes, in order.
pub fn classify(function: &Function) -> Vec<Class> {
    function.graph.nodes().map(|(_, node)| class_of(function, node)).collect()
}

/// The types of a node's operands.
pub fn input_types(function: &Function, inputs: &[ValueId]) -> Vec<TensorType> {
    inputs.iter().map(|v| function.graph.type_of(*v).clone()).collect()
}

/// The class of a node.
pub fn class_of(function: &Function, node: &Node) -> Class {
    let inputs = input_types(function, &node.inputs);
    match node.op.access(&inputs, &node.outputs) {
        Access::Source => Class::Source,
        Access::Reshape => Class::Reshape,
        Access::Reduce { axes, monoid } => Class::Reduce { axes, monoid },
        Access::Contract { left, right, result } => Class::Contract { left, right, result },
        Access::Opaque => Class::Opaque,
        Access::Loop => Class::Loop,
        Access::Pointwise(maps) => pointwise(node, &inputs, maps),
    }
}

fn pointwise(node: &Node, inputs: &[TensorType], maps: Vec<IndexMap>) -> Class {
    let (mut passes, mut cost) = (false, 0);
    let kernel = KernelBuilder::new().finish("probe", None, |block| {
        let values: Vec<Value> = inputs.iter().map(|t| block.value(t.dtype)).collect();
        let mut index = |b: &mut BlockBuilder<'_>, _: usize| b.index(Affine::default());
        let operands = LowerOperands::Elements { values: &values, index: &mut index };
        let results = node.op.lower(&mut LowerContext { block, inputs, outputs: &node.outputs, operands });
        passes = values.len() == 1 && results == values;
    });
    cost += block_cost(&kernel.body);
    match (passes, maps.as_slice()) {
        (true, [map]) => Class::View(map.clone()),
        _ => Class::Pointwise { maps, cost },
    }
}

/// The cost of straight-line code in simple instructions; a loop inside counts its body once a round.
pub fn block_cost(block: &Block) -> u32 {
    block.instructions.iter().map(cost).fold(0, u32::saturating_add)
}

fn cost(instruction: &Instruction) -> u32 {
    match instruction {
        Instruction::Constant { .. } | Instruction::Index { .. } => 0,
        Instruction::Map { function, .. } => function_cost(*function),
        Instruction::LoadAt { .. } | Instruction::StoreAt { .. } => 4,
        Instruction::For { extent, body, .. }
        | Instruction::Lanes { extent, body, .. }
        | Instruction::Fold { extent, body, .. } => {
            block_cost(body).saturating_add(1).saturating_mul(u32::try_from(*extent).unwrap_or(u32::MAX))
        }
        _ => 1,
    }
}

fn function_cost(function: ScalarFunction) -> u32 {
    use ScalarFunction as F;
    match function {
        F::Div | F::Sqrt | F::Rsqrt | F::MulHigh => 4,
        F::Mod => 8,
        F::Exp | F::Log | F::Log1p | F::Expm1 | F::Tanh | F::Sigmoid | F::Erf | F::Sin | F::Cos | F::Tan | F::Atan => {
            20
        }
        F::Pow | F::Atan2 => 40,
        _ => 1,
    }
}
