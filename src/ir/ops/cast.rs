//! `cast`: the elements as another dtype.

use super::*;
use crate::ir::scalar::meaning::convert;
use crate::ir::types::DType;

/// Conversion to `dtype`: float to int truncates toward zero and saturates (NaN to 0), int to narrower int wraps, to bool is `!= 0`, to `f16` and
/// `bf16` goes through `f32`, each step to nearest even.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cast {
    pub dtype: DType,
}

impl OpDef for Cast {
    const DOC: OpDoc = OpDoc {
        name: "cast",
        summary: "the elements as another dtype",
        shapes: "x[s] -> [s]",
        equation: "y[i] = dtype(x[i])",
        derivative: "dx = cast(dy), between float dtypes",
        dtypes: "any to any; float to integer truncates and saturates, integers wrap",
        error: "rounded once, to nearest, ties to even",
    };

    fn attributes(&self) -> Attributes {
        Attributes::new([("dtype", Attribute::DType(self.dtype))])
    }

    fn from_attributes(attributes: &Attributes) -> Result<Self, String> {
        Ok(Cast { dtype: attributes.dtype("dtype")? })
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x] = expect_operands(inputs)?;
        Ok(vec![x.with_dtype(self.dtype)])
    }

    fn eval(&self, inputs: &[&Tensor], outputs: &[TensorType]) -> Vec<Tensor> {
        let from = inputs[0].ty.dtype;
        let data = inputs[0].data.iter().map(|v| convert(*v, from, self.dtype)).collect();
        vec![Tensor::new(outputs[0].clone(), data)]
    }

    fn vjp(&self, cx: &mut VjpContext<'_>) -> Result<Vec<Option<ValueId>>, NotDifferentiable> {
        let from = cx.builder.dtype_of(cx.inputs[0]);
        let flows = from.is_float() && self.dtype.is_float();
        let gradient = cx.gradient();
        Ok(vec![flows.then(|| cx.builder.cast(gradient, from))])
    }

    fn access(&self, _: &[TensorType], outputs: &[TensorType]) -> Access {
        Access::Pointwise(vec![IndexMap::identity(outputs[0].rank())])
    }

    fn lower(&self, cx: &mut LowerContext<'_, '_>) -> Vec<Value> {
        let element = cx.element(0);
        vec![cx.block.convert(element, self.dtype)]
    }

    fn primitives() -> Vec<Primitive> {
        vec![Primitive {
            name: "cast",
            doc: "the elements as another dtype: y[i] = dtype(x[i]); float to int truncates and saturates",
            parameters: const { &[Parameter::required("x", "a tensor"), Parameter::required("dtype", "a dtype")] },
            rest: false,
            draws: false,
            build: |b, a| {
                let dtype = match a.get(1) {
                    Some(primitive::Argument::DType(dtype)) => *dtype,
                    _ => return Err(TypeError::new("expected a dtype such as `f32`").at([1])),
                };
                // A literal is made in the dtype wanted, so that `f64(0.1)` is not rounded on the way.
                let x = match a.get(0) {
                    Some(primitive::Argument::Float(v)) => b.constant(*v, dtype, &[]),
                    Some(primitive::Argument::Int(d)) => b.dim_value(d, dtype),
                    _ => a.tensor(b, 0)?,
                };
                Ok(vec![b.cast(x, dtype)])
            },
        }]
    }

    fn samples() -> Vec<Sample<Self>> {
        let to = |dtype: DType, input: Tensor| Sample { op: Cast { dtype }, inputs: vec![input] };
        vec![
            to(DType::I32, sample::signed(&[19], 1)),
            to(DType::F64, sample::signed(&[3, 5], 2)),
            to(DType::F32, sample::whole(DType::I32, &[17], -50, 50, 3)),
            to(DType::F32, sample::whole(DType::U8, &[2, 7], 0, 256, 4)),
            to(DType::F32, sample::whole(DType::Bool, &[5], 0, 2, 5)),
            to(DType::Bool, sample::whole(DType::I32, &[9], -1, 2, 6)),
            to(DType::U8, sample::whole(DType::I32, &[21], -300, 300, 7)),
            to(DType::F16, sample::whole(DType::I32, &[21], -3000, 3000, 7)),
            to(DType::BF16, sample::whole(DType::I64, &[21], -300, 3000, 7)),
            to(DType::F32, sample::whole(DType::U32, &[21], 0, 1 << 24, 7)),
            to(DType::I32, sample::whole(DType::Index { classes: 10 }, &[], 0, 10, 8)),
            to(DType::F32, sample::whole(DType::I32, &[0, 2], 0, 1, 9)),
            to(DType::F64, sample::signed(&[1], 10)),
            to(DType::F64, sample::signed(&[], 11)),
        ]
    }
}
