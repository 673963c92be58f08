//! The readers of `data` blocks: which options each has, and what values these take.
//!
//! Everything that can be said of a reader without its file is said here, when the file is checked.

use crate::diag::{Diagnostic, Span, nearest};
use crate::frontend::model::{Constant, READERS, Reader, ReaderArgument};

/// A reader.
pub(super) struct Rule {
    name: &'static str,
    /// What it takes by position, the first of them always.
    positional: &'static [(&'static str, Takes)],
    /// What it takes by name only.
    options: &'static [(&'static str, Takes)],
    /// An option without which it cannot do, and an example.
    required: Option<(&'static str, &'static str)>,
}

/// What an argument may be.
#[derive(Clone, Copy)]
enum Takes {
    Text,
    /// One ASCII character.
    Character,
    Flag,
    /// A whole number from 1.
    Natural,
    /// A number, or numbers in lists.
    Numbers,
    /// The name or the number of a column, or a list of them.
    Columns,
    /// A list of names.
    Names,
    /// One of some words.
    Word(&'static [&'static str]),
}

use Takes::{Character, Columns, Flag, Names, Natural, Numbers, Text, Word};

const PATH: (&str, Takes) = ("path", Text);
const KEY: (&str, Takes) = ("key", Text);

/// What each of the language's readers takes.
const RULES: [Rule; READERS.len()] = [
    Rule { name: "idx", positional: &[PATH], options: &[], required: None },
    Rule { name: "npy", positional: &[PATH], options: &[], required: None },
    Rule { name: "npz", positional: &[PATH, KEY], options: &[], required: None },
    Rule {
        name: "csv",
        positional: &[PATH],
        options: &[("columns", Columns), ("header", Flag), ("delimiter", Character)],
        required: None,
    },
    Rule { name: "parquet", positional: &[PATH], options: &[("columns", Columns)], required: None },
    Rule { name: "hdf5", positional: &[PATH, KEY], options: &[], required: None },
    Rule { name: "safetensors", positional: &[PATH, KEY], options: &[], required: None },
    Rule {
        name: "images",
        positional: &[PATH],
        options: &[("resize", Word(&["bilinear", "nearest"])), ("classes", Names)],
        required: None,
    },
    Rule {
        name: "text",
        positional: &[PATH],
        options: &[("window", Natural), ("step", Natural)],
        required: Some(("window", "the number of bytes in a row")),
    },
    Rule { name: "constant", positional: &[("value", Numbers)], options: &[], required: None },
];

/// The reader called `name`.
pub(super) fn find(name: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.name == name)
}

impl Rule {
    /// What is wrong with a call; `names` are the places of the arguments' names.
    pub(super) fn check(&self, reader: &Reader, names: &[Option<Span>]) -> Vec<Diagnostic> {
        let mut mistakes = Vec::new();
        let mut given: Vec<&str> = Vec::new();
        let mut place = 0;
        for (argument, name_span) in reader.arguments.iter().zip(names) {
            let known = match &argument.name {
                Some(name) => self.option(name).ok_or_else(|| self.no_option(name, name_span.unwrap_or(argument.span))),
                None => {
                    place += 1;
                    self.positional.get(place - 1).copied().ok_or_else(|| self.too_many(argument.span))
                }
            };
            match known {
                Err(mistake) => mistakes.push(mistake),
                Ok((name, _)) if given.contains(&name) => {
                    let span = name_span.unwrap_or(argument.span);
                    mistakes.push(Diagnostic::error(span, format!("`{name}` is given twice")));
                }
                Ok((name, takes)) => {
                    given.push(name);
                    mistakes.extend(takes.mistake(name, argument));
                }
            }
        }
        if place == 0 {
            let (name, takes) = self.positional[0];
            let (what, example) = match takes {
                Numbers => ("a value", "1"),
                _ => ("the path of a file", "\"file\""),
            };
            if !given.contains(&name) {
                let message = format!("`{}` needs {what}", self.name);
                mistakes
                    .push(Diagnostic::error(reader.span, message).help(format!("write `{}({example})`", self.name)));
            }
        }
        if let Some((name, what)) = self.required.filter(|(name, _)| !given.contains(name)) {
            let message = format!("`{}` needs `{name}`, {what}", self.name);
            mistakes.push(Diagnostic::error(reader.span, message));
        }
        mistakes
    }

    /// An argument that may be given by name: all but the first of those by position, too.
    fn option(&self, name: &str) -> Option<(&'static str, Takes)> {
        self.positional.iter().skip(1).chain(self.options).find(|(known, _)| *known == name).copied()
    }

    fn no_option(&self, name: &str, span: Span) -> Diagnostic {
        let options: Vec<&str> = self.positional.iter().skip(1).chain(self.options).map(|(name, _)| *name).collect();
        let diagnostic = Diagnostic::error(span, format!("`{}` has no option `{name}`", self.name));
        match nearest(name, options.iter().copied()) {
            Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
            None if options.is_empty() => diagnostic,
            None => diagnostic.help(format!("its options are {}", options.join(", "))),
        }
    }

    fn too_many(&self, span: Span) -> Diagnostic {
        let most = self.positional.len();
        let plural = if most == 1 { "" } else { "s" };
        Diagnostic::error(span, format!("`{}` takes at most {most} argument{plural} without a name", self.name))
    }
}

impl Takes {
    /// What is wrong with a value.
    fn mistake(self, name: &str, argument: &ReaderArgument) -> Option<Diagnostic> {
        let (good, expected) = match (self, &argument.value) {
            (Text, value) => (matches!(value, Constant::Text(_)), "text".to_owned()),
            (Character, value) => {
                (matches!(value, Constant::Text(text) if text.len() == 1), "one ASCII character".to_owned())
            }
            (Flag, value) => (matches!(value, Constant::Bool(_)), "true or false".to_owned()),
            (Natural, value) => (matches!(value, Constant::Int(1..)), "a whole number from 1".to_owned()),
            (Numbers, value) => (is_numbers(value), "a number or a list of numbers".to_owned()),
            (Columns, Constant::List(list)) => {
                (!list.is_empty() && list.iter().all(is_column), "a list of names or numbers from 0".to_owned())
            }
            (Columns, value) => {
                (is_column(value), "the name of a column, its number from 0, or a list of these".to_owned())
            }
            (Names, value) => (is_names(value), "a list of names".to_owned()),
            (Word(words), Constant::Text(text)) => (words.contains(&text.as_str()), words.join(" or ")),
            (Word(words), _) => (false, words.join(" or ")),
        };
        if good {
            return None;
        }
        let diagnostic = Diagnostic::error(argument.span, format!("`{name}` must be {expected}"));
        Some(match (self, &argument.value) {
            (Word(words), Constant::Text(text)) => match nearest(text, words.iter().copied()) {
                Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
                None => diagnostic,
            },
            _ => diagnostic,
        })
    }
}

fn is_column(value: &Constant) -> bool {
    matches!(value, Constant::Text(_) | Constant::Int(0..))
}

fn is_names(value: &Constant) -> bool {
    matches!(value, Constant::List(list) if !list.is_empty() && list.iter().all(|item| matches!(item, Constant::Text(_))))
}

fn is_numbers(value: &Constant) -> bool {
    match value {
        Constant::Int(_) | Constant::Float(_) | Constant::Bool(_) => true,
        Constant::List(list) => !list.is_empty() && list.iter().all(is_numbers),
        Constant::Text(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reader_has_its_rule() {
        assert!(READERS.iter().all(|name| find(name).is_some()));
    }
}
