//! Rows that stay in their files: each is read, converted and checked when a batch needs it.
//!
//! Files that are decoded in blocks keep the last few in memory; the order of an epoch takes rows so that these suffice.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use crate::diag::{Diagnostic, Span};
use crate::formats::{Array, shape_text};
use crate::frontend::model::Field;
use crate::ir::types::{DType, TensorType};

use super::convert::{BadElement, BadReason, convert};
use super::order::Mixing;
use super::source::Part;

/// The field that numbers are for, and where it is bound.
#[derive(Clone, Debug)]
pub struct Target {
    name: String,
    ty: TensorType,
    declared: Span,
    /// The path in the file, or the whole reader.
    bound: Span,
}

impl Target {
    /// The field, bound at `bound`.
    pub fn new(field: &Field, bound: Span) -> Target {
        Target { name: field.name.clone(), ty: field.ty.clone(), declared: field.span, bound }
    }

    /// The dtype of the field.
    pub fn dtype(&self) -> DType {
        self.ty.dtype
    }

    /// A mistake in the data of this field.
    pub fn error(&self, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(self.bound, message).label(self.declared, format!("declared as {}", self.ty))
    }

    /// All rows of a file as the field takes them.
    ///
    /// # Errors
    /// If the file is broken, or holds a number that the field cannot.
    pub fn convert_all(&self, part: Part) -> Result<Vec<u8>, Diagnostic> {
        let Part { path, rows } = part;
        // Rows of a folder of pictures are read together too, so there is no file of the row to name.
        let array = rows.into_array().map_err(|error| Diagnostic::error(self.bound, error.to_string()))?;
        self.convert(array, &path.display().to_string(), 0)
    }

    fn convert_rows(&self, part: &Part, rows: Range<usize>) -> Result<Vec<u8>, Diagnostic> {
        let file = part.rows.file_of(rows.start).unwrap_or(&part.path).display().to_string();
        let first = rows.start;
        let array = part.rows.read(rows).map_err(|error| Diagnostic::error(self.bound, error.to_string()))?;
        self.convert(array, &file, first)
    }

    fn convert(&self, array: Array, file: &str, first_row: usize) -> Result<Vec<u8>, Diagnostic> {
        let shape = array.shape.clone();
        convert(array, self.ty.dtype)
            .map_err(|bad| self.error(format!("`{file}`: {}", bad_element(&bad, self, &shape, first_row))))
    }
}

/// An element that the field cannot hold, as a sentence with its row and column, both from 0; the array begins at `first_row`.
pub fn bad_element(bad: &BadElement, target: &Target, shape: &[usize], first_row: usize) -> String {
    let row_elements: usize = shape.iter().skip(1).product::<usize>().max(1);
    let (row, rest) = (first_row + bad.position / row_elements, bad.position % row_elements);
    let inner = shape.get(1..).unwrap_or_default();
    let column = match inner {
        [] | [1] => String::new(),
        [_] => format!(", column {rest}"),
        _ => format!(", element {}", shape_text(&unravel(rest, inner))),
    };
    let place = format!("row {row}{column}");
    match (&bad.reason, target.ty.dtype) {
        (BadReason::NotFinite(value), _) if value.is_nan() => format!("{place} is NaN"),
        (BadReason::NotFinite(value), dtype) => format!("{place} is {value} as {dtype}"),
        (BadReason::NotWhole(value), dtype) => format!("{place} is {value}, but `{}` is {dtype}", target.name),
        (BadReason::OutOfRange(value), DType::Index { classes }) => {
            format!("label {value} in {place} is outside 0..{classes}")
        }
        (BadReason::OutOfRange(value), dtype) => format!("{place} is {value}, which {dtype} cannot hold"),
    }
}

/// The index of element `flat` in row-major order.
fn unravel(mut flat: usize, shape: &[usize]) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for axis in (0..shape.len()).rev() {
        index[axis] = flat % shape[axis];
        flat /= shape[axis];
    }
    index
}

/// The rows of one field in its files.
pub struct Files {
    parts: Vec<Part>,
    /// The first row of each file.
    starts: Vec<usize>,
    target: Target,
    row_bytes: usize,
    cache: Mutex<Cache>,
}

impl Files {
    /// The rows of `parts`, one file after the other.
    pub fn new(parts: Vec<Part>, target: Target, row_bytes: usize, mixing: Option<Mixing>) -> Files {
        let mut rows = 0;
        let mut start = |part: &Part| {
            let start = rows;
            rows += part.rows.rows();
            start
        };
        let starts = parts.iter().map(&mut start).collect();
        let own = parts.iter().map(|part| part.rows.block(0).len()).max().unwrap_or(1);
        // The blocks of a pool, the one that is begun next, and what lies over the ends of other files' blocks.
        let limit = mixing.map_or(0, |m| (m.pool + 2).saturating_mul(m.block)).saturating_add(2 * own);
        Files { parts, starts, target, row_bytes, cache: Mutex::new(Cache { limit, ..Cache::default() }) }
    }

    /// Copies a row to `out`.
    ///
    /// # Errors
    /// If the file is broken there, or holds a number that the field cannot.
    pub fn copy_row(&self, row: usize, out: &mut [u8]) -> Result<(), Diagnostic> {
        let number = self.starts.partition_point(|start| *start <= row) - 1;
        let (part, row) = (&self.parts[number], row - self.starts[number]);
        let block = part.rows.block(row);
        let at = (row - block.start) * self.row_bytes;
        let bytes = match block.len() {
            1 => Arc::new(self.target.convert_rows(part, block)?),
            _ => self.block(number, block)?,
        };
        out.copy_from_slice(&bytes[at..at + self.row_bytes]);
        Ok(())
    }

    fn block(&self, number: usize, block: Range<usize>) -> Result<Arc<Vec<u8>>, Diagnostic> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (number, block.start);
        if let Some(bytes) = cache.blocks.get(&key) {
            return Ok(Arc::clone(bytes));
        }
        let bytes = Arc::new(self.target.convert_rows(&self.parts[number], block.clone())?);
        cache.insert(key, block.len(), Arc::clone(&bytes));
        Ok(bytes)
    }
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Files({} of `{}`)", self.parts.len(), self.target.name)
    }
}

/// The file and the first row of a block.
type Key = (usize, usize);

/// Blocks that were decoded last.
#[derive(Default)]
struct Cache {
    blocks: HashMap<Key, Arc<Vec<u8>>>,
    /// In the order in which they came, with their rows.
    order: VecDeque<(Key, usize)>,
    /// Rows in all blocks.
    rows: usize,
    /// The most rows, but for the last block.
    limit: usize,
}

impl Cache {
    fn insert(&mut self, key: Key, rows: usize, bytes: Arc<Vec<u8>>) {
        self.blocks.insert(key, bytes);
        self.order.push_back((key, rows));
        self.rows += rows;
        while self.rows > self.limit && self.order.len() > 1 {
            let (oldest, rows) = self.order.pop_front().expect("there is more than one block");
            self.blocks.remove(&oldest);
            self.rows -= rows;
        }
    }
}
