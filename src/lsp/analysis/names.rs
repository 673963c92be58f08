//! The names of one text: where each is defined, what each use means, and what is visible where.

use std::collections::HashMap;
use std::sync::Arc;

use crate::diag::Span;
use crate::frontend::ast::{Definition, Doc, Lambda, Name, Parameter};
use crate::frontend::catalogue::Elsewhere;

/// The number of a [`Site`].
pub type SiteId = usize;
/// The number of a [`Scope`].
pub type ScopeId = usize;
/// The number of a symbol: all sites of one name in one scope.
pub type SymbolId = usize;

/// The scope of the whole file.
pub const FILE: ScopeId = 0;

/// How a name comes to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SiteKind {
    Function,
    Layer,
    Model,
    Optimizer,
    Constant,
    Argument,
    /// A size that a type names.
    Size,
    Input,
    Target,
    Output,
    Loss,
    Metric,
    Parameter,
    State,
    /// `name <- value`.
    Update,
    Binding,
    /// The name of a `for` loop or of a comprehension.
    Round,
    /// What a `scan` goes over.
    Element,
    Carry,
    Split,
}

impl SiteKind {
    /// The word that says what it is.
    pub fn word(self) -> &'static str {
        match self {
            SiteKind::Function => "fn",
            SiteKind::Layer => "layer",
            SiteKind::Model => "model",
            SiteKind::Optimizer => "optimizer",
            SiteKind::Constant => "const",
            SiteKind::Argument => "argument",
            SiteKind::Size => "size",
            SiteKind::Input => "input",
            SiteKind::Target => "target",
            SiteKind::Output => "output",
            SiteKind::Loss => "loss",
            SiteKind::Metric => "metric",
            SiteKind::Parameter => "param",
            SiteKind::State | SiteKind::Update => "state",
            SiteKind::Binding | SiteKind::Round => "binding",
            SiteKind::Element => "element",
            SiteKind::Carry => "carry",
            SiteKind::Split => "split",
        }
    }
}

/// What a call takes.
#[derive(Clone, Debug)]
pub enum Callee {
    /// Of the user or of the library.
    Definition(Arc<Definition>),
    Lambda(Arc<Lambda>),
    /// A primitive or compile-time function, by name.
    BuiltIn(Arc<str>),
}

impl Callee {
    /// The parameters of one that is written in `.nn`.
    pub fn parameters(&self) -> &[Parameter] {
        match self {
            Callee::Definition(definition) => &definition.parameters,
            Callee::Lambda(lambda) => &lambda.parameters,
            Callee::BuiltIn(_) => &[],
        }
    }
}

/// A place that gives a name its meaning.
#[derive(Clone, Debug)]
pub struct Site {
    pub name: Name,
    pub kind: SiteKind,
    pub symbol: SymbolId,
    pub scope: ScopeId,
    pub doc: Doc,
    /// The statement or item.
    pub whole: Span,
    /// What calling it takes, where the text says so.
    pub callee: Option<Callee>,
}

/// What a use of a name means.
#[derive(Clone, Debug)]
pub enum Meaning {
    /// The definitions that may reach it; never none.
    Sites(Vec<SiteId>),
    /// An item of the library or of a used file.
    Elsewhere(Elsewhere),
    /// A primitive or compile-time function.
    BuiltIn,
    DType,
    /// A name that the surroundings bind, such as `training`, or a word that stands for itself, such as `same`.
    Ambient,
    /// A named argument of a call.
    Argument(Callee),
    /// What stands behind a point; the place is that of the value before it.
    Field(Span),
    Reader,
    /// An option of a reader.
    Word,
    Unknown,
}

/// A name in use.
#[derive(Clone, Debug)]
pub struct Use {
    pub name: Name,
    pub meaning: Meaning,
    /// The call that the name begins, or the field that it ends.
    pub whole: Option<Span>,
}

/// What kind of text a scope is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScopeKind {
    File,
    Model,
    Layer,
    Function,
    Optimizer,
    Lambda,
    Scan,
    /// A block that is a value, or a comprehension.
    Inner,
    Train,
    Data,
}

/// A part of the text that has names of its own.
#[derive(Clone, Debug)]
pub struct Scope {
    pub kind: ScopeKind,
    pub start: u32,
    pub end: u32,
    pub parent: Option<ScopeId>,
    /// For `train` and `data`: the model whose names they see.
    pub model: Option<ScopeId>,
}

/// All names of a text.
#[derive(Clone, Debug, Default)]
pub struct Names {
    pub sites: Vec<Site>,
    pub uses: Vec<Use>,
    pub scopes: Vec<Scope>,
    pub(super) by_place: HashMap<(u32, u32), SiteId>,
}

impl Names {
    /// The site whose name is at `at`.
    pub fn site_at(&self, at: u32) -> Option<SiteId> {
        self.sites.iter().position(|s| holds(s.name.span, at))
    }

    /// The use at `at`; the innermost if they nest.
    pub fn use_at(&self, at: u32) -> Option<&Use> {
        let found = self.uses.iter().filter(|u| holds(u.name.span, at));
        found.min_by_key(|u| u.name.span.end - u.name.span.start)
    }

    /// The site with its name exactly at `span`.
    pub fn site_of(&self, span: Span) -> Option<SiteId> {
        self.by_place.get(&(span.start, span.end)).copied().filter(|_| span.file.0 == 0)
    }

    /// The sites that the name at `at` stands for: its definitions if it is a use, itself if it is one.
    pub fn meant_at(&self, at: u32) -> Vec<SiteId> {
        match self.use_at(at).map(|u| &u.meaning) {
            Some(Meaning::Sites(sites)) => sites.clone(),
            Some(Meaning::Argument(callee)) => self.argument_site(callee, at).into_iter().collect(),
            _ => self.site_at(at).into_iter().collect(),
        }
    }

    fn argument_site(&self, callee: &Callee, at: u32) -> Option<SiteId> {
        let name = &self.use_at(at)?.name.text;
        let parameter = callee.parameters().iter().find(|p| p.name.text == *name)?;
        self.site_of(parameter.name.span)
    }

    /// Every place where the symbol is written, definitions included, in the order of the text.
    pub fn places_of(&self, symbol: SymbolId) -> Vec<Span> {
        let is_meant = |site: &SiteId| self.sites[*site].symbol == symbol;
        let mut places: Vec<Span> = self.sites.iter().filter(|s| s.symbol == symbol).map(|s| s.name.span).collect();
        for found in &self.uses {
            let meant = match &found.meaning {
                Meaning::Sites(sites) => sites.iter().any(is_meant),
                Meaning::Argument(callee) => {
                    self.argument_site(callee, found.name.span.start).as_ref().is_some_and(is_meant)
                }
                _ => false,
            };
            if meant {
                places.push(found.name.span);
            }
        }
        places.sort_by_key(|s| (s.start, s.end));
        places.dedup();
        places
    }

    /// The innermost scope at `at`.
    pub fn scope_at(&self, at: u32) -> ScopeId {
        let around = self.scopes.iter().enumerate().filter(|(_, s)| s.start <= at && at <= s.end);
        around.min_by_key(|(id, s)| (s.end - s.start, usize::MAX - id)).map_or(FILE, |(id, _)| id)
    }

    /// A scope and those around it, innermost first.
    pub fn scopes_from(&self, scope: ScopeId) -> impl Iterator<Item = ScopeId> {
        std::iter::successors(Some(scope), |s| self.scopes[*s].model.or(self.scopes[*s].parent))
    }

    /// The sites that can be named at `at`, one for each name: that of the innermost scope, and there the last one before `at`.
    pub fn visible_at(&self, at: u32) -> Vec<SiteId> {
        let mut found: Vec<SiteId> = Vec::new();
        let here = self.scope_at(at);
        let recipe = matches!(self.scopes.get(here).map(|s| s.kind), Some(ScopeKind::Train | ScopeKind::Data));
        for scope in self.scopes.get(here).map(|_| self.scopes_from(here)).into_iter().flatten() {
            let own = self.sites.iter().enumerate().filter(|(_, s)| s.scope == scope);
            let before = own.filter(|(_, s)| scope == FILE || recipe || s.name.span.end <= at);
            let mut inner: Vec<SiteId> = Vec::new();
            for (id, site) in before {
                match inner.iter_mut().find(|i| self.sites[**i].name.text == site.name.text) {
                    Some(known) if scope != FILE => *known = id,
                    Some(_) => {}
                    None => inner.push(id),
                }
            }
            inner.retain(|id| found.iter().all(|f| self.sites[*f].name.text != self.sites[*id].name.text));
            found.extend(inner);
        }
        found
    }
}

/// Whether a cursor at `at` is in or right after `span`, which is in the user's file.
fn holds(span: Span, at: u32) -> bool {
    span.file.0 == 0 && span.start <= at && at <= span.end
}
