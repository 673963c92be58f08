//! Sums over the rounds of a loop begin at what they are added to.
//!
//! `a + Σ f[r]`, where a loop forms the sum in a carry that begins at 0 and is read for nothing else, becomes a loop whose carry begins at `a`. So a loop in a loop,
//! such as the gradient of a long loop cut by [`segment`](super::segment), adds up in the order in which one loop does, and without another addition.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::{GraphPass, Limits, PassError, dce};
use crate::ir::graph::{Function, Graph, NodeId, ValueId};
use crate::ir::ops::Op;
use crate::ir::ops::map::Map;
use crate::ir::ops::scan::Scan;
use crate::ir::rewrite::Rewriter;
use crate::ir::scalar::ScalarFunction;

/// The pass.
pub const PASS: GraphPass =
    GraphPass { name: "accumulate", doc: "lets sums over rounds begin at what they are added to", run };

fn run(function: &Function, _: &Limits) -> Result<Function, PassError> {
    if !super::bodies::any(function, |_| true) {
        return Ok(function.clone());
    }
    // A carry that is yielded for nobody counts as read.
    let function = &dce::prune(function);
    let sums = sums(function);
    let mut rewriter = Rewriter::new(function.graph.len());
    for (id, node) in function.graph.nodes() {
        if let Some(sum) = sums.additions.get(&id) {
            let value = rewriter.value(*sum);
            rewriter.set(id, vec![value]);
            continue;
        }
        let mut inputs = rewriter.inputs(node);
        for (operand, input) in inputs.iter_mut().enumerate() {
            if let Some(start) = sums.starts.get(&(id, operand)) {
                *input = rewriter.value(*start);
            }
        }
        rewriter.builder.set_scope(Arc::clone(&node.scope));
        let values = rewriter.builder.add(node.op.clone(), &inputs);
        rewriter.set(id, values.unwrap_or_else(|e| panic!("a sum that begins elsewhere: {e}")));
    }
    Ok(rewriter.finish(function))
}

/// What is replaced.
#[derive(Default)]
struct Sums {
    /// Additions, and the outputs of loops that take their place.
    additions: FxHashMap<NodeId, ValueId>,
    /// The values that operands of loops are replaced by.
    starts: FxHashMap<(NodeId, usize), ValueId>,
}

fn sums(function: &Function) -> Sums {
    let mut uses: FxHashMap<ValueId, usize> = FxHashMap::default();
    let inputs = function.graph.nodes().flat_map(|(_, node)| &node.inputs);
    inputs.chain(function.results.iter().map(|r| &r.value)).for_each(|v| *uses.entry(*v).or_default() += 1);
    let mut sums = Sums::default();
    for (id, node) in function.graph.nodes() {
        let (Op::Map(Map { function: ScalarFunction::Add }), [a, b]) = (&node.op, node.inputs.as_slice()) else {
            continue;
        };
        for (start, sum) in [(a, b), (b, a)] {
            let made = function.graph.node(sum.node);
            let Op::Scan(scan) = &made.op else { continue };
            let carry = sum.output as usize;
            if start.node < sum.node
                && carry < scan.carries as usize
                && uses[sum] == 1
                && is_zero(&function.graph, made.inputs[carry])
                && is_sum(scan, carry)
            {
                sums.starts.insert((sum.node, carry), *start);
                sums.additions.insert(id, *sum);
                break;
            }
        }
    }
    sums
}

/// Whether a value is 0 everywhere.
pub(super) fn is_zero(graph: &Graph, value: ValueId) -> bool {
    matches!(&graph.node(value.node).op, Op::Constant(constant) if constant.known() == Some(0.0))
}

/// Whether a carry is read by nothing but an addition whose result is its next value.
pub(super) fn is_sum(scan: &Scan, carry: usize) -> bool {
    let (Some(before), graph) = (scan.argument_value(1 + carry), &scan.body.graph) else { return false };
    let after = scan.body.results[carry].value;
    let adds = matches!(graph.node(after.node).op, Op::Map(Map { function: ScalarFunction::Add }));
    let reads = graph.nodes().flat_map(|(_, node)| &node.inputs).filter(|v| **v == before).count();
    let is_result = scan.body.results.iter().any(|r| r.value == before);
    let result_once = scan.body.results.iter().filter(|r| r.value == after).count() == 1;
    let read_after = graph.nodes().any(|(_, node)| node.inputs.contains(&after));
    adds && graph.node(after.node).inputs.contains(&before) && reads == 1 && !is_result && result_once && !read_after
}
