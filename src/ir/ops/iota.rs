//! `iota`: the index along one axis.

use super::*;
use crate::ir::dim::Dim;
use crate::ir::scalar::ScalarFunction;
use crate::ir::types::DType;

/// The `i32` index along `axis` of a tensor of `shape`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Iota {
    pub shape: Vec<Dim>,
    pub axis: usize,
}

impl OpDef for Iota {
    const DOC: OpDoc = OpDoc {
        name: "iota",
        summary: "the index along one axis, i32",
        shapes: "-> shape",
        equation: "y[i] = i[axis]",
        derivative: "none: it has no operand",
        dtypes: "i32",
        error: "exact",
    };

    fn attributes(&self) -> Attributes {
        Attributes::new([
            ("shape", Attribute::Dims(self.shape.clone())),
            ("axis", Attribute::Dim(Dim::from(self.axis))),
        ])
    }

    fn from_attributes(attributes: &Attributes) -> Result<Self, String> {
        Ok(Iota { shape: attributes.dims("shape")?, axis: attributes.number("axis")? })
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        expect_operands::<0>(inputs)?;
        if self.axis >= self.shape.len() {
            return Err(TypeError::new(format!("axis {} of a tensor of {} dims", self.axis, self.shape.len())));
        }
        Ok(vec![TensorType { dtype: DType::I32, shape: self.shape.clone() }])
    }

    fn eval(&self, _: &[&Tensor], outputs: &[TensorType]) -> Vec<Tensor> {
        vec![Tensor::from_fn(outputs[0].clone(), |index| index[self.axis] as f64)]
    }

    fn vjp(&self, _: &mut VjpContext<'_>) -> Result<Vec<Option<ValueId>>, NotDifferentiable> {
        Ok(Vec::new())
    }

    fn access(&self, _: &[TensorType], _: &[TensorType]) -> Access {
        Access::Pointwise(Vec::new())
    }

    fn lower(&self, cx: &mut LowerContext<'_, '_>) -> Vec<Value> {
        vec![cx.index(self.axis)]
    }

    fn primitives() -> Vec<Primitive> {
        vec![
            Primitive {
                name: "iota",
                doc: "the numbers from 0 to n - 1: y[i] = i",
                parameters: const {
                    &[
                        Parameter::required("n", "an int or a dim"),
                        Parameter::optional("dtype", "a dtype, `i32` by default"),
                    ]
                },
                rest: false,
                draws: false,
                build: |b, a| {
                    let shape = a.shape(0)?;
                    if shape.len() != 1 {
                        return Err(TypeError::new("expected an int, found a list").at([0]));
                    }
                    let dtype = a.dtype_or(1, DType::I32)?;
                    let numbers = b.emit(Iota { shape, axis: 0 }, &[]);
                    Ok(vec![b.cast(numbers, dtype)])
                },
            },
            Primitive {
                name: "eye",
                doc: "ones on the diagonal, zeros elsewhere: y[i, j] = 1 if i = j else 0",
                parameters: const {
                    &[
                        Parameter::required("shape", "an int or a list of two dims"),
                        Parameter::optional("dtype", "a dtype, `f32` by default"),
                    ]
                },
                rest: false,
                draws: false,
                build: eye,
            },
            Primitive {
                name: "one_hot",
                doc: "y[.., k] = 1 if index[..] = k else 0",
                parameters: const {
                    &[
                        Parameter::required("index", "an integer tensor"),
                        Parameter::optional("classes", "an int; by default K of `index(K)`"),
                        Parameter::optional("dtype", "a dtype, `f32` by default"),
                    ]
                },
                rest: false,
                draws: false,
                build: one_hot,
            },
        ]
    }

    fn samples() -> Vec<Sample<Self>> {
        let sample = |shape: &[usize], axis: usize| {
            let shape = shape.iter().map(|n| Dim::from(*n)).collect();
            Sample { op: Iota { shape, axis }, inputs: Vec::new() }
        };
        vec![
            sample(&[19], 0),
            sample(&[3, 5], 0),
            sample(&[3, 5], 1),
            sample(&[2, 1, 7], 1),
            sample(&[0], 0),
            sample(&[1], 0),
            sample(&[3, 300], 0),
        ]
    }
}

fn eye(b: &mut GraphBuilder, arguments: &PrimitiveArguments) -> Result<Vec<ValueId>, TypeError> {
    let shape = match arguments.shape(0)?.as_slice() {
        [n] => vec![n.clone(), n.clone()],
        [rows, columns] => vec![rows.clone(), columns.clone()],
        other => return Err(TypeError::new(format!("eye makes a matrix, found {} dims", other.len())).at([0])),
    };
    let dtype = arguments.dtype_or(1, arguments.float)?;
    let rows = b.emit(Iota { shape: shape.clone(), axis: 0 }, &[]);
    let columns = b.emit(Iota { shape, axis: 1 }, &[]);
    let diagonal = b.apply(ScalarFunction::Equal, &[rows, columns]);
    Ok(vec![b.cast(diagonal, dtype)])
}

fn one_hot(b: &mut GraphBuilder, arguments: &PrimitiveArguments) -> Result<Vec<ValueId>, TypeError> {
    let index = arguments.tensor(b, 0)?;
    let classes = match (arguments.get(1), b.dtype_of(index)) {
        (None, DType::Index { classes }) => Dim::from(i64::from(classes)),
        (None, other) => {
            return Err(
                TypeError::new(format!("`classes` is missing, and {other} does not say how many there are")).at([0])
            );
        }
        (Some(_), _) => arguments.dim(1)?,
    };
    if !b.dtype_of(index).is_integer() {
        return Err(TypeError::new(format!("one_hot takes an integer tensor, found {}", b.type_of(index))).at([0]));
    }
    if classes.constant().is_some_and(|c| c < 0) {
        return Err(TypeError::new(format!("{classes} classes")).at([1]));
    }
    let dtype = arguments.dtype_or(2, arguments.float)?;
    let mut shape = b.shape_of(index);
    let axis = shape.len();
    shape.push(classes);
    let index = b.cast(index, DType::I32);
    let spread = b.broadcast_axes(index, &shape, (0..axis).collect())?;
    let classes = b.emit(Iota { shape, axis }, &[]);
    let hot = b.apply(ScalarFunction::Equal, &[spread, classes]);
    Ok(vec![b.cast(hot, dtype)])
}
