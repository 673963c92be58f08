//! The rows of one step, gathered into memory that compiled code may read.

use crate::driver::Slice;
use crate::driver::bytes::AlignedBytes;
use crate::ir::types::DType;

use super::dataset::Dataset;

/// Rows of one batch, gathered into memory that compiled code may read.
pub struct Batch {
    buffers: Vec<(String, DType, AlignedBytes)>,
}

impl Batch {
    /// The rows of `dataset` with the given numbers.
    ///
    /// # Panics
    /// If a row is beyond the data set.
    pub fn gather(dataset: &Dataset, rows: &[u32]) -> Batch {
        let buffers = dataset.columns.iter().map(|column| {
            if !column.has_rows {
                return (column.name.clone(), column.dtype, AlignedBytes::copy_of(&column.bytes));
            }
            let mut buffer = AlignedBytes::zeroed(rows.len() * column.row_bytes);
            if column.row_bytes > 0 {
                for (target, row) in buffer.as_mut().chunks_exact_mut(column.row_bytes).zip(rows) {
                    let start = *row as usize * column.row_bytes;
                    target.copy_from_slice(&column.bytes[start..start + column.row_bytes]);
                }
            }
            (column.name.clone(), column.dtype, buffer)
        });
        Batch { buffers: buffers.collect() }
    }

    /// The fields as calls take them.
    pub fn fields(&self) -> Vec<(&str, Slice<'_>)> {
        self.buffers
            .iter()
            .map(|(name, dtype, bytes)| (name.as_str(), Slice::from_bytes(*dtype, bytes.as_ref())))
            .collect()
    }
}
