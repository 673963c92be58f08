//! The standard library: `.nn` files that are part of the program.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use super::ast::{self, Item};
use super::{Global, parse, resolve};
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

struct Library {
    files: Vec<ast::File>,
    names: Arc<HashMap<Arc<str>, Global>>,
}

fn read() -> &'static Library {
    static LIBRARY: OnceLock<Library> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let files = parse_files();
        let items: Vec<Item> = files.iter().flat_map(|f| f.items.iter().cloned()).collect();
        let names = Arc::new(resolve::globals(&items).0);
        Library { files, names }
    })
}

/// The syntax trees of all files. Every command waits for them, so two threads share the texts.
fn parse_files() -> Vec<ast::File> {
    let parse = |files: Range<usize>| -> Vec<ast::File> {
        files.map(|i| parse::parse(FILES[i].1, FileId(FIRST + i as u32)).0).collect()
    };
    let bytes = |files: &[(&str, &str)]| files.iter().map(|(_, text)| text.len()).sum::<usize>();
    let half = (0..FILES.len()).find(|i| 2 * bytes(&FILES[..*i]) >= bytes(FILES)).unwrap_or(FILES.len());
    std::thread::scope(|scope| {
        let other = std::thread::Builder::new().spawn_scoped(scope, || parse(half..FILES.len()));
        let mut files = parse(0..half);
        files.extend(match other {
            Ok(other) => other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(_) => parse(half..FILES.len()),
        });
        files
    })
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

/// The library's names.
pub(crate) fn library() -> Arc<HashMap<Arc<str>, Global>> {
    read().names.clone()
}

/// The library's items, file by file, in the order of the texts.
pub fn items() -> impl Iterator<Item = (&'static str, &'static Item)> {
    let files = FILES.iter().zip(&read().files);
    files.flat_map(|((name, _), file)| file.items.iter().map(move |item| (*name, item)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frontend::{Project, ast::Item};

    #[test]
    fn the_library_parses_and_every_name_in_it_is_known() {
        for (i, (name, text)) in FILES.iter().enumerate() {
            let (_, diagnostics) = parse::parse(text, FileId(FIRST + i as u32));
            assert!(diagnostics.is_empty(), "{name}: {diagnostics:#?}");
        }
        let (project, _) = Project::parse("<string>", "");
        let items: Vec<Item> = items().map(|(_, item)| item.clone()).collect();
        let (_, problems) = resolve::globals(&items);
        assert!(problems.is_empty(), "{problems:#?}");
        let unknown = resolve::resolve(&project, &items);
        assert!(unknown.is_empty(), "{unknown:#?}");
    }
}
