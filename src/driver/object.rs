//! Ahead of time: entry points compiled into an object file, with the C functions around them and their header.

use crate::codegen::{self, EntryWrapper, ObjectUnit, Prologue, Source, Target, Variant, WrapperArgument};
use crate::ir::graph::{Function, ResultRole, Role};
use crate::ir::loops::Program;
use crate::ir::types::{DType, ShapeText, TensorType};
use crate::passes::Limits;

use super::error::Error;
use super::fit::Excess;
use super::header::{CArgument, CFunction, CKind, Interface};
use super::layout::Layout;
use super::stages::Lowered;
use super::{Compiled, Entry};

/// What goes into an object file.
#[derive(Clone, Debug)]
pub struct ObjectOptions {
    /// What every symbol starts with.
    pub prefix: String,
    /// The entries wanted; those the model has if empty.
    pub entries: Vec<Entry>,
    /// Rows of the inference variants; 1 is always added. The recipe's batch alone if empty.
    pub batches: Vec<usize>,
    pub target: Target,
}

/// A compiled object and the header that describes it.
#[derive(Clone, Debug)]
pub struct Object {
    pub bytes: Vec<u8>,
    pub header: String,
    /// The entries that take more memory than the limit.
    pub excesses: Vec<Excess>,
}

/// Offsets in the training state behind the optimizer's block: seed (two words), step, epoch.
struct StateOffsets {
    seed: u64,
    step: u64,
    epoch: u64,
}

impl StateOffsets {
    fn behind(optimizer: &Layout) -> StateOffsets {
        let seed = (optimizer.bytes() as u64).next_multiple_of(4);
        StateOffsets { seed, step: seed + 8, epoch: seed + 12 }
    }
}

impl Compiled {
    /// Compiles entry points into an object file for one thread, which has no undefined symbol.
    ///
    /// # Errors
    /// If an entry is missing or cannot be compiled for the target.
    pub fn object(&self, options: &ObjectOptions) -> Result<Object, Error> {
        let mut writer = ObjectWriter {
            compiled: self,
            limits: self.limits_for(&options.target),
            prefix: &options.prefix,
            parameters: self.parameter_layout()?,
            optimizer: self.optimizer_layout()?,
            programs: Vec::new(),
            wrappers: Vec::new(),
            functions: Vec::new(),
            excesses: Vec::new(),
        };
        for entry in self.wanted_entries(options)? {
            writer.entry(entry, &options.batches)?;
        }
        writer.finish(&options.target)
    }

    pub(super) fn wanted_entries(&self, options: &ObjectOptions) -> Result<Vec<Entry>, Error> {
        if options.entries.is_empty() {
            return Ok(Entry::ALL.iter().map(|(_, e)| *e).filter(|e| self.function(*e).is_ok()).collect());
        }
        for entry in &options.entries {
            self.function(*entry)?;
        }
        Ok(options.entries.clone())
    }

    /// The numbers of rows that an entry is compiled for, the most first.
    pub(super) fn variants(&self, entry: Entry, batches: &[usize]) -> Vec<usize> {
        let nominal = self.nominal_rows();
        let mut rows = match entry {
            Entry::Infer if batches.is_empty() => vec![nominal, 1],
            Entry::Infer => batches.iter().copied().chain([1]).collect(),
            _ => vec![nominal],
        };
        rows.retain(|r| *r > 0);
        rows.sort_unstable_by(|a, b| b.cmp(a));
        rows.dedup();
        rows
    }

    /// The symbolic function of an entry as it is in an object.
    pub(super) fn function_in_object(&self, entry: Entry) -> Result<Function, Error> {
        let symbolic = self.function(entry)?;
        Ok(if entry == Entry::TrainStep { without_metrics(symbolic) } else { symbolic.clone() })
    }
}

/// Collects programs and the C functions that call them.
struct ObjectWriter<'a> {
    compiled: &'a Compiled,
    limits: Limits,
    prefix: &'a str,
    parameters: Layout,
    optimizer: Layout,
    programs: Vec<Program>,
    wrappers: Vec<EntryWrapper>,
    functions: Vec<CFunction>,
    excesses: Vec<Excess>,
}

impl ObjectWriter<'_> {
    fn entry(&mut self, entry: Entry, batches: &[usize]) -> Result<(), Error> {
        let rows = self.compiled.variants(entry, batches);
        let symbolic = &self.compiled.function_in_object(entry)?;
        let kind = match entry {
            Entry::Init => CKind::Init,
            Entry::Infer => CKind::Infer { seeded: symbolic.arguments.iter().any(|a| a.role == Role::Seed) },
            Entry::Eval => CKind::Eval,
            Entry::Gather | Entry::Finish => unreachable!("no entry of an object"),
            Entry::TrainStep => CKind::TrainStep,
        };
        let mut wrapper = EntryWrapper {
            symbol: format!("{}_{}", self.prefix, entry.name()),
            arguments: Vec::new(),
            variants: Vec::new(),
            prologue: Vec::new(),
        };
        for rows in rows {
            let sizes = self.compiled.sizes(rows)?;
            let lowered = self.compiled.lower(symbolic, &sizes, &self.limits)?;
            self.excesses.extend(self.compiled.excess(entry, rows, lowered.workspace_bytes()));
            let Lowered { function, mut program, .. } = lowered;
            program.name = format!("{}_{rows}", entry.name());
            let signature = Signature::new(kind, symbolic, &function, rows);
            let pointers = self.pointers(&signature, &function);
            wrapper.variants.push(Variant { program: program.name.clone(), rows: rows as u64, pointers });
            wrapper.arguments = signature.arguments;
            self.programs.push(program);
        }
        wrapper.prologue = self.prologue(kind);
        self.wrappers.push(wrapper);
        self.functions.push(CFunction { name: entry.name(), kind, arguments: self.c_arguments(symbolic) });
        Ok(())
    }

    /// Where each pointer of the program comes from: its function's arguments, then its results that are no updates.
    fn pointers(&self, signature: &Signature, function: &Function) -> Vec<Source> {
        let offsets = StateOffsets::behind(&self.optimizer);
        let at = |argument: Option<u32>, offset: u64, bytes: u32| match argument {
            Some(argument) => Source::Argument { argument, offset },
            // Nobody passes it: zeros, which is what step and epoch are outside training.
            None => Source::Scratch { bytes },
        };
        let mut pointers = Vec::new();
        for argument in &function.arguments {
            pointers.push(match argument.role {
                Role::Input | Role::Target => at(signature.position(&argument.name), 0, 8),
                Role::Parameter | Role::State | Role::OptimizerState => self.slot(&argument.name),
                Role::Seed => match signature.seed {
                    Some(seed) => at(Some(seed), 0, 8),
                    None => at(signature.state(), offsets.seed, 8),
                },
                Role::Step => at(signature.counter(), offsets.step, 4),
                Role::Epoch => at(signature.counter(), offsets.epoch, 4),
            });
        }
        for result in results(function) {
            pointers.push(match result.role {
                ResultRole::Initial => self.slot(&result.name),
                _ => at(signature.position(&result.name), 0, 8),
            });
        }
        pointers
    }

    /// A tensor of the parameter block (C parameter 0) or of the state block (C parameter 1).
    fn slot(&self, path: &str) -> Source {
        match (self.parameters.find(path), self.optimizer.find(path)) {
            (Some(slot), _) => Source::Argument { argument: 0, offset: slot.offset as u64 },
            (None, Some(slot)) => Source::Argument { argument: 1, offset: slot.offset as u64 },
            (None, None) => unreachable!("every parameter and state is in one of the two layouts"),
        }
    }

    /// What happens before the program runs: the counters of the training state.
    fn prologue(&self, kind: CKind) -> Vec<Prologue> {
        let offsets = StateOffsets::behind(&self.optimizer);
        match kind {
            CKind::Init => vec![
                Prologue::Copy { from: 2, to: 1, offset: offsets.seed },
                Prologue::Set { argument: 1, offset: offsets.step, value: 0 },
                Prologue::Set { argument: 1, offset: offsets.epoch, value: 1 },
            ],
            CKind::TrainStep => vec![Prologue::Increment { argument: 1, offset: offsets.step }],
            CKind::Infer { .. } | CKind::Eval => Vec::new(),
        }
    }

    /// The pointer arguments for fields and results, as the header prints them.
    fn c_arguments(&self, symbolic: &Function) -> Vec<CArgument> {
        let argument = |name: &str, ty: &TensorType, written: bool| CArgument {
            name: name.to_string(),
            dtype: ty.dtype,
            shape: ShapeText(&ty.shape).to_string(),
            written,
        };
        let fields = symbolic.arguments.iter().filter(|a| matches!(a.role, Role::Input | Role::Target));
        let results = results(symbolic).filter(|r| r.role != ResultRole::Initial);
        fields
            .map(|a| argument(&a.name, &a.ty, false))
            .chain(results.map(|r| argument(&r.name, symbolic.graph.type_of(r.value), true)))
            .collect()
    }

    fn finish(self, target: &Target) -> Result<Object, Error> {
        let workspace_bytes = self.programs.iter().map(|p| p.arena_bytes).max().unwrap_or(0);
        let constants = [(format!("{}_workspace_bytes", self.prefix), workspace_bytes)];
        let unit = ObjectUnit {
            programs: &self.programs,
            wrappers: &self.wrappers,
            constants: &constants,
            target: target.clone(),
            threaded: false,
        };
        let bytes = codegen::backends()[0].object(&unit)?;
        let interface = Interface {
            prefix: self.prefix.to_string(),
            model: self.compiled.model().name.clone(),
            parameters: self.parameters,
            optimizer: self.optimizer,
            functions: self.functions,
            batch: self.compiled.nominal_rows(),
            workspace_bytes: workspace_bytes as usize,
        };
        Ok(Object { bytes, header: interface.header(), excesses: self.excesses })
    }
}

/// A training step that says its losses only: `eval` computes metrics, and a product that trains need not pay for them.
pub(super) fn without_metrics(function: &Function) -> Function {
    let mut function = function.clone();
    function.results.retain(|r| r.role != ResultRole::Metric);
    function
}

/// The results that have a pointer of their own.
fn results(function: &Function) -> impl Iterator<Item = &crate::ir::graph::FunctionResult> {
    function.results.iter().filter(|r| !matches!(r.role, ResultRole::Update(_)))
}

/// The C parameters of one function, by position.
struct Signature {
    kind: CKind,
    arguments: Vec<WrapperArgument>,
    /// Fields and results by name, with their positions.
    named: Vec<(String, u32)>,
    /// The position of a seed given by value.
    seed: Option<u32>,
}

impl Signature {
    /// The parameters of `function`, which is `symbolic` at `rows` rows.
    fn new(kind: CKind, symbolic: &Function, function: &Function, rows: usize) -> Signature {
        let block = WrapperArgument::Pointer { row_bytes: 0 };
        let seed_by_value = WrapperArgument::Scalar { dtype: DType::I64 };
        let mut signature = Signature { kind, arguments: vec![block], named: Vec::new(), seed: None };
        if matches!(kind, CKind::Init | CKind::TrainStep) {
            signature.arguments.push(block);
        }
        if kind == CKind::Init {
            signature.seed = Some(signature.push(seed_by_value));
        } else {
            signature.fields_and_results(symbolic, function, rows);
        }
        if let CKind::Infer { seeded } = kind {
            if seeded {
                signature.seed = Some(signature.push(seed_by_value));
            }
            signature.push(WrapperArgument::Count);
        }
        signature.push(WrapperArgument::Workspace);
        signature
    }

    fn push(&mut self, argument: WrapperArgument) -> u32 {
        self.arguments.push(argument);
        self.arguments.len() as u32 - 1
    }

    fn fields_and_results(&mut self, symbolic: &Function, function: &Function, rows: usize) {
        let fields = symbolic.arguments.iter().zip(&function.arguments);
        let fields = fields
            .filter(|(a, _)| matches!(a.role, Role::Input | Role::Target))
            .map(|(open, fixed)| (fixed.name.clone(), open.ty.clone(), fixed.ty.clone()));
        let outputs = results(symbolic).zip(results(function)).map(|(open, fixed)| {
            let (open, ty) = (symbolic.graph.type_of(open.value), function.graph.type_of(fixed.value));
            (fixed.name.clone(), open.clone(), ty.clone())
        });
        for (name, open, fixed) in fields.chain(outputs).collect::<Vec<_>>() {
            // What does not depend on the batch is the same for each call.
            let batched = open.sizes().is_none();
            let bytes = fixed.elements().unwrap_or(0) * fixed.dtype.bytes();
            let row_bytes = if batched { (bytes / rows) as u64 } else { 0 };
            let position = self.push(WrapperArgument::Pointer { row_bytes });
            self.named.push((name, position));
        }
    }

    fn position(&self, name: &str) -> Option<u32> {
        self.named.iter().find(|(n, _)| n == name).map(|(_, p)| *p)
    }

    /// The training state, where the function has one.
    fn state(&self) -> Option<u32> {
        matches!(self.kind, CKind::Init | CKind::TrainStep).then_some(1)
    }

    /// The training state, where its counters count.
    fn counter(&self) -> Option<u32> {
        (self.kind == CKind::TrainStep).then_some(1)
    }
}
