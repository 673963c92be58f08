//! One reader call of a `data` block to open files: `csv("f.csv", columns=["a", "b"])`.

use std::path::{Path, PathBuf};

use crate::diag::{Diagnostic, Span, nearest};
use crate::formats::csv::{Column, Columns};
use crate::formats::files::{is_glob, matching};
use crate::formats::images::resize::Resize;
use crate::formats::images::{Listing, Pictures};
use crate::formats::rows::Rows;
use crate::formats::safetensors::WeightFile;
use crate::formats::{Array, FormatError, csv, hdf5, idx, npy, npz, parquet, text};
use crate::frontend::model::{Constant, Reader, ReaderArgument};
use crate::ir::types::DType;

/// Bytes of the longest script that is searched for the name of a data set.
const LARGEST_SCRIPT: u64 = 1 << 20;

/// Bytes up to which the fields of a split are held in memory. Larger ones stay in their files and are read as batches need
/// them. A constant, so that the order in which rows are mixed depends on the data alone.
pub const LARGEST_RESIDENT: u64 = 4 << 30;

/// Where data files are looked for, and how much of them is held.
#[derive(Clone, Debug)]
pub struct Places {
    /// What relative paths are relative to: `--data DIR`, or the model's folder.
    pub root: PathBuf,
    /// The folder of the `.nn` file, where a `fetch` script may be.
    pub model_folder: PathBuf,
    /// [`LARGEST_RESIDENT`], or less in tests.
    pub resident: u64,
}

impl Places {
    /// Paths relative to the `.nn` file at `model`, or to `data` where given.
    pub fn new(model: &Path, data: Option<&Path>) -> Places {
        let folder = model.parent().map(Path::to_owned).unwrap_or_default();
        Places {
            root: data.map_or_else(|| folder.clone(), Path::to_owned),
            model_folder: folder,
            resident: LARGEST_RESIDENT,
        }
    }
}

/// What a reader yields.
pub enum Loaded {
    /// Rows of files.
    Files(Parts),
    /// The same numbers for every row: one for all elements, or one for each.
    Constant(Vec<f64>),
}

/// Files that are one stream of rows, in this order.
pub struct Parts {
    pub parts: Vec<Part>,
    /// Whether the files say nothing about the shape of a row (CSV, Parquet), so that any shape of as many elements will do.
    pub flat_rows: bool,
}

/// One file.
pub struct Part {
    pub path: PathBuf,
    pub rows: Rows,
}

/// What a field expects of its reader.
pub struct Wanted<'a> {
    pub dtype: DType,
    /// Whether the field has one value for each row.
    pub has_rows: bool,
    /// The sizes of one row.
    pub row: &'a [usize],
}

/// Opens what `reader` names: headers are read and checked, numbers are not yet.
///
/// # Errors
/// If an option is wrong, or a file is; a missing file's error says the path tried and what may bring it.
pub fn load(reader: &Reader, places: &Places, wanted: &Wanted<'_>) -> Result<Loaded, Diagnostic> {
    if reader.name == "constant" {
        return constant(reader);
    }
    let (name, span) = reader.path().ok_or_else(|| {
        let message = format!("`{}` needs the path of a file", reader.name);
        Diagnostic::error(reader.span, message).help(format!("write `{}(\"file\")`", reader.name))
    })?;
    if reader.name == "images" {
        return images(reader, name, span, places, wanted);
    }
    let open = opener(reader)?;
    let paths = match is_glob(&places.root, name) {
        true => matching(&places.root, name).map_err(|error| Diagnostic::error(span, error.to_string()))?,
        false => vec![places.root.join(name)],
    };
    if paths.len() > 1 && !wanted.has_rows {
        let message = format!("a field without a `batch` dim is one array, but {} files match", paths.len());
        return Err(Diagnostic::error(span, message));
    }
    let mut parts = Vec::new();
    for path in paths {
        let rows = open(&path).map_err(|error| file_error(&error, name, span, &path, places))?;
        parts.push(Part { path, rows });
    }
    Ok(Loaded::Files(Parts { parts, flat_rows: matches!(reader.name.as_str(), "csv" | "parquet") }))
}

/// How the reader opens one file.
type Opener = Box<dyn Fn(&Path) -> Result<Rows, FormatError>>;

fn opener(reader: &Reader) -> Result<Opener, Diagnostic> {
    let boxed = |array: Array| -> Rows { Box::new(array) };
    Ok(match reader.name.as_str() {
        "idx" => Box::new(idx::open),
        "npy" => Box::new(npy::open),
        "npz" => {
            let key = key(reader)?;
            Box::new(move |path| npz::read(path, key.as_deref()).map(boxed))
        }
        "hdf5" => {
            let key = key(reader)?;
            Box::new(move |path| hdf5::open(path, key.as_deref()))
        }
        "safetensors" => {
            let key = key(reader)?;
            Box::new(move |path| tensor(path, key.as_deref()))
        }
        "csv" => {
            let options = csv_options(reader)?;
            Box::new(move |path| csv::open(path, &options))
        }
        "parquet" => {
            let columns = columns(reader)?;
            Box::new(move |path| parquet::open(path, &columns))
        }
        "text" => {
            let window = natural(reader, "window")?
                .ok_or_else(|| Diagnostic::error(reader.span, "`text` needs `window`, the number of bytes in a row"))?;
            let step = natural(reader, "step")?.unwrap_or(window);
            Box::new(move |path| text::open(path, window, step))
        }
        name => return Err(Diagnostic::error(reader.name_span, format!("there is no reader `{name}`"))),
    })
}

/// Pictures, or their classes if a row of the field is one number.
fn images(reader: &Reader, name: &str, span: Span, places: &Places, wanted: &Wanted<'_>) -> Result<Loaded, Diagnostic> {
    let error = |error: FormatError| file_error(&error, name, span, &places.root.join(name), places);
    let classes = match reader.option("classes") {
        Some(argument) => Some(names(argument)?),
        None => None,
    };
    let listing = Listing::open(&places.root, name, classes.as_deref()).map_err(error)?;
    let rows: Rows = if wanted.row.is_empty() {
        if let DType::Index { classes } = wanted.dtype
            && classes as usize != listing.classes().len()
            && !listing.classes().is_empty()
        {
            let found = listing.classes().join(", ");
            let message = format!("`{name}` has {} classes, expected {classes}", listing.classes().len());
            let help = "classes=[\"a\", \"b\"] names the folders that count, in the order of their numbers";
            return Err(Diagnostic::error(span, message).note(format!("found {found}")).help(help));
        }
        Box::new(listing.labels().map_err(error)?)
    } else {
        let resize = match reader.option("resize").map(|argument| (&argument.value, argument.span)) {
            None | Some((Constant::Bool(false), _)) => None,
            Some((Constant::Text(way), span)) => {
                let known = Resize::NAMED.iter().find(|(name, _)| name == way);
                let unknown = || Diagnostic::error(span, format!("there is no way to resize `{way}`"));
                Some(known.map(|(_, resize)| *resize).ok_or_else(unknown)?)
            }
            Some((_, span)) => return Err(Diagnostic::error(span, "`resize` must be text")),
        };
        let pictures = Pictures::new(listing, wanted.row, resize);
        Box::new(pictures.map_err(|message| Diagnostic::error(span, message))?)
    };
    let part = Part { path: places.root.join(name), rows };
    Ok(Loaded::Files(Parts { parts: vec![part], flat_rows: false }))
}

fn names(argument: &ReaderArgument) -> Result<Vec<String>, Diagnostic> {
    let wrong = || Diagnostic::error(argument.span, "expected a list of names");
    let Constant::List(list) = &argument.value else { return Err(wrong()) };
    let name = |value: &Constant| match value {
        Constant::Text(name) => Ok(name.clone()),
        _ => Err(wrong()),
    };
    list.iter().map(name).collect()
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

fn constant(reader: &Reader) -> Result<Loaded, Diagnostic> {
    let Some(argument) = reader.arguments.first() else {
        return Err(Diagnostic::error(reader.span, "`constant` needs a value").help("write `constant(1)`"));
    };
    let mut values = Vec::new();
    match flatten(&argument.value, &mut values) {
        true => Ok(Loaded::Constant(values)),
        false => Err(Diagnostic::error(argument.span, "a constant is a number or a list of numbers")),
    }
}

/// Adds the numbers of a constant, row by row; false if it holds something else.
fn flatten(value: &Constant, out: &mut Vec<f64>) -> bool {
    match value {
        Constant::Int(value) => out.push(*value as f64),
        Constant::Float(value) => out.push(*value),
        Constant::Bool(value) => out.push(f64::from(u8::from(*value))),
        Constant::Text(_) => return false,
        Constant::List(list) => return list.iter().all(|item| flatten(item, out)),
    }
    true
}

/// The array of an archive: `key="x"`, or the second argument.
fn key(reader: &Reader) -> Result<Option<String>, Diagnostic> {
    let Some(argument) = reader.option("key").or_else(|| reader.further().next()) else { return Ok(None) };
    match &argument.value {
        Constant::Text(key) => Ok(Some(key.clone())),
        _ => Err(Diagnostic::error(argument.span, "the key of an array must be text")),
    }
}

fn tensor(path: &Path, key: Option<&str>) -> Result<Rows, FormatError> {
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
    match file.rows(key) {
        Some(rows) => Ok(Box::new(rows?)),
        None => Err(FormatError::content(
            path,
            match nearest(key, names()) {
                Some(near) => format!("no tensor `{key}`: did you mean `{near}`?"),
                None => format!("no tensor `{key}`: the file holds {}", list()),
            },
        )),
    }
}

fn csv_options(reader: &Reader) -> Result<csv::Options, Diagnostic> {
    let mut options = csv::Options { columns: columns(reader)?, ..csv::Options::default() };
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

/// Which columns of a table are read.
fn columns(reader: &Reader) -> Result<Columns, Diagnostic> {
    let Some(argument) = reader.option("columns") else { return Ok(Columns::All) };
    Ok(match &argument.value {
        Constant::List(list) => {
            Columns::Many(list.iter().map(|c| column(c, argument)).collect::<Result<_, Diagnostic>>()?)
        }
        one => Columns::One(column(one, argument)?),
    })
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
