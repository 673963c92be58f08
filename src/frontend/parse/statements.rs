//! Statements and the blocks that hold them.

use std::sync::Arc;

use pest::iterators::Pair;

use super::expressions::{Branches, if_expression, nothing};
use super::{Builder, Rule, inner};
use crate::diag::Span;
use crate::frontend::ast::{
    Block, Carry, Expression, ExpressionKind, Name, Scan, Statement, StatementKind, TypeExpression,
};

/// A name with the type and the value that may follow it: `w: f32[n] = zeros`.
type Declaration = (Name, Option<TypeExpression>, Option<Expression>);

impl Builder<'_> {
    pub(super) fn block(&mut self, pair: Pair<'_, Rule>) -> Block {
        let span = self.span(&pair);
        self.depth += 1;
        let mut parts = inner(pair).peekable();
        let mut statements = Vec::new();
        while let Some(part) = parts.next() {
            statements.push(self.statement(part, parts.peek().is_none()));
        }
        self.depth -= 1;
        Block { statements, span }
    }

    /// One statement; `last` says whether it ends its block.
    fn statement(&mut self, pair: Pair<'_, Rule>, last: bool) -> Statement {
        let (doc, span) = (self.doc(&pair), self.span(&pair));
        let pair = pair.into_inner().next().expect("a statement has a kind");
        let kind = match pair.as_rule() {
            Rule::param_statement => {
                let (name, ty, init) = self.declaration(pair);
                StatementKind::Param { name, ty, init }
            }
            Rule::state_statement => {
                let (name, ty, init) = self.declaration(pair);
                StatementKind::State { name, ty, init }
            }
            Rule::input_statement => {
                let (name, ty) = self.typed_name(pair);
                StatementKind::Input { name, ty }
            }
            Rule::target_statement => {
                let (name, ty) = self.typed_name(pair);
                StatementKind::Target { name, ty }
            }
            Rule::output_statement => {
                let (name, value) = self.named_value(pair);
                StatementKind::Output { name, value }
            }
            Rule::loss_statement => {
                let (name, value) = self.named_value(pair);
                StatementKind::Loss { name, value }
            }
            Rule::metric_statement => {
                let (name, value) = self.named_value(pair);
                StatementKind::Metric { name, value }
            }
            Rule::return_statement => StatementKind::Return(self.only_expressions(pair)),
            Rule::for_statement => self.for_loop(pair),
            Rule::scan_statement => StatementKind::Scan(Arc::new(self.scan(pair))),
            Rule::local_definition => {
                let definition = pair.into_inner().next_back().expect("a local definition has a definition");
                StatementKind::Define(Arc::new(self.definition(definition, doc.clone())))
            }
            Rule::update => {
                let mut parts = pair.into_inner().filter(|p| p.as_rule() != Rule::op_update);
                let name = self.name(&parts.next().expect("an update has a name"));
                StatementKind::Update { name, value: self.expressions(parts.next().expect("an update has a value")) }
            }
            Rule::bind => {
                let mut parts = inner(pair);
                let names = self.names(parts.next().expect("a binding has names"));
                StatementKind::Bind { names, value: self.expressions(parts.next().expect("a binding has a value")) }
            }
            Rule::expressions => self.bare_expressions(pair, last),
            other => unreachable!("the grammar has no statement {other:?}"),
        };
        Statement { kind, doc, span }
    }

    /// An `if` that stands alone is a statement, except at the end of a body when each of its branches ends in a value:
    /// then it is the value of the body.
    fn bare_expressions(&mut self, pair: Pair<'_, Rule>, last: bool) -> StatementKind {
        let alone = only_child(pair.clone()).and_then(only_child).filter(|p| p.as_rule() == Rule::choice);
        let Some(choice) = alone else { return StatementKind::Expression(self.expressions(pair)) };
        let span = self.span(&choice);
        let levels = choice.clone().into_inner().filter(|p| p.as_rule() == Rule::block).count();
        let built = self.deeper(levels, span, |this| {
            let branches = this.branches(choice);
            if last && gives_value(&branches) {
                StatementKind::Expression(if_expression(branches, span))
            } else {
                if_statement(branches, span)
            }
        });
        built.unwrap_or_else(|| StatementKind::Expression(nothing(span)))
    }

    /// One expression as it is, several as a tuple.
    pub(super) fn expressions(&mut self, pair: Pair<'_, Rule>) -> Expression {
        let span = self.span(&pair);
        let mut values: Vec<Expression> = inner(pair).map(|p| self.expression(p)).collect();
        match values.pop() {
            Some(value) if values.is_empty() => value,
            last => {
                values.extend(last);
                Expression { kind: ExpressionKind::Tuple(values), span }
            }
        }
    }

    fn only_expressions(&mut self, pair: Pair<'_, Rule>) -> Expression {
        let value = inner(pair).next().expect("the statement has a value");
        self.expressions(value)
    }

    pub(super) fn names(&mut self, pair: Pair<'_, Rule>) -> Vec<Name> {
        inner(pair).map(|name| self.name(&name)).collect()
    }

    pub(super) fn declaration(&mut self, pair: Pair<'_, Rule>) -> Declaration {
        let mut parts = inner(pair);
        let name = self.name(&parts.next().expect("a declaration has a name"));
        let (mut ty, mut value) = (None, None);
        for part in parts {
            match part.as_rule() {
                Rule::type_expression => ty = Some(self.type_expression(part)),
                _ => value = Some(self.expression(part)),
            }
        }
        (name, ty, value)
    }

    fn typed_name(&mut self, pair: Pair<'_, Rule>) -> (Name, TypeExpression) {
        let mut parts = inner(pair);
        let name = self.name(&parts.next().expect("a declaration has a name"));
        (name, self.type_expression(parts.next().expect("an input has a type")))
    }

    /// `probs = softmax(x)`; `probs` alone is short for `probs = probs`.
    fn named_value(&mut self, pair: Pair<'_, Rule>) -> (Name, Expression) {
        let mut parts = inner(pair);
        let name = self.name(&parts.next().expect("a result has a name"));
        let value = match parts.next() {
            Some(value) if value.as_rule() == Rule::expressions => self.expressions(value),
            Some(value) => self.expression(value),
            None => Expression { kind: ExpressionKind::Name(name.text.clone()), span: name.span },
        };
        (name, value)
    }

    fn for_loop(&mut self, pair: Pair<'_, Rule>) -> StatementKind {
        let mut parts = inner(pair);
        let names = self.names(parts.next().expect("a loop has names"));
        let iterable = self.expression(parts.next().expect("a loop has a list"));
        let body = self.block(parts.next().expect("a loop has a body"));
        StatementKind::For { names, iterable, body }
    }

    fn scan(&mut self, pair: Pair<'_, Rule>) -> Scan {
        let span = self.span(&pair);
        let mut scan = Scan {
            sources: Vec::new(),
            axis: None,
            reverse: false,
            carries: Vec::new(),
            body: Block { statements: Vec::new(), span },
            yields: Vec::new(),
            results: Vec::new(),
            span,
        };
        for part in inner(pair) {
            match part.as_rule() {
                Rule::scan_source => {
                    let mut parts = inner(part);
                    let name = self.name(&parts.next().expect("a source has a name"));
                    scan.sources.push((name, self.expression(parts.next().expect("a source has a value"))));
                }
                Rule::scan_axis => {
                    let place = self.span(&part);
                    self.once(scan.axis.is_some(), place, "axis");
                    scan.axis = inner(part).next().map(|axis| self.expression(axis));
                }
                Rule::scan_reverse => {
                    let place = self.span(&part);
                    self.once(scan.reverse, place, "reverse");
                    scan.reverse = true;
                }
                Rule::scan_carries => {
                    let carries = inner(part).filter_map(|carry| self.carry(carry));
                    scan.carries.extend(carries);
                }
                Rule::scan_body => self.scan_body(part, &mut scan),
                _ => scan.results = self.names(part),
            }
        }
        self.check_results(&scan);
        scan
    }

    fn once(&mut self, again: bool, place: Span, word: &str) {
        if again {
            self.error(place, format!("`{word}` is given twice"));
        }
    }

    fn carry(&mut self, pair: Pair<'_, Rule>) -> Option<Carry> {
        let (name, ty, initial) = self.declaration(pair);
        initial.map(|initial| Carry { name, ty, initial })
    }

    fn scan_body(&mut self, pair: Pair<'_, Rule>, scan: &mut Scan) {
        let span = self.span(&pair);
        let mut yielded = false;
        self.depth += 1;
        for part in inner(pair) {
            let place = self.span(&part);
            if yielded {
                self.error(place, "`yield` is the last statement of a scan's body, but this follows it");
            } else if part.as_rule() == Rule::yield_statement {
                scan.yields = inner(part).map(|value| self.expression(value)).collect();
                yielded = true;
            } else {
                let statement = self.statement(part, false);
                scan.body.statements.push(statement);
            }
        }
        self.depth -= 1;
        scan.body.span = span;
    }

    /// As many names after `->` as the body yields; a yield without names is lost, which is a mistake too.
    fn check_results(&mut self, scan: &Scan) {
        let (yields, results) = (scan.yields.len(), scan.results.len());
        if yields == results {
            return;
        }
        let place = match (scan.results.first(), scan.results.last(), scan.yields.first()) {
            (Some(first), Some(last), _) => first.span.to(last.span),
            (_, _, Some(first)) => scan.yields.iter().fold(first.span, |place, value| place.to(value.span)),
            _ => scan.span,
        };
        let message = if results == 0 {
            "what this scan yields gets no name".to_owned()
        } else {
            format!("this scan yields {yields} value(s), but {results} name(s) follow `->`")
        };
        self.error(place, message).help =
            Some("after the body write `-> name`, one name for each value of `yield`".into());
    }
}

/// The only pair inside `pair`.
fn only_child(pair: Pair<'_, Rule>) -> Option<Pair<'_, Rule>> {
    let mut children = pair.into_inner();
    children.next().filter(|_| children.next().is_none())
}

/// Nested `if` statements for `else if`.
fn if_statement(branches: Branches, span: Span) -> StatementKind {
    let mut otherwise = branches.otherwise;
    let mut result = None;
    for (condition, then) in branches.conditions.into_iter().rev() {
        if let Some(inner) = result.take() {
            otherwise = Some(Block { statements: vec![Statement { kind: inner, doc: None, span }], span });
        }
        result = Some(StatementKind::If { condition, then, otherwise: otherwise.take() });
    }
    result.expect("an `if` has a condition")
}

/// Whether every branch of an `if`, the last `else` too, ends in a value.
fn gives_value(branches: &Branches) -> bool {
    let ends_in_value =
        |block: &Block| block.statements.last().is_some_and(|last| matches!(last.kind, StatementKind::Expression(_)));
    branches.otherwise.as_ref().is_some_and(ends_in_value)
        && branches.conditions.iter().all(|(_, then)| ends_in_value(then))
}
