//! The training step: gradients of each loss, and an optimizer's body for each parameter.

use std::rc::Rc;
use std::sync::Arc;

use super::member::Member;
use super::scope::Scope;
use super::statement::{Body, Context};
use super::value::{Closure, Given, Value};
use super::{Ambient, Elaborator, Outcome};
use crate::diag::{Diagnostic, Span};
use crate::frontend::ast::{Expression, Name, TypeExpression};
use crate::ir::graph::{Role, ValueId};
use crate::ir::types::{DType, TensorType};

/// The parameter that an optimizer's body is being run for.
pub(super) struct Optimizing {
    pub optimizer: Arc<str>,
    pub path: String,
    /// The type in which it is updated.
    pub ty: TensorType,
    /// What `param <- ...` said.
    pub updated: Option<ValueId>,
}

/// `minimize`, with its names looked up.
pub(super) struct Objective<'e> {
    pub loss: Name,
    /// Indices of members; `None` for all parameters.
    pub over: Option<Vec<usize>>,
    pub with: &'e Expression,
    pub span: Span,
}

impl Elaborator<'_> {
    /// Elaborates one `minimize`. Returns the indices of the members it trains.
    pub(super) fn minimize(
        &mut self,
        body: &mut Body,
        objective: &Objective<'_>,
        loss: ValueId,
    ) -> Outcome<Vec<usize>> {
        let used = self.reachable([loss]);
        let all: Vec<usize> = (0..self.members.len()).filter(|i| self.members[*i].is_parameter).collect();
        let chosen = objective.over.clone().unwrap_or(all);
        let trains = |i: &usize| !self.members[*i].frozen && used.contains(&self.members[*i].argument);
        let trained: Vec<usize> = chosen.into_iter().filter(trains).collect();
        if trained.is_empty() {
            let message = format!(
                "no parameter is trained: the loss `{}` depends on none, or they are frozen",
                objective.loss.text
            );
            return Err(self.error(objective.span, message));
        }
        let targets: Vec<ValueId> = trained.iter().map(|i| self.members[*i].argument).collect();
        let gradients = match self.builder.grad(loss, &targets) {
            Ok(gradients) => gradients,
            Err(error) => {
                let mut diagnostic = Diagnostic::error(objective.span, error.message);
                diagnostic.notes = error.notes;
                return Err(self.fail(diagnostic));
            }
        };
        for (member, gradient) in trained.iter().zip(gradients) {
            self.train(body, objective, *member, gradient)?;
        }
        Ok(trained)
    }

    /// Runs the optimizer's body for one parameter.
    fn train(&mut self, body: &mut Body, objective: &Objective<'_>, at: usize, gradient: ValueId) -> Outcome<()> {
        let Member { path, ty: stored, argument, .. } = self.members[at].clone();
        // A parameter stored in half is updated in f32, and the optimizer's states are f32.
        let ty = if stored.dtype.is_half() { stored.with_dtype(DType::F32) } else { stored.clone() };
        let (value, gradient) = (self.builder.cast(argument, ty.dtype), self.builder.cast(gradient, ty.dtype));
        let ambient = self.ambient(ty.dtype);
        let float = std::mem::replace(&mut self.float, ty.dtype);
        self.ambient = Some(ambient.clone());
        let result = self.optimizer_value(body, objective.with);
        let result = result.and_then(|(closure, given)| {
            let definition = closure.definition.clone();
            let name = definition.name.text.clone();
            self.optimizing = Some(Optimizing { optimizer: name.clone(), path: path.clone(), ty, updated: None });
            let scope = Scope::of_initial(&format!("{name}/{path}"));
            let mut inner = Body::new(closure.env.inside(), scope, Context::Optimizer);
            for (word, value) in [
                ("param", Value::Tensor(value)),
                ("gradient", Value::Tensor(gradient)),
                ("step", ambient.step),
                ("epoch", ambient.epoch),
            ] {
                inner.env.bind(&Arc::from(word), value);
            }
            self.enter(objective.with.span, &name)?;
            let scope = self.builder.set_scope(Arc::from(&*name));
            let result = self
                .bind_optimizer(&mut inner, &closure, given, objective.with.span)
                .and_then(|()| self.block(&mut inner, &definition.body));
            self.builder.set_scope(scope);
            self.calls.pop();
            result.map(|_| definition)
        });
        self.ambient = None;
        self.float = float;
        let updated = self.optimizing.take().and_then(|o| o.updated);
        let definition = result?;
        match updated {
            Some(id) => {
                self.members[at].current = self.builder.cast(id, stored.dtype);
                Ok(())
            }
            None if self.failed => Err(super::Failure::Reported),
            None => {
                let message = format!("the optimizer `{}` never says `param <- ...`", definition.name.text);
                Err(self.error(definition.name.span, message))
            }
        }
    }

    /// Step and epoch as scalars of a parameter's dtype.
    fn ambient(&mut self, dtype: DType) -> Ambient {
        let (step, epoch) = (self.step_argument(), self.epoch_argument());
        Ambient {
            step: Value::Tensor(self.builder.cast(step, dtype)),
            epoch: Value::Tensor(self.builder.cast(epoch, dtype)),
        }
    }

    /// The optimizer that an expression names, with its arguments and the command line's learning rate.
    pub(super) fn optimizer_value(&mut self, body: &mut Body, with: &Expression) -> Outcome<(Rc<Closure>, Vec<Given>)> {
        let value = self.expression(body, with)?;
        let (closure, given) = match value {
            Value::Optimizer(closure, given) => (closure, given),
            Value::Poison => return Err(super::Failure::Reported),
            other => {
                let message =
                    format!("`with` takes an optimizer such as `adam(lr=1e-3)`, not {}", self.describe(&other));
                return Err(self.error(with.span, message));
            }
        };
        let mut given = given.to_vec();
        if let Some(rate) = self.settings.learning_rate {
            let parameters = &closure.definition.parameters;
            let Some(at) = parameters.iter().position(|p| &*p.name.text == "lr") else {
                let message = format!("the optimizer `{}` has no `lr` to set", closure.definition.name.text);
                return Err(self.error(with.span, message));
            };
            let unnamed = given.iter().enumerate().filter(|(_, g)| g.name.is_none()).nth(at).map(|(i, _)| i);
            let named = given.iter().position(|g| g.name.as_ref().is_some_and(|n| &*n.text == "lr"));
            match unnamed.or(named) {
                Some(i) => given[i].value = Value::Float(rate),
                None => given.push(Given {
                    name: Some(parameters[at].name.clone()),
                    value: Value::Float(rate),
                    span: with.span,
                }),
            }
        }
        Ok((closure, given))
    }

    /// `state m = zeros` in an optimizer: of the parameter's shape unless it has a type of its own.
    pub(super) fn declare_optimizer_state(
        &mut self,
        body: &mut Body,
        name: &Name,
        ty: Option<&TypeExpression>,
        init: Option<&Expression>,
    ) -> Outcome<()> {
        let Some(optimizing) = &self.optimizing else { return Err(super::Failure::Reported) };
        let path = format!("{}.{}/{}", optimizing.optimizer, name.text, optimizing.path);
        let default = optimizing.ty.clone();
        let ty = match ty {
            Some(ty) => self.concrete_type(body, ty)?,
            None => default,
        };
        let Some(init) = init else {
            return Err(self.error(name.span, format!("`state {}` needs an initial value: `= zeros`", name.text)));
        };
        if !body.declared.insert(name.text.clone()) {
            return Err(self.error(name.span, format!("`{}` is declared twice in one body", name.text)));
        }
        let initial = self.initial_value(body, init, &ty, &path)?;
        let argument = self.argument(path.clone(), Role::OptimizerState, ty.clone());
        self.optimizer_states.push(Member {
            path: path.clone(),
            ty,
            is_parameter: false,
            frozen: false,
            span: name.span,
            used: self.calls.last().map_or(name.span, |c| c.span),
            argument,
            current: argument,
            initial: Some(initial),
        });
        body.states.insert(name.text.clone(), path);
        body.env.bind(&name.text, Value::Tensor(argument));
        Ok(())
    }

    /// `param <- value` in an optimizer.
    pub(super) fn update_parameter(&mut self, body: &mut Body, name: &Name, value: &Expression) -> Outcome<()> {
        let new = self.expression(body, value)?;
        let Some(optimizing) = &self.optimizing else { return Err(super::Failure::Reported) };
        let (ty, path) = (optimizing.ty.clone(), optimizing.path.clone());
        let id = self.fit(new, &ty, value.span, &path, false)?;
        if let Some(optimizing) = &mut self.optimizing {
            optimizing.updated = Some(id);
        }
        body.env.bind(&name.text, Value::Tensor(id));
        Ok(())
    }
}
