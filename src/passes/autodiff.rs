//! Expands `grad` nodes by the VJPs of the ops, inner gradients first.
//!
//! The new graph is built in order. Where a `grad` stands, what its scalar depends on is already there, without
//! `grad`s of its own; so an ordinary reverse sweep over the new graph appends the gradient, and an outer `grad`
//! later sees plain ops. Only nodes between the wanted values and the scalar are visited. All `grad`s
//! of one scalar whose wanted values are there by then share one sweep.
//!
//! The gradient of a loop is a loop whose body holds a `grad` in turn, which is expanded when the sweeps are done.

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::{GraphPass, Limits, PassError, bodies};
use crate::ir::builder::GraphBuilder;
use crate::ir::graph::{Function, Graph, NodeId, ValueId};
use crate::ir::ops::{Op, VjpContext};
use crate::ir::rewrite::Rewriter;
use crate::ir::scalar::ScalarFunction;

/// The pass.
pub const PASS: GraphPass = GraphPass { name: "autodiff", doc: "expands gradients by the derivatives of the ops", run };

/// Nodes of a function with its gradients, bodies of loops included. Each derivative of a derivative multiplies them, so a short program can ask for any number.
const MOST_NODES: usize = 500_000;

fn run(function: &Function, _: &Limits) -> Result<Function, PassError> {
    let mut size = Size::default();
    let mut rewriter = Rewriter::new(function.graph.len());
    // The gradients known so far, by scalar and wanted value of the old graph.
    let mut known: FxHashMap<(ValueId, ValueId), ValueId> = FxHashMap::default();
    for (id, node) in function.graph.nodes() {
        let (Op::Grad(_), [y, xs @ ..]) = (&node.op, node.inputs.as_slice()) else {
            rewriter.copy(id, node);
            continue;
        };
        if xs.iter().any(|x| !known.contains_key(&(*y, *x))) {
            let wanted = wanted_of(function, id, *y);
            let new: Vec<ValueId> = wanted.iter().map(|x| rewriter.value(*x)).collect();
            let scalar = rewriter.value(*y);
            let gradients = sweep(&mut rewriter.builder, scalar, &new)?;
            size.count(rewriter.builder.graph())?;
            known.extend(wanted.iter().zip(gradients).map(|(x, g)| ((*y, *x), g)));
        }
        rewriter.set(id, xs.iter().map(|x| known[&(*y, *x)]).collect());
    }
    let expanded = rewriter.finish(function);
    match bodies::any(&expanded, has_gradients) {
        true => {
            let expanded = bodies::map(&expanded, |body| PASS.apply(body))?;
            Size::default().count(&expanded.graph)?;
            Ok(expanded)
        }
        false => Ok(expanded),
    }
}

/// How many nodes there are, those of bodies included.
#[derive(Default)]
struct Size {
    nodes: usize,
    /// The nodes that have been counted.
    counted: usize,
}

impl Size {
    /// Counts the nodes that are new since the last time.
    fn count(&mut self, graph: &Graph) -> Result<(), PassError> {
        for (_, node) in graph.nodes().skip(self.counted) {
            self.nodes += 1;
            if let Op::Scan(scan) = &node.op {
                let mut inside = Size::default();
                inside.count(&scan.body.graph)?;
                self.nodes += inside.nodes;
            }
            if self.nodes > MOST_NODES {
                let message = format!("derivatives of derivatives expand to more than {MOST_NODES} operations");
                return Err(PassError { message, scope: Arc::clone(&node.scope) });
            }
        }
        self.counted = graph.len();
        Ok(())
    }
}

/// Whether a `grad` stands in the function or in the body of a loop.
pub fn has_gradients(function: &Function) -> bool {
    function.graph.nodes().any(|(_, node)| match &node.op {
        Op::Grad(_) => true,
        Op::Scan(scan) => has_gradients(&scan.body),
        _ => false,
    })
}

/// What this and later `grad`s differentiate `y` by, as far as it stands before node `id`; each value once.
fn wanted_of(function: &Function, id: NodeId, y: ValueId) -> Vec<ValueId> {
    let mut wanted = Vec::new();
    for (_, node) in function.graph.nodes().skip(id.0 as usize) {
        if let (Op::Grad(_), [scalar, xs @ ..]) = (&node.op, node.inputs.as_slice())
            && *scalar == y
        {
            wanted.extend(xs.iter().copied().filter(|x| x.node < id));
        }
    }
    wanted.sort_unstable();
    wanted.dedup();
    wanted
}

/// Appends the gradients of the scalar `y` by each of `xs`.
fn sweep(builder: &mut GraphBuilder, y: ValueId, xs: &[ValueId]) -> Result<Vec<ValueId>, PassError> {
    let active = active_values(builder, y, xs);
    let mut gradients: FxHashMap<ValueId, ValueId> = FxHashMap::default();
    builder.set_scope(Arc::clone(&builder.graph().node(y.node).scope));
    let one = builder.constant_like(1.0, y);
    gradients.insert(y, one);
    for number in (0..=y.node.0).rev() {
        visit(builder, NodeId(number), &active, &mut gradients)?;
    }
    let zero = |builder: &mut GraphBuilder, x: ValueId| builder.constant_like(0.0, x);
    Ok(xs.iter().map(|x| gradients.get(x).copied().unwrap_or_else(|| zero(builder, *x))).collect())
}

/// For each node up to that of `y` whether a float output of it is one of `xs` or depends on one.
fn active_values(builder: &GraphBuilder, y: ValueId, xs: &[ValueId]) -> Vec<bool> {
    let wanted: FxHashSet<NodeId> = xs.iter().map(|x| x.node).collect();
    let mut active: Vec<bool> = Vec::with_capacity(y.node.0 as usize + 1);
    for (id, node) in builder.graph().nodes().take(y.node.0 as usize + 1) {
        let depends = node.inputs.iter().any(|v| active[v.node.0 as usize]);
        let is_float = node.outputs.iter().any(|ty| ty.dtype.is_float());
        active.push(is_float && (depends || wanted.contains(&id)));
    }
    active
}

/// Hands the gradients of a node's outputs on to its operands.
fn visit(
    builder: &mut GraphBuilder,
    id: NodeId,
    active: &[bool],
    gradients: &mut FxHashMap<ValueId, ValueId>,
) -> Result<(), PassError> {
    let node = builder.graph().node(id);
    let outputs: Vec<ValueId> = (0..node.outputs.len() as u32).map(|output| ValueId { node: id, output }).collect();
    let incoming: Vec<Option<ValueId>> = outputs.iter().map(|v| gradients.get(v).copied()).collect();
    let wanted: Vec<bool> = node.inputs.iter().map(|v| active[v.node.0 as usize]).collect();
    if incoming.iter().all(Option::is_none) || !wanted.contains(&true) {
        return Ok(());
    }
    let (op, inputs, scope) = (node.op.clone(), node.inputs.clone(), Arc::clone(&node.scope));
    builder.set_scope(Arc::clone(&scope));
    let mut cx = VjpContext { builder, inputs: &inputs, outputs: &outputs, gradients: &incoming, wanted: &wanted };
    let contributions = op
        .vjp(&mut cx)
        .map_err(|e| PassError { message: format!("no gradient flows through `{}`: {e}", op.doc().name), scope })?;
    for (i, contribution) in contributions.into_iter().enumerate() {
        if let (true, Some(part)) = (wanted[i], contribution) {
            let sum = match gradients.get(&inputs[i]) {
                Some(before) => builder.apply(ScalarFunction::Add, &[*before, part]),
                None => part,
            };
            gradients.insert(inputs[i], sum);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::ir::graph::Function;
    use crate::ir::tensor::Tensor;
    use crate::ir::types::{DType, TensorType};
    use crate::ir::{interpret, text, verify};

    fn expand(source: &str) -> Function {
        let after = super::PASS.apply(&text::parse(source).unwrap()).unwrap();
        verify::function(&after).unwrap();
        after
    }

    fn scalars(function: &Function, arguments: &[f64]) -> Vec<f64> {
        let ty = || TensorType::scalar(DType::F32);
        let arguments: Vec<Tensor> = arguments.iter().map(|v| Tensor::new(ty(), vec![*v])).collect();
        interpret::run(function, &arguments).unwrap().iter().map(|t| t.data[0]).collect()
    }

    #[test]
    fn gradients_of_gradients() {
        // y = x^3: y' = 3 x^2, y'' = 6 x, y''' = 6
        let function = expand(
            "function f
               argument x: input f32[]
               %0 = argument() index=0 dtype=f32 shape=[] : f32[]
               %1 = map(%0, %0) function=mul : f32[]
               %2 = map(%1, %0) function=mul : f32[]
               %3 = grad(%2, %0) : f32[]
               %4 = grad(%3, %0) : f32[]
               %5 = grad(%4, %0) : f32[]
               result a: output = %3
               result b: output = %4
               result c: output = %5",
        );
        assert_eq!(scalars(&function, &[2.0]), [12.0, 12.0, 6.0]);
    }

    #[test]
    fn derivatives_without_end_are_an_error() {
        let mut nodes =
            String::from("%0 = argument() index=0 dtype=f32 shape=[] : f32[]\n%1 = map(%0) function=sin : f32[]\n");
        for order in 1..40 {
            let last = order * 2 - 1;
            nodes += &format!("%{} = map(%{last}, %{last}) function=mul : f32[]\n", order * 2);
            nodes += &format!("%{} = grad(%{}, %0) : f32[]\n", order * 2 + 1, order * 2);
        }
        let source = format!("function f\nargument x: input f32[]\n{nodes}result y: output = %79");
        let wrong = super::PASS.apply(&text::parse(&source).unwrap()).unwrap_err();
        assert!(wrong.message.starts_with("derivatives of derivatives expand"), "{}", wrong.message);
    }

    #[test]
    fn only_the_paths_asked_for() {
        // z = stop(x) * x + y: by x it is x, by a value that z does not need 0, by the inner value x * x only what flows through it
        let function = expand(
            "function f
               argument x: input f32[]
               argument y: input f32[]
               %0 = argument() index=0 dtype=f32 shape=[] : f32[]
               %1 = argument() index=1 dtype=f32 shape=[] : f32[]
               %2 = stop_gradient(%0) : f32[]
               %3 = map(%2, %0) function=mul : f32[]
               %4 = map(%3, %0) function=add : f32[]
               %5, %6, %7 = grad(%4, %0, %1, %3) : f32[], f32[], f32[]
               %8 = map(%1) function=exp : f32[]
               %9 = grad(%4, %8) : f32[]
               result a: output = %5
               result b: output = %6
               result c: output = %7
               result d: output = %9",
        );
        assert_eq!(scalars(&function, &[3.0, 5.0]), [4.0, 0.0, 1.0, 0.0]);
    }

    #[test]
    fn gradients_of_one_scalar_share_a_sweep() {
        let source = |grads: &str| {
            format!(
                "function f
                   argument x: input f32[]
                   argument y: input f32[]
                   %0 = argument() index=0 dtype=f32 shape=[] : f32[]
                   %1 = argument() index=1 dtype=f32 shape=[] : f32[]
                   %2 = map(%0, %1) function=mul : f32[]
                   %3 = map(%2) function=tanh : f32[]
                   {grads}
                   result a: output = %4
                   result b: output = %5"
            )
        };
        let together = expand(&source("%4, %5 = grad(%3, %0, %1) : f32[], f32[]"));
        let apart = expand(&source("%4 = grad(%3, %0) : f32[]\n %5 = grad(%3, %1) : f32[]"));
        assert_eq!(together.to_string(), apart.to_string());
    }

    #[test]
    fn kinks_are_pytorchs() {
        let derivative = |nodes: &str, at: f64| {
            let source = format!(
                "function f
                   argument x: input f32[]
                   %0 = argument() index=0 dtype=f32 shape=[] : f32[]
                   %1 = constant() value=0.0 dtype=f32 shape=[] : f32[]
                   {nodes} : f32[]
                   %3 = grad(%2, %0) : f32[]
                   result a: output = %3"
            );
            scalars(&expand(&source), &[at])[0]
        };
        assert_eq!(derivative("%2 = map(%0, %1) function=max", 0.0), 0.0);
        assert_eq!(derivative("%2 = map(%1, %0) function=max", 0.0), 1.0);
        assert_eq!(derivative("%2 = map(%0) function=abs", 0.0), 0.0);
        assert_eq!(derivative("%2 = map(%0, %1) function=pow", 0.0), 0.0);
        assert_eq!(derivative("%2 = map(%0) function=floor", 0.5), 0.0);
    }

    #[test]
    fn folds_with_ties_and_zeros() {
        let gradient = |monoid: &str, data: Vec<f64>| {
            let source = format!(
                "function f
                   argument x: input f32[4]
                   %0 = argument() index=0 dtype=f32 shape=[4] : f32[4]
                   %1 = reduce(%0) monoid={monoid} axes=[0] : f32[]
                   %2 = grad(%1, %0) : f32[4]
                   result a: output = %2"
            );
            let x = Tensor::new(TensorType::new(DType::F32, [4usize]), data);
            interpret::run(&expand(&source), &[x]).unwrap().remove(0).data
        };
        assert_eq!(gradient("max", vec![1.0, 3.0, 3.0, 2.0]), [0.0, 1.0, 0.0, 0.0]);
        assert_eq!(gradient("min", vec![1.0, 3.0, 1.0, 1.0]), [1.0, 0.0, 0.0, 0.0]);
        assert_eq!(gradient("prod", vec![2.0, 0.0, 3.0, 4.0]), [0.0, 24.0, 0.0, 0.0]);
        assert_eq!(gradient("prod", vec![0.0, 0.0, 3.0, 4.0]), [0.0; 4]);
    }
}
