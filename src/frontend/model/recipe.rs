//! A recipe as the trainer sees it: one phase of it, with the command line's changes applied.

use crate::diag::Span;

/// The name of the only phase of a recipe without `phase` blocks.
pub const MAIN_PHASE: &str = "main";

/// One phase of a typed `train` block.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// The phase that this is.
    pub phase: String,
    /// The names of all phases, in the order in which they run.
    pub phases: Vec<String>,
    /// Passes over the training rows.
    pub epochs: Option<u64>,
    /// Training steps; whichever of `epochs` and `steps` ends first ends the phase. At least one is given.
    pub steps: Option<u64>,
    /// Rows per step.
    pub batch: u64,
    pub seed: u64,
    pub shuffle: bool,
    pub validate: Option<Validate>,
    pub minimize: Vec<Minimize>,
    /// What is done to gradients, in order.
    pub clip: Vec<Clip>,
    /// Steps whose gradients make one update; 1 where nothing is accumulated.
    pub accumulate: u64,
    /// The decay of the parameters' moving averages, where there are any.
    pub average: Option<f64>,
    /// Weight files read before the phase.
    pub load: Vec<Load>,
    pub stop: Vec<Stop>,
    pub keep_best: Option<MetricName>,
    pub checkpoint: Option<Every>,
    /// From `train` to the closing bracket.
    pub span: Span,
}

impl Recipe {
    /// The place of this phase among all.
    pub fn phase_number(&self) -> usize {
        self.phases.iter().position(|p| *p == self.phase).unwrap_or(0)
    }

    /// The seed of the phase's draws: the recipe's own in the first, another in each further one, whose steps count from 1 again.
    pub fn phase_seed(&self) -> u64 {
        self.seed.wrapping_add((self.phase_number() as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }
}

/// Where validation rows come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Validate {
    /// The last part of the training rows, in `0..1` (exclusive).
    Fraction(f64),
    /// A split of the data block.
    Split(String),
}

/// `minimize LOSS over ... with OPTIMIZER times K`.
#[derive(Clone, Debug)]
pub struct Minimize {
    pub loss: String,
    /// The optimizer's name.
    pub optimizer: String,
    /// Updates in each step.
    pub times: u64,
    /// Indices into [`CheckedModel::parameters`](super::CheckedModel::parameters) of what it trains.
    pub parameters: Vec<usize>,
    pub span: Span,
}

/// A limit on the gradients of one `minimize`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Clip {
    /// On the root of the sum of all their squares; all are scaled alike.
    Norm(f64),
    /// On every element's size.
    Value(f64),
}

/// `load "w.safetensors" into backbone`.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// Relative to the `.nn` file.
    pub path: String,
    /// The path of the layer that takes the weights; the whole model without one.
    pub into: Option<String>,
    pub span: Span,
}

/// How often something is done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Every {
    Epochs(u64),
    Steps(u64),
    Minutes(f64),
}

/// `val.accuracy`, or `accuracy` alone.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricName {
    /// `train` or `val`; `val` if the recipe did not say.
    pub split: String,
    /// A loss or metric of the model.
    pub name: String,
    /// Whether a smaller value is better: true for losses, and for metrics that are distances.
    pub smaller_is_better: bool,
    pub span: Span,
}

/// What ends a phase before its last epoch; asked after every epoch.
#[derive(Clone, Debug, PartialEq)]
pub enum Stop {
    /// `stop when METRIC has not improved for N epochs`.
    NotImproved { metric: MetricName, epochs: u64 },
    /// `stop when val.ce < 0.01`, with the condition as it is written.
    When { condition: Condition, text: String },
}

/// A condition on the numbers of an epoch.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    Compare { comparison: Comparison, left: Quantity, right: Quantity },
    And(Box<Condition>, Box<Condition>),
    Or(Box<Condition>, Box<Condition>),
    Not(Box<Condition>),
}

/// How two quantities are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

/// A number of an epoch.
#[derive(Clone, Debug, PartialEq)]
pub enum Quantity {
    Number(f64),
    Metric(MetricName),
    /// The number of the epoch in its phase, from 1.
    Epoch,
    /// The steps of the phase so far.
    Step,
}

impl Condition {
    /// The metrics that it asks for.
    pub fn metrics(&self) -> Vec<&MetricName> {
        match self {
            Condition::Compare { left, right, .. } => [left, right]
                .into_iter()
                .filter_map(|quantity| match quantity {
                    Quantity::Metric(metric) => Some(metric),
                    _ => None,
                })
                .collect(),
            Condition::And(a, b) | Condition::Or(a, b) => a.metrics().into_iter().chain(b.metrics()).collect(),
            Condition::Not(a) => a.metrics(),
        }
    }

    /// Whether it holds; `value` says what a quantity is, NaN where it is not known.
    pub fn holds(&self, value: &dyn Fn(&Quantity) -> f64) -> bool {
        match self {
            Condition::Compare { comparison, left, right } => {
                let (left, right) = (value(left), value(right));
                match comparison {
                    Comparison::Equal => left == right,
                    Comparison::NotEqual => left != right,
                    Comparison::Less => left < right,
                    Comparison::LessEqual => left <= right,
                    Comparison::Greater => left > right,
                    Comparison::GreaterEqual => left >= right,
                }
            }
            Condition::And(a, b) => a.holds(value) && b.holds(value),
            Condition::Or(a, b) => a.holds(value) || b.holds(value),
            Condition::Not(a) => !a.holds(value),
        }
    }
}
