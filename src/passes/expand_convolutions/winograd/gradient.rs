//! A kernel's gradient by transforms: the transformed inputs times the results' gradients, which the adjoint of the results' transform took to the same places, summed
//! over tiles, and back by the adjoint of the kernel's.
//!
//! It is summed in parts, a strip of tiles each, so that no more than that is in memory; every part is transformed back by itself, since it is smaller then. Where
//! one strip is all there is, channels are cut into blocks instead, each of which is transformed back and used before the next one.

use super::super::{Allowed, MOST_PARTIAL, MOST_PARTS, padded};
use super::cost::Sizes;
use super::{FLOAT, STRIP_BYTES, blocks, whole_tiles};
use crate::ir::builder::GraphBuilder;
use crate::ir::dim::Dim;
use crate::ir::graph::ValueId;
use crate::ir::ops::TypeError;
use crate::ir::ops::convolve_kernel::ConvolveKernel;
use crate::ir::ops::pad::Pad;
use crate::ir::ops::winograd::{Part, Winograd};
use crate::ir::scalar::Monoid;

/// A strip may take so many times the usual bytes so that there are few enough of them.
const LARGEST_STRIP: usize = 4;

/// How a gradient is cut.
#[derive(Clone, Copy, Debug)]
struct Plan {
    sizes: Sizes,
    tile: usize,
    /// Rows of tiles in a strip.
    strip: usize,
    parts: usize,
    /// Blocks of channels.
    blocks: usize,
}

impl Plan {
    /// The plan for tiles of a size; `None` if there would be too many parts, or too large ones.
    fn with(sizes: Sizes, tile: usize) -> Option<Plan> {
        let rows = sizes.samples * sizes.tiles(tile).0;
        let kernel = Winograd::places(tile) * sizes.channels * sizes.filters;
        let few = |strip: &usize| {
            let parts = rows / strip;
            parts == 1 || parts <= MOST_PARTS as usize && parts * kernel <= MOST_PARTIAL as usize
        };
        let usual = sizes.strip(tile);
        let larger = |strip: &usize| sizes.strip_bytes(tile, *strip) <= LARGEST_STRIP * STRIP_BYTES;
        let strip = match few(&usual) {
            true => usual,
            false => sizes.strips(tile).into_iter().filter(|strip| *strip > usual && larger(strip)).find(few)?,
        };
        let parts = rows / strip;
        let bytes = Winograd::places(tile) * FLOAT * sizes.filters;
        let blocks = if parts == 1 { blocks(sizes.channels, bytes) } else { 1 };
        Some(Plan { sizes, tile, strip, parts, blocks })
    }

    fn best(sizes: Sizes) -> Option<Plan> {
        let plan = |tile: usize| Plan::with(sizes, tile);
        let best = sizes.best(|tile| plan(tile).map_or(f64::INFINITY, |plan| sizes.gradient(tile, plan.parts)))?;
        plan(best)
    }
}

/// The gradient of a kernel by transforms; `None` if the direct product is to be preferred or the only way.
pub(in super::super) fn kernel_gradient(
    b: &mut GraphBuilder,
    op: &ConvolveKernel,
    (x, dy): (ValueId, ValueId),
    allowed: Allowed,
) -> Option<Result<ValueId, TypeError>> {
    let output = b.shape_of(dy);
    let (channels, filters) = (b.shape_of(x).last()?.constant()?, output.last()?.constant()?);
    let kernel = [&op.sizes[..], &[usize::try_from(channels).ok()?, usize::try_from(filters).ok()?]].concat();
    let sizes = Sizes::of(&op.geometry, b.type_of(x), &kernel, &output).filter(|_| !allowed.exact)?;
    let plan = Plan::best(sizes)?;
    Some(write(b, op, (x, dy), plan))
}

fn write(
    b: &mut GraphBuilder,
    op: &ConvolveKernel,
    (x, dy): (ValueId, ValueId),
    Plan { sizes, tile, strip, parts, blocks }: Plan,
) -> Result<ValueId, TypeError> {
    let tiles = sizes.tiles(tile);
    let x = padded(b, &whole_tiles(&op.geometry, &sizes, tile), x)?;
    let mut pad = Pad::none(4, 0.0);
    pad.high[1] = Dim::from(tiles.0 * tile - sizes.rows);
    pad.high[2] = Dim::from(tiles.1 * tile - sizes.columns);
    let dy = if pad == Pad::none(4, 0.0) { dy } else { b.add_one(pad, &[dy])? };
    let inputs = b.add_one(Winograd { part: Part::Input, tile, tiles, strip, blocks: 1 }, &[x])?;
    let results = b.add_one(Winograd { part: Part::OutputAdjoint, tile, tiles, strip, blocks: 1 }, &[dy])?;
    let mut in_blocks = b.shape_of(inputs);
    in_blocks.pop();
    in_blocks.extend([blocks, sizes.channels / blocks].map(Dim::from));
    let inputs = b.reshape(inputs, &in_blocks)?;
    // Labels: places, tiles, channels, filters, strips, blocks.
    let products = b.contract((inputs, &[4, 0, 1, 5, 2]), (results, &[4, 0, 1, 3]), &[5, 4, 0, 2, 3])?;
    let back = Winograd { part: Part::KernelAdjoint, tile, tiles: (1, 1), strip: 1, blocks };
    let gradients = b.add_one(back, &[products])?;
    let kernel = [3, 3, sizes.channels, sizes.filters].map(Dim::from);
    if parts == 1 {
        let mut blocks = b.shape_of(gradients);
        blocks.remove(1);
        let gradients = b.reshape(gradients, &blocks)?;
        let gradients = b.transpose(gradients, &[1, 2, 0, 3, 4])?;
        return b.reshape(gradients, &kernel);
    }
    let gradients = b.reshape(gradients, &[&[Dim::from(parts)], &kernel[..]].concat())?;
    b.reduce(Monoid::Sum, gradients, &[0], false)
}
