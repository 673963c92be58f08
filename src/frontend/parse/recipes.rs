//! `train` blocks.

use pest::iterators::{Pair, Pairs};

use super::{Builder, Rule, inner};
use crate::frontend::ast::{Expression, TrainBlock, TrainEntry, TrainEntryKind};

impl Builder<'_> {
    pub(super) fn train_block(&mut self, pair: Pair<'_, Rule>) -> TrainBlock {
        let span = self.span(&pair);
        let (mut model, mut entries) = (None, Vec::new());
        for part in inner(pair) {
            match part.as_rule() {
                Rule::name => model = Some(self.name(&part)),
                _ => entries.push(self.train_entry(part)),
            }
        }
        TrainBlock { model, entries, span }
    }

    fn train_entry(&mut self, pair: Pair<'_, Rule>) -> TrainEntry {
        let span = self.span(&pair);
        let pair = pair.into_inner().next().expect("an entry has a kind");
        let rule = pair.as_rule();
        let mut parts: Vec<_> = inner(pair).collect();
        let kind = match rule {
            Rule::epochs_entry => TrainEntryKind::Epochs(self.only(parts)),
            Rule::steps_entry => TrainEntryKind::Steps(self.only(parts)),
            Rule::batch_entry => TrainEntryKind::Batch(self.only(parts)),
            Rule::seed_entry => TrainEntryKind::Seed(self.only(parts)),
            Rule::shuffle_entry => TrainEntryKind::Shuffle(self.only(parts)),
            Rule::validate_entry => TrainEntryKind::Validate(self.only(parts)),
            Rule::accumulate_entry => TrainEntryKind::Accumulate(self.only(parts)),
            Rule::keep_entry => TrainEntryKind::KeepBest(self.only(parts)),
            Rule::freeze_entry => TrainEntryKind::Freeze(parts.into_iter().map(|p| self.expression(p)).collect()),
            Rule::minimize_entry => self.minimize(parts),
            Rule::clip_entry => {
                let what = self.name(&parts[0]);
                TrainEntryKind::Clip { what, limit: self.only(parts.split_off(1)) }
            }
            Rule::average_entry => {
                let what = self.name(&parts[0]);
                TrainEntryKind::Average { what, decay: self.only(parts.split_off(1)) }
            }
            Rule::load_entry => {
                let into = parts.split_off(1).pop().map(|into| self.only(inner(into).collect()));
                TrainEntryKind::Load { path: self.only(parts), into }
            }
            Rule::stop_entry => self.stop(parts),
            Rule::checkpoint_entry => {
                let unit = self.name(&parts[1]);
                parts.truncate(1);
                TrainEntryKind::Checkpoint { every: self.only(parts), unit }
            }
            Rule::phase_entry => {
                let name = self.text(&parts[0]);
                TrainEntryKind::Phase { name, entries: parts.drain(1..).map(|entry| self.train_entry(entry)).collect() }
            }
            other => unreachable!("the grammar has no recipe entry {other:?}"),
        };
        TrainEntry { kind, span }
    }

    /// The expression that is all an entry has beside its words.
    fn only(&mut self, parts: Vec<Pair<'_, Rule>>) -> Expression {
        self.expression(parts.into_iter().next().expect("the entry has a value"))
    }

    fn minimize(&mut self, parts: Vec<Pair<'_, Rule>>) -> TrainEntryKind {
        let loss = self.name(&parts[0]);
        let (mut over, mut with, mut times) = (Vec::new(), None, None);
        for part in parts.into_iter().skip(1) {
            match part.as_rule() {
                Rule::minimize_over => over = inner(part).map(|value| self.expression(value)).collect(),
                Rule::minimize_times => times = inner(part).next().map(|value| self.expression(value)),
                _ => with = Some(self.expression(part)),
            }
        }
        TrainEntryKind::Minimize { loss, over, with: with.expect("`minimize` has an optimizer"), times }
    }

    fn stop(&mut self, mut parts: Vec<Pair<'_, Rule>>) -> TrainEntryKind {
        let patience = parts.split_off(1).pop();
        let condition = self.only(parts);
        let Some(patience) = patience else { return TrainEntryKind::StopWhen(condition) };
        let mut parts = numbers_and_names(patience.into_inner());
        let unit = self.name(&parts.pop().expect("patience has a unit"));
        TrainEntryKind::StopNotImproved { metric: condition, count: self.only(parts), unit }
    }
}

/// The pairs that are not words of the grammar.
fn numbers_and_names(pairs: Pairs<'_, Rule>) -> Vec<Pair<'_, Rule>> {
    pairs.filter(|pair| matches!(pair.as_rule(), Rule::expression | Rule::name)).collect()
}
