//! `erf`.
//!
//! f32: polynomials of degree 8 on four pieces of [0, 3.92], whose coefficients are chosen from tables of four, which are as fast as an addition.
//! Relative error 1.2e-8.
//! f64: for |x| up to 1, x + x p(x²), relative error 1.1e-19. Above, 1 - exp(-g(|x|)) with g = -log(erfc), which is x² and a polynomial of
//! |x| - 3.5 up to 6, error 1.2e-18; x² keeps what rounding takes from it.
//! Beyond that the result is 1 rounded. All errors before rounding.

use super::exponential;
use super::math::Math;
use crate::ir::loops::Value;
use crate::ir::types::DType;

/// The pieces of [0, 3.92] for f32: the coefficients of each, the lowest power first. The first one's are those of erf(x) - x.
const PIECES: [[f64; 9]; 4] = [
    [
        0.0,
        1.283_791_661e-1,
        6.108_790_558e-7,
        -3.761_456_609e-1,
        2.339_485_800e-4,
        1.114_201_024e-1,
        4.793_491_215e-3,
        -3.623_930_737e-2,
        1.025_899_313e-2,
    ],
    [
        9.300_078_154e-1,
        2.185_325_772e-1,
        -2.799_955_010e-1,
        1.663_274_467e-1,
        -1.320_507_936e-2,
        -4.324_406_758e-2,
        2.183_199_115e-2,
        2.844_806_761e-3,
        -4.962_459_672e-3,
    ],
    [
        9.990_068_674e-1,
        4.994_740_244e-3,
        -1.162_816_491e-2,
        1.637_972_891e-2,
        -1.519_592_758e-2,
        9.278_908_372e-3,
        -3.109_045_327e-3,
        -3.397_321_561e-4,
        7.388_411_905e-4,
    ],
    [
        9.999_983_907e-1,
        1.146_824_252e-5,
        -3.889_664_004e-5,
        8.430_883_463e-5,
        -1.296_794_508e-4,
        1.479_085_040e-4,
        -1.349_603_699e-4,
        1.082_471_499e-4,
        -5.471_104_305e-5,
    ],
];
/// Around what each piece is a polynomial.
const MIDDLES: [f64; 4] = [0.0, 1.281_25, 2.328_125, 3.390_625];
/// Where the pieces end, above which the result is 1.
const END_F32: f64 = 3.92;
/// The number of x's piece is x times the first less the second, rounded to the nearest.
const PIECE_OF: (f64, f64) = (0.945_899_307_727_813_7, 0.209_424_465_894_699_1);

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
    if m.dtype() == DType::F32 { erf_by_pieces(m, x) } else { erf_by_complement(m, x) }
}

fn erf_by_pieces(m: &mut Math<'_, '_>, x: Value) -> Value {
    let magnitude = m.abs(x);
    let t = m.at_most(magnitude, END_F32);
    let (factor, less, magic) = (m.constant(PIECE_OF.0), m.constant(-PIECE_OF.1), m.constant(m.format().magic));
    let place = m.fma(t, factor, less);
    let shifted = m.add(place, magic);
    let piece = m.bits(shifted);

    let middle = m.one_of(piece, MIDDLES);
    let u = m.sub(t, middle);
    let square = m.mul(u, u);
    let p = m.polynomial_in_pairs((u, square), 8, |m, power| m.one_of(piece, PIECES.map(|p| p[power + 1])));
    // x in the first piece, where the result is x and a little more, and the constant term in the others.
    let (slope, constant) = (m.one_of(piece, [1.0, 0.0, 0.0, 0.0]), m.one_of(piece, PIECES.map(|p| p[0])));
    let most = m.fma(slope, u, constant);
    let result = m.fma(p, u, most);
    let sign = m.sign_bit(x);
    m.with_sign(result, sign)
}

fn erf_by_complement(m: &mut Math<'_, '_>, x: Value) -> Value {
    let square = m.mul(x, x);
    let p = m.polynomial(square, &SMALL_F64);
    let near = m.fma(x, p, x);

    let magnitude = m.abs(x);
    let t = m.at_most(magnitude, 6.0);
    let middle = m.constant(MIDDLE_F64);
    let from_middle = m.sub(t, middle);
    let g = m.polynomial(from_middle, &LARGE_F64);
    let complement = exp_of_square_and(m, t, g);
    let one = m.constant(1.0);
    let far = m.sub(one, complement);
    let sign = m.sign_bit(x);
    let far = m.with_sign(far, sign);

    // NaN is on neither side, and comes out of the near way only.
    let is_large = m.less(one, magnitude);
    m.select(is_large, far, near)
}
