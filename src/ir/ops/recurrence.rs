//! `recurrence`: each element from the one before along an axis, linearly. Running products are made of it, and it of itself
//! when it is differentiated.

use super::cumsum::{RUN, along, each_line, run_arguments};
use super::*;
use crate::ir::dim::Dim;
use crate::ir::scalar::ScalarFunction;
use crate::ir::types::DType;

/// `y[i] = a[i] · y[i - 1] + b[i]` along `axis`, beginning with `y[0] = b[0]`; from the end if `reverse`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Recurrence {
    pub axis: usize,
    pub reverse: bool,
}

impl OpDef for Recurrence {
    const DOC: OpDoc = OpDoc {
        name: "recurrence",
        summary: "each element from the one before along an axis, linearly",
        shapes: "a[s, n, t], b[s, n, t] -> [s, n, t]",
        equation: "y[.., i, ..] = a[.., i, ..] * y[.., i - 1, ..] + b[.., i, ..], the first y = b (from the last one down if reverse)",
        derivative: "db[i] = a[i + 1] * db[i + 1] + dy[i], a recurrence in the other direction; da[i] = db[i] * y[i - 1]",
        dtypes: "numbers, the same for both",
        error: "a product and a sum rounded at each step, in order",
    };

    fn attributes(&self) -> Attributes {
        Attributes::new([("axis", Attribute::dim(self.axis)), ("reverse", Attribute::Bool(self.reverse))])
    }

    fn from_attributes(attributes: &Attributes) -> Result<Self, String> {
        Ok(Recurrence { axis: attributes.number("axis")?, reverse: attributes.bool("reverse")? })
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [a, b] = expect_operands(inputs)?;
        if a != b || self.axis >= a.rank() || a.dtype == DType::Bool || a.dtype != a.dtype.storage() {
            return Err(TypeError::new(format!("a recurrence of {a} and {b} along axis {}", self.axis)).at([0, 1]));
        }
        Ok(vec![a.clone()])
    }

    fn eval(&self, inputs: &[&Tensor], outputs: &[TensorType]) -> Vec<Tensor> {
        let (a, b, dtype) = (inputs[0], inputs[1], outputs[0].dtype);
        let mut out = Tensor::filled(outputs[0].clone(), 0.0);
        each_line(&a.sizes(), self.axis, self.reverse, |places| {
            let mut last = None;
            for at in places {
                let next = match last {
                    None => b.data[*at],
                    Some(last) => {
                        let product = ScalarFunction::Mul.eval(dtype, &[a.data[*at], last]);
                        ScalarFunction::Add.eval(dtype, &[product, b.data[*at]])
                    }
                };
                out.data[*at] = next;
                last = Some(next);
            }
        });
        vec![out]
    }

    fn vjp(&self, cx: &mut VjpContext<'_>) -> Result<Vec<Option<ValueId>>, NotDifferentiable> {
        let (a, y, gradient) = (cx.inputs[0], cx.outputs[0], cx.gradient());
        let next = moved(cx.builder, a, self.axis, !self.reverse);
        let back = Recurrence { reverse: !self.reverse, ..self.clone() };
        let db = cx.builder.emit(back, &[next, gradient]);
        let da = cx.wanted[0].then(|| {
            let before = moved(cx.builder, y, self.axis, self.reverse);
            cx.builder.apply(ScalarFunction::Mul, &[db, before])
        });
        Ok(vec![da, Some(db)])
    }

    fn access(&self, _: &[TensorType], _: &[TensorType]) -> Access {
        Access::Opaque
    }

    fn lower(&self, cx: &mut LowerContext<'_, '_>) -> Vec<Value> {
        let (inputs, outputs) = cx.buffers();
        let sizes = cx.inputs[0].sizes().expect("sizes are concrete when a graph is lowered");
        nest::lines(cx.block, &sizes, self.axis, true, |b, lines| {
            b.lanes(lines.count as u64, |b, lane| {
                let origin = lines.origin(lane);
                let first = origin.clone().offset(along(lines, 0, self.reverse).0);
                let start = b.load(inputs[1], first.clone());
                b.store(outputs[0], first, start);
                if lines.length == 1 {
                    return;
                }
                let (second, next) = along(lines, 1, self.reverse);
                b.for_carried(lines.length as u64 - 1, &[start], |b, i, last| {
                    let at = origin.clone().offset(second).plus(i, next);
                    let (factor, term) = (b.load(inputs[0], at.clone()), b.load(inputs[1], at.clone()));
                    let product = b.map(ScalarFunction::Mul, &[factor, last[0]]);
                    let value = b.map(ScalarFunction::Add, &[product, term]);
                    b.store(outputs[0], at, value);
                    vec![value]
                });
            });
        });
        Vec::new()
    }

    fn primitives() -> Vec<Primitive> {
        vec![Primitive {
            name: "cumprod",
            doc: "running products along an axis; `exclusive` leaves out the element itself, `reverse` runs from the end",
            parameters: RUN,
            rest: false,
            draws: false,
            build: |b, a| {
                let (x, axis, reverse, exclusive) = run_arguments(b, a)?;
                let x = b.cast(x, b.dtype_of(x).storage());
                Ok(vec![products(b, x, axis, reverse, exclusive)?])
            },
        }]
    }

    fn samples() -> Vec<Sample<Self>> {
        let sample = |shape: &[usize], axis: usize, reverse: bool| Sample {
            op: Recurrence { axis, reverse },
            inputs: vec![sample::signed(shape, 1), sample::signed(shape, 4)],
        };
        let mut zeros = sample(&[9], 0, false);
        [2, 3, 7].into_iter().for_each(|i| zeros.inputs[0].data[i] = 0.0);
        vec![
            sample(&[1], 0, false),
            sample(&[0, 2], 0, false),
            sample(&[17], 0, false),
            sample(&[17], 0, true),
            sample(&[5, 3], 0, true),
            sample(&[37, 5], 1, false),
            sample(&[2, 4, 19], 1, false),
            sample(&[3, 40], 1, true),
            zeros,
            Sample {
                op: Recurrence { axis: 0, reverse: false },
                inputs: vec![
                    sample::whole(DType::I32, &[6, 2], -3, 4, 2),
                    sample::whole(DType::I32, &[6, 2], -9, 9, 3),
                ],
            },
        ]
    }
}

/// The elements moved by one along an axis, towards the end or (`back`) the beginning; 0 where nothing came.
fn moved(b: &mut GraphBuilder, x: ValueId, axis: usize, back: bool) -> ValueId {
    let shape = b.shape_of(x);
    if shape[axis].is(0) {
        return x;
    }
    let (zero, one) = (Dim::from(0i64), Dim::from(1i64));
    let rest = shape[axis].sub(&one).expect("a size less one is a size");
    let mut pad = pad::Pad::none(shape.len(), 0.0);
    let (start, border) = if back { (one.clone(), &mut pad.high) } else { (zero, &mut pad.low) };
    border[axis] = one;
    let kept = b.emit(slice::Slice::along(&shape, axis, start, rest), &[x]);
    b.emit(pad, &[kept])
}

/// The running products of `x` along an axis.
///
/// # Errors
/// An axis or a dtype that no recurrence takes.
pub(super) fn products(
    b: &mut GraphBuilder,
    x: ValueId,
    axis: usize,
    reverse: bool,
    exclusive: bool,
) -> Result<ValueId, TypeError> {
    let factors = if exclusive { moved(b, x, axis, reverse) } else { x };
    let shape = b.shape_of(x);
    let index = b.add_one(iota::Iota { shape: shape.clone(), axis }, &[])?;
    let first = if reverse { shape[axis].sub(&Dim::from(1i64)) } else { Some(Dim::from(0i64)) };
    let first = first.ok_or_else(|| TypeError::new("a size is too large"))?;
    let first = b.dim_value(&first, DType::I32);
    let begins = b.map(ScalarFunction::Equal, &[index, first])?;
    let start = if exclusive { b.constant_like(1.0, x) } else { x };
    let zero = b.constant_like(0.0, x);
    let terms = b.map(ScalarFunction::Select, &[begins, start, zero])?;
    b.add_one(Recurrence { axis, reverse }, &[factors, terms])
}
