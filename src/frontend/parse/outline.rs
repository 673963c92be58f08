//! A text that is known to be sound, read item by item when asked for.
//!
//! The library is such a text: a command looks at a few of its items, and reading all of them would take longer than most
//! files of users.

use super::layout::{self, Layout};
use super::{ast, read_item};
use crate::diag::FileId;

/// A text cut into its items. Nothing in it is wrong, or reading it panics.
pub(crate) struct Outline {
    file: FileId,
    layout: Layout,
}

impl Outline {
    /// Cuts a text without mistakes into its items.
    pub(crate) fn new(source: &str, file: FileId) -> Outline {
        let Ok(layout) = layout::scan(source, file) else { panic!("a text of the library has unbalanced brackets") };
        Outline { file, layout }
    }

    /// The names that the items define, in the order of the text: the word after `fn`, `layer`, `const` and so on.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.layout.items.iter().map(|range| {
            let behind = self.layout.text[range.clone()].trim_start_matches(is_of_word).trim_start();
            behind.split(|c: char| !is_of_word(c)).next().unwrap_or_default()
        })
    }

    /// The item of a number.
    pub(crate) fn item(&self, number: usize) -> ast::Item {
        let mut found = Vec::new();
        let item = read_item(self.file, &self.layout, &self.layout.items[number], &mut found);
        item.ok().flatten().filter(|_| found.is_empty()).expect("the library has no mistakes")
    }
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}
