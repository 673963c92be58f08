//! Loads and stores at every width and stride.

use cranelift_codegen::ir::{self as clif, InstBuilder, condcodes::IntCC, types};

use super::convert::little_endian;
use super::kernel::{Lowering, flags};
use super::value::{Slot, pack_lanes, pack_type, scalar_type};
use crate::ir::loops::{Affine, BufferId, Value};
use crate::ir::types::DType;

/// A place in memory: a register and a displacement in bytes.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub base: clif::Value,
    pub offset: i32,
}

impl Place {
    /// The place some bytes further on. Displacements that do not fit were made part of `base` by [`Lowering::place`].
    pub(super) fn plus(self, bytes: i64) -> Place {
        let offset = i64::from(self.offset) + bytes;
        Place { base: self.base, offset: i32::try_from(offset).expect("displacements are kept small") }
    }
}

/// Displacements up to this size stay beside the register, so that the steps within a group of lanes fit too.
const NEAR: i64 = 1 << 28;

impl Lowering<'_, '_> {
    /// The place of an element.
    pub(super) fn place(&mut self, buffer: BufferId, address: &Affine) -> Place {
        let bytes = self.kernel.buffers[buffer.0 as usize].dtype.bytes() as i64;
        let base = self.buffers[buffer.0 as usize];
        let (sum, constant) = self.affine(address, bytes);
        let base = match sum {
            Some(sum) => self.builder.ins().iadd(base, sum),
            None => base,
        };
        if constant.abs() < NEAR {
            return Place { base, offset: constant as i32 };
        }
        Place { base: self.builder.ins().iadd_imm_s(base, constant), offset: 0 }
    }

    /// Bytes from one lane to the next, 0 if all lanes have one address.
    fn lane_step(&self, buffer: BufferId, address: &Affine) -> i64 {
        let coefficient = self.lanes.map_or(0, |var| address.coefficient(var));
        coefficient * self.kernel.buffers[buffer.0 as usize].dtype.bytes() as i64
    }

    pub(super) fn load(&mut self, result: Value, buffer: BufferId, address: &Affine) {
        let dtype = self.dtype(result);
        let place = self.place(buffer, address);
        let step = self.lane_step(buffer, address);
        let slot = if self.width == 1 || step == 0 {
            Slot::Uniform(self.load_scalar(dtype, place))
        } else if step == dtype.bytes() as i64 {
            Slot::Lanes(self.load_contiguous(dtype, place))
        } else {
            let places = self.lane_places(place, step);
            Slot::Lanes(self.gather(dtype, &places))
        };
        self.bind(result, slot);
    }

    /// The place of each lane. Steps too long for a displacement are added in registers.
    fn lane_places(&mut self, place: Place, step: i64) -> Vec<Place> {
        let far = step.abs() * self.width as i64 >= NEAR;
        (0..self.width as i64)
            .map(|lane| match far {
                false => place.plus(lane * step),
                true => Place { base: self.builder.ins().iadd_imm_s(place.base, lane * step), ..place },
            })
            .collect()
    }

    pub(super) fn load_scalar(&mut self, dtype: DType, place: Place) -> clif::Value {
        let Place { base, offset } = place;
        let ins = self.builder.ins();
        match dtype {
            DType::U8 => ins.uload8(types::I32, flags(), base, offset),
            DType::I8 => ins.sload8(types::I32, flags(), base, offset),
            DType::U16 | DType::F16 | DType::BF16 => ins.uload16(types::I32, flags(), base, offset),
            DType::I16 => ins.sload16(types::I32, flags(), base, offset),
            DType::Bool => {
                let byte = ins.load(types::I8, flags(), base, offset);
                self.builder.ins().icmp_imm_u(IntCC::NotEqual, byte, 0)
            }
            _ => ins.load(scalar_type(dtype), flags(), base, offset),
        }
    }

    fn load_contiguous(&mut self, dtype: DType, place: Place) -> Vec<clif::Value> {
        let lanes = pack_lanes(dtype);
        let step = (lanes * dtype.bytes()) as i64;
        let count = (self.width / lanes) as i64;
        (0..count).map(|pack| self.load_pack(dtype, place.plus(pack * step))).collect()
    }

    /// Loads one pack of adjacent elements, widening small integers to 32 bits.
    pub(super) fn load_pack(&mut self, dtype: DType, place: Place) -> clif::Value {
        let Place { base, offset } = place;
        match dtype {
            DType::U8 | DType::I8 | DType::Bool => {
                let word = self.builder.ins().load(types::I32, flags(), base, offset);
                let bytes = self.builder.ins().scalar_to_vector(types::I32X4, word);
                let bytes = self.builder.ins().bitcast(types::I8X16, little_endian(), bytes);
                self.widen_bytes(dtype, bytes)
            }
            DType::U16 | DType::F16 | DType::BF16 => self.builder.ins().uload16x4(flags(), base, offset),
            DType::I16 => self.builder.ins().sload16x4(flags(), base, offset),
            _ => self.builder.ins().load(pack_type(dtype), flags(), base, offset),
        }
    }

    /// The first four bytes of a vector as 32-bit lanes.
    fn widen_bytes(&mut self, dtype: DType, bytes: clif::Value) -> clif::Value {
        if dtype == DType::I8 {
            let halves = self.builder.ins().swiden_low(bytes);
            return self.builder.ins().swiden_low(halves);
        }
        let halves = self.builder.ins().uwiden_low(bytes);
        let words = self.builder.ins().uwiden_low(halves);
        if dtype != DType::Bool {
            return words;
        }
        let zero = self.vector_constant(types::I32X4, vec![0; 16]);
        self.builder.ins().icmp(IntCC::NotEqual, words, zero)
    }

    /// Packs whose lanes are loaded one by one.
    fn gather(&mut self, dtype: DType, places: &[Place]) -> Vec<clif::Value> {
        let lanes: Vec<clif::Value> = places.iter().map(|p| self.load_scalar(dtype, *p)).collect();
        self.packs_from_lanes(dtype, &lanes)
    }

    /// Packs from one scalar register a lane.
    pub(super) fn packs_from_lanes(&mut self, dtype: DType, lanes: &[clif::Value]) -> Vec<clif::Value> {
        lanes
            .chunks(pack_lanes(dtype))
            .map(|chunk| {
                let mut pack = self.splat(dtype, chunk[0]);
                for (lane, register) in chunk.iter().enumerate().skip(1) {
                    let register =
                        if dtype == DType::Bool { self.builder.ins().bmask(types::I32, *register) } else { *register };
                    pack = self.builder.ins().insertlane(pack, register, lane as u8);
                }
                pack
            })
            .collect()
    }

    /// One scalar register a lane from packs.
    pub(super) fn lanes_from_packs(&mut self, dtype: DType, packs: &[clif::Value]) -> Vec<clif::Value> {
        let mut lanes = Vec::new();
        for pack in packs {
            for lane in 0..pack_lanes(dtype) as u8 {
                lanes.push(self.extract(dtype, *pack, lane));
            }
        }
        lanes
    }

    /// One lane of a pack as a uniform value.
    pub(super) fn extract(&mut self, dtype: DType, pack: clif::Value, lane: u8) -> clif::Value {
        let register = self.builder.ins().extractlane(pack, lane);
        match dtype {
            DType::Bool => self.builder.ins().icmp_imm_s(IntCC::NotEqual, register, 0),
            _ => register,
        }
    }

    pub(super) fn load_at(&mut self, result: Value, buffer: BufferId, address: &Affine, index: Value, stride: i64) {
        let dtype = self.dtype(result);
        let place = self.place(buffer, address);
        let step = self.lane_step(buffer, address);
        let stride = stride * dtype.bytes() as i64;
        let slot = match self.slot(index) {
            Slot::Uniform(index) if self.width == 1 || step == 0 => {
                let place = self.indexed(place, index, stride);
                Slot::Uniform(self.load_scalar(dtype, place))
            }
            Slot::Uniform(index) if step == dtype.bytes() as i64 => {
                let place = self.indexed(place, index, stride);
                Slot::Lanes(self.load_contiguous(dtype, place))
            }
            _ => {
                let packs = self.packs(index);
                let indices = self.lanes_from_packs(DType::I32, &packs);
                let places = self.lane_places(place, step);
                let places: Vec<Place> =
                    places.iter().zip(indices).map(|(p, index)| self.indexed(*p, index, stride)).collect();
                Slot::Lanes(self.gather(dtype, &places))
            }
        };
        self.bind(result, slot);
    }

    /// Lanes are stored one by one in their order.
    pub(super) fn store_at(
        &mut self,
        (buffer, address): (BufferId, &Affine),
        (index, stride): (Value, i64),
        value: Value,
    ) {
        let dtype = self.dtype(value);
        let place = self.place(buffer, address);
        let stride = stride * dtype.bytes() as i64;
        if self.width == 1 {
            let (index, register) = (self.uniform(index), self.uniform(value));
            let place = self.indexed(place, index, stride);
            return self.store_scalar(dtype, place, register);
        }
        let step = self.lane_step(buffer, address);
        let packs = self.packs(value);
        if let (Slot::Uniform(index), true) = (self.slot(index), step == dtype.bytes() as i64) {
            let place = self.indexed(place, index, stride);
            return self.store_packs(dtype, place, packs);
        }
        let indices = self.packs(index);
        let indices = self.lanes_from_packs(DType::I32, &indices);
        let lanes = self.lanes_from_packs(dtype, &packs);
        for ((place, index), lane) in self.lane_places(place, step).into_iter().zip(indices).zip(lanes) {
            let place = self.indexed(place, index, stride);
            self.store_scalar(dtype, place, lane);
        }
    }

    fn indexed(&mut self, place: Place, index: clif::Value, stride: i64) -> Place {
        let wide = self.builder.ins().sextend(types::I64, index);
        let distance = self.builder.ins().imul_imm_s(wide, stride);
        Place { base: self.builder.ins().iadd(place.base, distance), ..place }
    }

    pub(super) fn store(&mut self, buffer: BufferId, address: &Affine, value: Value) {
        let dtype = self.dtype(value);
        let place = self.place(buffer, address);
        if self.width == 1 {
            let register = self.uniform(value);
            return self.store_scalar(dtype, place, register);
        }
        let step = self.lane_step(buffer, address);
        let packs = self.packs(value);
        if step == dtype.bytes() as i64 {
            return self.store_packs(dtype, place, packs);
        }
        let places = self.lane_places(place, step);
        let lanes = self.lanes_from_packs(dtype, &packs);
        for (place, lane) in places.into_iter().zip(lanes) {
            self.store_scalar(dtype, place, lane);
        }
    }

    /// Stores packs one after another.
    fn store_packs(&mut self, dtype: DType, place: Place, packs: Vec<clif::Value>) {
        let step = (dtype.bytes() * pack_lanes(dtype)) as i64;
        for (i, pack) in packs.into_iter().enumerate() {
            self.store_pack(dtype, place.plus(i as i64 * step), pack);
        }
    }

    pub(super) fn store_scalar(&mut self, dtype: DType, place: Place, register: clif::Value) {
        let Place { base, offset } = place;
        let ins = self.builder.ins();
        match dtype {
            DType::U8 | DType::I8 => ins.istore8(flags(), register, base, offset),
            DType::U16 | DType::I16 | DType::F16 | DType::BF16 => ins.istore16(flags(), register, base, offset),
            _ => ins.store(flags(), register, base, offset),
        };
    }

    /// Stores one pack to adjacent elements, narrowing small integers.
    pub(super) fn store_pack(&mut self, dtype: DType, place: Place, pack: clif::Value) {
        let Place { base, offset } = place;
        let (take, width): (fn(u8) -> u8, u8) = match dtype.bytes() {
            1 => (|i| 4 * (i % 4), 4),
            2 => (|i| 4 * ((i / 2) % 4) + i % 2, 8),
            _ => {
                self.builder.ins().store(flags(), pack, base, offset);
                return;
            }
        };
        let mut pack = pack;
        if dtype == DType::Bool {
            let one = self.vector_constant(types::I32X4, [1, 0, 0, 0].repeat(4));
            pack = self.builder.ins().band(pack, one);
        }
        let mask: Vec<u8> = (0..16).map(take).collect();
        let bytes = self.builder.ins().bitcast(types::I8X16, little_endian(), pack);
        let bytes = self.shuffle(bytes, bytes, &mask);
        let ty = if width == 4 { types::I32X4 } else { types::I64X2 };
        let words = self.builder.ins().bitcast(ty, little_endian(), bytes);
        let word = self.builder.ins().extractlane(words, 0);
        self.builder.ins().store(flags(), word, base, offset);
    }

    /// Bytes chosen from two vectors of 16 (`0..16` from the first, `16..32` from the second).
    pub(super) fn shuffle(&mut self, a: clif::Value, b: clif::Value, mask: &[u8]) -> clif::Value {
        let mask = self.builder.func.dfg.immediates.push(clif::ConstantData::from(mask));
        self.builder.ins().shuffle(a, b, mask)
    }
}
