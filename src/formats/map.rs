//! A file mapped into memory: weights are used where they lie on disk.

use std::path::Path;

use memmap2::{MmapMut, MmapOptions};

use super::FormatError;
use super::input::open_file;

/// Maps the file at `path` privately: what is written to the memory never reaches the file. An empty file gives `None`.
///
/// # Errors
/// If it cannot be opened or mapped.
pub(super) fn map(path: &Path) -> Result<Option<MmapMut>, FormatError> {
    let (file, length) = open_file(path)?;
    if length == 0 {
        return Ok(None);
    }
    // SAFETY: the mapping is private, so our writes stay ours. Another process that shortens or overwrites the file in place
    // while we read it could break the contents; our own writer never does, it replaces files by renaming.
    let mapping = unsafe { MmapOptions::new().map_copy(&file) };
    mapping.map(Some).map_err(|source| FormatError::Read { path: path.to_owned(), source })
}
