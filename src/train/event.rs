//! What a training run reports: the lines of `--json` and `--history`.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

/// A loss or metric: a number, or what a metric of a whole set yields.
#[derive(Clone, Debug, PartialEq)]
pub enum Measured {
    Number(f64),
    /// Row-major elements under sizes.
    Array(Vec<usize>, Vec<f64>),
}

impl From<f64> for Measured {
    fn from(value: f64) -> Measured {
        Measured::Number(value)
    }
}

impl Serialize for Measured {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Measured::Number(x) => serializer.serialize_f64(*x),
            Measured::Array(shape, elements) => nested(shape, elements).serialize(serializer),
        }
    }
}

/// Elements as lists in lists.
fn nested(shape: &[usize], elements: &[f64]) -> serde_json::Value {
    match shape {
        [] => elements.first().copied().into(),
        [_, rest @ ..] => {
            let each = rest.iter().product::<usize>().max(1);
            elements.chunks(each).map(|part| nested(rest, part)).collect()
        }
    }
}

/// Losses and metrics by name, in the order of the model; metrics of a whole set last.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Values(pub Vec<(String, Measured)>);

impl Values {
    /// The value called `name`.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.iter().find(|(n, _)| n == name).and_then(|(_, value)| match value {
            Measured::Number(x) => Some(*x),
            Measured::Array(..) => None,
        })
    }
}

impl Serialize for Values {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// One line of the history.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event {
    /// Before the first step.
    Start(Start),
    /// After a step, as often as asked for.
    Step {
        /// From 1.
        step: u64,
        train: Values,
    },
    /// After an epoch and its validation.
    Epoch(Epoch),
    /// After the last epoch and the test.
    Done(Done),
}

/// What is about to be trained, once for each phase.
#[derive(Clone, Debug, Serialize)]
pub struct Start {
    pub model: String,
    /// The phase of the recipe, `main` if it has none.
    pub phase: String,
    /// Numbers in all parameters and states.
    pub parameters: usize,
    pub trainable: usize,
    pub compile_ms: f64,
    /// Training rows; absent if the data has no rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub val_rows: Option<usize>,
    pub batch: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    pub seed: u64,
    /// The steps that the checkpoint had done, where training is resumed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resumed: Option<u64>,
}

/// One pass over the training rows, or the part of it that `steps` allowed.
#[derive(Clone, Debug, Serialize)]
pub struct Epoch {
    pub phase: String,
    /// From 1 in each phase.
    pub epoch: u64,
    /// Steps done so far, in all phases.
    pub step: u64,
    pub seconds: f64,
    /// Seconds that the step waited for data.
    pub data_wait: f64,
    /// Means over the rows of the epoch.
    pub train: Values,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub val: Option<Values>,
}

/// The end.
#[derive(Clone, Debug, Serialize)]
pub struct Done {
    pub steps: u64,
    pub seconds: f64,
    /// Why training ended before its last epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
    /// The epoch whose weights were kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best_epoch: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<Values>,
    /// Where the weights were saved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_as_documented() {
        let values = |list: &[(&str, f64)]| Values(list.iter().map(|(n, v)| (n.to_string(), (*v).into())).collect());
        let step = Event::Step { step: 1, train: values(&[("ce", 2.5)]) };
        assert_eq!(serde_json::to_string(&step).unwrap(), r#"{"event":"step","step":1,"train":{"ce":2.5}}"#);
        let epoch = Event::Epoch(Epoch {
            phase: "main".into(),
            epoch: 1,
            step: 422,
            seconds: 1.5,
            data_wait: 0.25,
            train: values(&[("ce", 0.5)]),
            val: Some(values(&[("ce", 0.25), ("accuracy", 0.75)])),
        });
        assert_eq!(
            serde_json::to_string(&epoch).unwrap(),
            r#"{"event":"epoch","phase":"main","epoch":1,"step":422,"seconds":1.5,"data_wait":0.25,"train":{"ce":0.5},"val":{"ce":0.25,"accuracy":0.75}}"#
        );
    }
}
