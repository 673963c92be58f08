//! `constant`: a tensor of equal elements, whose value is a number or a symbolic size.

use super::*;
use crate::ir::dim::Dim;
use crate::ir::scalar::meaning::convert;
use crate::ir::types::DType;

/// The value of a [`Constant`]. Invariant: `Size` has a symbol, so equal constants compare equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ConstantValue {
    /// The bits of an `f64`.
    Number(u64),
    /// A size that is known once symbolic dims are replaced.
    Size(Dim),
}

/// A tensor of `shape` with every element `value`, converted to `dtype`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Constant {
    pub value: ConstantValue,
    pub dtype: DType,
    pub shape: Vec<Dim>,
}

impl Constant {
    /// A constant number. Every NaN is the same one.
    pub fn number(value: f64, dtype: DType, shape: &[Dim]) -> Constant {
        let value = if value.is_nan() { f64::NAN } else { value };
        Constant { value: ConstantValue::Number(value.to_bits()), dtype, shape: shape.to_vec() }
    }

    /// A size as a number.
    pub fn size(dim: Dim, dtype: DType, shape: &[Dim]) -> Constant {
        match dim.constant() {
            Some(value) => Constant::number(value as f64, dtype, shape),
            None => Constant { value: ConstantValue::Size(dim), dtype, shape: shape.to_vec() },
        }
    }

    /// The value of every element, converted to the dtype, if it is known yet.
    pub fn known(&self) -> Option<f64> {
        match self.value {
            ConstantValue::Number(bits) => Some(convert(f64::from_bits(bits), DType::F64, self.dtype)),
            ConstantValue::Size(_) => None,
        }
    }
}

impl OpDef for Constant {
    const DOC: OpDoc = OpDoc {
        name: "constant",
        summary: "a tensor of equal elements",
        shapes: "-> shape",
        equation: "y[i] = value",
        derivative: "none: it has no operand",
        dtypes: "any",
        error: "the number rounded to the dtype once",
    };

    fn attributes(&self) -> Attributes {
        let value = match &self.value {
            ConstantValue::Number(bits) => Attribute::Float(*bits),
            ConstantValue::Size(dim) => Attribute::Dim(dim.clone()),
        };
        let shape = Attribute::Dims(self.shape.clone());
        Attributes::new([("value", value), ("dtype", Attribute::DType(self.dtype)), ("shape", shape)])
    }

    fn from_attributes(attributes: &Attributes) -> Result<Self, String> {
        let (dtype, shape) = (attributes.dtype("dtype")?, attributes.dims("shape")?);
        Ok(match attributes.get("value")? {
            Attribute::Dim(dim) => Constant::size(dim.clone(), dtype, &shape),
            _ => Constant::number(attributes.float("value")?, dtype, &shape),
        })
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        expect_operands::<0>(inputs)?;
        Ok(vec![TensorType { dtype: self.dtype, shape: self.shape.clone() }])
    }

    fn eval(&self, _: &[&Tensor], outputs: &[TensorType]) -> Vec<Tensor> {
        let value = self.known().expect("sizes are concrete when a graph is evaluated");
        vec![Tensor::filled(outputs[0].clone(), value)]
    }

    fn vjp(&self, _: &mut VjpContext<'_>) -> Result<Vec<Option<ValueId>>, NotDifferentiable> {
        Ok(Vec::new())
    }

    fn access(&self, _: &[TensorType], _: &[TensorType]) -> Access {
        Access::Pointwise(Vec::new())
    }

    fn lower(&self, cx: &mut LowerContext<'_, '_>) -> Vec<Value> {
        let value = self.known().expect("sizes are concrete when a graph is lowered");
        vec![cx.block.constant(self.dtype, value)]
    }

    fn primitives() -> Vec<Primitive> {
        const FROM_SHAPE: &[Parameter] = &[
            Parameter::required("shape", "a list of dims"),
            Parameter::optional("dtype", "a dtype, `float` by default"),
        ];
        const FULL: &[Parameter] = &[
            Parameter::required("shape", "a list of dims"),
            Parameter::required("value", "a number or a scalar tensor"),
            Parameter::optional("dtype", "a dtype, by default the value's or `float`"),
        ];
        const LIKE: &[Parameter] = &[Parameter::required("x", "a tensor")];
        vec![
            Primitive {
                name: "zeros",
                doc: "a tensor of zeros: y[i] = 0",
                parameters: FROM_SHAPE,
                rest: false,
                draws: false,
                build: |b, a| filled(b, a, 0.0),
            },
            Primitive {
                name: "ones",
                doc: "a tensor of ones: y[i] = 1",
                parameters: FROM_SHAPE,
                rest: false,
                draws: false,
                build: |b, a| filled(b, a, 1.0),
            },
            Primitive {
                name: "full",
                doc: "a tensor of equal elements: y[i] = value",
                parameters: FULL,
                rest: false,
                draws: false,
                build: full,
            },
            Primitive {
                name: "zeros_like",
                doc: "zeros of the dtype and shape of x",
                parameters: LIKE,
                rest: false,
                draws: false,
                build: |b, a| like(b, a, 0.0),
            },
            Primitive {
                name: "ones_like",
                doc: "ones of the dtype and shape of x",
                parameters: LIKE,
                rest: false,
                draws: false,
                build: |b, a| like(b, a, 1.0),
            },
        ]
    }

    fn samples() -> Vec<Sample<Self>> {
        let sample = |value: f64, dtype: DType, shape: &[usize]| {
            let shape: Vec<Dim> = shape.iter().map(|n| Dim::from(*n)).collect();
            Sample { op: Constant::number(value, dtype, &shape), inputs: Vec::new() }
        };
        vec![
            sample(0.1, DType::F32, &[]),
            sample(-2.5, DType::F32, &[3, 5]),
            sample(300.0, DType::I32, &[17]),
            sample(1.0, DType::Bool, &[1, 3]),
            sample(7.0, DType::U8, &[0, 4]),
        ]
    }
}

fn filled(b: &mut GraphBuilder, arguments: &PrimitiveArguments, value: f64) -> Result<Vec<ValueId>, TypeError> {
    let (shape, dtype) = (arguments.shape(0)?, arguments.dtype_or(1, arguments.float)?);
    Ok(vec![b.constant(value, dtype, &shape)])
}

fn full(b: &mut GraphBuilder, arguments: &PrimitiveArguments) -> Result<Vec<ValueId>, TypeError> {
    let shape = arguments.shape(0)?;
    let mut value = arguments.tensor(b, 1)?;
    if b.type_of(value).rank() > 0 {
        return Err(TypeError::new(format!("expected a number, found {}", b.type_of(value))).at([1]));
    }
    let dtype = arguments.dtype_or(2, b.dtype_of(value))?;
    value = b.cast(value, dtype);
    Ok(vec![b.broadcast(value, &shape)?])
}

fn like(b: &mut GraphBuilder, arguments: &PrimitiveArguments, value: f64) -> Result<Vec<ValueId>, TypeError> {
    let x = arguments.tensor(b, 0)?;
    Ok(vec![b.constant_like(value, x)])
}
