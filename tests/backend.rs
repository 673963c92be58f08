//! Compiled kernels against the interpreter of the loop IR, bit for bit.

use nnc::codegen::backends;
use nnc::ir::loops::build::KernelBuilder;
use nnc::ir::loops::*;
use nnc::ir::scalar::ScalarFunction as F;
use nnc::ir::types::DType;

/// A program of one kernel whose buffers are all arguments.
fn program_of(kernel: Kernel) -> Program {
    let buffers = kernel.buffers.iter().enumerate();
    Program {
        name: "test".to_string(),
        buffers: buffers
            .map(|(i, b)| Buffer {
                name: b.name.clone(),
                dtype: b.dtype,
                elements: b.elements,
                place: Place::Argument { index: i as u32 },
            })
            .collect(),
        pointers: kernel.buffers.len() as u32,
        calls: vec![Call { kernel: 0, buffers: (0..kernel.buffers.len() as u32).collect() }],
        kernels: vec![kernel],
        arena_bytes: 0,
    }
}

fn run(kernel: Kernel, buffers: &mut [Vec<u8>]) {
    let program = program_of(kernel);
    let loaded = backends()[0].jit(&[program]).expect("the program compiles");
    let entry = loaded.entry("test").expect("the program is there");
    let pointers: Vec<*mut u8> = buffers.iter_mut().map(|b| b.as_mut_ptr()).collect();
    // SAFETY: the buffers have the sizes that the program declares, and outlive the call.
    unsafe { entry(pointers.as_ptr(), std::ptr::null_mut(), std::ptr::null()) };
}

fn floats(values: impl IntoIterator<Item = f32>) -> Vec<u8> {
    values.into_iter().flat_map(f32::to_le_bytes).collect()
}

fn as_floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks(4).map(|c| f32::from_le_bytes(c.try_into().unwrap())).collect()
}

#[test]
fn lanes_of_every_extent() {
    for extent in 0..40u64 {
        let mut k = KernelBuilder::new();
        let x = k.buffer("x", DType::F32, extent.max(1), BufferUse::Read);
        let y = k.buffer("y", DType::F32, extent.max(1), BufferUse::Write);
        let kernel = k.finish("scale", None, |b| {
            b.lanes(extent, |b, i| {
                let v = b.load(x, Affine::scaled(i, 1));
                let two = b.constant(DType::F32, 2.0);
                let one = b.constant(DType::F32, 1.0);
                let zero = b.constant(DType::F32, 0.0);
                let r = b.map(F::Fma, &[v, two, one]);
                let r = b.map(F::Max, &[r, zero]);
                b.store(y, Affine::scaled(i, 1), r);
            });
        });
        let values: Vec<f32> = (0..extent.max(1)).map(|i| i as f32 - 7.5).collect();
        let mut buffers = [floats(values.clone()), floats(vec![0.0; values.len()])];
        run(kernel, &mut buffers);
        let want: Vec<f32> = values.iter().map(|v| v.mul_add(2.0, 1.0).max(0.0)).collect();
        if extent > 0 {
            assert_eq!(as_floats(&buffers[1]), want, "extent {extent}");
        }
    }
}

#[test]
fn fold_and_tile() {
    let (rows, columns, depth) = (3u64, 10u64, 21u64);
    let mut k = KernelBuilder::new();
    let a = k.buffer("a", DType::F32, rows * depth, BufferUse::Read);
    let w = k.buffer("w", DType::F32, depth * 12, BufferUse::Read);
    let y = k.buffer("y", DType::F32, rows * columns, BufferUse::Write);
    let s = k.buffer("s", DType::F32, 1, BufferUse::Write);
    let kernel = k.finish("tile", None, |b| {
        let (row, column) = (b.variable(), b.variable());
        let accumulator = b.value(DType::F32);
        let epilogue = b.block(|b| {
            b.store(y, Affine::scaled(row, columns as i64).plus(column, 1), accumulator);
        });
        b.push(Instruction::Tile(Box::new(Tile {
            row,
            rows,
            column,
            columns: 12,
            stored_columns: columns,
            depth,
            batches: 1,
            left_batch_stride: 0,
            right_batch_stride: 0,
            left: Matrix { buffer: a, address: Affine::constant(0), row_stride: depth as i64, column_stride: 1 },
            right: Matrix { buffer: w, address: Affine::constant(0), row_stride: 12, column_stride: 1 },
            accumulator,
            epilogue,
        })));
        let sum = b.fold(
            depth,
            &[(DType::F32, 0.0)],
            |b, i| vec![b.load(a, Affine::scaled(i, 1))],
            |b, l, r| vec![b.map(F::Add, &[l[0], r[0]])],
        );
        b.store(s, Affine::constant(0), sum[0]);
    });
    let av: Vec<f32> = (0..rows * depth).map(|i| (i as f32 * 0.7).sin()).collect();
    let wv: Vec<f32> = (0..depth * 12).map(|i| (i as f32 * 0.3).cos()).collect();
    let mut buffers = [floats(av.clone()), floats(wv.clone()), floats(vec![0.0; 30]), floats([0.0])];
    run(kernel, &mut buffers);
    let got = as_floats(&buffers[2]);
    for i in 0..rows as usize {
        for j in 0..columns as usize {
            let want = (0..depth as usize).fold(0f32, |s, k| av[i * 21 + k].mul_add(wv[k * 12 + j], s));
            assert_eq!(got[i * 10 + j], want);
        }
    }
    let sum: f32 = av[..21].iter().sum();
    assert!((as_floats(&buffers[3])[0] - sum).abs() < 1e-5);
}
