//! The reference of the language as data: one [`Entry`] for every name that means something.
//!
//! Entries come from where the thing itself is: library items from the `.nn` texts and their `///` comments ([`items`]), operations from
//! the ops' own documentation ([`operations`]), and words of the language from `words.md` ([`words`]). `nnc doc` prints them, an
//! editor shows them; both read the text of a comment through [`markdown`] and colour source with [`highlight`].

use std::sync::OnceLock;

use serde::Serialize;

use super::ast;
use crate::diag::nearest;

pub mod highlight;
mod items;
pub mod markdown;
mod operations;
mod words;

/// What an entry is about; the order is that of the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Model,
    Layer,
    Activation,
    Loss,
    Regularizer,
    Metric,
    Optimizer,
    Schedule,
    Initializer,
    Augmentation,
    Solver,
    Function,
    Constant,
    Operation,
    CompileTime,
    Type,
    Operator,
    Keyword,
    Name,
    Recipe,
    Data,
}

impl Kind {
    /// Every kind, in the order of the reference.
    pub const ALL: [Kind; 21] = [
        Kind::Model,
        Kind::Layer,
        Kind::Activation,
        Kind::Loss,
        Kind::Regularizer,
        Kind::Metric,
        Kind::Optimizer,
        Kind::Schedule,
        Kind::Initializer,
        Kind::Augmentation,
        Kind::Solver,
        Kind::Function,
        Kind::Constant,
        Kind::Operation,
        Kind::CompileTime,
        Kind::Type,
        Kind::Operator,
        Kind::Keyword,
        Kind::Name,
        Kind::Recipe,
        Kind::Data,
    ];

    /// The heading over entries of this kind.
    pub fn heading(self) -> &'static str {
        match self {
            Kind::Model => "Models",
            Kind::Layer => "Layers",
            Kind::Activation => "Activations",
            Kind::Loss => "Losses",
            Kind::Regularizer => "Regularizers",
            Kind::Metric => "Metrics",
            Kind::Optimizer => "Optimizers",
            Kind::Schedule => "Schedules",
            Kind::Initializer => "Initializers and random tensors",
            Kind::Augmentation => "Augmentation",
            Kind::Solver => "Solvers",
            Kind::Function => "Functions",
            Kind::Constant => "Constants",
            Kind::Operation => "Operations",
            Kind::CompileTime => "Compile-time functions",
            Kind::Type => "Types",
            Kind::Operator => "Operators",
            Kind::Keyword => "Keywords",
            Kind::Name => "Names with a meaning",
            Kind::Recipe => "Words of recipes",
            Kind::Data => "Readers and words of data blocks",
        }
    }

    /// One entry of this kind, in a sentence.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Model => "model",
            Kind::Layer => "layer",
            Kind::Activation => "activation",
            Kind::Loss => "loss",
            Kind::Regularizer => "regularizer",
            Kind::Metric => "metric",
            Kind::Optimizer => "optimizer",
            Kind::Schedule => "schedule",
            Kind::Initializer => "initializer",
            Kind::Augmentation => "augmentation",
            Kind::Solver => "solver",
            Kind::Function => "function",
            Kind::Constant => "constant",
            Kind::Operation => "operation",
            Kind::CompileTime => "compile-time function",
            Kind::Type => "type",
            Kind::Operator => "operator",
            Kind::Keyword => "keyword",
            Kind::Name => "name",
            Kind::Recipe => "recipe word",
            Kind::Data => "data word",
        }
    }
}

/// What the reference says of one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    pub kind: Kind,
    pub name: String,
    /// How it is written: `dense(x: float[.., n], units, bias = true)`, or the form of a statement.
    pub signature: String,
    /// The first sentence, without its full stop.
    pub summary: String,
    /// The whole text, for [`markdown::parse`].
    pub doc: String,
    /// The `.nn` text of what is written in the language.
    pub source: Option<String>,
    /// Equation, derivative and the like, of an operation.
    pub facts: Vec<Fact>,
    pub place: Option<Place>,
}

/// A named line of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fact {
    pub name: &'static str,
    pub text: String,
}

/// Where something is defined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// As diagnostics call the file: `<std>/layers.nn`.
    pub file: String,
    /// From 1.
    pub line: usize,
}

/// The reference of the language and its library, by kind, then in the order in which things are defined.
pub fn entries() -> &'static [Entry] {
    static ENTRIES: OnceLock<Vec<Entry>> = OnceLock::new();
    ENTRIES.get_or_init(|| {
        let mut all = items::library();
        all.extend(operations::operations());
        all.extend(operations::compile_time());
        all.extend(words::words());
        all.sort_by_key(|entry| entry.kind);
        all
    })
}

/// The entries of the items of one file, in its order: of `text`, whose syntax tree is `file`, called `name`.
pub fn entries_of(name: &str, text: &str, file: &ast::File) -> Vec<Entry> {
    file.items.iter().filter_map(|item| items::entry(name, text, item)).collect()
}

/// The entries called `name`; several things may have one name, as the activation `step` and the number of the step.
pub fn find<'a>(entries: &'a [Entry], name: &str) -> Vec<&'a Entry> {
    entries.iter().filter(|entry| entry.name == name).collect()
}

/// Names like `name`: typing errors first, then names that contain it, then those whose text does; at most `limit`.
pub fn near<'a>(entries: &'a [Entry], name: &str, limit: usize) -> Vec<&'a str> {
    let lower = name.to_lowercase();
    let names = || entries.iter().map(|entry| entry.name.as_str());
    let spelt = nearest(&lower, names());
    let containing = names().filter(|n| lower.len() > 1 && (n.to_lowercase().contains(&lower) || begins(&lower, n)));
    let mentioning = entries.iter().filter(|e| lower.len() > 3 && e.doc.to_lowercase().contains(&lower));
    let mut all: Vec<&str> = Vec::new();
    for candidate in spelt.into_iter().chain(containing).chain(mentioning.map(|e| e.name.as_str())) {
        if all.len() < limit && !all.contains(&candidate) {
            all.push(candidate);
        }
    }
    all
}

/// Whether `name` is a good part of the beginning of `wanted`: `conv2d` for `conv2dtranspose`.
fn begins(wanted: &str, name: &str) -> bool {
    name.len() > 3 && wanted.starts_with(&name.to_lowercase())
}

/// The first sentence of a text, on one line and without its full stop.
fn summary(doc: &str) -> String {
    let ends = |line: &str| line.is_empty() || line.starts_with("```") || markdown::label(line).is_some();
    let lines = doc.lines().map(str::trim).enumerate();
    let paragraph: Vec<&str> = lines.take_while(|(i, line)| *i == 0 || !ends(line)).map(|(_, line)| line).collect();
    let text = paragraph.join(" ");
    let ends = text.match_indices(". ").map(|(place, _)| place);
    let end = ends.into_iter().find(|end| ends_sentence(&text, *end)).unwrap_or(text.len());
    text[..end].trim_end_matches(['.', ':']).to_owned()
}

/// Whether the full stop at `end` closes a sentence, and not an abbreviation such as `et al.`.
fn ends_sentence(text: &str, end: usize) -> bool {
    let abbreviation = [" al", " e.g", " i.e", " vs"].iter().any(|a| text[..end].ends_with(a));
    let next = text[end + 2..].chars().next();
    !abbreviation && next.is_some_and(|c| c.is_uppercase() || c == '`' || c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_sentence_sums_up() {
        assert_eq!(summary("The unit step: 1 where x >= 0.\nIts gradient is zero."), "The unit step: 1 where x >= 0");
        assert_eq!(summary("Adam, Kingma et al. 2014, with decay. More."), "Adam, Kingma et al. 2014, with decay");
        assert_eq!(summary("The input as it is\nEquation: y = x"), "The input as it is");
        assert_eq!(summary("y = 0.5 * x over\ntwo lines\n\nShapes: any"), "y = 0.5 * x over two lines");
    }

    #[test]
    fn every_name_of_a_kind_is_there_once_and_says_something() {
        for (i, entry) in entries().iter().enumerate() {
            assert!(!entry.summary.is_empty() && !entry.signature.is_empty(), "{entry:?}");
            let twin = entries()[..i].iter().find(|e| e.kind == entry.kind && e.name == entry.name);
            assert!(twin.is_none(), "{entry:?}");
        }
    }

    #[test]
    fn names_like_a_name_are_found() {
        assert_eq!(near(entries(), "dens", 3)[0], "dense");
        assert!(near(entries(), "norm_layer", 8).contains(&"norm"));
        assert!(near(entries(), "nesterov", 8).contains(&"momentum"));
        assert_eq!(near(entries(), "q", 8), Vec::<&str>::new());
    }

    #[test]
    fn kinds_are_listed_in_their_order() {
        assert!(Kind::ALL.is_sorted());
        assert!(entries().iter().all(|entry| Kind::ALL.contains(&entry.kind)));
    }
}
