//! Host data on its way into and out of compiled code: typed slices as bytes.

use crate::ir::types::DType;

use super::bytes::AlignedBytes;

/// Borrowed row-major elements of one input or target: as many rows as the batch has.
#[derive(Clone, Copy, Debug)]
pub struct Slice<'a> {
    dtype: DType,
    bytes: &'a [u8],
}

impl<'a> Slice<'a> {
    /// Elements of `dtype`, little-endian, as they are stored.
    pub fn from_bytes(dtype: DType, bytes: &'a [u8]) -> Self {
        Slice { dtype: dtype.storage(), bytes }
    }

    /// The stored element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The stored bytes.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

macro_rules! slices {
    ($($element:ty => $dtype:ident),*) => {
        $(impl<'a> From<&'a [$element]> for Slice<'a> {
            fn from(elements: &'a [$element]) -> Self {
                Slice { dtype: DType::$dtype, bytes: bytemuck::cast_slice(elements) }
            }
        }

        impl<'a, const N: usize> From<&'a [$element; N]> for Slice<'a> {
            fn from(elements: &'a [$element; N]) -> Self {
                Slice::from(elements.as_slice())
            }
        }

        impl<'a> From<&'a Vec<$element>> for Slice<'a> {
            fn from(elements: &'a Vec<$element>) -> Self {
                Slice::from(elements.as_slice())
            }
        })*
    };
}

slices!(f32 => F32, f64 => F64, i8 => I8, i16 => I16, i32 => I32, i64 => I64, u8 => U8, u16 => U16, u32 => U32);

/// One output of an inference: its name, element type, shape, and row-major elements.
#[derive(Clone, Debug)]
pub struct Output {
    pub name: String,
    pub dtype: DType,
    pub shape: Vec<usize>,
    pub(super) data: AlignedBytes,
}

impl Output {
    /// The elements as stored, little-endian.
    pub fn bytes(&self) -> &[u8] {
        self.data.as_ref()
    }

    /// The elements of an `f32` output; `None` if it has another dtype.
    pub fn as_f32(&self) -> Option<&[f32]> {
        (self.dtype == DType::F32).then(|| bytemuck::cast_slice(self.bytes()))
    }

    /// The elements of any numeric output as `f64`; `f16` and `bf16` are widened.
    pub fn to_f64(&self) -> Vec<f64> {
        let bytes = self.bytes();
        match self.dtype.storage() {
            DType::F32 => widen::<f32>(bytes),
            DType::F64 => widen::<f64>(bytes),
            DType::I8 => widen::<i8>(bytes),
            DType::I16 => widen::<i16>(bytes),
            DType::I32 | DType::Index { .. } => widen::<i32>(bytes),
            DType::I64 => bytemuck::cast_slice::<u8, i64>(bytes).iter().map(|x| *x as f64).collect(),
            DType::U8 | DType::Bool => widen::<u8>(bytes),
            DType::U16 => widen::<u16>(bytes),
            DType::U32 => widen::<u32>(bytes),
            DType::F16 => {
                bytemuck::cast_slice::<u8, u16>(bytes).iter().map(|x| half::f16::from_bits(*x).into()).collect()
            }
            DType::BF16 => {
                bytemuck::cast_slice::<u8, u16>(bytes).iter().map(|x| half::bf16::from_bits(*x).into()).collect()
            }
        }
    }
}

fn widen<T: bytemuck::Pod + Into<f64>>(bytes: &[u8]) -> Vec<f64> {
    bytemuck::cast_slice::<u8, T>(bytes).iter().map(|x| (*x).into()).collect()
}
