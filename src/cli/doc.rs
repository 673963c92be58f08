//! `nnc doc [NAME]`: the reference of everything that has a name.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::console::Console;
use super::{Failure, Global};
use crate::diag::{Diagnostic, Severity};
use crate::doc::{html, text};
use crate::frontend::Project;
use crate::frontend::doc::{Entry, entries, entries_of, find, near};

/// Print the reference of a layer, loss, optimizer, operation or word, with its source
#[derive(Debug, clap::Args)]
pub struct Doc {
    /// The name, or a .nn file whose own items are meant [default: a list of everything]
    #[arg(value_name = "NAME|F.nn")]
    name: Option<String>,
    /// Look in this file first, then in the library
    #[arg(long, value_name = "F.nn")]
    file: Option<PathBuf>,
    /// Write the whole reference as one page
    #[arg(long, value_name = "OUT.html")]
    html: Option<PathBuf>,
}

/// What `--json` prints of an entry.
#[derive(Serialize)]
struct Described<'a> {
    event: &'static str,
    #[serde(flatten)]
    entry: &'a Entry,
}

#[derive(Serialize)]
struct Written<'a> {
    event: &'static str,
    html: &'a Path,
    entries: usize,
}

/// How many names are suggested for one that is not there.
const SUGGESTIONS: usize = 6;

impl Doc {
    /// Runs the command.
    pub(super) fn run(&self, console: &Console, global: &Global) -> Result<(), Failure> {
        let named_file = self.name.as_deref().filter(|name| name.ends_with(".nn")).map(PathBuf::from);
        let (file, name) = match named_file {
            Some(_) if self.file.is_some() => return Err(Failure::Usage("two files are named".into())),
            Some(path) => (Some(path), None),
            None => (self.file.clone(), self.name.as_deref()),
        };
        let own = file.as_deref().map(own_entries).transpose()?;
        if let Some(path) = &self.html {
            return write_page(console, path, file.as_deref(), own.unwrap_or_default());
        }
        let look = text::Look { color: global.colors_output(), width: width() };
        match (name, own) {
            (Some(name), own) => describe(console, name, own.unwrap_or_default(), look),
            (None, Some(own)) => {
                show(console, &own.iter().collect::<Vec<_>>(), look);
                Ok(())
            }
            (None, None) => {
                console.result(text::list(entries(), look).trim_end());
                entries().iter().for_each(|entry| console.object(&Described { event: "doc", entry }));
                Ok(())
            }
        }
    }
}

/// The entries of a user's file.
fn own_entries(path: &Path) -> Result<Vec<Entry>, Failure> {
    let unreadable =
        |error: String| Diagnostic::error_without_place(format!("cannot read `{}`: {error}", path.display()));
    let bytes = std::fs::read(path).map_err(|error| unreadable(error.to_string()))?;
    let source = String::from_utf8(bytes).map_err(|_| unreadable("it is not UTF-8 text".into()))?;
    let name = path.display().to_string();
    let (project, diagnostics) = Project::parse(&name, &source);
    if diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error) {
        return Err(Failure::Mistakes(diagnostics, project.sources));
    }
    Ok(entries_of(&name, &source, project.file()))
}

fn describe(console: &Console, name: &str, own: Vec<Entry>, look: text::Look) -> Result<(), Failure> {
    let all: Vec<Entry> = own.into_iter().chain(entries().iter().cloned()).collect();
    let found = find(&all, name);
    if found.is_empty() {
        let near = near(&all, name, SUGGESTIONS);
        let diagnostic = Diagnostic::error_without_place(format!("the reference has no `{name}`"));
        return Err(match near.as_slice() {
            [] => diagnostic.help("`nnc doc` lists everything").into(),
            [only] => diagnostic.help(format!("did you mean `{only}`?")).into(),
            several => diagnostic.help(format!("it has {}", several.join(", "))).into(),
        });
    }
    show(console, &found, look);
    Ok(())
}

fn show(console: &Console, entries: &[&Entry], look: text::Look) {
    let texts: Vec<String> = entries.iter().map(|entry| text::entry(entry, look)).collect();
    console.result(texts.join("\n").trim_end());
    entries.iter().for_each(|entry| console.object(&Described { event: "doc", entry }));
}

fn write_page(console: &Console, path: &Path, file: Option<&Path>, own: Vec<Entry>) -> Result<(), Failure> {
    let title = match file {
        Some(file) => format!("{} and the nn language", file.display()),
        None => format!("The nn language and its library, version {}", env!("CARGO_PKG_VERSION")),
    };
    let mut all = own;
    all.extend(entries().iter().cloned());
    std::fs::write(path, html::page(&title, &all))
        .map_err(|error| Diagnostic::error_without_place(format!("cannot write `{}`: {error}", path.display())))?;
    console.object(&Written { event: "doc", html: path, entries: all.len() });
    if !console.quiet {
        console.result(&format!("{} entries in {}", all.len(), path.display()));
    }
    Ok(())
}

/// Where prose is broken: at what the shell says of the terminal, within reason.
fn width() -> usize {
    let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    columns.unwrap_or(100usize).clamp(40, 120)
}
