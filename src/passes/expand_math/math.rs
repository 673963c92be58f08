//! What the expansions are written with: short names for instructions of one float dtype, and for its bits.

use crate::ir::loops::Value;
use crate::ir::loops::build::BlockBuilder;
use crate::ir::scalar::ScalarFunction as F;
use crate::ir::types::DType;

/// Writes instructions on values of one dtype.
pub(super) struct Math<'a, 'b> {
    b: &'a mut BlockBuilder<'b>,
    dtype: DType,
}

/// A float dtype's constants that expansions need.
pub(super) struct Format {
    /// Bits of the fraction.
    pub fraction: u32,
    /// The exponent's bias, which is also the largest exponent.
    pub bias: i32,
    /// 1.5 · 2^fraction: adding it rounds a small number to a whole one, which then stands in the lowest bits.
    pub magic: f64,
}

const F32_FORMAT: Format = Format { fraction: 23, bias: 127, magic: 12_582_912.0 };
const F64_FORMAT: Format = Format { fraction: 52, bias: 1023, magic: 6_755_399_441_055_744.0 };

impl<'a, 'b> Math<'a, 'b> {
    /// Writes into `b`.
    pub(super) fn new(b: &'a mut BlockBuilder<'b>, dtype: DType) -> Self {
        Math { b, dtype }
    }

    /// Writes in another dtype for a while.
    pub(super) fn within(&mut self, dtype: DType) -> Math<'_, 'b> {
        Math { b: self.b, dtype }
    }

    pub(super) fn dtype(&self) -> DType {
        self.dtype
    }

    /// Whether this is f32: then `single`, else `double`.
    pub(super) fn pick<T>(&self, single: T, double: T) -> T {
        if self.dtype == DType::F32 { single } else { double }
    }

    pub(super) fn format(&self) -> &'static Format {
        self.pick(&F32_FORMAT, &F64_FORMAT)
    }

    /// The integer dtype of the same size.
    pub(super) fn bits_dtype(&self) -> DType {
        self.pick(DType::I32, DType::I64)
    }

    pub(super) fn constant(&mut self, value: f64) -> Value {
        self.b.constant(self.dtype, value)
    }

    /// A constant of the integer dtype of the same size.
    pub(super) fn integer(&mut self, value: i64) -> Value {
        // Large powers of two are exact in the f64 that constants are given in; no expansion uses other large ones.
        self.b.constant(self.bits_dtype(), value as f64)
    }

    pub(super) fn map(&mut self, function: F, operands: &[Value]) -> Value {
        self.b.map(function, operands)
    }

    pub(super) fn add(&mut self, x: Value, y: Value) -> Value {
        self.map(F::Add, &[x, y])
    }

    pub(super) fn sub(&mut self, x: Value, y: Value) -> Value {
        self.map(F::Sub, &[x, y])
    }

    pub(super) fn mul(&mut self, x: Value, y: Value) -> Value {
        self.map(F::Mul, &[x, y])
    }

    pub(super) fn div(&mut self, x: Value, y: Value) -> Value {
        self.map(F::Div, &[x, y])
    }

    /// x · y + z, rounded once.
    pub(super) fn fma(&mut self, x: Value, y: Value, z: Value) -> Value {
        self.map(F::Fma, &[x, y, z])
    }

    pub(super) fn neg(&mut self, x: Value) -> Value {
        self.map(F::Neg, &[x])
    }

    pub(super) fn abs(&mut self, x: Value) -> Value {
        self.map(F::Abs, &[x])
    }

    pub(super) fn less(&mut self, x: Value, y: Value) -> Value {
        self.map(F::Less, &[x, y])
    }

    pub(super) fn equal(&mut self, x: Value, y: Value) -> Value {
        self.map(F::Equal, &[x, y])
    }

    /// `condition ? yes : no`.
    pub(super) fn select(&mut self, condition: Value, yes: Value, no: Value) -> Value {
        self.map(F::Select, &[condition, yes, no])
    }

    /// The smaller; NaN if x is NaN.
    pub(super) fn at_most(&mut self, x: Value, limit: f64) -> Value {
        let limit = self.constant(limit);
        self.map(F::Min, &[x, limit])
    }

    /// The larger; NaN if x is NaN.
    pub(super) fn at_least(&mut self, x: Value, limit: f64) -> Value {
        let limit = self.constant(limit);
        self.map(F::Max, &[x, limit])
    }

    /// Σ coefficients[i] · x^i by Horner's rule.
    pub(super) fn polynomial(&mut self, x: Value, coefficients: &[f64]) -> Value {
        let mut terms = coefficients.iter().rev();
        let highest = *terms.next().expect("a polynomial has a coefficient");
        let mut sum = self.constant(highest);
        for coefficient in terms {
            let coefficient = self.constant(*coefficient);
            sum = self.fma(sum, x, coefficient);
        }
        sum
    }

    /// Σ coefficient(i) · x^i for i < `terms`, by Horner's rule in x² with a pair of terms for each power: as many operations where x² is there
    /// anyway, and half as long a chain of them.
    pub(super) fn polynomial_in_pairs(
        &mut self,
        (x, square): (Value, Value),
        terms: usize,
        mut coefficient: impl FnMut(&mut Self, usize) -> Value,
    ) -> Value {
        let mut pair = |m: &mut Self, at: usize| {
            let low = coefficient(m, at);
            if at + 1 == terms {
                return low;
            }
            let high = coefficient(m, at + 1);
            m.fma(high, x, low)
        };
        let mut places = (0..terms).step_by(2).rev();
        let mut sum = pair(self, places.next().expect("a polynomial has a term"));
        for at in places {
            let next = pair(self, at);
            sum = self.fma(sum, square, next);
        }
        sum
    }

    /// The bits as an integer of the same size.
    pub(super) fn bits(&mut self, x: Value) -> Value {
        self.b.bitcast(x, self.bits_dtype())
    }

    /// The float with the given bits.
    pub(super) fn float_of(&mut self, bits: Value) -> Value {
        self.b.bitcast(bits, self.dtype)
    }

    /// One of four constants, by the last two bits of an integer. Only of f32.
    pub(super) fn one_of(&mut self, index: Value, table: [f64; 4]) -> Value {
        self.b.one_of(index, self.dtype, table)
    }

    pub(super) fn convert(&mut self, x: Value, dtype: DType) -> Value {
        self.b.convert(x, dtype)
    }

    pub(super) fn shift_left(&mut self, x: Value, bits: u32) -> Value {
        let bits = self.integer(i64::from(bits));
        self.map(F::ShiftLeft, &[x, bits])
    }

    pub(super) fn shift_right(&mut self, x: Value, bits: u32) -> Value {
        let bits = self.integer(i64::from(bits));
        self.map(F::ShiftRight, &[x, bits])
    }

    /// The sign bit alone.
    pub(super) fn sign_bit(&mut self, x: Value) -> Value {
        let bits = self.bits(x);
        let mask = self.integer(if self.dtype == DType::F32 { i64::from(i32::MIN) } else { i64::MIN });
        self.map(F::And, &[bits, mask])
    }

    /// A number that is not negative, with a sign bit added.
    pub(super) fn with_sign(&mut self, x: Value, sign_bit: Value) -> Value {
        let bits = self.bits(x);
        let signed = self.map(F::Or, &[bits, sign_bit]);
        self.float_of(signed)
    }
}
