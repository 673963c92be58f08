//! The text cut into tokens: what a layout keeps (the words, the comments, which of them begin a line or stand after a blank
//! one) and nothing of what it sets anew.
//!
//! Everything that follows depends on these tokens alone. So texts that differ in blanks only get the same layout, and a text that
//! has its layout keeps it.

use rustc_hash::FxHashSet;

use crate::frontend::parse::layout::Layout;
use crate::frontend::parse::lexeme::{Lexeme, Lexer};

/// One word, sign or comment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token<'a> {
    pub lexeme: Lexeme<'a>,
    pub text: &'a str,
    /// The place in the source.
    pub at: usize,
    /// Line ends since the token before; 2 stands for more.
    pub lines: usize,
    /// Whether it is the first of a statement.
    pub begins_statement: bool,
    /// A comment on a line of its own, right below another one behind code: it goes on with what that says.
    pub goes_on: bool,
}

impl Token<'_> {
    pub fn is_comment(&self) -> bool {
        self.lexeme == Lexeme::Comment
    }

    pub fn opens(&self) -> bool {
        matches!(self.lexeme, Lexeme::Open(_))
    }

    pub fn closes(&self) -> bool {
        matches!(self.lexeme, Lexeme::Close(_))
    }

    pub fn is(&self, symbol: &str) -> bool {
        self.lexeme == Lexeme::Symbol(symbol)
    }

    pub fn is_word(&self, word: &str) -> bool {
        self.lexeme == Lexeme::Word(word)
    }

    /// The number of columns it takes.
    pub fn width(&self) -> usize {
        self.text.chars().count()
    }
}

/// The tokens of a text that has been scanned, without those `;` that end nothing.
pub(super) fn tokens<'a>(source: &'a str, layout: &Layout) -> Vec<Token<'a>> {
    let starts: FxHashSet<usize> = layout.statements.iter().map(|statement| statement.start).collect();
    let mut lexer = Lexer::new(source);
    let (mut tokens, mut brackets): (Vec<Token<'a>>, Vec<u8>) = (Vec::new(), Vec::new());
    let (mut last, mut lines) = (Lexeme::End, 0);
    // The column of the comment in the line above, if it stands behind code or goes on with one that does.
    let mut above = None;
    loop {
        let (lexeme, range) = lexer.next(last, matches!(brackets.last(), Some(b'(' | b'[')));
        let at = range.start;
        match lexeme {
            Lexeme::End => break,
            Lexeme::Blank => continue,
            Lexeme::Newline => {
                lines = (lines + 1).min(2);
                continue;
            }
            Lexeme::Comment => {}
            Lexeme::Open(bracket) => brackets.push(bracket),
            Lexeme::Close(_) => drop(brackets.pop()),
            _ => {}
        }
        let text = source[range].trim_end();
        let mut goes_on = false;
        if lexeme == Lexeme::Comment {
            let column = column(source, at);
            goes_on = lines == 1 && above == Some(column);
            above = (goes_on || lines == 0 && !tokens.is_empty()).then_some(column);
        } else {
            last = lexeme;
            above = None;
        }
        tokens.push(Token { lexeme, text, at, lines, begins_statement: starts.contains(&at), goes_on });
        lines = 0;
    }
    without_idle_separators(tokens)
}

/// The column of byte `at`, from 0.
fn column(source: &str, at: usize) -> usize {
    let line = source[..at].rfind('\n').map_or(0, |newline| newline + 1);
    source[line..at].chars().count()
}

/// Leaves out each `;` beside a line end, a brace or another `;`.
fn without_idle_separators(tokens: Vec<Token<'_>>) -> Vec<Token<'_>> {
    // From the last token to the first, so that what follows a `;` is what stays there.
    let mut kept: Vec<Token<'_>> = Vec::with_capacity(tokens.len());
    let mut continues = false;
    for (index, token) in tokens.iter().enumerate().rev() {
        let before = index.checked_sub(1).map(|index| &tokens[index]);
        // Without a `;` before it a line that continues would go on with the statement before.
        if token.is(";") && !continues && is_idle(before, token, kept.last()) {
            if let Some(next) = kept.last_mut() {
                next.lines = next.lines.max(token.lines);
            }
            continue;
        }
        kept.push(*token);
        if !token.is_comment() {
            continues = token.lexeme.continues_before();
        }
    }
    kept.reverse();
    kept
}

fn is_idle(before: Option<&Token<'_>>, separator: &Token<'_>, after: Option<&Token<'_>>) -> bool {
    let begins = |token: &Token<'_>| token.is(";") || token.lexeme == Lexeme::Open(b'{');
    let ends = |token: &Token<'_>| token.is(";") || token.lines > 0 || token.lexeme == Lexeme::Close(b'}');
    separator.lines > 0 || before.is_none_or(begins) || after.is_none_or(ends)
}
