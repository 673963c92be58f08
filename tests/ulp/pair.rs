//! Functions to about 100 bits, as unevaluated sums of two f64: what compiled f64 functions are measured against.
//!
//! Arithmetic is that of Dekker and Knuth; functions are series after an exact reduction, right to at least 2^-90 relative, which is
//! checked against values from mpmath at the end.

use std::ops::{Add, Div, Mul, Neg, Sub};

/// `high + low`, the second below half a unit in the last place of the first.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    pub high: f64,
    pub low: f64,
}

const LN_2: Pair = Pair { high: std::f64::consts::LN_2, low: 2.319_046_813_846_299_6e-17 };
/// π/2 in four parts.
const HALF_PI: [f64; 4] =
    [std::f64::consts::FRAC_PI_2, 6.123_233_995_736_766e-17, -1.497_384_904_859_169_8e-33, 5.562_271_104_316_826e-50];

fn two_sum(a: f64, b: f64) -> Pair {
    let high = a + b;
    let other = high - a;
    Pair { high, low: (a - (high - other)) + (b - other) }
}

fn two_product(a: f64, b: f64) -> Pair {
    let high = a * b;
    Pair { high, low: a.mul_add(b, -high) }
}

impl From<f64> for Pair {
    fn from(high: f64) -> Pair {
        Pair { high, low: 0.0 }
    }
}

impl Add for Pair {
    type Output = Pair;
    fn add(self, other: Pair) -> Pair {
        let (s, t) = (two_sum(self.high, other.high), two_sum(self.low, other.low));
        let s = two_sum(s.high, s.low + t.high);
        two_sum(s.high, s.low + t.low)
    }
}

impl Neg for Pair {
    type Output = Pair;
    fn neg(self) -> Pair {
        Pair { high: -self.high, low: -self.low }
    }
}

impl Sub for Pair {
    type Output = Pair;
    fn sub(self, other: Pair) -> Pair {
        self + -other
    }
}

impl Mul for Pair {
    type Output = Pair;
    fn mul(self, other: Pair) -> Pair {
        let p = two_product(self.high, other.high);
        two_sum(p.high, p.low + (self.high * other.low + self.low * other.high))
    }
}

impl Div for Pair {
    type Output = Pair;
    fn div(self, other: Pair) -> Pair {
        let first = Pair::from(self.high / other.high);
        let rest = self - first * other;
        let second = Pair::from(rest.high / other.high);
        let rest = rest - second * other;
        first + second + Pair::from(rest.high / other.high)
    }
}

impl Pair {
    fn times_two_to(self, exponent: i32) -> Pair {
        let factor = f64::powi(2.0, exponent);
        Pair { high: self.high * factor, low: self.low * factor }
    }

    /// exp(x) - 1 for |x| below 1: the series for x / 512, doubled back nine times by E(2x) = 2 E(x) + E(x)².
    fn expm1_small(self) -> Pair {
        let x = self.times_two_to(-9);
        let mut sum = Pair::from(0.0);
        for n in (1..=12).rev() {
            sum = (Pair::from(1.0) + sum) * x / Pair::from(f64::from(n));
        }
        for _ in 0..9 {
            sum = sum + sum + sum * sum;
        }
        sum
    }

    /// exp(x) as (m, n) with exp(x) = m 2^n, m near 1.
    fn exp_parts(self) -> (Pair, i32) {
        let n = (self.high / std::f64::consts::LN_2).round();
        let r = self - LN_2 * Pair::from(n);
        (Pair::from(1.0) + r.expm1_small(), n as i32)
    }

    pub fn exp(self) -> Pair {
        let (m, n) = self.exp_parts();
        m.times_two_to(n / 2).times_two_to(n - n / 2)
    }

    pub fn expm1(self) -> Pair {
        if self.high.abs() < 0.5 { self.expm1_small() } else { self.exp() - Pair::from(1.0) }
    }

    pub fn log(self) -> Pair {
        let (mut m, mut k) = (self, 0);
        if m.high < f64::MIN_POSITIVE {
            (m, k) = (m.times_two_to(100), -100);
        }
        let exponent = (m.high.to_bits() >> 52) as i32 - 1023;
        m = m.times_two_to(-exponent / 2).times_two_to(-exponent - -exponent / 2);
        k += exponent;
        if m.high > std::f64::consts::SQRT_2 {
            (m, k) = (m.times_two_to(-1), k + 1);
        }
        (m - Pair::from(1.0)).log1p_small() + LN_2 * Pair::from(f64::from(k))
    }

    /// log(1 + f) for 1 + f between sqrt(1/2) and sqrt(2): 2 atanh(f / (2 + f)).
    fn log1p_small(self) -> Pair {
        let s = self / (Pair::from(2.0) + self);
        let z = s * s;
        let mut sum = Pair::from(0.0);
        for n in (0..24).rev() {
            sum = sum * z + Pair::from(1.0) / Pair::from(f64::from(2 * n + 1));
        }
        sum * (s + s)
    }

    pub fn log1p(self) -> Pair {
        if self.high.abs() < 0.25 { self.log1p_small() } else { (Pair::from(1.0) + self).log() }
    }

    /// The sine and the cosine of x, |x| below 1e5 or so.
    pub fn sin_cos(x: f64) -> (Pair, Pair) {
        let n = (x / HALF_PI[0]).round();
        let r = HALF_PI.iter().fold(Pair::from(x), |r, part| r - two_product(n, *part));
        let (sine, cosine) = r.sin_cos_small();
        match (n as i64).rem_euclid(4) {
            0 => (sine, cosine),
            1 => (cosine, -sine),
            2 => (-sine, -cosine),
            _ => (-cosine, sine),
        }
    }

    fn sin_cos_small(self) -> (Pair, Pair) {
        let square = -(self * self);
        let (mut sine, mut cosine) = (Pair::from(1.0), Pair::from(1.0));
        for n in (1..=15).rev() {
            let n = f64::from(2 * n);
            sine = Pair::from(1.0) + sine * square / Pair::from(n * (n + 1.0));
            cosine = Pair::from(1.0) + cosine * square / Pair::from(n * (n - 1.0));
        }
        (sine * self, cosine)
    }

    /// The angle of the point (x, y), to which `near` is close: what is left of it after a turn by `near` is small.
    pub fn angle(y: f64, x: f64, near: f64) -> Pair {
        let (sine, cosine) = Pair::sin_cos(near);
        let (y, x) = (Pair::from(y), Pair::from(x));
        let left = (y * cosine - x * sine) / (x * cosine + y * sine);
        Pair::from(near) + left - left * left * left / Pair::from(3.0)
    }

    pub fn sqrt(self) -> Pair {
        let near = Pair::from(self.high.sqrt());
        near + (self - near * near) / (near + near)
    }

    pub fn tanh(self) -> Pair {
        let e = (self + self).expm1();
        e / (e + Pair::from(2.0))
    }

    /// exp(x) / (1 + exp(x)), which keeps small results.
    pub fn sigmoid(self) -> Pair {
        let e = if self.high > 0.0 { (-self).exp() } else { self.exp() };
        let numerator = if self.high > 0.0 { Pair::from(1.0) } else { e };
        numerator / (Pair::from(1.0) + e)
    }

    /// The error function for |x| below 6.5: 2/√π exp(-x²) (x + 2x³/3 + 4x⁵/15 + ...), all terms of one sign.
    pub fn erf(self) -> Pair {
        const TWO_OVER_ROOT_PI: Pair = Pair { high: std::f64::consts::FRAC_2_SQRT_PI, low: 1.533_545_961_316_588e-17 };
        let square = self * self;
        let (mut term, mut sum, mut odd) = (self, self, 1.0);
        while term.high.abs() > sum.high.abs() * 1e-33 {
            odd += 2.0;
            term = term * (square + square) / Pair::from(odd);
            sum = sum + term;
        }
        TWO_OVER_ROOT_PI * (-square).exp() * sum
    }

    /// The distance of `got` from this number in units in the last place; wrong special values are infinitely far.
    pub fn ulps(self, got: f64) -> f64 {
        if !self.high.is_finite() || !got.is_finite() {
            return if got == self.high || (got.is_nan() && self.high.is_nan()) { 0.0 } else { f64::INFINITY };
        }
        let exponent = ((self.high.to_bits() >> 52 & 0x7ff) as i32 - 1023).max(-1022);
        let scale = |x: f64| x * f64::powi(2.0, 26 - exponent / 2) * f64::powi(2.0, 26 - (exponent - exponent / 2));
        (scale(got - self.high) - scale(self.low)).abs()
    }
}
