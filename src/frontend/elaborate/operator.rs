//! Operators: folded on compile-time values, primitives of the graph on tensors.

use std::sync::Arc;

use super::value::Value;
use super::{Elaborator, Outcome, limits};
use crate::diag::{Diagnostic, Span};
use crate::frontend::ast::{BinaryOperator, UnaryOperator};
use crate::ir::dim::Dim;
use crate::ir::types::TensorType;

/// The primitive behind an operator.
fn primitive_name(operator: BinaryOperator) -> &'static str {
    match operator {
        BinaryOperator::Or => "or",
        BinaryOperator::And => "and",
        BinaryOperator::Equal => "equal",
        BinaryOperator::NotEqual => "not_equal",
        BinaryOperator::Less => "less",
        BinaryOperator::LessEqual => "less_equal",
        BinaryOperator::Greater => "greater",
        BinaryOperator::GreaterEqual => "greater_equal",
        BinaryOperator::Add => "add",
        BinaryOperator::Subtract => "sub",
        BinaryOperator::Multiply => "mul",
        BinaryOperator::Divide => "div",
        BinaryOperator::FloorDivide => "floor_div",
        BinaryOperator::Remainder => "mod",
        BinaryOperator::MatrixProduct => "matmul",
        BinaryOperator::Power => "pow",
    }
}

/// The message of a primitive that an operator stands for, with the operator as written.
pub(super) fn with_symbol(name: &str, message: &str) -> String {
    use BinaryOperator as B;
    let arithmetic = [B::Add, B::Subtract, B::Multiply, B::Divide, B::FloorDivide, B::Remainder, B::Power];
    let compared = [B::Equal, B::NotEqual, B::Less, B::LessEqual, B::Greater, B::GreaterEqual, B::MatrixProduct];
    let all = arithmetic.into_iter().chain(compared);
    match all.into_iter().find(|o| primitive_name(*o) == name) {
        Some(operator) => message.replace(&format!("`{name}`"), &format!("`{}`", operator.symbol())),
        None => message.to_owned(),
    }
}

impl Elaborator<'_> {
    pub(super) fn unary(&mut self, operator: UnaryOperator, value: Value, operand: Span, span: Span) -> Outcome<Value> {
        match (operator, value) {
            (_, Value::Poison) => Ok(Value::Poison),
            (UnaryOperator::Negate, Value::Int(d)) => match Dim::from(0i64).sub(&d) {
                Some(negated) => Ok(Value::Int(negated)),
                None => Err(self.error(span, "this integer does not fit 64 bits")),
            },
            (UnaryOperator::Negate, Value::Float(x)) => Ok(Value::Float(-x)),
            (UnaryOperator::Not, Value::Bool(b)) => Ok(Value::Bool(!b)),
            (UnaryOperator::Negate, tensor @ Value::Tensor(_)) => self.operation("neg", &[(tensor, operand)], span),
            (UnaryOperator::Not, tensor @ Value::Tensor(_)) => self.operation("not", &[(tensor, operand)], span),
            (operator, other) => {
                let word = if operator == UnaryOperator::Negate { "`-`" } else { "`not`" };
                let message = format!("{word} does not apply to {}", self.describe(&other));
                Err(self.error(operand, message))
            }
        }
    }

    pub(super) fn binary(
        &mut self,
        operator: BinaryOperator,
        left: (Value, Span),
        right: (Value, Span),
        operator_span: Span,
    ) -> Outcome<Value> {
        let span = left.1.to(right.1);
        match (&left.0, &right.0) {
            (Value::Poison, _) | (_, Value::Poison) => Ok(Value::Poison),
            (Value::Tensor(_), _) | (_, Value::Tensor(_)) => {
                self.operation(primitive_name(operator), &[left, right], span)
            }
            (Value::Int(a), Value::Int(b)) => self.int_binary(operator, &a.clone(), &b.clone(), span),
            (Value::Int(_) | Value::Float(_), Value::Int(_) | Value::Float(_)) => {
                match (left.0.as_number(), right.0.as_number()) {
                    (Some(a), Some(b)) => self.float_binary(operator, a, b, span, (&left.0, &right.0)),
                    // A size not known yet meets a float: the result is a number of the running program.
                    _ => self.operation(primitive_name(operator), &[left, right], span),
                }
            }
            (Value::Bool(a), Value::Bool(b)) if operator == BinaryOperator::And => Ok(Value::Bool(*a && *b)),
            (Value::Bool(a), Value::Bool(b)) if operator == BinaryOperator::Or => Ok(Value::Bool(*a || *b)),
            (Value::List(a), Value::List(b)) if operator == BinaryOperator::Add => {
                self.check_length(a.len() + b.len(), span)?;
                Ok(Value::list(a.iter().chain(b.iter()).cloned().collect()))
            }
            (Value::Tuple(a), Value::Tuple(b)) if operator == BinaryOperator::Add => {
                self.check_length(a.len() + b.len(), span)?;
                Ok(Value::tuple(a.iter().chain(b.iter()).cloned().collect()))
            }
            (Value::Text(a), Value::Text(b)) if operator == BinaryOperator::Add => {
                if a.len() + b.len() > limits::TEXT_LENGTH {
                    return Err(self.error(span, format!("a string longer than {} bytes", limits::TEXT_LENGTH)));
                }
                Ok(Value::Text(Arc::from(format!("{a}{b}"))))
            }
            _ if matches!(operator, BinaryOperator::Equal | BinaryOperator::NotEqual) => {
                let equal = self.equal(&left.0, &right.0, span)?;
                Ok(Value::Bool(equal == (operator == BinaryOperator::Equal)))
            }
            _ => {
                let (a, b) = (self.describe(&left.0), self.describe(&right.0));
                let message = format!("`{}` does not apply to {a} and {b}", operator.symbol());
                Err(self.fail(Diagnostic::error(span, message).label(operator_span, "this operator")))
            }
        }
    }

    fn int_binary(&mut self, operator: BinaryOperator, a: &Dim, b: &Dim, span: Span) -> Outcome<Value> {
        let exact = match operator {
            BinaryOperator::Add => a.add(b),
            BinaryOperator::Subtract => a.sub(b),
            BinaryOperator::Multiply => a.mul(b),
            BinaryOperator::Divide | BinaryOperator::FloorDivide | BinaryOperator::Remainder if b.is(0) => {
                return Err(self.error(span, format!("division of {a} by zero")));
            }
            BinaryOperator::Divide => return self.exact_division(a, b, span),
            BinaryOperator::FloorDivide => match (a.constant(), b.constant()) {
                (Some(a), Some(b)) => floor_division(a, b).map(Dim::from),
                _ => match a.div_exact(b) {
                    Some(quotient) => Some(quotient),
                    None => return Err(self.unknown_size(operator.symbol(), a, b, span)),
                },
            },
            BinaryOperator::Remainder => match (a.constant(), b.constant()) {
                (Some(a), Some(b)) => {
                    floor_division(a, b).and_then(|q| a.checked_sub(q.checked_mul(b)?)).map(Dim::from)
                }
                _ if a.div_exact(b).is_some() => Some(Dim::from(0i64)),
                _ => return Err(self.unknown_size(operator.symbol(), a, b, span)),
            },
            BinaryOperator::Power => return self.int_power(a, b, span),
            BinaryOperator::MatrixProduct | BinaryOperator::And | BinaryOperator::Or => {
                return Err(self.error(span, format!("`{}` does not apply to the ints {a} and {b}", operator.symbol())));
            }
            _ => return self.compare_sizes(operator, a, b, span),
        };
        match exact {
            Some(value) => Ok(Value::Int(value)),
            None => Err(self.error(span, format!("the result of {a} {} {b} does not fit 64 bits", operator.symbol()))),
        }
    }

    fn exact_division(&mut self, a: &Dim, b: &Dim, span: Span) -> Outcome<Value> {
        if let Some(quotient) = a.div_exact(b) {
            return Ok(Value::Int(quotient));
        }
        let diagnostic = Diagnostic::error(span, format!("{b} does not divide {a} exactly"));
        let diagnostic = match (a.constant(), b.constant()) {
            (Some(x), Some(y)) => diagnostic.help(format!("`{x}//{y}` rounds down; `{x}.0 / {y}` is a float")),
            _ => diagnostic.note("sizes that are not known at compile time must divide for every value"),
        };
        Err(self.fail(diagnostic))
    }

    fn int_power(&mut self, a: &Dim, b: &Dim, span: Span) -> Outcome<Value> {
        let overflow = format!("{a}^{b} does not fit 64 bits");
        match (a.constant(), b.constant()) {
            (Some(base), Some(exponent)) if exponent < 0 => Ok(Value::Float((base as f64).powf(exponent as f64))),
            (Some(base), Some(exponent)) => match u32::try_from(exponent).ok().and_then(|e| base.checked_pow(e)) {
                Some(power) => Ok(Value::int(power)),
                None => Err(self.error(span, overflow)),
            },
            (None, Some(exponent @ 0..=8)) => {
                let power = (0..exponent).try_fold(Dim::from(1i64), |product, _| product.mul(a));
                power.map(Value::Int).ok_or_else(|| self.error(span, overflow))
            }
            _ => Err(self.unknown_size("^", a, b, span)),
        }
    }

    fn unknown_size(&mut self, operator: &str, a: &Dim, b: &Dim, span: Span) -> super::Failure {
        self.error(span, format!("`{a} {operator} {b}` is not known at compile time"))
    }

    fn compare_sizes(&mut self, operator: BinaryOperator, a: &Dim, b: &Dim, span: Span) -> Outcome<Value> {
        // The difference decides even where both sides are symbolic: n < n + 1.
        let Some(difference) = a.sub(b).and_then(|d| d.constant()) else {
            return Err(self.unknown_size(operator.symbol(), a, b, span));
        };
        Ok(Value::Bool(match operator {
            BinaryOperator::Equal => difference == 0,
            BinaryOperator::NotEqual => difference != 0,
            BinaryOperator::Less => difference < 0,
            BinaryOperator::LessEqual => difference <= 0,
            BinaryOperator::Greater => difference > 0,
            _ => difference >= 0,
        }))
    }

    fn float_binary(
        &mut self,
        operator: BinaryOperator,
        a: f64,
        b: f64,
        span: Span,
        operands: (&Value, &Value),
    ) -> Outcome<Value> {
        Ok(match operator {
            BinaryOperator::Add => Value::Float(a + b),
            BinaryOperator::Subtract => Value::Float(a - b),
            BinaryOperator::Multiply => Value::Float(a * b),
            BinaryOperator::Divide if b == 0.0 => return Err(self.error(span, format!("division of {a} by zero"))),
            BinaryOperator::Divide => Value::Float(a / b),
            BinaryOperator::FloorDivide | BinaryOperator::Remainder if b == 0.0 => {
                return Err(self.error(span, format!("division of {a} by zero")));
            }
            BinaryOperator::FloorDivide => Value::Float((a / b).floor()),
            BinaryOperator::Remainder => Value::Float(a - (a / b).floor() * b),
            BinaryOperator::Power => Value::Float(a.powf(b)),
            BinaryOperator::Equal => Value::Bool(a == b),
            BinaryOperator::NotEqual => Value::Bool(a != b),
            BinaryOperator::Less => Value::Bool(a < b),
            BinaryOperator::LessEqual => Value::Bool(a <= b),
            BinaryOperator::Greater => Value::Bool(a > b),
            BinaryOperator::GreaterEqual => Value::Bool(a >= b),
            BinaryOperator::MatrixProduct | BinaryOperator::And | BinaryOperator::Or => {
                let (x, y) = (self.describe(operands.0), self.describe(operands.1));
                return Err(self.error(span, format!("`{}` does not apply to {x} and {y}", operator.symbol())));
            }
        })
    }

    /// Whether two compile-time values are equal.
    fn equal(&mut self, a: &Value, b: &Value, span: Span) -> Outcome<bool> {
        Ok(match (a, b) {
            (Value::Int(x), Value::Int(y)) => match self.compare_sizes(BinaryOperator::Equal, x, y, span)? {
                Value::Bool(equal) => equal,
                _ => false,
            },
            (Value::Text(x), Value::Text(y)) => x == y,
            (Value::Bool(x), Value::Bool(y)) => x == y,
            (Value::DType(x), Value::DType(y)) => x == y,
            (Value::List(x), Value::List(y)) | (Value::Tuple(x), Value::Tuple(y)) => {
                if x.len() != y.len() {
                    return Ok(false);
                }
                for (a, b) in x.iter().zip(y.iter()) {
                    if !self.equal(a, b, span)? {
                        return Ok(false);
                    }
                }
                true
            }
            (Value::Tensor(_), _) | (_, Value::Tensor(_)) => {
                return Err(self.error(span, "lists of tensors are not compared at compile time"));
            }
            _ => match (a.as_number(), b.as_number()) {
                (Some(x), Some(y)) => x == y,
                _ => false,
            },
        })
    }

    /// Refuses tensors that no machine can hold.
    pub(super) fn check_tensor(&mut self, ty: &TensorType, span: Span) -> Outcome<()> {
        if ty.rank() > limits::RANK {
            return Err(self.error(span, format!("a tensor of {} dims: more than {}", ty.rank(), limits::RANK)));
        }
        if let Some(dim) = ty.shape.iter().find(|d| d.constant().is_some_and(|c| c < 0)) {
            return Err(self.error(span, format!("{ty} has a dim of negative size {dim}")));
        }
        if limits::too_large(ty) {
            let message = format!("{ty} has more than {} elements", limits::ELEMENTS);
            return Err(self.error(span, message));
        }
        Ok(())
    }
}

fn floor_division(a: i64, b: i64) -> Option<i64> {
    let quotient = a.checked_div(b)?;
    if a.checked_rem(b)? != 0 && (a < 0) != (b < 0) { quotient.checked_sub(1) } else { Some(quotient) }
}
