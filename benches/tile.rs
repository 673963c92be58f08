//! The register tile alone, operands in L1: share of the machine's 256-bit FMA peak by tile shape, layout of A and backend.
//!
//! `cargo bench --bench tile`. Each sample runs beside a probe, a loop of independent FMAs, so that a core whose speed drifts does not
//! matter; medians of the ratio are printed.

use std::time::Instant;

use nnc::codegen::{EntryFunction, Loaded, backends};
use nnc::ir::loops::build::KernelBuilder;
use nnc::ir::loops::*;
use nnc::ir::types::DType;

const DEPTH: u64 = 256;
const REPEATS: u64 = 400;
const SAMPLES: usize = 15;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Left {
    RowMajor,
    Transposed,
}

struct Case {
    label: String,
    flops: f64,
    loaded: Box<dyn Loaded>,
    buffers: Vec<Vec<f32>>,
}

fn case(backend: usize, left: Left, rows: u64, columns: u64) -> Case {
    let mut k = KernelBuilder::new();
    let a = k.buffer("a", DType::F32, 64 * DEPTH, BufferUse::Read);
    let b = k.buffer("b", DType::F32, columns * DEPTH, BufferUse::Read);
    let c = k.buffer("c", DType::F32, rows * columns, BufferUse::Write);
    let (row_stride, column_stride) = match left {
        Left::RowMajor => (DEPTH as i64, 1),
        Left::Transposed => (1, 64),
    };
    let kernel = k.finish("tile", None, |builder| {
        builder.for_each(REPEATS, |builder, _| {
            let (row, column) = (builder.variable(), builder.variable());
            let accumulator = builder.value(DType::F32);
            let epilogue = builder.block(|e| {
                e.store(c, Affine::scaled(row, columns as i64).plus(column, 1), accumulator);
            });
            builder.push(Instruction::Tile(Box::new(Tile {
                row,
                rows,
                column,
                columns,
                stored_columns: columns,
                depth: DEPTH,
                cut: None,
                rounds: Vec::new(),
                left: Matrix { buffer: a, address: Affine::constant(0), row_stride, column_stride },
                right: Matrix { buffer: b, address: Affine::constant(0), row_stride: columns as i64, column_stride: 1 },
                accumulator,
                epilogue,
            })));
        });
    });
    let buffers = kernel.buffers.iter().map(|p| vec![0.5f32; p.elements as usize]).collect();
    let count = kernel.buffers.len() as u32;
    let program = Program {
        name: "tile".to_string(),
        buffers: (kernel.buffers.iter().enumerate())
            .map(|(i, p)| Buffer {
                name: p.name.clone(),
                dtype: p.dtype,
                elements: p.elements,
                place: Place::Argument { index: i as u32 },
            })
            .collect(),
        steps: vec![Step::Call(Call::on_whole(0, 0..count))],
        kernels: vec![kernel],
        pointers: count,
        arena_bytes: 0,
    };
    let backend = backends()[backend];
    let loaded = backend.jit(&[program]).expect("a tile compiles");
    let flops = (2 * rows * columns * DEPTH * REPEATS) as f64;
    Case { label: format!("{} {left:?} {rows}x{columns}", backend.name()), flops, loaded, buffers }
}

/// Flops a nanosecond of a piece of work.
fn rate(flops: f64, work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    flops / start.elapsed().as_nanos() as f64
}

/// Flops a nanosecond of 256-bit FMAs that wait for nothing.
#[cfg(target_arch = "x86_64")]
fn probe() -> f64 {
    use std::arch::x86_64::*;
    #[target_feature(enable = "avx2,fma")]
    fn fmas(rounds: u32) -> f32 {
        let (x, y) = (_mm256_set1_ps(std::hint::black_box(0.5)), _mm256_set1_ps(std::hint::black_box(0.25)));
        let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h, mut i, mut j] = [x; 10];
        for _ in 0..rounds {
            (a, b) = (_mm256_fmadd_ps(a, x, y), _mm256_fmadd_ps(b, x, y));
            (c, d) = (_mm256_fmadd_ps(c, x, y), _mm256_fmadd_ps(d, x, y));
            (e, f) = (_mm256_fmadd_ps(e, x, y), _mm256_fmadd_ps(f, x, y));
            (g, h) = (_mm256_fmadd_ps(g, x, y), _mm256_fmadd_ps(h, x, y));
            (i, j) = (_mm256_fmadd_ps(i, x, y), _mm256_fmadd_ps(j, x, y));
        }
        [a, b, c, d, e, f, g, h, i, j].into_iter().map(|s| _mm256_cvtss_f32(s)).sum()
    }
    assert!(is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"), "the probe needs AVX2 and FMA");
    // SAFETY: the features were detected in the line above.
    rate(f64::from(20_000 * 10 * 16), || {
        std::hint::black_box(unsafe { fmas(20_000) });
    })
}

#[cfg(not(target_arch = "x86_64"))]
fn probe() -> f64 {
    f64::NAN
}

fn run(case: &mut Case) -> f64 {
    let entry: EntryFunction = case.loaded.entry("tile").expect("the program is there");
    let pointers: Vec<*mut u8> = case.buffers.iter_mut().map(|b| b.as_mut_ptr().cast()).collect();
    // SAFETY: the buffers have the sizes that the program declares, and live through the call.
    rate(case.flops, || unsafe { entry(pointers.as_ptr(), std::ptr::null_mut(), std::ptr::null()) })
}

fn main() {
    let shapes: [(u64, u64); 9] = [(1, 96), (2, 48), (3, 32), (4, 24), (6, 16), (12, 8), (2, 16), (4, 16), (4, 8)];
    let mut cases: Vec<Case> = Vec::new();
    for backend in 0..backends().len() {
        for left in [Left::RowMajor, Left::Transposed] {
            cases.extend(shapes.iter().map(|(rows, columns)| case(backend, left, *rows, *columns)));
        }
    }
    let mut shares = vec![Vec::new(); cases.len()];
    for _ in 0..SAMPLES {
        for (case, shares) in cases.iter_mut().zip(&mut shares) {
            let before = probe();
            let rate = run(case);
            let peak = before.max(probe());
            shares.push(rate / peak);
        }
    }
    for (case, shares) in cases.iter().zip(&mut shares) {
        shares.sort_by(f64::total_cmp);
        println!("{:32} {:5.1} % of the 256-bit peak", case.label, 100.0 * shares[SAMPLES / 2]);
    }
}
