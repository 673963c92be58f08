//! Builds functions by hand.

use nnc::ir::builder::GraphBuilder;
use nnc::ir::graph::{Argument, Function, FunctionResult, ResultRole, Role, ValueId};
use nnc::ir::scalar::ScalarFunction as F;
use nnc::ir::types::{DType, TensorType};

/// Builds functions with named arguments and results.
#[derive(Default)]
pub struct Writer {
    pub b: GraphBuilder,
    pub arguments: Vec<Argument>,
    results: Vec<FunctionResult>,
}

impl Writer {
    /// A new argument.
    pub fn argument(&mut self, name: &str, role: Role, dtype: DType, shape: &[usize]) -> ValueId {
        let ty = TensorType::new(dtype, shape.iter().copied());
        self.arguments.push(Argument { name: name.into(), role, ty: ty.clone() });
        self.b.argument(self.arguments.len() as u32 - 1, ty)
    }

    /// A new result.
    pub fn result(&mut self, name: &str, role: ResultRole, value: ValueId) {
        self.results.push(FunctionResult { name: name.into(), role, value });
    }

    /// A function of operands that broadcast.
    pub fn map(&mut self, function: F, operands: &[ValueId]) -> ValueId {
        self.b.map(function, operands).unwrap()
    }

    /// The function as written.
    pub fn finish_raw(self) -> Function {
        Function { name: "test".into(), arguments: self.arguments, graph: self.b.finish(), results: self.results }
    }
}
