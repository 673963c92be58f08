//! `log`, `log1p`.
//!
//! u = 2^k m with m in [sqrt(1/2), sqrt(2)), from the bits of u; f = m - 1 is exact. Then log(u) = k ln 2 + log(1 + f).
//! For f32, log(1 + f) = f + f² p(f), relative error of p's part 4.1e-9. For f64, with s = f / (2 + f) and h = f²/2,
//! log(1 + f) = f - (h - s (h + s² q(s²))), relative error 8.2e-21; both before rounding.

use super::exponential::keep_zero;
use super::math::Math;
use crate::ir::loops::Value;
use crate::ir::scalar::ScalarFunction as F;
use crate::ir::types::DType;

/// The upper bits of ln 2, so that k times them is exact, and the rest.
const LN_2_F32: [f64; 2] = [0.693_145_751_953_125, 1.428_606_765_330_187e-6];
const LN_2_F64: [f64; 2] = [0.693_147_180_559_890_3, 5.497_923_018_708_371e-14];

const TAIL_F32: [f64; 9] = [
    -4.999_998_808e-1,
    3.333_332_539e-1,
    -2.500_158_548e-1,
    2.000_196_576e-1,
    -1.660_904_288e-1,
    1.418_197_453e-1,
    -1.324_351_132e-1,
    1.290_363_818e-1,
    -7.619_378_716e-2,
];
const Q_F64: [f64; 8] = [
    0.666_666_666_666_666_6,
    0.400_000_000_000_062_5,
    0.285_714_285_690_859_27,
    0.222_222_226_467_880_04,
    0.181_817_756_663_553_96,
    0.153_870_907_154_385_1,
    0.132_501_191_792_499_94,
    0.132_513_188_388_084_1,
];

/// 2/3 rounded, and the rest of it.
const TWO_THIRDS: [f64; 2] = [0.666_666_666_666_666_6, 3.700_743_415_417_188e-17];
/// (log(1 + f) / s - 2 - 2/3 z) / z² as a polynomial in z = s², relative error of the logarithm 7.2e-23.
const BEYOND_F64: [f64; 8] = [
    0.399_999_999_999_999_8,
    0.285_714_285_714_451_1,
    0.222_222_222_175_364_44,
    0.181_818_188_703_182_28,
    0.153_845_568_706_904_08,
    0.133_363_174_328_470_9,
    0.116_748_181_932_580_5,
    0.119_890_160_112_637_97,
];

/// u = 2^k (1 + f).
struct Parts {
    k: Value,
    f: Value,
    /// The exponent k where it stands in the bits of a float.
    exponent: Value,
}

/// The bits of sqrt(1/2), rounded to a short number: the lower end of m.
fn low_end(m: &Math<'_, '_>) -> i64 {
    m.pick(0x3f35_0000, 0x3fe6_a000_0000_0000)
}

fn split(m: &mut Math<'_, '_>, u: Value) -> Parts {
    let fraction = m.format().fraction;
    let bits = m.bits(u);
    let low = m.integer(low_end(m));
    let above = m.map(F::Sub, &[bits, low]);
    let whole = m.shift_right(above, fraction);
    let exponent = m.shift_left(whole, fraction);
    let mantissa = m.map(F::Sub, &[bits, exponent]);
    let mantissa = m.float_of(mantissa);
    let one = m.constant(1.0);
    let f = m.sub(mantissa, one);
    let k = m.convert(whole, m.dtype());
    Parts { k, f, exponent }
}

/// k ln 2 + log(1 + f).
fn log_parts(m: &mut Math<'_, '_>, k: Value, f: Value) -> Value {
    let ln2 = m.pick(LN_2_F32, LN_2_F64);
    let (high, low) = (m.constant(ln2[0]), m.constant(ln2[1]));
    if m.dtype() == DType::F32 {
        let p = m.polynomial(f, &TAIL_F32);
        let square = m.mul(f, f);
        let small = m.mul(k, low);
        let rest = m.fma(square, p, small);
        let near = m.add(f, rest);
        return m.fma(k, high, near);
    }
    let two = m.constant(2.0);
    let denominator = m.add(two, f);
    let s = m.div(f, denominator);
    let z = m.mul(s, s);
    let q = m.polynomial(z, &Q_F64);
    let r = m.mul(z, q);
    let half = m.constant(0.5);
    let half_f = m.mul(half, f);
    let h = m.mul(half_f, f);
    let sum = m.add(h, r);
    let small = m.mul(k, low);
    let rest = m.fma(s, sum, small);
    let taken = m.sub(h, rest);
    let near = m.sub(f, taken);
    m.fma(k, high, near)
}

/// The result for u <= 0 (-inf for 0, NaN below), for inf and for NaN.
fn special(m: &mut Math<'_, '_>, u: Value, result: Value) -> Value {
    let (zero, infinity) = (m.constant(0.0), m.constant(f64::INFINITY));
    let finite = m.less(u, infinity);
    let result = m.select(finite, result, u);
    let (minus_infinity, nan) = (m.constant(f64::NEG_INFINITY), m.constant(f64::NAN));
    let is_zero = m.equal(u, zero);
    let outside = m.select(is_zero, minus_infinity, nan);
    let positive = m.less(zero, u);
    m.select(positive, result, outside)
}

/// x = 2^k (1 + f) for any x above 0, subnormal ones scaled up first.
fn split_any(m: &mut Math<'_, '_>, x: Value) -> Parts {
    let (smallest, shift) = m.pick((f64::from(f32::MIN_POSITIVE), 32.0), (f64::MIN_POSITIVE, 64.0));
    let smallest = m.constant(smallest);
    let subnormal = m.less(x, smallest);
    let (factor, one) = (m.constant(f64::exp2(shift)), m.constant(1.0));
    let (shift, zero) = (m.constant(shift), m.constant(0.0));
    let factor = m.select(subnormal, factor, one);
    let u = m.mul(x, factor);
    let parts = split(m, u);
    let taken = m.select(subnormal, shift, zero);
    let k = m.sub(parts.k, taken);
    Parts { k, ..parts }
}

/// log(x).
pub(super) fn log(m: &mut Math<'_, '_>, x: Value) -> Value {
    let parts = split_any(m, x);
    let result = log_parts(m, parts.k, parts.f);
    special(m, x, result)
}

/// A number as the sum of two, the second what rounding took from the first.
struct Pair {
    high: Value,
    low: Value,
}

/// a · b, whose lower parts need not be exact.
fn product(m: &mut Math<'_, '_>, a: &Pair, b: &Pair) -> Pair {
    let high = m.mul(a.high, b.high);
    let minus = m.neg(high);
    let lost = m.fma(a.high, b.high, minus);
    let lost = m.fma(a.high, b.low, lost);
    let low = m.fma(a.low, b.high, lost);
    Pair { high, low }
}

/// a + b and what rounding took from it, for |a| >= |b| or a = 0.
fn sum(m: &mut Math<'_, '_>, a: Value, b: Value) -> Pair {
    let high = m.add(a, b);
    let kept = m.sub(high, a);
    Pair { high, low: m.sub(b, kept) }
}

/// log(x) for f64 x > 0 as a sum of two numbers, to 2^-63 relative: the pair (high, low). Where x is 0, infinite or NaN, or below 0,
/// `high` is what `log` gives and `low` means nothing.
///
/// s = f / (2 + f) is kept in two parts, and so are z = s², 2/3 + z b(z), its product with s z, and the sum
/// k ln 2 + 2 s + s z (2/3 + z b(z)).
pub(super) fn log_pair(m: &mut Math<'_, '_>, x: Value) -> (Value, Value) {
    let Parts { k, f, .. } = split_any(m, x);
    let two = m.constant(2.0);
    let denominator = sum(m, two, f);
    let high = m.div(f, denominator.high);
    let minus = m.neg(high);
    let rest = m.fma(minus, denominator.high, f);
    let rest = m.fma(minus, denominator.low, rest);
    let s = Pair { high, low: m.div(rest, denominator.high) };

    let z = product(m, &s, &s);
    let beyond = m.polynomial(z.high, &BEYOND_F64);
    let beyond = m.mul(z.high, beyond);
    let [third, third_rest] = TWO_THIRDS.map(|part| m.constant(part));
    let factor = sum(m, third, beyond);
    let factor = Pair { high: factor.high, low: m.add(factor.low, third_rest) };
    let cube = product(m, &s, &z);
    let tail = product(m, &cube, &factor);

    let double = m.add(s.high, s.high);
    let near = sum(m, double, tail.high);
    let rest = m.fma(two, s.low, tail.low);
    let rest = m.add(near.low, rest);
    let [ln2, ln2_rest] = LN_2_F64.map(|part| m.constant(part));
    let whole = m.mul(k, ln2);
    let total = sum(m, whole, near.high);
    let rest = m.fma(k, ln2_rest, rest);
    let rest = m.add(total.low, rest);
    let total = sum(m, total.high, rest);
    (special(m, x, total.high), total.low)
}

/// log(1 + x): as log of u = 1 + x, with what rounding took from u added to f again. f is x itself for small x.
pub(super) fn log1p(m: &mut Math<'_, '_>, x: Value) -> Value {
    let one = m.constant(1.0);
    let u = m.add(one, x);
    let parts = split(m, u);
    // 1 + x = u + lost; whichever of 1 and x is larger in magnitude tells what is lost.
    let over = m.sub(u, x);
    let lost_of_one = m.sub(one, over);
    let under = m.sub(u, one);
    let lost_of_x = m.sub(x, under);
    let large = m.less(one, x);
    let lost = m.select(large, lost_of_one, lost_of_x);
    let one_bits = m.bits(one);
    // For the largest u the power 2^-k is no normal number; nothing is lost there, so it may be 0.
    let scale = m.map(F::Sub, &[one_bits, parts.exponent]);
    let no_bits = m.integer(0);
    let scale = m.map(F::Max, &[scale, no_bits]);
    let scale = m.float_of(scale);
    let f = m.fma(lost, scale, parts.f);
    let result = log_parts(m, parts.k, f);
    let result = special(m, u, result);
    keep_zero(m, x, result)
}
