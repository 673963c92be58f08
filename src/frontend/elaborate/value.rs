//! The values that bodies compute with, and the names they are bound to.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use super::builtin::Builtin;
use super::scope::Scope;
use crate::diag::{FileId, Span};
use crate::frontend::ast::{Block, Definition, Lambda, Name, Parameter};
use crate::ir::dim::Dim;
use crate::ir::graph::ValueId;
use crate::ir::types::DType;

/// What an expression yields.
#[derive(Clone)]
pub(super) enum Value {
    /// A compile-time integer, symbolic sizes such as `batch` included.
    Int(Dim),
    Float(f64),
    Bool(bool),
    Text(Arc<str>),
    List(Rc<Items>),
    Tuple(Rc<Items>),
    DType(DType),
    /// A run-time value.
    Tensor(ValueId),
    /// A `fn`.
    Function(Rc<Closure>),
    /// A `layer`, of which every application makes a fresh instance.
    Layer(Rc<Closure>),
    /// A layer with its further arguments, or a lambda: its parameters are made once.
    Instance(Rc<Instance>),
    /// An `optimizer`, with the arguments it was given.
    Optimizer(Rc<Closure>, Rc<Vec<Given>>),
    /// A primitive of the graph, by its number in the table.
    Primitive(usize),
    Builtin(Builtin),
    /// A file that `use ... as name` names.
    Module(FileId),
    /// A function or primitive that waits for its first argument.
    Partial(Rc<Partial>),
    /// Stands for the value of a statement that failed; whatever touches it is silent.
    Poison,
}

/// The items of a list or tuple, with what is asked of all of them: lists share their parts, so a short program can make a
/// list whose parts are too many to be looked at.
pub(super) struct Items {
    values: Vec<Value>,
    /// Items of items included; saturates.
    pub weight: usize,
    /// Lists inside lists.
    pub depth: usize,
    holds_tensor: bool,
    holds_poison: bool,
}

impl Items {
    fn new(values: Vec<Value>) -> Items {
        let inner = |v: &Value| match v {
            Value::List(items) | Value::Tuple(items) => (items.weight, items.depth),
            _ => (0, 0),
        };
        let weight = values.iter().fold(values.len().max(1), |sum, v| sum.saturating_add(inner(v).0));
        let depth = 1 + values.iter().map(|v| inner(v).1).max().unwrap_or(0);
        let holds_tensor = values.iter().any(Value::holds_tensor);
        let holds_poison = values.iter().any(Value::holds_poison);
        Items { values, weight, depth, holds_tensor, holds_poison }
    }
}

impl std::ops::Deref for Items {
    type Target = [Value];

    fn deref(&self) -> &[Value] {
        &self.values
    }
}

/// A definition with the names that it sees.
pub(super) struct Closure {
    pub definition: Arc<Definition>,
    pub env: Env,
}

/// A function with some named arguments given.
pub(super) struct Partial {
    pub callee: Value,
    pub given: Vec<Given>,
}

/// An evaluated argument of a call.
#[derive(Clone)]
pub(super) struct Given {
    pub name: Option<Name>,
    pub value: Value,
    pub span: Span,
}

/// The code of an instance.
#[derive(Clone)]
pub(super) enum Code {
    Definition(Arc<Definition>),
    Lambda(Arc<Lambda>),
}

impl Code {
    pub fn parameters(&self) -> &[Parameter] {
        match self {
            Code::Definition(d) => &d.parameters,
            Code::Lambda(l) => &l.parameters,
        }
    }

    pub fn body(&self) -> &Block {
        match self {
            Code::Definition(d) => &d.body,
            Code::Lambda(l) => &l.body,
        }
    }

    /// The name in paths and messages.
    pub fn name(&self) -> &str {
        match self {
            Code::Definition(d) => &d.name.text,
            Code::Lambda(_) => "lambda",
        }
    }

    /// Where it is introduced: the name of a definition, the whole of a lambda.
    pub fn span(&self) -> Span {
        match self {
            Code::Definition(d) => d.name.span,
            Code::Lambda(l) => l.span,
        }
    }
}

/// A layer whose parameters are made at its first application and shared by all.
pub(super) struct Instance {
    pub code: Code,
    pub env: Env,
    /// The arguments after the first: those without a name belong to the second parameter on.
    pub given: Vec<Given>,
    /// The scope in which it was written and in which it gets its name.
    pub scope: Rc<Scope>,
    /// The name it was bound to.
    pub label: RefCell<Option<Name>>,
    pub path: RefCell<Option<Rc<str>>>,
    /// How often it has been applied.
    pub applications: Cell<u32>,
}

impl Value {
    pub fn int(value: i64) -> Value {
        Value::Int(Dim::from(value))
    }

    pub fn text(text: &str) -> Value {
        Value::Text(Arc::from(text))
    }

    pub fn list(items: Vec<Value>) -> Value {
        Value::List(Rc::new(Items::new(items)))
    }

    pub fn tuple(items: Vec<Value>) -> Value {
        Value::Tuple(Rc::new(Items::new(items)))
    }

    /// A list of sizes.
    pub fn shape(dims: &[Dim]) -> Value {
        Value::list(dims.iter().cloned().map(Value::Int).collect())
    }

    /// A known integer.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Value::Int(d) => d.constant(),
            _ => None,
        }
    }

    /// A known number.
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Value::Int(d) => d.constant().map(|i| i as f64),
            Value::Float(x) => Some(*x),
            _ => None,
        }
    }

    pub fn is_poison(&self) -> bool {
        matches!(self, Value::Poison)
    }

    pub fn is_callable(&self) -> bool {
        matches!(
            self,
            Value::Function(_)
                | Value::Layer(_)
                | Value::Instance(_)
                | Value::Primitive(_)
                | Value::Builtin(_)
                | Value::Partial(_)
                | Value::DType(_)
        )
    }

    /// Whether a tensor is in it, so that it can be a layer's first argument.
    pub fn holds_tensor(&self) -> bool {
        match self {
            Value::Tensor(_) => true,
            Value::Tuple(items) | Value::List(items) => items.holds_tensor,
            _ => false,
        }
    }

    /// Whether a poisoned value is in it.
    pub fn holds_poison(&self) -> bool {
        match self {
            Value::Poison => true,
            Value::Tuple(items) | Value::List(items) => items.holds_poison,
            _ => false,
        }
    }
}

/// The names visible in a body. A closure keeps a copy, so it sees the bindings as they were where it was written.
#[derive(Clone)]
pub(super) struct Env {
    names: Rc<HashMap<Arc<str>, Value>>,
    parent: Option<Rc<Env>>,
    /// The file in which the text stands, which decides what global names mean.
    pub file: FileId,
}

impl Env {
    /// An environment in which only the global names of a file are visible.
    pub fn root(file: FileId) -> Env {
        Env { names: Rc::default(), parent: None, file }
    }

    /// A fresh environment inside `self`.
    pub fn inside(&self) -> Env {
        Env { names: Rc::default(), parent: Some(Rc::new(self.clone())), file: self.file }
    }

    /// The environment as a closure keeps it. What is bound from now on stands in a new one, so that nothing is copied.
    pub fn capture(&mut self) -> Env {
        match &self.parent {
            Some(parent) if self.names.is_empty() => (**parent).clone(),
            _ => {
                let captured = self.clone();
                *self = captured.inside();
                captured
            }
        }
    }

    pub fn bind(&mut self, name: &Arc<str>, value: Value) {
        Rc::make_mut(&mut self.names).insert(name.clone(), value);
    }

    pub fn get(&self, name: &str) -> Option<&Value> {
        let mut env = self;
        loop {
            if let Some(value) = env.names.get(name) {
                return Some(value);
            }
            env = env.parent.as_deref()?;
        }
    }

    /// Every local name, for suggestions.
    pub fn visible(&self) -> Vec<Arc<str>> {
        let mut all = Vec::new();
        let mut env = Some(self);
        while let Some(e) = env {
            all.extend(e.names.keys().cloned());
            env = e.parent.as_deref();
        }
        all.sort();
        all
    }
}
