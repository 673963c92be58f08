//! Parquet: columns of numbers of a table without nesting, read one row group at a time.
//!
//! Read are booleans, integers of 32 and 64 bits and floats of 16, 32 and 64, required or optional (a missing value is an error), as plain values,
//! dictionaries, runs, packed differences and split bytes, in pages of both versions, plain or compressed
//! with snappy, gzip or zstd. All values become `f64`, as those of CSV files do.
//!
//! The modules: [`thrift`] (the encoding of metadata), [`page`] (pages and their compression), [`values`] (encodings of values).

mod page;
mod thrift;
mod values;

use std::ops::Range;
use std::path::Path;

use self::page::Chunk;
use self::thrift::Value;
use self::values::Kind;
use super::csv::{Columns, select};
use super::rows::{Positioned, RowSource, Rows};
use super::{Array, FormatError, checked_size};
use crate::ir::types::DType;

const MAGIC: &[u8; 4] = b"PAR1";
/// The longest metadata in bytes.
const LONGEST_METADATA: u64 = 16 << 20;
/// The most rows of one row group; a run of equal values takes a few bytes however long it is.
const MOST_GROUP_ROWS: u64 = 1 << 26;

/// The rows of a table, as `f64[rows, columns]`, or `f64[rows]` for [`Columns::One`].
///
/// # Errors
/// If the file is broken, a column is missing, or one holds something other than numbers.
pub fn open(path: &Path, columns: &Columns) -> Result<Rows, FormatError> {
    let file = Positioned::open(path)?;
    let metadata = metadata(&file)?;
    let table = Table::new(&metadata, columns).map_err(|message| file.error(message))?;
    Ok(Box::new(Parquet { file, table }))
}

/// The metadata at the end of the file.
fn metadata(file: &Positioned) -> Result<Value, FormatError> {
    let not_parquet = || file.error("not a Parquet file, or truncated: it does not end with PAR1");
    let tail_start = file.length().checked_sub(8).filter(|start| *start >= 4).ok_or_else(not_parquet)?;
    let tail = file.read(tail_start, 8, "the end of the file")?;
    if &tail[4..] == b"PARE" {
        return Err(file.error("encrypted files are not supported"));
    }
    if &tail[4..] != MAGIC {
        return Err(not_parquet());
    }
    let length = u64::from(u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]));
    if length > LONGEST_METADATA || length > tail_start {
        return Err(file.error(format!("its metadata claims {length} bytes")));
    }
    let bytes = file.read(tail_start - length, length as usize, "metadata")?;
    thrift::parse(&bytes)
        .map(|(value, _)| value)
        .map_err(|message| file.error(format!("its metadata is broken: {message}")))
}

/// A column of the schema.
struct Column {
    name: String,
    /// What it holds, or why it cannot be read.
    kind: Result<Kind, String>,
    optional: bool,
}

/// What metadata says of the columns that are read.
struct Table {
    columns: Vec<Column>,
    shape: Vec<usize>,
    groups: Vec<Group>,
}

/// A row group.
struct Group {
    first_row: usize,
    rows: usize,
    /// The chunk of each column that is read.
    chunks: Vec<Chunk>,
}

impl Table {
    fn new(metadata: &Value, columns: &Columns) -> Result<Table, String> {
        let all = schema(metadata.list(2)?)?;
        let names: Vec<String> = all.iter().map(|column| column.name.clone()).collect();
        let selected = select(columns, Some(&names), all.len())?;
        for number in &selected {
            if let Err(reason) = &all[*number].kind {
                return Err(format!("column `{}` {reason}", all[*number].name));
            }
        }
        let mut groups = Vec::new();
        let mut rows = 0usize;
        for group in metadata.list(4)? {
            let count = group.unsigned(3)?;
            if count > MOST_GROUP_ROWS {
                return Err(format!("a row group of {count} rows, more than {MOST_GROUP_ROWS}"));
            }
            let found = group.list(1)?;
            if found.len() != all.len() {
                return Err(format!("a row group has {} columns, the schema {}", found.len(), all.len()));
            }
            let chunks = selected.iter().map(|number| Chunk::new(&found[*number])).collect::<Result<_, _>>()?;
            groups.push(Group { first_row: rows, rows: count as usize, chunks });
            rows = rows.checked_add(count as usize).ok_or("more rows than can be counted")?;
        }
        groups.retain(|group| group.rows > 0);
        let shape = if matches!(columns, Columns::One(_)) { vec![rows] } else { vec![rows, selected.len()] };
        let mut all: Vec<Option<Column>> = all.into_iter().map(Some).collect();
        let columns = selected.iter().map(|number| match all[*number].take() {
            Some(column) => Ok(column),
            None => Err(format!("column `{}` is named twice", names[*number])),
        });
        Ok(Table { columns: columns.collect::<Result<_, _>>()?, shape, groups })
    }
}

/// The columns of a schema, which is a tree written in depth-first order: those at its root, if they are no groups.
fn schema(elements: &[Value]) -> Result<Vec<Column>, String> {
    let (root, rest) = elements.split_first().ok_or("the schema is empty")?;
    let count = root.unsigned(5)?;
    let mut columns = Vec::new();
    for element in rest {
        let name = element.text(4)?;
        if element.find(5).is_some_and(|children| children.int() > Some(0)) {
            return Err(format!("column `{name}` has columns in it: nested tables are not supported"));
        }
        let repetition = element.find(3).and_then(Value::int).unwrap_or(0);
        let kind = if repetition == 2 { Err("is repeated".into()) } else { values::kind(element) };
        columns.push(Column { name, kind, optional: repetition == 1 });
    }
    if columns.len() as u64 != count {
        return Err(format!("the schema has {} columns, expected {count}", columns.len()));
    }
    Ok(columns)
}

/// An open table.
struct Parquet {
    file: Positioned,
    table: Table,
}

impl Parquet {
    fn group(&self, row: usize) -> Option<&Group> {
        let after = self.table.groups.partition_point(|group| group.first_row <= row);
        self.table.groups.get(after.checked_sub(1)?)
    }

    /// The values of a column in a row group.
    fn values(&self, group: &Group, number: usize) -> Result<Vec<f64>, FormatError> {
        let column = &self.table.columns[number];
        let fail = |message: String| {
            self.file.error(format!("column `{}`, row group at row {}: {message}", column.name, group.first_row))
        };
        let kind = column.kind.as_ref().map_err(|reason| fail(reason.clone()))?;
        let chunk = &group.chunks[number];
        let bytes = self.file.read(chunk.start, chunk.length, "a column")?;
        page::values(&bytes, chunk.codec, *kind, column.optional, group.rows).map_err(fail)
    }
}

impl RowSource for Parquet {
    fn dtype(&self) -> DType {
        DType::F64
    }

    fn shape(&self) -> &[usize] {
        &self.table.shape
    }

    fn block(&self, row: usize) -> Range<usize> {
        self.group(row).map_or(row..row + 1, |group| group.first_row..group.first_row + group.rows)
    }

    fn read(&self, rows: Range<usize>) -> Result<Array, FormatError> {
        let mut shape = self.table.shape.clone();
        shape[0] = rows.len();
        let width = self.table.columns.len();
        let too_large = || self.file.error(format!("{} rows of {width} columns do not fit in memory", rows.len()));
        let (_, size) = checked_size(&shape, 8).ok_or_else(too_large)?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(size).map_err(|_| too_large())?;
        bytes.resize(size, 0);
        for group in &self.table.groups {
            let first = rows.start.max(group.first_row);
            let last = rows.end.min(group.first_row + group.rows);
            if first >= last {
                continue;
            }
            for column in 0..width {
                let values = self.values(group, column)?;
                for (row, value) in (first..last).zip(&values[first - group.first_row..]) {
                    let at = ((row - rows.start) * width + column) * 8;
                    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
                }
            }
        }
        Ok(Array { dtype: DType::F64, shape, bytes })
    }
}
