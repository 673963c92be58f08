//! What this machine can do: the rate of multiply-adds that one thread reaches, measured with our own code.

use std::time::Instant;

use crate::codegen::Target;
use crate::ir::loops::build::KernelBuilder;
use crate::ir::loops::{Affine, Buffer, BufferUse, Call, Instruction, Matrix, Place, Program, Step, Tile};
use crate::ir::types::DType;
use crate::passes::tile::Registers;

use super::runner::Runner;
use super::stages;

/// Steps of the tile: its operands stay in the first cache.
const DEPTH: u64 = 256;
const REPEATS: u64 = 20;

/// A register tile in a loop, to be timed beside something else: the speed of a core drifts.
pub struct Probe {
    runner: Runner<'static>,
    /// Operations in a call.
    operations: u64,
}

impl Probe {
    /// Compiles the probe; `None` if this machine has no backend.
    pub fn new() -> Option<Probe> {
        let (rows, columns) = shape();
        let program = program(rows, columns);
        let runner = Runner::new(&[(program, None)], None).ok()?;
        Some(Probe { runner, operations: 2 * rows * columns * DEPTH * REPEATS })
    }

    /// Multiply-adds in operations a second, two for each; about 10 microseconds of work.
    pub fn rate(&mut self) -> f64 {
        let start = Instant::now();
        self.runner.call(0);
        self.operations as f64 / start.elapsed().as_secs_f64()
    }
}

/// The rows and columns of the tile that reaches the most: two vectors wide, and as high as there are registers for.
fn shape() -> (u64, u64) {
    let Registers { bytes, sums } = stages::registers(&Target::host());
    (sums / 2, 2 * bytes / DType::F32.bytes() as u64)
}

fn program(rows: u64, columns: u64) -> Program {
    let mut k = KernelBuilder::new();
    let a = k.buffer("a", DType::F32, rows * DEPTH, BufferUse::Read);
    let b = k.buffer("b", DType::F32, columns * DEPTH, BufferUse::Read);
    let c = k.buffer("c", DType::F32, rows * columns, BufferUse::Write);
    let kernel = k.finish("probe", None, |builder| {
        builder.for_each(REPEATS, |builder, _| {
            let (row, column) = (builder.variable(), builder.variable());
            let accumulator = builder.value(DType::F32);
            let epilogue = builder.block(|e| {
                e.store(c, Affine::scaled(row, columns as i64).plus(column, 1), accumulator);
            });
            let matrix =
                |buffer, row_stride| Matrix { buffer, address: Affine::default(), row_stride, column_stride: 1 };
            builder.push(Instruction::Tile(Box::new(Tile {
                row,
                rows,
                column,
                columns,
                stored_columns: columns,
                depth: DEPTH,
                cut: None,
                rounds: Vec::new(),
                left: matrix(a, DEPTH as i64),
                right: matrix(b, columns as i64),
                accumulator,
                epilogue,
            })));
        });
    });
    let buffers = kernel.buffers.iter().enumerate().map(|(i, p)| Buffer {
        name: p.name.clone(),
        dtype: p.dtype,
        elements: p.elements,
        place: Place::Argument { index: i as u32 },
    });
    let buffers: Vec<Buffer> = buffers.collect();
    let count = buffers.len() as u32;
    Program {
        name: "probe".into(),
        buffers,
        steps: vec![Step::Call(Call::on_whole(0, 0..count))],
        kernels: vec![kernel],
        pointers: count,
        arena_bytes: 0,
    }
}
