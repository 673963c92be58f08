//! Models with loops, compiled: they train to the same numbers whatever is kept of their rounds, to the same bits however many threads run, and to what the interpreter says.

use nnc::Session;
use nnc::driver::{Entry, JitOptions, compile};
use nnc::ir::interpret;
use nnc::ir::tensor::Tensor;

const ROWS: usize = 3;

fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i as f32 * 0.61).sin() * 1.3).fract()).collect()
}

fn session(source: &str, memory: Option<u64>, threads: usize) -> Session {
    let mut compiled = compile("test.nn", source).unwrap_or_else(|e| panic!("{e}"));
    memory.into_iter().for_each(|limit| compiled.set_memory(limit));
    compiled.jit_with(JitOptions { threads }).unwrap_or_else(|e| panic!("{e}"))
}

/// Losses and parameters after some steps.
fn train(session: &mut Session, x: &[f32], y: &[f32], steps: usize) -> (Vec<u64>, Vec<u8>) {
    let step = |_| {
        let report = session.train_step(&[("x", x.into()), ("y", y.into())]).unwrap_or_else(|e| panic!("{e}"));
        report.losses[0].1.to_bits()
    };
    let losses = (0..steps).map(step).collect();
    (losses, session.parameter_bytes().to_vec())
}

/// Elements of x in a row, of y in a row, and the model: loops of 23 rounds, which no cut divides, and 24.
fn models() -> Vec<(&'static str, usize, usize, &'static str)> {
    vec![
        (
            "lstm",
            24 * 4,
            2,
            "model M { input x: f32[batch, 24, 4]; target y: f32[batch, 2]
               p = x |> lstm(6, return_sequences=true) |> gru(5) |> dense(2); output p; loss l = mse(p, y) }",
        ),
        (
            "rounds left over, in reverse, with a count, draws and a state",
            23 * 4,
            4,
            "model M { input x: f32[batch, 23, 4]; target y: f32[batch, 4]; param w: f32[4, 4] = glorot_uniform
               param v: f32[4] = ones; state seen: f32[4] = zeros
               scan xt in x, k in 3..26 axis 1 reverse carry h: f32[batch, 4] = 0, n = 0 {
                   noise = uniform([4])
                   h = tanh(h @ w + xt * v + 0.01 * f32(k + n) * noise)
                   n = n + 1
                   seen <- 0.9 * seen + stop_gradient(mean(h, axis=0))
                   yield h * f32(n)
               } -> hs
               output h; loss l = mse(h, y) + mean(hs^2) + sum(v * seen) }",
        ),
        (
            "a penalty on the gradient through the loop",
            24 * 2,
            2,
            "model M { input x: f32[batch, 24, 2]; target y: f32[batch, 2]; param w: f32[2, 2] = glorot_uniform
               scan xt in x axis 1 carry h: f32[batch, 2] = 0 { h = sin(h @ w + xt) }
               slope = grad(sum(h * y), x)
               output h; loss l = mse(h, y) + mean(slope^2) }",
        ),
    ]
}

/// Losses and parameters that differ by no more than the order of sums makes of rounding errors.
fn assert_near(name: &str, all: &(Vec<u64>, Vec<u8>), few: &(Vec<u64>, Vec<u8>)) {
    for (a, b) in all.0.iter().zip(&few.0) {
        let (a, b) = (f64::from_bits(*a), f64::from_bits(*b));
        assert!((a - b).abs() <= 1e-5 * a.abs(), "{name}: the losses {a} and {b}");
    }
    let numbers = |bytes: &[u8]| -> Vec<f32> {
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    };
    for (a, b) in numbers(&all.1).iter().zip(numbers(&few.1)) {
        assert!((a - b).abs() <= 1e-4 * (1.0 + a.abs()), "{name}: the parameters {a} and {b}");
    }
}

fn with_recipe(model: &str) -> String {
    format!("{model}\ntrain {{ minimize l with adam(lr=0.05); batch {ROWS} }}")
}

#[test]
fn what_is_kept_of_the_rounds_changes_no_result() {
    for (name, x, y, model) in models() {
        let source = with_recipe(model);
        let (x, y) = (numbers(ROWS * x), numbers(ROWS * y));
        let all = train(&mut session(&source, None, 1), &x, &y, 4);
        let few = train(&mut session(&source, Some(0), 1), &x, &y, 4);
        assert_near(name, &all, &few);
        assert!(all.0.iter().all(|l| f64::from_bits(*l).is_finite()), "{name}");
        assert_ne!(all.0[0], all.0[3], "{name}: nothing is learned");
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    for (name, x, y, model) in models() {
        let source = with_recipe(model);
        let (x, y) = (numbers(ROWS * x), numbers(ROWS * y));
        let one = train(&mut session(&source, None, 1), &x, &y, 3);
        let three = train(&mut session(&source, None, 3), &x, &y, 3);
        assert!(one == three, "{name}");
    }
}

/// The graph as it is before autodiff, in f64, against compiled code in f32.
#[test]
fn compiled_inference_is_the_interpreters() {
    for (name, x, _, model) in models() {
        let source = with_recipe(model);
        let x = numbers(ROWS * x);
        let mut session = session(&source, None, 1);
        let found = session.infer(&[("x", x.as_slice().into())]).unwrap_or_else(|e| panic!("{name}: {e}"));
        let compiled = session.compiled();
        let sizes = compiled.sizes(ROWS).unwrap();
        let function = compiled.function(Entry::Infer).unwrap().specialize(&sizes).unwrap();
        let arguments = function.arguments.iter().map(|a| {
            let data = match a.name.as_str() {
                "x" => x.iter().map(|v| f64::from(*v)).collect(),
                "seed" | "step" => vec![0.0; a.ty.elements().unwrap()],
                path => session.parameter(path).expect("a parameter").to_f64(),
            };
            Tensor::new(a.ty.clone(), data)
        });
        let expected = interpret::run(&function, &arguments.collect::<Vec<_>>()).unwrap();
        for (f, e) in found[0].to_f64().iter().zip(&expected[0].data) {
            assert!((f - e).abs() <= 1e-5 * (1.0 + e.abs()), "{name}: {f} instead of {e}");
        }
    }
}

#[test]
fn ten_thousand_steps_train_in_bounded_memory() {
    const STEPS: usize = 10_000;
    let source = with_recipe(
        "model M { input x: f32[batch, 10000, 1]; target y: f32[batch, 4]; param w: f32[1, 4] = glorot_uniform
           param u: f32[4, 4] = orthogonal
           scan xt in x axis 1 carry h: f32[batch, 4] = 0 { h = tanh(xt @ w + h @ u) }
           output h; loss l = mse(h, y) }",
    );
    let (x, y) = (numbers(ROWS * STEPS), numbers(ROWS * 4));
    let mut all = session(&source, None, 1);
    let mut few = session(&source, Some(100_000), 1);
    assert_near("ten thousand", &train(&mut all, &x, &y, 2), &train(&mut few, &x, &y, 2));
    let bytes = |s: &Session| s.workspace_bytes(Entry::TrainStep, ROWS);
    let kept = ROWS * 4 * STEPS * 4;
    assert!(bytes(&all) >= kept, "{} bytes keep everything", bytes(&all));
    // x in the order of the steps, and about 200 carries.
    assert!(bytes(&few) <= ROWS * STEPS * 4 + 250 * ROWS * 4 * 4 + 8192, "{} bytes keep the square root", bytes(&few));
}

/// The time to compile and the size of the code do not depend on the number of rounds.
#[test]
fn code_does_not_grow_with_the_rounds() {
    let kernels = |rounds: usize| {
        let source = with_recipe(&format!(
            "model M {{ input x: f32[batch, {rounds}, 2]; target y: f32[batch, 3]
               h = x |> lstm(3); output h; loss l = mse(h, y) }}"
        ));
        let compiled = compile("test.nn", &source).unwrap();
        let lowered = compiled.program(
            Entry::TrainStep,
            &compiled.sizes(ROWS).unwrap(),
            &nnc::driver::Target::host(),
            &mut nnc::driver::Quiet,
        );
        lowered.unwrap().program.kernels.len()
    };
    assert!(kernels(1000) <= kernels(10) + 4, "{} kernels for 10 rounds, {} for 1000", kernels(10), kernels(1000));
}
