//! `nnc run F.nn --weights W --input NAME=x.npy --output NAME=y.npy`: inference on files.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::console::Console;
use super::model::{ModelArguments, any_number_of_steps};
use super::{Failure, Global};
use crate::diag::{Diagnostic, nearest};
use crate::driver::{Compiled, Entry, JitOptions, Output, Session};
use crate::formats::csv::{self, Options};
use crate::formats::safetensors::WeightFile;
use crate::formats::{Array, FormatError, atomic, idx, npy, npz};
use crate::train::batch::Batch;
use crate::train::dataset::{Column, Dataset};
use crate::train::order::in_file_order;
use crate::train::weights;

/// Rows inferred at once.
const ROWS_AT_ONCE: usize = 256;

/// Run a model on files
#[derive(Debug, clap::Args)]
pub struct Run {
    #[command(flatten)]
    model: ModelArguments,
    /// The weights
    #[arg(long, value_name = "W.safetensors")]
    weights: PathBuf,
    /// An input and its file: .npy .npz .csv .safetensors or IDX
    #[arg(long, value_name = "NAME=x.npy")]
    input: Vec<String>,
    /// An output and the file to write: .npy, .csv, or `-` for standard output [default: all as CSV on standard output]
    #[arg(long, value_name = "NAME=y.npy")]
    output: Vec<String>,
    /// Write CSV whatever the files are called
    #[arg(long)]
    csv: bool,
    #[arg(long, hide = true)]
    loss: Option<String>,
    #[arg(long, hide = true)]
    param_grad: Vec<String>,
}

/// Where an output goes.
struct Wish<'a> {
    name: String,
    path: &'a str,
}

#[derive(Serialize)]
struct Written<'a> {
    event: &'static str,
    output: &'a str,
    dtype: String,
    shape: &'a [usize],
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    /// The elements, for outputs that go to standard output.
    #[serde(skip_serializing_if = "Option::is_none")]
    values: Option<Vec<f64>>,
}

impl Run {
    /// Runs the command.
    pub fn run(&self, console: &Console, global: &Global) -> Result<(), Failure> {
        if self.loss.is_some() || !self.param_grad.is_empty() {
            return Err(Failure::unsupported("`--loss` and `--param-grad`"));
        }
        let compiled = self.model.open(console, any_number_of_steps)?;
        let wishes = self.wishes(&compiled)?;
        let dataset = self.inputs(&compiled)?;
        let mut session = compiled.jit_with(JitOptions { threads: global.threads() })?;
        weights::load(&mut session, &self.weights)?;
        let outputs = infer(&mut session, &dataset)?;
        for wish in &wishes {
            let output = outputs.iter().find(|(name, _)| *name == wish.name);
            let (name, array) = output.expect("wishes were checked against the model's outputs");
            self.write(console, name, wish.path, array)?;
        }
        Ok(())
    }

    /// The outputs asked for; all of them on standard output if none is named.
    fn wishes(&self, compiled: &Compiled) -> Result<Vec<Wish<'_>>, Failure> {
        let results = &compiled.function(Entry::Infer)?.results;
        let names: Vec<&str> = results.iter().map(|r| r.name.as_str()).collect();
        if self.output.is_empty() {
            return Ok(names.iter().map(|name| Wish { name: (*name).to_owned(), path: "-" }).collect());
        }
        let wishes = self.output.iter().map(|text| {
            let (name, path) = name_and_path(text, &names, "output")?;
            Ok(Wish { name, path })
        });
        wishes.collect()
    }

    /// Reads the inputs that inference needs.
    fn inputs(&self, compiled: &Compiled) -> Result<Dataset, Failure> {
        let fields = &compiled.model().fields;
        let arguments = &compiled.function(Entry::Infer)?.arguments;
        let needed: Vec<&str> =
            arguments.iter().map(|a| a.name.as_str()).filter(|name| fields.iter().any(|f| f.name == *name)).collect();
        let batch = compiled.batch_symbol();
        let mut columns = Vec::new();
        for text in &self.input {
            let (name, path) = name_and_path(text, &needed, "input")?;
            if columns.iter().any(|c: &Column| c.name == name) {
                return Err(Failure::Usage(format!("`--input {name}=..` is given twice")));
            }
            let field = fields.iter().find(|f| f.name == name).expect("needed inputs are fields");
            let (array, flat) =
                read(Path::new(path), &name).map_err(|e| Diagnostic::error_without_place(e.to_string()))?;
            let column = Column::new(field, batch.as_ref(), array, flat);
            columns.push(column.map_err(|m| Diagnostic::error_without_place(format!("`{path}`: {m}")))?);
        }
        if let Some(missing) = needed.iter().find(|name| !columns.iter().any(|c| c.name == **name)) {
            return Err(Failure::Usage(format!("the input `{missing}` is missing: add `--input {missing}=FILE`")));
        }
        Ok(Dataset::from_columns(columns).map_err(Diagnostic::error_without_place)?)
    }

    fn write(&self, console: &Console, name: &str, path: &str, array: &Array) -> Result<(), Failure> {
        let to_csv = self.csv || path.ends_with(".csv") || (path == "-" && self.output.is_empty());
        let (dtype, shape) = (array.dtype.to_string(), array.shape.as_slice());
        if path == "-" {
            if console.json {
                let values = Some(array.values().collect());
                console.object(&Written { event: "output", output: name, dtype, shape, file: None, values });
                return Ok(());
            }
            match to_csv {
                true => console.raw(csv_text(array).as_bytes()),
                false => console.raw(&npy::encode(array).map_err(Diagnostic::error_without_place)?),
            }
            return Ok(());
        }
        let outcome = match to_csv {
            true => atomic::write(Path::new(path), |out| out.write_all(csv_text(array).as_bytes())),
            false => npy::write(Path::new(path), array),
        };
        outcome.map_err(|e| Diagnostic::error_without_place(e.to_string()))?;
        console.object(&Written { event: "output", output: name, dtype, shape, file: Some(path), values: None });
        Ok(())
    }
}

/// `NAME=PATH`, or a path alone where there is only one name.
fn name_and_path<'a>(text: &'a str, names: &[&str], what: &str) -> Result<(String, &'a str), Failure> {
    let list = names.join(", ");
    match (text.split_once('='), names) {
        (Some((name, path)), _) if names.contains(&name) => Ok((name.to_owned(), path)),
        (Some((name, _)), _) => Err(Failure::Usage(match nearest(name, names.iter().copied()) {
            Some(near) => format!("the model has no {what} `{name}`; did you mean `{near}`?"),
            None => format!("the model has no {what} `{name}`; it has {list}"),
        })),
        (None, [only]) => Ok(((*only).to_owned(), text)),
        (None, _) => Err(Failure::Usage(format!("write `--{what} NAME={text}`; the names are {list}"))),
    }
}

/// Reads a file by its extension; whether any shape of as many elements will do.
fn read(path: &Path, name: &str) -> Result<(Array, bool), FormatError> {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    match extension {
        "npy" => Ok((npy::read(path)?, false)),
        // An archive may hold one array of any name, or one named like the input.
        "npz" => Ok((npz::read(path, None).or_else(|_| npz::read(path, Some(name)))?, false)),
        "csv" => Ok((csv::read(path, &Options::default())?, true)),
        "safetensors" => {
            let array = WeightFile::open(path)?.array(name);
            let array = array.ok_or_else(|| FormatError::content(path, format!("it holds no tensor `{name}`")))?;
            Ok((array, false))
        }
        _ => Ok((idx::read(path)?, false)),
    }
}

/// Infers in pieces of rows; outputs without rows need all rows at once.
fn infer(session: &mut Session, dataset: &Dataset) -> Result<Vec<(String, Array)>, Failure> {
    let rows = dataset.rows().unwrap_or(1);
    if rows == 0 {
        return empty_outputs(session.compiled());
    }
    let at_once = if outputs_have_rows(session.compiled())? { ROWS_AT_ONCE } else { rows };
    let order = in_file_order(rows);
    let mut whole: Vec<(String, Array)> = Vec::new();
    for chunk in order.chunks(at_once) {
        let batch = Batch::gather(dataset, chunk)?;
        let outputs = session.infer(&batch.fields())?;
        if whole.is_empty() {
            whole = outputs.iter().map(|output| (output.name.clone(), array_of(output))).collect();
            continue;
        }
        for ((_, array), output) in whole.iter_mut().zip(&outputs) {
            array.bytes.extend_from_slice(output.bytes());
            if let (Some(first), Some(more)) = (array.shape.first_mut(), output.shape.first()) {
                *first += more;
            }
        }
    }
    Ok(whole)
}

/// Whether the first dim of every output counts rows.
fn outputs_have_rows(compiled: &Compiled) -> Result<bool, Failure> {
    let Some(batch) = compiled.batch_symbol() else { return Ok(false) };
    let function = compiled.function(Entry::Infer)?;
    let mut shapes = function.results.iter().map(|result| &function.graph.type_of(result.value).shape);
    Ok(shapes.all(|shape| shape.first().is_some_and(|dim| dim.symbols() == [batch.clone()])))
}

/// The outputs for no rows.
fn empty_outputs(compiled: &Compiled) -> Result<Vec<(String, Array)>, Failure> {
    let function = compiled.function(Entry::Infer)?;
    let sizes = compiled.sizes(0)?;
    let outputs = function.results.iter().map(|result| {
        let ty = function.graph.type_of(result.value).substitute(&sizes)?;
        let array = Array::new(ty.dtype, ty.sizes()?, Vec::new())?;
        Some((result.name.clone(), array))
    });
    outputs.collect::<Option<_>>().ok_or_else(|| Diagnostic::error_without_place("the inputs have no rows").into())
}

fn array_of(output: &Output) -> Array {
    Array { dtype: output.dtype.storage(), shape: output.shape.clone(), bytes: output.bytes().to_vec() }
}

/// A row of the array on each line.
fn csv_text(array: &Array) -> String {
    let columns = array.shape.iter().skip(1).product::<usize>().max(1);
    let mut text = String::new();
    for (position, value) in array.values().enumerate() {
        // `f32` values are printed as such, so that 0.1 is not 0.10000000149011612.
        match array.dtype {
            crate::ir::types::DType::F32 => text.push_str(&(value as f32).to_string()),
            _ => text.push_str(&value.to_string()),
        }
        text.push(if (position + 1).is_multiple_of(columns) { '\n' } else { ',' });
    }
    text
}
