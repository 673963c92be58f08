//! When to stop and which weights to keep: `stop when val.ce has not improved for 3 epochs`, `keep best val.accuracy`.

use crate::diag::Diagnostic;
use crate::frontend::model::MetricName;

use super::event::Values;

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
        if metric.split == "val" && !has_validation {
            let message = format!("`val.{}` needs validation rows", metric.name);
            return Err(Diagnostic::error(metric.span, message).help("add `validate 0.1` to the train block"));
        }
        Ok(Watch { metric: metric.clone(), best: None, since: 0 })
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
        let mut see = |value| watch.observe(&Values::default(), Some(&Values(vec![("m".into(), value)])));
        assert!(!see(f64::NAN));
        assert!(see(2.0) && see(1.0) && !see(1.0) && !see(1.5));
        assert_eq!(watch.since, 2);
        let mut watch = Watch::new(&metric("train", false), false).unwrap();
        let mut see = |value| watch.observe(&Values(vec![("m".into(), value)]), None);
        assert!(see(0.1) && see(0.2) && !see(0.15));
        assert!(Watch::new(&metric("val", true), false).is_err());
    }
}
