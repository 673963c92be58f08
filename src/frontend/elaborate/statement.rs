//! Runs statements: bindings, compile-time control flow, declarations.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use super::scope::Scope;
use super::value::{Closure, Env, Items, Value};
use super::{Elaborator, Failure, Outcome};
use crate::diag::{Diagnostic, Span, nearest};
use crate::frontend::ast::{
    Block, Definition, DefinitionKind, Expression, ExpressionKind, Name, Otherwise, Statement, StatementKind,
};

/// What kind of body runs, which decides which declarations it may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Context {
    Model,
    Layer,
    Function,
    Optimizer,
    /// A `const`, the recipe, a data block: expressions only.
    Outside,
}

/// A body being run.
pub(super) struct Body {
    pub env: Env,
    pub scope: Rc<Scope>,
    pub context: Context,
    /// The states declared in this body, by name, with their paths.
    pub states: HashMap<Arc<str>, String>,
    /// The parameters and states declared in this body.
    pub declared: HashSet<Arc<str>>,
    /// Whether the body of a `scan` in it is being run.
    pub in_scan: bool,
}

impl Body {
    pub fn new(env: Env, scope: Rc<Scope>, context: Context) -> Body {
        Body { env, scope, context, states: HashMap::new(), declared: HashSet::new(), in_scan: false }
    }
}

/// How a statement ended.
pub(super) enum Flow {
    /// Go on; the value of the statement, if it was an expression.
    Next(Option<Value>),
    Return(Value),
}

impl Flow {
    /// The value of a body that ended this way.
    pub fn value(self) -> Option<Value> {
        match self {
            Flow::Next(value) => value,
            Flow::Return(value) => Some(value),
        }
    }
}

impl Elaborator<'_> {
    /// Runs the statements of a block in the body's own scope.
    pub(super) fn block(&mut self, body: &mut Body, block: &Block) -> Outcome<Flow> {
        let mut last = None;
        for statement in &block.statements {
            match self.statement(body, statement) {
                Ok(Flow::Next(value)) => last = value,
                Ok(Flow::Return(value)) => return Ok(Flow::Return(value)),
                Err(Failure::Reported) if !self.project.is_library(statement.span) => {
                    poison_names(body, statement);
                    last = Some(Value::Poison);
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(Flow::Next(last))
    }

    fn statement(&mut self, body: &mut Body, statement: &Statement) -> Outcome<Flow> {
        if let (true, Some((word, name))) = (body.in_scan, of_model(statement)) {
            let message = format!("`{word}` cannot stand in a `scan`, whose body runs many times");
            return Err(self.error(name.span, message));
        }
        match &statement.kind {
            StatementKind::Bind { names, value } => {
                let value = self.expression(body, value)?;
                self.bind(body, names, value)?;
            }
            StatementKind::Update { name, value } => self.update(body, name, value)?,
            StatementKind::Param { name, ty, init } => self.declare_param(body, name, ty.as_ref(), init.as_ref())?,
            StatementKind::State { name, ty, init } => self.declare_state(body, name, ty.as_ref(), init.as_ref())?,
            StatementKind::Input { name, ty } => self.declare_field(body, name, ty, crate::ir::graph::Role::Input)?,
            StatementKind::Target { name, ty } => self.declare_field(body, name, ty, crate::ir::graph::Role::Target)?,
            StatementKind::Output { name, value } => {
                self.declare_result(body, name, value, crate::ir::graph::ResultRole::Output)?;
            }
            StatementKind::Loss { name, value } => {
                self.declare_result(body, name, value, crate::ir::graph::ResultRole::Loss)?;
            }
            StatementKind::Metric { name, value } => {
                self.declare_result(body, name, value, crate::ir::graph::ResultRole::Metric)?;
            }
            StatementKind::Define(definition) => self.define(body, definition)?,
            StatementKind::Return(value) if body.in_scan => {
                return Err(self.error(value.span, "`return` cannot leave a body from inside a `scan`"));
            }
            StatementKind::Return(value) => return Ok(Flow::Return(self.expression(body, value)?)),
            StatementKind::For { names, iterable, body: rounds } => {
                return self.for_loop(body, names, iterable, rounds);
            }
            StatementKind::If { condition, then, otherwise } => {
                return self.if_statement(body, condition, then, otherwise.as_ref());
            }
            StatementKind::Scan(scan) => self.scan(body, scan)?,
            StatementKind::Expression(expression) => return self.expression_statement(body, expression),
        }
        Ok(Flow::Next(None))
    }

    /// An expression whose value may be the body's; an `if` among them runs in the body's own scope.
    fn expression_statement(&mut self, body: &mut Body, expression: &Expression) -> Outcome<Flow> {
        if let ExpressionKind::If { condition, then, otherwise } = &expression.kind {
            let value = self.expression(body, condition)?;
            return match value {
                Value::Bool(true) => self.block(body, then),
                Value::Bool(false) => match &**otherwise {
                    Otherwise::Block(block) => self.block(body, block),
                    Otherwise::If(expression) => self.expression_statement(body, expression),
                },
                other => {
                    let value = self.choose(body, other, condition.span, then, otherwise, expression.span)?;
                    Ok(Flow::Next(Some(value)))
                }
            };
        }
        Ok(Flow::Next(Some(self.expression(body, expression)?)))
    }

    fn define(&mut self, body: &mut Body, definition: &Arc<Definition>) -> Outcome<()> {
        let closure = Rc::new(Closure { definition: definition.clone(), env: body.env.capture() });
        let value = match definition.kind {
            DefinitionKind::Function => Value::Function(closure),
            DefinitionKind::Layer => Value::Layer(closure),
            DefinitionKind::Model | DefinitionKind::Optimizer => {
                return Err(self.error(definition.name.span, "models and optimizers are defined at the top of a file"));
            }
        };
        body.env.bind(&definition.name.text, value);
        Ok(())
    }

    /// Binds one name, or several to the items of a tuple or list.
    pub(super) fn bind(&mut self, body: &mut Body, names: &[Name], value: Value) -> Outcome<()> {
        if let [name] = names {
            if let Value::Instance(instance) = &value {
                let mut label = instance.label.borrow_mut();
                if label.is_none() && instance.path.borrow().is_none() {
                    *label = Some(name.clone());
                }
            }
            self.remember(&value, name.span, &format!("`{}`", name.text));
            self.observe(name.span, &value);
            body.states.remove(&name.text);
            body.env.bind(&name.text, value);
            return Ok(());
        }
        let span = names[0].span.to(names[names.len() - 1].span);
        let items = match &value {
            Value::Tuple(items) | Value::List(items) if items.len() == names.len() => items.to_vec(),
            Value::Poison => vec![Value::Poison; names.len()],
            Value::Tuple(items) | Value::List(items) => {
                let message = format!("{} names are bound to {} values", names.len(), items.len());
                return Err(self.error(span, message));
            }
            other => {
                let message = format!("{} names are bound to one value, {}", names.len(), self.describe(other));
                return Err(self.error(span, message));
            }
        };
        for (name, item) in names.iter().zip(items.iter()) {
            self.bind(body, std::slice::from_ref(name), item.clone())?;
        }
        Ok(())
    }

    fn for_loop(&mut self, body: &mut Body, names: &[Name], iterable: &Expression, rounds: &Block) -> Outcome<Flow> {
        let value = self.expression(body, iterable)?;
        if value.is_poison() {
            return Ok(Flow::Next(Some(Value::Poison)));
        }
        let items = self.items(&value, iterable.span)?;
        let mut last = None;
        for item in items.iter() {
            self.count_round(iterable.span)?;
            self.bind(body, names, item.clone())?;
            match self.block(body, rounds)? {
                Flow::Next(value) => last = value,
                returned => return Ok(returned),
            }
        }
        Ok(Flow::Next(last))
    }

    /// The items that a loop or comprehension runs over.
    pub(super) fn items(&mut self, value: &Value, span: Span) -> Outcome<Rc<Items>> {
        match value {
            Value::List(items) | Value::Tuple(items) => Ok(items.clone()),
            Value::Tensor(_) => Err(self.fail(
                Diagnostic::error(span, "a loop runs over a compile-time list or range, not over a tensor")
                    .primary(self.describe(value))
                    .help("`for i in 0..n { y = x[i] ... }` unrolls over an axis of known size"),
            )),
            other => {
                let found = self.describe(other);
                Err(self.fail(Diagnostic::error(span, "a loop runs over a list or a range").primary(found)))
            }
        }
    }

    fn if_statement(
        &mut self,
        body: &mut Body,
        condition: &Expression,
        then: &Block,
        otherwise: Option<&Block>,
    ) -> Outcome<Flow> {
        match self.expression(body, condition)? {
            Value::Bool(true) => self.block(body, then),
            Value::Bool(false) => otherwise.map_or(Ok(Flow::Next(None)), |block| self.block(body, block)),
            Value::Poison => Err(Failure::Reported),
            tensor @ Value::Tensor(_) => match otherwise {
                // Written as a statement, it may still be the value of its body.
                Some(otherwise) => {
                    let chosen = Otherwise::Block(otherwise.clone());
                    let span = then.span.to(otherwise.span);
                    let value = self.choose(body, tensor, condition.span, then, &chosen, span)?;
                    Ok(Flow::Next(Some(value)))
                }
                None => Err(self.fail(
                    Diagnostic::error(
                        condition.span,
                        "the condition of an `if` statement must be known at compile time",
                    )
                    .help("on a tensor, write `y = if c { a } else { b }`, an elementwise choice"),
                )),
            },
            other => {
                let found = self.describe(&other);
                Err(self.fail(Diagnostic::error(condition.span, "a condition is a bool").primary(found)))
            }
        }
    }

    /// The block's value in an inner scope that sees the body's names.
    pub(super) fn inner_block(&mut self, body: &mut Body, block: &Block) -> Outcome<Value> {
        let saved = (body.env.clone(), body.states.clone());
        body.env = saved.0.inside();
        let flow = self.block(body, block);
        (body.env, body.states) = saved;
        match flow? {
            Flow::Next(Some(value)) => Ok(value),
            Flow::Next(None) => Err(self.error(block.span, "this block has no value: end it with an expression")),
            Flow::Return(_) => Err(self.error(block.span, "`return` cannot leave a body from inside an expression")),
        }
    }

    /// The error for a name that nothing is bound to.
    pub(super) fn unknown_name(&mut self, body: &Body, name: &str, span: Span) -> Failure {
        // In a loop the same place fails in every round, and looking for what was meant takes long.
        if !self.unknown.insert((span, name.to_owned())) {
            return Failure::Reported;
        }
        let local = body.env.visible();
        let globals = self.project.global_names(body.env.file);
        let candidates = local.iter().map(|n| &**n).chain(globals.iter().copied());
        let diagnostic = crate::frontend::resolve::unknown_name(name, span, nearest(name, candidates));
        self.fail(diagnostic)
    }
}

/// The word and name of a declaration that a model makes once.
fn of_model(statement: &Statement) -> Option<(&'static str, &Name)> {
    match &statement.kind {
        StatementKind::Input { name, .. } => Some(("input", name)),
        StatementKind::Target { name, .. } => Some(("target", name)),
        StatementKind::Output { name, .. } => Some(("output", name)),
        StatementKind::Loss { name, .. } => Some(("loss", name)),
        StatementKind::Metric { name, .. } => Some(("metric", name)),
        _ => None,
    }
}

/// Binds the names of a failed statement to poison, so that what depends on them stays silent.
fn poison_names(body: &mut Body, statement: &Statement) {
    let mut poison = |name: &Name| body.env.bind(&name.text, Value::Poison);
    match &statement.kind {
        StatementKind::Bind { names, .. } => names.iter().for_each(poison),
        StatementKind::Update { name, .. }
        | StatementKind::Param { name, .. }
        | StatementKind::State { name, .. }
        | StatementKind::Input { name, .. }
        | StatementKind::Target { name, .. }
        | StatementKind::Output { name, .. }
        | StatementKind::Loss { name, .. }
        | StatementKind::Metric { name, .. } => poison(name),
        StatementKind::Define(definition) => poison(&definition.name),
        StatementKind::Scan(scan) => {
            scan.results.iter().for_each(&mut poison);
            scan.carries.iter().for_each(|c| poison(&c.name));
        }
        // Which names the branches or rounds bind, they bind themselves.
        StatementKind::For { body: block, .. } => poison_block(body, block),
        StatementKind::If { then, otherwise, .. } => {
            poison_block(body, then);
            if let Some(block) = otherwise {
                poison_block(body, block);
            }
        }
        StatementKind::Return(_) | StatementKind::Expression(_) => {}
    }
}

fn poison_block(body: &mut Body, block: &Block) {
    block.statements.iter().for_each(|s| poison_names(body, s));
}
