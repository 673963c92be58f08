//! Entries of what is written in `.nn`: the library, and a user's own file.

use super::{Entry, Kind, Place, summary};
use crate::diag::Span;
use crate::frontend::ast::{Definition, DefinitionKind, Item, Name};
use crate::frontend::library;

/// The entries of the library. What has no `///` comment serves the library alone.
pub(super) fn library() -> Vec<Entry> {
    let text_of = |file: &str| library::FILES.iter().find(|(name, _)| *name == file).map_or("", |(_, text)| text);
    library::items()
        .filter_map(|(file, item)| {
            let mut entry = entry(&format!("<std>/{file}"), text_of(file), item)?;
            if entry.doc.is_empty() {
                return None;
            }
            if entry.kind == Kind::Function {
                entry.kind = kind_in(file, &entry.name);
            }
            Some(entry)
        })
        .collect()
}

/// The functions of `losses.nn` that are taken of parameters.
const REGULARIZERS: [&str; 3] = ["l1", "l2", "elastic_net"];

/// What a function of a library file is.
fn kind_in(file: &str, name: &str) -> Kind {
    match file.trim_end_matches(".nn") {
        // Regularizers are losses of parameters, and stand with the others.
        "losses" if REGULARIZERS.contains(&name) => Kind::Regularizer,
        "activations" => Kind::Activation,
        "losses" => Kind::Loss,
        "regularizers" => Kind::Regularizer,
        "metrics" => Kind::Metric,
        "schedules" => Kind::Schedule,
        "initializers" => Kind::Initializer,
        "augmentation" => Kind::Augmentation,
        "solvers" => Kind::Solver,
        _ => Kind::Function,
    }
}

/// The entry of an item of `text`, a file called `file`; nothing for an item that defines no name.
pub(super) fn entry(file: &str, text: &str, item: &Item) -> Option<Entry> {
    match item {
        Item::Function(definition) | Item::Model(definition) | Item::Optimizer(definition) => {
            Some(definition_entry(file, text, definition))
        }
        Item::Const { name, value, doc } => {
            let span = Span { start: start_of_line(text, name.span.start), ..value.span };
            let source = slice(text, span).trim().to_owned();
            Some(Entry {
                signature: source.trim_start_matches("const ").to_owned(),
                ..written(Kind::Constant, name, doc.as_deref().unwrap_or(""), file, text, source)
            })
        }
        Item::Use { .. } | Item::Data(_) | Item::Train(_) => None,
    }
}

fn definition_entry(file: &str, text: &str, definition: &Definition) -> Entry {
    let kind = match definition.kind {
        DefinitionKind::Function => Kind::Function,
        DefinitionKind::Layer => Kind::Layer,
        DefinitionKind::Model => Kind::Model,
        DefinitionKind::Optimizer => Kind::Optimizer,
    };
    let head = slice(text, Span { end: definition.body.span.start, ..definition.span });
    let words: Vec<&str> = head.split_whitespace().skip(1).collect();
    let signature = words.join(" ").replace("( ", "(").replace(" )", ")");
    let doc = definition.doc.as_deref().unwrap_or("");
    let source = slice(text, definition.span).to_owned();
    Entry { signature, ..written(kind, &definition.name, doc, file, text, source) }
}

/// An entry without its signature.
fn written(kind: Kind, name: &Name, doc: &str, file: &str, text: &str, source: String) -> Entry {
    let line = text[..name.span.start as usize].matches('\n').count() + 1;
    Entry {
        kind,
        name: name.text.to_string(),
        signature: String::new(),
        summary: summary(doc),
        doc: doc.to_owned(),
        source: Some(source),
        facts: Vec::new(),
        place: Some(Place { file: file.to_owned(), line }),
    }
}

fn slice(text: &str, span: Span) -> &str {
    text.get(span.start as usize..span.end as usize).unwrap_or("")
}

fn start_of_line(text: &str, place: u32) -> u32 {
    text[..place as usize].rfind('\n').map_or(0, |newline| newline as u32 + 1)
}
