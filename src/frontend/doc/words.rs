//! Entries of the words and signs of the language itself, which are described in `words.md`.
//!
//! The file has a heading `# Kind` over the entries of each kind, and `## name` (or several, `## a, b`) over each entry: how it is
//! written, in a block of code, then the text.

use super::{Entry, Kind, Place, summary};

/// The text.
const TEXT: &str = include_str!("words.md");

/// The entries, in the order of the file.
pub(super) fn words() -> Vec<Entry> {
    let mut all = Vec::new();
    for section in sections(TEXT, "# ") {
        let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.heading() == section.heading) else { continue };
        for part in sections(section.text, "## ") {
            let (form, doc) = form_and_text(part.text);
            all.extend(part.heading.split(", ").map(|name| Entry {
                kind,
                name: name.to_owned(),
                signature: form.to_owned(),
                summary: summary(doc),
                doc: doc.to_owned(),
                source: None,
                facts: Vec::new(),
                place: None::<Place>,
            }));
        }
    }
    all
}

struct Section<'a> {
    heading: &'a str,
    text: &'a str,
}

/// The parts of a text under headings that begin with `mark`.
fn sections<'a>(text: &'a str, mark: &str) -> Vec<Section<'a>> {
    let begins = |line: &str| line.starts_with(mark);
    let mut starts: Vec<usize> = Vec::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if begins(line) {
            starts.push(at);
        }
        at += line.len();
    }
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    let part = |(start, end): (&usize, usize)| {
        let (heading, rest) = text[*start..end].split_once('\n').unwrap_or((&text[*start..end], ""));
        Section { heading: heading[mark.len()..].trim(), text: rest }
    };
    starts.iter().zip(ends).map(part).collect()
}

/// The block of code that the text begins with, and what follows.
fn form_and_text(text: &str) -> (&str, &str) {
    let inside = text.trim_start().strip_prefix("```").and_then(|rest| rest.split_once('\n'));
    match inside.and_then(|(_, rest)| rest.split_once("```")) {
        Some((form, rest)) => (form.trim(), rest.trim()),
        None => ("", text.trim()),
    }
}

#[cfg(test)]
mod tests {
    use nn_grammar::words::{ENTRIES, KEYWORDS};

    use super::*;
    use crate::frontend::model::READERS;

    /// The names of a kind.
    fn named(kind: Kind) -> Vec<String> {
        words().into_iter().filter(|e| e.kind == kind).map(|e| e.name).collect()
    }

    #[test]
    fn every_word_of_the_language_is_described() {
        let missing = |kind: Kind, words: &[&str]| -> Vec<String> {
            let named = named(kind);
            words.iter().filter(|w| !named.iter().any(|n| n == **w)).map(|w| (*w).to_owned()).collect()
        };
        assert_eq!(missing(Kind::Keyword, &KEYWORDS), Vec::<String>::new());
        assert_eq!(missing(Kind::Recipe, &ENTRIES), Vec::<String>::new());
        assert_eq!(missing(Kind::Data, &READERS), Vec::<String>::new());
    }

    #[test]
    fn headings_of_the_text_are_kinds() {
        for section in sections(TEXT, "# ") {
            assert!(Kind::ALL.iter().any(|kind| kind.heading() == section.heading), "{}", section.heading);
        }
        assert!(words().iter().all(|entry| !entry.doc.is_empty() && !entry.signature.is_empty()));
    }
}
