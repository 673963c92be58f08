//! What a loop's gradient would compute again at a price is kept from the loop itself.
//!
//! The body of a gradient has a round of the loop in it, computed from the carries before that round. Where it has a product, a convolution, an exponential or the like of the same
//! operands as the loop's own body, the loop yields the result (after what is added to it and the like, if nothing else reads it) and the gradient takes it as a sequence, as long as the memory
//! limit allows it, and unless the loop is there to hold little. Values are the same bits either way.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::{GraphPass, Limits, PassError, bodies, dce};
use crate::ir::graph::{Argument, Function, FunctionResult, NodeId, ResultRole, Role, ValueId};
use crate::ir::ops::Op;
use crate::ir::ops::scan::Scan;
use crate::ir::rewrite::Rewriter;
use crate::ir::scalar::ScalarFunction;

/// The pass.
pub const PASS: GraphPass =
    GraphPass { name: "keep", doc: "keeps from a loop what its gradient would compute again at a price", run };

fn run(function: &Function, limits: &Limits) -> Result<Function, PassError> {
    if !bodies::any(function, |_| true) {
        return Ok(function.clone());
    }
    let function = &dce::prune(function);
    let plan = Plan::new(function, limits.memory);
    if plan.kept.is_empty() {
        return Ok(function.clone());
    }
    let mut rewriter = Rewriter::new(function.graph.len());
    for (id, node) in function.graph.nodes() {
        let Op::Scan(scan) = &node.op else {
            rewriter.copy(id, node);
            continue;
        };
        let mut inputs = rewriter.inputs(node);
        let mut scan = scan.clone();
        if let Some(yields) = plan.yields.get(&id) {
            scan.body = Arc::new(with_yields(&scan.body, yields));
        }
        if let Some(kept) = plan.kept.get(&id) {
            let at = scan.sequence_arguments().end - 1;
            inputs.splice(at..at, kept.iter().map(|k| rewriter.value_of(k.from, k.output)));
            scan = with_sequences(&scan, kept);
        }
        rewriter.builder.set_scope(Arc::clone(&node.scope));
        let values = rewriter.builder.add(scan, &inputs).unwrap_or_else(|e| panic!("a loop that keeps more: {e}"));
        rewriter.set(id, values);
    }
    Ok(dce::prune(&rewriter.finish(function)))
}

/// A value of a loop's body that another loop, its gradient, reads instead of computing it.
struct Kept {
    /// In the body of the gradient.
    value: ValueId,
    /// The loop that yields it, and the number among its outputs.
    from: NodeId,
    output: u32,
}

/// What loops yield in addition, and what others take.
#[derive(Default)]
struct Plan {
    yields: FxHashMap<NodeId, Vec<ValueId>>,
    kept: FxHashMap<NodeId, Vec<Kept>>,
}

impl Plan {
    fn new(function: &Function, memory: u64) -> Plan {
        let loops: Vec<(NodeId, &Scan)> = function
            .graph
            .nodes()
            .filter_map(|(id, node)| if let Op::Scan(scan) = &node.op { Some((id, scan)) } else { None })
            .collect();
        let (mut plan, mut left) = (Plan::default(), memory);
        for (at, (id, gradient)) in loops.iter().enumerate() {
            for (from, scan) in &loops[..at] {
                let reads = function.graph.node(*id).inputs.iter().any(|v| v.node == *from);
                if reads && scan.length == gradient.length && !scan.lean {
                    plan.pair(function, (*from, scan), (*id, gradient), &mut left);
                }
            }
        }
        plan
    }

    /// Finds what `gradient` computes again of `scan`.
    fn pair(
        &mut self,
        function: &Function,
        (from, scan): (NodeId, &Scan),
        (id, gradient): (NodeId, &Scan),
        left: &mut u64,
    ) {
        let same = same_values(function, (from, scan), (id, gradient));
        let graph = &gradient.body.graph;
        let mut readers: FxHashMap<ValueId, Vec<NodeId>> = FxHashMap::default();
        for (reader, node) in graph.nodes() {
            node.inputs.iter().for_each(|v| readers.entry(*v).or_default().push(reader));
        }
        let is_result = |v: ValueId| gradient.body.results.iter().any(|r| r.value == v);
        for (node, _) in graph.nodes().filter(|(_, n)| is_dear(&n.op)) {
            let mut value = ValueId { node, output: 0 };
            let read = readers.get(&value).is_some_and(|r| !r.is_empty()) || is_result(value);
            if !same.contains_key(&value) || !read {
                continue;
            }
            while let (Some([reader]), false) = (readers.get(&value).map(Vec::as_slice), is_result(value)) {
                let next = ValueId { node: *reader, output: 0 };
                let pointwise = matches!(graph.node(*reader).op, Op::Map(_));
                if !pointwise || !same.contains_key(&next) || graph.type_of(next) != graph.type_of(value) {
                    break;
                }
                value = next;
            }
            let ours = same[&value];
            let ty = graph.type_of(value);
            let rounds = scan.length.constant().and_then(|n| u64::try_from(n).ok());
            let bytes = ty
                .elements()
                .zip(rounds)
                .and_then(|(n, rounds)| (n as u64).checked_mul(ty.dtype.bytes() as u64)?.checked_mul(rounds));
            let Some(rest) = bytes.and_then(|bytes| left.checked_sub(bytes)) else { continue };
            *left = rest;
            let output = self.output(from, scan, ours);
            let kept = self.kept.entry(id).or_default();
            if kept.iter().all(|k| k.value != value) {
                kept.push(Kept { value, from, output });
            }
        }
    }

    /// The number of the output that is a value of the loop's body, which may be new.
    fn output(&mut self, from: NodeId, scan: &Scan, value: ValueId) -> u32 {
        let is_yield = |r: &FunctionResult| r.role == ResultRole::Output && r.value == value;
        if let Some(output) = scan.body.results.iter().position(is_yield) {
            return output as u32;
        }
        let yields = self.yields.entry(from).or_default();
        let at = yields.iter().position(|v| *v == value).unwrap_or_else(|| {
            yields.push(value);
            yields.len() - 1
        });
        (scan.body.results.len() + at) as u32
    }
}

/// Whether an op takes long for what it reads: a sum of products, or a function that is no machine instruction.
pub(super) fn is_dear(op: &Op) -> bool {
    use ScalarFunction as F;
    match op {
        Op::Contract(_) | Op::Convolve(_) | Op::ConvolveKernel(_) => true,
        Op::Map(map) => matches!(map.function, F::Exp | F::Expm1 | F::Tanh | F::Sigmoid | F::Erf | F::Sin | F::Cos),
        _ => false,
    }
}

/// The values in the body of `gradient` that are values in the body of `scan` in the round of the same number.
fn same_values(
    function: &Function,
    (from, scan): (NodeId, &Scan),
    (id, gradient): (NodeId, &Scan),
) -> FxHashMap<ValueId, ValueId> {
    let operands = &function.graph.node(id).inputs;
    let ours = &function.graph.node(from).inputs;
    let argument = |range: std::ops::Range<usize>, operand: ValueId| {
        range.clone().find(|a| ours[a - 1] == operand).and_then(|a| scan.argument_value(a))
    };
    let mut same = FxHashMap::default();
    let mut known: FxHashMap<(&Op, Vec<ValueId>), NodeId> = FxHashMap::default();
    for (id, node) in scan.body.graph.nodes() {
        known.entry((&node.op, node.inputs.clone())).or_insert(id);
    }
    for (id, node) in gradient.body.graph.nodes() {
        if let Op::Argument(a) = &node.op {
            let index = a.index as usize;
            let value = match index {
                0 => scan.argument_value(0),
                _ if gradient.capture_arguments().contains(&index) => {
                    argument(scan.capture_arguments(), operands[index - 1])
                }
                _ if gradient.sequence_arguments().contains(&index) => {
                    let operand = operands[index - 1];
                    let of_yield = (operand.node == from && operand.output >= scan.carries)
                        .then(|| scan.body.results[operand.output as usize].value);
                    of_yield.or_else(|| argument(scan.sequence_arguments(), operand))
                }
                _ => None,
            };
            same.extend(value.map(|v| (ValueId { node: id, output: 0 }, v)));
            continue;
        }
        let inputs: Option<Vec<ValueId>> = node.inputs.iter().map(|v| same.get(v).copied()).collect();
        if let Some(found) = inputs.and_then(|inputs| known.get(&(&node.op, inputs))) {
            let outputs = 0..node.outputs.len() as u32;
            same.extend(outputs.map(|output| (ValueId { node: id, output }, ValueId { node: *found, output })));
        }
    }
    same
}

fn with_yields(body: &Function, yields: &[ValueId]) -> Function {
    let mut body = body.clone();
    for (number, value) in yields.iter().enumerate() {
        let name = format!("kept_{number}");
        body.results.push(FunctionResult { name, role: ResultRole::Output, value: *value });
    }
    body
}

/// The loop with the kept values as further sequences.
fn with_sequences(scan: &Scan, kept: &[Kept]) -> Scan {
    let body = &scan.body;
    let first = scan.sequence_arguments().end;
    let mut rewriter = Rewriter::new(body.graph.len());
    let mut arguments: Vec<Argument> = body.arguments.clone();
    let more = kept.iter().enumerate().map(|(number, k)| Argument {
        name: format!("kept_{number}"),
        role: Role::Input,
        ty: body.graph.type_of(k.value).clone(),
    });
    arguments.splice(first..first, more);
    for (id, node) in body.graph.nodes() {
        let argument = |rewriter: &mut Rewriter, index: usize| {
            let ty = arguments[index].ty.clone();
            let value = rewriter.builder.argument(index as u32, ty);
            rewriter.set(id, vec![value]);
        };
        if let Some(number) = kept.iter().position(|k| k.value.node == id) {
            argument(&mut rewriter, first + number);
            continue;
        }
        match &node.op {
            Op::Argument(a) if a.index as usize >= first => argument(&mut rewriter, a.index as usize + kept.len()),
            _ => rewriter.copy(id, node),
        }
    }
    let body = Arc::new(Function { arguments, ..rewriter.finish(body) });
    Scan { body, sequences: scan.sequences + kept.len() as u32, ..scan.clone() }
}
