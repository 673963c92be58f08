//! Takes the largest element of each window before its positive part instead of after it.
//!
//! `reduce_max(max(x, c))` is `max(reduce_max(x), c)` for a constant c, and so is any of the four ways to put `max` and `min` there, since neither changes the order of numbers. A layer's positive part
//! in front of a pooling is then computed for a quarter of the elements. As this comes before differentiation, the gradient is cut off where it is small, too, and asks nothing of the larger array
//! but where in each window the largest element was.
//!
//! Where several elements come to c by the clipping, the first of them was the one that the gradient went to; but there it is 0, since it passes only what lies strictly on the other side of c.
//! That is so for the left operand of `max` and `min`, so the constant has to be the right one.

use super::fuse::classify::{Class, class_of, input_types};
use super::{GraphPass, Limits, PassError};
use crate::ir::graph::{Function, Node, NodeId, ValueId};
use crate::ir::ops::{Access, Op};
use crate::ir::rewrite::Rewriter;
use crate::ir::scalar::{Monoid, ScalarFunction};

/// The pass.
pub const PASS: GraphPass =
    GraphPass { name: "clip_folds", doc: "takes the largest element of a window before its positive part", run };

fn run(function: &Function, _: &Limits) -> Result<Function, PassError> {
    let readers = readers(function);
    let mut rewriter = Rewriter::new(function.graph.len());
    for (id, node) in function.graph.nodes() {
        match Clipped::find(function, &readers, node) {
            Some(clipped) => {
                let value = clipped.emit(&mut rewriter, function, node);
                rewriter.set(id, vec![value]);
            }
            None => rewriter.copy(id, node),
        }
    }
    // What nobody reads now is left for `dce`.
    Ok(rewriter.finish(function))
}

/// How often each node's values are read.
fn readers(function: &Function) -> Vec<usize> {
    let mut readers = vec![0; function.graph.len()];
    let inputs = function.graph.nodes().flat_map(|(_, node)| &node.inputs);
    let results = function.results.iter().map(|r| &r.value);
    inputs.chain(results).for_each(|value| readers[value.node.0 as usize] += 1);
    readers
}

/// What lies between elements and a fold of them, and is read by nothing else.
struct Clipped {
    /// The elements that are clipped.
    value: ValueId,
    /// What moves them, in the order in which that is done.
    views: Vec<NodeId>,
    /// Each `max` or `min` with a constant, likewise.
    clips: Vec<(NodeId, f64)>,
}

impl Clipped {
    fn find(function: &Function, readers: &[usize], fold: &Node) -> Option<Clipped> {
        let operands = input_types(function, &fold.inputs);
        let Access::Reduce { axes, monoid: Monoid::Max | Monoid::Min } = fold.op.access(&operands, &fold.outputs)
        else {
            return None;
        };
        let size = |axis: &usize| operands[0].shape[*axis].constant();
        if axes.iter().any(|axis| size(axis).is_none_or(|size| size == 0)) {
            return None;
        }
        let mut found = Clipped { value: fold.inputs[0], views: Vec::new(), clips: Vec::new() };
        // Those since the last clip that was found: what moves elements before any is clipped stays.
        let (mut at, mut views) = (found.value, Vec::new());
        while readers[at.node.0 as usize] == 1 {
            let node = function.graph.node(at.node);
            match &node.op {
                Op::Map(map) if matches!(map.function, ScalarFunction::Max | ScalarFunction::Min) => {
                    let Some(constant) = number(function, node.inputs[1]).filter(|c| !c.is_nan()) else { break };
                    found.clips.insert(0, (at.node, constant));
                    views.drain(..).for_each(|view| found.views.insert(0, view));
                    found.value = node.inputs[0];
                }
                Op::Map(_) => break,
                _ if matches!(class_of(function, node), Class::View(_) | Class::Reshape) => views.push(at.node),
                _ => break,
            }
            at = node.inputs[0];
        }
        (!found.clips.is_empty()).then_some(found)
    }

    /// The clipped fold, in the new graph.
    fn emit(&self, rewriter: &mut Rewriter, function: &Function, fold: &Node) -> ValueId {
        let moves = self.views.iter().map(|view| function.graph.node(*view)).chain([fold]);
        let folded = moves.fold(rewriter.value(self.value), |value, node| {
            rewriter.builder.set_scope(node.scope.clone());
            rewriter.builder.emit(node.op.clone(), &[value])
        });
        self.clips.iter().fold(folded, |value, (clip, constant)| {
            let clip = function.graph.node(*clip);
            rewriter.builder.set_scope(clip.scope.clone());
            let constant = rewriter.builder.constant_like(*constant, value);
            rewriter.builder.emit(clip.op.clone(), &[value, constant])
        })
    }
}

/// The number that all elements of a value are, if it is a constant.
fn number(function: &Function, value: ValueId) -> Option<f64> {
    let node = function.graph.node(value.node);
    match &node.op {
        Op::Constant(constant) => constant.known(),
        _ if matches!(class_of(function, node), Class::View(_)) => number(function, node.inputs[0]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::ir::{text, verify};
    use crate::passes::dce;

    /// What is left of `nodes`, numbered from 1, behind an argument `%0: f32[4, 6]`; the last is the result, and so are `others`.
    fn after(nodes: &[&str], others: &[usize]) -> Vec<String> {
        let mut source = String::from(
            "function f
             argument x: input f32[4, 6]
             %0 = argument() index=0 dtype=f32 shape=[4, 6] : f32[4, 6]\n",
        );
        nodes.iter().enumerate().for_each(|(i, node)| source += &format!("%{} = {node}\n", i + 1));
        for value in others.iter().chain([&nodes.len()]) {
            source += &format!("result r{value}: output = %{value}\n");
        }
        let function = dce::prune(&super::PASS.apply(&text::parse(&source).unwrap()).unwrap());
        verify::function(&function).unwrap();
        let printed = function.to_string();
        let lines = printed.lines().map(str::trim).filter(|l| l.starts_with('%') && !l.contains("argument()"));
        lines.map(|l| l.split_once(" = ").unwrap().1.to_string()).collect()
    }

    const ZERO: &str = "constant() value=0.0 dtype=f32 shape=[4, 6] : f32[4, 6]";
    const POSITIVE: &str = "map(%0, %1) function=max : f32[4, 6]";
    const PAIRS: &str = "windows(%2) axes=[1] sizes=[2] strides=[2] dilations=[1] : f32[4, 3, 2]";
    const LARGEST: &str = "reduce(%3) monoid=max axes=[2] : f32[4, 3]";

    #[test]
    fn a_positive_part_comes_behind_the_fold() {
        let expected = [
            "windows(%0) axes=[1] sizes=[2] strides=[2] dilations=[1] : f32[4, 3, 2]",
            "reduce(%1) monoid=max axes=[2] : f32[4, 3]",
            "constant() value=0.0 dtype=f32 shape=[4, 3] : f32[4, 3]",
            "map(%2, %3) function=max : f32[4, 3]",
        ];
        assert_eq!(after(&[ZERO, POSITIVE, PAIRS, LARGEST], &[]), expected);
    }

    #[test]
    fn several_clips_keep_their_order() {
        let six = "constant() value=6.0 dtype=f32 shape=[4, 6] : f32[4, 6]";
        let clipped = "map(%2, %3) function=min : f32[4, 6]";
        let nodes = after(&[ZERO, POSITIVE, six, clipped, "reduce(%4) monoid=min axes=[1] : f32[4]"], &[]);
        let functions: Vec<&str> = nodes.iter().filter_map(|n| n.split_once("function=").map(|f| f.1)).collect();
        assert!(nodes[0].starts_with("reduce(%0)"), "{nodes:?}");
        assert_eq!(functions, ["max : f32[4]", "min : f32[4]"]);
    }

    #[test]
    fn what_others_read_and_what_is_clipped_from_the_left_stays() {
        let first = |nodes: &[&str], others: &[usize]| after(nodes, others)[1].clone();
        assert_eq!(first(&[ZERO, POSITIVE, PAIRS, LARGEST], &[2]), POSITIVE);
        let turned = "map(%1, %0) function=max : f32[4, 6]";
        assert_eq!(first(&[ZERO, turned, PAIRS, LARGEST], &[]), turned);
        let sum = LARGEST.replace("max", "sum");
        assert_eq!(first(&[ZERO, POSITIVE, PAIRS, &sum], &[]), POSITIVE);
    }
}
