//! Concrete tensors of the graph interpreter: a type and row-major values in f64.

use super::types::TensorType;

/// A tensor whose elements are kept as `f64` whatever its dtype (exact for all but large `i64`).
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Invariant: every dim is concrete.
    pub ty: TensorType,
    /// Row-major; as many as the type has elements.
    pub data: Vec<f64>,
}

impl Tensor {
    /// A tensor of concrete type.
    ///
    /// # Panics
    /// If `data` does not have as many elements as the type.
    pub fn new(ty: TensorType, data: Vec<f64>) -> Tensor {
        assert_eq!(ty.elements(), Some(data.len()), "{ty} holds as many elements as its shape says");
        Tensor { ty, data }
    }

    /// A tensor of equal elements.
    pub fn filled(ty: TensorType, value: f64) -> Tensor {
        Tensor::from_fn(ty, |_| value)
    }

    /// A tensor of concrete type, element by element from the index.
    pub fn from_fn(ty: TensorType, element: impl FnMut(&[usize]) -> f64) -> Tensor {
        let sizes = ty.sizes().expect("interpreted tensors have concrete dims");
        let mut element = element;
        let data = indices(&sizes).map(|index| element(&index)).collect();
        Tensor::new(ty, data)
    }

    /// The element at an index.
    pub fn at(&self, index: &[usize]) -> f64 {
        let strides = self.strides();
        self.data[index.iter().zip(&strides).map(|(i, s)| i * s).sum::<usize>()]
    }

    /// The sizes of the dims.
    pub fn sizes(&self) -> Vec<usize> {
        self.ty.sizes().expect("interpreted tensors have concrete dims")
    }

    /// Row-major strides in elements.
    pub fn strides(&self) -> Vec<usize> {
        strides(&self.sizes())
    }
}

/// Row-major strides of a shape, in elements.
pub fn strides(sizes: &[usize]) -> Vec<usize> {
    let mut out = vec![1; sizes.len()];
    for axis in (1..sizes.len()).rev() {
        out[axis - 1] = out[axis] * sizes[axis];
    }
    out
}

/// Every index of a shape in row-major order; one empty index for a scalar, none if a size is 0.
pub fn indices(sizes: &[usize]) -> impl Iterator<Item = Vec<usize>> {
    let sizes = sizes.to_vec();
    let total: usize = sizes.iter().product();
    (0..total).map(move |mut flat| {
        let mut index = vec![0; sizes.len()];
        for axis in (0..sizes.len()).rev() {
            index[axis] = flat % sizes[axis];
            flat /= sizes[axis];
        }
        index
    })
}
