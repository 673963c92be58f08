//! Text as bytes, cut into windows: `text("f.txt", window=65)` is `index(256)[batch, 65]`.

use std::path::Path;

use crate::ir::types::DType;

use super::input::read_whole;
use super::{Array, FormatError};

/// The largest text in bytes.
const LARGEST_TEXT: u64 = 1 << 30;

/// The bytes of a file as rows of `window` bytes, each starting `step` bytes after the one before.
///
/// A rest too short for a whole window is left out.
///
/// # Errors
/// If the file cannot be read or is shorter than one window.
pub fn read(path: &Path, window: usize, step: usize) -> Result<Array, FormatError> {
    if window == 0 || step == 0 {
        return Err(FormatError::content(path, "`window` and `step` must be at least 1"));
    }
    let text = read_whole(path, LARGEST_TEXT)?;
    let Some(last) = text.len().checked_sub(window) else {
        let message = format!("the text has {} bytes, fewer than one window of {window}", text.len());
        return Err(FormatError::content(path, message));
    };
    let rows = last / step + 1;
    if (rows as u64).saturating_mul(window as u64) > 4 * LARGEST_TEXT {
        return Err(FormatError::content(path, format!("{rows} windows of {window} bytes do not fit in memory")));
    }
    let bytes = (0..rows).flat_map(|row| &text[row * step..row * step + window]).copied().collect();
    Ok(Array { dtype: DType::U8, shape: vec![rows, window], bytes })
}
