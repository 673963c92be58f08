//! The walk through `train` and `data` blocks, which see the names of their model.

use super::names::{Meaning, ScopeKind, SiteId, SiteKind};
use super::walk::{New, Walker};
use crate::diag::Span;
use crate::frontend::ast::{
    DataBlock, Expression, ExpressionKind, Name, Split, SplitEntry, TrainBlock, TrainEntry, TrainEntryKind,
};

impl Walker<'_> {
    pub(super) fn train(&mut self, block: &TrainBlock) {
        self.of_model(ScopeKind::Train, block.model.as_ref(), block.span, |walker| {
            block.entries.iter().for_each(|entry| walker.entry(entry));
        });
    }

    pub(super) fn data(&mut self, block: &DataBlock) {
        self.of_model(ScopeKind::Data, block.model.as_ref(), block.span, |walker| {
            for split in &block.splits {
                walker.define(New { name: &split.name, kind: SiteKind::Split, doc: &None, whole: split.span });
            }
            block.splits.iter().for_each(|split| walker.split(split));
        });
    }

    /// A block in which the names of the model that it is for are known.
    fn of_model(&mut self, kind: ScopeKind, model: Option<&Name>, span: Span, work: impl FnOnce(&mut Self)) {
        if let Some(name) = model {
            self.name(name.clone(), None);
        }
        let (name, only) = (model.map(|m| m.text.clone()), self.models.len() == 1);
        let chosen = self.models.iter().find(|(n, _)| name.as_ref().map_or(only, |wanted| wanted == *n));
        let (scope, bound) =
            chosen.map_or((None, Default::default()), |(_, (scope, bound))| (Some(*scope), bound.clone()));
        self.layers.push(bound);
        let id = self.names.scopes.len();
        self.inside(kind, span, work);
        self.layers.pop();
        self.names.scopes[id].model = scope;
    }

    fn entry(&mut self, entry: &TrainEntry) {
        match &entry.kind {
            TrainEntryKind::Epochs(e)
            | TrainEntryKind::Steps(e)
            | TrainEntryKind::Batch(e)
            | TrainEntryKind::Seed(e)
            | TrainEntryKind::Shuffle(e)
            | TrainEntryKind::Validate(e)
            | TrainEntryKind::Accumulate(e) => self.expression(e),
            TrainEntryKind::Minimize { loss, over, with, times } => {
                self.name(loss.clone(), None);
                self.all(over);
                self.expression(with);
                self.all(times);
            }
            TrainEntryKind::Clip { limit, .. } => self.expression(limit),
            TrainEntryKind::Freeze(names) => self.all(names),
            TrainEntryKind::Load { path, into } => {
                self.expression(path);
                self.all(into);
            }
            TrainEntryKind::StopWhen(e) | TrainEntryKind::KeepBest(e) => self.measured(e),
            TrainEntryKind::StopNotImproved { metric, count, .. } => {
                self.measured(metric);
                self.expression(count);
            }
            TrainEntryKind::Checkpoint { every, .. } => self.expression(every),
            TrainEntryKind::Average { decay, .. } => self.expression(decay),
            TrainEntryKind::Phase { entries, .. } => entries.iter().for_each(|entry| self.entry(entry)),
        }
    }

    /// `val.accuracy`: the field is a loss or metric of the model.
    fn measured(&mut self, e: &Expression) {
        match &e.kind {
            ExpressionKind::Field { value, name } if matches!(&value.kind, ExpressionKind::Name(_)) => {
                self.name(name.clone(), None);
            }
            ExpressionKind::Binary { left, right, .. } => {
                self.measured(left);
                self.measured(right);
            }
            ExpressionKind::Unary { operand, .. } => self.measured(operand),
            _ => self.expression(e),
        }
    }

    fn split(&mut self, split: &Split) {
        for entry in &split.contents {
            match entry {
                SplitEntry::Bind { name, reader } => {
                    let declared = self.fields(&name.text);
                    let meaning = if declared.is_empty() { Meaning::Unknown } else { Meaning::Sites(declared) };
                    self.add_use(name.clone(), meaning, None);
                    self.reader(reader);
                }
                SplitEntry::From { split } => self.name(split.clone(), None),
                SplitEntry::Take { amount, .. } => self.expression(amount),
            }
        }
    }

    /// The input or target of the model, which its body may bind anew.
    fn fields(&self, name: &str) -> Vec<SiteId> {
        let Some(reaching) = self.reaching(name) else { return Vec::new() };
        let symbol = reaching.first().map(|id| self.names.sites[*id].symbol);
        let is_field = |kind| matches!(kind, SiteKind::Input | SiteKind::Target);
        let sites = self.names.sites.iter().enumerate();
        sites.filter(|(_, s)| Some(s.symbol) == symbol && is_field(s.kind)).map(|(id, _)| id).collect()
    }

    fn reader(&mut self, reader: &Expression) {
        let ExpressionKind::Call { callee, arguments } = &reader.kind else { return self.expression(reader) };
        if let ExpressionKind::Name(text) = &callee.kind {
            self.add_use(Name { text: text.clone(), span: callee.span }, Meaning::Reader, Some(reader.span));
        }
        for argument in arguments {
            if let Some(name) = &argument.name {
                self.add_use(name.clone(), Meaning::Word, None);
            }
            self.expression(&argument.value);
        }
    }
}
