//! Loops over tiles, and how they are cut for threads.
//!
//! A product with no fewer rows than columns is cut into blocks of rows, each of which goes over all panels; any other into panels, each
//! of which goes over all rows, so that a panel stays in the first cache. What is left over at the edges is a kernel of its own, since
//! all rounds of a parallel loop do the same; a product too small for threads is one kernel.

use super::TileShape;
use super::rename::{copy, fresh_value, fresh_variable};
use super::site::Site;
use crate::ir::loops::{Affine, Block, Contract, Instruction, Kernel, Matrix, Tile};
use crate::passes::lower::finish::Draft;

/// Products of fewer multiplications are not cut for threads.
const SMALLEST_PARALLEL: u64 = 1 << 18;

/// A range of rows or columns: tiles from `start`, then a narrower rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    start: u64,
    tiles: u64,
    rest: u64,
}

impl Span {
    fn is_empty(self) -> bool {
        self.tiles == 0 && self.rest == 0
    }
}

/// How a product is cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocks {
    shape: TileShape,
    packed: bool,
    /// What each kernel covers.
    kernels: Vec<Cover>,
}

/// What one kernel covers of a product.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Cover {
    /// `blocks` blocks of `tiles` row tiles, each over all columns.
    RowBlocks { blocks: u64, tiles: u64, columns: Span },
    /// Column tiles from 0, each over all rows.
    Panels { tiles: u64, rows: Span },
    /// Everything in two ranges, by one thread.
    Region { rows: Span, columns: Span },
}

impl Blocks {
    /// Cuts a product; only a packed right operand has readable padding beyond its last column.
    pub fn new(contract: &Contract, shape: TileShape, packed: bool) -> Blocks {
        let span = |extent: u64, tile: u64| Span { start: 0, tiles: extent / tile, rest: extent % tile };
        let rows = span(contract.rows, shape.rows);
        let columns = span(contract.columns, shape.columns);
        let work = contract.rows.saturating_mul(contract.columns).saturating_mul(contract.depth);
        let kernels = if work < SMALLEST_PARALLEL {
            vec![Cover::Region { rows, columns }]
        } else if contract.rows >= contract.columns {
            row_blocks(rows, columns, shape)
        } else {
            panels(rows, columns, shape)
        };
        Blocks { shape, packed, kernels }
    }
}

fn row_blocks(rows: Span, columns: Span, shape: TileShape) -> Vec<Cover> {
    // Eight tiles or a divisor near: a block of rows and one panel then fit into the first cache for usual depths.
    let even = [8, 7, 6, 9, 10, 5, 4, 12, 11, 13, 14, 15, 16].into_iter().find(|t| rows.tiles.is_multiple_of(*t));
    let tiles = even.unwrap_or(8).min(rows.tiles.max(1));
    let blocks = rows.tiles / tiles;
    let done = blocks * tiles;
    let left = Span { start: done * shape.rows, tiles: rows.tiles - done, rest: rows.rest };
    let all = [Cover::RowBlocks { blocks, tiles, columns }, Cover::Region { rows: left, columns }];
    all.into_iter().filter(|c| !matches!(c, Cover::Region { rows, .. } if rows.is_empty())).collect()
}

fn panels(rows: Span, columns: Span, shape: TileShape) -> Vec<Cover> {
    let left = Span { start: columns.tiles * shape.columns, tiles: 0, rest: columns.rest };
    let all = [Cover::Panels { tiles: columns.tiles, rows }, Cover::Region { rows, columns: left }];
    all.into_iter()
        .filter(|c| match c {
            Cover::Panels { tiles, .. } => *tiles > 0,
            Cover::Region { columns, .. } => !columns.is_empty(),
            Cover::RowBlocks { .. } => true,
        })
        .collect()
}

/// The kernels of a product: `kernel` with the contraction at `site` replaced.
pub fn kernels(kernel: &Kernel, buffers: &[u32], site: &Site, blocks: &Blocks) -> Vec<Draft> {
    let one = |cover: &Cover| {
        let mut writer = Writer { kernel: Kernel { parallel: None, ..kernel.clone() }, site, blocks };
        let inner = writer.cover(cover);
        let body = wrap(site, inner);
        Draft { kernel: Kernel { body, ..writer.kernel }, buffers: buffers.to_vec() }
    };
    blocks.kernels.iter().map(one).collect()
}

/// The loops around a contraction, around `inner`.
fn wrap(site: &Site, inner: Vec<Instruction>) -> Block {
    let mut instructions = inner;
    for (var, extent, before) in site.around.iter().rev() {
        let body = Block { instructions: before.iter().cloned().chain(instructions).collect() };
        instructions = vec![Instruction::For { var: *var, extent: *extent, carried: Vec::new(), body }];
    }
    Block { instructions: site.before.iter().cloned().chain(instructions).collect() }
}

struct Writer<'s> {
    kernel: Kernel,
    site: &'s Site,
    blocks: &'s Blocks,
}

impl Writer<'_> {
    fn cover(&mut self, cover: &Cover) -> Vec<Instruction> {
        let (height, width) = (self.blocks.shape.rows as i64, self.blocks.shape.columns as i64);
        match cover {
            Cover::RowBlocks { blocks, tiles, columns } => self.counted(*blocks, |w, block| {
                let start = block.times(*tiles as i64 * height);
                w.columns(*columns, |w, column, stored| {
                    w.counted(*tiles, |w, t| {
                        w.tile(start.clone().sum(&t.times(height)), height as u64, &column, stored)
                    })
                })
            }),
            Cover::Panels { tiles, rows } => self.counted(*tiles, |w, panel| {
                let column = panel.times(width);
                w.rows(*rows, |w, row, height| w.tile(row, height, &column, width as u64))
            }),
            Cover::Region { rows, columns } => self.columns(*columns, |w, column, stored| {
                w.rows(*rows, |w, row, height| w.tile(row, height, &column, stored))
            }),
        }
    }

    /// The tiles of a range of columns: full ones in a loop, then the rest.
    fn columns(
        &mut self,
        span: Span,
        mut write: impl FnMut(&mut Self, Affine, u64) -> Vec<Instruction>,
    ) -> Vec<Instruction> {
        let width = self.blocks.shape.columns;
        let start = span.start as i64;
        let mut all = self.counted(span.tiles, |w, t| write(w, t.times(width as i64).offset(start), width));
        if span.rest > 0 {
            all.extend(write(self, Affine::constant(start + (span.tiles * width) as i64), span.rest));
        }
        all
    }

    /// The tiles of a range of rows: full ones in a loop, then the rest.
    fn rows(
        &mut self,
        span: Span,
        mut write: impl FnMut(&mut Self, Affine, u64) -> Vec<Instruction>,
    ) -> Vec<Instruction> {
        let height = self.blocks.shape.rows;
        let start = span.start as i64;
        let mut all = self.counted(span.tiles, |w, t| write(w, t.times(height as i64).offset(start), height));
        if span.rest > 0 {
            all.extend(write(self, Affine::constant(start + (span.tiles * height) as i64), span.rest));
        }
        all
    }

    /// A loop, or its only round, or nothing.
    fn counted(
        &mut self,
        extent: u64,
        mut write: impl FnMut(&mut Self, Affine) -> Vec<Instruction>,
    ) -> Vec<Instruction> {
        match extent {
            0 => Vec::new(),
            1 => write(self, Affine::default()),
            _ => {
                let var = fresh_variable(&mut self.kernel);
                let body = Block { instructions: write(self, Affine::scaled(var, 1)) };
                vec![Instruction::For { var, extent, carried: Vec::new(), body }]
            }
        }
    }

    /// One tile, `height` rows from `row` and `stored` columns from `column`.
    fn tile(&mut self, row: Affine, height: u64, column: &Affine, stored: u64) -> Vec<Instruction> {
        let contract = &self.site.contract;
        let (tile_row, tile_column) = (fresh_variable(&mut self.kernel), fresh_variable(&mut self.kernel));
        let dtype = self.kernel.values[contract.accumulator.0 as usize];
        let accumulator = fresh_value(&mut self.kernel, dtype);
        let place =
            [(contract.row, row.clone().plus(tile_row, 1)), (contract.column, column.clone().plus(tile_column, 1))];
        let epilogue = copy(&mut self.kernel, &contract.epilogue, &[(contract.accumulator, accumulator)], &place);
        let left = moved(&contract.left, row.times(contract.left.row_stride));
        let width = self.blocks.shape.columns;
        let right = if self.blocks.packed {
            // Columns come in panels: `depth · width` elements for `width` columns.
            moved(&contract.right, column.times(contract.depth as i64))
        } else {
            moved(&contract.right, column.clone())
        };
        if stored < width && !self.blocks.packed {
            return vec![Instruction::Contract(Box::new(Contract {
                row: tile_row,
                rows: height,
                column: tile_column,
                columns: stored,
                depth: contract.depth,
                left,
                right,
                accumulator,
                epilogue,
            }))];
        }
        vec![Instruction::Tile(Box::new(Tile {
            row: tile_row,
            rows: height,
            column: tile_column,
            columns: width,
            stored_columns: stored,
            depth: contract.depth,
            batches: 1,
            left_batch_stride: 0,
            right_batch_stride: 0,
            left,
            right,
            accumulator,
            epilogue,
        }))]
    }
}

fn moved(matrix: &Matrix, by: Affine) -> Matrix {
    Matrix { address: matrix.address.clone().sum(&by), ..matrix.clone() }
}
