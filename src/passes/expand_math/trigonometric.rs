//! `sin`, `cos`, `tan`.
//!
//! x = (n + y) π/2 with n whole and |y| <= 1/2, then polynomials on |r| = |y π/2| <= π/4 and the quadrant n mod 4 choose.
//! All of it is done in f64, also for f32, whose results are then rounded once.
//!
//! - f32, all finite x: 2/π is cut into pieces of 29 bits, so that their products with the 24 bits of x are exact; whole turns
//!   are taken from each product, exactly too, before they are summed.
//! - f64, |x| < 2^50: n π/2 is taken from x with π/2 in three parts (161 bits). Beyond, the result is NaN.
//!
//! sin(r) = r + r³ p(r²), error 1.9e-21; cos(r) = 1 - r²/2 + r⁴ q(r²), error 2.3e-23; both before rounding.

use super::math::Math;
use crate::ir::loops::Value;
use crate::ir::scalar::ScalarFunction as F;
use crate::ir::types::DType;

const SINE: [f64; 7] = [
    -0.166_666_666_666_666_66,
    0.008_333_333_333_333_323,
    -0.000_198_412_698_412_550_64,
    2.755_731_921_418_808_5e-6,
    -2.505_210_491_096_224e-8,
    1.605_836_654_578_533e-10,
    -7.578_693_720_431_602e-13,
];
const COSINE: [f64; 7] = [
    0.041_666_666_666_666_664,
    -0.001_388_888_888_888_887_4,
    2.480_158_730_157_146e-5,
    -2.755_731_921_536_012_3e-7,
    2.087_675_436_252_154_6e-9,
    -1.147_029_284_267_688_6e-11,
    4.738_089_460_390_830_6e-14,
];
/// 2/π in pieces of 29 bits.
const TWO_OVER_PI: [f64; 7] = [
    0.636_619_770_899_415,
    1.468_166_324_625_208_6e-9,
    2.276_010_067_197_181_6e-18,
    5.881_214_738_773_043_4e-27,
    1.034_686_870_083_621_5e-35,
    3.783_256_351_091_319e-45,
    3.720_474_878_517_739e-53,
];
/// π/2 in parts of 53 bits.
const HALF_PI: [f64; 3] = [std::f64::consts::FRAC_PI_2, 6.123_233_995_736_766e-17, -1.497_384_904_859_169_8e-33];
/// Arguments from here on are too large for three parts of π/2.
const F64_LIMIT: f64 = (1u64 << 50) as f64;

/// x = n π/2 + r + r_rest, |r| at most a little over π/4.
struct Reduced {
    r: Value,
    r_rest: Value,
    /// n is odd; the lowest two bits of n are 2 or 3; those of n + 1 are.
    odd: Value,
    minus_sine: Value,
    minus_cosine: Value,
}

fn reduce(m: &mut Math<'_, '_>, x: Value, from: DType) -> Reduced {
    let (r, r_rest, shifted) = if from == DType::F32 { reduce_f32(m, x) } else { reduce_f64(m, x) };
    let bits = m.bits(shifted);
    let (zero, one, two) = (m.integer(0), m.integer(1), m.integer(2));
    let low = m.map(F::And, &[bits, one]);
    let odd = m.map(F::NotEqual, &[low, zero]);
    let high = m.map(F::And, &[bits, two]);
    let minus_sine = m.map(F::NotEqual, &[high, zero]);
    let next = m.map(F::Add, &[bits, one]);
    let next_high = m.map(F::And, &[next, two]);
    let minus_cosine = m.map(F::NotEqual, &[next_high, zero]);
    Reduced { r, r_rest, odd, minus_sine, minus_cosine }
}

/// Returns r, its rest, and n added to the magic number.
fn reduce_f32(m: &mut Math<'_, '_>, x: Value) -> (Value, Value, Value) {
    let quarter = m.constant(0.25);
    let minus_four = m.constant(-4.0);
    let mut parts = Vec::new();
    for piece in TWO_OVER_PI {
        let piece = m.constant(piece);
        let product = m.mul(x, piece);
        let turns = m.mul(product, quarter);
        let turns = m.map(F::Round, &[turns]);
        parts.push(m.fma(turns, minus_four, product));
    }
    let sum = parts[1..].iter().fold(parts[0], |sum, part| m.add(sum, *part));
    let magic = m.constant(m.format().magic);
    let shifted = m.add(sum, magic);
    let n = m.sub(shifted, magic);
    // From the largest part on, so that what is left near a multiple of π/2 keeps its bits.
    let first = m.sub(parts[0], n);
    let y = parts[1..].iter().fold(first, |sum, part| m.add(sum, *part));
    let half_pi = m.constant(HALF_PI[0]);
    let r = m.mul(y, half_pi);
    let zero = m.constant(0.0);
    (r, zero, shifted)
}

fn reduce_f64(m: &mut Math<'_, '_>, x: Value) -> (Value, Value, Value) {
    let magnitude = m.abs(x);
    let limit = m.constant(F64_LIMIT);
    let near = m.less(magnitude, limit);
    let nan = m.constant(f64::NAN);
    let x = m.select(near, x, nan);
    let (ratio, magic) = (m.constant(std::f64::consts::FRAC_2_PI), m.constant(m.format().magic));
    let shifted = m.fma(x, ratio, magic);
    let n = m.sub(shifted, magic);
    let minus_n = m.neg(n);
    let [first, second, third] = HALF_PI.map(|part| m.constant(part));
    // Exact: both terms are multiples of 2^-52, and so is their difference, which is below 1.
    let near = m.fma(minus_n, first, x);
    // near - n second as a sum of two numbers, whichever of its terms is the larger; the second of them may count once they cancel.
    let product = m.mul(minus_n, second);
    let minus_product = m.neg(product);
    let product_rest = m.fma(minus_n, second, minus_product);
    let r = m.add(near, product);
    let added = m.sub(r, near);
    let kept = m.sub(r, added);
    let lost = m.sub(near, kept);
    let lost_of_product = m.sub(product, added);
    let lost = m.add(lost, lost_of_product);
    let rest = m.add(lost, product_rest);
    let rest = m.fma(minus_n, third, rest);
    let whole = m.add(r, rest);
    let taken = m.sub(whole, r);
    (whole, m.sub(rest, taken), shifted)
}

/// A value and what rounding took from it.
struct Rounded {
    value: Value,
    rest: Value,
}

/// a + b, |a| the larger.
fn rounded_sum(m: &mut Math<'_, '_>, a: Value, b: Value) -> Rounded {
    let value = m.add(a, b);
    let kept = m.sub(value, a);
    Rounded { value, rest: m.sub(b, kept) }
}

/// sin(r + r_rest).
fn sine(m: &mut Math<'_, '_>, v: &Reduced) -> Rounded {
    let square = m.mul(v.r, v.r);
    let p = m.polynomial(square, &SINE);
    let cube = m.mul(square, v.r);
    let rest = m.fma(cube, p, v.r_rest);
    rounded_sum(m, v.r, rest)
}

/// cos(r + r_rest); the rounding error of 1 - r²/2 is added again.
fn cosine(m: &mut Math<'_, '_>, v: &Reduced) -> Rounded {
    let square = m.mul(v.r, v.r);
    let p = m.polynomial(square, &COSINE);
    let (half, one) = (m.constant(0.5), m.constant(1.0));
    let h = m.mul(half, square);
    let near = m.sub(one, h);
    let back = m.sub(one, near);
    let lost = m.sub(back, h);
    let fourth = m.mul(square, square);
    let rest = m.fma(fourth, p, lost);
    let minus_r = m.neg(v.r);
    let rest = m.fma(minus_r, v.r_rest, rest);
    rounded_sum(m, near, rest)
}

/// `negative ? -x : x`.
fn negate_if(m: &mut Math<'_, '_>, negative: Value, x: Value) -> Value {
    let minus = m.neg(x);
    m.select(negative, minus, x)
}

/// `first ? a : b`.
fn either(m: &mut Math<'_, '_>, first: Value, a: &Rounded, b: &Rounded) -> Rounded {
    Rounded { value: m.select(first, a.value, b.value), rest: m.select(first, a.rest, b.rest) }
}

/// Does the work in f64 and rounds to the dtype of `x`.
fn in_f64(m: &mut Math<'_, '_>, x: Value, work: impl FnOnce(&mut Math<'_, '_>, &Reduced) -> Value) -> Value {
    let from = m.dtype();
    let wide = m.convert(x, DType::F64);
    let mut wide_math = m.within(DType::F64);
    let reduced = reduce(&mut wide_math, wide, from);
    let result = work(&mut wide_math, &reduced);
    let result = super::exponential::keep_zero(&mut wide_math, wide, result);
    m.convert(result, from)
}

/// sin(x).
pub(super) fn sin(m: &mut Math<'_, '_>, x: Value) -> Value {
    in_f64(m, x, |m, v| {
        let (s, c) = (sine(m, v).value, cosine(m, v).value);
        let chosen = m.select(v.odd, c, s);
        negate_if(m, v.minus_sine, chosen)
    })
}

/// tan(x).
pub(super) fn tan(m: &mut Math<'_, '_>, x: Value) -> Value {
    let single = m.dtype() == DType::F32;
    in_f64(m, x, |m, v| {
        let (s, c) = (sine(m, v), cosine(m, v));
        let numerator = either(m, v.odd, &c, &s);
        let numerator =
            Rounded { value: negate_if(m, v.odd, numerator.value), rest: negate_if(m, v.odd, numerator.rest) };
        let denominator = either(m, v.odd, &s, &c);
        let quotient = m.div(numerator.value, denominator.value);
        if single {
            return quotient;
        }
        // What the quotient leaves of the numerator, divided once more.
        let minus = m.neg(quotient);
        let left = m.fma(minus, denominator.value, numerator.value);
        let left = m.add(left, numerator.rest);
        let left = m.fma(minus, denominator.rest, left);
        let more = m.div(left, denominator.value);
        m.add(quotient, more)
    })
}

/// cos(x).
pub(super) fn cos(m: &mut Math<'_, '_>, x: Value) -> Value {
    let from = m.dtype();
    let wide = m.convert(x, DType::F64);
    let mut wide_math = m.within(DType::F64);
    let reduced = reduce(&mut wide_math, wide, from);
    let (s, c) = (sine(&mut wide_math, &reduced).value, cosine(&mut wide_math, &reduced).value);
    let chosen = wide_math.select(reduced.odd, s, c);
    let result = negate_if(&mut wide_math, reduced.minus_cosine, chosen);
    m.convert(result, from)
}
