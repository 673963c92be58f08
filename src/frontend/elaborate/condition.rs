//! What a recipe says of losses and metrics: their names, and conditions on them.

use super::statement::Body;
use super::{Elaborator, Failure, Outcome};
use crate::diag::{Diagnostic, Span, nearest};
use crate::frontend::ast::{BinaryOperator, Expression, ExpressionKind, UnaryOperator};
use crate::frontend::model::{Comparison, Condition, MetricName, Quantity};
use crate::ir::graph::ResultRole;

impl Elaborator<'_> {
    /// `val.accuracy`, `train.ce`, or the name alone.
    pub(super) fn metric_name(&mut self, e: &Expression) -> Outcome<MetricName> {
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
        let smaller_is_better = result.smaller_is_better;
        let (whole, rank) = (result.whole, self.builder.type_of(result.value).rank());
        if rank > 0 {
            return Err(self.error(span, format!("`{name}` is no single number to compare")));
        }
        if whole && split == "train" {
            let diagnostic = Diagnostic::error(
                span,
                format!("`{name}` is a metric of a whole set, which the training rows are not measured by"),
            );
            return Err(self.fail(diagnostic.help(format!("write `val.{name}`"))));
        }
        Ok(MetricName { split, name: name.to_string(), smaller_is_better, span })
    }

    pub(super) fn unknown_result(&mut self, name: &str, span: Span, what: &str) -> Failure {
        let wanted = |role: ResultRole| role == ResultRole::Loss || (what != "loss" && role == ResultRole::Metric);
        let known: Vec<String> = self.results.iter().filter(|r| wanted(r.role)).map(|r| r.name.clone()).collect();
        let diagnostic = Diagnostic::error(span, format!("the model has no {what} `{name}`"));
        self.fail(match nearest(name, known.iter().map(String::as_str)) {
            Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
            // The loss may be missing because its own equation is wrong, which has been said.
            None if self.failed => return Failure::Reported,
            None if known.is_empty() => diagnostic.help("it has none"),
            None => diagnostic.help(format!("it has {}", known.join(", "))),
        })
    }

    /// `val.ce < 0.01 and epoch > 3`.
    pub(super) fn condition(&mut self, body: &mut Body, e: &Expression) -> Outcome<Condition> {
        match &e.kind {
            ExpressionKind::Unary { operator: UnaryOperator::Not, operand } => {
                Ok(Condition::Not(Box::new(self.condition(body, operand)?)))
            }
            ExpressionKind::Binary { operator: BinaryOperator::And, left, right, .. } => {
                Ok(Condition::And(Box::new(self.condition(body, left)?), Box::new(self.condition(body, right)?)))
            }
            ExpressionKind::Binary { operator: BinaryOperator::Or, left, right, .. } => {
                Ok(Condition::Or(Box::new(self.condition(body, left)?), Box::new(self.condition(body, right)?)))
            }
            ExpressionKind::Binary { operator, left, right, .. } if comparison(*operator).is_some() => {
                let comparison = comparison(*operator).expect("the guard asked");
                let left = self.quantity(body, left)?;
                let right = self.quantity(body, right)?;
                Ok(Condition::Compare { comparison, left, right })
            }
            _ => {
                let diagnostic = Diagnostic::error(e.span, "`stop when` takes a condition on losses and metrics");
                let help = "write `stop when val.NAME < 0.01` or `stop when val.NAME has not improved for 3 epochs`";
                Err(self.fail(diagnostic.help(help)))
            }
        }
    }

    fn quantity(&mut self, body: &mut Body, e: &Expression) -> Outcome<Quantity> {
        match &e.kind {
            ExpressionKind::Name(name) if &**name == "epoch" => return Ok(Quantity::Epoch),
            ExpressionKind::Name(name) if &**name == "step" => return Ok(Quantity::Step),
            ExpressionKind::Name(name) if self.is_reported(name) => return self.metric_name(e).map(Quantity::Metric),
            ExpressionKind::Field { .. } => return self.metric_name(e).map(Quantity::Metric),
            ExpressionKind::Name(name) if body.env.get(name).is_none() => {
                return Err(self.unknown_result(name, e.span, "loss or metric"));
            }
            _ => {}
        }
        let value = self.expression(body, e)?;
        match value.as_number() {
            Some(number) => Ok(Quantity::Number(number)),
            None if value.is_poison() => Err(Failure::Reported),
            None => {
                let message =
                    format!("a loss, a metric, `epoch`, `step` or a number is compared, not {}", self.describe(&value));
                Err(self.error(e.span, message))
            }
        }
    }

    fn is_reported(&self, name: &str) -> bool {
        self.results.iter().any(|r| r.name == *name && r.role != ResultRole::Output)
    }
}

fn comparison(operator: BinaryOperator) -> Option<Comparison> {
    Some(match operator {
        BinaryOperator::Equal => Comparison::Equal,
        BinaryOperator::NotEqual => Comparison::NotEqual,
        BinaryOperator::Less => Comparison::Less,
        BinaryOperator::LessEqual => Comparison::LessEqual,
        BinaryOperator::Greater => Comparison::Greater,
        BinaryOperator::GreaterEqual => Comparison::GreaterEqual,
        _ => return None,
    })
}
