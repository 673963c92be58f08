//! What the scan says about brackets and strings that do not match, and how much of the text to leave out so that the
//! rest can be read all the same. Indentation is the guide: it shows what the writer meant.

use std::ops::Range;

use nn_grammar::words::ITEMS;

use super::layout::{Frame, MAX_NESTING, Open, Scanner};
use crate::diag::Diagnostic;

/// A mistake that the scan cannot go past, and the bytes to replace by blanks before scanning again.
#[derive(Debug)]
pub struct Problem {
    pub diagnostic: Diagnostic,
    pub blank: Range<usize>,
}

/// A bracket that is open where the block around it ends (`at`), or at the end of the file.
pub(super) fn never_closed(scanner: &Scanner<'_>, frame: Frame, at: usize) -> Problem {
    if frame.open == Open::Bracket(b'{') {
        return block_never_closed(scanner, frame);
    }
    let sign = char_at(scanner.source, frame.at);
    let mut diagnostic = scanner.error(frame.at..frame.at + 1, format!("this `{sign}` is never closed"));
    if at < scanner.source.len() {
        let place = super::span(scanner.file, at..at + 1);
        diagnostic = diagnostic.label(place, "the block around it ends here");
    }
    let blank = rest_of_statement(scanner, frame.at, at);
    Problem { diagnostic, blank }
}

fn block_never_closed(scanner: &Scanner<'_>, frame: Frame) -> Problem {
    if let Some((open, close)) = scanner.suspect.filter(|(open, _)| *open > frame.at) {
        let diagnostic = scanner.error(open..open + 1, "this `{` is never closed").label(
            super::span(scanner.file, close..close + 1),
            "judging by its indentation, this closes an outer block",
        );
        let blank = line_start(scanner.source, open)..line_start(scanner.source, close);
        return Problem { diagnostic, blank };
    }
    let diagnostic = scanner.error(frame.at..frame.at + 1, "this `{` is never closed");
    Problem { diagnostic, blank: item_start(scanner, frame.at)..next_item(scanner.source, frame.at) }
}

/// A closing bracket with nothing to close.
pub(super) fn closes_nothing(scanner: &Scanner<'_>, bracket: u8, at: usize) -> Problem {
    let diagnostic = scanner.error(at..at + 1, format!("this `{}` closes nothing", char::from(bracket)));
    let blank = if bracket == b'}' {
        at..at + 1
    } else {
        let start = scanner.open_statement().unwrap_or(at);
        start..line_end(scanner.source, at)
    };
    Problem { diagnostic, blank }
}

/// `(` closed by `]`.
pub(super) fn wrong_closer(scanner: &Scanner<'_>, frame: Frame, bracket: u8, at: usize) -> Problem {
    let open = char_at(scanner.source, frame.at);
    let expected = if open == '(' { ')' } else { ']' };
    let diagnostic = scanner
        .error(at..at + 1, format!("expected `{expected}`, found `{}`", char::from(bracket)))
        .label(super::span(scanner.file, frame.at..frame.at + 1), format!("to close this `{open}`"));
    Problem { diagnostic, blank: rest_of_statement(scanner, at, scanner.source.len()) }
}

/// More levels of nesting than [`MAX_NESTING`].
pub(super) fn too_deep(scanner: &Scanner<'_>, at: usize) -> Problem {
    let end = at + char_at(scanner.source, at).len_utf8();
    let diagnostic = scanner
        .error(at..end, format!("this is nested more than {MAX_NESTING} levels deep"))
        .help("give an inner part a name of its own and use that");
    Problem { diagnostic, blank: item_start(scanner, at)..next_item(scanner.source, at) }
}

/// A string whose closing quote is missing.
pub(super) fn open_text(scanner: &Scanner<'_>, range: Range<usize>) -> Problem {
    let diagnostic = scanner
        .error(range.clone(), "this string is not closed on its line")
        .help("close it with `\"`; a line end inside a string is written `\\n`");
    Problem { diagnostic, blank: rest_of_statement(scanner, range.start, scanner.source.len()) }
}

/// From the start of the statement that holds `place` to the first later line that is indented no deeper than the statement
/// and does not merely close brackets, but not past `limit`.
fn rest_of_statement(scanner: &Scanner<'_>, place: usize, limit: usize) -> Range<usize> {
    let source = scanner.source;
    let start = scanner.open_statement().unwrap_or(place).min(place);
    let depth = indentation(source, start);
    let mut at = line_end(source, place);
    while at < limit {
        let line = at + 1;
        at = line_end(source, line);
        let text = &source[line.min(source.len())..at];
        let content = text.trim_start_matches([' ', '\t']);
        let blank = content.trim().is_empty() || content.starts_with(")") || content.starts_with("]");
        if !blank && text.len() - content.len() <= depth {
            return start..line.min(limit);
        }
    }
    start..limit
}

/// The start of the item being read.
fn item_start(scanner: &Scanner<'_>, place: usize) -> usize {
    scanner.item.unwrap_or(place).min(place)
}

/// The start of the first line after `from` that begins with the keyword of an item, or the end of the text.
fn next_item(source: &str, from: usize) -> usize {
    let mut at = line_end(source, from);
    while at < source.len() {
        let line = at + 1;
        let word = source[line..].split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or("");
        if ITEMS.contains(&word) {
            return line;
        }
        at = line_end(source, line);
    }
    source.len()
}

/// Whether the `}` at `close` begins its line and stands further left than the line with its `{` at `open`.
pub(super) fn indentation_differs(source: &str, open: usize, close: usize) -> bool {
    let before = source[..close].trim_end_matches([' ', '\t']);
    let begins_line = before.is_empty() || before.ends_with('\n');
    begins_line && close - before.len() < indentation(source, open)
}

/// The number of blanks at the start of the line with byte `place`.
fn indentation(source: &str, place: usize) -> usize {
    let line = &source[line_start(source, place)..];
    line.len() - line.trim_start_matches([' ', '\t']).len()
}

/// The place of the first byte of the line that holds `place`.
pub(super) fn line_start(source: &str, place: usize) -> usize {
    source[..place].rfind('\n').map_or(0, |newline| newline + 1)
}

/// The place of the newline at or after `place`, or the end of the text.
fn line_end(source: &str, place: usize) -> usize {
    source.get(place..).and_then(|rest| rest.find('\n')).map_or(source.len(), |length| place + length)
}

fn char_at(source: &str, place: usize) -> char {
    source[place..].chars().next().unwrap_or(' ')
}
