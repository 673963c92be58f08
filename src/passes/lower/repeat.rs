//! Loops over a function: the kernels of its body in a repeat.
//!
//! The carries live in the node's results from the start, where they are copied first. A body stores the next carries in the place of the
//! old ones, as it would the updates of any function. An element of a sequence, and the place of what a round yields, are sections
//! that move with the round.

use super::emit::{Array, Context};
use super::finish::Draft;
use super::map::{Part, parts};
use super::shared::Shared;
use super::{context, lower_groups};
use crate::ir::graph::{NodeId, ValueId};
use crate::ir::loops::build::{BlockBuilder, KernelBuilder};
use crate::ir::loops::steps::calls;
use crate::ir::loops::{Affine, BufferUse, LoopVar, Repeat, Step};
use crate::ir::ops::Op;
use crate::ir::types::{DType, TensorType};
use crate::passes::fuse::Fused;
use crate::passes::fuse::placement::{self, Placed};

/// Writes the steps of the scan `id`.
pub fn lower(cx: &mut Context<'_>, shared: &mut Shared, fused: &Fused, id: NodeId) {
    let node = fused.function.graph.node(id);
    let Op::Scan(scan) = &node.op else { unreachable!("only a scan is a loop") };
    let body = &fused.bodies[&id];
    let carries = scan.carries as usize;
    let placed = |operand: usize| placement::placed(cx.function, cx.analysis, id, scan, operand);
    let operands: Vec<Placed> = (0..node.inputs.len()).map(placed).collect();
    let output = |number: usize| cx.arrays[cx.homes[&ValueId { node: id, output: number as u32 }] as usize].clone();
    let outputs: Vec<Array> = (0..node.outputs.len()).map(output).collect();
    for (from, to) in operands.iter().zip(&outputs[..carries]) {
        let from = &cx.arrays[cx.homes[&from.base] as usize];
        copy(shared, from, to);
    }
    let count = scan.length.constant().and_then(|n| u64::try_from(n).ok()).expect("fusion found every size");
    if count == 0 {
        return;
    }
    let var = shared.variable();
    let round = cx.temporary("round", DType::I32, 1);
    let round = cx.arrays[round as usize].clone();
    let target = round.section.clone();
    let mut arguments = vec![round];
    arguments.extend(outputs[..carries].iter().cloned());
    for operand in &operands[carries..] {
        let base = &cx.arrays[cx.homes[&operand.base] as usize];
        let distance = Affine::scaled(var, operand.step).offset(operand.offset);
        arguments.push(Array {
            elements: placement::reach(&operand.view),
            section: base.section.moved(&distance),
            ..base.clone()
        });
    }
    let yields = scan.body.results.iter().zip(outputs).skip(carries);
    let results = yields.map(|(r, stack)| element(stack, scan.body.graph.type_of(r.value), var)).collect();
    shared.enter();
    let mut inside = context(body, std::mem::take(&mut cx.buffers), arguments, results);
    lower_groups(&mut inside, body, shared);
    cx.buffers = inside.buffers;
    let mut steps = shared.leave();
    if calls(&steps).iter().any(|c| c.buffers.contains(&target)) {
        steps.insert(0, Step::Index { target, index: Affine::scaled(var, 1) });
    }
    shared.push(Step::Repeat(Repeat { var, count, reverse: scan.reverse, steps }));
}

/// The part of a stack that belongs to the round.
fn element(stack: Array, ty: &TensorType, var: LoopVar) -> Array {
    let elements = ty.elements().expect("fusion found every size") as u64;
    let section = stack.section.moved(&Affine::scaled(var, elements as i64));
    Array { elements, section, ..stack }
}

/// Copies one array to another of its size.
fn copy(shared: &mut Shared, from: &Array, to: &Array) {
    if from.elements == 0 {
        return;
    }
    for Part { start, blocks, size } in parts(from.elements, 1) {
        let mut k = KernelBuilder::new();
        let source = k.buffer("from", from.dtype, from.elements, BufferUse::Read);
        let target = k.buffer("to", to.dtype, to.elements, BufferUse::Write);
        let lanes = |b: &mut BlockBuilder<'_>, origin: Affine| {
            b.lanes(size, |b, lane| {
                let value = b.load(source, origin.clone().plus(lane, 1));
                b.store(target, origin.clone().plus(lane, 1), value);
            });
        };
        let kernel = k.finish("copy", None, |b| match blocks {
            1 => lanes(b, Affine::constant(start as i64)),
            _ => b.for_each(blocks, |b, block| lanes(b, Affine::scaled(block, size as i64).offset(start as i64))),
        });
        let buffers = vec![from.section.clone(), to.section.clone()];
        shared.call(Draft { kernel, buffers }, &format!("copy_{}", from.elements));
    }
}
