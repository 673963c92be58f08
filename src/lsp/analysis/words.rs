//! The words of the language that are no names of a file, with what the reference says of them.

use crate::frontend::doc::{Entry, Kind, entries};
use crate::frontend::parse::KEYWORDS;

pub use crate::frontend::parse::{ENTRIES, ITEMS, STATEMENTS};

/// What the reference says of a word of one of these kinds, the first kind first.
pub fn find(word: &str, kinds: &[Kind]) -> Option<&'static Entry> {
    kinds.iter().find_map(|kind| entries().iter().find(|e| e.kind == *kind && e.name == word))
}

/// A keyword; words of recipes and data blocks only where `recipe` says that one is around.
pub fn keyword(word: &str, recipe: bool) -> Option<&'static Entry> {
    let kinds: &[Kind] = if recipe { &[Kind::Recipe, Kind::Data, Kind::Keyword] } else { &[Kind::Keyword] };
    find(word, kinds)
}

/// An element type.
pub fn dtype(name: &str) -> Option<&'static Entry> {
    find(name, &[Kind::Type])
}

/// A name that the surroundings bind, or a word that stands for itself as an argument.
pub fn ambient(name: &str) -> Option<&'static Entry> {
    find(name, &[Kind::Name])
}

/// A reader of data.
pub fn reader(name: &str) -> Option<&'static Entry> {
    find(name, &[Kind::Data])
}

/// The element types.
pub fn dtypes() -> impl Iterator<Item = &'static Entry> {
    entries().iter().filter(|e| e.kind == Kind::Type)
}

/// Whether a word cannot be a name.
pub fn is_reserved(word: &str) -> bool {
    KEYWORDS.contains(&word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frontend::model::READERS;
    use crate::ir::types::DType;

    #[test]
    fn the_reference_knows_every_word() {
        let silent: Vec<&str> = KEYWORDS.into_iter().filter(|word| keyword(word, false).is_none()).collect();
        assert!(silent.is_empty(), "{silent:?}");
        assert!(ENTRIES.iter().all(|word| keyword(word, true).is_some_and(|e| e.kind == Kind::Recipe)));
        assert!(READERS.iter().all(|name| reader(name).is_some()));
        assert!(DType::NAMED.iter().all(|(name, _)| dtype(name).is_some()));
        assert!(["training", "same"].iter().all(|name| ambient(name).is_some()));
    }
}
