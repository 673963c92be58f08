//! Top-level items, parameters and types.

use std::sync::Arc;

use pest::iterators::Pair;

use super::{Builder, Rule, inner};
use crate::diag::Span;
use crate::frontend::ast::{
    Block, DTypeExpression, DataBlock, Definition, DefinitionKind, Doc, Item, Lead, Name, Parameter, Split, SplitEntry,
    TypeExpression, Use, Used, UsedName,
};

impl Builder<'_> {
    /// The item that pest found.
    pub(super) fn item(&mut self, pair: Pair<'_, Rule>) -> Item {
        let pair = pair.into_inner().next().expect("an item has a kind");
        let (doc, span) = (self.doc(&pair), self.span(&pair));
        match pair.as_rule() {
            Rule::use_item => self.use_item(pair),
            Rule::const_item => {
                let mut parts = inner(pair);
                let name = self.name(&parts.next().expect("a constant has a name"));
                Item::Const { name, value: self.expression(parts.next().expect("a constant has a value")), doc }
            }
            Rule::definition => {
                let definition = Arc::new(self.definition(pair, doc));
                match definition.kind {
                    DefinitionKind::Function | DefinitionKind::Layer => Item::Function(definition),
                    DefinitionKind::Model => Item::Model(definition),
                    DefinitionKind::Optimizer => Item::Optimizer(definition),
                }
            }
            Rule::data_block => Item::Data(Arc::new(self.data_block(pair, span))),
            Rule::train_block => Item::Train(Arc::new(self.train_block(pair))),
            other => unreachable!("the grammar has no item {other:?}"),
        }
    }

    fn use_item(&mut self, pair: Pair<'_, Rule>) -> Item {
        let span = self.span(&pair);
        let mut parts = inner(pair);
        let path = parts.next().expect("`use` has a path");
        let (path, path_span) = (self.text(&path), self.span(&path));
        let what = match parts.next() {
            None => Used::All,
            Some(part) if part.as_rule() == Rule::use_alias => Used::Module(self.alias(part)),
            Some(part) => Used::Names(inner(part).map(|name| self.used_name(name)).collect()),
        };
        Item::Use(Arc::new(Use { path, path_span, what, span }))
    }

    fn used_name(&mut self, pair: Pair<'_, Rule>) -> UsedName {
        let mut parts = inner(pair);
        let name = self.name(&parts.next().expect("what is used has a name"));
        UsedName { name, alias: parts.next().map(|alias| self.alias(alias)) }
    }

    fn alias(&self, pair: Pair<'_, Rule>) -> Name {
        self.name(&inner(pair).next().expect("`as` has a name"))
    }

    pub(super) fn definition(&mut self, pair: Pair<'_, Rule>, doc: Doc) -> Definition {
        let span = self.span(&pair);
        let mut parts = pair.into_inner();
        let kind = match parts.next().expect("a definition has a keyword").as_rule() {
            Rule::word_fn => DefinitionKind::Function,
            Rule::word_layer => DefinitionKind::Layer,
            Rule::word_model => DefinitionKind::Model,
            _ => DefinitionKind::Optimizer,
        };
        let name = self.name(&parts.next().expect("a definition has a name"));
        let mut parameters = Vec::new();
        let mut body = Block { statements: Vec::new(), span };
        for part in parts {
            match part.as_rule() {
                Rule::parameters => parameters = inner(part).map(|p| self.parameter(p)).collect(),
                _ => body = self.block(part),
            }
        }
        Definition { kind, name, parameters, body, doc, span }
    }

    pub(super) fn parameter(&mut self, pair: Pair<'_, Rule>) -> Parameter {
        let (name, ty, default) = self.declaration(pair);
        Parameter { name, ty, default }
    }

    pub(super) fn type_expression(&mut self, pair: Pair<'_, Rule>) -> TypeExpression {
        let span = self.span(&pair);
        let mut parts = inner(pair);
        let dtype = parts.next().expect("a type has a dtype");
        let dtype = if dtype.as_rule() == Rule::index_dtype {
            let span = self.span(&dtype);
            let classes = inner(dtype).next().expect("`index` has a number of classes");
            DTypeExpression::Index { classes: Box::new(self.expression(classes)), span }
        } else {
            DTypeExpression::Named(self.name(&dtype))
        };
        let (mut lead, mut dims) = (None, Vec::new());
        for part in parts {
            if part.as_rule() == Rule::lead {
                let span = self.span(&part);
                lead = Some(Lead { name: part.into_inner().nth(1).map(|name| self.name(&name)), span });
            } else {
                dims.push(self.expression(part));
            }
        }
        TypeExpression { dtype, lead, dims, span }
    }

    fn data_block(&mut self, pair: Pair<'_, Rule>, span: Span) -> DataBlock {
        let (mut model, mut splits) = (None, Vec::new());
        for part in inner(pair) {
            match part.as_rule() {
                Rule::name => model = Some(self.name(&part)),
                _ => splits.push(self.split(part)),
            }
        }
        DataBlock { model, splits, span }
    }

    fn split(&mut self, pair: Pair<'_, Rule>) -> Split {
        let span = self.span(&pair);
        let mut parts = inner(pair);
        let name = self.name(&parts.next().expect("a split has a name"));
        let mut contents = Vec::new();
        for part in parts {
            match part.as_rule() {
                Rule::split_bind => {
                    let mut parts = inner(part);
                    let name = self.name(&parts.next().expect("a binding has a name"));
                    let reader = self.expression(parts.next().expect("a binding has a reader"));
                    contents.push(SplitEntry::Bind { name, reader });
                }
                Rule::split_from => {
                    let mut parts = inner(part);
                    contents.push(SplitEntry::From { split: self.name(&parts.next().expect("`from` has a split")) });
                    contents.extend(parts.next().map(|take| self.take(take)));
                }
                _ => contents.push(self.take(part)),
            }
        }
        Split { name, contents, span }
    }

    fn take(&mut self, pair: Pair<'_, Rule>) -> SplitEntry {
        let mut parts: Vec<_> = inner(pair).collect();
        let amount = self.expression(parts.pop().expect("`take` has an amount"));
        SplitEntry::Take { place: parts.pop().map(|place| self.name(&place)), amount }
    }
}
