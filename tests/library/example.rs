//! Examples in doc comments: a whole file, or statements of a model's body, in which `expression   // = value` claims a value.
//!
//! An example is checked without a warning, its claims are held by the interpreter in f64 and by compiled code, and compiled code runs it
//! on made-up inputs: what comes out is finite, and a training step changes every parameter.

use std::fmt::Write;

use nnc::diag::Severity;
use nnc::driver::{Entry, JitOptions, Output};
use nnc::ir::graph::{Function, Role};
use nnc::ir::interpret;
use nnc::ir::tensor::Tensor;
use nnc::ir::types::{DType, TensorType};
use nnc::{Compiled, Session, Slice};
use serde_json::Value;

/// How far a value may be from the one claimed, for numbers of size 1.
const TOLERANCE: f64 = 1e-4;
/// Rows of made-up inputs.
const ROWS: usize = 3;
/// The size of every other symbolic dim.
const LENGTH: i64 = 4;

/// A claim: the name of a result, what the example says it is, and the line.
struct Claim {
    result: String,
    value: Value,
    line: String,
}

/// Runs an example.
pub fn run(example: &str) -> Result<(), String> {
    let (mut source, claims) = with_claims(example)?;
    if !example.lines().any(|line| line.trim_start().starts_with("model ")) {
        source = format!("model Example {{\n{source}}}\n");
    }
    let mut compiled = compile(&source)?;
    let loss = example.lines().find_map(|line| line.trim().strip_prefix("loss ")?.split_whitespace().next());
    if let Some(loss) = loss.filter(|_| compiled.model().recipe.is_none() && !compiled.model().parameters.is_empty()) {
        compiled = compile(&format!("{source}train {{ minimize {loss} with sgd(lr=0.1); batch {ROWS} }}\n"))?;
    }
    let fields = Fields::new(&compiled)?;
    let mut session = compiled.jit_with(JitOptions { threads: 1 }).map_err(|e| e.to_string())?;
    let mut computed = Vec::new();
    for entry in [Entry::Infer, Entry::Eval] {
        if session.compiled().function(entry).is_ok() {
            computed.extend(interpreted(&session, entry, &fields)?);
            computed.extend(compiled_results(&mut session, entry, &fields)?);
        }
    }
    for claim in &claims {
        let of_claim: Vec<_> = computed.iter().filter(|result| result.name == claim.result).collect();
        assert_eq!(of_claim.len(), 2, "{} is computed twice", claim.result);
        of_claim.into_iter().try_for_each(|result| result.hold(claim))?;
    }
    if session.compiled().function(Entry::TrainStep).is_ok() {
        train(&mut session, &fields)?;
    }
    Ok(())
}

/// The example with an output for every claim.
fn with_claims(example: &str) -> Result<(String, Vec<Claim>), String> {
    let mut source = String::new();
    let mut claims = Vec::new();
    for line in example.lines() {
        let Some((code, value)) = line.split_once("// = ") else {
            let _ = writeln!(source, "{line}");
            continue;
        };
        let value: Value = serde_json::from_str(value).map_err(|e| format!("{line}: {e}"))?;
        let number = claims.len() + 1;
        let (line, code) = (line.to_owned(), code.trim());
        let (kind, bound) = match code.split_once(' ') {
            Some((kind @ ("output" | "loss" | "metric"), rest)) => (Some(kind), rest),
            _ => (None, code),
        };
        let name = bound
            .split_once(" = ")
            .map(|(name, _)| name)
            .filter(|n| n.chars().all(|c| c.is_alphanumeric() || c == '_'));
        let result = match (kind, name) {
            (Some(_), name) => {
                let _ = writeln!(source, "{code}");
                name.unwrap_or(bound).to_owned()
            }
            (None, Some(name)) => {
                let _ = writeln!(source, "{code}\noutput claim_{number} = {name}");
                format!("claim_{number}")
            }
            (None, None) => {
                let _ = writeln!(source, "output claim_{number} = {code}");
                format!("claim_{number}")
            }
        };
        claims.push(Claim { result, value, line });
    }
    Ok((source, claims))
}

pub fn compile(source: &str) -> Result<Compiled, String> {
    let mut compiled = nnc::compile("example.nn", source).map_err(|e| e.to_string())?;
    let warnings: Vec<&str> =
        compiled.warnings().iter().filter(|d| d.severity == Severity::Warning).map(|d| d.message.as_str()).collect();
    if !warnings.is_empty() {
        return Err(warnings.join("\n"));
    }
    let batch = compiled.batch_symbol();
    let symbols: Vec<_> =
        compiled.model().fields.iter().flat_map(|f| f.ty.shape.iter().flat_map(|d| d.symbols())).collect();
    for symbol in symbols.into_iter().filter(|s| Some(s) != batch.as_ref()) {
        compiled.set_size(&symbol.0, LENGTH);
    }
    Ok(compiled)
}

/// Made-up values for every input and target.
struct Fields(Vec<(String, TensorType, Vec<f64>, Vec<u8>)>);

impl Fields {
    fn new(compiled: &Compiled) -> Result<Fields, String> {
        let sizes = compiled.sizes(ROWS).map_err(|e| e.to_string())?;
        let field = |f: &nnc::frontend::model::Field| {
            let ty = f.ty.substitute(&sizes).ok_or("a size is too large")?;
            let values: Vec<f64> = (0..ty.elements().unwrap_or(0)).map(|i| made_up(ty.dtype, i)).collect();
            let bytes = values.iter().flat_map(|v| bytes_of(ty.dtype, *v)).collect();
            Ok((f.name.clone(), ty, values, bytes))
        };
        compiled.model().fields.iter().map(field).collect::<Result<_, String>>().map(Fields)
    }

    fn slices(&self) -> Vec<(&str, Slice<'_>)> {
        self.0.iter().map(|(name, ty, _, bytes)| (name.as_str(), Slice::from_bytes(ty.dtype, bytes))).collect()
    }
}

/// An ordinary number: of floats between -1.5 and 1.5.
fn made_up(dtype: DType, place: usize) -> f64 {
    let wave = (place as f64 * 0.73 + 0.4).sin() * 1.5;
    match dtype {
        DType::Index { classes } => (place as u32 % classes).into(),
        DType::Bool => f64::from(u8::from(place.is_multiple_of(2))),
        DType::U8 => ((place * 37) % 256) as f64,
        _ if dtype.is_integer() => (place % 5) as f64,
        // Exact in f32, so that compiled code and the interpreter see the same.
        _ => f64::from(wave as f32),
    }
}

fn bytes_of(dtype: DType, value: f64) -> Vec<u8> {
    match dtype.storage() {
        DType::F32 => (value as f32).to_le_bytes().to_vec(),
        DType::F64 => value.to_le_bytes().to_vec(),
        DType::I32 => (value as i32).to_le_bytes().to_vec(),
        DType::U8 | DType::Bool => vec![value as u8],
        other => panic!("no example takes inputs of {other}"),
    }
}

/// A result of one of the ways to compute it.
struct Computed {
    name: String,
    way: &'static str,
    shape: Vec<usize>,
    values: Vec<f64>,
}

impl Computed {
    fn hold(&self, claim: &Claim) -> Result<(), String> {
        let (mut shape, mut values) = (Vec::new(), Vec::new());
        flatten(&claim.value, 0, &mut shape, &mut values);
        let near = |(found, claimed): (&f64, &f64)| (found - claimed).abs() <= TOLERANCE * claimed.abs().max(1.0);
        if self.shape == shape && self.values.len() == values.len() && self.values.iter().zip(&values).all(near) {
            return Ok(());
        }
        Err(format!("{}\n{} gives {:?} of shape {:?}", claim.line, self.way, self.values, self.shape))
    }
}

/// The numbers of nested lists in row-major order, and the lengths of the first list of each depth.
fn flatten(value: &Value, depth: usize, shape: &mut Vec<usize>, out: &mut Vec<f64>) {
    match value {
        Value::Array(items) => {
            if shape.len() == depth {
                shape.push(items.len());
            }
            items.iter().for_each(|item| flatten(item, depth + 1, shape, out));
        }
        Value::Bool(value) => out.push(f64::from(u8::from(*value))),
        other => out.push(other.as_f64().unwrap_or(f64::NAN)),
    }
}

/// The results of an entry as the interpreter computes them in f64.
fn interpreted(session: &Session, entry: Entry, fields: &Fields) -> Result<Vec<Computed>, String> {
    let compiled = session.compiled();
    let sizes = compiled.sizes(ROWS).map_err(|e| e.to_string())?;
    let mut function: Function = compiled.function(entry).map_err(|e| e.to_string())?.specialize(&sizes)?;
    for pass in nnc::passes::GRAPH_PASSES {
        function = pass.apply(&function).map_err(|e| e.to_string())?;
    }
    let value = |a: &nnc::ir::graph::Argument| match a.role {
        Role::Seed | Role::Step => vec![0.0; a.ty.elements().unwrap_or(0)],
        Role::Input | Role::Target => {
            let field = fields.0.iter().find(|(name, ..)| *name == a.name).expect("every field has values");
            field.2.clone()
        }
        _ => session.parameter(&a.name).expect("every parameter has a place").to_f64(),
    };
    let arguments: Vec<Tensor> = function.arguments.iter().map(|a| Tensor::new(a.ty.clone(), value(a))).collect();
    let results = interpret::run(&function, &arguments)?;
    let computed = function.results.iter().zip(results).map(|(result, tensor)| Computed {
        name: result.name.clone(),
        way: "the interpreter",
        shape: tensor.sizes(),
        values: tensor.data,
    });
    Ok(computed.collect())
}

/// The results of an entry as compiled code computes them, all finite.
fn compiled_results(session: &mut Session, entry: Entry, fields: &Fields) -> Result<Vec<Computed>, String> {
    let computed =
        |name: String, shape: Vec<usize>, values: Vec<f64>| Computed { name, way: "compiled code", shape, values };
    let results: Vec<Computed> = match entry {
        Entry::Infer => {
            let outputs = session.infer(&fields.slices()).map_err(|e| e.to_string())?;
            outputs.iter().map(|o: &Output| computed(o.name.clone(), o.shape.clone(), o.to_f64())).collect()
        }
        _ => {
            let report = session.evaluate(&fields.slices()).map_err(|e| e.to_string())?;
            report.values().map(|(name, value)| computed(name.to_owned(), Vec::new(), vec![value])).collect()
        }
    };
    match results.iter().find(|r| !r.values.iter().all(|v| v.is_finite())) {
        Some(result) => Err(format!("`{}` is not finite: {:?}", result.name, result.values)),
        None => Ok(results),
    }
}

/// A training step, which changes every parameter that the loss depends on.
fn train(session: &mut Session, fields: &Fields) -> Result<(), String> {
    let measured = session.compiled().function(Entry::Eval).map_err(|e| e.to_string())?;
    let parameters = measured.arguments.iter().filter(|a| a.role == Role::Parameter);
    let paths: Vec<String> = parameters.map(|a| a.name.clone()).collect();
    let values = |session: &Session| -> Vec<Vec<f64>> {
        paths.iter().map(|path| session.parameter(path).expect("the path is the model's").to_f64()).collect()
    };
    let before = values(session);
    let report = session.train_step(&fields.slices()).map_err(|e| e.to_string())?;
    if let Some((name, value)) = report.values().find(|(_, value)| !value.is_finite()) {
        return Err(format!("while training, `{name}` is {value}"));
    }
    for ((path, before), after) in paths.iter().zip(before).zip(values(session)) {
        if before == after {
            return Err(format!("training does not change `{path}`"));
        }
        if !after.iter().all(|v| v.is_finite()) {
            return Err(format!("training makes `{path}` {after:?}"));
        }
    }
    Ok(())
}
