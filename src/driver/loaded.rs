//! Entry points that are compiled and ready to be called: where their arguments come from, and the room for their results.
//!
//! Everything that does not depend on the call is found out when the entry is compiled, since a small model's call takes a microsecond.

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::bytes::AlignedBytes;
use super::error::Error;
use super::layout::Layout;
use super::slice::{Output, Slice};
use super::stages::Lowered;
use super::{Entry, Report};
use crate::codegen::{self, EntryFunction, Loaded};
use crate::ir::graph::{Function, ResultRole, Role};
use crate::ir::loops::Program;
use crate::ir::types::DType;

/// A call with so many pointers or fewer needs no memory for them.
const FEW_POINTERS: usize = 32;

/// One entry point compiled for one batch size.
pub(super) struct LoadedEntry {
    pub function: Function,
    pub program: Program,
    pub code: Box<dyn Loaded>,
    /// The code's entry point.
    pub call: EntryFunction,
    /// Where each of the function's arguments comes from.
    given: Vec<Given>,
    /// The results that are no updates, where every call leaves them; none before the first one and once they are given away.
    results: Option<Vec<Output>>,
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
    /// The count of changes of parameters up to which the blocks are right.
    as_of: Option<u64>,
}

/// What a session has for every call.
pub(super) struct Memory<'a> {
    pub parameters: &'a mut [u8],
    pub optimizer: &'a mut [u8],
    pub workspace: &'a mut [u8],
    pub pool: Option<&'a nn_rt::Pool>,
}

/// The numbers that a function may ask for.
pub(super) struct Numbers {
    /// The low word first.
    pub seed: [u32; 2],
    pub step: i32,
    pub epoch: i32,
}

/// What a call of an entry point takes. Invariant: each pointer is to memory of the size of its argument or result, to be
/// written where the program writes it, and the workspace has the program's `arena_bytes`; all live as long as this.
pub(super) struct Run<'a> {
    /// The function's arguments, then its results that are no updates, then what is computed ahead.
    pub pointers: &'a [*mut u8],
    pub workspace: *mut u8,
    pub pool: Option<&'a nn_rt::Pool>,
}

impl LoadedEntry {
    /// Compiles a lowered entry into memory.
    ///
    /// # Errors
    /// If its code cannot be made.
    pub fn new(lowered: Lowered, parameters: &Layout, optimizer: &Layout) -> Result<LoadedEntry, Error> {
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
        let given = given(&function, parameters, optimizer);
        Ok(LoadedEntry { function, program, code, call, given, results: None, handed })
    }

    /// Bytes that what is computed ahead works in.
    pub fn arena_bytes_ahead(&self) -> u64 {
        self.handed.as_ref().map_or(0, |handed| handed.program.arena_bytes)
    }

    /// Brings up to date what the entry takes from ahead of its calls.
    pub fn compute_ahead(&mut self, memory: &mut Memory<'_>, layout: &Layout, changes: u64) {
        let Some(handed) = self.handed.as_mut().filter(|h| h.as_of != Some(changes)) else { return };
        let mut pointers: Vec<*mut u8> = Vec::with_capacity(handed.program.pointers as usize);
        for argument in &self.function.arguments {
            let slot = layout.find(&argument.name).filter(|_| matches!(argument.role, Role::Parameter | Role::State));
            pointers.push(slot.map_or(std::ptr::null_mut(), |slot| memory.parameters[slot.offset..].as_mut_ptr()));
        }
        pointers.resize(handed.program.pointers as usize - handed.blocks.len(), std::ptr::null_mut());
        pointers.extend(handed.blocks.iter_mut().map(|block| block.as_mut().as_mut_ptr()));
        let pool = memory.pool.map_or(std::ptr::null(), nn_rt::Pool::as_ptr);
        // SAFETY: of the arguments the program touches only parameters and states, each of which has a slot with its bytes, and the blocks, made with
        // the bytes that it hands on. The workspace is 64-byte aligned and has its `arena_bytes`. The pool outlives the call.
        unsafe { (handed.call)(pointers.as_ptr(), memory.workspace.as_mut_ptr(), pool) };
        handed.as_of = Some(changes);
    }

    /// Hands what a call takes to `run`; the results go into [`results`](Self::results). The fields must have been found to fit.
    ///
    /// # Errors
    /// If a field is missing.
    pub fn with_pointers<R>(
        &mut self,
        fields: &[(&str, Slice<'_>)],
        memory: Memory<'_>,
        numbers: &Numbers,
        run: impl FnOnce(&LoadedEntry, &Run<'_>) -> R,
    ) -> Result<R, Error> {
        let mut pointers: SmallVec<[*mut u8; FEW_POINTERS]> = SmallVec::new();
        for (given, argument) in self.given.iter().zip(&self.function.arguments) {
            pointers.push(match given {
                Given::Field => find_field(&argument.name, fields)?.bytes().as_ptr().cast_mut(),
                Given::Parameter(offset) => memory.parameters[*offset..].as_mut_ptr(),
                Given::Optimizer(offset) => memory.optimizer[*offset..].as_mut_ptr(),
                Given::Seed => numbers.seed.as_ptr().cast_mut().cast(),
                Given::Step => (&raw const numbers.step).cast_mut().cast(),
                Given::Epoch => (&raw const numbers.epoch).cast_mut().cast(),
            });
        }
        let results = self.results.get_or_insert_with(|| results_of(&self.function));
        pointers.extend(results.iter_mut().map(|o| o.data.as_mut().as_mut_ptr()));
        let blocks = self.handed.as_ref().map_or(&[][..], |handed| &handed.blocks);
        pointers.extend(blocks.iter().map(|block| block.as_ref().as_ptr().cast_mut()));
        // The caller and `find_field` checked that each field has exactly the bytes its type has at these sizes; slots
        // of the two blocks have the bytes of their types by `Layout`; results were allocated from their types; the
        // three numbers live until `run` returns. Memory behind shared slices and numbers is only read: compiled
        // code writes to parameters, states and results alone, which are borrowed mutably here and do not overlap.
        // The workspace is 64-byte aligned and has `arena_bytes`. What was computed ahead is only read.
        let workspace = memory.workspace.as_mut_ptr();
        Ok(run(self, &Run { pointers: &pointers, workspace, pool: memory.pool }))
    }

    /// The losses and metrics among the results.
    pub fn report(&self) -> Report {
        let mut report = Report::default();
        let results = self.function.results.iter().filter(|r| !matches!(r.role, ResultRole::Update(_)));
        for (result, output) in results.zip(self.results()) {
            let value = (output.name.clone(), output.to_f64()[0]);
            match result.role {
                ResultRole::Loss => report.losses.push(value),
                ResultRole::Metric => report.metrics.push(value),
                _ => {}
            }
        }
        report
    }

    /// The results of the last call.
    pub fn results(&self) -> &[Output] {
        self.results.as_deref().unwrap_or_default()
    }

    /// Gives the results of the last call away; the next one leaves its own in new memory.
    pub fn take_results(&mut self) -> Vec<Output> {
        self.results.take().unwrap_or_default()
    }
}

/// All that have been compiled, by number.
#[derive(Default)]
pub(super) struct LoadedEntries {
    numbers: FxHashMap<(Entry, usize), usize>,
    all: Vec<LoadedEntry>,
}

impl LoadedEntries {
    /// The number of an entry for a batch size.
    pub fn number(&self, entry: Entry, rows: usize) -> Option<usize> {
        self.numbers.get(&(entry, rows)).copied()
    }

    /// An entry for a batch size.
    pub fn find(&self, entry: Entry, rows: usize) -> Option<&LoadedEntry> {
        self.number(entry, rows).map(|number| &self.all[number])
    }

    /// Adds one, and gives its number.
    pub fn add(&mut self, entry: Entry, rows: usize, loaded: LoadedEntry) -> usize {
        self.all.push(loaded);
        self.numbers.insert((entry, rows), self.all.len() - 1);
        self.all.len() - 1
    }
}

impl std::ops::Index<usize> for LoadedEntries {
    type Output = LoadedEntry;

    fn index(&self, number: usize) -> &LoadedEntry {
        &self.all[number]
    }
}

impl std::ops::IndexMut<usize> for LoadedEntries {
    fn index_mut(&mut self, number: usize) -> &mut LoadedEntry {
        &mut self.all[number]
    }
}

/// Where a function's arguments come from.
fn given(function: &Function, parameters: &Layout, optimizer: &Layout) -> Vec<Given> {
    let offset =
        |layout: &Layout, name: &str| layout.find(name).expect("every argument of this role has a slot").offset;
    let given = function.arguments.iter().map(|argument| match argument.role {
        Role::Input | Role::Target => Given::Field,
        Role::Parameter | Role::State => Given::Parameter(offset(parameters, &argument.name)),
        Role::OptimizerState => Given::Optimizer(offset(optimizer, &argument.name)),
        Role::Seed => Given::Seed,
        Role::Step => Given::Step,
        Role::Epoch => Given::Epoch,
    });
    given.collect()
}

/// The elements of a field.
///
/// # Errors
/// If it is not among those given.
pub(super) fn find_field<'a>(name: &str, fields: &[(&str, Slice<'a>)]) -> Result<Slice<'a>, Error> {
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
