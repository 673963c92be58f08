//! Instructions in order: dispatch, constants, indices and serial loops.

use cranelift_codegen::ir::{self as clif, InstBuilder, types};

use super::kernel::{Binding, Lowered, Lowering};
use super::value::Slot;
use crate::ir::loops::{Affine, Block, Carried, Instruction, LoopVar, Value};
use crate::ir::types::DType;

impl Lowering<'_, '_> {
    /// Lowers one instruction at the present width.
    pub(super) fn instruction(&mut self, instruction: &Instruction) -> Lowered {
        match instruction {
            Instruction::Constant { result, value } => {
                let written = f64::from_bits(value.0);
                // What is known of the value is what its register holds.
                let number = if self.dtype(*result) == DType::F32 { f64::from(written as f32) } else { written };
                let register = self.constant_scalar(self.dtype(*result), number);
                self.set_constant(*result, number);
                self.bind(*result, Slot::Uniform(register));
                Ok(())
            }
            Instruction::Index { result, index } => {
                let slot = self.index(index);
                self.bind(*result, slot);
                Ok(())
            }
            Instruction::Map { result, function, operands } => self.map(*result, *function, operands),
            Instruction::Convert { result, operand } => self.convert(*result, *operand),
            Instruction::Bitcast { result, operand } => {
                self.bitcast(*result, *operand);
                Ok(())
            }
            Instruction::OneOf { result, index, table } => {
                self.one_of(*result, *index, table.map(|entry| f64::from_bits(entry.0)));
                Ok(())
            }
            Instruction::Load { result, buffer, address } => {
                self.load(*result, *buffer, address);
                Ok(())
            }
            Instruction::LoadAt { result, buffer, address, index, stride, .. } => {
                self.load_at(*result, *buffer, address, *index, *stride);
                Ok(())
            }
            Instruction::StoreAt { buffer, address, index, stride, value, .. } => {
                self.store_at((*buffer, address), (*index, *stride), *value);
                Ok(())
            }
            Instruction::Store { buffer, address, value } => {
                self.store(*buffer, address, *value);
                Ok(())
            }
            Instruction::For { var, extent, carried, body } => self.for_loop(*var, *extent, carried, body),
            Instruction::Lanes { var, extent, body } => self.lanes_loop(*var, *extent, body),
            Instruction::Fold { var, extent, body, accumulators, merge } => {
                self.fold(*var, *extent, body, accumulators, merge)
            }
            Instruction::Contract(contract) => self.contract(contract),
            Instruction::Tile(tile) => self.tile(tile),
        }
    }

    /// The `i32` value of an affine expression; lanes if it depends on the variable of the vector loop.
    fn index(&mut self, index: &Affine) -> Slot {
        let (sum, constant) = self.affine(index, 1);
        let mut register = match sum {
            Some(sum) => self.builder.ins().ireduce(types::I32, sum),
            None => self.builder.ins().iconst(types::I32, i64::from(constant as u32)),
        };
        if sum.is_some() && constant as i32 != 0 {
            register = self.builder.ins().iadd_imm_s(register, i64::from(constant as i32));
        }
        let coefficient = self.lanes.map_or(0, |var| index.coefficient(var)) as i32;
        if self.width == 1 || coefficient == 0 {
            return Slot::Uniform(register);
        }
        let base = self.builder.ins().splat(types::I32X4, register);
        let packs = (0..self.width as i32 / 4).map(|pack| {
            let bytes = (0..4).flat_map(|lane| (coefficient.wrapping_mul(4 * pack + lane)).to_le_bytes()).collect();
            let steps = self.vector_constant(types::I32X4, bytes);
            self.builder.ins().iadd(base, steps)
        });
        Slot::Lanes(packs.collect())
    }

    fn for_loop(&mut self, var: LoopVar, extent: u64, carried: &[Carried], body: &Block) -> Lowered {
        let initial: Vec<clif::Value> = carried.iter().flat_map(|c| self.registers(c.initial)).collect();
        let last = self.counted_loop((0, 1, extent), &initial, &mut |this, binding, values| {
            this.bind_registers(carried.iter().map(|c| c.parameter), values);
            this.with_variable(var, binding, |this| this.block(body))?;
            Ok(carried.iter().flat_map(|c| this.registers(c.next)).collect())
        })?;
        self.bind_registers(carried.iter().map(|c| c.result), &last);
        Ok(())
    }

    /// Lowers something with a loop variable in scope.
    pub(super) fn with_variable<T>(
        &mut self,
        var: LoopVar,
        binding: Binding,
        lower: impl FnOnce(&mut Self) -> Lowered<T>,
    ) -> Lowered<T> {
        self.scope.push((var, binding));
        let result = lower(self);
        self.scope.pop();
        result
    }

    /// All registers of a value at the present width: one outside vector loops, its packs inside.
    pub(super) fn registers(&mut self, value: Value) -> Vec<clif::Value> {
        if self.width == 1 { vec![self.uniform(value)] } else { self.packs(value) }
    }

    /// The reverse of `registers`, for several values in a row.
    pub(super) fn bind_registers(&mut self, values: impl Iterator<Item = Value>, registers: &[clif::Value]) {
        let mut at = 0;
        for value in values {
            if self.width == 1 {
                self.bind(value, Slot::Uniform(registers[at]));
                at += 1;
                continue;
            }
            let packs = self.width / super::value::pack_lanes(self.dtype(value));
            self.bind(value, Slot::Lanes(registers[at..at + packs].to_vec()));
            at += packs;
        }
    }
}
