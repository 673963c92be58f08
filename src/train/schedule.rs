//! When to stop and which weights to keep: `stop when val.ce has not improved for 3 epochs`, `keep best val.accuracy`.

use serde::{Deserialize, Serialize};

use crate::diag::Diagnostic;
use crate::frontend::model::{Condition, MetricName, Quantity, Stop};

use super::event::Values;

/// What a [`Watch`] has seen, exactly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WatchMemory {
    /// The bits of the best value.
    best: Option<u64>,
    since: u64,
}

/// Follows one loss or metric over the epochs.
pub struct Watch {
    metric: MetricName,
    best: Option<f64>,
    /// Epochs since the best one.
    pub since: u64,
}

impl Watch {
    /// A watch on `metric`.
    ///
    /// # Errors
    /// If it is a validation metric and there is no validation.
    pub fn new(metric: &MetricName, has_validation: bool) -> Result<Watch, Diagnostic> {
        check_metric(metric, has_validation)?;
        Ok(Watch { metric: metric.clone(), best: None, since: 0 })
    }

    /// What a checkpoint keeps.
    pub fn memory(&self) -> WatchMemory {
        WatchMemory { best: self.best.map(f64::to_bits), since: self.since }
    }

    /// Goes on from a checkpoint.
    pub fn remember(&mut self, memory: &WatchMemory) {
        self.best = memory.best.map(f64::from_bits);
        self.since = memory.since;
    }

    /// Takes in an epoch's values; whether it is the best so far.
    pub fn observe(&mut self, train: &Values, validation: Option<&Values>) -> bool {
        let values = if self.metric.split == "val" { validation } else { Some(train) };
        let value = values.and_then(|v| v.get(&self.metric.name));
        let improved = match (value, self.best) {
            (None, _) => false,
            // NaN is never an improvement, and anything is one over nothing.
            (Some(value), None) => !value.is_nan(),
            (Some(value), Some(best)) if self.metric.smaller_is_better => value < best,
            (Some(value), Some(best)) => value > best,
        };
        if improved {
            self.best = value;
            self.since = 0;
        } else {
            self.since += 1;
        }
        improved
    }

    /// `val.ce`.
    pub fn name(&self) -> String {
        format!("{}.{}", self.metric.split, self.metric.name)
    }
}

fn check_metric(metric: &MetricName, has_validation: bool) -> Result<(), Diagnostic> {
    if metric.split == "val" && !has_validation {
        let message = format!("`val.{}` needs validation rows", metric.name);
        return Err(Diagnostic::error(metric.span, message).help("add `validate 0.1` to the train block"));
    }
    Ok(())
}

/// A `stop when` of the recipe while training runs.
pub enum Stopper {
    Patience { watch: Watch, epochs: u64 },
    When { condition: Condition, text: String },
}

impl Stopper {
    /// What `stop` asks for.
    ///
    /// # Errors
    /// If it asks for a validation metric and there is no validation.
    pub fn new(stop: &Stop, has_validation: bool) -> Result<Stopper, Diagnostic> {
        match stop {
            Stop::NotImproved { metric, epochs } => {
                Ok(Stopper::Patience { watch: Watch::new(metric, has_validation)?, epochs: *epochs })
            }
            Stop::When { condition, text } => {
                condition.metrics().into_iter().try_for_each(|m| check_metric(m, has_validation))?;
                Ok(Stopper::When { condition: condition.clone(), text: text.clone() })
            }
        }
    }

    /// Takes in an epoch; why training stops, if it does.
    pub fn observe(&mut self, now: &Moment<'_>) -> Option<String> {
        match self {
            Stopper::Patience { watch, epochs } => {
                watch.observe(now.train, now.validation);
                let patience = watch.since >= *epochs;
                patience.then(|| format!("{} has not improved for {} epochs", watch.name(), watch.since))
            }
            Stopper::When { condition, text } => condition.holds(&|q| now.quantity(q)).then(|| text.clone()),
        }
    }

    /// The watch, where there is one.
    pub fn watch(&mut self) -> Option<&mut Watch> {
        match self {
            Stopper::Patience { watch, .. } => Some(watch),
            Stopper::When { .. } => None,
        }
    }
}

/// The numbers of an epoch.
pub struct Moment<'a> {
    pub epoch: u64,
    /// Steps of the phase so far.
    pub steps: u64,
    pub train: &'a Values,
    pub validation: Option<&'a Values>,
}

impl Moment<'_> {
    fn quantity(&self, quantity: &Quantity) -> f64 {
        match quantity {
            Quantity::Number(x) => *x,
            Quantity::Epoch => self.epoch as f64,
            Quantity::Step => self.steps as f64,
            Quantity::Metric(metric) => {
                let values = if metric.split == "val" { self.validation } else { Some(self.train) };
                values.and_then(|v| v.get(&metric.name)).unwrap_or(f64::NAN)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diag::{FileId, Span};

    fn metric(split: &str, smaller_is_better: bool) -> MetricName {
        let span = Span { file: FileId(0), start: 0, end: 0 };
        MetricName { split: split.into(), name: "m".into(), smaller_is_better, span }
    }

    #[test]
    fn improvement_is_strict_and_knows_its_direction() {
        let mut watch = Watch::new(&metric("val", true), true).unwrap();
        let mut see = |value| watch.observe(&Values::default(), Some(&Values(vec![("m".into(), f64::into(value))])));
        assert!(!see(f64::NAN));
        assert!(see(2.0) && see(1.0) && !see(1.0) && !see(1.5));
        assert_eq!(watch.since, 2);
        let mut watch = Watch::new(&metric("train", false), false).unwrap();
        let mut see = |value| watch.observe(&Values(vec![("m".into(), f64::into(value))]), None);
        assert!(see(0.1) && see(0.2) && !see(0.15));
        assert!(Watch::new(&metric("val", true), false).is_err());
    }
}
