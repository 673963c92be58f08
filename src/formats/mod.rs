//! Files of numbers: reading and writing them, no logic of training.
//!
//! Every reader yields an [`Array`] (or a table, or a mapped file of named tensors) and never trusts a header: sizes are
//! checked against the file's length before anything is allocated, and each mistake names the file, what was expected and
//! what was found. The modules: [`array`] (the common currency), [`rows`] (rows read where they lie), [`input`] (opening,
//! gzip, bounded reads), [`files`] (globs), [`idx`], [`npy`], [`npz`], [`csv`], [`text`], [`safetensors`], [`images`],
//! [`parquet`], [`hdf5`], [`atomic`] (files that appear whole or not at all).

pub mod array;
pub mod atomic;
pub mod csv;
pub mod files;
pub mod hdf5;
pub mod idx;
pub mod images;
pub mod input;
mod map;
pub mod npy;
pub mod npz;
pub mod parquet;
pub mod rows;
pub mod safetensors;
pub mod tensorboard;
pub mod text;

use std::io;
use std::path::{Path, PathBuf};

pub use array::Array;

/// The largest array that a reader will hold in memory, in bytes.
pub const LARGEST_ARRAY: u64 = 16 << 30;

/// Why a file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// The file could not be opened: missing, a folder, or not ours to read.
    #[error("cannot open `{}`: {}", path.display(), reason(source))]
    Open { path: PathBuf, source: io::Error },
    /// Reading stopped in the middle.
    #[error("cannot read `{}`: {}", path.display(), reason(source))]
    Read { path: PathBuf, source: io::Error },
    /// Writing failed.
    #[error("cannot write `{}`: {}", path.display(), reason(source))]
    Write { path: PathBuf, source: io::Error },
    /// The bytes are not what the format says.
    #[error("`{}`: {message}", path.display())]
    Content { path: PathBuf, message: String },
}

impl FormatError {
    /// The bytes of `path` are wrong: `message` says how.
    pub fn content(path: &Path, message: impl Into<String>) -> FormatError {
        FormatError::Content { path: path.to_owned(), message: message.into() }
    }

    /// Whether the file does not exist.
    pub fn is_missing(&self) -> bool {
        matches!(self, FormatError::Open { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// The system's reason without its error number, in the words of a sentence.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file".into(),
        io::ErrorKind::PermissionDenied => "permission denied".into(),
        io::ErrorKind::IsADirectory => "it is a folder".into(),
        _ => error.to_string(),
    }
}

/// The number of elements of a shape and the bytes they take; `None` if they are more than [`LARGEST_ARRAY`].
pub(crate) fn checked_size(shape: &[usize], element_bytes: usize) -> Option<(usize, usize)> {
    let elements = shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size))?;
    let bytes = elements.checked_mul(element_bytes)?;
    (bytes as u64 <= LARGEST_ARRAY).then_some((elements, bytes))
}

/// A shape as error messages write it: `[60000, 28, 28]`.
pub(crate) fn shape_text(shape: &[usize]) -> String {
    format!("[{}]", shape.iter().map(usize::to_string).collect::<Vec<_>>().join(", "))
}
