//! From source text to a checked model and its entry points as graphs.
//!
//! [`Project::parse`] reads the user's file, the files that it uses ([`files`]) and the library ([`library`]); [`check`] resolves names
//! ([`resolve`]), runs the model ([`elaborate`]) and cuts its entry points ([`build`]) into a [`model::CheckedModel`].

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use crate::diag::{Diagnostic, FileId, Severity, Sources, Span};
use crate::ir::ops::{Primitive, primitives};
use crate::ir::types::TensorType;

pub mod ast;
pub mod build;
pub mod catalogue;
pub mod doc;
pub mod elaborate;
pub mod facts;
pub mod files;
pub mod format;
pub mod library;
pub mod model;
pub mod parse;
pub mod print;
pub mod resolve;

use ast::{Definition, DefinitionKind, Expression, Item, Name};
use files::{Reader, UserFile};
use library::Library;
use model::CheckedModel;

/// The stack of the thread that elaborates: calls in a model nest as calls in the compiler do.
const STACK: usize = 512 << 20;

/// The number of the user's file.
pub(crate) const MAIN: FileId = FileId(0);

/// The user's files and the library, parsed.
#[derive(Clone, Debug)]
pub struct Project {
    /// The user's file is number 0, the library's follow, then the files that the user's uses.
    pub sources: Sources,
    /// The user's file first.
    files: Vec<UserFile>,
    library: &'static Library,
    primitives: &'static [Primitive],
    /// What [`Project::parse`] found wrong.
    pub(crate) problems: Vec<Diagnostic>,
    /// Whether every statement could be read.
    readable: bool,
}

/// What a name at the top of a file means.
#[derive(Clone, Debug)]
pub(crate) enum Global {
    Definition(Arc<Definition>),
    Const(Name, Expression),
    /// A used file, by the name that `use ... as name` gives it.
    Module(Name, FileId),
}

impl Global {
    /// What an item defines, if it defines anything.
    pub fn of(item: &Item) -> Option<Global> {
        match item {
            Item::Function(d) | Item::Model(d) | Item::Optimizer(d) => Some(Global::Definition(d.clone())),
            Item::Const { name, value, .. } => Some(Global::Const(name.clone(), value.clone())),
            Item::Use(_) | Item::Data(_) | Item::Train(_) => None,
        }
    }

    /// The name with its place.
    pub fn name(&self) -> &Name {
        match self {
            Global::Definition(definition) => &definition.name,
            Global::Const(name, _) | Global::Module(name, _) => name,
        }
    }

    pub fn is_model(&self) -> bool {
        matches!(self, Global::Definition(definition) if definition.kind == DefinitionKind::Model)
    }
}

/// Every primitive and its number by name, made once.
fn primitive_table() -> &'static (Vec<Primitive>, HashMap<&'static str, usize>) {
    static TABLE: OnceLock<(Vec<Primitive>, HashMap<&'static str, usize>)> = OnceLock::new();
    TABLE.get_or_init(|| {
        let all = primitives();
        let numbers = all.iter().enumerate().map(|(i, p)| (p.name, i)).collect();
        (all, numbers)
    })
}

/// What the command line says about a model.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Which model, in a file with several.
    pub model: Option<String>,
    /// Model arguments as text, `--set NAME=VALUE`; the last of a name wins.
    pub arguments: Vec<(String, String)>,
    /// Replaces the optimizers' `lr`.
    pub learning_rate: Option<f64>,
    pub epochs: Option<u64>,
    pub steps: Option<u64>,
    pub batch: Option<u64>,
    pub seed: Option<u64>,
    pub shuffle: Option<bool>,
    /// The phase of the recipe whose training step is made; the first one if none is chosen.
    pub phase: Option<String>,
    /// The number of training steps where the data is known: what schedules see as `steps` if the recipe says none.
    pub total_steps: Option<u64>,
}

impl Project {
    /// Parses the user's text and the files that it uses, and checks every name in them. `name` is its path, to which those of
    /// used files are relative, and what messages call it.
    pub fn parse(name: &str, text: &str) -> (Project, Vec<Diagnostic>) {
        Project::parse_with(name, text, &files::read_used)
    }

    /// As [`parse`](Self::parse), with another source of used files than the disk.
    pub fn parse_with(name: &str, text: &str, read: Reader<'_>) -> (Project, Vec<Diagnostic>) {
        let mut sources = library::sources(name, text);
        let (files, mut diagnostics) = files::load(&mut sources, read);
        let mut project = Project {
            sources,
            files,
            library: library::library(),
            primitives: &primitive_table().0,
            problems: Vec::new(),
            readable: false,
        };
        // Where statements could not be read, the names that they bind are missing.
        project.readable = !diagnostics.iter().any(|d| d.severity == Severity::Error);
        if project.readable {
            for file in &project.files {
                diagnostics.extend(resolve::resolve(&project, &file.tree.items));
            }
        }
        diagnostics.sort_by_key(|d| d.span().map(|s| (s.file, s.start)));
        project.problems.clone_from(&diagnostics);
        (project, diagnostics)
    }

    /// Whether every statement of the user's file could be read.
    pub fn is_readable(&self) -> bool {
        self.readable
    }

    /// The user's syntax tree.
    pub fn file(&self) -> &ast::File {
        &self.files[0].tree
    }

    /// The files that the user's file uses, directly or not: the name and syntax tree of each.
    pub fn used_files(&self) -> impl Iterator<Item = (&str, &ast::File)> {
        self.files[1..].iter().map(|file| (self.sources.get(file.id).name.as_str(), &*file.tree))
    }

    /// The items of the user's file.
    pub fn items(&self) -> &[Item] {
        &self.file().items
    }

    /// The models of the user's file.
    pub fn models(&self) -> impl Iterator<Item = &Arc<Definition>> {
        self.items().iter().filter_map(|item| match item {
            Item::Model(definition) => Some(definition),
            _ => None,
        })
    }

    /// Whether a place is in the library.
    pub fn is_library(&self, span: Span) -> bool {
        library::holds(span.file)
    }

    /// What a name means in a file: its own and used items, then the library's. The library does not see the user's names.
    pub(crate) fn global(&self, name: &str, file: FileId) -> Option<&Global> {
        self.user_file(file).and_then(|file| file.names.get(name)).or_else(|| self.library.get(name))
    }

    /// An item of one of the user's files.
    pub(crate) fn own_global(&self, name: &str, file: FileId) -> Option<&Global> {
        self.user_file(file)?.own.get(name).filter(|global| !global.is_model())
    }

    /// The error for an item that a used file does not have.
    pub(crate) fn unknown_item(&self, file: FileId, name: &Name) -> Diagnostic {
        let items = self.user_file(file).map(|file| files::names_of(&file.own)).unwrap_or_default();
        files::unknown_item(&self.sources.get(file).name, &items, name)
    }

    fn user_file(&self, file: FileId) -> Option<&UserFile> {
        self.files.iter().find(|f| f.id == file)
    }

    /// The number of a primitive.
    pub(crate) fn primitive(&self, name: &str) -> Option<usize> {
        primitive_table().1.get(name).copied()
    }

    /// Every global name, for suggestions, in a stable order.
    pub(crate) fn global_names(&self, file: FileId) -> Vec<&str> {
        let user = self.user_file(file).into_iter().flat_map(|file| file.names.keys()).map(|n| &**n);
        let library = self.library.names();
        let primitives = self.primitives.iter().map(|p| p.name);
        let builtins = elaborate::BUILTINS.iter().map(|b| b.0);
        let mut all: Vec<&str> = user.chain(library).chain(primitives).chain(builtins).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// Elaborates a model of the project, checks all of it and makes its entry points.
///
/// # Errors
/// Every independent mistake, in the order of the file, without those that [`Project::parse`] has reported already. A project
/// with such mistakes has no checked model, and one that could not be read in full is not looked at further, so the list may be empty.
pub fn check(project: &Project, settings: &Settings) -> Result<CheckedModel, Vec<Diagnostic>> {
    on_large_stack(|| check_here(project, settings))
}

/// Runs `work` on a thread of its own with a stack of [`STACK`] bytes.
fn on_large_stack<T: Send>(work: impl FnOnce() -> Result<T, Vec<Diagnostic>> + Send) -> Result<T, Vec<Diagnostic>> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("elaborate".into()).stack_size(STACK).spawn_scoped(scope, work);
        match thread {
            Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(error) => {
                Err(vec![Diagnostic::error_without_place(format!("no thread to check the model on: {error}"))])
            }
        }
    })
}

fn check_here(project: &Project, settings: &Settings) -> Result<CheckedModel, Vec<Diagnostic>> {
    if !project.readable {
        return Err(Vec::new());
    }
    let definition = choose(project, settings)?;
    // Each way of the model has a thread; what is wrong in both is said once, as of the first.
    let (plain, training) = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("elaborate training".into()).stack_size(STACK);
        let training = thread.spawn_scoped(scope, || elaborate::elaborate(project, settings, definition, true));
        let plain = elaborate::elaborate(project, settings, definition, false);
        let training = training.map(|t| t.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        (plain, training.unwrap_or_else(|_| elaborate::elaborate(project, settings, definition, true)))
    });
    if plain.failed || project.problems.iter().any(|d| d.severity == Severity::Error) {
        return Err(sorted(plain.diagnostics));
    }
    if training.failed {
        return Err(sorted(training.diagnostics));
    }
    let differences = same_members(&plain, &training);
    if !differences.is_empty() {
        return Err(sorted(differences));
    }
    check_other_phases(project, settings, definition)?;
    Ok(build::build(&definition.name.text, plain, training))
}

/// The phases whose training steps are not asked for are checked all the same.
fn check_other_phases(
    project: &Project,
    settings: &Settings,
    definition: &Arc<Definition>,
) -> Result<(), Vec<Diagnostic>> {
    let names = elaborate::phase_names(project.items(), &definition.name.text);
    // Where one is chosen, all have been checked with the first.
    let others = if settings.phase.is_some() { &[] } else { names.get(1..).unwrap_or_default() };
    for name in others {
        let settings = Settings { phase: Some(name.clone()), ..settings.clone() };
        for training in [false, true] {
            let elaboration = elaborate::elaborate(project, &settings, definition, training);
            if elaboration.failed {
                return Err(sorted(elaboration.diagnostics));
            }
        }
    }
    Ok(())
}

/// Parameters and states are the same whether the model trains or not: they are one file of weights.
fn same_members(plain: &elaborate::Elaboration, training: &elaborate::Elaboration) -> Vec<Diagnostic> {
    let only = |a: &elaborate::Elaboration, b: &elaborate::Elaboration, when: &str| -> Vec<Diagnostic> {
        let others: HashMap<&str, &TensorType> = b.members.iter().map(|m| (m.path.as_str(), &m.ty)).collect();
        let missing = a.members.iter().filter(|m| others.get(m.path.as_str()) != Some(&&m.ty));
        missing
            .map(|m| {
                let message = format!("`{}` of type {} exists only {when}", m.path, m.ty);
                Diagnostic::error(m.used, message).help("declare it outside of `if training`")
            })
            .collect()
    };
    let mut all = only(training, plain, "while training");
    all.extend(only(plain, training, "while not training"));
    all
}

/// The errors in the order of the file, then the warnings.
fn sorted(mut diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    diagnostics.sort_by_key(|d| (d.severity == Severity::Warning, d.span().map(|s| (s.file, s.start))));
    diagnostics
}

/// The model that is meant.
fn choose<'a>(project: &'a Project, settings: &Settings) -> Result<&'a Arc<Definition>, Vec<Diagnostic>> {
    let names: Vec<&str> = project.models().map(|m| &*m.name.text).collect();
    let wrong = |message: String, help: String| Err(vec![Diagnostic::error_without_place(message).help(help)]);
    match (&settings.model, project.models().next()) {
        (_, None) => wrong("the file has no model".into(), "a model begins with `model Name { ... }`".into()),
        (Some(name), _) => match project.models().find(|m| *m.name.text == **name) {
            Some(model) => Ok(model),
            None => wrong(format!("the file has no model `{name}`"), format!("it has {}", names.join(", "))),
        },
        (None, Some(only)) if names.len() == 1 => Ok(only),
        (None, Some(_)) => {
            wrong("the file has several models".into(), format!("choose one with `--model NAME`: {}", names.join(", ")))
        }
    }
}
