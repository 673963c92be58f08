//! Gradients that could only be 0: said with the operation at which they end, instead of training nothing in silence.

use super::Elaborator;
use crate::diag::{Diagnostic, Span};
use crate::ir::graph::ValueId;
use crate::ir::slope::{self, Slopes};

impl Elaborator<'_> {
    /// Remembers where in the user's file a gradient will end.
    pub(super) fn remember_end(&mut self, value: ValueId, primitive: &str, span: Span) {
        if slope::is_end(self.builder.graph(), value) {
            let own = |span: &Span| !self.project.is_library(*span);
            let call = self.calls.iter().rev().map(|call| call.span).find(own);
            let place = if own(&span) { Some(span) } else { call };
            let name = match primitive {
                "cast" => format!("the conversion to {}", self.builder.type_of(value).dtype),
                name => super::operator::with_symbol(name, &format!("`{name}`")),
            };
            self.slope_ends.extend(place.map(|place| (value, (place, name))));
        }
    }

    /// What is wrong with taking the gradient of `y` by `targets`, if it is 0 by all of them and nobody asked for that.
    /// `names` are what the two are called.
    pub(super) fn no_slope(
        &self,
        y: ValueId,
        targets: &[ValueId],
        names: (&str, &str),
        span: Span,
    ) -> Option<Diagnostic> {
        let graph = self.builder.graph();
        let slopes = Slopes::of(graph, y);
        if targets.is_empty() || targets.iter().any(|target| slopes.reaches(*target)) {
            return None;
        }
        let ends: Vec<ValueId> = targets.iter().flat_map(|target| slopes.ends_before(*target)).collect();
        if ends.iter().any(|end| slope::is_stopped(graph, *end)) {
            return None;
        }
        let Some(end) = ends.iter().min() else {
            let message = format!("this gradient is 0: `{}` does not depend on `{}`", names.0, names.1);
            return Some(
                Diagnostic::error(span, message).help("a name that is bound again means another value from there on"),
            );
        };
        let name = match self.slope_ends.get(end) {
            Some((_, name)) => name.clone(),
            None => format!("`{}`", slope::name_of(graph, *end)),
        };
        let message = format!("the gradient of `{}` is 0: it ends at {name}, which has no slope", names.0);
        let diagnostic = Diagnostic::error(span, message).help(
            "take a smooth function instead, or let the gradient pass by: `x + stop_gradient(round(x) - x)` is round(x) with the slope of x",
        );
        Some(match self.slope_ends.get(end) {
            Some((place, _)) if *place != span => diagnostic.label(*place, "the gradient ends here"),
            _ => diagnostic,
        })
    }
}
