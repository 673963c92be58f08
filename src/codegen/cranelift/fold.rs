//! `Fold`: sixteen lanes, then a fixed tree.
//!
//! Whole rounds of 16 elements keep the lanes in registers. What is left over goes through memory on the
//! stack, 4 lanes and then 1 at a time, so that the body is written at most three times.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{self as clif, InstBuilder, StackSlotData, StackSlotKind, types};

use super::kernel::{Binding, Lowered, Lowering, flags};
use super::memory::Place;
use super::value::{Slot, pack_lanes, pack_type, scalar_type};
use super::vector_loop::stretches;
use crate::ir::loops::{Accumulator, Block, LoopVar};
use crate::ir::types::DType;

/// The lanes of a fold, which the meaning of the instruction fixes.
const LANES: usize = 16;

/// The parts of a fold.
struct Fold<'a> {
    var: LoopVar,
    body: &'a Block,
    accumulators: &'a [Accumulator],
    merge: &'a Block,
}

impl Lowering<'_, '_> {
    pub(super) fn fold(
        &mut self,
        var: LoopVar,
        extent: u64,
        body: &Block,
        accumulators: &[Accumulator],
        merge: &Block,
    ) -> Lowered {
        let fold = Fold { var, body, accumulators, merge };
        let mut lanes = Vec::new();
        for a in accumulators {
            let pack = self.constant_pack(self.dtype(a.result), f64::from_bits(a.initial.0));
            lanes.extend(std::iter::repeat_n(pack, LANES / pack_lanes(self.dtype(a.result))));
        }
        let whole = extent / LANES as u64;
        let lanes = self.counted_loop((0, LANES as i64, whole), &lanes, &mut |this, binding, lanes| {
            this.fold_round(&fold, LANES, binding, lanes)
        })?;
        let lanes = self.fold_rest(&fold, whole * LANES as u64, extent, lanes)?;
        self.fold_tree(&fold, lanes)
    }

    /// One round of `width` elements, merged into the registers of as many lanes.
    fn fold_round(
        &mut self,
        fold: &Fold<'_>,
        width: usize,
        binding: Binding,
        lanes: &[clif::Value],
    ) -> Lowered<Vec<clif::Value>> {
        self.at_width(fold.var, width, binding, |this| {
            this.block(fold.body)?;
            let elements: Vec<clif::Value> = fold.accumulators.iter().flat_map(|a| this.registers(a.element)).collect();
            this.fold_merge(fold, lanes, &elements)
        })
    }

    /// Merges registers of all accumulators at the present width.
    fn fold_merge(
        &mut self,
        fold: &Fold<'_>,
        left: &[clif::Value],
        right: &[clif::Value],
    ) -> Lowered<Vec<clif::Value>> {
        self.bind_registers(fold.accumulators.iter().map(|a| a.left), left);
        self.bind_registers(fold.accumulators.iter().map(|a| a.right), right);
        self.block(fold.merge)?;
        Ok(fold.accumulators.iter().flat_map(|a| self.registers(a.merged)).collect())
    }

    /// Elements `start..extent`, fewer than 16, each to its lane.
    fn fold_rest(
        &mut self,
        fold: &Fold<'_>,
        start: u64,
        extent: u64,
        lanes: Vec<clif::Value>,
    ) -> Lowered<Vec<clif::Value>> {
        if start == extent {
            return Ok(lanes);
        }
        let home = self.fold_memory(fold.accumulators.len());
        self.fold_spill(fold, home, &lanes);
        for stretch in stretches(extent - start, 4) {
            let range = ((start + stretch.start) as i64, stretch.width as i64, stretch.count);
            self.counted_loop(range, &[], &mut |this, binding, _| {
                this.fold_rest_round(fold, stretch.width, binding, start, home)?;
                Ok(Vec::new())
            })?;
        }
        Ok(self.fold_reload(fold, home))
    }

    /// 16 lanes of 8 bytes for each accumulator.
    fn fold_memory(&mut self, accumulators: usize) -> clif::Value {
        let bytes = (accumulators * LANES * 8) as u32;
        let slot = self.builder.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, bytes, 4));
        self.builder.ins().stack_addr(self.pointer, slot, 0)
    }

    fn fold_rest_round(
        &mut self,
        fold: &Fold<'_>,
        width: usize,
        binding: Binding,
        start: u64,
        home: clif::Value,
    ) -> Lowered {
        let mut places = Vec::new();
        for (i, a) in fold.accumulators.iter().enumerate() {
            let dtype = self.dtype(a.result);
            places.push((dtype, self.fold_lane(home, i, dtype, start, binding)));
        }
        let mut lanes = Vec::new();
        for (dtype, place) in &places {
            lanes.extend(self.reload(*dtype, width, *place));
        }
        let merged = self.fold_round(fold, width, binding, &lanes)?;
        let mut merged = merged.as_slice();
        for (dtype, place) in places {
            let (mine, rest) = merged.split_at(register_count(dtype, width));
            self.spill(mine, place);
            merged = rest;
        }
        Ok(())
    }

    /// Where the lane of a round lies for accumulator `number`.
    fn fold_lane(&mut self, home: clif::Value, number: usize, dtype: DType, start: u64, binding: Binding) -> Place {
        let bytes = 16 / pack_lanes(dtype) as i64;
        let base = (number * LANES * 8) as i64;
        match binding {
            Binding::Known(round) => Place { base: home, offset: (base + (round - start as i64) * bytes) as i32 },
            Binding::Register(round) => {
                let distance = self.builder.ins().imul_imm_s(round, bytes);
                let offset = base - start as i64 * bytes;
                let moved = self.builder.ins().iadd(home, distance);
                Place { base: self.builder.ins().iadd_imm_s(moved, offset), offset: 0 }
            }
        }
    }

    fn fold_spill(&mut self, fold: &Fold<'_>, home: clif::Value, lanes: &[clif::Value]) {
        let mut lanes = lanes;
        for (i, a) in fold.accumulators.iter().enumerate() {
            let dtype = self.dtype(a.result);
            let (mine, rest) = lanes.split_at(LANES / pack_lanes(dtype));
            self.spill(mine, Place { base: home, offset: (i * LANES * 8) as i32 });
            lanes = rest;
        }
    }

    fn fold_reload(&mut self, fold: &Fold<'_>, home: clif::Value) -> Vec<clif::Value> {
        let mut lanes = Vec::new();
        for (i, a) in fold.accumulators.iter().enumerate() {
            let place = Place { base: home, offset: (i * LANES * 8) as i32 };
            lanes.extend(self.reload(self.dtype(a.result), LANES, place));
        }
        lanes
    }

    /// Stores the registers of a value as whole lanes (a `bool` as its mask), one register after the other.
    fn spill(&mut self, registers: &[clif::Value], place: Place) {
        for (i, register) in registers.iter().enumerate() {
            let Place { base, offset } = place.plus(16 * i as i64);
            let scalar_mask = self.builder.func.dfg.value_type(*register) == types::I8;
            let whole = if scalar_mask { self.builder.ins().bmask(types::I32, *register) } else { *register };
            self.builder.ins().store(flags(), whole, base, offset);
        }
    }

    /// The reverse of `spill` at some width.
    fn reload(&mut self, dtype: DType, width: usize, place: Place) -> Vec<clif::Value> {
        let Place { base, offset } = place;
        if width > 1 {
            let ty = pack_type(dtype);
            let packs = register_count(dtype, width) as i32;
            return (0..packs).map(|i| self.builder.ins().load(ty, flags(), base, offset + 16 * i)).collect();
        }
        let ty = if dtype == DType::Bool { types::I32 } else { scalar_type(dtype) };
        let whole = self.builder.ins().load(ty, flags(), base, offset);
        if dtype != DType::Bool {
            return vec![whole];
        }
        vec![self.builder.ins().icmp_imm_s(IntCC::NotEqual, whole, 0)]
    }

    /// Lanes 8+8 and 4+4 as registers, then 2+2 and 1+1 as scalars.
    fn fold_tree(&mut self, fold: &Fold<'_>, lanes: Vec<clif::Value>) -> Lowered {
        let dtypes: Vec<DType> = fold.accumulators.iter().map(|a| self.dtype(a.result)).collect();
        let mut groups: Vec<Vec<clif::Value>> = Vec::new();
        let mut rest = lanes.as_slice();
        for dtype in &dtypes {
            let (mine, others) = rest.split_at(LANES / pack_lanes(*dtype));
            groups.push(mine.to_vec());
            rest = others;
        }
        for half in [8, 4] {
            groups = self.fold_halves(fold, &dtypes, groups, half)?;
        }
        groups = groups.iter().zip(&dtypes).map(|(packs, dtype)| self.lanes_from_packs(*dtype, packs)).collect();
        for half in [2, 1] {
            groups = self.fold_scalars(fold, groups, half)?;
        }
        for (a, group) in fold.accumulators.iter().zip(groups) {
            self.bind(a.result, Slot::Uniform(group[0]));
        }
        Ok(())
    }

    /// Merges the first `half` lanes with the second, in packs.
    fn fold_halves(
        &mut self,
        fold: &Fold<'_>,
        dtypes: &[DType],
        groups: Vec<Vec<clif::Value>>,
        half: usize,
    ) -> Lowered<Vec<Vec<clif::Value>>> {
        let side = |second: bool| -> Vec<clif::Value> {
            let halves = groups.iter().map(|g| g.split_at(g.len() / 2));
            halves.flat_map(|(low, high)| if second { high } else { low }.to_vec()).collect()
        };
        let before = std::mem::replace(&mut self.width, half);
        let merged = self.fold_merge(fold, &side(false), &side(true));
        self.width = before;
        let merged = merged?;
        let mut rest = merged.as_slice();
        Ok(dtypes
            .iter()
            .map(|dtype| {
                let (mine, others) = rest.split_at(register_count(*dtype, half));
                rest = others;
                mine.to_vec()
            })
            .collect())
    }

    /// Merges lane `l` with lane `l + half`, one by one.
    fn fold_scalars(
        &mut self,
        fold: &Fold<'_>,
        groups: Vec<Vec<clif::Value>>,
        half: usize,
    ) -> Lowered<Vec<Vec<clif::Value>>> {
        let mut out: Vec<Vec<clif::Value>> = vec![Vec::new(); groups.len()];
        for lane in 0..half {
            let left: Vec<clif::Value> = groups.iter().map(|g| g[lane]).collect();
            let right: Vec<clif::Value> = groups.iter().map(|g| g[lane + half]).collect();
            for (group, register) in out.iter_mut().zip(self.fold_merge(fold, &left, &right)?) {
                group.push(register);
            }
        }
        Ok(out)
    }
}

/// Registers of a value of some dtype at a width.
fn register_count(dtype: DType, width: usize) -> usize {
    if width == 1 { 1 } else { width / pack_lanes(dtype) }
}
