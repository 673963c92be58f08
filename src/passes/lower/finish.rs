//! What every kernel goes through once its code is written: invariants leave loops, the outermost loop becomes parallel, ids are
//! numbered in order, buffer uses are found.

use std::collections::BTreeMap;

use super::hoist::hoist;
use super::number::renumber;
use super::visit::{Touch, Visitor, walk};
use crate::ir::loops::{Affine, Block, BufferId, Instruction, Kernel, LoopVar, ParallelLoop};
use crate::passes::fuse::classify::block_cost;

/// The work of one chunk of a parallel loop, in simple instructions on one element.
pub const CHUNK_WORK: u64 = 16_384;

/// A kernel and the program buffer of each of its parameters.
#[derive(Clone, Debug)]
pub struct Draft {
    pub kernel: Kernel,
    pub buffers: Vec<u32>,
}

/// The kernel ready to be shared: equal kernels are equal values, but for the name.
pub fn finish(mut draft: Draft) -> Draft {
    hoist(&mut draft.kernel.body);
    parallelise(&mut draft.kernel);
    renumber(draft)
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
            c.rows.saturating_mul(c.columns).saturating_mul(c.depth.saturating_add(work(&c.epilogue)))
        }
        Instruction::Tile(t) => {
            let depth = t.depth.saturating_mul(t.batches);
            t.rows.saturating_mul(t.columns).saturating_mul(depth.saturating_add(work(&t.epilogue)))
        }
        single => u64::from(block_cost(&Block { instructions: vec![single.clone()] })),
    }
}

/// Makes the outermost loop parallel if there is work for more than one chunk and its rounds store apart.
pub fn parallelise(kernel: &mut Kernel) {
    let Some((last, before)) = kernel.body.instructions.split_last() else { return };
    let Instruction::For { var, extent, carried, body } = last else { return };
    let straight = before.iter().all(is_repeatable);
    let each = work(body).max(1);
    if kernel.parallel.is_some() || !carried.is_empty() || !straight || extent.saturating_mul(each) < 2 * CHUNK_WORK {
        return;
    }
    let (var, extent) = (*var, *extent);
    if extent < 2 || !stores_apart(body, var) {
        return;
    }
    let grain = CHUNK_WORK.div_ceil(each).clamp(1, extent);
    let Some(Instruction::For { body, .. }) = kernel.body.instructions.pop() else { return };
    kernel.body.instructions.extend(body.instructions);
    kernel.parallel = Some(ParallelLoop { var, extent, grain });
}

/// Whether an instruction may run once for each round instead of once.
fn is_repeatable(instruction: &Instruction) -> bool {
    matches!(
        instruction,
        Instruction::Constant { .. }
            | Instruction::Index { .. }
            | Instruction::Map { .. }
            | Instruction::Convert { .. }
            | Instruction::Bitcast { .. }
            | Instruction::Load { .. }
    )
}

/// Whether different rounds of `var` touch different elements of every buffer that is stored to.
///
/// That holds if all addresses in it step by one stride that is larger than what the inner loops reach.
fn stores_apart(body: &Block, var: LoopVar) -> bool {
    let mut extents = BTreeMap::new();
    collect_extents(body, &mut extents);
    let mut accesses = Accesses::default();
    walk(&mut body.clone(), &mut accesses);
    accesses.of_buffer.values().filter(|uses| uses.written).all(|uses| {
        let addresses = &uses.addresses;
        let stride = addresses[0].coefficient(var);
        let reach = |a: &Affine| {
            a.terms.iter().filter(|(v, _)| *v != var).fold((a.constant, a.constant), |(low, high), (v, c)| {
                let most = c * (extents.get(v).copied().unwrap_or(1).max(1) as i64 - 1);
                (low + most.min(0), high + most.max(0))
            })
        };
        let low = addresses.iter().map(|a| reach(a).0).min().unwrap_or(0);
        let high = addresses.iter().map(|a| reach(a).1).max().unwrap_or(0);
        !uses.anywhere && stride > high - low && addresses.iter().all(|a| a.coefficient(var) == stride)
    })
}

/// How one buffer is used.
#[derive(Default)]
struct Uses {
    written: bool,
    /// Whether some read reaches further than its address says.
    anywhere: bool,
    addresses: Vec<Affine>,
}

#[derive(Default)]
struct Accesses {
    current: Option<BufferId>,
    of_buffer: BTreeMap<BufferId, Uses>,
}

impl Visitor for Accesses {
    fn buffer(&mut self, buffer: &mut BufferId, touch: Touch) {
        self.current = Some(*buffer);
        let uses = self.of_buffer.entry(*buffer).or_default();
        uses.written |= touch == Touch::Write;
        uses.anywhere |= touch == Touch::ReadFrom;
    }
    fn affine(&mut self, affine: &mut Affine) {
        if let Some(buffer) = self.current.take() {
            self.of_buffer.entry(buffer).or_default().addresses.push(affine.clone());
        }
    }
}

fn collect_extents(block: &Block, extents: &mut BTreeMap<LoopVar, u64>) {
    for instruction in &block.instructions {
        match instruction {
            Instruction::For { var, extent, body, .. }
            | Instruction::Lanes { var, extent, body }
            | Instruction::Fold { var, extent, body, .. } => {
                extents.insert(*var, *extent);
                collect_extents(body, extents);
            }
            Instruction::Contract(c) => {
                extents.extend([(c.row, c.rows), (c.column, c.columns)]);
                collect_extents(&c.epilogue, extents);
            }
            Instruction::Tile(t) => {
                extents.extend([(t.row, t.rows), (t.column, t.columns)]);
                collect_extents(&t.epilogue, extents);
            }
            _ => {}
        }
    }
}
