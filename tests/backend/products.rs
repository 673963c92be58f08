//! Contractions and tiles of all shapes and layouts.

use nnc::ir::loops::build::{BlockBuilder, KernelBuilder};
use nnc::ir::loops::*;
use nnc::ir::scalar::ScalarFunction as F;
use nnc::ir::types::DType;

use crate::common::check;

/// An epilogue: a bias for each column added, negative sums cut, and the row counted in.
fn epilogue(
    b: &mut BlockBuilder<'_>,
    dtype: DType,
    bias: BufferId,
    y: BufferId,
    place: (LoopVar, LoopVar, i64),
    sum: Value,
) {
    let (row, column, width) = place;
    let v = b.load(bias, Affine::scaled(column, 1));
    let v = b.map(F::Add, &[sum, v]);
    let zero = b.constant(dtype, 0.0);
    let v = b.map(F::Max, &[v, zero]);
    let row_number = b.index(Affine::scaled(row, 1));
    let row_number = b.convert(row_number, dtype);
    let v = b.map(F::Add, &[v, row_number]);
    b.store(y, Affine::scaled(row, width).plus(column, 1), v);
}

struct Shape {
    rows: u64,
    columns: u64,
    stored: u64,
    depth: u64,
    rounds: &'static [u64],
    /// The axis and the size of a block.
    cut: Option<(usize, u64)>,
}

/// Rounds of these counts over operands of these sizes that lie one after the other.
fn one_after_the_other(counts: &[u64], left: u64, right: u64) -> Vec<Round> {
    let mut rounds = Vec::new();
    let mut inside = 1;
    for count in counts.iter().rev() {
        let stride = |size: u64| (inside * size) as i64;
        rounds.insert(0, Round { count: *count, left_stride: stride(left), right_stride: stride(right) });
        inside *= count;
    }
    rounds
}

fn tile(dtype: DType, shape: &Shape, transposed: bool) -> Kernel {
    let Shape { rows, columns, stored, depth, rounds, cut } = *shape;
    let batches: u64 = rounds.iter().product();
    let mut k = KernelBuilder::new();
    let a = k.buffer("a", dtype, (rows * depth * batches).max(1), BufferUse::Read);
    let w = k.buffer("w", dtype, (columns * depth * batches).max(1), BufferUse::Read);
    let bias = k.buffer("bias", dtype, columns, BufferUse::Read);
    let y = k.buffer("y", dtype, rows * columns, BufferUse::Update);
    let (row_stride, column_stride) = if transposed { (1, rows as i64) } else { (depth as i64, 1) };
    k.finish("tile", None, |b| {
        let (row, column) = (b.variable(), b.variable());
        let accumulator = b.value(dtype);
        let epilogue = b.block(|b| epilogue(b, dtype, bias, y, (row, column, columns as i64), accumulator));
        b.push(Instruction::Tile(Box::new(Tile {
            row,
            rows,
            column,
            columns,
            stored_columns: stored,
            depth,
            cut: cut.map(|(level, size)| Cut { level, size }),
            rounds: one_after_the_other(rounds, rows * depth, columns * depth),
            left: Matrix { buffer: a, address: Affine::constant(0), row_stride, column_stride },
            right: Matrix { buffer: w, address: Affine::constant(0), row_stride: columns as i64, column_stride: 1 },
            accumulator,
            epilogue,
        })));
    })
}

#[test]
pub fn tiles_of_all_shapes() {
    let shapes = [
        (1, 4, 4, 1, &[][..]),
        (1, 16, 16, 5, &[][..]),
        (2, 16, 16, 33, &[][..]),
        (2, 16, 11, 17, &[][..]),
        (2, 16, 3, 8, &[][..]),
        (4, 8, 8, 24, &[][..]),
        (3, 12, 10, 40, &[][..]),
        (5, 8, 7, 9, &[][..]),
        (6, 16, 13, 20, &[][..]),
        (2, 16, 16, 19, &[3]),
        (2, 16, 9, 3, &[3, 2]),
        (3, 12, 12, 11, &[2, 1, 4]),
        (4, 8, 5, 8, &[2]),
        (2, 8, 8, 0, &[][..]),
        (2, 8, 0, 4, &[][..]),
        (4, 8, 8, 16, &[0]),
    ];
    for dtype in [DType::F32, DType::F64] {
        for (rows, columns, stored, depth, rounds) in shapes {
            for transposed in [false, true] {
                for cut in [None, Some((0, 2)), Some((rounds.len(), 5)), Some((rounds.len() / 2, 1))] {
                    check(tile(dtype, &Shape { rows, columns, stored, depth, rounds, cut }, transposed));
                }
            }
        }
    }
}

/// Those that only thirty-two registers of sixteen lanes have room for, with every rest of columns.
#[test]
pub fn tiles_of_many_registers() {
    let shapes = [
        (12, 32, 32, 7, &[][..]),
        (12, 32, 19, 20, &[][..]),
        (8, 48, 45, 9, &[][..]),
        (24, 16, 16, 5, &[][..]),
        (24, 12, 10, 6, &[][..]),
        (12, 24, 17, 9, &[3]),
        (9, 28, 27, 8, &[][..]),
        (6, 64, 63, 5, &[2]),
        (4, 96, 96, 4, &[][..]),
        (1, 192, 190, 11, &[][..]),
        (3, 20, 18, 13, &[2, 2]),
    ];
    for (rows, columns, stored, depth, rounds) in shapes {
        for (transposed, cut) in [(false, None), (true, Some((rounds.len(), 3)))] {
            check(tile(DType::F32, &Shape { rows, columns, stored, depth, rounds, cut }, transposed));
        }
    }
}

#[test]
pub fn tiles_in_loops() {
    let (rows, columns, depth) = (6u64, 24u64, 30u64);
    let mut k = KernelBuilder::new();
    let a = k.buffer("a", DType::F32, rows * depth, BufferUse::Read);
    let w = k.buffer("w", DType::F32, columns * depth, BufferUse::Read);
    let bias = k.buffer("bias", DType::F32, columns, BufferUse::Read);
    let y = k.buffer("y", DType::F32, rows * columns, BufferUse::Write);
    let block = k.variable();
    let parallel = ParallelLoop { var: block, extent: 3, grain: 1, reverse: false };
    check(k.finish("tiles", Some(parallel), |b| {
        b.for_each(3, |b, panel| {
            let (row, column) = (b.variable(), b.variable());
            let accumulator = b.value(DType::F32);
            let epilogue = b.block(|b| {
                let v = b.load(bias, Affine::scaled(column, 1).plus(panel, 8));
                let v = b.map(F::Add, &[accumulator, v]);
                let at = Affine::scaled(row, 24).plus(column, 1).plus(panel, 8).plus(block, 48);
                b.store(y, at, v);
            });
            b.push(Instruction::Tile(Box::new(Tile {
                row,
                rows: 2,
                column,
                columns: 8,
                stored_columns: 8,
                depth,
                cut: None,
                rounds: Vec::new(),
                left: Matrix { buffer: a, address: Affine::scaled(block, 60), row_stride: 30, column_stride: 1 },
                right: Matrix { buffer: w, address: Affine::scaled(panel, 240), row_stride: 8, column_stride: 1 },
                accumulator,
                epilogue,
            })));
        });
    }));
}

/// Strips of rows inside panels of columns, in a parallel loop, with an epilogue of roots and quotients that changes `y` and, with `dependent`, the
/// next strip of the left operand.
fn nest(panels: u64, strips: u64, depth: u64, stored: u64, dependent: bool) -> Kernel {
    let (rows, columns, blocks) = (12, 32, 2);
    let (height, width) = (rows * strips * blocks, columns * panels);
    let mut k = KernelBuilder::new();
    let usage = if dependent { BufferUse::Update } else { BufferUse::Read };
    let a = k.buffer("a", DType::F32, (height + rows) * depth, usage);
    let w = k.buffer("w", DType::F32, width * depth, BufferUse::Read);
    let y = k.buffer("y", DType::F32, height * width, BufferUse::Update);
    let block = k.variable();
    let parallel = ParallelLoop { var: block, extent: blocks, grain: 1, reverse: false };
    let first = move |strip: LoopVar, row: i64| {
        Affine::scaled(block, (rows * strips) as i64 * row).plus(strip, rows as i64 * row)
    };
    let tile = move |b: &mut BlockBuilder<'_>, panel: LoopVar, strip: LoopVar| {
        let (row, column) = (b.variable(), b.variable());
        let accumulator = b.value(DType::F32);
        let epilogue = b.block(|b| {
            let at = first(strip, width as i64).plus(row, width as i64).plus(panel, columns as i64).plus(column, 1);
            let before = b.load(y, at.clone());
            let root = b.map(F::Sqrt, &[before]);
            let quotient = b.map(F::Div, &[accumulator, root]);
            b.store(y, at, quotient);
            if dependent {
                let next = first(strip, depth as i64).offset((rows * depth) as i64);
                b.store(a, next.plus(row, depth as i64).plus(column, 1), quotient);
            }
        });
        let left =
            Matrix { buffer: a, address: first(strip, depth as i64), row_stride: depth as i64, column_stride: 1 };
        let panel = Affine::scaled(panel, (columns * depth) as i64);
        b.push(Instruction::Tile(Box::new(Tile {
            row,
            rows,
            column,
            columns,
            stored_columns: stored,
            depth,
            cut: None,
            rounds: Vec::new(),
            left,
            right: Matrix { buffer: w, address: panel, row_stride: columns as i64, column_stride: 1 },
            accumulator,
            epilogue,
        })));
    };
    k.finish("nest", Some(parallel), |b| {
        b.for_each(panels, |b, panel| b.for_each(strips, |b, strip| tile(b, panel, strip)));
    })
}

/// Wide code finishes a tile while it sums the next one, if that does not need what the epilogue stores.
#[test]
pub fn tiles_that_wait_for_the_next() {
    for (panels, strips, depth, stored) in
        [(1, 1, 64, 32), (3, 1, 65, 32), (1, 2, 64, 32), (2, 3, 131, 32), (2, 2, 70, 19), (2, 2, 64, 16)]
    {
        for dependent in [false, true] {
            check(nest(panels, strips, depth, stored, dependent));
        }
    }
}

#[test]
pub fn contractions_of_all_layouts() {
    let (rows, columns, depth) = (5u64, 21u64, 9u64);
    for dtype in [DType::F32, DType::F64] {
        for (number, (left, right)) in
            [((9, 1), (21, 1)), ((1, 5), (21, 1)), ((9, 1), (1, 9)), ((1, 5), (1, 9))].into_iter().enumerate()
        {
            let cut = [None, Some((1, 2)), Some((0, 1)), Some((0, 2))][number].map(|(level, size)| Cut { level, size });
            let mut k = KernelBuilder::new();
            let a = k.buffer("a", dtype, rows * depth, BufferUse::Read);
            let w = k.buffer("w", dtype, columns * depth, BufferUse::Read);
            let bias = k.buffer("bias", dtype, columns, BufferUse::Read);
            let y = k.buffer("y", dtype, rows * columns, BufferUse::Write);
            check(k.finish("contract", None, |b| {
                let (row, column) = (b.variable(), b.variable());
                let accumulator = b.value(dtype);
                let epilogue = b.block(|b| epilogue(b, dtype, bias, y, (row, column, 21), accumulator));
                let matrix = |buffer, (row_stride, column_stride)| Matrix {
                    buffer,
                    address: Affine::constant(0),
                    row_stride,
                    column_stride,
                };
                b.push(Instruction::Contract(Box::new(Contract {
                    row,
                    rows,
                    column,
                    columns,
                    rounds: vec![Round { count: 3, left_stride: 3 * left.1, right_stride: 3 * right.0 }],
                    depth: depth / 3,
                    cut,
                    left: matrix(a, left),
                    right: matrix(w, right),
                    accumulator,
                    epilogue,
                })));
            }));
        }
    }
}
