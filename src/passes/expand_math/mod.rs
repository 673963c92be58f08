//! Writes functions like `exp`, and conversions of `f16` and `bf16`, out as fused multiply-adds, integer operations on the bits, and selects.
//!
//! After this pass kernels hold only functions that every backend has as an instruction, so all backends compute the same bits and
//! an object file needs no mathematical library. Every expansion is straight-line code, written once for f32 and f64 where one method serves both;
//! its method, its coefficients and its error bound stand beside it, and `docs/numerics.md` has the table of bounds. The
//! coefficients come from `docs/numerics_coefficients.py`.

mod arithmetic;
mod error_function;
mod exponential;
mod half;
mod inverse_tangent;
mod logarithm;
mod math;
mod power;
mod trigonometric;

use math::Math;

use crate::ir::loops::build::{BlockBuilder, KernelBuilder};
use crate::ir::loops::{Block, Instruction, Kernel, Program, Value};
use crate::ir::scalar::ScalarFunction as F;
use crate::ir::types::DType;
use crate::passes::lower::hoist::hoist;
use crate::passes::{LoopPass, PassError};

/// The pass.
pub const PASS: LoopPass = LoopPass {
    name: "expand_math",
    doc: "writes mathematical functions out in machine operations",
    run: |mut program, _| match run(&mut program) {
        Ok(()) => Ok(program),
        Err(error) => Err(PassError { message: error.to_string(), scope: "".into() }),
    },
};

/// A function that has no expansion for its dtype yet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{function}` of {dtype} is not supported yet")]
pub struct NoExpansion {
    /// The name of the function.
    pub function: &'static str,
    /// The dtype of its operands.
    pub dtype: DType,
}

/// Expands all kernels of a program.
pub fn run(program: &mut Program) -> Result<(), NoExpansion> {
    for k in &mut program.kernels {
        *k = kernel(k)?;
    }
    Ok(())
}

/// Expands one kernel.
pub fn kernel(kernel: &Kernel) -> Result<Kernel, NoExpansion> {
    if !needs_expansion(&kernel.body, &kernel.values) {
        return Ok(kernel.clone());
    }
    let mut result = Ok(());
    let mut expanded = KernelBuilder::resume(kernel).finish(kernel.name.clone(), kernel.parallel.clone(), |b| {
        result = block(b, &kernel.body);
    });
    result?;
    // Coefficients, and what is made of scalars alone, are the same in every round.
    hoist(&mut expanded.body);
    Ok(expanded)
}

/// Whether every backend has the function as an instruction for operands of `dtype`.
fn is_low_level(function: F, dtype: DType) -> bool {
    match function {
        F::Add | F::Sub | F::Mul | F::Div | F::Min | F::Max | F::Neg | F::Abs | F::Fma => true,
        F::Equal | F::NotEqual | F::Less | F::LessEqual | F::Greater | F::GreaterEqual | F::Select => true,
        F::And | F::Or | F::Not | F::Xor | F::ShiftLeft | F::ShiftRight | F::MulHigh => true,
        F::Floor | F::Ceil | F::Round | F::Sqrt => dtype.is_float(),
        _ => false,
    }
}

/// The blocks inside an instruction.
fn nested(instruction: &Instruction) -> Vec<&Block> {
    match instruction {
        Instruction::For { body, .. } | Instruction::Lanes { body, .. } => vec![body],
        Instruction::Fold { body, merge, .. } => vec![body, merge],
        Instruction::Contract(contract) => vec![&contract.epilogue],
        Instruction::Tile(tile) => vec![&tile.epilogue],
        _ => Vec::new(),
    }
}

fn needs_expansion(block: &Block, values: &[DType]) -> bool {
    block.instructions.iter().any(|i| match i {
        Instruction::Map { function, operands, .. } => {
            operands.last().is_some_and(|o| !is_low_level(*function, values[o.0 as usize]))
        }
        Instruction::Convert { result, operand } => {
            half::is_expanded(values[operand.0 as usize], values[result.0 as usize])
        }
        other => nested(other).into_iter().any(|b| needs_expansion(b, values)),
    })
}

fn block(b: &mut BlockBuilder<'_>, old: &Block) -> Result<(), NoExpansion> {
    old.instructions.iter().try_for_each(|i| instruction(b, i))
}

/// Writes a nested block anew.
fn inner(b: &mut BlockBuilder<'_>, old: &Block) -> Result<Block, NoExpansion> {
    let mut result = Ok(());
    let new = b.block(|b| result = block(b, old));
    result.map(|()| new)
}

fn instruction(b: &mut BlockBuilder<'_>, old: &Instruction) -> Result<(), NoExpansion> {
    let mut new = old.clone();
    match &mut new {
        Instruction::Map { result, function, operands } => {
            let dtype = operands.last().map(|o| b.dtype(*o));
            if let Some(dtype) = dtype.filter(|d| !is_low_level(*function, *d)) {
                expand(b, *function, dtype, operands)?;
                b.define_last_as(*result);
                return Ok(());
            }
        }
        Instruction::Convert { result, operand } if half::is_expanded(b.dtype(*operand), b.dtype(*result)) => {
            half::convert(b, *operand, b.dtype(*result));
            b.define_last_as(*result);
            return Ok(());
        }
        Instruction::For { body, .. } | Instruction::Lanes { body, .. } => *body = inner(b, body)?,
        Instruction::Fold { body, merge, .. } => {
            *body = inner(b, body)?;
            *merge = inner(b, merge)?;
        }
        Instruction::Contract(contract) => contract.epilogue = inner(b, &contract.epilogue)?,
        Instruction::Tile(tile) => tile.epilogue = inner(b, &tile.epilogue)?,
        _ => {}
    }
    b.push(new);
    Ok(())
}

/// Writes one function out; its value is that of the last instruction written.
fn expand(b: &mut BlockBuilder<'_>, function: F, dtype: DType, x: &[Value]) -> Result<(), NoExpansion> {
    let none = Err(NoExpansion { function: function.name(), dtype });
    let for_integers = dtype.is_integer() && matches!(function, F::Mod | F::Sign);
    if !for_integers && !matches!(dtype, DType::F32 | DType::F64) {
        return none;
    }
    let mut m = Math::new(b, dtype);
    match function {
        F::Mod if dtype.is_float() => arithmetic::float_mod(&mut m, x[0], x[1]),
        F::Mod => arithmetic::integer_mod(&mut m, x[0], x[1]),
        F::Sign => arithmetic::sign(&mut m, x[0]),
        F::Rsqrt => arithmetic::rsqrt(&mut m, x[0]),
        F::Exp => exponential::exp(&mut m, x[0]),
        F::Expm1 => exponential::expm1(&mut m, x[0]),
        F::Tanh => exponential::tanh(&mut m, x[0]),
        F::Sigmoid => exponential::sigmoid(&mut m, x[0]),
        F::Log => logarithm::log(&mut m, x[0]),
        F::Log1p => logarithm::log1p(&mut m, x[0]),
        F::Erf => error_function::erf(&mut m, x[0]),
        F::Atan => inverse_tangent::atan(&mut m, x[0]),
        F::Atan2 => inverse_tangent::atan2(&mut m, x[0], x[1]),
        F::Sin => trigonometric::sin(&mut m, x[0]),
        F::Cos => trigonometric::cos(&mut m, x[0]),
        F::Tan => trigonometric::tan(&mut m, x[0]),
        F::Pow => power::pow(&mut m, x[0], x[1]),
        _ => return none,
    };
    Ok(())
}
