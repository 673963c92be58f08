//! The scan before the grammar: comments, line ends, brackets, and how deep things nest.
//!
//! [`scan`] reads the text once, without recursion, and makes a copy of equal length in which comments are blanks and a
//! newline stands only where it ends a statement. On the way it cuts the text into statements (also nested ones), which is
//! what error recovery blanks out, collects doc comments, checks that brackets match and bounds the nesting, so
//! that nothing after it can be made to recurse deeply.

use std::ops::Range;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::lexeme::{Lexeme, Lexer};
use super::recovery::{self, Problem};
use crate::diag::{Diagnostic, FileId, Severity};

/// Brackets, lambdas and conditions inside one another: more than anybody writes, and few enough for any stack.
pub const MAX_NESTING: usize = 64;

/// What the scan finds in a text.
#[derive(Debug)]
pub struct Layout {
    /// The text with blanks for comments and for newlines that end nothing; the same length as the source.
    pub text: String,
    /// The statements of all blocks, inner ones before the one that holds them; each ends before its terminator.
    pub statements: Vec<Range<usize>>,
    /// The top-level statements in order.
    pub items: Vec<Range<usize>>,
    /// Doc comments by the place of the statement that they stand before.
    pub docs: FxHashMap<usize, Arc<str>>,
    pub warnings: Vec<Diagnostic>,
}

/// One thing that is still open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Open {
    /// A bracket.
    Bracket(u8),
    /// `|` whose parameters are being read.
    Parameters,
    /// The body of a lambda that is no block.
    Lambda,
    /// An `if` before its `{`.
    Condition,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub open: Open,
    pub at: usize,
    /// For `{`: the start of the statement being read in it.
    pub statement: Option<usize>,
}

/// The state of one scan.
pub(super) struct Scanner<'a> {
    pub source: &'a str,
    pub file: FileId,
    text: Vec<u8>,
    statements: Vec<Range<usize>>,
    items: Vec<Range<usize>>,
    docs: FxHashMap<usize, Arc<str>>,
    pending_doc: Vec<&'a str>,
    warnings: Vec<Diagnostic>,
    pub stack: Vec<Frame>,
    /// The start of the top-level statement being read.
    pub item: Option<usize>,
    /// The first newline since the last lexeme.
    newline: Option<usize>,
    last: Lexeme<'a>,
    /// The first `}` whose indentation is not that of the line with its `{`: (opener, closer).
    pub suspect: Option<(usize, usize)>,
}

/// Scans `source`, or says what is wrong with its brackets and which bytes to leave out when going on.
pub fn scan(source: &str, file: FileId) -> Result<Layout, Problem> {
    let scanner = Scanner {
        source,
        file,
        text: source.as_bytes().to_vec(),
        statements: Vec::new(),
        items: Vec::new(),
        docs: FxHashMap::default(),
        pending_doc: Vec::new(),
        warnings: Vec::new(),
        stack: Vec::new(),
        item: None,
        newline: None,
        last: Lexeme::End,
        suspect: None,
    };
    scanner.run()
}

impl<'a> Scanner<'a> {
    fn run(mut self) -> Result<Layout, Problem> {
        let mut lexer = Lexer::new(self.source);
        loop {
            let inside = self.stack.iter().rev().find_map(|frame| match frame.open {
                Open::Bracket(bracket) => Some(bracket),
                _ => None,
            });
            let (lexeme, range) = lexer.next(self.last, matches!(inside, Some(b'(' | b'[')));
            match lexeme {
                Lexeme::Blank => self.blank(range),
                Lexeme::Newline => {
                    self.blank(range.clone());
                    self.newline.get_or_insert(range.start);
                }
                Lexeme::Comment => self.comment(range),
                Lexeme::End => break,
                Lexeme::OpenText => return Err(recovery::open_text(&self, range)),
                _ => {
                    self.end_line_before(lexeme);
                    self.lexeme(lexeme, range)?;
                    self.last = lexeme;
                }
            }
        }
        if let Some(frame) = self.stack.iter().rev().find(|frame| matches!(frame.open, Open::Bracket(_))) {
            return Err(recovery::never_closed(&self, *frame, self.source.len()));
        }
        self.end_statement(self.source.len());
        Ok(Layout {
            text: String::from_utf8(self.text).expect("only whole characters are replaced by blanks"),
            statements: self.statements,
            items: self.items,
            docs: self.docs,
            warnings: self.warnings,
        })
    }

    fn blank(&mut self, range: Range<usize>) {
        self.text[range].fill(b' ');
    }

    fn comment(&mut self, range: Range<usize>) {
        let text = &self.source[range.clone()];
        let own_line = self.newline.is_some() || self.last == Lexeme::End || self.open_statement().is_none();
        if own_line && text.starts_with("///") && !text.starts_with("////") {
            let line = text[3..].trim_end();
            self.pending_doc.push(line.strip_prefix(' ').unwrap_or(line));
        }
        self.warn_of_division(&range);
        self.blank(range);
    }

    /// `half = n // 2`: a comment by the rules, but probably meant as a division.
    fn warn_of_division(&mut self, range: &Range<usize>) {
        let number = self.source[range.clone()].trim_start_matches('/').trim();
        let line = self.source[recovery::line_start(self.source, range.start)..range.start].trim_start();
        let binds = line.contains(" = ") && !line.contains("|>");
        let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        if binds && is_number && number.len() < 20 && self.newline.is_none() && self.last.ends_operand() {
            let mut warning = self.error(range.clone(), "this `//` begins a comment, so nothing is divided");
            warning.severity = Severity::Warning;
            self.warnings.push(warning.help(format!("a floor division is written without blanks: `n//{number}`")));
        }
    }

    /// Decides whether the newline before `lexeme` ends a statement, and marks it if so.
    fn end_line_before(&mut self, lexeme: Lexeme) {
        let Some(newline) = self.newline.take() else { return };
        let inside_brackets = self
            .stack
            .iter()
            .rev()
            .find_map(|frame| match frame.open {
                Open::Bracket(bracket) => Some(bracket != b'{'),
                _ => None,
            })
            .unwrap_or(false);
        if inside_brackets
            || self.open_statement().is_none()
            || self.last.continues_after()
            || lexeme.continues_before()
        {
            return;
        }
        self.text[newline] = b'\n';
        self.end_statement(newline);
    }

    fn lexeme(&mut self, lexeme: Lexeme, range: Range<usize>) -> Result<(), Problem> {
        if lexeme == Lexeme::Symbol(";") {
            self.end_statement(range.start);
            return Ok(());
        }
        match lexeme {
            Lexeme::Close(_) => self.pending_doc.clear(),
            _ => self.begin_statement(range.start),
        }
        match lexeme {
            Lexeme::Open(bracket) => self.open(bracket, range.start)?,
            Lexeme::Close(bracket) => self.close(bracket, range.start)?,
            Lexeme::Symbol("|") => self.bar(range.start)?,
            Lexeme::Symbol(",") => self.unwind(|open| matches!(open, Open::Lambda | Open::Condition)),
            Lexeme::Word("if") => self.push(Open::Condition, range.start)?,
            _ => {}
        }
        Ok(())
    }

    fn open(&mut self, bracket: u8, at: usize) -> Result<(), Problem> {
        if bracket == b'{' {
            if self.last == Lexeme::Symbol("|") {
                // The body of a lambda is a block, which says by itself where it ends.
                self.stack.pop_if(|frame| frame.open == Open::Lambda);
            } else {
                self.end_condition();
            }
        }
        self.push(Open::Bracket(bracket), at)
    }

    /// The `{` of an `if` ends its condition.
    fn end_condition(&mut self) {
        let inner = self.stack.iter().rev().take_while(|frame| !matches!(frame.open, Open::Bracket(_)));
        let back = inner.enumerate().find(|(_, frame)| frame.open == Open::Condition).map(|(back, _)| back);
        if let Some(back) = back {
            self.stack.truncate(self.stack.len() - back - 1);
        }
    }

    fn close(&mut self, bracket: u8, at: usize) -> Result<(), Problem> {
        self.unwind(|open| !matches!(open, Open::Bracket(_)));
        let Some(frame) = self.stack.last().copied() else { return Err(recovery::closes_nothing(self, bracket, at)) };
        let expected = match frame.open {
            Open::Bracket(b'(') => b')',
            Open::Bracket(b'[') => b']',
            _ => b'}',
        };
        if expected != bracket {
            return Err(match bracket {
                b'}' => recovery::never_closed(self, frame, at),
                _ if expected == b'}' => recovery::closes_nothing(self, bracket, at),
                _ => recovery::wrong_closer(self, frame, bracket, at),
            });
        }
        if bracket == b'}' {
            self.end_statement(at);
            if self.suspect.is_none() && recovery::indentation_differs(self.source, frame.at, at) {
                self.suspect = Some((frame.at, at));
            }
        }
        self.stack.pop();
        Ok(())
    }

    /// `|`: the end of a lambda's parameters after an operand or right after the opening bar, else the start of a lambda.
    fn bar(&mut self, at: usize) -> Result<(), Problem> {
        let own = self.stack.last().is_some_and(|f| f.open == Open::Parameters);
        if own && (self.last.ends_operand() || self.last == Lexeme::Symbol("|")) {
            self.stack.pop();
            return self.push(Open::Lambda, at);
        }
        // The default value of a parameter may have left something open in between.
        let outer = self.stack.iter().rev().take_while(|f| !matches!(f.open, Open::Bracket(_))).count();
        let begin = self.stack.len() - outer;
        let parameters = self.stack[begin..].iter().rposition(|f| f.open == Open::Parameters);
        match parameters {
            Some(index) if self.last.ends_operand() => {
                self.stack.truncate(begin + index);
                self.push(Open::Lambda, at)
            }
            _ => self.push(Open::Parameters, at),
        }
    }

    fn push(&mut self, open: Open, at: usize) -> Result<(), Problem> {
        if self.stack.len() >= MAX_NESTING {
            return Err(recovery::too_deep(self, at));
        }
        self.stack.push(Frame { open, at, statement: None });
        Ok(())
    }

    fn unwind(&mut self, inner: impl Fn(Open) -> bool) {
        while self.stack.last().is_some_and(|frame| inner(frame.open)) {
            self.stack.pop();
        }
    }

    /// The start of the statement being read in the innermost block.
    pub(super) fn open_statement(&self) -> Option<usize> {
        let block = self.stack.iter().rev().find(|frame| frame.open == Open::Bracket(b'{'));
        block.map_or(self.item, |frame| frame.statement)
    }

    fn begin_statement(&mut self, at: usize) {
        if self.open_statement().is_none() {
            let block = self.stack.iter_mut().rev().find(|frame| frame.open == Open::Bracket(b'{'));
            match block {
                Some(frame) => frame.statement = Some(at),
                None => self.item = Some(at),
            }
            if !self.pending_doc.is_empty() {
                self.docs.insert(at, self.pending_doc.join("\n").into());
            }
        }
        self.pending_doc.clear();
    }

    /// Ends the statement being read in the innermost block; lambdas and conditions end with it.
    fn end_statement(&mut self, at: usize) {
        self.unwind(|open| !matches!(open, Open::Bracket(_)));
        let block = self.stack.iter_mut().rev().find(|frame| frame.open == Open::Bracket(b'{'));
        let start = match block {
            Some(frame) => frame.statement.take(),
            None => {
                let start = self.item.take();
                self.items.extend(start.map(|start| start..at));
                start
            }
        };
        self.statements.extend(start.map(|start| start..at));
    }

    /// An error at `range` of this file.
    pub(super) fn error(&self, range: Range<usize>, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(super::span(self.file, range), message)
    }
}
