//! The words and signs of a text, as far as layout and error messages need them.
//!
//! This is no second grammar: it knows where a comment, a string, a word or an operator ends, and which of them make a
//! line continue. The grammar reads the same text again.

use std::ops::Range;

/// One piece of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lexeme<'a> {
    /// Spaces, tabs, carriage returns, a byte order mark.
    Blank,
    Newline,
    /// From `//` to the end of the line.
    Comment,
    /// A name or a keyword.
    Word(&'a str),
    Number(&'a str),
    /// A string with its quotes.
    Text,
    /// A string whose line ends before its closing quote.
    OpenText,
    /// `(`, `[` or `{`.
    Open(u8),
    /// `)`, `]` or `}`.
    Close(u8),
    /// An operator or a punctuation mark.
    Symbol(&'a str),
    /// A character that the language does not use.
    Other(char),
    /// No more text; also what stands before the first lexeme.
    End,
}

/// Signs of two or more characters, among them some of other languages so that messages can name them whole.
const SYMBOLS: [&str; 20] = [
    "|>", "<-", "->", "==", "!=", "<=", ">=", "..", "**=", "**", "&&", "||", "=>", "+=", "-=", "*=", "/=", ":=", "//=",
    "//",
];

/// Words that cannot begin a statement, so a line that begins with one goes on from the line before.
const CONTINUING_WORDS: [&str; 5] = ["and", "or", "else", "over", "with"];

impl Lexeme<'_> {
    /// Whether a value may end here, so that an operator or a comment may follow.
    pub fn ends_operand(self) -> bool {
        match self {
            Lexeme::Word(word) => {
                !matches!(word, "and" | "or" | "not" | "in" | "return" | "if" | "else" | "with" | "over")
            }
            Lexeme::Number(_) | Lexeme::Text | Lexeme::Close(_) => true,
            _ => false,
        }
    }

    /// Whether a line that begins with this continues the one before.
    pub fn continues_before(self) -> bool {
        match self {
            Lexeme::Word(word) => CONTINUING_WORDS.contains(&word),
            Lexeme::Symbol(symbol) => {
                !matches!(symbol, "|" | "||" | "=" | "," | ";" | ":" | "." | ".." | "!" | "&" | "=>")
            }
            _ => false,
        }
    }

    /// Whether a line that ends with this continues on the next one.
    pub fn continues_after(self) -> bool {
        match self {
            Lexeme::Word(word) => matches!(word, "and" | "or" | "not" | "in" | "over" | "with"),
            Lexeme::Symbol(symbol) => !matches!(symbol, ";" | ":" | "." | "!" | "&"),
            _ => false,
        }
    }
}

/// Cuts a text into lexemes.
pub struct Lexer<'a> {
    source: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    /// A lexer at the start of `source`.
    pub fn new(source: &'a str) -> Self {
        Lexer { source, at: 0 }
    }

    /// A lexer at byte `at` of `source`.
    pub fn starting_at(source: &'a str, at: usize) -> Self {
        Lexer { source, at }
    }

    /// The next lexeme and its bytes. `last` is the one before that is neither blank nor comment, and `inside` says whether
    /// the innermost bracket is `(` or `[`: both help to tell the floor division `a//b` from a comment.
    pub fn next(&mut self, last: Lexeme, inside: bool) -> (Lexeme<'a>, Range<usize>) {
        let rest = &self.source[self.at..];
        let (lexeme, length) = match rest.chars().next() {
            None => (Lexeme::End, 0),
            Some('\n') => (Lexeme::Newline, 1),
            Some(' ' | '\t' | '\r' | '\u{feff}') => {
                (Lexeme::Blank, prefix(rest, |c| matches!(c, ' ' | '\t' | '\r' | '\u{feff}')))
            }
            Some(c) if c.is_ascii_alphabetic() || c == '_' => {
                let length = prefix(rest, is_word);
                (Lexeme::Word(&rest[..length]), length)
            }
            Some(c) if c.is_ascii_digit() => {
                let length = number_length(rest);
                (Lexeme::Number(&rest[..length]), length)
            }
            Some('"') => text_length(rest),
            Some(c @ ('(' | '[' | '{')) => (Lexeme::Open(c as u8), 1),
            Some(c @ (')' | ']' | '}')) => (Lexeme::Close(c as u8), 1),
            Some(_) if rest.starts_with("//") && !self.floor_divides(last, inside) => {
                (Lexeme::Comment, rest.find('\n').unwrap_or(rest.len()))
            }
            Some(c) => symbol(rest, c),
        };
        let range = self.at..self.at + length;
        self.at = range.end;
        (lexeme, range)
    }

    /// Whether the `//` here divides. It does right after an operand when an operand follows directly (`n//2`), and inside
    /// brackets also with blanks around it (`[n // 2, d]`) as long as the rest of the line closes a bracket that is
    /// still open, which a comment would swallow.
    fn floor_divides(&self, last: Lexeme, inside: bool) -> bool {
        let (before, after) = (&self.source[..self.at], &self.source[self.at + 2..]);
        let begins_line = before.trim_end_matches([' ', '\t']).ends_with('\n');
        if begins_line || !last.ends_operand() || after.starts_with('/') {
            return false;
        }
        let begins_operand = |c: char| is_word(c) || c == '(';
        if !before.ends_with([' ', '\t']) && after.starts_with(begins_operand) {
            return true;
        }
        inside && after.trim_start_matches([' ', '\t']).starts_with(begins_operand) && closes_more_than_it_opens(after)
    }
}

/// How far a line is read to tell a division from a comment; it bounds the work on lines of a megabyte.
const LOOK_AHEAD: usize = 1000;

/// Whether the line that `text` begins with closes a bracket that it does not open.
fn closes_more_than_it_opens(text: &str) -> bool {
    let mut depth = 0i64;
    for byte in text.bytes().take(LOOK_AHEAD).take_while(|byte| *byte != b'\n') {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' => depth -= 1,
            _ => {}
        }
        if depth < 0 {
            return true;
        }
    }
    false
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The bytes of the longest prefix of characters that satisfy `belongs`.
fn prefix(text: &str, belongs: impl Fn(char) -> bool) -> usize {
    text.find(|c| !belongs(c)).unwrap_or(text.len())
}

/// Digits, letters and `_`, with a fraction and a signed exponent; wrong ones such as `12abc` are taken whole.
fn number_length(text: &str) -> usize {
    let mut end = prefix(text, is_word);
    let hexadecimal = text.starts_with("0x");
    let bytes = text.as_bytes();
    if !hexadecimal && bytes.get(end) == Some(&b'.') && bytes.get(end + 1) != Some(&b'.') {
        end += 1 + prefix(&text[end + 1..], is_word);
    }
    let signed = matches!(bytes.get(end), Some(b'+' | b'-')) && bytes.get(end + 1).is_some_and(u8::is_ascii_digit);
    if !hexadecimal && signed && matches!(bytes[end - 1], b'e' | b'E') {
        end += 1 + prefix(&text[end + 1..], is_word);
    }
    end
}

fn text_length(text: &str) -> (Lexeme<'static>, usize) {
    let bytes = text.as_bytes();
    let mut at = 1;
    while at < bytes.len() && bytes[at] != b'\n' {
        match bytes[at] {
            b'"' => return (Lexeme::Text, at + 1),
            b'\\' if bytes.get(at + 1).is_some_and(|b| *b != b'\n') => at += 2,
            _ => at += 1,
        }
    }
    (Lexeme::OpenText, at.min(bytes.len()))
}

fn symbol(text: &str, first: char) -> (Lexeme<'_>, usize) {
    if let Some(symbol) = SYMBOLS.iter().find(|symbol| text.starts_with(**symbol)) {
        return (Lexeme::Symbol(&text[..symbol.len()]), symbol.len());
    }
    match first {
        '+' | '-' | '*' | '/' | '%' | '@' | '^' | '<' | '>' | '=' | '|' | ',' | ';' | ':' | '.' | '!' | '&' => {
            (Lexeme::Symbol(&text[..1]), 1)
        }
        other => (Lexeme::Other(other), other.len_utf8()),
    }
}
