//! Cuts a long loop that is differentiated into a loop of loops, so that not all of its carries are kept.
//!
//! The gradient of a loop needs the carries before every round. Of `n` rounds in `m` segments of `s`, the loop over the segments keeps the `m` carries before
//! each, and its gradient runs a segment again to find the `s` within: `m + s` instead of `n`, about twice the square root. What a round computes is the same bits. Gradients by what all
//! rounds share are added up in another order where [`gather_sums`](super::gather_sums) makes one product of all rounds.
//! Griewank and Walther 2000 cut further, to a logarithm.

use std::sync::Arc;

use crate::ir::builder::GraphBuilder;
use crate::ir::dim::Dim;
use crate::ir::graph::{Argument, Function, FunctionResult, Node, NodeId, ResultRole, Role, ValueId};
use crate::ir::ops::Op;
use crate::ir::ops::concat::Concat;
use crate::ir::ops::scan::Scan;
use crate::ir::ops::slice::Slice;
use crate::ir::rewrite::Rewriter;
use crate::ir::scalar::ScalarFunction;
use crate::ir::types::{DType, TensorType};

/// Bytes of carries that the gradients of one function keep where nobody says another limit: 1 GiB.
pub const DEFAULT_LIMIT: u64 = 1 << 30;

/// Loops of fewer rounds are left whole.
const SHORTEST: usize = 8;

/// Cuts loops, those that keep most first, until the carries that are kept take no more than `limit` bytes or every loop is cut.
pub fn segment(function: &Function, limit: u64) -> Function {
    let mut loops = differentiated(function);
    let mut kept: u64 = loops.iter().map(|l| l.whole()).fold(0, u64::saturating_add);
    loops.sort_by_key(|l| std::cmp::Reverse(l.whole()));
    let mut cuts: Vec<(NodeId, Cut)> = Vec::new();
    for long in loops {
        if kept <= limit || long.length < SHORTEST {
            break;
        }
        let cut = Cut::of(long.length);
        kept = kept - long.whole() + long.carry_bytes.saturating_mul((cut.segments + cut.rounds) as u64);
        cuts.push((long.node, cut));
    }
    if cuts.is_empty() {
        return function.clone();
    }
    let mut rewriter = Rewriter::new(function.graph.len());
    for (id, node) in function.graph.nodes() {
        match (&node.op, cuts.iter().find(|(cut, _)| *cut == id)) {
            (Op::Scan(scan), Some((_, cut))) => {
                let inputs = rewriter.inputs(node);
                rewriter.builder.set_scope(Arc::clone(&node.scope));
                let values = in_segments(&mut rewriter.builder, scan, node, &inputs, *cut);
                rewriter.set(id, values);
            }
            _ => rewriter.copy(id, node),
        }
    }
    rewriter.finish(function)
}

/// A loop through which a gradient flows.
struct Long {
    node: NodeId,
    length: usize,
    /// Bytes of the carries that its body reads.
    carry_bytes: u64,
}

impl Long {
    /// Bytes of the carries before all rounds.
    fn whole(&self) -> u64 {
        self.carry_bytes.saturating_mul(self.length as u64)
    }
}

/// The loops of the function itself that a scalar depends on which is differentiated once.
///
/// Through others a gradient of a gradient flows: it adds up what several loops over one segment give, in an order that no single loop has.
fn differentiated(function: &Function) -> Vec<Long> {
    let graph = &function.graph;
    let mut orders = vec![0u32; graph.len()];
    let mut found = Vec::new();
    for (id, node) in graph.nodes().rev() {
        let order = orders[id.0 as usize];
        let mut raise = |v: &ValueId, to: u32| orders[v.node.0 as usize] = to.max(orders[v.node.0 as usize]);
        node.inputs.iter().for_each(|v| raise(v, order));
        if let (Op::Grad(_), [y, ..]) = (&node.op, node.inputs.as_slice()) {
            raise(y, order.saturating_add(1));
        }
        let (Op::Scan(scan), 1) = (&node.op, order) else { continue };
        let read = scan.carry_arguments().filter(|a| scan.argument_value(*a).is_some());
        let bytes = read.map(|a| bytes(&scan.body.arguments[a].ty)).fold(0, u64::saturating_add);
        let length = scan.length.constant().and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
        found.push(Long { node: id, length, carry_bytes: bytes });
    }
    found
}

fn bytes(ty: &TensorType) -> u64 {
    ty.elements().map_or(u64::MAX, |n| (n as u64).saturating_mul(ty.dtype.bytes() as u64))
}

/// `segments` of `rounds` rounds each, and `rest` rounds at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cut {
    segments: usize,
    rounds: usize,
    rest: usize,
}

impl Cut {
    /// About the square root of `length` in a segment: a divisor if one is within a factor of 2, so that nothing is left over.
    fn of(length: usize) -> Cut {
        let root = length.isqrt().max(1);
        let divisors = (root.div_ceil(2)..=2 * root).filter(|rounds| length.is_multiple_of(*rounds));
        let rounds = divisors.min_by_key(|rounds| rounds + length / rounds).unwrap_or(root);
        Cut { segments: length / rounds, rounds, rest: length % rounds }
    }
}

/// The outputs of a loop, by segments.
fn in_segments(b: &mut GraphBuilder, scan: &Scan, node: &Node, inputs: &[ValueId], cut: Cut) -> Vec<ValueId> {
    let (carries, sequences) = (scan.carries as usize, scan.sequence_arguments());
    let whole = cut.segments * cut.rounds;
    let part = |b: &mut GraphBuilder, start: usize, size: usize| -> Vec<ValueId> {
        let tensors = &inputs[sequences.start - 1..sequences.end - 1];
        let along = |b: &mut GraphBuilder, x: ValueId| {
            let shape = b.shape_of(x);
            let is_all = shape[0].is(size as i64);
            let slice = Slice::along(&shape, 0, Dim::from(start), Dim::from(size));
            if is_all { x } else { b.emit(slice, &[x]) }
        };
        tensors.iter().map(|x| along(b, *x)).collect()
    };
    let captures = &inputs[sequences.end - 1..];
    let mut state: Vec<ValueId> = inputs[..carries].to_vec();
    let mut stacks: Vec<Vec<ValueId>> = vec![Vec::new(); node.outputs.len() - carries];
    let mut pieces = [(0, whole), (whole, cut.rest)];
    if scan.reverse {
        pieces.reverse();
    }
    for (start, size) in pieces.into_iter().filter(|(_, size)| *size > 0) {
        let tensors = part(b, start, size);
        let outputs = if start == 0 {
            segments(b, scan, &state, &tensors, captures, cut)
        } else {
            let base = b.constant(start as f64, DType::I32, &[]);
            rounds(b, scan, &state, &tensors, captures, base, size)
        };
        state = outputs[..carries].to_vec();
        stacks.iter_mut().zip(&outputs[carries..]).for_each(|(stack, piece)| stack.push(*piece));
    }
    let stacked = stacks.into_iter().map(|mut pieces| {
        if scan.reverse {
            pieces.reverse();
        }
        if pieces.len() == 1 { pieces[0] } else { b.emit(Concat { axis: 0 }, &pieces) }
    });
    let stacked: Vec<ValueId> = stacked.collect();
    state.into_iter().chain(stacked).collect()
}

/// The loop over some rounds in a row, of which the first has the number `base`.
fn rounds(
    b: &mut GraphBuilder,
    scan: &Scan,
    state: &[ValueId],
    tensors: &[ValueId],
    captures: &[ValueId],
    base: ValueId,
    count: usize,
) -> Vec<ValueId> {
    let mut operands: Vec<ValueId> = [state, tensors, captures].concat();
    let reads_number = scan.argument_value(0).is_some();
    let body = if reads_number { Arc::new(counted_from(&scan.body)) } else { Arc::clone(&scan.body) };
    operands.extend(reads_number.then_some(base));
    let op = Scan { body, length: Dim::from(count), ..scan.clone() };
    b.add(op.with_history(), &operands).unwrap_or_else(|e| panic!("some rounds of a loop: {e}"))
}

/// The body with the number of its first round as one more capture.
fn counted_from(body: &Function) -> Function {
    let mut rewriter = Rewriter::new(body.graph.len());
    let base = body.arguments.len() as u32;
    for (id, node) in body.graph.nodes() {
        rewriter.copy(id, node);
        if matches!(&node.op, Op::Argument(argument) if argument.index == 0) {
            let round = rewriter.value(ValueId { node: id, output: 0 });
            let base = rewriter.builder.argument(base, TensorType::scalar(DType::I32));
            let number = rewriter.builder.apply(ScalarFunction::Add, &[base, round]);
            rewriter.set(id, vec![number]);
        }
    }
    let mut out = rewriter.finish(body);
    out.arguments.push(Argument { name: "base".into(), role: Role::Input, ty: TensorType::scalar(DType::I32) });
    out
}

/// The loop over whole segments; its outputs are those of the loop over their rounds.
fn segments(
    b: &mut GraphBuilder,
    scan: &Scan,
    state: &[ValueId],
    tensors: &[ValueId],
    captures: &[ValueId],
    cut: Cut,
) -> Vec<ValueId> {
    let mut inner = GraphBuilder::new();
    let mut arguments: Vec<Argument> = Vec::new();
    let mut argument = |inner: &mut GraphBuilder, name: &str, role: Role, ty: TensorType| {
        arguments.push(Argument { name: name.to_owned(), role, ty: ty.clone() });
        inner.argument(arguments.len() as u32 - 1, ty)
    };
    let name = |argument: usize| scan.body.arguments[argument].name.as_str();
    let number = argument(&mut inner, "segment", Role::Step, TensorType::scalar(DType::I32));
    let chunk = |ty: &TensorType, lead: &[usize]| {
        let lead = lead.iter().map(|n| Dim::from(*n));
        TensorType { dtype: ty.dtype, shape: lead.chain(ty.shape[1..].iter().cloned()).collect() }
    };
    let mut places: [Vec<ValueId>; 3] = Default::default();
    for (value, a) in state.iter().zip(scan.carry_arguments()) {
        places[0].push(argument(&mut inner, name(a), Role::State, b.type_of(*value).clone()));
    }
    for (value, a) in tensors.iter().zip(scan.sequence_arguments()) {
        places[1].push(argument(&mut inner, name(a), Role::Input, chunk(b.type_of(*value), &[cut.rounds])));
    }
    for (value, a) in captures.iter().zip(scan.capture_arguments()) {
        places[2].push(argument(&mut inner, name(a), Role::Input, b.type_of(*value).clone()));
    }
    let length = inner.constant(cut.rounds as f64, DType::I32, &[]);
    let base = inner.apply(ScalarFunction::Mul, &[number, length]);
    let outputs = rounds(&mut inner, scan, &places[0], &places[1], &places[2], base, cut.rounds);
    let results = scan.body.results.iter().zip(&outputs).map(|(result, value)| FunctionResult {
        name: result.name.clone(),
        role: if matches!(result.role, ResultRole::Update(_)) { result.role } else { ResultRole::Output },
        value: *value,
    });
    let body = Function {
        name: format!("{}_segment", scan.body.name),
        results: results.collect(),
        arguments,
        graph: inner.finish(),
    };
    let op = Scan { body: Arc::new(body), length: Dim::from(cut.segments), ..scan.clone() };
    let shaped = |b: &mut GraphBuilder, x: ValueId, ty: TensorType| {
        b.reshape(x, &ty.shape).unwrap_or_else(|e| panic!("segments of a sequence: {e}"))
    };
    let mut operands = state.to_vec();
    for x in tensors {
        let ty = chunk(b.type_of(*x), &[cut.segments, cut.rounds]);
        operands.push(shaped(b, *x, ty));
    }
    operands.extend(captures);
    let mut outputs = b.add(op.with_history(), &operands).unwrap_or_else(|e| panic!("a loop over segments: {e}"));
    outputs.truncate(scan.body.results.len());
    for stack in &mut outputs[scan.carries as usize..] {
        let mut ty = b.type_of(*stack).clone();
        ty.shape.splice(0..2, [Dim::from(cut.segments * cut.rounds)]);
        *stack = shaped(b, *stack, ty);
    }
    outputs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_cover_every_round() {
        for length in SHORTEST..3000 {
            let cut = Cut::of(length);
            assert_eq!(cut.segments * cut.rounds + cut.rest, length);
            assert!(cut.rest < cut.rounds && cut.segments + cut.rounds <= 3 * length.isqrt() + 3, "{length}: {cut:?}");
        }
        assert_eq!(Cut::of(10_000), Cut { segments: 100, rounds: 100, rest: 0 });
        assert_eq!(Cut::of(9973), Cut { segments: 100, rounds: 99, rest: 73 });
    }
}
