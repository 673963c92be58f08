//! Functions of f64 against a reference of twice the precision.

use nnc::ir::scalar::ScalarFunction as F;
use nnc::ir::types::DType;

use crate::pair::Pair;
use crate::{BLOCK, Compiled, UNARY, is_chosen, reference, sequence};

/// What a function of f64 is measured against; `None` where the operand or the result is special.
fn truth(function: F, x: f64) -> Option<Pair> {
    let p = Pair::from(x);
    let tame = x.is_finite() && x != 0.0;
    let result = match function {
        F::Exp if x > -745.2 && x < 709.78 => p.exp(),
        F::Expm1 if x > -100.0 && x < 709.78 && tame => p.expm1(),
        F::Log if tame && x > 0.0 => p.log(),
        F::Log1p if tame && x > -1.0 && x < 1e300 => p.log1p(),
        F::Tanh if tame && x.abs() < 40.0 => p.tanh(),
        F::Sigmoid if x > -745.2 && x < 700.0 => p.sigmoid(),
        F::Erf if tame && x.abs() < 6.5 => p.erf(),
        F::Sin | F::Cos | F::Tan if tame && x.abs() < 1e6 => {
            let (sine, cosine) = Pair::sin_cos(x);
            match function {
                F::Sin => sine,
                F::Cos => cosine,
                _ => sine / cosine,
            }
        }
        F::Atan if tame && x.abs() < 1e15 => Pair::angle(x, 1.0, x.atan()),
        F::Sqrt if x > 1e-280 && tame => p.sqrt(),
        F::Rsqrt if x > 1e-290 && tame => Pair::from(1.0) / p.sqrt(),
        _ => return None,
    };
    // The smallest numbers have no second part.
    (result.high.abs() > 1e-290).then_some(result)
}

/// The error of one result. Where there is no better reference, the C library may itself be off by one unit.
fn error(function: F, x: f64, got: f64) -> f64 {
    match truth(function, x) {
        Some(truth) => truth.ulps(got),
        None => {
            let truth = match function {
                // The definition overflows on the way where the result is small.
                F::Sigmoid if x < 0.0 => x.exp() / (1.0 + x.exp()),
                _ => reference(function, &[x]),
            };
            (Pair::from(truth).ulps(got) - 1.0).max(0.0)
        }
    }
}

/// Points of a draw: any bits, some intervals, and numbers whose exponents are evenly spread.
fn draw(round: u64, bits: u64) -> f64 {
    let unit = bits as f64 / u64::MAX as f64 - 0.5;
    match round {
        0 | 1 => f64::from_bits(bits),
        2 => unit * 2.0,
        3 => unit * 60.0,
        4 => unit * 1500.0,
        5 => unit * 12.0,
        6 => f64::from_bits((bits >> 7) | (1022 << 52)) - 0.5,
        _ => f64::from_bits((bits & 0xf_ffff_ffff_ffff) | ((1023 - 60 + (bits >> 54) % 80) << 52)) * unit.signum(),
    }
}

/// The worst error of each function over `count` points of each draw, held to its bound.
fn try_points(count: usize) {
    for (function, _, bound) in UNARY.into_iter().filter(|row| is_chosen(row.0)) {
        let compiled = Compiled::new(function, DType::F64);
        let mut worst = (0.0f64, 0.0f64);
        for round in 0..8 {
            let trigonometric = matches!(function, F::Sin | F::Cos | F::Tan);
            let near = |x: &f64| !trigonometric || x.abs() < 1e15 || !x.is_finite();
            let all: Vec<f64> = sequence(round).map(|b| draw(round, b)).filter(near).take(count).collect();
            for chunk in all.chunks(BLOCK) {
                let mut x = chunk.to_vec();
                x.resize(BLOCK, 1.0);
                for (x, y) in chunk.iter().zip(compiled.call(&[&x])) {
                    let error = error(function, *x, y);
                    if error > worst.0 {
                        worst = (error, *x);
                    }
                }
            }
        }
        println!("{:8} {:.3} ulp at {:?}", function.name(), worst.0, worst.1);
        assert!(worst.0 <= bound, "{}: {worst:?}", function.name());
    }
}

#[test]
fn functions_of_one_f64() {
    try_points(1000);
}

#[test]
#[ignore = "minutes: a million operands of each function; see docs/numerics.md"]
fn functions_of_many_f64() {
    try_points(125_000);
}

/// The worst error of `pow` and `atan2` over pairs whose results are ordinary numbers.
fn try_pairs(count: usize) {
    for (function, bound) in [(F::Pow, 2.0), (F::Atan2, 2.0)].into_iter().filter(|row| is_chosen(row.0)) {
        let compiled = Compiled::new(function, DType::F64);
        let mut bits = sequence(11);
        let mut unit = || bits.next().expect("the sequence does not end") as f64 / u64::MAX as f64;
        let mut worst = (0.0f64, 0.0, 0.0);
        for round in 0..count.div_ceil(BLOCK) {
            let spread = [2.0, 40.0, 700.0, 0.01][round % 4];
            let mut x: Vec<f64> = (0..BLOCK).map(|_| f64::exp2((unit() - 0.5) * spread)).collect();
            let y: Vec<f64> = x.iter().map(|x| (unit() - 0.5) * 1300.0 / x.ln().abs().max(0.01)).collect();
            if function == F::Atan2 {
                x.iter_mut().for_each(|x| *x *= (unit() - 0.5).signum());
            }
            for ((x, y), z) in x.iter().zip(&y).zip(compiled.call(&[&x, &y])) {
                let truth = match function {
                    F::Pow => (Pair::from(*y) * Pair::from(*x).log()).exp(),
                    _ => Pair::angle(*x, *y, x.atan2(*y)),
                };
                let error = truth.ulps(z);
                if error > worst.0 && truth.high.abs() > 1e-290 {
                    worst = (error, *x, *y);
                }
            }
        }
        println!("{:8} {:.3} ulp at ({:?}, {:?})", function.name(), worst.0, worst.1, worst.2);
        assert!(worst.0 <= bound, "{}{worst:?}", function.name());
    }
}

#[test]
fn functions_of_two_f64() {
    try_pairs(BLOCK);
}

#[test]
#[ignore = "minutes: a million pairs; see docs/numerics.md"]
fn functions_of_many_pairs_f64() {
    try_pairs(1 << 20);
}

/// Zeros of both signs, infinities, NaN, the ends of the range: as in C.
#[test]
fn special_pairs_of_f64() {
    let special =
        [0.0, -0.0, 1.0, -1.0, 2.0, -3.0, 0.5, -0.5, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, f64::MAX, 5e-324];
    let pairs: Vec<(f64, f64)> = special.iter().flat_map(|a| special.iter().map(|b| (*a, *b))).collect();
    let (mut x, mut y): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
    x.resize(BLOCK, 1.0);
    y.resize(BLOCK, 1.0);
    for function in [F::Pow, F::Atan2] {
        let compiled = Compiled::new(function, DType::F64);
        for ((a, b), z) in pairs.iter().zip(compiled.call(&[&x, &y])) {
            let truth = function.eval(DType::F64, &[*a, *b]);
            let same_sign = truth.is_nan() || truth.is_sign_negative() == z.is_sign_negative();
            let error = Pair::from(truth).ulps(z);
            assert!(error <= 1.0 && same_sign, "{}({a:e}, {b:e}) = {z:e}, not {truth:e}", function.name());
        }
    }
}

/// Values computed with mpmath in 60 digits, as sums of two f64.
#[expect(clippy::approx_constant, reason = "operands near multiples of π/2 are the hard ones")]
const KNOWN: [(&str, f64, f64, f64); 18] = [
    ("exp", 0.3, 1.3498588075760032, -9.447314673432387e-17),
    ("exp", 709.25, 1.0552644065332767e308, -5.699360800282993e291),
    ("expm1", 1e-05, 1.0000050000166668e-05, -3.111926571619883e-22),
    ("expm1", 0.4, 0.49182469764127035, 3.4465650470333193e-18),
    ("log", 1.0000001, 9.999999505838704e-08, 1.5249709528441489e-24),
    ("log", 5e-310, -712.19194091572, -5.4018597932991334e-14),
    ("log", 1e300, 690.7755278982137, 2.3747660028800243e-14),
    ("log1p", 1e-09, 9.999999995e-10, 7.493897403823754e-26),
    ("log1p", -0.9, -2.302585092994046, -4.968982586806388e-18),
    ("sin", 3.14159265358979, 3.2310891488651735e-15, 1.6956855320737236e-31),
    ("sin", 54321.25, 0.028569333272707314, -9.383519707300363e-19),
    ("tan", 1.5707963, 37320539.634354815, 1.8882233937054353e-09),
    ("tanh", 0.0001, 9.999999966666667e-05, 4.51890806545438e-21),
    ("erf", 0.95, 0.8208908072732779, 2.1150097393672754e-17),
    ("erf", 4.5, 0.9999999998033839, 1.2614727975054947e-17),
    ("atan", 0.7, 0.6107259643892086, 2.2418914462967458e-17),
    ("atan", 1e-09, 1e-09, -3.3333333333333338e-28),
    ("sigmoid", -40.5, 2.576757109154981e-18, -1.0178357095552758e-34),
];

#[test]
fn the_reference_is_right_far_beyond_f64() {
    for (name, x, high, low) in KNOWN {
        let function = F::from_name(name).expect("the function is in the table");
        let found = truth(function, x).expect("the operand is an ordinary one");
        let difference = ((found.high - high) + (found.low - low)).abs();
        assert!(difference <= 1e-27 * high.abs(), "{name}({x}): off by {difference:e}");
    }
}
