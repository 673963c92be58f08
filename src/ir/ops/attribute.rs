//! Attributes of ops as data: one form for printing, parsing and substituting symbolic sizes.
//!
//! An op lists its attributes with [`Attributes::new`] and reads them back with the typed getters, which also
//! settle what text alone cannot tell: a bare word may be a name or a symbolic dim, `[]` any list.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::ir::dim::{Dim, Sizes};
use crate::ir::graph::Function;
use crate::ir::types::{DType, ShapeText};

/// A compile-time value inside an op. Floats are kept as bits so that ops are `Eq` and `Hash`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Attribute {
    Dim(Dim),
    Dims(Vec<Dim>),
    /// The bits of an `f64`.
    Float(u64),
    Floats(Vec<u64>),
    Bool(bool),
    /// A word, an identifier.
    Name(String),
    DType(DType),
    /// A function over a graph of its own: the body of a loop.
    Function(Arc<Function>),
}

impl Attribute {
    /// A float attribute.
    pub fn float(value: f64) -> Attribute {
        Attribute::Float(value.to_bits())
    }

    /// A list of axes or sizes.
    pub fn dim(value: impl Into<Dim>) -> Attribute {
        Attribute::Dim(value.into())
    }

    /// A list of sizes.
    pub fn dims(values: impl IntoIterator<Item = impl Into<Dim>>) -> Attribute {
        Attribute::Dims(values.into_iter().map(Into::into).collect())
    }

    /// The attribute with symbolic dims replaced; those of a function have to become concrete.
    ///
    /// # Errors
    /// A size that overflows, or a node of a function that no longer checks, as a sentence.
    pub fn substitute(&self, sizes: &Sizes) -> Result<Attribute, String> {
        let dim = |d: &Dim| d.substitute(sizes).ok_or_else(|| format!("the size {d} overflows"));
        Ok(match self {
            Attribute::Dim(d) => Attribute::Dim(dim(d)?),
            Attribute::Dims(ds) => Attribute::Dims(ds.iter().map(dim).collect::<Result<_, _>>()?),
            Attribute::Function(body) => Attribute::Function(Arc::new(body.specialize(sizes)?)),
            other => other.clone(),
        })
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Attribute::Dim(d) => write!(f, "{d}"),
            Attribute::Dims(ds) => write!(f, "{}", ShapeText(ds)),
            // `{:?}` of a float always has a point, an exponent, `inf` or `NaN`, so it never reads as a dim.
            Attribute::Float(bits) => write!(f, "{:?}", f64::from_bits(*bits)),
            Attribute::Floats(all) => {
                let words: Vec<String> = all.iter().map(|b| format!("{:?}", f64::from_bits(*b))).collect();
                write!(f, "[{}]", words.join(", "))
            }
            Attribute::Bool(b) => write!(f, "{b}"),
            Attribute::Name(name) => f.write_str(name),
            Attribute::DType(dtype) => write!(f, "{dtype}"),
            Attribute::Function(body) => {
                f.write_str("{\n")?;
                body.to_string().lines().try_for_each(|line| writeln!(f, "    {line}"))?;
                f.write_str("  }")
            }
        }
    }
}

/// Attributes by name, in the order in which the op lists them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Attributes(pub Vec<(Cow<'static, str>, Attribute)>);

impl Attributes {
    /// The given attributes in order.
    pub fn new<const N: usize>(entries: [(&'static str, Attribute); N]) -> Attributes {
        Attributes(entries.into_iter().map(|(name, value)| (Cow::Borrowed(name), value)).collect())
    }

    /// The attribute called `name`.
    ///
    /// # Errors
    /// A sentence naming the missing attribute.
    pub fn get(&self, name: &str) -> Result<&Attribute, String> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, a)| a).ok_or_else(|| format!("attribute `{name}` is missing"))
    }

    /// All attributes with symbolic dims replaced.
    ///
    /// # Errors
    /// As [`Attribute::substitute`].
    pub fn substitute(&self, sizes: &Sizes) -> Result<Attributes, String> {
        let entries = self.0.iter().map(|(n, a)| Ok((n.clone(), a.substitute(sizes)?)));
        Ok(Attributes(entries.collect::<Result<_, String>>()?))
    }

    /// A dim.
    pub fn dim(&self, name: &str) -> Result<Dim, String> {
        match self.get(name)? {
            Attribute::Dim(d) => Ok(d.clone()),
            other => Err(wrong(name, "a dim", other)),
        }
    }

    /// A list of dims.
    pub fn dims(&self, name: &str) -> Result<Vec<Dim>, String> {
        match self.get(name)? {
            Attribute::Dims(ds) => Ok(ds.clone()),
            Attribute::Floats(all) if all.is_empty() => Ok(Vec::new()),
            other => Err(wrong(name, "a list of dims", other)),
        }
    }

    /// A number that fits `T`.
    pub fn number<T: TryFrom<i64>>(&self, name: &str) -> Result<T, String> {
        let dim = self.dim(name)?;
        let number = dim.constant().and_then(|n| T::try_from(n).ok());
        number.ok_or_else(|| format!("attribute `{name}` is {dim}, which is no number in range"))
    }

    /// A list of numbers that fit `T`.
    pub fn numbers<T: TryFrom<i64>>(&self, name: &str) -> Result<Vec<T>, String> {
        let numbers = self.dims(name)?.into_iter().map(|d| d.constant().and_then(|n| T::try_from(n).ok()));
        numbers
            .collect::<Option<_>>()
            .ok_or_else(|| format!("attribute `{name}` holds something that is no number in range"))
    }

    /// The value of a float attribute.
    pub fn float(&self, name: &str) -> Result<f64, String> {
        match self.get(name)? {
            Attribute::Float(bits) => Ok(f64::from_bits(*bits)),
            other => Err(wrong(name, "a float", other)),
        }
    }

    /// The bits of a list of floats.
    pub fn floats(&self, name: &str) -> Result<Vec<u64>, String> {
        match self.get(name)? {
            Attribute::Floats(all) => Ok(all.clone()),
            Attribute::Dims(ds) if ds.is_empty() => Ok(Vec::new()),
            other => Err(wrong(name, "a list of floats", other)),
        }
    }

    /// A function.
    pub fn function(&self, name: &str) -> Result<Arc<Function>, String> {
        match self.get(name)? {
            Attribute::Function(function) => Ok(Arc::clone(function)),
            other => Err(wrong(name, "a function", other)),
        }
    }

    /// A bool.
    pub fn bool(&self, name: &str) -> Result<bool, String> {
        match self.get(name)? {
            Attribute::Bool(value) => Ok(*value),
            other => Err(wrong(name, "`true` or `false`", other)),
        }
    }

    /// A word. A bare word of a text form arrives as a symbolic dim.
    pub fn name(&self, name: &str) -> Result<String, String> {
        match self.get(name)? {
            Attribute::Name(word) => Ok(word.clone()),
            Attribute::Dim(d) if d.constant().is_none() => Ok(d.to_string()),
            other => Err(wrong(name, "a word", other)),
        }
    }

    /// A dtype.
    pub fn dtype(&self, name: &str) -> Result<DType, String> {
        match self.get(name)? {
            Attribute::DType(dtype) => Ok(*dtype),
            other => Err(wrong(name, "a dtype", other)),
        }
    }
}

fn wrong(name: &str, expected: &str, found: &Attribute) -> String {
    format!("attribute `{name}` is {expected}, found {found}")
}
