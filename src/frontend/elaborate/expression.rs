//! Evaluates expressions.

use std::rc::Rc;

use super::limits;
use super::scope::instance_path;
use super::statement::{Body, Context};
use super::value::{Code, Given, Instance, Value};
use super::{Elaborator, Outcome};
use crate::diag::{Diagnostic, Span, nearest};
use crate::frontend::Global;
use crate::frontend::ast::{
    BinaryOperator, Block, CallArgument, Definition, DefinitionKind, Expression, ExpressionKind, Name, Otherwise,
};
use crate::ir::dim::Dim;

impl Elaborator<'_> {
    /// The value of an expression.
    pub(super) fn expression(&mut self, body: &mut Body, e: &Expression) -> Outcome<Value> {
        if self.stopped() {
            return Err(super::Failure::Fatal);
        }
        let value = self.evaluate(body, e)?;
        self.observe(e.span, &value);
        if let Value::List(items) | Value::Tuple(items) = &value {
            self.check_length(items.weight, e.span)?;
            if items.depth > limits::LIST_DEPTH {
                return Err(self.error(e.span, format!("lists inside lists more than {} deep", limits::LIST_DEPTH)));
            }
        }
        Ok(value)
    }

    fn evaluate(&mut self, body: &mut Body, e: &Expression) -> Outcome<Value> {
        Ok(match &e.kind {
            ExpressionKind::Int(i) => Value::int(*i),
            ExpressionKind::Float(x) => Value::Float(*x),
            ExpressionKind::Bool(b) => Value::Bool(*b),
            ExpressionKind::Text(t) => Value::Text(t.clone()),
            ExpressionKind::Name(name) => self.name(body, name, e.span)?,
            ExpressionKind::List(items) => Value::list(self.expressions(body, items)?),
            ExpressionKind::Tuple(items) => Value::tuple(self.expressions(body, items)?),
            ExpressionKind::Comprehension { element, names, iterable } => {
                self.comprehension(body, element, names, iterable)?
            }
            ExpressionKind::Range { start, end } => self.range(body, start, end, e.span)?,
            ExpressionKind::Unary { operator, operand } => {
                let value = self.expression(body, operand)?;
                self.unary(*operator, value, operand.span, e.span)?
            }
            ExpressionKind::Binary { operator, left, right, operator_span } => {
                return self.binary_expression(body, *operator, left, right, *operator_span);
            }
            ExpressionKind::Pipe { value, call } => self.pipe(body, value, call)?,
            ExpressionKind::If { condition, then, otherwise } => {
                let value = self.expression(body, condition)?;
                self.choose(body, value, condition.span, then, otherwise, e.span)?
            }
            ExpressionKind::Call { callee, arguments } => {
                let callee_value = self.expression(body, callee)?;
                let given = self.arguments(body, arguments)?;
                self.call(body, callee_value, given, e.span, false)?
            }
            ExpressionKind::Index { value, subscripts } => {
                let indexed = self.expression(body, value)?;
                self.index(body, indexed, value.span, subscripts, e.span)?
            }
            ExpressionKind::Field { value, name } => {
                let owner = self.expression(body, value)?;
                self.field(owner, value.span, name)?
            }
            ExpressionKind::Lambda(lambda) => Value::Instance(Rc::new(Instance {
                code: Code::Lambda(lambda.clone()),
                env: body.env.capture(),
                given: Vec::new(),
                scope: body.scope.clone(),
                label: Default::default(),
                path: Default::default(),
                applications: Default::default(),
            })),
        })
    }

    fn expressions(&mut self, body: &mut Body, items: &[Expression]) -> Outcome<Vec<Value>> {
        items.iter().map(|e| self.expression(body, e)).collect()
    }

    /// Evaluates the arguments of a call in the order in which they are written.
    pub(super) fn arguments(&mut self, body: &mut Body, arguments: &[CallArgument]) -> Outcome<Vec<Given>> {
        let given = |a: &CallArgument, value| Given { name: a.name.clone(), value, span: a.value.span };
        arguments.iter().map(|a| Ok(given(a, self.expression(body, &a.value)?))).collect()
    }

    /// Local names, then what the training step binds, then the file's, the library's, primitives and builtins.
    fn name(&mut self, body: &mut Body, name: &str, span: Span) -> Outcome<Value> {
        if let Some(value) = body.env.get(name) {
            return Ok(value.clone());
        }
        if let Some(ambient) = &self.ambient {
            match name {
                "step" => return Ok(ambient.step.clone()),
                "epoch" => return Ok(ambient.epoch.clone()),
                _ => {}
            }
        }
        if name == "training" {
            return Ok(Value::Bool(self.training));
        }
        let project = self.project;
        if let Some(global) = project.global(name, body.env.file) {
            return self.global_value(global, span);
        }
        if let Some(builtin) = super::builtin::Builtin::from_name(name) {
            return Ok(Value::Builtin(builtin));
        }
        if let Some(number) = project.primitive(name) {
            return Ok(Value::Primitive(number));
        }
        if name == super::ANY_FLOAT {
            return Ok(Value::DType(self.float));
        }
        if let Some(dtype) = crate::ir::types::DType::from_name(name) {
            return Ok(Value::DType(dtype));
        }
        if crate::frontend::resolve::BARE_WORDS.contains(&name) {
            return Ok(Value::text(name));
        }
        if name == "steps" && body.context == Context::Outside {
            let diagnostic = Diagnostic::error(span, "the number of training steps is not known here");
            return Err(self.fail(diagnostic.help("write `steps N` into the recipe")));
        }
        Err(self.unknown_name(body, name, span))
    }

    fn global_value(&mut self, global: &Global, span: Span) -> Outcome<Value> {
        match global {
            Global::Definition(definition) => self.definition_value(definition, span),
            Global::Const(name, value) => self.constant(name, value),
            Global::Module(_, file) => Ok(Value::Module(*file)),
        }
    }

    fn definition_value(&mut self, definition: &std::sync::Arc<Definition>, span: Span) -> Outcome<Value> {
        let env = super::value::Env::root(definition.name.span.file);
        let closure = Rc::new(super::value::Closure { definition: definition.clone(), env });
        Ok(match definition.kind {
            DefinitionKind::Function => Value::Function(closure),
            DefinitionKind::Layer => Value::Layer(closure),
            DefinitionKind::Optimizer => Value::Optimizer(closure, Rc::default()),
            DefinitionKind::Model => {
                return Err(self.error(span, format!("the model `{}` cannot be used as a value", definition.name.text)));
            }
        })
    }

    /// A `const`, evaluated at its first use.
    fn constant(&mut self, name: &Name, value: &Expression) -> Outcome<Value> {
        match self.constants.get(&name.span) {
            Some(Some(value)) => return Ok(value.clone()),
            Some(None) => {
                let message = format!("the constant `{}` is defined by itself", name.text);
                return Err(self.error(name.span, message));
            }
            None => {}
        }
        self.constants.insert(name.span, None);
        let mut body =
            Body::new(super::value::Env::root(name.span.file), super::scope::Scope::root(), Context::Outside);
        let result = self.expression(&mut body, value);
        let result = match result {
            Ok(value) if value.holds_tensor() => {
                Err(self.error(name.span, format!("the constant `{}` is a tensor: make it a `fn`", name.text)))
            }
            other => other,
        };
        // A constant that failed is reported once.
        let kept = result.clone().unwrap_or(Value::Poison);
        self.constants.insert(name.span, Some(kept));
        result
    }

    fn comprehension(
        &mut self,
        body: &mut Body,
        element: &Expression,
        names: &[Name],
        iterable: &Expression,
    ) -> Outcome<Value> {
        let value = self.expression(body, iterable)?;
        if value.is_poison() {
            return Ok(Value::Poison);
        }
        let items = self.items(&value, iterable.span)?;
        let saved = body.env.clone();
        let mut out = Vec::new();
        for item in items.iter() {
            self.count_round(iterable.span)?;
            body.env = saved.inside();
            let result = self.bind(body, names, item.clone()).and_then(|()| self.expression(body, element));
            body.env = saved.clone();
            out.push(result?);
        }
        Ok(Value::list(out))
    }

    fn range(&mut self, body: &mut Body, start: &Expression, end: &Expression, span: Span) -> Outcome<Value> {
        let (from, to) = (self.expression(body, start)?, self.expression(body, end)?);
        if from.is_poison() || to.is_poison() {
            return Ok(Value::Poison);
        }
        self.range_list(&from, &to, span)
    }

    /// The ints from `from` up to and without `to`.
    pub(super) fn range_list(&mut self, from: &Value, to: &Value, span: Span) -> Outcome<Value> {
        let (Some(first), Some(end)) = (from.as_int(), to.as_int()) else {
            let wrong = if from.as_int().is_none() { from } else { to };
            let found = self.describe(wrong);
            let message = "the ends of a range are ints known at compile time";
            return Err(self.fail(Diagnostic::error(span, message).primary(format!("found {found}"))));
        };
        let length = end.saturating_sub(first).max(0);
        self.check_length(usize::try_from(length).unwrap_or(usize::MAX), span)?;
        Ok(Value::list((first..end).map(Value::int).collect()))
    }

    pub(super) fn check_length(&mut self, length: usize, span: Span) -> Outcome<()> {
        if length > limits::LIST_LENGTH {
            let message = format!("a list of {length} items is longer than {}", limits::LIST_LENGTH);
            return Err(self.error(span, message));
        }
        Ok(())
    }

    fn pipe(&mut self, body: &mut Body, value: &Expression, call: &Expression) -> Outcome<Value> {
        let first = Given { name: None, value: self.expression(body, value)?, span: value.span };
        let (callee, arguments) = match &call.kind {
            ExpressionKind::Call { callee, arguments } => (&**callee, arguments.as_slice()),
            _ => (call, &[][..]),
        };
        let callee_value = self.expression(body, callee)?;
        let mut given = vec![first];
        given.extend(self.arguments(body, arguments)?);
        let result = self.call(body, callee_value, given, call.span, true)?;
        self.observe(call.span, &result);
        Ok(result)
    }

    fn binary_expression(
        &mut self,
        body: &mut Body,
        operator: BinaryOperator,
        left: &Expression,
        right: &Expression,
        operator_span: Span,
    ) -> Outcome<Value> {
        let first = self.expression(body, left)?;
        match (operator, &first) {
            (BinaryOperator::And, Value::Bool(false)) | (BinaryOperator::Or, Value::Bool(true)) => return Ok(first),
            _ => {}
        }
        let second = self.expression(body, right)?;
        self.binary(operator, (first, left.span), (second, right.span), operator_span)
    }

    /// `if c { a } else { b }` as a value.
    pub(super) fn choose(
        &mut self,
        body: &mut Body,
        condition: Value,
        condition_span: Span,
        then: &Block,
        otherwise: &Otherwise,
        span: Span,
    ) -> Outcome<Value> {
        match condition {
            Value::Bool(true) => self.inner_block(body, then),
            Value::Bool(false) => self.otherwise(body, otherwise),
            Value::Poison => Ok(Value::Poison),
            Value::Tensor(_) => {
                let first = (self.inner_block(body, then)?, then.span);
                let second = (self.otherwise(body, otherwise)?, otherwise_span(otherwise));
                self.operation("select", &[(condition, condition_span), first, second], span)
            }
            other => {
                let found = self.describe(&other);
                Err(self.fail(Diagnostic::error(condition_span, "a condition is a bool").primary(found)))
            }
        }
    }

    fn otherwise(&mut self, body: &mut Body, otherwise: &Otherwise) -> Outcome<Value> {
        match otherwise {
            Otherwise::Block(block) => self.inner_block(body, block),
            Otherwise::If(expression) => self.expression(body, expression),
        }
    }

    /// A parameter, a state or an inner layer of an instance by its name.
    fn field(&mut self, owner: Value, owner_span: Span, name: &Name) -> Outcome<Value> {
        let instance = match owner {
            Value::Poison => return Ok(Value::Poison),
            Value::Instance(instance) => instance,
            Value::Module(file) => {
                let project = self.project;
                return match project.own_global(&name.text, file) {
                    Some(global) => self.global_value(global, owner_span.to(name.span)),
                    None => Err(self.fail(project.unknown_item(file, name))),
                };
            }
            Value::Tensor(_) if &*name.text == "shape" => {
                let message = "a tensor has no fields";
                return Err(self.fail(Diagnostic::error(name.span, message).help("write `shape(x)`")));
            }
            other => {
                let message = format!("{} has no field `{}`", self.describe(&other), name.text);
                return Err(self.error(owner_span.to(name.span), message));
            }
        };
        if instance.applications.get() == 0 {
            let message =
                format!("{} has no parameters before its first use", self.describe(&Value::Instance(instance)));
            return Err(self.error(owner_span, message));
        }
        let path = instance_path(&instance);
        if let Some(member) = self.member_index.get(&super::scope::join(&path, &name.text)) {
            return Ok(Value::Tensor(self.members[*member].current));
        }
        let prefix = format!("{path}.");
        let candidates: Vec<String> =
            self.members.iter().filter_map(|m| m.path.strip_prefix(&prefix)).map(str::to_owned).collect();
        let diagnostic = Diagnostic::error(name.span, format!("`{path}` has no parameter `{}`", name.text));
        let near = nearest(&name.text, candidates.iter().map(String::as_str)).map(|n| format!("did you mean `{n}`?"));
        let list = || match candidates.is_empty() {
            true => "it has no parameters".to_owned(),
            false => format!("it has {}", candidates.join(", ")),
        };
        Err(self.fail(diagnostic.help(near.unwrap_or_else(list))))
    }

    /// A size from the number of items of a list.
    pub(super) fn length_value(length: usize) -> Value {
        Value::Int(Dim::from(length))
    }
}

fn otherwise_span(otherwise: &Otherwise) -> Span {
    match otherwise {
        Otherwise::Block(block) => block.span,
        Otherwise::If(expression) => expression.span,
    }
}
