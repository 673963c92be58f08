//! `erf`.
//!
//! For |x| up to a limit, x + x p(x²) (f32: limit 0.9216, relative error 3.6e-10; f64: limit 1, 1.1e-19). Above, 1 - exp(-g(|x|)) with
//! g = -log(erfc). For f32 that is a polynomial of |x| up to 4, error of the result 4.5e-11; for f64, x² and a polynomial of |x| - 3.5 up
//! to 6, error 1.2e-18, and x² keeps what rounding takes from it.
//! Beyond that the result is 1 rounded. All errors before rounding.

use super::exponential;
use super::math::Math;
use crate::ir::loops::Value;
use crate::ir::types::DType;

const SMALL_F32: [f64; 7] = [
    1.283_791_661e-1,
    -3.761_263_490e-1,
    1.128_370_166e-1,
    -2.685_971_558e-2,
    5.201_752_298e-3,
    -8.150_221_547e-4,
    8.399_577_928e-5,
];
const SMALL_F64: [f64; 13] = [
    0.128_379_167_095_512_6,
    -0.376_126_389_031_837_5,
    0.112_837_916_709_548_85,
    -0.026_866_170_645_077_87,
    0.005_223_977_624_828_39,
    -0.000_854_832_698_142_363,
    0.000_120_553_311_329_005_07,
    -1.492_559_577_115_410_2e-5,
    1.646_100_846_558_454_5e-6,
    -1.635_039_613_305_444_1e-7,
    1.466_032_835_472_172_5e-8,
    -1.137_495_512_198_357_7e-9,
    5.960_685_514_044_635e-11,
];
const LARGE_F32: [f64; 8] = [
    -1.751_114_614e-4,
    1.129_516_959,
    6.333_427_429e-1,
    1.082_846_597e-1,
    -2.512_238_175e-2,
    4.172_184_970e-3,
    -4.346_941_714e-4,
    2.111_507_820e-5,
];
const MIDDLE_F64: f64 = 3.5;
const LARGE_F64: [f64; 19] = [
    1.862_437_402_147_225_4,
    0.266_099_588_371_262_3,
    -0.033_246_945_145_225_75,
    0.005_225_658_606_501_368_4,
    -0.000_873_687_238_990_659_5,
    0.000_147_295_599_218_515_44,
    -2.439_153_496_095_211_4e-5,
    3.885_631_502_142_07e-6,
    -5.824_340_058_359_155e-7,
    9.033_028_841_912_342e-8,
    -7.340_602_397_672_9e-10,
    3.468_265_547_390_922_5e-9,
    -2.085_244_044_913_816_7e-9,
    -2.994_059_165_085_617_5e-9,
    -1.735_284_727_294_590_4e-9,
    -6.210_998_592_876_104e-10,
    -1.372_114_751_848_892e-10,
    -1.794_238_817_856_501e-11,
    -1.039_026_946_718_759_6e-12,
];

/// exp(-t² - h).
fn exp_of_square_and(m: &mut Math<'_, '_>, t: Value, h: Value) -> Value {
    let minus_t = m.neg(t);
    let square = m.mul(minus_t, t);
    let minus_square = m.neg(square);
    let lost = m.fma(minus_t, t, minus_square);
    let sum = m.sub(square, h);
    // The square is the larger for t above 1.2; below, what is lost of the sum is small anyway.
    let kept = m.sub(sum, square);
    let taken = m.add(kept, h);
    let rest = m.sub(lost, taken);
    exponential::exp_pair(m, sum, rest)
}

/// erf(x).
pub(super) fn erf(m: &mut Math<'_, '_>, x: Value) -> Value {
    let small: &[f64] = m.pick(&SMALL_F32, &SMALL_F64);
    let (limit, end) = m.pick((0.9216, 4.0), (1.0, 6.0));
    let square = m.mul(x, x);
    let p = m.polynomial(square, small);
    let near = m.fma(x, p, x);

    let magnitude = m.abs(x);
    let t = m.at_most(magnitude, end);
    let complement = if m.dtype() == DType::F64 {
        let middle = m.constant(MIDDLE_F64);
        let from_middle = m.sub(t, middle);
        let g = m.polynomial(from_middle, &LARGE_F64);
        exp_of_square_and(m, t, g)
    } else {
        let minus_g = m.polynomial(t, &LARGE_F32.map(|c| -c));
        exponential::exp_to_normal(m, minus_g)
    };
    let one = m.constant(1.0);
    let far = m.sub(one, complement);
    let sign = m.sign_bit(x);
    let far = m.with_sign(far, sign);

    // NaN is on neither side, and comes out of the near way only.
    let limit = m.constant(limit);
    let is_large = m.less(limit, magnitude);
    m.select(is_large, far, near)
}
