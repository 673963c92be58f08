//! Metrics over a whole set: `whole(x)` is all rows of `x` of a set, one batch after the other.
//!
//! A metric that uses it is cut in two: what is gathered batch by batch, and a function of what was gathered, which is compiled
//! for the size of the set. In the graph the gathered rows are an input of their own, so every check of shapes applies to them.

use super::value::Value;
use super::{Elaborator, Outcome};
use crate::diag::{Diagnostic, Span};
use crate::frontend::model::SET_ROWS;
use crate::ir::dim::Dim;
use crate::ir::graph::{Role, ValueId};

/// A tensor whose rows are gathered over a set.
pub(in crate::frontend) struct Gathered {
    pub name: String,
    /// The rows of one batch.
    pub value: ValueId,
    /// The rows of the set: an argument of the functions of whole-set metrics.
    pub argument: ValueId,
}

impl Elaborator<'_> {
    /// `whole(x)`.
    pub(super) fn whole(&mut self, value: &Value, span: Span) -> Outcome<Value> {
        let Value::Tensor(id) = value else {
            if value.is_poison() {
                return Ok(Value::Poison);
            }
            let message = format!("`whole` takes a tensor, not {}", self.describe(value));
            return Err(self.error(span, message));
        };
        if let Some(known) = self.gathered.iter().find(|g| g.value == *id) {
            return Ok(Value::Tensor(known.argument));
        }
        let ty = self.builder.type_of(*id).clone();
        let rows = self.fields.iter().filter_map(|f| f.ty.shape.first()).find(|d| d.constant().is_none());
        if !self.rounds.is_empty() || ty.shape.is_empty() || ty.shape.first() != rows {
            let diagnostic =
                Diagnostic::error(span, format!("`whole` takes a tensor with one row for each sample, not {ty}"));
            return Err(self.fail(self.with_origin(diagnostic, value)));
        }
        let mut all = ty.with_dtype(ty.dtype.storage());
        all.shape[0] = Dim::symbol(SET_ROWS);
        let name = format!("whole.{}", self.gathered.len() + 1);
        let argument = self.argument(name.clone(), Role::Input, all);
        self.gathered.push(Gathered { name, value: *id, argument });
        Ok(Value::Tensor(argument))
    }

    /// Whether a result depends on rows of a whole set.
    pub(super) fn is_whole(&self, value: ValueId) -> bool {
        if self.gathered.is_empty() {
            return false;
        }
        let reached = self.reachable([value]);
        self.gathered.iter().any(|g| reached.contains(&g.argument))
    }

    /// A whole-set metric depends on nothing of a single batch.
    pub(super) fn check_whole_metric(&mut self, name: &str, value: ValueId, span: Span) -> Outcome<()> {
        let reached = self.reachable([value]);
        let gathered: Vec<ValueId> = self.gathered.iter().map(|g| g.argument).collect();
        let batch = self.arguments_among(&reached).find(|i| {
            let is_field = matches!(self.arguments[*i as usize].role, Role::Input | Role::Target);
            is_field && !gathered.contains(&self.argument_values[*i as usize])
        });
        let Some(index) = batch else { return Ok(()) };
        let field = self.arguments[index as usize].name.clone();
        let message = format!("the metric `{name}` of the whole set also depends on single batches of `{field}`");
        Err(self.fail(Diagnostic::error(span, message).help("take `whole(...)` of all that it is made of")))
    }
}
