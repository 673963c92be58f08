//! The model's own statements: inputs, targets, outputs, losses and metrics.

use std::sync::Arc;

use rustc_hash::FxHashSet;

use super::scope::Scope;
use super::statement::{Body, Context};
use super::value::{Env, Value};
use super::{Elaborator, ModelResult, Outcome};
use crate::diag::{Diagnostic, Severity, nearest};
use crate::frontend::MAIN;
use crate::frontend::ast::{Definition, Expression, ExpressionKind, Name, TypeExpression, UnaryOperator};
use crate::frontend::model::Field;
use crate::ir::graph::{ResultRole, Role, ValueId};
use crate::ir::ops::Op;
use crate::ir::types::DType;

impl Elaborator<'_> {
    /// Runs the model's body and returns it with all its names.
    pub(super) fn model(&mut self, definition: &Arc<Definition>) -> Outcome<Body> {
        let mut body = Body::new(Env::root(MAIN), Scope::root(), Context::Model);
        self.model_arguments(&mut body, definition)?;
        match self.block(&mut body, &definition.body)? {
            super::statement::Flow::Return(_) => {
                return Err(self.error(definition.name.span, "a model returns nothing: it declares outputs"));
            }
            super::statement::Flow::Next(_) => {}
        }
        if !self.failed {
            self.check_model(definition);
        }
        Ok(body)
    }

    /// Binds the model's arguments: what the settings say, else the defaults.
    fn model_arguments(&mut self, body: &mut Body, definition: &Arc<Definition>) -> Outcome<()> {
        let settings = self.settings;
        for (name, _) in &settings.arguments {
            if definition.parameters.iter().all(|p| *p.name.text != **name) {
                let known: Vec<&str> = definition.parameters.iter().map(|p| &*p.name.text).collect();
                let diagnostic = Diagnostic::error_without_place(format!(
                    "the model `{}` has no argument `{name}`",
                    definition.name.text
                ));
                self.report(match nearest(name, known.iter().copied()) {
                    Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
                    None if known.is_empty() => diagnostic.help("it takes none"),
                    None => diagnostic.help(format!("it takes {}", known.join(", "))),
                });
            }
        }
        for parameter in &definition.parameters {
            let name = &parameter.name;
            let set = settings.arguments.iter().rev().find(|(n, _)| **n == *name.text);
            let value = match (set, &parameter.default) {
                (Some((_, text)), _) => match setting_value(text) {
                    Some(value) => value,
                    None => {
                        let message = format!("`{text}` is no value for the model argument `{}`", name.text);
                        let diagnostic = Diagnostic::error_without_place(message);
                        return Err(
                            self.fail(diagnostic.help("an int, a float, true, false, a word or a list of them"))
                        );
                    }
                },
                (None, Some(default)) => self.expression(body, default)?,
                (None, None) => {
                    let message = format!("the model argument `{}` has no value", name.text);
                    let help = format!("give it with `--set {}=...` or write a default", name.text);
                    return Err(self.fail(Diagnostic::error(name.span, message).help(help)));
                }
            };
            self.observe(name.span, &value);
            body.env.bind(&name.text, value);
        }
        Ok(())
    }

    pub(super) fn declare_field(
        &mut self,
        body: &mut Body,
        name: &Name,
        ty: &TypeExpression,
        role: Role,
    ) -> Outcome<()> {
        let word = if role == Role::Input { "input" } else { "target" };
        if body.context != Context::Model {
            return Err(self.error(name.span, format!("`{word}` belongs into a model")));
        }
        if let Some(earlier) = self.fields.iter().find(|f| *f.name == *name.text) {
            let label = earlier.span;
            let message = format!("`{}` is declared twice", name.text);
            return Err(self.fail(Diagnostic::error(name.span, message).label(label, "first here")));
        }
        self.bind_symbols(body, ty);
        let concrete = self.concrete_type(body, ty)?;
        let id = self.argument(name.text.to_string(), role, concrete.clone());
        self.fields.push(Field { name: name.text.to_string(), role, ty: concrete, span: name.span });
        let value = Value::Tensor(id);
        self.remember(&value, name.span, &format!("`{}`", name.text));
        self.observe(name.span, &value);
        body.env.bind(&name.text, value);
        Ok(())
    }

    pub(super) fn declare_result(
        &mut self,
        body: &mut Body,
        name: &Name,
        value: &Expression,
        role: ResultRole,
    ) -> Outcome<()> {
        let word = match role {
            ResultRole::Output => "output",
            ResultRole::Loss => "loss",
            _ => "metric",
        };
        if body.context != Context::Model {
            return Err(self.error(name.span, format!("`{word}` belongs into a model")));
        }
        if self.results.iter().any(|r| *r.name == *name.text) {
            return Err(self.error(name.span, format!("there is a result `{}` already", name.text)));
        }
        let result = self.expression(body, value)?;
        let result = match &result {
            Value::Int(_) | Value::Float(_) => self.number_tensor(&result, DType::F32, value.span)?,
            _ => result,
        };
        let id = match &result {
            Value::Tensor(id) => *id,
            Value::Poison => return Err(super::Failure::Reported),
            other => {
                let message = format!("the {word} `{}` is a tensor, this is {}", name.text, self.describe(other));
                return Err(self.error(value.span, message));
            }
        };
        let whole = self.is_whole(id);
        if whole && role != ResultRole::Metric {
            let message = format!("the {word} `{}` depends on a whole set, which only a metric may", name.text);
            return Err(self.error(value.span, message));
        }
        if whole {
            self.check_whole_metric(&name.text, id, value.span)?;
        }
        let id =
            if role == ResultRole::Output || whole { id } else { self.scalar_result(name, &result, id, value, word)? };
        self.remember(&Value::Tensor(id), name.span, &format!("`{}`", name.text));
        self.observe(name.span, &Value::Tensor(id));
        let smaller_is_better = role == ResultRole::Loss || self.is_distance(value);
        let name_text = name.text.to_string();
        self.results.push(ModelResult { name: name_text, role, value: id, smaller_is_better, whole, span: name.span });
        body.env.bind(&name.text, Value::Tensor(id));
        Ok(())
    }

    /// Whether an expression is a call of one of the library's losses, or of the metrics that are made of one.
    fn is_distance(&self, e: &Expression) -> bool {
        match &e.kind {
            ExpressionKind::Pipe { call, .. } => self.is_distance(call),
            ExpressionKind::Call { callee, .. } => self.is_distance(callee),
            ExpressionKind::Name(name) => match self.project.global(name, e.span.file) {
                Some(crate::frontend::Global::Definition(definition)) if self.project.is_library(definition.span) => {
                    let file = &self.project.sources.get(definition.span.file).name;
                    &**name == "perplexity" || file.ends_with("losses.nn")
                }
                _ => false,
            },
            _ => false,
        }
    }

    /// Losses and metrics are float scalars; a metric that counts is converted.
    fn scalar_result(
        &mut self,
        name: &Name,
        result: &Value,
        id: ValueId,
        e: &Expression,
        word: &str,
    ) -> Outcome<ValueId> {
        let ty = self.builder.type_of(id).clone();
        if ty.rank() != 0 {
            let diagnostic = Diagnostic::error(e.span, format!("a {word} is a scalar, `{}` is {ty}", name.text))
                .note("expected f32[]".to_owned())
                .note(format!("found {ty}"))
                .help("take its `mean` or `sum`");
            let diagnostic = self.with_origin(diagnostic, result);
            return Err(self.fail(diagnostic));
        }
        if ty.dtype.is_float() {
            return Ok(id);
        }
        if word == "loss" {
            let message = format!("a loss is a float, `{}` is {ty}", name.text);
            return Err(self.fail(Diagnostic::error(e.span, message).help("only floats have gradients")));
        }
        Ok(self.builder.cast(id, DType::F32))
    }

    /// What can be said only of the whole model.
    fn check_model(&mut self, definition: &Arc<Definition>) {
        if self.results.is_empty() {
            let message = format!("the model `{}` has no output and no loss", definition.name.text);
            self.report(Diagnostic::error(definition.name.span, message));
            return;
        }
        let gathered = self.gathered.iter().map(|g| g.value);
        let roots = self.results.iter().map(|r| r.value).chain(gathered).chain(self.members.iter().map(|m| m.current));
        let used = self.reachable(roots);
        let mut warnings = Vec::new();
        for field in &self.fields {
            let argument = self.arguments.iter().position(|a| a.name == field.name && a.role == field.role);
            if argument.is_some_and(|at| !used.contains(&self.argument_values[at])) {
                let word = if field.role == Role::Input { "input" } else { "target" };
                let mut warning = Diagnostic::error(field.span, format!("the {word} `{}` is never used", field.name));
                warning.severity = Severity::Warning;
                warnings.push(warning);
            }
        }
        warnings.into_iter().for_each(|w| self.report(w));
        self.check_outputs();
        self.check_initial_values();
    }

    /// Outputs are computed at inference, where there are no targets.
    fn check_outputs(&mut self) {
        let mut wrong = Vec::new();
        for result in self.results.iter().filter(|r| r.role == ResultRole::Output) {
            let reached = self.reachable([result.value]);
            let is_target = |i: &u32| self.arguments[*i as usize].role == Role::Target;
            if let Some(index) = self.arguments_among(&reached).filter(is_target).min() {
                let target = &self.arguments[index as usize];
                let message = format!("the output `{}` depends on the target `{}`", result.name, target.name);
                let mut diagnostic = Diagnostic::error(result.span, message).note("targets are absent at inference");
                if let Some(field) = self.fields.iter().find(|f| f.name == target.name) {
                    diagnostic = diagnostic.label(field.span, "declared here").help("declare it as an `input`");
                }
                wrong.push(diagnostic);
            }
        }
        wrong.into_iter().for_each(|d| self.report(d));
    }

    /// First values cannot depend on data or on other parameters.
    fn check_initial_values(&mut self) {
        let mut wrong = Vec::new();
        for member in self.members.iter().chain(&self.optimizer_states) {
            let reached = self.reachable(member.initial);
            let wrong_role = |i: &u32| !matches!(self.arguments[*i as usize].role, Role::Seed | Role::Step);
            if let Some(index) = self.arguments_among(&reached).filter(wrong_role).min() {
                let argument = &self.arguments[index as usize];
                let message = format!("the initial value of `{}` depends on `{}`", member.path, argument.name);
                wrong
                    .push(Diagnostic::error(member.used, message).note("it is computed once, before any data is read"));
            }
        }
        wrong.into_iter().for_each(|d| self.report(d));
    }

    /// The numbers of the arguments among some values.
    pub(super) fn arguments_among(&self, values: &FxHashSet<ValueId>) -> impl Iterator<Item = u32> {
        values.iter().filter_map(|v| match &self.builder.graph().node(v.node).op {
            Op::Argument(argument) => Some(argument.index),
            _ => None,
        })
    }

    /// Every value that `roots` depend on, themselves included.
    pub(super) fn reachable(&self, roots: impl IntoIterator<Item = ValueId>) -> FxHashSet<ValueId> {
        let graph = self.builder.graph();
        let mut seen = FxHashSet::default();
        let mut waiting: Vec<ValueId> = roots.into_iter().collect();
        while let Some(value) = waiting.pop() {
            if seen.insert(value) {
                let node = graph.node(value.node);
                if !matches!(node.op, Op::Argument(_)) {
                    waiting.extend(&node.inputs);
                }
            }
        }
        seen
    }
}

/// The value of `--set NAME=VALUE`: a literal, a list of literals, or a word.
fn setting_value(text: &str) -> Option<Value> {
    let source = format!("const value = {text}\n");
    // The text is no part of the sources: whatever is wrong with it is said without a place.
    let (file, diagnostics) = crate::frontend::parse::parse(&source, crate::diag::FileId(0));
    match file.items.as_slice() {
        [crate::frontend::ast::Item::Const { value, .. }] if diagnostics.is_empty() => literal(value),
        _ => Some(Value::text(text)),
    }
}

fn literal(e: &Expression) -> Option<Value> {
    match &e.kind {
        ExpressionKind::Int(i) => Some(Value::int(*i)),
        ExpressionKind::Float(x) => Some(Value::Float(*x)),
        ExpressionKind::Bool(b) => Some(Value::Bool(*b)),
        ExpressionKind::Text(t) => Some(Value::Text(t.clone())),
        ExpressionKind::Name(name) => Some(Value::Text(name.clone())),
        ExpressionKind::List(items) => Some(Value::list(items.iter().map(literal).collect::<Option<_>>()?)),
        ExpressionKind::Unary { operator: UnaryOperator::Negate, operand } => match literal(operand)? {
            Value::Int(d) => d.constant()?.checked_neg().map(Value::int),
            Value::Float(x) => Some(Value::Float(-x)),
            _ => None,
        },
        _ => None,
    }
}
