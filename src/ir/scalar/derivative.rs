//! The gradient of each scalar function, emitted as ops, so that it is differentiable again.
//!
//! Where a function has a kink the choice is PyTorch's: `abs'(0) = sign'(0) = 0`, and of equal operands of `max` and `min`
//! the second takes the gradient, so that `max(x, 0)` has derivative 0 at 0.

use super::ScalarFunction as F;
use crate::ir::builder::GraphBuilder;
use crate::ir::graph::ValueId;

/// The operands, the result and the result's gradient of one elementwise application, all of one shape.
pub struct Pullback<'a> {
    pub builder: &'a mut GraphBuilder,
    pub operands: &'a [ValueId],
    pub result: ValueId,
    pub gradient: ValueId,
}

impl Pullback<'_> {
    fn number(&mut self, value: f64) -> ValueId {
        self.builder.constant_like(value, self.result)
    }

    fn map(&mut self, function: F, operands: &[ValueId]) -> ValueId {
        self.builder.apply(function, operands)
    }

    /// `gradient * factor`.
    fn times(&mut self, factor: ValueId) -> ValueId {
        self.map(F::Mul, &[self.gradient, factor])
    }

    /// `gradient / divisor`.
    fn over(&mut self, divisor: ValueId) -> ValueId {
        self.map(F::Div, &[self.gradient, divisor])
    }

    /// `if condition { gradient } else { 0 }`: no NaN of a branch not taken gets through.
    fn if_true(&mut self, condition: ValueId) -> ValueId {
        let zero = self.number(0.0);
        self.map(F::Select, &[condition, self.gradient, zero])
    }

    /// `if condition { 0 } else { gradient }`.
    fn if_false(&mut self, condition: ValueId) -> ValueId {
        let zero = self.number(0.0);
        self.map(F::Select, &[condition, zero, self.gradient])
    }

    /// `1 - v`.
    fn one_minus(&mut self, v: ValueId) -> ValueId {
        let one = self.number(1.0);
        self.map(F::Sub, &[one, v])
    }

    /// `1 + x * x`.
    fn one_plus_square(&mut self, x: ValueId) -> ValueId {
        let one = self.number(1.0);
        let square = self.map(F::Mul, &[x, x]);
        self.map(F::Add, &[one, square])
    }

    /// The gradient of operand `number`; `None` where it is zero everywhere or the operand is no float.
    pub fn operand(&mut self, function: F, number: usize) -> Option<ValueId> {
        match self.operands {
            [x] => self.unary(function, *x),
            [a, b] => self.binary(function, *a, *b, number == 0),
            _ => self.ternary(function, number),
        }
    }

    fn unary(&mut self, function: F, x: ValueId) -> Option<ValueId> {
        let y = self.result;
        Some(match function {
            F::Neg => self.map(F::Neg, &[self.gradient]),
            F::Abs => {
                let sign = self.map(F::Sign, &[x]);
                self.times(sign)
            }
            F::Sqrt => {
                let twice = self.map(F::Add, &[y, y]);
                self.over(twice)
            }
            // -1/2 x^(-3/2), as -y/(2x)
            F::Rsqrt => {
                let minus_two = self.number(-2.0);
                let denominator = self.map(F::Mul, &[minus_two, x]);
                let factor = self.map(F::Div, &[y, denominator]);
                self.times(factor)
            }
            F::Exp => self.times(y),
            F::Log => self.over(x),
            F::Log1p => {
                let one = self.number(1.0);
                let denominator = self.map(F::Add, &[one, x]);
                self.over(denominator)
            }
            F::Expm1 => {
                let one = self.number(1.0);
                let factor = self.map(F::Add, &[y, one]);
                self.times(factor)
            }
            F::Sin => {
                let factor = self.map(F::Cos, &[x]);
                self.times(factor)
            }
            F::Cos => {
                let sine = self.map(F::Sin, &[x]);
                let product = self.times(sine);
                self.map(F::Neg, &[product])
            }
            F::Tan => {
                let factor = self.one_plus_square(y);
                self.times(factor)
            }
            F::Atan => {
                let denominator = self.one_plus_square(x);
                self.over(denominator)
            }
            F::Tanh => {
                let square = self.map(F::Mul, &[y, y]);
                let factor = self.one_minus(square);
                self.times(factor)
            }
            F::Sigmoid => {
                let rest = self.one_minus(y);
                let factor = self.map(F::Mul, &[y, rest]);
                self.times(factor)
            }
            F::Erf => {
                let square = self.map(F::Mul, &[x, x]);
                let exponent = self.map(F::Neg, &[square]);
                let bell = self.map(F::Exp, &[exponent]);
                let scale = self.number(std::f64::consts::FRAC_2_SQRT_PI);
                let factor = self.map(F::Mul, &[scale, bell]);
                self.times(factor)
            }
            // Steps are flat where they have a derivative, and `not` is of no float.
            _ => return None,
        })
    }

    fn binary(&mut self, function: F, a: ValueId, b: ValueId, left: bool) -> Option<ValueId> {
        Some(match (function, left) {
            (F::Add, _) | (F::Sub | F::Mod, true) => self.gradient,
            (F::Sub, false) => self.map(F::Neg, &[self.gradient]),
            (F::Mul, true) => self.times(b),
            (F::Mul, false) => self.times(a),
            (F::Div, true) => self.over(b),
            (F::Div, false) => {
                let part = self.over(b);
                let product = self.map(F::Mul, &[part, self.result]);
                self.map(F::Neg, &[product])
            }
            (F::Mod, false) => {
                // The whole multiple that was taken away; the floor of a rounded quotient may be another.
                let taken = self.map(F::Sub, &[a, self.result]);
                let quotient = self.map(F::Div, &[taken, b]);
                let whole = self.map(F::Round, &[quotient]);
                let product = self.times(whole);
                self.map(F::Neg, &[product])
            }
            (F::Pow, true) => self.power_base(a, b),
            (F::Pow, false) => self.power_exponent(a, b),
            // d atan2(a, b) = (b da - a db) / (a^2 + b^2)
            (F::Atan2, left) => {
                let (squared_a, squared_b) = (self.map(F::Mul, &[a, a]), self.map(F::Mul, &[b, b]));
                let radius = self.map(F::Add, &[squared_a, squared_b]);
                let factor = self.map(F::Div, &[if left { b } else { a }, radius]);
                let product = self.times(factor);
                if left { product } else { self.map(F::Neg, &[product]) }
            }
            (F::Max, left) => {
                let first = self.map(F::Greater, &[a, b]);
                if left { self.if_true(first) } else { self.if_false(first) }
            }
            (F::Min, left) => {
                let first = self.map(F::Less, &[a, b]);
                if left { self.if_true(first) } else { self.if_false(first) }
            }
            _ => return None,
        })
    }

    /// `b * a^(b - 1)`, and 0 where `b` is 0, also at `a = 0`.
    fn power_base(&mut self, a: ValueId, b: ValueId) -> ValueId {
        let (zero, one) = (self.number(0.0), self.number(1.0));
        let less = self.map(F::Sub, &[b, one]);
        let power = self.map(F::Pow, &[a, less]);
        let factor = self.map(F::Mul, &[b, power]);
        let product = self.times(factor);
        let flat = self.map(F::Equal, &[b, zero]);
        self.map(F::Select, &[flat, zero, product])
    }

    /// `a^b * log(a)`, and 0 at `a = 0` for `b >= 0`.
    fn power_exponent(&mut self, a: ValueId, b: ValueId) -> ValueId {
        let zero = self.number(0.0);
        let log = self.map(F::Log, &[a]);
        let factor = self.map(F::Mul, &[self.result, log]);
        let product = self.times(factor);
        let at_zero = self.map(F::Equal, &[a, zero]);
        let not_negative = self.map(F::GreaterEqual, &[b, zero]);
        let flat = self.map(F::And, &[at_zero, not_negative]);
        self.map(F::Select, &[flat, zero, product])
    }

    fn ternary(&mut self, function: F, number: usize) -> Option<ValueId> {
        let [first, second, _] = *self.operands else { return None };
        match (function, number) {
            (F::Select, 1) => Some(self.if_true(first)),
            (F::Select, 2) => Some(self.if_false(first)),
            (F::Fma, 0) => Some(self.times(second)),
            (F::Fma, 1) => Some(self.times(first)),
            (F::Fma, 2) => Some(self.gradient),
            _ => None,
        }
    }
}
