//! Keeps little from the forward half of a training step for its gradient: what is cheap is computed again where it is read.
//!
//! The forward half ends with the last loss. Of what was computed until then, the gradient reads many values that are a few operations apart: a sum before batch
//! normalization, the normalized one, the scaled one, the positive part. [`cut`] chooses those that are kept, the fewest bytes from
//! which all others follow; each reader of another computes it for itself, so that it becomes part of the reader's kernel. Bits stay the same.
//!
//! Sources: Chen, Xu, Zhang, Guestrin, *Training Deep Nets with Sublinear Memory Cost*, 2016; the minimum cut is that of PyTorch's `min_cut_rematerialization_partition`.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::fuse::classify::{Class, classify};
use super::{GraphPass, Limits, PassError, dce};
use crate::ir::graph::{Function, Node, NodeId, ValueId};
use crate::ir::ops::Op;
use crate::ir::rewrite::Rewriter;
use crate::ir::scalar::ScalarFunction;

mod cut;

/// The pass.
pub const PASS: GraphPass =
    GraphPass { name: "recompute", doc: "computes cheap values again for the gradient instead of keeping them", run };

/// No reader computes more nodes again than this.
const LONGEST: usize = 24;

fn run(function: &Function, limits: &Limits) -> Result<Function, PassError> {
    let Some(turn) = function.turn() else { return Ok(function.clone()) };
    let function = &masks_of_results(function, turn);
    if function.graph.nodes().any(|(_, n)| n.outputs.iter().any(|ty| ty.elements().is_none())) {
        return Ok(function.clone());
    }
    let classes = classify(function);
    let again = cut::choose(function, &classes, turn, limits.memory);
    if !again.contains(&true) {
        return Ok(function.clone());
    }
    Ok(dce::prune(&Recomputing { function, classes: &classes, again: &again, turn }.rewrite()))
}

/// `x > c` is `max(x, c) > c`: the gradient of a positive part needs the result alone, which the layer behind it reads as well.
fn masks_of_results(function: &Function, turn: NodeId) -> Function {
    let mut results: FxHashMap<Vec<ValueId>, ValueId> = FxHashMap::default();
    let mut rewriter = Rewriter::new(function.graph.len());
    for (id, node) in function.graph.nodes() {
        if id <= turn && is_map(node, ScalarFunction::Max) {
            results.insert(node.inputs.clone(), ValueId { node: id, output: 0 });
        }
        match results.get(&node.inputs) {
            Some(result) if id > turn && is_map(node, ScalarFunction::Greater) => {
                let inputs = [rewriter.value(*result), rewriter.value(node.inputs[1])];
                rewriter.builder.set_scope(Arc::clone(&node.scope));
                let values = rewriter.builder.add(node.op.clone(), &inputs).expect("both operands are of one type");
                rewriter.set(id, values);
            }
            _ => rewriter.copy(id, node),
        }
    }
    rewriter.finish(function)
}

fn is_map(node: &Node, function: ScalarFunction) -> bool {
    matches!(&node.op, Op::Map(map) if map.function == function)
}

/// Whether a node takes what it reads from memory.
fn reads_buffers(class: &Class) -> bool {
    matches!(class, Class::Contract { .. } | Class::Opaque | Class::Loop)
}

/// The function being rewritten.
struct Recomputing<'a> {
    function: &'a Function,
    classes: &'a [Class],
    /// Which nodes of the forward half are computed again for whoever reads them later.
    again: &'a [bool],
    turn: NodeId,
}

/// Where values that were computed again are, for one reader or for those that read buffers.
type Copies = FxHashMap<ValueId, ValueId>;

impl Recomputing<'_> {
    fn rewrite(&self) -> Function {
        let mut rewriter = Rewriter::new(self.function.graph.len());
        let mut in_memory = Copies::default();
        for (id, node) in self.function.graph.nodes() {
            if id <= self.turn {
                rewriter.copy(id, node);
                continue;
            }
            let mut own = Copies::default();
            let copies = if reads_buffers(&self.classes[id.0 as usize]) { &mut in_memory } else { &mut own };
            let inputs: Vec<ValueId> = node.inputs.iter().map(|v| self.late(&mut rewriter, copies, *v)).collect();
            rewriter.builder.set_scope(Arc::clone(&node.scope));
            let values = rewriter.builder.add(node.op.clone(), &inputs).expect("operands are of the same types");
            rewriter.set(id, values);
        }
        rewriter.finish(self.function)
    }

    /// A value for a reader behind the turn.
    fn late(&self, rewriter: &mut Rewriter, copies: &mut Copies, value: ValueId) -> ValueId {
        if value.node > self.turn || !self.again[value.node.0 as usize] || self.is_long(value) {
            return rewriter.value(value);
        }
        if let Some(copy) = copies.get(&value) {
            return *copy;
        }
        let node = self.function.graph.node(value.node);
        let inputs: Vec<ValueId> = node.inputs.iter().map(|v| self.late(rewriter, copies, *v)).collect();
        rewriter.builder.set_scope(Arc::clone(&node.scope));
        let copy = rewriter.builder.add(node.op.clone(), &inputs).expect("operands are of the same types")[0];
        copies.insert(value, copy);
        copy
    }

    /// Whether more nodes than a reader may compute again are behind a value.
    fn is_long(&self, value: ValueId) -> bool {
        let (mut seen, mut stack) = (Vec::new(), vec![value.node]);
        while let Some(id) = stack.pop() {
            if self.again[id.0 as usize] && !seen.contains(&id) {
                seen.push(id);
                stack.extend(self.function.graph.node(id).inputs.iter().map(|v| v.node));
            }
            if seen.len() > LONGEST {
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use crate::ir::text;
    use crate::passes::Limits;

    /// A dense layer with a positive part, and a gradient by its weights.
    const STEP: &str = "function f
        argument x: input f32[64, 64]
        argument w: parameter f32[64, 64]
        %0 = argument() index=0 dtype=f32 shape=[64, 64] : f32[64, 64]
        %1 = argument() index=1 dtype=f32 shape=[64, 64] : f32[64, 64]
        %2 = contract(%0, %1) left=[0, 1] right=[1, 2] result=[0, 2] : f32[64, 64]
        %3 = constant() value=0.0 dtype=f32 shape=[64, 64] : f32[64, 64]
        %4 = map(%2, %3) function=max : f32[64, 64]
        %5 = map(%4) function=exp : f32[64, 64]
        %6 = reduce(%5) monoid=sum axes=[0, 1] : f32[]
        %7 = map(%2, %3) function=greater : bool[64, 64]
        %8 = map(%7, %5, %3) function=select : f32[64, 64]
        %9 = contract(%0, %8) left=[0, 1] right=[0, 2] result=[1, 2] : f32[64, 64]
        result loss: loss = %6
        result w: update 1 = %9";

    fn after(memory: u64) -> String {
        let limits = Limits { memory, ..Limits::default() };
        super::PASS.apply_within(&text::parse(STEP).unwrap(), &limits).unwrap().to_string()
    }

    #[test]
    fn a_mask_is_read_off_the_maximum() {
        let printed = after(1 << 30);
        // The exponential is dear, so that it is kept; of the product nothing but the maximum is.
        assert!(printed.contains("%7 = map(%4, %3) function=greater"), "{printed}");
        assert!(printed.contains("%8 = map(%7, %5, %3) function=select"), "{printed}");
    }

    #[test]
    fn a_narrow_limit_keeps_one_value_and_computes_the_rest_again() {
        let printed = after(0);
        let exponentials = printed.lines().filter(|line| line.contains("function=exp")).count();
        assert_eq!(exponentials, 2, "{printed}");
    }

    #[test]
    fn a_function_without_a_loss_stays_as_it_is() {
        let inference = STEP.replace("result loss: loss", "result loss: output");
        let function = text::parse(&inference).unwrap();
        assert_eq!(super::PASS.apply(&function).unwrap().to_string(), function.to_string());
    }
}
