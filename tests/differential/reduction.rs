//! Makes a failing function smaller: results and nodes that the failure does not need are left out.

use nnc::ir::builder::GraphBuilder;
use nnc::ir::graph::{Function, NodeId, ResultRole, ValueId};
use nnc::ir::ops::{Op, argument};

/// The smallest function found that still fails.
pub fn reduce(mut function: Function, fails: &dyn Fn(&Function) -> bool) -> Function {
    loop {
        let before = function.graph.len() + function.results.len();
        function = fewer_results(function, fails);
        function = fewer_nodes(function, fails);
        if function.graph.len() + function.results.len() == before {
            return function;
        }
    }
}

/// The function without the nodes that no result needs, and without arguments that are not used. What is kept is not changed, loops included.
fn pruned(function: &Function) -> Function {
    let mut live = vec![false; function.graph.len()];
    function.results.iter().for_each(|r| live[r.value.node.0 as usize] = true);
    for (id, node) in function.graph.nodes().rev() {
        if live[id.0 as usize] {
            node.inputs.iter().for_each(|v| live[v.node.0 as usize] = true);
        }
    }
    let mut used = vec![false; function.arguments.len()];
    for (id, node) in function.graph.nodes() {
        if let Op::Argument(argument) = &node.op {
            used[argument.index as usize] |= live[id.0 as usize];
        }
    }
    function.results.iter().for_each(|r| {
        if let ResultRole::Update(index) = r.role {
            used[index as usize] = true;
        }
    });
    let number = |old: u32| used[..old as usize].iter().filter(|u| **u).count() as u32;
    let mut builder = GraphBuilder::new();
    let mut values: Vec<Vec<ValueId>> = Vec::new();
    for (id, node) in function.graph.nodes() {
        if !live[id.0 as usize] {
            values.push(Vec::new());
            continue;
        }
        let inputs: Vec<ValueId> = node.inputs.iter().map(|v| values[v.node.0 as usize][v.output as usize]).collect();
        let op = match &node.op {
            Op::Argument(a) => Op::from(argument::Argument { index: number(a.index), ty: a.ty.clone() }),
            other => other.clone(),
        };
        values.push(builder.add(op, &inputs).expect("the same ops take the same operands"));
    }
    let mut results = function.results.clone();
    for result in &mut results {
        result.value = values[result.value.node.0 as usize][result.value.output as usize];
        if let ResultRole::Update(index) = &mut result.role {
            *index = number(*index);
        }
    }
    let kept = function.arguments.iter().zip(&used).filter(|(_, used)| **used);
    let arguments = kept.map(|(argument, _)| argument.clone()).collect();
    Function { name: function.name.clone(), arguments, graph: builder.finish(), results }
}

/// Tries each result alone, then leaves out one after the other.
fn fewer_results(mut function: Function, fails: &dyn Fn(&Function) -> bool) -> Function {
    for place in 0..if function.results.len() > 1 { function.results.len() } else { 0 } {
        let mut alone = function.clone();
        alone.results = vec![function.results[place].clone()];
        let alone = pruned(&alone);
        if fails(&alone) {
            return alone;
        }
    }
    for place in (0..function.results.len()).rev() {
        let mut without = function.clone();
        without.results.remove(place);
        let without = pruned(&without);
        if !without.results.is_empty() && fails(&without) {
            function = without;
        }
    }
    function
}

/// Tries, from the last node on, to give the users of a node another value of its type, or a number.
fn fewer_nodes(mut function: Function, fails: &dyn Fn(&Function) -> bool) -> Function {
    let mut place = function.graph.len();
    while place > 0 {
        place -= 1;
        let id = NodeId(place as u32);
        if place >= function.graph.len() || matches!(function.graph.node(id).op, Op::Argument(_) | Op::Constant(_)) {
            continue;
        }
        let replaced = |by: Option<ValueId>| {
            let changed = pruned(&replace(&function, id, by)?);
            (changed.graph.len() < function.graph.len() && fails(&changed)).then_some(changed)
        };
        let ty = function.graph.node(id).outputs[0].clone();
        let earlier = function
            .graph
            .nodes()
            .take(place)
            .flat_map(|(id, node)| (0..node.outputs.len() as u32).map(move |output| ValueId { node: id, output }));
        let same: Vec<ValueId> = earlier.filter(|v| *function.graph.type_of(*v) == ty).take(3).collect();
        let smaller = same.into_iter().map(Some).chain([None]).find_map(replaced);
        if let Some(smaller) = smaller {
            function = smaller;
        }
    }
    function
}

/// The function whose node `id`, of one output, is replaced by an earlier value, or by halves.
fn replace(function: &Function, id: NodeId, by: Option<ValueId>) -> Option<Function> {
    let mut builder = GraphBuilder::new();
    let mut values: Vec<Vec<ValueId>> = Vec::new();
    let at = |values: &[Vec<ValueId>], v: ValueId| values[v.node.0 as usize][v.output as usize];
    for (node_id, node) in function.graph.nodes() {
        if node_id != id {
            let inputs: Vec<ValueId> = node.inputs.iter().map(|v| at(&values, *v)).collect();
            values.push(builder.add(node.op.clone(), &inputs).ok()?);
            continue;
        }
        let [ty] = node.outputs.as_slice() else { return None };
        let number = if ty.dtype.is_float() { 0.5 } else { 1.0 };
        values.push(vec![match by {
            Some(value) => at(&values, value),
            None => builder.constant(number, ty.dtype, &ty.shape),
        }]);
    }
    let mut results = function.results.clone();
    results.iter_mut().for_each(|r| r.value = at(&values, r.value));
    let fits = results.iter().all(|r| match r.role {
        ResultRole::Update(index) => function.arguments[index as usize].ty == *builder.type_of(r.value),
        _ => true,
    });
    fits.then(|| Function {
        name: function.name.clone(),
        arguments: function.arguments.clone(),
        graph: builder.finish(),
        results,
    })
}
