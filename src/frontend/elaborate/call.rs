//! Calls: binding arguments to parameters, running functions, making and applying layers.

use std::rc::Rc;
use std::sync::Arc;

use super::scope::{Scope, instance_path};
use super::statement::{Body, Context, Flow};
use super::value::{Closure, Code, Given, Instance, Partial, Value};
use super::{CallFrame, Elaborator, Outcome, Record, limits};
use crate::diag::{Diagnostic, Span, nearest};
use crate::frontend::ast::{Name, Parameter};
use crate::ir::types::TensorType;

impl Elaborator<'_> {
    /// Calls `callee`. A piped call applies a layer even if its first argument is no tensor.
    pub(super) fn call(
        &mut self,
        body: &mut Body,
        callee: Value,
        given: Vec<Given>,
        span: Span,
        piped: bool,
    ) -> Outcome<Value> {
        if callee.is_poison() || given.iter().any(|g| g.value.holds_poison()) {
            return Ok(Value::Poison);
        }
        match callee {
            Value::Function(closure) => {
                if waits_for_first(&given, closure.definition.parameters.first().map(first_of)) {
                    return Ok(partial(Value::Function(closure), given));
                }
                self.call_function(body, &closure, given, span)
            }
            Value::Layer(closure) => self.call_layer(body, closure, given, span, piped),
            Value::Instance(instance) => self.apply(instance, given, span),
            Value::Optimizer(closure, earlier) => {
                let merged = earlier.iter().cloned().chain(given).collect();
                Ok(Value::Optimizer(closure, Rc::new(merged)))
            }
            Value::Primitive(number) => {
                let first = self.project.primitives[number].parameters.first().map(|p| (p.name, p.required));
                if waits_for_first(&given, first) {
                    return Ok(partial(Value::Primitive(number), given));
                }
                self.call_primitive(body, number, &given, span)
            }
            Value::Builtin(builtin) => self.call_builtin(builtin, &given, &body.scope, span),
            Value::DType(dtype) => self.convert(dtype, &given, span),
            Value::Partial(waiting) => {
                // Arguments given now go before those given when the function was made to wait.
                let later =
                    waiting.given.iter().filter(|w| !given.iter().any(|g| g.name == w.name && g.name.is_some()));
                let merged = given.iter().chain(later).cloned().collect();
                self.call(body, waiting.callee.clone(), merged, span, piped)
            }
            other => {
                let message = format!("{} cannot be called", self.describe(&other));
                let diagnostic = self.with_origin(Diagnostic::error(span, message), &other);
                Err(self.fail(diagnostic))
            }
        }
    }

    fn call_function(
        &mut self,
        body: &mut Body,
        closure: &Rc<Closure>,
        given: Vec<Given>,
        span: Span,
    ) -> Outcome<Value> {
        let definition = &closure.definition;
        let code = Code::Definition(definition.clone());
        let slots = self.slots(&code, given, Vec::new(), span)?;
        let mut env = closure.env.inside();
        env.bind(&definition.name.text, Value::Function(closure.clone()));
        let scope = Scope::of_function(&definition.name.text, &body.scope);
        let mut inner = Body::new(env, scope, Context::Function);
        self.run(&mut inner, &code, slots, span)
    }

    /// Calls an initializer with a shape. A lambda is no layer here: what it draws is named by the parameter.
    pub(super) fn initialize(&mut self, body: &mut Body, callee: Value, shape: Value, span: Span) -> Outcome<Value> {
        let argument = Given { name: None, value: shape, span };
        match &callee {
            Value::Instance(instance) if matches!(instance.code, Code::Lambda(_)) => {
                let slots = self.slots(&instance.code, vec![argument], Vec::new(), span)?;
                let scope = Scope::of_function(&Arc::from("lambda"), &body.scope);
                let mut inner = Body::new(instance.env.inside(), scope, Context::Function);
                self.run(&mut inner, &instance.code, slots, span)
            }
            _ => self.call(body, callee, vec![argument], span, true),
        }
    }

    /// A layer with its first argument is applied at once; without it, it is an instance.
    fn call_layer(
        &mut self,
        body: &mut Body,
        closure: Rc<Closure>,
        given: Vec<Given>,
        span: Span,
        piped: bool,
    ) -> Outcome<Value> {
        let parameters = &closure.definition.parameters;
        let applied = match parameters.first() {
            None => true,
            Some(first) => {
                let positional = given.iter().find(|g| g.name.is_none());
                let named = given.iter().any(|g| g.name.as_ref().is_some_and(|n| n.text == first.name.text));
                piped || named || positional.is_some_and(|g| g.value.holds_tensor())
            }
        };
        let mut instance = Instance {
            code: Code::Definition(closure.definition.clone()),
            env: closure.env.clone(),
            given: Vec::new(),
            scope: body.scope.clone(),
            label: Default::default(),
            path: Default::default(),
            applications: Default::default(),
        };
        if applied {
            return self.apply(Rc::new(instance), given, span);
        }
        // A mistake in the arguments is reported here, not at the first application.
        self.assign(&instance.code, Vec::new(), given.clone())?;
        instance.given = given;
        Ok(Value::Instance(Rc::new(instance)))
    }

    /// Applies an instance.
    pub(super) fn apply(&mut self, instance: Rc<Instance>, given: Vec<Given>, span: Span) -> Outcome<Value> {
        let slots = self.slots(&instance.code, given, instance.given.clone(), span)?;
        let named = matches!(&instance.code, Code::Definition(_)) || instance.label.borrow().is_some();
        let scope = Scope::of_instance(&instance);
        if named {
            self.record(&instance);
        }
        let mut env = instance.env.inside();
        if let Code::Definition(definition) = &instance.code {
            let closure = Closure { definition: definition.clone(), env: instance.env.clone() };
            env.bind(&definition.name.text, Value::Layer(Rc::new(closure)));
        }
        let outer = self.enter_scope(&instance, named);
        let mut inner = Body::new(env, scope, Context::Layer);
        let result = self.run(&mut inner, &instance.code, slots, span);
        if let Some(outer) = outer {
            self.builder.set_scope(outer);
        }
        let value = result?;
        self.remember(&value, span, &format!("`{}`", self.quote(span).lines().next().unwrap_or_default().trim()));
        // A lambda gets a path only if something in it needs one.
        if instance.path.borrow().is_some() {
            self.record(&instance);
            self.record_output(&instance_path(&instance), &value);
        }
        Ok(value)
    }

    /// Gives an instance that stands at the top a line in the table of layers.
    fn record(&mut self, instance: &Rc<Instance>) {
        let path = instance_path(instance);
        if instance.scope.is_top() && !self.record_index.contains_key(&*path) {
            let layer = instance.code.name().to_owned();
            self.record_index.insert(path.to_string(), self.records.len());
            self.records.push(Record { path: path.to_string(), layer, output: Vec::new() });
        }
    }

    fn enter_scope(&mut self, instance: &Rc<Instance>, named: bool) -> Option<Arc<str>> {
        if !named {
            return None;
        }
        let path = instance_path(instance);
        Some(self.builder.set_scope(Arc::from(&*path)))
    }

    fn record_output(&mut self, path: &str, value: &Value) {
        let Some(at) = self.record_index.get(path).copied().filter(|at| self.records[*at].output.is_empty()) else {
            return;
        };
        let mut types = Vec::new();
        self.tensor_types(value, &mut types);
        self.records[at].output = types;
    }

    fn tensor_types(&self, value: &Value, out: &mut Vec<TensorType>) {
        match value {
            Value::Tensor(id) => out.push(self.builder.type_of(*id).clone()),
            Value::List(items) | Value::Tuple(items) => items.iter().for_each(|v| self.tensor_types(v, out)),
            _ => {}
        }
    }

    /// Runs a body whose arguments are bound.
    fn run(&mut self, inner: &mut Body, code: &Code, slots: Vec<Option<Given>>, span: Span) -> Outcome<Value> {
        self.enter(span, code.name())?;
        let float = self.float;
        let result = self.bind_slots(inner, code, slots).and_then(|()| self.block(inner, code.body()));
        let result = match result {
            Ok(flow) => self.body_value(flow, code),
            Err(failure) => Err(failure),
        };
        self.float = float;
        self.calls.pop();
        result
    }

    /// Counts a call.
    pub(super) fn enter(&mut self, span: Span, name: &str) -> Outcome<()> {
        if self.calls.len() >= limits::CALL_DEPTH {
            return Err(self.endless(name, span));
        }
        self.budget.calls += 1;
        if self.budget.calls > limits::CALLS {
            let message = format!("the model makes more than {} calls at compile time", limits::CALLS);
            return Err(self.fatal(Diagnostic::error(span, message)));
        }
        if self.budget.calls.is_multiple_of(256) {
            self.check_time(span)?;
        }
        self.calls.push(CallFrame { span, name: name.to_owned() });
        Ok(())
    }

    /// The error for calls inside calls inside calls: it names the function that is called most of all.
    fn endless(&mut self, name: &str, span: Span) -> super::Failure {
        let count = |name: &str| self.calls.iter().filter(|call| call.name == name).count();
        let frame = self.calls.iter().rev().max_by_key(|call| count(&call.name));
        let (name, span) = match frame {
            Some(call) if count(&call.name) > count(name) => (call.name.clone(), call.span),
            _ => (name.to_owned(), span),
        };
        let message = format!("`{name}` is called inside itself more than {} times", count(&name));
        let help = "recursion must end by a compile-time condition";
        self.fatal(Diagnostic::error(span, message).help(help))
    }

    fn body_value(&mut self, flow: Flow, code: &Code) -> Outcome<Value> {
        match flow.value() {
            Some(value) => Ok(value),
            None => {
                let message = format!("`{}` returns nothing: end it with an expression or `return`", code.name());
                Err(self.error(code.span(), message))
            }
        }
    }

    /// Assigns arguments to parameters and complains of those that are missing.
    fn slots(&mut self, code: &Code, given: Vec<Given>, later: Vec<Given>, span: Span) -> Outcome<Vec<Option<Given>>> {
        let slots = self.assign(code, given, later)?;
        let missing = code.parameters().iter().zip(&slots).find(|(p, s)| s.is_none() && p.default.is_none());
        match missing {
            Some((parameter, _)) => {
                let name = &parameter.name;
                let message = format!("`{}` needs an argument for `{}`", code.name(), name.text);
                Err(self.fail(Diagnostic::error(span, message).label(name.span, "declared here")))
            }
            None => Ok(slots),
        }
    }

    /// Assigns arguments to parameters. `later` are those of an instance: without a name they begin at the second parameter.
    fn assign(&mut self, code: &Code, given: Vec<Given>, later: Vec<Given>) -> Outcome<Vec<Option<Given>>> {
        let mut slots: Vec<Option<Given>> = vec![None; code.parameters().len()];
        for (first, arguments) in [(1, later), (0, given)] {
            let mut position = first;
            for argument in arguments {
                let at = match &argument.name {
                    Some(name) => self.named_slot(code, name)?,
                    None => {
                        // Behind the first, those that the instance was made with are passed over.
                        while first == 0 && position > 0 && slots.get(position).is_some_and(Option::is_some) {
                            position += 1;
                        }
                        position += 1;
                        position - 1
                    }
                };
                self.fill(code, &mut slots, at, argument)?;
            }
        }
        Ok(slots)
    }

    fn named_slot(&mut self, code: &Code, name: &Name) -> Outcome<usize> {
        if let Some(at) = code.parameters().iter().position(|p| p.name.text == name.text) {
            return Ok(at);
        }
        let known: Vec<&str> = code.parameters().iter().map(|p| &*p.name.text).collect();
        Err(self.unknown_argument(code.name(), name, &known))
    }

    /// The error for a named argument that the callee does not have.
    pub(super) fn unknown_argument(&mut self, callee: &str, name: &Name, known: &[&str]) -> super::Failure {
        let diagnostic = Diagnostic::error(name.span, format!("`{callee}` has no argument `{}`", name.text));
        self.fail(match nearest(&name.text, known.iter().copied()) {
            Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
            None if known.is_empty() => diagnostic.help("it takes none"),
            None => diagnostic.help(format!("it takes {}", known.join(", "))),
        })
    }

    fn fill(&mut self, code: &Code, slots: &mut [Option<Given>], at: usize, argument: Given) -> Outcome<()> {
        match slots.get_mut(at) {
            Some(slot @ None) => {
                *slot = Some(argument);
                Ok(())
            }
            Some(Some(_)) => {
                let name = &code.parameters()[at].name.text;
                Err(self.error(argument.span, format!("the argument `{name}` of `{}` is given twice", code.name())))
            }
            None => {
                let count = code.parameters().len();
                let plural = if count == 1 { "argument" } else { "arguments" };
                let message = format!("`{}` takes {count} {plural}, this call gives more", code.name());
                let diagnostic = Diagnostic::error(argument.span, message).label(code.span(), "defined here");
                Err(self.fail(diagnostic))
            }
        }
    }

    /// Binds dims and `float`, checks types, evaluates defaults.
    fn bind_slots(&mut self, inner: &mut Body, code: &Code, slots: Vec<Option<Given>>) -> Outcome<()> {
        let parameters = code.parameters();
        let mut float = None;
        for (parameter, slot) in parameters.iter().zip(&slots) {
            if let (Some(ty), Some(Given { value: Value::Tensor(id), .. })) = (&parameter.ty, slot) {
                let actual = self.builder.type_of(*id).clone();
                self.bind_dims(inner, ty, &actual);
                if float.is_none() && Self::is_of_any_float(ty) && actual.dtype.is_float() {
                    float = Some(actual.dtype);
                }
            }
        }
        self.float = float.unwrap_or(self.float);
        for (parameter, slot) in parameters.iter().zip(slots) {
            let (value, span) = match (slot, &parameter.default) {
                (Some(given), _) => (given.value, given.span),
                (None, Some(default)) => (self.expression(inner, default)?, default.span),
                (None, None) => continue,
            };
            let value = match &parameter.ty {
                Some(ty) => self.check_argument(inner, code.name(), &parameter.name, ty, value, span)?,
                None => value,
            };
            self.observe(parameter.name.span, &value);
            inner.env.bind(&parameter.name.text, value);
        }
        Ok(())
    }

    /// The arguments of an optimizer bound in a fresh environment, and its body run by the caller.
    pub(super) fn bind_optimizer(
        &mut self,
        inner: &mut Body,
        closure: &Rc<Closure>,
        given: Vec<Given>,
        span: Span,
    ) -> Outcome<()> {
        let code = Code::Definition(closure.definition.clone());
        let slots = self.slots(&code, given, Vec::new(), span)?;
        self.bind_slots(inner, &code, slots)
    }
}

/// Whether a call with named arguments only leaves out a first parameter that has no default.
fn waits_for_first(given: &[Given], first: Option<(&str, bool)>) -> bool {
    match first {
        Some((name, true)) => {
            !given.is_empty() && given.iter().all(|g| g.name.as_ref().is_some_and(|n| &*n.text != name))
        }
        _ => false,
    }
}

fn first_of(parameter: &Parameter) -> (&str, bool) {
    (&parameter.name.text, parameter.default.is_none())
}

fn partial(callee: Value, given: Vec<Given>) -> Value {
    Value::Partial(Rc::new(Partial { callee, given }))
}
