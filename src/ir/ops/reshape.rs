//! `reshape`: the same elements in row-major order under another shape.

use super::*;
use crate::ir::dim::Dim;
use crate::ir::types::ShapeText;

/// The elements under `shape`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reshape {
    pub shape: Vec<Dim>,
}

/// The number of elements of a shape; `None` on overflow.
fn product(shape: &[Dim]) -> Option<Dim> {
    shape.iter().try_fold(Dim::from(1i64), |p, d| p.mul(d))
}

/// The elements as a vector in row-major order.
///
/// # Errors
/// So many elements that their number overflows.
pub(super) fn flat(b: &mut GraphBuilder, x: ValueId) -> Result<ValueId, TypeError> {
    let count = product(&b.type_of(x).shape);
    let count = count.ok_or_else(|| TypeError::new(format!("{} is too large", b.type_of(x))).at([0]))?;
    b.reshape(x, &[count])
}

impl OpDef for Reshape {
    const DOC: OpDoc = OpDoc {
        name: "reshape",
        summary: "the same elements in row-major order under another shape",
        shapes: "x[s] -> shape, as many elements",
        equation: "y[i] = x[j] where i and j are the same row-major position",
        derivative: "dx = reshape(dy)",
        dtypes: "any",
        error: "exact",
    };

    fn attributes(&self) -> Attributes {
        Attributes::new([("shape", Attribute::Dims(self.shape.clone()))])
    }

    fn from_attributes(attributes: &Attributes) -> Result<Self, String> {
        Ok(Reshape { shape: attributes.dims("shape")? })
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x] = expect_operands(inputs)?;
        let too_large = || TypeError::new(format!("{x} or {} is too large", ShapeText(&self.shape)));
        let (from, to) = (product(&x.shape).ok_or_else(too_large)?, product(&self.shape).ok_or_else(too_large)?);
        if from != to {
            return Err(TypeError::new(format!("{x} does not reshape to {}", ShapeText(&self.shape)))
                .note(format!("the first has {from} elements, the second {to}"))
                .at([0]));
        }
        Ok(vec![TensorType { dtype: x.dtype, shape: self.shape.clone() }])
    }

    fn eval(&self, inputs: &[&Tensor], outputs: &[TensorType]) -> Vec<Tensor> {
        vec![Tensor::new(outputs[0].clone(), inputs[0].data.clone())]
    }

    fn vjp(&self, cx: &mut VjpContext<'_>) -> Result<Vec<Option<ValueId>>, NotDifferentiable> {
        let shape = cx.builder.shape_of(cx.inputs[0]);
        let gradient = cx.gradient();
        Ok(vec![Some(cx.builder.reshape(gradient, &shape).expect("as many elements as before"))])
    }

    /// Pointwise where axes are only split or have size 1, so that it disappears in a consumer.
    fn access(&self, inputs: &[TensorType], outputs: &[TensorType]) -> Access {
        let sizes = (inputs[0].sizes(), outputs[0].sizes());
        let map = sizes.0.zip(sizes.1).and_then(|(from, to)| split_map(&from, &to));
        map.map_or(Access::Reshape, |map| Access::Pointwise(vec![map]))
    }

    fn lower(&self, cx: &mut LowerContext<'_, '_>) -> Vec<Value> {
        match cx.operands {
            LowerOperands::Elements { .. } => vec![cx.element(0)],
            LowerOperands::Buffers { .. } => Vec::new(),
        }
    }

    fn primitives() -> Vec<Primitive> {
        vec![Primitive {
            name: "reshape",
            doc: "the same elements in row-major order under another shape; one dim may be -1, which is what is left",
            parameters: const {
                &[
                    Parameter::required("x", "a tensor"),
                    Parameter::required("shape", "a list of dims, one of them -1 or none"),
                ]
            },
            rest: false,
            draws: false,
            build: |b, a| {
                let x = a.tensor(b, 0)?;
                let shape = complete(b.type_of(x), a.dims(1)?)?;
                Ok(vec![b.reshape(x, &shape)?])
            },
        }]
    }

    fn samples() -> Vec<Sample<Self>> {
        let sample = |from: &[usize], to: &[usize]| {
            let shape = to.iter().map(|n| Dim::from(*n)).collect();
            Sample { op: Reshape { shape }, inputs: vec![sample::signed(from, 1)] }
        };
        vec![
            sample(&[3, 4], &[12]),
            sample(&[12], &[3, 4]),
            sample(&[3, 4], &[4, 3]),
            sample(&[3, 5], &[3, 1, 5]),
            sample(&[1, 1], &[]),
            sample(&[], &[1]),
            sample(&[2, 3, 4], &[6, 4]),
            sample(&[6, 5], &[2, 3, 5]),
            sample(&[0, 4], &[2, 0]),
        ]
    }
}

/// The shape with its one -1 replaced by what is left of the elements of `x`.
fn complete(x: &TensorType, mut shape: Vec<Dim>) -> Result<Vec<Dim>, TypeError> {
    let open: Vec<usize> = (0..shape.len()).filter(|i| shape[*i].is(-1)).collect();
    if shape.iter().any(|d| d.constant().is_some_and(|c| c < -1)) {
        return Err(TypeError::new(format!("a size cannot be negative, found {}", ShapeText(&shape))).at([1]));
    }
    match open.as_slice() {
        [] => Ok(shape),
        [at] => {
            shape[*at] = Dim::from(1i64);
            let rest = product(&x.shape).zip(product(&shape)).and_then(|(total, known)| total.div_exact(&known));
            shape[*at] = rest.ok_or_else(|| {
                shape[*at] = Dim::from(-1i64);
                TypeError::new(format!("{x} does not reshape to {}", ShapeText(&shape)))
                    .note("the -1 has no size with which the elements come out even")
                    .at([0, 1])
            })?;
            Ok(shape)
        }
        _ => Err(TypeError::new("more than one -1 in a shape").at([1])),
    }
}

/// The operand's indices, where each axis of `from` is a run of axes of `to` (of which at most one is needed if it has size 1).
fn split_map(from: &[usize], to: &[usize]) -> Option<IndexMap> {
    if from.contains(&0) {
        return None;
    }
    let mut next = 0;
    let mut map = Vec::new();
    for size in from {
        let mut run: Vec<usize> = Vec::new();
        let mut reached = 1;
        while reached < *size {
            reached *= to.get(next)?;
            run.push(next);
            next += 1;
        }
        if reached != *size {
            return None;
        }
        let mut expression = IndexExpression::default();
        let mut stride = 1;
        for axis in run.iter().rev().filter(|a| to[**a] != 1) {
            expression.terms.insert(0, (*axis, stride));
            stride *= to[*axis] as i64;
        }
        map.push(expression);
    }
    to[next..].iter().all(|n| *n == 1).then_some(IndexMap(map))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_are_affine_and_merges_are_not() {
        let axis = |a: usize, c: i64| (a, c);
        let map = split_map(&[6, 5], &[2, 3, 1, 5]).unwrap();
        assert_eq!(map.0[0].terms, [axis(0, 3), axis(1, 1)]);
        assert_eq!(map.0[1].terms, [axis(3, 1)]);
        assert_eq!(split_map(&[1, 4], &[4]).unwrap().0[0], IndexExpression::constant(0));
        assert!(split_map(&[2, 3], &[6]).is_none());
        assert!(split_map(&[4, 3], &[3, 4]).is_none());
        assert!(split_map(&[], &[1, 1]).unwrap().0.is_empty());
    }
}
