//! A net trained wholly in f64 is the one that PyTorch trains: losses to 1e-12, last weights to 1e-11.

use nnc::Slice;
use nnc::ir::types::DType;
use serde_json::Value;

const SOURCE: &str = "
model Net {
    input  x: f64[batch, 5]
    target label: index(3)[batch]
    h = x |> dense(16) |> gelu |> layer_norm |> dense(12) |> tanh
    logits = h |> dense(3)
    output logits
    loss ce = cross_entropy(logits, label)
}
train { batch 32; minimize ce with adam(lr=0.02) }
";

/// The sequence of the fixture's script: numbers in -1..1.
struct Sequence(u64);

impl Sequence {
    fn draw(&mut self, count: usize, scale: f64) -> Vec<f64> {
        (0..count)
            .map(|_| {
                self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                ((self.0 >> 33) as f64 - f64::from(1 << 30)) / f64::from(1 << 30) * scale
            })
            .collect()
    }
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(|v| v.as_f64().expect("a number")).collect()
}

#[test]
fn a_net_of_doubles_is_pytorchs() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/pytorch/doubles.json");
    let text = std::fs::read_to_string(path).expect("the fixture exists");
    let fixture: Value = serde_json::from_str(&text).expect("the fixture is JSON");

    let mut session = nnc::compile("net.nn", SOURCE).expect("the model checks").jit().expect("the model compiles");
    session.initialize(0).expect("the model has first values");
    let mut sequence = Sequence(0);
    let x = sequence.draw(32 * 5, 2.0);
    let label: Vec<i32> = sequence.draw(32, 1.0).iter().map(|v| ((v + 1.0) * 1.5) as i32).collect();
    for (layer, (inputs, outputs)) in [(5, 16), (16, 12), (12, 3)].into_iter().enumerate() {
        for (name, count, scale) in [("w", inputs * outputs, 1.0), ("b", outputs, 0.1)] {
            let path = format!("dense_{}.{name}", layer + 1);
            session.set_parameter(&path, &sequence.draw(count, scale)).expect("the parameter is there");
        }
    }
    let fields = [("x", Slice::from(&x)), ("label", Slice::from(&label))];
    for (step, truth) in numbers(&fixture["losses"]).into_iter().enumerate() {
        let loss = session.train_step(&fields).expect("the step runs").get("ce").expect("the step has its loss");
        assert!((loss - truth).abs() <= 1e-12 * truth, "step {}: {loss:?}, not {truth:?}", step + 1);
    }
    for (name, values) in fixture["last"].as_object().expect("weights by name") {
        let ours = session.parameter(name).expect("the parameter is there");
        assert_eq!(ours.dtype, DType::F64);
        for (a, b) in ours.to_f64().into_iter().zip(numbers(values)) {
            assert!((a - b).abs() <= 1e-11 * b.abs().max(1.0), "{name}: {a:?}, not {b:?}");
        }
    }
}
