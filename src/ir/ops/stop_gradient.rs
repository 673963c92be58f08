//! `stop_gradient`: the operand, through which no gradient flows.

use super::*;

/// The identity with derivative 0.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StopGradient;

impl OpDef for StopGradient {
    const DOC: OpDoc = OpDoc {
        name: "stop_gradient",
        summary: "the operand, through which no gradient flows",
        shapes: "x[s] -> [s]",
        equation: "y = x",
        derivative: "dx = 0, by definition",
        dtypes: "any",
        error: "exact",
    };

    fn attributes(&self) -> Attributes {
        Attributes::default()
    }

    fn from_attributes(_: &Attributes) -> Result<Self, String> {
        Ok(StopGradient)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x] = expect_operands(inputs)?;
        Ok(vec![x.clone()])
    }

    fn eval(&self, inputs: &[&Tensor], _: &[TensorType]) -> Vec<Tensor> {
        vec![inputs[0].clone()]
    }

    fn vjp(&self, _: &mut VjpContext<'_>) -> Result<Vec<Option<ValueId>>, NotDifferentiable> {
        Ok(vec![None])
    }

    fn access(&self, _: &[TensorType], outputs: &[TensorType]) -> Access {
        Access::Pointwise(vec![IndexMap::identity(outputs[0].rank())])
    }

    fn lower(&self, cx: &mut LowerContext<'_, '_>) -> Vec<Value> {
        vec![cx.element(0)]
    }

    fn primitives() -> Vec<Primitive> {
        vec![Primitive {
            name: "stop_gradient",
            doc: "x, through which no gradient flows",
            parameters: const { &[Parameter::required("x", "a tensor")] },
            rest: false,
            draws: false,
            build: |b, a| {
                let x = a.tensor(b, 0)?;
                Ok(vec![b.stop_gradient(x)])
            },
        }]
    }

    /// Differences see through it where its gradient does not, so only integers, which have none.
    fn samples() -> Vec<Sample<Self>> {
        let sample = |shape: &[usize]| Sample {
            op: StopGradient,
            inputs: vec![sample::whole(crate::ir::types::DType::I32, shape, -9, 9, 1)],
        };
        vec![sample(&[3, 5]), sample(&[]), sample(&[19]), sample(&[1]), sample(&[0, 2])]
    }
}
