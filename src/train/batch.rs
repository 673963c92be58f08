//! The rows of one step, gathered into memory that compiled code may read.

use crate::diag::Diagnostic;
use crate::driver::Slice;
use crate::driver::bytes::AlignedBytes;
use crate::ir::types::DType;

use super::dataset::{Column, Dataset, Store};

/// Rows of one batch, gathered into memory that compiled code may read.
pub struct Batch {
    buffers: Vec<(String, DType, AlignedBytes)>,
}

impl Batch {
    /// The rows of `dataset` with the given numbers.
    ///
    /// # Errors
    /// If rows are read from files and a file is broken, or holds a number that the field cannot.
    ///
    /// # Panics
    /// If a row is beyond the data set.
    pub fn gather(dataset: &Dataset, rows: &[u32]) -> Result<Batch, Diagnostic> {
        let buffers = dataset.columns.iter().map(|column| {
            let bytes = gather_column(column, rows)?;
            Ok((column.name.clone(), column.dtype, bytes))
        });
        Ok(Batch { buffers: buffers.collect::<Result<_, Diagnostic>>()? })
    }

    /// The fields as calls take them.
    pub fn fields(&self) -> Vec<(&str, Slice<'_>)> {
        self.buffers
            .iter()
            .map(|(name, dtype, bytes)| (name.as_str(), Slice::from_bytes(*dtype, bytes.as_ref())))
            .collect()
    }
}

fn gather_column(column: &Column, rows: &[u32]) -> Result<AlignedBytes, Diagnostic> {
    if let Store::Whole(bytes) = &column.store {
        return Ok(AlignedBytes::copy_of(bytes));
    }
    let size = column.row_bytes;
    let mut buffer = AlignedBytes::zeroed(rows.len() * size);
    if size == 0 {
        return Ok(buffer);
    }
    for (target, row) in buffer.as_mut().chunks_exact_mut(size).zip(rows) {
        let row = *row as usize;
        match &column.store {
            Store::Memory(bytes) | Store::Whole(bytes) => target.copy_from_slice(&bytes[row * size..(row + 1) * size]),
            Store::Same(bytes) => target.copy_from_slice(bytes),
            Store::Files(files) => files.copy_row(row, target)?,
        }
    }
    Ok(buffer)
}
