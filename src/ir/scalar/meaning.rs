//! What each scalar function computes: the definition, in f64 for floats and exactly for integers up to 2^53.
//!
//! The graph interpreter and constant folding use it. Floats are not rounded to their dtype, so a definition can be
//! compared with any precision; integers wrap at the width of theirs.

use super::ScalarFunction;
use crate::ir::types::DType;

impl ScalarFunction {
    /// The value for operands of `dtype` (for `select`: the dtype of the second and third operand).
    pub fn eval(self, dtype: DType, x: &[f64]) -> f64 {
        match dtype.storage() {
            DType::Bool => self.eval_bool(x),
            d if d.is_float() => self.eval_float(x),
            d => self.eval_integer(d, x),
        }
    }

    fn eval_any(self, x: &[f64]) -> f64 {
        let truth = |t: bool| f64::from(u8::from(t));
        match self {
            ScalarFunction::Equal => truth(x[0] == x[1]),
            ScalarFunction::NotEqual => truth(x[0] != x[1]),
            ScalarFunction::Less => truth(x[0] < x[1]),
            ScalarFunction::LessEqual => truth(x[0] <= x[1]),
            ScalarFunction::Greater => truth(x[0] > x[1]),
            ScalarFunction::GreaterEqual => truth(x[0] >= x[1]),
            ScalarFunction::Select if x[0] != 0.0 => x[1],
            ScalarFunction::Select => x[2],
            ScalarFunction::Max if x[0] > x[1] || x[0].is_nan() => x[0],
            ScalarFunction::Min if x[0] < x[1] || x[0].is_nan() => x[0],
            ScalarFunction::Max | ScalarFunction::Min => x[1],
            other => unreachable!("`{}` does not work on every dtype", other.name()),
        }
    }

    fn eval_bool(self, x: &[f64]) -> f64 {
        let truth = |t: bool| f64::from(u8::from(t));
        match self {
            ScalarFunction::And => truth(x[0] != 0.0 && x[1] != 0.0),
            ScalarFunction::Or => truth(x[0] != 0.0 || x[1] != 0.0),
            ScalarFunction::Not => truth(x[0] == 0.0),
            other => other.eval_any(x),
        }
    }

    fn eval_float(self, x: &[f64]) -> f64 {
        match self {
            ScalarFunction::Add => x[0] + x[1],
            ScalarFunction::Sub => x[0] - x[1],
            ScalarFunction::Mul => x[0] * x[1],
            ScalarFunction::Div => x[0] / x[1],
            ScalarFunction::Mod => float_mod(x[0], x[1]),
            ScalarFunction::Pow => x[0].powf(x[1]),
            ScalarFunction::Atan2 => x[0].atan2(x[1]),
            ScalarFunction::Neg => -x[0],
            ScalarFunction::Abs => x[0].abs(),
            // `signum` is 1 at 0, and a NaN is to stay one.
            ScalarFunction::Sign if x[0] == 0.0 => 0.0,
            ScalarFunction::Sign => x[0].signum(),
            ScalarFunction::Floor => x[0].floor(),
            ScalarFunction::Ceil => x[0].ceil(),
            ScalarFunction::Round => x[0].round_ties_even(),
            ScalarFunction::Sqrt => x[0].sqrt(),
            ScalarFunction::Rsqrt => 1.0 / x[0].sqrt(),
            ScalarFunction::Exp => x[0].exp(),
            ScalarFunction::Log => x[0].ln(),
            ScalarFunction::Log1p => x[0].ln_1p(),
            ScalarFunction::Expm1 => x[0].exp_m1(),
            ScalarFunction::Sin => x[0].sin(),
            ScalarFunction::Cos => x[0].cos(),
            ScalarFunction::Tan => x[0].tan(),
            ScalarFunction::Atan => x[0].atan(),
            ScalarFunction::Tanh => x[0].tanh(),
            ScalarFunction::Sigmoid => 1.0 / (1.0 + (-x[0]).exp()),
            ScalarFunction::Erf => erf(x[0]),
            ScalarFunction::Fma => x[0].mul_add(x[1], x[2]),
            other => other.eval_any(x),
        }
    }

    fn eval_integer(self, dtype: DType, x: &[f64]) -> f64 {
        let bits = 8 * dtype.bytes() as u32;
        let i: [i128; 3] = std::array::from_fn(|k| x.get(k).map_or(0, |v| *v as i128));
        let value = match self {
            ScalarFunction::Add => i[0] + i[1],
            ScalarFunction::Sub => i[0] - i[1],
            ScalarFunction::Mul => i[0] * i[1],
            ScalarFunction::Div => i[0].checked_div(i[1]).unwrap_or(0),
            ScalarFunction::Mod => match i[0].checked_rem(i[1]) {
                None => 0,
                Some(r) if r != 0 && (r < 0) != (i[1] < 0) => r + i[1],
                Some(r) => r,
            },
            ScalarFunction::Neg => -i[0],
            ScalarFunction::Abs => i[0].abs(),
            ScalarFunction::Sign => i[0].signum(),
            ScalarFunction::And => i[0] & i[1],
            ScalarFunction::Or => i[0] | i[1],
            ScalarFunction::Not => !i[0],
            ScalarFunction::Xor => i[0] ^ i[1],
            ScalarFunction::ShiftLeft => i[0] << (i[1] & i128::from(bits - 1)),
            ScalarFunction::ShiftRight => i[0] >> (i[1] & i128::from(bits - 1)),
            ScalarFunction::MulHigh => (i[0] * i[1]) >> bits,
            ScalarFunction::Fma => i[0] * i[1] + i[2],
            other => return other.eval_any(x),
        };
        wrap(value, dtype)
    }
}

/// The integer modulo the width of `dtype`.
fn wrap(value: i128, dtype: DType) -> f64 {
    match dtype.storage() {
        DType::I8 => f64::from(value as i8),
        DType::I16 => f64::from(value as i16),
        DType::I32 => f64::from(value as i32),
        DType::I64 => value as i64 as f64,
        DType::U8 => f64::from(value as u8),
        DType::U16 => f64::from(value as u16),
        DType::U32 => f64::from(value as u32),
        other => unreachable!("{other} is no integer dtype"),
    }
}

/// The smallest and the largest value of `dtype`, infinities for floats.
pub fn range(dtype: DType) -> (f64, f64) {
    match dtype.storage() {
        DType::I8 => (f64::from(i8::MIN), f64::from(i8::MAX)),
        DType::I16 => (f64::from(i16::MIN), f64::from(i16::MAX)),
        DType::I32 => (f64::from(i32::MIN), f64::from(i32::MAX)),
        DType::I64 => (i64::MIN as f64, i64::MAX as f64),
        DType::U8 => (0.0, f64::from(u8::MAX)),
        DType::U16 => (0.0, f64::from(u16::MAX)),
        DType::U32 => (0.0, f64::from(u32::MAX)),
        DType::Bool => (0.0, 1.0),
        _ => (f64::NEG_INFINITY, f64::INFINITY),
    }
}

/// The value as another dtype: float to int truncates toward zero and saturates (NaN to 0), int to narrower int wraps,
/// to bool is `!= 0`. Of floats only `f16` and `bf16` are rounded to their dtype.
pub fn convert(value: f64, from: DType, to: DType) -> f64 {
    match to.storage() {
        DType::Bool => f64::from(u8::from(value != 0.0)),
        d if d.is_float() => round_half(value, d),
        _ if value.is_nan() => 0.0,
        d if from.is_float() => {
            let (low, high) = range(d);
            value.trunc().clamp(low, high)
        }
        d => wrap(value as i128, d),
    }
}

/// A result of an op of `dtype`: for `f16` and `bf16` rounded first to `f32`, in which they are computed, then to the dtype, both to
/// nearest even. Other values stay as they are.
pub fn round_half(value: f64, dtype: DType) -> f64 {
    match dtype {
        DType::F16 => half::f16::from_f32(value as f32).to_f64(),
        DType::BF16 => half::bf16::from_f32(value as f32).to_f64(),
        _ => value,
    }
}

/// What is left of a after whole multiples of b, exactly, with the sign of b.
fn float_mod(a: f64, b: f64) -> f64 {
    let rest = a % b;
    if rest != 0.0 && (rest < 0.0) != (b < 0.0) { rest + b } else { rest }
}

/// The error function to about 1e-15: a series of positive terms, which no cancellation spoils.
fn erf(x: f64) -> f64 {
    let magnitude = x.abs();
    if x.is_nan() || magnitude > 6.0 {
        return if x.is_nan() { x } else { x.signum() };
    }
    // erf(x) = 2/sqrt(pi) exp(-x^2) (x + 2x^3/3 + 4x^5/(3*5) + ...)
    let (mut term, mut sum, mut odd) = (magnitude, magnitude, 1.0);
    while term > sum * 1e-17 {
        odd += 2.0;
        term *= 2.0 * magnitude * magnitude / odd;
        sum += term;
    }
    (std::f64::consts::FRAC_2_SQRT_PI * (-magnitude * magnitude).exp() * sum).copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_wrap_and_floor() {
        let i32s = |f: ScalarFunction, a: f64, b: f64| f.eval(DType::I32, &[a, b]);
        assert_eq!(i32s(ScalarFunction::Mod, -7.0, 3.0), 2.0);
        assert_eq!(i32s(ScalarFunction::Mod, 7.0, -3.0), -2.0);
        assert_eq!(i32s(ScalarFunction::Div, -7.0, 2.0), -3.0);
        assert_eq!(i32s(ScalarFunction::Div, 7.0, 0.0), 0.0);
        assert_eq!(i32s(ScalarFunction::Add, f64::from(i32::MAX), 1.0), f64::from(i32::MIN));
        let high = ScalarFunction::MulHigh.eval(DType::U32, &[f64::from(u32::MAX), f64::from(u32::MAX)]);
        assert_eq!(high, f64::from(u32::MAX - 1));
        assert_eq!(ScalarFunction::Not.eval(DType::U8, &[1.0]), 254.0);
    }

    #[test]
    fn conversions_saturate_and_wrap() {
        assert_eq!(convert(300.7, DType::F32, DType::U8), 255.0);
        assert_eq!(convert(-3.7, DType::F32, DType::I32), -3.0);
        assert_eq!(convert(f64::NAN, DType::F32, DType::I32), 0.0);
        assert_eq!(convert(300.0, DType::I32, DType::U8), 44.0);
        assert_eq!(convert(-0.5, DType::F32, DType::Bool), 1.0);
    }

    #[test]
    fn float_remainders_have_the_sign_of_the_divisor() {
        let f64s = |a: f64, b: f64| ScalarFunction::Mod.eval(DType::F64, &[a, b]);
        assert_eq!((f64s(-7.5, 2.0), f64s(7.5, -2.0), f64s(1.0, 0.1)), (0.5, -0.5, 0.09999999999999995));
        assert_eq!((f64s(1.0, f64::INFINITY), f64s(-1.0, f64::INFINITY)), (1.0, f64::INFINITY));
    }

    #[test]
    fn halves_are_rounded_to_nearest_even() {
        let f16 = |x: f64| convert(x, DType::F32, DType::F16);
        assert_eq!((f16(2049.0), f16(2051.0), f16(65519.0)), (2048.0, 2052.0, 65504.0));
        assert_eq!(
            (f16(65520.0), f16(f64::exp2(-25.0)), f16(f64::exp2(-24.0))),
            (f64::INFINITY, 0.0, f64::exp2(-24.0))
        );
        let bf16 = |x: f64| convert(x, DType::I32, DType::BF16);
        assert_eq!((bf16(257.0), bf16(259.0)), (256.0, 260.0));
    }

    #[test]
    fn error_function() {
        assert!((erf(1.0) - 0.842_700_792_949_714_9).abs() < 1e-14);
        assert!((erf(-3.5) + 0.999_999_256_901_627_7).abs() < 1e-14);
        assert_eq!(erf(0.0), 0.0);
    }
}
