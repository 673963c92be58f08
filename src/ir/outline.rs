//! Cuts a part of a graph under construction out into a function of its own: the body of a loop.
//!
//! The part is what results depend on and what depends on placeholders in turn. What does not depend on them stays where it is, so that it is computed once
//! and handed in as a capture; only constants and broadcasts, which cost nothing, are made again inside.

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::builder::GraphBuilder;
use super::graph::{Argument, Function, FunctionResult, Graph, ResultRole, Role, ValueId};
use super::ops::Op;
use super::rewrite::Rewriter;

/// A function cut out of a graph.
#[derive(Clone, Debug)]
pub struct Outline {
    /// Its arguments are the placeholders, then the captures.
    pub body: Function,
    /// The values of the surrounding graph that the captures are.
    pub captures: Vec<ValueId>,
    /// Captures by which a `grad` inside differentiates, with the scalar that is differentiated.
    pub differentiated: Vec<(ValueId, ValueId)>,
}

/// A result of the function to be, as a value of the surrounding graph.
pub type Wanted = (String, ResultRole, ValueId);

/// The function from `placeholders` to `results`.
pub fn outline(graph: &Graph, name: &str, placeholders: &[(Argument, ValueId)], results: &[Wanted]) -> Outline {
    let mut roots: FxHashSet<ValueId> = placeholders.iter().map(|(_, v)| *v).collect();
    let mut differentiated = Vec::new();
    let (inside, needed) = loop {
        let inside = dependents(graph, &roots);
        let needed = needed(graph, &roots, &inside, results);
        let more = wanted_outside(graph, &roots, &inside, &needed);
        if more.is_empty() {
            break (inside, needed);
        }
        roots.extend(more.iter().map(|(x, _)| *x));
        differentiated.extend(more);
    };
    let mut writer = Writer {
        graph,
        rewriter: Rewriter::new(graph.len()),
        arguments: Vec::new(),
        values: FxHashMap::default(),
        captures: Vec::new(),
        inside,
    };
    for (argument, value) in placeholders {
        writer.argument(argument.clone(), *value);
    }
    for (id, node) in graph.nodes().filter(|(id, _)| needed.contains(&id.0)) {
        let inputs: Vec<ValueId> = node.inputs.iter().map(|v| writer.value(*v)).collect();
        writer.copy(id, &inputs);
    }
    let values: Vec<ValueId> = results.iter().map(|(_, _, v)| writer.value(*v)).collect();
    let results = results.iter().zip(values);
    let results = results.map(|((name, role, _), value)| FunctionResult { name: name.clone(), role: *role, value });
    let body = Function {
        name: name.to_owned(),
        arguments: writer.arguments,
        results: results.collect(),
        graph: writer.rewriter.builder.finish(),
    };
    Outline { body, captures: writer.captures, differentiated }
}

/// Whether `value` depends on `on`, or is it.
pub fn depends(graph: &Graph, value: ValueId, on: ValueId) -> bool {
    let roots = FxHashSet::from_iter([on]);
    value == on || dependents(graph, &roots)[value.node.0 as usize]
}

/// The nodes that have an operand which is a root or depends on one.
fn dependents(graph: &Graph, roots: &FxHashSet<ValueId>) -> Vec<bool> {
    let first = roots.iter().map(|v| v.node).min();
    let mut inside = vec![false; graph.len()];
    for (id, node) in graph.nodes() {
        if first.is_some_and(|first| id >= first) {
            inside[id.0 as usize] = node.inputs.iter().any(|v| roots.contains(v) || inside[v.node.0 as usize]);
        }
    }
    inside
}

/// The nodes inside that results depend on.
fn needed(graph: &Graph, roots: &FxHashSet<ValueId>, inside: &[bool], results: &[Wanted]) -> FxHashSet<u32> {
    let mut needed = FxHashSet::default();
    let mut waiting: Vec<ValueId> = results.iter().map(|(_, _, v)| *v).collect();
    while let Some(value) = waiting.pop() {
        if inside[value.node.0 as usize] && !roots.contains(&value) && needed.insert(value.node.0) {
            waiting.extend(&graph.node(value.node).inputs);
        }
    }
    needed
}

/// What gradients inside are taken by that is not inside yet: a path from there to the scalar has to be.
fn wanted_outside(
    graph: &Graph,
    roots: &FxHashSet<ValueId>,
    inside: &[bool],
    needed: &FxHashSet<u32>,
) -> Vec<(ValueId, ValueId)> {
    let mut found = Vec::new();
    for (id, node) in graph.nodes().filter(|(_, node)| matches!(node.op, Op::Grad(_))) {
        let (true, [y, xs @ ..]) = (needed.contains(&id.0), node.inputs.as_slice()) else { continue };
        found.extend(xs.iter().filter(|x| !roots.contains(x) && !inside[x.node.0 as usize]).map(|x| (*x, *y)));
    }
    found.sort_unstable();
    found.dedup_by_key(|(x, _)| *x);
    found
}

struct Writer<'a> {
    graph: &'a Graph,
    rewriter: Rewriter,
    arguments: Vec<Argument>,
    /// Where values of the surrounding graph are in the new one.
    values: FxHashMap<ValueId, ValueId>,
    captures: Vec<ValueId>,
    inside: Vec<bool>,
}

impl Writer<'_> {
    fn builder(&mut self) -> &mut GraphBuilder {
        &mut self.rewriter.builder
    }

    fn argument(&mut self, argument: Argument, old: ValueId) -> ValueId {
        let index = self.arguments.len() as u32;
        let value = self.builder().argument(index, argument.ty.clone());
        self.arguments.push(argument);
        self.values.insert(old, value);
        value
    }

    fn copy(&mut self, id: super::graph::NodeId, inputs: &[ValueId]) {
        let node = self.graph.node(id);
        self.builder().set_scope(Arc::clone(&node.scope));
        let outputs = self.builder().add(node.op.clone(), inputs);
        let outputs = outputs.unwrap_or_else(|e| panic!("a node that was well typed is so again: {e}"));
        for (output, value) in outputs.into_iter().enumerate() {
            self.values.insert(ValueId { node: id, output: output as u32 }, value);
        }
    }

    /// Whether a value costs nothing to make: a constant, or a broadcast, whose operand is smaller. Of broadcasts in a row the last alone counts.
    fn is_free(&self, value: ValueId) -> bool {
        let node = self.graph.node(value.node);
        match &node.op {
            Op::Constant(_) => true,
            Op::Broadcast(_) => !matches!(self.graph.node(node.inputs[0].node).op, Op::Broadcast(_)),
            _ => false,
        }
    }

    /// Where a value is inside; from outside it is made again if that is free, or captured.
    fn value(&mut self, old: ValueId) -> ValueId {
        if let Some(value) = self.values.get(&old) {
            return *value;
        }
        let node = self.graph.node(old.node);
        if !self.inside[old.node.0 as usize] && self.is_free(old) {
            let inputs: Vec<ValueId> = node.inputs.iter().map(|v| self.value(*v)).collect();
            self.copy(old.node, &inputs);
            return self.values[&old];
        }
        self.captures.push(old);
        let name = match &node.op {
            Op::Argument(argument) => format!("argument_{}", argument.index),
            op => format!("{}_{}", op.doc().name, old.node.0),
        };
        self.argument(Argument { name, role: Role::Input, ty: self.graph.type_of(old).clone() }, old)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::scalar::ScalarFunction as F;
    use crate::ir::types::{DType, TensorType};
    use crate::ir::{interpret, tensor::Tensor, verify};

    fn scalar() -> TensorType {
        TensorType::scalar(DType::F32)
    }

    fn placeholder(b: &mut GraphBuilder) -> (Argument, ValueId) {
        (Argument { name: "x".into(), role: Role::Input, ty: scalar() }, b.argument(u32::MAX, scalar()))
    }

    #[test]
    fn what_does_not_depend_on_placeholders_stays_outside() {
        let mut b = GraphBuilder::new();
        let w = b.argument(0, scalar());
        let (argument, x) = placeholder(&mut b);
        let invariant = b.apply(F::Exp, &[w]);
        let two = b.constant(2.0, DType::F32, &[]);
        let product = b.apply(F::Mul, &[x, invariant]);
        let doubled = b.apply(F::Mul, &[product, two]);
        let wanted = [("y".to_owned(), ResultRole::Output, doubled), ("z".to_owned(), ResultRole::Output, invariant)];
        let cut = outline(b.graph(), "body", &[(argument, x)], &wanted);
        verify::function(&cut.body).unwrap();
        assert_eq!(cut.captures, [invariant]);
        let of = |v: f64| Tensor::new(scalar(), vec![v]);
        let results = interpret::run(&cut.body, &[of(3.0), of(5.0)]).unwrap();
        assert_eq!([results[0].data[0], results[1].data[0]], [30.0, 5.0]);
    }

    #[test]
    fn a_path_that_is_differentiated_goes_inside() {
        // y = x * exp(w): its derivative by w is y, though exp(w) alone does not depend on x.
        let mut b = GraphBuilder::new();
        let w = b.argument(0, scalar());
        let invariant = b.apply(F::Exp, &[w]);
        let (argument, x) = placeholder(&mut b);
        let y = b.apply(F::Mul, &[x, invariant]);
        let slope = b.grad(y, &[w]).unwrap()[0];
        let cut = outline(b.graph(), "body", &[(argument, x)], &[("s".to_owned(), ResultRole::Output, slope)]);
        verify::function(&cut.body).unwrap();
        assert_eq!((cut.captures.as_slice(), cut.differentiated.as_slice()), (&[w][..], &[(w, y)][..]));
        assert_eq!(cut.body.graph.nodes().filter(|(_, n)| matches!(n.op, Op::Map(_))).count(), 2);
    }
}
