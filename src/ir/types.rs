//! Element types and tensor types: what the frontend checks and every IR carries.

use std::fmt;

use super::dim::{Dim, Sizes};

/// The type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DType {
    F32,
    F64,
    F16,
    BF16,
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    Bool,
    /// An integer class in `0..classes`, stored as [`DType::I32`].
    Index {
        classes: u32,
    },
}

impl DType {
    /// The dtypes that have a keyword of their own, in the order in which they are documented.
    pub const NAMED: [(&'static str, DType); 12] = [
        ("f32", DType::F32),
        ("f64", DType::F64),
        ("f16", DType::F16),
        ("bf16", DType::BF16),
        ("i8", DType::I8),
        ("i16", DType::I16),
        ("i32", DType::I32),
        ("i64", DType::I64),
        ("u8", DType::U8),
        ("u16", DType::U16),
        ("u32", DType::U32),
        ("bool", DType::Bool),
    ];

    /// The dtype called `name`; `index(K)` is not among them.
    pub fn from_name(name: &str) -> Option<DType> {
        Self::NAMED.iter().find(|(n, _)| *n == name).map(|(_, d)| *d)
    }

    /// Bytes of one stored element.
    pub fn bytes(self) -> usize {
        match self {
            DType::F64 | DType::I64 => 8,
            DType::F32 | DType::I32 | DType::U32 | DType::Index { .. } => 4,
            DType::F16 | DType::BF16 | DType::I16 | DType::U16 => 2,
            DType::I8 | DType::U8 | DType::Bool => 1,
        }
    }

    /// Whether values are real numbers, which alone have derivatives.
    pub fn is_float(self) -> bool {
        matches!(self, DType::F32 | DType::F64 | DType::F16 | DType::BF16)
    }

    /// Whether values are stored in half the bits of an `f32`, in which they are computed with.
    pub fn is_half(self) -> bool {
        matches!(self, DType::F16 | DType::BF16)
    }

    /// Whether values are whole numbers (`index(K)` included, `bool` not).
    pub fn is_integer(self) -> bool {
        !self.is_float() && self != DType::Bool
    }

    /// The dtype that memory holds: `index(K)` is stored as `i32`.
    pub fn storage(self) -> DType {
        match self {
            DType::Index { .. } => DType::I32,
            other => other,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let DType::Index { classes } = self {
            return write!(f, "index({classes})");
        }
        let name = Self::NAMED.iter().find(|(_, d)| d == self).map(|(n, _)| *n);
        f.write_str(name.expect("every dtype but index has a name"))
    }
}

/// `dtype[dim, dim, ...]`; no dims is a scalar.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TensorType {
    pub dtype: DType,
    pub shape: Vec<Dim>,
}

impl TensorType {
    /// A tensor type.
    pub fn new(dtype: DType, shape: impl IntoIterator<Item = impl Into<Dim>>) -> Self {
        TensorType { dtype, shape: shape.into_iter().map(Into::into).collect() }
    }

    /// A scalar of `dtype`.
    pub fn scalar(dtype: DType) -> Self {
        TensorType { dtype, shape: Vec::new() }
    }

    /// The number of dims.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// The same shape with another dtype.
    pub fn with_dtype(&self, dtype: DType) -> Self {
        TensorType { dtype, shape: self.shape.clone() }
    }

    /// The shape as numbers; `None` while a dim is symbolic or negative.
    pub fn sizes(&self) -> Option<Vec<usize>> {
        self.shape.iter().map(|d| d.constant().and_then(|c| usize::try_from(c).ok())).collect()
    }

    /// The number of elements, once every dim is concrete.
    pub fn elements(&self) -> Option<usize> {
        self.sizes()?.into_iter().try_fold(1usize, usize::checked_mul)
    }

    /// The type with symbolic dims replaced; `None` on overflow.
    pub fn substitute(&self, sizes: &Sizes) -> Option<Self> {
        let shape = self.shape.iter().map(|d| d.substitute(sizes)).collect::<Option<_>>()?;
        Some(TensorType { dtype: self.dtype, shape })
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.dtype, ShapeText(&self.shape))
    }
}

/// Prints a shape as `[batch, 28, 28]`.
pub struct ShapeText<'a>(pub &'a [Dim]);

impl fmt::Display for ShapeText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (i, dim) in self.0.iter().enumerate() {
            write!(f, "{}{dim}", if i > 0 { ", " } else { "" })?;
        }
        f.write_str("]")
    }
}
