//! The whole pipeline in one place: from source text to a checked model, to programs, to code in memory or in a file.
//!
//! [`compile`] and [`compile_file`] check a model; [`Compiled::jit`] makes a [`Session`] that trains and infers;
//! [`Compiled::program`] runs the stages of one entry point and shows each to an [`Observer`].

mod average;
pub mod bytes;
mod dump;
mod error;
mod fields;
mod fit;
mod format;
pub mod header;
pub mod layout;
mod loaded;
mod machine;
pub mod object;
mod profile;
mod runner;
mod session;
mod slice;
mod stages;
mod tune;

use std::path::Path;

use crate::diag::{Diagnostic, FileId, Severity, Sources};
use crate::frontend::files::read_source;
use crate::frontend::model::{CheckedModel, SET_ROWS};
use crate::frontend::{Project, check};
use crate::ir::cost::{Cost, cost};
use crate::ir::dim::{Dim, Sizes, Symbol};
use crate::ir::graph::{Function, Role};
use crate::ir::types::TensorType;
use crate::passes::Limits;

pub use dump::Stage;
pub use error::{Error, SourceErrors};
pub use fit::Excess;
pub use format::{Formatted, format_file, format_stream};
pub use object::{Object, ObjectOptions};
pub use profile::{CallProfile, Profile, quantile};
pub use session::{JitOptions, Report, Session, Storage};
pub use slice::{Output, Slice};
pub use stages::{Lowered, Observer, Quiet};
pub use tune::{TuneEvent, TuneOptions, Tuned, cache_folder};

pub use crate::codegen::{Cpu, Target};
pub use crate::frontend::Settings;

/// The random numbers that compiled code draws, for the host: shuffling uses the same generator.
pub mod random {
    pub use crate::ir::ops::random_bits::{fnv1a, philox, word};
}

use layout::{Layout, Order};

/// The functions a model compiles to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Entry {
    /// First values of parameters and states.
    Init,
    /// The outputs.
    Infer,
    /// Losses and metrics, without training.
    Eval,
    /// As `Eval`, and the rows that metrics of a whole set gather.
    Gather,
    /// Metrics of a whole set, of the gathered rows.
    Finish,
    /// Losses and metrics with gradients, optimizer and states.
    TrainStep,
}

impl Entry {
    /// The entries that a program may call, with their names on the command line and in symbols.
    pub const ALL: [(&'static str, Entry); 4] =
        [("init", Entry::Init), ("infer", Entry::Infer), ("eval", Entry::Eval), ("train_step", Entry::TrainStep)];

    /// The name.
    pub fn name(self) -> &'static str {
        match self {
            Entry::Init => "init",
            Entry::Infer => "infer",
            Entry::Eval => "eval",
            Entry::Gather => "gather",
            Entry::Finish => "finish",
            Entry::TrainStep => "train_step",
        }
    }

    /// Whether a session computes ahead of its calls what depends on parameters alone.
    fn has_ahead(self) -> bool {
        matches!(self, Entry::Infer | Entry::Eval)
    }
}

/// A checked model, ready to be specialised to sizes.
#[derive(Debug)]
pub struct Compiled {
    project: Project,
    model: CheckedModel,
    /// Sizes of symbolic dims given from outside (`--size t=32`).
    extra_sizes: Sizes,
    /// The limit of [`set_memory`](Self::set_memory).
    memory: Option<u64>,
    /// See [`set_memory`](Self::set_memory), [`set_exact`](Self::set_exact) and [`tune_session`](Self::tune_session).
    limits: Limits,
}

/// Checks the model in the file at `path`.
///
/// # Errors
/// If the file cannot be read, or is wrong.
pub fn compile_file(path: impl AsRef<Path>) -> Result<Compiled, Error> {
    compile_file_with(path, &Settings::default())
}

/// Checks the model in the file at `path` under settings (model arguments, overrides of the recipe).
///
/// # Errors
/// As [`compile_file`].
pub fn compile_file_with(path: impl AsRef<Path>, settings: &Settings) -> Result<Compiled, Error> {
    let path = path.as_ref();
    let bytes = read_source(path).map_err(|error| Error::Read { path: path.to_path_buf(), error })?;
    let name = path.display().to_string();
    let (text, ..) = decode(&name, &bytes)?;
    compile_with(&name, &text, settings)
}

/// The text of a file called `name`, alone and as what diagnostics point into.
fn decode(name: &str, bytes: &[u8]) -> Result<(String, Sources, FileId), Error> {
    let mut sources = Sources::default();
    let file = sources.add(name, String::from_utf8_lossy(bytes).into_owned());
    match crate::frontend::parse::decode(bytes, file) {
        Ok(text) => Ok((text, sources, file)),
        Err(diagnostic) => Err(Error::source(vec![diagnostic], sources)),
    }
}

/// Checks the model in `source`; `name` stands for the file in diagnostics.
///
/// # Errors
/// If the source is wrong.
pub fn compile(name: &str, source: &str) -> Result<Compiled, Error> {
    compile_with(name, source, &Settings::default())
}

/// Checks the model in `source` under settings.
///
/// # Errors
/// If the source is wrong.
pub fn compile_with(name: &str, source: &str, settings: &Settings) -> Result<Compiled, Error> {
    let (project, mut diagnostics) = Project::parse(name, source);
    // A file with mistakes in it is checked too, so that shapes are reported beside misspelt names.
    match check(&project, settings) {
        Ok(mut model) if diagnostics.iter().all(|d| d.severity != Severity::Error) => {
            model.warnings.splice(0..0, diagnostics);
            Ok(Compiled { project, model, extra_sizes: Sizes::new(), memory: None, limits: Limits::default() })
        }
        Ok(_) => Err(Error::source(diagnostics, project.sources)),
        Err(errors) => {
            diagnostics.extend(errors);
            Err(Error::source(diagnostics, project.sources))
        }
    }
}

impl Compiled {
    /// The checked model: fields, parameters, layers, recipe, data.
    pub fn model(&self) -> &CheckedModel {
        &self.model
    }

    /// The parsed file and library.
    pub fn project(&self) -> &Project {
        &self.project
    }

    /// Warnings about the file.
    pub fn warnings(&self) -> &[Diagnostic] {
        &self.model.warnings
    }

    /// Fixes a symbolic dim other than the batch.
    pub fn set_size(&mut self, symbol: &str, size: i64) {
        self.extra_sizes.insert(Symbol(symbol.into()), size);
    }

    /// Limits the workspace of each entry point, beside parameters, optimizer state, inputs and outputs. What a training step does not keep is computed again, products
    /// included, and what is handed on is handed on in strips; long `scan`s keep only the carries at about the square root of their rounds and run the others again. Where that is
    /// not enough, [`Session::excess`] says so. Results are the same but for the order in which some gradients are added up: those of `scan`s and of attention in blocks.
    ///
    /// Without a limit, what gradients keep is meant to stay within 1 GiB, and a training step that would take more than 64 MiB makes do with about half of it if that
    /// costs at most a quarter more operations: with a limit that it keeps to anyway, such as 1 GB, it is as fast as it can be.
    pub fn set_memory(&mut self, bytes: u64) {
        self.memory = Some(bytes);
        (self.limits.memory, self.limits.aim) = (bytes, bytes);
    }

    /// Whether convolutions are sums of all their products, even where Winograd's transforms, which round more, are faster.
    pub fn set_exact(&mut self, exact: bool) {
        self.limits.exact = exact;
    }

    /// Compiles into memory, one thread for each core.
    ///
    /// # Errors
    /// If the initial values cannot be compiled.
    pub fn jit(self) -> Result<Session, Error> {
        self.jit_with(JitOptions::default())
    }

    /// Compiles into memory.
    ///
    /// # Errors
    /// As [`jit`](Self::jit).
    pub fn jit_with(self, options: JitOptions) -> Result<Session, Error> {
        Session::new(self, options)
    }

    /// The symbolic dim that counts rows: the first dim of the first field that starts with one.
    pub fn batch_symbol(&self) -> Option<Symbol> {
        let leading = self.model.fields.iter().filter_map(|f| f.ty.shape.first());
        leading.filter(|d| d.constant().is_none()).find_map(|d| match d.symbols().as_slice() {
            [one] if *d == Dim::symbol(one.0.clone()) => Some(one.clone()),
            _ => None,
        })
    }

    /// The rows of a batch where no data says: the recipe's batch.
    pub fn nominal_rows(&self) -> usize {
        self.model.recipe.as_ref().map_or(1, |r| usize::try_from(r.batch).unwrap_or(usize::MAX))
    }

    /// The size of every symbolic dim for batches of `rows` rows.
    ///
    /// # Errors
    /// If a field has a symbolic dim that is neither the batch nor given by [`set_size`](Self::set_size).
    pub fn sizes(&self, rows: usize) -> Result<Sizes, Error> {
        let mut sizes = self.extra_sizes.clone();
        let rows = i64::try_from(rows).map_err(|_| Error::Sizes(format!("{rows} rows are too many")))?;
        sizes.insert(Symbol(SET_ROWS.into()), rows);
        if let Some(batch) = self.batch_symbol() {
            sizes.insert(batch, rows);
        } else {
            sizes.entry(Symbol("batch".into())).or_insert(rows);
        }
        let used = self.model.fields.iter().flat_map(|f| f.ty.shape.iter().flat_map(Dim::symbols));
        match used.into_iter().find(|s| !sizes.contains_key(s)) {
            Some(symbol) => Err(Error::UnknownSize(symbol.0.to_string())),
            None => Ok(sizes),
        }
    }

    /// The symbolic function of an entry.
    ///
    /// # Errors
    /// If the model has no such entry.
    pub fn function(&self, entry: Entry) -> Result<&Function, Error> {
        let entries = &self.model.entries;
        let (function, reason) = match entry {
            Entry::Init => (Some(entries.init()), ""),
            Entry::Infer => (entries.infer(), "it has no `output`"),
            Entry::Eval => (entries.eval(), "it has no `loss` and no `metric`"),
            Entry::Gather => (entries.whole().map(|w| &w.gather), "it has no metric of a whole set"),
            Entry::Finish => (entries.whole().map(|w| &w.finish), "it has no metric of a whole set"),
            Entry::TrainStep => (entries.train_step(), "it needs a `loss` and a `train` block that minimizes it"),
        };
        function.ok_or(Error::NoEntry { entry: entry.name(), reason })
    }

    /// Runs the stages of one entry at concrete sizes, for the given machine, showing each to `observer`.
    ///
    /// # Errors
    /// If the model has no such entry, a size is unknown, or an op has no gradient or no lowering.
    pub fn program(
        &self,
        entry: Entry,
        sizes: &Sizes,
        target: &Target,
        observer: &mut dyn Observer,
    ) -> Result<Lowered, Error> {
        let function = self.function(entry)?;
        let limits = self.fitting(function, sizes, &self.limits_for(target))?;
        stages::lower(function, sizes, &limits, observer)
    }

    /// What passes may use and do for a machine.
    fn limits_for(&self, target: &Target) -> Limits {
        Limits { registers: stages::registers(target), ..self.limits.clone() }
    }

    /// For every two kernels of an entry of which one reads what the other makes: their names, and why they are two kernels.
    ///
    /// # Errors
    /// As [`program`](Self::program).
    pub fn apart(&self, entry: Entry, sizes: &Sizes) -> Result<Vec<(String, String, &'static str)>, Error> {
        let function = self.function(entry)?;
        stages::apart(function, sizes, &self.fitting(function, sizes, &self.limits_for(&Target::host()))?)
    }

    /// Operations and bytes of one call of an entry on `rows` rows; `None` if a size is not a number.
    ///
    /// # Errors
    /// If the model has no such entry, or a size is unknown.
    pub fn cost(&self, entry: Entry, rows: usize) -> Result<Option<Cost>, Error> {
        let function = self.function(entry)?.specialize(&self.sizes(rows)?).map_err(Error::Sizes)?;
        Ok(cost(&function))
    }

    /// The layout of parameters and model states.
    ///
    /// # Errors
    /// If a parameter's size is not a number.
    pub fn parameter_layout(&self) -> Result<Layout, Error> {
        let sizes = self.sizes(self.nominal_rows())?;
        let concrete: Vec<(&str, Option<TensorType>, bool)> =
            self.model.parameters.iter().map(|p| (p.path.as_str(), p.ty.substitute(&sizes), p.trainable)).collect();
        lay_out(Order::File, &concrete)
    }

    /// The layout of the optimizer's states.
    ///
    /// # Errors
    /// As [`parameter_layout`](Self::parameter_layout).
    pub fn optimizer_layout(&self) -> Result<Layout, Error> {
        let sizes = self.sizes(self.nominal_rows())?;
        let Some(step) = self.model.entries.train_step() else { return Ok(Layout::default()) };
        let states = step.arguments.iter().filter(|a| a.role == Role::OptimizerState);
        let concrete: Vec<(&str, Option<TensorType>, bool)> =
            states.map(|a| (a.name.as_str(), a.ty.substitute(&sizes), false)).collect();
        lay_out(Order::Lines, &concrete)
    }
}

fn lay_out(order: Order, tensors: &[(&str, Option<TensorType>, bool)]) -> Result<Layout, Error> {
    if let Some((path, ..)) = tensors.iter().find(|(_, ty, _)| ty.is_none()) {
        return Err(Error::Sizes(format!("the size of `{path}` is too large")));
    }
    let known = tensors.iter().filter_map(|(path, ty, trained)| ty.as_ref().map(|t| (*path, t, *trained)));
    Layout::new(order, known).map_err(|path| Error::Sizes(format!("the size of `{path}` is not known")))
}
