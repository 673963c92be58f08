//! Calls of primitives: folded where every argument is a compile-time number, nodes of the graph otherwise.

use super::statement::Body;
use super::value::{Given, Value};
use super::{Elaborator, Failure, Outcome, limits};
use crate::diag::{Diagnostic, Span};
use crate::ir::dim::Dim;
use crate::ir::ops::primitive::{Argument, PrimitiveArguments, RandomSource};
use crate::ir::ops::{Primitive, TypeError};
use crate::ir::scalar::{Rule, ScalarFunction};
use crate::ir::types::DType;

/// What may be taken of a list of scalars.
const FOLDS: [&str; 5] = ["sum", "prod", "mean", "max", "min"];

impl Elaborator<'_> {
    /// An operator's primitive by its name.
    pub(super) fn operation(&mut self, name: &str, operands: &[(Value, Span)], span: Span) -> Outcome<Value> {
        if operands.iter().any(|(v, _)| v.holds_poison()) {
            return Ok(Value::Poison);
        }
        let Some(number) = self.project.primitive(name) else {
            return Err(self.not_supported(span, &format!("the operation `{name}`")));
        };
        let given: Vec<Given> =
            operands.iter().map(|(value, span)| Given { name: None, value: value.clone(), span: *span }).collect();
        self.build(number, &given, span, None)
    }

    /// A call by name.
    pub(super) fn call_primitive(
        &mut self,
        body: &mut Body,
        number: usize,
        given: &[Given],
        span: Span,
    ) -> Outcome<Value> {
        let project = self.project;
        let primitive = &project.primitives[number];
        if let Some(value) = fold(primitive.name, given) {
            return Ok(value);
        }
        if let Some(stacked) = self.stacked(primitive.name, given)? {
            return self.build(number, &[stacked], span, None);
        }
        let draw = primitive.draws.then(|| {
            let site = body.scope.draw(primitive.name);
            let unique = |n: u32| if n == 1 { site.clone() } else { format!("{site}#{n}") };
            let site = (1..).map(unique).find(|s| self.sites.insert(s.clone())).unwrap_or_default();
            (site, self.random_source())
        });
        self.build(number, given, span, draw)
    }

    /// The list of scalars that a fold is of, as one tensor: `sum([l2(a), l2(b)])`.
    fn stacked(&mut self, name: &str, given: &[Given]) -> Outcome<Option<Given>> {
        let [Given { name: None, value: list @ (Value::List(items) | Value::Tuple(items)), span }] = given else {
            return Ok(None);
        };
        let scalar = |v: &Value| matches!(v, Value::Tensor(id) if self.builder.type_of(*id).rank() == 0);
        if !FOLDS.contains(&name) || items.is_empty() || !items.iter().all(scalar) {
            return Ok(None);
        }
        let value = self.operation("stack", &[(list.clone(), *span)], *span)?;
        Ok(Some(Given { name: None, value, span: *span }))
    }

    /// `f32(x)` and the like.
    pub(super) fn convert(&mut self, dtype: DType, given: &[Given], span: Span) -> Outcome<Value> {
        let [only] = given else {
            return Err(self.error(span, format!("`{dtype}` takes one argument, the value to convert")));
        };
        let target = (Value::DType(dtype), span);
        self.operation("cast", &[(only.value.clone(), only.span), target], span)
    }

    fn build(
        &mut self,
        number: usize,
        given: &[Given],
        span: Span,
        draw: Option<(String, RandomSource)>,
    ) -> Outcome<Value> {
        let project = self.project;
        let primitive = &project.primitives[number];
        let places = self.places(primitive, given, span)?;
        let mut values: Vec<Option<Argument>> = vec![None; primitive.parameters.len()];
        for (argument, place) in given.iter().zip(&places) {
            let value = self.argument_value(&argument.value, argument.span, primitive.name)?;
            let last = *place + 1 == primitive.parameters.len();
            values[*place] = match (values[*place].take(), value) {
                (None, value) if primitive.rest && last && argument.name.is_none() => match value {
                    Argument::List(items) => Some(Argument::List(items)),
                    single => Some(Argument::List(vec![single])),
                },
                (Some(Argument::List(mut items)), value) if primitive.rest && last => {
                    items.push(value);
                    Some(Argument::List(items))
                }
                (_, value) => Some(value),
            };
        }
        let (site, random) = draw.map_or((String::new(), None), |(site, source)| (site, Some(source)));
        let arguments = PrimitiveArguments { values, site, random, training: self.training, float: self.float };
        match (primitive.build)(&mut self.builder, &arguments) {
            Ok(outputs) => self.outputs(&outputs, primitive.name, span),
            Err(mut error) => {
                error.message = super::operator::with_symbol(primitive.name, &error.message);
                Err(self.type_error(error, given, &places, span))
            }
        }
    }

    /// A primitive with arguments that the language has no words for; `value` is the operand that errors point at.
    pub(super) fn operation_with(
        &mut self,
        name: &str,
        values: Vec<Option<Argument>>,
        value: (Value, Span),
        span: Span,
    ) -> Outcome<Value> {
        let project = self.project;
        let Some(number) = project.primitive(name) else {
            return Err(self.not_supported(span, &format!("the operation `{name}`")));
        };
        match (project.primitives[number].build)(&mut self.builder, &PrimitiveArguments::new(values)) {
            Ok(outputs) => self.outputs(&outputs, name, span),
            Err(error) => {
                let given = [Given { name: None, value: value.0, span: value.1 }];
                Err(self.type_error(error, &given, &[0], span))
            }
        }
    }

    fn outputs(&mut self, outputs: &[crate::ir::graph::ValueId], primitive: &str, span: Span) -> Outcome<Value> {
        if self.builder.graph().len() > limits::NODES {
            let message = format!("the model expands to more than {} operations", limits::NODES);
            return Err(self.fatal(Diagnostic::error(span, message)));
        }
        for id in outputs {
            let ty = self.builder.type_of(*id).clone();
            self.check_tensor(&ty, span)?;
            self.remember_end(*id, primitive, span);
        }
        Ok(match outputs {
            [single] => Value::Tensor(*single),
            several => Value::tuple(several.iter().map(|id| Value::Tensor(*id)).collect()),
        })
    }

    /// The parameter that each argument belongs to.
    fn places(&mut self, primitive: &Primitive, given: &[Given], span: Span) -> Outcome<Vec<usize>> {
        let count = primitive.parameters.len();
        let mut taken = vec![false; count];
        let mut places = Vec::new();
        let mut position = 0;
        for argument in given {
            let place = match &argument.name {
                Some(name) => match primitive.parameters.iter().position(|p| p.name == &*name.text) {
                    Some(place) => place,
                    None => {
                        let known: Vec<&str> = primitive.parameters.iter().map(|p| p.name).collect();
                        return Err(self.unknown_argument(primitive.name, name, &known));
                    }
                },
                None if primitive.rest && position >= count => count.saturating_sub(1),
                None => {
                    position += 1;
                    position - 1
                }
            };
            if place >= count {
                let message = format!("`{}` takes {}, this call gives more", primitive.name, signature(primitive));
                return Err(self.error(argument.span, message));
            }
            if taken[place] && !(primitive.rest && place + 1 == count && argument.name.is_none()) {
                let message = format!(
                    "the argument `{}` of `{}` is given twice",
                    primitive.parameters[place].name, primitive.name
                );
                return Err(self.error(argument.span, message));
            }
            taken[place] = true;
            places.push(place);
        }
        match primitive.parameters.iter().zip(&taken).find(|(p, taken)| p.required && !**taken) {
            Some((parameter, _)) => {
                let message =
                    format!("`{}` needs an argument for `{}`: {}", primitive.name, parameter.name, parameter.kind);
                Err(self.error(span, message))
            }
            None => Ok(places),
        }
    }

    fn argument_value(&mut self, value: &Value, span: Span, callee: &str) -> Outcome<Argument> {
        Ok(match value {
            Value::Tensor(id) => Argument::Tensor(*id),
            Value::Int(d) => Argument::Int(d.clone()),
            Value::Float(x) => Argument::Float(*x),
            Value::Bool(b) => Argument::Bool(*b),
            Value::Text(t) => Argument::Text(t.to_string()),
            Value::DType(d) => Argument::DType(*d),
            Value::List(items) | Value::Tuple(items) => {
                let items: Outcome<Vec<Argument>> =
                    items.iter().map(|v| self.argument_value(v, span, callee)).collect();
                Argument::List(items?)
            }
            // `pad=full`: a word that is also a function's name.
            Value::Primitive(number) => Argument::Text(self.project.primitives[*number].name.to_owned()),
            other => {
                let message = format!("`{callee}` does not take {}", self.describe(other));
                return Err(self.error(span, message));
            }
        })
    }

    fn type_error(&mut self, error: TypeError, given: &[Given], places: &[usize], span: Span) -> Failure {
        let mut diagnostic = Diagnostic::error(span, error.message);
        diagnostic.notes = error.notes;
        let mut blamed: Vec<&Given> =
            given.iter().zip(places).filter(|(_, place)| error.operands.contains(place)).map(|(g, _)| g).collect();
        if blamed.is_empty() {
            blamed = given.iter().filter(|g| matches!(g.value, Value::Tensor(_))).collect();
        }
        for argument in blamed {
            diagnostic = match &argument.value {
                Value::Tensor(id) if !self.provenance.contains_key(id) => {
                    let text = format!("this is {}", self.describe(&argument.value));
                    if argument.span == span { diagnostic } else { diagnostic.label(argument.span, text) }
                }
                value => self.with_origin(diagnostic, value),
            };
        }
        self.fail(diagnostic)
    }
}

/// The parameters of a primitive, in words.
fn signature(primitive: &Primitive) -> String {
    let names: Vec<&str> = primitive.parameters.iter().map(|p| p.name).collect();
    match names.len() {
        0 => "no arguments".to_owned(),
        1 => format!("one argument ({})", names[0]),
        n => format!("{n} arguments ({})", names.join(", ")),
    }
}

/// The value of a scalar function of known numbers, or of a fold over a compile-time list of them.
fn fold(name: &str, given: &[Given]) -> Option<Value> {
    if given.iter().any(|g| g.name.is_some()) {
        return None;
    }
    if let [Given { value: Value::List(items) | Value::Tuple(items), .. }] = given {
        return fold_list(name, items);
    }
    let numbers: Vec<f64> = given.iter().map(|g| g.value.as_number()).collect::<Option<_>>()?;
    let function = ScalarFunction::from_name(name).filter(|f| f.arity() == numbers.len())?;
    let ints: Option<Vec<i64>> = given.iter().map(|g| g.value.as_int()).collect();
    match (function.rule(), ints) {
        (Rule::Same, Some(ints)) => fold_ints(function, &ints).map(Value::int),
        (Rule::Float, Some(ints))
            if matches!(function, ScalarFunction::Floor | ScalarFunction::Ceil | ScalarFunction::Round) =>
        {
            Some(Value::int(ints[0]))
        }
        (Rule::Same | Rule::Float, _) => Some(Value::Float(function.eval(DType::F64, &numbers))),
        _ => None,
    }
}

fn fold_ints(function: ScalarFunction, x: &[i64]) -> Option<i64> {
    match function {
        ScalarFunction::Min => Some(x[0].min(x[1])),
        ScalarFunction::Max => Some(x[0].max(x[1])),
        ScalarFunction::Abs => x[0].checked_abs(),
        ScalarFunction::Sign => Some(x[0].signum()),
        ScalarFunction::Neg => x[0].checked_neg(),
        _ => None,
    }
}

/// `sum`, `prod`, `max` and `min` of a list of sizes or numbers.
fn fold_list(name: &str, items: &[Value]) -> Option<Value> {
    let dims: Option<Vec<&Dim>> = items
        .iter()
        .map(|v| match v {
            Value::Int(d) => Some(d),
            _ => None,
        })
        .collect();
    match (name, dims) {
        ("sum", Some(dims)) => dims.iter().try_fold(Dim::from(0i64), |sum, d| sum.add(d)).map(Value::Int),
        ("prod", Some(dims)) => dims.iter().try_fold(Dim::from(1i64), |product, d| product.mul(d)).map(Value::Int),
        ("max", Some(dims)) => {
            dims.iter().map(|d| d.constant()).collect::<Option<Vec<_>>>()?.into_iter().max().map(Value::int)
        }
        ("min", Some(dims)) => {
            dims.iter().map(|d| d.constant()).collect::<Option<Vec<_>>>()?.into_iter().min().map(Value::int)
        }
        (_, None) => {
            let numbers: Vec<f64> = items.iter().map(Value::as_number).collect::<Option<_>>()?;
            Some(Value::Float(match name {
                "sum" => numbers.iter().sum(),
                "prod" => numbers.iter().product(),
                "max" => numbers.into_iter().reduce(f64::max)?,
                "min" => numbers.into_iter().reduce(f64::min)?,
                _ => return None,
            }))
        }
        _ => None,
    }
}
