//! `scatter_add`: slices added at places given by an integer tensor, in the order of the index.

use super::*;
use crate::ir::loops::Affine;
use crate::ir::scalar::ScalarFunction;
use crate::ir::types::{DType, ShapeText};

/// Operand 0, to which the slices of operand 2 are added along `axis` at the places in operand 1 (`i32`).
///
/// Equal places are added in row-major order of the index, so the result is the same bits on every run. An
/// index outside `0..n` counts as the nearest one inside, as in `gather`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ScatterAdd {
    pub axis: usize,
}

impl OpDef for ScatterAdd {
    const DOC: OpDoc = OpDoc {
        name: "scatter_add",
        summary: "slices added at places given by an integer tensor",
        shapes: "x[s, n, t], index[i], updates[s, i, t] -> [s, n, t]",
        equation: "y[i, r, k] = x[i, r, k] + the sum of updates[i, j, k] over all j with index[j] = r",
        derivative: "dx = dy, dupdates = gather(dy, index)",
        dtypes: "x, updates: numbers of one dtype; index: i32",
        error: "updates are added one by one in row-major order of the index, each sum rounded; integers wrap",
    };

    fn attributes(&self) -> Attributes {
        Attributes::new([("axis", Attribute::dim(self.axis))])
    }

    fn from_attributes(attributes: &Attributes) -> Result<Self, String> {
        Ok(ScatterAdd { axis: attributes.number("axis")? })
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x, index, updates] = expect_operands(inputs)?;
        let shape = gather::picked_shape(x, index, self.axis)?;
        if updates.shape != shape || updates.dtype != x.dtype || x.dtype == DType::Bool {
            return Err(TypeError::new(format!("{updates} does not scatter into {x}"))
                .note(format!(
                    "with an index {index} along axis {} it would be {}{}",
                    self.axis,
                    x.dtype,
                    ShapeText(&shape)
                ))
                .at([0, 1, 2]));
        }
        Ok(vec![x.clone()])
    }

    fn eval(&self, inputs: &[&Tensor], outputs: &[TensorType]) -> Vec<Tensor> {
        let (x, index, updates) = (inputs[0], inputs[1], inputs[2]);
        let (outer, n, inner) = nest::around(&x.sizes(), self.axis);
        let mut out = Tensor::new(outputs[0].clone(), x.data.clone());
        if n == 0 {
            return vec![out];
        }
        for o in 0..outer {
            for (j, place) in index.data.iter().enumerate() {
                let to = (o * n + gather::clamp(*place, n)) * inner;
                let from = (o * index.data.len() + j) * inner;
                for k in 0..inner {
                    out.data[to + k] =
                        ScalarFunction::Add.eval(x.ty.dtype, &[out.data[to + k], updates.data[from + k]]);
                }
            }
        }
        vec![out]
    }

    fn vjp(&self, cx: &mut VjpContext<'_>) -> Result<Vec<Option<ValueId>>, NotDifferentiable> {
        let (index, gradient) = (cx.inputs[1], cx.gradient());
        let gather = gather::Gather { axis: self.axis };
        let updates = cx.wanted[2].then(|| cx.builder.emit(gather, &[gradient, index]));
        Ok(vec![Some(gradient), None, updates])
    }

    fn access(&self, _: &[TensorType], _: &[TensorType]) -> Access {
        Access::Opaque
    }

    /// The places are read once for each bundle of lines; within a bundle updates follow one another in order.
    fn lower(&self, cx: &mut LowerContext<'_, '_>) -> Vec<Value> {
        let (inputs, outputs) = cx.buffers();
        let concrete = "sizes are concrete when a graph is lowered";
        let sizes = cx.inputs[0].sizes().expect(concrete);
        let count = cx.inputs[1].elements().expect(concrete);
        let (outer, n, inner) = nest::around(&sizes, self.axis);
        nest::lines(cx.block, &[outer, n, inner], 1, false, |b, lines| {
            lines.each(b, 0, &[(n, 1)], |b, at, _| {
                let value = b.load(inputs[0], at.clone());
                b.store(outputs[0], at, value);
            });
            b.for_each(count as u64, |b, j| {
                let place = b.load(inputs[1], Affine::scaled(j, 1));
                let place = gather::lower_clamp(b, place, n);
                b.lanes(lines.count as u64, |b, lane| {
                    let reach = (inner as i64, n as u64);
                    let before = b.load_at(outputs[0], lines.origin(lane), place, reach);
                    let update = b.load(inputs[2], lines.origin_of_length(count, lane).plus(j, inner as i64));
                    let sum = b.map(ScalarFunction::Add, &[before, update]);
                    b.store_at(outputs[0], lines.origin(lane), place, reach, sum);
                });
            });
        });
        Vec::new()
    }

    fn primitives() -> Vec<Primitive> {
        vec![Primitive {
            name: "scatter_add",
            doc: "x with slices of updates added along an axis at the places in index; equal places add up",
            parameters: const {
                &[
                    Parameter::required("x", "a tensor"),
                    Parameter::required("index", "an integer tensor"),
                    Parameter::required("updates", "a tensor"),
                    Parameter::optional("axis", "an int, 0 by default"),
                ]
            },
            rest: false,
            draws: false,
            build: |b, a| {
                let (x, index, updates) = (a.tensor(b, 0)?, gather::integer_index(b, a)?, a.tensor(b, 2)?);
                let axis = a.axis_or(3, 0, b.type_of(x).rank())?;
                Ok(vec![b.add_one(ScatterAdd { axis }, &[x, index, updates])?])
            },
        }]
    }

    fn samples() -> Vec<Sample<Self>> {
        let sample = |axis: usize, x: &[usize], index: &[usize], updates: &[usize]| Sample {
            op: ScatterAdd { axis },
            inputs: vec![
                sample::signed(x, 1),
                sample::whole(DType::I32, index, -1, x[axis] as i64 + 1, 3),
                sample::signed(updates, 2),
            ],
        };
        vec![
            sample(0, &[7], &[19], &[19]),
            sample(0, &[5, 6], &[9], &[9, 6]),
            sample(1, &[3, 5], &[7], &[3, 7]),
            sample(1, &[2, 5, 3], &[2, 2], &[2, 2, 2, 3]),
            sample(0, &[4, 3], &[0], &[0, 3]),
            sample(0, &[0, 3], &[2], &[2, 3]),
            sample(0, &[1], &[], &[]),
            sample(0, &[3, 40], &[7], &[7, 40]),
            sample(2, &[2, 3, 41], &[5], &[2, 3, 5]),
            sample(0, &[2, 37], &[3], &[3, 37]),
            Sample {
                op: ScatterAdd { axis: 0 },
                inputs: vec![
                    sample::whole(DType::U8, &[3, 2], 0, 256, 1),
                    sample::whole(DType::I32, &[9], 0, 3, 2),
                    sample::whole(DType::U8, &[9, 2], 0, 256, 3),
                ],
            },
        ]
    }
}
