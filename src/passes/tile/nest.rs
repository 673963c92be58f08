//! Loops over tiles, and how they are cut for threads.
//!
//! A product with no fewer rows than columns is cut into blocks of rows, each of which goes over all panels; any other into panels, each
//! of which goes over all rows, so that a panel stays in the first cache. What is left over at the edges is a kernel of its own, since
//! all rounds of a parallel loop do the same; a product too small for threads is one kernel.

use super::rename::{copy, fresh_value, fresh_variable};
use super::shape::TileShape;
use super::site::Site;
use crate::ir::loops::{Affine, Block, Contract, Instruction, Kernel, Matrix, Tile};
use crate::passes::lower::finish::Draft;

/// Rows of a block and columns of a panel together: with usual depths they fit into the first cache.
const BLOCK: u64 = 40;

/// Rows of a tile below which its sums wait for each other.
const EVEN: u64 = 4;

/// Products of fewer multiplications are not cut for threads.
const SMALLEST_PARALLEL: u64 = 1 << 18;

/// The tiles of a product and where they find their operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    pub shape: TileShape,
    /// Elements of a vector register.
    pub lanes: u64,
    /// How the left operand is packed, if it is.
    pub left_panel: Option<LeftPanel>,
    /// Only a packed right operand has readable padding beyond its last column.
    pub right_packed: bool,
    /// Whether each panel of the right operand goes through all loops around the product, not each round of these through all panels.
    pub panels_outside: bool,
}

/// Panels of a packed left operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftPanel {
    /// Rows of one, which are neighbours in each step of the depth.
    pub rows: u64,
    /// Elements from one to the next.
    pub stride: u64,
}

impl Layout {
    /// Rows that are handled together: those of a panel, or of a tile.
    fn strip(self) -> u64 {
        self.left_panel.map_or(self.shape.rows, |panel| panel.rows)
    }
}

/// Some of the strips of rows or of the tiles of columns: `count` whole ones from `start`, then a narrower one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    start: u64,
    count: u64,
    rest: u64,
}

impl Span {
    fn is_empty(self) -> bool {
        self.count == 0 && self.rest == 0
    }
}

/// What one kernel covers of a product.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Cover {
    /// `blocks` blocks of `strips` strips of rows, each over all columns.
    RowBlocks { blocks: u64, strips: u64, columns: Span },
    /// So many tiles of columns, each over all rows.
    Panels { tiles: u64, rows: Span },
    /// Some rows of some columns, by one thread.
    Region { rows: Span, columns: Span },
}

/// Cuts a product into kernels.
fn covers(site: &Site, layout: Layout) -> Vec<Cover> {
    let contract = &site.contract;
    let span = |extent: u64, unit: u64| Span { start: 0, count: extent / unit, rest: extent % unit };
    let rows = span(contract.rows, layout.strip());
    let columns = span(contract.columns, layout.shape.columns);
    let work = contract.rows.saturating_mul(contract.columns).saturating_mul(contract.steps());
    let all = if work < SMALLEST_PARALLEL && !layout.panels_outside {
        vec![Cover::Region { rows, columns }]
    } else if contract.rows >= contract.columns && !layout.panels_outside {
        row_blocks(rows, layout, columns).into()
    } else {
        let left = Span { start: columns.count, count: 0, rest: columns.rest };
        let mut all = vec![Cover::Panels { tiles: columns.count, rows }];
        // The rest of a panel is cut by rows, if it is enough for threads, and if the loops around are not inside of it.
        let is_long = contract.rows.saturating_mul(columns.rest).saturating_mul(contract.steps()) >= SMALLEST_PARALLEL;
        let is_outside = layout.panels_outside && !site.around.is_empty();
        match is_long && !is_outside {
            true => all.extend(row_blocks(rows, layout, left)),
            false => all.push(Cover::Region { rows, columns: left }),
        }
        all
    };
    all.into_iter().filter(|cover| !is_empty(cover)).collect()
}

/// All rows in blocks, and those that are left.
fn row_blocks(rows: Span, layout: Layout, columns: Span) -> [Cover; 2] {
    let strips = strips_of_block(rows.count, layout);
    let done = rows.count / strips * strips;
    let left = Span { start: done, count: rows.count - done, rest: rows.rest };
    [Cover::RowBlocks { blocks: done / strips, strips, columns }, Cover::Region { rows: left, columns }]
}

fn is_empty(cover: &Cover) -> bool {
    match cover {
        Cover::RowBlocks { blocks, .. } => *blocks == 0,
        Cover::Panels { tiles, .. } => *tiles == 0,
        Cover::Region { rows, columns } => rows.is_empty() || columns.is_empty(),
    }
}

/// Strips in a block of rows: about as many as fit beside a panel, and if possible a divisor of all strips.
fn strips_of_block(strips: u64, layout: Layout) -> u64 {
    let wanted = (BLOCK.saturating_sub(layout.shape.columns) / layout.strip()).max(1);
    let near = (wanted.div_ceil(2)..=wanted * 2).filter(|n| strips.is_multiple_of(*n));
    near.min_by_key(|n| (n.abs_diff(wanted), *n)).unwrap_or(wanted).min(strips.max(1))
}

/// The kernels of a product: the contraction at `site` replaced by tiles.
pub fn kernels(product: &Draft, site: &Site, layout: Layout) -> Vec<Draft> {
    let one = |cover: Cover| {
        let kernel = Kernel { parallel: None, ..product.kernel.clone() };
        let mut writer = Writer { kernel, site, layout };
        let body = match cover {
            Cover::Panels { tiles, rows } if layout.panels_outside => {
                let panels = writer.counted(tiles, |w, panel| w.panel(&panel, rows, site));
                Block { instructions: site.before.iter().cloned().chain(panels).collect() }
            }
            _ => {
                let inner = wrap(site, writer.cover(&cover));
                Block { instructions: site.before.iter().cloned().chain(inner).collect() }
            }
        };
        Draft { kernel: Kernel { body, ..writer.kernel }, buffers: product.buffers.clone() }
    };
    covers(site, layout).into_iter().map(one).collect()
}

/// The loops around a contraction, around `inner`.
fn wrap(site: &Site, inner: Vec<Instruction>) -> Vec<Instruction> {
    let mut instructions = inner;
    for (var, extent, before) in site.around.iter().rev() {
        let body = Block { instructions: before.iter().cloned().chain(instructions).collect() };
        instructions = vec![Instruction::For { var: *var, extent: *extent, carried: Vec::new(), body }];
    }
    instructions
}

struct Writer<'s> {
    kernel: Kernel,
    site: &'s Site,
    layout: Layout,
}

/// Rows of one tile: the first one, where it is in the left operand, and how many.
#[derive(Clone, Debug)]
struct Rows {
    row: Affine,
    left: Affine,
    height: u64,
}

impl Writer<'_> {
    fn cover(&mut self, cover: &Cover) -> Vec<Instruction> {
        let width = self.layout.shape.columns;
        match cover {
            Cover::RowBlocks { blocks, strips, columns } => self.counted(*blocks, |w, block| {
                let first = block.times(*strips as i64);
                w.columns(*columns, |w, column, stored| {
                    w.strips(&first, *strips, &mut |w, rows| w.tile(rows, &column, stored))
                })
            }),
            Cover::Panels { tiles, rows } => self.counted(*tiles, |w, panel| {
                let column = panel.times(width as i64);
                w.rows(*rows, &mut |w, rows| w.tile(rows, &column, width))
            }),
            Cover::Region { rows, columns } => {
                self.columns(*columns, |w, column, stored| w.rows(*rows, &mut |w, rows| w.tile(rows, &column, stored)))
            }
        }
    }

    /// One panel in all rounds of the loops around.
    fn panel(&mut self, panel: &Affine, rows: Span, site: &Site) -> Vec<Instruction> {
        let width = self.layout.shape.columns;
        let column = panel.times(width as i64);
        wrap(site, self.rows(rows, &mut |w, rows| w.tile(rows, &column, width)))
    }

    /// The tiles of a range of columns: full ones in a loop, then the rest.
    fn columns(
        &mut self,
        span: Span,
        mut write: impl FnMut(&mut Self, Affine, u64) -> Vec<Instruction>,
    ) -> Vec<Instruction> {
        let width = self.layout.shape.columns;
        let start = (span.start * width) as i64;
        let mut all = self.counted(span.count, |w, t| write(w, t.times(width as i64).offset(start), width));
        if span.rest > 0 {
            all.extend(write(self, Affine::constant(start + (span.count * width) as i64), span.rest));
        }
        all
    }

    /// The tiles of a range of rows: whole strips, then what is left of one.
    fn rows(&mut self, span: Span, write: &mut dyn FnMut(&mut Self, Rows) -> Vec<Instruction>) -> Vec<Instruction> {
        let strip = self.layout.strip();
        // Strips of one tile go on as if there were no strips.
        let (whole, rest) = match self.layout.left_panel {
            None => even_tiles(span.count * strip + span.rest, strip),
            Some(_) => (span.count, vec![span.rest]),
        };
        let mut all = self.strips(&Affine::constant(span.start as i64), whole, write);
        let rest = rest.iter().sum();
        if rest > 0 {
            all.extend(self.strip(&Affine::constant((span.start + whole) as i64), rest, write));
        }
        all
    }

    fn strips(
        &mut self,
        first: &Affine,
        count: u64,
        write: &mut dyn FnMut(&mut Self, Rows) -> Vec<Instruction>,
    ) -> Vec<Instruction> {
        let height = self.layout.strip();
        self.counted(count, |w, s| w.strip(&first.clone().sum(&s), height, write))
    }

    /// The tiles of `height` rows of one strip.
    fn strip(
        &mut self,
        strip: &Affine,
        height: u64,
        write: &mut dyn FnMut(&mut Self, Rows) -> Vec<Instruction>,
    ) -> Vec<Instruction> {
        let (whole, tile) = (self.layout.strip() as i64, self.layout.shape.rows);
        let contract = &self.site.contract;
        let (panel, row_step) = match self.layout.left_panel {
            Some(panel) => (panel.stride as i64, 1),
            None => (whole * contract.left.row_stride, contract.left.row_stride),
        };
        let mut part = |w: &mut Self, row: Affine, height: u64| {
            let left = strip.times(panel).sum(&row.times(row_step));
            write(w, Rows { row: strip.times(whole).sum(&row), left, height })
        };
        let (whole, rest) = even_tiles(height, tile);
        let mut all = self.counted(whole, |w, t| part(w, t.times(tile as i64), tile));
        let mut row = whole * tile;
        for height in rest {
            all.extend(part(self, Affine::constant(row as i64), height));
            row += height;
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

    /// One tile: some rows, and `stored` columns from `column`.
    fn tile(&mut self, Rows { row, left, height }: Rows, column: &Affine, stored: u64) -> Vec<Instruction> {
        let contract = &self.site.contract;
        let (tile_row, tile_column) = (fresh_variable(&mut self.kernel), fresh_variable(&mut self.kernel));
        let dtype = self.kernel.values[contract.accumulator.0 as usize];
        let accumulator = fresh_value(&mut self.kernel, dtype);
        let place = [(contract.row, row.plus(tile_row, 1)), (contract.column, column.clone().plus(tile_column, 1))];
        let epilogue = copy(&mut self.kernel, &contract.epilogue, &[(contract.accumulator, accumulator)], &place);
        let left = moved(&contract.left, left);
        let right_step = if self.layout.right_packed { contract.steps() as i64 } else { 1 };
        let right = moved(&contract.right, column.times(right_step));
        // In place there is nothing to read beyond the last column; of a packed one whole vectors are read.
        let width = match (self.layout.right_packed, stored.is_multiple_of(4)) {
            (true, _) => stored.next_multiple_of(self.layout.lanes).min(self.layout.shape.columns),
            (false, false) => self.layout.shape.columns,
            (false, true) => stored,
        };
        if stored < width && !self.layout.right_packed {
            return vec![Instruction::Contract(Box::new(Contract {
                row: tile_row,
                rows: height,
                column: tile_column,
                columns: stored,
                rounds: contract.rounds.clone(),
                depth: contract.depth,
                cut: contract.cut,
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
            rounds: contract.rounds.clone(),
            depth: contract.depth,
            cut: contract.cut,
            left,
            right,
            accumulator,
            epilogue,
        }))]
    }
}

/// How many whole tiles of `tile` rows are in `height` rows, and the rows of those after them. A tile of a few rows takes as long as one of [`EVEN`], so two of the
/// same size come last instead of a whole one and a small one.
fn even_tiles(height: u64, tile: u64) -> (u64, Vec<u64>) {
    let (whole, rest) = (height / tile, height % tile);
    match rest {
        0 => (whole, Vec::new()),
        _ if rest < EVEN && whole > 0 && tile + rest >= EVEN + 2 => {
            let both = tile + rest;
            (whole - 1, vec![both.div_ceil(2), both / 2])
        }
        _ => (whole, vec![rest]),
    }
}

fn moved(matrix: &Matrix, by: Affine) -> Matrix {
    Matrix { address: matrix.address.clone().sum(&by), ..matrix.clone() }
}
