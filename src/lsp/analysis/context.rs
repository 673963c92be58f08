//! What a place that is being written asks for, from the words and brackets before it: the text there can rarely be parsed.

use super::Analysis;
use super::names::Callee;
use crate::frontend::catalogue::Elsewhere;
use crate::frontend::parse::lexeme::{Lexeme, Lexer};

/// What stands around a place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Around {
    pub kind: Asked,
    /// The innermost call whose arguments the place is among.
    pub call: Option<OpenCall>,
}

/// What may be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Asked {
    /// Nothing that has a name: a comment, a string, a new name.
    #[default]
    Nothing,
    /// A field of the value whose text is `start..end`.
    Field {
        start: u32,
        end: u32,
    },
    /// An element type.
    Type,
    Value,
    /// A statement of a body.
    Statement,
    /// An item of the file.
    Item,
    /// An entry of a recipe.
    Entry,
    /// A value in an entry that begins with this word, after this word.
    InEntry {
        entry: String,
        after: String,
    },
    /// The name of a split.
    Split,
    /// The name of an input or target, or a word of a split.
    Bound,
    Reader,
}

/// A call that is open at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenCall {
    /// The place of the name before the bracket.
    pub start: u32,
    pub end: u32,
    /// Arguments before the place.
    pub before: usize,
    /// Those among all of them that have names.
    pub named: Vec<String>,
    /// The name of the argument at the place.
    pub current: Option<String>,
    /// Whether a value is piped in.
    pub piped: bool,
}

/// Where something begins and ends.
pub type Stretch = (u32, u32);

/// A lexeme with its place.
#[derive(Clone, Copy, Debug)]
struct Token<'a> {
    lexeme: Lexeme<'a>,
    start: u32,
    end: u32,
}

/// An open bracket, or the file itself.
struct Frame {
    bracket: u8,
    /// The number of the token that opens it.
    at: usize,
    /// The number of the first token of the statement being read; arguments of a call are one statement.
    statement: usize,
    /// The first words of the statements around, outermost first.
    heads: Vec<String>,
}

/// The tokens before a place, comments left out; `None` inside of a comment or a string.
fn tokens_before(text: &str, at: u32) -> Option<Vec<Token<'_>>> {
    let mut lexer = Lexer::new(text);
    let mut tokens: Vec<Token<'_>> = Vec::new();
    let mut open: Vec<u8> = Vec::new();
    loop {
        let last = tokens.last().map_or(Lexeme::End, |t| t.lexeme);
        let (lexeme, range) = lexer.next(last, matches!(open.last(), Some(b'(' | b'[')));
        let (start, end) = (range.start as u32, range.end as u32);
        match lexeme {
            Lexeme::End => return Some(tokens),
            Lexeme::Comment | Lexeme::OpenText if start < at && at <= end => return None,
            Lexeme::Text if start < at && at < end => return None,
            _ if end > at || (end == at && matches!(lexeme, Lexeme::Word(_))) => return Some(tokens),
            Lexeme::Blank | Lexeme::Comment => continue,
            Lexeme::Open(bracket) => open.push(bracket),
            Lexeme::Close(_) => {
                open.pop();
            }
            _ => {}
        }
        tokens.push(Token { lexeme, start, end });
    }
}

/// The brackets that are open after all tokens, the file first.
fn frames(tokens: &[Token<'_>]) -> Vec<Frame> {
    let mut frames = vec![Frame { bracket: 0, at: 0, statement: 0, heads: Vec::new() }];
    for (number, token) in tokens.iter().enumerate() {
        let Some(top) = frames.last_mut() else { break };
        match token.lexeme {
            Lexeme::Open(bracket) => {
                let mut heads = top.heads.clone();
                if bracket == b'{' {
                    heads.push(word(tokens.get(top.statement)).unwrap_or_default().to_owned());
                }
                frames.push(Frame { bracket, at: number, statement: number + 1, heads });
            }
            Lexeme::Close(bracket) => {
                if frames.len() > 1 {
                    frames.pop();
                }
                // A block ends its statement, unless `else` or an operator follows.
                if let (b'}', Some(top)) = (bracket, frames.last_mut())
                    && top.bracket == 0
                {
                    top.statement = number + 1;
                }
            }
            Lexeme::Newline if matches!(top.bracket, b'{' | 0) => {
                let before = tokens[..number].iter().rev().find(|t| t.lexeme != Lexeme::Newline);
                let after = tokens[number + 1..].iter().find(|t| t.lexeme != Lexeme::Newline);
                let goes_on = before.is_some_and(|t| t.lexeme.continues_after())
                    || after.is_some_and(|t| t.lexeme.continues_before());
                if !goes_on || top.statement > number {
                    top.statement = number + 1;
                }
            }
            Lexeme::Symbol(";") => top.statement = number + 1,
            _ => {}
        }
    }
    frames
}

fn word<'a>(token: Option<&Token<'a>>) -> Option<&'a str> {
    match token?.lexeme {
        Lexeme::Word(word) => Some(word),
        _ => None,
    }
}

impl Analysis {
    /// What stands around the place `at`, the word that ends there left out.
    pub fn context_at(&self, at: u32) -> Around {
        let start = self.word_at(at).map_or(at, |(start, _)| start.min(at));
        let Some(tokens) = tokens_before(&self.text, start) else { return Around::default() };
        let frames = frames(&tokens);
        let call = frames.iter().rev().take_while(|f| f.bracket != b'{').find_map(|f| open_call(&tokens, f));
        Around { kind: asked(&tokens, &frames), call }
    }

    /// What a call that is being written calls.
    pub fn callee_at(&self, call: &OpenCall) -> Option<Callee> {
        let name = self.slice(call.start, call.end);
        let site = self.names.visible_at(call.start).into_iter().find(|s| *self.names.sites[*s].name.text == *name);
        match site {
            Some(site) => self.names.sites[site].callee.clone(),
            None => match self.project.elsewhere(name) {
                Some(Elsewhere::Definition(definition)) => Some(Callee::Definition(definition)),
                Some(_) => None,
                None => self.project.built_in(name).map(|_| Callee::BuiltIn(name.into())),
            },
        }
    }

    /// What stands in braces, and what is commented on neighbouring lines.
    pub fn stretches(&self) -> (Vec<Stretch>, Vec<Stretch>) {
        let (mut lexer, mut last) = (Lexer::new(&self.text), Lexeme::End);
        let (mut open, mut braces, mut comments) = (Vec::new(), Vec::new(), Vec::<Stretch>::new());
        // Whether only blanks and one line end stand between a comment and the one before.
        let (mut joins, mut newlines) = (false, 0);
        loop {
            let (lexeme, range) = lexer.next(last, matches!(open.last(), Some((b'(' | b'[', _))));
            let (start, end) = (range.start as u32, range.end as u32);
            match lexeme {
                Lexeme::End => return (braces, comments),
                Lexeme::Blank => continue,
                Lexeme::Newline => {
                    newlines += 1;
                    continue;
                }
                Lexeme::Comment => {
                    match comments.last_mut().filter(|_| joins && newlines == 1) {
                        Some(before) => before.1 = end,
                        None => comments.push((start, end)),
                    }
                    (joins, newlines) = (true, 0);
                    continue;
                }
                Lexeme::Open(bracket) => open.push((bracket, start)),
                Lexeme::Close(_) => {
                    if let Some((b'{', begin)) = open.pop() {
                        braces.push((begin, end));
                    }
                }
                _ => {}
            }
            (last, joins, newlines) = (lexeme, false, 0);
        }
    }
}

fn asked(tokens: &[Token<'_>], frames: &[Frame]) -> Asked {
    let Some(frame) = frames.last() else { return Asked::Nothing };
    let mut before = tokens.iter().rev().skip_while(|t| t.lexeme == Lexeme::Newline && frame.bracket != b'{');
    let last = before.next();
    if let Some(Lexeme::Symbol(".")) = last.map(|t| t.lexeme) {
        return match before.next() {
            Some(value) if word(Some(value)).is_some() => Asked::Field { start: value.start, end: value.end },
            _ => Asked::Nothing,
        };
    }
    let begins = frame.statement >= tokens.len();
    let block = frame.heads.last().map(String::as_str).unwrap_or_default();
    let top = frame.heads.first().map(String::as_str).unwrap_or_default();
    match (frame.bracket, top) {
        (0, _) if begins => Asked::Item,
        (0, _) => in_statement(tokens, frame),
        (b'{', "train") if begins => Asked::Entry,
        (b'{', "train") => Asked::InEntry {
            entry: word(tokens.get(frame.statement)).unwrap_or_default().to_owned(),
            after: word(last).unwrap_or_default().to_owned(),
        },
        (b'{', "data") if begins && block == "data" => Asked::Split,
        (b'{', "data") if begins => Asked::Bound,
        (b'{', "data") if last.is_some_and(|t| t.lexeme == Lexeme::Symbol("=")) => Asked::Reader,
        (b'{', _) if begins => Asked::Statement,
        (b'{', _) => in_statement(tokens, frame),
        (b'(', _) if is_definition(tokens, frame) => match last.map(|t| t.lexeme) {
            Some(Lexeme::Symbol(":")) => Asked::Type,
            Some(Lexeme::Symbol("," | "|") | Lexeme::Open(_)) => Asked::Nothing,
            _ => Asked::Value,
        },
        _ => Asked::Value,
    }
}

fn in_statement(tokens: &[Token<'_>], frame: &Frame) -> Asked {
    let last = tokens.iter().rev().find(|t| t.lexeme != Lexeme::Newline);
    let names = |word: &str| {
        let declares = ["input", "target", "param", "state", "output", "loss", "metric"];
        declares.contains(&word) || is_definition_word(word)
    };
    match last.map(|t| t.lexeme) {
        Some(Lexeme::Symbol(":")) => Asked::Type,
        // `output u` alone takes a name that there is.
        Some(Lexeme::Word("output" | "loss" | "metric")) => Asked::Value,
        Some(Lexeme::Word(word)) if names(word) || matches!(word, "for" | "scan" | "carry") => Asked::Nothing,
        _ if frame.statement >= tokens.len() => Asked::Statement,
        _ => Asked::Value,
    }
}

fn is_definition_word(word: &str) -> bool {
    matches!(word, "fn" | "layer" | "model" | "optimizer" | "const")
}

/// Whether a bracket opens the parameters of a definition.
fn is_definition(tokens: &[Token<'_>], frame: &Frame) -> bool {
    frame.at >= 2 && word(tokens.get(frame.at - 2)).is_some_and(is_definition_word)
}

fn open_call(tokens: &[Token<'_>], frame: &Frame) -> Option<OpenCall> {
    let name = frame.at.checked_sub(1).and_then(|at| tokens.get(at))?;
    let is_name = word(Some(name)).is_some_and(|w| !super::words::is_reserved(w));
    if frame.bracket != b'(' || !is_name || is_definition(tokens, frame) {
        return None;
    }
    let piped = frame.at >= 2
        && tokens[..frame.at - 1].iter().rev().find(|t| t.lexeme != Lexeme::Newline)?.lexeme == Lexeme::Symbol("|>");
    let (mut depth, mut before, mut named, mut current) = (0usize, 0, Vec::new(), None);
    for (number, token) in tokens.iter().enumerate().skip(frame.at + 1) {
        match token.lexeme {
            Lexeme::Open(_) => depth += 1,
            Lexeme::Close(_) => depth = depth.saturating_sub(1),
            Lexeme::Symbol(",") if depth == 0 => {
                before += 1;
                current = None;
            }
            Lexeme::Symbol("=") if depth == 0 => {
                current = word(tokens.get(number - 1)).map(str::to_owned);
                named.extend(current.clone());
            }
            _ => {}
        }
    }
    Some(OpenCall { start: name.start, end: name.end, before, named, current, piped })
}
