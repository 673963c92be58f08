//! Loads and stores of whole vectors, of fewer lanes, and of one value for all lanes.

use iced_x86::Code;

use super::{Bound, Lane, Lowered, Lowering, Unsupported};
use crate::codegen::x86::avx512::{LOAD_BYTES, STORE_BYTES, STORE_HALF};
use crate::codegen::x86::machine::{Instruction, Memory, Operand, Vectors, Virtual, plain};
use crate::ir::loops::{Affine, BufferId, Value};
use crate::ir::types::DType;

/// Products of an index and its stride stay below this, so that they fit into a lane.
const MOST_GATHERED: i64 = 1 << 28;

/// A vector's first lanes are stored in so many pieces, more under a mask.
const MOST_PIECES: u32 = 2;

impl Memory {
    /// The address some bytes further on.
    pub(super) fn plus(self, bytes: i64) -> Memory {
        Memory { displacement: self.displacement + bytes as i32, ..self }
    }
}

impl Lowering<'_> {
    pub(super) fn load(&mut self, result: Value, buffer: BufferId, address: &Affine) -> Lowered {
        let memory = self.memory(buffer, address)?;
        let step = self.lane_coefficient(address) * self.element_bytes(buffer);
        self.load_lanes(result, memory, step)
    }

    /// Loads at an address that moves by `step` bytes from lane to lane.
    fn load_lanes(&mut self, result: Value, memory: Memory, step: i64) -> Lowered {
        let dtype = self.dtype(result);
        let bound = match self.lane {
            Some(lane) if step != 0 => Bound::Lanes(self.vector_load(dtype, memory, step, lane)?),
            _ => Bound::Uniform(self.uniform_load(dtype, memory)),
        };
        self.bind(result, bound);
        Ok(())
    }

    /// One element in all lanes.
    fn uniform_load(&mut self, dtype: DType, memory: Memory) -> Virtual {
        if dtype.bytes() == 4 {
            return self.op(Code::VEX_Vbroadcastss_ymm_m32, &[memory.into()]);
        }
        let byte = self.general_op(Code::Movzx_r32_rm8, &[memory.into()], None);
        let low = self.op(Code::VEX_Vmovd_xmm_rm32, &[byte.into()]);
        let all = self.op(Code::VEX_Vpbroadcastd_ymm_xmmm32, &[low.into()]);
        self.mask_if_bool(dtype, all)
    }

    /// Lanes of 0 and not 0 as a mask, for `bool`.
    fn mask_if_bool(&mut self, dtype: DType, lanes: Virtual) -> Virtual {
        if dtype != DType::Bool {
            return lanes;
        }
        let zero = self.bits(0);
        self.op(Code::VEX_Vpcmpgtd_ymm_ymm_ymmm256, &[lanes.into(), zero])
    }

    fn vector_load(&mut self, dtype: DType, memory: Memory, step: i64, lane: Lane) -> Lowered<Virtual> {
        let (bytes, lanes) = (dtype.bytes() as i64, self.lanes());
        if (step * lanes as i64).abs() >= MOST_GATHERED {
            return Err(Unsupported("lanes far apart"));
        }
        let places = (0..lane.active).map(|l| memory.plus(l as i64 * step)).collect::<Vec<_>>();
        Ok(match (bytes, step == bytes, lane.active) {
            (4, true, active) if active == lanes => self.op(Code::VEX_Vmovups_ymm_ymmm256, &[memory.into()]),
            (4, true, 4) => self.op(Code::VEX_Vmovups_xmm_xmmm128, &[memory.into()]),
            (4, true, 2) => self.op(Code::VEX_Vmovq_xmm_xmmm64, &[memory.into()]),
            (4, true, 1) => self.op(Code::VEX_Vmovss_xmm_m32, &[memory.into()]),
            (4, true, active) => {
                let mask = self.active_mask(active);
                let mask = self.in_register(mask);
                self.op(Code::VEX_Vmaskmovps_ymm_ymm_m256, &[mask.into(), memory.into()])
            }
            (4, false, _) => self.load_apart(&places),
            (_, true, active) if active == lanes => {
                let words = self.op(Code::VEX_Vpmovzxbd_ymm_xmmm64, &[memory.into()]);
                self.mask_if_bool(dtype, words)
            }
            (_, true, active) if active > 1 && self.code.vectors == Vectors::Avx512 => {
                let mask = self.active_mask(active);
                let mask = self.in_register(mask);
                let words = self.op(LOAD_BYTES, &[mask.into(), memory.into()]);
                self.mask_if_bool(dtype, words)
            }
            _ => {
                let bytes = self.load_bytes(&places);
                let words = self.op(Code::VEX_Vpmovzxbd_ymm_xmmm64, &[bytes.into()]);
                self.mask_if_bool(dtype, words)
            }
        })
    }

    /// Words from as many places as there are lanes, or fewer.
    fn load_apart(&mut self, places: &[Memory]) -> Virtual {
        let quarter = |this: &mut Self, places: &[Memory]| {
            let mut lanes = this.op(Code::VEX_Vmovss_xmm_m32, &[places[0].into()]);
            for (lane, place) in places.iter().enumerate().skip(1) {
                let sources = [lanes.into(), Operand::Memory(*place)];
                lanes = this.op_with(Code::VEX_Vinsertps_xmm_xmm_xmmm32_imm8, &sources, (lane << 4) as i32);
            }
            lanes
        };
        let (low, others) = places.split_at(places.len().min(4));
        let mut lanes = quarter(self, low);
        for (number, places) in others.chunks(4).enumerate() {
            let more = quarter(self, places);
            let sources = [lanes.into(), more.into()];
            lanes = self.op_with(Code::VEX_Vinsertf128_ymm_ymm_xmmm128_imm8, &sources, number as i32 + 1);
        }
        lanes
    }

    /// Bytes from as many places as there are lanes, or fewer, the rest 0.
    fn load_bytes(&mut self, places: &[Memory]) -> Virtual {
        let zero = self.bits(0);
        let mut bytes = self.in_register(zero);
        for (lane, place) in places.iter().enumerate() {
            let sources = [bytes.into(), Operand::Memory(*place)];
            bytes = self.op_with(Code::VEX_Vpinsrb_xmm_xmm_r32m8_imm8, &sources, lane as i32);
        }
        bytes
    }

    pub(super) fn store(&mut self, buffer: BufferId, address: &Affine, value: Value) -> Lowered {
        let memory = self.memory(buffer, address)?;
        let step = self.lane_coefficient(address) * self.element_bytes(buffer);
        self.store_lanes(value, memory, step)
    }

    /// Stores at an address that moves by `step` bytes from lane to lane.
    fn store_lanes(&mut self, value: Value, memory: Memory, step: i64) -> Lowered {
        let dtype = self.dtype(value);
        let register = self.value(value);
        let (lanes, active) = (self.lanes(), self.lane.map_or(1, |lane| lane.active));
        if dtype == DType::U8 {
            return Err(Unsupported("a store of bytes"));
        }
        if active > 1 && step == 0 {
            return Err(Unsupported("lanes that store to one place"));
        }
        if (step * lanes as i64).abs() >= MOST_GATHERED {
            return Err(Unsupported("lanes far apart"));
        }
        let places = (0..active).map(|l| memory.plus(l as i64 * step)).collect::<Vec<_>>();
        let next_to_each_other = step == dtype.bytes() as i64;
        match (dtype == DType::Bool, next_to_each_other, active) {
            (_, _, 0) => {}
            (false, true, active) if active == lanes => {
                self.push(plain(Code::VEX_Vmovups_ymmm256_ymm, Some(memory.into()), vec![register.into()]));
            }
            (false, true, active) => self.store_first(register, memory, active),
            (false, _, _) => self.store_apart(register, &places),
            (true, true, active) if active == lanes => {
                let bytes = self.mask_bytes(register);
                let code = match self.code.vectors {
                    Vectors::Avx2 => Code::VEX_Vmovq_xmmm64_xmm,
                    Vectors::Avx512 => Code::VEX_Vmovups_xmmm128_xmm,
                };
                self.push(plain(code, Some(memory.into()), vec![bytes.into()]));
            }
            (true, true, active) if active > 1 && self.code.vectors == Vectors::Avx512 => {
                let bytes = self.mask_bytes(register);
                let mask = self.active_mask(active);
                let mask = self.in_register(mask);
                self.push(plain(STORE_BYTES, Some(memory.into()), vec![mask.into(), bytes.into()]));
            }
            (true, _, _) => {
                let bytes = self.mask_bytes(register);
                for (lane, place) in places.iter().enumerate() {
                    self.extract(Code::VEX_Vpextrb_r32m8_xmm_imm8, *place, bytes, lane);
                }
            }
        }
        Ok(())
    }

    fn extract(&mut self, code: Code, to: Memory, from: Virtual, lane: usize) {
        self.push(Instruction::Plain {
            code,
            destination: Some(to.into()),
            in_place: false,
            sources: vec![from.into()],
            immediate: Some(lane as i32),
        });
    }

    /// The first lanes, next to each other: eight, four, two and one at a time. A store under a mask takes a dozen times as long on some machines
    /// without mask registers; with them it does not, but what lies behind it cannot be loaded before it is in memory, as with rows that end so.
    fn store_first(&mut self, register: Virtual, memory: Memory, active: usize) {
        let is_wide = self.code.vectors == Vectors::Avx512;
        if is_wide && active.count_ones() > MOST_PIECES {
            let mask = self.active_mask(active);
            let mask = self.in_register(mask);
            let sources = vec![mask.into(), register.into()];
            self.push(plain(Code::VEX_Vmaskmovps_m256_ymm_ymm, Some(memory.into()), sources));
            return;
        }
        let (mut lanes, mut done) = (register, 0);
        for (count, code) in [(8, STORE_HALF), (4, Code::VEX_Vmovups_xmmm128_xmm), (2, Code::VEX_Vmovq_xmmm64_xmm)] {
            if active & count == 0 {
                continue;
            }
            self.push(plain(code, Some(memory.plus(4 * done as i64).into()), vec![lanes.into()]));
            done += count;
            if done < active {
                let quarter = (done / 4) as i32;
                lanes = match count {
                    2 => self.op_with(Code::VEX_Vpermilps_xmm_xmmm128_imm8, &[lanes.into()], 0b1110),
                    _ => self.op_with(Code::VEX_Vextractf128_xmmm128_ymm_imm8, &[register.into()], quarter),
                };
            }
        }
        if active & 1 != 0 {
            self.extract(Code::VEX_Vextractps_rm32_xmm_imm8, memory.plus(4 * done as i64), lanes, 0);
        }
    }

    fn store_apart(&mut self, register: Virtual, places: &[Memory]) {
        for (number, places) in places.chunks(4).enumerate() {
            let quarter = match number {
                0 => register,
                _ => self.op_with(Code::VEX_Vextractf128_xmmm128_ymm_imm8, &[register.into()], number as i32),
            };
            for (lane, place) in places.iter().enumerate() {
                self.extract(Code::VEX_Vextractps_rm32_xmm_imm8, *place, quarter, lane);
            }
        }
    }

    /// The lanes of a mask as bytes 0 and 1.
    fn mask_bytes(&mut self, mask: Virtual) -> Virtual {
        let bytes = match self.code.vectors {
            Vectors::Avx2 => {
                let high = self.op_with(Code::VEX_Vextractf128_xmmm128_ymm_imm8, &[mask.into()], 1);
                let words = self.op(Code::VEX_Vpackssdw_xmm_xmm_xmmm128, &[mask.into(), high.into()]);
                self.op(Code::VEX_Vpacksswb_xmm_xmm_xmmm128, &[words.into(), words.into()])
            }
            Vectors::Avx512 => self.op(Code::EVEX_Vpmovdb_xmmm128_k1z_zmm, &[mask.into()]),
        };
        let ones = self.bits(0x0101_0101);
        self.op(Code::VEX_Vpand_xmm_xmm_xmmm128, &[bytes.into(), ones])
    }

    pub(super) fn load_at(
        &mut self,
        result: Value,
        (buffer, address): (BufferId, &Affine),
        (index, stride, extent): (Value, i64, u64),
    ) -> Lowered {
        let memory = self.memory(buffer, address)?;
        let step = self.lane_coefficient(address);
        let bytes = self.element_bytes(buffer);
        if self.is_uniform(index) {
            let memory = self.indexed(memory, index, stride * bytes)?;
            return self.load_lanes(result, memory, step * bytes);
        }
        let lane = self.lane.expect("an index of lanes is in a vector loop");
        if bytes != 4 {
            return Err(Unsupported("a gather of bytes"));
        }
        let reach =
            (extent as i64).saturating_mul(stride.abs()).saturating_add(step.saturating_mul(self.lanes() as i64).abs());
        if reach >= MOST_GATHERED {
            return Err(Unsupported("a far gather"));
        }
        let strides = self.bits(stride as i32 as u32);
        let index = self.value(index);
        let scaled = self.op(Code::VEX_Vpmulld_ymm_ymm_ymmm256, &[index.into(), strides]);
        let steps = self.lanes_constant(|l| (l as i64 * step) as i32 as u32);
        let moved = self.op(Code::VEX_Vpaddd_ymm_ymm_ymmm256, &[scaled.into(), steps]);
        let base = self.address_of(memory);
        let zero = self.bits(0);
        let register = self.in_register(zero);
        // The instruction clears its mask, and no two of its three registers may be one.
        let mask = self.active_mask(lane.active);
        let mask = self.in_register(mask);
        let gathered = Memory { index: Some((moved, 4)), ..Memory::at(base, 0) };
        self.push(Instruction::Plain {
            code: Code::VEX_Vpgatherdd_ymm_vm32y_ymm,
            destination: Some(register.into()),
            in_place: true,
            sources: vec![gathered.into(), mask.into()],
            immediate: None,
        });
        self.bind(result, Bound::Lanes(register));
        Ok(())
    }

    pub(super) fn store_at(
        &mut self,
        (buffer, address): (BufferId, &Affine),
        (index, stride): (Value, i64),
        value: Value,
    ) -> Lowered {
        if !self.is_uniform(index) {
            return Err(Unsupported("a scatter"));
        }
        let memory = self.memory(buffer, address)?;
        let bytes = self.element_bytes(buffer);
        let memory = self.indexed(memory, index, stride * bytes)?;
        self.store_lanes(value, memory, self.lane_coefficient(address) * bytes)
    }

    /// The address moved by a uniform index, which is not negative.
    fn indexed(&mut self, memory: Memory, index: Value, bytes: i64) -> Lowered<Memory> {
        let factor = i32::try_from(bytes).map_err(|_| Unsupported("a far index"))?;
        let index = self.value(index);
        let number = self.general_op(Code::VEX_Vmovd_rm32_xmm, &[index.into()], None);
        let distance = self.multiplied(number, i64::from(factor));
        let base = self.address_of(memory);
        let moved = self.plus_scaled(base, distance, 1);
        Ok(Memory::at(moved, 0))
    }
}
