//! `scan`: a loop that runs at run time, whose body is elaborated once, over placeholders.
//!
//! The body is run in the same graph with placeholder values for the round's number, the carries and the elements; then what depends on them is cut
//! out as the body of a [`Scan`](crate::ir::ops::scan::Scan), see [`outline`](crate::ir::outline). A state that is set inside (`s <- ...`) becomes a carry.

use std::sync::Arc;

use super::statement::{Body, Flow};
use super::value::Value;
use super::{Elaborator, Failure, Outcome};
use crate::diag::{Diagnostic, Span};
use crate::frontend::ast::{self, Expression, ExpressionKind, Name};
use crate::ir::dim::Dim;
use crate::ir::graph::{Argument, ResultRole, Role, ValueId};
use crate::ir::ops::reshape::Reshape;
use crate::ir::ops::scan::Scan;
use crate::ir::outline::{self, Outline};
use crate::ir::scalar::ScalarFunction;
use crate::ir::types::{DType, TensorType};

/// What one name before `in` goes over.
enum Source {
    /// A tensor, the scanned axis first.
    Sequence(ValueId),
    /// The ints from this one on.
    Count(Dim),
}

/// The length of a scan, and the source that says so.
struct Length {
    dim: Dim,
    said_by: Arc<str>,
    span: Span,
}

/// A state of the model as it was when the scan began.
struct Entry {
    member: usize,
    before: ValueId,
    /// What its name means in the body: a value of its own, so that reads of it can be told apart.
    inside: ValueId,
}

/// The placeholders that the body was run over.
struct Placeholders {
    round: ValueId,
    carries: Vec<ValueId>,
    elements: Vec<ValueId>,
}

/// What the body came to.
struct Round {
    /// The next value of each carry.
    next: Vec<ValueId>,
    yields: Vec<ValueId>,
}

impl Elaborator<'_> {
    pub(super) fn scan(&mut self, body: &mut Body, scan: &ast::Scan) -> Outcome<()> {
        self.check_names(scan)?;
        let axis = self.scan_axis(body, scan.axis.as_ref())?;
        let (sources, length) = self.sources(body, scan, axis)?;
        let mut initial = Vec::new();
        for carry in &scan.carries {
            initial.push(self.first_value(body, carry)?);
        }
        let (first_member, told) = (self.members.len(), self.diagnostics.len());
        let entries = self.enter_states();
        let outcome = self.run_round(body, scan, &sources, &length.dim, &initial, &entries);
        let (placeholders, round) = match outcome {
            Ok(done) => done,
            Err(failure) => {
                entries.iter().for_each(|e| self.members[e.member].current = e.before);
                return Err(failure);
            }
        };
        let states = self.changed_states(entries, first_member);
        if round.next.is_empty() && round.yields.is_empty() && states.is_empty() {
            return Err(match self.diagnostics.len() > told {
                true => Failure::Reported,
                false => self.error(scan.span, "this scan carries nothing and yields nothing, so it does nothing"),
            });
        }
        let outputs = self.add_scan(scan, &sources, &length.dim, &initial, &placeholders, &round, &states)?;
        self.check_first_values(first_member, &placeholders)?;
        self.bind_results(body, scan, axis, &outputs, &states)
    }

    /// Two names for one thing hide each other.
    fn check_names(&mut self, scan: &ast::Scan) -> Outcome<()> {
        let names: Vec<&Name> =
            scan.sources.iter().map(|(n, _)| n).chain(scan.carries.iter().map(|c| &c.name)).collect();
        for (at, name) in names.iter().enumerate() {
            if let Some(first) = names[..at].iter().find(|n| n.text == name.text) {
                let message = format!("`{}` is named twice in one scan", name.text);
                return Err(self.fail(Diagnostic::error(name.span, message).label(first.span, "first here")));
            }
        }
        Ok(())
    }

    fn scan_axis(&mut self, body: &mut Body, axis: Option<&Expression>) -> Outcome<(i64, Option<Span>)> {
        let Some(axis) = axis else { return Ok((0, None)) };
        let value = self.expression(body, axis)?;
        if value.is_poison() {
            return Err(Failure::Reported);
        }
        match value.as_int() {
            Some(number) => Ok((number, Some(axis.span))),
            None => {
                let message = format!("an axis is an int known at compile time, this is {}", self.describe(&value));
                Err(self.error(axis.span, message))
            }
        }
    }

    /// What the names before `in` go over, with the length that they agree on.
    fn sources(
        &mut self,
        body: &mut Body,
        scan: &ast::Scan,
        axis: (i64, Option<Span>),
    ) -> Outcome<(Vec<Source>, Length)> {
        let mut sources = Vec::new();
        let mut agreed: Option<Length> = None;
        for (name, value) in &scan.sources {
            let (source, dim) = self.source(body, value, axis)?;
            match &agreed {
                None => agreed = Some(Length { dim, said_by: name.text.clone(), span: value.span }),
                Some(length) if length.dim != dim => {
                    let message = format!(
                        "`{}` has {} rounds, `{}` has {dim}: what a scan goes over has one length",
                        length.said_by, length.dim, name.text
                    );
                    let label = format!("{} rounds", length.dim);
                    return Err(self.fail(Diagnostic::error(value.span, message).label(length.span, label)));
                }
                Some(_) => {}
            }
            sources.push(source);
        }
        let Some(length) = agreed else { return Err(self.error(scan.span, "a scan goes over something")) };
        if length.dim.constant().is_some_and(|n| n > i64::from(i32::MAX)) {
            let message = format!("a scan of {} rounds: there can be at most {}", length.dim, i32::MAX);
            return Err(self.error(length.span, message));
        }
        Ok((sources, length))
    }

    fn source(&mut self, body: &mut Body, e: &Expression, axis: (i64, Option<Span>)) -> Outcome<(Source, Dim)> {
        if let ExpressionKind::Range { start, end } = &e.kind {
            return self.count_rounds(body, start, end, e.span);
        }
        let mut value = self.expression(body, e)?;
        if let Value::List(_) = value {
            value = self.operation("tensor", &[(value, e.span)], e.span)?;
        }
        match value {
            Value::Tensor(id) => self.sequence(id, e.span, axis),
            Value::Poison => Err(Failure::Reported),
            Value::Int(n) => {
                let message = "a scan goes over tensors or a range of ints, this is one int";
                Err(self.fail(Diagnostic::error(e.span, message).help(format!("for {n} rounds write `0..{n}`"))))
            }
            other => {
                let found = self.describe(&other);
                let message = "a scan goes over tensors or a range of ints";
                Err(self.fail(Diagnostic::error(e.span, message).primary(found)))
            }
        }
    }

    fn count_rounds(
        &mut self,
        body: &mut Body,
        start: &Expression,
        end: &Expression,
        span: Span,
    ) -> Outcome<(Source, Dim)> {
        let (from, to) = (self.expression(body, start)?, self.expression(body, end)?);
        match (&from, &to) {
            (Value::Poison, _) | (_, Value::Poison) => Err(Failure::Reported),
            (Value::Int(first), Value::Int(last)) => match last.sub(first) {
                Some(length) if length.constant().is_none_or(|n| n >= 0) => Ok((Source::Count(first.clone()), length)),
                _ => Err(self.error(span, format!("a scan over {first}..{last}: the end lies before the start"))),
            },
            _ => {
                let wrong = if matches!(from, Value::Int(_)) { &to } else { &from };
                let found = format!("found {}", self.describe(wrong));
                let message = "the ends of a range are ints known at compile time";
                Err(self.fail(Diagnostic::error(span, message).primary(found)))
            }
        }
    }

    fn sequence(&mut self, id: ValueId, span: Span, (axis, at): (i64, Option<Span>)) -> Outcome<(Source, Dim)> {
        let ty = self.builder.type_of(id).clone();
        let Some(axis) = normal(axis, ty.rank()) else {
            let message = match ty.rank() {
                0 => format!("a scan goes along an axis, {ty} has none"),
                rank => format!("axis {axis} of {ty}, which has the axes 0..{rank}"),
            };
            let place = if ty.rank() == 0 { span } else { at.unwrap_or(span) };
            let diagnostic = self.with_origin(Diagnostic::error(place, message), &Value::Tensor(id));
            return Err(self.fail(diagnostic));
        };
        let mut permutation: Vec<usize> = (0..ty.rank()).collect();
        permutation[..=axis].rotate_right(1);
        let length = ty.shape[axis].clone();
        let turned = self.builder.transpose(id, &permutation);
        Ok((Source::Sequence(turned.map_err(|e| self.error(span, e.message))?), length))
    }

    /// What a carry is before the first round.
    fn first_value(&mut self, body: &mut Body, carry: &ast::Carry) -> Outcome<ValueId> {
        let span = carry.initial.span;
        let value = self.expression(body, &carry.initial)?;
        if let Some(ty) = &carry.ty {
            let ty = self.concrete_type(body, ty)?;
            let value = match value.is_callable() {
                true => self.initialize(body, value, Value::shape(&ty.shape), span)?,
                false => value,
            };
            return self.fit(value, &ty, span, &carry.name.text, true);
        }
        let dtype = match &value {
            Value::Tensor(id) => return Ok(*id),
            Value::Poison => return Err(Failure::Reported),
            Value::Int(_) => DType::I32,
            Value::Float(_) => DType::F32,
            Value::Bool(_) => DType::Bool,
            other => {
                let message = format!("a carry is a tensor, this is {}", self.describe(other));
                let help = format!("give it a type: `carry {}: f32[n] = ...`", carry.name.text);
                return Err(self.fail(Diagnostic::error(span, message).help(help)));
            }
        };
        self.fit(value, &TensorType::scalar(dtype), span, &carry.name.text, true)
    }

    /// Gives the name of each state a value of its own, so that what reads it in the body can be told from what read it before.
    fn enter_states(&mut self) -> Vec<Entry> {
        let states: Vec<usize> = (0..self.members.len()).filter(|m| !self.members[*m].is_parameter).collect();
        let mut entries = Vec::new();
        for member in states {
            let before = self.members[member].current;
            let shape = self.builder.shape_of(before);
            let inside = self.builder.emit(Reshape { shape }, &[before]);
            self.members[member].current = inside;
            entries.push(Entry { member, before, inside });
        }
        entries
    }

    fn placeholder(&mut self, ty: TensorType) -> ValueId {
        // The number does not matter: the node is replaced when the body is cut out.
        self.builder.argument(u32::MAX, ty)
    }

    /// Runs the body over placeholders.
    fn run_round(
        &mut self,
        body: &mut Body,
        scan: &ast::Scan,
        sources: &[Source],
        length: &Dim,
        initial: &[ValueId],
        entries: &[Entry],
    ) -> Outcome<(Placeholders, Round)> {
        let round = self.placeholder(TensorType::scalar(DType::I32));
        let mut inner = body.env.inside();
        for (name, path) in &body.states {
            let inside = entries.iter().find(|e| self.members[e.member].path == *path);
            inside.into_iter().for_each(|e| inner.bind(name, Value::Tensor(e.inside)));
        }
        let mut elements = Vec::new();
        for ((name, value), source) in scan.sources.iter().zip(sources) {
            let element = match source {
                Source::Count(first) => self.counted(round, first, value.span)?,
                Source::Sequence(tensor) => {
                    let mut ty = self.builder.type_of(*tensor).clone();
                    ty.shape.remove(0);
                    let element = self.placeholder(ty);
                    elements.push(element);
                    element
                }
            };
            self.remember(&Value::Tensor(element), name.span, &format!("`{}`", name.text));
            self.observe(name.span, &Value::Tensor(element));
            inner.bind(&name.text, Value::Tensor(element));
        }
        let mut carries = Vec::new();
        for (carry, first) in scan.carries.iter().zip(initial) {
            let ty = self.builder.type_of(*first).clone();
            let value = self.placeholder(ty);
            self.remember(&Value::Tensor(value), carry.name.span, &format!("`{}`", carry.name.text));
            self.observe(carry.name.span, &Value::Tensor(value));
            inner.bind(&carry.name.text, Value::Tensor(value));
            carries.push(value);
        }
        let number = self.round_number(round, length, scan.span)?;
        self.rounds.push(number);
        let (env, states) = (std::mem::replace(&mut body.env, inner), body.states.clone());
        let in_scan = std::mem::replace(&mut body.in_scan, true);
        let result = self.round(body, scan, &carries);
        (body.env, body.states, body.in_scan) = (env, states, in_scan);
        self.rounds.pop();
        Ok((Placeholders { round, carries, elements }, result?))
    }

    /// The int that a count stands at.
    fn counted(&mut self, round: ValueId, first: &Dim, span: Span) -> Outcome<ValueId> {
        if first.is(0) {
            return Ok(round);
        }
        let first = self.builder.dim_value(first, DType::I32);
        self.builder.map(ScalarFunction::Add, &[round, first]).map_err(|e| self.error(span, e.message))
    }

    /// The number of the round for random draws: rounds of nested scans are counted row by row.
    fn round_number(&mut self, round: ValueId, length: &Dim, span: Span) -> Outcome<ValueId> {
        let Some(outer) = self.rounds.last().copied() else { return Ok(round) };
        let length = self.builder.dim_value(length, DType::I32);
        let rows = self.builder.map(ScalarFunction::Mul, &[outer, length]);
        let number = rows.and_then(|rows| self.builder.map(ScalarFunction::Add, &[rows, round]));
        number.map_err(|e| self.error(span, e.message))
    }

    /// Statements, next values and yields of a round, in the body's environment.
    fn round(&mut self, body: &mut Body, scan: &ast::Scan, carries: &[ValueId]) -> Outcome<Round> {
        if let Flow::Return(_) = self.block(body, &scan.body)? {
            return Err(self.error(scan.body.span, "`return` cannot leave a body from inside a `scan`"));
        }
        let mut yields = Vec::new();
        let mut failed = Ok(());
        for value in &scan.yields {
            match self.yielded(body, value) {
                Ok(id) => yields.push(id),
                Err(Failure::Reported) => failed = Err(Failure::Reported),
                Err(fatal) => return Err(fatal),
            }
        }
        let mut next = Vec::new();
        for (carry, before) in scan.carries.iter().zip(carries) {
            let value = body.env.get(&carry.name.text).cloned().unwrap_or(Value::Poison);
            match self.next_value(carry, *before, value) {
                Ok(id) => next.push(id),
                Err(Failure::Reported) => failed = Err(Failure::Reported),
                Err(fatal) => return Err(fatal),
            }
        }
        failed.map(|()| Round { next, yields })
    }

    fn yielded(&mut self, body: &mut Body, e: &Expression) -> Outcome<ValueId> {
        match self.expression(body, e)? {
            Value::Tensor(id) => Ok(id),
            Value::Poison => Err(Failure::Reported),
            number @ (Value::Int(_) | Value::Float(_) | Value::Bool(_)) => {
                let dtype = match number {
                    Value::Int(_) => DType::I32,
                    Value::Float(_) => DType::F32,
                    _ => DType::Bool,
                };
                match self.number_tensor(&number, dtype, e.span)? {
                    Value::Tensor(id) => Ok(id),
                    _ => Err(Failure::Reported),
                }
            }
            other => {
                let message = format!("a scan yields tensors, this is {}", self.describe(&other));
                Err(self.fail(Diagnostic::error(e.span, message).help("`yield a, b` yields two values")))
            }
        }
    }

    /// What a carry is after the round: of the type that it had before.
    fn next_value(&mut self, carry: &ast::Carry, before: ValueId, value: Value) -> Outcome<ValueId> {
        let ty = self.builder.type_of(before).clone();
        let fits = match &value {
            Value::Tensor(id) => {
                let after = self.builder.type_of(*id).clone();
                after.dtype.storage() == ty.dtype.storage() && self.builder.broadcast(*id, &ty.shape).is_ok()
            }
            Value::Poison => return Err(Failure::Reported),
            _ => true,
        };
        if fits {
            return self.fit(value, &ty, carry.name.span, &carry.name.text, false);
        }
        let name = &carry.name.text;
        let after = self.describe(&value);
        let message = format!("the carry `{name}` is {ty} before a round and {after} after it");
        let diagnostic = self.with_origin(Diagnostic::error(carry.name.span, message), &value);
        Err(self.fail(match (&carry.ty, &value) {
            (None, Value::Tensor(_)) => diagnostic.help(format!("write its type: `carry {name}: {after} = ...`")),
            _ => diagnostic,
        }))
    }

    /// The states that the body set, with what they are after it; the others are what they were.
    fn changed_states(&mut self, entries: Vec<Entry>, first_member: usize) -> Vec<(Entry, ValueId)> {
        let mut changed = Vec::new();
        for entry in entries {
            let member = &mut self.members[entry.member];
            let after = std::mem::replace(&mut member.current, entry.before);
            if after != entry.inside {
                changed.push((entry, after));
            }
        }
        for member in first_member..self.members.len() {
            let (argument, after) = (self.members[member].argument, self.members[member].current);
            if after != argument {
                changed.push((Entry { member, before: argument, inside: argument }, after));
            }
        }
        changed
    }

    /// Cuts the body out and adds the loop; returns its outputs: last carries, last states, yields.
    #[expect(clippy::too_many_arguments, reason = "one call, and each is a different thing")]
    fn add_scan(
        &mut self,
        scan: &ast::Scan,
        sources: &[Source],
        length: &Dim,
        initial: &[ValueId],
        placeholders: &Placeholders,
        round: &Round,
        states: &[(Entry, ValueId)],
    ) -> Outcome<Vec<ValueId>> {
        let mut arguments: Vec<(Argument, ValueId)> = Vec::new();
        let mut argument = |name: &str, role: Role, ty: &TensorType, value: ValueId| {
            arguments.push((Argument { name: name.to_owned(), role, ty: ty.clone() }, value));
        };
        argument("round", Role::Step, &TensorType::scalar(DType::I32), placeholders.round);
        for (carry, value) in scan.carries.iter().zip(&placeholders.carries) {
            argument(&carry.name.text, Role::State, self.builder.type_of(*value), *value);
        }
        for (entry, _) in states {
            argument(&self.members[entry.member].path, Role::State, self.builder.type_of(entry.inside), entry.inside);
        }
        let named = scan.sources.iter().zip(sources).filter(|(_, s)| matches!(s, Source::Sequence(_)));
        for (((name, _), _), value) in named.zip(&placeholders.elements) {
            argument(&name.text, Role::Input, self.builder.type_of(*value), *value);
        }
        let next = round.next.iter().copied().chain(states.iter().map(|(_, after)| *after));
        let mut results: Vec<outline::Wanted> = Vec::new();
        for (index, value) in next.enumerate() {
            results.push((arguments[1 + index].0.name.clone(), ResultRole::Update(1 + index as u32), value));
        }
        let names = scan.results.iter().map(|n| n.text.to_string());
        results.extend(names.zip(&round.yields).map(|(name, value)| (name, ResultRole::Output, *value)));
        let before: Vec<ValueId> = initial.iter().copied().chain(states.iter().map(|(e, _)| e.before)).collect();
        let carries = before.len() as u32;
        let tensors = sources.iter().filter_map(|s| match s {
            Source::Sequence(tensor) => Some(*tensor),
            Source::Count(_) => None,
        });
        let mut operands: Vec<ValueId> = before.iter().copied().chain(tensors).collect();
        let cut = outline::outline(self.builder.graph(), "scan", &arguments, &results);
        self.check_gradients(scan, &cut, &arguments, &results, &operands)?;
        operands.extend(&cut.captures);
        let op = Scan {
            body: Arc::new(cut.body),
            length: length.clone(),
            carries,
            sequences: placeholders.elements.len() as u32,
            reverse: scan.reverse,
            lean: false,
        };
        let outputs = self.builder.add(op.with_history(), &operands).map_err(|e| self.error(scan.span, e.message))?;
        for output in &outputs {
            let ty = self.builder.type_of(*output).clone();
            self.check_tensor(&ty, scan.span)?;
        }
        Ok(outputs)
    }

    /// A gradient inside a body is that of one round: what is carried into it must not depend on what it is taken by.
    fn check_gradients(
        &mut self,
        scan: &ast::Scan,
        cut: &Outline,
        arguments: &[(Argument, ValueId)],
        results: &[outline::Wanted],
        operands: &[ValueId],
    ) -> Outcome<()> {
        for (by, scalar) in &cut.differentiated {
            for (at, (argument, placeholder)) in arguments.iter().enumerate().skip(1) {
                let graph = self.builder.graph();
                let next = results.get(at - 1).filter(|(_, role, _)| *role == ResultRole::Update(at as u32));
                let carried = outline::depends(graph, operands[at - 1], *by)
                    || next.is_some_and(|(_, _, value)| outline::depends(graph, *value, *by));
                if carried && outline::depends(graph, *scalar, *placeholder) {
                    let what = "`grad` inside a `scan` by a value from outside on which";
                    let what = format!("{what} `{}` depends, which the round reads,", argument.name);
                    return Err(self.not_supported(scan.span, &what));
                }
            }
        }
        Ok(())
    }

    /// A parameter made in the body has one first value, not one a round.
    fn check_first_values(&mut self, first_member: usize, placeholders: &Placeholders) -> Outcome<()> {
        let all: Vec<ValueId> =
            [placeholders.round].iter().chain(&placeholders.carries).chain(&placeholders.elements).copied().collect();
        for member in first_member..self.members.len() {
            let Some(initial) = self.members[member].initial else { continue };
            if all.iter().any(|p| outline::depends(self.builder.graph(), initial, *p)) {
                let (path, span) = (self.members[member].path.clone(), self.members[member].span);
                return Err(self.error(span, format!("the first value of `{path}` depends on the round of a scan")));
            }
        }
        Ok(())
    }

    fn bind_results(
        &mut self,
        body: &mut Body,
        scan: &ast::Scan,
        axis: (i64, Option<Span>),
        outputs: &[ValueId],
        states: &[(Entry, ValueId)],
    ) -> Outcome<()> {
        for (carry, last) in scan.carries.iter().zip(outputs) {
            self.bind(body, std::slice::from_ref(&carry.name), Value::Tensor(*last))?;
        }
        for ((entry, _), last) in states.iter().zip(&outputs[scan.carries.len()..]) {
            self.members[entry.member].current = *last;
            let path = &self.members[entry.member].path;
            let name = body.states.iter().find(|(_, p)| *p == path).map(|(name, _)| name.clone());
            name.into_iter().for_each(|name| body.env.bind(&name, Value::Tensor(*last)));
        }
        let yields = &outputs[scan.carries.len() + states.len()..];
        for (name, stacked) in scan.results.iter().zip(yields) {
            let rank = self.builder.type_of(*stacked).rank();
            // A value of fewer dims than the scanned tensor is stacked along its last axis.
            let to = normal(axis.0, rank).unwrap_or(if axis.0 < 0 { 0 } else { rank - 1 });
            let mut permutation: Vec<usize> = (0..rank).collect();
            permutation[..=to].rotate_left(1);
            let turned = self.builder.transpose(*stacked, &permutation);
            let value = turned.map_err(|e| self.error(name.span, e.message))?;
            self.bind(body, std::slice::from_ref(name), Value::Tensor(value))?;
        }
        Ok(())
    }
}

/// The axis counted from the first, if there is one of this number.
fn normal(axis: i64, rank: usize) -> Option<usize> {
    let at = if axis < 0 { axis + rank as i64 } else { axis };
    usize::try_from(at).ok().filter(|a| *a < rank)
}
