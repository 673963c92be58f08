//! `Contract`: a whole product as plain loops, right for any strides. Fast products are `Tile`s.

use cranelift_codegen::ir::{self as clif, InstBuilder};

use super::kernel::{Lowered, Lowering};
use super::value::Slot;
use super::vector_loop::stretches;
use crate::ir::loops::{Affine, BufferId, Contract, LoopVar, Matrix};

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
        let sums = self.counted_loop((0, 1, contract.depth), &zeros, &mut |this, k, sums| {
            // The variable of the sum is in no loop of the kernel; the highest number is free of meaning there.
            let depth = LoopVar(u32::MAX);
            this.with_variable(depth, k, |this| Ok(this.contract_step(contract, depth, sums)))
        })?;
        self.bind_registers(std::iter::once(contract.accumulator), &sums);
        Ok(())
    }

    fn contract_step(&mut self, contract: &Contract, depth: LoopVar, sums: &[clif::Value]) -> Vec<clif::Value> {
        let left = self.operand(&contract.left, contract.row, depth);
        let right = self.operand(&contract.right, depth, contract.column);
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
