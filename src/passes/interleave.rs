//! Lets chains of operations that do not wait for each other take turns.
//!
//! An `exp` is a chain of some twenty operations, each of which waits four cycles for the one before. A processor finds other work only among the next sixty
//! operations or so, and code that was written out function by function has none there: the gates of a recurrent cell come one after
//! the other. Here the operations of a long block without loops are put in the order in which a machine that starts two a cycle, and
//! none out of turn, would be done soonest, as long as the values that wait for their last reader are not too many for the registers. No result changes.
//!
//! Source: list scheduling by the critical path; Muchnick, *Advanced Compiler Design and Implementation*, 1997, chapter 17.

use rustc_hash::FxHashMap;

use super::LoopPass;
use crate::ir::loops::{Block, BufferId, Instruction, Kernel, LoopVar, Value};
use crate::ir::scalar::ScalarFunction as F;
use crate::passes::lower::visit::{Touch, Visitor, walk_instruction};

/// The pass.
pub const PASS: LoopPass = LoopPass {
    name: "interleave",
    doc: "lets chains of operations that do not wait for each other take turns",
    run: |mut program, _| {
        program.kernels.iter_mut().for_each(kernel);
        Ok(program)
    },
};

/// Blocks of fewer instructions stay as they are, and those of very many, since each turn looks at all that may be next.
const SHORTEST: usize = 32;
const LONGEST: usize = 1024;

/// While so many values wait for a reader, what reads the last of one goes first.
const MOST_LIVE: usize = 12;

/// Puts the long blocks of a kernel in order.
pub fn kernel(kernel: &mut Kernel) {
    block(&mut kernel.body);
}

/// Epilogues of products stay as they are: long ones are written for two vectors side by side, which leaves no registers for more chains.
fn block(block: &mut Block) {
    for instruction in &mut block.instructions {
        match instruction {
            Instruction::For { body, .. } | Instruction::Lanes { body, .. } | Instruction::Fold { body, .. } => {
                self::block(body);
            }
            _ => {}
        }
    }
    if (SHORTEST..=LONGEST).contains(&block.instructions.len())
        && let Some(waits) = Waits::of(block)
    {
        let mut old: Vec<Option<Instruction>> = block.instructions.drain(..).map(Some).collect();
        block.instructions = Turns::new(&waits).order().into_iter().filter_map(|at| old[at].take()).collect();
    }
}

/// What each instruction of a block waits for.
struct Waits {
    /// Half cycles until the result is there.
    latencies: Vec<u32>,
    /// Instructions that come before, and half cycles after the start of each that this one may start.
    before: Vec<Vec<(usize, u32)>>,
    /// The makers of the operands, each once.
    operands: Vec<Vec<usize>>,
    /// Whether a register holds the result.
    holds: Vec<bool>,
}

impl Waits {
    /// `None` of a block with loops in it.
    fn of(block: &mut Block) -> Option<Waits> {
        let count = block.instructions.len();
        let mut waits = Waits {
            latencies: Vec::with_capacity(count),
            before: vec![Vec::new(); count],
            operands: vec![Vec::new(); count],
            holds: Vec::with_capacity(count),
        };
        let mut makers: FxHashMap<Value, usize> = FxHashMap::default();
        let mut touches: FxHashMap<BufferId, Touches> = FxHashMap::default();
        for (at, instruction) in block.instructions.iter_mut().enumerate() {
            let mut uses = Uses::default();
            walk_instruction(instruction, &mut uses);
            if uses.binds {
                return None;
            }
            for maker in uses.operands.iter().filter_map(|value| makers.get(value)) {
                if !waits.operands[at].contains(maker) {
                    waits.operands[at].push(*maker);
                    waits.before[at].push((*maker, waits.latencies[*maker]));
                }
            }
            for (buffer, writes) in uses.buffers {
                let earlier = touches.entry(buffer).or_default().next(at, writes);
                waits.before[at].extend(earlier.into_iter().map(|earlier| (earlier, 1)));
            }
            waits.latencies.push(latency(instruction));
            waits.holds.push(!uses.results.is_empty() && !matches!(instruction, Instruction::Constant { .. }));
            makers.extend(uses.results.into_iter().map(|value| (value, at)));
        }
        Some(waits)
    }
}

/// What was done to a buffer so far: the last instruction that wrote it, and those that have read it since.
#[derive(Default)]
struct Touches {
    written: Option<usize>,
    read: Vec<usize>,
}

impl Touches {
    /// The instructions that the next one has to follow.
    fn next(&mut self, at: usize, writes: bool) -> Vec<usize> {
        if !writes {
            self.read.push(at);
            return self.written.into_iter().collect();
        }
        self.written.replace(at).into_iter().chain(self.read.drain(..)).collect()
    }
}

/// What an instruction makes, reads and touches.
#[derive(Default)]
struct Uses {
    results: Vec<Value>,
    operands: Vec<Value>,
    buffers: Vec<(BufferId, bool)>,
    binds: bool,
}

impl Visitor for Uses {
    fn buffer(&mut self, buffer: &mut BufferId, touch: Touch) {
        self.buffers.push((*buffer, touch.writes()));
    }
    fn definition(&mut self, value: &mut Value) {
        self.results.push(*value);
    }
    fn operand(&mut self, value: &mut Value) {
        self.operands.push(*value);
    }
    fn variable(&mut self, _: &mut LoopVar) {
        self.binds = true;
    }
}

/// Half cycles until others can read the result, on the processors of these years.
fn latency(instruction: &Instruction) -> u32 {
    match instruction {
        Instruction::Map { function, .. } => match function {
            F::Add | F::Sub | F::Mul | F::Fma | F::Floor | F::Ceil | F::Round => 8,
            F::Div => 22,
            F::Sqrt => 30,
            _ => 2,
        },
        Instruction::Convert { .. } => 8,
        Instruction::Load { .. } | Instruction::LoadAt { .. } => 14,
        Instruction::OneOf { .. } => 6,
        Instruction::Bitcast { .. } | Instruction::Constant { .. } | Instruction::Index { .. } => 0,
        _ => 2,
    }
}

/// The state of putting a block in order.
struct Turns<'a> {
    waits: &'a Waits,
    /// Half cycles from the start of an instruction to the end of all that wait for it.
    heights: Vec<u32>,
    /// When each instruction that was not yet started may start.
    ready: Vec<u32>,
    /// How many instructions each still has to follow.
    missing: Vec<usize>,
    after: Vec<Vec<(usize, u32)>>,
    /// How many readers each result still has.
    readers: Vec<usize>,
    live: usize,
}

impl Turns<'_> {
    fn new(waits: &Waits) -> Turns<'_> {
        let count = waits.latencies.len();
        let (mut after, mut heights) = (vec![Vec::new(); count], vec![0; count]);
        let mut readers = vec![0; count];
        for at in (0..count).rev() {
            heights[at] += waits.latencies[at];
            for (earlier, distance) in &waits.before[at] {
                after[*earlier].push((at, *distance));
                // The height of the earlier one without its own latency, which the distance counts.
                let beyond = (heights[at] + distance).saturating_sub(waits.latencies[*earlier]);
                heights[*earlier] = heights[*earlier].max(beyond);
            }
            waits.operands[at].iter().for_each(|maker| readers[*maker] += 1);
        }
        let missing = waits.before.iter().map(Vec::len).collect();
        Turns { waits, heights, ready: vec![0; count], missing, after, readers, live: 0 }
    }

    /// The places of the instructions in their new order.
    fn order(mut self) -> Vec<usize> {
        let count = self.missing.len();
        let mut open: Vec<usize> = (0..count).filter(|at| self.missing[*at] == 0).collect();
        let mut order = Vec::with_capacity(count);
        let mut now = 0;
        while !open.is_empty() {
            let next = open.swap_remove(self.best(&open, now));
            now = now.max(self.ready[next]) + u32::from(self.waits.latencies[next] > 0);
            self.start(next, now, &mut open);
            order.push(next);
        }
        order
    }

    /// The place of the instruction to come next among those that may.
    fn best(&self, open: &[usize], now: u32) -> usize {
        let crowded = self.live >= MOST_LIVE;
        let key = |at: usize| {
            let frees = if crowded { self.freed(at) - i32::from(self.waits.holds[at]) } else { 0 };
            let late = self.ready[at].saturating_sub(now);
            (-frees, late, std::cmp::Reverse(self.heights[at]), at)
        };
        (0..open.len()).min_by_key(|place| key(open[*place])).expect("some instruction may come next")
    }

    /// How many registers an instruction is the last to read.
    fn freed(&self, at: usize) -> i32 {
        self.waits.operands[at].iter().filter(|maker| self.readers[**maker] == 1 && self.waits.holds[**maker]).count()
            as i32
    }

    fn start(&mut self, at: usize, now: u32, open: &mut Vec<usize>) {
        for maker in &self.waits.operands[at] {
            self.readers[*maker] -= 1;
            self.live -= usize::from(self.readers[*maker] == 0 && self.waits.holds[*maker]);
        }
        self.live += usize::from(self.waits.holds[at] && self.readers[at] > 0);
        for (later, distance) in std::mem::take(&mut self.after[at]) {
            self.ready[later] = self.ready[later].max(now + distance);
            self.missing[later] -= 1;
            if self.missing[later] == 0 {
                open.push(later);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::loops::build::KernelBuilder;
    use crate::ir::loops::{Affine, BufferUse, text, verify};
    use crate::ir::types::DType;

    /// The functions of the operations of a block, in their order.
    fn order(kernel: &Kernel) -> Vec<F> {
        let Instruction::Lanes { body, .. } = &kernel.body.instructions[0] else { panic!("a vector loop") };
        body.instructions
            .iter()
            .filter_map(|i| if let Instruction::Map { function, .. } = i { Some(*function) } else { None })
            .collect()
    }

    #[test]
    fn two_chains_take_turns() {
        let mut k = KernelBuilder::new();
        let x = k.buffer("x", DType::F32, 64, BufferUse::Read);
        let y = k.buffer("y", DType::F32, 64, BufferUse::Write);
        let mut kernel = k.finish("chains", None, |b| {
            b.lanes(64, |b, i| {
                let at = Affine::scaled(i, 1);
                let value = b.load(x, at.clone());
                let chain = |b: &mut crate::ir::loops::build::BlockBuilder<'_>, f: F| {
                    (0..20).fold(value, |sum, _| b.map(f, &[sum, value]))
                };
                let (sum, product) = (chain(b, F::Add), chain(b, F::Mul));
                let both = b.map(F::Sub, &[sum, product]);
                b.store(y, at, both);
            });
        });
        super::kernel(&mut kernel);
        verify::kernel(&kernel).unwrap();
        let after = order(&kernel);
        assert!(after[..40].chunks(2).all(|pair| pair[0] != pair[1]), "{}", text::kernel(&kernel));
        assert_eq!(after.len(), 41);
    }

    #[test]
    fn memory_keeps_its_order() {
        let mut k = KernelBuilder::new();
        let both = k.buffer("both", DType::F32, 65, BufferUse::Update);
        let mut kernel = k.finish("updates", None, |b| {
            for place in 0..20 {
                let value = b.load(both, Affine::constant(place));
                b.store(both, Affine::constant(place + 1), value);
            }
        });
        let before = text::kernel(&kernel);
        super::kernel(&mut kernel);
        assert_eq!(before, text::kernel(&kernel));
    }
}
