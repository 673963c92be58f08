//! Finds every definition of a name and what each use means, by walking through the tree as elaboration does.
//!
//! Names are rebound freely, so a use means the definitions that may reach it: an overlay of bindings is kept for each branch,
//! body and scope, and joined where branches meet. Where only values could tell, more than one definition is given.

use std::collections::HashMap;
use std::sync::Arc;

use super::names::{Callee, FILE, Meaning, Names, Scope, ScopeId, ScopeKind, Site, SiteId, SiteKind, SymbolId, Use};
use crate::diag::Span;
use crate::frontend::Project;
use crate::frontend::ast::{
    self, Block, DTypeExpression, Definition, DefinitionKind, Doc, Expression, ExpressionKind, Item, Name, Otherwise,
    Parameter, Scan, Statement, StatementKind, TypeExpression, Used,
};

/// The names bound in one branch or scope, with the definitions that reach its end.
type Layer = HashMap<Arc<str>, Vec<SiteId>>;

/// A name to be defined.
pub(super) struct New<'a> {
    pub name: &'a Name,
    pub kind: SiteKind,
    pub doc: &'a Doc,
    pub whole: Span,
}

pub(super) struct Walker<'a> {
    pub project: &'a Project,
    pub names: Names,
    symbols: HashMap<(ScopeId, Arc<str>), SymbolId>,
    pub layers: Vec<Layer>,
    pub scope: ScopeId,
    /// The names at the end of each model, for its recipe.
    pub models: HashMap<Arc<str>, (ScopeId, Layer)>,
}

/// The names of a project's own file, which is `length` bytes long.
pub(super) fn walk(project: &Project, length: usize) -> Names {
    let file = Scope { kind: ScopeKind::File, start: 0, end: length as u32, parent: None, model: None };
    let mut walker = Walker {
        project,
        names: Names { scopes: vec![file], ..Names::default() },
        symbols: HashMap::new(),
        layers: vec![Layer::new()],
        scope: FILE,
        models: HashMap::new(),
    };
    walker.file(project.items());
    walker.names
}

impl Walker<'_> {
    fn file(&mut self, items: &[Item]) {
        for item in items {
            self.declare_item(item);
        }
        for item in items {
            match item {
                Item::Function(d) | Item::Model(d) | Item::Optimizer(d) => self.definition(d),
                Item::Const { value, .. } => self.expression(value),
                Item::Use(used) => self.used(used),
                Item::Data(_) | Item::Train(_) => {}
            }
        }
        for item in items {
            match item {
                Item::Train(block) => self.train(block),
                Item::Data(block) => self.data(block),
                _ => {}
            }
        }
    }

    /// The names that a `use` asks for are uses of them; a file's own name stands for the file.
    fn used(&mut self, used: &ast::Use) {
        match &used.what {
            Used::All => {}
            Used::Module(name) => self.name(name.clone(), None),
            Used::Names(names) => {
                for wanted in names {
                    let seen = wanted.alias.as_ref().unwrap_or(&wanted.name);
                    let Some(meant) = self.project.elsewhere(&seen.text) else { continue };
                    for name in [Some(&wanted.name), wanted.alias.as_ref()].into_iter().flatten() {
                        self.add_use(name.clone(), Meaning::Elsewhere(meant.clone()), None);
                    }
                }
            }
        }
    }

    /// Names at the top are visible in all of the file; of two the first counts.
    fn declare_item(&mut self, item: &Item) {
        let (name, kind, doc, whole) = match item {
            Item::Function(d) | Item::Model(d) | Item::Optimizer(d) => (&d.name, definition_kind(d), &d.doc, d.span),
            Item::Const { name, value, doc } => (name, SiteKind::Constant, doc, name.span.to(value.span)),
            Item::Use(_) | Item::Data(_) | Item::Train(_) => return,
        };
        let first = self.reaching(&name.text);
        let id = self.define(New { name, kind, doc, whole });
        if let Item::Function(d) | Item::Model(d) | Item::Optimizer(d) = item {
            self.names.sites[id].callee = Some(Callee::Definition(d.clone()));
        }
        if let (Some(first), Some(layer)) = (first, self.layers.last_mut()) {
            layer.insert(name.text.clone(), first);
        }
    }

    /// Adds a definition that is what its name means from here on.
    pub(super) fn define(&mut self, new: New<'_>) -> SiteId {
        let next = self.symbols.len();
        let symbol = *self.symbols.entry((self.scope, new.name.text.clone())).or_insert(next);
        self.define_as(new, symbol)
    }

    fn define_as(&mut self, new: New<'_>, symbol: SymbolId) -> SiteId {
        let New { name, kind, doc, whole } = new;
        let (doc, callee) = (doc.clone(), None);
        let site = Site { name: name.clone(), kind, symbol, scope: self.scope, doc, whole, callee };
        let id = self.names.sites.len();
        self.names.sites.push(site);
        self.names.by_place.insert((name.span.start, name.span.end), id);
        self.set(&name.text, vec![id]);
        id
    }

    pub(super) fn set(&mut self, name: &Arc<str>, sites: Vec<SiteId>) {
        if let Some(layer) = self.layers.last_mut() {
            layer.insert(name.clone(), sites);
        }
    }

    /// The definitions of the file that reach this point.
    pub(super) fn reaching(&self, name: &str) -> Option<Vec<SiteId>> {
        self.layers.iter().rev().find_map(|layer| layer.get(name)).cloned()
    }

    pub(super) fn add_use(&mut self, name: Name, meaning: Meaning, whole: Option<Span>) {
        self.names.uses.push(Use { name, meaning, whole });
    }

    /// Walks in a new scope with a layer of its own; returns what was bound in it.
    pub(super) fn inside(&mut self, kind: ScopeKind, place: Span, work: impl FnOnce(&mut Self)) -> Layer {
        let outer = self.scope;
        let scope = Scope { kind, start: place.start, end: place.end, parent: Some(outer), model: None };
        self.names.scopes.push(scope);
        self.scope = self.names.scopes.len() - 1;
        let bound = self.overlaid(work);
        self.scope = outer;
        bound
    }

    /// Walks with a new layer in the same scope; returns what was bound.
    pub(super) fn overlaid(&mut self, work: impl FnOnce(&mut Self)) -> Layer {
        self.layers.push(Layer::new());
        work(self);
        self.layers.pop().unwrap_or_default()
    }

    /// After branches: what either of them bound, and what was before where one of them did not.
    fn join(&mut self, branches: [Layer; 2]) {
        let names: Vec<Arc<str>> = branches.iter().flat_map(|b| b.keys().cloned()).collect();
        for name in names {
            let before = self.reaching(&name).unwrap_or_default();
            let mut all: Vec<SiteId> = Vec::new();
            for branch in &branches {
                all.extend(branch.get(&name).unwrap_or(&before));
            }
            all.sort_unstable();
            all.dedup();
            self.set(&name, all);
        }
    }

    /// After a loop: what its body bound may reach the uses in it that what was before reached.
    fn join_loop(&mut self, bound: Layer, first_use: usize) {
        for found in &mut self.names.uses[first_use..] {
            let Meaning::Sites(sites) = &mut found.meaning else { continue };
            let Some(later) = bound.get(&found.name.text) else { continue };
            let before = self.layers.iter().rev().find_map(|layer| layer.get(&found.name.text));
            if before.is_some_and(|before| before.iter().any(|b| sites.contains(b))) {
                sites.extend(later);
                sites.sort_unstable();
                sites.dedup();
            }
        }
        self.join([bound, Layer::new()]);
    }

    pub(super) fn definition(&mut self, definition: &Arc<Definition>) {
        let kind = match definition.kind {
            DefinitionKind::Function => ScopeKind::Function,
            DefinitionKind::Layer => ScopeKind::Layer,
            DefinitionKind::Model => ScopeKind::Model,
            DefinitionKind::Optimizer => ScopeKind::Optimizer,
        };
        let place = Span { start: definition.name.span.end, ..definition.span };
        let scope = self.names.scopes.len();
        let bound = self.inside(kind, place, |walker| {
            walker.parameters(&definition.parameters);
            walker.block(&definition.body);
        });
        if definition.kind == DefinitionKind::Model {
            self.models.entry(definition.name.text.clone()).or_insert((scope, bound));
        }
    }

    pub(super) fn parameters(&mut self, parameters: &[Parameter]) {
        for parameter in parameters {
            let end = parameter.default.as_ref().map(|d| d.span).or(parameter.ty.as_ref().map(|t| t.span));
            let whole = end.map_or(parameter.name.span, |end| parameter.name.span.to(end));
            self.define(New { name: &parameter.name, kind: SiteKind::Argument, doc: &None, whole });
        }
        for parameter in parameters {
            parameter.ty.iter().for_each(|ty| self.ty(ty, true));
        }
        for parameter in parameters {
            parameter.default.iter().for_each(|value| self.expression(value));
        }
    }

    /// A type; with `binds`, names in it that mean nothing yet are sizes that it names.
    fn ty(&mut self, ty: &TypeExpression, binds: bool) {
        if let Some(name) = ty.lead.as_ref().and_then(|lead| lead.name.as_ref()) {
            match binds && self.reaching(&name.text).is_none() {
                true => self.size(name),
                false => self.name(name.clone(), None),
            }
        }
        match &ty.dtype {
            DTypeExpression::Named(name) => self.name(name.clone(), None),
            DTypeExpression::Index { classes, .. } => self.dim(classes, binds),
        }
        ty.dims.iter().for_each(|dim| self.dim(dim, binds));
    }

    fn size(&mut self, name: &Name) {
        self.define(New { name, kind: SiteKind::Size, doc: &None, whole: name.span });
    }

    fn dim(&mut self, dim: &Expression, binds: bool) {
        match &dim.kind {
            ExpressionKind::Name(text) if binds && self.reaching(text).is_none_or(|s| self.are_no_sizes(&s)) => {
                self.size(&Name { text: text.clone(), span: dim.span });
            }
            ExpressionKind::Unary { operand, .. } => self.dim(operand, binds),
            ExpressionKind::Binary { left, right, .. } => {
                self.dim(left, binds);
                self.dim(right, binds);
            }
            _ => self.expression(dim),
        }
    }

    /// Functions and layers of the file do not count as what a dim may mean.
    fn are_no_sizes(&self, sites: &[SiteId]) -> bool {
        let kind = |id: &SiteId| self.names.sites[*id].kind;
        let callable = [SiteKind::Function, SiteKind::Layer, SiteKind::Model, SiteKind::Optimizer];
        sites.iter().all(|s| callable.contains(&kind(s)))
    }

    pub(super) fn block(&mut self, block: &Block) {
        block.statements.iter().for_each(|statement| self.statement(statement));
    }

    fn statement(&mut self, statement: &Statement) {
        let (doc, whole) = (&statement.doc, statement.span);
        let new = |name, kind| New { name, kind, doc, whole };
        match &statement.kind {
            StatementKind::Bind { names, value } => {
                self.expression(value);
                for name in names {
                    let callee = if names.len() == 1 { self.callee_of(value) } else { None };
                    let id = self.define(new(name, SiteKind::Binding));
                    self.names.sites[id].callee = callee;
                }
            }
            StatementKind::Update { name, value } => {
                self.expression(value);
                self.update(new(name, SiteKind::Update));
            }
            StatementKind::Param { name, ty, init } | StatementKind::State { name, ty, init } => {
                ty.iter().for_each(|ty| self.ty(ty, false));
                init.iter().for_each(|init| self.expression(init));
                let kind = match statement.kind {
                    StatementKind::Param { .. } => SiteKind::Parameter,
                    _ => SiteKind::State,
                };
                self.define(new(name, kind));
            }
            StatementKind::Input { name, ty } => {
                self.ty(ty, true);
                self.define(new(name, SiteKind::Input));
            }
            StatementKind::Target { name, ty } => {
                self.ty(ty, true);
                self.define(new(name, SiteKind::Target));
            }
            StatementKind::Output { name, value } => self.result(new(name, SiteKind::Output), value),
            StatementKind::Loss { name, value } => self.result(new(name, SiteKind::Loss), value),
            StatementKind::Metric { name, value } => self.result(new(name, SiteKind::Metric), value),
            StatementKind::Define(definition) => self.local_definition(definition),
            StatementKind::Return(value) => self.expression(value),
            StatementKind::For { names, iterable, body } => {
                self.expression(iterable);
                let first_use = self.names.uses.len();
                let bound = self.overlaid(|walker| {
                    names.iter().for_each(|name| {
                        walker.define(New { name, kind: SiteKind::Round, doc: &None, whole: name.span });
                    });
                    walker.block(body);
                });
                self.join_loop(bound, first_use);
            }
            StatementKind::If { condition, then, otherwise } => {
                self.expression(condition);
                let first = self.overlaid(|walker| walker.block(then));
                let second = self.overlaid(|walker| otherwise.iter().for_each(|block| walker.block(block)));
                self.join([first, second]);
            }
            StatementKind::Scan(scan) => self.scan(scan, doc),
            StatementKind::Expression(e) => self.expression_statement(e),
        }
    }

    /// An `if` among statements binds in the body around it.
    fn expression_statement(&mut self, e: &Expression) {
        let ExpressionKind::If { condition, then, otherwise } = &e.kind else { return self.expression(e) };
        self.expression(condition);
        let first = self.overlaid(|walker| walker.block(then));
        let second = self.overlaid(|walker| match &**otherwise {
            Otherwise::Block(block) => walker.block(block),
            Otherwise::If(e) => walker.expression_statement(e),
        });
        self.join([first, second]);
    }

    /// `output u` alone is a use of `u`.
    fn result(&mut self, new: New<'_>, value: &Expression) {
        if value.span == new.name.span && self.reaching(&new.name.text).is_none() {
            return self.expression(value);
        }
        self.expression(value);
        self.define(new);
    }

    /// The new value of a state has the state's symbol, also inside of a scan.
    fn update(&mut self, new: New<'_>) {
        let known = self.reaching(&new.name.text).and_then(|sites| sites.first().copied());
        match known {
            Some(site) => {
                let symbol = self.names.sites[site].symbol;
                self.define_as(new, symbol);
            }
            None => self.name(new.name.clone(), None),
        }
    }

    fn local_definition(&mut self, definition: &Arc<Definition>) {
        let (kind, doc, whole) = (definition_kind(definition), &definition.doc, definition.span);
        let id = self.define(New { name: &definition.name, kind, doc, whole });
        self.names.sites[id].callee = Some(Callee::Definition(definition.clone()));
        self.definition(definition);
    }

    fn scan(&mut self, scan: &Arc<Scan>, doc: &Doc) {
        scan.sources.iter().for_each(|(_, value)| self.expression(value));
        scan.axis.iter().for_each(|axis| self.expression(axis));
        for carry in &scan.carries {
            carry.ty.iter().for_each(|ty| self.ty(ty, false));
            self.expression(&carry.initial);
        }
        for carry in &scan.carries {
            let whole = carry.name.span.to(carry.initial.span);
            self.define(New { name: &carry.name, kind: SiteKind::Carry, doc, whole });
        }
        let first_use = self.names.uses.len();
        let inner = self.names.scopes.len();
        for carry in &scan.carries {
            // What the body binds to a carry's name is the carry's next value.
            if let Some(symbol) = self.symbols.get(&(self.scope, carry.name.text.clone())).copied() {
                self.symbols.insert((inner, carry.name.text.clone()), symbol);
            }
        }
        let mut bound = self.inside(ScopeKind::Scan, scan.span, |walker| {
            for (name, _) in &scan.sources {
                walker.define(New { name, kind: SiteKind::Element, doc: &None, whole: name.span });
            }
            walker.block(&scan.body);
            scan.yields.iter().for_each(|value| walker.expression(value));
        });
        bound.retain(|name, _| scan.carries.iter().any(|c| c.name.text == *name));
        self.join_loop(bound, first_use);
        for name in &scan.results {
            self.define(New { name, kind: SiteKind::Binding, doc, whole: scan.span });
        }
    }
}

fn definition_kind(definition: &Definition) -> SiteKind {
    match definition.kind {
        DefinitionKind::Function => SiteKind::Function,
        DefinitionKind::Layer => SiteKind::Layer,
        DefinitionKind::Model => SiteKind::Model,
        DefinitionKind::Optimizer => SiteKind::Optimizer,
    }
}
