//! `scan`: a loop over the first axis of tensors, whose body is a function of its own.
//!
//! The arguments of the body are, in order, the number of the round (`i32[]`, from 0), the carries, one element of each sequence, and the
//! captures. Its results are the next value of each carry, then what the round yields. The operands of the node are the first carries, the sequences
//! (`[length, ...]`) and the captures; its results are the last carries and the stacked yields (`[length, ...]`). The element of a sequence
//! and the place of a yield are those of the round's number; `reverse` runs the rounds from the last number to the first.
//!
//! [`vjp`](self::gradient) turns a scan into one that runs the other way.

use std::sync::Arc;

use super::*;
use crate::ir::dim::Dim;
use crate::ir::graph::{Function, FunctionResult, ResultRole};
use crate::ir::interpret;
use crate::ir::types::DType;

mod gradient;
mod samples;

/// A loop of `length` rounds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scan {
    /// One round, see the module.
    pub body: Arc<Function>,
    pub length: Dim,
    pub carries: u32,
    pub sequences: u32,
    /// Whether round `length - 1` runs first.
    pub reverse: bool,
    /// Whether the loop is there to hold little at a time: of its rounds nothing is kept but what the body yields.
    pub lean: bool,
}

impl Scan {
    /// The range of the body's arguments, and after subtracting 1 of the node's operands, that are carries.
    pub fn carry_arguments(&self) -> std::ops::Range<usize> {
        1..1 + self.carries as usize
    }

    /// The range of the body's arguments that are elements of sequences.
    pub fn sequence_arguments(&self) -> std::ops::Range<usize> {
        let first = self.carry_arguments().end;
        first..first + self.sequences as usize
    }

    /// The range of the body's arguments that are captures.
    pub fn capture_arguments(&self) -> std::ops::Range<usize> {
        self.sequence_arguments().end..self.body.arguments.len()
    }

    /// The value of argument `index` in the body's graph, if anything there reads it.
    pub fn argument_value(&self, index: usize) -> Option<ValueId> {
        let found =
            |(_, node): &(_, &crate::ir::graph::Node)| matches!(&node.op, Op::Argument(a) if a.index as usize == index);
        self.body.graph.nodes().find(found).map(|(node, _)| ValueId { node, output: 0 })
    }

    /// The yield that is carry `carry` as it was before each round, as an output of the node, if there is one.
    pub fn history(&self, carry: usize) -> Option<usize> {
        let value = self.argument_value(1 + carry)?;
        let is_yield = |(_, r): &(usize, &FunctionResult)| r.role == ResultRole::Output && r.value == value;
        self.body.results.iter().enumerate().find(is_yield).map(|(output, _)| output)
    }

    /// The type of a sequence or of a stacked yield with elements of type `element`.
    fn stacked(&self, element: &TensorType) -> TensorType {
        let shape = std::iter::once(&self.length).chain(&element.shape).cloned().collect();
        TensorType { dtype: element.dtype, shape }
    }

    /// The outputs for concrete operands.
    ///
    /// # Errors
    /// What the interpreter cannot evaluate in the body, as a sentence.
    pub fn evaluate(&self, inputs: &[&Tensor], outputs: &[TensorType]) -> Result<Vec<Tensor>, String> {
        let length = self.length.constant().and_then(|n| usize::try_from(n).ok());
        let length = length.ok_or_else(|| format!("the loop has the length {}", self.length))?;
        let (carries, sequences) = (self.carries as usize, self.sequence_arguments());
        let mut arguments: Vec<Tensor> = vec![Tensor::new(TensorType::scalar(DType::I32), vec![0.0])];
        arguments.extend(inputs.iter().map(|t| (*t).clone()));
        let mut stacks: Vec<Vec<f64>> =
            outputs[carries..].iter().map(|t| vec![0.0; t.elements().unwrap_or_default()]).collect();
        for number in 0..length {
            let round = if self.reverse { length - 1 - number } else { number };
            arguments[0].data[0] = round as f64;
            for index in sequences.clone() {
                let size = inputs[index - 1].data.len() / length;
                let data = inputs[index - 1].data[round * size..(round + 1) * size].to_vec();
                arguments[index] = Tensor::new(self.body.arguments[index].ty.clone(), data);
            }
            let mut results = interpret::run(&self.body, &arguments)?;
            for (stack, element) in stacks.iter_mut().zip(results.split_off(carries)) {
                let size = element.data.len();
                stack[round * size..(round + 1) * size].copy_from_slice(&element.data);
            }
            results.into_iter().enumerate().for_each(|(carry, value)| arguments[1 + carry] = value);
        }
        let last = arguments.into_iter().skip(1).take(carries);
        let yields = stacks.into_iter().zip(&outputs[carries..]).map(|(data, ty)| Tensor::new(ty.clone(), data));
        Ok(last.chain(yields).collect())
    }

    fn check_body(&self, operands: usize) -> Result<(), TypeError> {
        let body = &self.body;
        let expected = 1 + operands;
        if body.arguments.len() != expected || self.sequence_arguments().end > expected {
            return Err(TypeError::new(format!(
                "the body of a loop with {operands} operands takes {expected} arguments, found {}",
                body.arguments.len()
            )));
        }
        if body.arguments[0].ty != TensorType::scalar(DType::I32) {
            return Err(TypeError::new(format!("the number of a round is i32[], found {}", body.arguments[0].ty)));
        }
        if body.results.is_empty() || body.results.len() < self.carries as usize {
            return Err(TypeError::new(format!(
                "the body of a loop gives the next value of each of {} carries and what it yields, found {} results",
                self.carries,
                body.results.len()
            )));
        }
        for (number, result) in body.results.iter().enumerate() {
            let carry = self.carry_arguments().nth(number);
            let expected = carry.map_or(ResultRole::Output, |index| ResultRole::Update(index as u32));
            if result.role != expected {
                return Err(TypeError::new(format!(
                    "result {number} of the body of a loop is {expected:?}, found {:?}",
                    result.role
                )));
            }
        }
        Ok(())
    }
}

impl OpDef for Scan {
    const DOC: OpDoc = OpDoc {
        name: "scan",
        summary: "a loop over the first axis of tensors",
        shapes: "carries [s], sequences [length, t], captures [u] -> carries [s], yields [length, v]",
        equation: "c[r+1], y[r] = body(r, c[r], x[r], w); the results are the last c and all y",
        derivative: "the loop run the other way: dc[r], dx[r], dw += the vjp of body at (r, c[r], x[r], w) for dc[r+1], dy[r]",
        dtypes: "any, as the body says",
        error: "that of the body, round after round",
    };

    fn attributes(&self) -> Attributes {
        let mut attributes = Attributes::new([
            ("length", Attribute::Dim(self.length.clone())),
            ("carries", Attribute::Dim(Dim::from(i64::from(self.carries)))),
            ("sequences", Attribute::Dim(Dim::from(i64::from(self.sequences)))),
            ("reverse", Attribute::Bool(self.reverse)),
            ("body", Attribute::Function(Arc::clone(&self.body))),
        ]);
        if self.lean {
            attributes.0.insert(0, ("lean".into(), Attribute::Bool(true)));
        }
        attributes
    }

    fn from_attributes(attributes: &Attributes) -> Result<Self, String> {
        Ok(Scan {
            body: attributes.function("body")?,
            length: attributes.dim("length")?,
            carries: attributes.number("carries")?,
            sequences: attributes.number("sequences")?,
            reverse: attributes.bool("reverse")?,
            lean: attributes.get("lean").is_ok_and(|lean| *lean == Attribute::Bool(true)),
        })
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        self.check_body(inputs.len())?;
        if self.length.constant().is_some_and(|n| n < 0) {
            return Err(TypeError::new(format!("a loop of {} rounds", self.length)));
        }
        for (operand, found) in inputs.iter().enumerate() {
            let argument = &self.body.arguments[1 + operand];
            let is_sequence = self.sequence_arguments().contains(&(1 + operand));
            let expected = if is_sequence { self.stacked(&argument.ty) } else { argument.ty.clone() };
            if **found != expected {
                return Err(
                    TypeError::new(format!("`{}` of a loop is {expected}, found {found}", argument.name)).at([operand])
                );
            }
        }
        let mut outputs = Vec::new();
        for (number, result) in self.body.results.iter().enumerate() {
            let ty = self.body.graph.type_of(result.value);
            match self.carry_arguments().nth(number).map(|index| &self.body.arguments[index]) {
                Some(carry) if carry.ty != *ty => {
                    return Err(TypeError::new(format!(
                        "`{}` is {} before a round and {ty} after it",
                        carry.name, carry.ty
                    ))
                    .at([number]));
                }
                Some(_) => outputs.push(ty.clone()),
                None => outputs.push(self.stacked(ty)),
            }
        }
        Ok(outputs)
    }

    fn eval(&self, inputs: &[&Tensor], outputs: &[TensorType]) -> Vec<Tensor> {
        self.evaluate(inputs, outputs).expect("the interpreter evaluates loops itself, and reports what it cannot")
    }

    fn vjp(&self, cx: &mut VjpContext<'_>) -> Result<Vec<Option<ValueId>>, NotDifferentiable> {
        Ok(gradient::vjp(self, cx))
    }

    fn access(&self, _: &[TensorType], _: &[TensorType]) -> Access {
        Access::Loop
    }

    fn lower(&self, _: &mut LowerContext<'_, '_>) -> Vec<Value> {
        unreachable!("loops are lowered by the pass")
    }

    fn primitives() -> Vec<Primitive> {
        Vec::new()
    }

    fn samples() -> Vec<Sample<Self>> {
        samples::samples()
    }
}
