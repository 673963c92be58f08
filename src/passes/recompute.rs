//! Keeps little from the forward half of a training step for its gradient: what is cheap is computed again where it is read.
//!
//! The forward half ends with the last loss. Of what was computed until then, the gradient reads many values that are a few operations apart: a sum before batch
//! normalization, the normalized one, the scaled one, the positive part. [`cut`] chooses those that are kept, the fewest bytes from
//! which all others follow; each reader of another computes it for itself, so that it becomes part of the reader's kernel. Where these are more than a limit,
//! [`segments`] of the forward half run again, and what was to be kept of them is computed once more for all readers. Before all that, [`early`] moves folds that only the gradient asks for
//! into the forward half, where what they fold is at hand. Bits stay the same.
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
mod early;
mod segments;

use segments::{Forward, Segments};

/// The pass.
pub const PASS: GraphPass =
    GraphPass { name: "recompute", doc: "computes cheap values again for the gradient instead of keeping them", run };

fn run(function: &Function, limits: &Limits) -> Result<Function, PassError> {
    let Some(turn) = function.turn() else { return Ok(function.clone()) };
    let function = &early::early(&masks_of_results(function, turn), turn);
    let Some(turn) = function.turn() else { return Ok(function.clone()) };
    if function.graph.nodes().any(|(_, n)| n.outputs.iter().any(|ty| ty.elements().is_none())) {
        return Ok(function.clone());
    }
    let classes = classify(function);
    let again = cut::shortened(function, &classes, turn, cut::choose(function, &classes, turn, limits.aim));
    let kept = cut::kept(function, &classes, turn, &again);
    let forward = Forward { function, classes: &classes, turn, again: &again, kept: &kept };
    let segments = segments::plan(&forward, limits.aim);
    if !again.contains(&true) && segments == Segments::default() {
        return Ok(function.clone());
    }
    let fates = fates(&forward, &again, &segments);
    Ok(dce::prune(&Recomputing { function, classes: &classes, fates: &fates, turn, apart: limits.apart }.rewrite()))
}

/// What becomes of a node's values for readers behind the turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Kept,
    /// Computed again by each reader.
    Cheap,
    /// Computed again once.
    Again,
}

fn fates(forward: &Forward<'_>, again: &[bool], segments: &Segments) -> Vec<Fate> {
    let Forward { function, classes, turn, .. } = forward;
    let of = |node: usize| {
        let once = classes[node] == Class::Source || runs_once(function, classes, node);
        match () {
            () if node > turn.0 as usize || once || segments.end_at(node) => Fate::Kept,
            () if again[node] => Fate::Cheap,
            () if !segments.run_again(node) || cut::bytes(function, node) < segments::SMALL => Fate::Kept,
            () if matches!(classes[node], Class::View(_) | Class::Reshape | Class::Pointwise { cost: 0, .. }) => {
                Fate::Cheap
            }
            () => Fate::Again,
        }
    };
    (0..function.graph.len()).map(of).collect()
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

/// Whether a node is a loop that is never run again: its gradient has kept what its rounds need. A lean one computes its rounds again by itself.
fn runs_once(function: &Function, classes: &[Class], node: usize) -> bool {
    let op = &function.graph.node(NodeId(node as u32)).op;
    classes[node] == Class::Loop && !matches!(op, Op::Scan(scan) if scan.lean)
}

/// Whether a node takes what it reads from memory.
fn reads_buffers(class: &Class) -> bool {
    matches!(class, Class::Contract { .. } | Class::Opaque | Class::Loop)
}

/// The function being rewritten.
struct Recomputing<'a> {
    function: &'a Function,
    classes: &'a [Class],
    fates: &'a [Fate],
    turn: NodeId,
    /// As in [`Limits`].
    apart: bool,
}

/// Where values that were computed again are, for one reader or for several.
type Copies = FxHashMap<ValueId, ValueId>;

/// The copies that several share: of what runs again, and of what those read that read buffers.
#[derive(Default)]
struct Shared {
    again: Copies,
    in_memory: Copies,
    /// What the gradient made of the latter, while the reader is one that runs again and shares nothing with it.
    aside: Copies,
    /// Whether the reader runs again.
    runs_again: bool,
}

impl Shared {
    /// The copies for readers that run again, or for those that do not. Returns which it was before.
    fn switch(&mut self, runs_again: bool, apart: bool) -> bool {
        if apart && self.runs_again != runs_again {
            std::mem::swap(&mut self.in_memory, &mut self.aside);
        }
        std::mem::replace(&mut self.runs_again, runs_again)
    }
}

impl Recomputing<'_> {
    fn rewrite(&self) -> Function {
        let mut rewriter = Rewriter::new(self.function.graph.len());
        let mut shared = Shared::default();
        for (id, node) in self.function.graph.nodes() {
            if id <= self.turn {
                rewriter.copy(id, node);
                continue;
            }
            let values = self.node(&mut rewriter, &mut shared, id);
            rewriter.set(id, values);
        }
        rewriter.finish(self.function)
    }

    /// A node behind the turn, on copies where it reads values that are computed again.
    fn node(&self, rewriter: &mut Rewriter, shared: &mut Shared, id: NodeId) -> Vec<ValueId> {
        let node = self.function.graph.node(id);
        let mut own = (!reads_buffers(&self.classes[id.0 as usize])).then(Copies::default);
        let inputs: Vec<ValueId> = node.inputs.iter().map(|v| self.late(rewriter, shared, own.as_mut(), *v)).collect();
        rewriter.builder.set_scope(Arc::clone(&node.scope));
        rewriter.builder.add(node.op.clone(), &inputs).expect("operands are of the same types")
    }

    /// A value for a reader behind the turn, one with copies of its `own` or one that reads buffers.
    fn late(&self, rewriter: &mut Rewriter, shared: &mut Shared, own: Option<&mut Copies>, value: ValueId) -> ValueId {
        let fate = if value.node > self.turn { Fate::Kept } else { self.fates[value.node.0 as usize] };
        match fate {
            Fate::Kept => rewriter.value(value),
            Fate::Again => self.again(rewriter, shared, value),
            Fate::Cheap => self.cheap(rewriter, shared, own, value),
        }
    }

    /// The copy of a value that all readers share.
    fn again(&self, rewriter: &mut Rewriter, shared: &mut Shared, value: ValueId) -> ValueId {
        if let Some(copy) = shared.again.get(&value) {
            return *copy;
        }
        let reader = shared.switch(true, self.apart);
        let copies = self.node(rewriter, shared, value.node);
        shared.switch(reader, self.apart);
        for (output, copy) in copies.iter().enumerate() {
            shared.again.insert(ValueId { node: value.node, output: output as u32 }, *copy);
        }
        copies[value.output as usize]
    }

    /// The copy of a value that one reader makes for itself, or those make that read buffers.
    fn cheap(
        &self,
        rewriter: &mut Rewriter,
        shared: &mut Shared,
        mut own: Option<&mut Copies>,
        value: ValueId,
    ) -> ValueId {
        if let Some(copy) = own.as_deref().unwrap_or(&shared.in_memory).get(&value) {
            return *copy;
        }
        let node = self.function.graph.node(value.node);
        let inputs: Vec<ValueId> =
            node.inputs.iter().map(|v| self.late(rewriter, shared, own.as_deref_mut(), *v)).collect();
        rewriter.builder.set_scope(Arc::clone(&node.scope));
        let copy = rewriter.builder.add(node.op.clone(), &inputs).expect("operands are of the same types")[0];
        own.unwrap_or(&mut shared.in_memory).insert(value, copy);
        copy
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
        super::PASS.apply_within(&text::parse(STEP).unwrap(), &Limits::within(memory)).unwrap().to_string()
    }

    #[test]
    fn a_mask_is_read_off_the_maximum() {
        let printed = after(1 << 30);
        // The exponential is dear, so that it is kept; of the product nothing but the maximum is.
        assert!(printed.contains("%7 = map(%4, %3) function=greater"), "{printed}");
        assert!(printed.contains("%8 = map(%7, %5, %3) function=select"), "{printed}");
    }

    #[test]
    fn what_the_gradient_folds_of_the_forward_half_is_folded_there() {
        let places = "%7 = reduce(%2) monoid=argmax axes=[1] : i32[64]
        %8 = broadcast(%7) shape=[64, 64] axes=[0] : i32[64, 64]
        %9 = cast(%8) dtype=f32 : f32[64, 64]
        %10 = contract(%0, %9) left=[0, 1] right=[0, 2] result=[1, 2] : f32[64, 64]
        result loss: loss = %6
        result w: update 1 = %10";
        let (forward, _) = STEP.split_once("%7 =").unwrap();
        let step = format!("{forward}{places}");
        let function = text::parse(&step).unwrap();
        let after = |step: &str| super::PASS.apply(&text::parse(step).unwrap()).unwrap();
        let moved = after(&step);
        assert!(moved.to_string().contains("%3 = reduce(%2) monoid=argmax"), "{moved}");
        assert_eq!(moved.turn().unwrap().0, function.turn().unwrap().0 + 1);
        // The product is at hand anyway where the gradient reads it in another way.
        let read = after(&step.replace("contract(%0, %9)", "contract(%2, %9)"));
        assert_eq!(read.turn(), function.turn(), "{read}");
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
