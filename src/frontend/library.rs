//! The standard library: `.nn` files that are part of the program.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use super::Global;
use super::ast::Item;
use super::parse::Outline;
use crate::diag::{FileId, Sources};

/// The files of the library with their texts, in the order in which they are read.
pub const FILES: &[(&str, &str)] = &[
    ("math.nn", include_str!("std/math.nn")),
    ("arrays.nn", include_str!("std/arrays.nn")),
    ("activations.nn", include_str!("std/activations.nn")),
    ("initializers.nn", include_str!("std/initializers.nn")),
    ("layers.nn", include_str!("std/layers.nn")),
    ("attention.nn", include_str!("std/attention.nn")),
    ("convolution.nn", include_str!("std/convolution.nn")),
    ("pooling.nn", include_str!("std/pooling.nn")),
    ("recurrent.nn", include_str!("std/recurrent.nn")),
    ("losses.nn", include_str!("std/losses.nn")),
    ("regularizers.nn", include_str!("std/regularizers.nn")),
    ("metrics.nn", include_str!("std/metrics.nn")),
    ("optimizers.nn", include_str!("std/optimizers.nn")),
    ("schedules.nn", include_str!("std/schedules.nn")),
    ("augmentation.nn", include_str!("std/augmentation.nn")),
    ("solvers.nn", include_str!("std/solvers.nn")),
];

/// The number of the library's first file: the user's file comes before, the files that it uses behind.
const FIRST: u32 = 1;

/// Whether a file is one of the library's.
pub(crate) fn holds(file: FileId) -> bool {
    (FIRST..FIRST + FILES.len() as u32).contains(&file.0)
}

/// The library: its items by name, each read when it is first asked for.
pub(crate) struct Library {
    files: Vec<Outline>,
    items: Vec<LibraryItem>,
    /// Numbers of items.
    names: HashMap<String, usize>,
}

struct LibraryItem {
    /// The file, and the item's number in it.
    place: (usize, usize),
    read: OnceLock<(Item, Global)>,
}

/// The library, cut into items by the first call.
pub(crate) fn library() -> &'static Library {
    static LIBRARY: OnceLock<Library> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let files: Vec<Outline> = FILES.iter().zip(FIRST..).map(|(f, id)| Outline::new(f.1, FileId(id))).collect();
        let (mut items, mut names) = (Vec::new(), HashMap::new());
        for (i, file) in files.iter().enumerate() {
            for (j, name) in file.names().enumerate() {
                names.insert(name.to_owned(), items.len());
                items.push(LibraryItem { place: (i, j), read: OnceLock::new() });
            }
        }
        Library { files, items, names }
    })
}

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Library").finish_non_exhaustive()
    }
}

impl Library {
    /// What a name means.
    pub(crate) fn get(&self, name: &str) -> Option<&Global> {
        self.names.get(name).map(|number| &self.read(*number).1)
    }

    /// All names, in no order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(|name| &**name)
    }

    fn read(&self, number: usize) -> &(Item, Global) {
        let LibraryItem { place: (file, place), read } = &self.items[number];
        read.get_or_init(|| {
            let item = self.files[*file].item(*place);
            let global = Global::of(&item).expect("the library only defines");
            (item, global)
        })
    }
}

/// The user's text as file number 0 and the library's behind it.
pub(crate) fn sources(name: &str, text: &str) -> Sources {
    static TEXTS: OnceLock<Vec<(String, Arc<str>)>> = OnceLock::new();
    let texts = TEXTS.get_or_init(|| FILES.iter().map(|f| (format!("<std>/{}", f.0), Arc::from(f.1))).collect());
    let mut sources = Sources::default();
    sources.add(name, text);
    for (name, text) in texts {
        sources.add(name.as_str(), text.clone());
    }
    sources
}

/// The library's items, file by file, in the order of the texts.
pub fn items() -> impl Iterator<Item = (&'static str, &'static Item)> {
    let library = library();
    library.items.iter().enumerate().map(|(i, item)| (FILES[item.place.0].0, &library.read(i).0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frontend::{Project, parse, resolve};

    #[test]
    fn the_library_parses_and_every_name_in_it_is_known() {
        for (i, (name, text)) in FILES.iter().enumerate() {
            let (_, diagnostics) = parse::parse(text, FileId(FIRST + i as u32));
            assert!(diagnostics.is_empty(), "{name}: {diagnostics:#?}");
        }
        let (project, _) = Project::parse("<string>", "");
        let items: Vec<Item> = items().map(|(_, item)| item.clone()).collect();
        for (name, number) in &library().names {
            assert_eq!(**name, *library().read(*number).1.name().text);
        }
        let (_, problems) = resolve::globals(&items);
        assert!(problems.is_empty(), "{problems:#?}");
        let unknown = resolve::resolve(&project, &items);
        assert!(unknown.is_empty(), "{unknown:#?}");
    }
}
