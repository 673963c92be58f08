//! Source text in pieces that are shown alike.

use crate::frontend::parse::KEYWORDS;
use crate::frontend::parse::lexeme::{Lexeme, Lexer};

/// What a piece of source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    Plain,
    Keyword,
    /// A dtype.
    Type,
    Number,
    Text,
    Comment,
    /// The name of what is called or defined.
    Call,
}

/// Words that stand for element types.
const TYPES: [&str; 14] =
    ["f16", "bf16", "f32", "f64", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "bool", "index", "float"];

/// Words that are keywords inside a `scan` only.
const SCAN_WORDS: [&str; 4] = ["axis", "carry", "reverse", "yield"];

/// Cuts `source` into pieces, which together are all of it.
pub fn highlight(source: &str) -> Vec<(Style, &str)> {
    let mut lexer = Lexer::new(source);
    let mut open: Vec<u8> = Vec::new();
    let mut last = Lexeme::End;
    let mut pieces: Vec<(Style, &str)> = Vec::new();
    loop {
        let inside = matches!(open.last(), Some(b'(' | b'['));
        let (lexeme, range) = lexer.next(last, inside);
        match lexeme {
            Lexeme::End => return pieces,
            Lexeme::Open(bracket) => open.push(bracket),
            Lexeme::Close(_) => drop(open.pop()),
            _ => {}
        }
        let style = style(lexeme, last, &source[range.end..]);
        pieces.push((style, &source[range]));
        if !matches!(lexeme, Lexeme::Blank | Lexeme::Comment) {
            last = lexeme;
        }
    }
}

fn style(lexeme: Lexeme<'_>, last: Lexeme<'_>, rest: &str) -> Style {
    match lexeme {
        Lexeme::Comment => Style::Comment,
        Lexeme::Number(_) => Style::Number,
        Lexeme::Text | Lexeme::OpenText => Style::Text,
        Lexeme::Word("true" | "false") => Style::Number,
        Lexeme::Word(word) if KEYWORDS.contains(&word) => Style::Keyword,
        Lexeme::Word(word) if SCAN_WORDS.contains(&word) && begins_word(rest) => Style::Keyword,
        Lexeme::Word(word) if TYPES.contains(&word) => Style::Type,
        Lexeme::Word(_) => {
            let piped = matches!(last, Lexeme::Symbol("|>"));
            let defined = matches!(last, Lexeme::Word("fn" | "layer" | "model" | "optimizer"));
            if piped || defined || rest.starts_with('(') { Style::Call } else { Style::Plain }
        }
        _ => Style::Plain,
    }
}

/// Whether a blank and then a value follow, as after `carry` but not after the name in `axis = 1`.
fn begins_word(rest: &str) -> bool {
    rest.starts_with(' ') && rest.trim_start().starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_the_whole_text() {
        let source = "layer f(x: f32[n//2]) { // half\n    x |> relu + g(\"a\", 1.5, axis=1)\n}";
        let pieces = highlight(source);
        assert_eq!(pieces.iter().map(|(_, text)| *text).collect::<String>(), source);
        let of = |style| pieces.iter().filter(|p| p.0 == style).map(|p| p.1).collect::<Vec<_>>();
        assert_eq!(of(Style::Keyword), ["layer"]);
        assert_eq!(of(Style::Call), ["f", "relu", "g"]);
        assert_eq!(of(Style::Type), ["f32"]);
        assert_eq!(of(Style::Number), ["2", "1.5", "1"]);
        assert_eq!(of(Style::Text), ["\"a\""]);
        assert_eq!(of(Style::Comment), ["// half"]);
    }
}
