//! The layout of source texts for those who have a file or a stream of one.

use std::io::Read;
use std::path::Path;

use super::{Error, decode};
use crate::frontend::files::read_text;
use crate::frontend::format::format;

/// A source text and its canonical layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Formatted {
    pub source: String,
    pub text: String,
}

impl Formatted {
    /// Whether the source has another layout.
    pub fn differs(&self) -> bool {
        self.source != self.text
    }
}

/// Lays out the text of the file at `path`, which stays as it is.
///
/// # Errors
/// If the file cannot be read, or is wrong.
pub fn format_file(path: impl AsRef<Path>) -> Result<Formatted, Error> {
    let path = path.as_ref();
    let file = std::fs::File::open(path).map_err(|error| Error::Read { path: path.to_path_buf(), error })?;
    format_stream(&path.display().to_string(), file)
}

/// Lays out the text that `input` yields; `name` stands for it in diagnostics.
///
/// # Errors
/// As [`format_file`].
pub fn format_stream(name: &str, input: impl Read) -> Result<Formatted, Error> {
    let bytes = read_text(input).map_err(|error| Error::Read { path: name.into(), error })?;
    let (source, sources, file) = decode(name, &bytes)?;
    match format(&source, file) {
        Ok(text) => Ok(Formatted { source, text }),
        Err(diagnostics) => Err(Error::source(diagnostics, sources)),
    }
}
