//! `pow`: exp(y log|x|), with the sign and the special cases of C's `pow`.
//!
//! For f32 that is done in f64 and rounded once: the logarithm is right to 2e-16 relative, so the exponent (at most 104 where the result is
//! finite) to 3e-14, a hundred-thousandth of an f32's last place. For f64 the logarithm and its product with y are sums of two numbers
//! each, right to 2^-63, so that an exponent of 745 is wrong by less than half of the result's last place.

use super::math::Math;
use super::{exponential, logarithm};
use crate::ir::loops::Value;
use crate::ir::scalar::ScalarFunction as F;
use crate::ir::types::DType;

/// x to the power y.
pub(super) fn pow(m: &mut Math<'_, '_>, x: Value, y: Value) -> Value {
    if m.dtype() == DType::F64 {
        let power = precise(m, x, y);
        return signed(m, x, y, power);
    }
    let (x, y) = (m.convert(x, DType::F64), m.convert(y, DType::F64));
    let mut wide = m.within(DType::F64);
    let magnitude = wide.abs(x);
    let log = logarithm::log(&mut wide, magnitude);
    let exponent = wide.mul(y, log);
    let power = exponential::exp(&mut wide, exponent);
    let result = signed(&mut wide, x, y, power);
    m.convert(result, DType::F32)
}

/// |x| to the power y, but for the special cases.
fn precise(m: &mut Math<'_, '_>, x: Value, y: Value) -> Value {
    let magnitude = m.abs(x);
    let (high, low) = logarithm::log_pair(m, magnitude);
    let exponent = m.mul(y, high);
    let minus = m.neg(exponent);
    let rest = m.fma(y, high, minus);
    let rest = m.fma(y, low, rest);
    // Beyond the limit the result is 0 or infinite, and the rest may be no number.
    let (limit, zero) = (m.constant(1000.0), m.constant(0.0));
    let size = m.abs(exponent);
    let matters = m.less(size, limit);
    let rest = m.select(matters, rest, zero);
    exponential::exp_pair(m, exponent, rest)
}

/// The power with its sign and the special cases, from |x| to the power y; all f64.
fn signed(m: &mut Math<'_, '_>, x: Value, y: Value, power: Value) -> Value {
    let (zero, one, half) = (m.constant(0.0), m.constant(1.0), m.constant(0.5));
    let magnitude = m.abs(x);

    let whole_y = m.map(F::Floor, &[y]);
    let is_whole = m.equal(whole_y, y);
    let half_y = m.mul(y, half);
    let whole_half = m.map(F::Floor, &[half_y]);
    let is_even = m.equal(whole_half, half_y);
    let is_odd = m.map(F::Not, &[is_even]);
    let is_odd = m.map(F::And, &[is_odd, is_whole]);

    // The sign bit of x counts for odd y, that of -0 too.
    let x_sign = m.sign_bit(x);
    let no_sign = m.integer(0);
    let sign = m.select(is_odd, x_sign, no_sign);
    let signed = m.with_sign(power, sign);

    // A negative number to a power that is not whole is no number; -inf is treated as inf.
    let lowest = m.constant(-f64::MAX);
    let negative = m.less(x, zero);
    let finite = m.map(F::LessEqual, &[lowest, x]);
    let fraction = m.map(F::Not, &[is_whole]);
    let refuse = m.map(F::And, &[negative, finite]);
    let refuse = m.map(F::And, &[refuse, fraction]);
    let nan = m.constant(f64::NAN);
    let result = m.select(refuse, nan, signed);

    // 1 to any power and any number to the power 0 are 1, also where the other is NaN or infinite; -1 to an infinite power too.
    let x_is_one = m.equal(x, one);
    let y_is_zero = m.equal(y, zero);
    let is_one = m.map(F::Or, &[x_is_one, y_is_zero]);
    let magnitude_is_one = m.equal(magnitude, one);
    let infinity = m.constant(f64::INFINITY);
    let y_magnitude = m.abs(y);
    let y_infinite = m.equal(y_magnitude, infinity);
    let turning = m.map(F::And, &[magnitude_is_one, y_infinite]);
    let is_one = m.map(F::Or, &[is_one, turning]);
    m.select(is_one, one, result)
}
