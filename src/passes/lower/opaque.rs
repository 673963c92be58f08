//! Ops that write their whole nest themselves.

use super::emit::{Context, Emitter};
use super::finish::Draft;
use crate::ir::graph::{NodeId, ValueId};
use crate::ir::loops::BufferId;
use crate::ir::loops::build::KernelBuilder;
use crate::ir::ops::{LowerContext, LowerOperands};
use crate::passes::fuse::Group;
use crate::passes::fuse::classify::input_types;

/// The kernel of an opaque op: its operands' buffers, then its results'.
pub fn lower(cx: &Context<'_>, group: &Group, id: NodeId) -> Draft {
    let node = cx.function.graph.node(id);
    let mut emitter = Emitter::new(cx, group);
    let kernel = KernelBuilder::new().finish(node.op.doc().name, None, |block| {
        let bases: Vec<ValueId> =
            node.inputs.iter().map(|v| cx.analysis.base(cx.function, *v).map_or(*v, |(base, _)| base)).collect();
        let inputs: Vec<BufferId> = bases.iter().map(|v| emitter.buffer(block, cx.homes[v])).collect();
        let outputs: Vec<BufferId> = (0..node.outputs.len() as u32)
            .map(|output| emitter.buffer(block, cx.homes[&ValueId { node: id, output }]))
            .collect();
        let types = input_types(cx.function, &node.inputs);
        let operands = LowerOperands::Buffers { inputs: &inputs, outputs: &outputs };
        node.op.lower(&mut LowerContext { block, inputs: &types, outputs: &node.outputs, operands });
    });
    emitter.draft(kernel)
}
