//! The VJP of a scan: a scan the other way whose body differentiates one round.
//!
//! With `c', y = body(r, c, x, w)` for one round, the body of the gradient computes the scalar `s = Σ c' dc' + Σ y dy` and its gradients by `c`, `x` and `w`
//! as a `grad` op, which the autodiff pass expands. `dc` is carried backwards, `dx` is yielded, and `dw` is added up in a carry. The carries `c` before
//! each round are what the loop yielded of them ([`with_history`]); what else a round needs is computed again.

use std::sync::Arc;

use super::{DType, Function, FunctionResult, ResultRole, Scan};
use crate::ir::builder::GraphBuilder;
use crate::ir::graph::{Argument, Role, ValueId};
use crate::ir::ops::{Op, VjpContext};
use crate::ir::rewrite::Rewriter;
use crate::ir::scalar::{Monoid, ScalarFunction};
use crate::ir::types::TensorType;

impl Scan {
    /// The loop with one more yield for each carry that its body reads and does not yield yet as it was before the round.
    pub fn with_history(&self) -> Scan {
        let mut body = Function::clone(&self.body);
        for carry in (0..self.carries as usize).filter(|c| self.history(*c).is_none()) {
            if let Some(value) = self.argument_value(1 + carry) {
                let name = format!("{}_before", body.arguments[1 + carry].name);
                body.results.push(FunctionResult { name, role: ResultRole::Output, value });
            }
        }
        Scan { body: Arc::new(body), ..self.clone() }
    }
}

/// See [`OpDef::vjp`](crate::ir::ops::OpDef::vjp).
pub(super) fn vjp(scan: &Scan, cx: &mut VjpContext<'_>) -> Vec<Option<ValueId>> {
    let active = active_arguments(scan, cx.wanted);
    let carries = scan.carries as usize;
    let yields: Vec<usize> = (carries..cx.outputs.len()).filter(|o| cx.gradients[*o].is_some()).collect();
    let reached = scan.carry_arguments().any(|a| active[a] && cx.gradients[a - 1].is_some());
    if yields.is_empty() && !reached {
        return vec![None; cx.inputs.len()];
    }
    if !active.contains(&true) {
        return vec![None; cx.inputs.len()];
    }
    let history = carry_history(scan, cx);
    let active_in = |range: std::ops::Range<usize>| range.filter(|a| active[*a]).collect::<Vec<usize>>();
    let wanted = Wanted {
        carries: active_in(scan.carry_arguments()),
        sequences: active_in(scan.sequence_arguments()),
        captures: active_in(scan.capture_arguments()),
        yields,
    };
    let op = Scan {
        body: Arc::new(body(scan, &wanted)),
        length: scan.length.clone(),
        carries: (wanted.carries.len() + wanted.captures.len()) as u32,
        sequences: (history.len() + scan.sequences as usize + wanted.yields.len()) as u32,
        reverse: !scan.reverse,
        lean: scan.lean,
    };
    let zero = |b: &mut GraphBuilder, argument: usize| b.constant_like(0.0, cx.inputs[argument - 1]);
    let mut operands: Vec<ValueId> = Vec::new();
    for carry in &wanted.carries {
        let gradient = cx.gradients[carry - 1].unwrap_or_else(|| zero(cx.builder, *carry));
        operands.push(gradient);
    }
    for capture in &wanted.captures {
        operands.push(zero(cx.builder, *capture));
    }
    operands.extend(history);
    operands.extend(scan.sequence_arguments().map(|a| cx.inputs[a - 1]));
    operands.extend(wanted.yields.iter().filter_map(|o| cx.gradients[*o]));
    operands.extend(scan.capture_arguments().map(|a| cx.inputs[a - 1]));
    let results = cx.builder.add(op, &operands).unwrap_or_else(|e| panic!("the gradient of a loop: {e}"));
    let mut gradients = vec![None; cx.inputs.len()];
    let arguments = wanted.carries.iter().chain(&wanted.captures).chain(&wanted.sequences);
    for (argument, result) in arguments.zip(results) {
        gradients[argument - 1] = cx.wanted[argument - 1].then_some(result);
    }
    gradients
}

/// What is differentiated: arguments of the body by which a gradient is formed, and outputs of the node, yields, that have one.
struct Wanted {
    carries: Vec<usize>,
    sequences: Vec<usize>,
    captures: Vec<usize>,
    yields: Vec<usize>,
}

/// For each argument of the body whether a float operand that a gradient is wanted of, or a carry that depends on one, stands there.
fn active_arguments(scan: &Scan, wanted: &[bool]) -> Vec<bool> {
    let body = &scan.body;
    let is_float = |argument: usize| body.arguments[argument].ty.dtype.is_float();
    let mut active: Vec<bool> = (0..body.arguments.len()).map(|a| a > 0 && wanted[a - 1] && is_float(a)).collect();
    loop {
        let mut reached = vec![false; body.graph.len()];
        for (id, node) in body.graph.nodes() {
            reached[id.0 as usize] = match &node.op {
                Op::Argument(argument) => active[argument.index as usize],
                _ => {
                    node.outputs.iter().any(|ty| ty.dtype.is_float())
                        && node.inputs.iter().any(|v| reached[v.node.0 as usize])
                }
            };
        }
        let depends = |a: &usize| !active[*a] && is_float(*a) && reached[body.results[a - 1].value.node.0 as usize];
        let Some(more) = scan.carry_arguments().find(depends) else { return active };
        active[more] = true;
    }
}

/// The carries before each round, stacked: those that the body reads, in order.
///
/// A loop that does not yield them is run once more, with those yields.
fn carry_history(scan: &Scan, cx: &mut VjpContext<'_>) -> Vec<ValueId> {
    let full = scan.with_history();
    let outputs = match full == *scan {
        true => cx.outputs.to_vec(),
        false => cx.builder.add(full.clone(), cx.inputs).unwrap_or_else(|e| panic!("a loop with more yields: {e}")),
    };
    (0..scan.carries as usize).filter_map(|carry| full.history(carry)).map(|output| outputs[output]).collect()
}

/// Writes the body of the gradient.
struct Writer {
    builder: GraphBuilder,
    arguments: Vec<Argument>,
}

impl Writer {
    fn argument(&mut self, name: String, role: Role, ty: &TensorType) -> ValueId {
        self.arguments.push(Argument { name, role, ty: ty.clone() });
        self.builder.argument(self.arguments.len() as u32 - 1, ty.clone())
    }
}

fn body(scan: &Scan, wanted: &Wanted) -> Function {
    let forward = &scan.body;
    let mut w = Writer { builder: GraphBuilder::new(), arguments: Vec::new() };
    let type_of = |argument: usize| &forward.arguments[argument].ty;
    let name_of = |argument: usize| &forward.arguments[argument].name;
    let mut values: Vec<Option<ValueId>> = vec![None; forward.arguments.len()];
    values[0] = Some(w.argument(name_of(0).clone(), Role::Step, type_of(0)));
    let gradient_of = |w: &mut Writer, a: &usize| w.argument(format!("d_{}", name_of(*a)), Role::State, type_of(*a));
    let carried: Vec<ValueId> = wanted.carries.iter().map(|a| gradient_of(&mut w, a)).collect();
    let sums: Vec<ValueId> = wanted.captures.iter().map(|a| gradient_of(&mut w, a)).collect();
    for a in scan.carry_arguments().filter(|a| scan.argument_value(*a).is_some()) {
        values[a] = Some(w.argument(name_of(a).clone(), Role::Input, type_of(a)));
    }
    for a in scan.sequence_arguments() {
        values[a] = Some(w.argument(name_of(a).clone(), Role::Input, type_of(a)));
    }
    let mut pairs: Vec<(ValueId, ValueId)> = Vec::new();
    for output in &wanted.yields {
        let result = &forward.results[*output];
        let gradient = w.argument(format!("d_{}", result.name), Role::Input, forward.graph.type_of(result.value));
        pairs.push((result.value, gradient));
    }
    for a in scan.capture_arguments() {
        values[a] = Some(w.argument(name_of(a).clone(), Role::Input, type_of(a)));
    }
    pairs.extend(wanted.carries.iter().zip(&carried).map(|(a, gradient)| (forward.results[a - 1].value, *gradient)));
    // An active carry that the body does not read: its gradient is 0, by a value that nothing depends on.
    for a in &wanted.carries {
        values[*a].get_or_insert_with(|| w.builder.constant(0.0, type_of(*a).dtype, &type_of(*a).shape));
    }

    let mut rewriter = Rewriter::new(forward.graph.len());
    rewriter.builder = w.builder;
    for (id, node) in forward.graph.nodes() {
        match &node.op {
            Op::Argument(argument) => {
                let value = values[argument.index as usize].expect("every argument that is read has a place");
                rewriter.set(id, vec![value]);
            }
            _ => rewriter.copy(id, node),
        }
    }
    let pairs: Vec<(ValueId, ValueId)> = pairs.into_iter().map(|(v, gradient)| (rewriter.value(v), gradient)).collect();
    let mut builder = rewriter.builder;
    let scalar = inner_product(&mut builder, &pairs);
    let by = wanted.carries.iter().chain(&wanted.captures).chain(&wanted.sequences);
    let by: Vec<ValueId> = by.filter_map(|a| values[*a]).collect();
    let gradients = builder.grad(scalar, &by).unwrap_or_else(|e| panic!("the gradient of a round: {e}"));
    let (carry_gradients, rest) = gradients.split_at(carried.len());
    let (sum_gradients, yielded) = rest.split_at(sums.len());

    let mut next: Vec<ValueId> = carry_gradients.to_vec();
    for (before, gradient) in sums.iter().zip(sum_gradients) {
        next.push(builder.apply(ScalarFunction::Add, &[*before, *gradient]));
    }
    let mut results: Vec<FunctionResult> = Vec::new();
    for (index, value) in next.into_iter().enumerate() {
        let name = w.arguments[1 + index].name.clone();
        results.push(FunctionResult { name, role: ResultRole::Update(1 + index as u32), value });
    }
    for (argument, value) in wanted.sequences.iter().zip(yielded) {
        let name = format!("d_{}", name_of(*argument));
        results.push(FunctionResult { name, role: ResultRole::Output, value: *value });
    }
    for (index, value) in carried.iter().chain(&sums).enumerate() {
        let name = format!("{}_before", w.arguments[1 + index].name);
        results.push(FunctionResult { name, role: ResultRole::Output, value: *value });
    }
    let name = format!("{}_gradient", forward.name);
    Function { name, arguments: w.arguments, graph: builder.finish(), results }
}

/// `Σ sum(value · gradient)`, in the widest dtype that occurs.
fn inner_product(builder: &mut GraphBuilder, pairs: &[(ValueId, ValueId)]) -> ValueId {
    let widest = pairs.iter().map(|(v, _)| builder.dtype_of(*v)).max_by_key(|d| d.bytes()).unwrap_or(DType::F32);
    let mut total: Option<ValueId> = None;
    for (value, gradient) in pairs {
        let product = builder.apply(ScalarFunction::Mul, &[*value, *gradient]);
        let axes: Vec<usize> = (0..builder.type_of(product).rank()).collect();
        let fold = builder.reduce(Monoid::Sum, product, &axes, false);
        let sum = fold.unwrap_or_else(|e| panic!("the sum of a float tensor: {e}"));
        let sum = builder.cast(sum, widest);
        total = Some(total.map_or(sum, |before| builder.apply(ScalarFunction::Add, &[before, sum])));
    }
    total.unwrap_or_else(|| builder.constant(0.0, widest, &[]))
}
