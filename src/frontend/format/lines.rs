//! Where lines begin: the writer's line breaks with the indentation of this language.

use super::spacing::Spacing;
use super::tokens::Token;
use crate::frontend::parse::lexeme::Lexeme;

/// The blanks of one level.
const LEVEL: usize = 4;

/// The rightmost column at which the lines of a bracket hang below what stands behind it. It also bounds how much longer a
/// text gets.
const RIGHTMOST: usize = 80;

/// One line of the result.
pub(super) struct Line<'a> {
    pub after_blank: bool,
    pub indentation: usize,
    /// Without indentation and comment.
    pub code: String,
    pub comment: Option<&'a str>,
    /// The comment goes on with the one in the line above.
    pub goes_on: bool,
}

/// A bracket that is open, or the whole text.
struct Frame {
    /// Whether it holds statements.
    is_block: bool,
    /// Where the line stands that it belongs to, and so the one that begins with its closing bracket.
    base: usize,
    /// Where the lines in it stand.
    inner: usize,
    /// Where the last line that began in it stands, or what comes first in it if that counts as one.
    line: usize,
    /// Whether the statement being read in it is a `use`, whose braces hold a list.
    is_use: bool,
    /// Whether a `,` has been read in it.
    has_comma: bool,
    /// Where the line stands with each `if` whose `{` is still to come.
    conditions: Vec<usize>,
    /// Where the last block in it stands, to which an `else` belongs.
    last_block: usize,
}

impl Frame {
    fn new(is_block: bool, base: usize, inner: usize) -> Frame {
        Frame {
            is_block,
            base,
            inner,
            line: base,
            is_use: false,
            has_comma: false,
            conditions: Vec::new(),
            last_block: base,
        }
    }
}

/// Cuts the tokens into lines.
pub(super) fn lines<'a>(tokens: &[Token<'a>], spacing: &Spacing, padding: &[usize]) -> Vec<Line<'a>> {
    let whole = Frame::new(true, 0, 0);
    let mut writer =
        Writer { tokens, code: code_from(tokens), lines: Vec::new(), stack: vec![whole], before: None, width: 0 };
    for (index, token) in tokens.iter().enumerate() {
        if index == 0 || token.lines > 0 {
            writer.begin_line(index);
        } else {
            let blank = usize::from(!token.is_comment() && spacing.between(&tokens[index - 1], token));
            writer.blanks(blank + padding[index]);
        }
        writer.token(index);
    }
    writer.lines
}

/// For each token the first from there on that is no comment.
fn code_from(tokens: &[Token<'_>]) -> Vec<Option<usize>> {
    let mut code = vec![None; tokens.len()];
    let mut next = None;
    for (index, token) in tokens.iter().enumerate().rev() {
        next = if token.is_comment() { next } else { Some(index) };
        code[index] = next;
    }
    code
}

struct Writer<'a, 't> {
    tokens: &'t [Token<'a>],
    code: Vec<Option<usize>>,
    lines: Vec<Line<'a>>,
    stack: Vec<Frame>,
    /// The token before the one at hand that is no comment.
    before: Option<&'t Token<'a>>,
    /// The columns of the line so far.
    width: usize,
}

impl<'a> Writer<'a, '_> {
    fn frame(&mut self) -> &mut Frame {
        self.stack.last_mut().expect("the frame of the whole text is never taken away")
    }

    fn begin_line(&mut self, index: usize) {
        let token = self.tokens[index];
        let indentation = self.indentation(index);
        if !token.closes() {
            self.frame().line = indentation;
        }
        let after_blank = token.lines > 1 && index > 0 && !self.tokens[index - 1].opens() && !token.closes();
        self.lines.push(Line { after_blank, indentation, code: String::new(), comment: None, goes_on: token.goes_on });
        self.width = indentation;
    }

    /// Where the line that begins with a token stands.
    fn indentation(&mut self, index: usize) -> usize {
        let before = self.before;
        // A comment stands where what it is about does.
        let Some(token) = self.code[index].map(|code| &self.tokens[code]) else { return 0 };
        let is_comment = self.tokens[index].is_comment();
        let frame = self.frame();
        let continues = match before {
            _ if token.closes() => return if is_comment { frame.inner } else { frame.base },
            _ if frame.is_block && token.is_word("else") => return frame.last_block,
            _ if frame.is_block => !token.begins_statement,
            Some(before) => !before.opens() && !before.is(",") && frame.has_comma,
            None => false,
        };
        frame.inner + if continues { LEVEL } else { 0 }
    }

    fn blanks(&mut self, count: usize) {
        let line = self.lines.last_mut().expect("a line has begun");
        line.code.extend(std::iter::repeat_n(' ', count));
        self.width += count;
    }

    fn token(&mut self, index: usize) {
        let token = &self.tokens[index];
        let line = self.lines.last_mut().expect("a line has begun");
        if token.is_comment() {
            line.comment = Some(token.text);
            return;
        }
        line.code.push_str(token.text);
        if token.begins_statement {
            self.frame().is_use = token.is_word("use");
        }
        self.width += token.width();
        match token.lexeme {
            Lexeme::Open(bracket) => self.open(bracket, index),
            Lexeme::Close(_) if self.stack.len() > 1 => {
                let closed = self.stack.pop().filter(|frame| frame.is_block);
                closed.into_iter().for_each(|block| self.frame().last_block = block.base);
            }
            Lexeme::Symbol(",") => self.frame().has_comma = true,
            Lexeme::Word("if") => {
                let is_else_if = self.before.is_some_and(|before| before.is_word("else"));
                let frame = self.frame();
                frame.conditions.push(if is_else_if { frame.last_block } else { frame.line });
            }
            _ => {}
        }
        self.before = Some(token);
    }

    fn open(&mut self, bracket: u8, index: usize) {
        let base = self.base(bracket);
        let behind = self.tokens.get(index + 1).filter(|next| next.lines == 0 && !next.is_comment());
        let column = self.width + usize::from(bracket == b'{');
        let hangs = behind.is_some() && column <= RIGHTMOST;
        let inner = if hangs { column } else { base + LEVEL };
        let line = if hangs && bracket == b'{' { inner } else { base };
        let is_block = bracket == b'{' && !self.frame().is_use;
        self.stack.push(Frame { line, ..Frame::new(is_block, base, inner) });
    }

    /// Where the line stands that a bracket belongs to. A block belongs to the word that asks for it, not to the line of its `{`.
    fn base(&mut self, bracket: u8) -> usize {
        let before = self.before;
        let frame = self.frame();
        if bracket != b'{' {
            return frame.line;
        }
        match before {
            Some(before) if before.is_word("else") => frame.last_block,
            // The body of a lambda.
            Some(before) if before.is("|") || before.is("||") => frame.line,
            _ => frame.conditions.pop().unwrap_or(if frame.is_block { frame.inner } else { frame.line }),
        }
    }
}
