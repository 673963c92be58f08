//! `pad`: a border of one value, and gaps of it between elements.

use super::*;
use crate::ir::dim::Dim;
use crate::ir::loops::Affine;
use crate::ir::scalar::meaning::convert;
use crate::ir::tensor::strides;
use crate::ir::types::DType;

pub mod primitives;

/// Along each axis `low` elements of `value`, the operand's elements with `interior` elements of `value` between
/// neighbours, and `high` elements of `value`. An axis of size 0 has `-interior` elements between its neighbours, so
/// that a slice of any step and its adjoint have the same sizes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pad {
    pub low: Vec<Dim>,
    pub high: Vec<Dim>,
    pub interior: Vec<usize>,
    /// The bits of an `f64`.
    pub value: u64,
}

impl Pad {
    /// No border on any of `rank` axes, to be widened axis by axis.
    pub fn none(rank: usize, value: f64) -> Pad {
        let zeros = vec![Dim::from(0i64); rank];
        Pad { low: zeros.clone(), high: zeros, interior: vec![0; rank], value: value.to_bits() }
    }

    /// `low + n + (n - 1) * interior + high`; `None` on overflow.
    fn size(&self, axis: usize, dim: &Dim) -> Option<Dim> {
        let gaps = dim.sub(&Dim::from(1i64))?.mul(&Dim::from(self.interior[axis]))?;
        self.low[axis].add(dim)?.add(&gaps)?.add(&self.high[axis])
    }
}

impl OpDef for Pad {
    const DOC: OpDoc = OpDoc {
        name: "pad",
        summary: "a border of one value, and gaps of it between elements",
        shapes: "x[n, ..] -> [low + n + (n - 1) * interior + high, ..]",
        equation: "y[low + i * (interior + 1)] = x[i], and value elsewhere",
        derivative: "dx = the slice of dy where x went",
        dtypes: "any",
        error: "exact",
    };

    fn attributes(&self) -> Attributes {
        Attributes::new([
            ("low", Attribute::Dims(self.low.clone())),
            ("high", Attribute::Dims(self.high.clone())),
            ("interior", Attribute::dims(self.interior.iter().copied())),
            ("value", Attribute::Float(self.value)),
        ])
    }

    fn from_attributes(attributes: &Attributes) -> Result<Self, String> {
        let (low, high) = (attributes.dims("low")?, attributes.dims("high")?);
        let value = attributes.float("value")?.to_bits();
        Ok(Pad { low, high, interior: attributes.numbers("interior")?, value })
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x] = expect_operands(inputs)?;
        if [self.low.len(), self.high.len(), self.interior.len()] != [x.rank(); 3] {
            return Err(TypeError::new(format!("padding {x} needs a low, a high and a gap for each axis")));
        }
        let negative = |d: &Dim| d.constant().is_some_and(|c| c < 0);
        if let Some(bad) = self.low.iter().chain(&self.high).find(|d| negative(d)) {
            return Err(TypeError::new(format!("a border cannot be negative, found {bad}")));
        }
        let shape = x.shape.iter().enumerate().map(|(axis, dim)| self.size(axis, dim).filter(|d| !negative(d)));
        let shape: Option<Vec<Dim>> = shape.collect();
        let shape = shape.ok_or_else(|| TypeError::new(format!("the padded size of {x} is no size")).at([0]))?;
        Ok(vec![TensorType { dtype: x.dtype, shape }])
    }

    fn eval(&self, inputs: &[&Tensor], outputs: &[TensorType]) -> Vec<Tensor> {
        let value = convert(f64::from_bits(self.value), DType::F64, outputs[0].dtype);
        let mut out = Tensor::filled(outputs[0].clone(), value);
        let (steps, origin) = self.addresses(&outputs[0]);
        for (value, index) in inputs[0].data.iter().zip(crate::ir::tensor::indices(&inputs[0].sizes())) {
            let at: usize = index.iter().zip(&steps).map(|(i, s)| i * s).sum();
            out.data[origin + at] = *value;
        }
        vec![out]
    }

    fn vjp(&self, cx: &mut VjpContext<'_>) -> Result<Vec<Option<ValueId>>, NotDifferentiable> {
        let sizes = cx.builder.shape_of(cx.inputs[0]);
        let steps = self.interior.iter().map(|n| *n as i64 + 1).collect();
        let gradient = cx.gradient();
        Ok(vec![Some(cx.builder.emit(slice::Slice { starts: self.low.clone(), sizes, steps }, &[gradient]))])
    }

    /// Opaque: a pointwise load cannot be guarded.
    fn access(&self, _: &[TensorType], _: &[TensorType]) -> Access {
        Access::Opaque
    }

    /// Each border and each run of the operand once; only where there are gaps is what they are in filled first.
    fn lower(&self, cx: &mut LowerContext<'_, '_>) -> Vec<Value> {
        let (inputs, outputs) = cx.buffers();
        let (from, to) = (&cx.inputs[0], &cx.outputs[0]);
        let concrete = "sizes are concrete when a graph is lowered";
        let value = f64::from_bits(self.value);
        let writer = Writer { source: inputs[0], target: outputs[0], dtype: to.dtype, value, axes: self.axes(from) };
        match from.elements().expect(concrete) {
            0 => writer.fill(cx.block, Affine::default(), to.elements().expect(concrete)),
            _ => writer.axis(cx.block, 0, Affine::default(), Affine::default(), false),
        }
        Vec::new()
    }

    fn primitives() -> Vec<Primitive> {
        primitives::all()
    }

    fn samples() -> Vec<Sample<Self>> {
        let sample = |shape: &[usize], low: &[i64], high: &[i64], interior: &[usize], value: f64| Sample {
            op: Pad {
                low: low.iter().map(|n| Dim::from(*n)).collect(),
                high: high.iter().map(|n| Dim::from(*n)).collect(),
                interior: interior.to_vec(),
                value: value.to_bits(),
            },
            inputs: vec![sample::signed(shape, 1)],
        };
        vec![
            sample(&[7], &[2], &[3], &[0], 0.0),
            sample(&[7], &[0], &[1], &[2], -1.5),
            sample(&[3, 5], &[1, 0], &[0, 2], &[0, 1], 0.5),
            sample(&[2, 3, 4], &[0, 1, 1], &[0, 1, 1], &[0, 0, 0], 0.0),
            sample(&[0, 2], &[2, 1], &[1, 0], &[0, 0], 3.0),
            sample(&[], &[], &[], &[], 1.0),
            sample(&[1], &[0], &[0], &[5], 2.0),
            sample(&[1, 1], &[1, 2], &[2, 0], &[0, 0], -1.0),
            sample(&[2, 3], &[0, 1], &[0, 0], &[40, 6], 0.0),
        ]
    }
}

/// One axis, or several that are copied as one.
struct PaddedAxis {
    size: usize,
    low: usize,
    high: usize,
    /// From one element to the next in the padded tensor.
    step: usize,
}

impl PaddedAxis {
    fn padded(&self) -> usize {
        self.low + (self.size - 1) * self.step + 1 + self.high
    }
}

/// Writes the nest of a pad.
struct Writer {
    source: BufferId,
    target: BufferId,
    dtype: DType,
    value: f64,
    axes: Vec<PaddedAxis>,
}

impl Writer {
    /// `count` elements of the border from `to` on.
    fn fill(&self, b: &mut BlockBuilder<'_>, to: Affine, count: usize) {
        if count > 0 {
            b.lanes(count as u64, |b, at| {
                let value = b.constant(self.dtype, self.value);
                b.store(self.target, to.plus(at, 1), value);
            });
        }
    }

    /// The axes from `number` on of the block whose operand is at `from` and whose result is at `to`, and whose border may be there already.
    fn axis(&self, b: &mut BlockBuilder<'_>, number: usize, from: Affine, to: Affine, filled: bool) {
        let axis = &self.axes[number];
        let rest = &self.axes[number + 1..];
        let run: usize = rest.iter().map(|a| a.size).product();
        let padded: usize = rest.iter().map(PaddedAxis::padded).product();
        let gaps = axis.step > 1 && !filled;
        let borders = !gaps && !filled;
        if gaps {
            self.fill(b, to.clone(), axis.padded() * padded);
        }
        if borders {
            self.fill(b, to.clone(), axis.low * padded);
        }
        let first = to.clone().offset((axis.low * padded) as i64);
        let step = (axis.step * padded) as i64;
        if rest.is_empty() {
            b.lanes(axis.size as u64, |b, at| {
                let value = b.load(self.source, from.plus(at, 1));
                b.store(self.target, first.plus(at, step), value);
            });
        } else {
            b.for_each(axis.size as u64, |b, at| {
                self.axis(b, number + 1, from.plus(at, run as i64), first.plus(at, step), filled || gaps);
            });
        }
        if borders {
            let end = to.offset(((axis.padded() - axis.high) * padded) as i64);
            self.fill(b, end, axis.high * padded);
        }
    }
}

impl Pad {
    /// The axes as they are copied: one without a border is one with the axis before it, if that has no gaps. At least one.
    fn axes(&self, operand: &TensorType) -> Vec<PaddedAxis> {
        let border = |d: &Dim| d.constant().and_then(|c| usize::try_from(c).ok()).expect("checked by infer");
        let mut axes: Vec<PaddedAxis> = Vec::new();
        for (axis, size) in operand.sizes().expect("sizes are concrete here").into_iter().enumerate() {
            let own = PaddedAxis {
                size,
                low: border(&self.low[axis]),
                high: border(&self.high[axis]),
                step: if size == 1 { 1 } else { self.interior[axis] + 1 },
            };
            match axes.last_mut() {
                Some(before) if before.step == 1 && own.low + own.high == 0 && own.step == 1 => {
                    *before = PaddedAxis {
                        size: before.size * size,
                        low: before.low * size,
                        high: before.high * size,
                        step: 1,
                    };
                }
                _ => axes.push(own),
            }
        }
        if axes.is_empty() {
            axes.push(PaddedAxis { size: 1, low: 0, high: 0, step: 1 });
        }
        axes
    }

    /// In elements of the padded tensor: the step from one operand element to the next along each axis, and the first one's place.
    fn addresses(&self, padded: &TensorType) -> (Vec<usize>, usize) {
        let outer = strides(&padded.sizes().expect("sizes are concrete here"));
        let low =
            self.low.iter().map(|d| d.constant().and_then(|c| usize::try_from(c).ok()).expect("checked by infer"));
        let origin = low.zip(&outer).map(|(l, s)| l * s).sum();
        (outer.iter().zip(&self.interior).map(|(s, gap)| s * (gap + 1)).collect(), origin)
    }
}
