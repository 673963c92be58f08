//! Functions that exist at compile time only: they ask about values or make lists, and never cost anything at run time.

use std::rc::Rc;

use super::scope::{Scope, instance_path};
use super::value::{Given, Instance, Value};
use super::{Elaborator, Outcome, limits};
use crate::diag::{Diagnostic, Span};
use crate::ir::dim::Dim;
use crate::ir::types::DType;

macro_rules! builtins {
    ($($variant:ident $name:literal $parameters:literal $doc:literal;)*) => {
        /// A compile-time function.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Builtin { $(#[doc = $doc] $variant,)* }

        impl Builtin {
            pub fn name(self) -> &'static str {
                match self { $(Builtin::$variant => $name,)* }
            }

            /// The names of the parameters, for messages and named arguments.
            fn parameters(self) -> &'static [&'static str] {
                match self { $(Builtin::$variant => const { &split_words::<{ count_words($parameters) }>($parameters) },)* }
            }

            pub fn from_name(name: &str) -> Option<Builtin> {
                match name { $($name => Some(Builtin::$variant),)* _ => None }
            }
        }

        /// Every builtin: name, parameters, one line.
        pub(in crate::frontend) const BUILTINS: &[(&str, &str, &str)] = &[$(($name, $parameters, $doc),)*];
    };
}

builtins! {
    Shape "shape" "x" "the dims of a tensor as a list";
    Rank "rank" "x" "the number of dims of a tensor";
    Size "size" "x" "the number of elements of a tensor";
    DTypeOf "dtype" "x" "the dtype of a tensor";
    Classes "classes" "x" "K of a tensor of index(K)";
    Len "len" "list" "the number of items of a list";
    Range "range" "start end" "the ints from start up to and without end; range(n) begins at 0";
    Enumerate "enumerate" "list" "pairs of number and item";
    Zip "zip" "a b" "pairs of the items of two lists of the same length";
    Reversed "reversed" "list" "the items in reverse order";
    Parameters "parameters" "of" "the parameters of a layer that has been applied, as a list of tensors";
    Fresh "fresh" "layer" "a layer like this one, with parameters of its own";
    Whole "whole" "x" "all rows of a tensor over a whole set, in a metric that is no mean over batches";
    Grad "grad" "y x" "the gradient of the scalar y with respect to a tensor, a list of them, or a layer's parameters";
    IsTensor "is_tensor" "x" "whether x is a tensor";
    IsNumber "is_number" "x" "whether x is a compile-time int or float";
    IsList "is_list" "x" "whether x is a list or tuple";
    IsText "is_text" "x" "whether x is a string";
    IsFunction "is_function" "x" "whether x can be called";
    IsFloat "is_float" "x" "whether x is a float, or a tensor of floats";
    IsInteger "is_integer" "x" "whether x is an int, or a tensor of ints or of classes";
    IsBool "is_bool" "x" "whether x is a bool, or a tensor of bools";
    IsIndex "is_index" "x" "whether x is a tensor of index(K)";
    ToInt "int" "x" "a compile-time number without its fraction";
    ToText "text" "x" "a compile-time value as a string";
    Error "error" "message" "stops with this message at the user's call";
}

const fn count_words(text: &str) -> usize {
    let bytes = text.as_bytes();
    let (mut count, mut i) = (1, 0);
    while i < bytes.len() {
        if bytes[i] == b' ' {
            count += 1;
        }
        i += 1;
    }
    count
}

const fn split_words<const N: usize>(text: &'static str) -> [&'static str; N] {
    let mut words = [""; N];
    let (mut rest, mut i) = (text, 0);
    while i < N {
        let bytes = rest.as_bytes();
        let mut end = 0;
        while end < bytes.len() && bytes[end] != b' ' {
            end += 1;
        }
        let (word, tail) = rest.split_at(end);
        words[i] = word;
        rest = if tail.is_empty() { tail } else { tail.split_at(1).1 };
        i += 1;
    }
    words
}

impl Elaborator<'_> {
    pub(super) fn call_builtin(
        &mut self,
        builtin: Builtin,
        given: &[Given],
        scope: &Rc<Scope>,
        span: Span,
    ) -> Outcome<Value> {
        let values = self.builtin_arguments(builtin, given, span)?;
        let first = values.first().cloned().unwrap_or(Value::Poison);
        match builtin {
            Builtin::Shape | Builtin::Rank | Builtin::Size | Builtin::DTypeOf => self.ask_type(builtin, &first, span),
            Builtin::Classes => match &first {
                Value::Tensor(id) => match self.builder.type_of(*id).dtype {
                    DType::Index { classes } => Ok(Value::int(i64::from(classes))),
                    other => Err(self.error(span, format!("{other} has no number of classes: it is not `index(K)`"))),
                },
                other => Err(self.wants(builtin, "a tensor", other, span)),
            },
            Builtin::Len => match &first {
                Value::List(items) | Value::Tuple(items) => Ok(Self::length_value(items.len())),
                Value::Text(text) => Ok(Self::length_value(text.chars().count())),
                other => Err(self.wants(builtin, "a list", other, span)),
            },
            Builtin::Range => match values.as_slice() {
                [end] => self.range_list(&Value::int(0), end, span),
                [start, end, ..] => self.range_list(start, end, span),
                [] => Ok(Value::Poison),
            },
            Builtin::Enumerate => {
                let items = self.items(&first, span)?;
                let pair = |(i, v): (usize, &Value)| Value::tuple(vec![Self::length_value(i), v.clone()]);
                Ok(Value::list(items.iter().enumerate().map(pair).collect()))
            }
            Builtin::Zip => self.zip(&values, span),
            Builtin::Reversed => {
                let items = self.items(&first, span)?;
                Ok(Value::list(items.iter().rev().cloned().collect()))
            }
            Builtin::Parameters => self.parameters_of(&first, span).map(Value::list),
            Builtin::Fresh => self.fresh(&first, scope, span),
            Builtin::Whole => self.whole(&first, span),
            Builtin::Grad => self.gradient(&values, given, span),
            Builtin::IsTensor => Ok(Value::Bool(matches!(first, Value::Tensor(_)))),
            Builtin::IsNumber => Ok(Value::Bool(matches!(first, Value::Int(_) | Value::Float(_)))),
            Builtin::IsList => Ok(Value::Bool(matches!(first, Value::List(_) | Value::Tuple(_)))),
            Builtin::IsText => Ok(Value::Bool(matches!(first, Value::Text(_)))),
            Builtin::IsFunction => Ok(Value::Bool(first.is_callable())),
            Builtin::IsFloat | Builtin::IsInteger | Builtin::IsBool | Builtin::IsIndex => {
                Ok(Value::Bool(self.is_kind(builtin, &first)))
            }
            Builtin::ToInt => match first.as_number() {
                Some(x) if x.is_finite() && x.abs() < 9e18 => {
                    Ok(Value::int(first.as_int().unwrap_or(x.trunc() as i64)))
                }
                _ => Err(self.wants(builtin, "a number known at compile time", &first, span)),
            },
            Builtin::ToText => Ok(Value::text(&self.text_of(&first))),
            Builtin::Error => {
                let message = self.text_of(&first);
                Err(self.error(span, message))
            }
        }
    }

    fn builtin_arguments(&mut self, builtin: Builtin, given: &[Given], span: Span) -> Outcome<Vec<Value>> {
        let names = builtin.parameters();
        let mut values: Vec<Option<Value>> = vec![None; names.len()];
        let mut position = 0;
        for argument in given {
            let at = match &argument.name {
                Some(name) => match names.iter().position(|n| **n == *name.text) {
                    Some(at) => at,
                    None => return Err(self.unknown_argument(builtin.name(), name, names)),
                },
                None => {
                    position += 1;
                    position - 1
                }
            };
            match values.get_mut(at) {
                Some(slot @ None) => *slot = Some(argument.value.clone()),
                _ => {
                    let count = if names.len() == 1 { "one argument" } else { "two arguments" };
                    let message =
                        format!("`{}` takes {count} ({}), this call gives more", builtin.name(), names.join(", "));
                    return Err(self.error(argument.span, message));
                }
            }
        }
        // Only `range` may leave one out.
        let least = if builtin == Builtin::Range { 1 } else { names.len() };
        let values: Vec<Value> = values.into_iter().flatten().collect();
        if values.len() < least {
            let message = format!("`{}` takes {}", builtin.name(), names.join(" and "));
            return Err(self.error(span, message));
        }
        Ok(values)
    }

    fn wants(&mut self, builtin: Builtin, expected: &str, found: &Value, span: Span) -> super::Failure {
        let message = format!("`{}` takes {expected}, not {}", builtin.name(), self.describe(found));
        self.error(span, message)
    }

    fn ask_type(&mut self, builtin: Builtin, value: &Value, span: Span) -> Outcome<Value> {
        let ty = match value {
            Value::Tensor(id) => self.builder.type_of(*id).clone(),
            // A number counts as a scalar.
            Value::Int(_) | Value::Float(_) if builtin == Builtin::Shape => return Ok(Value::list(Vec::new())),
            Value::Int(_) | Value::Float(_) if builtin == Builtin::Rank => return Ok(Value::int(0)),
            Value::Int(_) | Value::Float(_) if builtin == Builtin::Size => return Ok(Value::int(1)),
            other => return Err(self.wants(builtin, "a tensor", other, span)),
        };
        Ok(match builtin {
            Builtin::Shape => Value::shape(&ty.shape),
            Builtin::Rank => Self::length_value(ty.rank()),
            Builtin::Size => match ty.shape.iter().try_fold(Dim::from(1i64), |product, d| product.mul(d)) {
                Some(size) => Value::Int(size),
                None => return Err(self.error(span, format!("the number of elements of {ty} is too large"))),
            },
            _ => Value::DType(ty.dtype),
        })
    }

    fn is_kind(&self, builtin: Builtin, value: &Value) -> bool {
        let dtype = match value {
            Value::Tensor(id) => self.builder.type_of(*id).dtype,
            Value::DType(dtype) => *dtype,
            Value::Int(_) => DType::I64,
            Value::Float(_) => DType::F64,
            Value::Bool(_) => DType::Bool,
            _ => return false,
        };
        match builtin {
            Builtin::IsFloat => dtype.is_float(),
            Builtin::IsInteger => dtype.is_integer(),
            Builtin::IsIndex => matches!(dtype, DType::Index { .. }),
            _ => dtype == DType::Bool,
        }
    }

    fn zip(&mut self, values: &[Value], span: Span) -> Outcome<Value> {
        let [a, b, ..] = values else { return Ok(Value::Poison) };
        let (a, b) = (self.items(a, span)?, self.items(b, span)?);
        if a.len() != b.len() {
            return Err(self.error(span, format!("`zip` of lists of {} and {} items", a.len(), b.len())));
        }
        let pair = |(x, y): (&Value, &Value)| Value::tuple(vec![x.clone(), y.clone()]);
        Ok(Value::list(a.iter().zip(b.iter()).map(pair).collect()))
    }

    /// The parameters of a layer, inner ones included, in the order in which they were made.
    pub(super) fn parameters_of(&mut self, value: &Value, span: Span) -> Outcome<Vec<Value>> {
        let Value::Instance(instance) = value else {
            let message = format!("{} has no parameters: a layer bound to a name has", self.describe(value));
            return Err(self.error(span, message));
        };
        if instance.applications.get() == 0 {
            let message = format!("{} has no parameters before its first use", self.describe(value));
            return Err(self.error(span, message));
        }
        let prefix = format!("{}.", instance_path(instance));
        let own = self.members.iter().filter(|m| m.is_parameter && m.path.starts_with(&prefix));
        Ok(own.map(|m| Value::Tensor(m.current)).collect())
    }

    /// A layer with the same code and arguments that is named where it is made.
    fn fresh(&mut self, value: &Value, scope: &Rc<Scope>, span: Span) -> Outcome<Value> {
        let Value::Instance(instance) = value else {
            return Err(self.wants(
                Builtin::Fresh,
                "a layer without its first argument, such as `dense(8)`",
                value,
                span,
            ));
        };
        Ok(Value::Instance(Rc::new(Instance {
            code: instance.code.clone(),
            env: instance.env.clone(),
            given: instance.given.clone(),
            scope: scope.clone(),
            label: Default::default(),
            path: Default::default(),
            applications: Default::default(),
        })))
    }

    fn gradient(&mut self, values: &[Value], given: &[Given], span: Span) -> Outcome<Value> {
        let [y, x] = values else { return Ok(Value::Poison) };
        let Value::Tensor(scalar) = y else {
            return Err(self.wants(Builtin::Grad, "a scalar tensor as `y`", y, span));
        };
        let ty = self.builder.type_of(*scalar).clone();
        if ty.rank() != 0 || !ty.dtype.is_float() {
            let place = given.first().map_or(span, |g| g.span);
            let diagnostic = Diagnostic::error(place, format!("`grad` is taken of a scalar, this is {ty}"))
                .help("take its `sum` or `mean`");
            let diagnostic = self.with_origin(diagnostic, y);
            return Err(self.fail(diagnostic));
        }
        let (targets, single) = match x {
            Value::Tensor(_) => (vec![x.clone()], true),
            Value::List(items) | Value::Tuple(items) => (items.to_vec(), false),
            Value::Instance(_) => (self.parameters_of(x, span)?, false),
            other => return Err(self.wants(Builtin::Grad, "a tensor, a list of them or a layer as `x`", other, span)),
        };
        let mut ids = Vec::new();
        for target in &targets {
            match target {
                Value::Tensor(id) => ids.push(*id),
                other => return Err(self.wants(Builtin::Grad, "tensors as `x`", other, span)),
            }
        }
        if ids.iter().all(|id| self.builder.type_of(*id).dtype.is_float()) {
            let name = |at: usize| given.get(at).map_or("", |g| self.quote(g.span)).lines().next().unwrap_or_default();
            if let Some(diagnostic) = self.no_slope(*scalar, &ids, (name(0), name(1)), span) {
                return Err(self.fail(diagnostic));
            }
        }
        match self.builder.grad(*scalar, &ids) {
            Ok(gradients) if single => Ok(Value::Tensor(gradients[0])),
            Ok(gradients) => Ok(Value::list(gradients.into_iter().map(Value::Tensor).collect())),
            Err(error) => {
                let mut diagnostic = Diagnostic::error(span, error.message);
                diagnostic.notes = error.notes;
                Err(self.fail(diagnostic))
            }
        }
    }

    /// A compile-time value as text, cut off where it gets too long.
    fn text_of(&self, value: &Value) -> String {
        let mut out = String::new();
        self.write_text(value, &mut out);
        out
    }

    fn write_text(&self, value: &Value, out: &mut String) {
        if out.len() > limits::TEXT_LENGTH {
            return;
        }
        match value {
            Value::Text(text) => out.push_str(text),
            Value::Int(d) => out.push_str(&d.to_string()),
            Value::Float(x) => out.push_str(&format!("{x:?}")),
            Value::Bool(b) => out.push_str(&b.to_string()),
            Value::DType(d) => out.push_str(&d.to_string()),
            Value::List(items) | Value::Tuple(items) => {
                let (open, close) = if matches!(value, Value::List(_)) { ('[', ']') } else { ('(', ')') };
                out.push(open);
                for (i, item) in items.iter().enumerate() {
                    out.push_str(if i > 0 { ", " } else { "" });
                    self.write_text(item, out);
                }
                out.push(close);
            }
            other => out.push_str(&self.describe(other)),
        }
    }
}

/// Whether `name` is a compile-time function.
pub(in crate::frontend) fn is_builtin(name: &str) -> bool {
    Builtin::from_name(name).is_some()
}
