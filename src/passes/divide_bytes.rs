//! Divides bytes by a constant without a division, which takes several times as long as all else there is to do for a pixel.
//!
//! With r the reciprocal of c and s what rounding took from it, x r + (x s), of which the sum and the first product are rounded as one, is the quotient of x and c, rounded as the division would be
//! unless it lies next to the middle of two numbers. A byte has 256 values: all are tried here, and where one of them comes out as another number the division stays. So no bit changes.
//! (Where c is negative, 0 may come out with the other sign.)

use std::collections::BTreeMap;

use super::LoopPass;
use super::lower::hoist::hoist;
use crate::ir::loops::{Block, ConstantBits, Instruction, Kernel, Value};
use crate::ir::scalar::ScalarFunction as F;
use crate::ir::types::DType;

/// The pass.
pub const PASS: LoopPass = LoopPass {
    name: "divide_bytes",
    doc: "divides bytes by constants without divisions",
    run: |mut program, _| {
        program.kernels.iter_mut().for_each(kernel);
        Ok(program)
    },
};

/// What divisions in a kernel may be of.
#[derive(Default)]
struct Operands {
    /// Numbers that were bytes, and which.
    bytes: BTreeMap<Value, DType>,
    constants: BTreeMap<Value, f32>,
}

fn kernel(kernel: &mut Kernel) {
    let mut operands = Operands::default();
    operands.collect(&kernel.body, &kernel.values);
    if operands.bytes.is_empty() || operands.constants.is_empty() {
        return;
    }
    let mut body = std::mem::take(&mut kernel.body);
    if operands.rewrite(&mut body, &mut kernel.values) {
        hoist(&mut body);
    }
    kernel.body = body;
}

fn nested(instruction: &mut Instruction) -> Vec<&mut Block> {
    match instruction {
        Instruction::For { body, .. } | Instruction::Lanes { body, .. } => vec![body],
        Instruction::Fold { body, merge, .. } => vec![body, merge],
        Instruction::Contract(contract) => vec![&mut contract.epilogue],
        Instruction::Tile(tile) => vec![&mut tile.epilogue],
        _ => Vec::new(),
    }
}

impl Operands {
    fn collect(&mut self, block: &Block, values: &[DType]) {
        for instruction in &block.instructions {
            match instruction {
                Instruction::Constant { result, value } if values[result.0 as usize] == DType::F32 => {
                    self.constants.insert(*result, f64::from_bits(value.0) as f32);
                }
                Instruction::Convert { result, operand } if values[result.0 as usize] == DType::F32 => {
                    let from = values[operand.0 as usize];
                    if matches!(from, DType::U8 | DType::I8) {
                        self.bytes.insert(*result, from);
                    }
                }
                _ => {}
            }
            nested(&mut instruction.clone()).into_iter().for_each(|inner| self.collect(inner, values));
        }
    }

    /// Whether a division was replaced.
    fn rewrite(&self, block: &mut Block, values: &mut Vec<DType>) -> bool {
        let mut found = false;
        let mut instructions = Vec::with_capacity(block.instructions.len());
        for mut instruction in std::mem::take(&mut block.instructions) {
            for inner in nested(&mut instruction) {
                found |= self.rewrite(inner, values);
            }
            match self.division(&instruction) {
                Some((result, byte, divisor)) => {
                    instructions.extend(quotient(values, result, byte, divisor));
                    found = true;
                }
                None => instructions.push(instruction),
            }
        }
        block.instructions = instructions;
        found
    }

    /// The result, the dividend and the divisor of a division that can be replaced.
    fn division(&self, instruction: &Instruction) -> Option<(Value, Value, f32)> {
        let Instruction::Map { result, function: F::Div, operands } = instruction else { return None };
        let [byte, divisor] = operands.as_slice() else { return None };
        let (from, divisor) = (self.bytes.get(byte)?, *self.constants.get(divisor)?);
        is_exact(*from, divisor).then_some((*result, *byte, divisor))
    }
}

/// The reciprocal of a number, and what is missing of it.
fn reciprocal(divisor: f32) -> (f32, f32) {
    let near = 1.0 / divisor;
    (near, (1.0 / f64::from(divisor) - f64::from(near)) as f32)
}

/// Whether all bytes of a dtype divided by a number come out as the division has them.
fn is_exact(from: DType, divisor: f32) -> bool {
    let mut all = if from == DType::U8 { 0..=255i16 } else { -128..=127 }.map(f32::from);
    let (near, rest) = reciprocal(divisor);
    divisor.is_finite() && all.all(|byte| byte.mul_add(near, byte * rest).to_bits() == (byte / divisor).to_bits())
}

fn quotient(values: &mut Vec<DType>, result: Value, byte: Value, divisor: f32) -> [Instruction; 4] {
    let [near, rest, correction] = std::array::from_fn(|_| {
        values.push(DType::F32);
        Value(values.len() as u32 - 1)
    });
    let constant =
        |result: Value, value: f32| Instruction::Constant { result, value: ConstantBits(f64::from(value).to_bits()) };
    let map = |result: Value, function: F, operands: &[Value]| Instruction::Map {
        result,
        function,
        operands: operands.to_vec(),
    };
    let of_divisor = reciprocal(divisor);
    [
        constant(near, of_divisor.0),
        constant(rest, of_divisor.1),
        map(correction, F::Mul, &[byte, rest]),
        map(result, F::Fma, &[byte, near, correction]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotients_are_tried_before_they_are_taken() {
        for divisor in [255.0f32, 127.5, 256.0, 3.0, 7.0, 0.3] {
            assert!(is_exact(DType::U8, divisor) && is_exact(DType::I8, divisor), "{divisor}");
        }
        for divisor in [0.0, -7.0, f32::INFINITY, f32::NAN, 1e-45] {
            assert!(!is_exact(DType::U8, divisor), "{divisor}");
        }
    }
}
