//! How rounding errors grow: long sums in f32 against f64.

use nnc::codegen::backends;
use nnc::ir::graph::{Function, ResultRole, Role};
use nnc::ir::scalar::Monoid;
use nnc::ir::tensor::Tensor;
use nnc::ir::types::DType;

use crate::programs::agreement::compile;
use crate::programs::*;
use crate::writer::Writer;

/// Numbers between 0 and 1 without a pattern, exact in f32.
fn uniform(count: usize, mut state: u64) -> Vec<f64> {
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f64 / (1 << 24) as f64
    };
    (0..count).map(|_| next()).collect()
}

/// The results of compiled code.
fn run(function: &Function, arguments: &[Tensor]) -> Vec<Vec<f64>> {
    let program = compile(function, true).unwrap();
    let loaded = backends()[0].jit(std::slice::from_ref(&program)).unwrap();
    let memory = run_loaded(&*loaded, &program, memory_of(&program, arguments), Some(&nn_rt::Pool::new(2)));
    results_in(function, &memory)
}

/// The largest relative error of the sums over `axes` of a tensor of this shape.
fn error_of_sum(shape: &[usize], axes: &[usize]) -> f64 {
    let mut w = Writer::default();
    let x = w.argument("x", Role::Input, DType::F32, shape);
    let y = w.b.reduce(Monoid::Sum, x, axes, false).unwrap();
    w.result("y", ResultRole::Output, y);
    let function = w.finish_raw();
    let data = uniform(shape.iter().product(), 3);
    let found = run(&function, &[Tensor::new(function.arguments[0].ty.clone(), data.clone())]);
    let mut exact = vec![0.0; found[0].len()];
    for (i, value) in data.iter().enumerate() {
        // The number of the result: the index without the axes summed over.
        let (mut rest, mut to, mut stride) = (i, 0, 1);
        for axis in (0..shape.len()).rev() {
            if !axes.contains(&axis) {
                to += rest % shape[axis] * stride;
                stride *= shape[axis];
            }
            rest /= shape[axis];
        }
        exact[to] += value;
    }
    found[0].iter().zip(&exact).map(|(a, b)| (a - b).abs() / b).fold(0.0, f64::max)
}

/// Half a unit in the last place, relative.
const HALF_ULP: f64 = 1.0 / (1 << 24) as f64;

#[test]
fn errors_of_sums_grow_like_a_logarithm() {
    for count in [1_000, 10_007, 100_000, 1_000_003] {
        let shapes: [(&[usize], &[usize]); 5] = [
            (&[count], &[0]),
            (&[count / 4, 4], &[0]),
            (&[3, count / 3], &[1]),
            (&[count / 100, 5, 20], &[0, 2]),
            (&[count / 64, 64], &[0]),
        ];
        shapes.into_iter().for_each(|(shape, axes)| grows_slowly(shape, axes));
    }
    grows_slowly(&[10_000_000], &[0]);
}

fn grows_slowly(shape: &[usize], axes: &[usize]) {
    let count: usize = axes.iter().map(|a| shape[*a]).product();
    let (error, bound) = (error_of_sum(shape, axes), HALF_ULP * (count as f64).log2());
    assert!(error <= bound, "{shape:?} over {axes:?}: {error:e}, more than {bound:e}");
}

/// The largest relative error of a product with this many rows, steps of depth and columns.
fn error_of_product(rows: usize, depth: usize, columns: usize) -> f64 {
    let mut w = Writer::default();
    let a = w.argument("a", Role::Input, DType::F32, &[rows, depth]);
    let b = w.argument("b", Role::Input, DType::F32, &[depth, columns]);
    let y = w.b.contract((a, &[0, 1]), (b, &[1, 2]), &[0, 2]).unwrap();
    w.result("y", ResultRole::Output, y);
    let function = w.finish_raw();
    let (left, right) = (uniform(rows * depth, 5), uniform(depth * columns, 7));
    let tensor = |number: usize, data: &[f64]| Tensor::new(function.arguments[number].ty.clone(), data.to_vec());
    let found = run(&function, &[tensor(0, &left), tensor(1, &right)]);
    let mut worst = 0.0f64;
    for row in 0..rows {
        for column in 0..columns {
            let exact: f64 = (0..depth).map(|k| left[row * depth + k] * right[k * columns + column]).sum();
            worst = worst.max((found[0][row * columns + column] - exact).abs() / exact);
        }
    }
    worst
}

#[test]
fn errors_of_products_stay_small() {
    for (rows, depth, columns) in [(1, 1_000_000, 1), (3, 100_003, 8), (24, 20_000, 17), (40, 784, 40), (8, 200_000, 4)]
    {
        let error = error_of_product(rows, depth, columns);
        assert!(error <= 32.0 * HALF_ULP, "{rows}x{depth}x{columns}: {error:e}");
    }
}

#[test]
fn a_large_mean_costs_the_variance_nothing() {
    let source = "model M { input x: f32[batch, 1000]\n output v = var(x, axis=-1)\n output n = x |> layer_norm |> square |> mean(axis=-1) }";
    let mut session = nnc::compile("m.nn", source).unwrap().jit().unwrap();
    session.initialize(0).unwrap();
    // Whole numbers, so that the data itself is exact.
    let data: Vec<f32> = uniform(2000, 9).iter().map(|u| 16_000.0 + (u * 8.0).floor() as f32).collect();
    let outputs = session.infer(&[("x", nnc::Slice::from(data.as_slice()))]).unwrap();
    for row in 0..2 {
        let own: Vec<f64> = data[1000 * row..1000 * (row + 1)].iter().map(|x| f64::from(*x)).collect();
        let mean = own.iter().sum::<f64>() / 1000.0;
        let exact = own.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 1000.0;
        let value = |output: usize| values_of(DType::F32, outputs[output].bytes())[row];
        assert!((value(0) - exact).abs() < 1e-5 * exact, "{} and not {exact}", value(0));
        assert!((value(1) - 1.0).abs() < 1e-3, "{}", value(1));
    }
}
