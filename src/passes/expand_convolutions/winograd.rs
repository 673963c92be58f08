//! Convolutions with kernels of 3 × 3 by Winograd's transforms, where these cost less than the multiplications that they save.
//!
//! A tile of 4 × 4 results, or of the gradient of results, takes 36 multiplications for each channel and filter instead of 144, one of 2 × 2 takes 16 instead of 36. Inputs,
//! kernel and products are transformed in kernels of their own, whose results go through memory, so a few channels or a few tiles do not pay. Sums are rounded elsewhere than
//! in the direct product: `docs/numerics.md` has the bound, and [`Limits::exact`](crate::passes::Limits::exact) refuses the transforms.

use super::{Allowed, padded};
use crate::ir::builder::GraphBuilder;
use crate::ir::dim::Dim;
use crate::ir::graph::ValueId;
use crate::ir::ops::Op;
use crate::ir::ops::TypeError;
use crate::ir::ops::slice::Slice;
use crate::ir::ops::spatial::Geometry;
use crate::ir::ops::winograd::{Part, Winograd};

mod cost;
mod gradient;

use cost::Sizes;
pub(super) use gradient::kernel_gradient;

/// The size of the tiles by which a convolution is to be done; `None` if the direct product is to be preferred or the only way.
///
/// Whether a kernel is transformed ahead of the calls does not count: the bits would depend on it.
pub(super) fn tile(
    b: &GraphBuilder,
    g: &Geometry,
    (x, w): (ValueId, ValueId),
    output: &[Dim],
    allowed: Allowed,
) -> Option<usize> {
    let kernel = b.type_of(w).sizes()?;
    let sizes = Sizes::of(g, b.type_of(x), &kernel, output).filter(|_| !allowed.exact)?;
    let best = sizes.best(|tile| sizes.transformed(tile))?;
    let bytes = Winograd::places(best) * FLOAT;
    let in_blocks = || {
        let is_one = sizes.strip(best) == sizes.samples * sizes.rows.div_ceil(best);
        is_one && blocks(sizes.filters, bytes * sizes.channels) > 1
    };
    let fits = !allowed.trains || sizes.kernel_is_small(best) || in_blocks();
    fits.then_some(best)
}

/// Bytes of a number.
const FLOAT: usize = 4;

/// The convolution by tiles of `tile` × `tile` results, of which those past the end are cut off.
pub(super) fn convolve(
    b: &mut GraphBuilder,
    g: &Geometry,
    (x, w): (ValueId, ValueId),
    output: &[Dim],
    (tile, trains): (usize, bool),
) -> Result<ValueId, TypeError> {
    let kernel = b.type_of(w).sizes().unwrap_or_default();
    let sizes = Sizes::of(g, b.type_of(x), &kernel, output).ok_or_else(|| TypeError::new("a size is not known"))?;
    let tiles = sizes.tiles(tile);
    let x = padded(b, &whole_tiles(g, &sizes, tile), x)?;
    let strip = sizes.strip(tile);
    // Where there is more of the kernel than of tiles, its transform is what is done in parts.
    let is_one = strip == sizes.samples * tiles.0;
    let blocks =
        if trains && is_one { blocks(sizes.filters, Winograd::places(tile) * FLOAT * sizes.channels) } else { 1 };
    let inputs = b.add_one(Winograd { part: Part::Input, tile, tiles, strip, blocks: 1 }, &[x])?;
    let w = if is_turned(b, w) { in_blocks(b, w, blocks)? } else { w };
    let kernel = b.add_one(Winograd { part: Part::Kernel, tile, tiles: (1, 1), strip: 1, blocks }, &[w])?;
    // Labels: places, tiles, channels, filters, strips, blocks.
    let products = b.contract((inputs, &[4, 0, 1, 2]), (kernel, &[5, 0, 2, 3]), &[5, 4, 0, 1, 3])?;
    let results = b.add_one(Winograd { part: Part::Output, tile, tiles, strip, blocks }, &[products])?;
    if b.shape_of(results) == output {
        return Ok(results);
    }
    let mut cut = Slice::whole(&b.shape_of(results));
    cut.sizes = output.to_vec();
    b.add_one(cut, &[results])
}

/// Whether a kernel is another one with its axes in another order, so that it has to be copied before it is transformed.
fn is_turned(b: &GraphBuilder, w: ValueId) -> bool {
    matches!(b.graph().node(w.node).op, Op::Transpose(_))
}

/// A kernel with its blocks of filters one after the other: what has to be copied is copied block by block.
fn in_blocks(b: &mut GraphBuilder, w: ValueId, blocks: usize) -> Result<ValueId, TypeError> {
    if blocks == 1 {
        return Ok(w);
    }
    let mut shape = b.shape_of(w);
    let filters = shape.pop().and_then(|filters| filters.div_exact(&Dim::from(blocks)));
    shape.extend([Dim::from(blocks), filters.ok_or_else(|| TypeError::new("filters do not divide into blocks"))?]);
    let cut = b.reshape(w, &shape)?;
    b.transpose(cut, &[3, 0, 1, 2, 4])
}

/// The geometry with the zeros that make all tiles whole.
fn whole_tiles(g: &Geometry, sizes: &Sizes, tile: usize) -> Geometry {
    let (rows, columns) = sizes.tiles(tile);
    let mut whole = g.clone();
    whole.high[0] += (rows * tile - sizes.rows) as i64;
    whole.high[1] += (columns * tile - sizes.columns) as i64;
    whole
}

/// Bytes of a transformed strip: with the products of it it stays in the third cache, and leaves most of that to others.
const STRIP_BYTES: usize = 2 << 20;

/// Bytes of a block of a transformed kernel: 32 filters of 512 channels, or for its gradient 32 channels of 512 filters.
const BLOCK_BYTES: usize = 9 << 18;

/// Tiles of a strip: a product of fewer rows takes longer for each of them.
const FEWEST_TILES: usize = 96;

/// Filters or channels of a block at least: some vectors, and enough columns or rows for a product.
const FEWEST_IN_A_BLOCK: usize = 32;

/// Into how many blocks the filters or channels of a kernel, so `many`, are cut whose transform has so many bytes for each of them.
fn blocks(many: usize, bytes: usize) -> usize {
    let fits = |blocks: &usize| many.is_multiple_of(*blocks) && many / blocks * bytes <= BLOCK_BYTES;
    (1..=many / FEWEST_IN_A_BLOCK).find(fits).unwrap_or(1)
}

impl Sizes {
    /// The strips into which tiles may be cut, by their rows of tiles: parts of one sample or all of some, with [`FEWEST_TILES`] at least.
    fn strips(&self, tile: usize) -> Vec<usize> {
        let (rows, columns) = self.tiles(tile);
        let of_a_sample = (1..=rows).filter(|n| rows.is_multiple_of(*n));
        let of_samples = (2..=self.samples).filter(|n| self.samples.is_multiple_of(*n)).map(|n| n * rows);
        of_a_sample.chain(of_samples).filter(|n| n * columns >= FEWEST_TILES).collect()
    }

    /// Bytes of a strip of so many rows of transformed tiles.
    fn strip_bytes(&self, tile: usize, rows: usize) -> usize {
        rows * self.tiles(tile).1 * Winograd::places(tile) * FLOAT * self.channels.max(self.filters)
    }

    /// The rows of tiles of a strip: the most that keep to [`STRIP_BYTES`], and [`FEWEST_TILES`] at least.
    fn strip(&self, tile: usize) -> usize {
        let strips = self.strips(tile);
        let small = strips.iter().rev().find(|rows| self.strip_bytes(tile, **rows) <= STRIP_BYTES);
        small.or(strips.first()).copied().unwrap_or(self.samples * self.tiles(tile).0)
    }
}
