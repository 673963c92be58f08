//! Numbers as the machine has them, and functions of them.

use half::{bf16, f16};

use crate::ir::scalar::ScalarFunction as F;
use crate::ir::types::DType;

/// A value of a kernel. All integer dtypes are kept in 64 bits, within the range of theirs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Number {
    F32(f32),
    F64(f64),
    /// Kept and converted, never computed with.
    F16(f16),
    /// As `F16`.
    BF16(bf16),
    Int(i64),
    Bool(bool),
}

impl Number {
    /// A constant given as `f64`.
    pub(super) fn constant(dtype: DType, value: f64) -> Number {
        match dtype.storage() {
            DType::F32 => Number::F32(value as f32),
            DType::F64 => Number::F64(value),
            DType::Bool => Number::Bool(value != 0.0),
            DType::F16 => Number::F16(f16::from_f32(value as f32)),
            DType::BF16 => Number::BF16(bf16::from_f32(value as f32)),
            integer => Number::Int(saturate(integer, value)),
        }
    }

    /// The element that memory holds.
    pub(super) fn from_bytes(dtype: DType, bytes: &[u8]) -> Number {
        let mut wide = [0; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        let bits = u64::from_le_bytes(wide);
        match dtype.storage() {
            DType::F32 => Number::F32(f32::from_bits(bits as u32)),
            DType::F64 => Number::F64(f64::from_bits(bits)),
            DType::Bool => Number::Bool(bits != 0),
            DType::F16 => Number::F16(f16::from_bits(bits as u16)),
            DType::BF16 => Number::BF16(bf16::from_bits(bits as u16)),
            integer => Number::Int(wrap(integer, i128::from(bits))),
        }
    }

    /// Writes the lowest bytes of the number, as many as the dtype has.
    pub(super) fn write(self, dtype: DType, bytes: &mut [u8]) {
        let bits = match self {
            Number::F32(x) => u64::from(x.to_bits()),
            Number::F64(x) => x.to_bits(),
            Number::F16(x) => u64::from(x.to_bits()),
            Number::BF16(x) => u64::from(x.to_bits()),
            Number::Int(x) => x as u64,
            Number::Bool(x) => u64::from(x),
        };
        bytes[..dtype.bytes()].copy_from_slice(&bits.to_le_bytes()[..dtype.bytes()]);
    }

    /// The integer; 0 for what is none.
    pub(super) fn integer(self) -> i64 {
        if let Number::Int(x) = self { x } else { 0 }
    }

    fn is_true(self) -> bool {
        match self {
            Number::F32(x) => x != 0.0,
            Number::F64(x) => x != 0.0,
            Number::F16(_) | Number::BF16(_) => self.wide() != 0.0,
            Number::Int(x) => x != 0,
            Number::Bool(x) => x,
        }
    }

    fn wide(self) -> f64 {
        match self {
            Number::F32(x) => f64::from(x),
            Number::F64(x) => x,
            Number::F16(x) => x.to_f64(),
            Number::BF16(x) => x.to_f64(),
            Number::Int(x) => x as f64,
            Number::Bool(x) => f64::from(u8::from(x)),
        }
    }

    /// The number as another dtype. To `f16` and `bf16` it goes through `f32`.
    pub(super) fn convert(self, to: DType) -> Number {
        let to = to.storage();
        match (self, to) {
            (Number::F32(x), DType::F16) => Number::F16(f16::from_f32(x)),
            (Number::F32(x), DType::BF16) => Number::BF16(bf16::from_f32(x)),
            (_, DType::F16 | DType::BF16) => self.convert(DType::F32).convert(to),
            (_, DType::Bool) => Number::Bool(self.is_true()),
            (Number::Int(x), DType::F32) => Number::F32(x as f32),
            (_, DType::F32) => Number::F32(self.wide() as f32),
            (_, DType::F64) => Number::F64(self.wide()),
            (Number::Int(x), _) => Number::Int(wrap(to, i128::from(x))),
            (Number::Bool(x), _) => Number::Int(i64::from(x)),
            _ => Number::Int(saturate(to, self.wide())),
        }
    }
}

/// The integer modulo the width of a dtype.
fn wrap(dtype: DType, x: i128) -> i64 {
    match dtype {
        DType::I8 => i64::from(x as i8),
        DType::I16 => i64::from(x as i16),
        DType::I32 => i64::from(x as i32),
        DType::U8 => i64::from(x as u8),
        DType::U16 => i64::from(x as u16),
        DType::U32 => i64::from(x as u32),
        _ => x as i64,
    }
}

/// Toward zero, into the range of an integer dtype; NaN is 0. `as` does just that.
fn saturate(dtype: DType, x: f64) -> i64 {
    match dtype {
        DType::I8 => i64::from(x as i8),
        DType::I16 => i64::from(x as i16),
        DType::I32 => i64::from(x as i32),
        DType::U8 => i64::from(x as u8),
        DType::U16 => i64::from(x as u16),
        DType::U32 => i64::from(x as u32),
        _ => x as i64,
    }
}

/// A function of numbers; `dtype` is that of the last operand.
pub(super) fn apply(function: F, dtype: DType, x: &[Number]) -> Number {
    if function == F::Select {
        return if x[0].is_true() { x[1] } else { x[2] };
    }
    match *x {
        [Number::F32(_), ..] => float(function, x).unwrap_or_else(|wide| Number::F32(wide as f32)),
        [Number::F64(_), ..] => float(function, x).unwrap_or_else(Number::F64),
        [Number::Int(_), ..] => integer(function, dtype, x),
        _ => boolean(function, x),
    }
}

/// A float function, or `Err` with its value in f64, which is to be rounded. One operation in f64 on f32s rounds to the same
/// f32 as in f32 itself, for all but the fused multiply-add.
fn float(function: F, x: &[Number]) -> Result<Number, f64> {
    let wide: Vec<f64> = x.iter().map(|n| n.wide()).collect();
    if let (F::Fma, [Number::F32(a), Number::F32(b), Number::F32(c)]) = (function, x) {
        return Ok(Number::F32(a.mul_add(*b, *c)));
    }
    match comparison(function, wide[0].partial_cmp(wide.last().expect("no function is without operands"))) {
        Some(truth) => Ok(Number::Bool(truth)),
        None => Err(function.eval(DType::F64, &wide)),
    }
}

/// The answer of a comparison, given how its operands compare; `None` for other functions.
fn comparison(function: F, order: Option<std::cmp::Ordering>) -> Option<bool> {
    Some(match function {
        F::Equal => order.is_some_and(|o| o.is_eq()),
        F::NotEqual => !order.is_some_and(|o| o.is_eq()),
        F::Less => order.is_some_and(|o| o.is_lt()),
        F::LessEqual => order.is_some_and(|o| o.is_le()),
        F::Greater => order.is_some_and(|o| o.is_gt()),
        F::GreaterEqual => order.is_some_and(|o| o.is_ge()),
        _ => return None,
    })
}

fn boolean(function: F, x: &[Number]) -> Number {
    let a = x[0].is_true();
    let b = x[x.len() - 1].is_true();
    Number::Bool(match function {
        F::And => a && b,
        F::Or => a || b,
        F::Not => !a,
        _ => comparison(function, Some(a.cmp(&b))).unwrap_or(false),
    })
}

fn integer(function: F, dtype: DType, x: &[Number]) -> Number {
    let i: [i128; 3] = std::array::from_fn(|k| x.get(k).map_or(0, |n| i128::from(n.integer())));
    let [a, b, c] = i;
    let last = i[x.len() - 1];
    if let Some(truth) = comparison(function, Some(a.cmp(&last))) {
        return Number::Bool(truth);
    }
    let bits = 8 * dtype.bytes() as u32;
    let shift = (b & i128::from(bits - 1)) as u32;
    let value = match function {
        F::Add => a + b,
        F::Sub => a - b,
        F::Mul => a * b,
        F::Fma => a * b + c,
        F::Div => a.checked_div(b).unwrap_or(0),
        F::Mod => match a.checked_rem(b) {
            None => 0,
            Some(r) if r != 0 && (r < 0) != (b < 0) => r + b,
            Some(r) => r,
        },
        F::Min => a.min(b),
        F::Max => a.max(b),
        F::Neg => -a,
        F::Abs => a.abs(),
        F::Sign => a.signum(),
        F::And => a & b,
        F::Or => a | b,
        F::Xor => a ^ b,
        F::Not => !a,
        F::ShiftLeft => a << shift,
        F::ShiftRight => a >> shift,
        F::MulHigh => (a * b) >> bits,
        // The functions of floats, which the verifier keeps away from integers.
        _ => a,
    };
    Number::Int(wrap(dtype, value))
}
