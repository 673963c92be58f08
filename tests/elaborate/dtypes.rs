//! The library is generic over the float dtype: what an argument typed `float` shows is the dtype of parameters and results.

use super::*;
use nnc::ir::types::DType;

/// A model of every kind of layer, loss and optimizer over elements of a dtype.
fn source(dtype: &str, optimizer: &str) -> String {
    format!(
        "
model Wide {{
    input  image: {dtype}[batch, 8, 8, 2]
    input  word: index(20)[batch, 5]
    target label: index(3)[batch]
    target value: {dtype}[batch, 3]
    a = image
        |> conv2d(4, kernel=3, pad=same) |> batch_norm |> relu |> max_pool2d(2)
        |> depthwise_conv2d(3) |> gelu |> separable_conv2d(4, kernel=1) |> prelu
        |> conv_transpose2d(2, kernel=2, stride=2) |> avg_pool2d(2) |> dropout(0.1)
        |> flatten |> dense(6) |> layer_norm |> tanh
    b = word
        |> embedding(20, 4, dtype={dtype})
        |> lstm(4, return_sequences=true, dropout=0.1, recurrent_dropout=0.1)
        |> gru(4, return_sequences=true) |> bidirectional(rnn(3)) |> rms_norm |> highway
    logits = concat([a, b], axis=-1) |> residual(dense(12)) |> softplus |> dense(3)
    output probs = softmax(logits)
    loss   total = cross_entropy(logits, label, label_smoothing=0.1) + mse(logits, value) + mae(logits, value)
        + huber(logits, value) + binary_cross_entropy(logits, sigmoid(value))
}}
train {{
    minimize total with {optimizer}
}}"
    )
}

const OPTIMIZERS: [&str; 3] = ["adam", "momentum(0.1, nesterov=true)", "rmsprop(lr=cosine(1e-3, warmup=5, total=10))"];

fn dtypes_of(function: &Function) -> Vec<DType> {
    let floats = function.arguments.iter().filter(|a| a.ty.dtype.is_float());
    let mut dtypes: Vec<DType> = floats.map(|a| a.ty.dtype).collect();
    dtypes.dedup();
    dtypes
}

#[test]
fn models_of_every_float_dtype() {
    for (dtype, expected) in [("f32", DType::F32), ("f64", DType::F64)] {
        for optimizer in OPTIMIZERS {
            let model = checked(&source(dtype, optimizer));
            let step = model.entries.train_step().expect("the model trains");
            assert_eq!(dtypes_of(step), [expected], "{optimizer}");
            let infer = model.entries.infer().expect("the model has outputs");
            assert_eq!(dtypes_of(infer), [expected]);
        }
    }
}

#[test]
fn float_is_the_dtype_of_the_first_argument() {
    const SOURCE: &str = "
fn half(x: float[n], y: float[n]) { (x + y) / 2 }
layer scale(x: float[n], dtype = f64) {
    param a: float[n] = ones
    param b: dtype[n] = ones
    return x * a
}
model M {
    input a: f64[4]
    input b: f32[4]
    output c = half(a, a) |> scale
    output d = half(b, b) |> scale(dtype=f16)
}";
    let model = checked(SOURCE);
    let types: Vec<String> = model.parameters.iter().map(|p| format!("{}: {}", p.path, p.ty)).collect();
    assert_eq!(types, ["scale_1.a: f64[4]", "scale_1.b: f64[4]", "scale_2.a: f32[4]", "scale_2.b: f16[4]"]);
    let mixed = messages(&SOURCE.replace("half(b, b)", "half(a, b)"));
    assert!(mixed.contains("its elements are f32, not f64"), "{mixed}");
    let whole = messages(&SOURCE.replace("input b: f32[4]", "input b: i32[4]"));
    assert!(whole.contains("its elements are i32, not f32"), "{whole}");
    let unknown = messages(&SOURCE.replace("b: dtype[n]", "b: dtyp[n]"));
    assert!(unknown.contains("unknown element type `dtyp`"), "{unknown}");
}
