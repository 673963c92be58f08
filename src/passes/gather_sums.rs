//! Products that a loop adds up over its rounds become one product over all rounds.
//!
//! `c[r+1] = c[r] + a[r] @ b[r]`, where nothing else reads the carry, is the contraction of the stacked `a` and `b` over the rounds as well. The gradient of a
//! loop by a weight matrix is such a sum. One long product runs near the machine's peak, where many short ones read and write the sum in each round;
//! and what follows it, such as the optimizer's update, is computed in its epilogue. Operands that are no sequences are yielded, within the memory limit, but by no loop that is there to hold little.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::accumulate::{is_sum, is_zero};
use super::{GraphPass, Limits, PassError, bodies, dce};
use crate::ir::graph::{Function, FunctionResult, Node, NodeId, ResultRole, ValueId};
use crate::ir::ops::Op;
use crate::ir::ops::contract::Contract;
use crate::ir::ops::scan::Scan;
use crate::ir::rewrite::Rewriter;
use crate::ir::scalar::ScalarFunction;

/// The pass.
pub const PASS: GraphPass =
    GraphPass { name: "gather_sums", doc: "makes one product of the products that a loop adds up", run };

fn run(function: &Function, limits: &Limits) -> Result<Function, PassError> {
    if !bodies::any(function, |_| true) {
        return Ok(function.clone());
    }
    let function = &dce::prune(function);
    let mut rewriter = Rewriter::new(function.graph.len());
    let mut left = limits.memory;
    for (id, node) in function.graph.nodes() {
        let Op::Scan(scan) = &node.op else {
            rewriter.copy(id, node);
            continue;
        };
        let mut nothing = 0;
        let sums = sums(scan, if scan.lean { &mut nothing } else { &mut left });
        rewrite(&mut rewriter, id, node, scan, &sums);
    }
    Ok(dce::prune(&rewriter.finish(function)))
}

/// Where the stacked form of an operand is.
#[derive(Clone, Copy)]
enum Stacked {
    /// The node's operand with this number.
    Operand(usize),
    /// The node's output with this number.
    Output(usize),
}

/// A carry that is a sum of products.
struct Sum {
    carry: usize,
    product: Contract,
    operands: [Stacked; 2],
}

/// The sums of a loop, and the body that yields what they need.
struct Sums {
    body: Function,
    sums: Vec<Sum>,
}

fn sums(scan: &Scan, left: &mut u64) -> Sums {
    let mut found = Sums { body: Function::clone(&scan.body), sums: Vec::new() };
    for carry in (0..scan.carries as usize).filter(|c| is_sum(scan, *c)) {
        let graph = &scan.body.graph;
        let addition = graph.node(scan.body.results[carry].value.node);
        let before = scan.argument_value(1 + carry);
        let Some(term) = addition.inputs.iter().find(|v| Some(**v) != before) else { continue };
        let made = graph.node(term.node);
        let Op::Contract(product) = &made.op else { continue };
        let before = (found.body.results.len(), *left);
        match (
            stacked(scan, made.inputs[0], &mut found.body, left),
            stacked(scan, made.inputs[1], &mut found.body, left),
        ) {
            (Some(a), Some(b)) => found.sums.push(Sum { carry, product: product.clone(), operands: [a, b] }),
            _ => {
                found.body.results.truncate(before.0);
                *left = before.1;
            }
        }
    }
    found
}

/// Where a value of the body is stacked over the rounds; it is yielded if it is nowhere and there is room.
fn stacked(scan: &Scan, value: ValueId, body: &mut Function, left: &mut u64) -> Option<Stacked> {
    if let Op::Argument(argument) = &scan.body.graph.node(value.node).op {
        let index = argument.index as usize;
        if scan.sequence_arguments().contains(&index) {
            return Some(Stacked::Operand(index - 1));
        }
        if !scan.carry_arguments().contains(&index) {
            return None;
        }
    }
    let is_yield = |r: &FunctionResult| r.role == ResultRole::Output && r.value == value;
    if let Some(output) = body.results.iter().position(is_yield) {
        return Some(Stacked::Output(output));
    }
    let ty = scan.body.graph.type_of(value);
    let rounds = u64::try_from(scan.length.constant()?).ok()?;
    let bytes = (ty.elements()? as u64).checked_mul(ty.dtype.bytes() as u64)?.checked_mul(rounds)?;
    *left = left.checked_sub(bytes)?;
    let name = format!("gathered_{}", body.results.len());
    body.results.push(FunctionResult { name, role: ResultRole::Output, value });
    Some(Stacked::Output(body.results.len() - 1))
}

fn rewrite(rewriter: &mut Rewriter, id: NodeId, node: &Node, scan: &Scan, found: &Sums) {
    let op = Scan { body: Arc::new(found.body.clone()), ..scan.clone() };
    let outputs = rewriter.add(node, Op::Scan(op)).unwrap_or_else(|e| panic!("a loop with more yields: {e}"));
    let inputs = rewriter.inputs(node);
    let mut values: FxHashMap<usize, ValueId> = outputs.iter().copied().enumerate().collect();
    for sum in &found.sums {
        let [a, b] = sum.operands.map(|place| match place {
            Stacked::Operand(number) => inputs[number],
            Stacked::Output(number) => outputs[number],
        });
        let labels = [&sum.product.left, &sum.product.right, &sum.product.result];
        let rounds = labels.into_iter().flatten().max().map_or(0, |most| most + 1);
        let over_rounds = |labels: &[u32]| std::iter::once(rounds).chain(labels.iter().copied()).collect();
        let product = Contract {
            left: over_rounds(&sum.product.left),
            right: over_rounds(&sum.product.right),
            result: sum.product.result.clone(),
        };
        let builder = &mut rewriter.builder;
        let product = builder.add_one(product, &[a, b]).unwrap_or_else(|e| panic!("a product over rounds: {e}"));
        let start = inputs[sum.carry];
        let total = match is_zero(builder.graph(), start) {
            true => product,
            false => builder.apply(ScalarFunction::Add, &[start, product]),
        };
        values.insert(sum.carry, total);
    }
    rewriter.set(id, (0..node.outputs.len()).map(|output| values[&output]).collect());
}
