//! Parameters and states: declared once per instance, found again by path, given their first values.

use super::scope::{Scope, join};
use super::statement::{Body, Context};
use super::value::Value;
use super::{Elaborator, Outcome, Record};
use crate::diag::{Diagnostic, Span, nearest};
use crate::frontend::ast::{Expression, Name, TypeExpression};
use crate::ir::dim::Dim;
use crate::ir::graph::{Role, ValueId};
use crate::ir::types::{DType, TensorType};

/// A parameter or state of the model, or a state of an optimizer.
#[derive(Clone)]
pub(in crate::frontend) struct Member {
    pub path: String,
    pub ty: TensorType,
    /// False for a state.
    pub is_parameter: bool,
    /// Whether the recipe keeps it from being trained.
    pub frozen: bool,
    /// Where it is declared.
    pub span: Span,
    /// The user's line that made it.
    pub used: Span,
    /// The argument of the function.
    pub argument: ValueId,
    /// What its name means now: the argument, or for a state what it was last set to.
    pub current: ValueId,
    pub initial: Option<ValueId>,
}

impl Elaborator<'_> {
    pub(super) fn declare_param(
        &mut self,
        body: &mut Body,
        name: &Name,
        ty: Option<&TypeExpression>,
        init: Option<&Expression>,
    ) -> Outcome<()> {
        match body.context {
            Context::Model | Context::Layer => {}
            Context::Function | Context::Outside => {
                let message =
                    format!("a `fn` has no parameters of its own, so `param {}` cannot stand here", name.text);
                return Err(self.fail(Diagnostic::error(name.span, message).help("make it a `layer`")));
            }
            Context::Optimizer => {
                return Err(self.error(name.span, "an optimizer has no `param` of its own, only `state`"));
            }
        }
        let Some(ty) = ty else {
            return Err(self.error(name.span, format!("`param {}` needs a type, such as `f32[n, units]`", name.text)));
        };
        let concrete = self.concrete_type(body, ty)?;
        if !concrete.dtype.is_float() {
            let message = format!("a `param` is trained, so its elements are floats, not {}", concrete.dtype);
            return Err(self.fail(Diagnostic::error(ty.span, message).help("what is not trained is a `state`")));
        }
        self.declare_member(body, name, concrete, ty.span, init, true)
    }

    pub(super) fn declare_state(
        &mut self,
        body: &mut Body,
        name: &Name,
        ty: Option<&TypeExpression>,
        init: Option<&Expression>,
    ) -> Outcome<()> {
        match body.context {
            Context::Optimizer => return self.declare_optimizer_state(body, name, ty, init),
            Context::Function | Context::Outside => {
                let message = format!("a `fn` keeps nothing, so `state {}` cannot stand here", name.text);
                return Err(self.fail(Diagnostic::error(name.span, message).help("make it a `layer`")));
            }
            Context::Model | Context::Layer => {}
        }
        let Some(ty) = ty else {
            return Err(self.error(name.span, format!("`state {}` needs a type, such as `f32[n]`", name.text)));
        };
        let concrete = self.concrete_type(body, ty)?;
        self.declare_member(body, name, concrete, ty.span, init, false)?;
        body.states.insert(name.text.clone(), body.scope.member(&name.text));
        Ok(())
    }

    fn declare_member(
        &mut self,
        body: &mut Body,
        name: &Name,
        ty: TensorType,
        ty_span: Span,
        init: Option<&Expression>,
        is_parameter: bool,
    ) -> Outcome<()> {
        let word = if is_parameter { "param" } else { "state" };
        if let Some(symbol) = ty.shape.iter().flat_map(Dim::symbols).next() {
            let message =
                format!("the shape of a {word} must be known at compile time, {ty} depends on `{}`", symbol.0);
            return Err(self.error(ty_span, message));
        }
        if !body.declared.insert(name.text.clone()) {
            let message = format!("`{}` is declared twice in one body", name.text);
            let help = "in a loop, put it into a `layer`: each application has its own";
            return Err(self.fail(Diagnostic::error(name.span, message).help(help)));
        }
        let path = body.scope.member(&name.text);
        let used = self.calls.iter().rev().map(|c| c.span).find(|s| !self.project.is_library(*s)).unwrap_or(name.span);
        if let Some(at) = self.member_index.get(&path) {
            return self.reuse_member(body, name, *at, &ty, used);
        }
        let Some(init) = init else {
            return Err(self.error(name.span, format!("`{word} {}` needs an initial value: `= zeros`", name.text)));
        };
        let initial = self.initial_value(body, init, &ty, &path)?;
        let role = if is_parameter { Role::Parameter } else { Role::State };
        let argument = self.argument(path.clone(), role, ty.clone());
        self.member_index.insert(path.clone(), self.members.len());
        self.members.push(Member {
            path: path.clone(),
            ty: ty.clone(),
            is_parameter,
            frozen: false,
            span: name.span,
            used,
            argument,
            current: argument,
            initial: Some(initial),
        });
        if body.context == Context::Model {
            self.records.push(Record { path, layer: word.to_owned(), output: vec![ty] });
        }
        let value = Value::Tensor(argument);
        self.remember(&value, name.span, &format!("`{}`", name.text));
        self.observe(name.span, &value);
        body.env.bind(&name.text, value);
        Ok(())
    }

    /// A further application of a shared instance.
    fn reuse_member(&mut self, body: &mut Body, name: &Name, at: usize, ty: &TensorType, used: Span) -> Outcome<()> {
        let member = &self.members[at];
        if member.ty != *ty {
            let message = format!("`{}` is {} from its first use and would be {ty} here", member.path, member.ty);
            let diagnostic = Diagnostic::error(used, message)
                .label(member.used, format!("first used here: {}", member.ty))
                .label(name.span, "declared here")
                .note("an instance has one set of parameters, whatever it is applied to");
            return Err(self.fail(diagnostic));
        }
        body.env.bind(&name.text, Value::Tensor(member.current));
        Ok(())
    }

    /// The first value of a parameter or state, of its own type.
    pub(super) fn initial_value(
        &mut self,
        body: &mut Body,
        init: &Expression,
        ty: &TensorType,
        path: &str,
    ) -> Outcome<ValueId> {
        let scope = std::mem::replace(&mut body.scope, Scope::of_initial(path));
        let rounds = std::mem::take(&mut self.rounds);
        // Halves are computed in f32 and rounded at the end, so that a draw has more than their bits.
        let inner = if ty.dtype == DType::F64 { DType::F64 } else { DType::F32 };
        let float = std::mem::replace(&mut self.float, inner);
        let result = self.expression(body, init).and_then(|value| match value.is_callable() {
            true => self.initialize(body, value, Value::shape(&ty.shape), init.span),
            false => Ok(value),
        });
        body.scope = scope;
        self.rounds = rounds;
        let result = result.and_then(|value| match value {
            list @ Value::List(_) => self.operation("tensor", &[(list, init.span)], init.span),
            other => Ok(other),
        });
        self.float = float;
        let value = result?;
        self.fit(value, ty, init.span, path, true)
    }

    /// The value as a tensor of exactly `ty`: numbers and smaller shapes are spread, and if `cast`, dtypes converted.
    pub(super) fn fit(
        &mut self,
        value: Value,
        ty: &TensorType,
        span: Span,
        what: &str,
        cast: bool,
    ) -> Outcome<ValueId> {
        let id = match &value {
            Value::Tensor(id) => *id,
            Value::Poison => return Err(super::Failure::Reported),
            Value::Int(_) | Value::Float(_) | Value::Bool(_) => match self.number_tensor(&value, ty.dtype, span)? {
                Value::Tensor(id) => id,
                _ => return Err(super::Failure::Reported),
            },
            other => {
                let message = format!("`{what}` is {ty}, but its value is {}", self.describe(other));
                return Err(self.error(span, message));
            }
        };
        let actual = self.builder.type_of(id).clone();
        let id =
            if cast && ty.dtype.is_float() == actual.dtype.is_float() { self.builder.cast(id, ty.dtype) } else { id };
        if self.builder.type_of(id).dtype.storage() == ty.dtype.storage()
            && let Ok(spread) = self.builder.broadcast(id, &ty.shape)
        {
            return Ok(self.builder.cast(spread, ty.dtype));
        }
        let message = format!("`{what}` is {ty}, but its new value is {actual}");
        let diagnostic = self.with_origin(Diagnostic::error(span, message), &value);
        Err(self.fail(diagnostic))
    }

    /// `name <- value`.
    pub(super) fn update(&mut self, body: &mut Body, name: &Name, value: &Expression) -> Outcome<()> {
        if body.context == Context::Optimizer && body.in_scan {
            return Err(self.not_supported(name.span, "`<-` in a `scan` of an optimizer"));
        }
        if body.context == Context::Optimizer && &*name.text == "param" {
            return self.update_parameter(body, name, value);
        }
        let Some(path) = body.states.get(&name.text).cloned() else {
            let parameter = self.member_index.contains_key(&join(&body.scope.path(), &name.text));
            if parameter && body.context != Context::Optimizer {
                return Err(self.not_supported(name.span, "setting a `param` in a model"));
            }
            let states: Vec<String> = body.states.keys().map(|k| k.to_string()).collect();
            let diagnostic = Diagnostic::error(name.span, format!("`{}` is not a state of this body", name.text));
            let near = nearest(&name.text, states.iter().map(String::as_str));
            return Err(self.fail(match near {
                Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
                None => diagnostic.help("`<-` sets a `state`; a name is bound with `=`"),
            }));
        };
        let new = self.expression(body, value)?;
        let at = match body.context {
            Context::Optimizer => self.optimizer_state_index.get(&path),
            _ => self.member_index.get(&path),
        };
        let Some(at) = at.copied() else { return Err(super::Failure::Reported) };
        let members = if body.context == Context::Optimizer { &self.optimizer_states } else { &self.members };
        let ty = members[at].ty.clone();
        let id = self.fit(new, &ty, value.span, &name.text, false)?;
        let members = if body.context == Context::Optimizer { &mut self.optimizer_states } else { &mut self.members };
        members[at].current = id;
        self.observe(name.span, &Value::Tensor(id));
        body.env.bind(&name.text, Value::Tensor(id));
        Ok(())
    }
}
