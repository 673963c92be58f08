//! Where layers, parameters and random draws get their paths from.
//!
//! A [`Scope`] is one application of a layer (or of the model, or of a function, or one parameter's initial value).
//! Counters start anew with every application, so a shared instance finds its inner layers under the same paths again.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use super::value::Instance;

/// One application.
pub(super) struct Scope {
    kind: ScopeKind,
    counters: RefCell<HashMap<String, u32>>,
    taken: RefCell<HashSet<String>>,
    /// Counters of draws and of functions that draw.
    draws: RefCell<HashMap<String, u32>>,
    draw_path: OnceCell<Rc<str>>,
    direct_draws: Cell<u32>,
}

enum ScopeKind {
    /// The model itself.
    Root,
    /// The `number`-th application of an instance.
    Instance { instance: Rc<Instance>, number: u32 },
    /// A call of a `fn`: layers in it are named in the scope of the call.
    Function { name: Arc<str>, parent: Rc<Scope> },
    /// The initial value of a parameter or state.
    Initial(Rc<str>),
}

impl Scope {
    fn new(kind: ScopeKind) -> Rc<Scope> {
        Rc::new(Scope {
            kind,
            counters: RefCell::default(),
            taken: RefCell::default(),
            draws: RefCell::default(),
            draw_path: OnceCell::new(),
            direct_draws: Cell::new(0),
        })
    }

    pub fn root() -> Rc<Scope> {
        Scope::new(ScopeKind::Root)
    }

    /// The scope of the next application of `instance`.
    pub fn of_instance(instance: &Rc<Instance>) -> Rc<Scope> {
        let number = instance.applications.get() + 1;
        instance.applications.set(number);
        Scope::new(ScopeKind::Instance { instance: instance.clone(), number })
    }

    pub fn of_function(name: &Arc<str>, parent: &Rc<Scope>) -> Rc<Scope> {
        Scope::new(ScopeKind::Function { name: name.clone(), parent: parent.clone() })
    }

    pub fn of_initial(path: &str) -> Rc<Scope> {
        Scope::new(ScopeKind::Initial(Rc::from(path)))
    }

    /// The scope in which layers are named: functions have none of their own.
    pub fn naming(self: &Rc<Scope>) -> Rc<Scope> {
        let mut scope = self;
        while let ScopeKind::Function { parent, .. } = &scope.kind {
            scope = parent;
        }
        scope.clone()
    }

    /// The name of the function whose call this scope is, if it is one.
    pub fn function(&self) -> Option<&Arc<str>> {
        match &self.kind {
            ScopeKind::Function { name, .. } => Some(name),
            _ => None,
        }
    }

    /// Whether layers named here stand at the top of the model.
    pub fn is_top(self: &Rc<Scope>) -> bool {
        matches!(self.naming().kind, ScopeKind::Root)
    }

    /// The path of layers: empty at the top.
    pub fn path(self: &Rc<Scope>) -> Rc<str> {
        match &self.kind {
            ScopeKind::Root => Rc::from(""),
            ScopeKind::Instance { instance, .. } => instance_path(instance),
            ScopeKind::Function { .. } => self.naming().path(),
            ScopeKind::Initial(path) => path.clone(),
        }
    }

    /// The path of a member `name` of this scope.
    pub fn member(self: &Rc<Scope>, name: &str) -> String {
        join(&self.path(), name)
    }

    fn numbered(&self, base: &str) -> String {
        let mut counters = self.counters.borrow_mut();
        let counter = counters.entry(base.to_owned()).or_insert(0);
        loop {
            *counter += 1;
            let name = format!("{base}_{counter}");
            if self.taken.borrow_mut().insert(name.clone()) {
                return name;
            }
        }
    }

    fn labelled(&self, label: &str) -> String {
        if self.taken.borrow_mut().insert(label.to_owned()) {
            return label.to_owned();
        }
        (2..)
            .map(|i| format!("{label}_{i}"))
            .find(|n| self.taken.borrow_mut().insert(n.clone()))
            .expect("some number is free")
    }

    /// The path of a random draw made directly in this scope; different at every call.
    pub fn draw(self: &Rc<Scope>, primitive: &str) -> String {
        let path = self.draw_path();
        if self.function().is_some() || matches!(self.kind, ScopeKind::Initial(_)) {
            let number = self.direct_draws.get() + 1;
            self.direct_draws.set(number);
            return if number == 1 { path.to_string() } else { format!("{path}.{number}") };
        }
        join(&path, &self.numbered_draw(primitive))
    }

    fn numbered_draw(&self, base: &str) -> String {
        let mut draws = self.draws.borrow_mut();
        let counter = draws.entry(base.to_owned()).or_insert(0);
        *counter += 1;
        format!("{base}_{counter}")
    }

    /// The path under which draws of this scope are named: that of the layer with the functions called and,
    /// from the second application of a shared instance on, its number.
    fn draw_path(self: &Rc<Scope>) -> Rc<str> {
        self.draw_path
            .get_or_init(|| match &self.kind {
                ScopeKind::Root => Rc::from(""),
                ScopeKind::Initial(path) => path.clone(),
                ScopeKind::Function { name, parent } => {
                    Rc::from(join(&parent.draw_path(), &parent.numbered_draw(name)))
                }
                ScopeKind::Instance { instance, number } => {
                    let path = instance_path(instance);
                    let name = path.rsplit('.').next().unwrap_or_default();
                    let path = join(&instance.scope.naming().draw_path(), name);
                    if *number == 1 { Rc::from(path) } else { Rc::from(format!("{path}#{number}")) }
                }
            })
            .clone()
    }
}

/// The path of an instance, given to it now if it has none yet.
pub(super) fn instance_path(instance: &Rc<Instance>) -> Rc<str> {
    if let Some(path) = &*instance.path.borrow() {
        return path.clone();
    }
    let scope = instance.scope.naming();
    let name = match &*instance.label.borrow() {
        Some(label) => scope.labelled(&label.text),
        None => scope.numbered(instance.code.name()),
    };
    let path: Rc<str> = Rc::from(join(&scope.path(), &name));
    *instance.path.borrow_mut() = Some(path.clone());
    path
}

/// Joins two path components.
pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
