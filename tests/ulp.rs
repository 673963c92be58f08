//! How far compiled functions are from the truth, in units in the last place. The bounds are those of `docs/numerics.md`.

#[path = "ulp/doubles.rs"]
mod doubles;
#[path = "ulp/pair.rs"]
mod pair;

use nnc::codegen::{Loaded, backends};
use nnc::ir::loops::build::KernelBuilder;
use nnc::ir::loops::*;
use nnc::ir::scalar::ScalarFunction as F;
use nnc::ir::types::DType;
use nnc::passes::expand_math;

/// Elements of one call.
const BLOCK: usize = 1 << 14;

/// One compiled function over [`BLOCK`] elements.
struct Compiled {
    loaded: Box<dyn Loaded>,
}

impl Compiled {
    fn new(function: F, dtype: DType) -> Compiled {
        let mut k = KernelBuilder::new();
        let inputs: Vec<BufferId> =
            (0..function.arity()).map(|i| k.buffer(format!("x{i}"), dtype, BLOCK as u64, BufferUse::Read)).collect();
        let output = k.buffer("y", dtype, BLOCK as u64, BufferUse::Write);
        let kernel = k.finish(function.name(), None, |b| {
            b.lanes(BLOCK as u64, |b, i| {
                let x: Vec<Value> = inputs.iter().map(|x| b.load(*x, Affine::scaled(i, 1))).collect();
                let y = b.map(function, &x);
                b.store(output, Affine::scaled(i, 1), y);
            });
        });
        let kernel = expand_math::kernel(&kernel).expect("the function has an expansion");
        let count = kernel.buffers.len() as u32;
        let buffers = kernel.buffers.iter().enumerate().map(|(i, b)| Buffer {
            name: b.name.clone(),
            dtype: b.dtype,
            elements: b.elements,
            place: Place::Argument { index: i as u32 },
        });
        let program = Program {
            name: "function".to_string(),
            buffers: buffers.collect(),
            steps: vec![Step::Call(Call::on_whole(0, 0..count))],
            kernels: vec![kernel],
            pointers: count,
            arena_bytes: 0,
        };
        Compiled { loaded: backends()[0].jit(&[program]).expect("the function compiles") }
    }

    fn call<T: Copy + Default>(&self, inputs: &[&[T]]) -> Vec<T> {
        let entry = self.loaded.entry("function").expect("the program is there");
        let mut output = vec![T::default(); BLOCK];
        let mut pointers: Vec<*mut u8> = inputs.iter().map(|x| x.as_ptr().cast_mut().cast()).collect();
        assert!(inputs.iter().all(|x| x.len() == BLOCK));
        pointers.push(output.as_mut_ptr().cast());
        // SAFETY: every buffer has as many elements as the program declares; inputs are only read.
        unsafe { entry(pointers.as_ptr(), std::ptr::null_mut(), std::ptr::null()) };
        output
    }
}

/// The distance of `got` from the true value in units in the last place of an f32; infinite for a wrong special value.
fn ulps_f32(got: f32, truth: f64) -> f64 {
    let rounded = truth as f32;
    if got.to_bits() == rounded.to_bits() && got.is_infinite() {
        return 0.0;
    }
    if (got.is_nan() && truth.is_nan()) || (got == 0.0 && truth == 0.0) {
        return 0.0;
    }
    if !got.is_finite() || truth.is_nan() {
        // The last finite numbers may round to infinity.
        return if got.is_infinite() && truth.abs() > f64::from(f32::MAX) * (1.0 - 1e-7) { 1.0 } else { f64::INFINITY };
    }
    let truth = truth.clamp(-f64::from(f32::MAX), f64::from(f32::MAX));
    let exponent = ((truth.to_bits() >> 52 & 0x7ff) as i64 - 1023).max(-126);
    // The power of two 2^(23 - exponent) by its bits.
    (f64::from(got) - truth).abs() * f64::from_bits(((1023 + 23 - exponent) as u64) << 52)
}

unsafe extern "C" {
    /// The C library's error function, which the standard library does not have.
    safe fn erf(x: f64) -> f64;
}

/// The true value for a search through many operands: what the C library computes in f64.
fn reference(function: F, x: &[f64]) -> f64 {
    match (function, x) {
        (F::Erf, [x]) => erf(*x),
        _ => function.eval(DType::F64, x),
    }
}

/// The functions of one operand, their bound in f32, and in f64 (where the reference itself may be wrong by one unit).
const UNARY: [(F, f64, f64); 15] = [
    (F::Exp, 1.05, 2.0),
    (F::Log, 1.0, 2.0),
    (F::Tanh, 2.0, 2.0),
    (F::Sigmoid, 2.0, 2.0),
    (F::Log1p, 2.0, 2.0),
    (F::Expm1, 2.0, 2.0),
    (F::Erf, 2.0, 2.0),
    (F::Sin, 1.0, 2.0),
    (F::Cos, 1.0, 2.0),
    (F::Tan, 1.0, 2.0),
    (F::Atan, 2.0, 2.0),
    (F::Sqrt, 0.5, 1.0),
    (F::Rsqrt, 2.0, 2.0),
    (F::Sign, 0.0, 0.0),
    (F::Floor, 0.0, 0.0),
];

/// The largest error over f32 bit patterns `first`, `first + step`, ... and where it is. With an exponent, the function
/// is the power with that exponent.
fn worst_f32(
    compiled: &Compiled,
    (function, exponent): (F, Option<f32>),
    first: u64,
    step: u64,
    end: u64,
) -> (f64, f32) {
    let mut worst = (0.0, 0.0);
    let mut bits = (first..end).step_by(step as usize).peekable();
    let exponents = exponent.map(|e| vec![e; BLOCK]);
    while bits.peek().is_some() {
        let mut x: Vec<f32> = bits.by_ref().take(BLOCK).map(|b| f32::from_bits(b as u32)).collect();
        x.resize(BLOCK, 0.0);
        let results = match &exponents {
            Some(exponents) => compiled.call(&[&x, exponents]),
            None => compiled.call(&[&x]),
        };
        for (x, y) in x.iter().zip(results) {
            let truth = match exponent {
                Some(exponent) => reference(function, &[f64::from(*x), f64::from(exponent)]),
                None => reference(function, &[f64::from(*x)]),
            };
            let error = ulps_f32(y, truth);
            if error > worst.0 {
                worst = (error, *x);
            }
        }
    }
    worst
}

#[test]
fn functions_of_one_f32() {
    for (function, bound, _) in UNARY {
        let compiled = Compiled::new(function, DType::F32);
        // A step that is no power of two meets all exponents and endings.
        let (error, at) = worst_f32(&compiled, (function, None), 0, 49_999, 1 << 32);
        println!("{}({at:e}): {error} ulp", function.name());
        assert!(error <= bound, "{}({at:e}): {error} ulp", function.name());
        let ends =
            [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX, f32::MIN, 1e-45, -1e-45, 1.0, -1.0];
        for x in ends {
            let bits = u64::from(x.to_bits());
            let (error, at) =
                worst_f32(&compiled, (function, None), bits.saturating_sub(3), 1, (bits + 4).min(1 << 32));
            assert!(error <= bound, "{}({at:e}): {error} ulp", function.name());
        }
    }
}

/// Exponents for which the power of every f32 is tried.
const EXPONENTS: [f32; 10] = [2.0, 0.5, -1.0, 1.0 / 3.0, 10.0, -0.5, 3.0, 1.5, -2.0, 0.1];

/// The worst of all 2^32 operands, tried on all threads; printed, and checked against the bound.
fn try_every_f32(function: F, exponent: Option<f32>, bound: f64) {
    let compiled = Compiled::new(function, DType::F32);
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get()) as u64;
    let (error, at) = std::thread::scope(|scope| {
        let part = |t| t * (1u64 << 32) / threads;
        let compiled = &compiled;
        let search = move |t| worst_f32(compiled, (function, exponent), part(t), 1, part(t + 1));
        let workers: Vec<_> = (0..threads).map(|t| scope.spawn(move || search(t))).collect();
        let results = workers.into_iter().map(|w| w.join().expect("the comparison does not panic"));
        results.max_by(|a, b| a.0.total_cmp(&b.0)).expect("there is a thread")
    });
    let name = exponent.map_or(function.name().to_string(), |e| format!("{}(x, {e})", function.name()));
    println!("{name:14} {error:.3} ulp at {at:e} ({:08x})", at.to_bits());
    assert!(error <= bound, "{name}: {error} ulp at {at:e}");
}

/// Whether `FUNCTION` in the environment names this function, or none.
fn is_chosen(function: F) -> bool {
    std::env::var("FUNCTION").map_or(true, |name| name == function.name())
}

#[test]
#[ignore = "minutes: all 2^32 operands of each function; see docs/numerics.md"]
fn functions_of_every_f32() {
    for (function, bound, _) in UNARY.into_iter().filter(|row| is_chosen(row.0)) {
        try_every_f32(function, None, bound);
    }
}

#[test]
#[ignore = "minutes: all 2^32 operands for each of some exponents, and many pairs; see docs/numerics.md"]
fn powers_of_every_f32() {
    if !is_chosen(F::Pow) {
        return;
    }
    for exponent in EXPONENTS {
        try_every_f32(F::Pow, Some(exponent), 1.0);
    }
}

/// Numbers from a fixed sequence: 64 bits each.
fn sequence(seed: u64) -> impl Iterator<Item = u64> {
    let mut state = seed;
    std::iter::repeat_with(move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

#[test]
fn functions_of_two_f32() {
    let special = [0.0, -0.0, 1.0, -1.0, 2.0, -3.0, 0.5, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX, 1e-45];
    for (function, bound) in [(F::Pow, 1.0), (F::Atan2, 2.0)] {
        let compiled = Compiled::new(function, DType::F32);
        let mut bits = sequence(7).map(|b| b as u32);
        for round in 0..20 {
            let mut draw = |near: bool| -> Vec<f32> {
                let any = |b: u32| f32::from_bits(b);
                let tame = |b: u32| (b as f32 / u32::MAX as f32 - 0.3) * 20.0;
                bits.by_ref().take(BLOCK).map(|b| if near { tame(b) } else { any(b) }).collect()
            };
            let (mut x, mut y) = (draw(round % 2 == 0), draw(round % 2 == 0 || function == F::Pow));
            for (i, (a, b)) in special.iter().flat_map(|a| special.iter().map(move |b| (a, b))).enumerate() {
                (x[i], y[i]) = (*a, *b);
            }
            for ((x, y), z) in x.iter().zip(&y).zip(compiled.call(&[&x, &y])) {
                let error = ulps_f32(z, function.eval(DType::F64, &[f64::from(*x), f64::from(*y)]));
                assert!(error <= bound, "{}({x:e}, {y:e}) = {z:e}: {error} ulp", function.name());
            }
        }
    }
}
