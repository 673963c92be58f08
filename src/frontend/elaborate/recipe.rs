//! The `train` block: settings with the command line's changes, and the training step's objectives.

use std::collections::HashSet;
use std::sync::Arc;

use super::optimizer::Objective;
use super::statement::{Body, Context};
use super::value::Value;
use super::{Elaborator, Outcome};
use crate::diag::{Diagnostic, Span, nearest};
use crate::frontend::ast::{
    Definition, Expression, ExpressionKind, Item, Name, TrainBlock, TrainEntry, TrainEntryKind,
};
use crate::frontend::model::{MetricName, Minimize, Recipe, Stop, Validate};
use crate::ir::graph::ResultRole;

/// Rows per step where the recipe does not say, as in Keras.
const DEFAULT_BATCH: u64 = 32;

impl Elaborator<'_> {
    /// The recipe of the model, if the file has one; with `training` its objectives become part of the graph.
    pub(super) fn recipe(&mut self, body: &mut Body, definition: &Arc<Definition>) -> Outcome<Option<Recipe>> {
        let Some(block) = self.block_of(definition, |item| match item {
            Item::Train(block) => Some((block.clone(), block.model.clone(), block.span)),
            _ => None,
        })?
        else {
            return Ok(None);
        };
        let mut outer = Body::new(body.env.inside(), body.scope.clone(), Context::Outside);
        let mut recipe = self.recipe_settings(&mut outer, &block)?;
        self.bind_recipe(&mut outer, &recipe);
        self.objectives(&mut outer, &block, &mut recipe)?;
        Ok(Some(recipe))
    }

    /// The one block of a kind that is meant for this model.
    pub(super) fn block_of<T>(
        &mut self,
        definition: &Arc<Definition>,
        select: impl Fn(&Item) -> Option<(T, Option<Name>, Span)>,
    ) -> Outcome<Option<T>> {
        let project = self.project;
        let models: Vec<&str> = project.models().map(|m| &*m.name.text).collect();
        let mut found: Option<(T, Span)> = None;
        for (block, model, span) in project.items().iter().filter_map(select) {
            match &model {
                Some(name) if !models.contains(&&*name.text) => {
                    let diagnostic = Diagnostic::error(name.span, format!("there is no model `{}`", name.text));
                    self.report(match nearest(&name.text, models.iter().copied()) {
                        Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
                        None => diagnostic,
                    });
                    continue;
                }
                Some(name) if name.text != definition.name.text => continue,
                None if models.len() > 1 => {
                    let start = Span { end: span.start + 5, ..span };
                    let diagnostic = Diagnostic::error(start, "the file has several models: say which one is meant");
                    self.report(diagnostic.help(format!("write the model's name after it: {}", models.join(", "))));
                    continue;
                }
                _ => {}
            }
            if let Some((_, first)) = &found {
                let label = *first;
                let start = Span { end: span.start + 5, ..span };
                let message = format!("there is a second block for the model `{}`", definition.name.text);
                return Err(self.fail(
                    Diagnostic::error(start, message).label(Span { end: label.start + 5, ..label }, "the first"),
                ));
            }
            found = Some((block, span));
        }
        Ok(found.map(|(block, _)| block))
    }

    fn recipe_settings(&mut self, body: &mut Body, block: &TrainBlock) -> Outcome<Recipe> {
        let settings = self.settings;
        let mut recipe = Recipe {
            epochs: None,
            steps: None,
            batch: DEFAULT_BATCH,
            seed: 0,
            shuffle: true,
            validate: None,
            minimize: Vec::new(),
            stop: Vec::new(),
            keep_best: None,
            span: block.span,
        };
        let mut seen = HashSet::new();
        for entry in &block.entries {
            if let Some(word) = single_entry(&entry.kind)
                && !seen.insert(word)
            {
                return Err(self.error(entry.span, format!("`{word}` is said twice")));
            }
            self.recipe_entry(body, entry, &mut recipe)?;
        }
        recipe.epochs = settings.epochs.or(recipe.epochs);
        recipe.steps = settings.steps.or(recipe.steps);
        recipe.batch = settings.batch.unwrap_or(recipe.batch);
        recipe.seed = settings.seed.unwrap_or(recipe.seed);
        recipe.shuffle = settings.shuffle.unwrap_or(recipe.shuffle);
        if recipe.epochs.is_none() && recipe.steps.is_none() {
            recipe.epochs = Some(1);
        }
        if recipe.batch == 0 {
            return Err(self.error(block.span, "a batch of 0 rows trains nothing"));
        }
        Ok(recipe)
    }

    fn recipe_entry(&mut self, body: &mut Body, entry: &TrainEntry, recipe: &mut Recipe) -> Outcome<()> {
        match &entry.kind {
            TrainEntryKind::Epochs(e) => recipe.epochs = Some(self.count(body, e, "epochs", 0)?),
            TrainEntryKind::Steps(e) => recipe.steps = Some(self.count(body, e, "steps", 0)?),
            TrainEntryKind::Batch(e) => recipe.batch = self.count(body, e, "batch", 1)?,
            TrainEntryKind::Seed(e) => recipe.seed = self.count(body, e, "seed", 0)?,
            TrainEntryKind::Shuffle(e) => match self.expression(body, e)? {
                Value::Bool(shuffle) => recipe.shuffle = shuffle,
                other => {
                    let message = format!("`shuffle` is true or false, not {}", self.describe(&other));
                    return Err(self.error(e.span, message));
                }
            },
            TrainEntryKind::Validate(e) => recipe.validate = Some(self.validate(body, e)?),
            // Objectives come when every setting is known.
            TrainEntryKind::Minimize { .. } | TrainEntryKind::Freeze(_) => {}
            TrainEntryKind::StopNotImproved { metric, count, unit } => {
                if &*unit.text != "epochs" && &*unit.text != "epoch" {
                    return Err(self.not_supported(unit.span, "stopping after anything but epochs"));
                }
                let metric = self.metric_name(metric)?;
                let epochs = self.count(body, count, "epochs", 1)?;
                recipe.stop.push(Stop { metric, epochs });
            }
            TrainEntryKind::KeepBest(metric) => recipe.keep_best = Some(self.metric_name(metric)?),
            other => return Err(self.not_supported(entry.span, &format!("`{}`", entry_word(other)))),
        }
        Ok(())
    }

    /// A whole number of at least `least`.
    fn count(&mut self, body: &mut Body, e: &Expression, word: &str, least: i64) -> Outcome<u64> {
        let value = self.expression(body, e)?;
        if value.is_poison() {
            return Err(super::Failure::Reported);
        }
        let whole = match &value {
            // 1e3 is a whole number too.
            Value::Float(x) if x.fract() == 0.0 && x.abs() < 1e15 => Some(*x as i64),
            other => other.as_int(),
        };
        match whole {
            Some(i) if i >= least => Ok(i as u64),
            _ => {
                let message = format!("`{word}` is a whole number of at least {least}, not {}", self.describe(&value));
                Err(self.error(e.span, message))
            }
        }
    }

    fn validate(&mut self, body: &mut Body, e: &Expression) -> Outcome<Validate> {
        if let ExpressionKind::Name(name) = &e.kind
            && body.env.get(name).is_none()
        {
            return Ok(Validate::Split(name.to_string()));
        }
        let value = self.expression(body, e)?;
        match value.as_number() {
            Some(x) if x > 0.0 && x < 1.0 => Ok(Validate::Fraction(x)),
            _ => {
                let message =
                    format!("`validate` is a fraction between 0 and 1 or a split, not {}", self.describe(&value));
                Err(self.error(e.span, message))
            }
        }
    }

    /// `val.accuracy`, `train.ce`, or the name alone.
    fn metric_name(&mut self, e: &Expression) -> Outcome<MetricName> {
        let (split, name, span) = match &e.kind {
            ExpressionKind::Name(name) => ("val".to_owned(), name.clone(), e.span),
            ExpressionKind::Field { value, name } => match &value.kind {
                ExpressionKind::Name(split) => (split.to_string(), name.text.clone(), name.span),
                _ => return Err(self.error(e.span, "write `val.NAME` or `train.NAME`")),
            },
            _ => return Err(self.error(e.span, "write `val.NAME` or `train.NAME`")),
        };
        if split != "val" && split != "train" {
            let message = format!("there is no `{split}` during training");
            return Err(self.fail(Diagnostic::error(e.span, message).help("write `val.NAME` or `train.NAME`")));
        }
        let found = self.results.iter().find(|r| r.name == *name && r.role != ResultRole::Output);
        let Some(result) = found else { return Err(self.unknown_result(&name, span, "loss or metric")) };
        Ok(MetricName { split, name: name.to_string(), smaller_is_better: result.role == ResultRole::Loss, span })
    }

    fn unknown_result(&mut self, name: &str, span: Span, what: &str) -> super::Failure {
        let wanted = |role: ResultRole| role == ResultRole::Loss || (what != "loss" && role == ResultRole::Metric);
        let known: Vec<String> = self.results.iter().filter(|r| wanted(r.role)).map(|r| r.name.clone()).collect();
        let diagnostic = Diagnostic::error(span, format!("the model has no {what} `{name}`"));
        self.fail(match nearest(name, known.iter().map(String::as_str)) {
            Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
            // The loss may be missing because its own equation is wrong, which has been said.
            None if self.failed => return super::Failure::Reported,
            None if known.is_empty() => diagnostic.help("it has none"),
            None => diagnostic.help(format!("it has {}", known.join(", "))),
        })
    }

    /// The recipe's own numbers as names for schedules.
    fn bind_recipe(&mut self, body: &mut Body, recipe: &Recipe) {
        let steps = recipe.steps.or(self.settings.total_steps);
        for (name, value) in [("epochs", recipe.epochs), ("steps", steps), ("batch", Some(recipe.batch))] {
            if let Some(value) = value.and_then(|v| i64::try_from(v).ok()) {
                body.env.bind(&Arc::from(name), Value::int(value));
            }
        }
    }

    fn objectives(&mut self, body: &mut Body, block: &TrainBlock, recipe: &mut Recipe) -> Outcome<()> {
        let mut covered: Vec<(usize, Span)> = Vec::new();
        self.freeze(body, block)?;
        for entry in &block.entries {
            let TrainEntryKind::Minimize { loss, over, with, times } = &entry.kind else { continue };
            if let Some(times) = times {
                return Err(self.not_supported(times.span, "`times`"));
            }
            let value = match self.results.iter().find(|r| r.name == *loss.text && r.role == ResultRole::Loss) {
                Some(result) => result.value,
                None => return Err(self.unknown_result(&loss.text, loss.span, "loss")),
            };
            let over = if over.is_empty() { None } else { Some(self.over(body, over)?) };
            let objective = Objective { loss: loss.clone(), over, with, span: entry.span };
            let (optimizer, trained) = self.objective(body, &objective, value)?;
            for member in &trained {
                if let Some((_, first)) = covered.iter().find(|(m, _)| m == member) {
                    let message = format!("`{}` is trained by two objectives", self.members[*member].path);
                    let diagnostic = Diagnostic::error(entry.span, message).label(*first, "also trained here");
                    return Err(self.fail(diagnostic.help("say which parameters each one trains: `over ...`")));
                }
            }
            covered.extend(trained.iter().map(|m| (*m, entry.span)));
            recipe.minimize.push(Minimize {
                loss: loss.text.to_string(),
                optimizer,
                parameters: trained,
                span: entry.span,
            });
        }
        Ok(())
    }

    /// Takes the parameters that `freeze` names out of training.
    fn freeze(&mut self, body: &mut Body, block: &TrainBlock) -> Outcome<()> {
        for entry in &block.entries {
            if let TrainEntryKind::Freeze(names) = &entry.kind {
                for at in self.over(body, names)? {
                    self.members[at].frozen = true;
                }
            }
        }
        Ok(())
    }

    /// The optimizer's name and the members trained; while not training, only what can be said without the step.
    fn objective(
        &mut self,
        body: &mut Body,
        objective: &Objective<'_>,
        loss: crate::ir::graph::ValueId,
    ) -> Outcome<(String, Vec<usize>)> {
        if self.training {
            let trained = self.minimize(body, objective, loss)?;
            return Ok((optimizer_name(objective.with), trained));
        }
        Ok((optimizer_name(objective.with), Vec::new()))
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
            Value::Poison => Err(super::Failure::Reported),
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

/// The word of an entry that may stand once.
fn single_entry(kind: &TrainEntryKind) -> Option<&'static str> {
    match kind {
        TrainEntryKind::Minimize { .. }
        | TrainEntryKind::StopWhen(_)
        | TrainEntryKind::StopNotImproved { .. }
        | TrainEntryKind::Freeze(_)
        | TrainEntryKind::Load { .. }
        | TrainEntryKind::Clip { .. }
        | TrainEntryKind::Phase { .. } => None,
        other => Some(entry_word(other)),
    }
}

/// The word that an entry begins with.
fn entry_word(kind: &TrainEntryKind) -> &'static str {
    match kind {
        TrainEntryKind::Epochs(_) => "epochs",
        TrainEntryKind::Steps(_) => "steps",
        TrainEntryKind::Batch(_) => "batch",
        TrainEntryKind::Seed(_) => "seed",
        TrainEntryKind::Shuffle(_) => "shuffle",
        TrainEntryKind::Validate(_) => "validate",
        TrainEntryKind::Minimize { .. } => "minimize",
        TrainEntryKind::Clip { .. } => "clip",
        TrainEntryKind::Accumulate(_) => "accumulate",
        TrainEntryKind::Freeze(_) => "freeze",
        TrainEntryKind::Load { .. } => "load",
        TrainEntryKind::StopWhen(_) | TrainEntryKind::StopNotImproved { .. } => "stop when",
        TrainEntryKind::KeepBest(_) => "keep best",
        TrainEntryKind::Checkpoint { .. } => "checkpoint",
        TrainEntryKind::Average { .. } => "average",
        TrainEntryKind::Phase { .. } => "phase",
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
