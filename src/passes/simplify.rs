//! Rewrites nodes by named rules, each under its algebra.
//!
//! A rule looks at one op and its operands, already simplified, and may answer with another value that is equal for every input.
//! For floats "equal" allows the sign of a zero and a rounding where a rule says so, never a NaN or an infinity
//! less: `x * 0` stays. A rule writes its right-hand side through [`Simplifier::emit`], so rules apply to it again; each
//! makes the expression smaller or moves an op in one fixed direction, so that ends.
//!
//! Graphs that still hold `grad` are left alone: what is differentiated by must stay a value of its own.

use std::sync::Arc;

use super::{GraphPass, Limits, PassError};
use crate::ir::builder::GraphBuilder;
use crate::ir::dim::Dim;
use crate::ir::graph::{Function, ValueId};
use crate::ir::ops::Op;
use crate::ir::ops::constant::Constant;
use crate::ir::ops::map::Map;
use crate::ir::rewrite::Rewriter;
use crate::ir::scalar::ScalarFunction;
use crate::ir::types::{DType, TensorType};

mod arithmetic;
mod constants;
mod pads;
mod shapes;

/// The pass.
pub const PASS: GraphPass = GraphPass { name: "simplify", doc: "applies algebraic rules", run };

/// One rule.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    pub name: &'static str,
    /// What it replaces by what.
    pub algebra: &'static str,
    apply: fn(&mut Simplifier<'_>, &Op, &[ValueId]) -> Option<ValueId>,
}

/// All rules, in the order in which they are tried.
pub fn rules() -> impl Iterator<Item = &'static Rule> {
    constants::RULES.iter().chain(arithmetic::RULES).chain(shapes::RULES).chain(pads::RULES)
}

/// Rules on right-hand sides of rules; more is not needed by any, and bounds the work.
const MOST_NESTED: usize = 32;

/// Adds nodes after applying the rules to them.
pub struct Simplifier<'a> {
    builder: &'a mut GraphBuilder,
    depth: usize,
}

impl Simplifier<'_> {
    /// The value of an op with one result, by the first rule that applies or by a node.
    fn emit(&mut self, op: impl Into<Op>, inputs: &[ValueId]) -> ValueId {
        let op = op.into();
        if self.depth < MOST_NESTED && !inputs.is_empty() {
            self.depth += 1;
            let simpler = rules().find_map(|rule| (rule.apply)(self, &op, inputs));
            self.depth -= 1;
            if let Some(value) = simpler {
                return value;
            }
        }
        self.builder.emit(op, inputs)
    }

    fn map(&mut self, function: ScalarFunction, inputs: &[ValueId]) -> ValueId {
        self.emit(Map { function }, inputs)
    }

    fn type_of(&self, value: ValueId) -> &TensorType {
        self.builder.type_of(value)
    }

    fn shape_of(&self, value: ValueId) -> Vec<Dim> {
        self.builder.shape_of(value)
    }

    fn dtype_of(&self, value: ValueId) -> DType {
        self.builder.dtype_of(value)
    }

    /// The op that made a value and its operands.
    fn producer(&self, value: ValueId) -> (&Op, &[ValueId]) {
        let node = self.builder.graph().node(value.node);
        (&node.op, &node.inputs)
    }

    /// The number that every element of a value is, if it is known.
    fn number(&self, value: ValueId) -> Option<f64> {
        match self.producer(value).0 {
            Op::Constant(constant) => constant.known(),
            _ => None,
        }
    }

    fn is(&self, value: ValueId, number: f64) -> bool {
        self.number(value) == Some(number)
    }

    /// A constant of the type of `like`.
    fn constant_like(&mut self, number: f64, like: ValueId) -> ValueId {
        let ty = self.type_of(like).clone();
        self.builder.emit(Constant::number(number, ty.dtype, &ty.shape), &[])
    }

    /// The operands of a value made by the scalar function, if it is.
    fn operands_of(&self, value: ValueId, function: ScalarFunction) -> Option<Vec<ValueId>> {
        match self.producer(value) {
            (Op::Map(map), inputs) if map.function == function => Some(inputs.to_vec()),
            _ => None,
        }
    }
}

fn run(function: &Function, _: &Limits) -> Result<Function, PassError> {
    if function.graph.nodes().any(|(_, node)| matches!(node.op, Op::Grad(_))) {
        return Ok(function.clone());
    }
    let mut rewriter = Rewriter::new(function.graph.len());
    for (id, node) in function.graph.nodes() {
        if node.outputs.len() != 1 {
            rewriter.copy(id, node);
            continue;
        }
        let inputs = rewriter.inputs(node);
        rewriter.builder.set_scope(Arc::clone(&node.scope));
        let value = Simplifier { builder: &mut rewriter.builder, depth: 0 }.emit(node.op.clone(), &inputs);
        rewriter.set(id, vec![value]);
    }
    Ok(rewriter.finish(function))
}

#[cfg(test)]
mod tests;
