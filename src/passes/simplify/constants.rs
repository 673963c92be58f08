//! Rules about constants: what is known at compile time is computed at compile time.

use super::{Rule, Simplifier};
use crate::ir::graph::ValueId;
use crate::ir::ops::Op;
use crate::ir::ops::constant::Constant;
use crate::ir::ops::map::Map;
use crate::ir::scalar::{Monoid, ScalarFunction as F, meaning};
use crate::ir::types::DType;

pub(super) const RULES: &[Rule] = &[
    Rule { name: "fold", algebra: "f(c, d) = the number f(c, d)", apply: fold },
    Rule { name: "cast_constant", algebra: "cast(c) = the number cast(c)", apply: cast_constant },
    Rule {
        name: "move_constant",
        algebra: "broadcast, reshape, transpose, slice of c = c of that shape",
        apply: move_constant,
    },
    Rule { name: "reduce_constant", algebra: "sum of n times c = n c, max of c = c", apply: reduce_constant },
    Rule { name: "select_known", algebra: "select(true, a, b) = a; select(false, a, b) = b", apply: select_known },
];

/// The number as memory of `dtype` holds it.
fn rounded(number: f64, dtype: DType) -> f64 {
    match dtype {
        DType::F32 => f64::from(number as f32),
        _ => meaning::round_half(number, dtype),
    }
}

fn constant(s: &mut Simplifier<'_>, number: f64, op: &Op, inputs: &[ValueId]) -> Option<ValueId> {
    let types: Vec<_> = inputs.iter().map(|v| s.type_of(*v)).collect();
    let ty = op.infer(&types).ok()?.remove(0);
    Some(s.builder.emit(Constant::number(rounded(number, ty.dtype), ty.dtype, &ty.shape), &[]))
}

/// Operands and result are rounded as they would be at run time. `i64` is left alone: numbers here have 53 bits.
fn fold(s: &mut Simplifier<'_>, op: &Op, inputs: &[ValueId]) -> Option<ValueId> {
    let Op::Map(Map { function }) = op else { return None };
    let dtype = s.dtype_of(*inputs.last()?);
    if dtype == DType::I64 {
        return None;
    }
    let numbers: Option<Vec<f64>> = inputs.iter().map(|v| s.number(*v).map(|n| rounded(n, s.dtype_of(*v)))).collect();
    constant(s, function.eval(dtype, &numbers?), op, inputs)
}

fn cast_constant(s: &mut Simplifier<'_>, op: &Op, inputs: &[ValueId]) -> Option<ValueId> {
    let Op::Cast(cast) = op else { return None };
    let (number, from) = (s.number(inputs[0])?, s.dtype_of(inputs[0]));
    constant(s, meaning::convert(rounded(number, from), from, cast.dtype), op, inputs)
}

fn move_constant(s: &mut Simplifier<'_>, op: &Op, inputs: &[ValueId]) -> Option<ValueId> {
    if !matches!(op, Op::Broadcast(_) | Op::Reshape(_) | Op::Transpose(_) | Op::Slice(_)) {
        return None;
    }
    let Op::Constant(moved) = s.producer(inputs[0]).0.clone() else { return None };
    let ty = op.infer(&[s.type_of(inputs[0])]).ok()?.remove(0);
    Some(s.builder.emit(Constant { shape: ty.shape, ..moved }, &[]))
}

/// The product is exact in f64 and rounded once, where adding up would round at each step.
fn reduce_constant(s: &mut Simplifier<'_>, op: &Op, inputs: &[ValueId]) -> Option<ValueId> {
    let Op::Reduce(reduce) = op else { return None };
    let ty = s.type_of(inputs[0]);
    let number = rounded(s.number(inputs[0])?, ty.dtype);
    let sizes = ty.sizes()?;
    let count: usize = reduce.axes.iter().map(|a| sizes[*a]).product();
    match reduce.monoid {
        Monoid::Sum if ty.dtype.is_float() => constant(s, number * count as f64, op, inputs),
        Monoid::Max | Monoid::Min if count > 0 => constant(s, number, op, inputs),
        Monoid::Prod if number == 1.0 => constant(s, 1.0, op, inputs),
        _ => None,
    }
}

fn select_known(s: &mut Simplifier<'_>, op: &Op, inputs: &[ValueId]) -> Option<ValueId> {
    match (op, inputs) {
        (Op::Map(Map { function: F::Select }), [condition, a, b]) => {
            let known = s.number(*condition)?;
            Some(if known != 0.0 { *a } else { *b })
        }
        _ => None,
    }
}
