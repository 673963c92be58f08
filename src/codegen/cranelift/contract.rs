//! `Contract`: a whole product as plain loops, right for any strides. Fast products are `Tile`s.

use cranelift_codegen::ir::{self as clif, InstBuilder};

use super::kernel::{Binding, Lowered, Lowering};
use super::value::Slot;
use super::vector_loop::stretches;
use crate::ir::loops::{Affine, BufferId, Contract, Cut, LoopVar, Matrix};

/// The variable of a summed axis. It is in no loop of the kernel; the highest numbers are free of meaning there.
fn summed(number: usize) -> LoopVar {
    LoopVar(u32::MAX - 1 - number as u32)
}

/// The index at which a block of the axis that is cut begins; the variable of the axis counts from there.
const BLOCK: LoopVar = LoopVar(u32::MAX);

impl Lowering<'_, '_> {
    pub(super) fn contract(&mut self, contract: &Contract) -> Lowered {
        let rows = (0, 1, contract.rows);
        self.counted_loop(rows, &[], &mut |this, row, _| {
            this.with_variable(contract.row, row, |this| {
                this.in_stretches(contract.column, &stretches(contract.columns, 8), &mut |this| {
                    this.contract_columns(contract)?;
                    this.block(&contract.epilogue)
                })
            })?;
            Ok(Vec::new())
        })?;
        Ok(())
    }

    /// The sums of a group of columns of one row.
    fn contract_columns(&mut self, contract: &Contract) -> Lowered {
        let dtype = self.dtype(contract.accumulator);
        let zero = self.constant_scalar(dtype, 0.0);
        self.bind(contract.accumulator, Slot::Uniform(zero));
        let zeros = self.registers(contract.accumulator);
        let sums = match contract.cut {
            None => self.contract_rounds(contract, 0, &zeros)?,
            Some(cut) => self.contract_blocks(contract, cut, 0, &zeros, &zeros)?,
        };
        self.bind_registers(std::iter::once(contract.accumulator), &sums);
        Ok(())
    }

    /// All blocks in the axes from number `level` on, each summed from `zeros` and then added to `totals`.
    fn contract_blocks(
        &mut self,
        contract: &Contract,
        cut: Cut,
        level: usize,
        zeros: &[clif::Value],
        totals: &[clif::Value],
    ) -> Lowered<Vec<clif::Value>> {
        if level < cut.level {
            return self.counted_loop((0, 1, contract.rounds[level].count), totals, &mut |this, binding, totals| {
                this.with_variable(summed(level), binding, |this| {
                    this.contract_blocks(contract, cut, level + 1, zeros, totals)
                })
            });
        }
        let block = |this: &mut Self, size: u64, start: Binding, totals: &[clif::Value]| {
            this.with_variable(BLOCK, start, |this| {
                let sums = this.contract_axis(contract, level, size, zeros)?;
                Ok(totals.iter().zip(sums).map(|(t, s)| this.builder.ins().fadd(*t, s)).collect())
            })
        };
        let (whole, rest) = cut.blocks(&contract.rounds, contract.depth);
        let totals = self.counted_loop((0, cut.size as i64, whole), totals, &mut |this, start, totals| {
            block(this, cut.size, start, totals)
        })?;
        match rest {
            0 => Ok(totals),
            _ => block(self, rest, Binding::Known((whole * cut.size) as i64), &totals),
        }
    }

    /// All steps of the axes from number `level` on.
    fn contract_rounds(
        &mut self,
        contract: &Contract,
        level: usize,
        sums: &[clif::Value],
    ) -> Lowered<Vec<clif::Value>> {
        let extent = contract.rounds.get(level).map_or(contract.depth, |r| r.count);
        self.contract_axis(contract, level, extent, sums)
    }

    /// As `contract_rounds`, so much of axis `level`.
    fn contract_axis(
        &mut self,
        contract: &Contract,
        level: usize,
        extent: u64,
        sums: &[clif::Value],
    ) -> Lowered<Vec<clif::Value>> {
        self.counted_loop((0, 1, extent), sums, &mut |this, binding, sums| {
            this.with_variable(summed(level), binding, |this| match level == contract.rounds.len() {
                true => Ok(this.contract_step(contract, sums)),
                false => this.contract_rounds(contract, level + 1, sums),
            })
        })
    }

    fn contract_step(&mut self, contract: &Contract, sums: &[clif::Value]) -> Vec<clif::Value> {
        let depth = summed(contract.rounds.len());
        let mut left = self.operand(&contract.left, contract.row, depth);
        let mut right = self.operand(&contract.right, depth, contract.column);
        for (number, round) in contract.rounds.iter().enumerate() {
            left.1 = left.1.plus(summed(number), round.left_stride);
            right.1 = right.1.plus(summed(number), round.right_stride);
        }
        if let Some(cut) = contract.cut {
            let axis = summed(cut.level);
            for address in [&mut left.1, &mut right.1] {
                let stride = address.coefficient(axis);
                *address = std::mem::take(address).plus(BLOCK, stride);
            }
        }
        let (left, right) = (self.element(contract, &left), self.element(contract, &right));
        (0..sums.len()).map(|i| self.builder.ins().fma(left[i], right[i], sums[i])).collect()
    }

    fn operand(&self, matrix: &Matrix, row: LoopVar, column: LoopVar) -> (BufferId, Affine) {
        let address = matrix.address.clone().plus(row, matrix.row_stride).plus(column, matrix.column_stride);
        (matrix.buffer, address)
    }

    /// The registers of an element of an operand, through the slot of the accumulator, which is free until the sum is done.
    fn element(&mut self, contract: &Contract, (buffer, address): &(BufferId, Affine)) -> Vec<clif::Value> {
        self.load(contract.accumulator, *buffer, address);
        self.registers(contract.accumulator)
    }
}
