//! `pad`: a border of one value, and gaps of it between elements.

use super::*;
use crate::ir::dim::Dim;
use crate::ir::loops::Affine;
use crate::ir::tensor::strides;
use crate::ir::types::DType;
use primitive::Argument;

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
        equation: "y[low + i * (interior + 1)] = x[i], and value elsewhere",
        derivative: "dx = the slice of dy where x went",
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
        let mut out = Tensor::filled(outputs[0].clone(), f64::from_bits(self.value));
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

    fn lower(&self, cx: &mut LowerContext<'_, '_>) -> Vec<Value> {
        let (inputs, outputs) = cx.buffers();
        let (from, to) = (&cx.inputs[0], &cx.outputs[0]);
        let concrete = "sizes are concrete when a graph is lowered";
        let all = to.elements().expect(concrete);
        nest::elementwise(cx.block, &[all], |b, vars| {
            let value = b.constant(to.dtype, f64::from_bits(self.value));
            b.store(outputs[0], Affine::scaled(vars[0], 1), value);
        });
        let sizes = from.sizes().expect(concrete);
        let (steps, origin) = self.addresses(to);
        nest::elementwise(cx.block, &sizes, |b, vars| {
            let value = b.load(inputs[0], nest::address(vars, &strides(&sizes)));
            b.store(outputs[0], nest::address(vars, &steps).offset(origin as i64), value);
        });
        Vec::new()
    }

    fn primitives() -> Vec<Primitive> {
        vec![Primitive {
            name: "pad",
            doc: "x with a border: an int for all sides, or [low, high] for each axis",
            parameters: const {
                &[
                    Parameter::required("x", "a tensor"),
                    Parameter::required("widths", "an int or a list of [low, high], one an axis"),
                    Parameter::optional("value", "a number, 0 by default"),
                ]
            },
            rest: false,
            draws: false,
            build,
        }]
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
        ]
    }
}

impl Pad {
    /// In elements of the padded tensor: the step from one operand element to the next along each axis, and the first one's place.
    fn addresses(&self, padded: &TensorType) -> (Vec<usize>, usize) {
        let outer = strides(&padded.sizes().expect("sizes are concrete here"));
        let low =
            self.low.iter().map(|d| d.constant().and_then(|c| usize::try_from(c).ok()).expect("checked by infer"));
        let origin = low.zip(&outer).map(|(l, s)| l * s).sum();
        (outer.iter().zip(&self.interior).map(|(s, gap)| s * (gap + 1)).collect(), origin)
    }
}

fn build(b: &mut GraphBuilder, arguments: &PrimitiveArguments) -> Result<Vec<ValueId>, TypeError> {
    let x = arguments.tensor(b, 0)?;
    let (rank, dtype) = (b.type_of(x).rank(), b.dtype_of(x));
    let value = match arguments.get(2) {
        None => 0.0,
        Some(Argument::Float(v)) if dtype.is_float() => *v,
        Some(Argument::Bool(v)) if dtype == DType::Bool => f64::from(u8::from(*v)),
        Some(Argument::Int(d)) if dtype != DType::Bool && d.constant().is_some() => arguments.int(2)? as f64,
        Some(other) => {
            return Err(TypeError::new(format!("expected a number that is a {dtype}, found {}", other.kind())).at([2]));
        }
    };
    let mut pad = Pad::none(rank, value);
    match arguments.get(1) {
        Some(Argument::Int(width)) => {
            pad.low = vec![width.clone(); rank];
            pad.high = pad.low.clone();
        }
        Some(Argument::List(axes)) if axes.len() == rank => {
            for (axis, pair) in axes.iter().enumerate() {
                let pair = PrimitiveArguments::new(vec![Some(pair.clone())]).dims(0).map_err(|e| e.at([1]))?;
                let [low, high] =
                    <[Dim; 2]>::try_from(pair).map_err(|_| TypeError::new("expected [low, high]").at([1]))?;
                pad.low[axis] = low;
                pad.high[axis] = high;
            }
        }
        _ => {
            let text = format!("expected an int or a list of {rank} [low, high] for {}", b.type_of(x));
            return Err(TypeError::new(text).at([0, 1]));
        }
    }
    Ok(vec![b.add_one(pad, &[x])?])
}
