//! Attributes of ops as data: one form for printing, parsing and substituting symbolic sizes.

use crate::ir::dim::{Dim, Sizes};
use crate::ir::types::DType;

/// A compile-time value inside an op. Floats are kept as bits so that ops are `Eq` and `Hash`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Attribute {
    Dim(Dim),
    Dims(Vec<Dim>),
    /// The bits of an `f64`.
    Float(u64),
    Floats(Vec<u64>),
    Bool(bool),
    /// A word: printed bare if it is an identifier, quoted otherwise.
    Name(String),
    DType(DType),
}

impl Attribute {
    /// A float attribute.
    pub fn float(value: f64) -> Attribute {
        Attribute::Float(value.to_bits())
    }

    /// A list of axes or sizes.
    pub fn dims(values: impl IntoIterator<Item = impl Into<Dim>>) -> Attribute {
        Attribute::Dims(values.into_iter().map(Into::into).collect())
    }

    /// The attribute with symbolic dims replaced; `None` on overflow.
    pub fn substitute(&self, sizes: &Sizes) -> Option<Attribute> {
        Some(match self {
            Attribute::Dim(d) => Attribute::Dim(d.substitute(sizes)?),
            Attribute::Dims(ds) => Attribute::Dims(ds.iter().map(|d| d.substitute(sizes)).collect::<Option<_>>()?),
            other => other.clone(),
        })
    }
}

/// Attributes by name, in the order in which the op lists them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Attributes(pub Vec<(&'static str, Attribute)>);

impl Attributes {
    /// The attribute called `name`.
    ///
    /// # Errors
    /// A sentence naming the missing attribute.
    pub fn get(&self, name: &str) -> Result<&Attribute, String> {
        self.0.iter().find(|(n, _)| *n == name).map(|(_, a)| a).ok_or_else(|| format!("attribute `{name}` is missing"))
    }
}
