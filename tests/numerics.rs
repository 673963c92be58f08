//! The library's functions and their gradients at extreme operands, in f32 and f64, against values computed in 700 digits.
//!
//! `tests/fixtures/numerics/extremes.py` made the values. Nothing may be NaN or infinite where the true value is neither.

use nnc::driver::Output;
use nnc::ir::types::DType;
use serde_json::Value;

/// One float dtype under test.
#[derive(Clone, Copy)]
struct Float {
    name: &'static str,
    epsilon: f64,
    smallest: f64,
    largest: f64,
}

const F32: Float =
    Float { name: "f32", epsilon: f32::EPSILON as f64, smallest: f32::MIN_POSITIVE as f64, largest: f32::MAX as f64 };
const F64: Float = Float { name: "f64", epsilon: f64::EPSILON, smallest: f64::MIN_POSITIVE, largest: f64::MAX };

fn fixture() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/numerics/extremes.json");
    serde_json::from_str(&std::fs::read_to_string(path).expect("the fixture exists")).expect("the fixture is JSON")
}

fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().map(|v| v.as_f64().expect("a number")).collect(),
        single => vec![single.as_f64().expect("a number")],
    }
}

impl Float {
    fn bytes(self, values: &[f64]) -> Vec<u8> {
        match self.name {
            "f32" => values.iter().flat_map(|v| (*v as f32).to_le_bytes()).collect(),
            _ => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        }
    }

    fn dtype(self) -> DType {
        if self.name == "f32" { DType::F32 } else { DType::F64 }
    }

    /// Whether every number can stand in this dtype, squares excepted.
    fn holds(self, values: &[f64]) -> bool {
        values.iter().all(|v| v.abs() <= self.largest && (*v == 0.0 || v.abs() >= self.smallest))
    }

    /// The outputs of a model with an input `x` of `count` elements.
    fn run(self, body: &str, x: &[f64]) -> Vec<Output> {
        let source = format!("model M {{\n input x: {}[{}]\n {body}\n}}\n", self.name, x.len());
        let session = nnc::compile("numerics.nn", &source).unwrap_or_else(|e| panic!("{e}\n{source}")).jit();
        let mut session = session.expect("the model compiles");
        let bytes = self.bytes(x);
        let slice = nnc::Slice::from_bytes(self.dtype(), &bytes);
        session.infer(&[("x", slice)]).expect("the model runs")
    }

    /// `what` within some units in the last place of the true value, or of `scale` where the formula cancels by its nature.
    fn check(self, what: &str, got: f64, truth: f64, scale: f64) {
        let truth = if truth.abs() > self.largest { f64::INFINITY.copysign(truth) } else { truth };
        let allowed = self.epsilon * (8.0 * truth.abs() + 4.0 * scale) + self.smallest;
        let near = got == truth || (got - truth).abs() <= allowed;
        assert!(near, "{what} in {}: {got:e}, not {truth:e}", self.name);
    }
}

#[test]
fn activations_and_their_slopes() {
    let fixture = fixture();
    let functions = fixture["functions"].as_object().expect("functions by name");
    for float in [F32, F64] {
        for (name, rows) in functions {
            let rows: Vec<Vec<f64>> = rows.as_array().expect("a list of points").iter().map(numbers).collect();
            let rows: Vec<Vec<f64>> = rows.into_iter().filter(|r| float.holds(&r[..1])).collect();
            let x: Vec<f64> = rows.iter().map(|r| r[0]).collect();
            let call = if name == "gelu_tanh" { "gelu(x, approximate=true)".into() } else { format!("{name}(x)") };
            let outputs = float.run(&format!("y = {call}; output y; output d = grad(sum(y), x)"), &x);
            let (y, d) = (outputs[0].to_f64(), outputs[1].to_f64());
            for (i, row) in rows.iter().enumerate() {
                // A small result for a large negative operand is a small difference or a product of rounded factors.
                let scale = row[0].abs().min(20.0);
                float.check(&format!("{name}({:e})", row[0]), y[i], row[1], scale);
                float.check(&format!("{name}'({:e})", row[0]), d[i], row[2], scale.max(1.0));
            }
        }
    }
}

/// The results of a row of logits, by the names that the fixture has them under.
const ROW: &str = "
 p = softmax(x); output softmax = p; output d_softmax = grad(sum(p * p), x)
 output log_softmax = log_softmax(x)
 output logsumexp = logsumexp(x)
 ce = cross_entropy(reshape(x, [1, 3]), tensor([1], dtype=i32))
 output cross_entropy = ce; output d_cross_entropy = grad(ce, x)
 b = binary_cross_entropy(x, tensor([0, 1, 0], dtype=i32))
 output bce = b; output d_bce = grad(b, x)
 n = norm(x); output norm = n; output d_norm = grad(n, x)";

#[test]
fn rows_of_logits() {
    for row in fixture()["rows"].as_array().expect("a list of rows") {
        let x = numbers(&row["x"]);
        for float in [F32, F64].into_iter().filter(|f| f.holds(&x)) {
            let outputs = float.run(ROW, &x);
            assert_eq!(outputs.len(), 10);
            let largest = x.iter().fold(0.0f64, |m, v| m.max(v.abs()));
            for output in &outputs {
                let name = &output.name;
                // Gradients of probabilities are differences of numbers up to 1; logarithms of probabilities, of logits.
                let scale = if name.starts_with("d_") || name == "softmax" { 4.0 } else { largest.max(1.0) };
                for (got, truth) in output.to_f64().into_iter().zip(numbers(&row[name.as_str()])) {
                    float.check(&format!("{name} of {x:?}"), got, truth, scale);
                }
            }
        }
    }
}

#[test]
fn slopes_where_a_root_is_0() {
    for float in [F32, F64] {
        let body = "output d = grad(norm(x), x); output s = grad(std(x), x); output y = norm(x)";
        for x in [[0.0; 3], [-0.0; 3]] {
            for output in float.run(body, &x) {
                assert!(output.to_f64().iter().all(|v| *v == 0.0), "{} at 0 in {}", output.name, float.name);
            }
        }
        let equal = float.run(body, &[2.5; 3]);
        assert!(equal[1].to_f64().iter().all(|v| *v == 0.0), "std of equal numbers: {:?}", equal[1].to_f64());
    }
}

#[test]
fn variances_do_not_cancel() {
    // Numbers that differ in their last digits only: the square of the mean would swallow the variance.
    for (float, far) in [(F32, 1e4), (F64, 1e12)] {
        let x = [far, far + 1.0, far + 2.0, far + 3.0];
        let outputs = float.run("output v = var(x); output y = layer_norm(reshape(x, [1, 4]), eps=0.0)", &x);
        float.check("var", outputs[0].to_f64()[0], 1.25, 1.0);
        for (got, deviation) in outputs[1].to_f64().into_iter().zip([-1.5, -0.5, 0.5, 1.5f64]) {
            float.check("layer_norm", got, deviation / 1.25f64.sqrt(), 1.0);
        }
    }
}

/// `//` and `%` are those of NumPy and Python: rounded down, with the sign of the divisor, exact.
#[test]
fn quotients_and_remainders_round_down() {
    let a = [7.5, -7.5, 7.5, -7.5, 1.0, -1.0, 1e7, 6.0];
    let b = [2.0, 2.0, -2.0, -2.0, 0.1, 0.1, 3.0, 0.0];
    for float in [F32, F64] {
        let divisors = b.iter().map(|v| format!("{v:?}")).collect::<Vec<_>>().join(", ");
        let body = format!(
            "b = tensor([{divisors}], dtype={0})
 output q = x//b; output r = x % b; output qi = i32(x)//i32(b); output ri = i32(x) % i32(b); output d = grad(sum(x % b), x)",
            float.name
        );
        let outputs = float.run(&body, &a);
        let [q, r, qi, ri, d] = [0, 1, 2, 3, 4].map(|i| outputs[i].to_f64());
        assert_eq!(q[..4], [3.0, -4.0, -4.0, 3.0], "{}", float.name);
        assert_eq!(r[..4], [1.5, 0.5, -0.5, -1.5], "{}", float.name);
        // One tenth is a little more than 1/10 in f32 and in f64.
        assert_eq!(q[4..7], [9.0, -10.0, 3_333_333.0], "{}", float.name);
        assert!((r[4] - 0.1).abs() < 1e-7 && r[5] < 1e-7 && r[5] > 0.0 && r[6] == 1.0, "{}: {r:?}", float.name);
        assert!(q[7] == f64::INFINITY && r[7].is_nan(), "{}: {q:?} {r:?}", float.name);
        assert_eq!((&qi[..4], &ri[..4]), (&[3.0, -4.0, -4.0, 3.0][..], &[1.0, 1.0, -1.0, -1.0][..]));
        assert_eq!((qi[7], ri[7], d[0]), (0.0, 0.0, 1.0), "whole numbers by 0");
    }
}

/// The first NaN, or else the first largest of numbers, or of their opposites if `sign` is -1.
fn place(numbers: &[f64], sign: f64) -> usize {
    let first_nan = numbers.iter().position(|x| x.is_nan());
    let better = |i: usize, best: usize| sign * numbers[i] > sign * numbers[best];
    first_nan.unwrap_or_else(|| (1..numbers.len()).fold(0, |best, i| if better(i, best) { i } else { best }))
}

/// Ties, infinities and NaNs in all orders, folded along each axis: in lanes that have a place each, across lanes, and in loops one in the other.
#[test]
fn places_of_largest_and_smallest_elements() {
    let (rows, middle, columns) = (7, 5, 19);
    let values = [f64::NAN, f64::NEG_INFINITY, f64::INFINITY, -1.0, 0.0, 1.0, f64::NEG_INFINITY, f64::INFINITY];
    let mut state = 1u64;
    let mut draw = |kinds: std::ops::Range<usize>| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        values[kinds.start + (state >> 33) as usize % kinds.len()]
    };
    for kinds in [0..8, 1..8, 1..3, 0..1, 6..7, 7..8] {
        let x: Vec<f64> = (0..rows * middle * columns).map(|_| draw(kinds.clone())).collect();
        let at = |i: usize, j: usize, k: usize| x[(i * middle + j) * columns + k];
        let folds: [(&str, Vec<Vec<f64>>); 4] = [
            (
                "0",
                (0..middle * columns).map(|p| (0..rows).map(|i| at(i, p / columns, p % columns)).collect()).collect(),
            ),
            (
                "1",
                (0..rows * columns).map(|p| (0..middle).map(|j| at(p / columns, j, p % columns)).collect()).collect(),
            ),
            ("2", (0..rows * middle).map(|p| (0..columns).map(|k| at(p / middle, p % middle, k)).collect()).collect()),
            (
                "[0, 1]",
                (0..columns).map(|k| (0..rows * middle).map(|p| at(p / middle, p % middle, k)).collect()).collect(),
            ),
        ];
        for float in [F32, F64] {
            for (axes, runs) in &folds {
                for (name, sign) in [("argmax", 1.0), ("argmin", -1.0)] {
                    let shaped = format!("reshape(x, [{rows}, {middle}, {columns}])");
                    let outputs = float.run(&format!("output y = {name}({shaped}, axis={axes})"), &x);
                    let truth: Vec<f64> = runs.iter().map(|run| place(run, sign) as f64).collect();
                    assert_eq!(outputs[0].to_f64(), truth, "{name} along {axes} in {}", float.name);
                }
            }
        }
    }
}

/// A pooling of clipped numbers takes the largest first and clips afterwards. Its gradient goes where it went: to the first of the largest in each window, if the clipping leaves it as it is.
#[test]
fn gradients_of_pools_behind_clips() {
    let (rows, columns) = (12, 10);
    let values = [0.0, -1.0, 2.0, 6.0, 7.0, 2.0, -0.0, 8.0, -3.0, 6.0, f64::NAN, f64::NEG_INFINITY];
    let mut state = 7u64;
    let mut draw = |kinds: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        values[(state >> 33) as usize % kinds]
    };
    for kinds in [2, 4, 10, 12] {
        let x: Vec<f64> = (0..rows * columns).map(|_| draw(kinds)).collect();
        for (clip, inside) in
            [("max(v, 0.0)", (|v| v > 0.0) as fn(f64) -> bool), ("min(max(v, 0.0), 6.0)", |v| v > 0.0 && v < 6.0)]
        {
            let clipped = |v: f64| {
                if v.is_nan() {
                    v
                } else if clip.starts_with("min") {
                    v.clamp(0.0, 6.0)
                } else {
                    v.max(0.0)
                }
            };
            for (size, stride) in [(2, 2), (3, 1), (3, 2)] {
                let (mut y, mut slope) = (Vec::new(), vec![0.0; x.len()]);
                for top in (0..=rows - size).step_by(stride) {
                    for left in (0..=columns - size).step_by(stride) {
                        let places: Vec<usize> =
                            (0..size * size).map(|i| (top + i / size) * columns + left + i % size).collect();
                        let window: Vec<f64> = places.iter().map(|p| clipped(x[*p])).collect();
                        let largest = place(&window, 1.0);
                        y.push(window[largest]);
                        slope[places[largest]] += if inside(x[places[largest]]) { y.len() as f64 } else { 0.0 };
                    }
                }
                for float in [F32, F64] {
                    let body = format!(
                        "v = reshape(x, [1, {rows}, {columns}, 1])
 y = reshape(max_pool2d({clip}, {size}, stride={stride}), [{0}])
 output pooled = y
 output slope = grad(sum(y * (1 + {1}(iota({0})))), x)",
                        y.len(),
                        float.name
                    );
                    let outputs = float.run(&body, &x);
                    let what = format!("{clip}, windows of {size}, {kinds} kinds of numbers in {}", float.name);
                    let same = |(a, b): (&f64, &f64)| a == b || (a.is_nan() && b.is_nan());
                    assert!(outputs[0].to_f64().iter().zip(&y).all(same), "{what}");
                    assert_eq!(outputs[1].to_f64(), slope, "{what}");
                }
            }
        }
    }
}
