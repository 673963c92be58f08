//! `atan`, `atan2`.
//!
//! On [0, 1] atan(t) = t + t³ p(t²), relative error 2.6e-9 for f32 and 1.2e-19 for f64 before rounding. Beyond,
//! atan(t) = π/2 - atan(1/t).

use std::f64::consts::{FRAC_PI_2, PI};

use super::math::Math;
use crate::ir::loops::Value;
use crate::ir::scalar::ScalarFunction as F;

const TAIL_F32: [f64; 9] = [
    -3.333_329_856e-1,
    1.999_854_743e-1,
    -1.426_423_192e-1,
    1.095_213_220e-1,
    -8.403_278_887e-2,
    5.795_441_195e-2,
    -3.117_443_062e-2,
    1.091_264_468e-2,
    -1.793_155_330e-3,
];
const TAIL_F64: [f64; 22] = [
    -0.333_333_333_333_333_26,
    0.199_999_999_999_981_28,
    -0.142_857_142_855_692_48,
    0.111_111_111_053_418_85,
    -0.090_909_089_517_905_97,
    0.076_923_054_554_276_89,
    -0.066_666_411_619_483_11,
    0.058_821_377_300_949_385,
    -0.052_617_715_841_322_16,
    0.047_549_264_324_807_82,
    -0.043_198_758_080_997_34,
    0.039_096_288_674_993_84,
    -0.034_649_681_120_624_144,
    0.029_273_573_142_909_09,
    -0.022_765_632_697_208_882,
    0.015_669_823_447_407_614,
    -0.009_162_249_275_752_321,
    0.004_356_061_685_830_99,
    -0.001_599_253_167_863_159_3,
    0.000_422_106_176_369_795_07,
    -7.090_114_032_085_72e-5,
    5.671_687_006_438_829e-6,
];

/// π/2 is this plus the constant rounded to the dtype.
const HALF_PI_REST: [f64; 2] = [-4.371_139_000_186_242_6e-8, 6.123_233_995_736_766e-17];
const PI_REST: [f64; 2] = [-8.742_278_000_372_485e-8, 1.224_646_799_147_353_2e-16];

/// atan(t) for t in [0, 1].
fn atan_small(m: &mut Math<'_, '_>, t: Value) -> Value {
    let tail: &[f64] = m.pick(&TAIL_F32, &TAIL_F64);
    let square = m.mul(t, t);
    let p = m.polynomial(square, tail);
    let cube = m.mul(square, t);
    m.fma(cube, p, t)
}

/// `angle - a`, for an angle given as a constant and its rounding error.
fn subtract_from(m: &mut Math<'_, '_>, angle: f64, rest: [f64; 2], a: Value) -> Value {
    let rest = m.constant(m.pick(rest[0], rest[1]));
    let angle = m.constant(angle);
    let small = m.sub(a, rest);
    m.sub(angle, small)
}

/// The angle of the point (larger, smaller) or, if swapped, of its mirror image: `swapped ? π/2 - a : a`.
fn unswap(m: &mut Math<'_, '_>, swapped: Value, a: Value) -> Value {
    let other = subtract_from(m, FRAC_PI_2, HALF_PI_REST, a);
    m.select(swapped, other, a)
}

/// atan(x).
pub(super) fn atan(m: &mut Math<'_, '_>, x: Value) -> Value {
    let magnitude = m.abs(x);
    let one = m.constant(1.0);
    let swapped = m.less(one, magnitude);
    let inverse = m.div(one, magnitude);
    let t = m.select(swapped, inverse, magnitude);
    let a = atan_small(m, t);
    let a = unswap(m, swapped, a);
    let sign = m.sign_bit(x);
    m.with_sign(a, sign)
}

/// The angle of the point (x, y), in [-π, π]; signs of zeros count, two infinities are the angles of (±1, ±1).
pub(super) fn atan2(m: &mut Math<'_, '_>, y: Value, x: Value) -> Value {
    let (width, height) = (m.abs(x), m.abs(y));
    let swapped = m.less(width, height);
    let smaller = m.select(swapped, width, height);
    let larger = m.select(swapped, height, width);
    let ratio = m.div(smaller, larger);
    // 0/0 and inf/inf: their angles are those of (1, 0) and (1, 1).
    let zero = m.constant(0.0);
    let infinity = m.constant(f64::INFINITY);
    let one = m.constant(1.0);
    let none = m.equal(larger, zero);
    let ratio = m.select(none, zero, ratio);
    let both = m.equal(smaller, infinity);
    let ratio = m.select(both, one, ratio);
    let a = atan_small(m, ratio);
    let a = unswap(m, swapped, a);
    let backward = subtract_from(m, PI, PI_REST, a);
    let x_bits = m.bits(x);
    let no_bits = m.integer(0);
    let is_backward = m.map(F::Less, &[x_bits, no_bits]);
    let a = m.select(is_backward, backward, a);
    let sign = m.sign_bit(y);
    let a = m.with_sign(a, sign);
    let x_nan = m.map(F::NotEqual, &[x, x]);
    let y_nan = m.map(F::NotEqual, &[y, y]);
    let nan = m.map(F::Or, &[x_nan, y_nan]);
    let sum = m.add(x, y);
    m.select(nan, sum, a)
}
