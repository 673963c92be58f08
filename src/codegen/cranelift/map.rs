//! Scalar functions on registers: the low-level ones, scalar and vector with the same bits.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{self as clif, InstBuilder, types};

use super::kernel::{Lowered, Lowering, Unsupported};
use super::value::{Slot, is_unsigned, pack_lanes};
use crate::ir::loops::Value;
use crate::ir::scalar::ScalarFunction as F;
use crate::ir::types::DType;

impl Lowering<'_, '_> {
    pub(super) fn map(&mut self, result: Value, function: F, operands: &[Value]) -> Lowered {
        let slots: Vec<Slot> = operands.iter().map(|o| self.slot(*o)).collect();
        if slots.iter().all(|s| matches!(s, Slot::Uniform(_))) {
            let registers: Vec<clif::Value> = operands.iter().map(|o| self.uniform(*o)).collect();
            let register = self.scalar_map(function, operands, &registers)?;
            self.bind(result, Slot::Uniform(register));
            return Ok(());
        }
        let packs = self.vector_map(result, function, operands)?;
        self.bind(result, Slot::Lanes(packs));
        Ok(())
    }

    /// The dtype that decides how a function works: that of its last operand.
    fn subject(&self, operands: &[Value]) -> DType {
        self.dtype(*operands.last().expect("no function is without operands"))
    }

    fn scalar_map(&mut self, function: F, operands: &[Value], r: &[clif::Value]) -> Lowered<clif::Value> {
        let dtype = self.subject(operands);
        if function == F::Select {
            return Ok(self.builder.ins().select(r[0], r[1], r[2]));
        }
        if let Some(code) = comparison(function) {
            return Ok(self.compare(code, dtype, r[0], r[1]));
        }
        if dtype.is_float() {
            self.float_function(function, r, false, self.limit(operands))
        } else if dtype == DType::Bool {
            match function {
                F::Not => Ok(self.builder.ins().bxor_imm_u(r[0], 1)),
                _ => self.bitwise(function, r),
            }
        } else {
            self.integer_function(function, dtype, r)
        }
    }

    /// One of four constants by the last two bits of `index`: the last bit chooses within both halves, the other one between them.
    pub(super) fn one_of(&mut self, result: Value, index: Value, table: [f64; 4]) {
        let dtype = self.dtype(result);
        let slot = match self.slot(index) {
            Slot::Uniform(index) => {
                let [a, b, c, d] = table.map(|number| self.constant_scalar(dtype, number));
                let odd = self.builder.ins().band_imm_u(index, 1);
                let upper = self.builder.ins().band_imm_u(index, 2);
                let low = self.builder.ins().select(odd, b, a);
                let high = self.builder.ins().select(odd, d, c);
                Slot::Uniform(self.builder.ins().select(upper, high, low))
            }
            Slot::Lanes(packs) => {
                let [a, b, c, d] = table.map(|number| self.constant_pack(dtype, number));
                let chosen = packs.into_iter().map(|index| {
                    let [odd, upper] = [31, 30].map(|distance| {
                        let first = self.builder.ins().ishl_imm_u(index, distance);
                        self.builder.ins().sshr_imm_u(first, 31)
                    });
                    let (low, high) = (self.choose(odd, b, a), self.choose(odd, d, c));
                    self.choose(upper, high, low)
                });
                Slot::Lanes(chosen.collect())
            }
        };
        self.bind(result, slot);
    }

    /// The last operand, if it is a constant that is a number.
    fn limit(&self, operands: &[Value]) -> Option<f64> {
        operands.last().and_then(|o| self.constant(*o)).filter(|c| !c.is_nan())
    }

    fn vector_map(&mut self, result: Value, function: F, operands: &[Value]) -> Lowered<Vec<clif::Value>> {
        let dtype = self.subject(operands);
        let by_lane = match function {
            F::Div => !dtype.is_float(),
            F::Mod => true,
            F::MulHigh => dtype.bytes() == 8,
            F::ShiftLeft | F::ShiftRight => matches!(self.slot(operands[1]), Slot::Lanes(_)),
            F::Min | F::Max | F::Abs => dtype == DType::I64,
            _ => false,
        };
        if by_lane {
            return self.map_by_lane(result, function, operands);
        }
        match function {
            F::Select => return Ok(self.vector_select(operands)),
            F::ShiftLeft | F::ShiftRight => return self.vector_shift(function, operands),
            F::MulHigh => return Ok(self.vector_mul_high(operands)),
            _ => {}
        }
        let packs: Vec<Vec<clif::Value>> = operands.iter().map(|o| self.packs(*o)).collect();
        let limit = self.limit(operands);
        let mut out = Vec::with_capacity(packs[0].len());
        for i in 0..packs[0].len() {
            let r: Vec<clif::Value> = packs.iter().map(|p| p[i]).collect();
            out.push(match comparison(function) {
                Some(code) => self.compare(code, dtype, r[0], r[1]),
                None if dtype.is_float() => self.float_function(function, &r, true, limit)?,
                None if dtype == DType::Bool => self.bitwise(function, &r)?,
                None => self.integer_function(function, dtype, &r)?,
            });
        }
        if comparison(function).is_some() && pack_lanes(dtype) == 2 {
            out = out.chunks(2).map(|pair| self.narrow_mask(pair[0], pair[1])).collect();
        }
        Ok(out)
    }

    /// A function that has no vector form: each lane by itself.
    fn map_by_lane(&mut self, result: Value, function: F, operands: &[Value]) -> Lowered<Vec<clif::Value>> {
        let mut columns = Vec::new();
        for operand in operands {
            let packs = self.packs(*operand);
            columns.push(self.lanes_from_packs(self.dtype(*operand), &packs));
        }
        let mut lanes = Vec::with_capacity(self.width);
        for lane in 0..self.width {
            let registers: Vec<clif::Value> = columns.iter().map(|c| c[lane]).collect();
            lanes.push(self.scalar_map(function, operands, &registers)?);
        }
        Ok(self.packs_from_lanes(self.dtype(result), &lanes))
    }

    fn compare(
        &mut self,
        (float, signed, unsigned): Codes,
        dtype: DType,
        a: clif::Value,
        b: clif::Value,
    ) -> clif::Value {
        if dtype.is_float() {
            self.builder.ins().fcmp(float, a, b)
        } else {
            self.builder.ins().icmp(if is_unsigned(dtype) { unsigned } else { signed }, a, b)
        }
    }

    fn vector_select(&mut self, operands: &[Value]) -> Vec<clif::Value> {
        let dtype = self.dtype(operands[1]);
        let mut masks = self.packs(operands[0]);
        if pack_lanes(dtype) == 2 {
            masks = masks.into_iter().flat_map(|mask| self.widen_mask(mask)).collect();
        }
        let yes = self.packs(operands[1]);
        if self.constant(operands[2]).is_some_and(|c| c.to_bits() == 0) {
            return (0..masks.len()).map(|i| self.keep(masks[i], yes[i])).collect();
        }
        let no = self.packs(operands[2]);
        (0..masks.len()).map(|i| self.choose(masks[i], yes[i], no[i])).collect()
    }

    /// `mask ? yes : no` by lanes.
    fn choose(&mut self, mask: clif::Value, yes: clif::Value, no: clif::Value) -> clif::Value {
        let ty = self.builder.func.dfg.value_type(yes);
        let mask = self.builder.ins().bitcast(ty, super::convert::little_endian(), mask);
        self.builder.ins().bitselect(mask, yes, no)
    }

    /// Two masks of 64-bit lanes as one of 32-bit lanes.
    fn narrow_mask(&mut self, low: clif::Value, high: clif::Value) -> clif::Value {
        let order: Vec<u8> = [0u8, 8, 16, 24].iter().flat_map(|at| *at..at + 4).collect();
        self.shuffle_as(types::I32X4, low, high, &order)
    }

    /// One mask of 32-bit lanes as two of 64-bit lanes.
    fn widen_mask(&mut self, mask: clif::Value) -> [clif::Value; 2] {
        [self.builder.ins().swiden_low(mask), self.builder.ins().swiden_high(mask)]
    }

    /// Bytes chosen from two registers of any vector type.
    pub(super) fn shuffle_as(&mut self, ty: clif::Type, a: clif::Value, b: clif::Value, order: &[u8]) -> clif::Value {
        let flags = super::convert::little_endian();
        let a = self.builder.ins().bitcast(types::I8X16, flags, a);
        let b = self.builder.ins().bitcast(types::I8X16, flags, b);
        let chosen = self.shuffle(a, b, order);
        self.builder.ins().bitcast(ty, flags, chosen)
    }

    /// Functions of floats, for scalars and packs alike. `limit`: the last operand, if it is known to be that number.
    fn float_function(&mut self, f: F, r: &[clif::Value], vector: bool, limit: Option<f64>) -> Lowered<clif::Value> {
        let ins = self.builder.ins();
        Ok(match f {
            F::Add => ins.fadd(r[0], r[1]),
            F::Sub => ins.fsub(r[0], r[1]),
            F::Mul => ins.fmul(r[0], r[1]),
            F::Div => ins.fdiv(r[0], r[1]),
            F::Fma => ins.fma(r[0], r[1], r[2]),
            F::Neg => ins.fneg(r[0]),
            F::Abs => ins.fabs(r[0]),
            F::Floor => ins.floor(r[0]),
            F::Ceil => ins.ceil(r[0]),
            F::Round => ins.nearest(r[0]),
            F::Sqrt => ins.sqrt(r[0]),
            F::Max | F::Min => self.extremum(f == F::Max, r, vector, limit),
            _ => return Err(Unsupported(format!("`{}` of floats before its expansion", f.name()))),
        })
    }

    /// `max(a, b)` is a if a > b or a is NaN, else b; `min` likewise. All ways give the same bits; where one value is chosen if it is less than
    /// (or greater than) the other, comparison and choice are one `maxps` or `minps`.
    fn extremum(&mut self, max: bool, r: &[clif::Value], vector: bool, limit: Option<f64>) -> clif::Value {
        let (a, b) = (r[0], r[1]);
        let Some(limit) = limit else {
            let chosen = self.extreme(max, a, b, vector);
            let nan = self.builder.ins().fcmp(FloatCC::Unordered, a, a);
            return self.pick(nan, a, chosen, vector);
        };
        if limit != 0.0 {
            // Equal numbers are the same bits then, so b may be chosen where it is beyond a, and a else, NaN too.
            return self.extreme(max, b, a, vector);
        }
        let code = if max { FloatCC::UnorderedOrGreaterThan } else { FloatCC::UnorderedOrLessThan };
        let first = self.builder.ins().fcmp(code, a, b);
        if vector && limit.is_sign_positive() { self.keep(first, a) } else { self.pick(first, a, b, vector) }
    }

    /// x if it is beyond y, else y.
    fn extreme(&mut self, max: bool, x: clif::Value, y: clif::Value, vector: bool) -> clif::Value {
        let (less, more) = if max { (y, x) } else { (x, y) };
        let first = self.builder.ins().fcmp(FloatCC::LessThan, less, more);
        self.pick(first, x, y, vector)
    }

    /// `mask ? x : 0` by lanes.
    fn keep(&mut self, mask: clif::Value, x: clif::Value) -> clif::Value {
        let ty = self.builder.func.dfg.value_type(x);
        let mask = self.builder.ins().bitcast(ty, super::convert::little_endian(), mask);
        self.builder.ins().band(mask, x)
    }

    fn pick(&mut self, mask: clif::Value, yes: clif::Value, no: clif::Value, vector: bool) -> clif::Value {
        if vector { self.choose(mask, yes, no) } else { self.builder.ins().select(mask, yes, no) }
    }

    fn bitwise(&mut self, function: F, r: &[clif::Value]) -> Lowered<clif::Value> {
        let ins = self.builder.ins();
        Ok(match function {
            F::And => ins.band(r[0], r[1]),
            F::Or => ins.bor(r[0], r[1]),
            F::Xor => ins.bxor(r[0], r[1]),
            F::Not => ins.bnot(r[0]),
            _ => return Err(Unsupported(format!("`{}` before its expansion", function.name()))),
        })
    }

    /// Functions of integers, for scalars and packs alike where the operation has both forms.
    fn integer_function(&mut self, function: F, dtype: DType, r: &[clif::Value]) -> Lowered<clif::Value> {
        let unsigned = is_unsigned(dtype);
        if let (F::ShiftLeft | F::ShiftRight, 1 | 2) = (function, dtype.bytes()) {
            return Ok(self.narrow_shift(function, dtype, r));
        }
        let ins = self.builder.ins();
        let wide = match function {
            F::Add => ins.iadd(r[0], r[1]),
            F::Sub => ins.isub(r[0], r[1]),
            F::Mul => ins.imul(r[0], r[1]),
            F::Fma => {
                let product = ins.imul(r[0], r[1]);
                self.builder.ins().iadd(product, r[2])
            }
            F::Neg => ins.ineg(r[0]),
            F::Abs if unsigned => r[0],
            F::Abs => ins.iabs(r[0]),
            F::Min if unsigned => ins.umin(r[0], r[1]),
            F::Max if unsigned => ins.umax(r[0], r[1]),
            F::Min => ins.smin(r[0], r[1]),
            F::Max => ins.smax(r[0], r[1]),
            F::Div => self.integer_division(unsigned, r),
            F::ShiftLeft => ins.ishl(r[0], r[1]),
            F::ShiftRight if unsigned => ins.ushr(r[0], r[1]),
            F::ShiftRight => ins.sshr(r[0], r[1]),
            F::MulHigh => self.scalar_mul_high(dtype, r),
            _ => return self.bitwise(function, r).map(|register| self.wrap(dtype, register)),
        };
        Ok(self.wrap(dtype, wide))
    }

    /// `a / b` toward zero, 0 for b = 0, wrapping for the smallest number divided by -1.
    fn integer_division(&mut self, unsigned: bool, r: &[clif::Value]) -> clif::Value {
        let ty = self.builder.func.dfg.value_type(r[1]);
        let ins = self.builder.ins();
        let by_zero = ins.icmp_imm_s(IntCC::Equal, r[1], 0);
        let one = self.builder.ins().iconst(ty, 1);
        let zero = self.builder.ins().iconst(ty, 0);
        let divisor = self.builder.ins().select(by_zero, one, r[1]);
        if unsigned {
            let quotient = self.builder.ins().udiv(r[0], divisor);
            return self.builder.ins().select(by_zero, zero, quotient);
        }
        // Division by -1 is negation, which wraps where the machine's division would trap.
        let minus = self.builder.ins().icmp_imm_s(IntCC::Equal, r[1], -1);
        let divisor = self.builder.ins().select(minus, one, divisor);
        let quotient = self.builder.ins().sdiv(r[0], divisor);
        let negated = self.builder.ins().ineg(r[0]);
        let quotient = self.builder.ins().select(minus, negated, quotient);
        self.builder.ins().select(by_zero, zero, quotient)
    }

    /// The upper half of the double-width product.
    fn scalar_mul_high(&mut self, dtype: DType, r: &[clif::Value]) -> clif::Value {
        let unsigned = is_unsigned(dtype);
        match dtype.bytes() {
            8 => self.builder.ins().smulhi(r[0], r[1]),
            4 if unsigned => self.builder.ins().umulhi(r[0], r[1]),
            4 => self.builder.ins().smulhi(r[0], r[1]),
            bytes => {
                let product = self.builder.ins().imul(r[0], r[1]);
                let shift = 8 * bytes as i64;
                if unsigned {
                    self.builder.ins().ushr_imm_u(product, shift)
                } else {
                    self.builder.ins().sshr_imm_u(product, shift)
                }
            }
        }
    }

    fn vector_mul_high(&mut self, operands: &[Value]) -> Vec<clif::Value> {
        let dtype = self.dtype(operands[0]);
        let unsigned = is_unsigned(dtype);
        let (a, b) = (self.packs(operands[0]), self.packs(operands[1]));
        let odd: Vec<u8> = [4u8, 12, 20, 28].iter().flat_map(|at| *at..at + 4).collect();
        let mut out = Vec::new();
        for (a, b) in a.into_iter().zip(b) {
            if dtype.bytes() < 4 {
                let product = self.builder.ins().imul(a, b);
                let shift = 8 * dtype.bytes() as i64;
                out.push(if unsigned {
                    self.builder.ins().ushr_imm_u(product, shift)
                } else {
                    self.builder.ins().sshr_imm_u(product, shift)
                });
                continue;
            }
            let [a0, a1] = self.widen_lanes(unsigned, a);
            let [b0, b1] = self.widen_lanes(unsigned, b);
            let low = self.builder.ins().imul(a0, b0);
            let high = self.builder.ins().imul(a1, b1);
            out.push(self.shuffle_as(types::I32X4, low, high, &odd));
        }
        out
    }

    /// 32-bit lanes as 64-bit lanes.
    pub(super) fn widen_lanes(&mut self, unsigned: bool, pack: clif::Value) -> [clif::Value; 2] {
        if unsigned {
            [self.builder.ins().uwiden_low(pack), self.builder.ins().uwiden_high(pack)]
        } else {
            [self.builder.ins().swiden_low(pack), self.builder.ins().swiden_high(pack)]
        }
    }

    /// Shifts of all lanes by one amount.
    fn vector_shift(&mut self, function: F, operands: &[Value]) -> Lowered<Vec<clif::Value>> {
        let dtype = self.dtype(operands[0]);
        let amount = self.uniform(operands[1]);
        let packs = self.packs(operands[0]);
        packs.into_iter().map(|pack| self.integer_function(function, dtype, &[pack, amount])).collect()
    }

    /// Shifts of small integers, which are in 32-bit registers: distances count modulo their own width.
    fn narrow_shift(&mut self, function: F, dtype: DType, r: &[clif::Value]) -> clif::Value {
        let distance = self.builder.ins().band_imm_u(r[1], 8 * dtype.bytes() as i64 - 1);
        let ins = self.builder.ins();
        let shifted = match function {
            F::ShiftLeft => ins.ishl(r[0], distance),
            _ if is_unsigned(dtype) => ins.ushr(r[0], distance),
            _ => ins.sshr(r[0], distance),
        };
        self.wrap(dtype, shifted)
    }

    /// A 32-bit register (or pack) brought back into the range of a smaller dtype, wrapping.
    pub(super) fn wrap(&mut self, dtype: DType, register: clif::Value) -> clif::Value {
        let bits = match dtype {
            DType::I8 | DType::U8 => 24,
            DType::I16 | DType::U16 | DType::F16 | DType::BF16 => 16,
            _ => return register,
        };
        let up = self.builder.ins().ishl_imm_u(register, bits);
        if is_unsigned(dtype) {
            self.builder.ins().ushr_imm_u(up, bits)
        } else {
            self.builder.ins().sshr_imm_u(up, bits)
        }
    }
}

type Codes = (FloatCC, IntCC, IntCC);

fn comparison(function: F) -> Option<Codes> {
    Some(match function {
        F::Equal => (FloatCC::Equal, IntCC::Equal, IntCC::Equal),
        F::NotEqual => (FloatCC::NotEqual, IntCC::NotEqual, IntCC::NotEqual),
        F::Less => (FloatCC::LessThan, IntCC::SignedLessThan, IntCC::UnsignedLessThan),
        F::LessEqual => (FloatCC::LessThanOrEqual, IntCC::SignedLessThanOrEqual, IntCC::UnsignedLessThanOrEqual),
        F::Greater => (FloatCC::GreaterThan, IntCC::SignedGreaterThan, IntCC::UnsignedGreaterThan),
        F::GreaterEqual => {
            (FloatCC::GreaterThanOrEqual, IntCC::SignedGreaterThanOrEqual, IntCC::UnsignedGreaterThanOrEqual)
        }
        _ => return None,
    })
}
