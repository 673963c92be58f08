//! Moves out of loops what is the same in every round, and into them what costs nothing.
//!
//! A node of a body that depends on nothing but captures is computed once, before the loop, and its result captured. A carry that every round leaves as it is
//! is a capture; a yield that is the same in every round is spread over the rounds outside. A capture that is a constant or a spread of fewer elements is made
//! inside, where it is an address and not a tensor in memory.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::fuse::classify::{Class, classify};
use super::{GraphPass, Limits, PassError, bodies, dce};
use crate::ir::graph::{Argument, Function, FunctionResult, Node, NodeId, ResultRole, Role, ValueId};
use crate::ir::ops::Op;
use crate::ir::ops::scan::Scan;
use crate::ir::rewrite::Rewriter;

/// The pass.
pub const PASS: GraphPass =
    GraphPass { name: "hoist", doc: "computes before a loop what is the same in every round", run };

fn run(function: &Function, _: &Limits) -> Result<Function, PassError> {
    if !bodies::any(function, |_| true) {
        return Ok(function.clone());
    }
    let classes = classify(function);
    let mut rewriter = Rewriter::new(function.graph.len());
    for (id, node) in function.graph.nodes() {
        match &node.op {
            Op::Scan(scan) => {
                let values = Hoister::new(function, &classes, scan, node).rewrite(&mut rewriter);
                rewriter.set(id, values);
            }
            _ => rewriter.copy(id, node),
        }
    }
    Ok(dce::prune(&rewriter.finish(function)))
}

/// Whether a node only moves elements or is known without operands.
fn is_free(class: &Class) -> bool {
    matches!(class, Class::Source | Class::View(_) | Class::Reshape | Class::Pointwise { cost: 0, .. })
}

/// One loop being rewritten.
struct Hoister<'a> {
    function: &'a Function,
    /// Of the nodes around the loop.
    classes: &'a [Class],
    scan: &'a Scan,
    node: &'a Node,
    /// Which arguments of the body are the same in every round.
    same_arguments: Vec<bool>,
    /// Which nodes of the body are, and which of these are moved out.
    same: Vec<bool>,
    hoisted: Vec<bool>,
}

impl<'a> Hoister<'a> {
    fn new(function: &'a Function, classes: &'a [Class], scan: &'a Scan, node: &'a Node) -> Hoister<'a> {
        let body = &scan.body;
        let mut same_arguments: Vec<bool> =
            (0..body.arguments.len()).map(|a| scan.capture_arguments().contains(&a)).collect();
        for carry in scan.carry_arguments() {
            same_arguments[carry] = scan.argument_value(carry) == Some(body.results[carry - 1].value);
        }
        let mut same: Vec<bool> = Vec::with_capacity(body.graph.len());
        for (_, node) in body.graph.nodes() {
            same.push(match &node.op {
                Op::Argument(argument) => same_arguments[argument.index as usize],
                _ => node.inputs.iter().all(|v| same[v.node.0 as usize]),
            });
        }
        let inner = classify(body);
        let hoisted = same.iter().zip(&inner).map(|(same, class)| *same && !is_free(class)).collect();
        Hoister { function, classes, scan, node, same_arguments, same, hoisted }
    }

    /// Whether a result of the body is a yield that is the same in every round.
    fn is_same_yield(&self, result: &FunctionResult) -> bool {
        result.role == ResultRole::Output && self.same[result.value.node.0 as usize]
    }

    /// Adds what is computed before the loop, then the loop, and returns the values of its outputs.
    fn rewrite(&self, rewriter: &mut Rewriter) -> Vec<ValueId> {
        let before = self.compute_before(rewriter);
        let mut inside = Inside::new(self, rewriter, &before);
        inside.copy_nodes();
        let (body, captures, kept) = inside.finish();
        let carries: Vec<usize> = self.scan.carry_arguments().filter(|a| !self.same_arguments[*a]).collect();
        let mut operands: Vec<ValueId> = carries.iter().map(|a| self.operand(rewriter, *a)).collect();
        operands.extend(self.scan.sequence_arguments().map(|a| self.operand(rewriter, a)));
        operands.extend(captures);
        let op = Scan { carries: carries.len() as u32, body: Arc::new(body), ..self.scan.clone() };
        rewriter.builder.set_scope(Arc::clone(&self.node.scope));
        let outputs = match kept.is_empty() {
            true => Vec::new(),
            false => {
                rewriter.builder.add(op, &operands).unwrap_or_else(|e| panic!("a loop without what is the same: {e}"))
            }
        };
        let new: FxHashMap<usize, ValueId> = kept.into_iter().zip(outputs).collect();
        let results = self.scan.body.results.iter().enumerate();
        results
            .map(|(number, result)| match new.get(&number) {
                Some(value) => *value,
                None if result.role == ResultRole::Output => {
                    let shape = self.node.outputs[number].shape.clone();
                    let value = before[&result.value];
                    let axes = (1..shape.len()).collect();
                    let spread = rewriter.builder.broadcast_axes(value, &shape, axes);
                    spread.unwrap_or_else(|e| panic!("one element for all rounds: {e}"))
                }
                None => self.operand(rewriter, 1 + number),
            })
            .collect()
    }

    /// What stands outside for an argument of the body.
    fn operand(&self, rewriter: &Rewriter, argument: usize) -> ValueId {
        rewriter.value(self.node.inputs[argument - 1])
    }

    /// Computes outside what is moved out and what that needs; the values of the body that there are outside then.
    fn compute_before(&self, rewriter: &mut Rewriter) -> FxHashMap<ValueId, ValueId> {
        let body = &self.scan.body;
        let mut needed = self.hoisted.clone();
        let yields = body.results.iter().filter(|r| self.is_same_yield(r));
        yields.for_each(|r| needed[r.value.node.0 as usize] = true);
        for (id, node) in body.graph.nodes().rev() {
            if needed[id.0 as usize] {
                node.inputs.iter().for_each(|v| needed[v.node.0 as usize] = true);
            }
        }
        let mut before = FxHashMap::default();
        for (id, node) in body.graph.nodes() {
            let values = match &node.op {
                Op::Argument(a) if self.same[id.0 as usize] => vec![self.operand(rewriter, a.index as usize)],
                _ if needed[id.0 as usize] => {
                    let inputs: Vec<ValueId> = node.inputs.iter().map(|v| before[v]).collect();
                    rewriter.builder.set_scope(Arc::clone(&node.scope));
                    let values = rewriter.builder.add(node.op.clone(), &inputs);
                    values.unwrap_or_else(|e| panic!("a node of a body before the loop: {e}"))
                }
                _ => continue,
            };
            before.extend((0..).map(|output| ValueId { node: id, output }).zip(values));
        }
        before
    }

    /// A node around the loop that can be made inside for nothing and takes less memory there.
    fn sinks(&self, value: ValueId) -> bool {
        let node = self.function.graph.node(value.node);
        let elements = |v: &ValueId| self.function.graph.type_of(*v).elements();
        match &self.classes[value.node.0 as usize] {
            Class::View(_) => elements(&node.inputs[0]) < elements(&value),
            Class::Pointwise { cost: 0, .. } => node.inputs.is_empty(),
            _ => false,
        }
    }
}

/// The new body.
struct Inside<'a, 'b> {
    hoister: &'a Hoister<'a>,
    outer: &'b Rewriter,
    /// Where values of the body are before the loop.
    before: &'b FxHashMap<ValueId, ValueId>,
    rewriter: Rewriter,
    arguments: Vec<Argument>,
    /// Captured values of the graph around, and where they are inside.
    captured: Vec<(ValueId, ValueId)>,
}

impl<'a, 'b> Inside<'a, 'b> {
    /// A body with its carries and elements.
    fn new(hoister: &'a Hoister<'a>, outer: &'b Rewriter, before: &'b FxHashMap<ValueId, ValueId>) -> Inside<'a, 'b> {
        let body = &hoister.scan.body;
        let rewriter = Rewriter::new(body.graph.len());
        let mut inside = Inside { hoister, outer, before, rewriter, arguments: Vec::new(), captured: Vec::new() };
        for (index, argument) in body.arguments.iter().enumerate() {
            if hoister.same_arguments[index] {
                continue;
            }
            let value = inside.argument(argument.clone());
            if let Some(old) = hoister.scan.argument_value(index) {
                inside.rewriter.set(old.node, vec![value]);
            }
        }
        inside
    }

    fn argument(&mut self, argument: Argument) -> ValueId {
        let index = self.arguments.len() as u32;
        let value = self.rewriter.builder.argument(index, argument.ty.clone());
        self.arguments.push(argument);
        value
    }

    fn copy_nodes(&mut self) {
        for (id, node) in self.hoister.scan.body.graph.nodes() {
            match &node.op {
                Op::Argument(a) if self.hoister.same[id.0 as usize] => {
                    let value = self.handed_in(a.index as usize);
                    self.rewriter.set(id, vec![value]);
                }
                Op::Argument(_) => {}
                _ if self.hoister.hoisted[id.0 as usize] => self.capture_outputs(id, node),
                _ => self.rewriter.copy(id, node),
            }
        }
    }

    /// An argument that is the same in every round: made here if that is free, else captured.
    fn handed_in(&mut self, argument: usize) -> ValueId {
        let (function, old) = (self.hoister.function, self.hoister.node.inputs[argument - 1]);
        let name = &self.hoister.scan.body.arguments[argument].name;
        if !self.hoister.sinks(old) {
            return self.capture(self.outer.value(old), name);
        }
        let node = function.graph.node(old.node);
        let mut inputs = Vec::new();
        for input in &node.inputs {
            let producer = function.graph.node(input.node);
            let is_constant = producer.inputs.is_empty() && self.hoister.sinks(*input);
            inputs.push(match is_constant {
                true => self.rewriter.builder.emit(producer.op.clone(), &[]),
                false => self.capture(self.outer.value(*input), name),
            });
        }
        self.rewriter.builder.set_scope(Arc::clone(&node.scope));
        self.rewriter.builder.emit(node.op.clone(), &inputs)
    }

    fn capture_outputs(&mut self, id: NodeId, node: &Node) {
        let outputs = (0..node.outputs.len() as u32).map(|output| ValueId { node: id, output });
        let name = format!("{}_{}", node.op.doc().name, id.0);
        let values = outputs.map(|old| self.capture(self.before[&old], &name)).collect();
        self.rewriter.set(id, values);
    }

    /// A value from around the loop; each is captured once.
    fn capture(&mut self, outer: ValueId, name: &str) -> ValueId {
        if let Some((_, value)) = self.captured.iter().find(|(o, _)| *o == outer) {
            return *value;
        }
        let ty = self.outer.builder.type_of(outer).clone();
        let value = self.argument(Argument { name: name.to_owned(), role: Role::Input, ty });
        self.captured.push((outer, value));
        value
    }

    /// The body, what it captures, and which results are still its own.
    fn finish(self) -> (Function, Vec<ValueId>, Vec<usize>) {
        let body = &self.hoister.scan.body;
        let (mut results, mut kept) = (Vec::new(), Vec::new());
        for (number, result) in body.results.iter().enumerate() {
            let carry = matches!(result.role, ResultRole::Update(_));
            if (carry && self.hoister.same_arguments[1 + number]) || self.hoister.is_same_yield(result) {
                continue;
            }
            let role = if carry { ResultRole::Update(1 + kept.len() as u32) } else { ResultRole::Output };
            results.push(FunctionResult { name: result.name.clone(), role, value: self.rewriter.value(result.value) });
            kept.push(number);
        }
        let captures = self.captured.iter().map(|(outer, _)| *outer).collect();
        let graph = self.rewriter.builder.finish();
        (Function { name: body.name.clone(), arguments: self.arguments, graph, results }, captures, kept)
    }
}

#[cfg(test)]
mod tests {
    use crate::ir::{text, verify};

    #[test]
    fn what_is_the_same_in_every_round_moves() {
        // n never changes, exp(w * n) is the same in every round and is yielded, b is a spread scalar.
        let source = "function f
  argument h: input f32[2]
  argument n: input f32[2]
  argument w: input f32[2]
  argument b: input f32[]
  %0 = argument() index=0 dtype=f32 shape=[2] : f32[2]
  %1 = argument() index=1 dtype=f32 shape=[2] : f32[2]
  %2 = argument() index=2 dtype=f32 shape=[2] : f32[2]
  %3 = argument() index=3 dtype=f32 shape=[] : f32[]
  %4 = broadcast(%3) shape=[2] axes=[] : f32[2]
  %5, %6, %7 = scan(%0, %1, %2, %4) length=3 carries=2 sequences=0 reverse=false body={
    function round
    argument round: step i32[]
    argument h: state f32[2]
    argument n: state f32[2]
    argument w: input f32[2]
    argument b: input f32[2]
    %0 = argument() index=1 dtype=f32 shape=[2] : f32[2]
    %1 = argument() index=2 dtype=f32 shape=[2] : f32[2]
    %2 = argument() index=3 dtype=f32 shape=[2] : f32[2]
    %3 = argument() index=4 dtype=f32 shape=[2] : f32[2]
    %4 = map(%1, %2) function=mul : f32[2]
    %5 = map(%4) function=exp : f32[2]
    %6 = map(%0, %5) function=mul : f32[2]
    %7 = map(%6, %3) function=add : f32[2]
    result h: update 1 = %7
    result n: update 2 = %1
    result y: output = %5
  } : f32[2], f32[2], f32[3, 2]
  result h: output = %5
  result n: output = %6
  result y: output = %7
";
        let after = super::PASS.apply(&text::parse(source).unwrap()).unwrap();
        verify::function(&after).unwrap();
        let expected = "function f
  argument h: input f32[2]
  argument n: input f32[2]
  argument w: input f32[2]
  argument b: input f32[]
  %0 = argument() index=0 dtype=f32 shape=[2] : f32[2]
  %1 = argument() index=1 dtype=f32 shape=[2] : f32[2]
  %2 = argument() index=2 dtype=f32 shape=[2] : f32[2]
  %3 = argument() index=3 dtype=f32 shape=[] : f32[]
  %4 = map(%1, %2) function=mul : f32[2]
  %5 = map(%4) function=exp : f32[2]
  %6 = scan(%0, %3, %5) length=3 carries=1 sequences=0 reverse=false body={
    function round
      argument round: step i32[]
      argument h: state f32[2]
      argument b: input f32[]
      argument map_5: input f32[2]
      %0 = argument() index=1 dtype=f32 shape=[2] : f32[2]
      %1 = argument() index=2 dtype=f32 shape=[] : f32[]
      %2 = broadcast(%1) shape=[2] axes=[] : f32[2]
      %3 = argument() index=3 dtype=f32 shape=[2] : f32[2]
      %4 = map(%0, %3) function=mul : f32[2]
      %5 = map(%4, %2) function=add : f32[2]
      result h: update 1 = %5
  } : f32[2]
  %7 = broadcast(%5) shape=[3, 2] axes=[1] : f32[3, 2]
  result h: output = %6
  result n: output = %1
  result y: output = %7
";
        assert_eq!(after.to_string(), expected);
    }
}
