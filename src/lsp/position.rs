//! Places of the protocol, which are lines and code units, as bytes of a text and back.

use lsp_types::{Position, PositionEncodingKind, Range};

use crate::diag::Span;

/// In what a client counts the characters of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Utf8,
    Utf16,
}

impl Encoding {
    /// UTF-8 if the client offers it, else what every client knows.
    pub fn choose(offered: Option<&[PositionEncodingKind]>) -> Encoding {
        match offered.is_some_and(|kinds| kinds.contains(&PositionEncodingKind::UTF8)) {
            true => Encoding::Utf8,
            false => Encoding::Utf16,
        }
    }

    /// Its name in the protocol.
    pub fn kind(self) -> PositionEncodingKind {
        match self {
            Encoding::Utf8 => PositionEncodingKind::UTF8,
            Encoding::Utf16 => PositionEncodingKind::UTF16,
        }
    }

    fn length(self, text: &str) -> usize {
        match self {
            Encoding::Utf8 => text.len(),
            Encoding::Utf16 => text.encode_utf16().count(),
        }
    }
}

/// The lines of a text.
#[derive(Clone, Debug)]
pub struct Lines {
    starts: Vec<u32>,
    encoding: Encoding,
}

impl Lines {
    pub fn new(text: &str, encoding: Encoding) -> Lines {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at as u32 + 1);
        Lines { starts: std::iter::once(0).chain(ends).collect(), encoding }
    }

    /// The byte of a place; one behind the end of its line is the end of the line.
    pub fn offset(&self, text: &str, position: Position) -> u32 {
        let Some(start) = self.starts.get(position.line as usize).copied() else { return text.len() as u32 };
        let line = text[start as usize..].split(['\n', '\r']).next().unwrap_or_default();
        let wanted = position.character as usize;
        if self.encoding == Encoding::Utf8 {
            return start + line.floor_char_boundary(wanted.min(line.len())) as u32;
        }
        let mut units = 0;
        for (at, character) in line.char_indices() {
            if units + character.len_utf16() > wanted {
                return start + at as u32;
            }
            units += character.len_utf16();
        }
        start + line.len() as u32
    }

    /// The place of a byte.
    pub fn position(&self, text: &str, offset: u32) -> Position {
        let offset = text.floor_char_boundary((offset as usize).min(text.len()));
        let line = self.starts.partition_point(|start| *start as usize <= offset) - 1;
        let before = &text[self.starts[line] as usize..offset];
        Position { line: line as u32, character: self.encoding.length(before) as u32 }
    }

    pub fn range(&self, text: &str, start: u32, end: u32) -> Range {
        Range { start: self.position(text, start), end: self.position(text, end) }
    }

    pub fn span(&self, text: &str, span: Span) -> Range {
        self.range(text, span.start, span.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "a = 1\r\n// Größe 𝛼 x\nend";

    #[test]
    fn code_units_are_those_of_the_encoding() {
        let x = TEXT.find('x').expect("it is there") as u32;
        for (encoding, character) in [(Encoding::Utf8, 16), (Encoding::Utf16, 12)] {
            let lines = Lines::new(TEXT, encoding);
            assert_eq!(lines.position(TEXT, x), Position { line: 1, character });
            assert_eq!(lines.offset(TEXT, Position { line: 1, character }), x);
        }
    }

    #[test]
    fn every_place_comes_back() {
        for encoding in [Encoding::Utf8, Encoding::Utf16] {
            let lines = Lines::new(TEXT, encoding);
            for (at, _) in TEXT.char_indices().filter(|(_, c)| *c != '\n') {
                assert_eq!(lines.offset(TEXT, lines.position(TEXT, at as u32)), at as u32);
            }
        }
    }

    #[test]
    fn places_outside_of_the_text_are_moved_into_it() {
        let lines = Lines::new(TEXT, Encoding::Utf16);
        let at = |line, character| lines.offset(TEXT, Position { line, character });
        assert_eq!(at(0, 99), 5);
        assert_eq!(at(99, 0), TEXT.len() as u32);
        // In the middle of a surrogate pair.
        assert_eq!(at(1, 10), TEXT.find('𝛼').expect("it is there") as u32);
        assert_eq!(lines.position(TEXT, u32::MAX), Position { line: 2, character: 3 });
    }
}
