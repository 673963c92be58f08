//! `cumsum`: running sums along an axis.

use super::*;
use crate::ir::loops::Affine;
use crate::ir::loops::build::BlockBuilder;
use crate::ir::scalar::ScalarFunction;
use crate::ir::types::DType;

/// Element `i` along `axis` is the sum of the elements up to `i`, without `i` itself if `exclusive`; from `i` to the end if `reverse`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cumsum {
    pub axis: usize,
    pub reverse: bool,
    pub exclusive: bool,
}

/// The place of step `i` of `length` along an axis.
pub(super) fn place(i: usize, length: usize, reverse: bool) -> usize {
    if reverse { length - 1 - i } else { i }
}

/// Runs an axis of a tensor line by line: `each` gets the places of the elements of one line in the order of the run.
pub(super) fn each_line(sizes: &[usize], axis: usize, reverse: bool, mut each: impl FnMut(&[usize])) {
    let (outer, n, inner) = nest::around(sizes, axis);
    for o in 0..outer {
        for k in 0..inner {
            let places: Vec<usize> = (0..n).map(|i| (o * n + place(i, n, reverse)) * inner + k).collect();
            each(&places);
        }
    }
}

/// The distance from a line's first element to step `i` of a run along it, and that to the next step.
pub(super) fn along(lines: &nest::Lines, i: usize, reverse: bool) -> (i64, i64) {
    let stride = lines.stride as i64;
    (place(i, lines.length, reverse) as i64 * stride, if reverse { -stride } else { stride })
}

impl OpDef for Cumsum {
    const DOC: OpDoc = OpDoc {
        name: "cumsum",
        summary: "running sums along an axis",
        shapes: "x[s, n, t] -> [s, n, t]",
        equation: "y[.., i, ..] = the sum of x[.., j, ..] over j <= i (j < i if exclusive; j >= i, j > i if reverse)",
        derivative: "dx = the running sums of dy in the other direction",
        dtypes: "numbers",
        error: "sums within blocks of about sqrt(n), to each the sum of the blocks before: at most 2 sqrt(n) units in the last place of the sum of the magnitudes",
    };

    fn attributes(&self) -> Attributes {
        let (reverse, exclusive) = (Attribute::Bool(self.reverse), Attribute::Bool(self.exclusive));
        Attributes::new([("axis", Attribute::dim(self.axis)), ("reverse", reverse), ("exclusive", exclusive)])
    }

    fn from_attributes(attributes: &Attributes) -> Result<Self, String> {
        let (reverse, exclusive) = (attributes.bool("reverse")?, attributes.bool("exclusive")?);
        Ok(Cumsum { axis: attributes.number("axis")?, reverse, exclusive })
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x] = expect_operands(inputs)?;
        if self.axis >= x.rank() || x.dtype == DType::Bool {
            return Err(TypeError::new(format!("running sums along axis {} of {x}", self.axis)).at([0]));
        }
        Ok(vec![x.with_dtype(x.dtype.storage())])
    }

    fn eval(&self, inputs: &[&Tensor], outputs: &[TensorType]) -> Vec<Tensor> {
        let mut out = Tensor::new(outputs[0].clone(), inputs[0].data.clone());
        each_line(&inputs[0].sizes(), self.axis, self.reverse, |places| {
            let mut sum = 0.0;
            for at in places {
                let before = sum;
                sum = ScalarFunction::Add.eval(outputs[0].dtype, &[sum, inputs[0].data[*at]]);
                out.data[*at] = if self.exclusive { before } else { sum };
            }
        });
        vec![out]
    }

    fn vjp(&self, cx: &mut VjpContext<'_>) -> Result<Vec<Option<ValueId>>, NotDifferentiable> {
        let gradient = cx.gradient();
        let back = Cumsum { reverse: !self.reverse, ..self.clone() };
        Ok(vec![Some(cx.builder.emit(back, &[gradient]))])
    }

    fn access(&self, _: &[TensorType], _: &[TensorType]) -> Access {
        Access::Opaque
    }

    fn lower(&self, cx: &mut LowerContext<'_, '_>) -> Vec<Value> {
        let (inputs, outputs) = cx.buffers();
        let dtype = cx.outputs[0].dtype;
        let sizes = cx.inputs[0].sizes().expect("sizes are concrete when a graph is lowered");
        nest::lines(cx.block, &sizes, self.axis, true, |b, lines| {
            let block = block_length(lines.length);
            let (blocks, rest) = (lines.length / block, lines.length % block);
            b.lanes(lines.count as u64, |b, lane| {
                let zero = b.constant(dtype, 0.0);
                // One block: the running sum within it, beside that of the blocks before.
                let run = |b: &mut BlockBuilder<'_>, length: usize, from: Affine, step: i64, before: Value| {
                    let last = b.for_carried(length as u64, &[zero], |b, i, sum| {
                        let at = from.clone().plus(i, step);
                        let element = b.load(inputs[0], at.clone());
                        let next = b.map(ScalarFunction::Add, &[sum[0], element]);
                        let shown = if self.exclusive { sum[0] } else { next };
                        let total = b.map(ScalarFunction::Add, &[before, shown]);
                        b.store(outputs[0], at, total);
                        vec![next]
                    });
                    b.map(ScalarFunction::Add, &[before, last[0]])
                };
                let (first, step) = along(lines, 0, self.reverse);
                let sums = b.for_carried(blocks as u64, &[zero], |b, number, before| {
                    let from = lines.origin(lane).offset(first).plus(number, step * block as i64);
                    vec![run(b, block, from, step, before[0])]
                });
                if rest > 0 {
                    let from = lines.origin(lane).offset(along(lines, blocks * block, self.reverse).0);
                    run(b, rest, from, step, sums[0]);
                }
            });
        });
        Vec::new()
    }

    fn primitives() -> Vec<Primitive> {
        vec![Primitive {
            name: "cumsum",
            doc: "running sums along an axis; `exclusive` leaves out the element itself, `reverse` runs from the end",
            parameters: RUN,
            rest: false,
            draws: false,
            build: |b, a| {
                let (x, axis, reverse, exclusive) = run_arguments(b, a)?;
                Ok(vec![b.add_one(Cumsum { axis, reverse, exclusive }, &[x])?])
            },
        }]
    }

    fn samples() -> Vec<Sample<Self>> {
        let sample = |shape: &[usize], axis: usize, reverse: bool, exclusive: bool| Sample {
            op: Cumsum { axis, reverse, exclusive },
            inputs: vec![sample::signed(shape, 1)],
        };
        let mut all = vec![
            sample(&[1], 0, false, false),
            sample(&[0], 0, false, true),
            sample(&[3, 0], 0, true, false),
            sample(&[300], 0, false, false),
            sample(&[19, 5], 1, false, false),
            sample(&[2, 7, 3], 1, true, false),
            sample(&[40, 33], 0, false, true),
            sample(&[37, 90], 1, true, true),
            Sample {
                op: Cumsum { axis: 0, reverse: false, exclusive: false },
                inputs: vec![sample::whole(DType::U8, &[9, 2], 0, 200, 2)],
            },
        ];
        for (reverse, exclusive) in [(false, false), (false, true), (true, false), (true, true)] {
            all.extend([sample(&[17], 0, reverse, exclusive), sample(&[3, 5], 0, reverse, exclusive)]);
        }
        all
    }
}

/// The length of a block: a power of two near the square root, so that within and between blocks as much is added up.
fn block_length(length: usize) -> usize {
    let mut block = 16;
    while block * block < length {
        block *= 2;
    }
    block
}

/// The parameters of a function that runs along an axis.
pub(super) const RUN: &[Parameter] = &[
    Parameter::required("x", "a tensor"),
    Parameter::optional("axis", "an int, by default the elements in row-major order, as a vector"),
    Parameter::optional("reverse", "whether to run from the end"),
    Parameter::optional("exclusive", "whether to leave out the element itself"),
];

/// The tensor, the axis, `reverse` and `exclusive` of a call with the parameters [`RUN`].
pub(super) fn run_arguments(
    b: &mut GraphBuilder,
    arguments: &PrimitiveArguments,
) -> Result<(ValueId, usize, bool, bool), TypeError> {
    let mut x = arguments.tensor(b, 0)?;
    if b.dtype_of(x) == DType::Bool {
        return Err(TypeError::new(format!("a running sum or product of {}", b.type_of(x)))
            .note("convert it first, for example with `i32(x)`")
            .at([0]));
    }
    let axis = match arguments.get(1) {
        Some(_) => arguments.axis(1, b.type_of(x).rank())?,
        None => {
            x = reshape::flat(b, x)?;
            0
        }
    };
    Ok((x, axis, arguments.bool_or(2, false)?, arguments.bool_or(3, false)?))
}
