//! Walks over the instructions of kernels: every address, every value, every loop variable.
//!
//! The loop passes here change finished blocks (axes are merged, addresses shifted, ids renumbered), so the knowledge of which
//! fields of an instruction hold what stands in this one file.

use crate::ir::loops::{Affine, Block, BufferId, Instruction, LoopVar, Matrix, Round, Value};

/// How an instruction touches a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    /// Reads at the address that follows.
    Read,
    /// Writes at the address that follows.
    Write,
    /// Reads at many places from the address that follows on: a gather, or a matrix operand.
    ReadFrom,
    /// Writes at one of many places from the address that follows on: a scatter.
    WriteFrom,
}

impl Touch {
    /// Whether the buffer is written.
    pub fn writes(self) -> bool {
        matches!(self, Touch::Write | Touch::WriteFrom)
    }

    /// Whether more is touched than the element at the address.
    pub fn is_many(self) -> bool {
        matches!(self, Touch::ReadFrom | Touch::WriteFrom)
    }
}

/// What a walk over a block may look at or change.
pub trait Visitor {
    /// An address or index expression, and the buffer it addresses if it is one.
    fn affine(&mut self, _affine: &mut Affine) {}
    /// A buffer, before its address.
    fn buffer(&mut self, _buffer: &mut BufferId, _touch: Touch) {}
    /// Between a buffer and its address, for each index that goes on from there: how far, as a stride and a number of places.
    fn reach(&mut self, _stride: i64, _extent: u64) {}
    /// A value where it is made.
    fn definition(&mut self, _value: &mut Value) {}
    /// A value where it is read.
    fn operand(&mut self, _value: &mut Value) {}
    /// A variable where its loop binds it.
    fn variable(&mut self, _var: &mut LoopVar) {}
}

/// Visits everything in `block`, operands before definitions, outer before inner.
pub fn walk(block: &mut Block, visitor: &mut dyn Visitor) {
    for instruction in &mut block.instructions {
        walk_instruction(instruction, visitor);
    }
}

/// Visits everything in one instruction, as [`walk`] does.
pub fn walk_instruction(instruction: &mut Instruction, visitor: &mut dyn Visitor) {
    match instruction {
        Instruction::Constant { result, .. } => visitor.definition(result),
        Instruction::Index { result, index } => {
            visitor.affine(index);
            visitor.definition(result);
        }
        Instruction::Map { result, operands, .. } => {
            operands.iter_mut().for_each(|o| visitor.operand(o));
            visitor.definition(result);
        }
        Instruction::Convert { result, operand } | Instruction::Bitcast { result, operand } => {
            visitor.operand(operand);
            visitor.definition(result);
        }
        Instruction::OneOf { result, index, .. } => {
            visitor.operand(index);
            visitor.definition(result);
        }
        Instruction::Load { result, buffer, address } => {
            visitor.buffer(buffer, Touch::Read);
            visitor.affine(address);
            visitor.definition(result);
        }
        Instruction::LoadAt { result, buffer, address, index, stride, extent } => {
            visitor.buffer(buffer, Touch::ReadFrom);
            visitor.reach(*stride, *extent);
            visitor.affine(address);
            visitor.operand(index);
            visitor.definition(result);
        }
        Instruction::StoreAt { buffer, address, index, stride, extent, value } => {
            visitor.buffer(buffer, Touch::WriteFrom);
            visitor.reach(*stride, *extent);
            visitor.affine(address);
            visitor.operand(index);
            visitor.operand(value);
        }
        Instruction::Store { buffer, address, value } => {
            visitor.buffer(buffer, Touch::Write);
            visitor.affine(address);
            visitor.operand(value);
        }
        loops => walk_loop(loops, visitor),
    }
}

fn walk_loop(instruction: &mut Instruction, visitor: &mut dyn Visitor) {
    match instruction {
        Instruction::For { var, carried, body, .. } => {
            carried.iter_mut().for_each(|c| visitor.operand(&mut c.initial));
            visitor.variable(var);
            carried.iter_mut().for_each(|c| visitor.definition(&mut c.parameter));
            walk(body, visitor);
            carried.iter_mut().for_each(|c| visitor.operand(&mut c.next));
            carried.iter_mut().for_each(|c| visitor.definition(&mut c.result));
        }
        Instruction::Lanes { var, body, .. } => {
            visitor.variable(var);
            walk(body, visitor);
        }
        Instruction::Fold { var, body, accumulators, merge, .. } => {
            visitor.variable(var);
            walk(body, visitor);
            for accumulator in accumulators.iter_mut() {
                visitor.operand(&mut accumulator.element);
                visitor.definition(&mut accumulator.left);
                visitor.definition(&mut accumulator.right);
            }
            walk(merge, visitor);
            for accumulator in accumulators {
                visitor.operand(&mut accumulator.merged);
                visitor.definition(&mut accumulator.result);
            }
        }
        Instruction::Contract(c) => {
            let sizes = [(c.rows, c.depth), (c.depth, c.columns)];
            matrices([&mut c.left, &mut c.right], sizes, &c.rounds, visitor);
            visitor.variable(&mut c.row);
            visitor.variable(&mut c.column);
            visitor.definition(&mut c.accumulator);
            walk(&mut c.epilogue, visitor);
        }
        Instruction::Tile(t) => {
            let sizes = [(t.rows, t.depth), (t.depth, t.columns)];
            matrices([&mut t.left, &mut t.right], sizes, &t.rounds, visitor);
            visitor.variable(&mut t.row);
            visitor.variable(&mut t.column);
            visitor.definition(&mut t.accumulator);
            walk(&mut t.epilogue, visitor);
        }
        _ => unreachable!("straight-line instructions are handled by the caller"),
    }
}

/// The operands of a product, with how far they reach.
fn matrices(matrices: [&mut Matrix; 2], sizes: [(u64, u64); 2], rounds: &[Round], visitor: &mut dyn Visitor) {
    for (side, (matrix, (rows, columns))) in matrices.into_iter().zip(sizes).enumerate() {
        visitor.buffer(&mut matrix.buffer, Touch::ReadFrom);
        visitor.reach(matrix.row_stride, rows);
        visitor.reach(matrix.column_stride, columns);
        for round in rounds {
            visitor.reach(if side == 0 { round.left_stride } else { round.right_stride }, round.count);
        }
        visitor.affine(&mut matrix.address);
    }
}

/// Calls `change` on every address and index expression of a block.
pub fn each_affine(block: &mut Block, change: impl FnMut(&mut Affine)) {
    struct Affines<F>(F);
    impl<F: FnMut(&mut Affine)> Visitor for Affines<F> {
        fn affine(&mut self, affine: &mut Affine) {
            (self.0)(affine);
        }
    }
    walk(block, &mut Affines(change));
}
