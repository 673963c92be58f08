//! Arithmetic on `f16` and `bf16` becomes arithmetic in `f32`.
//!
//! Operands are cast to `f32` and results back, so each op's result is rounded to its dtype, whatever is fused later. Ops that only
//! move elements stay as they are. A constant is written down in `f32`, rounded.

use rustc_hash::FxHashMap;

use crate::ir::graph::{Function, Node, ValueId};
use crate::ir::ops::Op;
use crate::ir::ops::constant::Constant;
use crate::ir::rewrite::Rewriter;
use crate::ir::scalar::ScalarFunction;
use crate::ir::types::DType;
use crate::passes::{GraphPass, Limits, PassError};

/// The pass.
pub const PASS: GraphPass =
    GraphPass { name: "half", doc: "arithmetic on f16 and bf16 becomes arithmetic in f32", run };

fn run(function: &Function, _: &Limits) -> Result<Function, PassError> {
    let mut widening = Widening { rewriter: Rewriter::new(function.graph.len()), wide: FxHashMap::default() };
    for (id, node) in function.graph.nodes() {
        if computes_on_halves(function, node) {
            let values = widening.widened(node)?;
            widening.rewriter.set(id, values);
        } else {
            widening.rewriter.copy(id, node);
        }
    }
    Ok(widening.rewriter.finish(function))
}

/// Whether the node has operands of a half dtype and does more than to move them.
fn computes_on_halves(function: &Function, node: &Node) -> bool {
    let half = node.inputs.iter().any(|v| function.graph.type_of(*v).dtype.is_half());
    half && !only_moves(&node.op)
}

/// Whether the results are elements of the operands as they are. An op that is not listed is only slower.
fn only_moves(op: &Op) -> bool {
    match op {
        Op::Map(map) => map.function == ScalarFunction::Select,
        Op::Cast(_) | Op::Broadcast(_) | Op::Reshape(_) | Op::Transpose(_) | Op::Slice(_) => true,
        Op::Pad(_) | Op::Concat(_) | Op::Gather(_) => true,
        // Its body was widened before it.
        Op::Scan(_) => true,
        _ => false,
    }
}

struct Widening {
    rewriter: Rewriter,
    /// The values that are there in `f32` already.
    wide: FxHashMap<ValueId, ValueId>,
}

impl Widening {
    /// The node in `f32`, its results cast to what they were.
    fn widened(&mut self, node: &Node) -> Result<Vec<ValueId>, PassError> {
        self.rewriter.builder.set_scope(node.scope.clone());
        let mut inputs = Vec::new();
        for input in &node.inputs {
            let value = self.rewriter.value(*input);
            inputs.push(self.operand(value));
        }
        let outputs = self.rewriter.builder.add(node.op.clone(), &inputs).map_err(|error| PassError {
            message: format!("`{}` in f32 instead of a half: {error}", node.op.doc().name),
            scope: node.scope.clone(),
        })?;
        let narrow = outputs.into_iter().zip(&node.outputs);
        Ok(narrow.map(|(value, ty)| self.rewriter.builder.cast(value, ty.dtype)).collect())
    }

    fn operand(&mut self, value: ValueId) -> ValueId {
        let builder = &mut self.rewriter.builder;
        if !builder.dtype_of(value).is_half() {
            return value;
        }
        if let Some(wide) = self.wide.get(&value) {
            return *wide;
        }
        let wide = match &builder.graph().node(value.node).op {
            Op::Constant(constant) => {
                let known = constant.known().map(|v| Constant::number(v, DType::F32, &constant.shape));
                known.map(|constant| builder.emit(constant, &[]))
            }
            _ => None,
        };
        let wide = wide.unwrap_or_else(|| builder.cast(value, DType::F32));
        self.wide.insert(value, wide);
        wide
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{text, verify};

    fn lines(nodes: &str) -> Vec<String> {
        let function = text::parse(nodes).unwrap();
        let widened = run(&function, &Limits::default()).unwrap();
        verify::function(&widened).unwrap();
        let printed = widened.to_string();
        printed.lines().map(str::trim).filter(|l| l.starts_with('%')).map(str::to_string).collect()
    }

    #[test]
    fn each_result_is_rounded() {
        let found = lines(
            "function f
             argument x: input bf16[4]
             %0 = argument() index=0 dtype=bf16 shape=[4] : bf16[4]
             %1 = constant() value=0.1 dtype=bf16 shape=[4] : bf16[4]
             %2 = map(%0, %1) function=mul : bf16[4]
             %3 = map(%2, %0) function=add : bf16[4]
             %4 = map(%3, %2) function=less : bool[4]
             %5 = reshape(%3) shape=[2, 2] : bf16[2, 2]
             result y: output = %5
             result z: output = %4\n",
        );
        let expected = [
            "%0 = argument() index=0 dtype=bf16 shape=[4] : bf16[4]",
            "%1 = constant() value=0.1 dtype=bf16 shape=[4] : bf16[4]",
            "%2 = cast(%0) dtype=f32 : f32[4]",
            "%3 = constant() value=0.10009765625 dtype=f32 shape=[4] : f32[4]",
            "%4 = map(%2, %3) function=mul : f32[4]",
            "%5 = cast(%4) dtype=bf16 : bf16[4]",
            "%6 = cast(%5) dtype=f32 : f32[4]",
            "%7 = map(%6, %2) function=add : f32[4]",
            "%8 = cast(%7) dtype=bf16 : bf16[4]",
            "%9 = cast(%8) dtype=f32 : f32[4]",
            "%10 = map(%9, %6) function=less : bool[4]",
            "%11 = reshape(%8) shape=[2, 2] : bf16[2, 2]",
        ];
        assert_eq!(found, expected);
    }
}
