//! What Winograd's transforms cost, in cycles, against the direct product.

use super::{FLOAT, STRIP_BYTES};
use crate::ir::dim::Dim;
use crate::ir::ops::spatial::Geometry;
use crate::ir::ops::winograd::Winograd;
use crate::ir::types::{DType, TensorType};

/// The sizes of a convolution over two axes: its samples and results, none of which is 0, and its kernel of 3 × 3.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub samples: usize,
    pub rows: usize,
    pub columns: usize,
    pub channels: usize,
    pub filters: usize,
}

/// Fused multiply-adds that contractions come to in a cycle: 16 at the peak.
const MULTIPLY_ADDS: f64 = 14.0;
/// Floats in a vector.
const LANES: f64 = 8.0;
/// Fewer channels or filters fill no vectors.
const FEWEST_CHANNELS: usize = 16;
/// The direct product has to be this much dearer.
const LEAST_GAIN: f64 = 1.2;
/// In training, transformed kernels that are whole in memory may take so many times the memory of the convolution's input and output.
const LARGEST_KERNEL: f64 = 4.0;

/// Cycles for one vector of a tile in each transform, as counted in their code: input, kernel, output. Their adjoints take as many.
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

/// Cycles to transform so many tiles, each transformed element of which is written once and read once, with at most so many bytes of them in memory at a time.
fn transform(tile: usize, tiles: f64, cycles: f64, at_a_time: f64) -> f64 {
    let bytes = Winograd::places(tile) as f64 * FLOAT as f64;
    tiles / LANES * (cycles + bytes * LANES * 2.0 / rate((bytes * tiles).min(at_a_time)))
}

impl Sizes {
    /// The sizes of a convolution for which there are transforms.
    pub fn of(g: &Geometry, x: &TensorType, kernel: &[usize], output: &[Dim]) -> Option<Sizes> {
        let ones = g.strides.iter().chain(&g.dilations).chain(&g.input_dilations).all(|n| *n == 1);
        if !ones || g.groups != 1 || g.rank() != 2 || kernel[..2] != [3, 3] || x.dtype != DType::F32 {
            return None;
        }
        let size = |dim: &Dim| dim.constant().and_then(|n| usize::try_from(n).ok());
        let (samples, rows, columns) = (size(&output[0])?, size(&output[1])?, size(&output[2])?);
        let (channels, filters) = (kernel[2], kernel[3]);
        let enough = samples * rows * columns > 0 && channels.min(filters) >= FEWEST_CHANNELS;
        enough.then_some(Sizes { samples, rows, columns, channels, filters })
    }

    /// How many tiles there are along each axis.
    pub fn tiles(&self, tile: usize) -> (usize, usize) {
        (self.rows.div_ceil(tile), self.columns.div_ceil(tile))
    }

    /// Elements of the kernel in one place.
    fn kernel(&self) -> f64 {
        self.channels as f64 * self.filters as f64
    }

    /// Results for one filter.
    fn results(&self) -> f64 {
        self.samples as f64 * (self.rows * self.columns) as f64
    }

    fn all_tiles(&self, tile: usize) -> f64 {
        let (rows, columns) = self.tiles(tile);
        self.samples as f64 * (rows * columns) as f64
    }

    /// Whether the transformed kernel may be whole in memory while training.
    pub fn kernel_is_small(&self, tile: usize) -> bool {
        let ends = self.results() * (self.channels + self.filters) as f64;
        Winograd::places(tile) as f64 * self.kernel() <= LARGEST_KERNEL * ends
    }

    /// The tiles that cost least, if these cost enough less than the direct product.
    pub fn best(&self, cost: impl Fn(usize) -> f64) -> Option<usize> {
        let best = if cost(4) < cost(2) { 4 } else { 2 };
        (cost(best) * LEAST_GAIN < self.direct()).then_some(best)
    }

    /// Cycles of the direct product, and of reading the kernel.
    fn direct(&self) -> f64 {
        let kernel = 9.0 * self.kernel();
        kernel * self.results() / MULTIPLY_ADDS + kernel * 4.0 / rate(kernel * 4.0)
    }

    /// Cycles of the products between the transforms.
    fn products(&self, tile: usize) -> f64 {
        Winograd::places(tile) as f64 * self.kernel() * self.all_tiles(tile) / MULTIPLY_ADDS
    }

    /// Cycles of a convolution by transforms.
    pub fn transformed(&self, tile: usize) -> f64 {
        let ([input, kernel, output], tiles) = (cycles(tile), self.all_tiles(tile));
        self.products(tile)
            + transform(tile, tiles * self.channels as f64, input, STRIP_BYTES as f64)
            + transform(tile, self.kernel(), kernel, f64::INFINITY)
            + transform(tile, tiles * self.filters as f64, output, STRIP_BYTES as f64)
    }

    /// Cycles of a kernel's gradient by transforms, summed in so many parts.
    pub fn gradient(&self, tile: usize, parts: usize) -> f64 {
        let ([input, kernel, output], tiles) = (cycles(tile), self.all_tiles(tile));
        self.products(tile)
            + transform(tile, tiles * self.channels as f64, input, STRIP_BYTES as f64)
            + transform(tile, tiles * self.filters as f64, output, STRIP_BYTES as f64)
            + transform(tile, self.kernel() * parts as f64, kernel, f64::INFINITY)
    }
}
