//! `mod`, `sign`, `rsqrt`.

use super::math::Math;
use crate::ir::loops::Value;
use crate::ir::scalar::ScalarFunction as F;
use crate::ir::types::DType;

/// a - floor(a / b) · b, exactly where the quotient has no more than 53 bits: f32 is done in f64.
pub(super) fn float_mod(m: &mut Math<'_, '_>, a: Value, b: Value) -> Value {
    if m.dtype() == DType::F64 {
        return precise_mod(m, a, b);
    }
    let (a, b) = (m.convert(a, DType::F64), m.convert(b, DType::F64));
    let rest = precise_mod(&mut m.within(DType::F64), a, b);
    m.convert(rest, DType::F32)
}

/// The product and difference are rounded once. Where the rounding of a / b gave a neighbouring whole number, the result would have the
/// wrong sign; b is added then. A quotient of 0 leaves a, also for an infinite b.
fn precise_mod(m: &mut Math<'_, '_>, a: Value, b: Value) -> Value {
    let ratio = m.div(a, b);
    let quotient = m.map(F::Floor, &[ratio]);
    let minus = m.neg(quotient);
    let rest = m.fma(minus, b, a);
    let zero = m.constant(0.0);
    let none = m.equal(quotient, zero);
    let rest = m.select(none, a, rest);
    with_sign_of(m, rest, b)
}

/// a - (a / b) · b with the division toward zero, moved to the sign of b; 0 for b = 0.
pub(super) fn integer_mod(m: &mut Math<'_, '_>, a: Value, b: Value) -> Value {
    let quotient = m.div(a, b);
    let product = m.mul(quotient, b);
    let rest = m.sub(a, product);
    let moved = if is_unsigned(m.dtype()) { rest } else { with_sign_of(m, rest, b) };
    let zero = m.constant(0.0);
    let by_zero = m.equal(b, zero);
    m.select(by_zero, zero, moved)
}

/// `rest + b` if `rest` is not 0 and has another sign than `b`, else `rest`.
fn with_sign_of(m: &mut Math<'_, '_>, rest: Value, b: Value) -> Value {
    let zero = m.constant(0.0);
    let below = m.less(rest, zero);
    let above = m.less(zero, rest);
    let negative = m.less(b, zero);
    let positive = m.less(zero, b);
    let low = m.map(F::And, &[below, positive]);
    let high = m.map(F::And, &[above, negative]);
    let wrong = m.map(F::Or, &[low, high]);
    let moved = m.add(rest, b);
    m.select(wrong, moved, rest)
}

/// -1, 0 or 1; NaN and zeros stay as they are.
pub(super) fn sign(m: &mut Math<'_, '_>, x: Value) -> Value {
    let (zero, one) = (m.constant(0.0), m.constant(1.0));
    let positive = m.less(zero, x);
    if is_unsigned(m.dtype()) {
        return m.select(positive, one, zero);
    }
    let minus = m.constant(-1.0);
    let negative = m.less(x, zero);
    let low = m.select(negative, minus, x);
    m.select(positive, one, low)
}

fn is_unsigned(dtype: DType) -> bool {
    matches!(dtype, DType::U8 | DType::U16 | DType::U32)
}

/// 1 / sqrt(x), each rounded.
pub(super) fn rsqrt(m: &mut Math<'_, '_>, x: Value) -> Value {
    let root = m.map(F::Sqrt, &[x]);
    let one = m.constant(1.0);
    m.div(one, root)
}
