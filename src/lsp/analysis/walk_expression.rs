//! The walk through expressions: uses of names, named arguments, fields, and what calls take.

use std::sync::Arc;

use super::names::{Callee, Meaning, ScopeKind, SiteKind};
use super::walk::{New, Walker};
use crate::diag::Span;
use crate::frontend::ast::{
    CallArgument, DefinitionKind, Expression, ExpressionKind, Lambda, Name, Otherwise, Subscript,
};
use crate::frontend::catalogue::Elsewhere;

impl Walker<'_> {
    pub(super) fn expression(&mut self, e: &Expression) {
        match &e.kind {
            ExpressionKind::Int(_) | ExpressionKind::Float(_) | ExpressionKind::Bool(_) | ExpressionKind::Text(_) => {}
            ExpressionKind::Name(text) => self.name(Name { text: text.clone(), span: e.span }, None),
            ExpressionKind::List(items) | ExpressionKind::Tuple(items) => self.all(items),
            ExpressionKind::Comprehension { element, names, iterable } => {
                self.expression(iterable);
                self.inside(ScopeKind::Inner, e.span, |walker| {
                    for name in names {
                        walker.define(New { name, kind: SiteKind::Round, doc: &None, whole: name.span });
                    }
                    walker.expression(element);
                });
            }
            ExpressionKind::Range { start, end } => self.all([&**start, &**end]),
            ExpressionKind::Unary { operand, .. } => self.expression(operand),
            ExpressionKind::Binary { left, right, .. } => self.all([&**left, &**right]),
            ExpressionKind::Pipe { value, call } => {
                self.expression(value);
                match &call.kind {
                    ExpressionKind::Name(text) => {
                        self.name(Name { text: text.clone(), span: call.span }, Some(call.span))
                    }
                    _ => self.expression(call),
                }
            }
            ExpressionKind::If { condition, then, otherwise } => {
                self.expression(condition);
                self.inside(ScopeKind::Inner, then.span, |walker| walker.block(then));
                match &**otherwise {
                    Otherwise::Block(block) => {
                        self.inside(ScopeKind::Inner, block.span, |walker| walker.block(block));
                    }
                    Otherwise::If(e) => self.expression(e),
                }
            }
            ExpressionKind::Call { callee, arguments } => {
                match &callee.kind {
                    ExpressionKind::Name(text) => {
                        self.name(Name { text: text.clone(), span: callee.span }, Some(e.span))
                    }
                    _ => self.expression(callee),
                }
                let known = self.callee_of(callee);
                self.arguments(arguments, known);
            }
            ExpressionKind::Index { value, subscripts } => {
                self.expression(value);
                subscripts.iter().for_each(|subscript| self.subscript(subscript));
            }
            ExpressionKind::Field { value, name } => {
                self.expression(value);
                let meaning = match self.item_of(value, name) {
                    Some(item) => Meaning::Elsewhere(item),
                    None => Meaning::Field(value.span),
                };
                self.add_use(name.clone(), meaning, Some(e.span));
            }
            ExpressionKind::Lambda(lambda) => self.lambda(lambda),
        }
    }

    /// The item `name` of a used file, where `value` is the name of one.
    fn item_of(&self, value: &Expression, name: &Name) -> Option<Elsewhere> {
        match &value.kind {
            ExpressionKind::Name(file) if self.reaching(file).is_none() => self.project.item_of(file, &name.text),
            _ => None,
        }
    }

    pub(super) fn all<'e>(&mut self, expressions: impl IntoIterator<Item = &'e Expression>) {
        expressions.into_iter().for_each(|e| self.expression(e));
    }

    fn subscript(&mut self, subscript: &Subscript) {
        match subscript {
            Subscript::At(e) => self.expression(e),
            Subscript::Slice { start, stop, step, .. } => self.all([start, stop, step].into_iter().flatten()),
            Subscript::Rest(_) => {}
        }
    }

    fn arguments(&mut self, arguments: &[CallArgument], callee: Option<Callee>) {
        for argument in arguments {
            if let Some(name) = &argument.name {
                let meaning = callee.clone().map_or(Meaning::Unknown, Meaning::Argument);
                self.add_use(name.clone(), meaning, None);
            }
            self.expression(&argument.value);
        }
    }

    fn lambda(&mut self, lambda: &Arc<Lambda>) {
        self.inside(ScopeKind::Lambda, lambda.span, |walker| {
            walker.parameters(&lambda.parameters);
            walker.block(&lambda.body);
        });
    }

    /// A use of a name; `whole` is the call that it begins.
    pub(super) fn name(&mut self, name: Name, whole: Option<Span>) {
        let meaning = match self.reaching(&name.text) {
            Some(sites) => Meaning::Sites(sites),
            None => self.global_meaning(&name.text),
        };
        self.add_use(name, meaning, whole);
    }

    fn global_meaning(&self, name: &str) -> Meaning {
        let project = self.project;
        if let Some(meant) = project.elsewhere(name) {
            Meaning::Elsewhere(meant)
        } else if project.built_in(name).is_some() {
            Meaning::BuiltIn
        } else if super::words::ambient(name).is_some() {
            Meaning::Ambient
        } else if super::words::dtype(name).is_some() {
            Meaning::DType
        } else {
            Meaning::Unknown
        }
    }

    /// What calling the value of an expression takes, where the text says so.
    pub(super) fn callee_of(&self, e: &Expression) -> Option<Callee> {
        match &e.kind {
            ExpressionKind::Name(name) => match self.reaching(name) {
                Some(sites) => sites.iter().rev().find_map(|site| self.names.sites[*site].callee.clone()),
                None => match self.project.elsewhere(name) {
                    Some(Elsewhere::Definition(definition)) => Some(Callee::Definition(definition)),
                    Some(_) => None,
                    None => self.project.built_in(name).map(|_| Callee::BuiltIn(name.clone())),
                },
            },
            ExpressionKind::Field { value, name } => match self.item_of(value, name) {
                Some(Elsewhere::Definition(definition)) => Some(Callee::Definition(definition)),
                _ => None,
            },
            ExpressionKind::Lambda(lambda) => Some(Callee::Lambda(lambda.clone())),
            // A layer without its first argument and a function with named arguments only can be called again.
            ExpressionKind::Call { callee, arguments } => self.callee_of(callee).filter(|callee| match callee {
                Callee::Definition(d) if d.kind == DefinitionKind::Layer || d.kind == DefinitionKind::Optimizer => true,
                Callee::Definition(_) | Callee::BuiltIn(_) => arguments.iter().all(|a| a.name.is_some()),
                Callee::Lambda(_) => false,
            }),
            _ => None,
        }
    }
}
