//! Rules about scalar functions.

use super::{Rule, Simplifier};
use crate::ir::graph::ValueId;
use crate::ir::ops::Op;
use crate::ir::ops::broadcast::Broadcast;
use crate::ir::ops::constant::Constant;
use crate::ir::ops::map::Map;
use crate::ir::scalar::ScalarFunction as F;
use crate::ir::types::DType;

pub(super) const RULES: &[Rule] = &[
    Rule { name: "neutral", algebra: "x + 0 = 0 + x = x - 0 = x * 1 = 1 * x = x / 1 = x ^ 1 = x", apply: neutral },
    Rule { name: "integer_zero", algebra: "x * 0 = 0, x - x = 0, for integers", apply: integer_zero },
    Rule { name: "logic", algebra: "x and true = x, x or false = x, not not x = x", apply: logic },
    Rule {
        name: "negation",
        algebra: "-(-x) = x, 0 - x = -x, a + -b = a - b, a - -b = a + b, -a * -b = a * b",
        apply: negation,
    },
    Rule { name: "minus_one", algebra: "x * -1 = x / -1 = -x", apply: minus_one },
    Rule { name: "exact_reciprocal", algebra: "x / c = x * (1 / c), c a power of two", apply: exact_reciprocal },
    Rule {
        name: "small_power",
        algebra: "x ^ 2 = x * x, x ^ 3 = x * x * x, x ^ 0 = 1, x ^ -1 = 1 / x, x ^ 0.5 = sqrt(x)",
        apply: small_power,
    },
    Rule {
        name: "integer_power_of_two",
        algebra: "x mod 2^k = x and (2^k - 1); (x - x mod 2^k) / 2^k = x >> k; unsigned x / 2^k = x >> k",
        apply: integer_power_of_two,
    },
    Rule { name: "same", algebra: "max(x, x) = min(x, x) = select(c, x, x) = x", apply: same },
    Rule {
        name: "map_of_broadcasts",
        algebra: "f(broadcast(a), broadcast(b), c) = broadcast(f(a, b, c))",
        apply: map_of_broadcasts,
    },
];

fn parts<'a>(op: &Op, inputs: &'a [ValueId]) -> Option<(F, &'a [ValueId])> {
    match op {
        Op::Map(Map { function }) => Some((*function, inputs)),
        _ => None,
    }
}

/// Up to the sign of a zero: `-0 + 0` is `0`.
fn neutral(s: &mut Simplifier<'_>, op: &Op, inputs: &[ValueId]) -> Option<ValueId> {
    match parts(op, inputs)? {
        (F::Add, [a, b]) if s.is(*a, 0.0) => Some(*b),
        (F::Mul, [a, b]) if s.is(*a, 1.0) => Some(*b),
        (F::Add | F::Sub, [a, b]) if s.is(*b, 0.0) => Some(*a),
        (F::Mul | F::Div | F::Pow, [a, b]) if s.is(*b, 1.0) => Some(*a),
        _ => None,
    }
}

fn integer_zero(s: &mut Simplifier<'_>, op: &Op, inputs: &[ValueId]) -> Option<ValueId> {
    let (function, inputs) = parts(op, inputs)?;
    if !s.dtype_of(inputs[0]).is_integer() {
        return None;
    }
    match (function, inputs) {
        (F::Mul, [a, b]) if s.is(*a, 0.0) || s.is(*b, 0.0) => Some(s.constant_like(0.0, *a)),
        (F::Sub, [a, b]) if a == b => Some(s.constant_like(0.0, *a)),
        _ => None,
    }
}

fn logic(s: &mut Simplifier<'_>, op: &Op, inputs: &[ValueId]) -> Option<ValueId> {
    let (function, inputs) = parts(op, inputs)?;
    if s.dtype_of(inputs[0]) != DType::Bool {
        return None;
    }
    match (function, inputs) {
        (F::And, [a, b]) if s.is(*a, 1.0) || s.is(*b, 0.0) => Some(*b),
        (F::And, [a, b]) if s.is(*b, 1.0) || s.is(*a, 0.0) => Some(*a),
        (F::Or, [a, b]) if s.is(*a, 0.0) || s.is(*b, 1.0) => Some(*b),
        (F::Or, [a, b]) if s.is(*b, 0.0) || s.is(*a, 1.0) => Some(*a),
        (F::Not, [a]) => s.operands_of(*a, F::Not).map(|inner| inner[0]),
        _ => None,
    }
}

fn negation(s: &mut Simplifier<'_>, op: &Op, inputs: &[ValueId]) -> Option<ValueId> {
    let (function, inputs) = parts(op, inputs)?;
    let negated = |s: &Simplifier<'_>, v: ValueId| s.operands_of(v, F::Neg).map(|inner| inner[0]);
    match (function, inputs) {
        (F::Neg, [x]) => negated(s, *x),
        (F::Sub, [a, b]) if s.is(*a, 0.0) => Some(s.map(F::Neg, &[*b])),
        (F::Sub, [a, b]) => negated(s, *b).map(|b| s.map(F::Add, &[*a, b])),
        (F::Add, [a, b]) => match (negated(s, *a), negated(s, *b)) {
            (_, Some(b)) => Some(s.map(F::Sub, &[*a, b])),
            (Some(a), None) => Some(s.map(F::Sub, &[*b, a])),
            (None, None) => None,
        },
        (F::Mul | F::Div, [a, b]) => {
            let (a, b) = (negated(s, *a)?, negated(s, *b)?);
            Some(s.map(function, &[a, b]))
        }
        _ => None,
    }
}

fn minus_one(s: &mut Simplifier<'_>, op: &Op, inputs: &[ValueId]) -> Option<ValueId> {
    match parts(op, inputs)? {
        (F::Mul, [a, b]) if s.is(*a, -1.0) => Some(s.map(F::Neg, &[*b])),
        (F::Mul | F::Div, [a, b]) if s.is(*b, -1.0) => Some(s.map(F::Neg, &[*a])),
        _ => None,
    }
}

/// Within the exponents of which the dtype has both the power and its reciprocal as normal numbers.
fn exact_reciprocal(s: &mut Simplifier<'_>, op: &Op, inputs: &[ValueId]) -> Option<ValueId> {
    let (F::Div, [a, b]) = parts(op, inputs)? else { return None };
    let divisor = s.number(*b)?;
    let limit = if s.dtype_of(*a) == DType::F16 { 14 } else { 126 };
    let exact = s.dtype_of(*a).is_float() && (-limit..=limit).any(|exponent| divisor.abs() == f64::powi(2.0, exponent));
    if !exact {
        return None;
    }
    let reciprocal = s.constant_like(1.0 / divisor, *b);
    Some(s.map(F::Mul, &[*a, reciprocal]))
}

/// `sqrt` differs from the power only at -0 and minus infinity.
fn small_power(s: &mut Simplifier<'_>, op: &Op, inputs: &[ValueId]) -> Option<ValueId> {
    let (F::Pow, [x, exponent]) = parts(op, inputs)? else { return None };
    let (x, exponent) = (*x, s.number(*exponent)?);
    if exponent == 0.0 {
        return Some(s.constant_like(1.0, x));
    }
    if exponent == 0.5 {
        return Some(s.map(F::Sqrt, &[x]));
    }
    if exponent == -0.5 {
        return Some(s.map(F::Rsqrt, &[x]));
    }
    let square = |s: &mut Simplifier<'_>| s.map(F::Mul, &[x, x]);
    let positive = match exponent.abs() {
        1.0 => x,
        2.0 => square(s),
        3.0 => {
            let square = square(s);
            s.map(F::Mul, &[square, x])
        }
        4.0 => {
            let square = square(s);
            s.map(F::Mul, &[square, square])
        }
        _ => return None,
    };
    if exponent > 0.0 {
        return Some(positive);
    }
    let one = s.constant_like(1.0, x);
    Some(s.map(F::Div, &[one, positive]))
}

/// Division is slow and has no vector form. Two's complement makes the first two true for negative integers too.
fn integer_power_of_two(s: &mut Simplifier<'_>, op: &Op, inputs: &[ValueId]) -> Option<ValueId> {
    let (function @ (F::Mod | F::Div), [x, divisor]) = parts(op, inputs)? else { return None };
    let dtype = s.dtype_of(*x).storage();
    let exponent = (0..31).find(|k| s.is(*divisor, f64::from(1u32 << k)))?;
    if !dtype.is_integer() || s.dtype_of(*x) != dtype {
        return None;
    }
    let mask = f64::from(1u32 << exponent) - 1.0;
    if function == F::Mod {
        let mask = s.constant_like(mask, *x);
        return Some(s.map(F::And, &[*x, mask]));
    }
    let whole = s
        .operands_of(*x, F::Sub)
        .filter(|sub| s.operands_of(sub[1], F::And).is_some_and(|and| and[0] == sub[0] && s.is(and[1], mask)));
    let shifted = match whole {
        Some(sub) => sub[0],
        None if matches!(dtype, DType::U8 | DType::U16 | DType::U32) => *x,
        None => return None,
    };
    let exponent = s.constant_like(f64::from(exponent), shifted);
    Some(s.map(F::ShiftRight, &[shifted, exponent]))
}

fn same(_: &mut Simplifier<'_>, op: &Op, inputs: &[ValueId]) -> Option<ValueId> {
    match parts(op, inputs)? {
        (F::Max | F::Min, [a, b]) if a == b => Some(*a),
        (F::Select, [_, a, b]) if a == b => Some(*a),
        _ => None,
    }
}

/// Computes once what would be computed for every copy. All broadcasts must place the same axes.
fn map_of_broadcasts(s: &mut Simplifier<'_>, op: &Op, inputs: &[ValueId]) -> Option<ValueId> {
    let (function, inputs) = parts(op, inputs)?;
    let mut common: Option<(Broadcast, Vec<_>)> = None;
    for input in inputs {
        match s.producer(*input) {
            (Op::Broadcast(broadcast), [small]) => {
                let this = (broadcast.clone(), s.shape_of(*small));
                if common.as_ref().is_some_and(|c| *c != this) {
                    return None;
                }
                common = Some(this);
            }
            (Op::Constant(_), _) => {}
            _ => return None,
        }
    }
    let (broadcast, shape) = common?;
    let mut small = Vec::new();
    for input in inputs {
        let (op, operands) = s.producer(*input);
        match op.clone() {
            Op::Constant(constant) => small.push(s.builder.emit(Constant { shape: shape.clone(), ..constant }, &[])),
            _ => small.push(operands[0]),
        }
    }
    let value = s.map(function, &small);
    Some(s.emit(broadcast, &[value]))
}
