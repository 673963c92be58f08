//! Elaboration: a model's body run as a program over values, which checks all names, types and shapes and
//! makes the symbolic graph in one go.
//!
//! Reading order: `value` (what bodies compute with), `scope` (how paths are made), `statement` and `expression` (what
//! runs them), `operator`, `index`, `types` (signatures and shapes), `call` (binding arguments, functions, layers), `primitive` and `builtin`
//! (what is not written in `.nn`), `member` (parameters and states), `model` (the model's own statements), `phases`, `recipe` and
//! `condition` (what a train block says), `objectives`, `update`, `optimizer` and `replay` (the training step), `whole` (metrics that are no means), `data`,
//! `record` (what tools ask to see). The result is handed to [`build`](super::build), which cuts entry points out of it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::diag::{Diagnostic, Severity, Span};
use crate::ir::builder::GraphBuilder;
use crate::ir::graph::{Argument, ResultRole, Role, ValueId};
use crate::ir::ops::primitive::RandomSource;
use crate::ir::types::{DType, TensorType};

use super::model::{DataSpec, Field, Recipe};
use super::{Project, Settings};
use limits::Budget;
use value::Value;

mod builtin;
mod call;
mod condition;
mod data;
mod expression;
mod index;
mod limits;
mod member;
mod model;
mod objectives;
mod operator;
mod optimizer;
mod phases;
mod primitive;
mod readers;
mod recipe;
mod record;
mod replay;
mod scan;
mod scope;
mod slope;
mod statement;
mod types;
mod update;
mod value;
mod whole;

pub(super) use builtin::{BUILTINS, is_builtin};
pub(super) use member::Member;
pub(super) use phases::phase_names;
pub(super) use record::Recorder;
pub(super) use types::ANY_FLOAT;
pub use update::AVERAGE;
pub(super) use whole::Gathered;

/// Why an evaluation stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// A diagnostic says why; statements that do not depend on it go on.
    Reported,
    /// A limit is reached: everything stops.
    Fatal,
}

type Outcome<T> = Result<T, Failure>;

/// A call that is being elaborated.
struct CallFrame {
    span: Span,
    name: String,
}

/// Where a tensor came from, in the user's file.
#[derive(Clone)]
struct Provenance {
    span: Span,
    text: String,
}

/// A layer applied at the top of the model.
pub(super) struct Record {
    pub path: String,
    pub layer: String,
    pub output: Vec<TensorType>,
}

/// A result of the model or of its training step.
pub(super) struct ModelResult {
    pub name: String,
    pub role: ResultRole,
    pub value: ValueId,
    /// Whether a smaller value is better.
    pub smaller_is_better: bool,
    /// Whether it is a metric of a whole set.
    pub whole: bool,
    pub span: Span,
}

/// The scalars that schedules see.
#[derive(Clone)]
struct Ambient {
    step: Value,
    epoch: Value,
}

/// One run over a model.
pub(super) struct Elaborator<'a> {
    project: &'a Project,
    settings: &'a Settings,
    training: bool,
    /// What `float` means here.
    float: DType,
    builder: GraphBuilder,
    arguments: Vec<Argument>,
    argument_values: Vec<ValueId>,
    single_arguments: FxHashMap<Role, ValueId>,
    members: Vec<Member>,
    member_index: HashMap<String, usize>,
    /// The optimizers' states.
    optimizer_states: Vec<Member>,
    /// Their places, by path.
    optimizer_state_index: HashMap<String, usize>,
    fields: Vec<Field>,
    results: Vec<ModelResult>,
    /// What metrics gather over a whole set.
    gathered: Vec<Gathered>,
    records: Vec<Record>,
    record_index: HashMap<String, usize>,
    calls: Vec<CallFrame>,
    provenance: FxHashMap<ValueId, Provenance>,
    /// Where gradients end, see `slope`.
    slope_ends: FxHashMap<ValueId, (Span, String)>,
    constants: FxHashMap<Span, Option<Value>>,
    ambient: Option<Ambient>,
    optimizing: Option<optimizer::Optimizing>,
    sites: HashSet<String>,
    /// The numbers of the rounds of the scans being run, see [`RandomSource::round`]; the innermost last.
    rounds: Vec<ValueId>,
    budget: Budget,
    diagnostics: Vec<Diagnostic>,
    reported: HashSet<(Option<Span>, String)>,
    /// Names that nothing is bound to, and where they were met.
    unknown: HashSet<(Span, String)>,
    failed: bool,
    /// Keeps what places came to, if anybody asks.
    recorder: Option<Recorder>,
}

/// What a run over a model yields.
pub(super) struct Elaboration {
    pub builder: GraphBuilder,
    pub arguments: Vec<Argument>,
    argument_values: Vec<ValueId>,
    pub members: Vec<Member>,
    pub optimizer_states: Vec<Member>,
    pub fields: Vec<Field>,
    pub results: Vec<ModelResult>,
    pub gathered: Vec<Gathered>,
    pub records: Vec<Record>,
    pub recipe: Option<Recipe>,
    pub data: Option<DataSpec>,
    pub diagnostics: Vec<Diagnostic>,
    /// Whether something is wrong with the model.
    pub failed: bool,
}

impl Elaboration {
    /// The node of an argument.
    pub fn argument_value(&self, index: u32) -> ValueId {
        self.argument_values[index as usize]
    }
}

/// Elaborates `definition`. With `training`, its recipe and the optimizers too.
pub(super) fn elaborate(
    project: &Project,
    settings: &Settings,
    definition: &Arc<super::ast::Definition>,
    training: bool,
) -> Elaboration {
    elaborate_recorded(project, settings, definition, training, None).0
}

/// The same, with a recorder of what places came to, which is given back.
pub(super) fn elaborate_recorded(
    project: &Project,
    settings: &Settings,
    definition: &Arc<super::ast::Definition>,
    training: bool,
    recorder: Option<Recorder>,
) -> (Elaboration, Option<Recorder>) {
    let mut elaborator = Elaborator::new(project, settings, training);
    elaborator.recorder = recorder;
    let (mut recipe, mut data) = (None, None);
    if let Ok(mut body) = elaborator.model(definition) {
        // A failure has been reported; the blocks are independent of each other.
        recipe = elaborator.recipe(&mut body, definition).unwrap_or(None);
        data = elaborator.data(definition).unwrap_or(None);
    }
    let elaboration = Elaboration {
        builder: elaborator.builder,
        arguments: elaborator.arguments,
        argument_values: elaborator.argument_values,
        members: elaborator.members,
        optimizer_states: elaborator.optimizer_states,
        fields: elaborator.fields,
        results: elaborator.results,
        gathered: elaborator.gathered,
        records: elaborator.records,
        recipe,
        data,
        diagnostics: elaborator.diagnostics,
        failed: elaborator.failed,
    };
    (elaboration, elaborator.recorder)
}

impl<'a> Elaborator<'a> {
    fn new(project: &'a Project, settings: &'a Settings, training: bool) -> Elaborator<'a> {
        Elaborator {
            project,
            settings,
            training,
            float: DType::F32,
            builder: GraphBuilder::new(),
            arguments: Vec::new(),
            argument_values: Vec::new(),
            single_arguments: FxHashMap::default(),
            members: Vec::new(),
            member_index: HashMap::new(),
            optimizer_states: Vec::new(),
            optimizer_state_index: HashMap::new(),
            fields: Vec::new(),
            results: Vec::new(),
            gathered: Vec::new(),
            records: Vec::new(),
            record_index: HashMap::new(),
            calls: Vec::new(),
            provenance: FxHashMap::default(),
            slope_ends: FxHashMap::default(),
            constants: FxHashMap::default(),
            ambient: None,
            optimizing: None,
            sites: HashSet::new(),
            rounds: Vec::new(),
            budget: Budget::new(),
            diagnostics: Vec::new(),
            reported: project.problems.iter().map(|d| (d.span(), d.message.clone())).collect(),
            unknown: HashSet::new(),
            failed: false,
            recorder: None,
        }
    }

    /// Reports a mistake at the user's line: one inside the library is shown at the user's call, the library's line beside it.
    fn fail(&mut self, diagnostic: Diagnostic) -> Failure {
        self.report(diagnostic);
        if self.diagnostics.len() >= limits::ERRORS { Failure::Fatal } else { Failure::Reported }
    }

    fn report(&mut self, diagnostic: Diagnostic) {
        let diagnostic = self.relocate(diagnostic);
        self.failed |= diagnostic.severity == Severity::Error;
        if self.reported.insert((diagnostic.span(), diagnostic.message.clone())) {
            self.diagnostics.push(diagnostic);
        }
    }

    /// A simple error.
    fn error(&mut self, span: Span, message: impl Into<String>) -> Failure {
        self.fail(Diagnostic::error(span, message))
    }

    fn not_supported(&mut self, span: Span, what: &str) -> Failure {
        self.error(span, format!("{what} is not supported yet"))
    }

    fn fatal(&mut self, diagnostic: Diagnostic) -> Failure {
        self.report(diagnostic);
        Failure::Fatal
    }

    fn relocate(&self, mut diagnostic: Diagnostic) -> Diagnostic {
        let Some(at) = diagnostic.span() else { return diagnostic };
        let user_call = self.calls.iter().rev().find(|c| !self.project.is_library(c.span));
        let Some(call) = user_call else { return diagnostic };
        if !self.project.is_library(at) {
            let inside = call.span.file == at.file && call.span.start <= at.start && at.end <= call.span.end;
            let shown = diagnostic.labels.iter().any(|l| l.span == call.span);
            return if inside || shown { diagnostic } else { diagnostic.label(call.span, "called here") };
        }
        let inner = self.calls.last().map_or("", |c| &c.name);
        let text = std::mem::take(&mut diagnostic.labels[0].text);
        let word = if text.is_empty() { format!("in the library's `{inner}`") } else { text };
        diagnostic.labels.retain(|l| l.span != call.span);
        diagnostic.labels[0].text = word;
        diagnostic.labels.insert(0, crate::diag::Label { span: call.span, text: String::new() });
        diagnostic
    }

    /// Remembers the line of the user's file that made a tensor.
    fn remember(&mut self, value: &Value, span: Span, name: &str) {
        let Value::Tensor(id) = value else { return };
        if self.project.is_library(span) {
            return;
        }
        let text = format!("{name} is {}", self.builder.type_of(*id));
        self.provenance.insert(*id, Provenance { span, text });
    }

    /// Adds a label that says where a tensor came from, unless the diagnostic points there already.
    fn with_origin(&self, diagnostic: Diagnostic, value: &Value) -> Diagnostic {
        let Value::Tensor(id) = value else { return diagnostic };
        match self.provenance.get(id) {
            Some(origin) if diagnostic.labels.iter().all(|l| l.span != origin.span) => {
                diagnostic.label(origin.span, origin.text.clone())
            }
            _ => diagnostic,
        }
    }

    /// A new argument of the function under construction.
    fn argument(&mut self, name: String, role: Role, ty: TensorType) -> ValueId {
        let index = u32::try_from(self.arguments.len()).expect("fewer arguments than nodes, which are limited");
        let value = self.builder.argument(index, ty.clone());
        self.arguments.push(Argument { name, role, ty });
        self.argument_values.push(value);
        value
    }

    /// The argument that exists once: seed, step or epoch.
    fn single_argument(&mut self, name: &str, role: Role, ty: TensorType) -> ValueId {
        if let Some(value) = self.single_arguments.get(&role) {
            return *value;
        }
        let value = self.argument(name.to_owned(), role, ty);
        self.single_arguments.insert(role, value);
        value
    }

    fn step_argument(&mut self) -> ValueId {
        self.single_argument("step", Role::Step, TensorType::scalar(DType::I32))
    }

    fn epoch_argument(&mut self) -> ValueId {
        self.single_argument("epoch", Role::Epoch, TensorType::scalar(DType::I32))
    }

    /// Seed, step and round for random draws.
    fn random_source(&mut self) -> RandomSource {
        let seed = self.single_argument("seed", Role::Seed, TensorType::new(DType::U32, [2i64]));
        let step = self.step_argument();
        let round = self.rounds.last().copied();
        let round = round.unwrap_or_else(|| self.builder.constant(0.0, DType::I32, &[]));
        RandomSource { seed, step, round }
    }

    /// Counts a round of a compile-time loop.
    fn count_round(&mut self, span: Span) -> Outcome<()> {
        self.budget.rounds += 1;
        if self.budget.rounds > limits::ROUNDS {
            return Err(self.fatal(
                Diagnostic::error(span, format!("more than {} rounds are unrolled at compile time", limits::ROUNDS))
                    .help("a loop over samples or time is an axis of a tensor"),
            ));
        }
        self.check_time(span)
    }

    fn check_time(&mut self, span: Span) -> Outcome<()> {
        if self.budget.out_of_time() {
            let message = format!("expanding the model takes more than {} seconds", limits::TIME.as_secs());
            return Err(self.fatal(Diagnostic::error(span, message)));
        }
        Ok(())
    }

    /// The type of a tensor, in words for messages; other values are described.
    fn describe(&self, value: &Value) -> String {
        match value {
            Value::Int(d) => match d.constant() {
                Some(i) => format!("the int {i}"),
                None => format!("the size {d}"),
            },
            Value::Float(x) => format!("the float {x:?}"),
            Value::Bool(b) => format!("the bool {b}"),
            Value::Text(t) => format!("the string {t:?}"),
            Value::List(items) => format!("a list of {}", items.len()),
            Value::Tuple(items) => format!("a tuple of {}", items.len()),
            Value::DType(d) => format!("the dtype {d}"),
            Value::Tensor(id) => self.builder.type_of(*id).to_string(),
            Value::Function(c) => format!("the function `{}`", c.definition.name.text),
            Value::Layer(c) => format!("the layer `{}`", c.definition.name.text),
            Value::Instance(i) => match &*i.label.borrow() {
                Some(label) => format!("the layer `{}`", label.text),
                None if i.code.name() == "lambda" => "a lambda".to_owned(),
                None => format!("a layer `{}`", i.code.name()),
            },
            Value::Optimizer(c, _) => format!("the optimizer `{}`", c.definition.name.text),
            Value::Primitive(p) => format!("the function `{}`", self.project.primitives[*p].name),
            Value::Builtin(b) => format!("the function `{}`", b.name()),
            Value::Module(file) => format!("the file `{}`", self.project.sources.get(*file).name),
            Value::Partial(p) => self.describe(&p.callee),
            Value::Poison => "an unknown value".to_owned(),
        }
    }

    /// The text of a span, for quoting what the user or the library wrote.
    fn quote(&self, span: Span) -> &str {
        let text = &self.project.sources.get(span.file).text;
        text.get(span.start as usize..span.end as usize).unwrap_or_default()
    }
}
