//! One open document: its text as the client sees it, and what is known about it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lsp_server::{Request, RequestId};
use lsp_types::{TextDocumentContentChangeEvent, Uri};

use super::analysis::Analysis;
use super::position::{Encoding, Lines};

/// A document that the client has open.
pub struct Document {
    pub uri: Uri,
    pub version: i32,
    pub text: Arc<str>,
    pub lines: Lines,
    /// Counts the texts of the server's documents.
    pub generation: u64,
    /// The last text that has been read, and which one it is.
    pub analysis: Option<(u64, Arc<Analysis>)>,
    /// Requests that wait for the text to be read.
    pub waiting: Vec<Request>,
    /// Ends the reading of the text.
    pub stop: Arc<AtomicBool>,
}

impl Document {
    pub fn new(uri: Uri, version: i32, text: &str, encoding: Encoding) -> Document {
        Document {
            uri,
            version,
            text: text.into(),
            lines: Lines::new(text, encoding),
            generation: 0,
            analysis: None,
            waiting: Vec::new(),
            stop: Arc::default(),
        }
    }

    /// Changes the text: stretches of it, each in the text as the one before left it, or the whole.
    pub fn change(&mut self, changes: Vec<TextDocumentContentChangeEvent>, encoding: Encoding) {
        for change in changes {
            let text = match change.range {
                None => change.text,
                Some(range) => {
                    let start = self.lines.offset(&self.text, range.start) as usize;
                    let end = (self.lines.offset(&self.text, range.end) as usize).max(start);
                    format!("{}{}{}", &self.text[..start], change.text, &self.text[end..])
                }
            };
            self.text = text.into();
            self.lines = Lines::new(&self.text, encoding);
        }
    }

    /// What is known about the text as it is now.
    pub fn current(&self) -> Option<&Arc<Analysis>> {
        self.analysis.as_ref().filter(|(generation, _)| *generation == self.generation).map(|(_, analysis)| analysis)
    }

    /// Ends what is being done for the text, which is no longer the document's; the requests that waited for it.
    pub fn abandon(&mut self) -> Vec<RequestId> {
        self.stop.store(true, Ordering::Relaxed);
        self.stop = Arc::default();
        self.waiting.drain(..).map(|request| request.id).collect()
    }
}
