//! `x[...]`: items of lists, slices of tensors, gathers by integer tensors.

use super::statement::Body;
use super::value::Value;
use super::{Elaborator, Outcome};
use crate::diag::{Diagnostic, Span};
use crate::frontend::ast::{Expression, Subscript};
use crate::ir::dim::Dim;
use crate::ir::graph::ValueId;
use crate::ir::ops::primitive::Argument;

/// One axis of a subscript, evaluated.
enum Axis {
    /// A compile-time int: the axis goes.
    Int(Dim, Span),
    /// An integer tensor.
    Gather(Value, Span),
    Slice([Option<Dim>; 3]),
}

impl Elaborator<'_> {
    pub(super) fn index(
        &mut self,
        body: &mut Body,
        value: Value,
        value_span: Span,
        subscripts: &[Subscript],
        span: Span,
    ) -> Outcome<Value> {
        match &value {
            Value::Poison => Ok(Value::Poison),
            Value::List(items) | Value::Tuple(items) => {
                let tuple = matches!(value, Value::Tuple(_));
                self.index_list(body, items, tuple, subscripts, span)
            }
            Value::Tensor(id) => self.index_tensor(body, *id, value_span, subscripts, span),
            other => {
                let message = format!("{} cannot be indexed", self.describe(other));
                Err(self.error(value_span, message))
            }
        }
    }

    fn index_list(
        &mut self,
        body: &mut Body,
        items: &[Value],
        tuple: bool,
        subscripts: &[Subscript],
        span: Span,
    ) -> Outcome<Value> {
        let [subscript] = subscripts else {
            return Err(self.error(span, "a list has one axis"));
        };
        let length = items.len() as i64;
        match self.axis(body, subscript)? {
            None => Ok(Value::Poison),
            Some(Axis::Int(dim, at)) => match dim.constant().map(|i| if i < 0 { i + length } else { i }) {
                Some(i) if (0..length).contains(&i) => Ok(items[i as usize].clone()),
                _ => Err(self.error(at, format!("{dim} is out of range for a list of {length}"))),
            },
            Some(Axis::Gather(_, at)) => Err(self.error(at, "a list is indexed by an int known at compile time")),
            Some(Axis::Slice(parts)) => {
                let known: Vec<Option<i64>> = parts.iter().map(|p| p.as_ref().and_then(Dim::constant)).collect();
                if parts.iter().zip(&known).any(|(p, k)| p.is_some() && k.is_none()) {
                    return Err(self.error(span, "the ends of a slice of a list are known at compile time"));
                }
                let picked = slice_places(known[0], known[1], known[2].unwrap_or(1), length);
                let Some(picked) = picked else {
                    return Err(self.error(span, "a slice of a list has a step other than 0"));
                };
                let chosen: Vec<Value> = picked.into_iter().map(|i| items[i].clone()).collect();
                Ok(if tuple { Value::tuple(chosen) } else { Value::list(chosen) })
            }
        }
    }

    fn index_tensor(
        &mut self,
        body: &mut Body,
        id: ValueId,
        value_span: Span,
        subscripts: &[Subscript],
        span: Span,
    ) -> Outcome<Value> {
        let ty = self.builder.type_of(id).clone();
        let rest = subscripts.iter().filter(|s| matches!(s, Subscript::Rest(_))).count();
        let written = subscripts.len() - rest;
        if rest > 1 {
            return Err(self.error(span, "`..` stands once in a subscript"));
        }
        if written > ty.rank() {
            let message = format!("{written} subscripts for {ty}, which has {} dims", ty.rank());
            let diagnostic = self.with_origin(Diagnostic::error(span, message), &Value::Tensor(id));
            return Err(self.fail(diagnostic));
        }
        let mut axes = Vec::new();
        for subscript in subscripts {
            match subscript {
                Subscript::Rest(_) => axes.extend((0..ty.rank() - written).map(|_| Axis::Slice([None, None, None]))),
                other => match self.axis(body, other)? {
                    Some(axis) => axes.push(axis),
                    None => return Ok(Value::Poison),
                },
            }
        }
        let sliced = self.slice_axes(id, value_span, &axes, span)?;
        self.pick_axes(sliced, value_span, axes, span)
    }

    /// The slices, all in one operation.
    fn slice_axes(&mut self, id: ValueId, value_span: Span, axes: &[Axis], span: Span) -> Outcome<Value> {
        let part = |at: usize| {
            let entries = axes.iter().map(|axis| match axis {
                Axis::Slice(parts) => parts[at].clone().map_or(Argument::Nothing, Argument::Int),
                _ => Argument::Nothing,
            });
            Some(Argument::List(entries.collect()))
        };
        let arguments = vec![Some(Argument::Tensor(id)), part(0), part(1), part(2)];
        self.operation_with("slice", arguments, (Value::Tensor(id), value_span), span)
    }

    /// Ints, from the last axis to the first, so that earlier axes keep their numbers; then integer tensors.
    fn pick_axes(&mut self, value: Value, value_span: Span, axes: Vec<Axis>, span: Span) -> Outcome<Value> {
        let mut value = value;
        for (at, axis) in axes.iter().enumerate().rev() {
            if let Axis::Int(dim, index_span) = axis {
                let (index, place) = (Value::Int(dim.clone()), Self::length_value(at));
                value = self.operation("gather", &[(value, value_span), (index, *index_span), (place, span)], span)?;
            }
        }
        let left = axes.into_iter().filter(|axis| !matches!(axis, Axis::Int(..))).enumerate();
        let gathers: Vec<(usize, Value, Span)> = left
            .filter_map(|(at, axis)| match axis {
                Axis::Gather(tensor, span) => Some((at, tensor, span)),
                _ => None,
            })
            .collect();
        match gathers.as_slice() {
            [] => Ok(value),
            [(at, tensor, index_span)] => {
                let place = Self::length_value(*at);
                self.operation("gather", &[(value, value_span), (tensor.clone(), *index_span), (place, span)], span)
            }
            [(_, _, first), ..] => {
                let places = Value::list(gathers.iter().map(|(at, ..)| Self::length_value(*at)).collect());
                let tensors = Value::list(gathers.iter().map(|(_, tensor, _)| tensor.clone()).collect());
                self.operation("index_at", &[(value, value_span), (places, span), (tensors, *first)], span)
            }
        }
    }

    /// Evaluates one subscript; `None` if it is poisoned.
    fn axis(&mut self, body: &mut Body, subscript: &Subscript) -> Outcome<Option<Axis>> {
        Ok(Some(match subscript {
            Subscript::At(e) => match self.expression(body, e)? {
                Value::Int(dim) => Axis::Int(dim, e.span),
                tensor @ Value::Tensor(_) => Axis::Gather(tensor, e.span),
                Value::Poison => return Ok(None),
                list @ Value::List(_) => {
                    let dtype = Value::DType(crate::ir::types::DType::I32);
                    Axis::Gather(self.operation("tensor", &[(list, e.span), (dtype, e.span)], e.span)?, e.span)
                }
                other => {
                    let message = format!("an index is an int or an integer tensor, not {}", self.describe(&other));
                    return Err(self.error(e.span, message));
                }
            },
            Subscript::Slice { start, stop, step, .. } => {
                let mut parts = [None, None, None];
                for (part, e) in parts.iter_mut().zip([start, stop, step]) {
                    if let Some(e) = e {
                        match self.slice_end(body, e)? {
                            Some(dim) => *part = Some(dim),
                            None => return Ok(None),
                        }
                    }
                }
                Axis::Slice(parts)
            }
            Subscript::Rest(_) => Axis::Slice([None, None, None]),
        }))
    }

    fn slice_end(&mut self, body: &mut Body, e: &Expression) -> Outcome<Option<Dim>> {
        match self.expression(body, e)? {
            Value::Int(dim) => Ok(Some(dim)),
            Value::Poison => Ok(None),
            other => {
                let message =
                    format!("the ends of a slice are ints known at compile time, not {}", self.describe(&other));
                Err(self.error(e.span, message))
            }
        }
    }
}

/// The places that a slice of a list takes, as in Python; `None` if the step is 0.
fn slice_places(start: Option<i64>, stop: Option<i64>, step: i64, length: i64) -> Option<Vec<usize>> {
    let from_end = |i: i64| if i < 0 { i.saturating_add(length) } else { i };
    let (low, high) = if step > 0 { (0, length) } else { (-1, length - 1) };
    let first = start.map_or(if step > 0 { low } else { high }, |s| from_end(s).clamp(low, high));
    let last = stop.map_or(if step > 0 { high } else { low }, |s| from_end(s).clamp(low, high));
    let mut places = Vec::new();
    let mut at = first;
    while (step > 0 && at < last) || (step < 0 && at > last) {
        places.push(usize::try_from(at).ok()?);
        at = at.checked_add(step)?;
    }
    (step != 0).then_some(places)
}
