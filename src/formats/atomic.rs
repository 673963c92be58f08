//! Files that appear whole or not at all: a temporary file beside the target, flushed to disk, then renamed.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::FormatError;

/// Writes `path` through `contents`; on an error the old file, if any, is untouched. Its permissions stay.
///
/// # Errors
/// If the folder is missing or the disk is full.
pub fn write(path: &Path, contents: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), FormatError> {
    write_in_folder(path, contents).map_err(|source| FormatError::Write { path: path.to_owned(), source })
}

fn write_in_folder(path: &Path, contents: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".nnc-");
    open_to_all(&mut builder);
    let mut temporary = builder.tempfile_in(folder)?;
    {
        let mut buffered = BufWriter::new(temporary.as_file_mut());
        contents(&mut buffered)?;
        buffered.flush()?;
    }
    if let Ok(existing) = std::fs::metadata(path) {
        temporary.as_file().set_permissions(existing.permissions())?;
    }
    temporary.as_file().sync_all()?;
    temporary.persist(path).map_err(|error| error.error)?;
    // The rename itself is on disk only once the folder is.
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    Ok(())
}

/// Gives the file the permissions of an ordinary new file, where temporary files would be private.
#[cfg(unix)]
fn open_to_all(builder: &mut tempfile::Builder<'_, '_>) {
    use std::os::unix::fs::PermissionsExt;
    builder.permissions(std::fs::Permissions::from_mode(0o666));
}

#[cfg(not(unix))]
fn open_to_all(_: &mut tempfile::Builder<'_, '_>) {}
