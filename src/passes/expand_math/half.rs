//! Conversions of `f16` and `bf16`, as integer operations on bits: the same bits on every machine, and in vectors.
//!
//! Every conversion goes through `f32`. Widening is exact; narrowing rounds to nearest, ties to even, with subnormal results,
//! overflow to infinity and NaN kept.

use crate::ir::loops::Value;
use crate::ir::loops::build::BlockBuilder;
use crate::ir::scalar::ScalarFunction as F;
use crate::ir::types::DType;

/// Bits of an `f32` that an `f16` has no place for: 23 - 10 of the fraction.
const DROPPED: f64 = 13.0;
/// The bits of infinity: those of an `f16`, and those of an `f32`.
const F16_INFINITY: f64 = 0x7c00 as f64;
const F32_INFINITY: f64 = 0x7f80_0000 as f64;
/// The difference of the exponents' biases, 127 - 15, in the bits of an `f32`.
const REBIAS: f64 = (112 << 23) as f64;

/// Writes the conversion of `operand` to `dtype`; one of the two is `f16` or `bf16`. Its value is that of the last instruction.
pub(super) fn convert(b: &mut BlockBuilder<'_>, operand: Value, dtype: DType) {
    let from = b.dtype(operand);
    let single = if from.is_half() { widen(b, operand) } else { b.convert(operand, DType::F32) };
    if dtype.is_half() {
        narrow(b, single, dtype);
    } else if dtype != DType::F32 {
        b.convert(single, dtype);
    }
}

/// Whether the conversion is one of those here.
pub(super) fn is_expanded(from: DType, to: DType) -> bool {
    from != to && (from.is_half() || to.is_half())
}

/// Integers of 32 bits, with which all of this is written.
struct Bits<'a, 'b>(&'a mut BlockBuilder<'b>);

impl Bits<'_, '_> {
    fn number(&mut self, value: f64) -> Value {
        self.0.constant(DType::U32, value)
    }

    fn with(&mut self, function: F, x: Value, number: f64) -> Value {
        let number = self.number(number);
        self.0.map(function, &[x, number])
    }

    fn select(&mut self, condition: Value, yes: Value, no: Value) -> Value {
        self.0.map(F::Select, &[condition, yes, no])
    }
}

fn widen(b: &mut BlockBuilder<'_>, operand: Value) -> Value {
    let brain = b.dtype(operand) == DType::BF16;
    let short = b.bitcast(operand, DType::U16);
    let wide = b.convert(short, DType::U32);
    let mut m = Bits(b);
    let bits = if brain { m.with(F::ShiftLeft, wide, 16.0) } else { widen_f16(&mut m, wide) };
    m.0.bitcast(bits, DType::F32)
}

/// The exponent and fraction moved to their place are the number divided by 2^112, subnormal ones too; the product is exact.
fn widen_f16(m: &mut Bits<'_, '_>, wide: Value) -> Value {
    let sign = m.with(F::And, wide, 0x8000 as f64);
    let sign = m.with(F::ShiftLeft, sign, 16.0);
    let magnitude = m.with(F::And, wide, 0x7fff as f64);
    let moved = m.with(F::ShiftLeft, magnitude, DROPPED);
    let small = m.0.bitcast(moved, DType::F32);
    let factor = m.0.constant(DType::F32, f64::exp2(112.0));
    let scaled = m.0.map(F::Mul, &[small, factor]);
    let finite = m.0.bitcast(scaled, DType::U32);
    let special = m.with(F::Or, moved, F32_INFINITY);
    let is_finite = m.with(F::Less, magnitude, F16_INFINITY);
    let bits = m.select(is_finite, finite, special);
    m.0.map(F::Or, &[bits, sign])
}

fn narrow(b: &mut BlockBuilder<'_>, single: Value, dtype: DType) {
    let bits = b.bitcast(single, DType::U32);
    let mut m = Bits(b);
    let rounded = if dtype == DType::BF16 { narrow_bf16(&mut m, bits) } else { narrow_f16(&mut m, bits) };
    let short = b.convert(rounded, DType::U16);
    b.bitcast(short, dtype);
}

/// `bits + half of the last place - 1 + the bit that decides ties`: the carry rounds to nearest, ties to even.
fn round_off(m: &mut Bits<'_, '_>, bits: Value, dropped: f64) -> Value {
    let last = m.with(F::ShiftRight, bits, dropped);
    let odd = m.with(F::And, last, 1.0);
    let almost_half = m.with(F::Add, bits, f64::exp2(dropped - 1.0) - 1.0);
    m.0.map(F::Add, &[almost_half, odd])
}

fn narrow_bf16(m: &mut Bits<'_, '_>, bits: Value) -> Value {
    let magnitude = m.with(F::And, bits, 0x7fff_ffff as f64);
    let is_nan = m.with(F::Greater, magnitude, F32_INFINITY);
    let quiet = m.with(F::Or, bits, 0x40_0000 as f64);
    let rounded = round_off(m, bits, 16.0);
    let kept = m.select(is_nan, quiet, rounded);
    m.with(F::ShiftRight, kept, 16.0)
}

fn narrow_f16(m: &mut Bits<'_, '_>, bits: Value) -> Value {
    let magnitude = m.with(F::And, bits, 0x7fff_ffff as f64);
    let rounded = round_off(m, magnitude, DROPPED);
    let rebiased = m.with(F::Sub, rounded, REBIAS);
    let normal = m.with(F::ShiftRight, rebiased, DROPPED);

    // The last place of 0.5 in f32 is the smallest f16, so the sum rounds to a multiple of that, which then stands in its lowest bits.
    let float = m.0.bitcast(magnitude, DType::F32);
    let half = m.0.constant(DType::F32, 0.5);
    let sum = m.0.map(F::Add, &[float, half]);
    let sum = m.0.bitcast(sum, DType::U32);
    let subnormal = m.with(F::Sub, sum, f64::from(0.5f32.to_bits()));

    // From 2^-14 on an f16 is normal; from 2^16 on it is infinite, as what rounds up to that is by the carry.
    let is_normal = m.with(F::GreaterEqual, magnitude, f64::from((127 - 14) << 23));
    let is_large = m.with(F::GreaterEqual, magnitude, f64::from((127 + 16) << 23));
    let is_nan = m.with(F::Greater, magnitude, F32_INFINITY);
    let finite = m.select(is_normal, normal, subnormal);
    let infinity = m.number(F16_INFINITY);
    let number = m.select(is_large, infinity, finite);
    let nan = m.number(0x7e00 as f64);
    let number = m.select(is_nan, nan, number);

    let high = m.with(F::ShiftRight, bits, 16.0);
    let sign = m.with(F::And, high, 0x8000 as f64);
    m.0.map(F::Or, &[number, sign])
}
