//! `exp`, `expm1`, `tanh`, `sigmoid`.
//!
//! All start from x = n ln 2 + r with n whole and |r| <= ln(2)/2, and exp(r) = 1 + r + r² p(r), p the polynomial that minimizes the
//! largest relative error of the sum: 3.1e-9 for f32, 3.6e-18 for f64, before rounding.

use super::math::Math;
use crate::ir::loops::Value;
use crate::ir::types::DType;

const LOG2_E: f64 = std::f64::consts::LOG2_E;
/// ln 2 rounded to the dtype, and the rest of it.
const LN_2_F32: [f64; 2] = [0.693_147_182_464_599_6, -1.904_654_212_125_933_6e-9];
const LN_2_F64: [f64; 2] = [std::f64::consts::LN_2, 2.319_046_813_846_299_6e-17];

/// p(r) = (exp(r) - 1 - r) / r².
const TAIL_F32: [f64; 5] = [4.999_999_404e-1, 1.666_652_113e-1, 4.166_838_899e-2, 8.368_716_575e-3, 1.381_459_879e-3];
const TAIL_F64: [f64; 10] = [
    0.500_000_000_000_001_1,
    0.166_666_666_666_664_13,
    0.041_666_666_666_530_155,
    0.008_333_333_333_494_46,
    0.001_388_888_894_363_020_5,
    0.000_198_412_695_065_797_48,
    2.480_149_309_881_806_6e-5,
    2.755_758_637_589_588_4e-6,
    2.763_024_840_746_557_5e-7,
    2.500_006_022_014_549e-8,
];

/// p(z) = (tanh(x) - x) / x³ with z = x².
const TANH_F32: [f64; 5] =
    [-3.333_331_347e-1, 1.333_245_188e-1, -5.383_742_973e-2, 2.100_746_147e-2, -6.179_813_761e-3];
const TANH_F64: [f64; 11] = [
    -0.333_333_333_333_332_76,
    0.133_333_333_333_231_33,
    -0.053_968_253_961_724_6,
    0.021_869_488_327_281_705,
    -0.008_863_231_637_269_655,
    0.003_592_082_250_814_770_3,
    -0.001_455_479_646_229_418,
    0.000_588_183_663_393_711_2,
    -0.000_232_716_248_582_176_16,
    8.236_096_297_103_736e-5,
    -1.890_397_936_069_536_4e-5,
];

/// x = n ln 2 + r.
struct Reduced {
    /// n and so many biases, added to the magic number: its lowest bits are their sum.
    shifted: Value,
    /// n as a float.
    n: Value,
    r: Value,
    /// x - n ln 2 with the rounded ln 2.
    near: Value,
}

/// `biases`: of how many powers of two the number n is to become the exponent.
fn reduce(m: &mut Math<'_, '_>, x: Value, biases: i32) -> Reduced {
    let (log2e, magic) = (m.constant(LOG2_E), magic(m, biases));
    let shifted = m.fma(x, log2e, magic);
    let n = m.sub(shifted, magic);
    let ln2 = m.pick(LN_2_F32, LN_2_F64);
    let (minus_high, minus_low) = (m.constant(-ln2[0]), m.constant(-ln2[1]));
    // x and n ln 2 agree in their leading bits, so this is nearly exact.
    let near = m.fma(n, minus_high, x);
    let r = m.fma(n, minus_low, near);
    Reduced { shifted, n, r, near }
}

/// The magic number with some biases of the exponent.
fn magic(m: &mut Math<'_, '_>, biases: i32) -> Value {
    let format = m.format();
    m.constant(format.magic + f64::from(biases * format.bias))
}

/// What rounding took from r.
fn r_rest(m: &mut Math<'_, '_>, reduced: &Reduced) -> Value {
    let minus_low = m.constant(-m.pick(LN_2_F32, LN_2_F64)[1]);
    let taken = m.sub(reduced.near, reduced.r);
    m.fma(reduced.n, minus_low, taken)
}

/// r² p(r) and so much more.
fn with_tail(m: &mut Math<'_, '_>, r: Value, more: Value) -> Value {
    let coefficients: &[f64] = m.pick(&TAIL_F32, &TAIL_F64);
    let square = m.mul(r, r);
    let p = m.polynomial_in_pairs((r, square), coefficients.len(), |m, power| m.constant(coefficients[power]));
    m.fma(square, p, more)
}

/// 2^n from an integer whose lowest bits are n and the bias; n is an exponent of a normal number.
fn power_of_bits(m: &mut Math<'_, '_>, bits: Value) -> Value {
    let exponent = m.shift_left(bits, m.format().fraction);
    m.float_of(exponent)
}

/// 2^n from the magic number with n and the bias added.
fn power_of_two(m: &mut Math<'_, '_>, shifted: Value) -> Value {
    let bits = m.bits(shifted);
    power_of_bits(m, bits)
}

/// x · 2^n for any n up to twice the largest exponent, n reduced with two biases, as two products: the first is exact, the second rounds once,
/// to a subnormal number too.
fn scale(m: &mut Math<'_, '_>, x: Value, reduced: &Reduced) -> Value {
    let (first, second) = if m.dtype() == DType::F32 { halves_of_bits(m, reduced) } else { halves(m, reduced) };
    let scaled = m.mul(x, first);
    m.mul(scaled, second)
}

/// Two powers of two whose product is 2^n. The bits of the magic number are halved with n's: theirs are 0 where they matter.
fn halves_of_bits(m: &mut Math<'_, '_>, reduced: &Reduced) -> (Value, Value) {
    let bits = m.bits(reduced.shifted);
    let half = m.shift_right(bits, 1);
    let rest = m.sub(bits, half);
    (power_of_bits(m, half), power_of_bits(m, rest))
}

/// The same by float operations: vectors of 64-bit integers have no arithmetic shift.
fn halves(m: &mut Math<'_, '_>, reduced: &Reduced) -> (Value, Value) {
    let (half, magic) = (m.constant(0.5), magic(m, 1));
    let first = m.fma(reduced.n, half, magic);
    let first_n = m.sub(first, magic);
    let second_n = m.sub(reduced.n, first_n);
    let second = m.add(second_n, magic);
    (power_of_two(m, first), power_of_two(m, second))
}

/// exp(x). Above the upper limit the result is infinite anyway. Below the lower one it is 0, which products that underflow would come to as well, but
/// processors take many times as long for these, and masked softmaxes are full of them.
pub(super) fn exp(m: &mut Math<'_, '_>, x: Value) -> Value {
    let (low, high) = m.pick((-104.0, 89.0), (-746.0, 710.0));
    let (low, zero) = (m.constant(low), m.constant(0.0));
    let vanishes = m.less(x, low);
    let x = m.at_most(x, high);
    let x = m.select(vanishes, zero, x);
    let reduced = reduce(m, x, 2);
    let rest = with_tail(m, reduced.r, reduced.r);
    let one = m.constant(1.0);
    let sum = m.add(rest, one);
    let scaled = scale(m, sum, &reduced);
    m.select(vanishes, zero, scaled)
}

/// exp(x + rest) for f64, |rest| far below |x|, to a little over half a unit in the last place.
pub(super) fn exp_pair(m: &mut Math<'_, '_>, x: Value, rest: Value) -> Value {
    let x = m.at_most(x, 710.0);
    let x = m.at_least(x, -746.0);
    let reduced = reduce(m, x, 2);
    // r and the rest as a new r and what rounding takes from it.
    let lost = r_rest(m, &reduced);
    let rest = m.add(lost, rest);
    let r = m.add(reduced.r, rest);
    let kept = m.sub(r, reduced.r);
    let rest = m.sub(rest, kept);
    let small = with_tail(m, r, rest);
    // 1 + r + small, without what rounding takes from 1 + r.
    let one = m.constant(1.0);
    let near = m.add(one, r);
    let kept = m.sub(near, one);
    let taken = m.sub(r, kept);
    let small = m.add(taken, small);
    let sum = m.add(near, small);
    scale(m, sum, &reduced)
}

/// exp(r) - 1 to about one unit in the last place.
fn expm1_reduced(m: &mut Math<'_, '_>, reduced: &Reduced) -> Value {
    let r_rest = r_rest(m, reduced);
    let rest = with_tail(m, reduced.r, r_rest);
    m.add(rest, reduced.r)
}

/// exp(x) - 1 = 2 (2^(n-1) (exp(r) - 1) + 2^(n-1) - 1/2); halved so that the largest results do not overflow on the way.
pub(super) fn expm1(m: &mut Math<'_, '_>, x: Value) -> Value {
    let (low, high) = m.pick((-18.0, 89.0), (-38.0, 710.0));
    let limited = m.at_most(x, high);
    let limited = m.at_least(limited, low);
    let reduced = reduce(m, limited, 1);
    let q = expm1_reduced(m, &reduced);
    let (one, half) = (m.constant(1.0), m.constant(0.5));
    let shifted = m.sub(reduced.shifted, one);
    let factor = power_of_two(m, shifted);
    let base = m.sub(factor, half);
    let sum = m.fma(factor, q, base);
    let result = m.add(sum, sum);
    keep_zero(m, x, result)
}

/// x if it is a zero, whose sign the way here may have lost, else `result`.
pub(super) fn keep_zero(m: &mut Math<'_, '_>, x: Value, result: Value) -> Value {
    let zero = m.constant(0.0);
    let is_zero = m.equal(x, zero);
    m.select(is_zero, x, result)
}

/// tanh(x) = x + x³ p(x²) for |x| < 0.5625 (relative error 1.4e-9 for f32, 9.6e-19 for f64, before rounding); beyond,
/// 1 - 2 / (exp(2 |x|) + 1) and the sign of x. Beyond the upper limit that is 1 rounded.
pub(super) fn tanh(m: &mut Math<'_, '_>, x: Value) -> Value {
    let coefficients: &[f64] = m.pick(&TANH_F32, &TANH_F64);
    let square = m.mul(x, x);
    let p = m.polynomial(square, coefficients);
    let cube = m.mul(square, x);
    let near = m.fma(cube, p, x);

    let magnitude = m.abs(x);
    let limited = m.at_most(magnitude, m.pick(10.0, 20.0));
    let double = m.add(limited, limited);
    let reduced = reduce(m, double, 1);
    let rest = with_tail(m, reduced.r, reduced.r);
    let factor = power_of_two(m, reduced.shifted);
    let e = m.fma(factor, rest, factor);
    let (one, two) = (m.constant(1.0), m.constant(2.0));
    let denominator = m.add(e, one);
    let ratio = m.div(two, denominator);
    let far = m.sub(one, ratio);
    let sign = m.sign_bit(x);
    let far = m.with_sign(far, sign);

    let limit = m.constant(0.5625);
    let is_near = m.less(magnitude, limit);
    m.select(is_near, near, far)
}

/// 1 / (1 + exp(-x)) = (x < 0 ? e : 1) / (1 + e) with e = exp(-|x|), which does not overflow and keeps small results. What rounding takes from 1 + e
/// is taken from the quotient.
pub(super) fn sigmoid(m: &mut Math<'_, '_>, x: Value) -> Value {
    let magnitude = m.abs(x);
    let minus = m.neg(magnitude);
    let e = exp(m, minus);
    let (zero, one) = (m.constant(0.0), m.constant(1.0));
    let negative = m.less(x, zero);
    let numerator = m.select(negative, e, one);
    let denominator = m.add(one, e);
    let kept = m.sub(denominator, one);
    let lost = m.sub(e, kept);
    let quotient = m.div(numerator, denominator);
    let minus_lost = m.neg(lost);
    m.fma(minus_lost, quotient, quotient)
}
