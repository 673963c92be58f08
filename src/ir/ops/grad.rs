//! `grad`: the gradients of a scalar, which the autodiff pass expands before anything else looks at the graph.

use super::*;

/// Operand 0 is the scalar, the others are what it is differentiated by; one result for each of them, of its type.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Grad;

impl OpDef for Grad {
    const DOC: OpDoc = OpDoc {
        name: "grad",
        summary: "the gradients of a scalar",
        shapes: "y[], x1[s1], x2[s2], .. -> [s1], [s2], ..",
        equation: "dx1, dx2, .. = the derivatives of y by x1, x2, ..; 0 where y does not depend on one",
        derivative: "that of its expansion: inner gradients are expanded first",
        dtypes: "floats",
        error: "that of the derivatives of the ops between",
    };

    fn attributes(&self) -> Attributes {
        Attributes::default()
    }

    fn from_attributes(_: &Attributes) -> Result<Self, String> {
        Ok(Grad)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let Some((y, xs)) = inputs.split_first() else { return Err(TypeError::new("grad of nothing")) };
        if y.rank() > 0 || !y.dtype.is_float() {
            return Err(TypeError::new(format!("a gradient is of a float scalar, found {y}"))
                .note("reduce it first, for example with `sum(y)` or `mean(y)`")
                .at([0]));
        }
        if let Some(at) = xs.iter().position(|x| !x.dtype.is_float()) {
            return Err(
                TypeError::new(format!("a gradient with respect to {}, which is no float tensor", xs[at])).at([1 + at])
            );
        }
        Ok(xs.iter().map(|x| (*x).clone()).collect())
    }

    fn eval(&self, _: &[&Tensor], _: &[TensorType]) -> Vec<Tensor> {
        unreachable!("the interpreter refuses graphs in which gradients are not expanded")
    }

    fn vjp(&self, _: &mut VjpContext<'_>) -> Result<Vec<Option<ValueId>>, NotDifferentiable> {
        Err(NotDifferentiable("an inner gradient was not expanded first".into()))
    }

    fn access(&self, _: &[TensorType], _: &[TensorType]) -> Access {
        Access::Opaque
    }

    fn lower(&self, _: &mut LowerContext<'_, '_>) -> Vec<Value> {
        unreachable!("gradients are expanded before lowering")
    }

    fn primitives() -> Vec<Primitive> {
        vec![Primitive {
            name: "grad",
            doc: "the gradient of scalar y with respect to a tensor or each tensor of a list",
            parameters: const {
                &[
                    Parameter::required("y", "a scalar tensor"),
                    Parameter::required("xs", "a tensor or a list of tensors"),
                ]
            },
            rest: false,
            draws: false,
            build: |b, a| {
                let (y, xs) = (a.tensor(b, 0)?, a.tensors(b, 1)?);
                b.grad(y, &xs).map_err(|e| {
                    let at: Vec<usize> = e.operands.iter().map(|o| (*o).min(1)).collect();
                    e.at(at)
                })
            },
        }]
    }

    fn samples() -> Vec<Sample<Self>> {
        Vec::new()
    }
}
