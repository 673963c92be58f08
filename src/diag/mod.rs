//! Spans and diagnostics: how every stage says what is wrong with the user's file, and where.
//!
//! A [`Span`] names bytes of one source file, a [`Diagnostic`] is one mistake with its labels, notes and
//! suggestion, and [`Sources`] owns the texts so that a diagnostic can be rendered. The rendering itself is
//! in [`render`](Diagnostic::render); nothing else in the project prints a source line.

mod render;

use std::sync::Arc;

/// The number of a source file in [`Sources`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(pub u32);

/// A range of bytes `start..end` in one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    pub file: FileId,
    pub start: u32,
    pub end: u32,
}

impl Span {
    /// The span from the start of `self` to the end of `other`, both in the same file.
    pub fn to(self, other: Span) -> Span {
        Span { file: self.file, start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}

/// How grave a diagnostic is: an error ends the command with exit code 1, a warning does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Error,
    Warning,
}

/// A place in the source with a word about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    pub span: Span,
    pub text: String,
}

/// One mistake: what is wrong, where (the first label is the primary one), and what may help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    pub severity: Severity,
    /// One sentence without a full stop.
    pub message: String,
    /// The primary place first; further labels say where the other party came from.
    pub labels: Vec<Label>,
    /// Facts that explain (`expected f32[n, 10]`, `found f32[n, 12]`).
    pub notes: Vec<String>,
    /// A suggestion (``did you mean `dense`?``).
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error whose primary place is `span`.
    pub fn error(span: Span, message: impl Into<String>) -> Self {
        Diagnostic {
            severity: Severity::Error,
            message: message.into(),
            labels: vec![Label { span, text: String::new() }],
            notes: Vec::new(),
            help: None,
        }
    }

    /// An error with no place in a source file (a missing data file, a bad option).
    pub fn error_without_place(message: impl Into<String>) -> Self {
        Diagnostic {
            severity: Severity::Error,
            message: message.into(),
            labels: Vec::new(),
            notes: Vec::new(),
            help: None,
        }
    }

    /// A warning with no place in a source file.
    pub fn warning_without_place(message: impl Into<String>) -> Self {
        Diagnostic { severity: Severity::Warning, ..Diagnostic::error_without_place(message) }
    }

    /// The word under the primary place.
    pub fn primary(mut self, text: impl Into<String>) -> Self {
        if let Some(label) = self.labels.first_mut() {
            label.text = text.into();
        }
        self
    }

    /// One more labelled place.
    pub fn label(mut self, span: Span, text: impl Into<String>) -> Self {
        self.labels.push(Label { span, text: text.into() });
        self
    }

    /// One more note.
    pub fn note(mut self, text: impl Into<String>) -> Self {
        self.notes.push(text.into());
        self
    }

    /// The suggestion.
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help = Some(text.into());
        self
    }

    /// The primary place, where there is one.
    pub fn span(&self) -> Option<Span> {
        self.labels.first().map(|l| l.span)
    }
}

/// One source text.
#[derive(Clone, Debug)]
pub struct Source {
    /// The path as the user wrote it, or `<std>/name.nn` for the library, or `<string>`.
    pub name: String,
    pub text: Arc<str>,
}

/// All source texts of one compilation: the user's file and the library's.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    files: Vec<Source>,
}

impl Sources {
    /// Adds a text and returns its number.
    pub fn add(&mut self, name: impl Into<String>, text: impl Into<Arc<str>>) -> FileId {
        self.files.push(Source { name: name.into(), text: text.into() });
        FileId(u32::try_from(self.files.len() - 1).expect("fewer than 2^32 source files"))
    }

    /// The text with number `file`.
    pub fn get(&self, file: FileId) -> &Source {
        &self.files[file.0 as usize]
    }

    /// Line and column of the start of `span`, both from 1; columns count characters.
    pub fn line_column(&self, span: Span) -> (usize, usize) {
        let text = &self.get(span.file).text;
        let before = &text[..text.floor_char_boundary(span.start as usize)];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        (line, column)
    }
}

/// The candidate nearest to `name` by edit distance, if near enough to be a likely typing error. Of several as near, the one
/// that begins and ends most like it.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = name.chars().count();
    let limit = match length {
        0..2 => 0,
        2..5 => 1,
        _ => 1 + length / 4,
    };
    let near = candidates.into_iter().filter(|candidate| candidate.chars().count().abs_diff(length) <= limit);
    near.map(|candidate| (edit_distance(name, candidate), usize::MAX - common_ends(name, candidate), candidate))
        .filter(|(distance, _, _)| *distance <= limit)
        .min()
        .map(|(_, _, candidate)| candidate)
}

/// How many characters two names have in common at their beginnings and at their ends.
fn common_ends(a: &str, b: &str) -> usize {
    let beginning = a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count();
    let end = a.chars().rev().zip(b.chars().rev()).take_while(|(a, b)| a == b).count();
    beginning + end
}

/// Damerau-Levenshtein distance (adjacent transpositions count one).
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut previous: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut current = vec![i];
        for j in 1..=b.len() {
            let substitute = previous[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = substitute.min(previous[j] + 1).min(current[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            current.push(best);
        }
        before = std::mem::replace(&mut previous, current);
    }
    previous[b.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn typing_errors_find_the_name_that_was_meant() {
        let names = ["dense", "std", "step", "any", "softmax", "x"];
        let found = |name| nearest(name, names);
        assert_eq!(found("dens"), Some("dense"));
        assert_eq!(found("desne"), Some("dense"));
        assert_eq!(found("stp"), Some("step"));
        assert_eq!(found("sofmax"), Some("softmax"));
        assert_eq!(found("conv"), None);
        assert_eq!(found("y"), None);
        assert_eq!(nearest(&"a".repeat(1_000_000), names), None);
    }
}
