//! `argument`: an argument of the function the graph belongs to.

use super::*;
use crate::ir::dim::Dim;

/// The argument with number `index`; its type stands in the attributes so that the node infers alone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Argument {
    pub index: u32,
    pub ty: TensorType,
}

impl OpDef for Argument {
    const DOC: OpDoc = OpDoc {
        name: "argument",
        summary: "an argument of the function",
        shapes: "-> the argument's shape",
        equation: "y = argument",
        derivative: "none: it has no operand",
        dtypes: "any",
        error: "exact",
    };

    fn attributes(&self) -> Attributes {
        Attributes::new([
            ("index", Attribute::Dim(Dim::from(i64::from(self.index)))),
            ("dtype", Attribute::DType(self.ty.dtype)),
            ("shape", Attribute::Dims(self.ty.shape.clone())),
        ])
    }

    fn from_attributes(attributes: &Attributes) -> Result<Self, String> {
        let ty = TensorType { dtype: attributes.dtype("dtype")?, shape: attributes.dims("shape")? };
        Ok(Argument { index: attributes.number("index")?, ty })
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        expect_operands::<0>(inputs)?;
        Ok(vec![self.ty.clone()])
    }

    fn eval(&self, _: &[&Tensor], _: &[TensorType]) -> Vec<Tensor> {
        unreachable!("the interpreter binds arguments before it evaluates nodes")
    }

    fn vjp(&self, _: &mut VjpContext<'_>) -> Result<Vec<Option<ValueId>>, NotDifferentiable> {
        Ok(Vec::new())
    }

    fn access(&self, _: &[TensorType], _: &[TensorType]) -> Access {
        Access::Source
    }

    fn lower(&self, _: &mut LowerContext<'_, '_>) -> Vec<Value> {
        Vec::new()
    }

    fn primitives() -> Vec<Primitive> {
        Vec::new()
    }

    fn samples() -> Vec<Sample<Self>> {
        Vec::new()
    }
}
