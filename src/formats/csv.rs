//! Comma-separated values: a header or none, columns by name or number, every number checked with its row and column.

use std::path::Path;

use crate::diag::nearest;
use crate::ir::types::DType;

use super::input::read_whole;
use super::{Array, FormatError, LARGEST_ARRAY};

/// The largest file in bytes.
const LARGEST_FILE: u64 = 4 << 30;

/// A column, by its name in the header or its number from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Column {
    Name(String),
    Number(usize),
}

/// Which columns of a file to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Columns {
    All,
    /// One column: the array has one dim.
    One(Column),
    Many(Vec<Column>),
}

/// How to read a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    pub columns: Columns,
    /// Whether the first line holds names; `None` decides by whether all its fields are numbers.
    pub header: Option<bool>,
    pub delimiter: u8,
}

impl Default for Options {
    fn default() -> Self {
        Options { columns: Columns::All, header: None, delimiter: b',' }
    }
}

/// The numbers of a CSV file, as `f64[rows, columns]`, or `f64[rows]` for [`Columns::One`].
///
/// # Errors
/// If a column is missing, a row is short or long, or a field is no finite number; rows are lines from 1, as an editor counts them.
pub fn read(path: &Path, options: &Options) -> Result<Array, FormatError> {
    let error = |message: String| FormatError::content(path, message);
    let text = read_whole(path, LARGEST_FILE)?;
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .delimiter(options.delimiter)
        .trim(csv::Trim::All)
        .from_reader(text.as_slice());
    let mut record = csv::StringRecord::new();
    let mut next = |record: &mut csv::StringRecord| reader.read_record(record).map_err(|e| error(sentence(&e)));
    if !next(&mut record)? {
        return Err(error("the file is empty".into()));
    }
    let width = record.len();
    let has_header = options.header.unwrap_or_else(|| record.iter().any(|field| parse(field).is_none()));
    let names: Option<Vec<String>> = has_header.then(|| record.iter().map(str::to_owned).collect());
    let selected = select(&options.columns, names.as_deref(), width).map_err(error)?;
    let mut bytes = Vec::new();
    let mut rows = 0;
    let mut more = !has_header || next(&mut record)?;
    while more {
        for &column in &selected {
            let field = &record[column];
            let value = parse(field).filter(|value| value.is_finite());
            let value = value.ok_or_else(|| error(not_a_number(field, &record, column, names.as_deref())))?;
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        rows += 1;
        if bytes.len() as u64 > LARGEST_ARRAY {
            return Err(error(format!("more than {LARGEST_ARRAY} bytes of numbers")));
        }
        more = next(&mut record)?;
    }
    let shape = if matches!(options.columns, Columns::One(_)) { vec![rows] } else { vec![rows, selected.len()] };
    Ok(Array { dtype: DType::F64, shape, bytes })
}

/// A number as CSV files write it.
fn parse(field: &str) -> Option<f64> {
    field.parse().ok()
}

fn not_a_number(field: &str, record: &csv::StringRecord, column: usize, names: Option<&[String]>) -> String {
    let line = record.position().map_or(0, csv::Position::line);
    let place = match names.and_then(|n| n.get(column)) {
        Some(name) => format!("line {line}, column {column} (`{name}`)"),
        None => format!("line {line}, column {column}"),
    };
    match field {
        "" => format!("{place}: the field is empty, expected a number"),
        _ if parse(field).is_some() => format!("{place}: `{field}` is not a finite number"),
        _ => format!("{place}: `{}` is not a number", field.escape_debug()),
    }
}

/// The numbers of the selected columns, in the order asked for.
fn select(columns: &Columns, names: Option<&[String]>, width: usize) -> Result<Vec<usize>, String> {
    match columns {
        Columns::All => Ok((0..width).collect()),
        Columns::One(column) => Ok(vec![find(column, names, width)?]),
        Columns::Many(many) => many.iter().map(|column| find(column, names, width)).collect(),
    }
}

fn find(column: &Column, names: Option<&[String]>, width: usize) -> Result<usize, String> {
    match (column, names) {
        (Column::Number(number), _) if *number < width => Ok(*number),
        (Column::Number(number), _) => Err(format!("no column {number}: there are {width}, numbered from 0")),
        (Column::Name(name), None) => Err(format!("no column `{name}`: the file has no header line")),
        (Column::Name(name), Some(names)) => {
            names.iter().position(|n| n == name).ok_or_else(|| match nearest(name, names.iter().map(String::as_str)) {
                Some(near) => format!("no column `{name}`: did you mean `{near}`?"),
                None => format!("no column `{name}`: the columns are {}", names.join(", ")),
            })
        }
    }
}

/// The mistake of the CSV reader as one sentence.
fn sentence(error: &csv::Error) -> String {
    let line = error.position().map_or(0, csv::Position::line);
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("line {line} has {len} fields, the lines before have {expected_len}")
        }
        csv::ErrorKind::Utf8 { .. } => format!("line {line} is not UTF-8 text"),
        _ => error.to_string(),
    }
}
