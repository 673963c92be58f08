//! Operands for the ops' samples: varied, the same on every run, exact in `f32`, and away from kinks and ties.

use crate::ir::tensor::Tensor;
use crate::ir::types::{DType, TensorType};

/// Point `i` of an evenly filling sequence in 0..1; `seed` gives another sequence.
fn fraction(i: usize, seed: usize) -> f64 {
    (0.381_966_011_250_105 * (i + 1) as f64 + 0.137_031_7 * seed as f64).fract()
}

fn build(dtype: DType, shape: &[usize], value: impl Fn(usize) -> f64) -> Tensor {
    let ty = TensorType::new(dtype, shape.iter().copied());
    let count = shape.iter().product();
    Tensor::new(ty, (0..count).map(value).collect())
}

/// Floats between -1.4 and 1.4.
pub fn signed(shape: &[usize], seed: usize) -> Tensor {
    build(DType::F32, shape, |i| f64::from((fraction(i, seed) * 2.8 - 1.4) as f32))
}

/// Floats between 0.3 and 2.
pub fn positive(shape: &[usize], seed: usize) -> Tensor {
    build(DType::F32, shape, |i| f64::from((fraction(i, seed) * 1.7 + 0.3) as f32))
}

/// Whole numbers in `low..high` of any dtype.
pub fn whole(dtype: DType, shape: &[usize], low: i64, high: i64, seed: usize) -> Tensor {
    build(dtype, shape, |i| low as f64 + (fraction(i, seed) * (high - low) as f64).floor())
}
