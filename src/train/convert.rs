//! A file's numbers as the elements of a field: exact where the dtypes are equal, checked where they are not.
//!
//! Integer fields take whole numbers in range, whatever dtype the file has; `index(K)` takes classes in `0..K`; float fields take
//! any finite number, rounded to nearest; `bool` takes 0 and 1.

use crate::formats::Array;
use crate::formats::array::number;
use crate::ir::types::DType;

/// An element that a field cannot hold.
#[derive(Clone, Debug, PartialEq)]
pub struct BadElement {
    /// The number of the element in the array, row-major.
    pub position: usize,
    pub reason: BadReason,
}

/// Why an element cannot be held.
#[derive(Clone, Debug, PartialEq)]
pub enum BadReason {
    /// NaN or an infinity, in the file or by rounding to a narrower dtype.
    NotFinite(f64),
    /// A fraction where a whole number is needed.
    NotWhole(f64),
    /// A whole number that the dtype does not have.
    OutOfRange(f64),
}

/// The bytes of `array` as elements of `dtype`.
///
/// # Errors
/// The first element that does not fit.
pub fn convert(array: Array, dtype: DType) -> Result<Vec<u8>, BadElement> {
    if let DType::Index { classes } = dtype {
        return integers(&array, DType::I32, 0.0, f64::from(classes) - 1.0);
    }
    if array.dtype == dtype {
        return match dtype.is_float() {
            true => check_finite(&array).map(|()| array.bytes),
            false if dtype == DType::Bool => Ok(array.bytes.iter().map(|b| u8::from(*b != 0)).collect()),
            false => Ok(array.bytes),
        };
    }
    match dtype {
        DType::F32 => floats(&array, |v, out| push(v as f32, f64::from(v as f32), out, f32::to_le_bytes)),
        DType::F64 => floats(&array, |v, out| push(v, v, out, f64::to_le_bytes)),
        DType::F16 => floats(&array, |v, out| {
            let half = half::f16::from_f64(v);
            push(half, half.to_f64(), out, half::f16::to_le_bytes)
        }),
        DType::BF16 => floats(&array, |v, out| {
            let brain = half::bf16::from_f64(v);
            push(brain, brain.to_f64(), out, half::bf16::to_le_bytes)
        }),
        DType::I8 => integers(&array, dtype, -128.0, 127.0),
        DType::I16 => integers(&array, dtype, -32768.0, 32767.0),
        DType::I32 | DType::Index { .. } => integers(&array, dtype, f64::from(i32::MIN), f64::from(i32::MAX)),
        // Beyond 2^53 an f64 does not name one whole number.
        DType::I64 => integers(&array, dtype, -9_007_199_254_740_992.0, 9_007_199_254_740_992.0),
        DType::U8 => integers(&array, dtype, 0.0, 255.0),
        DType::U16 => integers(&array, dtype, 0.0, 65535.0),
        DType::U32 => integers(&array, dtype, 0.0, f64::from(u32::MAX)),
        DType::Bool => integers(&array, dtype, 0.0, 1.0),
    }
}

fn check_finite(array: &Array) -> Result<(), BadElement> {
    let size = array.dtype.bytes();
    let elements = array.bytes.chunks_exact(size);
    let bad = match array.dtype {
        // The dtype of almost all data, so it does not go through f64.
        DType::F32 => elements.map(|e| f32::from_le_bytes([e[0], e[1], e[2], e[3]])).position(|v| !v.is_finite()),
        dtype => elements.map(|e| number(dtype, e)).position(|v| !v.is_finite()),
    };
    match bad {
        None => Ok(()),
        Some(position) => {
            let value = number(array.dtype, &array.bytes[position * size..(position + 1) * size]);
            Err(BadElement { position, reason: BadReason::NotFinite(value) })
        }
    }
}

/// Appends the little-endian bytes of a float whose value is `value`; an error if that is not finite.
fn push<T, const N: usize>(float: T, value: f64, out: &mut Vec<u8>, bytes: fn(T) -> [u8; N]) -> Result<(), f64> {
    out.extend_from_slice(&bytes(float));
    if value.is_finite() { Ok(()) } else { Err(value) }
}

fn floats(array: &Array, store: impl Fn(f64, &mut Vec<u8>) -> Result<(), f64>) -> Result<Vec<u8>, BadElement> {
    let mut out = Vec::with_capacity(array.elements() * 4);
    for (position, value) in array.values().enumerate() {
        let not_finite = |value| BadElement { position, reason: BadReason::NotFinite(value) };
        store(value, &mut out).map_err(not_finite)?;
    }
    Ok(out)
}

fn integers(array: &Array, dtype: DType, low: f64, high: f64) -> Result<Vec<u8>, BadElement> {
    let bytes = dtype.bytes();
    let mut out = Vec::with_capacity(array.elements() * bytes);
    for (position, value) in array.values().enumerate() {
        let bad = |reason| Err(BadElement { position, reason });
        if !value.is_finite() {
            return bad(BadReason::NotFinite(value));
        }
        if value.fract() != 0.0 {
            return bad(BadReason::NotWhole(value));
        }
        if !(low..=high).contains(&value) {
            return bad(BadReason::OutOfRange(value));
        }
        // Two's complement: the low bytes of the i64 are the value in any narrower integer dtype that has it.
        out.extend_from_slice(&(value as i64).to_le_bytes()[..bytes]);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doubles(values: &[f64]) -> Array {
        Array::from_f64(vec![values.len()], values).unwrap()
    }

    #[test]
    fn whole_numbers_in_range() {
        assert_eq!(convert(doubles(&[0.0, 255.0]), DType::U8).unwrap(), [0, 255]);
        assert_eq!(convert(doubles(&[-1.0]), DType::I16).unwrap(), [255, 255]);
        let labels = Array::new(DType::U8, vec![2], vec![9, 3]).unwrap();
        assert_eq!(convert(labels, DType::Index { classes: 10 }).unwrap(), [9, 0, 0, 0, 3, 0, 0, 0]);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let bad = |values: &[f64], dtype| convert(doubles(values), dtype).unwrap_err();
        let index = DType::Index { classes: 10 };
        assert_eq!(bad(&[1.0, 12.0], index), BadElement { position: 1, reason: BadReason::OutOfRange(12.0) });
        assert_eq!(bad(&[-1.0], index).reason, BadReason::OutOfRange(-1.0));
        assert_eq!(bad(&[0.5], DType::I32).reason, BadReason::NotWhole(0.5));
        assert_eq!(bad(&[f64::INFINITY], DType::F64).reason, BadReason::NotFinite(f64::INFINITY));
        assert!(matches!(
            bad(&[0.0, f64::NAN], DType::F32),
            BadElement { position: 1, reason: BadReason::NotFinite(_) }
        ));
        assert!(matches!(bad(&[1e300], DType::F32).reason, BadReason::NotFinite(_)));
        assert_eq!(bad(&[2.0], DType::Bool).reason, BadReason::OutOfRange(2.0));
    }
}
