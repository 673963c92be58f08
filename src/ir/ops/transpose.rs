//! `transpose`: the axes in another order.

use super::*;

/// Axis `i` of the result is axis `permutation[i]` of the operand.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Transpose {
    pub permutation: Vec<usize>,
}

impl Transpose {
    /// The permutation that undoes this one.
    pub fn inverse(&self) -> Vec<usize> {
        let mut inverse = vec![0; self.permutation.len()];
        for (i, p) in self.permutation.iter().enumerate() {
            inverse[*p] = i;
        }
        inverse
    }
}

impl OpDef for Transpose {
    const DOC: OpDoc = OpDoc {
        name: "transpose",
        summary: "the axes in another order",
        shapes: "x[s] -> the dims of s in the other order",
        equation: "y[i[p[0]], i[p[1]], ..] = x[i]",
        derivative: "dx = the transpose of dy by the inverse permutation",
        dtypes: "any",
        error: "exact",
    };

    fn attributes(&self) -> Attributes {
        Attributes::new([("permutation", Attribute::dims(self.permutation.iter().copied()))])
    }

    fn from_attributes(attributes: &Attributes) -> Result<Self, String> {
        Ok(Transpose { permutation: attributes.numbers("permutation")? })
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x] = expect_operands(inputs)?;
        let mut sorted = self.permutation.clone();
        sorted.sort_unstable();
        if sorted != (0..x.rank()).collect::<Vec<_>>() {
            return Err(TypeError::new(format!("{:?} is no order of the axes of {x}", self.permutation)).at([0]));
        }
        let shape = self.permutation.iter().map(|p| x.shape[*p].clone()).collect();
        Ok(vec![TensorType { dtype: x.dtype, shape }])
    }

    fn eval(&self, inputs: &[&Tensor], outputs: &[TensorType]) -> Vec<Tensor> {
        let inverse = self.inverse();
        let at = |index: &[usize]| -> Vec<usize> { inverse.iter().map(|i| index[*i]).collect() };
        vec![Tensor::from_fn(outputs[0].clone(), |index| inputs[0].at(&at(index)))]
    }

    fn vjp(&self, cx: &mut VjpContext<'_>) -> Result<Vec<Option<ValueId>>, NotDifferentiable> {
        let gradient = cx.gradient();
        Ok(vec![Some(cx.builder.transpose(gradient, &self.inverse()).expect("the gradient has the result's axes"))])
    }

    fn access(&self, _: &[TensorType], _: &[TensorType]) -> Access {
        Access::Pointwise(vec![IndexMap(self.inverse().into_iter().map(IndexExpression::axis).collect())])
    }

    fn lower(&self, cx: &mut LowerContext<'_, '_>) -> Vec<Value> {
        vec![cx.element(0)]
    }

    fn primitives() -> Vec<Primitive> {
        vec![Primitive {
            name: "transpose",
            doc: "the axes in another order, by default reversed: axis i of y is axis axes[i] of x",
            parameters: const { &[Parameter::required("x", "a tensor"), Parameter::optional("axes", "a list of ints")] },
            rest: false,
            draws: false,
            build: |b, a| {
                let x = a.tensor(b, 0)?;
                let rank = b.type_of(x).rank();
                let axes = a.axes(1, rank)?.unwrap_or_else(|| (0..rank).rev().collect());
                if axes.len() != rank {
                    return Err(TypeError::new(format!("{} axes for {}", axes.len(), b.type_of(x))).at([1]));
                }
                Ok(vec![b.transpose(x, &axes)?])
            },
        }]
    }

    fn samples() -> Vec<Sample<Self>> {
        let sample = |shape: &[usize], permutation: &[usize]| Sample {
            op: Transpose { permutation: permutation.to_vec() },
            inputs: vec![sample::signed(shape, 1)],
        };
        vec![
            sample(&[3, 5], &[1, 0]),
            sample(&[2, 3, 4], &[2, 0, 1]),
            sample(&[2, 3, 4], &[0, 2, 1]),
            sample(&[17, 19], &[1, 0]),
            sample(&[1, 7], &[1, 0]),
            sample(&[0, 3], &[1, 0]),
            sample(&[], &[]),
            sample(&[5], &[0]),
            sample(&[3, 1, 41], &[2, 1, 0]),
            sample(&[2, 3, 5, 7], &[3, 1, 0, 2]),
        ]
    }
}
