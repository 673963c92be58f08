//! The reference as text of a terminal, coloured or not.

use crate::frontend::doc::highlight::{Style, highlight};
use crate::frontend::doc::markdown::{Block, Inline, inline, parse};
use crate::frontend::doc::{Entry, Kind};

/// How text looks.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Whether escape sequences colour it.
    pub color: bool,
    /// Where lines of prose are broken, in characters.
    pub width: usize,
}

const RESET: &str = "\x1b[0m";
const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const CYAN: &str = "\x1b[36m";

/// How far the text of an entry is indented.
const INDENT: &str = "    ";

impl Look {
    fn paint(self, style: &str, text: &str) -> String {
        if self.color && !style.is_empty() { format!("{style}{text}{RESET}") } else { text.to_owned() }
    }

    /// Source with its colours.
    fn source(self, text: &str) -> String {
        highlight(text).into_iter().map(|(style, piece)| self.paint(color_of(style), piece)).collect()
    }
}

fn color_of(style: Style) -> &'static str {
    match style {
        Style::Plain => "",
        Style::Keyword => "\x1b[35m",
        Style::Type => "\x1b[33m",
        Style::Number => CYAN,
        Style::Text => "\x1b[32m",
        Style::Comment => DIM,
        Style::Call => "\x1b[34m",
    }
}

/// Every entry in a line, under the headings of the kinds.
pub fn list(entries: &[Entry], look: Look) -> String {
    let mut out = String::new();
    let width = entries.iter().map(|e| e.name.chars().count()).max().unwrap_or(0).min(24);
    for kind in Kind::ALL {
        let of_kind: Vec<&Entry> = entries.iter().filter(|entry| entry.kind == kind).collect();
        if of_kind.is_empty() {
            continue;
        }
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(&format!("{}\n", look.paint(BOLD, kind.heading())));
        for entry in of_kind {
            let room = look.width.saturating_sub(width + 4).max(20);
            let gap = " ".repeat(width.saturating_sub(entry.name.chars().count()));
            let line = format!("  {}{gap}  {}", look.paint(CYAN, &entry.name), shortened(&entry.summary, room));
            out.push_str(&format!("{}\n", line.trim_end()));
        }
    }
    out
}

/// The text, cut at a word where it is longer than `room`.
fn shortened(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_owned();
    }
    let head: String = text.chars().take(room - 1).collect();
    let end = head.rfind(' ').unwrap_or(head.len());
    format!("{}…", head[..end].trim_end_matches([',', ';', ':']))
}

/// All that the reference says of one name.
pub fn entry(entry: &Entry, look: Look) -> String {
    let mut out = String::new();
    let place = entry.place.as_ref().map_or(String::new(), |place| format!(" in {}:{}", place.file, place.line));
    out.push_str(&format!(
        "{} {}\n",
        look.paint(BOLD, &entry.name),
        look.paint(DIM, &format!("({}{place})", entry.kind.word()))
    ));
    out.push_str(&indented(&look.source(&entry.signature)));
    for block in parse(&entry.doc) {
        out.push('\n');
        out.push_str(&block_text(&block, look));
    }
    if !entry.facts.is_empty() {
        out.push('\n');
    }
    for fact in &entry.facts {
        let lines =
            wrapped(&inline(&fact.text), look, &format!("{INDENT}{:<12}", fact.name), &format!("{INDENT}{:12}", ""));
        out.push_str(&lines);
    }
    if let Some(source) = &entry.source {
        out.push_str(&format!("\n{}", indented(&look.source(source))));
    }
    out
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("{INDENT}{line}").trim_end().to_owned() + "\n").collect()
}

fn block_text(block: &Block, look: Look) -> String {
    match block {
        Block::Paragraph { label: None, text } => wrapped(text, look, INDENT, INDENT),
        Block::Paragraph { label: Some(label), text } => {
            let label = look.paint(BOLD, &format!("{label}:"));
            wrapped(text, look, &format!("{INDENT}{label} "), &format!("{INDENT}  "))
        }
        Block::List(items) => {
            items.iter().map(|item| wrapped(item, look, &format!("{INDENT}- "), &format!("{INDENT}  "))).collect()
        }
        Block::Code { language, text } if language.starts_with("nn") => indented(&indented(&look.source(text))),
        Block::Code { text, .. } => indented(&indented(text)),
    }
}

/// Words in lines of the look's width, the first after `first`, the others after `further`.
fn wrapped(text: &[Inline], look: Look, first: &str, further: &str) -> String {
    let mut out = first.to_owned();
    let mut column = visible(first);
    let mut begins = true;
    for (word, shown) in words(text, look) {
        let length = word.chars().count();
        if !begins && column + 1 + length > look.width {
            out.push('\n');
            out.push_str(further);
            column = visible(further);
            begins = true;
        }
        if !begins {
            out.push(' ');
            column += 1;
        }
        out.push_str(&shown);
        column += length;
        begins = false;
    }
    out.push('\n');
    out
}

/// The characters of a text that take up room.
fn visible(text: &str) -> usize {
    let mut escaped = false;
    let shown = text.chars().filter(|c| {
        let hidden = escaped || *c == '\x1b';
        escaped = hidden && *c != 'm';
        !hidden
    });
    shown.count()
}

/// The words of a line, as they are and as they are shown. Code keeps its backticks where there is no colour.
fn words(text: &[Inline], look: Look) -> Vec<(String, String)> {
    let mut words: Vec<(String, String)> = Vec::new();
    let mut open = false;
    for piece in text {
        let (content, code) = match piece {
            Inline::Text(text) => (text.clone(), false),
            Inline::Code(text) if look.color => (text.clone(), true),
            Inline::Code(text) => (format!("`{text}`"), true),
        };
        let glued = open && !content.starts_with(' ');
        open = !content.ends_with(' ');
        for (i, word) in content.split_whitespace().enumerate() {
            let shown = if code { look.paint(CYAN, word) } else { word.to_owned() };
            match words.last_mut().filter(|_| i == 0 && glued) {
                Some(last) => *last = (format!("{}{word}", last.0), format!("{}{shown}", last.1)),
                None => words.push((word.to_owned(), shown)),
            }
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Look = Look { color: false, width: 30 };

    #[test]
    fn lines_are_broken_at_words_and_code_stays_with_its_comma() {
        let text = inline("The output, `a`, of a layer that is `b + c`.");
        assert_eq!(wrapped(&text, PLAIN, "    ", "    "), "    The output, `a`, of a\n    layer that is `b + c`.\n");
        let colored = Look { color: true, width: 30 };
        assert_eq!(wrapped(&inline("an `a`, b"), colored, "", ""), "an \x1b[36ma\x1b[0m, b\n");
        assert_eq!(visible("\x1b[1mab\x1b[0mc"), 3);
    }

    #[test]
    fn long_summaries_are_cut_at_a_word() {
        assert_eq!(shortened("one two, three", 11), "one two…");
        assert_eq!(shortened("one two", 11), "one two");
    }
}
