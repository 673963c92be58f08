//! What every kernel goes through once its code is written: invariants leave loops, the outermost loop becomes parallel, ids are
//! numbered in order, buffer uses are found.

use std::collections::BTreeMap;

use super::accesses::Accesses;
use super::hoist::hoist;
use super::number::renumber;
use super::visit::each_affine;
use crate::ir::loops::sums::gcd;
use crate::ir::loops::{Affine, Block, Instruction, Kernel, LoopVar, ParallelLoop, Section};
use crate::passes::fuse::classify::block_cost;

/// The work of one chunk of a parallel loop, in simple instructions on one element.
pub const CHUNK_WORK: u64 = 16_384;

/// A kernel and the section of a program buffer for each of its parameters.
#[derive(Clone, Debug)]
pub struct Draft {
    pub kernel: Kernel,
    pub buffers: Vec<Section>,
}

/// The kernel ready to be shared: equal kernels are equal values, but for the name.
pub fn finish(mut draft: Draft) -> Draft {
    hoist(&mut draft.kernel.body);
    unwrap_single_round(&mut draft.kernel.body);
    parallelise(&mut draft.kernel);
    renumber(draft)
}

/// Puts the body of a last loop of one round in its place, so that the loop inside may become parallel.
fn unwrap_single_round(block: &mut Block) {
    while let Some(Instruction::For { extent: 1, carried, .. }) = block.instructions.last()
        && carried.is_empty()
    {
        let Some(Instruction::For { var, mut body, .. }) = block.instructions.pop() else { return };
        each_affine(&mut body, |affine| affine.terms.retain(|(v, _)| *v != var));
        block.instructions.extend(body.instructions);
    }
}

/// The number of simple instructions that a block executes on single elements.
pub fn work(block: &Block) -> u64 {
    block.instructions.iter().map(instruction_work).fold(0, u64::saturating_add)
}

fn instruction_work(instruction: &Instruction) -> u64 {
    match instruction {
        Instruction::For { extent, body, .. }
        | Instruction::Lanes { extent, body, .. }
        | Instruction::Fold { extent, body, .. } => extent.saturating_mul(work(body).max(1)),
        Instruction::Contract(c) => {
            c.rows.saturating_mul(c.columns).saturating_mul(c.steps().saturating_add(work(&c.epilogue)))
        }
        Instruction::Tile(t) => {
            // Multiplications in registers go several times as fast as work on memory.
            t.rows.saturating_mul(t.columns).saturating_mul((t.steps() / 4).saturating_add(work(&t.epilogue)))
        }
        single => u64::from(block_cost(&Block { instructions: vec![single.clone()] })),
    }
}

/// Makes the outermost loop parallel if there is work for more than one chunk and its rounds store apart.
pub fn parallelise(kernel: &mut Kernel) {
    let Some((last, before)) = kernel.body.instructions.split_last_mut() else { return };
    let Instruction::For { var, extent, carried, body } = last else { return };
    let straight = before.iter().all(is_repeatable);
    let each = work(body).max(1);
    if kernel.parallel.is_some() || !carried.is_empty() || !straight || extent.saturating_mul(each) < 2 * CHUNK_WORK {
        return;
    }
    let (var, extent) = (*var, *extent);
    if extent < 2 || !stores_apart(body, var, extent) {
        return;
    }
    let grain = CHUNK_WORK.div_ceil(each).clamp(1, extent);
    let Some(Instruction::For { body, .. }) = kernel.body.instructions.pop() else { return };
    kernel.body.instructions.extend(body.instructions);
    kernel.parallel = Some(ParallelLoop { var, extent, grain, reverse: false });
}

/// Whether an instruction may run once for each round instead of once.
pub fn is_repeatable(instruction: &Instruction) -> bool {
    matches!(
        instruction,
        Instruction::Constant { .. }
            | Instruction::Index { .. }
            | Instruction::Map { .. }
            | Instruction::Convert { .. }
            | Instruction::Bitcast { .. }
            | Instruction::OneOf { .. }
            | Instruction::Load { .. }
    )
}

/// Whether different rounds of `var` touch different elements of every buffer that is stored to.
///
/// All addresses in such a buffer must step by one stride `s`. Of the other terms, those that step by less stay within `s` of
/// each other, and those that step by more than all rounds reach (rows, while `var` counts columns) never meet within one step of theirs.
/// Distances between constants are such steps too: those of planes of which each round writes a row.
fn stores_apart(body: &mut Block, var: LoopVar, extent: u64) -> bool {
    let accesses = Accesses::in_place(body);
    let mut written = accesses.of_buffer.values().filter(|uses| uses.written);
    written.all(|uses| apart(&uses.addresses, var, extent, &accesses.extents))
}

fn apart(addresses: &[Affine], var: LoopVar, extent: u64, extents: &BTreeMap<LoopVar, u64>) -> bool {
    let stride = addresses[0].coefficient(var);
    let Some(span) = stride.checked_mul(extent as i64).filter(|s| *s > 0) else { return false };
    let others = |a: &Affine| a.terms.iter().copied().filter(|(v, _)| *v != var).collect::<Vec<_>>();
    let base = addresses.iter().map(|a| a.constant).min().unwrap_or(0);
    let steps = addresses.iter().flat_map(others).map(|(_, c)| c.abs());
    let outer = steps.chain(addresses.iter().map(|a| a.constant - base)).filter(|c| *c >= span);
    // One step of the outer terms; without any, nothing is outer.
    let step = outer.map(i64::unsigned_abs).reduce(gcd).map_or(i64::MAX, |step| step as i64);
    let (mut low, mut high) = (i64::MAX, i64::MIN);
    for address in addresses {
        let place = address.constant.rem_euclid(step);
        let mut range = (place, place);
        for (v, c) in others(address).into_iter().filter(|(_, c)| c.abs() < span) {
            let most = c * (extents.get(&v).copied().unwrap_or(1).max(1) as i64 - 1);
            range = (range.0 + most.min(0), range.1 + most.max(0));
        }
        (low, high) = (low.min(range.0), high.max(range.1));
    }
    let inside = low >= 0 && high.saturating_add(span - stride) < step;
    inside && high - low < stride && addresses.iter().all(|a| a.coefficient(var) == stride)
}
