//! Scalar functions and conversions, all lanes at once, with the bits that the loop IR's meaning fixes.

use iced_x86::Code;

use super::{Bound, Lowered, Lowering, Unsupported, constant_bits};
use crate::codegen::x86::machine::{Instruction, Operand, Vectors, Virtual};
use crate::ir::loops::{ConstantBits, Value};
use crate::ir::scalar::ScalarFunction as F;
use crate::ir::types::DType;

/// Rounding modes of `vroundps`; the exceptions it may note are nobody's concern.
const NEAREST: i32 = 8;
const DOWN: i32 = 9;
const UP: i32 = 10;

/// Comparisons of `vcmpps`.
const EQUAL: i32 = 0x00;
const LESS: i32 = 0x11;
const LESS_EQUAL: i32 = 0x12;
const UNORDERED: i32 = 0x03;
const NOT_EQUAL: i32 = 0x04;
const NOT_LESS_EQUAL: i32 = 0x16;
const NOT_GREATER_EQUAL: i32 = 0x19;
const ORDERED: i32 = 0x07;
const GREATER_EQUAL: i32 = 0x1d;
const GREATER: i32 = 0x1e;

const SIGN: u32 = 0x8000_0000;

impl Lowering<'_> {
    pub(super) fn map(&mut self, result: Value, function: F, operands: &[Value]) -> Lowered {
        let subject = self.dtype(*operands.last().expect("no function is without operands"));
        let register = match (function, subject) {
            (_, DType::U8) => return Err(Unsupported("arithmetic of bytes")),
            (F::Select, _) => self.select(operands),
            (_, DType::F32) => self.float(function, operands)?,
            (_, DType::Bool) => self.logic(function, operands)?,
            _ => self.integer(function, operands, subject == DType::U32)?,
        };
        self.bind_made_of(result, operands, register);
        Ok(())
    }

    /// An instruction of two sources, of which the second may be memory.
    fn two(&mut self, code: Code, a: Value, b: Value) -> Virtual {
        let (a, b) = (self.value(a), self.operand(b));
        self.op(code, &[a.into(), b])
    }

    /// As `two` where the order does not matter: a constant comes second.
    fn either(&mut self, code: Code, a: Value, b: Value) -> Virtual {
        match self.bound(a) {
            Bound::Constant(_) => self.two(code, b, a),
            _ => self.two(code, a, b),
        }
    }

    fn with_bits(&mut self, code: Code, a: Virtual, bits: u32) -> Virtual {
        let bits = self.bits(bits);
        self.op(code, &[a.into(), bits])
    }

    fn compared(&mut self, a: Value, b: Value, predicate: i32) -> Virtual {
        let (a, b) = (self.value(a), self.operand(b));
        self.op_with(Code::VEX_Vcmpps_ymm_ymm_ymmm256_imm8, &[a.into(), b], predicate)
    }

    fn float(&mut self, function: F, o: &[Value]) -> Lowered<Virtual> {
        Ok(match function {
            F::Add => self.either(Code::VEX_Vaddps_ymm_ymm_ymmm256, o[0], o[1]),
            F::Sub => self.two(Code::VEX_Vsubps_ymm_ymm_ymmm256, o[0], o[1]),
            F::Mul => self.either(Code::VEX_Vmulps_ymm_ymm_ymmm256, o[0], o[1]),
            F::Div => self.two(Code::VEX_Vdivps_ymm_ymm_ymmm256, o[0], o[1]),
            F::Fma => self.multiply_add(o),
            F::Neg => {
                let x = self.value(o[0]);
                self.with_bits(Code::VEX_Vxorps_ymm_ymm_ymmm256, x, SIGN)
            }
            F::Abs => {
                let x = self.value(o[0]);
                self.with_bits(Code::VEX_Vandps_ymm_ymm_ymmm256, x, !SIGN)
            }
            F::Floor => self.rounded(o[0], DOWN),
            F::Ceil => self.rounded(o[0], UP),
            F::Round => self.rounded(o[0], NEAREST),
            F::Sqrt => {
                let x = self.operand(o[0]);
                self.op(Code::VEX_Vsqrtps_ymm_ymmm256, &[x])
            }
            F::Max | F::Min => self.extremum(function == F::Max, o[0], o[1]),
            F::Equal => self.compared(o[0], o[1], EQUAL),
            F::NotEqual => self.compared(o[0], o[1], NOT_EQUAL),
            F::Less => self.compared(o[0], o[1], LESS),
            F::LessEqual => self.compared(o[0], o[1], LESS_EQUAL),
            F::Greater => self.compared(o[0], o[1], GREATER),
            F::GreaterEqual => self.compared(o[0], o[1], GREATER_EQUAL),
            _ => return Err(Unsupported("a function of floats before its expansion")),
        })
    }

    fn rounded(&mut self, x: Value, mode: i32) -> Virtual {
        let x = self.operand(x);
        self.op_with(Code::VEX_Vroundps_ymm_ymmm256_imm8, &[x], mode)
    }

    /// At most one of the three sources stays in memory.
    fn multiply_add(&mut self, o: &[Value]) -> Virtual {
        let mut sources = [self.operand(o[0]), self.operand(o[1]), self.operand(o[2])];
        let mut seen = false;
        for source in sources.iter_mut().rev() {
            if source.is_memory() && std::mem::replace(&mut seen, true) {
                *source = self.in_register(*source).into();
            }
        }
        let [a, b, c] = sources;
        let destination = self.vector();
        self.push(Instruction::MultiplyAdd { destination, a, b, c });
        destination
    }

    /// `max(a, b)` is a if a > b or a is NaN, else b; `min` likewise. The machine's are b where one is NaN or both are equal.
    fn extremum(&mut self, max: bool, a: Value, b: Value) -> Virtual {
        let code = if max { Code::VEX_Vmaxps_ymm_ymm_ymmm256 } else { Code::VEX_Vminps_ymm_ymm_ymmm256 };
        match self.bound(b) {
            // Equal numbers are the same bits then, and a NaN in a comes second.
            Bound::Constant(limit) if !limit.is_nan() && limit != 0.0 => self.two(code, b, a),
            Bound::Constant(limit) if limit.to_bits() == 0 => {
                let beyond = self.compared(a, b, if max { NOT_LESS_EQUAL } else { NOT_GREATER_EQUAL });
                let a = self.operand(a);
                self.op(Code::VEX_Vandps_ymm_ymm_ymmm256, &[beyond.into(), a])
            }
            _ => {
                let chosen = self.two(code, a, b);
                let nan = self.compared(a, a, UNORDERED);
                let a = self.operand(a);
                self.blend(nan, a, chosen)
            }
        }
    }

    /// `mask ? yes : no`.
    pub(super) fn blend(&mut self, mask: Virtual, yes: Operand, no: Virtual) -> Virtual {
        self.op(Code::VEX_Vblendvps_ymm_ymm_ymmm256_ymm, &[no.into(), yes, mask.into()])
    }

    fn select(&mut self, o: &[Value]) -> Virtual {
        let mask = self.value(o[0]);
        let yes = self.operand(o[1]);
        let is_zero = |bound: Bound| matches!(bound, Bound::Constant(number) if number.to_bits() == 0);
        match (self.bound(o[1]), self.bound(o[2])) {
            (_, no) if is_zero(no) => self.op(Code::VEX_Vandps_ymm_ymm_ymmm256, &[mask.into(), yes]),
            (yes, _) if is_zero(yes) => {
                let no = self.operand(o[2]);
                self.op(Code::VEX_Vandnps_ymm_ymm_ymmm256, &[mask.into(), no])
            }
            _ => {
                let no = self.value(o[2]);
                self.blend(mask, yes, no)
            }
        }
    }

    fn logic(&mut self, function: F, o: &[Value]) -> Lowered<Virtual> {
        Ok(match function {
            F::And => self.either(Code::VEX_Vandps_ymm_ymm_ymmm256, o[0], o[1]),
            F::Or => self.either(Code::VEX_Vorps_ymm_ymm_ymmm256, o[0], o[1]),
            F::Xor | F::NotEqual => self.either(Code::VEX_Vxorps_ymm_ymm_ymmm256, o[0], o[1]),
            F::Equal => self.either(Code::VEX_Vpcmpeqd_ymm_ymm_ymmm256, o[0], o[1]),
            F::Not => {
                let x = self.value(o[0]);
                self.with_bits(Code::VEX_Vxorps_ymm_ymm_ymmm256, x, u32::MAX)
            }
            _ => return Err(Unsupported("an order of bools")),
        })
    }

    fn integer(&mut self, function: F, o: &[Value], unsigned: bool) -> Lowered<Virtual> {
        let (minimum, maximum) = match unsigned {
            true => (Code::VEX_Vpminud_ymm_ymm_ymmm256, Code::VEX_Vpmaxud_ymm_ymm_ymmm256),
            false => (Code::VEX_Vpminsd_ymm_ymm_ymmm256, Code::VEX_Vpmaxsd_ymm_ymm_ymmm256),
        };
        Ok(match function {
            F::Add => self.either(Code::VEX_Vpaddd_ymm_ymm_ymmm256, o[0], o[1]),
            F::Sub => self.two(Code::VEX_Vpsubd_ymm_ymm_ymmm256, o[0], o[1]),
            F::Mul => self.either(Code::VEX_Vpmulld_ymm_ymm_ymmm256, o[0], o[1]),
            F::Fma => {
                let product = self.either(Code::VEX_Vpmulld_ymm_ymm_ymmm256, o[0], o[1]);
                let more = self.operand(o[2]);
                self.op(Code::VEX_Vpaddd_ymm_ymm_ymmm256, &[product.into(), more])
            }
            F::Neg => {
                let zero = self.bits(0);
                let (zero, x) = (self.in_register(zero), self.operand(o[0]));
                self.op(Code::VEX_Vpsubd_ymm_ymm_ymmm256, &[zero.into(), x])
            }
            F::Abs if unsigned => self.value(o[0]),
            F::Abs => {
                let x = self.operand(o[0]);
                self.op(Code::VEX_Vpabsd_ymm_ymmm256, &[x])
            }
            F::Min => self.either(minimum, o[0], o[1]),
            F::Max => self.either(maximum, o[0], o[1]),
            F::And => self.either(Code::VEX_Vandps_ymm_ymm_ymmm256, o[0], o[1]),
            F::Or => self.either(Code::VEX_Vorps_ymm_ymm_ymmm256, o[0], o[1]),
            F::Xor => self.either(Code::VEX_Vxorps_ymm_ymm_ymmm256, o[0], o[1]),
            F::Not => {
                let x = self.value(o[0]);
                self.with_bits(Code::VEX_Vxorps_ymm_ymm_ymmm256, x, u32::MAX)
            }
            F::ShiftLeft => self.shift(Code::VEX_Vpslld_ymm_ymm_imm8, Code::VEX_Vpsllvd_ymm_ymm_ymmm256, o[0], o[1]),
            F::ShiftRight if unsigned => {
                self.shift(Code::VEX_Vpsrld_ymm_ymm_imm8, Code::VEX_Vpsrlvd_ymm_ymm_ymmm256, o[0], o[1])
            }
            F::ShiftRight => self.shift(Code::VEX_Vpsrad_ymm_ymm_imm8, Code::VEX_Vpsravd_ymm_ymm_ymmm256, o[0], o[1]),
            F::MulHigh => self.upper_product(o[0], o[1], unsigned),
            F::Equal => self.either(Code::VEX_Vpcmpeqd_ymm_ymm_ymmm256, o[0], o[1]),
            F::NotEqual => {
                let equal = self.either(Code::VEX_Vpcmpeqd_ymm_ymm_ymmm256, o[0], o[1]);
                self.inverse(equal)
            }
            F::Greater => self.greater(o[0], o[1], unsigned),
            F::Less => self.greater(o[1], o[0], unsigned),
            F::LessEqual => {
                let greater = self.greater(o[0], o[1], unsigned);
                self.inverse(greater)
            }
            F::GreaterEqual => {
                let less = self.greater(o[1], o[0], unsigned);
                self.inverse(less)
            }
            _ => return Err(Unsupported("a function of integers")),
        })
    }

    /// Distances count modulo 32, where the machine's shifts push everything out.
    fn shift(&mut self, by_number: Code, by_lanes: Code, x: Value, distance: Value) -> Virtual {
        match self.bound(distance) {
            Bound::Constant(number) if (0.0..32.0).contains(&number) => {
                let x = self.value(x);
                self.op_with(by_number, &[x.into()], number as i32)
            }
            _ => {
                let (x, distance) = (self.value(x), self.value(distance));
                let distance = self.with_bits(Code::VEX_Vandps_ymm_ymm_ymmm256, distance, 31);
                self.op(by_lanes, &[x.into(), distance.into()])
            }
        }
    }

    fn inverse(&mut self, mask: Virtual) -> Virtual {
        self.with_bits(Code::VEX_Vxorps_ymm_ymm_ymmm256, mask, u32::MAX)
    }

    fn greater(&mut self, a: Value, b: Value, unsigned: bool) -> Virtual {
        if !unsigned {
            return self.two(Code::VEX_Vpcmpgtd_ymm_ymm_ymmm256, a, b);
        }
        // Unsigned numbers are ordered as signed ones with the first bit the other way.
        let (a, b) = (self.value(a), self.value(b));
        let a = self.with_bits(Code::VEX_Vxorps_ymm_ymm_ymmm256, a, SIGN);
        let b = self.with_bits(Code::VEX_Vxorps_ymm_ymm_ymmm256, b, SIGN);
        self.op(Code::VEX_Vpcmpgtd_ymm_ymm_ymmm256, &[a.into(), b.into()])
    }

    /// The upper halves of the products: of the even lanes, then of the odd ones.
    fn upper_product(&mut self, a: Value, b: Value, unsigned: bool) -> Virtual {
        let code = if unsigned { Code::VEX_Vpmuludq_ymm_ymm_ymmm256 } else { Code::VEX_Vpmuldq_ymm_ymm_ymmm256 };
        let (a, b) = (self.value(a), self.value(b));
        let even = self.op(code, &[a.into(), b.into()]);
        let shifted = |this: &mut Self, x: Virtual| this.op_with(Code::VEX_Vpsrlq_ymm_ymm_imm8, &[x.into()], 32);
        let (a, b) = (shifted(self, a), shifted(self, b));
        let odd = self.op(code, &[a.into(), b.into()]);
        let even = shifted(self, even);
        match self.code.vectors {
            Vectors::Avx2 => {
                let sources = [even.into(), odd.into()];
                self.op_with(Code::VEX_Vpblendd_ymm_ymm_ymmm256_imm8, &sources, 0b1010_1010)
            }
            Vectors::Avx512 => {
                let odd_lanes = self.lanes_constant(|lane| if lane % 2 == 1 { u32::MAX } else { 0 });
                let odd_lanes = self.in_register(odd_lanes);
                self.blend(odd_lanes, odd.into(), even)
            }
        }
    }

    pub(super) fn convert(&mut self, result: Value, operand: Value) -> Lowered {
        let (from, to) = (self.dtype(operand), self.dtype(result));
        if let (Bound::Constant(number), DType::F32) = (self.bound(operand), to) {
            self.bind(result, Bound::Constant(number));
            return Ok(());
        }
        let x = self.value(operand);
        let register = match (from, to) {
            _ if from == to => x,
            (DType::F32, DType::Bool) => {
                let zero = self.bits(0);
                self.op_with(Code::VEX_Vcmpps_ymm_ymm_ymmm256_imm8, &[x.into(), zero], NOT_EQUAL)
            }
            (_, DType::Bool) => {
                let none = self.with_bits(Code::VEX_Vpcmpeqd_ymm_ymm_ymmm256, x, 0);
                self.inverse(none)
            }
            (DType::Bool, DType::F32) => self.with_bits(Code::VEX_Vandps_ymm_ymm_ymmm256, x, 1f32.to_bits()),
            (DType::Bool, _) => self.with_bits(Code::VEX_Vandps_ymm_ymm_ymmm256, x, 1),
            (DType::I32 | DType::U8, DType::F32) => self.op(Code::VEX_Vcvtdq2ps_ymm_ymmm256, &[x.into()]),
            (DType::U32, DType::F32) => self.unsigned_to_float(x),
            (DType::F32, DType::I32) => self.float_to_integer(x),
            (DType::F32, _) => return Err(Unsupported("floats as unsigned integers")),
            (_, DType::U8) => return Err(Unsupported("integers as bytes")),
            _ => x,
        };
        self.bind_made_of(result, &[operand], register);
        Ok(())
    }

    /// The upper half times 65536 plus the lower half: only the sum is rounded.
    fn unsigned_to_float(&mut self, x: Virtual) -> Virtual {
        let high = self.op_with(Code::VEX_Vpsrld_ymm_ymm_imm8, &[x.into()], 16);
        let low = self.with_bits(Code::VEX_Vandps_ymm_ymm_ymmm256, x, 0xffff);
        let a = self.op(Code::VEX_Vcvtdq2ps_ymm_ymmm256, &[high.into()]);
        let c = self.op(Code::VEX_Vcvtdq2ps_ymm_ymmm256, &[low.into()]);
        let b = self.bits(65536f32.to_bits());
        let destination = self.vector();
        self.push(Instruction::MultiplyAdd { destination, a: a.into(), b, c: c.into() });
        destination
    }

    /// Toward zero; NaN is 0, what is too large is the largest. The machine's answer to all of these is the smallest number.
    fn float_to_integer(&mut self, x: Virtual) -> Virtual {
        let limit = self.bits(2_147_483_648f32.to_bits());
        let large = self.op_with(Code::VEX_Vcmpps_ymm_ymm_ymmm256_imm8, &[x.into(), limit], GREATER_EQUAL);
        let number = self.op_with(Code::VEX_Vcmpps_ymm_ymm_ymmm256_imm8, &[x.into(), x.into()], ORDERED);
        let whole = self.op(Code::VEX_Vcvttps2dq_ymm_ymmm256, &[x.into()]);
        let bounded = self.op(Code::VEX_Vxorps_ymm_ymm_ymmm256, &[whole.into(), large.into()]);
        self.op(Code::VEX_Vandps_ymm_ymm_ymmm256, &[bounded.into(), number.into()])
    }

    /// The table is in each four lanes of a register, among which the machine chooses by the last two bits of a lane.
    pub(super) fn one_of(&mut self, result: Value, index: Value, table: &[ConstantBits; 4]) -> Lowered {
        let dtype = self.dtype(result);
        let entries = table.map(|entry| constant_bits(dtype, f64::from_bits(entry.0)));
        let table = self.lanes_constant(|lane| entries[lane % 4]);
        let table = self.in_register(table);
        let chosen = self.operand(index);
        let register = self.op(Code::VEX_Vpermilps_ymm_ymm_ymmm256, &[table.into(), chosen]);
        self.bind_made_of(result, &[index], register);
        Ok(())
    }

    pub(super) fn bitcast(&mut self, result: Value, operand: Value) -> Lowered {
        if self.dtype(operand).bytes() != 4 || self.dtype(result).bytes() != 4 {
            return Err(Unsupported("bits of bytes"));
        }
        let register = self.value(operand);
        self.bind_made_of(result, &[operand], register);
        Ok(())
    }
}
