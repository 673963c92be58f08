//! Rows of a file, read where they lie: what every reader of training data yields.
//!
//! Opening a file checks its header and its length; the numbers are read when they are asked for, so that a file may be
//! larger than memory. Where a format can only be read whole (gzip, small CSV) the rows are an [`Array`] in memory.
//!
//! Rows are read by position and not mapped: a file that another program cuts short is then an error and not a signal.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::ir::types::DType;

use super::idx::swap_bytes;
use super::input::open_file;
use super::{Array, FormatError, checked_size, shape_text};

/// Something with rows of one dtype and shape.
pub trait RowSource: Send + Sync {
    /// The dtype of the elements; never `index(K)`.
    fn dtype(&self) -> DType;

    /// The shape of the whole, the number of rows first; a scalar has none.
    fn shape(&self) -> &[usize];

    /// The rows that are decoded together with `row`; that row alone where each can be read by itself.
    fn block(&self, row: usize) -> Range<usize> {
        row..row + 1
    }

    /// The rows of a range that lies within the file.
    ///
    /// # Errors
    /// If the file is broken there.
    fn read(&self, rows: Range<usize>) -> Result<Array, FormatError>;

    /// All rows at once.
    ///
    /// # Errors
    /// As [`RowSource::read`].
    fn into_array(self: Box<Self>) -> Result<Array, FormatError> {
        self.read(0..self.rows())
    }

    /// The number of rows, which is the first dim; a scalar has one row.
    fn rows(&self) -> usize {
        self.shape().first().copied().unwrap_or(1)
    }

    /// The file that a row comes from, where that is not the one that was opened (a folder of images).
    fn file_of(&self, _row: usize) -> Option<&Path> {
        None
    }
}

/// The rows of an open file.
pub type Rows = Box<dyn RowSource>;

impl RowSource for Array {
    fn dtype(&self) -> DType {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn read(&self, rows: Range<usize>) -> Result<Array, FormatError> {
        Ok(self.slice_rows(rows.start, rows.end))
    }

    fn into_array(self: Box<Self>) -> Result<Array, FormatError> {
        Ok(*self)
    }
}

/// A file read by position.
pub struct Positioned {
    path: PathBuf,
    file: Mutex<File>,
    length: u64,
}

impl Positioned {
    /// Opens `path`.
    ///
    /// # Errors
    /// If there is no such file or it is not a regular file.
    pub fn open(path: &Path) -> Result<Positioned, FormatError> {
        let (file, length) = open_file(path)?;
        Ok(Positioned { path: path.to_owned(), file: Mutex::new(file), length })
    }

    /// The bytes of the file when it was opened.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// An error about the contents of this file.
    pub fn error(&self, message: impl Into<String>) -> FormatError {
        FormatError::content(&self.path, message)
    }

    /// `count` bytes at `offset`, which are `what`.
    ///
    /// # Errors
    /// If they are not within the file, do not fit in memory, or cannot be read.
    pub fn read(&self, offset: u64, count: usize, what: &str) -> Result<Vec<u8>, FormatError> {
        let inside = offset.checked_add(count as u64).is_some_and(|end| end <= self.length);
        if !inside {
            let message = format!(
                "truncated: expected {count} bytes of {what} at offset {offset}, the file has {} bytes",
                self.length
            );
            return Err(self.error(message));
        }
        let mut bytes = Vec::new();
        let fits = bytes.try_reserve_exact(count);
        fits.map_err(|_| self.error(format!("{what}: {count} bytes do not fit in memory")))?;
        bytes.resize(count, 0);
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(offset))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(|source| FormatError::Read { path: self.path.clone(), source })?;
        Ok(bytes)
    }
}

/// A dense row-major array somewhere in a file.
pub struct Stored {
    file: Positioned,
    start: u64,
    dtype: DType,
    shape: Vec<usize>,
    big_endian: bool,
}

impl Stored {
    /// The array of `shape` that begins at `start`.
    ///
    /// # Errors
    /// If the file cannot be opened or ends before the array does.
    pub fn new(
        path: &Path,
        start: u64,
        dtype: DType,
        shape: Vec<usize>,
        big_endian: bool,
    ) -> Result<Stored, FormatError> {
        let file = Positioned::open(path)?;
        let bytes = stored_bytes(&shape, dtype);
        if bytes.and_then(|bytes| start.checked_add(bytes)).is_none_or(|end| end > file.length()) {
            let message =
                format!("truncated: it has {} bytes, too few for {dtype}{}", file.length(), shape_text(&shape));
            return Err(file.error(message));
        }
        Ok(Stored { file, start, dtype, shape, big_endian })
    }
}

impl RowSource for Stored {
    fn dtype(&self) -> DType {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn read(&self, rows: Range<usize>) -> Result<Array, FormatError> {
        let mut shape = self.shape.clone();
        if let Some(first) = shape.first_mut() {
            *first = rows.len();
        }
        let row_bytes: usize = self.shape.iter().skip(1).product::<usize>() * self.dtype.bytes();
        let described = || format!("{}{}", self.dtype, shape_text(&shape));
        let too_large = || self.file.error(format!("{} is more than can be held in memory", described()));
        let (_, bytes) = checked_size(&shape, self.dtype.bytes()).ok_or_else(too_large)?;
        let offset = self.start + rows.start as u64 * row_bytes as u64;
        let mut data = self.file.read(offset, bytes, &described())?;
        if self.big_endian {
            swap_bytes(&mut data, self.dtype.bytes());
        }
        Ok(Array { dtype: self.dtype, shape, bytes: data })
    }
}

/// The bytes of an array in a file, which may be more than fit in memory; `None` if no file can hold them.
pub fn stored_bytes(shape: &[usize], dtype: DType) -> Option<u64> {
    let elements = shape.iter().try_fold(1u64, |product, size| product.checked_mul(*size as u64))?;
    let bytes = elements.checked_mul(dtype.bytes() as u64)?;
    // Products of a part of the sizes must fit too where another size is 0.
    let nonzero = shape.iter().filter(|size| **size > 0);
    nonzero.clone().try_fold(dtype.bytes(), |product, size| product.checked_mul(*size)).map(|_| bytes)
}
