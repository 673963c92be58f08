//! How the rounds of a kernel's outermost loop, or of one inside it, move through its buffers.

use crate::ir::loops::verify::affine_range;
use crate::ir::loops::{Affine, Block, BufferId, Instruction, Kernel, LoopVar};
use crate::passes::lower::accesses::{Accesses, Uses};
use crate::passes::lower::finish::is_repeatable;

/// How a buffer is read or written from round to round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Motion {
    /// Every round touches the same elements.
    Still,
    /// Each round goes so many elements further on.
    Forward(u64),
}

/// A loop of a kernel, mostly the outermost, as seen from its buffers.
#[derive(Clone, Debug)]
pub struct Slices {
    pub rounds: Moving,
    accesses: Accesses,
}

/// How the rounds of one loop move through the buffers of a kernel.
#[derive(Clone, Debug)]
pub struct Moving {
    pub extent: u64,
    pub var: LoopVar,
    /// Of each parameter.
    pub motions: Vec<Motion>,
}

impl Slices {
    /// The outermost loop, or one inside it if that alone goes through a buffer of those `handed` to the kernel or by it from beginning to end; `None` if the kernel has no parallel
    /// one, counts its rounds, or goes through a buffer in different ways.
    pub fn of(kernel: &Kernel, handed: &[BufferId]) -> Option<Slices> {
        let parallel = kernel.parallel.as_ref()?;
        let accesses = accesses(kernel);
        let outermost = Moving::along(kernel, &accesses, parallel.var)?;
        let rounds = match handed.is_empty() || outermost.goes_through(kernel, handed) {
            true => outermost,
            false => {
                let mut inside = loops_inside(&kernel.body).filter_map(|var| Moving::along(kernel, &accesses, var));
                inside.find(|moving| moving.goes_through(kernel, handed)).unwrap_or(outermost)
            }
        };
        Some(Slices { rounds, accesses })
    }

    /// The loop of a variable.
    pub fn along(kernel: &Kernel, var: LoopVar) -> Option<Slices> {
        let accesses = accesses(kernel);
        Some(Slices { rounds: Moving::along(kernel, &accesses, var)?, accesses })
    }

    /// Whether each of `rounds` strips stays in a slice of its own, of `elements` cut into as many.
    pub fn are_apart(&self, buffer: BufferId, elements: u64, rounds: u64) -> bool {
        let Some(uses) = self.accesses.of_buffer.get(&buffer) else { return true };
        let (strip, slice) = (self.rounds.extent / rounds, elements / rounds);
        let Motion::Forward(step) = self.rounds.motions[buffer.0 as usize] else { return false };
        if !elements.is_multiple_of(rounds) || step * strip != slice {
            return false;
        }
        let extent = |var: LoopVar| {
            if var == self.rounds.var { Some(strip) } else { self.accesses.extents.get(&var).copied() }
        };
        let within = |address: &Affine| {
            affine_range(address, extent).is_some_and(|(low, high)| low >= 0 && high < i128::from(slice))
        };
        uses.addresses.iter().all(within)
    }
}

/// The accesses of a kernel and the extents of all its loops.
fn accesses(kernel: &Kernel) -> Accesses {
    let mut accesses = Accesses::of(&kernel.body);
    accesses.extents.extend(kernel.parallel.iter().map(|parallel| (parallel.var, parallel.extent)));
    accesses
}

impl Moving {
    fn along(kernel: &Kernel, accesses: &Accesses, var: LoopVar) -> Option<Moving> {
        let extent = *accesses.extents.get(&var)?;
        if accesses.values.iter().any(|index| index.coefficient(var) != 0) {
            return None;
        }
        let motion = |number: usize| match accesses.of_buffer.get(&BufferId(number as u32)) {
            Some(uses) => motion(uses, var),
            None => Some(Motion::Still),
        };
        let motions = (0..kernel.buffers.len()).map(motion).collect::<Option<Vec<Motion>>>()?;
        Some(Moving { extent, var, motions })
    }

    /// Whether the rounds go through one of these buffers from beginning to end.
    fn goes_through(&self, kernel: &Kernel, buffers: &[BufferId]) -> bool {
        let whole = |id: &BufferId| kernel.buffers[id.0 as usize].elements;
        let moves = |id: &BufferId| match self.motions[id.0 as usize] {
            Motion::Still => 0,
            Motion::Forward(step) => step,
        };
        buffers.iter().any(|id| moves(id) * self.extent == whole(id))
    }
}

fn motion(uses: &Uses, var: LoopVar) -> Option<Motion> {
    let step = uses.addresses.first()?.coefficient(var);
    if uses.addresses.iter().any(|address| address.coefficient(var) != step) {
        return None;
    }
    match step {
        0 => Some(Motion::Still),
        _ => u64::try_from(step).ok().map(Motion::Forward),
    }
}

/// The variables of the loops around all that a block stores, the outermost first. What stands before them may run once for each strip.
fn loops_inside(mut block: &Block) -> impl Iterator<Item = LoopVar> {
    let mut loops = Vec::new();
    while let [before @ .., Instruction::For { var, carried, body, .. }] = block.instructions.as_slice()
        && carried.is_empty()
        && before.iter().all(is_repeatable)
    {
        loops.push(*var);
        block = body;
    }
    loops.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::loops::text;

    /// The loop along which a kernel is cut that reads 4 blocks of 2 rows and writes 2 rows of 4 blocks, with so much before its inner loop.
    fn cut_along(before: &str) -> u64 {
        let text = format!(
            "program p pointers 2 arena 0
  buffer 0 x: f32[128] argument 0
  buffer 1 y: f32[128] argument 1
  kernel turn
    read in0: f32[128]
    write out0: f32[128]
    parallel i0 in 0..2 grain 1
    {before}
    for i1 in 0..4 {{
      lanes i2 in 0..16 {{
        %0: f32 = load in0[16*i0 + 32*i1 + i2]
        store out0[64*i0 + 16*i1 + i2] = %0
      }}
    }}
  end
  call 0 (0, 1)
end
"
        );
        let program = text::parse_program(&text).unwrap();
        Slices::of(&program.kernels[0], &[BufferId(0)]).unwrap().rounds.extent
    }

    #[test]
    fn what_is_handed_over_block_by_block_is_cut_along_the_blocks() {
        assert_eq!(cut_along(""), 4);
    }

    #[test]
    fn a_loop_with_a_store_before_it_stays_whole() {
        assert_eq!(
            cut_along("lanes i3 in 0..16 {\n      %1: f32 = const 0.0\n      store out0[64*i0 + i3] = %1\n    }"),
            2
        );
    }
}
