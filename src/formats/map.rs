//! A file mapped into memory for reading: weights are used where they lie on disk.

use std::path::Path;

use memmap2::Mmap;

use super::FormatError;
use super::input::open_file;

/// Maps the file at `path`; an empty file gives `None`.
///
/// # Errors
/// If it cannot be opened or mapped.
pub(super) fn map(path: &Path) -> Result<Option<Mmap>, FormatError> {
    let (file, length) = open_file(path)?;
    if length == 0 {
        return Ok(None);
    }
    // SAFETY: the mapping is private and read only. Another process that shortens or overwrites the file in place while we
    // read it could break the contents; our own writer never does, it replaces files by renaming.
    let mapping = unsafe { Mmap::map(&file) };
    mapping.map(Some).map_err(|source| FormatError::Read { path: path.to_owned(), source })
}
