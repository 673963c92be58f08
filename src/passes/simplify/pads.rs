//! Rules about sums of padded tensors: the gradient of a split is such a sum.

use super::{Rule, Simplifier};
use crate::ir::dim::Dim;
use crate::ir::graph::ValueId;
use crate::ir::ops::Op;
use crate::ir::ops::concat::Concat;
use crate::ir::ops::map::Map;
use crate::ir::ops::pad::Pad;
use crate::ir::scalar::ScalarFunction;

pub(super) const RULES: &[Rule] = &[Rule {
    name: "add_of_pads",
    algebra: "pad(a) + pad(b) = pad(concat(a, b)), where zeros surround both and b begins where a ends",
    apply: add_of_pads,
}];

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
