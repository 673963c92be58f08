//! What a kernel does, counted on its loops: floating-point operations, and the bytes of its buffers.

use super::{Block, Instruction, Kernel, Program, Step};
use crate::ir::scalar::ScalarFunction;

/// The work of one call of a kernel over its whole extent. Counts saturate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelCost {
    /// Additions, multiplications and so on, a fused multiply-add counting as two; one for any other function.
    pub flops: u64,
    /// Bytes of the buffers' elements, what is updated counting twice.
    pub bytes: u64,
}

/// The work of one call of `kernel`.
pub fn cost(kernel: &Kernel) -> KernelCost {
    let mut cost = KernelCost::default();
    let rounds = kernel.parallel.as_ref().map_or(1, |p| p.extent);
    block(&kernel.body, rounds, &mut cost);
    for buffer in &kernel.buffers {
        let times = if buffer.usage == super::BufferUse::Update { 2 } else { 1 };
        let bytes = buffer.elements.saturating_mul(buffer.dtype.bytes() as u64 * times);
        cost.bytes = cost.bytes.saturating_add(bytes);
    }
    cost
}

/// The floating-point operations of one call of a program.
pub fn flops(program: &Program) -> u64 {
    let of_kernel: Vec<u64> = program.kernels.iter().map(|kernel| cost(kernel).flops).collect();
    steps_flops(&program.steps, &of_kernel)
}

fn steps_flops(steps: &[Step], of_kernel: &[u64]) -> u64 {
    let of_step = |step: &Step| match step {
        Step::Call(call) => of_kernel[call.kernel as usize],
        Step::Repeat(repeat) => repeat.count.saturating_mul(steps_flops(&repeat.steps, of_kernel)),
        Step::Index { .. } => 0,
    };
    steps.iter().fold(0, |sum, step| sum.saturating_add(of_step(step)))
}

fn block(block_of: &Block, rounds: u64, cost: &mut KernelCost) {
    for instruction in &block_of.instructions {
        match instruction {
            Instruction::Map { function, .. } => {
                let each = if *function == ScalarFunction::Fma { 2 } else { 1 };
                cost.flops = cost.flops.saturating_add(rounds.saturating_mul(each));
            }
            Instruction::For { extent, body, .. } | Instruction::Lanes { extent, body, .. } => {
                block(body, rounds.saturating_mul(*extent), cost);
            }
            Instruction::Fold { extent, body, merge, .. } => {
                block(body, rounds.saturating_mul(*extent), cost);
                block(merge, rounds.saturating_mul(*extent), cost);
            }
            Instruction::Contract(c) => {
                product(rounds.saturating_mul(c.rows).saturating_mul(c.columns), c.steps(), &c.epilogue, cost);
            }
            Instruction::Tile(t) => {
                product(rounds.saturating_mul(t.rows).saturating_mul(t.stored_columns), t.steps(), &t.epilogue, cost);
            }
            _ => {}
        }
    }
}

fn product(elements: u64, steps: u64, epilogue: &Block, cost: &mut KernelCost) {
    let flops = elements.saturating_mul(steps).saturating_mul(2);
    cost.flops = cost.flops.saturating_add(flops);
    block(epilogue, elements, cost);
}
