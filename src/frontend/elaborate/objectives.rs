//! The objectives of a recipe: which parameters each `minimize` trains, and in which order updates happen in a step.
//!
//! Neighbouring objectives without `times` are one group: all their gradients are taken before any parameter changes. One with
//! `times K` is a group of its own that is updated K times. Groups follow each other in the order of the file, and each update after the
//! first of a step computes its loss again, with the parameters as they are by then and with draws of its own.

use rustc_hash::FxHashMap;

use super::optimizer::Training;
use super::statement::Body;
use super::value::Value;
use super::{Elaborator, Failure, Outcome};
use crate::diag::{Diagnostic, Span};
use crate::frontend::ast::{Expression, ExpressionKind, Name, TrainEntry, TrainEntryKind};
use crate::frontend::model::{Minimize, Recipe};
use crate::ir::graph::{ResultRole, Role, ValueId};
use crate::ir::scalar::ScalarFunction;
use crate::ir::types::DType;

/// What the second word of the seed grows by with each further update of a step.
const SEED_STEP: i64 = 0x3C6E_F372;

/// `minimize`, with its names looked up.
struct Objective<'e> {
    /// The place of its loss among the results.
    result: usize,
    /// The loss as the model computes it.
    loss: ValueId,
    /// The members that it trains.
    trained: Vec<usize>,
    with: &'e Expression,
    /// `times K`.
    times: Option<u64>,
    span: Span,
}

impl Elaborator<'_> {
    pub(super) fn objectives(&mut self, body: &mut Body, entries: &[&TrainEntry], recipe: &mut Recipe) -> Outcome<()> {
        self.freeze(body, entries)?;
        let mut objectives: Vec<Objective<'_>> = Vec::new();
        for entry in entries {
            let TrainEntryKind::Minimize { loss, over, with, times } = &entry.kind else { continue };
            let times = times.as_ref().map(|e| Ok((self.count(body, e, "times", 1)?, e.span))).transpose()?;
            if let Some((_, span)) = times.filter(|_| recipe.accumulate > 1) {
                let diagnostic = Diagnostic::error(span, "`times` and `accumulate` do not go together");
                return Err(
                    self.fail(diagnostic.note("one makes several updates of a batch, the other one of several"))
                );
            }
            let objective = self.objective(body, loss, over, with, times.map(|(k, _)| k), entry.span)?;
            self.check_trained_once(&objectives, &objective)?;
            recipe.minimize.push(Minimize {
                loss: loss.text.to_string(),
                optimizer: optimizer_name(with),
                times: objective.times.unwrap_or(1),
                parameters: objective.trained.clone(),
                span: entry.span,
            });
            objectives.push(objective);
        }
        if self.training {
            self.updates(body, &objectives, recipe)?;
        }
        Ok(())
    }

    fn objective<'e>(
        &mut self,
        body: &mut Body,
        loss: &Name,
        over: &[Expression],
        with: &'e Expression,
        times: Option<u64>,
        span: Span,
    ) -> Outcome<Objective<'e>> {
        let found = self.results.iter().position(|r| r.name == *loss.text && r.role == ResultRole::Loss);
        let Some(result) = found else { return Err(self.unknown_result(&loss.text, loss.span, "loss")) };
        let value = self.results[result].value;
        let chosen = match over {
            [] => (0..self.members.len()).filter(|i| self.members[*i].is_parameter).collect(),
            names => self.over(body, names)?,
        };
        let used = self.reachable([value]);
        let trains = |i: &usize| !self.members[*i].frozen && used.contains(&self.members[*i].argument);
        let trained: Vec<usize> = chosen.into_iter().filter(trains).collect();
        if trained.is_empty() {
            let message =
                format!("no parameter is trained: the loss `{}` depends on none, or they are frozen", loss.text);
            return Err(self.error(span, message));
        }
        Ok(Objective { result, loss: value, trained, with, times, span })
    }

    fn check_trained_once(&mut self, earlier: &[Objective<'_>], objective: &Objective<'_>) -> Outcome<()> {
        for member in &objective.trained {
            if let Some(first) = earlier.iter().find(|o| o.trained.contains(member)) {
                let message = format!("`{}` is trained by two objectives", self.members[*member].path);
                let diagnostic = Diagnostic::error(objective.span, message).label(first.span, "also trained here");
                return Err(self.fail(diagnostic.help("say which parameters each one trains: `over ...`")));
            }
        }
        Ok(())
    }

    /// All updates of a step.
    fn updates(&mut self, body: &mut Body, objectives: &[Objective<'_>], recipe: &Recipe) -> Outcome<()> {
        let mut evaluation = 0;
        for group in objectives.chunk_by(|a, b| a.times.is_none() && b.times.is_none()) {
            let times = group[0].times.unwrap_or(1);
            for turn in 0..times {
                self.count_round(group[0].span)?;
                let losses = self.evaluate_again(evaluation, group, turn == 0)?;
                let mut waiting = Vec::new();
                for (objective, loss) in group.iter().zip(losses) {
                    waiting.push(self.gradients(objective, loss)?);
                }
                let number = self.update_number(recipe.accumulate, times, turn);
                for (objective, gradients) in group.iter().zip(waiting) {
                    let training = Training { with: objective.with, number, accumulate: recipe.accumulate };
                    self.update_all(body, &training, objective.trained.as_slice(), gradients, &recipe.clip)?;
                }
                evaluation += 1;
            }
        }
        if let Some(decay) = recipe.average {
            self.average_parameters(decay, recipe.accumulate);
        }
        Ok(())
    }

    /// The losses of a group with the parameters as they are now. What the first update of a group computes is what the step reports.
    fn evaluate_again(&mut self, evaluation: u32, group: &[Objective<'_>], first: bool) -> Outcome<Vec<ValueId>> {
        let losses: Vec<ValueId> = group.iter().map(|o| o.loss).collect();
        if evaluation == 0 {
            return Ok(losses);
        }
        let mut moved = FxHashMap::default();
        for member in self.members.iter().filter(|m| m.is_parameter && m.current != m.argument) {
            moved.insert(member.argument, member.current);
        }
        if let Some(seed) = self.single_arguments.get(&Role::Seed).copied() {
            moved.insert(seed, self.further_seed(seed, evaluation, group[0].span)?);
        }
        let again = self.builder.copy(&losses, moved);
        if first {
            for (objective, loss) in group.iter().zip(&again) {
                self.results[objective.result].value = *loss;
            }
        }
        Ok(again)
    }

    /// The seed of the draws of a further update: its second word is `evaluation * SEED_STEP` more.
    fn further_seed(&mut self, seed: ValueId, evaluation: u32, span: Span) -> Outcome<ValueId> {
        let more = i64::from(evaluation).wrapping_mul(SEED_STEP) & 0x7FFF_FFFF;
        let words = Value::list(vec![Value::int(0), Value::int(more)]);
        let Value::Tensor(more) = self.operation("tensor", &[(words, span)], span)? else {
            return Err(Failure::Reported);
        };
        let more = self.builder.cast(more, DType::U32);
        Ok(self.builder.apply(ScalarFunction::Add, &[seed, more]))
    }

    fn gradients(&mut self, objective: &Objective<'_>, loss: ValueId) -> Outcome<Vec<ValueId>> {
        let targets: Vec<ValueId> = objective.trained.iter().map(|i| self.members[*i].current).collect();
        let names = (&*self.results[objective.result].name, "the parameters");
        if let Some(diagnostic) = self.no_slope(loss, &targets, names, objective.span) {
            return Err(self.fail(diagnostic));
        }
        self.builder.grad(loss, &targets).map_err(|error| {
            let mut diagnostic = Diagnostic::error(objective.span, error.message);
            diagnostic.notes = error.notes;
            self.fail(diagnostic)
        })
    }

    /// Takes the parameters that `freeze` names out of training.
    fn freeze(&mut self, body: &mut Body, entries: &[&TrainEntry]) -> Outcome<()> {
        for entry in entries {
            if let TrainEntryKind::Freeze(names) = &entry.kind {
                for at in self.over(body, names)? {
                    self.members[at].frozen = true;
                }
            }
        }
        Ok(())
    }

    /// The members that `over` names: layers, parameters, lists of them, or paths of layers made inside expressions.
    fn over(&mut self, body: &mut Body, names: &[Expression]) -> Outcome<Vec<usize>> {
        let mut all = Vec::new();
        for e in names {
            let found = match &e.kind {
                ExpressionKind::Name(name) if body.env.get(name).is_none() => self.members_under(name),
                _ => None,
            };
            let members = match found {
                Some(members) => members,
                None => {
                    let value = self.expression(body, e)?;
                    self.members_of(&value, e.span)?
                }
            };
            all.extend(members);
        }
        all.sort_unstable();
        all.dedup();
        Ok(all)
    }

    fn members_under(&self, path: &str) -> Option<Vec<usize>> {
        let prefix = format!("{path}.");
        let found: Vec<usize> = self
            .members
            .iter()
            .enumerate()
            .filter(|(_, m)| m.is_parameter && m.path.starts_with(&prefix))
            .map(|(i, _)| i)
            .collect();
        (!found.is_empty()).then_some(found)
    }

    fn members_of(&mut self, value: &Value, span: Span) -> Outcome<Vec<usize>> {
        match value {
            Value::Poison => Err(Failure::Reported),
            Value::List(items) | Value::Tuple(items) => {
                let mut all = Vec::new();
                for item in items.iter() {
                    all.extend(self.members_of(item, span)?);
                }
                Ok(all)
            }
            Value::Instance(_) => {
                let parameters = self.parameters_of(value, span)?;
                let mut all = Vec::new();
                for parameter in &parameters {
                    all.extend(self.members_of(parameter, span)?);
                }
                Ok(all)
            }
            Value::Tensor(id) => match self.members.iter().position(|m| m.is_parameter && m.argument == *id) {
                Some(at) => Ok(vec![at]),
                None => Err(self.error(span, "this tensor is computed, it is not a parameter")),
            },
            other => {
                let message = format!("this takes layers and parameters, not {}", self.describe(other));
                Err(self.error(span, message))
            }
        }
    }
}

/// The name of the optimizer that an expression begins with.
fn optimizer_name(with: &Expression) -> String {
    match &with.kind {
        ExpressionKind::Call { callee, .. } => optimizer_name(callee),
        ExpressionKind::Name(name) => name.to_string(),
        _ => "optimizer".to_owned(),
    }
}
