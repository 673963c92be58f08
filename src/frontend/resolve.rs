//! Static names: what a file defines, and whether every name in every body means something, called or not.
//!
//! This pass is lenient where only elaboration can tell (a name bound anywhere in a body counts as known in all of it)
//! and never wrong: what it reports is unknown on every path.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::ast::{
    Block, DTypeExpression, Definition, DefinitionKind, Expression, ExpressionKind, Item, Name, Otherwise, Parameter,
    Split, SplitEntry, Statement, StatementKind, Subscript, TrainEntry, TrainEntryKind, TypeExpression,
};
use super::elaborate::ANY_FLOAT;
use super::{Global, MAIN, Project, elaborate};
use crate::diag::{Diagnostic, FileId, Span, nearest};
use crate::ir::types::DType;

/// Words that stand for themselves as arguments.
pub(crate) const BARE_WORDS: [&str; 3] = ["valid", "same", "full"];
/// Names that the surroundings bind: whether this is the training step, and for schedules the numbers of step and epoch.
const AMBIENT: [&str; 3] = ["training", "step", "epoch"];
/// Names that an optimizer's body sees.
const OPTIMIZER: [&str; 4] = ["param", "gradient", "step", "epoch"];
/// Names that a recipe sees beside those of its model.
const RECIPE: [&str; 3] = ["epochs", "steps", "batch"];

/// Names of the language that its library does not have yet.
#[rustfmt::skip]
const PLANNED: &[&str] = &[
    "auc", "confusion_matrix", "f1", "plateau", "precision", "r2", "recall", "roc_curve",
];

/// The error for a name that means nothing; `near` is what may have been meant. One text, so that no mistake is reported twice.
pub(crate) fn unknown_name(name: &str, span: Span, near: Option<&str>) -> Diagnostic {
    if PLANNED.contains(&name) {
        return Diagnostic::error(span, format!("`{name}` is not supported yet"));
    }
    let diagnostic = Diagnostic::error(span, format!("unknown name `{name}`"));
    match near {
        Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
        None => diagnostic,
    }
}

/// The error for an element type that there is not.
pub(crate) fn unknown_dtype(name: &Name) -> Diagnostic {
    let diagnostic = Diagnostic::error(name.span, format!("unknown element type `{}`", name.text));
    let names = DType::NAMED.iter().map(|(n, _)| *n).chain([ANY_FLOAT]);
    match nearest(&name.text, names.clone()) {
        Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
        None => diagnostic.help(format!("there are {}", names.collect::<Vec<_>>().join(", "))),
    }
}

/// The names that items define, and those that are defined twice.
pub(crate) fn globals(items: &[Item]) -> (HashMap<Arc<str>, Global>, Vec<Diagnostic>) {
    let mut names: HashMap<Arc<str>, Global> = HashMap::new();
    let mut places: HashMap<Arc<str>, Name> = HashMap::new();
    let mut problems = Vec::new();
    for item in items {
        let Some(global) = Global::of(item) else { continue };
        let name = global.name().clone();
        if let Some(first) = places.get(&name.text) {
            problems.push(
                Diagnostic::error(name.span, format!("`{}` is defined twice", name.text))
                    .label(first.span, "first here"),
            );
            continue;
        }
        places.insert(name.text.clone(), name.clone());
        names.insert(name.text, global);
    }
    (names, problems)
}

/// Reports every name in the items of one file that means nothing.
pub(crate) fn resolve(project: &Project, items: &[Item]) -> Vec<Diagnostic> {
    let mut resolver = Resolver { project, file: MAIN, scopes: Vec::new(), diagnostics: Vec::new() };
    for item in items {
        resolver.file = item.span().file;
        match item {
            Item::Function(d) | Item::Model(d) | Item::Optimizer(d) => resolver.definition(d),
            Item::Const { value, .. } => resolver.expression(value),
            Item::Train(block) => resolver.recipe(block.model.as_ref(), &block.entries),
            Item::Data(block) => block.splits.iter().for_each(|split| resolver.split(split)),
            Item::Use(_) => {}
        }
    }
    resolver.diagnostics
}

struct Resolver<'a> {
    project: &'a Project,
    file: FileId,
    scopes: Vec<HashSet<Arc<str>>>,
    diagnostics: Vec<Diagnostic>,
}

impl Resolver<'_> {
    fn known(&self, name: &str) -> bool {
        self.scopes.iter().any(|s| s.contains(name))
            || AMBIENT.contains(&name)
            || BARE_WORDS.contains(&name)
            || self.project.global(name, self.file).is_some()
            || self.project.primitive(name).is_some()
            || elaborate::is_builtin(name)
            || DType::from_name(name).is_some()
            || name == ANY_FLOAT
    }

    fn name(&mut self, name: &str, span: crate::diag::Span) {
        if self.known(name) {
            return;
        }
        let mut local: Vec<&str> = self.scopes.iter().flatten().map(|n| &**n).collect();
        local.sort_unstable();
        let globals = self.project.global_names(self.file);
        let diagnostic = unknown_name(name, span, nearest(name, local.into_iter().chain(globals)));
        self.diagnostics.push(diagnostic);
    }

    fn definition(&mut self, definition: &Definition) {
        let mut names: HashSet<Arc<str>> = HashSet::new();
        if definition.kind == DefinitionKind::Optimizer {
            names.extend(OPTIMIZER.iter().map(|n| Arc::from(*n)));
        }
        names.insert(definition.name.text.clone());
        self.body(&definition.parameters, &definition.body, names);
    }

    /// A body with its parameters: every name that it binds anywhere is known in all of it.
    fn body(&mut self, parameters: &[Parameter], block: &Block, mut names: HashSet<Arc<str>>) {
        let mut seen: HashMap<&str, &Name> = HashMap::new();
        for parameter in parameters {
            if let Some(first) = seen.insert(&parameter.name.text, &parameter.name) {
                let message = format!("two parameters are called `{}`", parameter.name.text);
                self.diagnostics.push(Diagnostic::error(parameter.name.span, message).label(first.span, "first here"));
            }
            names.insert(parameter.name.text.clone());
            if let Some(ty) = &parameter.ty {
                bound_dims(ty, &mut names);
            }
        }
        bound_names(block, &mut names);
        self.scopes.push(names);
        for parameter in parameters {
            if let Some(ty) = &parameter.ty {
                self.ty(ty);
            }
            if let Some(default) = &parameter.default {
                self.expression(default);
            }
        }
        self.block(block);
        self.scopes.pop();
    }

    fn block(&mut self, block: &Block) {
        block.statements.iter().for_each(|s| self.statement(s));
    }

    fn statement(&mut self, statement: &Statement) {
        match &statement.kind {
            StatementKind::Bind { value, .. }
            | StatementKind::Update { value, .. }
            | StatementKind::Output { value, .. }
            | StatementKind::Loss { value, .. }
            | StatementKind::Metric { value, .. }
            | StatementKind::Return(value)
            | StatementKind::Expression(value) => self.expression(value),
            StatementKind::Param { ty, init, .. } | StatementKind::State { ty, init, .. } => {
                ty.iter().for_each(|t| self.ty(t));
                init.iter().for_each(|e| self.expression(e));
            }
            StatementKind::Input { ty, .. } | StatementKind::Target { ty, .. } => self.ty(ty),
            StatementKind::Define(definition) => self.definition(definition),
            StatementKind::For { iterable, body, .. } => {
                self.expression(iterable);
                self.block(body);
            }
            StatementKind::If { condition, then, otherwise } => {
                self.expression(condition);
                self.block(then);
                otherwise.iter().for_each(|b| self.block(b));
            }
            StatementKind::Scan(scan) => {
                scan.sources.iter().for_each(|(_, e)| self.expression(e));
                scan.axis.iter().for_each(|e| self.expression(e));
                for carry in &scan.carries {
                    carry.ty.iter().for_each(|t| self.ty(t));
                    self.expression(&carry.initial);
                }
                self.block(&scan.body);
                scan.yields.iter().for_each(|e| self.expression(e));
            }
        }
    }

    fn ty(&mut self, ty: &TypeExpression) {
        match &ty.dtype {
            DTypeExpression::Named(name) => {
                let meant = DType::from_name(&name.text).is_some() || &*name.text == ANY_FLOAT;
                if !meant && !self.known(&name.text) {
                    self.diagnostics.push(unknown_dtype(name));
                }
            }
            DTypeExpression::Index { classes, .. } => self.expression(classes),
        }
        ty.dims.iter().for_each(|d| self.expression(d));
    }

    fn expressions<'e>(&mut self, all: impl IntoIterator<Item = &'e Expression>) {
        all.into_iter().for_each(|e| self.expression(e));
    }

    fn expression(&mut self, e: &Expression) {
        match &e.kind {
            ExpressionKind::Int(_) | ExpressionKind::Float(_) | ExpressionKind::Bool(_) | ExpressionKind::Text(_) => {}
            ExpressionKind::Name(name) => self.name(name, e.span),
            ExpressionKind::List(items) | ExpressionKind::Tuple(items) => self.expressions(items),
            ExpressionKind::Comprehension { element, names, iterable } => {
                self.expression(iterable);
                self.scopes.push(names.iter().map(|n| n.text.clone()).collect());
                self.expression(element);
                self.scopes.pop();
            }
            ExpressionKind::Range { start, end } => self.expressions([&**start, &**end]),
            ExpressionKind::Unary { operand, .. } => self.expression(operand),
            ExpressionKind::Binary { left, right, .. } => self.expressions([&**left, &**right]),
            ExpressionKind::Pipe { value, call } => self.expressions([&**value, &**call]),
            ExpressionKind::If { condition, then, otherwise } => {
                self.expression(condition);
                self.inner_block(then);
                match &**otherwise {
                    Otherwise::Block(block) => self.inner_block(block),
                    Otherwise::If(expression) => self.expression(expression),
                }
            }
            ExpressionKind::Call { callee, arguments } => {
                self.expression(callee);
                self.expressions(arguments.iter().map(|a| &a.value));
            }
            ExpressionKind::Index { value, subscripts } => {
                self.expression(value);
                for subscript in subscripts {
                    match subscript {
                        Subscript::At(e) => self.expression(e),
                        Subscript::Slice { start, stop, step, .. } => {
                            self.expressions([start, stop, step].into_iter().flatten());
                        }
                        Subscript::Rest(_) => {}
                    }
                }
            }
            ExpressionKind::Field { value, name } => {
                self.expression(value);
                self.item_of_module(value, name);
            }
            ExpressionKind::Lambda(lambda) => self.body(&lambda.parameters, &lambda.body, HashSet::new()),
        }
    }

    /// `name.item`, where `name` is a used file.
    fn item_of_module(&mut self, value: &Expression, item: &Name) {
        let ExpressionKind::Name(name) = &value.kind else { return };
        if self.scopes.iter().any(|scope| scope.contains(name)) {
            return;
        }
        if let Some(Global::Module(_, file)) = self.project.global(name, self.file)
            && self.project.own_global(&item.text, *file).is_none()
        {
            self.diagnostics.push(self.project.unknown_item(*file, item));
        }
    }

    fn inner_block(&mut self, block: &Block) {
        let mut names = HashSet::new();
        bound_names(block, &mut names);
        self.scopes.push(names);
        self.block(block);
        self.scopes.pop();
    }

    /// A recipe sees the names of its model.
    fn recipe(&mut self, model: Option<&Name>, entries: &[TrainEntry]) {
        let mut names: HashSet<Arc<str>> = RECIPE.iter().map(|n| Arc::from(*n)).collect();
        for definition in self.project.models() {
            if model.is_none_or(|m| m.text == definition.name.text) {
                names.extend(definition.parameters.iter().map(|p| p.name.text.clone()));
                bound_names(&definition.body, &mut names);
            }
        }
        self.scopes.push(names);
        self.recipe_entries(entries);
        self.scopes.pop();
    }

    fn recipe_entries(&mut self, entries: &[TrainEntry]) {
        for entry in entries {
            match &entry.kind {
                TrainEntryKind::Epochs(e)
                | TrainEntryKind::Steps(e)
                | TrainEntryKind::Batch(e)
                | TrainEntryKind::Seed(e)
                | TrainEntryKind::Shuffle(e)
                | TrainEntryKind::Accumulate(e)
                | TrainEntryKind::Clip { limit: e, .. }
                | TrainEntryKind::Load { path: e, .. }
                | TrainEntryKind::Checkpoint { every: e, .. }
                | TrainEntryKind::Average { decay: e, .. } => self.expression(e),
                TrainEntryKind::Minimize { with, times, .. } => {
                    self.expression(with);
                    times.iter().for_each(|e| self.expression(e));
                }
                TrainEntryKind::Phase { entries, .. } => self.recipe_entries(entries),
                // Splits, metrics, layers and paths are looked up by the elaborator.
                _ => {}
            }
        }
    }

    fn split(&mut self, split: &Split) {
        for entry in &split.contents {
            match entry {
                // The reader's own name is none of the language's.
                SplitEntry::Bind {
                    reader: Expression { kind: ExpressionKind::Call { arguments, .. }, .. }, ..
                } => {
                    self.expressions(arguments.iter().map(|a| &a.value));
                }
                SplitEntry::Take { amount, .. } => self.expression(amount),
                SplitEntry::Bind { .. } | SplitEntry::From { .. } => {}
            }
        }
    }
}

/// The names that a block's statements bind in the surrounding body.
fn bound_names(block: &Block, out: &mut HashSet<Arc<str>>) {
    for statement in &block.statements {
        match &statement.kind {
            StatementKind::Bind { names, .. } => out.extend(names.iter().map(|n| n.text.clone())),
            StatementKind::Input { name, ty } | StatementKind::Target { name, ty } => {
                out.insert(name.text.clone());
                bound_dims(ty, out);
            }
            StatementKind::Update { name, .. }
            | StatementKind::Param { name, .. }
            | StatementKind::State { name, .. }
            | StatementKind::Output { name, .. }
            | StatementKind::Loss { name, .. }
            | StatementKind::Metric { name, .. } => {
                // `loss ce` alone is short for `loss ce = ce`: that does not make `ce` known.
                if !is_short(statement) {
                    out.insert(name.text.clone());
                }
            }
            StatementKind::Define(definition) => {
                out.insert(definition.name.text.clone());
            }
            StatementKind::For { names, body, .. } => {
                out.extend(names.iter().map(|n| n.text.clone()));
                bound_names(body, out);
            }
            StatementKind::If { then, otherwise, .. } => {
                bound_names(then, out);
                otherwise.iter().for_each(|b| bound_names(b, out));
            }
            StatementKind::Expression(e) => bound_in_if(e, out),
            StatementKind::Scan(scan) => {
                out.extend(scan.sources.iter().map(|(n, _)| n.text.clone()));
                out.extend(scan.carries.iter().map(|c| c.name.text.clone()));
                out.extend(scan.results.iter().map(|n| n.text.clone()));
                bound_names(&scan.body, out);
            }
            StatementKind::Return(_) => {}
        }
    }
}

/// `if` as a statement binds in the surrounding body, whichever way the parser saw it.
fn bound_in_if(e: &Expression, out: &mut HashSet<Arc<str>>) {
    if let ExpressionKind::If { then, otherwise, .. } = &e.kind {
        bound_names(then, out);
        match &**otherwise {
            Otherwise::Block(block) => bound_names(block, out),
            Otherwise::If(e) => bound_in_if(e, out),
        }
    }
}

fn is_short(statement: &Statement) -> bool {
    match &statement.kind {
        StatementKind::Output { name, value }
        | StatementKind::Loss { name, value }
        | StatementKind::Metric { name, value } => {
            matches!(&value.kind, ExpressionKind::Name(n) if *n == name.text) && value.span == name.span
        }
        _ => false,
    }
}

/// The names that the dims of a type bind.
fn bound_dims(ty: &TypeExpression, out: &mut HashSet<Arc<str>>) {
    if let Some(name) = ty.lead.as_ref().and_then(|l| l.name.as_ref()) {
        out.insert(name.text.clone());
    }
    ty.dims.iter().for_each(|d| dim_names(d, out));
    if let DTypeExpression::Index { classes, .. } = &ty.dtype
        && let ExpressionKind::Name(name) = &classes.kind
    {
        out.insert(name.clone());
    }
}

fn dim_names(e: &Expression, out: &mut HashSet<Arc<str>>) {
    match &e.kind {
        ExpressionKind::Name(name) => {
            out.insert(name.clone());
        }
        ExpressionKind::Unary { operand, .. } => dim_names(operand, out),
        ExpressionKind::Binary { left, right, .. } => {
            dim_names(left, out);
            dim_names(right, out);
        }
        _ => {}
    }
}
