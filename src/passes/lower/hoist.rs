//! Moves what is the same in every round of a loop out of it.
//!
//! Lowering writes each element's code where it is used, so that a scalar (a learning rate, a row's maximum) would be loaded
//! and computed for every element. A loop that never runs must not be left, so nothing moves out of one of extent 0.

use std::collections::BTreeSet;

use rustc_hash::FxHashSet;

use super::visit::{Touch, Visitor, walk, walk_instruction};
use crate::ir::loops::{Affine, Block, BufferId, Instruction, LoopVar, Value};

/// Moves invariant loads and computations of every loop in `block` outwards.
pub fn hoist(block: &mut Block) {
    let written = written_buffers(block);
    hoist_block(block, &written);
}

fn written_buffers(block: &mut Block) -> BTreeSet<BufferId> {
    struct Written(BTreeSet<BufferId>);
    impl Visitor for Written {
        fn buffer(&mut self, buffer: &mut BufferId, touch: Touch) {
            if touch.writes() {
                self.0.insert(*buffer);
            }
        }
    }
    let mut found = Written(BTreeSet::new());
    walk(block, &mut found);
    found.0
}

fn hoist_block(block: &mut Block, written: &BTreeSet<BufferId>) {
    let mut out = Vec::with_capacity(block.instructions.len());
    for mut instruction in std::mem::take(&mut block.instructions) {
        match &mut instruction {
            Instruction::For { var, extent, carried, body } => {
                let own = carried.iter().map(|c| c.parameter).collect();
                inside(body, &[*var], own, *extent > 0, written, &mut out);
            }
            Instruction::Lanes { var, extent, body } | Instruction::Fold { var, extent, body, .. } => {
                inside(body, &[*var], FxHashSet::default(), *extent > 0, written, &mut out);
            }
            Instruction::Contract(c) => {
                let runs = c.rows > 0 && c.columns > 0;
                inside(
                    &mut c.epilogue,
                    &[c.row, c.column],
                    FxHashSet::from_iter([c.accumulator]),
                    runs,
                    written,
                    &mut out,
                );
            }
            _ => {}
        }
        out.push(instruction);
    }
    block.instructions = out;
}

/// The values that a block makes.
struct Defined(FxHashSet<Value>);

impl Visitor for Defined {
    fn definition(&mut self, value: &mut Value) {
        self.0.insert(*value);
    }
}

/// Handles the body of one loop; what may leave it goes to `out`.
fn inside(
    body: &mut Block,
    vars: &[LoopVar],
    own: FxHashSet<Value>,
    runs: bool,
    written: &BTreeSet<BufferId>,
    out: &mut Vec<Instruction>,
) {
    hoist_block(body, written);
    let mut own = Defined(own);
    let mut kept = Vec::with_capacity(body.instructions.len());
    for mut instruction in std::mem::take(&mut body.instructions) {
        if runs && is_invariant(&instruction, vars, &own.0, written) {
            out.push(instruction);
            continue;
        }
        walk_instruction(&mut instruction, &mut own);
        kept.push(instruction);
    }
    body.instructions = kept;
}

fn is_invariant(
    instruction: &Instruction,
    vars: &[LoopVar],
    own: &FxHashSet<Value>,
    written: &BTreeSet<BufferId>,
) -> bool {
    let fixed = |affine: &Affine| vars.iter().all(|v| affine.coefficient(*v) == 0);
    let outer = |value: &Value| !own.contains(value);
    match instruction {
        Instruction::Constant { .. } => true,
        Instruction::Index { index, .. } => fixed(index),
        Instruction::Map { operands, .. } => operands.iter().all(outer),
        Instruction::Convert { operand, .. } | Instruction::Bitcast { operand, .. } => outer(operand),
        Instruction::OneOf { index, .. } => outer(index),
        Instruction::Load { buffer, address, .. } => fixed(address) && !written.contains(buffer),
        _ => false,
    }
}
