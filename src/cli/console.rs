//! What commands print: results on standard output, progress and mistakes on standard error, colours where wanted.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use super::Global;
use crate::diag::{Diagnostic, Sources};

/// Where a command's words go.
#[derive(Clone, Debug)]
pub struct Console {
    pub json: bool,
    pub quiet: bool,
    color: bool,
}

impl Console {
    /// A console as the global flags say.
    pub(super) fn new(global: &Global) -> Console {
        let color = global.color.wanted(io::stderr().is_terminal());
        Console { json: global.json, quiet: global.quiet, color }
    }

    /// A line of the result for people; nothing with `--json`.
    pub fn result(&self, text: &str) {
        if !self.json {
            self.raw(format!("{text}\n").as_bytes());
        }
    }

    /// A line of the result for programs; nothing without `--json`.
    pub fn object(&self, object: &impl Serialize) {
        if self.json {
            let line = serde_json::to_string(object).expect("results have no keys but text");
            self.raw(format!("{line}\n").as_bytes());
        }
    }

    /// Bytes on standard output. If nobody reads them any more (`nnc dump | head`), the process ends quietly.
    pub fn raw(&self, bytes: &[u8]) {
        let mut out = io::stdout().lock();
        if out.write_all(bytes).and_then(|()| out.flush()).is_err() {
            std::process::exit(0);
        }
    }

    /// A line of progress on standard error; nothing with `--quiet`.
    pub fn progress(&self, text: &str) {
        if !self.quiet {
            // Losing a line of progress is no reason to stop.
            let _ = writeln!(io::stderr(), "{text}");
        }
    }

    /// A warning that is about no place in a file.
    pub fn warn(&self, text: impl Into<String>) {
        self.report(&[Diagnostic::warning_without_place(text)], &Sources::default());
    }

    /// Diagnostics on standard error, and as objects with `--json`.
    pub fn report(&self, diagnostics: &[Diagnostic], sources: &Sources) {
        for diagnostic in diagnostics {
            let text = diagnostic.render(sources, self.color);
            let _ = writeln!(io::stderr(), "{}", text.trim_end());
            let mut object = diagnostic.to_json(sources);
            object["event"] = "diagnostic".into();
            self.object(&object);
        }
    }
}
