//! How the language reaches an op: a name, a list of arguments, and a function that builds nodes.
//!
//! The frontend knows primitives only through this table; it binds arguments by position and name, and
//! reports a [`TypeError`](super::TypeError) at the call.

use super::TypeError;
use crate::ir::builder::GraphBuilder;
use crate::ir::dim::Dim;
use crate::ir::graph::ValueId;
use crate::ir::types::DType;

/// A compile-time or run-time value handed to a primitive.
#[derive(Clone, Debug)]
pub enum Argument {
    Tensor(ValueId),
    /// A compile-time integer or a (possibly symbolic) dim.
    Int(Dim),
    Float(f64),
    Bool(bool),
    /// A string, or one of the bare words `valid`, `same`, `full`.
    Text(String),
    DType(DType),
    List(Vec<Argument>),
}

/// One parameter of a primitive as the language sees it.
#[derive(Clone, Debug)]
pub struct Parameter {
    pub name: &'static str,
    /// Whether a call must give it.
    pub required: bool,
    /// What it is, in a user's words (`a tensor`, `an int or a list of ints`), for documentation and errors.
    pub kind: &'static str,
}

/// A function of the language that makes nodes.
#[derive(Clone, Debug)]
pub struct Primitive {
    /// The name in the language, or the word behind an operator (`add`, `matmul`, `less`).
    pub name: &'static str,
    /// One line and the equation.
    pub doc: &'static str,
    pub parameters: &'static [Parameter],
    /// Whether every further positional argument is taken too (`concat` does not: it takes a list).
    pub build: fn(&mut GraphBuilder, &PrimitiveArguments) -> Result<Vec<ValueId>, TypeError>,
}

/// The arguments of one call, bound to the primitive's parameters by position in [`Primitive::parameters`].
#[derive(Clone, Debug)]
pub struct PrimitiveArguments {
    pub values: Vec<Option<Argument>>,
    /// The name of the draw in (seed, step, site, element): the path of the call, unique in the model.
    pub site: String,
    /// Whether the surrounding entry is the training step.
    pub training: bool,
}
