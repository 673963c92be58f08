//! `broadcast`: axes of size 1 stretched, and new axes.

use super::*;
use crate::ir::dim::Dim;
use crate::ir::scalar::Monoid;
use crate::ir::types::ShapeText;

/// Axis `k` of the operand becomes axis `axes[k]` of the result (ascending); the other axes are new. An operand axis of size 1 stretches.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Broadcast {
    pub shape: Vec<Dim>,
    pub axes: Vec<usize>,
}

/// The shape of an elementwise function of operands of shapes `a` and `b`, aligned at the last dim.
///
/// # Errors
/// The first pair of dims, from the last, that neither agree nor stretch.
pub fn broadcast_shapes(a: &[Dim], b: &[Dim]) -> Result<Vec<Dim>, (Dim, Dim)> {
    let rank = a.len().max(b.len());
    let one = Dim::from(1i64);
    let dim_at =
        |shape: &[Dim], axis: usize| (axis + shape.len()).checked_sub(rank).map_or(one.clone(), |i| shape[i].clone());
    let mut shape = Vec::with_capacity(rank);
    for axis in (0..rank).rev() {
        let (x, y) = (dim_at(a, axis), dim_at(b, axis));
        if x == y || y.is(1) {
            shape.push(x);
        } else if x.is(1) {
            shape.push(y);
        } else {
            return Err((x, y));
        }
    }
    shape.reverse();
    Ok(shape)
}

/// The error for operands that do not broadcast; `operand` is the first that disagrees with those before it.
pub fn mismatch(function: &str, types: &[&TensorType], operand: usize, ours: &Dim, theirs: &Dim) -> TypeError {
    let before = (0..operand).rev().find(|i| types[*i].shape.contains(ours)).unwrap_or(0);
    let (a, b) = (types[before], types[operand]);
    let error = TypeError::new(format!("`{function}` of {a} and {b}: {ours} does not match {theirs}"));
    let symbolic = ours.constant().is_none() || theirs.constant().is_none();
    let note = if symbolic {
        format!(
            "`{ours}` and `{theirs}` are not the same size for every value of their names; only a literal 1 stretches"
        )
    } else {
        "shapes are aligned at the last dim; a missing dim or a 1 stretches".to_string()
    };
    error.note(note).at([before, operand])
}

impl OpDef for Broadcast {
    const DOC: OpDoc = OpDoc {
        name: "broadcast",
        summary: "axes of size 1 stretched, and new axes",
        shapes: "x[s] -> shape",
        equation: "y[i] = x[i[axes]], with index 0 where x has size 1",
        derivative: "dx = the sum of dy over the new and the stretched axes",
        dtypes: "any",
        error: "exact",
    };

    fn attributes(&self) -> Attributes {
        let axes = Attribute::dims(self.axes.iter().copied());
        Attributes::new([("shape", Attribute::Dims(self.shape.clone())), ("axes", axes)])
    }

    fn from_attributes(attributes: &Attributes) -> Result<Self, String> {
        Ok(Broadcast { shape: attributes.dims("shape")?, axes: attributes.numbers("axes")? })
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x] = expect_operands(inputs)?;
        let ascending = self.axes.windows(2).all(|p| p[0] < p[1]);
        if !ascending || self.axes.len() != x.rank() || self.axes.last().is_some_and(|a| *a >= self.shape.len()) {
            return Err(TypeError::new(format!("axes {:?} do not place {x} in {}", self.axes, ShapeText(&self.shape))));
        }
        let bad = x.shape.iter().zip(&self.axes).find(|(d, a)| !d.is(1) && **d != self.shape[**a]);
        if let Some((dim, axis)) = bad {
            let wanted = &self.shape[*axis];
            return Err(TypeError::new(format!("{x} does not broadcast to {}", ShapeText(&self.shape)))
                .note(format!("{dim} does not stretch to {wanted}; only a missing dim or a literal 1 does"))
                .at([0]));
        }
        Ok(vec![TensorType { dtype: x.dtype, shape: self.shape.clone() }])
    }

    fn eval(&self, inputs: &[&Tensor], outputs: &[TensorType]) -> Vec<Tensor> {
        let sizes = inputs[0].sizes();
        let at = |index: &[usize]| -> Vec<usize> {
            self.axes.iter().zip(&sizes).map(|(a, n)| if *n == 1 { 0 } else { index[*a] }).collect()
        };
        vec![Tensor::from_fn(outputs[0].clone(), |index| inputs[0].at(&at(index)))]
    }

    fn vjp(&self, cx: &mut VjpContext<'_>) -> Result<Vec<Option<ValueId>>, NotDifferentiable> {
        let shape = cx.builder.shape_of(cx.inputs[0]);
        let kept = |axis: &usize| self.axes.iter().zip(&shape).any(|(a, d)| a == axis && *d == self.shape[*axis]);
        let summed: Vec<usize> = (0..self.shape.len()).filter(|axis| !kept(axis)).collect();
        let gradient = cx.gradient();
        let sum = cx.builder.reduce(Monoid::Sum, gradient, &summed, false).expect("axes of the gradient");
        Ok(vec![Some(cx.builder.reshape(sum, &shape).expect("only axes of size 1 were summed away"))])
    }

    fn access(&self, inputs: &[TensorType], _: &[TensorType]) -> Access {
        let expression = |(axis, dim): (&usize, &Dim)| {
            if dim.is(1) { IndexExpression::constant(0) } else { IndexExpression::axis(*axis) }
        };
        Access::Pointwise(vec![IndexMap(self.axes.iter().zip(&inputs[0].shape).map(expression).collect())])
    }

    fn lower(&self, cx: &mut LowerContext<'_, '_>) -> Vec<Value> {
        vec![cx.element(0)]
    }

    fn primitives() -> Vec<Primitive> {
        vec![Primitive {
            name: "broadcast",
            doc: "x stretched to a shape, aligned at the last dim; a missing dim or a literal 1 stretches",
            parameters: const { &[Parameter::required("x", "a tensor"), Parameter::required("shape", "a list of dims")] },
            rest: false,
            draws: false,
            build: |b, a| {
                let (x, shape) = (a.tensor(b, 0)?, a.shape(1)?);
                Ok(vec![b.broadcast(x, &shape)?])
            },
        }]
    }

    fn samples() -> Vec<Sample<Self>> {
        let sample = |from: &[usize], to: &[usize], axes: &[usize]| {
            let shape = to.iter().map(|n| Dim::from(*n)).collect();
            Sample { op: Broadcast { shape, axes: axes.to_vec() }, inputs: vec![sample::signed(from, 1)] }
        };
        vec![
            sample(&[], &[5], &[]),
            sample(&[7], &[3, 7], &[1]),
            sample(&[3], &[3, 7], &[0]),
            sample(&[3, 1], &[3, 7], &[0, 1]),
            sample(&[1, 5], &[2, 3, 5], &[1, 2]),
            sample(&[1], &[1], &[0]),
            sample(&[1, 4], &[0, 4], &[0, 1]),
            sample(&[0], &[2, 0], &[1]),
            sample(&[3, 1, 5], &[3, 41, 5], &[0, 1, 2]),
            sample(&[], &[], &[]),
        ]
    }
}
