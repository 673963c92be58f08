//! One update of one parameter: an optimizer's body run with the parameter and its gradient.

use std::rc::Rc;
use std::sync::Arc;

use super::member::Member;
use super::replay::{Update, Updates};
use super::scope::Scope;
use super::statement::{Body, Context};
use super::value::{Closure, Given, Value};
use super::{Ambient, Elaborator, Outcome};
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
    /// Whether it goes on with a state of an earlier update.
    pub goes_on: bool,
}

/// How a parameter is updated.
pub(super) struct Training<'e> {
    pub with: &'e Expression,
    /// What `step` means: the number of the update, an `i32[]`.
    pub number: ValueId,
    /// Steps that make an update.
    pub accumulate: u64,
}

impl Elaborator<'_> {
    /// Updates one parameter: by the optimizer's body, or as it updated one of the same type.
    pub(super) fn train(
        &mut self,
        body: &mut Body,
        training: &Training<'_>,
        updates: &mut Updates,
        at: usize,
        gradient: ValueId,
    ) -> Outcome<()> {
        let Member { path, ty: stored, current, .. } = self.members[at].clone();
        let ty = self.update_type(at);
        let value = self.builder.cast(current, ty.dtype);
        let like = (stored.clone(), self.builder.type_of(gradient).clone());
        if let Some(updated) = updates.get(&like).and_then(|update| self.replay(update, value, gradient, &path)) {
            self.members[at].current = self.builder.cast(updated, stored.dtype);
            return Ok(());
        }
        let ambient = self.ambient(training.number, ty.dtype);
        let float = std::mem::replace(&mut self.float, ty.dtype);
        self.ambient = Some(ambient.clone());
        let (nodes, states, draws) = (self.builder.graph().len(), self.optimizer_states.len(), self.sites.len());
        let result = self.optimizer_value(body, training.with);
        let result = result.and_then(|(closure, given)| {
            let definition = closure.definition.clone();
            let name = definition.name.text.clone();
            self.optimizing =
                Some(Optimizing { optimizer: name.clone(), path: path.clone(), ty, updated: None, goes_on: false });
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
            self.enter(training.with.span, &name)?;
            let scope = self.builder.set_scope(Arc::from(&*name));
            let result = self
                .bind_optimizer(&mut inner, &closure, given, training.with.span)
                .and_then(|()| self.block(&mut inner, &definition.body));
            self.builder.set_scope(scope);
            self.calls.pop();
            result.map(|_| definition)
        });
        self.ambient = None;
        self.float = float;
        let (updated, goes_on) = self.optimizing.take().map_or((None, false), |o| (o.updated, o.goes_on));
        let definition = result?;
        match updated {
            Some(id) => {
                if self.sites.len() == draws && !goes_on && !self.failed {
                    let nodes = nodes as u32..self.builder.graph().len() as u32;
                    let states = self.optimizer_states[states..].to_vec();
                    updates.insert(like, Update { value, gradient, nodes, states, path, updated: id });
                }
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
    fn ambient(&mut self, step: ValueId, dtype: DType) -> Ambient {
        let epoch = self.epoch_argument();
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
        body.states.insert(name.text.clone(), path.clone());
        // A further update in the same step goes on with what the one before it left.
        if let Some(at) = self.optimizer_state_index.get(&path) {
            self.optimizing.iter_mut().for_each(|o| o.goes_on = true);
            body.env.bind(&name.text, Value::Tensor(self.optimizer_states[*at].current));
            return Ok(());
        }
        let initial = self.initial_value(body, init, &ty, &path)?;
        let argument = self.argument(path.clone(), Role::OptimizerState, ty.clone());
        self.optimizer_state_index.insert(path.clone(), self.optimizer_states.len());
        self.optimizer_states.push(Member {
            path,
            ty,
            is_parameter: false,
            frozen: false,
            span: name.span,
            used: self.calls.last().map_or(name.span, |c| c.span),
            argument,
            current: argument,
            initial: Some(initial),
        });
        self.observe(name.span, &Value::Tensor(argument));
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
        self.observe(name.span, &Value::Tensor(id));
        body.env.bind(&name.text, Value::Tensor(id));
        Ok(())
    }
}
