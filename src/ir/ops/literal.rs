//! `literal`: a small dense tensor of numbers known at compile time.

use super::*;
use crate::ir::dim::Dim;
use crate::ir::loops::Affine;
use crate::ir::scalar::meaning::convert;
use crate::ir::types::DType;

/// The elements in row-major order, as the bits of `f64`s, converted to the dtype.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Literal {
    pub values: Vec<u64>,
    pub dtype: DType,
    pub shape: Vec<usize>,
}

impl OpDef for Literal {
    const DOC: OpDoc = OpDoc {
        name: "literal",
        summary: "a small tensor of given numbers",
        shapes: "-> shape",
        equation: "y[i] = values[i]",
        derivative: "none: it has no operand",
        dtypes: "any",
        error: "the numbers rounded to the dtype once",
    };

    fn attributes(&self) -> Attributes {
        Attributes::new([
            ("values", Attribute::Floats(self.values.clone())),
            ("dtype", Attribute::DType(self.dtype)),
            ("shape", Attribute::dims(self.shape.iter().copied())),
        ])
    }

    fn from_attributes(attributes: &Attributes) -> Result<Self, String> {
        let (values, dtype) = (attributes.floats("values")?, attributes.dtype("dtype")?);
        let shape: Vec<usize> = attributes.numbers("shape")?;
        Ok(Literal { values, dtype, shape })
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        expect_operands::<0>(inputs)?;
        let ty = TensorType::new(self.dtype, self.shape.iter().copied());
        if ty.elements() != Some(self.values.len()) {
            return Err(TypeError::new(format!("{} numbers do not fill {ty}", self.values.len())));
        }
        Ok(vec![ty])
    }

    fn eval(&self, _: &[&Tensor], outputs: &[TensorType]) -> Vec<Tensor> {
        vec![Tensor::new(
            outputs[0].clone(),
            self.values.iter().map(|b| convert(f64::from_bits(*b), DType::F64, self.dtype)).collect(),
        )]
    }

    fn vjp(&self, _: &mut VjpContext<'_>) -> Result<Vec<Option<ValueId>>, NotDifferentiable> {
        Ok(Vec::new())
    }

    fn access(&self, _: &[TensorType], _: &[TensorType]) -> Access {
        Access::Opaque
    }

    fn lower(&self, cx: &mut LowerContext<'_, '_>) -> Vec<Value> {
        let (_, outputs) = cx.buffers();
        for (i, bits) in self.values.iter().enumerate() {
            let value = cx.block.constant(self.dtype, f64::from_bits(*bits));
            cx.block.store(outputs[0], Affine::constant(i as i64), value);
        }
        Vec::new()
    }

    fn primitives() -> Vec<Primitive> {
        vec![Primitive {
            name: "tensor",
            doc: "a tensor of given numbers: tensor([[1, 2], [3, 4]])",
            parameters: const {
                &[
                    Parameter::required("values", "a number or nested lists of numbers"),
                    Parameter::optional("dtype", "a dtype, `float` by default"),
                ]
            },
            rest: false,
            draws: false,
            build,
        }]
    }

    fn samples() -> Vec<Sample<Self>> {
        let sample = |values: &[f64], dtype: DType, shape: &[usize]| Sample {
            op: Literal { values: values.iter().map(|v| v.to_bits()).collect(), dtype, shape: shape.to_vec() },
            inputs: Vec::new(),
        };
        vec![
            sample(&[1.5, -2.0, 0.25, 4.0, 5.0, -0.5], DType::F32, &[2, 3]),
            sample(&[3.0], DType::I32, &[]),
            sample(&[], DType::F32, &[0]),
            sample(&[0.1], DType::F64, &[1, 1]),
            sample(&[250.0, 1.0, 0.0], DType::U8, &[3]),
        ]
    }
}

/// More numbers than this belong in a file.
const MOST_NUMBERS: usize = 4096;

fn build(b: &mut GraphBuilder, arguments: &PrimitiveArguments) -> Result<Vec<ValueId>, TypeError> {
    let dtype = arguments.dtype_or(1, arguments.float)?;
    let missing = || TypeError::new("an argument is missing: the numbers").at([0]);
    let (mut values, mut shape) = (Vec::new(), Vec::new());
    flatten(arguments.get(0).ok_or_else(missing)?, 0, &mut values, &mut shape).map_err(|e| e.at([0]))?;
    Ok(vec![b.add_one(Literal { values, dtype, shape }, &[])?])
}

/// Collects numbers in row-major order; the first list of each depth fixes its length.
fn flatten(
    item: &primitive::Argument,
    depth: usize,
    values: &mut Vec<u64>,
    shape: &mut Vec<usize>,
) -> Result<(), TypeError> {
    let number = match item {
        primitive::Argument::List(items) => {
            if shape.len() == depth && values.is_empty() {
                shape.push(items.len());
            }
            if shape.get(depth) != Some(&items.len()) {
                return Err(TypeError::new("the lists are of different lengths or depths"));
            }
            return items.iter().try_for_each(|i| flatten(i, depth + 1, values, shape));
        }
        primitive::Argument::Int(dim) => dim_number(dim)?,
        primitive::Argument::Float(value) => *value,
        primitive::Argument::Bool(value) => f64::from(u8::from(*value)),
        other => return Err(TypeError::new(format!("expected a number, found {}", other.kind()))),
    };
    if shape.len() != depth {
        return Err(TypeError::new("the lists are of different lengths or depths"));
    }
    if values.len() == MOST_NUMBERS {
        return Err(TypeError::new(format!("a tensor of more than {MOST_NUMBERS} given numbers")));
    }
    values.push(number.to_bits());
    Ok(())
}

fn dim_number(dim: &Dim) -> Result<f64, TypeError> {
    let number =
        dim.constant().ok_or_else(|| TypeError::new(format!("expected a number, found the symbolic dim {dim}")))?;
    Ok(number as f64)
}
