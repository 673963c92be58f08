//! The host array: what every reader yields and every writer takes.

use crate::ir::types::DType;

use super::checked_size;

/// A dense array in row-major order, little-endian, without padding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Array {
    /// Never `index(K)`: files hold plain numbers.
    pub dtype: DType,
    pub shape: Vec<usize>,
    /// As many bytes as dtype and shape say.
    pub bytes: Vec<u8>,
}

impl Array {
    /// An array; `None` if the bytes are not as many as dtype and shape say.
    pub fn new(dtype: DType, shape: Vec<usize>, bytes: Vec<u8>) -> Option<Array> {
        let (_, expected) = checked_size(&shape, dtype.bytes())?;
        (expected == bytes.len()).then(|| Array { dtype: dtype.storage(), shape, bytes })
    }

    /// An `f32` array; `None` if the values are not as many as the shape says.
    pub fn from_f32(shape: Vec<usize>, values: &[f32]) -> Option<Array> {
        Array::new(DType::F32, shape, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    /// An `f64` array; `None` if the values are not as many as the shape says.
    pub fn from_f64(shape: Vec<usize>, values: &[f64]) -> Option<Array> {
        Array::new(DType::F64, shape, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    /// The number of elements.
    pub fn elements(&self) -> usize {
        self.bytes.len() / self.dtype.bytes()
    }

    /// The number of rows, which is the first dim; a scalar has one row.
    pub fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// The values as `f64` (exact for all but large `i64`).
    pub fn values(&self) -> impl Iterator<Item = f64> {
        self.bytes.chunks_exact(self.dtype.bytes()).map(|element| number(self.dtype, element))
    }

    /// Rows `start..end` as an array of the same kind.
    ///
    /// # Panics
    /// If the range is not within the rows.
    pub fn slice_rows(&self, start: usize, end: usize) -> Array {
        assert!(start <= end && end <= self.rows(), "rows {start}..{end} of {}", self.rows());
        let row = self.bytes.len() / self.rows().max(1);
        let mut shape = self.shape.clone();
        if let Some(first) = shape.first_mut() {
            *first = end - start;
        }
        Array { dtype: self.dtype, shape, bytes: self.bytes[start * row..end * row].to_vec() }
    }
}

/// One little-endian element of `dtype` as `f64`.
///
/// # Panics
/// If `element` is not as long as the dtype's elements.
pub fn number(dtype: DType, element: &[u8]) -> f64 {
    macro_rules! read {
        ($ty:ty) => {
            <$ty>::from_le_bytes(element.try_into().expect("an element has its dtype's length")) as f64
        };
    }
    match dtype.storage() {
        DType::F32 => read!(f32),
        DType::F64 => read!(f64),
        DType::F16 => half::f16::from_le_bytes([element[0], element[1]]).to_f64(),
        DType::BF16 => half::bf16::from_le_bytes([element[0], element[1]]).to_f64(),
        DType::I8 => read!(i8),
        DType::I16 => read!(i16),
        DType::I32 | DType::Index { .. } => read!(i32),
        DType::I64 => read!(i64),
        DType::U8 => read!(u8),
        DType::U16 => read!(u16),
        DType::U32 => read!(u32),
        DType::Bool => f64::from(element[0] != 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_values() {
        let array = Array::from_f32(vec![3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        assert_eq!(array.slice_rows(1, 3).values().collect::<Vec<_>>(), [3.0, 4.0, 5.0, 6.0]);
        assert!(Array::from_f32(vec![2, 2], &[1.0]).is_none());
        assert!(Array::new(DType::U8, vec![usize::MAX, 2], Vec::new()).is_none());
    }
}
