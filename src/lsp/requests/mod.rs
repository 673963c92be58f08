//! The questions that a client asks about a document, one file for each kind.
//!
//! A question is a function from a [`Context`] and the protocol's parameters to the protocol's result. The list in [`answer`] and the
//! capabilities that the server announces stand here beside each other.

mod actions;
mod completion;
mod definition;
mod diagnostics;
mod formatting;
mod hints;
mod hover;
mod outline;
mod rename;
mod signature;

use lsp_server::ErrorCode;
use lsp_types::{
    CompletionOptions, Location, OneOf, Position, RenameOptions, ServerCapabilities, SignatureHelpOptions,
    TextDocumentSyncCapability, TextDocumentSyncKind, Uri,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::analysis::Analysis;
use super::library::LibraryFiles;
use super::position::{Encoding, Lines};
use super::uri;
use crate::diag::{FileId, Span};

pub use diagnostics::diagnostics;

/// What a question is asked about.
pub struct Context<'a> {
    pub analysis: &'a Analysis,
    pub lines: &'a Lines,
    pub uri: &'a Uri,
    pub library: &'a LibraryFiles,
    pub encoding: Encoding,
}

impl Context<'_> {
    pub fn offset(&self, position: Position) -> u32 {
        self.lines.offset(&self.analysis.text, position)
    }

    pub fn range(&self, start: u32, end: u32) -> lsp_types::Range {
        self.lines.range(&self.analysis.text, start, end)
    }

    /// A place of the user's file or of the library; `None` if the library's files cannot be written.
    pub fn location(&self, span: Span) -> Option<Location> {
        if span.file == FileId(0) {
            return Some(Location { uri: self.uri.clone(), range: self.range(span.start, span.end) });
        }
        let source = self.analysis.project.sources.get(span.file);
        let path = match source.name.strip_prefix("<std>/") {
            Some(name) => self.library.path(name)?,
            None => std::path::absolute(&source.name).ok()?,
        };
        let range = Lines::new(&source.text, self.encoding).span(&source.text, span);
        Some(Location { uri: uri::of_path(&path)?, range })
    }
}

/// Why a question has no answer.
pub struct Refusal {
    pub code: ErrorCode,
    pub message: String,
}

impl Refusal {
    fn new(message: impl Into<String>) -> Refusal {
        Refusal { code: ErrorCode::RequestFailed, message: message.into() }
    }
}

type Answer<R> = Result<R, Refusal>;

/// What the server can do.
pub fn capabilities(encoding: Encoding) -> Value {
    let capabilities = ServerCapabilities {
        position_encoding: Some(encoding.kind()),
        text_document_sync: Some(TextDocumentSyncCapability::Kind(TextDocumentSyncKind::INCREMENTAL)),
        hover_provider: Some(true.into()),
        definition_provider: Some(OneOf::Left(true)),
        references_provider: Some(OneOf::Left(true)),
        document_highlight_provider: Some(OneOf::Left(true)),
        rename_provider: Some(OneOf::Right(RenameOptions {
            prepare_provider: Some(true),
            work_done_progress_options: Default::default(),
        })),
        completion_provider: Some(CompletionOptions {
            trigger_characters: Some(vec![".".to_owned()]),
            ..CompletionOptions::default()
        }),
        signature_help_provider: Some(SignatureHelpOptions {
            trigger_characters: Some(vec!["(".to_owned(), ",".to_owned()]),
            ..SignatureHelpOptions::default()
        }),
        document_symbol_provider: Some(OneOf::Left(true)),
        folding_range_provider: Some(true.into()),
        inlay_hint_provider: Some(OneOf::Left(true)),
        code_action_provider: Some(true.into()),
        document_formatting_provider: Some(OneOf::Left(true)),
        ..ServerCapabilities::default()
    };
    json!({
        "capabilities": capabilities,
        "serverInfo": { "name": "nnc", "version": env!("CARGO_PKG_VERSION") },
    })
}

/// Lists the methods that are answered.
macro_rules! methods {
    ($($method:literal => $function:path;)*) => {
        /// Whether a method is answered.
        pub fn is_known(method: &str) -> bool {
            matches!(method, $($method)|*)
        }

        /// Answers a question.
        pub fn answer(context: &Context<'_>, method: &str, params: Value) -> Answer<Value> {
            match method {
                $($method => call(context, params, $function),)*
                _ => Err(Refusal { code: ErrorCode::MethodNotFound, message: format!("`{method}` is not answered") }),
            }
        }
    };
}

methods! {
    "textDocument/hover" => hover::hover;
    "textDocument/definition" => definition::definition;
    "textDocument/references" => definition::references;
    "textDocument/documentHighlight" => definition::highlights;
    "textDocument/prepareRename" => rename::prepare;
    "textDocument/rename" => rename::rename;
    "textDocument/completion" => completion::completion;
    "textDocument/signatureHelp" => signature::help;
    "textDocument/documentSymbol" => outline::symbols;
    "textDocument/foldingRange" => outline::folds;
    "textDocument/inlayHint" => hints::hints;
    "textDocument/codeAction" => actions::actions;
    "textDocument/formatting" => formatting::formatting;
}

fn call<P: DeserializeOwned, R: Serialize>(
    context: &Context<'_>,
    params: Value,
    function: impl FnOnce(&Context<'_>, P) -> Answer<R>,
) -> Answer<Value> {
    let wrong = |code, error: serde_json::Error| Refusal { code, message: error.to_string() };
    let params = serde_json::from_value(params).map_err(|error| wrong(ErrorCode::InvalidParams, error))?;
    serde_json::to_value(function(context, params)?).map_err(|error| wrong(ErrorCode::InternalError, error))
}
