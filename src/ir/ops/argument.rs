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
        equation: "y = argument",
        derivative: "none: it has no operand",
    };

    fn attributes(&self) -> Attributes {
        Attributes(vec![
            ("index", Attribute::Dim(Dim::from(i64::from(self.index)))),
            ("dtype", Attribute::DType(self.ty.dtype)),
            ("shape", Attribute::Dims(self.ty.shape.clone())),
        ])
    }

    fn from_attributes(attributes: &Attributes) -> Result<Self, String> {
        match (attributes.get("index")?, attributes.get("dtype")?, attributes.get("shape")?) {
            (Attribute::Dim(index), Attribute::DType(dtype), Attribute::Dims(shape)) => {
                let index = index.constant().and_then(|i| u32::try_from(i).ok()).ok_or("`index` is not a number")?;
                Ok(Argument { index, ty: TensorType { dtype: *dtype, shape: shape.clone() } })
            }
            _ => Err("`index`, `dtype` or `shape` is of the wrong kind".into()),
        }
    }

    fn infer(&self, _: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
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
