//! The `data` block: which reader gives which field in each split.

use std::collections::HashSet;
use std::sync::Arc;

use super::statement::{Body, Context};
use super::value::Value;
use super::{Elaborator, Failure, Outcome, readers};
use crate::diag::{Diagnostic, Span, nearest};
use crate::frontend::ast::{CallArgument, Definition, Expression, ExpressionKind, Item, Name, Split, SplitEntry};
use crate::frontend::model::{Constant, DataBinding, DataSpec, DataSplit, READERS, Reader, ReaderArgument, Take};

impl Elaborator<'_> {
    /// The data block of the model, if the file has one.
    pub(super) fn data(&mut self, definition: &Arc<Definition>) -> Outcome<Option<DataSpec>> {
        let Some(block) = self.block_of(definition, |item| match item {
            Item::Data(block) => Some((block.clone(), block.model.clone(), block.span)),
            _ => None,
        })?
        else {
            return Ok(None);
        };
        // Options are compile-time values of the file; the model's names are not among them.
        let mut outer =
            Body::new(super::value::Env::root(crate::frontend::MAIN), super::scope::Scope::root(), Context::Outside);
        let mut splits: Vec<DataSplit> = Vec::new();
        for split in &block.splits {
            if splits.iter().any(|s| *s.name == *split.name.text) {
                self.error(split.name.span, format!("there are two splits `{}`", split.name.text));
                continue;
            }
            if let Ok(split) = self.split(&mut outer, split) {
                splits.push(split);
            }
        }
        self.check_sources(&splits);
        Ok(Some(DataSpec { splits, span: block.span }))
    }

    fn split(&mut self, body: &mut Body, split: &Split) -> Outcome<DataSplit> {
        let mut out = DataSplit {
            name: split.name.text.to_string(),
            span: split.name.span,
            bindings: Vec::new(),
            from: None,
            take: None,
        };
        for entry in &split.contents {
            match entry {
                SplitEntry::Bind { name, reader } => {
                    if let Ok(binding) = self.binding(body, name, reader, &out.bindings) {
                        out.bindings.push(binding);
                    }
                }
                SplitEntry::From { split } => out.from = Some((split.text.to_string(), split.span)),
                SplitEntry::Take { place, amount } => {
                    out.take = Some((self.take(body, place.as_ref(), amount)?, amount.span));
                }
            }
        }
        self.check_split(split, &out);
        Ok(out)
    }

    /// A split binds every field, or is cut from another one.
    fn check_split(&mut self, split: &Split, out: &DataSplit) {
        if out.from.is_some() {
            if let Some(binding) = out.bindings.first() {
                let message = format!("the split `{}` is cut from another and cannot bind fields too", out.name);
                self.error(binding.field_span, message);
            }
            return;
        }
        let bound: HashSet<&str> = split
            .contents
            .iter()
            .filter_map(|e| match e {
                SplitEntry::Bind { name, .. } => Some(&*name.text),
                _ => None,
            })
            .collect();
        let missing: Vec<String> =
            self.fields.iter().map(|f| f.name.clone()).filter(|f| !bound.contains(f.as_str())).collect();
        if !missing.is_empty() {
            let message = format!("the split `{}` has no data for {}", out.name, quoted(&missing));
            self.error(split.name.span, message);
        }
    }

    fn check_sources(&mut self, splits: &[DataSplit]) {
        for split in splits {
            let Some((source, span)) = &split.from else { continue };
            let names: Vec<&str> = splits.iter().map(|s| s.name.as_str()).collect();
            let found = splits.iter().find(|s| s.name == *source);
            let diagnostic = match found {
                Some(other) if other.name == split.name || other.from.is_some() => {
                    Diagnostic::error(*span, format!("`{source}` has no data of its own to cut from"))
                }
                Some(_) => continue,
                None => {
                    let diagnostic = Diagnostic::error(*span, format!("there is no split `{source}`"));
                    match nearest(source, names) {
                        Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
                        None => diagnostic,
                    }
                }
            };
            self.report(diagnostic);
        }
    }

    fn binding(
        &mut self,
        body: &mut Body,
        name: &Name,
        reader: &Expression,
        earlier: &[DataBinding],
    ) -> Outcome<DataBinding> {
        if !self.fields.iter().any(|f| *f.name == *name.text) {
            let names: Vec<String> = self.fields.iter().map(|f| f.name.clone()).collect();
            let diagnostic = Diagnostic::error(name.span, format!("the model has no input or target `{}`", name.text));
            return Err(self.fail(match nearest(&name.text, names.iter().map(String::as_str)) {
                Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
                None => diagnostic.help(format!("it has {}", quoted(&names))),
            }));
        }
        if earlier.iter().any(|b| *b.field == *name.text) {
            return Err(self.error(name.span, format!("`{}` is bound twice", name.text)));
        }
        let reader = self.reader(body, reader)?;
        Ok(DataBinding { field: name.text.to_string(), field_span: name.span, reader })
    }

    fn reader(&mut self, body: &mut Body, e: &Expression) -> Outcome<Reader> {
        let ExpressionKind::Call { callee, arguments } = &e.kind else {
            return Err(self.fail(
                Diagnostic::error(e.span, "a field is bound to a reader, such as `idx(\"file\")`")
                    .help("arithmetic on data belongs into the model"),
            ));
        };
        let ExpressionKind::Name(name) = &callee.kind else {
            return Err(self.error(callee.span, "a field is bound to a reader, such as `idx(\"file\")`"));
        };
        let Some(rule) = readers::find(name) else {
            let diagnostic = Diagnostic::error(callee.span, format!("there is no reader `{name}`"));
            return Err(self.fail(match nearest(name, READERS) {
                Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
                None => diagnostic.help(format!("there are {}", READERS.join(", "))),
            }));
        };
        let names: Vec<Option<Span>> = arguments.iter().map(|a| a.name.as_ref().map(|n| n.span)).collect();
        let arguments: Outcome<Vec<ReaderArgument>> = arguments.iter().map(|a| self.reader_argument(body, a)).collect();
        let reader = Reader { name: name.to_string(), name_span: callee.span, arguments: arguments?, span: e.span };
        let mistakes = rule.check(&reader, &names);
        if mistakes.is_empty() {
            return Ok(reader);
        }
        for mistake in mistakes {
            self.report(mistake);
        }
        Err(Failure::Reported)
    }

    fn reader_argument(&mut self, body: &mut Body, argument: &CallArgument) -> Outcome<ReaderArgument> {
        let value = self.expression(body, &argument.value)?;
        let span = argument.value.span;
        match constant(&value) {
            Some(constant) => {
                Ok(ReaderArgument { name: argument.name.as_ref().map(|n| n.text.to_string()), value: constant, span })
            }
            None if value.is_poison() => Err(Failure::Reported),
            None => {
                let message =
                    format!("an option of a reader is known at compile time, this is {}", self.describe(&value));
                Err(self.error(span, message))
            }
        }
    }

    fn take(&mut self, body: &mut Body, place: Option<&Name>, amount: &Expression) -> Outcome<Take> {
        let value = self.expression(body, amount)?;
        let last = match place.map(|p| &*p.text) {
            Some("first") => false,
            Some("last") | None => true,
            Some(other) => {
                let span = place.map_or(amount.span, |p| p.span);
                return Err(self.error(span, format!("`take {other}`: write `first` or `last`")));
            }
        };
        match (&value, value.as_int(), value.as_number()) {
            (_, Some(rows), _) if rows >= 0 && last => Ok(Take::Last(rows as u64)),
            (_, Some(rows), _) if rows >= 0 => Ok(Take::First(rows as u64)),
            (Value::Float(_), _, Some(part)) if part > 0.0 && part < 1.0 && last => Ok(Take::LastFraction(part)),
            (Value::Float(_), _, Some(part)) if part > 0.0 && part < 1.0 => Ok(Take::FirstFraction(part)),
            _ => {
                let message =
                    format!("`take` is a number of rows or a fraction between 0 and 1, not {}", self.describe(&value));
                Err(self.error(amount.span, message))
            }
        }
    }
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")
}

fn constant(value: &Value) -> Option<Constant> {
    Some(match value {
        Value::Int(d) => Constant::Int(d.constant()?),
        Value::Float(x) => Constant::Float(*x),
        Value::Bool(b) => Constant::Bool(*b),
        Value::Text(t) => Constant::Text(t.to_string()),
        Value::List(items) | Value::Tuple(items) => Constant::List(items.iter().map(constant).collect::<Option<_>>()?),
        _ => return None,
    })
}
