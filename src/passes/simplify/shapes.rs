//! Rules about ops that move elements, and about contractions and folds of moved elements.

use super::{Rule, Simplifier};
use crate::ir::dim::Dim;
use crate::ir::graph::ValueId;
use crate::ir::ops::Op;
use crate::ir::ops::broadcast::Broadcast;
use crate::ir::ops::cast::Cast;
use crate::ir::ops::contract::Contract;
use crate::ir::ops::reduce::Reduce;
use crate::ir::ops::reshape::Reshape;
use crate::ir::ops::slice::Slice;
use crate::ir::ops::transpose::Transpose;
use crate::ir::scalar::{Monoid, ScalarFunction};
use crate::ir::types::DType;

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "stop_gradient",
        algebra: "stop_gradient(x) = x, once no gradient is left to stop",
        apply: stop_gradient,
    },
    Rule {
        name: "no_change",
        algebra: "cast, broadcast, reshape, transpose, slice, pad, concat that change nothing = x",
        apply: no_change,
    },
    Rule {
        name: "cast_of_cast",
        algebra: "cast(cast(x)) = cast(x) where the inner one loses nothing",
        apply: cast_of_cast,
    },
    Rule {
        name: "cast_of_copies",
        algebra: "cast(broadcast(x)) = broadcast(cast(x)), cast(reshape(x)) = reshape(cast(x)) where only axes of size 1 come and go",
        apply: cast_of_copies,
    },
    Rule { name: "reshape_of_reshape", algebra: "reshape(reshape(x)) = reshape(x)", apply: reshape_of_reshape },
    Rule {
        name: "transpose_of_transpose",
        algebra: "transpose(transpose(x)) = transpose(x)",
        apply: transpose_of_transpose,
    },
    Rule {
        name: "broadcast_of_broadcast",
        algebra: "broadcast(broadcast(x)) = broadcast(x)",
        apply: broadcast_of_broadcast,
    },
    Rule {
        name: "broadcast_of_reshape",
        algebra: "broadcast(reshape(x)) = broadcast(x), where only axes of size 1 come and go",
        apply: broadcast_of_reshape,
    },
    Rule {
        name: "map_of_unit_reshapes",
        algebra: "f(reshape(a), reshape(b), c) = reshape(f(a, b, c)), where only axes of size 1 come and go",
        apply: map_of_unit_reshapes,
    },
    Rule {
        name: "map_of_merge",
        algebra: "f(reshape(a), b) = reshape(f(a, reshape(b))), where the first only merges axes of something computed",
        apply: map_of_merge,
    },
    Rule { name: "slice_of_slice", algebra: "slice(slice(x)) = slice(x)", apply: slice_of_slice },
    Rule {
        name: "slice_of_concat",
        algebra: "slice(concat(a, b)) = slice(a), where it lies in a",
        apply: slice_of_concat,
    },
    Rule {
        name: "contract_of_transpose",
        algebra: "contract(transpose(a), b) = contract(a, b) with other labels",
        apply: contract_of_transpose,
    },
    Rule {
        name: "reduce_of_unit_axes",
        algebra: "sum, prod, max, min over axes of size 1 = reshape",
        apply: reduce_of_unit_axes,
    },
    Rule {
        name: "reduce_of_broadcast",
        algebra: "sum of n copies of x = n x, max of copies of x = x",
        apply: reduce_of_broadcast,
    },
];

fn stop_gradient(_: &mut Simplifier<'_>, op: &Op, inputs: &[ValueId]) -> Option<ValueId> {
    matches!(op, Op::StopGradient(_)).then(|| inputs[0])
}

/// These ops keep the elements' order wherever they keep the type, but for transpose and slice, which are asked.
fn no_change(s: &mut Simplifier<'_>, op: &Op, inputs: &[ValueId]) -> Option<ValueId> {
    let [x] = inputs else { return None };
    let plain = match op {
        Op::Cast(_) | Op::Broadcast(_) | Op::Reshape(_) | Op::Pad(_) | Op::Concat(_) => true,
        Op::Transpose(transpose) => transpose.permutation.is_sorted(),
        Op::Slice(slice) => *slice == Slice::whole(&s.type_of(*x).shape),
        _ => false,
    };
    let same = || op.infer(&[s.type_of(*x)]).is_ok_and(|types| types[0] == *s.type_of(*x));
    (plain && same()).then_some(*x)
}

/// Whether every value of `from` is one of `to`.
fn holds_all(from: DType, to: DType) -> bool {
    let bits = |d: DType| 8 * d.bytes();
    let unsigned = |d: DType| matches!(d, DType::U8 | DType::U16 | DType::U32);
    match (from.storage(), to.storage()) {
        (a, b) if a == b => true,
        (DType::Bool, _) => true,
        (_, DType::Bool) => false,
        (a, DType::F32) if a.is_integer() => bits(a) <= 16,
        (a, DType::F64) if a.is_integer() => bits(a) <= 32,
        (a, b) if a.is_integer() && b.is_integer() => bits(a) < bits(b) && (unsigned(a) || !unsigned(b)),
        (DType::F16 | DType::BF16, DType::F32 | DType::F64) | (DType::F32, DType::F64) => true,
        _ => false,
    }
}

fn cast_of_cast(s: &mut Simplifier<'_>, op: &Op, inputs: &[ValueId]) -> Option<ValueId> {
    let (Op::Cast(outer), (Op::Cast(inner), [x])) = (op, s.producer(inputs[0])) else { return None };
    let x = *x;
    holds_all(s.dtype_of(x), inner.dtype).then(|| s.emit(Cast { dtype: outer.dtype }, &[x]))
}

fn cast_of_copies(s: &mut Simplifier<'_>, op: &Op, inputs: &[ValueId]) -> Option<ValueId> {
    let (Op::Cast(_), (moved, [x])) = (op, s.producer(inputs[0])) else { return None };
    let (x, moved) = (*x, moved.clone());
    let smaller = match &moved {
        Op::Broadcast(_) => true,
        Op::Reshape(reshape) => only_units_differ(&s.shape_of(x), &reshape.shape),
        _ => false,
    };
    if !smaller {
        return None;
    }
    let value = s.emit(op.clone(), &[x]);
    Some(s.emit(moved, &[value]))
}

fn reshape_of_reshape(s: &mut Simplifier<'_>, op: &Op, inputs: &[ValueId]) -> Option<ValueId> {
    let (Op::Reshape(outer), (Op::Reshape(_), [x])) = (op, s.producer(inputs[0])) else { return None };
    let x = *x;
    Some(s.emit(outer.clone(), &[x]))
}

fn transpose_of_transpose(s: &mut Simplifier<'_>, op: &Op, inputs: &[ValueId]) -> Option<ValueId> {
    let (Op::Transpose(outer), (Op::Transpose(inner), [x])) = (op, s.producer(inputs[0])) else { return None };
    let permutation = outer.permutation.iter().map(|p| inner.permutation[*p]).collect();
    let x = *x;
    Some(s.emit(Transpose { permutation }, &[x]))
}

fn broadcast_of_broadcast(s: &mut Simplifier<'_>, op: &Op, inputs: &[ValueId]) -> Option<ValueId> {
    let (Op::Broadcast(outer), (Op::Broadcast(inner), [x])) = (op, s.producer(inputs[0])) else { return None };
    let axes = inner.axes.iter().map(|a| outer.axes[*a]).collect();
    let x = *x;
    Some(s.emit(Broadcast { shape: outer.shape.clone(), axes }, &[x]))
}

/// The axes of a shape that are not a literal 1.
fn proper_axes(shape: &[Dim]) -> Vec<usize> {
    (0..shape.len()).filter(|i| !shape[*i].is(1)).collect()
}

/// Whether two shapes are the same but for dims that are a literal 1.
fn only_units_differ(a: &[Dim], b: &[Dim]) -> bool {
    proper_axes(a).into_iter().map(|i| &a[i]).eq(proper_axes(b).into_iter().map(|i| &b[i]))
}

/// The operand keeps its proper axes and drops those of size 1, by a reshape that is an address; so an axis kept with size 1 costs nothing.
fn broadcast_of_reshape(s: &mut Simplifier<'_>, op: &Op, inputs: &[ValueId]) -> Option<ValueId> {
    let (Op::Broadcast(broadcast), (Op::Reshape(reshape), [x])) = (op, s.producer(inputs[0])) else { return None };
    let (x, middle, outer) = (*x, reshape.shape.clone(), broadcast.clone());
    let from = s.shape_of(x);
    let (kept, placed) = (proper_axes(&from), proper_axes(&middle));
    if !only_units_differ(&from, &middle) || middle.len() == placed.len() {
        return None;
    }
    let proper: Vec<Dim> = kept.iter().map(|k| from[*k].clone()).collect();
    let x = s.emit(Reshape { shape: proper }, &[x]);
    let axes = placed.iter().map(|p| outer.axes[*p]).collect();
    Some(s.emit(Broadcast { shape: outer.shape, axes }, &[x]))
}

/// Moves an axis kept with size 1 down to the broadcast that drops it.
fn map_of_unit_reshapes(s: &mut Simplifier<'_>, op: &Op, inputs: &[ValueId]) -> Option<ValueId> {
    let Op::Map(map) = op else { return None };
    let outer = s.shape_of(inputs[0]);
    let mut common: Option<Vec<Dim>> = None;
    let mut small = Vec::new();
    for input in inputs {
        match s.producer(*input) {
            (Op::Reshape(_), [x]) => {
                let shape = s.shape_of(*x);
                if common.as_ref().is_some_and(|c| *c != shape) || shape.len() >= outer.len() {
                    return None;
                }
                small.push(*x);
                common = Some(shape);
            }
            (Op::Constant(_), _) => small.push(*input),
            _ => return None,
        }
    }
    let shape = common.filter(|shape| only_units_differ(shape, &outer))?;
    let operands: Vec<ValueId> = small
        .into_iter()
        .map(|v| if s.shape_of(v) == outer { s.emit(Reshape { shape: shape.clone() }, &[v]) } else { v })
        .collect();
    let value = s.emit(map.clone(), &operands);
    Some(s.emit(Reshape { shape: outer }, &[value]))
}

/// Whether each axis of `to` is a run of axes of `from`, and some run has several that are no literal 1.
fn only_merges(from: &[Dim], to: &[Dim]) -> bool {
    let mut rest = proper_axes(from).into_iter().map(|i| from[i].clone());
    let mut merged = false;
    for axis in proper_axes(to) {
        let Some(mut run) = rest.next() else { return false };
        while run != to[axis] {
            let Some(longer) = rest.next().and_then(|d| run.mul(&d)) else { return false };
            (run, merged) = (longer, true);
        }
    }
    merged && rest.next().is_none()
}

/// A function of merged axes would be a kernel of its own; of the separate ones it can be computed where they are made. Axes that are
/// split are an address.
fn map_of_merge(s: &mut Simplifier<'_>, op: &Op, inputs: &[ValueId]) -> Option<ValueId> {
    let Op::Map(map) = op else { return None };
    let outer = s.shape_of(inputs[0]);
    let separate = inputs.iter().find_map(|input| match s.producer(*input) {
        (Op::Reshape(_), [x]) => {
            let computed = matches!(s.producer(*x).0, Op::Transpose(_) | Op::Contract(_) | Op::Map(_));
            let shape = s.shape_of(*x);
            (computed && only_merges(&shape, &outer)).then_some(shape)
        }
        _ => None,
    })?;
    let operands: Vec<ValueId> = inputs.iter().map(|v| s.emit(Reshape { shape: separate.clone() }, &[*v])).collect();
    let value = s.emit(map.clone(), &operands);
    Some(s.emit(Reshape { shape: outer }, &[value]))
}

fn slice_of_slice(s: &mut Simplifier<'_>, op: &Op, inputs: &[ValueId]) -> Option<ValueId> {
    let (Op::Slice(outer), (Op::Slice(inner), [x])) = (op, s.producer(inputs[0])) else { return None };
    let x = *x;
    let mut joined = outer.clone();
    for axis in 0..outer.starts.len() {
        joined.starts[axis] = inner.starts[axis].add(&outer.starts[axis].mul(&Dim::from(inner.steps[axis]))?)?;
        joined.steps[axis] = inner.steps[axis].checked_mul(outer.steps[axis])?;
    }
    // A slice of no elements may start anywhere, a joined one may not.
    let checks = Op::from(joined.clone()).infer(&[s.type_of(x)]).is_ok();
    checks.then(|| s.emit(joined, &[x]))
}

fn slice_of_concat(s: &mut Simplifier<'_>, op: &Op, inputs: &[ValueId]) -> Option<ValueId> {
    let (Op::Slice(slice), (Op::Concat(concat), parts)) = (op, s.producer(inputs[0])) else { return None };
    let axis = concat.axis;
    let (start, size) = (slice.starts[axis].constant()?, slice.sizes[axis].constant()?);
    if size == 0 {
        return None;
    }
    let last = start + (size - 1) * slice.steps[axis];
    let mut origin = 0;
    for part in parts {
        let end = origin + s.type_of(*part).shape[axis].constant()?;
        if (origin..end).contains(&start) && (origin..end).contains(&last) {
            let part = *part;
            let mut inner = slice.clone();
            inner.starts[axis] = Dim::from(start - origin);
            return Some(s.emit(inner, &[part]));
        }
        origin = end;
    }
    None
}

fn contract_of_transpose(s: &mut Simplifier<'_>, op: &Op, inputs: &[ValueId]) -> Option<ValueId> {
    let Op::Contract(contract) = op else { return None };
    let mut labels = [contract.left.clone(), contract.right.clone()];
    let mut operands = [inputs[0], inputs[1]];
    let mut changed = false;
    for i in 0..2 {
        if let (Op::Transpose(transpose), [x]) = s.producer(operands[i]) {
            labels[i] = transpose.inverse().into_iter().map(|p| labels[i][p]).collect();
            operands[i] = *x;
            changed = true;
        }
    }
    let [left, right] = labels;
    let relabelled = Contract { left, right, result: contract.result.clone() }.canonical();
    changed.then(|| s.emit(relabelled, &operands))
}

fn reduce_of_unit_axes(s: &mut Simplifier<'_>, op: &Op, inputs: &[ValueId]) -> Option<ValueId> {
    let Op::Reduce(reduce) = op else { return None };
    let shape = s.shape_of(inputs[0]);
    let index = matches!(reduce.monoid, Monoid::ArgMax | Monoid::ArgMin);
    if index || s.dtype_of(inputs[0]) != s.dtype_of(inputs[0]).storage() {
        return None;
    }
    let proper: Vec<usize> = reduce.axes.iter().copied().filter(|a| !shape[*a].is(1)).collect();
    if proper.len() == reduce.axes.len() && !proper.is_empty() {
        return None;
    }
    let left: Vec<usize> = (0..shape.len()).filter(|a| proper.contains(a) || !reduce.axes.contains(a)).collect();
    let x = s.emit(Reshape { shape: left.iter().map(|a| shape[*a].clone()).collect() }, inputs);
    if proper.is_empty() {
        return Some(x);
    }
    let axes = proper.iter().filter_map(|p| left.iter().position(|a| a == p)).collect();
    Some(s.emit(Reduce { monoid: reduce.monoid, axes }, &[x]))
}

/// Over the axes that the broadcast made. The product is rounded once, where adding up would round at each step.
fn reduce_of_broadcast(s: &mut Simplifier<'_>, op: &Op, inputs: &[ValueId]) -> Option<ValueId> {
    let (Op::Reduce(reduce), (Op::Broadcast(broadcast), [x])) = (op, s.producer(inputs[0])) else { return None };
    let (x, broadcast) = (*x, broadcast.clone());
    let from = s.shape_of(x);
    let is_new = |axis: usize| match broadcast.axes.iter().position(|a| *a == axis) {
        None => true,
        Some(own) => from[own].is(1) && !broadcast.shape[axis].is(1),
    };
    let (copied, kept): (Vec<usize>, Vec<usize>) = reduce.axes.iter().partition(|a| is_new(**a));
    let sizes = copied.iter().map(|a| broadcast.shape[*a].constant());
    let copies: i64 = sizes.collect::<Option<Vec<i64>>>()?.into_iter().try_fold(1i64, i64::checked_mul)?;
    let float = s.dtype_of(x).is_float();
    let rest_is_whole = !copied.is_empty() && copies > 0;
    if !rest_is_whole || !matches!((reduce.monoid, float), (Monoid::Sum, true) | (Monoid::Max | Monoid::Min, _)) {
        return None;
    }
    let scaled = if reduce.monoid == Monoid::Sum {
        let count = s.constant_like(copies as f64, x);
        s.map(ScalarFunction::Mul, &[x, count])
    } else {
        x
    };
    // Without the copied axes: those of the operand that were stretched go, the others are folded or placed.
    let remaining: Vec<usize> = (0..broadcast.shape.len()).filter(|a| !copied.contains(a)).collect();
    let shape: Vec<Dim> = remaining.iter().map(|a| broadcast.shape[*a].clone()).collect();
    let own: Vec<usize> = (0..from.len()).filter(|i| !copied.contains(&broadcast.axes[*i])).collect();
    let narrow = s.emit(Reshape { shape: own.iter().map(|i| from[*i].clone()).collect() }, &[scaled]);
    let place = |axis: &usize| remaining.iter().position(|a| a == axis);
    let axes = own.iter().filter_map(|i| place(&broadcast.axes[*i])).collect();
    let spread = s.emit(Broadcast { shape, axes }, &[narrow]);
    if kept.is_empty() {
        return Some(spread);
    }
    Some(s.emit(Reduce { monoid: reduce.monoid, axes: kept.iter().filter_map(place).collect() }, &[spread]))
}
