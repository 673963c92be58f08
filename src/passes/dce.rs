//! Dead code elimination: nodes that no result depends on are left out, and of a loop the yields, carries, sequences and captures.
//!
//! A yield that nobody reads goes. A carry stays if its last value is read, or if the body reads it for something that stays; one that only its own next
//! value reads goes. Then the body's nodes are asked in the same way, so that a loop inside a loop is cut to what the rounds of both need.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::{GraphPass, Limits, PassError};
use crate::ir::graph::{Argument, Function, FunctionResult, NodeId, ResultRole, ValueId};
use crate::ir::ops::Op;
use crate::ir::ops::scan::Scan;
use crate::ir::rewrite::Rewriter;

/// The pass.
pub const PASS: GraphPass = GraphPass { name: "dce", doc: "leaves out nodes that no result depends on", run };

fn run(function: &Function, _: &Limits) -> Result<Function, PassError> {
    Ok(prune(function))
}

/// The function without what no result depends on; arguments and results stay.
pub fn prune(function: &Function) -> Function {
    let results = vec![true; function.results.len()];
    let arguments = vec![true; function.arguments.len()];
    Pruner::default().prune(function, &Needs { results, arguments })
}

/// What stays of a function.
#[derive(Clone, Debug)]
struct Needs {
    results: Vec<bool>,
    arguments: Vec<bool>,
}

/// Remembers what bodies need, so that loops in loops are asked once for each set of outputs.
#[derive(Default)]
struct Pruner {
    known: FxHashMap<(*const Function, Vec<bool>), Needs>,
}

impl Pruner {
    /// For each node the outputs that the wanted results depend on.
    fn live(&mut self, function: &Function, results: &[bool]) -> Vec<Vec<bool>> {
        let graph = &function.graph;
        let mut live: Vec<Vec<bool>> = graph.nodes().map(|(_, node)| vec![false; node.outputs.len()]).collect();
        let mark = |live: &mut Vec<Vec<bool>>, v: ValueId| live[v.node.0 as usize][v.output as usize] = true;
        let wanted = function.results.iter().zip(results).filter(|(_, wanted)| **wanted);
        wanted.for_each(|(r, _)| mark(&mut live, r.value));
        for (id, node) in graph.nodes().rev() {
            let outputs = &live[id.0 as usize];
            if !outputs.contains(&true) {
                continue;
            }
            let inputs: Vec<ValueId> = match &node.op {
                Op::Scan(scan) => {
                    let needs = self.needs(scan, outputs);
                    node.inputs
                        .iter()
                        .zip(&needs.arguments[1..])
                        .filter(|(_, needed)| **needed)
                        .map(|(v, _)| *v)
                        .collect()
                }
                _ => node.inputs.clone(),
            };
            inputs.into_iter().for_each(|v| mark(&mut live, v));
        }
        live
    }

    /// What stays of a loop's body if the given outputs of the loop are read.
    fn needs(&mut self, scan: &Scan, outputs: &[bool]) -> Needs {
        let key = (Arc::as_ptr(&scan.body), outputs.to_vec());
        if let Some(needs) = self.known.get(&key) {
            return needs.clone();
        }
        let mut results = outputs.to_vec();
        let needs = loop {
            let read = self.arguments_read(&scan.body, &results);
            let more = scan.carry_arguments().find(|a| read[*a] && !results[a - 1]);
            let Some(carry) = more else {
                let stays = |a: usize| a == 0 || read[a] || scan.carry_arguments().contains(&a) && results[a - 1];
                break Needs { arguments: (0..read.len()).map(stays).collect(), results };
            };
            results[carry - 1] = true;
        };
        self.known.insert(key, needs.clone());
        needs
    }

    fn arguments_read(&mut self, body: &Function, results: &[bool]) -> Vec<bool> {
        let live = self.live(body, results);
        let mut read = vec![false; body.arguments.len()];
        for (id, node) in body.graph.nodes() {
            if let Op::Argument(argument) = &node.op {
                read[argument.index as usize] = live[id.0 as usize][0];
            }
        }
        read
    }

    /// The function without what is not needed; arguments are numbered anew.
    fn prune(&mut self, function: &Function, needs: &Needs) -> Function {
        let live = self.live(function, &needs.results);
        let place = places(&needs.arguments);
        let mut rewriter = Rewriter::new(function.graph.len());
        for (id, node) in function.graph.nodes().filter(|(id, _)| live[id.0 as usize].contains(&true)) {
            match &node.op {
                Op::Argument(argument) => {
                    let value = rewriter.builder.argument(place[argument.index as usize], argument.ty.clone());
                    rewriter.set(id, vec![value]);
                }
                Op::Scan(scan) => self.prune_scan(&mut rewriter, id, node, scan, &live[id.0 as usize]),
                _ => rewriter.copy(id, node),
            }
        }
        let kept = |(argument, needed): (&Argument, &bool)| needed.then(|| argument.clone());
        let arguments = function.arguments.iter().zip(&needs.arguments).filter_map(kept).collect();
        let kept = function.results.iter().zip(&needs.results).filter(|(_, needed)| **needed);
        let results = kept.map(|(r, _)| {
            let role = match r.role {
                ResultRole::Update(index) => ResultRole::Update(place[index as usize]),
                role => role,
            };
            FunctionResult { name: r.name.clone(), role, value: rewriter.value(r.value) }
        });
        let results = results.collect();
        Function { name: function.name.clone(), arguments, graph: rewriter.builder.finish(), results }
    }

    /// The loop with only the outputs that are read and what they need; the other outputs get no place.
    fn prune_scan(
        &mut self,
        rewriter: &mut Rewriter,
        id: NodeId,
        node: &crate::ir::graph::Node,
        scan: &Scan,
        outputs: &[bool],
    ) {
        let needs = self.needs(scan, outputs);
        let count = |range: std::ops::Range<usize>| needs.arguments[range].iter().filter(|n| **n).count() as u32;
        let op = Scan {
            body: Arc::new(self.prune(&scan.body, &needs)),
            length: scan.length.clone(),
            carries: count(scan.carry_arguments()),
            sequences: count(scan.sequence_arguments()),
            reverse: scan.reverse,
            lean: scan.lean,
        };
        let read = node.inputs.iter().zip(&needs.arguments[1..]).filter(|(_, needed)| **needed);
        let inputs: Vec<ValueId> = read.map(|(v, _)| rewriter.value(*v)).collect();
        rewriter.builder.set_scope(Arc::clone(&node.scope));
        let new = rewriter.builder.add(op, &inputs);
        let mut new = new.unwrap_or_else(|e| panic!("a loop without what nobody reads: {e}")).into_iter();
        // Outputs that are left out are never asked for: their place is that of the first.
        let first = ValueId { node: NodeId(rewriter.builder.graph().len() as u32 - 1), output: 0 };
        let values = needs.results.iter().map(|kept| if *kept { new.next().unwrap_or(first) } else { first });
        let values = values.collect();
        rewriter.set(id, values);
    }
}

/// The number that each needed argument has among them.
fn places(needed: &[bool]) -> Vec<u32> {
    let mut next = 0;
    let place = |needed: &bool| {
        let place = next;
        next += u32::from(*needed);
        place
    };
    needed.iter().map(place).collect()
}

#[cfg(test)]
mod tests {
    use crate::ir::{text, verify};

    #[test]
    fn a_loop_is_cut_to_what_is_read() {
        // h is read through y; n only by itself, s only through a yield that nobody reads, x and w only by s.
        let source = "function f
  argument h: input f32[2]
  argument x: input f32[3, 2]
  argument w: input f32[2]
  argument n: input i32[]
  %0 = argument() index=0 dtype=f32 shape=[2] : f32[2]
  %1 = argument() index=1 dtype=f32 shape=[3, 2] : f32[3, 2]
  %2 = argument() index=2 dtype=f32 shape=[2] : f32[2]
  %3 = argument() index=3 dtype=i32 shape=[] : i32[]
  %4, %5, %6, %7, %8 = scan(%3, %0, %2, %1, %2) length=3 carries=3 sequences=1 reverse=false body={
    function round
    argument round: step i32[]
    argument n: state i32[]
    argument h: state f32[2]
    argument s: state f32[2]
    argument x: input f32[2]
    argument w: input f32[2]
    %0 = argument() index=1 dtype=i32 shape=[] : i32[]
    %1 = argument() index=2 dtype=f32 shape=[2] : f32[2]
    %2 = argument() index=3 dtype=f32 shape=[2] : f32[2]
    %3 = argument() index=4 dtype=f32 shape=[2] : f32[2]
    %4 = argument() index=5 dtype=f32 shape=[2] : f32[2]
    %5 = map(%0, %0) function=add : i32[]
    %6 = map(%1) function=tanh : f32[2]
    %7 = map(%2, %3) function=mul : f32[2]
    %8 = map(%7, %4) function=mul : f32[2]
    result n: update 1 = %5
    result h: update 2 = %6
    result s: update 3 = %8
    result y: output = %6
    result s_before: output = %2
  } : i32[], f32[2], f32[2], f32[3, 2], f32[3, 2]
  result y: output = %7
";
        let after = super::PASS.apply(&text::parse(source).unwrap()).unwrap();
        verify::function(&after).unwrap();
        let expected = "function f
  argument h: input f32[2]
  argument x: input f32[3, 2]
  argument w: input f32[2]
  argument n: input i32[]
  %0 = argument() index=0 dtype=f32 shape=[2] : f32[2]
  %1, %2 = scan(%0) length=3 carries=1 sequences=0 reverse=false body={
    function round
      argument round: step i32[]
      argument h: state f32[2]
      %0 = argument() index=1 dtype=f32 shape=[2] : f32[2]
      %1 = map(%0) function=tanh : f32[2]
      result h: update 1 = %1
      result y: output = %1
  } : f32[2], f32[3, 2]
  result y: output = %2
";
        assert_eq!(after.to_string(), expected);
    }

    #[test]
    fn only_what_results_need_stays() {
        let nodes = "%2 = map(%0, %1) function=add : f32[3]
            %3 = map(%0) function=exp : f32[3]
            result z: output = %3";
        let expected = "\
%0 = argument() index=0 dtype=f32 shape=[3] : f32[3]
%1 = map(%0) function=exp : f32[3]
result z: output = %1
";
        assert_eq!(crate::passes::tests::after(&super::PASS, nodes), expected);
    }
}
