//! A compiled model in memory: its weights, its optimizer state, and calls of its entry points.
//!
//! Entry points are compiled when first called with a batch size, and kept. This is the only place of the crate
//! that knows what a call of generated code takes; [`super::profile`] calls the kernels of an entry one by one.

use rustc_hash::FxHashMap;

use crate::codegen::{self, EntryFunction, Loaded, Target};
use crate::diag::nearest;
use crate::ir::graph::{Function, ResultRole, Role};
use crate::ir::loops::Program;
use crate::ir::types::DType;
use crate::passes::{self, Limits};

use super::bytes::AlignedBytes;
use super::error::Error;
use super::fields::Fields;
use super::fit::Excess;
use super::layout::{Layout, Slot};
use super::slice::{Output, Slice};
use super::stages::Lowered;
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

/// One entry point compiled for one batch size.
pub(super) struct LoadedEntry {
    pub function: Function,
    pub program: Program,
    pub code: Box<dyn Loaded>,
    /// The code's entry point.
    call: EntryFunction,
    /// Where each of the function's arguments comes from.
    given: Vec<Given>,
    /// Room for the results that are no updates. Every call whose results are given away makes its own of the same kind.
    results: Vec<Output>,
    /// What it takes behind the function's arguments and results.
    handed: Option<Handed>,
}

/// Where an argument comes from.
enum Given {
    /// The caller, by the argument's name.
    Field,
    /// So many bytes into the parameters.
    Parameter(usize),
    /// So many bytes into the optimizer's states.
    Optimizer(usize),
    Seed,
    Step,
    Epoch,
}

/// What is computed of the parameters ahead of calls.
struct Handed {
    call: EntryFunction,
    program: Program,
    blocks: Vec<AlignedBytes>,
    /// The [`Session::changes`] up to which the blocks are right.
    as_of: Option<u64>,
}

/// What a call of an entry point takes. Invariant: each pointer is to memory of the size of its argument or result, to be
/// written where the program writes it, and the workspace has the program's `arena_bytes`; all live as long as this.
pub(super) struct Run<'a> {
    /// The function's arguments, then its results that are no updates, then what is computed ahead.
    pub pointers: &'a [*mut u8],
    pub workspace: *mut u8,
    pub pool: Option<&'a nn_rt::Pool>,
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
    entries: FxHashMap<(Entry, usize), LoadedEntry>,
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
            entries: FxHashMap::default(),
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
        for output in self.call(Entry::Init, rows, &[])? {
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
        self.call_and_report(Entry::TrainStep, rows, fields).inspect_err(|_| self.step = before)
    }

    /// Losses and metrics of a batch, without training.
    ///
    /// # Errors
    /// As [`train_step`](Self::train_step).
    pub fn evaluate(&mut self, fields: &[(&str, Slice<'_>)]) -> Result<Report, Error> {
        let rows = self.fields.rows_of(fields)?;
        self.call_and_report(Entry::Eval, rows, fields)
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
        let mut outputs = self.call(Entry::Gather, rows, fields)?;
        let report = self.report(Entry::Gather, rows, &outputs);
        let gathered = outputs.split_off(report.losses.len() + report.metrics.len());
        Ok((report, gathered))
    }

    /// The metrics of a whole set of `rows` rows, all of which were gathered.
    ///
    /// # Errors
    /// If a gathered tensor is missing or has another length.
    pub fn finish(&mut self, rows: usize, gathered: &[(&str, Slice<'_>)]) -> Result<Vec<Output>, Error> {
        self.prepare(Entry::Finish, rows)?;
        for argument in &self.entries[&(Entry::Finish, rows)].function.arguments {
            if argument.role == Role::Input {
                let bytes = argument.ty.elements().unwrap_or(0) * argument.ty.dtype.bytes();
                let found = find_field(&argument.name, gathered)?.bytes().len();
                if found != bytes {
                    let reason = format!("{found} bytes were gathered, not {bytes}");
                    return Err(Error::Field { field: argument.name.clone(), reason });
                }
            }
        }
        self.call(Entry::Finish, rows, gathered)
    }

    /// The rows of a batch, whose fields all fit.
    ///
    /// # Errors
    /// The first field that does not fit.
    pub(super) fn rows_of(&self, fields: &[(&str, Slice<'_>)]) -> Result<usize, Error> {
        self.fields.rows_of(fields)
    }

    /// The model's outputs for a batch.
    ///
    /// # Errors
    /// As [`train_step`](Self::train_step).
    pub fn infer(&mut self, fields: &[(&str, Slice<'_>)]) -> Result<Vec<Output>, Error> {
        let rows = self.fields.rows_of(fields)?;
        self.call(Entry::Infer, rows, fields)
    }

    /// Compiles an entry point for a batch size, if that has not been done.
    ///
    /// # Errors
    /// If it cannot be compiled.
    pub fn prepare(&mut self, entry: Entry, rows: usize) -> Result<(), Error> {
        if self.entries.contains_key(&(entry, rows)) {
            return Ok(());
        }
        let sizes = self.compiled.sizes(rows)?;
        let limits = Limits { ahead: entry.has_ahead(), ..self.compiled.limits_for(&Target::host()) };
        let lowered = self.compiled.lower(self.compiled.function(entry)?, &sizes, &limits)?;
        let workspace_bytes = lowered.workspace_bytes() as usize;
        let Lowered { function, program, ahead } = lowered;
        let programs: Vec<Program> =
            [Some(&program), ahead.as_ref().map(|a| &a.program)].into_iter().flatten().cloned().collect();
        let code = codegen::backends()[0].jit(&programs)?;
        let entry_of = |name: &str| code.entry(name).expect("the program was compiled under its name");
        let call = entry_of(&function.name);
        let handed = ahead.map(|ahead| Handed {
            call: entry_of(&ahead.program.name),
            blocks: ahead.handed.iter().map(|(dtype, n)| AlignedBytes::lasting(*n as usize * dtype.bytes())).collect(),
            program: ahead.program,
            as_of: None,
        });
        if self.workspace.as_ref().len() < workspace_bytes {
            self.workspace = AlignedBytes::lasting(workspace_bytes);
        }
        let given = self.given(&function);
        let results = results_of(&function);
        self.entries.insert((entry, rows), LoadedEntry { function, program, code, call, given, results, handed });
        Ok(())
    }

    /// Where a function's arguments come from.
    fn given(&self, function: &Function) -> Vec<Given> {
        let offset =
            |layout: &Layout, name: &str| layout.find(name).expect("every argument of this role has a slot").offset;
        let given = function.arguments.iter().map(|argument| match argument.role {
            Role::Input | Role::Target => Given::Field,
            Role::Parameter | Role::State => Given::Parameter(offset(&self.layout, &argument.name)),
            Role::OptimizerState => Given::Optimizer(offset(&self.optimizer_layout, &argument.name)),
            Role::Seed => Given::Seed,
            Role::Step => Given::Step,
            Role::Epoch => Given::Epoch,
        });
        given.collect()
    }

    /// Where each buffer of a compiled entry point lies in its workspace, and from which step to which; empty if it has not been compiled.
    pub fn memory_plan(&self, entry: Entry, rows: usize) -> String {
        self.entries.get(&(entry, rows)).map_or(String::new(), |l| passes::plan_memory::describe(&l.program))
    }

    /// Bytes of workspace that an entry point compiled for `rows` uses; 0 if it has not been compiled.
    pub fn workspace_bytes(&self, entry: Entry, rows: usize) -> usize {
        self.entries.get(&(entry, rows)).map_or(0, |l| l.program.arena_bytes as usize)
    }

    /// Whether a compiled entry point takes more memory than the limit, since nothing less can be kept to.
    pub fn excess(&self, entry: Entry, rows: usize) -> Option<Excess> {
        let loaded = self.entries.get(&(entry, rows))?;
        let ahead = loaded.handed.as_ref().map_or(0, |handed| handed.program.arena_bytes);
        self.compiled.excess(entry, rows, loaded.program.arena_bytes.max(ahead))
    }

    fn call(&mut self, entry: Entry, rows: usize, fields: &[(&str, Slice<'_>)]) -> Result<Vec<Output>, Error> {
        let mut outputs = self.outputs(entry, rows)?;
        self.call_into(entry, rows, fields, &mut outputs)?;
        Ok(outputs)
    }

    /// A call of which only losses and metrics are kept: its results go where those of the call before went.
    fn call_and_report(&mut self, entry: Entry, rows: usize, fields: &[(&str, Slice<'_>)]) -> Result<Report, Error> {
        self.prepare(entry, rows)?;
        let mut outputs =
            self.entries.get_mut(&(entry, rows)).map(|l| std::mem::take(&mut l.results)).unwrap_or_default();
        let called = self.call_into(entry, rows, fields, &mut outputs);
        let report = called.map(|()| self.report(entry, rows, &outputs));
        if let Some(loaded) = self.entries.get_mut(&(entry, rows)) {
            loaded.results = outputs;
        }
        report
    }

    /// Compiles an entry point if need be, and gives room for the results of a call.
    ///
    /// # Errors
    /// If it cannot be compiled.
    pub(super) fn outputs(&mut self, entry: Entry, rows: usize) -> Result<Vec<Output>, Error> {
        self.prepare(entry, rows)?;
        Ok(self.entries[&(entry, rows)].results.iter().map(Output::fresh).collect())
    }

    fn call_into(
        &mut self,
        entry: Entry,
        rows: usize,
        fields: &[(&str, Slice<'_>)],
        outputs: &mut [Output],
    ) -> Result<(), Error> {
        self.with_pointers(entry, rows, fields, outputs, |loaded, run| {
            let pool = run.pool.map_or(std::ptr::null(), nn_rt::Pool::as_ptr);
            // SAFETY: the program's pointers are, in order, its function's arguments and its results that are no updates, as `Run`
            // promises; so is the workspace. The pool outlives the call.
            unsafe { (loaded.call)(run.pointers.as_ptr(), run.workspace, pool) };
        })
    }

    /// Hands what a call of a compiled entry point takes to `run`; its results go into `outputs`, which [`outputs`](Self::outputs) made.
    pub(super) fn with_pointers<R>(
        &mut self,
        entry: Entry,
        rows: usize,
        fields: &[(&str, Slice<'_>)],
        outputs: &mut [Output],
        run: impl FnOnce(&LoadedEntry, &Run<'_>) -> R,
    ) -> Result<R, Error> {
        if entry == Entry::TrainStep {
            self.changes += 1;
        }
        self.compute_ahead(entry, rows);
        let loaded = &self.entries[&(entry, rows)];
        let seed = [self.seed as u32, (self.seed >> 32) as u32];
        // At inference and initialization no step is being taken, so draws come from the seed alone.
        let step = if entry == Entry::TrainStep { self.step } else { 0 };
        let epoch = self.epoch;

        let parameters = (*self.parameters).as_mut();
        let optimizer = self.optimizer.as_mut();
        let handed = loaded.handed.as_ref().map_or(&[][..], |handed| &handed.blocks);
        let count = loaded.given.len() + outputs.len() + handed.len();
        let mut pointers: Vec<*mut u8> = Vec::with_capacity(count);
        for (given, argument) in loaded.given.iter().zip(&loaded.function.arguments) {
            pointers.push(match given {
                Given::Field => find_field(&argument.name, fields)?.bytes().as_ptr().cast_mut(),
                Given::Parameter(offset) => parameters[*offset..].as_mut_ptr(),
                Given::Optimizer(offset) => optimizer[*offset..].as_mut_ptr(),
                Given::Seed => seed.as_ptr().cast_mut().cast(),
                Given::Step => (&raw const step).cast_mut().cast(),
                Given::Epoch => (&raw const epoch).cast_mut().cast(),
            });
        }
        pointers.extend(outputs.iter_mut().map(|o| o.data.as_mut().as_mut_ptr()));
        pointers.extend(handed.iter().map(|block| block.as_ref().as_ptr().cast_mut()));
        // `rows_of` and `find_field` checked that each field has exactly the bytes its type has at these sizes; slots
        // of the two blocks have the bytes of their types by `Layout`; results were allocated from their types; the
        // three scalars live until `run` returns. Memory behind shared slices and scalars is only read: compiled
        // code writes to parameters, states and results alone, which are borrowed mutably here and do not overlap.
        // The workspace is 64-byte aligned and has `arena_bytes`. What was computed ahead is only read.
        let workspace = self.workspace.as_mut().as_mut_ptr();
        Ok(run(loaded, &Run { pointers: &pointers, workspace, pool: self.pool.as_ref() }))
    }

    /// Brings up to date what a compiled entry point takes from ahead of its calls.
    fn compute_ahead(&mut self, entry: Entry, rows: usize) {
        let Some(loaded) = self.entries.get_mut(&(entry, rows)) else { return };
        let Some(handed) = loaded.handed.as_mut().filter(|h| h.as_of != Some(self.changes)) else { return };
        let parameters = (*self.parameters).as_mut();
        let mut pointers: Vec<*mut u8> = Vec::with_capacity(handed.program.pointers as usize);
        for argument in &loaded.function.arguments {
            let slot =
                self.layout.find(&argument.name).filter(|_| matches!(argument.role, Role::Parameter | Role::State));
            pointers.push(slot.map_or(std::ptr::null_mut(), |slot| parameters[slot.offset..].as_mut_ptr()));
        }
        pointers.resize(handed.program.pointers as usize - handed.blocks.len(), std::ptr::null_mut());
        pointers.extend(handed.blocks.iter_mut().map(|block| block.as_mut().as_mut_ptr()));
        let pool = self.pool.as_ref().map_or(std::ptr::null(), nn_rt::Pool::as_ptr);
        // SAFETY: of the arguments the program touches only parameters and states, each of which has a slot with its bytes, and the blocks, made with
        // the bytes that it hands on. The workspace is 64-byte aligned and has its `arena_bytes`. The pool outlives the call.
        unsafe { (handed.call)(pointers.as_ptr(), self.workspace.as_mut().as_mut_ptr(), pool) };
        handed.as_of = Some(self.changes);
    }

    fn report(&self, entry: Entry, rows: usize, outputs: &[Output]) -> Report {
        let mut report = Report::default();
        let function = &self.entries[&(entry, rows)].function;
        let results = function.results.iter().filter(|r| !matches!(r.role, ResultRole::Update(_)));
        for (result, output) in results.zip(outputs) {
            let value = (output.name.clone(), output.to_f64()[0]);
            match result.role {
                ResultRole::Loss => report.losses.push(value),
                ResultRole::Metric => report.metrics.push(value),
                _ => {}
            }
        }
        report
    }
}

fn find_field<'a>(name: &str, fields: &[(&str, Slice<'a>)]) -> Result<Slice<'a>, Error> {
    fields.iter().find(|(n, _)| *n == name).map(|(_, slice)| *slice).ok_or_else(|| Error::Field {
        field: name.to_string(),
        reason: "not given, but the result depends on it".into(),
    })
}

/// The results that are no updates, in order.
fn results_of(function: &Function) -> Vec<Output> {
    let results = function.results.iter().filter(|r| !matches!(r.role, ResultRole::Update(_)));
    results
        .map(|result| {
            let ty = function.graph.type_of(result.value);
            let shape = ty.sizes().expect("a specialized function has concrete types");
            let bytes = shape.iter().product::<usize>() * ty.dtype.bytes();
            let dtype = if ty.dtype == DType::Bool { DType::Bool } else { ty.dtype.storage() };
            Output { name: result.name.clone(), dtype, shape, data: AlignedBytes::zeroed(bytes) }
        })
        .collect()
}
