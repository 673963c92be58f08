//! Signatures: tensor types with named dims, matched against arguments and made concrete.

use std::sync::Arc;

use super::statement::Body;
use super::value::Value;
use super::{Elaborator, Outcome};
use crate::diag::{Diagnostic, Span};
use crate::frontend::Global;
use crate::frontend::ast::{BinaryOperator, DTypeExpression, Expression, ExpressionKind, Name, TypeExpression};
use crate::ir::dim::Dim;
use crate::ir::types::{DType, TensorType};

/// The number of classes that the element type `index(K)` can have: it is stored as `i32`.
const MOST_CLASSES: i64 = i32::MAX as i64;

/// The dtype that a signature leaves to its arguments: that of the first one that shows it. Elsewhere it is what
/// [`Elaborator::float`] says.
pub(crate) const ANY_FLOAT: &str = "float";

impl Elaborator<'_> {
    /// What a dim's name already means: a local name, or a constant of the file. Functions of the same name do not count.
    fn dim_meaning(&mut self, body: &mut Body, name: &str) -> bool {
        if let Some(value) = body.env.get(name) {
            return matches!(value, Value::Int(_) | Value::List(_) | Value::Tuple(_) | Value::Poison);
        }
        matches!(self.project.global(name, body.env.file), Some(Global::Const(..)))
    }

    /// Binds the names of a type that mean nothing yet to symbolic sizes of the same names.
    pub(super) fn bind_symbols(&mut self, body: &mut Body, ty: &TypeExpression) {
        let mut names = Vec::new();
        ty.dims.iter().for_each(|d| names_in(d, &mut names));
        if let DTypeExpression::Index { classes, .. } = &ty.dtype {
            // A number of classes is part of the stored type, so it is never symbolic.
            let mut known = Vec::new();
            names_in(classes, &mut known);
            names.retain(|n| !known.contains(n));
        }
        for name in names {
            if !self.dim_meaning(body, &name) {
                body.env.bind(&name, Value::Int(Dim::symbol(name.clone())));
            }
        }
    }

    /// The type with every name known.
    pub(super) fn concrete_type(&mut self, body: &mut Body, ty: &TypeExpression) -> Outcome<TensorType> {
        let dtype = self.concrete_dtype(body, &ty.dtype)?;
        let mut shape = Vec::new();
        if let Some(lead) = &ty.lead {
            let Some(name) = &lead.name else {
                return Err(self.error(lead.span, "`..` stands for dims of an argument: here they must be written out"));
            };
            shape.extend(self.lead_dims(body, name)?);
        }
        for dim in &ty.dims {
            shape.push(self.dim(body, dim)?);
        }
        let out = TensorType { dtype, shape };
        self.check_tensor(&out, ty.span)?;
        Ok(out)
    }

    fn lead_dims(&mut self, body: &mut Body, name: &Name) -> Outcome<Vec<Dim>> {
        let items = match body.env.get(&name.text) {
            Some(Value::List(items)) => items.clone(),
            Some(Value::Poison) => return Err(super::Failure::Reported),
            _ => return Err(self.error(name.span, format!("`..{}` does not name the dims of an argument", name.text))),
        };
        let dims = items.iter().map(|v| match v {
            Value::Int(d) => Some(d.clone()),
            _ => None,
        });
        match dims.collect::<Option<Vec<_>>>() {
            Some(dims) => Ok(dims),
            None => Err(self.error(name.span, format!("`{}` is not a list of sizes", name.text))),
        }
    }

    /// One dim of a type.
    fn dim(&mut self, body: &mut Body, e: &Expression) -> Outcome<Dim> {
        match self.expression(body, e)? {
            Value::Int(d) if d.constant().is_some_and(|c| c < 0) => {
                Err(self.error(e.span, format!("a dim cannot be negative, this one is {d}")))
            }
            Value::Int(d) => Ok(d),
            Value::Poison => Err(super::Failure::Reported),
            other => {
                let message = format!("a dim is an int, this is {}", self.describe(&other));
                Err(self.error(e.span, message))
            }
        }
    }

    fn concrete_dtype(&mut self, body: &mut Body, dtype: &DTypeExpression) -> Outcome<DType> {
        match dtype {
            DTypeExpression::Named(name) => match DType::from_name(&name.text) {
                Some(dtype) => Ok(dtype),
                None => match body.env.get(&name.text) {
                    Some(Value::DType(dtype)) => Ok(*dtype),
                    _ if &*name.text == ANY_FLOAT => Ok(self.float),
                    _ => Err(self.fail(crate::frontend::resolve::unknown_dtype(name))),
                },
            },
            DTypeExpression::Index { classes, span } => {
                let count = self.dim(body, classes)?;
                match count.constant() {
                    Some(k) if (1..=MOST_CLASSES).contains(&k) => Ok(DType::Index { classes: k as u32 }),
                    Some(k) => {
                        Err(self.error(*span, format!("`index({k})` must have between 1 and {MOST_CLASSES} classes")))
                    }
                    None => {
                        Err(self.error(*span, format!("the number of classes `{count}` is not known at compile time")))
                    }
                }
            }
        }
    }

    /// Whether a type is declared with `float` in place of a dtype.
    pub(super) fn is_of_any_float(declared: &TypeExpression) -> bool {
        matches!(&declared.dtype, DTypeExpression::Named(name) if &*name.text == ANY_FLOAT)
    }

    /// Binds the names that `declared` shows at the dims of an argument, and `float` at its dtype; does not complain.
    pub(super) fn bind_dims(&mut self, body: &mut Body, declared: &TypeExpression, actual: &TensorType) {
        if let DTypeExpression::Named(name) = &declared.dtype
            && &*name.text == ANY_FLOAT
            && actual.dtype.is_float()
            && body.env.get(ANY_FLOAT).is_none()
        {
            body.env.bind(&name.text, Value::DType(actual.dtype));
        }
        let fixed = declared.dims.len();
        let Some(lead) = actual.rank().checked_sub(fixed) else { return };
        if let Some(name) = declared.lead.as_ref().and_then(|l| l.name.as_ref())
            && body.env.get(&name.text).is_none()
        {
            body.env.bind(&name.text, Value::shape(&actual.shape[..lead]));
        }
        if declared.lead.is_none() && lead != 0 {
            return;
        }
        for (dim, size) in declared.dims.iter().zip(&actual.shape[lead..]) {
            self.bind_dim(body, dim, size);
        }
        if let (DTypeExpression::Index { classes, .. }, DType::Index { classes: count }) =
            (&declared.dtype, actual.dtype)
        {
            self.bind_dim(body, classes, &Dim::from(i64::from(count)));
        }
    }

    /// A name is bound to the size; `2*d` binds `d` to half of it.
    fn bind_dim(&mut self, body: &mut Body, dim: &Expression, size: &Dim) {
        match &dim.kind {
            ExpressionKind::Name(name) if !self.dim_meaning(body, name) => {
                body.env.bind(name, Value::Int(size.clone()));
            }
            ExpressionKind::Binary { operator: BinaryOperator::Multiply, left, right, .. } => {
                let (factor, name) = match (&left.kind, &right.kind) {
                    (ExpressionKind::Int(k), _) => (*k, right),
                    (_, ExpressionKind::Int(k)) => (*k, left),
                    _ => return,
                };
                if let Some(part) = size.div_exact(&Dim::from(factor)) {
                    self.bind_dim(body, name, &part);
                }
            }
            _ => {}
        }
    }

    /// Checks an argument against its declared type. A number becomes a tensor where a scalar is declared.
    pub(super) fn check_argument(
        &mut self,
        body: &mut Body,
        callee: &str,
        parameter: &Name,
        declared: &TypeExpression,
        value: Value,
        span: Span,
    ) -> Outcome<Value> {
        let id = match &value {
            Value::Tensor(id) => *id,
            Value::Poison => return Ok(Value::Poison),
            Value::Int(_) | Value::Float(_) | Value::Bool(_) if declared.lead.is_none() && declared.dims.is_empty() => {
                let dtype = self.concrete_dtype(body, &declared.dtype)?;
                return self.number_tensor(&value, dtype, span);
            }
            other => {
                let found = self.describe(other);
                let message = format!("`{callee}` takes a tensor as `{}`, not {found}", parameter.text);
                let expected = format!("expected {}", self.quote(declared.span));
                return Err(self.fail(Diagnostic::error(span, message).note(expected)));
            }
        };
        let actual = self.builder.type_of(id).clone();
        if let Some(wrong) = self.type_mismatch(body, declared, &actual)? {
            let dtype = self.concrete_dtype(body, &declared.dtype)?;
            let expected = self.quote(declared.span).replacen(ANY_FLOAT, &dtype.to_string(), 1);
            let message = format!("`{callee}` cannot take {actual} as `{}`", parameter.text);
            let mut diagnostic = Diagnostic::error(span, message)
                .primary(format!("this is {actual}"))
                .note(format!("expected {}: {expected}", parameter.text))
                .note(format!("found {actual}: {}", wrong.why));
            if let Some(help) = wrong.help {
                diagnostic = diagnostic.help(help);
            }
            let diagnostic = self.with_origin(diagnostic, &value).label(declared.span, "declared here");
            return Err(self.fail(diagnostic));
        }
        Ok(value)
    }

    fn type_mismatch(
        &mut self,
        body: &mut Body,
        declared: &TypeExpression,
        actual: &TensorType,
    ) -> Outcome<Option<Mismatch>> {
        let fixed = declared.dims.len();
        let exact = declared.lead.is_none();
        if (exact && actual.rank() != fixed) || actual.rank() < fixed {
            let at_least = if exact { "" } else { "at least " };
            let plural = if actual.rank() == 1 { "dim" } else { "dims" };
            let why = format!("it has {} {plural} instead of {at_least}{fixed}", actual.rank());
            return Ok(Some(Mismatch { why, help: None }));
        }
        let lead = actual.rank() - fixed;
        if let Some(name) = declared.lead.as_ref().and_then(|l| l.name.as_ref()) {
            let bound = self.lead_dims(body, name)?;
            if bound != actual.shape[..lead] {
                let (bound, found) = (
                    crate::ir::types::ShapeText(&bound).to_string(),
                    crate::ir::types::ShapeText(&actual.shape[..lead]).to_string(),
                );
                let why = format!("`..{}` is {bound} by an earlier argument, here it is {found}", name.text);
                return Ok(Some(Mismatch { why, help: None }));
            }
        }
        for (at, dim) in declared.dims.iter().enumerate() {
            let wanted = self.dim(body, dim)?;
            let found = &actual.shape[lead + at];
            if wanted != *found {
                let text = self.quote(dim.span);
                let name = if text == wanted.to_string() { text.to_owned() } else { format!("{text} = {wanted}") };
                return Ok(Some(Mismatch { why: format!("dim {} is {found}, not {name}", lead + at), help: None }));
            }
        }
        let wanted = self.concrete_dtype(body, &declared.dtype)?;
        if wanted != actual.dtype {
            let why = format!("its elements are {}, not {wanted}", actual.dtype);
            let help = (!matches!(wanted, DType::Index { .. })).then(|| format!("convert it with `{wanted}(...)`"));
            return Ok(Some(Mismatch { why, help }));
        }
        Ok(None)
    }

    /// A compile-time number as a scalar tensor.
    pub(super) fn number_tensor(&mut self, value: &Value, dtype: DType, span: Span) -> Outcome<Value> {
        let storage = dtype.storage();
        let id = match value {
            Value::Int(d) if storage != DType::Bool => match d.constant() {
                Some(i) => self.builder.constant(i as f64, storage, &[]),
                None => self.builder.dim_value(d, storage),
            },
            Value::Float(x) if dtype.is_float() => self.builder.constant(*x, dtype, &[]),
            Value::Bool(b) if dtype == DType::Bool => self.builder.constant(f64::from(u8::from(*b)), dtype, &[]),
            other => {
                let message = format!("{} is no {dtype}", self.describe(other));
                return Err(self.error(span, message));
            }
        };
        Ok(Value::Tensor(id))
    }
}

/// Why an argument does not fit.
struct Mismatch {
    why: String,
    help: Option<String>,
}

/// The names that occur in a dim.
fn names_in(e: &Expression, out: &mut Vec<Arc<str>>) {
    match &e.kind {
        ExpressionKind::Name(name) if !out.contains(name) => out.push(name.clone()),
        ExpressionKind::Unary { operand, .. } => names_in(operand, out),
        ExpressionKind::Binary { left, right, .. } => {
            names_in(left, out);
            names_in(right, out);
        }
        _ => {}
    }
}
