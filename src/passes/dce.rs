//! Dead code elimination: nodes that no result depends on are left out.

use super::{GraphPass, PassError};
use crate::ir::graph::Function;
use crate::ir::rewrite::Rewriter;

/// The pass.
pub const PASS: GraphPass = GraphPass { name: "dce", doc: "leaves out nodes that no result depends on", run };

fn run(function: &Function) -> Result<Function, PassError> {
    let graph = &function.graph;
    let mut live = vec![false; graph.len()];
    function.results.iter().for_each(|r| live[r.value.node.0 as usize] = true);
    for (id, node) in graph.nodes().rev() {
        if live[id.0 as usize] {
            node.inputs.iter().for_each(|v| live[v.node.0 as usize] = true);
        }
    }
    let mut rewriter = Rewriter::new(graph.len());
    for (id, node) in graph.nodes().filter(|(id, _)| live[id.0 as usize]) {
        rewriter.copy(id, node);
    }
    Ok(rewriter.finish(function))
}

#[cfg(test)]
mod tests {
    use crate::ir::text;

    #[test]
    fn only_what_results_need_stays() {
        let before = text::parse(
            "function f
               argument x: input f32[3]
               argument y: input f32[3]
               %0 = argument() index=0 dtype=f32 shape=[3] : f32[3]
               %1 = argument() index=1 dtype=f32 shape=[3] : f32[3]
               %2 = map(%0, %1) function=add : f32[3]
               %3 = map(%0) function=exp : f32[3]
               result z: output = %3",
        );
        let after = (super::PASS.run)(&before.unwrap()).unwrap();
        let expected = "\
function f
  argument x: input f32[3]
  argument y: input f32[3]
  %0 = argument() index=0 dtype=f32 shape=[3] : f32[3]
  %1 = map(%0) function=exp : f32[3]
  result z: output = %1
";
        assert_eq!(after.to_string(), expected);
    }
}
