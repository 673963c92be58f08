//! `Contract`: a product that is too small or too narrow for tiles, as plain loops.

use super::{Binding, Bound, Lowered, Lowering};
use crate::codegen::x86::machine::{Instruction, Virtual};
use crate::ir::loops::{Affine, BufferId, Contract, Cut, LoopVar, Matrix};

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
                this.counted((0, lanes as i64, whole), &mut |this, column| {
                    this.columns(contract, &operands, lanes, column)
                })?;
                let rest = (contract.columns % lanes as u64) as usize;
                match rest {
                    0 => Ok(()),
                    _ => this.columns(contract, &operands, rest, Binding::Known((whole * lanes as u64) as i64)),
                }
            })
        })
    }

    /// The sums and the epilogue of some columns of one row.
    fn columns(&mut self, contract: &Contract, operands: &Operands, active: usize, column: Binding) -> Lowered {
        self.in_lanes(contract.column, active, column, |this| {
            let total = this.zero();
            match contract.cut {
                None => {
                    let extent = extent(contract, 0);
                    this.axis(contract, operands, 0, extent, total)?;
                }
                Some(cut) => this.blocks(contract, operands, cut, 0, total)?,
            }
            let total = this.copy(total);
            this.bind(contract.accumulator, Bound::Lanes(total));
            this.block(&contract.epilogue)
        })
    }

    /// A vector of zeros that may be changed.
    pub(super) fn zero(&mut self) -> Virtual {
        let zero = self.bits(0);
        self.in_register(zero)
    }

    /// All blocks in the axes from number `level` on, each summed from 0 and then added to the total.
    fn blocks(&mut self, contract: &Contract, operands: &Operands, cut: Cut, level: usize, total: Virtual) -> Lowered {
        if level < cut.level {
            return self.counted((0, 1, extent(contract, level)), &mut |this, binding| {
                this.with_variable(summed(level), binding, |this| {
                    this.blocks(contract, operands, cut, level + 1, total)
                })
            });
        }
        let block = |this: &mut Self, size: u64, start: Binding| {
            this.with_variable(BLOCK, start, |this| {
                let sum = this.zero();
                this.axis(contract, operands, level, size, sum)?;
                let sources = [total.into(), sum.into()];
                let source = this.op(iced_x86::Code::VEX_Vaddps_ymm_ymm_ymmm256, &sources);
                this.push(Instruction::Copy { destination: total, source });
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

    /// So much of axis `level` and all of the axes in it, added to the sum.
    fn axis(&mut self, contract: &Contract, operands: &Operands, level: usize, count: u64, sum: Virtual) -> Lowered {
        self.counted((0, 1, count), &mut |this, binding| {
            this.with_variable(summed(level), binding, |this| {
                if level < contract.rounds.len() {
                    let inside = extent(contract, level + 1);
                    return this.axis(contract, operands, level + 1, inside, sum);
                }
                // The accumulator's binding is free until the sum is done.
                this.load(contract.accumulator, operands.left.0, &operands.left.1)?;
                let left = this.value(contract.accumulator);
                this.load(contract.accumulator, operands.right.0, &operands.right.1)?;
                let right = this.value(contract.accumulator);
                let (a, b, c) = (left.into(), right.into(), sum.into());
                this.push(Instruction::MultiplyAdd { destination: sum, a, b, c });
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
