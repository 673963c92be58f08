//! Rules about padded tensors: the gradient of a split is a sum of such, and that of a pooling that leaves out a row is padded once more for the convolution before it.

use super::{Rule, Simplifier};
use crate::ir::dim::Dim;
use crate::ir::graph::ValueId;
use crate::ir::ops::Op;
use crate::ir::ops::concat::Concat;
use crate::ir::ops::map::Map;
use crate::ir::ops::pad::Pad;
use crate::ir::scalar::{Monoid, ScalarFunction};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "add_of_pads",
        algebra: "pad(a) + pad(b) = pad(concat(a, b)), where zeros surround both and b begins where a ends",
        apply: add_of_pads,
    },
    Rule {
        name: "pad_of_pad",
        algebra: "pad(pad(x)) = pad(x), where both borders are of one value",
        apply: pad_of_pad,
    },
    Rule {
        name: "sum_of_pad",
        algebra: "sum(pad(x)) = sum(x) over all axes with zeros around x, rounded in other places",
        apply: sum_of_pad,
    },
];

/// A tensor with zeros before and after it along one axis.
struct Run {
    value: ValueId,
    axis: usize,
    low: Dim,
    high: Dim,
}

fn run(s: &Simplifier<'_>, value: ValueId) -> Option<Run> {
    let (Op::Pad(pad), [x]) = s.producer(value) else { return None };
    let bordered = |a: &usize| !pad.low[*a].is(0) || !pad.high[*a].is(0);
    let mut axes = (0..pad.low.len()).filter(bordered);
    let (axis, None) = (axes.next()?, axes.next()) else { return None };
    let plain = pad.value == 0f64.to_bits() && pad.interior.iter().all(|n| *n == 0);
    plain.then(|| Run { value: *x, axis, low: pad.low[axis].clone(), high: pad.high[axis].clone() })
}

/// A tensor, or the parts of which it is put together along `axis`.
fn parts(s: &Simplifier<'_>, value: ValueId, axis: usize) -> Vec<ValueId> {
    match s.producer(value) {
        (Op::Concat(concat), parts) if concat.axis == axis => parts.to_vec(),
        _ => vec![value],
    }
}

fn add_of_pads(s: &mut Simplifier<'_>, op: &Op, inputs: &[ValueId]) -> Option<ValueId> {
    let (Op::Map(Map { function: ScalarFunction::Add }), [x, y]) = (op, inputs) else { return None };
    let (x, y) = (run(s, *x)?, run(s, *y)?);
    if x.axis != y.axis || !s.dtype_of(x.value).is_float() {
        return None;
    }
    let axis = x.axis;
    let end = |s: &Simplifier<'_>, run: &Run| run.low.add(&s.shape_of(run.value)[axis]);
    let (first, second) = match (end(s, &x)? == y.low, end(s, &y)? == x.low) {
        (true, _) => (x, y),
        (_, true) => (y, x),
        _ => return None,
    };
    let mut all = parts(s, first.value, axis);
    all.extend(parts(s, second.value, axis));
    let together = s.emit(Concat { axis }, &all);
    let mut pad = Pad::none(s.shape_of(together).len(), 0.0);
    (pad.low[axis], pad.high[axis]) = (first.low, second.high);
    Some(s.emit(pad, &[together]))
}

fn pad_of_pad(s: &mut Simplifier<'_>, op: &Op, inputs: &[ValueId]) -> Option<ValueId> {
    let (Op::Pad(outer), (Op::Pad(inner), [x])) = (op, s.producer(inputs[0])) else { return None };
    let x = *x;
    let apart = outer.interior.iter().any(|gap| *gap != 0);
    if apart || outer.value != inner.value {
        return None;
    }
    let mut joined = inner.clone();
    for axis in 0..joined.low.len() {
        joined.low[axis] = outer.low[axis].add(&inner.low[axis])?;
        joined.high[axis] = outer.high[axis].add(&inner.high[axis])?;
    }
    Some(s.emit(joined, &[x]))
}

fn sum_of_pad(s: &mut Simplifier<'_>, op: &Op, inputs: &[ValueId]) -> Option<ValueId> {
    let (Op::Reduce(reduce), (Op::Pad(pad), [x])) = (op, s.producer(inputs[0])) else { return None };
    let x = *x;
    let unchanged = |axis: &usize| pad.low[*axis].is(0) && pad.high[*axis].is(0) && pad.interior[*axis] == 0;
    let folded_away = (0..pad.low.len()).all(|axis| reduce.axes.contains(&axis) || unchanged(&axis));
    let zeros = pad.value == 0f64.to_bits() && reduce.monoid == Monoid::Sum;
    (zeros && folded_away).then(|| s.emit(reduce.clone(), &[x]))
}
