//! Groups without a fold: nests of loops around one vector loop.

use super::axes::{Addresses, Axis, spread};
use super::emit::{Context, Emitter};
use super::finish::{CHUNK_WORK, Draft};
use crate::ir::loops::build::{BlockBuilder, KernelBuilder};
use crate::ir::loops::sums::divisor;
use crate::ir::loops::{Affine, LoopVar};
use crate::passes::fuse::Group;
use crate::passes::fuse::classify::block_cost;

/// The kernels of a group whose nodes are all pointwise, or that copies.
pub fn lower(cx: &Context<'_>, group: &Group) -> Vec<Draft> {
    let (addresses, cost) = probe(cx, group);
    let extents: Vec<u64> = group.space.iter().map(|s| *s as u64).collect();
    let axes = addresses.collapse(&extents, &vec![0; extents.len()]);
    match axes.as_slice() {
        [] => vec![write(cx, group, |e, b| e.stores(b, group, &vec![Affine::default(); extents.len()]))],
        [line] => parts(line.extent, u64::from(cost.max(1)))
            .into_iter()
            .map(|part| write(cx, group, |e, b| write_line(e, b, group, line, &part)))
            .collect(),
        _ => {
            let vector = addresses.vector_axis(&axes).unwrap_or(axes.len() - 1);
            vec![write(cx, group, |e, b| write_nest(e, b, group, &axes, vector))]
        }
    }
}

/// The addresses of a group's code with one variable an axis, and the cost of one point.
fn probe(cx: &Context<'_>, group: &Group) -> (Addresses, u32) {
    let mut emitter = Emitter::new(cx, group);
    let kernel = KernelBuilder::new().finish("probe", None, |b| {
        let point: Vec<Affine> = group.space.iter().map(|_| Affine::scaled(b.variable(), 1)).collect();
        emitter.stores(b, group, &point);
    });
    (Addresses::of(&kernel.body), block_cost(&kernel.body))
}

fn write(cx: &Context<'_>, group: &Group, body: impl FnOnce(&mut Emitter<'_>, &mut BlockBuilder<'_>)) -> Draft {
    let mut emitter = Emitter::new(cx, group);
    let kernel = KernelBuilder::new().finish("map", None, |b| body(&mut emitter, b));
    emitter.draft(kernel)
}

/// A range of a long axis: `blocks` blocks of `size` elements from `start`; one block is a plain vector loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub start: u64,
    pub blocks: u64,
    pub size: u64,
}

/// Cuts an axis into blocks for threads where there is work enough, and a rest.
pub fn parts(extent: u64, cost: u64) -> Vec<Part> {
    let whole = Part { start: 0, blocks: 1, size: extent };
    if extent.saturating_mul(cost) < 2 * CHUNK_WORK {
        return vec![whole];
    }
    let most = (CHUNK_WORK / cost).clamp(64, CHUNK_WORK);
    if let Some(size) = divisor(extent, (most / 8).max(16), most) {
        return vec![Part { start: 0, blocks: extent / size, size }];
    }
    let size = (most / 2).next_multiple_of(16);
    let blocks = extent / size;
    let rest = Part { start: blocks * size, blocks: 1, size: extent - blocks * size };
    vec![Part { start: 0, blocks, size }, rest]
}

fn write_line(e: &mut Emitter<'_>, b: &mut BlockBuilder<'_>, group: &Group, line: &Axis, part: &Part) {
    let rank = group.space.len();
    if part.blocks == 1 {
        b.lanes(part.size, |b, var| {
            let index = Affine::scaled(var, 1).offset(part.start as i64);
            e.stores(b, group, &spread(rank, &[(line, index)]));
        });
        return;
    }
    b.for_each(part.blocks, |b, block| {
        b.lanes(part.size, |b, var| {
            let index = Affine::scaled(block, part.size as i64).plus(var, 1).offset(part.start as i64);
            e.stores(b, group, &spread(rank, &[(line, index)]));
        });
    });
}

fn write_nest(e: &mut Emitter<'_>, b: &mut BlockBuilder<'_>, group: &Group, axes: &[Axis], vector: usize) {
    let order: Vec<usize> = (0..axes.len()).filter(|a| *a != vector).collect();
    let extents: Vec<u64> = order.iter().map(|a| axes[*a].extent).collect();
    nested(b, &extents, &mut Vec::new(), &mut |b, vars| {
        b.lanes(axes[vector].extent, |b, lane| {
            let mut loops: Vec<(&Axis, Affine)> =
                order.iter().zip(vars).map(|(a, v)| (&axes[*a], Affine::scaled(*v, 1))).collect();
            loops.push((&axes[vector], Affine::scaled(lane, 1)));
            e.stores(b, group, &spread(group.space.len(), &loops));
        });
    });
}

/// Serial loops, outermost first, around what `inner` writes.
pub fn nested(
    b: &mut BlockBuilder<'_>,
    extents: &[u64],
    vars: &mut Vec<LoopVar>,
    inner: &mut dyn FnMut(&mut BlockBuilder<'_>, &[LoopVar]),
) {
    let Some((extent, rest)) = extents.split_first() else { return inner(b, vars) };
    b.for_each(*extent, |b, var| {
        vars.push(var);
        nested(b, rest, vars, inner);
        vars.pop();
    });
}
