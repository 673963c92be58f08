//! Weights by name: saved as one safetensors file, loaded with every tensor's name, dtype and shape checked.

use std::path::Path;

use crate::diag::{Diagnostic, nearest};
use crate::driver::Session;
use crate::driver::layout::{Layout, Slot};
use crate::formats::safetensors::{self, Entry, WeightFile};

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

fn entries(layout: &Layout) -> Vec<Entry> {
    layout.slots().iter().map(entry).collect()
}

fn entry(slot: &Slot) -> Entry {
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
            Some(found) if found.shape != wanted.shape || found.dtype != wanted.dtype => notes.push(format!(
                "`{}` is {} in the model, {} in the file",
                wanted.name,
                wanted.described(),
                found.described()
            )),
            Some(_) => {}
        }
    }
    let unexpected = file.entries().iter().filter(|e| layout.find(&e.name).is_none());
    notes.extend(unexpected.map(|e| format!("the file's `{}` ({}) is not in the model", e.name, e.described())));
    if notes.is_empty() {
        return Ok(());
    }
    let mut diagnostic = Diagnostic::error_without_place(format!("`{}` does not fit the model", file.path.display()));
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
