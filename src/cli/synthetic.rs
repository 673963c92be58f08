//! Made-up batches for commands that measure: every field filled by a fixed rule, so that two runs see the same numbers.

use super::Failure;
use crate::diag::Diagnostic;
use crate::driver::{Compiled, Slice, random};
use crate::ir::types::DType;

/// The bytes of one field.
pub struct MadeUp {
    name: String,
    dtype: DType,
    /// 64-bit words, so that any dtype is aligned.
    words: Vec<u64>,
    length: usize,
}

impl MadeUp {
    fn slice(&self) -> Slice<'_> {
        Slice::from_bytes(self.dtype, &bytemuck::cast_slice(&self.words)[..self.length])
    }
}

/// All fields of a model for a batch of `rows` rows: floats in [0, 1), bytes of any value, classes in their range.
///
/// # Errors
/// If a size is not known.
pub fn batch(compiled: &Compiled, rows: usize) -> Result<Vec<MadeUp>, Failure> {
    let sizes = compiled.sizes(rows)?;
    let made = compiled.model().fields.iter().map(|field| {
        let elements = field.ty.substitute(&sizes).and_then(|ty| ty.elements());
        let length = elements.and_then(|n| n.checked_mul(field.ty.dtype.bytes())).filter(|n| *n <= LARGEST);
        let Some(length) = length else {
            let message = format!("a batch of {rows} rows of `{}`, {}, is too large", field.name, field.ty);
            return Err(Diagnostic::error_without_place(message).into());
        };
        let mut words = vec![0u64; length.div_ceil(8)];
        fill(field.ty.dtype, &mut bytemuck::cast_slice_mut(&mut words)[..length], random::fnv1a(&field.name));
        Ok(MadeUp { name: field.name.clone(), dtype: field.ty.dtype, words, length })
    });
    made.collect()
}

/// The fields as entry points take them.
pub fn slices(batch: &[MadeUp]) -> Vec<(&str, Slice<'_>)> {
    batch.iter().map(|field| (field.name.as_str(), field.slice())).collect()
}

/// The largest field, in bytes.
const LARGEST: usize = 1 << 36;

fn fill(dtype: DType, bytes: &mut [u8], key: u32) {
    for (number, element) in bytes.chunks_exact_mut(dtype.bytes()).enumerate() {
        let word = random::word([key, 0], 0, 0, 0, number as u64);
        let unit = f64::from(word >> 8) / f64::from(1 << 24);
        match dtype {
            DType::F32 => element.copy_from_slice(&(unit as f32).to_le_bytes()),
            DType::F64 => element.copy_from_slice(&unit.to_le_bytes()),
            DType::F16 => element.copy_from_slice(&half::f16::from_f64(unit).to_le_bytes()),
            DType::BF16 => element.copy_from_slice(&half::bf16::from_f64(unit).to_le_bytes()),
            DType::Bool => element[0] = (word & 1) as u8,
            DType::U8 => element[0] = word as u8,
            DType::Index { classes } => element.copy_from_slice(&(word % classes.max(1)).to_le_bytes()),
            // Small numbers: they may be lengths or places.
            _ => {
                element.fill(0);
                element[0] = (word % 8) as u8;
            }
        }
    }
}
