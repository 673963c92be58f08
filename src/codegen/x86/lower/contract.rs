//! `Contract`: a product that is too small or too narrow for tiles, as plain loops.

use super::control::further;
use super::{Binding, Bound, Lowered, Lowering};
use crate::codegen::x86::machine::{Instruction, Virtual};
use crate::ir::loops::{Affine, BufferId, Contract, Cut, LoopVar, Matrix};

/// So many vectors of columns are summed together, since one alone waits for its last product before the next.
const TOGETHER: usize = 4;

/// The variable of a summed axis. It is in no loop of the kernel; the highest numbers are free of meaning there.
fn summed(number: usize) -> LoopVar {
    LoopVar(u32::MAX - 1 - number as u32)
}

/// The index at which a block of the axis that is cut begins; the variable of the axis counts from there.
const BLOCK: LoopVar = LoopVar(u32::MAX);

/// The operands of a product as addresses of all its variables.
struct Operands {
    left: (BufferId, Affine),
    right: (BufferId, Affine),
}

impl Lowering<'_> {
    pub(super) fn contract(&mut self, contract: &Contract) -> Lowered {
        let operands = operands(contract);
        let lanes = self.lanes();
        self.counted((0, 1, contract.rows), &mut |this, row| {
            this.with_variable(contract.row, row, |this| {
                let whole = contract.columns / lanes as u64;
                let step = (TOGETHER * lanes) as i64;
                this.counted((0, step, whole / TOGETHER as u64), &mut |this, column| {
                    this.columns(contract, &operands, (TOGETHER, lanes), column)
                })?;
                let done = whole / TOGETHER as u64 * step as u64;
                match (whole % TOGETHER as u64) as usize {
                    0 => {}
                    few => this.columns(contract, &operands, (few, lanes), Binding::Known(done as i64))?,
                }
                match (contract.columns % lanes as u64) as usize {
                    0 => Ok(()),
                    rest => {
                        let column = Binding::Known((whole * lanes as u64) as i64);
                        this.columns(contract, &operands, (1, rest), column)
                    }
                }
            })
        })
    }

    /// The sums and the epilogue of some vectors of columns of one row, each of so many columns.
    fn columns(
        &mut self,
        contract: &Contract,
        operands: &Operands,
        (vectors, active): (usize, usize),
        column: Binding,
    ) -> Lowered {
        let totals = self.in_lanes(contract.column, active, column, |this| {
            let totals: Vec<Virtual> = (0..vectors).map(|_| this.zero()).collect();
            match contract.cut {
                None => {
                    let extent = extent(contract, 0);
                    this.axis(contract, operands, 0, extent, &totals)?;
                }
                Some(cut) => this.blocks(contract, operands, cut, 0, &totals)?,
            }
            Ok(totals)
        })?;
        for (number, total) in totals.into_iter().enumerate() {
            let column = further(column, (number * self.lanes()) as i64);
            self.in_lanes(contract.column, active, column, |this| {
                let total = this.copy(total);
                this.bind(contract.accumulator, Bound::Lanes(total));
                this.block(&contract.epilogue)
            })?;
        }
        Ok(())
    }

    /// A vector of zeros that may be changed.
    pub(super) fn zero(&mut self) -> Virtual {
        let zero = self.bits(0);
        self.in_register(zero)
    }

    /// All blocks in the axes from number `level` on, each summed from 0 and then added to the totals.
    fn blocks(
        &mut self,
        contract: &Contract,
        operands: &Operands,
        cut: Cut,
        level: usize,
        totals: &[Virtual],
    ) -> Lowered {
        if level < cut.level {
            return self.counted((0, 1, extent(contract, level)), &mut |this, binding| {
                this.with_variable(summed(level), binding, |this| {
                    this.blocks(contract, operands, cut, level + 1, totals)
                })
            });
        }
        let block = |this: &mut Self, size: u64, start: Binding| {
            this.with_variable(BLOCK, start, |this| {
                let sums: Vec<Virtual> = totals.iter().map(|_| this.zero()).collect();
                this.axis(contract, operands, level, size, &sums)?;
                for (total, sum) in totals.iter().zip(sums) {
                    let sources = [(*total).into(), sum.into()];
                    let source = this.op(iced_x86::Code::VEX_Vaddps_ymm_ymm_ymmm256, &sources);
                    this.push(Instruction::Copy { destination: *total, source });
                }
                Ok(())
            })
        };
        let (whole, rest) = cut.blocks(&contract.rounds, contract.depth);
        self.counted((0, cut.size as i64, whole), &mut |this, start| block(this, cut.size, start))?;
        match rest {
            0 => Ok(()),
            _ => block(self, rest, Binding::Known((whole * cut.size) as i64)),
        }
    }

    /// So much of axis `level` and all of the axes in it, added to the sums.
    fn axis(
        &mut self,
        contract: &Contract,
        operands: &Operands,
        level: usize,
        count: u64,
        sums: &[Virtual],
    ) -> Lowered {
        self.counted((0, 1, count), &mut |this, binding| {
            this.with_variable(summed(level), binding, |this| {
                if level < contract.rounds.len() {
                    let inside = extent(contract, level + 1);
                    return this.axis(contract, operands, level + 1, inside, sums);
                }
                // The accumulator's binding is free until the sum is done.
                this.load(contract.accumulator, operands.left.0, &operands.left.1)?;
                let left = this.value(contract.accumulator);
                let next = this.lanes() as i64 * contract.right.column_stride;
                for (number, sum) in sums.iter().enumerate() {
                    let address = operands.right.1.clone().offset(number as i64 * next);
                    this.load(contract.accumulator, operands.right.0, &address)?;
                    let right = this.value(contract.accumulator);
                    let (a, b, c) = (left.into(), right.into(), (*sum).into());
                    this.push(Instruction::MultiplyAdd { destination: *sum, a, b, c });
                }
                Ok(())
            })
        })
    }
}

/// The extent of a summed axis: the rounds, then the depth.
fn extent(contract: &Contract, level: usize) -> u64 {
    contract.rounds.get(level).map_or(contract.depth, |r| r.count)
}

fn operands(contract: &Contract) -> Operands {
    let depth = summed(contract.rounds.len());
    let matrix = |m: &Matrix, row: LoopVar, column: LoopVar| {
        m.address.clone().plus(row, m.row_stride).plus(column, m.column_stride)
    };
    let mut left = matrix(&contract.left, contract.row, depth);
    let mut right = matrix(&contract.right, depth, contract.column);
    for (number, round) in contract.rounds.iter().enumerate() {
        left = left.plus(summed(number), round.left_stride);
        right = right.plus(summed(number), round.right_stride);
    }
    if let Some(cut) = contract.cut {
        let axis = summed(cut.level);
        for address in [&mut left, &mut right] {
            let stride = address.coefficient(axis);
            *address = std::mem::take(address).plus(BLOCK, stride);
        }
    }
    Operands { left: (contract.left.buffer, left), right: (contract.right.buffer, right) }
}
