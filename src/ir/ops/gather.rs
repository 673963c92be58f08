//! `gather`: slices of a tensor picked by an integer tensor.

use super::*;
use crate::ir::dim::Dim;
use crate::ir::loops::Affine;
use crate::ir::scalar::ScalarFunction;
use crate::ir::types::DType;

pub mod primitives;

pub(super) use primitives::{add_flat, flat_places, integer_index};

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
        shapes: "x[s, n, t], index[i] -> [s, i, t]",
        equation: "y[i, j, k] = x[i, index[j], k]",
        derivative: "dx = zeros to which scatter_add adds dy at the same index",
        dtypes: "x: any; index: i32",
        error: "exact",
    };

    fn attributes(&self) -> Attributes {
        Attributes::new([("axis", Attribute::dim(self.axis))])
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
                b.load_at(inputs[0], address, index, (inner as i64, n as u64))
            };
            b.store(outputs[0], nest::address(vars, &[picks * inner, inner, 1]), value);
        });
        Vec::new()
    }

    fn primitives() -> Vec<Primitive> {
        primitives::all()
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
            sample(0, &[0, 3], &[2], 0, 4),
            sample(2, &[2, 3, 41], &[5], 0, 41),
            sample(0, &[1], &[1], -1, 2),
            sample(0, &[300, 2], &[3, 1, 2], 0, 300),
        ]
    }
}
