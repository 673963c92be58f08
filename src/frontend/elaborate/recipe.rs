//! The `train` block: the settings of a phase, with the command line's changes.

use std::sync::Arc;

use super::phases::PhaseEntries;
use super::statement::{Body, Context};
use super::value::Value;
use super::{Elaborator, Outcome};
use crate::diag::{Diagnostic, Span, nearest};
use crate::frontend::ast::{
    Definition, Expression, ExpressionKind, Item, Name, TrainBlock, TrainEntry, TrainEntryKind,
};
use crate::frontend::model::{Clip, Every, Load, Recipe, Stop, Validate};

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
        self.check_single(&block.entries)?;
        let phase = self.phase_entries(&block)?;
        let mut recipe = self.recipe_settings(&mut outer, &block, &phase)?;
        self.bind_recipe(&mut outer, &recipe);
        self.objectives(&mut outer, &phase.entries, &mut recipe)?;
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

    fn recipe_settings(&mut self, body: &mut Body, block: &TrainBlock, phase: &PhaseEntries<'_>) -> Outcome<Recipe> {
        let settings = self.settings;
        let mut recipe = Recipe {
            phase: phase.name.clone(),
            phases: phase.all.clone(),
            epochs: None,
            steps: None,
            batch: DEFAULT_BATCH,
            seed: 0,
            shuffle: true,
            validate: None,
            minimize: Vec::new(),
            clip: Vec::new(),
            accumulate: 1,
            average: None,
            load: Vec::new(),
            stop: Vec::new(),
            keep_best: None,
            checkpoint: None,
            span: block.span,
        };
        for entry in &phase.entries {
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
            TrainEntryKind::Clip { what, limit } => {
                let limit = self.positive(body, limit, "a limit on gradients")?;
                recipe.clip.push(match &*what.text {
                    "norm" => Clip::Norm(limit),
                    "value" => Clip::Value(limit),
                    other => {
                        let diagnostic = Diagnostic::error(what.span, format!("gradients have no `{other}` to clip"));
                        return Err(self.fail(diagnostic.help("write `clip norm X` or `clip value X`")));
                    }
                });
            }
            TrainEntryKind::Accumulate(e) => recipe.accumulate = self.count(body, e, "accumulate", 1)?,
            TrainEntryKind::Average { what, decay } => recipe.average = Some(self.average_decay(body, what, decay)?),
            TrainEntryKind::Load { path, into } => {
                let load = self.weight_file(body, path, into.as_ref(), entry.span)?;
                recipe.load.push(load);
            }
            TrainEntryKind::StopWhen(e) => {
                let condition = self.condition(body, e)?;
                recipe.stop.push(Stop::When { condition, text: self.quote(e.span).to_owned() });
            }
            TrainEntryKind::StopNotImproved { metric, count, unit } => {
                if !is_unit(unit, "epoch") {
                    let diagnostic = Diagnostic::error(unit.span, "losses and metrics are compared after every epoch");
                    return Err(self.fail(diagnostic.help("write `for N epochs`")));
                }
                let metric = self.metric_name(metric)?;
                let epochs = self.count(body, count, "epochs", 1)?;
                recipe.stop.push(Stop::NotImproved { metric, epochs });
            }
            TrainEntryKind::KeepBest(metric) => recipe.keep_best = Some(self.metric_name(metric)?),
            TrainEntryKind::Checkpoint { every, unit } => recipe.checkpoint = Some(self.every(body, every, unit)?),
            // Its lines are among the entries if it is the phase meant.
            TrainEntryKind::Phase { .. } => {}
        }
        Ok(())
    }

    fn every(&mut self, body: &mut Body, every: &Expression, unit: &Name) -> Outcome<Every> {
        if is_unit(unit, "epoch") {
            return self.count(body, every, "epochs", 1).map(Every::Epochs);
        }
        if is_unit(unit, "step") {
            return self.count(body, every, "steps", 1).map(Every::Steps);
        }
        if is_unit(unit, "minute") {
            return self.positive(body, every, "a number of minutes").map(Every::Minutes);
        }
        let diagnostic = Diagnostic::error(unit.span, format!("`{}` is no unit of checkpoints", unit.text));
        Err(self.fail(diagnostic.help("write `checkpoint every K epochs`, `steps` or `minutes`")))
    }

    fn average_decay(&mut self, body: &mut Body, what: &Name, decay: &Expression) -> Outcome<f64> {
        if &*what.text != "ema" {
            let diagnostic = Diagnostic::error(what.span, format!("there is no average `{}`", what.text));
            return Err(self.fail(diagnostic.help("write `average ema 0.999`")));
        }
        let value = self.expression(body, decay)?;
        match value.as_number() {
            Some(x) if (0.0..1.0).contains(&x) => Ok(x),
            _ if value.is_poison() => Err(super::Failure::Reported),
            _ => {
                let message = format!("a decay is a number from 0 to below 1, not {}", self.describe(&value));
                Err(self.error(decay.span, message))
            }
        }
    }

    fn weight_file(
        &mut self,
        body: &mut Body,
        path: &Expression,
        into: Option<&Expression>,
        span: Span,
    ) -> Outcome<Load> {
        let Value::Text(text) = self.expression(body, path)? else {
            return Err(self.error(path.span, "`load` takes the path of a weight file as a string"));
        };
        let into = match into {
            Some(e) => Some(self.layer_path(body, e)?),
            None => None,
        };
        Ok(Load { path: text.to_string(), into, span })
    }

    /// The path of a layer that has parameters or states: a name in the model, or the path of a layer made inside an expression.
    fn layer_path(&mut self, body: &mut Body, e: &Expression) -> Outcome<String> {
        let written = self.quote(e.span).to_owned();
        let has_members = |path: &str, members: &[super::Member]| {
            members.iter().any(|m| m.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
        };
        if has_members(&written, &self.members) {
            return Ok(written);
        }
        let value = match &e.kind {
            ExpressionKind::Name(name) if body.env.get(name).is_none() => None,
            _ => Some(self.expression(body, e)?),
        };
        if let Some(Value::Instance(instance)) = &value {
            let path = super::scope::instance_path(instance).to_string();
            if has_members(&path, &self.members) {
                return Ok(path);
            }
        }
        if value.is_some_and(|v| v.is_poison()) {
            return Err(super::Failure::Reported);
        }
        let known: Vec<String> = self.records.iter().map(|r| r.path.clone()).collect();
        let diagnostic = Diagnostic::error(e.span, format!("no layer `{written}` has parameters or states"));
        Err(self.fail(match nearest(&written, known.iter().map(String::as_str)) {
            Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
            None => diagnostic,
        }))
    }

    /// A number above 0.
    fn positive(&mut self, body: &mut Body, e: &Expression, what: &str) -> Outcome<f64> {
        let value = self.expression(body, e)?;
        match value.as_number() {
            Some(x) if x > 0.0 && x.is_finite() => Ok(x),
            _ if value.is_poison() => Err(super::Failure::Reported),
            _ => {
                let message = format!("{what} is a number above 0, not {}", self.describe(&value));
                Err(self.error(e.span, message))
            }
        }
    }

    /// A whole number of at least `least`.
    pub(super) fn count(&mut self, body: &mut Body, e: &Expression, word: &str, least: i64) -> Outcome<u64> {
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

    /// The recipe's own numbers as names for schedules.
    fn bind_recipe(&mut self, body: &mut Body, recipe: &Recipe) {
        let steps = recipe.steps.or(self.settings.total_steps);
        for (name, value) in [("epochs", recipe.epochs), ("steps", steps), ("batch", Some(recipe.batch))] {
            if let Some(value) = value.and_then(|v| i64::try_from(v).ok()) {
                body.env.bind(&Arc::from(name), Value::int(value));
            }
        }
    }
}

/// Whether a word is a unit, in the singular or the plural.
fn is_unit(word: &Name, unit: &str) -> bool {
    word.text.strip_prefix(unit).is_some_and(|rest| rest.is_empty() || rest == "s")
}

/// The word of an entry that may stand once.
pub(super) fn single_entry(kind: &TrainEntryKind) -> Option<&'static str> {
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
pub(super) fn entry_word(kind: &TrainEntryKind) -> &'static str {
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
