//! Checkpoints: everything that the next step depends on, in one file that appears whole or not at all.
//!
//! The file is `DIR/checkpoint.safetensors`: the parameters and states as `parameters/PATH`, those of the optimizer as `optimizer/NAME`,
//! the best weights so far as `best/PATH`, and where training is as `position`, the bytes of a JSON object. Floats in it
//! are kept by their bits, so that a resumed run goes on as if it had never ended.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::diag::Diagnostic;
use crate::driver::Session;
use crate::driver::layout::Layout;
use crate::formats::safetensors::{self, Entry, WeightFile};
use crate::frontend::model::Recipe;
use crate::ir::types::DType;

use super::measure::MeansMemory;
use super::schedule::WatchMemory;
use super::weights;

const FILE: &str = "checkpoint.safetensors";
const POSITION: &str = "position";
/// Raised when the meaning of a checkpoint changes.
const VERSION: u32 = 1;

/// Where a run is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Position {
    version: u32,
    pub model: String,
    pub phase: String,
    /// What decides which rows a step takes; a run with another cannot go on from here.
    pub order: RowOrder,
    /// The epoch that runs, from 1.
    pub epoch: u64,
    /// The steps of it that are done.
    pub batch: usize,
    /// Steps done in the phase, and in those before it.
    pub steps: u64,
    pub earlier_steps: u64,
    pub(super) means: MeansMemory,
    pub(super) keep: Option<WatchMemory>,
    pub(super) stops: Vec<WatchMemory>,
    pub best_epoch: Option<u64>,
}

/// What decides which rows a step takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RowOrder {
    pub seed: u64,
    pub rows: usize,
    pub rows_of_a_step: usize,
    pub shuffle: bool,
}

impl Position {
    /// The beginning of a phase.
    pub fn start(model: &str, recipe: &Recipe, order: RowOrder, earlier_steps: u64) -> Position {
        Position {
            version: VERSION,
            model: model.to_owned(),
            phase: recipe.phase.clone(),
            order,
            epoch: 1,
            batch: 0,
            steps: 0,
            earlier_steps,
            means: MeansMemory::default(),
            keep: None,
            stops: Vec::new(),
            best_epoch: None,
        }
    }
}

/// A checkpoint that has been read.
pub struct Checkpoint {
    pub position: Position,
    file: WeightFile,
}

/// The file of a folder.
pub fn path_in(folder: &Path) -> PathBuf {
    folder.join(FILE)
}

/// Writes a checkpoint into `folder`, which is made if it is missing. `best` are the best weights so far.
///
/// # Errors
/// If the folder or the file cannot be written; the checkpoint before, if any, is untouched.
pub fn save(session: &Session, position: &Position, best: Option<&[u8]>, folder: &Path) -> Result<(), Diagnostic> {
    std::fs::create_dir_all(folder).map_err(|error| {
        Diagnostic::error_without_place(format!("cannot make the folder `{}`: {error}", folder.display()))
    })?;
    let (mut entries, mut data) = (Vec::new(), Vec::new());
    let mut block = |prefix: &str, layout: &Layout, bytes: &[u8]| {
        entries.extend(weights::entries(layout).into_iter().map(|e| Entry {
            name: format!("{prefix}/{}", e.name),
            offset: data.len() + e.offset,
            ..e
        }));
        data.extend_from_slice(bytes);
    };
    block("parameters", session.parameters(), session.parameter_bytes());
    block("optimizer", session.optimizer_layout(), session.optimizer_bytes());
    if let Some(best) = best {
        block("best", session.parameters(), best);
    }
    let position = serde_json::to_vec(position).expect("a position has no keys but text");
    let (offset, length) = (data.len(), position.len());
    entries.push(Entry { name: POSITION.into(), dtype: DType::U8, shape: vec![length], offset, length });
    data.extend_from_slice(&position);
    safetensors::write(&path_in(folder), &entries, &data)
        .map_err(|error| Diagnostic::error_without_place(error.to_string()))
}

impl Checkpoint {
    /// Reads the checkpoint in `folder`.
    ///
    /// # Errors
    /// If there is none, or it is no checkpoint of this compiler.
    pub fn open(folder: &Path) -> Result<Checkpoint, Diagnostic> {
        let path = path_in(folder);
        let file = WeightFile::open(&path).map_err(|error| Diagnostic::error_without_place(error.to_string()))?;
        let position = file.entries().iter().find(|e| e.name == POSITION);
        let position = position.and_then(|e| serde_json::from_slice::<Position>(file.bytes(e)).ok());
        match position {
            Some(position) if position.version == VERSION => Ok(Checkpoint { position, file }),
            _ => {
                let message = format!("`{}` is no checkpoint of this version of nnc", path.display());
                Err(Diagnostic::error_without_place(message))
            }
        }
    }

    /// Puts the weights and the optimizer's states into the session; returns the best weights so far.
    ///
    /// # Errors
    /// If the model or its recipe is another than the checkpoint's.
    pub fn restore(&self, session: &mut Session) -> Result<Option<Vec<u8>>, Diagnostic> {
        let parameters = self.block("parameters", session.parameters())?;
        let optimizer = self.block("optimizer", session.optimizer_layout())?;
        let best = match self.position.best_epoch {
            Some(_) => Some(self.block("best", session.parameters())?),
            None => None,
        };
        session.parameter_bytes_mut().copy_from_slice(&parameters);
        session.optimizer_bytes_mut().copy_from_slice(&optimizer);
        let step = i32::try_from(self.position.steps);
        session.set_step(step.map_err(|_| self.misfit("it has more than 2147483647 steps".into()))?);
        Ok(best)
    }

    /// The bytes of a block whose tensors are all in the file, and no others.
    fn block(&self, prefix: &str, layout: &Layout) -> Result<Vec<u8>, Diagnostic> {
        let mut bytes = vec![0; layout.bytes()];
        for slot in layout.slots() {
            let name = format!("{prefix}/{}", slot.path);
            let wanted = weights::entry(slot);
            let found = self.file.entries().iter().find(|e| e.name == name);
            let Some(found) = found.filter(|e| e.shape == wanted.shape && e.dtype == wanted.dtype) else {
                return Err(self.misfit(match found {
                    Some(e) => format!("`{name}` is {} in it, {} in the model", e.described(), wanted.described()),
                    None => format!("it has no `{name}` ({})", wanted.described()),
                }));
            };
            bytes[slot.offset..slot.offset + slot.bytes()].copy_from_slice(self.file.bytes(found));
        }
        let known = |e: &&Entry| match e.name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('/')) {
            Some(path) => layout.find(path).is_none(),
            None => false,
        };
        match self.file.entries().iter().filter(known).min_by_key(|e| &e.name) {
            Some(e) => Err(self.misfit(format!("its `{}` is not in the model", e.name))),
            None => Ok(bytes),
        }
    }

    /// Checks that the run that goes on takes the rows that the checkpoint's would have taken.
    ///
    /// # Errors
    /// What differs.
    pub fn check(&self, model: &str, order: &RowOrder) -> Result<(), Diagnostic> {
        let was = &self.position.order;
        let differences = [
            (self.position.model != model).then(|| format!("the model was {}, it is {model}", self.position.model)),
            (was.seed != order.seed).then(|| format!("the seed was {}, it is {}", was.seed, order.seed)),
            (was.rows != order.rows)
                .then(|| format!("there were {} training rows, there are {}", was.rows, order.rows)),
            (was.rows_of_a_step != order.rows_of_a_step)
                .then(|| format!("a step took {} rows, it takes {}", was.rows_of_a_step, order.rows_of_a_step)),
            (was.shuffle != order.shuffle).then(|| format!("`shuffle` was {}, it is {}", was.shuffle, order.shuffle)),
        ];
        match differences.into_iter().flatten().next() {
            Some(difference) => Err(self.misfit(difference)),
            None => Ok(()),
        }
    }

    fn misfit(&self, what: String) -> Diagnostic {
        let path = self.file.path.display();
        Diagnostic::error_without_place(format!("training cannot go on from `{path}`: the run is another")).note(what)
    }
}
