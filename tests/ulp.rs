//! How far compiled functions are from the truth, in units in the last place. The bounds are those of `docs/numerics.md`.

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
            calls: vec![Call { kernel: 0, buffers: (0..count).collect() }],
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
    if got.to_bits() == rounded.to_bits() || (got.is_nan() && truth.is_nan()) || (got == 0.0 && truth == 0.0) {
        return 0.0;
    }
    if !got.is_finite() || truth.is_nan() {
        // The last finite numbers may round to infinity.
        return if got.is_infinite() && truth.abs() > f64::from(f32::MAX) * (1.0 - 1e-7) { 1.0 } else { f64::INFINITY };
    }
    let exponent = if truth == 0.0 { -126 } else { (truth.abs().log2().floor() as i32).clamp(-126, 127) };
    (f64::from(got) - truth.clamp(-f64::from(f32::MAX), f64::from(f32::MAX))).abs()
        / f64::exp2(f64::from(exponent - 23))
}

/// The functions of one operand, their bound in f32, and in f64 (where the reference itself may be wrong by one unit).
const UNARY: [(F, f64, f64); 14] = [
    (F::Exp, 1.05, 2.0),
    (F::Log, 1.0, 2.0),
    (F::Tanh, 2.0, 3.0),
    (F::Sigmoid, 2.0, 4.0),
    (F::Log1p, 2.0, 3.0),
    (F::Expm1, 2.0, 3.0),
    (F::Erf, 2.0, 16.0),
    (F::Sin, 1.0, 2.0),
    (F::Cos, 1.0, 2.0),
    (F::Tan, 1.0, 3.0),
    (F::Atan, 2.0, 2.0),
    (F::Rsqrt, 2.0, 3.0),
    (F::Sign, 0.0, 0.0),
    (F::Floor, 0.0, 0.0),
];

/// The largest error over f32 bit patterns `first`, `first + step`, ... and where it is.
fn worst_f32(compiled: &Compiled, function: F, first: u64, step: u64, end: u64) -> (f64, f32) {
    let mut worst = (0.0, 0.0);
    let mut bits = (first..end).step_by(step as usize).peekable();
    while bits.peek().is_some() {
        let mut x: Vec<f32> = bits.by_ref().take(BLOCK).map(|b| f32::from_bits(b as u32)).collect();
        x.resize(BLOCK, 0.0);
        for (x, y) in x.iter().zip(compiled.call(&[&x])) {
            let error = ulps_f32(y, function.eval(DType::F64, &[f64::from(*x)]));
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
        let (error, at) = worst_f32(&compiled, function, 0, 49_999, 1 << 32);
        println!("{}({at:e}): {error} ulp", function.name());
        assert!(error <= bound, "{}({at:e}): {error} ulp", function.name());
        let ends =
            [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX, f32::MIN, 1e-45, -1e-45, 1.0, -1.0];
        for x in ends {
            let bits = u64::from(x.to_bits());
            let (error, at) = worst_f32(&compiled, function, bits.saturating_sub(3), 1, (bits + 4).min(1 << 32));
            assert!(error <= bound, "{}({at:e}): {error} ulp", function.name());
        }
    }
}

#[test]
#[ignore = "minutes: all 2^32 operands of each function; see docs/numerics.md"]
fn functions_of_every_f32() {
    let only = std::env::var("FUNCTION").ok();
    for (function, bound, _) in UNARY {
        if only.as_deref().is_some_and(|name| name != function.name()) {
            continue;
        }
        let compiled = Compiled::new(function, DType::F32);
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get()) as u64;
        let (error, at) = std::thread::scope(|scope| {
            let part = |t| t * (1u64 << 32) / threads;
            let compiled = &compiled;
            let workers: Vec<_> = (0..threads)
                .map(|t| scope.spawn(move || worst_f32(compiled, function, part(t), 1, part(t + 1))))
                .collect();
            let results = workers.into_iter().map(|w| w.join().expect("the comparison does not panic"));
            results.max_by(|a, b| a.0.total_cmp(&b.0)).expect("there is a thread")
        });
        println!("{:8} {error:.3} ulp at {at:e}", function.name());
        assert!(error <= bound, "{}({at:e}): {error} ulp", function.name());
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

/// The distance in f64s between two numbers.
fn ulps_f64(got: f64, truth: f64) -> f64 {
    if got == truth || (got.is_nan() && truth.is_nan()) {
        return 0.0;
    }
    if !got.is_finite() || !truth.is_finite() {
        return if (got - truth).abs() > 0.0 && got.abs().min(truth.abs()) < f64::MAX { f64::INFINITY } else { 1.0 };
    }
    let ordered = |x: f64| if x < 0.0 { -((x.to_bits() << 1 >> 1) as i64) } else { x.to_bits() as i64 };
    ordered(got).abs_diff(ordered(truth)) as f64
}

/// Values of erf computed with mpmath in 40 digits, since the reference is less precise than the compiled function.
const ERF: [(f64, f64); 40] = [
    (-0.8775258141302371, -0.7853975417434991),
    (4.169204843246792, 0.999999996279103),
    (0.6330590855438736, 0.6293629690978312),
    (-2.9391716911269397, -0.9999677004453845),
    (-0.010955790979341629, -0.012361791705530903),
    (-0.606107222535142, -0.608646327545039),
    (0.363823134534631, 0.3931140430281964),
    (3.464680213626158, 0.9999990406463855),
    (-0.9747369917418363, -0.831946796998651),
    (-5.659830281735925, -0.9999999999999988),
    (0.8058362494076874, 0.7455572483146883),
    (-0.8067951851393591, -0.7461220424380874),
    (0.6294721978990607, 0.6266458542904894),
    (-5.974727359786671, -1.0),
    (-0.13107073426847649, -0.147054896367954),
    (2.658480388089391, 0.9998298549001348),
    (-0.6509706689509136, -0.6427467294820634),
    (5.3432483466470675, 0.9999999999999586),
    (0.9634258982675605, 0.8269566931472728),
    (-5.632920203597358, -0.9999999999999983),
    (-1.138929933615694, -0.8927527282401699),
    (0.49694967352195896, 0.5178152199042506),
    (1.0539579906684253, 0.8639128808661641),
    (-1.4255491477414513, -0.9562032592874804),
    (-0.6801614468865279, -0.6638969174968012),
    (-0.9346010930073927, -0.8137404395811226),
    (-1.130302109820317, -0.8900657135546146),
    (-3.3397000047235794, -0.9999976766520408),
    (-0.14906977523862697, -0.16696953559647212),
    (-0.05025310341779221, -0.056656857709658316),
    (-0.6405973193818256, -0.6350331390954845),
    (-3.2296015015081885, -0.9999950606225816),
    (-0.6749255103895473, -0.6601637293300593),
    (-0.4847584111471974, -0.5070042902670969),
    (-0.5045241249828346, -0.5244665932151694),
    (-5.7421235368090935, -0.9999999999999996),
    (0.8101871415901749, 0.7481128322493911),
    (0.6774518718292013, 0.6619683152308079),
    (0.34150647103786946, 0.3708780510333603),
    (-3.7691248092633876, -0.9999999019749414),
];

#[test]
fn error_function_of_f64() {
    let compiled = Compiled::new(F::Erf, DType::F64);
    let mut x: Vec<f64> = ERF.iter().map(|row| row.0).collect();
    x.resize(BLOCK, 0.0);
    for ((x, truth), y) in ERF.iter().zip(compiled.call(&[&x])) {
        assert!(ulps_f64(y, *truth) <= 4.0, "erf({x:e}) = {y:e} instead of {truth:e}");
    }
}

#[test]
fn functions_of_one_f64() {
    for (function, _, bound) in UNARY {
        let compiled = Compiled::new(function, DType::F64);
        let mut worst = 0.0f64;
        for round in 0..6 {
            let draw = |b: u64| match round {
                0 | 1 => f64::from_bits(b),
                2 => (b as f64 / u64::MAX as f64 - 0.5) * 2.0,
                3 => (b as f64 / u64::MAX as f64 - 0.5) * 60.0,
                4 => (b as f64 / u64::MAX as f64 - 0.5) * 1500.0,
                _ => f64::from_bits((b >> 7) | (1022 << 52)) - 0.5,
            };
            let trigonometric = matches!(function, F::Sin | F::Cos | F::Tan);
            let near = |x: &f64| !trigonometric || x.abs() < 1e15 || !x.is_finite();
            let x: Vec<f64> = sequence(round).map(draw).filter(near).take(BLOCK).collect();
            for (x, y) in x.iter().zip(compiled.call(&[&x])) {
                let truth = match function {
                    // The definition overflows on the way where the result is small.
                    F::Sigmoid if *x < 0.0 => x.exp() / (1.0 + x.exp()),
                    _ => function.eval(DType::F64, &[*x]),
                };
                let error = ulps_f64(y, truth);
                worst = worst.max(error);
                assert!(error <= bound, "{}({x:e}) = {y:e}: {error} ulp", function.name());
            }
        }
        println!("{:8} {worst} ulp", function.name());
    }
}
