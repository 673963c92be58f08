//! The weights that `average ema` keeps beside those that are trained.

use crate::frontend::elaborate::AVERAGE;
use crate::ir::types::DType;

use super::session::Session;

impl Session {
    /// The block of parameters and states with every averaged parameter in the place of the trained one; `None` if the recipe averages
    /// nothing or no step has been taken.
    pub fn averaged(&self) -> Option<Vec<u8>> {
        let slots: Vec<_> =
            self.optimizer_layout().slots().iter().filter(|slot| slot.path.starts_with(AVERAGE)).collect();
        if slots.is_empty() || self.step() == 0 {
            return None;
        }
        let mut block = self.parameter_bytes().to_vec();
        for slot in slots {
            let own = self.parameters().find(&slot.path[AVERAGE.len()..])?;
            let average = &self.optimizer_bytes()[slot.offset..slot.offset + slot.bytes()];
            let target = &mut block[own.offset..own.offset + own.bytes()];
            match own.dtype {
                DType::F16 => halves(average, target, |x| half::f16::from_f32(x).to_le_bytes()),
                DType::BF16 => halves(average, target, |x| half::bf16::from_f32(x).to_le_bytes()),
                _ => target.copy_from_slice(average),
            }
        }
        Some(block)
    }

    /// Exchanges the block of parameters and states with `other`, of the same length.
    pub fn swap_parameters(&mut self, other: &mut [u8]) {
        self.parameter_bytes_mut().swap_with_slice(other);
    }
}

/// Averages of parameters stored in half are f32.
fn halves(average: &[u8], target: &mut [u8], round: impl Fn(f32) -> [u8; 2]) {
    for (from, to) in average.chunks_exact(4).zip(target.chunks_exact_mut(2)) {
        to.copy_from_slice(&round(f32::from_le_bytes([from[0], from[1], from[2], from[3]])));
    }
}
