//! Text as bytes, cut into windows: `text("f.txt", window=65)` is `index(256)[batch, 65]`.

use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::ir::types::DType;

use super::input::{Input, read_whole};
use super::rows::{Positioned, RowSource, Rows};
use super::{Array, FormatError, LARGEST_ARRAY};

/// The largest compressed text, in bytes after decompression.
const LARGEST_TEXT: u64 = 1 << 30;

/// The bytes of a file as rows of `window` bytes; see [`open`].
///
/// # Errors
/// As [`open`].
pub fn read(path: &Path, window: usize, step: usize) -> Result<Array, FormatError> {
    open(path, window, step)?.into_array()
}

/// The bytes of a file as rows of `window` bytes, each starting `step` bytes after the one before.
///
/// A rest too short for a whole window is left out.
///
/// # Errors
/// If the file cannot be read or is shorter than one window.
pub fn open(path: &Path, window: usize, step: usize) -> Result<Rows, FormatError> {
    if window == 0 || step == 0 {
        return Err(FormatError::content(path, "`window` and `step` must be at least 1"));
    }
    let bytes = match Input::open(path)?.plain_length() {
        Some(_) => Bytes::File(Positioned::open(path)?),
        None => Bytes::Memory(read_whole(path, LARGEST_TEXT)?),
    };
    let length = match &bytes {
        Bytes::File(file) => usize::try_from(file.length())
            .map_err(|_| file.error(format!("{} bytes are more than can be addressed", file.length())))?,
        Bytes::Memory(bytes) => bytes.len(),
    };
    let Some(last) = length.checked_sub(window) else {
        let message = format!("the text has {length} bytes, fewer than one window of {window}");
        return Err(FormatError::content(path, message));
    };
    Ok(Box::new(Windows { path: path.to_owned(), bytes, shape: [last / step + 1, window], step }))
}

/// Where the text is.
enum Bytes {
    File(Positioned),
    /// Decompressed.
    Memory(Vec<u8>),
}

/// A text seen as windows.
struct Windows {
    path: PathBuf,
    bytes: Bytes,
    shape: [usize; 2],
    step: usize,
}

impl RowSource for Windows {
    fn dtype(&self) -> DType {
        DType::U8
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn read(&self, rows: Range<usize>) -> Result<Array, FormatError> {
        let window = self.shape[1];
        let count = rows.len();
        if (count as u64).saturating_mul(window as u64) > LARGEST_ARRAY {
            let message = format!("{count} windows of {window} bytes do not fit in memory");
            return Err(FormatError::content(&self.path, message));
        }
        let start = rows.start * self.step;
        let length = if count == 0 { 0 } else { (count - 1) * self.step + window };
        let read;
        let text = match &self.bytes {
            Bytes::Memory(bytes) => &bytes[start..start + length],
            Bytes::File(file) => {
                read = file.read(start as u64, length, "text")?;
                &read[..]
            }
        };
        let bytes = (0..count).flat_map(|row| &text[row * self.step..row * self.step + window]).copied().collect();
        Ok(Array { dtype: DType::U8, shape: vec![count, window], bytes })
    }
}
