//! Which lines of a `train` block make up a phase: its own, and those around the phases that it does not replace.

use super::recipe::{entry_word, single_entry};
use super::{Elaborator, Outcome};
use crate::diag::{Diagnostic, nearest};
use crate::frontend::ast::{Item, TrainBlock, TrainEntry, TrainEntryKind};
use crate::frontend::model::MAIN_PHASE;

/// A phase's lines.
pub(super) struct PhaseEntries<'e> {
    pub name: String,
    /// The names of all phases.
    pub all: Vec<String>,
    pub entries: Vec<&'e TrainEntry>,
}

/// The names of the phases of a block; one called `main` if it has none.
fn names(block: &TrainBlock) -> Vec<String> {
    let named: Vec<String> = block
        .entries
        .iter()
        .filter_map(|e| match &e.kind {
            TrainEntryKind::Phase { name, .. } => Some(name.to_string()),
            _ => None,
        })
        .collect();
    if named.is_empty() { vec![MAIN_PHASE.to_owned()] } else { named }
}

/// The names of the phases of a model's recipe; none without a recipe.
pub(in crate::frontend) fn phase_names(items: &[Item], model: &str) -> Vec<String> {
    let block = items.iter().find_map(|item| match item {
        Item::Train(block) if block.model.as_ref().is_none_or(|m| *m.text == *model) => Some(block),
        _ => None,
    });
    block.map(|b| names(b)).unwrap_or_default()
}

impl Elaborator<'_> {
    /// The lines of the phase that the settings choose, the first one if they do not say.
    pub(super) fn phase_entries<'e>(&mut self, block: &'e TrainBlock) -> Outcome<PhaseEntries<'e>> {
        let all = names(block);
        let name = self.settings.phase.clone().unwrap_or_else(|| all[0].clone());
        let Some(number) = all.iter().position(|p| *p == name) else {
            let diagnostic = Diagnostic::error_without_place(format!("the recipe has no phase `{name}`"));
            return Err(self.fail(match nearest(&name, all.iter().map(String::as_str)) {
                Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
                None => diagnostic.help(format!("it has {}", all.join(", "))),
            }));
        };
        self.check_phases(block)?;
        let own = block.entries.iter().find_map(|e| match &e.kind {
            TrainEntryKind::Phase { name: found, entries } if **found == *name => Some(entries.as_slice()),
            _ => None,
        });
        let own = own.unwrap_or_default();
        let replaced = |entry: &TrainEntry| own.iter().any(|o| entry_word(&o.kind) == entry_word(&entry.kind));
        let outer = block.entries.iter().filter(|e| match &e.kind {
            TrainEntryKind::Phase { .. } => false,
            // What is loaded once for all phases is loaded before the first.
            TrainEntryKind::Load { .. } => number == 0,
            _ => !replaced(e),
        });
        let entries = outer.chain(own).collect();
        Ok(PhaseEntries { name, all, entries })
    }

    /// What can be said of the phases as such.
    fn check_phases(&mut self, block: &TrainBlock) -> Outcome<()> {
        let mut seen: Vec<&str> = Vec::new();
        for entry in &block.entries {
            let TrainEntryKind::Phase { name, entries } = &entry.kind else { continue };
            if seen.contains(&&**name) {
                return Err(self.error(entry.span, format!("there is a second phase `{name}`")));
            }
            seen.push(name);
            for inner in entries {
                let word = entry_word(&inner.kind);
                match &inner.kind {
                    TrainEntryKind::Phase { .. } => {
                        return Err(self.error(inner.span, "a phase cannot stand inside a phase"));
                    }
                    TrainEntryKind::Seed(_) | TrainEntryKind::Validate(_) | TrainEntryKind::Checkpoint { .. } => {
                        let message = format!("`{word}` is the same for all phases: write it outside of them");
                        return Err(self.error(inner.span, message));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// An entry that may stand once stands once.
    pub(super) fn check_single(&mut self, entries: &[TrainEntry]) -> Outcome<()> {
        let mut seen = Vec::new();
        for entry in entries {
            if let Some(word) = single_entry(&entry.kind) {
                if seen.contains(&word) {
                    return Err(self.error(entry.span, format!("`{word}` is said twice")));
                }
                seen.push(word);
            }
            if let TrainEntryKind::Phase { entries, .. } = &entry.kind {
                self.check_single(entries)?;
            }
        }
        Ok(())
    }
}
