//! Weights by name: saved as one safetensors file, loaded with every tensor's name, dtype and shape checked.

use std::path::Path;

use crate::diag::{Diagnostic, nearest};
use crate::driver::Session;
use crate::driver::layout::{Layout, Slot};
use crate::formats::safetensors::{self, Entry, WeightFile};
use crate::frontend::model::Load;

/// How many mistakes of one file are listed.
const MOST_NOTES: usize = 12;

/// Writes all parameters and states.
///
/// # Errors
/// If the file cannot be written.
pub fn save(session: &Session, path: &Path) -> Result<(), Diagnostic> {
    let entries = entries(session.parameters());
    safetensors::write(path, &entries, session.parameter_bytes())
        .map_err(|error| Diagnostic::error_without_place(error.to_string()))
}

/// Reads all parameters and states from a file, which is used where it lies if its layout is the session's.
///
/// # Errors
/// If the file is broken, or lacks a tensor, has one too many or one of another shape: all of them are named.
pub fn load(session: &mut Session, path: &Path) -> Result<(), Diagnostic> {
    let file = WeightFile::open(path).map_err(|error| Diagnostic::error_without_place(error.to_string()))?;
    check(session.parameters(), &file)?;
    if file.is_aligned() && file.entries() == entries(session.parameters()) {
        let stored = session.set_storage(Box::new(file.into_data()));
        return stored.map_err(|error| Diagnostic::error_without_place(error.to_string()));
    }
    for entry in file.entries() {
        let slot = session.parameters().find(&entry.name).expect("every tensor of the file was found");
        let range = slot.offset..slot.offset + slot.bytes();
        session.parameter_bytes_mut()[range].copy_from_slice(file.bytes(entry));
    }
    Ok(())
}

/// Reads what `load` of a recipe asks for; paths are relative to `folder`.
///
/// With `into`, the file's tensors are those of the layer: called as in the model, or as if the layer were the whole of it.
///
/// # Errors
/// As [`load`], at the recipe's line.
pub fn load_for_recipe(session: &mut Session, wanted: &Load, folder: &Path) -> Result<(), Diagnostic> {
    let path = folder.join(&wanted.path);
    let loaded = match &wanted.into {
        None => load(session, &path),
        Some(layer) => load_into(session, &path, layer),
    };
    loaded.map_err(|error| {
        let mut placed = Diagnostic::error(wanted.span, error.message);
        placed.notes = error.notes;
        placed.help = error.help;
        placed
    })
}

fn load_into(session: &mut Session, path: &Path, layer: &str) -> Result<(), Diagnostic> {
    let file = WeightFile::open(path).map_err(|error| Diagnostic::error_without_place(error.to_string()))?;
    let prefix = format!("{layer}.");
    let full = file.entries().iter().any(|e| e.name.starts_with(&prefix));
    let name = |slot: &Slot| if full { slot.path.clone() } else { slot.path[prefix.len()..].to_owned() };
    let slots: Vec<Slot> =
        session.parameters().slots().iter().filter(|s| s.path.starts_with(&prefix)).cloned().collect();
    let mut notes = Vec::new();
    for slot in &slots {
        let wanted = entry(slot);
        match file.entries().iter().find(|e| e.name == name(slot)) {
            None => notes.push(format!("the file has no `{}` ({})", name(slot), wanted.described())),
            Some(found) if !same_type(found, &wanted) => notes.push(differs(found, &wanted)),
            Some(_) => {}
        }
    }
    // A file of the whole model has tensors of other layers too; one of the layer alone should have no others.
    let own = |e: &&Entry| if full { e.name.starts_with(&prefix) } else { true };
    let unexpected = file.entries().iter().filter(own).filter(|e| !slots.iter().any(|s| name(s) == e.name));
    notes.extend(unexpected.map(|e| format!("the file's `{}` ({}) is not in `{layer}`", e.name, e.described())));
    fits(&file, &format!("`{layer}`"), notes)?;
    for slot in &slots {
        let found = file.entries().iter().find(|e| e.name == name(slot)).expect("every tensor was found");
        let range = slot.offset..slot.offset + slot.bytes();
        session.parameter_bytes_mut()[range].copy_from_slice(file.bytes(found));
    }
    Ok(())
}

fn same_type(a: &Entry, b: &Entry) -> bool {
    a.shape == b.shape && a.dtype == b.dtype
}

fn differs(found: &Entry, wanted: &Entry) -> String {
    format!("`{}` is {} in the model, {} in the file", wanted.name, wanted.described(), found.described())
}

pub(super) fn entries(layout: &Layout) -> Vec<Entry> {
    layout.slots().iter().map(entry).collect()
}

pub(super) fn entry(slot: &Slot) -> Entry {
    Entry {
        name: slot.path.clone(),
        dtype: slot.dtype.storage(),
        shape: slot.shape.clone(),
        offset: slot.offset,
        length: slot.bytes(),
    }
}

/// Compares the file's tensors with the model's.
fn check(layout: &Layout, file: &WeightFile) -> Result<(), Diagnostic> {
    let mut notes = Vec::new();
    for slot in layout.slots() {
        let wanted = entry(slot);
        match file.entries().iter().find(|e| e.name == slot.path) {
            None => notes.push(missing(&wanted, layout, file)),
            Some(found) if !same_type(found, &wanted) => notes.push(differs(found, &wanted)),
            Some(_) => {}
        }
    }
    let unexpected = file.entries().iter().filter(|e| layout.find(&e.name).is_none());
    notes.extend(unexpected.map(|e| format!("the file's `{}` ({}) is not in the model", e.name, e.described())));
    fits(file, "the model", notes)
}

/// An error that lists what is wrong, if anything is.
fn fits(file: &WeightFile, target: &str, notes: Vec<String>) -> Result<(), Diagnostic> {
    if notes.is_empty() {
        return Ok(());
    }
    let mut diagnostic = Diagnostic::error_without_place(format!("`{}` does not fit {target}", file.path.display()));
    let rest = notes.len().saturating_sub(MOST_NOTES);
    diagnostic.notes = notes.into_iter().take(MOST_NOTES).collect();
    if rest > 0 {
        diagnostic = diagnostic.note(format!("and {rest} more"));
    }
    Err(diagnostic)
}

fn missing(wanted: &Entry, layout: &Layout, file: &WeightFile) -> String {
    let spare = file.entries().iter().map(|e| e.name.as_str()).filter(|name| layout.find(name).is_none());
    let hint = match nearest(&wanted.name, spare) {
        Some(near) => format!("; did you mean its `{near}`?"),
        None => String::new(),
    };
    format!("the file has no `{}` ({}){hint}", wanted.name, wanted.described())
}
