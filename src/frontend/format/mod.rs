//! The canonical layout of a source text.
//!
//! [`format`] keeps the words, the comments and the line breaks of the writer, at most one blank line in a row, and sets everything
//! else: it cuts the text into [`tokens`], asks the grammar which of them have blanks around them ([`spacing`]), puts the words and `=` of
//! consecutive statements into [`columns`], and indents the [`lines`]. None of this looks at the blanks of the source (but for comments that go
//! on below one another), so the result of a result is itself. What it makes is read again and compared before anybody gets it.

mod columns;
mod lines;
mod spacing;
mod tokens;

use crate::diag::{Diagnostic, FileId, Severity, Span};
use crate::frontend::parse::{layout, parse};
use crate::frontend::print::print;
use lines::Line;
use tokens::Token;

/// The blanks before a comment behind code.
const BEFORE_COMMENT: usize = 2;

/// The widest line that takes part in a column of comments.
const WIDEST: usize = 100;

/// The text in its canonical layout.
///
/// # Errors
/// The mistakes in the text, if it does not parse.
pub fn format(source: &str, file: FileId) -> Result<String, Vec<Diagnostic>> {
    let (tree, mut diagnostics) = parse(source, file);
    diagnostics.retain(|diagnostic| diagnostic.severity == Severity::Error);
    let layout = match layout::scan(source, file) {
        Ok(layout) if diagnostics.is_empty() => layout,
        Ok(_) => return Err(diagnostics),
        Err(problem) => return Err(if diagnostics.is_empty() { vec![problem.diagnostic] } else { diagnostics }),
    };
    let tokens = tokens::tokens(source, &layout);
    let spacing = spacing::spacing(&layout);
    let padding = columns::padding(&tokens, &spacing);
    let text = join(&lines::lines(&tokens, &spacing, &padding));
    let (again, _) = parse(&text, file);
    if print(&again) == print(&tree) && comments(&text, file) == Some(texts_of_comments(&tokens)) {
        Ok(text)
    } else {
        let message =
            "the layout of this file would change what it means; this is a bug in nnc, and the file is left as it is";
        Err(vec![Diagnostic::error(Span { file, start: 0, end: 0 }, message)])
    }
}

fn comments(text: &str, file: FileId) -> Option<Vec<&str>> {
    layout::scan(text, file).ok().map(|layout| texts_of_comments(&tokens::tokens(text, &layout)))
}

fn texts_of_comments<'a>(tokens: &[Token<'a>]) -> Vec<&'a str> {
    tokens.iter().filter(|token| token.is_comment()).map(|token| token.text).collect()
}

/// The lines as a text, with comments behind consecutive lines in one column.
fn join(lines: &[Line<'_>]) -> String {
    let mut text = String::new();
    let mut column = 0;
    for (index, line) in lines.iter().enumerate() {
        if line.after_blank {
            text.push('\n');
        }
        let begins_run = index == 0 || !goes_on_from(&lines[index - 1], line);
        if width_before_comment(line).is_some() && begins_run {
            column = comment_column(&lines[index..]);
        }
        let mut width = 0;
        if !line.code.is_empty() {
            blanks(&mut text, line.indentation);
            text.push_str(&line.code);
            width = line.indentation + line.code.chars().count();
        }
        if let Some(comment) = line.comment {
            let place = if line.code.is_empty() && !line.goes_on { line.indentation } else { column };
            blanks(&mut text, place - width);
            text.push_str(comment);
            column = place;
        }
        text.push('\n');
    }
    text
}

fn blanks(text: &mut String, count: usize) {
    text.extend(std::iter::repeat_n(' ', count));
}

/// The columns of a line that has a comment behind it.
fn width_before_comment(line: &Line<'_>) -> Option<usize> {
    let has_both = !line.code.is_empty() && line.comment.is_some();
    has_both.then(|| line.indentation + line.code.chars().count())
}

/// Whether the comments behind both lines stand in one column.
fn goes_on_from(before: &Line<'_>, line: &Line<'_>) -> bool {
    let fits = |line: &Line<'_>| width_before_comment(line).is_some_and(|width| width <= WIDEST);
    fits(before) && fits(line) && !line.after_blank
}

/// The column of the comments behind the first lines.
fn comment_column(lines: &[Line<'_>]) -> usize {
    let run = lines.chunk_by(goes_on_from).next().unwrap_or(&[]);
    run.iter().filter_map(width_before_comment).max().unwrap_or(0) + BEFORE_COMMENT
}
