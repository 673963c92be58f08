//! What can go wrong between a source text and a running session, as values.

use std::path::PathBuf;

use crate::codegen::CodegenError;
use crate::diag::{Diagnostic, Sources};

/// Mistakes in the user's file, with the texts they point into.
#[derive(Debug)]
pub struct SourceErrors {
    pub diagnostics: Vec<Diagnostic>,
    pub sources: Sources,
}

impl std::fmt::Display for SourceErrors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, diagnostic) in self.diagnostics.iter().enumerate() {
            let text = diagnostic.render(&self.sources, false);
            write!(f, "{}{}", if i > 0 { "\n\n" } else { "" }, text.trim_end())?;
        }
        Ok(())
    }
}

/// Why a model could not be compiled or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The `.nn` file is wrong.
    #[error("{0}")]
    Source(Box<SourceErrors>),
    /// The `.nn` file cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Read { path: PathBuf, error: std::io::Error },
    /// The model has no such entry point (`train_step` needs a loss and a `train` block).
    #[error("the model has no entry point `{entry}`: {reason}")]
    NoEntry { entry: &'static str, reason: &'static str },
    /// A size the model leaves open has no value.
    #[error("the size `{0}` is not known: no input fixes it")]
    UnknownSize(String),
    /// The model does not fit: a size overflows, or a shape fails to check at concrete sizes.
    #[error("{0}")]
    Sizes(String),
    /// A gradient was asked for where there is none, or an op cannot be compiled.
    #[error("{0}")]
    Unsupported(String),
    /// Data handed to a call does not fit the declared input or target.
    #[error("`{field}`: {reason}")]
    Field { field: String, reason: String },
    /// Weights do not fit the model.
    #[error("{0}")]
    Weights(String),
    /// The code generator refused.
    #[error(transparent)]
    Codegen(#[from] CodegenError),
    /// A pass was asked for that does not exist.
    #[error("there is no pass `{pass}`; the passes are {passes}")]
    NoPass { pass: String, passes: String },
    /// An observer ended the pipeline after this stage.
    #[error("stopped after `{0}`")]
    Stopped(String),
}

impl Error {
    /// Mistakes of the user's file as an error.
    pub(crate) fn source(diagnostics: Vec<Diagnostic>, sources: Sources) -> Error {
        Error::Source(Box::new(SourceErrors { diagnostics, sources }))
    }
}
