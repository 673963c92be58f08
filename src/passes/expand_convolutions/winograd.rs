//! Convolutions with kernels of 3 × 3 by Winograd's transforms, where these cost less than the multiplications that they save.
//!
//! A tile of 4 × 4 results takes 36 multiplications for each channel and filter instead of 144, one of 2 × 2 takes 16 instead of 36. Inputs,
//! kernel and products are transformed in kernels of their own, whose results go through memory, so a few channels or a few tiles do not pay. Sums are rounded elsewhere than
//! in the direct product: `docs/numerics.md` has the bound, and [`Limits::exact`](crate::passes::Limits::exact) refuses the transforms.

use super::{Allowed, padded};
use crate::ir::builder::GraphBuilder;
use crate::ir::dim::Dim;
use crate::ir::graph::ValueId;
use crate::ir::ops::TypeError;
use crate::ir::ops::slice::Slice;
use crate::ir::ops::spatial::Geometry;
use crate::ir::ops::winograd::{Part, Winograd};
use crate::ir::types::DType;

/// The sizes of a convolution over two axes.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    samples: f64,
    rows: usize,
    columns: usize,
    channels: f64,
    filters: f64,
}

/// Fused multiply-adds that contractions come to in a cycle: 16 at the peak.
const MULTIPLY_ADDS: f64 = 14.0;
/// Floats in a vector.
const LANES: f64 = 8.0;
/// Fewer channels or filters fill no vectors.
const FEWEST_CHANNELS: f64 = 16.0;
/// The direct product has to be this much dearer.
const LEAST_GAIN: f64 = 1.2;
/// In training, transformed kernels may take so many times the memory of the convolution's input and output.
const LARGEST_KERNEL: f64 = 4.0;

/// Cycles for one vector of a tile in each transform, as counted in their code: input, kernel, output.
fn cycles(tile: usize) -> [f64; 3] {
    if tile == 2 { [40.0, 25.0, 30.0] } else { [120.0, 70.0, 100.0] }
}

/// Bytes in a cycle that go through a memory of the size that holds `bytes` (measured: second and third cache, memory).
fn rate(bytes: f64) -> f64 {
    match bytes {
        b if b < 4e5 => 20.0,
        b if b < 8e6 => 11.0,
        _ => 5.0,
    }
}

impl Sizes {
    fn tiles(&self, tile: usize) -> f64 {
        self.samples * (self.rows.div_ceil(tile) * self.columns.div_ceil(tile)) as f64
    }

    /// Elements of the transformed kernel.
    fn kernel(&self, tile: usize) -> f64 {
        Winograd::places(tile) as f64 * self.channels * self.filters
    }

    /// Elements of the input and the output.
    fn ends(&self) -> f64 {
        self.samples * (self.rows * self.columns) as f64 * (self.channels + self.filters)
    }

    /// Cycles of the direct product, and of reading the kernel.
    fn direct(&self) -> f64 {
        let results = self.samples * (self.rows * self.columns) as f64;
        let kernel = 9.0 * self.channels * self.filters;
        kernel * results / MULTIPLY_ADDS + kernel * 4.0 / rate(kernel * 4.0)
    }

    /// Cycles of the transforms and of the products between them.
    fn transformed(&self, tile: usize) -> f64 {
        let places = Winograd::places(tile) as f64;
        let tiles = self.tiles(tile);
        let elements = [tiles * self.channels, self.channels * self.filters, tiles * self.filters];
        let products = places * elements[1] * tiles / MULTIPLY_ADDS;
        let transforms = elements.iter().zip(cycles(tile)).map(|(count, cycles)| {
            // Each transformed element is written once and read once.
            let traffic = places * 4.0 * LANES * 2.0 / rate(places * 4.0 * count);
            count / LANES * (cycles + traffic)
        });
        products + transforms.sum::<f64>()
    }
}

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
    if allowed.exact {
        return None;
    }
    let ones = g.strides.iter().chain(&g.dilations).chain(&g.input_dilations).all(|n| *n == 1);
    let kernel = b.type_of(w).sizes()?;
    if !ones || g.groups != 1 || g.rank() != 2 || kernel[..2] != [3, 3] || b.dtype_of(x) != DType::F32 {
        return None;
    }
    let size = |dim: &Dim| dim.constant().and_then(|n| usize::try_from(n).ok());
    let (samples, rows, columns) = (size(&output[0])?, size(&output[1])?, size(&output[2])?);
    let (channels, filters) = (kernel[2] as f64, kernel[3] as f64);
    if samples * rows * columns == 0 || channels.min(filters) < FEWEST_CHANNELS {
        return None;
    }
    let sizes = Sizes { samples: samples as f64, rows, columns, channels, filters };
    let cost = |tile: usize| sizes.transformed(tile);
    let best = if cost(4) < cost(2) { 4 } else { 2 };
    let fits = !allowed.trains || sizes.kernel(best) <= LARGEST_KERNEL * sizes.ends();
    (fits && cost(best) * LEAST_GAIN < sizes.direct()).then_some(best)
}

/// The convolution by tiles of `tile` × `tile` results, of which those past the end are cut off.
pub(super) fn convolve(
    b: &mut GraphBuilder,
    g: &Geometry,
    (x, w): (ValueId, ValueId),
    output: &[Dim],
    (tile, trains): (usize, bool),
) -> Result<ValueId, TypeError> {
    let unknown = || TypeError::new("a size is not known");
    let size = |dim: &Dim| dim.constant().and_then(|n| usize::try_from(n).ok()).ok_or_else(unknown);
    let (rows, columns) = (size(&output[1])?, size(&output[2])?);
    let tiles = (rows.div_ceil(tile), columns.div_ceil(tile));
    let mut whole = g.clone();
    whole.high[0] += (tiles.0 * tile - rows) as i64;
    whole.high[1] += (tiles.1 * tile - columns) as i64;
    let x = padded(b, &whole, x)?;
    let (samples, kernel) = (size(&output[0])?, b.shape_of(w));
    let (channels, filters) = (size(&kernel[2])?, size(&kernel[3])?);
    let bytes = Winograd::places(tile) * b.dtype_of(x).bytes();
    let strip = strip(tiles, samples, bytes * channels.max(filters));
    // Where there is more of the kernel than of tiles, its transform is what is done in parts.
    let is_one = strip == samples * tiles.0;
    let blocks = if trains && is_one { blocks(filters, bytes * channels) } else { 1 };
    let inputs = b.add_one(Winograd { part: Part::Input, tile, tiles, strip, blocks: 1 }, &[x])?;
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

/// Bytes of a transformed strip: with the products of it it stays in the third cache, and leaves most of that to others.
const STRIP_BYTES: usize = 2 << 20;

/// Tiles of a strip: a product of fewer rows takes longer for each of them.
const FEWEST_TILES: usize = 96;

/// Filters of a block at least: some vectors, and enough columns for a product.
const FEWEST_FILTERS: usize = 32;

/// Into how many blocks the filters of a kernel are cut whose transform has so many bytes for each of them.
fn blocks(filters: usize, bytes: usize) -> usize {
    let fits = |blocks: &usize| filters.is_multiple_of(*blocks) && filters / blocks * bytes <= STRIP_BYTES;
    (1..=filters / FEWEST_FILTERS).find(fits).unwrap_or(1)
}

/// The rows of tiles of a strip, where a tile has so many bytes: the most that keep to [`STRIP_BYTES`], and [`FEWEST_TILES`] at least.
fn strip((rows, columns): (usize, usize), samples: usize, bytes: usize) -> usize {
    let of_a_sample = (1..=rows).filter(|n| rows.is_multiple_of(*n));
    let of_samples = (2..=samples).filter(|n| samples.is_multiple_of(*n)).map(|n| n * rows);
    let strips: Vec<usize> = of_a_sample.chain(of_samples).filter(|n| n * columns >= FEWEST_TILES).collect();
    let small = strips.iter().rev().find(|n| *n * columns * bytes <= STRIP_BYTES);
    small.or(strips.first()).copied().unwrap_or(samples.max(1) * rows)
}
