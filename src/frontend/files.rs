//! The user's file and the files that it uses: reading each once, and what the names in each of them mean.
//!
//! A file sees its own items, then what it uses, then the library. What it uses is not seen by those that use it in turn.
//! An item of its own hides a used one of the same name; two used ones of the same name are a mistake.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::ast::{self, DefinitionKind, Item, Name, Use, Used, UsedName};
use super::{Global, parse, resolve};
use crate::diag::{Diagnostic, FileId, Sources, nearest};

/// Files of one project.
const FILES: usize = 256;
/// Files that use files that use files.
const DEPTH: usize = 32;

/// Reads the bytes of a used file.
pub type Reader<'a> = &'a dyn Fn(&Path) -> Result<Vec<u8>>;

/// One file of the user's.
#[derive(Clone, Debug)]
pub(crate) struct UserFile {
    pub id: FileId,
    pub tree: Arc<ast::File>,
    /// What its own items define.
    pub own: HashMap<Arc<str>, Global>,
    /// What its names mean: its own and those that it uses.
    pub names: HashMap<Arc<str>, Global>,
}

/// Reads a source file, but no more than a source text may have, so that an endless file does not fill the memory.
///
/// # Errors
/// If it cannot be read or is too large.
pub fn read_source(path: &Path) -> Result<Vec<u8>> {
    read_text(File::open(path)?)
}

/// Reads a source text, as [`read_source`] does.
///
/// # Errors
/// If it cannot be read or is too large.
pub fn read_text(input: impl Read) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.take(parse::MAX_SOURCE as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > parse::MAX_SOURCE {
        let limit = parse::MAX_SOURCE / 1024;
        let message = format!("the file is larger than {limit} KiB, which is the limit for a source text");
        return Err(Error::new(ErrorKind::FileTooLarge, message));
    }
    Ok(bytes)
}

/// Reads a used file from the disk. Only plain files: a pipe could keep the compiler waiting.
pub(super) fn read_used(path: &Path) -> Result<Vec<u8>> {
    if !path.metadata()?.is_file() {
        return Err(Error::new(ErrorKind::InvalidInput, "it is no plain file"));
    }
    read_source(path)
}

/// Parses the user's file, which `sources` has as number 0, and all that it uses. The library's texts are in `sources` already.
pub(super) fn load(sources: &mut Sources, read: Reader<'_>) -> (Vec<UserFile>, Vec<Diagnostic>) {
    let main = sources.get(super::MAIN).clone();
    let mut loader =
        Loader { sources, read, files: Vec::new(), known: HashMap::new(), open: Vec::new(), diagnostics: Vec::new() };
    loader.file(super::MAIN, Path::new(&main.name), &main.text);
    loader.files.sort_by_key(|file| file.id.0);
    (loader.files, loader.diagnostics)
}

struct Loader<'a> {
    sources: &'a mut Sources,
    read: Reader<'a>,
    files: Vec<UserFile>,
    /// Files by their places; `None` for one that could not be read.
    known: HashMap<PathBuf, Option<FileId>>,
    /// The files being read: each is used by the one before.
    open: Vec<PathBuf>,
    diagnostics: Vec<Diagnostic>,
}

impl Loader<'_> {
    /// Parses a file and first all files that it uses, so that their names are known.
    fn file(&mut self, id: FileId, path: &Path, text: &str) {
        let (tree, diagnostics) = parse::parse(text, id);
        self.diagnostics.extend(diagnostics);
        self.open.push(plain(path));
        let (own, problems) = resolve::globals(&tree.items);
        self.diagnostics.extend(problems);
        let mut imports = Imports::default();
        for used in tree.items.iter().filter_map(|item| if let Item::Use(used) = item { Some(used) } else { None }) {
            if let Some(file) = self.used(path, used) {
                self.import(&own, &mut imports, used, file);
            }
        }
        self.open.pop();
        let mut names: HashMap<Arc<str>, Global> =
            imports.all.into_iter().map(|(name, (global, _))| (name, global)).collect();
        names.extend(imports.named.into_iter().map(|(name, (global, _))| (name, global)));
        names.extend(own.iter().map(|(name, global)| (name.clone(), global.clone())));
        self.files.push(UserFile { id, tree: Arc::new(tree), own, names });
    }

    /// The number of a used file, which is read now if it was not yet.
    fn used(&mut self, by: &Path, used: &Use) -> Option<FileId> {
        let path = by.parent().unwrap_or(Path::new("")).join(&*used.path);
        let place = plain(&path);
        if let Some(at) = self.open.iter().position(|open| *open == place) {
            self.diagnostics.push(cycle(used, &self.open[at..]));
            return None;
        }
        if let Some(file) = self.known.get(&place) {
            return *file;
        }
        if self.open.len() >= DEPTH || self.known.len() >= FILES {
            let message = format!("more than {FILES} files, or files that use files more than {DEPTH} deep");
            self.diagnostics.push(Diagnostic::error(used.path_span, message));
            return None;
        }
        let file = self.read(&path, used);
        self.known.insert(place, file);
        file
    }

    fn read(&mut self, path: &Path, used: &Use) -> Option<FileId> {
        let name = path.display().to_string();
        let bytes = match (self.read)(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                self.diagnostics.push(unreadable(path, used, &error));
                return None;
            }
        };
        let id = self.sources.add(name, String::from_utf8_lossy(&bytes));
        match parse::decode(&bytes, id) {
            Ok(text) => self.file(id, path, &text),
            Err(diagnostic) => {
                self.diagnostics.push(diagnostic.label(used.path_span, "used here"));
                return None;
            }
        }
        Some(id)
    }

    /// Adds the names that one `use` brings.
    fn import(&mut self, own: &HashMap<Arc<str>, Global>, imports: &mut Imports, used: &Use, file: FileId) {
        match &used.what {
            Used::Module(name) => {
                let global = Global::Module(name.clone(), file);
                self.import_as(own, imports, name, global, "call the file by another name");
            }
            Used::Names(names) => {
                for UsedName { name, alias } in names {
                    if let Some(global) = self.item(file, name) {
                        let help = format!("use it by another name: `{} as ...`", name.text);
                        self.import_as(own, imports, alias.as_ref().unwrap_or(name), global, &help);
                    }
                }
            }
            Used::All => self.import_all(imports, used, file),
        }
    }

    /// What a used file calls `name`.
    fn item(&mut self, file: FileId, name: &Name) -> Option<Global> {
        let own = &self.files.iter().find(|f| f.id == file).expect("a used file has been read").own;
        match own.get(&name.text) {
            Some(Global::Definition(definition)) if definition.kind == DefinitionKind::Model => {
                let diagnostic =
                    Diagnostic::error(name.span, format!("`{}` is a model, which no other file can use", name.text))
                        .label(definition.name.span, "defined here")
                        .help("what models share is written as a `layer`");
                self.diagnostics.push(diagnostic);
                None
            }
            Some(global) => Some(global.clone()),
            None => {
                let items = names_of(own);
                let source = &self.sources.get(file).name;
                self.diagnostics.push(unknown_item(source, &items, name));
                None
            }
        }
    }

    /// A name given by the `use`: as if it were defined here.
    fn import_as(
        &mut self,
        own: &HashMap<Arc<str>, Global>,
        imports: &mut Imports,
        name: &Name,
        global: Global,
        help: &str,
    ) {
        let earlier = own.get(&name.text).map(|global| global.name().span);
        let earlier = earlier.or(imports.named.get(&name.text).map(|(_, first)| first.span));
        if let Some(first) = earlier {
            let message = format!("`{}` is defined twice", name.text);
            self.diagnostics.push(Diagnostic::error(name.span, message).label(first, "also here").help(help));
            return;
        }
        imports.named.insert(name.text.clone(), (global, name.clone()));
    }

    fn import_all(&mut self, imports: &mut Imports, used: &Use, file: FileId) {
        let own = &self.files.iter().find(|f| f.id == file).expect("a used file has been read").own;
        let mut twice = Vec::new();
        for (name, global) in own.iter().filter(|(_, global)| !global.is_model()) {
            match imports.all.get(name) {
                Some((first, path)) if first.name().span != global.name().span => twice.push((name, path.clone())),
                _ => {
                    imports.all.insert(name.clone(), (global.clone(), used.path.clone()));
                }
            }
        }
        twice.sort();
        for (name, path) in twice {
            let message = format!("both `{path}` and `{}` have an item `{name}`", used.path);
            let help = format!("say which names are meant, `use \"{}\" {{ ... }}`, or give the file one", used.path);
            self.diagnostics.push(Diagnostic::error(used.span, message).help(help));
        }
    }
}

/// The names that a file uses, with where they come from.
#[derive(Default)]
struct Imports {
    /// By `use` of whole files, with their paths.
    all: HashMap<Arc<str>, (Global, Arc<str>)>,
    /// By name.
    named: HashMap<Arc<str>, (Global, Name)>,
}

/// The names of a table in order.
pub(super) fn names_of(table: &HashMap<Arc<str>, Global>) -> Vec<&str> {
    let mut names: Vec<&str> = table.iter().filter(|(_, global)| !global.is_model()).map(|(name, _)| &**name).collect();
    names.sort_unstable();
    names
}

/// The error for an item that a used file does not have.
pub(super) fn unknown_item(source: &str, items: &[&str], name: &Name) -> Diagnostic {
    let diagnostic = Diagnostic::error(name.span, format!("`{source}` has no item `{}`", name.text));
    match nearest(&name.text, items.iter().copied()) {
        Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
        None if items.is_empty() => diagnostic.help("it has none"),
        None => diagnostic.help(format!("it has {}", items.join(", "))),
    }
}

fn cycle(used: &Use, open: &[PathBuf]) -> Diagnostic {
    let name = |path: &PathBuf| format!("`{}`", path.file_name().unwrap_or_default().to_string_lossy());
    let mut chain: Vec<String> = open.iter().map(name).collect();
    let first = chain[0].clone();
    chain.push(first.clone());
    let message = match open.len() {
        1 => format!("{first} uses itself"),
        _ => format!("these files use each other: {}", chain.join(" uses ")),
    };
    Diagnostic::error(used.path_span, message).help("move what both need into a file of its own")
}

fn unreadable(path: &Path, used: &Use, error: &Error) -> Diagnostic {
    if error.kind() != ErrorKind::NotFound {
        return Diagnostic::error(used.path_span, format!("cannot read `{}`: {error}", used.path));
    }
    let diagnostic = Diagnostic::error(used.path_span, format!("there is no file `{}`", used.path));
    match path.extension() {
        None => diagnostic.help(format!("the path is that of the file, with its ending: `{}.nn`", used.path)),
        Some(_) => diagnostic.help(format!("paths are relative to the file that says `use`: {}", path.display())),
    }
}

/// The path without `.` and `..`, so that one file has one place.
fn plain(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if matches!(out.components().next_back(), Some(Component::Normal(_))) => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    out
}
