//! Comma-separated values: a header or none, columns by name or number, every number checked with its row and column.

use std::io::{Cursor, Read, Seek};
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::diag::nearest;
use crate::ir::types::DType;

use super::input::{Input, open_file, read_whole};
use super::rows::{RowSource, Rows};
use super::{Array, FormatError, checked_size};

/// The largest compressed file, in bytes after decompression.
const LARGEST_FILE: u64 = 4 << 30;
/// Rows that are read together.
const BLOCK_ROWS: usize = 4096;

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

/// The numbers of a CSV file; see [`open`].
///
/// # Errors
/// As [`open`], and if a field is no finite number.
pub fn read(path: &Path, options: &Options) -> Result<Array, FormatError> {
    open(path, options)?.into_array()
}

/// The rows of a CSV file, as `f64[rows, columns]`, or `f64[rows]` for [`Columns::One`].
///
/// Opening goes through the file once to count its rows; numbers are read when they are asked for. A gzip file is held in memory.
///
/// # Errors
/// If a column is missing, or a row is short or long; rows are lines from 1, as an editor counts them.
pub fn open(path: &Path, options: &Options) -> Result<Rows, FormatError> {
    let text = match Input::open(path)?.plain_length() {
        Some(_) => None,
        None => Some(read_whole(path, LARGEST_FILE)?),
    };
    let mut table = Table {
        path: path.to_owned(),
        text,
        delimiter: options.delimiter,
        names: None,
        selected: Vec::new(),
        blocks: Vec::new(),
        shape: Vec::new(),
    };
    let (names, blocks, rows, width) = table.scan(options.header)?;
    table.selected = select(&options.columns, names.as_deref(), width).map_err(|m| table.error(m))?;
    table.shape =
        if matches!(options.columns, Columns::One(_)) { vec![rows] } else { vec![rows, table.selected.len()] };
    table.names = names;
    table.blocks = blocks;
    Ok(Box::new(table))
}

/// An open CSV file.
struct Table {
    path: PathBuf,
    /// The decompressed file if it was compressed.
    text: Option<Vec<u8>>,
    delimiter: u8,
    names: Option<Vec<String>>,
    /// The columns that are read.
    selected: Vec<usize>,
    /// Where every [`BLOCK_ROWS`]th row begins.
    blocks: Vec<csv::Position>,
    shape: Vec<usize>,
}

/// A file or its contents.
trait Text: Read + Seek {}
impl<T: Read + Seek> Text for T {}

/// Names, places of blocks, number of rows, number of columns.
type Scan = (Option<Vec<String>>, Vec<csv::Position>, usize, usize);

impl Table {
    fn error(&self, message: impl Into<String>) -> FormatError {
        FormatError::content(&self.path, message)
    }

    fn reader(&self) -> Result<csv::Reader<Box<dyn Text + '_>>, FormatError> {
        let text: Box<dyn Text + '_> = match &self.text {
            Some(text) => Box::new(Cursor::new(&text[..])),
            None => Box::new(open_file(&self.path)?.0),
        };
        let mut builder = csv::ReaderBuilder::new();
        Ok(builder.has_headers(false).delimiter(self.delimiter).trim(csv::Trim::All).from_reader(text))
    }

    /// Goes through all rows without reading their numbers.
    fn scan(&self, header: Option<bool>) -> Result<Scan, FormatError> {
        let mut reader = self.reader()?;
        let fail = |e: &csv::Error| self.error(sentence(e));
        let mut first = csv::StringRecord::new();
        if !reader.read_record(&mut first).map_err(|e| fail(&e))? {
            return Err(self.error("the file is empty"));
        }
        let has_header = header.unwrap_or_else(|| first.iter().any(|field| parse(field).is_none()));
        let names: Option<Vec<String>> = has_header.then(|| first.iter().map(str::to_owned).collect());
        let mut blocks = Vec::new();
        let mut rows = 0usize;
        if !has_header {
            blocks.extend(first.position().cloned());
            rows = 1;
        }
        let mut record = csv::ByteRecord::new();
        while reader.read_byte_record(&mut record).map_err(|e| fail(&e))? {
            if rows.is_multiple_of(BLOCK_ROWS) {
                blocks.extend(record.position().cloned());
            }
            rows += 1;
        }
        Ok((names, blocks, rows, first.len()))
    }
}

impl RowSource for Table {
    fn dtype(&self) -> DType {
        DType::F64
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn block(&self, row: usize) -> Range<usize> {
        let start = row / BLOCK_ROWS * BLOCK_ROWS;
        start..(start + BLOCK_ROWS).min(self.shape[0]).max(row + 1)
    }

    fn read(&self, rows: Range<usize>) -> Result<Array, FormatError> {
        let mut shape = self.shape.clone();
        shape[0] = rows.len();
        let (_, size) = checked_size(&shape, 8).ok_or_else(|| self.error("more numbers than can be held in memory"))?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(size).map_err(|_| self.error("its numbers do not fit in memory"))?;
        let mut reader = self.reader()?;
        let fail = |e: &csv::Error| self.error(sentence(e));
        let mut record = csv::StringRecord::new();
        if let Some(position) = self.blocks.get(rows.start / BLOCK_ROWS) {
            reader.seek(position.clone()).map_err(|e| fail(&e))?;
        }
        for row in rows.start / BLOCK_ROWS * BLOCK_ROWS..rows.end {
            if !reader.read_record(&mut record).map_err(|e| fail(&e))? {
                return Err(self.error(format!("it has become shorter: row {row} is missing")));
            }
            if row < rows.start {
                continue;
            }
            for &column in &self.selected {
                let field = record.get(column).unwrap_or_default();
                let value = parse(field).filter(|value| value.is_finite());
                let value =
                    value.ok_or_else(|| self.error(not_a_number(field, &record, column, self.names.as_deref())))?;
                bytes.extend_from_slice(&value.to_le_bytes());
            }
        }
        Ok(Array { dtype: DType::F64, shape, bytes })
    }
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
pub(super) fn select(columns: &Columns, names: Option<&[String]>, width: usize) -> Result<Vec<usize>, String> {
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
