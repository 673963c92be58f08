//! `Lanes`: a loop whose rounds are done in groups, with the same bits at every width.

use super::kernel::{Binding, Lowered, Lowering};
use crate::ir::loops::{Block, Instruction, LoopVar};

/// Rounds `start..start + width · count` of a vector loop, done `width` at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    pub start: u64,
    pub width: usize,
    pub count: u64,
}

/// Cuts `extent` rounds into stretches of falling width: `widest`, then 4, then 1.
pub(super) fn stretches(extent: u64, widest: usize) -> Vec<Stretch> {
    let mut out = Vec::new();
    let mut start = 0;
    for width in [widest, 4, 1] {
        let count = (extent - start) / width as u64;
        if count > 0 {
            out.push(Stretch { start, width, count });
            start += count * width as u64;
        }
    }
    out
}

/// How many rounds to do at once: many for short bodies, for the loop's cost; few for long ones, for their registers and size.
pub(super) fn widest(instructions: usize) -> usize {
    match instructions {
        0..=12 => 16,
        13..=40 => 8,
        _ => 4,
    }
}

/// The number of instructions, nested ones included.
pub(super) fn size(block: &Block) -> usize {
    let nested = |i: &Instruction| match i {
        Instruction::For { body, .. } | Instruction::Lanes { body, .. } => size(body),
        Instruction::Fold { body, merge, .. } => size(body) + size(merge),
        _ => 0,
    };
    block.instructions.iter().map(|i| 1 + nested(i)).sum()
}

impl Lowering<'_, '_> {
    pub(super) fn lanes_loop(&mut self, var: LoopVar, extent: u64, body: &Block) -> Lowered {
        self.in_stretches(var, &stretches(extent, widest(size(body))), &mut |this| this.block(body))
    }

    /// Lowers `body` for each stretch with the width set and the variable bound to the first round of the group.
    pub(super) fn in_stretches(
        &mut self,
        var: LoopVar,
        stretches: &[Stretch],
        body: &mut dyn FnMut(&mut Self) -> Lowered,
    ) -> Lowered {
        for stretch in stretches {
            let range = (stretch.start as i64, stretch.width as i64, stretch.count);
            self.counted_loop(range, &[], &mut |this, binding, _| {
                this.at_width(var, stretch.width, binding, |this| body(this))?;
                Ok(Vec::new())
            })?;
        }
        Ok(())
    }

    /// Lowers something as the rounds of a vector loop from `binding` on, `width` of them.
    pub(super) fn at_width<T>(
        &mut self,
        var: LoopVar,
        width: usize,
        binding: Binding,
        lower: impl FnOnce(&mut Self) -> Lowered<T>,
    ) -> Lowered<T> {
        let before = (self.lanes.replace(var), std::mem::replace(&mut self.width, width));
        let result = self.with_variable(var, binding, lower);
        (self.lanes, self.width) = before;
        result
    }
}
