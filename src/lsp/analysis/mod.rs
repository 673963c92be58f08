//! What is known about one text, independent of any protocol: diagnostics, names with their definitions, and what places come to.
//!
//! [`Analysis::new`] reads a text; [`names`] holds what the walk in [`walk`] finds, [`describe`] and [`words`] put things in words,
//! [`context`] says what a place that is being written asks for. Places are bytes of the text.

pub mod complete;
pub mod context;
pub mod describe;
pub mod names;
mod stale;
mod walk;
mod walk_expression;
mod walk_recipe;
pub mod words;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::diag::Diagnostic;
use crate::frontend::Project;
use crate::frontend::facts::{Facts, Observation, observe};

use names::Names;

/// One text and everything that is known about it.
#[derive(Debug)]
pub struct Analysis {
    pub text: Arc<str>,
    pub project: Project,
    /// Every mistake, in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
    pub names: Names,
    pub facts: Facts,
}

impl Analysis {
    /// Reads `text`, called `name` in messages. Ends early, with less known, once `stop` is set.
    pub fn new(name: &str, text: Arc<str>, stop: &Arc<AtomicBool>) -> Analysis {
        let (project, mut diagnostics) = Project::parse(name, &text);
        let names = walk::walk(&project, text.len());
        let Observation { diagnostics: found, facts } = observe(&project, stop);
        diagnostics.extend(found);
        diagnostics.sort_by_key(|d| d.span().map(|s| (s.file, s.start)));
        Analysis { text, project, diagnostics, names, facts }
    }

    /// The part of the text between two places.
    pub fn slice(&self, start: u32, end: u32) -> &str {
        self.text.get(start as usize..end as usize).unwrap_or_default()
    }

    /// The identifier that holds or touches the place `at`.
    pub fn word_at(&self, at: u32) -> Option<(u32, u32)> {
        let bytes = self.text.as_bytes();
        let at = (at as usize).min(bytes.len());
        let is_part = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
        let start = at - bytes[..at].iter().rev().take_while(|b| is_part(b)).count();
        let end = at + bytes[at..].iter().take_while(|b| is_part(b)).count();
        (start < end).then_some((start as u32, end as u32))
    }
}

#[cfg(test)]
mod tests;
