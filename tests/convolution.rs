//! Convolutions and pools as they are compiled: results and gradients of larger shapes than the ops' samples have, with tiles and without,
//! with threads and without, in f32 and f64.

mod programs;
#[path = "programs/writer.rs"]
mod writer;

use nnc::codegen::Backend;
use nnc::ir::dim::Dim;
use nnc::ir::graph::{Argument, Function, ResultRole, Role, ValueId};
use nnc::ir::interpret;
use nnc::ir::loops::{Program, Step};
use nnc::ir::ops::convolve::Convolve;
use nnc::ir::ops::convolve_kernel::ConvolveKernel;
use nnc::ir::ops::pad::Pad;
use nnc::ir::ops::spatial::Geometry;
use nnc::ir::ops::windows::Windows;
use nnc::ir::ops::winograd::{Part, Winograd};
use nnc::ir::scalar::{Monoid, ScalarFunction as F};
use nnc::ir::tensor::Tensor;
use nnc::ir::types::DType;
use nnc::passes::tile;
use nnc::passes::{GRAPH_PASSES, LOOP_PASSES, Limits, fuse, lower, plan_memory};
use programs::agreement::{self, agree};
use programs::*;
use writer::Writer;

fn through_passes(mut function: Function, exact: bool) -> Function {
    for pass in GRAPH_PASSES {
        function = pass.apply_within(&function, &Limits { exact, ..Limits::default() }).unwrap();
    }
    function
}

/// The convolution, a bias and a rectifier, and the gradients of a sum of squares by input and kernel.
fn function(geometry: &Geometry, dtype: DType, x: &[usize], w: &[usize]) -> Function {
    let mut writer = Writer::default();
    let a = writer.argument("x", Role::Input, dtype, x);
    let k = writer.argument("w", Role::Input, dtype, w);
    let bias = writer.argument("bias", Role::Input, dtype, &w[w.len() - 1..]);
    let y = writer.b.add_one(Convolve { geometry: geometry.clone() }, &[a, k]).unwrap();
    let sum = writer.map(F::Add, &[y, bias]);
    let zero = writer.b.constant_like(0.0, sum);
    let y = writer.map(F::Max, &[sum, zero]);
    writer.result("y", ResultRole::Output, y);
    let loss = square(&mut writer, y);
    let first = writer.b.grad(loss, &[a, k]).unwrap();
    for (name, value) in ["dx", "dw"].into_iter().zip(first) {
        writer.result(name, ResultRole::Output, value);
    }
    writer.finish_raw()
}

/// A small multiple of the sum of squares.
fn square(writer: &mut Writer, value: ValueId) -> ValueId {
    let scale = writer.b.constant_like(0.02, value);
    let product = writer.map(F::Mul, &[value, value]);
    let product = writer.map(F::Mul, &[product, scale]);
    let axes: Vec<usize> = (0..writer.b.shape_of(value).len()).collect();
    writer.b.reduce(Monoid::Sum, product, &axes, false).unwrap()
}

#[test]
fn convolutions_and_their_gradients() {
    let plain = Geometry::plain;
    let border = |n: i64| Geometry { low: vec![n; 2], high: vec![n; 2], ..plain(2) };
    let cases: Vec<(Geometry, &[usize], &[usize])> = vec![
        (plain(2), &[2, 11, 9, 8], &[3, 3, 8, 20]),
        (border(1), &[2, 9, 8, 5], &[3, 3, 5, 33]),
        (plain(2), &[4, 10, 11, 1], &[3, 3, 1, 32]),
        (plain(2), &[2, 10, 9, 3], &[5, 5, 3, 16]),
        (plain(2), &[40, 5, 5, 8], &[1, 1, 8, 24]),
        (Geometry { strides: vec![2, 2], ..border(1) }, &[2, 10, 11, 6], &[3, 3, 6, 18]),
        (Geometry { strides: vec![3, 1], dilations: vec![1, 2], ..plain(2) }, &[2, 13, 12, 4], &[2, 3, 4, 16]),
        (Geometry { groups: 2, ..border(1) }, &[2, 8, 9, 8], &[3, 3, 4, 32]),
        (Geometry { groups: 12, ..border(1) }, &[2, 8, 9, 12], &[3, 3, 1, 12]),
        (Geometry { groups: 8, strides: vec![2, 2], ..plain(2) }, &[2, 9, 9, 8], &[3, 3, 1, 16]),
        (Geometry { input_dilations: vec![2, 2], ..border(2) }, &[2, 5, 6, 7], &[4, 4, 7, 16]),
        (plain(1), &[3, 40, 6], &[5, 6, 17]),
        (Geometry { low: vec![4], dilations: vec![4], ..plain(1) }, &[2, 33, 8], &[2, 8, 16]),
        (plain(3), &[2, 5, 6, 5, 4], &[2, 3, 2, 4, 12]),
        (plain(2), &[2, 14, 13, 3], &[3, 3, 3, 1]),
        (plain(2), &[3, 17, 16, 1], &[3, 3, 1, 1]),
        (plain(2), &[1, 9, 1, 16], &[3, 1, 16, 20]),
    ];
    for (number, (geometry, x, w)) in cases.into_iter().enumerate() {
        let dtypes = if number % 4 == 0 { &[DType::F32, DType::F64][..] } else { &[DType::F32] };
        for dtype in dtypes.iter().copied() {
            let function = function(&geometry, dtype, x, w);
            agree(&function, &arguments_for(&function)).unwrap_or_else(|e| panic!("{geometry:?} {x:?} {w:?}: {e}"));
        }
    }
}

/// Geometries for which Winograd's transforms pay, with whole tiles and without.
fn transformed() -> Vec<(Geometry, [usize; 4], [usize; 4])> {
    let border = |n: i64| Geometry { low: vec![n; 2], high: vec![n; 2], ..Geometry::plain(2) };
    vec![
        (border(1), [2, 16, 12, 48], [3, 3, 48, 40]),
        (border(1), [3, 11, 14, 33], [3, 3, 33, 64]),
        (Geometry::plain(2), [1, 21, 9, 64], [3, 3, 64, 50]),
        (border(1), [24, 2, 2, 64], [3, 3, 64, 64]),
    ]
}

#[test]
fn transformed_convolutions_and_their_gradients() {
    for (geometry, x, w) in transformed() {
        let function = function(&geometry, DType::F32, &x, &w);
        let passed = through_passes(function.clone(), false).to_string();
        assert!(passed.contains("winograd"), "{x:?} {w:?} are multiplied directly:\n{passed}");
        agree(&function, &arguments_for(&function)).unwrap_or_else(|e| panic!("{geometry:?} {x:?} {w:?}: {e}"));
    }
}

/// In exact arithmetic the transforms give the convolution.
#[test]
fn transforms_mean_the_same() {
    for (geometry, x, w) in transformed() {
        let function = function(&geometry, DType::F32, &x, &w);
        let arguments = arguments_for(&function);
        let direct = interpret::run(&through_passes(function.clone(), true), &arguments).unwrap();
        let transformed = interpret::run(&through_passes(function, false), &arguments).unwrap();
        for (a, b) in direct.iter().zip(&transformed) {
            let largest = a.data.iter().fold(1.0, |m: f64, v| m.max(v.abs()));
            let distance = a.data.iter().zip(&b.data).map(|(p, q)| (p - q).abs()).fold(0.0, f64::max);
            assert!(distance < 1e-11 * largest, "{x:?} {w:?}: off by {distance} of {largest}");
        }
    }
}

/// The convolution of `[1, n, n, c]` with border 1 by tiles of this size, or directly.
fn convolution(tile: Option<usize>, n: usize, c: usize) -> Function {
    let mut writer = Writer::default();
    let x = writer.argument("x", Role::Input, DType::F32, &[1, n, n, c]);
    let w = writer.argument("w", Role::Input, DType::F32, &[3, 3, c, c]);
    let mut pad = Pad::none(4, 0.0);
    for axis in [1, 2] {
        (pad.low[axis], pad.high[axis]) = (Dim::from(1i64), Dim::from(1i64));
    }
    let padded = writer.b.emit(pad, &[x]);
    let y = match tile {
        None => writer.b.emit(Convolve { geometry: Geometry::plain(2) }, &[padded, w]),
        Some(tile) => {
            let part = |part, tiles: usize| Winograd { part, tile, tiles: (tiles, tiles), strip: tiles, blocks: 1 };
            let inputs = writer.b.emit(part(Part::Input, n / tile), &[padded]);
            let kernel = writer.b.emit(part(Part::Kernel, 1), &[w]);
            let products =
                writer.b.contract((inputs, &[4, 0, 1, 2]), (kernel, &[5, 0, 2, 3]), &[5, 4, 0, 1, 3]).unwrap();
            writer.b.emit(part(Part::Output, n / tile), &[products])
        }
    };
    writer.result("y", ResultRole::Output, y);
    through_passes(writer.finish_raw(), true)
}

/// The gradient of a kernel `[3, 3, c, c]` over `[8, n, n, c]` with border 1, by tiles of this size in two parts, or directly.
fn kernel_gradient(tile: Option<usize>, n: usize, c: usize) -> Function {
    let mut writer = Writer::default();
    let x = writer.argument("x", Role::Input, DType::F32, &[8, n + 2, n + 2, c]);
    let dy = writer.argument("dy", Role::Input, DType::F32, &[8, n, n, c]);
    let dw = match tile {
        None => writer.b.emit(ConvolveKernel { geometry: Geometry::plain(2), sizes: vec![3, 3] }, &[x, dy]),
        Some(tile) => {
            let part = |part| {
                let (tiles, strip) = match part {
                    Part::KernelAdjoint => ((1, 1), 1),
                    _ => ((n / tile, n / tile), 4 * n / tile),
                };
                Winograd { part, tile, tiles, strip, blocks: 1 }
            };
            let inputs = writer.b.emit(part(Part::Input), &[x]);
            let results = writer.b.emit(part(Part::OutputAdjoint), &[dy]);
            let products = writer.b.contract((inputs, &[4, 0, 1, 2]), (results, &[4, 0, 1, 3]), &[4, 0, 2, 3]).unwrap();
            let shape = [&[Dim::from(1usize)][..], &writer.b.shape_of(products)].concat();
            let products = writer.b.reshape(products, &shape).unwrap();
            let gradients = writer.b.emit(part(Part::KernelAdjoint), &[products]);
            let gradients = writer.b.reshape(gradients, &[2, 3, 3, c, c].map(Dim::from)).unwrap();
            writer.b.reduce(Monoid::Sum, gradients, &[0], false).unwrap()
        }
    };
    writer.result("dw", ResultRole::Output, dw);
    through_passes(writer.finish_raw(), true)
}

/// Numbers between -1 and 1 without any order.
fn random_arguments(function: &Function) -> Vec<Tensor> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from((f64::from(state >> 8) / f64::from(1 << 23) - 1.0) as f32)
    };
    let argument = |a: &Argument| Tensor::from_fn(a.ty.clone(), |_| next());
    function.arguments.iter().map(argument).collect()
}

/// The largest errors of a function that is computed directly and by tiles of 2 and of 4, in half units in the last place of the largest result.
fn errors(function: impl Fn(Option<usize>) -> Function) -> [f64; 3] {
    let direct = function(None);
    let arguments = random_arguments(&direct);
    let exact = &interpret::run(&direct, &arguments).unwrap()[0].data;
    [None, Some(2), Some(4)].map(|tile| {
        let function = function(tile);
        let program = agreement::compile(&function, true).unwrap();
        let loaded = nnc::codegen::backends()[0].jit(std::slice::from_ref(&program)).unwrap();
        let memory = run_loaded(&*loaded, &program, memory_of(&program, &arguments), None);
        let results = results_in(&function, &memory);
        let largest = exact.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
        let off = exact.iter().zip(&results[0]).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        off / (largest * f64::from(f32::EPSILON) / 2.0)
    })
}

/// The tables of `docs/numerics.md`: numbers between -1 and 1.
#[test]
fn errors_of_transforms_are_bounded() {
    let hold = |what: &str, found: [f64; 3], bounds: [f64; 3]| {
        println!("{what}: {found:.1?}");
        for (error, bound) in found.iter().zip(bounds) {
            assert!(*error < bound, "{what}: {found:?}, bounds {bounds:?}");
        }
    };
    for (channels, bounds) in [(16, [9.0, 6.0, 20.0]), (128, [14.0, 12.0, 50.0])] {
        hold(&format!("{channels} channels"), errors(|tile| convolution(tile, 16, channels)), bounds);
    }
    for (places, bounds) in [(8, [9.0, 6.0, 20.0]), (32, [14.0, 12.0, 50.0])] {
        hold(&format!("gradient over {places} places"), errors(|tile| kernel_gradient(tile, places, 16)), bounds);
    }
}

/// A kernel is transformed right before it is used: not all of them are in memory at a time.
#[test]
fn transformed_kernels_follow_each_other_in_memory() {
    let mut writer = Writer::default();
    let mut x = writer.argument("x", Role::Input, DType::F32, &[1, 16, 16, 128]);
    let geometry = Geometry { low: vec![1; 2], high: vec![1; 2], ..Geometry::plain(2) };
    for name in ["a", "b", "c", "d"] {
        let w = writer.argument(name, Role::Parameter, DType::F32, &[3, 3, 128, 128]);
        x = writer.b.add_one(Convolve { geometry: geometry.clone() }, &[x, w]).unwrap();
    }
    writer.result("y", ResultRole::Output, x);
    let function = through_passes(writer.finish_raw(), false);
    let program = plan_memory::plan(tile::tile(
        lower::lower(&fuse::fuse(&function, &Limits::default())).unwrap(),
        &Limits::default(),
    ));
    let kernel = 36 * 128 * 128 * 4;
    // One transformed, and once more in panels.
    assert!(program.arena_bytes > kernel, "nothing is transformed");
    assert!(program.arena_bytes < 3 * kernel, "{} bytes for kernels of {kernel}", program.arena_bytes);
}

/// The loops of a function as they are compiled, or without one pass.
fn loops_without(function: &Function, pass: Option<&str>) -> Program {
    let limits = Limits::default();
    let mut program = lower::lower(&fuse::fuse(function, &limits)).unwrap();
    for one in LOOP_PASSES.iter().filter(|one| Some(one.name) != pass) {
        program = (one.run)(program, &limits).unwrap();
    }
    program
}

/// What is handed on here is larger than what strips are for, so they are made without any limit on memory: strips of tiles, whose parts of the kernel's gradient are
/// added up, and blocks of its filters.
#[test]
fn strips_give_the_bits_of_whole_arrays() {
    let border = Geometry { low: vec![1; 2], high: vec![1; 2], ..Geometry::plain(2) };
    let cases = [
        ([8, 32, 32, 64], [3, 3, 64, 64], "part=kernel_adjoint tile=4 tiles=[1, 1] strip=1 blocks=1"),
        ([8, 8, 8, 256], [3, 3, 256, 128], "blocks=2"),
    ];
    for (x, w, how) in cases {
        let function = through_passes(function(&border, DType::F32, &x, &w), false);
        assert!(function.to_string().contains(how), "no {how} in\n{function}");
        let arguments = random_arguments(&function);
        let (strips, whole) = (loops_without(&function, None), loops_without(&function, Some("strips")));
        assert!(strips.steps.iter().any(|step| matches!(step, Step::Repeat(_))), "nothing runs in strips");
        assert!(strips.arena_bytes < whole.arena_bytes, "{} and {} bytes", strips.arena_bytes, whole.arena_bytes);
        let [wide, cranelift] = nnc::codegen::backends();
        let run = |backend: &dyn Backend, program: &Program, threads: usize| {
            let loaded = backend.jit(std::slice::from_ref(program)).unwrap();
            let pool = (threads > 1).then(|| nn_rt::Pool::new(threads));
            run_loaded(&*loaded, program, memory_of(program, &arguments), pool.as_ref())
        };
        let expected = run(wide, &whole, 1);
        for (backend, threads) in [(wide, 1), (wide, 2), (wide, 3), (cranelift, 2)] {
            let what = format!("{} with {threads} threads", backend.name());
            agreement::same(&what, &whole, &expected, &run(backend, &strips, threads)).unwrap();
        }
    }
}

#[test]
fn nothing_is_copied_for_windows() {
    let function = through_passes(function(&Geometry::plain(2), DType::F32, &[8, 14, 14, 16], &[3, 3, 16, 32]), true);
    let program = tile::tile(lower::lower(&fuse::fuse(&function, &Limits::default())).unwrap(), &Limits::default());
    let input = 8 * 14 * 14 * 16;
    let largest = program.buffers.iter().map(|b| b.elements).max().unwrap();
    assert!(largest <= 3 * input, "a buffer has {largest} elements, the input {input}");
}

/// A pool and its gradient.
fn pool(monoid: Monoid, shape: &[usize], size: usize, stride: usize, border: usize, dilation: usize) -> Function {
    let mut writer = Writer::default();
    let x = writer.argument("x", Role::Input, DType::F32, shape);
    let rank = shape.len() - 2;
    let mut pad = Pad::none(shape.len(), monoid.neutral(DType::F32));
    for axis in 1..=rank {
        (pad.low[axis], pad.high[axis]) = (Dim::from(border), Dim::from(border));
    }
    let padded = if border > 0 { writer.b.emit(pad, &[x]) } else { x };
    let axes: Vec<usize> = (1..=rank).collect();
    let (strides, dilations) = (vec![stride; rank], vec![dilation; rank]);
    let windows = writer.b.emit(Windows { axes, sizes: vec![size; rank], strides, dilations }, &[padded]);
    let y = writer.b.reduce(monoid, windows, &(1 + rank..1 + 2 * rank).collect::<Vec<_>>(), false).unwrap();
    writer.result("y", ResultRole::Output, y);
    let loss = square(&mut writer, y);
    let dx = writer.b.grad(loss, &[x]).unwrap()[0];
    writer.result("dx", ResultRole::Output, dx);
    writer.finish_raw()
}

#[test]
fn pools_and_their_gradients() {
    for monoid in [Monoid::Max, Monoid::Min, Monoid::Sum] {
        for (shape, size, stride, border, dilation) in [
            (&[3, 12, 13, 16][..], 2, 2, 0, 1),
            (&[2, 11, 9, 5], 3, 2, 1, 1),
            (&[2, 9, 10, 1], 2, 1, 0, 2),
            (&[4, 30, 3], 3, 3, 0, 1),
            (&[4, 30, 3], 2, 3, 0, 1),
            (&[1, 5, 6, 7, 4], 2, 2, 0, 1),
            (&[0, 6, 6, 2], 2, 2, 0, 1),
        ] {
            let function = pool(monoid, shape, size, stride, border, dilation);
            agree(&function, &arguments_for(&function)).unwrap_or_else(|e| panic!("{monoid:?} {shape:?} {size}: {e}"));
        }
    }
}
