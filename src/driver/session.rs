//! A compiled model in memory: its weights, its optimizer state, and calls of its entry points.
//!
//! Entry points are compiled when first called with a batch size, and kept. What a call of generated code takes is known to [`super::loaded`] alone;
//! [`super::profile`] calls the kernels of an entry one by one.

use crate::codegen::Target;
use crate::diag::nearest;
use crate::ir::graph::Role;
use crate::passes::{self, Limits};

use super::bytes::AlignedBytes;
use super::error::Error;
use super::fields::Fields;
use super::fit::Excess;
use super::layout::{Layout, Slot};
use super::loaded::{LoadedEntries, LoadedEntry, Memory, Numbers, Run, find_field};
use super::slice::{Output, Slice};
use super::{Compiled, Entry};

/// How code is compiled into memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct JitOptions {
    /// Threads that run a step; 0 means one for each core. Results do not depend on it.
    pub threads: usize,
}

/// Memory that holds weights: owned bytes, or a private mapping of a weight file.
pub trait Storage: AsRef<[u8]> + AsMut<[u8]> + Send {}

impl<T: AsRef<[u8]> + AsMut<[u8]> + Send> Storage for T {}

/// Losses and metrics of one call, in the order of the model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    pub losses: Vec<(String, f64)>,
    pub metrics: Vec<(String, f64)>,
}

impl Report {
    /// The loss or metric called `name`.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.losses.iter().chain(&self.metrics).find(|(n, _)| n == name).map(|(_, v)| *v)
    }

    /// Losses, then metrics.
    pub fn values(&self) -> impl Iterator<Item = (&str, f64)> {
        self.losses.iter().chain(&self.metrics).map(|(n, v)| (n.as_str(), *v))
    }
}

/// A compiled model with weights.
pub struct Session {
    compiled: Compiled,
    fields: Fields,
    pool: Option<nn_rt::Pool>,
    layout: Layout,
    parameters: Box<dyn Storage>,
    optimizer_layout: Layout,
    optimizer: AlignedBytes,
    entries: LoadedEntries,
    workspace: AlignedBytes,
    /// How often parameters may have changed.
    changes: u64,
    seed: u64,
    step: i32,
    epoch: i32,
}

impl Session {
    pub(super) fn new(compiled: Compiled, options: JitOptions) -> Result<Session, Error> {
        let threads = match options.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n,
        };
        let layout = compiled.parameter_layout()?;
        let optimizer_layout = compiled.optimizer_layout()?;
        let mut session = Session {
            fields: Fields::new(&compiled)?,
            pool: (threads > 1).then(|| nn_rt::Pool::new(threads)),
            parameters: Box::new(AlignedBytes::lasting(layout.bytes())),
            optimizer: AlignedBytes::lasting(optimizer_layout.bytes()),
            layout,
            optimizer_layout,
            entries: LoadedEntries::default(),
            workspace: AlignedBytes::zeroed(0),
            changes: 0,
            seed: 0,
            step: 0,
            epoch: 1,
            compiled,
        };
        session.initialize(session.compiled.model().recipe.as_ref().map_or(0, |r| r.seed))?;
        Ok(session)
    }

    /// The model behind the session.
    pub fn compiled(&self) -> &Compiled {
        &self.compiled
    }

    /// Sets every parameter and state to its first value, drawn from `seed`, and the step counter to 0.
    ///
    /// # Errors
    /// If the initial values cannot be compiled.
    pub fn initialize(&mut self, seed: u64) -> Result<(), Error> {
        (self.seed, self.step, self.epoch) = (seed, 0, 1);
        self.changes += 1;
        let rows = self.compiled.nominal_rows();
        let called = self.call(Entry::Init, rows, &[])?;
        for output in self.entries[called].take_results() {
            let (block, slot): (&mut [u8], &Slot) = match self.layout.find(&output.name) {
                Some(slot) => ((*self.parameters).as_mut(), slot),
                None => match self.optimizer_layout.find(&output.name) {
                    Some(slot) => (self.optimizer.as_mut(), slot),
                    None => continue,
                },
            };
            block[slot.offset..slot.offset + slot.bytes()].copy_from_slice(output.bytes());
        }
        Ok(())
    }

    /// The threads that run a step.
    pub fn threads(&self) -> usize {
        self.pool.as_ref().map_or(1, nn_rt::Pool::threads)
    }

    /// How the weights lie in [`parameter_bytes`](Self::parameter_bytes).
    pub fn parameters(&self) -> &Layout {
        &self.layout
    }

    /// All parameters and model states: the data section of the weight file.
    pub fn parameter_bytes(&self) -> &[u8] {
        (*self.parameters).as_ref()
    }

    /// The weights, to be changed in place.
    pub fn parameter_bytes_mut(&mut self) -> &mut [u8] {
        self.changes += 1;
        (*self.parameters).as_mut()
    }

    /// Puts the weights into other memory, such as a private mapping of a file laid out like [`parameters`](Self::parameters).
    ///
    /// # Errors
    /// If the memory has another length than the layout.
    pub fn set_storage(&mut self, storage: Box<dyn Storage>) -> Result<(), Error> {
        let (found, expected) = ((*storage).as_ref().len(), self.layout.bytes());
        if found != expected {
            return Err(Error::Weights(format!("the weights take {expected} bytes, not {found}")));
        }
        self.parameters = storage;
        self.changes += 1;
        Ok(())
    }

    /// How the optimizer's states lie in [`optimizer_bytes`](Self::optimizer_bytes).
    pub fn optimizer_layout(&self) -> &Layout {
        &self.optimizer_layout
    }

    /// The optimizer's states.
    pub fn optimizer_bytes(&self) -> &[u8] {
        self.optimizer.as_ref()
    }

    /// The optimizer's states, to be changed in place.
    pub fn optimizer_bytes_mut(&mut self) -> &mut [u8] {
        self.optimizer.as_mut()
    }

    /// The elements of one parameter or state.
    pub fn parameter(&self, path: &str) -> Option<Output> {
        let slot = self.layout.find(path)?;
        let bytes = &self.parameter_bytes()[slot.offset..slot.offset + slot.bytes()];
        Some(Output {
            name: path.to_string(),
            dtype: slot.dtype,
            shape: slot.shape.clone(),
            data: AlignedBytes::copy_of(bytes),
        })
    }

    /// Sets one parameter or state.
    ///
    /// # Errors
    /// If there is no such path, or `elements` has another dtype or length.
    pub fn set_parameter<'a>(&mut self, path: &str, elements: impl Into<Slice<'a>>) -> Result<(), Error> {
        let elements = elements.into();
        let slot = self.layout.find(path).ok_or_else(|| {
            let near = nearest(path, self.layout.slots().iter().map(|s| s.path.as_str()));
            let hint = near.map_or(String::new(), |n| format!("; did you mean `{n}`?"));
            Error::Weights(format!("the model has no parameter `{path}`{hint}"))
        })?;
        if elements.dtype() != slot.dtype || elements.bytes().len() != slot.bytes() {
            return Err(Error::Weights(format!(
                "`{path}` holds {} bytes of {}, not {} bytes of {}",
                slot.bytes(),
                slot.dtype,
                elements.bytes().len(),
                elements.dtype()
            )));
        }
        let range = slot.offset..slot.offset + slot.bytes();
        self.parameter_bytes_mut()[range].copy_from_slice(elements.bytes());
        Ok(())
    }

    /// Training steps done so far.
    pub fn step(&self) -> i32 {
        self.step
    }

    /// Goes on as after `step` training steps.
    pub fn set_step(&mut self, step: i32) {
        self.step = step;
    }

    /// Sets the seed of draws from now on; parameters stay as they are.
    pub fn set_seed(&mut self, seed: u64) {
        self.seed = seed;
    }

    /// Sets the epoch (from 1) that schedules see.
    pub fn set_epoch(&mut self, epoch: i32) {
        self.epoch = epoch;
    }

    /// One training step on a batch: forward, gradients, optimizer, states.
    ///
    /// # Errors
    /// If a field is missing or does not fit, or the model has no training step.
    pub fn train_step(&mut self, fields: &[(&str, Slice<'_>)]) -> Result<Report, Error> {
        let rows = self.fields.rows_of(fields)?;
        let before = self.step;
        self.step += 1;
        let called = self.call(Entry::TrainStep, rows, fields).inspect_err(|_| self.step = before)?;
        Ok(self.entries[called].report())
    }

    /// Losses and metrics of a batch, without training.
    ///
    /// # Errors
    /// As [`train_step`](Self::train_step).
    pub fn evaluate(&mut self, fields: &[(&str, Slice<'_>)]) -> Result<Report, Error> {
        let rows = self.fields.rows_of(fields)?;
        let called = self.call(Entry::Eval, rows, fields)?;
        Ok(self.entries[called].report())
    }

    /// As [`evaluate`](Self::evaluate), with the rows that the model's metrics of a whole set gather.
    ///
    /// # Errors
    /// As [`train_step`](Self::train_step).
    pub fn gather(&mut self, fields: &[(&str, Slice<'_>)]) -> Result<(Report, Vec<Output>), Error> {
        if self.compiled.model().entries.whole().is_none() {
            return Ok((self.evaluate(fields)?, Vec::new()));
        }
        let rows = self.fields.rows_of(fields)?;
        let called = self.call(Entry::Gather, rows, fields)?;
        let report = self.entries[called].report();
        let gathered = self.entries[called].take_results().split_off(report.losses.len() + report.metrics.len());
        Ok((report, gathered))
    }

    /// The metrics of a whole set of `rows` rows, all of which were gathered.
    ///
    /// # Errors
    /// If a gathered tensor is missing or has another length.
    pub fn finish(&mut self, rows: usize, gathered: &[(&str, Slice<'_>)]) -> Result<Vec<Output>, Error> {
        let number = self.number(Entry::Finish, rows)?;
        for argument in &self.entries[number].function.arguments {
            if argument.role == Role::Input {
                let bytes = argument.ty.elements().unwrap_or(0) * argument.ty.dtype.bytes();
                let found = find_field(&argument.name, gathered)?.bytes().len();
                if found != bytes {
                    let reason = format!("{found} bytes were gathered, not {bytes}");
                    return Err(Error::Field { field: argument.name.clone(), reason });
                }
            }
        }
        let called = self.call(Entry::Finish, rows, gathered)?;
        Ok(self.entries[called].take_results())
    }

    /// The model's outputs for a batch.
    ///
    /// # Errors
    /// As [`train_step`](Self::train_step).
    pub fn infer(&mut self, fields: &[(&str, Slice<'_>)]) -> Result<Vec<Output>, Error> {
        let rows = self.fields.rows_of(fields)?;
        let called = self.call(Entry::Infer, rows, fields)?;
        Ok(self.entries[called].take_results())
    }

    /// The model's outputs for a batch, which the next call for as many rows overwrites: nothing is allocated once there has been one.
    ///
    /// # Errors
    /// As [`train_step`](Self::train_step).
    pub fn infer_in_place(&mut self, fields: &[(&str, Slice<'_>)]) -> Result<&[Output], Error> {
        let rows = self.fields.rows_of(fields)?;
        let called = self.call(Entry::Infer, rows, fields)?;
        Ok(self.entries[called].results())
    }

    /// Compiles an entry point for a batch size, if that has not been done.
    ///
    /// # Errors
    /// If it cannot be compiled.
    pub fn prepare(&mut self, entry: Entry, rows: usize) -> Result<(), Error> {
        self.number(entry, rows).map(|_| ())
    }

    /// The number of a compiled entry point; it is compiled if need be.
    fn number(&mut self, entry: Entry, rows: usize) -> Result<usize, Error> {
        if let Some(number) = self.entries.number(entry, rows) {
            return Ok(number);
        }
        let sizes = self.compiled.sizes(rows)?;
        let limits = Limits { ahead: entry.has_ahead(), ..self.compiled.limits_for(&Target::host()) };
        let lowered = self.compiled.lower(self.compiled.function(entry)?, &sizes, &limits)?;
        let workspace_bytes = lowered.workspace_bytes() as usize;
        let loaded = LoadedEntry::new(lowered, &self.layout, &self.optimizer_layout)?;
        if self.workspace.as_ref().len() < workspace_bytes {
            self.workspace = AlignedBytes::lasting(workspace_bytes);
        }
        Ok(self.entries.add(entry, rows, loaded))
    }

    /// Where each buffer of a compiled entry point lies in its workspace, and from which step to which; empty if it has not been compiled.
    pub fn memory_plan(&self, entry: Entry, rows: usize) -> String {
        self.entries.find(entry, rows).map_or(String::new(), |l| passes::plan_memory::describe(&l.program))
    }

    /// Bytes of workspace that an entry point compiled for `rows` uses; 0 if it has not been compiled.
    pub fn workspace_bytes(&self, entry: Entry, rows: usize) -> usize {
        self.entries.find(entry, rows).map_or(0, |l| l.program.arena_bytes as usize)
    }

    /// Whether a compiled entry point takes more memory than the limit, since nothing less can be kept to.
    pub fn excess(&self, entry: Entry, rows: usize) -> Option<Excess> {
        let loaded = self.entries.find(entry, rows)?;
        self.compiled.excess(entry, rows, loaded.program.arena_bytes.max(loaded.arena_bytes_ahead()))
    }

    /// Calls an entry point, which is compiled if need be, and gives its number. Its results lie in the loaded entry.
    fn call(&mut self, entry: Entry, rows: usize, fields: &[(&str, Slice<'_>)]) -> Result<usize, Error> {
        let number = self.number(entry, rows)?;
        self.with_pointers(number, entry, fields, |loaded, run| {
            let pool = run.pool.map_or(std::ptr::null(), nn_rt::Pool::as_ptr);
            // SAFETY: the program's pointers are, in order, its function's arguments and its results that are no updates, as `Run`
            // promises; so is the workspace. The pool outlives the call.
            unsafe { (loaded.call)(run.pointers.as_ptr(), run.workspace, pool) };
        })?;
        Ok(number)
    }

    /// Hands what a call of an entry point takes to `run`, after compiling it if need be.
    ///
    /// # Errors
    /// If a field does not fit, or the entry cannot be compiled.
    pub(super) fn with_call<R>(
        &mut self,
        entry: Entry,
        fields: &[(&str, Slice<'_>)],
        run: impl FnOnce(&LoadedEntry, &Run<'_>) -> R,
    ) -> Result<R, Error> {
        let rows = self.fields.rows_of(fields)?;
        let number = self.number(entry, rows)?;
        self.with_pointers(number, entry, fields, run)
    }

    /// The fields are those of as many rows as the entry of this number was compiled for.
    fn with_pointers<R>(
        &mut self,
        number: usize,
        entry: Entry,
        fields: &[(&str, Slice<'_>)],
        run: impl FnOnce(&LoadedEntry, &Run<'_>) -> R,
    ) -> Result<R, Error> {
        let trains = entry == Entry::TrainStep;
        self.changes += u64::from(trains);
        let mut memory = Memory {
            parameters: (*self.parameters).as_mut(),
            optimizer: self.optimizer.as_mut(),
            workspace: self.workspace.as_mut(),
            pool: self.pool.as_ref(),
        };
        let numbers = Numbers {
            seed: [self.seed as u32, (self.seed >> 32) as u32],
            // At inference and initialization no step is being taken, so draws come from the seed alone.
            step: if trains { self.step } else { 0 },
            epoch: self.epoch,
        };
        let loaded = &mut self.entries[number];
        loaded.compute_ahead(&mut memory, &self.layout, self.changes);
        loaded.with_pointers(fields, memory, &numbers, run)
    }
}
