//! Conversions between dtypes, and bit casts.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{self as clif, Endianness, InstBuilder, MemFlagsData, types};

use super::kernel::{Lowered, Lowering, Unsupported};
use super::value::{Slot, is_unsigned, pack_type, scalar_type};
use crate::ir::loops::Value;
use crate::ir::types::DType;

/// Bit casts between vectors count lanes from the lowest byte.
pub(super) fn little_endian() -> MemFlagsData {
    MemFlagsData::new().with_endianness(Endianness::Little)
}

impl Lowering<'_, '_> {
    pub(super) fn convert(&mut self, result: Value, operand: Value) -> Lowered {
        let (from, to) = (self.dtype(operand), self.dtype(result));
        if from != to && (from.is_half() || to.is_half()) {
            return Err(Unsupported(format!("conversion of {from} to {to} before its expansion")));
        }
        let slot = match self.slot(operand) {
            Slot::Uniform(register) => Slot::Uniform(self.convert_scalar(from, to, register)),
            Slot::Lanes(packs) => Slot::Lanes(self.convert_packs(from, to, &packs)),
        };
        if let (Some(number), true) = (self.constant(operand), to.is_float()) {
            self.set_constant(result, if to == DType::F32 { f64::from(number as f32) } else { number });
        }
        self.bind(result, slot);
        Ok(())
    }

    fn convert_scalar(&mut self, from: DType, to: DType, register: clif::Value) -> clif::Value {
        match (from.is_float(), to.is_float()) {
            _ if from == to => register,
            _ if to == DType::Bool => self.is_not_zero(from, register),
            (true, true) if to == DType::F64 => self.builder.ins().fpromote(types::F64, register),
            (true, true) => self.builder.ins().fdemote(types::F32, register),
            (true, false) => self.float_to_integer(to, register),
            (false, true) => {
                let wide = self.builder.ins();
                match (from, scalar_type(from) == types::I8 || is_unsigned(from)) {
                    (_, true) => wide.fcvt_from_uint(scalar_type(to), register),
                    (_, false) => wide.fcvt_from_sint(scalar_type(to), register),
                }
            }
            (false, false) => self.integer_to_integer(from, to, register),
        }
    }

    fn is_not_zero(&mut self, from: DType, register: clif::Value) -> clif::Value {
        if !from.is_float() {
            return self.builder.ins().icmp_imm_s(IntCC::NotEqual, register, 0);
        }
        let zero = self.constant_scalar(from, 0.0);
        self.builder.ins().fcmp(FloatCC::NotEqual, register, zero)
    }

    fn float_to_integer(&mut self, to: DType, register: clif::Value) -> clif::Value {
        match to {
            DType::I64 => self.builder.ins().fcvt_to_sint_sat(types::I64, register),
            DType::U32 => self.builder.ins().fcvt_to_uint_sat(types::I32, register),
            _ => {
                let wide = self.builder.ins().fcvt_to_sint_sat(types::I32, register);
                self.clamp(to, wide, false)
            }
        }
    }

    /// A 32-bit register (or pack) clamped into the range of a smaller dtype.
    fn clamp(&mut self, to: DType, wide: clif::Value, vector: bool) -> clif::Value {
        let (low, high) = match to {
            DType::I8 => (f64::from(i8::MIN), f64::from(i8::MAX)),
            DType::I16 => (f64::from(i16::MIN), f64::from(i16::MAX)),
            DType::U8 => (0.0, f64::from(u8::MAX)),
            DType::U16 => (0.0, f64::from(u16::MAX)),
            _ => return wide,
        };
        let mut bound = |number| match vector {
            true => self.constant_pack(DType::I32, number),
            false => self.constant_scalar(DType::I32, number),
        };
        let (low, high) = (bound(low), bound(high));
        let raised = self.builder.ins().smax(wide, low);
        self.builder.ins().smin(raised, high)
    }

    fn integer_to_integer(&mut self, from: DType, to: DType, register: clif::Value) -> clif::Value {
        let register = match (scalar_type(from), scalar_type(to)) {
            (a, b) if a == b => register,
            (types::I8, wide) => self.builder.ins().uextend(wide, register),
            (types::I64, _) => self.builder.ins().ireduce(types::I32, register),
            (_, wide) if is_unsigned(from) => self.builder.ins().uextend(wide, register),
            (_, wide) => self.builder.ins().sextend(wide, register),
        };
        self.wrap(to, register)
    }

    fn convert_packs(&mut self, from: DType, to: DType, packs: &[clif::Value]) -> Vec<clif::Value> {
        if from == to {
            return packs.to_vec();
        }
        if pack_type(from) == types::F64X2 && to == DType::F32 {
            return packs.chunks(2).map(|pair| self.demote(pair[0], pair[1])).collect();
        }
        if from == DType::F32 && to == DType::F64 {
            return packs.iter().flat_map(|pack| self.promote(*pack)).collect();
        }
        if from.bytes() == 8 || to.bytes() == 8 {
            let lanes = self.lanes_from_packs(from, packs);
            let lanes: Vec<clif::Value> = lanes.into_iter().map(|lane| self.convert_scalar(from, to, lane)).collect();
            return self.packs_from_lanes(to, &lanes);
        }
        packs.iter().map(|pack| self.convert_pack(from, to, *pack)).collect()
    }

    /// Between dtypes whose packs have 4 lanes.
    fn convert_pack(&mut self, from: DType, to: DType, pack: clif::Value) -> clif::Value {
        match (from, to) {
            (DType::F32, DType::Bool) => {
                let zero = self.constant_pack(DType::F32, 0.0);
                self.builder.ins().fcmp(FloatCC::NotEqual, pack, zero)
            }
            (_, DType::Bool) => {
                let zero = self.constant_pack(DType::I32, 0.0);
                self.builder.ins().icmp(IntCC::NotEqual, pack, zero)
            }
            (DType::Bool, _) => {
                let one = self.constant_pack(to, 1.0);
                let mask = self.builder.ins().bitcast(pack_type(to), little_endian(), pack);
                self.builder.ins().band(mask, one)
            }
            (DType::F32, DType::U32) => self.builder.ins().fcvt_to_uint_sat(types::I32X4, pack),
            (DType::F32, _) => {
                let wide = self.builder.ins().fcvt_to_sint_sat(types::I32X4, pack);
                self.clamp(to, wide, true)
            }
            (DType::U32, DType::F32) => self.builder.ins().fcvt_from_uint(types::F32X4, pack),
            (_, DType::F32) => self.builder.ins().fcvt_from_sint(types::F32X4, pack),
            _ => self.wrap(to, pack),
        }
    }

    fn demote(&mut self, low: clif::Value, high: clif::Value) -> clif::Value {
        let low = self.builder.ins().fvdemote(low);
        let high = self.builder.ins().fvdemote(high);
        let order: Vec<u8> = (0..8).chain(16..24).collect();
        self.shuffle_as(types::F32X4, low, high, &order)
    }

    fn promote(&mut self, pack: clif::Value) -> [clif::Value; 2] {
        let order: Vec<u8> = (8..16).chain(0..8).collect();
        let upper = self.shuffle_as(types::F32X4, pack, pack, &order);
        [self.builder.ins().fvpromote_low(pack), self.builder.ins().fvpromote_low(upper)]
    }

    pub(super) fn bitcast(&mut self, result: Value, operand: Value) {
        let to = self.dtype(result);
        let slot = match self.slot(operand) {
            Slot::Uniform(register) => Slot::Uniform(self.bitcast_register(to, scalar_type(to), register)),
            Slot::Lanes(packs) => {
                Slot::Lanes(packs.into_iter().map(|p| self.bitcast_register(to, pack_type(to), p)).collect())
            }
        };
        self.bind(result, slot);
    }

    fn bitcast_register(&mut self, to: DType, ty: clif::Type, register: clif::Value) -> clif::Value {
        let cast = match self.builder.func.dfg.value_type(register) == ty {
            true => register,
            false => self.builder.ins().bitcast(ty, little_endian(), register),
        };
        self.wrap(to, cast)
    }
}
