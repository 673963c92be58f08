//! What elaboration yields: a checked model with its entry points, its recipe and its data, free of syntax.

mod recipe;

pub use super::build::Entries;
pub use recipe::{
    Clip, Comparison, Condition, Every, Load, MAIN_PHASE, MetricName, Minimize, Quantity, Recipe, Stop, Validate,
};

use crate::diag::{Diagnostic, Span};
use crate::ir::graph::{Function, Role};
use crate::ir::types::TensorType;

/// A model that passed every check.
#[derive(Clone, Debug)]
pub struct CheckedModel {
    pub name: String,
    /// Inputs and targets in the order in which they are declared.
    pub fields: Vec<Field>,
    /// Parameters and states in the order of the weight file: dtype size descending, then path.
    pub parameters: Vec<ParameterInfo>,
    /// The layers applied at the top of the model, in order of first use.
    pub layers: Vec<LayerRecord>,
    pub entries: Entries,
    pub recipe: Option<Recipe>,
    pub data: Option<DataSpec>,
    pub warnings: Vec<Diagnostic>,
}

/// The size that stands for the rows of a set in the types of [`Whole::finish`].
pub const SET_ROWS: &str = "rows of the set";

/// Metrics that are no means over batches, in two parts.
#[derive(Clone, Debug)]
pub struct Whole {
    /// As [`Entries::eval`], and the rows to be gathered as outputs.
    pub gather: Function,
    /// The metrics, of the gathered rows as inputs.
    pub finish: Function,
}

/// An `input` or a `target`.
#[derive(Clone, Debug)]
pub struct Field {
    pub name: String,
    /// [`Role::Input`] or [`Role::Target`].
    pub role: Role,
    pub ty: TensorType,
    pub span: Span,
}

/// A `param` or a `state` of the model.
#[derive(Clone, Debug)]
pub struct ParameterInfo {
    /// The name in weight files: `dense_1.w`.
    pub path: String,
    pub ty: TensorType,
    /// False for a `state`, and for a parameter that the recipe freezes.
    pub trainable: bool,
    /// True for `param`, false for `state`.
    pub is_parameter: bool,
    /// Where it is declared, in the library or in the user's file.
    pub span: Span,
}

/// A layer applied at the top of the model.
#[derive(Clone, Debug)]
pub struct LayerRecord {
    pub path: String,
    /// The layer's name (`dense`), `lambda` for an anonymous one, `param` or `state` for one declared in the model itself.
    pub layer: String,
    /// The types of its first application's results.
    pub output: Vec<TensorType>,
    /// Indices into [`CheckedModel::parameters`].
    pub parameters: Vec<usize>,
}

/// A typed `data` block.
#[derive(Clone, Debug)]
pub struct DataSpec {
    pub splits: Vec<DataSplit>,
    pub span: Span,
}

/// One split.
#[derive(Clone, Debug)]
pub struct DataSplit {
    pub name: String,
    pub span: Span,
    /// One reader for each field it binds; empty if it is cut from another split.
    pub bindings: Vec<DataBinding>,
    /// `from train`: the split whose rows these are.
    pub from: Option<(String, Span)>,
    pub take: Option<(Take, Span)>,
}

/// Which rows of a split are taken, before shuffling.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Take {
    First(u64),
    Last(u64),
    /// The first part of the rows.
    FirstFraction(f64),
    /// The last part of the rows; `take 0.2` of a split that others share means this.
    LastFraction(f64),
}

/// `image = idx("file")`.
#[derive(Clone, Debug)]
pub struct DataBinding {
    pub field: String,
    pub field_span: Span,
    pub reader: Reader,
}

/// A call of a reader with compile-time arguments.
#[derive(Clone, Debug)]
pub struct Reader {
    /// One of [`READERS`], its options checked.
    pub name: String,
    pub name_span: Span,
    pub arguments: Vec<ReaderArgument>,
    pub span: Span,
}

/// The readers of the language.
pub const READERS: [&str; 10] =
    ["idx", "npy", "npz", "csv", "parquet", "hdf5", "safetensors", "images", "text", "constant"];

/// One argument of a reader.
#[derive(Clone, Debug)]
pub struct ReaderArgument {
    /// `None` for one given by position.
    pub name: Option<String>,
    pub value: Constant,
    pub span: Span,
}

/// A compile-time value of a reader's option.
#[derive(Clone, Debug, PartialEq)]
pub enum Constant {
    Int(i64),
    Float(f64),
    Bool(bool),
    Text(String),
    List(Vec<Constant>),
}

impl Reader {
    /// The first argument given by position, if it is text: the path or glob.
    pub fn path(&self) -> Option<(&str, Span)> {
        self.arguments.iter().find(|a| a.name.is_none()).and_then(|a| match &a.value {
            Constant::Text(text) => Some((text.as_str(), a.span)),
            _ => None,
        })
    }

    /// The arguments given by position after the path.
    pub fn further(&self) -> impl Iterator<Item = &ReaderArgument> {
        self.arguments.iter().filter(|a| a.name.is_none()).skip(1)
    }

    /// The argument called `name`.
    pub fn option(&self, name: &str) -> Option<&ReaderArgument> {
        self.arguments.iter().find(|a| a.name.as_deref() == Some(name))
    }
}
