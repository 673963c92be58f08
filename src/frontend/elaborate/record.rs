//! Keeps what each place of the user's file came to, for [`facts`](crate::frontend::facts). Without a recorder nothing is kept.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustc_hash::FxHashMap;

use super::Elaborator;
use super::value::{Instance, Value};
use crate::diag::Span;
use crate::frontend::MAIN;
use crate::frontend::facts::{Kind, MOST_KINDS};

/// Items of a list that are written out.
const MOST_ITEMS: usize = 8;
/// Lists inside lists that are written out.
const MOST_DEPTH: usize = 3;

/// What has been seen so far.
pub(in crate::frontend) struct Recorder {
    stop: Arc<AtomicBool>,
    seen: FxHashMap<(u32, u32), Vec<Seen>>,
}

/// The path of a layer is decided when it is first applied, so it is looked up at the end.
enum Seen {
    Kind(Kind),
    Instance(String, Rc<Instance>),
}

impl Recorder {
    /// A recorder of a run that ends once `stop` is set.
    pub fn new(stop: Arc<AtomicBool>) -> Recorder {
        Recorder { stop, seen: FxHashMap::default() }
    }

    pub fn into_kinds(self) -> impl Iterator<Item = ((u32, u32), Vec<Kind>)> {
        self.seen.into_iter().map(|(place, seen)| (place, seen.into_iter().map(Seen::into_kind).collect()))
    }
}

impl Seen {
    fn into_kind(self) -> Kind {
        match self {
            Seen::Kind(kind) => kind,
            Seen::Instance(text, instance) => {
                let path: &RefCell<Option<Rc<str>>> = &instance.path;
                Kind::Layer { text, path: path.borrow().as_ref().map(|p| p.to_string()) }
            }
        }
    }
}

impl Elaborator<'_> {
    /// Whether nobody waits for this run any more.
    pub(super) fn stopped(&self) -> bool {
        self.recorder.as_ref().is_some_and(|r| r.stop.load(Ordering::Relaxed))
    }

    /// Notes that the place `span` came to `value`.
    pub(super) fn observe(&mut self, span: Span, value: &Value) {
        if self.recorder.is_none() || span.file != MAIN {
            return;
        }
        let place = (span.start, span.end);
        let full = |r: &Recorder| r.seen.get(&place).is_some_and(|seen| seen.len() >= MOST_KINDS);
        if self.recorder.as_ref().is_some_and(full) {
            return;
        }
        let seen = match value {
            Value::Instance(instance) => Seen::Instance(self.describe(value), instance.clone()),
            other => match self.kind(other, MOST_DEPTH) {
                Some(kind) => Seen::Kind(kind),
                None => return,
            },
        };
        let Some(recorder) = &mut self.recorder else { return };
        let known = recorder.seen.entry(place).or_default();
        let repeated = known.iter().any(|k| match (k, &seen) {
            (Seen::Kind(a), Seen::Kind(b)) => a == b,
            (Seen::Instance(_, a), Seen::Instance(_, b)) => Rc::ptr_eq(a, b),
            _ => false,
        });
        if !repeated {
            known.push(seen);
        }
    }

    /// `None` for a value that failed.
    fn kind(&self, value: &Value, depth: usize) -> Option<Kind> {
        Some(match value {
            Value::Poison => return None,
            Value::Tensor(id) => Kind::Tensor(self.builder.type_of(*id).clone()),
            Value::List(items) | Value::Tuple(items) if items.len() <= MOST_ITEMS && depth > 0 => {
                let list = matches!(value, Value::List(_));
                Kind::Several { list, items: items.iter().map(|v| self.kind(v, depth - 1)).collect::<Option<_>>()? }
            }
            Value::Int(dim) => Kind::Value(dim.to_string()),
            Value::Float(number) => Kind::Value(format!("{number:?}")),
            Value::Bool(bool) => Kind::Value(bool.to_string()),
            Value::DType(dtype) => Kind::Value(dtype.to_string()),
            Value::Instance(_) => Kind::Layer { text: self.describe(value), path: None },
            other => Kind::Value(self.describe(other)),
        })
    }
}
