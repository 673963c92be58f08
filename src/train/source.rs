//! One reader call of a `data` block to one array: `csv("f.csv", columns=["a", "b"])`.

use std::path::{Path, PathBuf};

use crate::diag::{Diagnostic, Span, nearest};
use crate::formats::csv::{Column, Columns};
use crate::formats::safetensors::WeightFile;
use crate::formats::{Array, FormatError, csv, idx, npy, npz, text};
use crate::frontend::model::{Constant, Reader, ReaderArgument};

/// Bytes of the longest script that is searched for the name of a data set.
const LARGEST_SCRIPT: u64 = 1 << 20;

/// Where data files are looked for.
#[derive(Clone, Debug)]
pub struct Places {
    /// What relative paths are relative to: `--data DIR`, or the model's folder.
    pub root: PathBuf,
    /// The folder of the `.nn` file, where a `fetch` script may be.
    pub model_folder: PathBuf,
}

impl Places {
    /// Paths relative to the `.nn` file at `model`, or to `data` where given.
    pub fn new(model: &Path, data: Option<&Path>) -> Places {
        let folder = model.parent().map(Path::to_owned).unwrap_or_default();
        Places { root: data.map_or_else(|| folder.clone(), Path::to_owned), model_folder: folder }
    }
}

/// What a reader yields.
pub enum Loaded {
    /// An array from a file.
    Array {
        array: Array,
        path: PathBuf,
        /// Whether the file says nothing about the shape of a row (CSV), so that any shape of as many elements will do.
        flat_rows: bool,
    },
    /// One number for every element.
    Constant(f64),
}

/// Reads what `reader` names.
///
/// # Errors
/// If an option is wrong, or the file is; a missing file's error says the path tried and what may bring it.
pub fn load(reader: &Reader, places: &Places) -> Result<Loaded, Diagnostic> {
    let allowed: &[&str] = match reader.name.as_str() {
        "npz" | "safetensors" => &["key"],
        "csv" => &["columns", "header", "delimiter"],
        "text" => &["window", "step"],
        "idx" | "npy" | "constant" => &[],
        name => return Err(Diagnostic::error(reader.name_span, format!("the reader `{name}` is not supported yet"))),
    };
    check_options(reader, allowed)?;
    if reader.name == "constant" {
        return constant(reader);
    }
    let (name, span) = reader.path().ok_or_else(|| {
        let message = format!("`{}` needs the path of a file", reader.name);
        Diagnostic::error(reader.span, message).help(format!("write `{}(\"file\")`", reader.name))
    })?;
    if name.contains(['*', '?']) {
        return Err(Diagnostic::error(span, "several files as one stream (`*`, `?`) are not supported yet"));
    }
    let path = places.root.join(name);
    let flat_rows = reader.name == "csv";
    let array = match reader.name.as_str() {
        "idx" => idx::read(&path),
        "npy" => npy::read(&path),
        "npz" => npz::read(&path, key(reader)?.as_deref()),
        "csv" => csv::read(&path, &csv_options(reader)?),
        "text" => {
            let window = natural(reader, "window")?
                .ok_or_else(|| Diagnostic::error(reader.span, "`text` needs `window`, the number of bytes in a row"))?;
            text::read(&path, window, natural(reader, "step")?.unwrap_or(window))
        }
        _ => tensor(&path, key(reader)?.as_deref()),
    };
    match array {
        Ok(array) => Ok(Loaded::Array { array, path, flat_rows }),
        Err(error) => Err(file_error(&error, name, span, &path, places)),
    }
}

/// A broken or missing file as a diagnostic at its name.
fn file_error(error: &FormatError, name: &str, span: Span, path: &Path, places: &Places) -> Diagnostic {
    let mut diagnostic = Diagnostic::error(span, error.to_string());
    if !error.is_missing() {
        return diagnostic;
    }
    if let Ok(folder) = std::env::current_dir() {
        diagnostic = diagnostic.note(format!("the path tried is {}", folder.join(path).display()));
    }
    if let Some(command) = fetch_command(name, places) {
        return diagnostic.help(format!("`{command}` fetches the data"));
    }
    match sibling(path) {
        Some(other) => diagnostic.help(format!("`{}` exists", other.display())),
        None => diagnostic.help("paths are relative to the .nn file; `--data DIR` sets another folder"),
    }
}

/// The command that brings the data set `mnist` of a path `mnist/..`: a script `fetch` beside the model that knows the name.
fn fetch_command(name: &str, places: &Places) -> Option<String> {
    let mut parts = Path::new(name).iter();
    let set = parts.next()?.to_str()?;
    parts.next()?;
    let script = places.model_folder.join("fetch");
    if places.root != places.model_folder || std::fs::metadata(&script).ok()?.len() > LARGEST_SCRIPT {
        return None;
    }
    let knows = std::fs::read_to_string(&script).ok()?.split(|c: char| !c.is_alphanumeric()).any(|word| word == set);
    knows.then(|| format!("{} {set}", script.display()))
}

/// The same file with or without `.gz`, if that exists.
fn sibling(path: &Path) -> Option<PathBuf> {
    let other = match path.extension() {
        Some(extension) if extension == "gz" => path.with_extension(""),
        _ => PathBuf::from(format!("{}.gz", path.display())),
    };
    other.is_file().then_some(other)
}

fn check_options(reader: &Reader, allowed: &[&str]) -> Result<(), Diagnostic> {
    for argument in &reader.arguments {
        let Some(name) = argument.name.as_deref() else { continue };
        if !allowed.contains(&name) {
            let message = format!("`{}` has no option `{name}`", reader.name);
            let diagnostic = Diagnostic::error(argument.span, message);
            return Err(match (nearest(name, allowed.iter().copied()), allowed) {
                (Some(near), _) => diagnostic.help(format!("did you mean `{near}`?")),
                (None, []) => diagnostic,
                (None, _) => diagnostic.help(format!("its options are {}", allowed.join(", "))),
            });
        }
    }
    let most = match reader.name.as_str() {
        "npz" | "safetensors" => 2,
        _ => 1,
    };
    match reader.arguments.iter().filter(|a| a.name.is_none()).nth(most) {
        Some(argument) => {
            let message = format!("`{}` takes at most {most} arguments without a name", reader.name);
            Err(Diagnostic::error(argument.span, message))
        }
        None => Ok(()),
    }
}

fn constant(reader: &Reader) -> Result<Loaded, Diagnostic> {
    match reader.arguments.first().map(|argument| &argument.value) {
        Some(Constant::Int(value)) => Ok(Loaded::Constant(*value as f64)),
        Some(Constant::Float(value)) => Ok(Loaded::Constant(*value)),
        Some(Constant::Bool(value)) => Ok(Loaded::Constant(f64::from(u8::from(*value)))),
        Some(_) => Err(Diagnostic::error(reader.span, "`constant` of several values is not supported yet")),
        None => Err(Diagnostic::error(reader.span, "`constant` needs a value").help("write `constant(1)`")),
    }
}

/// The array of an archive: `key="x"`, or the second argument.
fn key(reader: &Reader) -> Result<Option<String>, Diagnostic> {
    let Some(argument) = reader.option("key").or_else(|| reader.further().next()) else { return Ok(None) };
    match &argument.value {
        Constant::Text(key) => Ok(Some(key.clone())),
        _ => Err(Diagnostic::error(argument.span, "the key of an array must be text")),
    }
}

fn tensor(path: &Path, key: Option<&str>) -> Result<Array, FormatError> {
    let file = WeightFile::open(path)?;
    let names = || file.entries().iter().map(|entry| entry.name.as_str());
    let list = || names().collect::<Vec<_>>().join(", ");
    let key = match (key, file.entries()) {
        (Some(key), _) => key,
        (None, [only]) => only.name.as_str(),
        (None, _) => {
            let message = format!("choose one of its tensors with key=\"..\": {}", list());
            return Err(FormatError::content(path, message));
        }
    };
    file.array(key).ok_or_else(|| {
        let message = match nearest(key, names()) {
            Some(near) => format!("no tensor `{key}`: did you mean `{near}`?"),
            None => format!("no tensor `{key}`: the file holds {}", list()),
        };
        FormatError::content(path, message)
    })
}

fn csv_options(reader: &Reader) -> Result<csv::Options, Diagnostic> {
    let mut options = csv::Options::default();
    if let Some(argument) = reader.option("columns") {
        options.columns = match &argument.value {
            Constant::List(list) => {
                Columns::Many(list.iter().map(|c| column(c, argument)).collect::<Result<_, Diagnostic>>()?)
            }
            one => Columns::One(column(one, argument)?),
        };
    }
    if let Some(argument) = reader.option("header") {
        let Constant::Bool(header) = argument.value else {
            return Err(Diagnostic::error(argument.span, "`header` must be true or false"));
        };
        options.header = Some(header);
    }
    if let Some(argument) = reader.option("delimiter") {
        options.delimiter = match &argument.value {
            Constant::Text(text) if text.len() == 1 => text.as_bytes()[0],
            _ => return Err(Diagnostic::error(argument.span, "`delimiter` must be one ASCII character")),
        };
    }
    Ok(options)
}

fn column(value: &Constant, argument: &ReaderArgument) -> Result<Column, Diagnostic> {
    match value {
        Constant::Text(name) => Ok(Column::Name(name.clone())),
        Constant::Int(number) if *number >= 0 => Ok(Column::Number(*number as usize)),
        _ => Err(Diagnostic::error(argument.span, "a column is a name or a number from 0")),
    }
}

/// A whole number of at least 1.
fn natural(reader: &Reader, name: &str) -> Result<Option<usize>, Diagnostic> {
    match reader.option(name) {
        None => Ok(None),
        Some(ReaderArgument { value: Constant::Int(value), .. }) if *value >= 1 => Ok(Some(*value as usize)),
        Some(argument) => Err(Diagnostic::error(argument.span, format!("`{name}` must be a whole number from 1"))),
    }
}
