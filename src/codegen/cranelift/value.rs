//! How values of the loop IR sit in registers.
//!
//! A *uniform* value is one scalar register: integers of at most 32 bits as `i32` (sign- or zero-extended by their dtype), `f16` and `bf16`
//! as the `u16` of their bits, `bool` as `i8` 0 or 1. A *lanes* value at width `w` is a list of 128-bit registers ("packs"): 4 lanes each for dtypes of at
//! most 32 bits (`bool` as a mask of all ones or zeros), 2 lanes each for 64-bit ones.

use cranelift_codegen::ir::{self as clif, Type, types};
use half::{bf16, f16};

use crate::ir::types::DType;

/// The registers that hold a value.
#[derive(Clone, Debug)]
pub(super) enum Slot {
    /// The same for all lanes.
    Uniform(clif::Value),
    /// One register for each group of lanes.
    Lanes(Vec<clif::Value>),
}

/// The type of a uniform value.
pub(super) fn scalar_type(dtype: DType) -> Type {
    match dtype.storage() {
        DType::F32 => types::F32,
        DType::F64 => types::F64,
        DType::I64 => types::I64,
        DType::Bool => types::I8,
        _ => types::I32,
    }
}

/// The type of one pack.
pub(super) fn pack_type(dtype: DType) -> Type {
    match dtype.storage() {
        DType::F32 => types::F32X4,
        DType::F64 => types::F64X2,
        DType::I64 => types::I64X2,
        _ => types::I32X4,
    }
}

/// The lanes of one pack.
pub(super) fn pack_lanes(dtype: DType) -> usize {
    if dtype.storage().bytes() == 8 { 2 } else { 4 }
}

/// Whether integers of this dtype are compared, widened and shifted as unsigned.
pub(super) fn is_unsigned(dtype: DType) -> bool {
    matches!(dtype, DType::U8 | DType::U16 | DType::U32 | DType::Bool | DType::F16 | DType::BF16)
}

/// A constant of some dtype, given as `f64`, as the integer that its register holds (bits for floats).
pub(super) fn constant_bits(dtype: DType, value: f64) -> u64 {
    match dtype.storage() {
        DType::F32 => u64::from((value as f32).to_bits()),
        DType::F64 => value.to_bits(),
        DType::I64 => value as i64 as u64,
        DType::I32 => u64::from(value as i32 as u32),
        DType::U32 => u64::from(value as u32),
        DType::I16 => i64::from(value as i16) as u64 & 0xffff_ffff,
        DType::I8 => i64::from(value as i8) as u64 & 0xffff_ffff,
        DType::U16 => u64::from(value as u16),
        DType::U8 => u64::from(value as u8),
        DType::Bool => u64::from(value != 0.0),
        DType::F16 => u64::from(f16::from_f32(value as f32).to_bits()),
        DType::BF16 => u64::from(bf16::from_f32(value as f32).to_bits()),
        DType::Index { .. } => 0,
    }
}
