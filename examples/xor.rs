//! Trains a small network on XOR from an embedded source, with the Rust API alone: `cargo run --release --example xor`.

use nnc::{Error, Slice};

/// Two inputs, eight hidden units, one output.
const SOURCE: &str = r#"
model Xor {
    input  x: f32[batch, 2]
    target y: f32[batch, 1]

    logit = x |> dense(8) |> tanh |> dense(1)

    output probability = sigmoid(logit)
    loss   bce         = binary_cross_entropy(logit, y)
}
train {
    steps    500
    batch    4
    minimize bce with adam(lr=0.05)
}
"#;

const INPUTS: [f32; 8] = [0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0];
const TARGETS: [f32; 4] = [0.0, 1.0, 1.0, 0.0];

fn main() -> Result<(), Error> {
    let mut session = nnc::compile("xor.nn", SOURCE)?.jit()?;
    let fields = [("x", Slice::from(&INPUTS)), ("y", Slice::from(&TARGETS))];
    for step in 1..=500 {
        let report = session.train_step(&fields)?;
        if step % 100 == 0 {
            println!("step {step}: bce {:.4}", report.get("bce").unwrap_or(f64::NAN));
        }
    }
    let outputs = session.infer(&fields[..1])?;
    let probabilities = outputs[0].as_f32().unwrap_or(&[]);
    for (input, probability) in INPUTS.chunks_exact(2).zip(probabilities) {
        println!("{} xor {} = {probability:.3}", input[0], input[1]);
    }
    let right = probabilities.iter().zip(TARGETS).all(|(p, y)| (p - y).abs() < 0.1);
    assert!(right, "the network did not learn XOR");
    Ok(())
}
