//! Cases that a script in `tests/fixtures` made: a model as text, its inputs, and what it gives in float64.

use std::collections::BTreeMap;
use std::path::Path;

use nnc::Slice;
use nnc::driver::JitOptions;
use nnc::ir::types::DType;
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
use serde_json::Value;

/// How far a result may be from the fixture's, relative to itself or to the largest element of its tensor.
const TOLERANCES: [(DType, f64); 2] = [(DType::F32, 1e-5), (DType::F64, 1e-10)];

/// A tensor of a fixture.
struct Tensor {
    is_float: bool,
    shape: Vec<usize>,
    values: Vec<f64>,
}

fn tensors_of(file: &SafeTensors<'_>) -> BTreeMap<String, Tensor> {
    let one = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
        let is_float = view.dtype() == Dtype::F64;
        let values = match is_float {
            true => view.data().chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().expect("8 bytes"))).collect(),
            false => {
                view.data().chunks_exact(4).map(|b| i32::from_le_bytes(b.try_into().expect("4 bytes")).into()).collect()
            }
        };
        (name, Tensor { is_float, shape: view.shape().to_vec(), values })
    };
    file.tensors().into_iter().map(one).collect()
}

/// An input in the machine's form.
enum Field {
    F32(Vec<f32>),
    F64(Vec<f64>),
    I32(Vec<i32>),
}

impl Field {
    fn new(tensor: &Tensor, float: DType) -> Field {
        match (tensor.is_float, float) {
            (true, DType::F32) => Field::F32(tensor.values.iter().map(|v| *v as f32).collect()),
            (true, _) => Field::F64(tensor.values.clone()),
            (false, _) => Field::I32(tensor.values.iter().map(|v| *v as i32).collect()),
        }
    }

    fn slice(&self) -> Slice<'_> {
        match self {
            Field::F32(v) => v.into(),
            Field::F64(v) => v.into(),
            Field::I32(v) => v.into(),
        }
    }
}

/// Every case of a fixture, named by its folder and file, in f32 and f64; reports all that differ.
pub fn check(stem: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let text = std::fs::read_to_string(folder.join(stem).with_extension("json")).expect("the fixture exists");
    let all: Value = serde_json::from_str(&text).expect("the fixture is JSON");
    let bytes = std::fs::read(folder.join(stem).with_extension("safetensors")).expect("the fixture exists");
    let tensors = tensors_of(&SafeTensors::deserialize(&bytes).expect("the fixture is whole"));
    let mut failures = Vec::new();
    for (name, case) in all["cases"].as_object().expect("a table of cases") {
        let own: BTreeMap<&str, &Tensor> = tensors
            .range(format!("{name}/")..)
            .map_while(|(key, tensor)| key.strip_prefix(&format!("{name}/")).map(|n| (n, tensor)))
            .collect();
        for (float, tolerance) in TOLERANCES {
            if case["only"].as_str().is_none_or(|only| only == float.to_string()) {
                let source = with_dtype(case["model"].as_str().expect("a model"), float);
                let outcome = compare(&source, &own, float, tolerance);
                failures.extend(outcome.err().map(|e| format!("{name} in {float}: {e}\n{source}")));
            }
        }
    }
    assert!(failures.is_empty(), "{} cases differ:\n{}", failures.len(), failures.join("\n"));
}

/// The source with `F` as a dtype.
fn with_dtype(source: &str, float: DType) -> String {
    let dtype = float.to_string();
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut out = String::new();
    let mut before = ' ';
    let mut rest = source.chars().peekable();
    while let Some(c) = rest.next() {
        let alone = c == 'F' && !is_word(before) && rest.peek().is_none_or(|next| !is_word(*next));
        if alone {
            out.push_str(&dtype)
        } else {
            out.push(c)
        }
        before = c;
    }
    out
}

fn compare(source: &str, tensors: &BTreeMap<&str, &Tensor>, float: DType, tolerance: f64) -> Result<(), String> {
    let compiled = nnc::compile("case.nn", source).map_err(|e| e.to_string())?;
    let mut session = compiled.jit_with(JitOptions { threads: 1 }).map_err(|e| e.to_string())?;
    for (name, tensor) in tensors.iter().filter(|(name, _)| name.starts_with("net.")) {
        session.set_parameter(name, Field::new(tensor, float).slice()).map_err(|e| e.to_string())?;
    }
    let inputs: Vec<(&str, Field)> = tensors
        .iter()
        .filter(|(name, _)| !name.starts_with("out_") && !name.starts_with("net."))
        .map(|(name, tensor)| (*name, Field::new(tensor, float)))
        .collect();
    let fields: Vec<(&str, Slice<'_>)> = inputs.iter().map(|(name, field)| (*name, field.slice())).collect();
    let outputs = session.infer(&fields).map_err(|e| e.to_string())?;
    for output in outputs {
        let wanted = tensors.get(output.name.as_str()).ok_or(format!("the fixture has no `{}`", output.name))?;
        if output.shape != wanted.shape {
            return Err(format!("`{}` has shape {:?} instead of {:?}", output.name, output.shape, wanted.shape));
        }
        let largest = wanted.values.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        for (i, (a, b)) in output.to_f64().iter().zip(&wanted.values).enumerate() {
            let near = a == b || (a - b).abs() <= tolerance * b.abs().max(largest);
            if !near {
                let off = (a - b).abs() / b.abs().max(largest);
                return Err(format!("`{}` is {a} instead of {b} at {i}, off by {off:.1e}", output.name));
            }
        }
    }
    Ok(())
}
