//! What a kernel does, counted on its loops: floating-point operations, and the bytes of its buffers.

use super::{Block, BufferId, Instruction, Kernel, Matrix, Program, Step};
use crate::ir::scalar::ScalarFunction;

/// The work of one call of a kernel over its whole extent. Counts saturate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelCost {
    /// Additions, multiplications and so on, a fused multiply-add counting as two; one for any other function.
    pub flops: u64,
    /// Bytes of the buffers' elements that are touched, what is updated counting twice.
    pub bytes: u64,
}

/// The work of one call of `kernel`.
pub fn cost(kernel: &Kernel) -> KernelCost {
    let mut count = Count { flops: 0, touched: vec![0; kernel.buffers.len()] };
    count.block(&kernel.body, kernel.parallel.as_ref().map_or(1, |p| p.extent));
    let mut bytes = 0u64;
    for (buffer, touched) in kernel.buffers.iter().zip(count.touched) {
        let times = if buffer.usage == super::BufferUse::Update { 2 } else { 1 };
        let elements = buffer.elements.min(touched);
        bytes = bytes.saturating_add(elements.saturating_mul(buffer.dtype.bytes() as u64 * times));
    }
    KernelCost { flops: count.flops, bytes }
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

/// What has been counted of a kernel.
struct Count {
    flops: u64,
    /// How many elements of each buffer are loaded or stored, those that are met again counting again.
    touched: Vec<u64>,
}

impl Count {
    fn block(&mut self, block: &Block, rounds: u64) {
        for instruction in &block.instructions {
            match instruction {
                Instruction::Map { function, .. } => {
                    let each = if *function == ScalarFunction::Fma { 2 } else { 1 };
                    self.flops = self.flops.saturating_add(rounds.saturating_mul(each));
                }
                Instruction::Load { buffer, .. } | Instruction::Store { buffer, .. } => self.touch(*buffer, rounds),
                Instruction::LoadAt { buffer, .. } | Instruction::StoreAt { buffer, .. } => self.touch(*buffer, rounds),
                Instruction::For { extent, body, .. } | Instruction::Lanes { extent, body, .. } => {
                    self.block(body, rounds.saturating_mul(*extent));
                }
                Instruction::Fold { extent, body, merge, .. } => {
                    self.block(body, rounds.saturating_mul(*extent));
                    self.block(merge, rounds.saturating_mul(*extent));
                }
                Instruction::Contract(c) => {
                    let elements = rounds.saturating_mul(c.rows).saturating_mul(c.columns);
                    self.product(elements, c.steps(), [&c.left, &c.right], &c.epilogue);
                }
                Instruction::Tile(t) => {
                    let elements = rounds.saturating_mul(t.rows).saturating_mul(t.stored_columns);
                    self.product(elements, t.steps(), [&t.left, &t.right], &t.epilogue);
                }
                _ => {}
            }
        }
    }

    fn touch(&mut self, buffer: BufferId, times: u64) {
        let touched = &mut self.touched[buffer.0 as usize];
        *touched = touched.saturating_add(times);
    }

    /// A product, which goes through all of its operands.
    fn product(&mut self, elements: u64, steps: u64, operands: [&Matrix; 2], epilogue: &Block) {
        operands.into_iter().for_each(|operand| self.touch(operand.buffer, u64::MAX));
        self.flops = self.flops.saturating_add(elements.saturating_mul(steps).saturating_mul(2));
        self.block(epilogue, elements);
    }
}
