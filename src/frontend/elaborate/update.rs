//! What happens to gradients before an optimizer sees them, and to parameters after it: accumulation, clipping, averages.
//!
//! All of it is part of the training step, a function of its arguments alone: what is kept between steps are states like an
//! optimizer's, and which step makes an update is a function of the step's number.

use super::member::Member;
use super::optimizer::Training;
use super::replay::Updates;
use super::statement::Body;
use super::{Elaborator, Outcome};
use crate::diag::Span;
use crate::frontend::model::Clip;
use crate::ir::graph::{Role, ValueId};
use crate::ir::scalar::{Monoid, ScalarFunction};
use crate::ir::types::{DType, TensorType};

/// The name of a parameter's moving average among the optimizer's states.
pub const AVERAGE: &str = "average.ema/";

impl Elaborator<'_> {
    /// Updates the parameters of one objective by its gradients.
    pub(super) fn update_all(
        &mut self,
        body: &mut Body,
        training: &Training<'_>,
        trained: &[usize],
        gradients: Vec<ValueId>,
        clip: &[Clip],
    ) -> Outcome<()> {
        let mut gradients: Vec<ValueId> = trained
            .iter()
            .zip(gradients)
            .map(|(at, gradient)| self.accumulated(*at, gradient, training.accumulate))
            .collect();
        for clip in clip {
            match clip {
                Clip::Norm(limit) => self.clip_norm(&mut gradients, *limit),
                Clip::Value(limit) => self.clip_values(&mut gradients, *limit),
            }
        }
        let mut updates = Updates::default();
        for (at, gradient) in trained.iter().zip(gradients) {
            let (before, states) = (self.members[*at].current, self.optimizer_states.len());
            self.train(body, training, &mut updates, *at, gradient)?;
            if training.accumulate > 1 {
                self.only_when_updating(*at, before, states, training.accumulate);
            }
        }
        Ok(())
    }

    /// The type in which a parameter is updated: one stored in half is updated in f32, and its states are f32.
    pub(super) fn update_type(&self, at: usize) -> TensorType {
        let stored = &self.members[at].ty;
        if stored.dtype.is_half() { stored.with_dtype(DType::F32) } else { stored.clone() }
    }

    /// The mean of the gradients of the last `steps` steps, in the type of the update.
    fn accumulated(&mut self, at: usize, gradient: ValueId, steps: u64) -> ValueId {
        let ty = self.update_type(at);
        let gradient = self.builder.cast(gradient, ty.dtype);
        if steps == 1 {
            return gradient;
        }
        let path = format!("accumulate.gradient/{}", self.members[at].path);
        let (state, sum) = self.zero_state(path, ty, self.members[at].span);
        let first = self.step_is(1, steps);
        let more = self.builder.apply(ScalarFunction::Add, &[sum, gradient]);
        let sum = self.select(first, gradient, more);
        self.optimizer_states[state].current = sum;
        let count = self.builder.constant_like(steps as f64, sum);
        self.builder.apply(ScalarFunction::Div, &[sum, count])
    }

    /// Keeps the parameter and its optimizer's states (those from number `states` on) as they were, but in every `steps`-th step.
    fn only_when_updating(&mut self, at: usize, before: ValueId, states: usize, steps: u64) {
        let updates = self.step_is(0, steps);
        let new = self.members[at].current;
        self.members[at].current = self.select(updates, new, before);
        for state in states..self.optimizer_states.len() {
            let Member { current, argument, .. } = self.optimizer_states[state];
            if current != argument {
                self.optimizer_states[state].current = self.select(updates, current, argument);
            }
        }
    }

    /// Scales all gradients by `limit / norm` where the norm over all of them is larger.
    fn clip_norm(&mut self, gradients: &mut [ValueId], limit: f64) {
        let double = gradients.iter().any(|g| self.builder.dtype_of(*g) == DType::F64);
        let dtype = if double { DType::F64 } else { DType::F32 };
        let mut total = self.builder.constant(0.0, dtype, &[]);
        for gradient in gradients.iter() {
            let square = self.builder.apply(ScalarFunction::Mul, &[*gradient, *gradient]);
            let axes: Vec<usize> = (0..self.builder.type_of(square).rank()).collect();
            let sum = self.builder.reduce(Monoid::Sum, square, &axes, false).expect("all axes of a float tensor");
            let sum = self.builder.cast(sum, dtype);
            total = self.builder.apply(ScalarFunction::Add, &[total, sum]);
        }
        let norm = self.builder.apply(ScalarFunction::Sqrt, &[total]);
        let limit = self.builder.constant(limit, dtype, &[]);
        let larger = self.builder.apply(ScalarFunction::Max, &[norm, limit]);
        let scale = self.builder.apply(ScalarFunction::Div, &[limit, larger]);
        for gradient in gradients {
            let scale = self.builder.cast(scale, self.builder.dtype_of(*gradient));
            *gradient = self.builder.map(ScalarFunction::Mul, &[*gradient, scale]).expect("a scalar of its dtype");
        }
    }

    fn clip_values(&mut self, gradients: &mut [ValueId], limit: f64) {
        for gradient in gradients {
            let (low, high) =
                (self.builder.constant_like(-limit, *gradient), self.builder.constant_like(limit, *gradient));
            let below = self.builder.apply(ScalarFunction::Min, &[*gradient, high]);
            *gradient = self.builder.apply(ScalarFunction::Max, &[below, low]);
        }
    }

    /// Moving averages of all trained parameters: `average <- decay * average + (1 - decay) * param` after each update, beginning
    /// with the parameter as it is before the first.
    pub(super) fn average_parameters(&mut self, decay: f64, steps: u64) {
        for at in 0..self.members.len() {
            let Member { argument, current, path, span, is_parameter, .. } = self.members[at].clone();
            if !is_parameter || argument == current {
                continue;
            }
            let ty = self.update_type(at);
            let (old, new) = (self.builder.cast(argument, ty.dtype), self.builder.cast(current, ty.dtype));
            let (state, average) = self.zero_state(format!("{AVERAGE}{path}"), ty, span);
            let started = self.step_at_most(steps);
            let average = self.select(started, old, average);
            let (keep, add) = (self.builder.constant_like(decay, old), self.builder.constant_like(1.0 - decay, old));
            let kept = self.builder.apply(ScalarFunction::Mul, &[keep, average]);
            let added = self.builder.apply(ScalarFunction::Mul, &[add, new]);
            let mut next = self.builder.apply(ScalarFunction::Add, &[kept, added]);
            if steps > 1 {
                let updates = self.step_is(0, steps);
                next = self.select(updates, next, average);
            }
            self.optimizer_states[state].current = next;
        }
    }

    /// The number of an update, from 1: steps without those that only accumulate, times the updates of one step.
    pub(super) fn update_number(&mut self, accumulate: u64, times: u64, turn: u64) -> ValueId {
        let mut number = self.step_argument();
        if accumulate > 1 {
            number = self.step_map(ScalarFunction::Add, number, accumulate - 1);
            number = self.step_map(ScalarFunction::Div, number, accumulate);
        }
        if times > 1 {
            number = self.step_map(ScalarFunction::Sub, number, 1);
            number = self.step_map(ScalarFunction::Mul, number, times);
            number = self.step_map(ScalarFunction::Add, number, turn + 1);
        }
        number
    }

    fn step_map(&mut self, function: ScalarFunction, step: ValueId, number: u64) -> ValueId {
        let number = self.builder.constant(number as f64, DType::I32, &[]);
        self.builder.apply(function, &[step, number])
    }

    /// Whether the step's number leaves `rest` when divided by `by`.
    fn step_is(&mut self, rest: u64, by: u64) -> ValueId {
        let step = self.step_argument();
        let left = self.step_map(ScalarFunction::Mod, step, by);
        self.step_map(ScalarFunction::Equal, left, rest)
    }

    fn step_at_most(&mut self, most: u64) -> ValueId {
        let step = self.step_argument();
        self.step_map(ScalarFunction::LessEqual, step, most)
    }

    fn select(&mut self, condition: ValueId, then: ValueId, otherwise: ValueId) -> ValueId {
        let operands = [condition, then, otherwise];
        self.builder.map(ScalarFunction::Select, &operands).expect("a scalar condition and two of one type")
    }

    /// A state of the training step that begins with zeros: its place among the optimizer's states, and its value.
    fn zero_state(&mut self, path: String, ty: TensorType, span: Span) -> (usize, ValueId) {
        let initial = self.builder.constant(0.0, ty.dtype, &ty.shape);
        let argument = self.argument(path.clone(), Role::OptimizerState, ty.clone());
        self.optimizer_state_index.insert(path.clone(), self.optimizer_states.len());
        self.optimizer_states.push(Member {
            path,
            ty,
            is_parameter: false,
            frozen: false,
            span,
            used: span,
            argument,
            current: argument,
            initial: Some(initial),
        });
        (self.optimizer_states.len() - 1, argument)
    }
}
