//! From source text to the syntax tree.
//!
//! [`parse`] goes in three steps. [`layout`] scans the text once: comments, line ends, brackets, nesting. The grammar (`grammar/nn.pest`)
//! then reads each top-level item alone, and the builders ([`items`], [`statements`], [`recipes`], [`expressions`]) make the tree
//! from its pairs. A mistake is put in the user's words by [`report`]; the statement that holds it is blanked out and the item
//! read again, so that one run reports all mistakes that do not depend on each other.

mod advice;
mod expressions;
mod items;
pub mod layout;
pub mod lexeme;
mod outline;
mod recipes;
mod recovery;
mod report;
mod statements;
mod words;

use std::ops::Range;
use std::sync::Arc;

use rustc_hash::FxHashMap;

pub use nn_grammar::words::{ENTRIES, ITEMS, KEYWORDS, STATEMENTS};
use nn_grammar::{Grammar, Rule};
pub(crate) use outline::Outline;
use pest::Parser;
use pest::iterators::Pair;

use super::ast;
use crate::diag::{Diagnostic, FileId, Span};

/// The largest source text, in bytes. A model is equations; what is longer is data or a mistake.
pub const MAX_SOURCE: usize = 512 * 1024;

/// How many mistakes one call of [`parse`] reports.
const MAX_ERRORS: usize = 20;

/// Expressions and blocks inside one another, chains of operators and pipes included. It bounds the recursion of everything that
/// walks the tree.
pub const MAX_DEPTH: usize = 256;

/// Reads the bytes of a source file as UTF-8.
///
/// # Errors
/// Names the first byte that does not belong. Its place is one in the text that [`String::from_utf8_lossy`] makes of the bytes.
pub fn decode(bytes: &[u8], file: FileId) -> Result<String, Diagnostic> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|error| {
        let place = error.valid_up_to();
        let message = format!("the file is not UTF-8 text: byte 0x{:02X}", bytes[place]);
        let wrong = span(file, place..place + char::REPLACEMENT_CHARACTER.len_utf8());
        Diagnostic::error(wrong, message).help("save the file as UTF-8")
    })
}

/// Parses one source text.
///
/// The tree holds what could be read. If one of the diagnostics is an error, statements are missing from it.
pub fn parse(source: &str, file: FileId) -> (ast::File, Vec<Diagnostic>) {
    let mut diagnostics = Vec::new();
    if source.len() > MAX_SOURCE {
        let message =
            format!("the file is larger than {} KiB, which is the limit for a source text", MAX_SOURCE / 1024);
        diagnostics.push(Diagnostic::error(span(file, 0..0), message).help("numbers in bulk belong in data files"));
        return (ast::File { items: Vec::new() }, diagnostics);
    }
    let mut items = Vec::new();
    if let Some(mut layout) = scan_past_problems(source, file, &mut diagnostics) {
        for item in std::mem::take(&mut layout.items) {
            if diagnostics.len() >= MAX_ERRORS {
                break;
            }
            items.extend(parse_item(source, file, &mut layout, item, &mut diagnostics));
        }
        diagnostics.extend(layout.warnings);
    }
    diagnostics.sort_by_key(|d| d.span().map(|s| s.start));
    (ast::File { items }, diagnostics)
}

/// Scans, and after each problem scans again without the text that it spoils.
fn scan_past_problems(source: &str, file: FileId, diagnostics: &mut Vec<Diagnostic>) -> Option<layout::Layout> {
    let mut text = source.to_owned();
    while diagnostics.len() < MAX_ERRORS {
        match layout::scan(&text, file) {
            Ok(layout) => return Some(layout),
            Err(problem) => {
                diagnostics.push(problem.diagnostic);
                if !blank_out(&mut text, problem.blank) {
                    break;
                }
            }
        }
    }
    None
}

/// Parses the item at `range`; after each mistake once more without the statement that holds it.
fn parse_item(
    source: &str,
    file: FileId,
    layout: &mut layout::Layout,
    range: Range<usize>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<ast::Item> {
    while diagnostics.len() < MAX_ERRORS {
        let error = match read_item(file, layout, &range, diagnostics) {
            Ok(item) => return item,
            Err(error) => error,
        };
        let (place, diagnostic) = report::explain(source, file, layout, &range, &error);
        diagnostics.push(diagnostic);
        let inner = layout.statements.iter().find(|s| range.start <= s.start && s.start <= place && place <= s.end);
        let statement = inner.cloned().unwrap_or_else(|| range.clone());
        if statement == range || !blank_out(&mut layout.text, statement) {
            return None;
        }
    }
    None
}

/// The tree of the item at `range`, and what is wrong with it beyond the grammar.
fn read_item(
    file: FileId,
    layout: &layout::Layout,
    range: &Range<usize>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Result<Option<ast::Item>, pest::error::Error<Rule>> {
    let mut pairs = Grammar::parse(Rule::item, &layout.text[range.clone()])?;
    let context = Context { file, base: range.start, docs: &layout.docs };
    let mut builder = Builder { context, diagnostics: Vec::new(), depth: 0 };
    let item = pairs.next().map(|pair| builder.item(pair));
    diagnostics.append(&mut builder.diagnostics);
    Ok(item)
}

/// Replaces everything but line ends in `range` by blanks; says whether that changed anything.
fn blank_out(text: &mut String, range: Range<usize>) -> bool {
    let mut bytes = std::mem::take(text).into_bytes();
    let mut changed = false;
    for byte in &mut bytes[range] {
        changed |= !matches!(*byte, b' ' | b'\t' | b'\r' | b'\n');
        if *byte != b'\n' {
            *byte = b' ';
        }
    }
    *text = String::from_utf8_lossy(&bytes).into_owned();
    changed
}

/// The span of the bytes `range`.
fn span(file: FileId, range: Range<usize>) -> Span {
    let place = |at: usize| u32::try_from(at).expect("a source text is shorter than 4 GiB");
    Span { file, start: place(range.start), end: place(range.end) }
}

/// Where the item being built stands.
struct Context<'a> {
    file: FileId,
    /// The place of the item in the file; pest counts from there.
    base: usize,
    docs: &'a FxHashMap<usize, Arc<str>>,
}

/// Makes the tree of one item from pest's pairs.
struct Builder<'a> {
    context: Context<'a>,
    diagnostics: Vec<Diagnostic>,
    /// Levels of the tree above what is being built.
    depth: usize,
}

impl Builder<'_> {
    fn span(&self, pair: &Pair<'_, Rule>) -> Span {
        let place = pair.as_span();
        let text = pair.as_str();
        // Repetitions may take blanks before finding that nothing follows.
        let end = place.start() + text.trim_end_matches([' ', '\t', '\n', ';']).len();
        span(self.context.file, self.context.base + place.start()..self.context.base + end)
    }

    fn name(&self, pair: &Pair<'_, Rule>) -> ast::Name {
        ast::Name { text: pair.as_str().into(), span: self.span(pair) }
    }

    /// The doc comment before the statement or item that starts where `pair` does.
    fn doc(&self, pair: &Pair<'_, Rule>) -> ast::Doc {
        self.context.docs.get(&(self.context.base + pair.as_span().start())).cloned()
    }

    fn error(&mut self, place: Span, message: impl Into<String>) -> &mut Diagnostic {
        self.diagnostics.push(Diagnostic::error(place, message));
        self.diagnostics.last_mut().expect("one was pushed just now")
    }
}

/// The pairs inside `pair` without its keywords.
fn inner<'i>(pair: Pair<'i, Rule>) -> impl Iterator<Item = Pair<'i, Rule>> {
    pair.into_inner().filter(|pair| !words::is_mark(pair.as_rule()))
}
