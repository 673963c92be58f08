//! `gather`: slices of a tensor picked by an integer tensor.

use super::*;
use crate::ir::dim::Dim;
use crate::ir::loops::{Affine, Instruction};
use crate::ir::scalar::ScalarFunction;
use crate::ir::types::DType;

/// Slices of operand 0 along `axis`, picked by operand 1 (`i32`), whose axes stand in the result where `axis` was.
///
/// An index outside `0..n` counts as the nearest one inside, so that no program reads outside its memory; of an axis of size 0 the result is zeros.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Gather {
    pub axis: usize,
}

/// The operand's shape with `axis` replaced by the index's shape.
pub(super) fn picked_shape(x: &TensorType, index: &TensorType, axis: usize) -> Result<Vec<Dim>, TypeError> {
    if axis >= x.rank() {
        return Err(TypeError::new(format!("axis {axis} of {x}")).at([0]));
    }
    if index.dtype.storage() != DType::I32 {
        return Err(TypeError::new(format!("an index is a tensor of i32, found {index}"))
            .note("convert it with `i32(x)`")
            .at([1]));
    }
    Ok([&x.shape[..axis], &index.shape, &x.shape[axis + 1..]].concat())
}

/// The index forced into `0..n`.
pub(super) fn clamp(index: f64, n: usize) -> usize {
    (index.max(0.0) as usize).min(n.saturating_sub(1))
}

/// As [`clamp`], in loop code.
pub(super) fn lower_clamp(b: &mut crate::ir::loops::build::BlockBuilder<'_>, index: Value, n: usize) -> Value {
    let (zero, last) = (b.constant(DType::I32, 0.0), b.constant(DType::I32, n as f64 - 1.0));
    let above = b.map(ScalarFunction::Max, &[index, zero]);
    b.map(ScalarFunction::Min, &[above, last])
}

impl OpDef for Gather {
    const DOC: OpDoc = OpDoc {
        name: "gather",
        summary: "slices picked by an integer tensor",
        equation: "y[i, j, k] = x[i, index[j], k]",
        derivative: "dx = zeros to which scatter_add adds dy at the same index",
    };

    fn attributes(&self) -> Attributes {
        Attributes::new([("axis", Attribute::Dim(Dim::from(self.axis)))])
    }

    fn from_attributes(attributes: &Attributes) -> Result<Self, String> {
        Ok(Gather { axis: attributes.number("axis")? })
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x, index] = expect_operands(inputs)?;
        Ok(vec![TensorType { dtype: x.dtype, shape: picked_shape(x, index, self.axis)? }])
    }

    fn eval(&self, inputs: &[&Tensor], outputs: &[TensorType]) -> Vec<Tensor> {
        let (x, index) = (inputs[0], inputs[1]);
        let (outer, n, inner) = nest::around(&x.sizes(), self.axis);
        let mut data = Vec::new();
        for o in 0..outer {
            for pick in &index.data {
                let from = (o * n + clamp(*pick, n)) * inner;
                match n {
                    0 => data.resize(data.len() + inner, 0.0),
                    _ => data.extend_from_slice(&x.data[from..from + inner]),
                }
            }
        }
        vec![Tensor::new(outputs[0].clone(), data)]
    }

    fn vjp(&self, cx: &mut VjpContext<'_>) -> Result<Vec<Option<ValueId>>, NotDifferentiable> {
        let (x, index, gradient) = (cx.inputs[0], cx.inputs[1], cx.gradient());
        let scatter = scatter_add::ScatterAdd { axis: self.axis };
        let dx = cx.wanted[0].then(|| {
            let zeros = cx.builder.constant_like(0.0, x);
            cx.builder.emit(scatter, &[zeros, index, gradient])
        });
        Ok(vec![dx, None])
    }

    fn access(&self, _: &[TensorType], _: &[TensorType]) -> Access {
        Access::Opaque
    }

    fn lower(&self, cx: &mut LowerContext<'_, '_>) -> Vec<Value> {
        let (inputs, outputs) = cx.buffers();
        let concrete = "sizes are concrete when a graph is lowered";
        let (outer, n, inner) = nest::around(&cx.inputs[0].sizes().expect(concrete), self.axis);
        let picks = cx.inputs[1].elements().expect(concrete);
        let (dtype, index_buffer) = (cx.outputs[0].dtype, inputs[1]);
        // The innermost axis that has more than one element is the vector loop.
        let sizes = if inner == 1 { vec![outer, picks] } else { vec![outer, picks, inner] };
        nest::elementwise(cx.block, &sizes, |b, vars| {
            let value = if n == 0 {
                b.constant(dtype, 0.0)
            } else {
                let index = b.load(index_buffer, Affine::scaled(vars[1], 1));
                let index = lower_clamp(b, index, n);
                let address = nest::address(&[&vars[..1], &vars[2..]].concat(), &[n * inner, 1]);
                let result = b.value(dtype);
                b.push(Instruction::LoadAt { result, buffer: inputs[0], address, index, stride: inner as i64 });
                result
            };
            b.store(outputs[0], nest::address(vars, &[picks * inner, inner, 1]), value);
        });
        Vec::new()
    }

    fn primitives() -> Vec<Primitive> {
        vec![Primitive {
            name: "gather",
            doc: "slices along an axis picked by an int or an integer tensor: y[i, j, k] = x[i, index[j], k]; an index of a tensor outside its range counts as the nearest inside",
            parameters: const {
                &[
                    Parameter::required("x", "a tensor"),
                    Parameter::required("index", "an int or an integer tensor"),
                    Parameter::optional("axis", "an int, 0 by default"),
                ]
            },
            rest: false,
            draws: false,
            build,
        }]
    }

    fn samples() -> Vec<Sample<Self>> {
        let sample = |axis: usize, shape: &[usize], index: &[usize], low: i64, high: i64| Sample {
            op: Gather { axis },
            inputs: vec![sample::signed(shape, 1), sample::whole(DType::I32, index, low, high, 3)],
        };
        vec![
            sample(0, &[7], &[19], 0, 7),
            sample(0, &[5, 6], &[9], -2, 8),
            sample(1, &[3, 5], &[7], 0, 5),
            sample(1, &[2, 5, 3], &[2, 2], 0, 5),
            sample(0, &[4], &[], 0, 4),
            sample(0, &[4, 3], &[0], 0, 4),
        ]
    }
}

fn build(b: &mut GraphBuilder, arguments: &PrimitiveArguments) -> Result<Vec<ValueId>, TypeError> {
    let x = arguments.tensor(b, 0)?;
    let shape = b.shape_of(x);
    let axis = arguments.axis_or(2, 0, shape.len())?;
    if let Some(primitive::Argument::Int(index)) = arguments.get(1) {
        return Ok(vec![pick_one(b, x, axis, index)?]);
    }
    let index = integer_index(b, arguments)?;
    Ok(vec![b.add_one(Gather { axis }, &[x, index])?])
}

/// Argument 1 as a tensor of `i32`.
pub(super) fn integer_index(b: &mut GraphBuilder, arguments: &PrimitiveArguments) -> Result<ValueId, TypeError> {
    let index = arguments.tensor(b, 1)?;
    if !b.dtype_of(index).is_integer() {
        return Err(TypeError::new(format!("an index is an integer tensor, found {}", b.type_of(index))).at([1]));
    }
    Ok(b.cast(index, DType::I32))
}

/// The one slice at a place known at compile time, without the axis.
fn pick_one(b: &mut GraphBuilder, x: ValueId, axis: usize, index: &Dim) -> Result<ValueId, TypeError> {
    let mut shape = b.shape_of(x);
    let size = &shape[axis];
    let outside =
        || TypeError::new(format!("index {index} is out of range for axis {axis}, which has size {size}")).at([0, 1]);
    let from_end = index.constant().is_some_and(|c| c < 0);
    let start = if from_end { size.add(index).ok_or_else(outside)? } else { index.clone() };
    let slice = slice::Slice::along(&shape, axis, start, Dim::from(1i64));
    slice.infer(&[b.type_of(x)]).map_err(|_| outside())?;
    let slab = b.emit(slice, &[x]);
    shape.remove(axis);
    b.reshape(slab, &shape)
}
