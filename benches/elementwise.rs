//! Elementwise functions on operands in L1: elements per nanosecond, medians of interleaved samples.
//!
//! `cargo bench --bench elementwise`. A core's speed drifts, so only the ratios within one run mean something.

use std::time::Instant;

use nnc::codegen::{EntryFunction, Loaded, backends};
use nnc::ir::loops::build::{BlockBuilder, KernelBuilder};
use nnc::ir::loops::*;
use nnc::ir::scalar::ScalarFunction as F;
use nnc::ir::types::DType;
use nnc::passes::expand_math;

const ELEMENTS: u64 = 2048;
const REPEATS: u64 = 200;
const SAMPLES: usize = 31;

type Write = fn(&mut BlockBuilder<'_>, Value) -> Value;

/// The functions measured.
const CASES: [(&str, Write); 10] = [
    ("relu(x * a + b)", |b, x| {
        let (scale, shift) = (b.constant(DType::F32, 1.5), b.constant(DType::F32, 0.25));
        let y = b.map(F::Fma, &[x, scale, shift]);
        let zero = b.constant(DType::F32, 0.0);
        b.map(F::Max, &[y, zero])
    }),
    ("silu", |b, x| {
        let s = b.map(F::Sigmoid, &[x]);
        b.map(F::Mul, &[x, s])
    }),
    ("gelu", |b, x| {
        let phi = normal_distribution(b, x);
        b.map(F::Mul, &[x, phi])
    }),
    ("gelu and its derivative", |b, x| {
        let phi = normal_distribution(b, x);
        let square = b.map(F::Mul, &[x, x]);
        let minus = b.constant(DType::F32, -0.5);
        let exponent = b.map(F::Mul, &[square, minus]);
        let density = b.map(F::Exp, &[exponent]);
        let d = b.map(F::Mul, &[density, x]);
        let scale = b.constant(DType::F32, (2.0 * std::f64::consts::PI).sqrt().recip());
        let d = b.map(F::Fma, &[d, scale, phi]);
        let g = b.map(F::Mul, &[x, phi]);
        b.map(F::Add, &[d, g])
    }),
    ("exp", |b, x| b.map(F::Exp, &[x])),
    ("log", |b, x| b.map(F::Log, &[x])),
    ("tanh", |b, x| b.map(F::Tanh, &[x])),
    ("sigmoid", |b, x| b.map(F::Sigmoid, &[x])),
    ("erf", |b, x| b.map(F::Erf, &[x])),
    ("sin", |b, x| b.map(F::Sin, &[x])),
];

/// `(1 + erf(x / √2)) / 2`
fn normal_distribution(b: &mut BlockBuilder<'_>, x: Value) -> Value {
    let [half, one, root] = [0.5, 1.0, 0.5f64.sqrt()].map(|number| b.constant(DType::F32, number));
    let scaled = b.map(F::Mul, &[x, root]);
    let erf = b.map(F::Erf, &[scaled]);
    let sum = b.map(F::Add, &[one, erf]);
    b.map(F::Mul, &[half, sum])
}

fn compile(write: Write) -> Box<dyn Loaded> {
    let mut k = KernelBuilder::new();
    let x = k.buffer("x", DType::F32, ELEMENTS, BufferUse::Read);
    let y = k.buffer("y", DType::F32, ELEMENTS, BufferUse::Write);
    let kernel = k.finish("function", None, |b| {
        b.for_each(REPEATS, |b, _| {
            b.lanes(ELEMENTS, |b, i| {
                let v = b.load(x, Affine::scaled(i, 1));
                let v = write(b, v);
                b.store(y, Affine::scaled(i, 1), v);
            });
        });
    });
    let kernel = expand_math::kernel(&kernel).expect("the functions have expansions");
    let buffers = kernel.buffers.iter().enumerate().map(|(i, p)| Buffer {
        name: p.name.clone(),
        dtype: p.dtype,
        elements: p.elements,
        place: Place::Argument { index: i as u32 },
    });
    let program = Program {
        name: "function".to_string(),
        buffers: buffers.collect(),
        steps: vec![Step::Call(Call::on_whole(0, 0..2))],
        kernels: vec![kernel],
        pointers: 2,
        arena_bytes: 0,
    };
    backends()[0].jit(&[program]).expect("the functions compile")
}

/// Elements a nanosecond.
fn rate(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    (ELEMENTS * REPEATS) as f64 / start.elapsed().as_nanos() as f64
}

fn main() {
    let x: Vec<f32> = (0..ELEMENTS).map(|i| i as f32 / 256.0 - 4.0).collect();
    let mut y = vec![0f32; ELEMENTS as usize];
    let compiled: Vec<Box<dyn Loaded>> = CASES.iter().map(|(_, write)| compile(*write)).collect();
    let mut rates = vec![Vec::new(); CASES.len()];
    for _ in 0..SAMPLES {
        for (loaded, rates) in compiled.iter().zip(&mut rates) {
            let entry: EntryFunction = loaded.entry("function").expect("the program is there");
            let pointers = [x.as_ptr().cast_mut().cast::<u8>(), y.as_mut_ptr().cast::<u8>()];
            // SAFETY: both buffers have as many elements as the program declares, and the first is only read.
            rates.push(rate(|| unsafe { entry(pointers.as_ptr(), std::ptr::null_mut(), std::ptr::null()) }));
        }
    }
    let median = |rates: &mut Vec<f64>| {
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    };
    for ((name, _), rates) in CASES.iter().zip(&mut rates) {
        println!("{name:18} {:6.2} elements a nanosecond", median(rates));
    }
}
