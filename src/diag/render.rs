//! Diagnostics as text for people and as JSON for programs.
//!
//! The text is made by `annotate-snippets` in the style of rustc. What goes into it is cut to size first: a label underlines at
//! most the rest of its line, long lines show only the part around the labels, and long messages are shortened, so
//! that no source text makes a long report.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde_json::{Value, json};

use super::{Diagnostic, Label, Severity, Sources, Span};

/// The widest report line, in characters.
const WIDTH: usize = 120;

/// The longest underline, in bytes; an expression of a whole page is shown by its beginning.
const LONGEST_UNDERLINE: usize = 80;

/// The longest message, note or label, in characters.
const LONGEST_TEXT: usize = 600;

/// Lines without labels are shown only this near to one with a label.
const CONTEXT_LINES: usize = 3;

impl Diagnostic {
    /// The report: message, source lines with the labelled places underlined, notes and suggestion. Ends with a newline.
    pub fn render(&self, sources: &Sources, color: bool) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut group = level.primary_title(shortened(&self.message)).elements(snippets(self, sources));
        for note in &self.notes {
            group = group.element(Level::NOTE.message(shortened(note)));
        }
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(shortened(help)));
        }
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let report: &[Group<'_>] = &[group];
        format!("{}\n", renderer.term_width(WIDTH).render(report))
    }

    /// The same as an object: `severity`, `message`, `labels` (each with `file`, `line`, `column`, `end` and `text`; lines
    /// and columns count from 1, `end` is behind the last character), `notes`, `help`. The primary label's place stands
    /// at the top level too; without a place in a source it is absent.
    pub fn to_json(&self, sources: &Sources) -> Value {
        let mut object = json!({
            "severity": match self.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            },
            "message": self.message,
            "labels": self.labels.iter().map(|label| label_json(label, sources)).collect::<Vec<_>>(),
            "notes": self.notes,
            "help": self.help,
        });
        if let Some(label) = self.labels.first() {
            for (key, value) in place_json(label.span, sources) {
                object[key] = value;
            }
        }
        object
    }
}

fn label_json(label: &Label, sources: &Sources) -> Value {
    let mut object = json!({ "text": label.text });
    for (key, value) in place_json(label.span, sources) {
        object[key] = value;
    }
    object
}

fn place_json(span: Span, sources: &Sources) -> [(&'static str, Value); 4] {
    let (line, column) = sources.line_column(span);
    let (end_line, end_column) = sources.line_column(Span { start: span.end, ..span });
    [
        ("file", json!(sources.get(span.file).name)),
        ("line", json!(line)),
        ("column", json!(column)),
        ("end", json!({ "line": end_line, "column": end_column })),
    ]
}

/// A label with its number and the bytes to underline.
type Placed<'a> = (usize, &'a Label, Range<usize>);

/// Snippets in the order of their first labels, so the primary one's comes first.
fn snippets<'a>(
    diagnostic: &'a Diagnostic,
    sources: &'a Sources,
) -> Vec<Snippet<'a, annotate_snippets::Annotation<'a>>> {
    let mut groups: Vec<Vec<Placed<'a>>> = Vec::new();
    for (index, label) in diagnostic.labels.iter().enumerate() {
        let text = &sources.get(label.span.file).text;
        let place = underline(text, label.span);
        match groups.iter_mut().find(|group| group.iter().all(|other| share_snippet(text, other, label, &place))) {
            Some(group) => group.push((index, label, place)),
            None => groups.push(vec![(index, label, place)]),
        }
    }
    groups.into_iter().map(|group| snippet(sources, group)).collect()
}

/// Labels of one file share a snippet, unless they stand so far apart on one line that it could not be shown.
fn share_snippet(text: &str, (_, other, other_place): &Placed<'_>, label: &Label, place: &Range<usize>) -> bool {
    let (start, end) = (place.start.min(other_place.start), place.start.max(other_place.start));
    label.span.file == other.span.file && (end - start < WIDTH / 2 || text[start..end].contains('\n'))
}

fn snippet<'a>(sources: &'a Sources, group: Vec<Placed<'a>>) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
    let source = sources.get(group[0].1.span.file);
    let places: Vec<Range<usize>> = group.iter().map(|(_, _, place)| place.clone()).collect();
    let excerpt = Excerpt::around(&source.text, &places);
    let annotations = group.iter().map(|(index, label, place)| {
        let kind = if *index == 0 { AnnotationKind::Primary } else { AnnotationKind::Context };
        let annotation = kind.span(excerpt.place(place));
        if label.text.is_empty() { annotation } else { annotation.label(shortened(&label.text)) }
    });
    let annotations: Vec<_> = annotations.collect();
    Snippet::source(excerpt.text).path(source.name.as_str()).line_start(excerpt.first_line).annotations(annotations)
}

/// The bytes of `text` to underline for `span`: on its first line, not too many, never outside the text or within a character.
fn underline(text: &str, span: Span) -> Range<usize> {
    let start = text.floor_char_boundary(span.start as usize);
    let line_end = text[start..].find(['\n', '\r']).map_or(text.len(), |length| start + length);
    let end = text.floor_char_boundary((span.end as usize).min(start + LONGEST_UNDERLINE));
    start..end.clamp(start, line_end)
}

/// The lines of a source from the first to the last that a report shows; those far from any label are empty.
struct Excerpt {
    text: String,
    /// The number of its first line, from 1.
    first_line: usize,
    /// For each line, where it begins in the source and in `text`.
    starts: Vec<(usize, usize)>,
}

impl Excerpt {
    fn around(source: &str, places: &[Range<usize>]) -> Self {
        let line_of = |place: usize| source[..place].matches('\n').count();
        let lines: Vec<usize> = places.iter().map(|place| line_of(place.start)).collect();
        let first = lines.iter().min().copied().unwrap_or(0);
        let last = lines.iter().max().copied().unwrap_or(0);
        let mut excerpt = Excerpt { text: String::new(), first_line: first + 1, starts: Vec::new() };
        let mut place = 0;
        for (number, line) in source.split('\n').enumerate().take(last + 1) {
            if number >= first {
                excerpt.starts.push((place, excerpt.text.len()));
                if lines.iter().any(|labelled| labelled.abs_diff(number) < CONTEXT_LINES) {
                    excerpt.text.push_str(line);
                }
                excerpt.text.push('\n');
            }
            place += line.len() + 1;
        }
        excerpt
    }

    /// Where bytes of the source stand in the excerpt.
    fn place(&self, range: &Range<usize>) -> Range<usize> {
        let line = self.starts.partition_point(|(source, _)| *source <= range.start).saturating_sub(1);
        let (source, text) = self.starts.get(line).copied().unwrap_or((0, 0));
        text + range.start - source..text + range.end - source
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(LONGEST_TEXT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::FileId;
    use super::*;

    fn span(file: FileId, text: &str, part: &str) -> Span {
        let start = text.find(part).expect("the part is in the text");
        Span { file, start: start as u32, end: (start + part.len()) as u32 }
    }

    #[test]
    fn labels_in_two_files() {
        let mut sources = Sources::default();
        let user = "model M {\n    input x: f32[batch, 4]\n\n\n\n\n\n    y = x |> dense(3) |> dense(3)\n}\n";
        let library =
            "// Layers.\nlayer dense(x: f32[.., n], units) {\n    param w: f32[n, units] = glorot_uniform\n}\n";
        let file = sources.add("m.nn", user);
        let std = sources.add("<std>/layers.nn", library);
        let diagnostic = Diagnostic::error(span(file, user, "dense(3)"), "the shapes do not fit")
            .primary("this has f32[batch, 3]")
            .label(span(file, user, "f32[batch, 4]"), "declared here")
            .label(span(std, library, "f32[n, units]"), "wanted by this parameter")
            .note("expected f32[batch, 4]\nfound f32[batch, 3]")
            .help("did you mean `dense_2`?");
        insta::assert_snapshot!(diagnostic.render(&sources, false));
        insta::assert_snapshot!(diagnostic.to_json(&sources).to_string());
    }

    #[test]
    fn no_place_and_a_warning() {
        let sources = Sources::default();
        let mut diagnostic = Diagnostic::error_without_place("no such file: x.npy").help("`models/fetch` gets it");
        diagnostic.severity = Severity::Warning;
        insta::assert_snapshot!(diagnostic.render(&sources, false));
        insta::assert_snapshot!(diagnostic.to_json(&sources).to_string());
    }

    #[test]
    fn colors_are_escapes_only_when_asked_for() {
        let mut sources = Sources::default();
        let file = sources.add("m.nn", "y = 3");
        let diagnostic = Diagnostic::error(Span { file, start: 0, end: 1 }, "no");
        assert!(diagnostic.render(&sources, true).contains('\u{1b}'));
        assert!(!diagnostic.render(&sources, false).contains('\u{1b}'));
    }

    #[test]
    fn long_lines_and_odd_spans_give_short_reports() {
        let long = format!("x = {}é + y", "a + ".repeat(50_000));
        let many_lines = "y = 1\n".repeat(50_000);
        for text in [long.as_str(), many_lines.as_str(), "", "\n", "\t\t}", "é", "\u{0}\u{7f}\r\n\u{202e}x"] {
            let mut sources = Sources::default();
            let file = sources.add("m.nn", text);
            let length = text.len() as u32;
            for (start, end) in
                [(0, length), (length, length), (length, length + 9), (length / 2, length), (1, 0), (3, 4)]
            {
                let place = Span { file, start, end };
                let diagnostic =
                    Diagnostic::error(place, "m".repeat(10_000)).label(Span { file, start: 0, end: 1 }, "here");
                let report = diagnostic.render(&sources, false);
                assert!(report.len() < 4000, "{start}..{end} of {length} bytes gives {} bytes", report.len());
                diagnostic.to_json(&sources);
            }
        }
    }
}
