//! `Fold`: sixteen lanes in one vector or two for each accumulator, then a fixed tree.

use iced_x86::Code;

use super::control::further;
use super::{Binding, Bound, Lowered, Lowering};
use crate::codegen::x86::machine::{Instruction, Virtual};
use crate::ir::loops::{Accumulator, Block, LoopVar};

/// The lanes that the instruction's meaning fixes, whatever vectors have.
const LANES: usize = 16;

/// The parts of a fold.
struct Fold<'a> {
    body: &'a Block,
    accumulators: &'a [Accumulator],
    merge: &'a Block,
}

impl Lowering<'_> {
    pub(super) fn fold(
        &mut self,
        var: LoopVar,
        extent: u64,
        body: &Block,
        accumulators: &[Accumulator],
        merge: &Block,
    ) -> Lowered {
        self.hoist(body)?;
        let fold = Fold { body, accumulators, merge };
        let width = self.lanes();
        let mut lanes: Vec<Vec<Virtual>> = vec![Vec::new(); LANES / width];
        for vector in &mut lanes {
            for accumulator in accumulators {
                let dtype = self.dtype(accumulator.result);
                let bits = super::constant_bits(dtype, f64::from_bits(accumulator.initial.0));
                let bits = self.bits(bits);
                vector.push(self.in_register(bits));
            }
        }
        let round = LANES as u64;
        self.counted((0, round as i64, extent / round), &mut |this, binding| {
            for (number, vector) in lanes.iter().enumerate() {
                let binding = further(binding, (number * width) as i64);
                this.fold_vector(&fold, var, binding, width, vector)?;
            }
            Ok(())
        })?;
        let mut start = extent / round * round;
        for vector in &lanes {
            let active = (extent - start).min(width as u64);
            if active > 0 {
                self.fold_vector(&fold, var, Binding::Known(start as i64), active as usize, vector)?;
            }
            start += active;
        }
        self.tree(&fold, lanes)
    }

    /// Merges the next elements, a vector of them or fewer, into one vector of each accumulator.
    fn fold_vector(
        &mut self,
        fold: &Fold<'_>,
        var: LoopVar,
        binding: Binding,
        active: usize,
        lanes: &[Virtual],
    ) -> Lowered {
        self.in_lanes(var, active, binding, |this| {
            this.block(fold.body)?;
            let mut elements = Vec::new();
            for accumulator in fold.accumulators {
                elements.push(this.value(accumulator.element));
            }
            let mut merged = this.merge(fold, lanes, &elements)?;
            if active < this.lanes() {
                let mask = this.active_mask(active);
                let mask = this.in_register(mask);
                for (new, old) in merged.iter_mut().zip(lanes) {
                    *new = this.blend(mask, (*new).into(), *old);
                }
            }
            // The merge of one accumulator may be another's old value.
            if merged.iter().any(|m| lanes.contains(m)) {
                merged = merged.into_iter().map(|m| this.copy(m)).collect();
            }
            for (destination, source) in lanes.iter().zip(merged) {
                this.push(Instruction::Copy { destination: *destination, source });
            }
            Ok(())
        })
    }

    fn merge(&mut self, fold: &Fold<'_>, left: &[Virtual], right: &[Virtual]) -> Lowered<Vec<Virtual>> {
        for (accumulator, (left, right)) in fold.accumulators.iter().zip(left.iter().zip(right)) {
            self.bind(accumulator.left, Bound::Lanes(*left));
            self.bind(accumulator.right, Bound::Lanes(*right));
        }
        self.block(fold.merge)?;
        Ok(fold.accumulators.iter().map(|a| self.value(a.merged)).collect())
    }

    /// Lanes 8+8, 4+4, 2+2, 1+1; the result in all lanes.
    fn tree(&mut self, fold: &Fold<'_>, vectors: Vec<Vec<Virtual>>) -> Lowered {
        let mut vectors = vectors.into_iter();
        let mut lanes = vectors.next().expect("a vector has at most the lanes of a fold");
        let mut second = vectors.next();
        for half in [8, 4, 2, 1] {
            let upper = match second.take() {
                Some(upper) => upper,
                None => lanes.iter().map(|l| self.upper_lanes(*l, half)).collect(),
            };
            lanes = self.merge(fold, &lanes, &upper)?;
        }
        for (accumulator, lane) in fold.accumulators.iter().zip(lanes) {
            let all = self.op(Code::VEX_Vbroadcastss_ymm_xmm, &[lane.into()]);
            self.bind(accumulator.result, Bound::Uniform(all));
        }
        Ok(())
    }

    /// Lanes `half..2 * half` where lanes `0..half` were.
    fn upper_lanes(&mut self, lanes: Virtual, half: usize) -> Virtual {
        let lanes = lanes.into();
        match half {
            8 => self.op_with(Code::EVEX_Vshuff64x2_zmm_k1z_zmm_zmmm512b64_imm8, &[lanes, lanes], 0b01_00_11_10),
            4 => self.op_with(Code::VEX_Vextractf128_xmmm128_ymm_imm8, &[lanes], 1),
            2 => self.op_with(Code::VEX_Vpermilps_ymm_ymmm256_imm8, &[lanes], 0b1110),
            _ => self.op_with(Code::VEX_Vpermilps_ymm_ymmm256_imm8, &[lanes], 0b01),
        }
    }
}
