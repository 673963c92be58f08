//! Serial loops: short ones are written out, others go several rounds at a time, and in vector loops several vectors take each round together.
//!
//! Rounds of several vectors are jammed: each instruction of a body is written for one vector after the other before the next
//! instruction is. So chains of dependent additions run side by side, and a round reads whole cache lines. Which values a vector has is the
//! only thing that differs between its copies, [`Copies`].

use super::control::further;
use super::{Binding, Bound, Lowered, Lowering};
use crate::codegen::x86::machine::{Instruction as Machine, Virtual};
use crate::ir::loops::{Block, Carried, Instruction, LoopVar};

/// Loops of at most so many instructions in all rounds together are written out.
const LONGEST_WRITTEN_OUT: usize = 96;

/// Other loops take so many rounds at a time that about this many instructions are in one.
const ROUND: usize = 24;

/// And at most so many rounds.
const MOST_ROUNDS: usize = 4;

/// Carried values of all copies together, which stay in registers beside what a round computes.
const MOST_CARRIED: usize = 8;

/// A body of so many instructions is mostly one chain that waits for itself (`exp` has 26), and the next vector's is too far behind for the processor to see; in longer bodies there are
/// several chains.
const LONG_CHAIN: std::ops::RangeInclusive<usize> = 14..=96;

/// A size that stands for code which is not written twice.
const LARGE: usize = 1 << 20;

/// Several vectors of a vector loop whose code is written together.
pub(super) struct Copies {
    /// Where in the scope the variables are that differ from copy to copy.
    place: usize,
    all: Vec<Copy>,
}

/// One of them.
pub(super) struct Copy {
    /// What the variables from the place on are.
    pub bindings: Vec<Binding>,
    pub values: Vec<Option<Bound>>,
}

impl Lowering<'_> {
    /// Runs `write` for every copy with the copy's values in place.
    pub(super) fn each_copy(&mut self, write: &mut dyn FnMut(&mut Self, usize) -> Lowered) -> Lowered {
        let Some(mut copies) = self.copies.take() else { return write(self, 0) };
        let mut outcome = Ok(());
        for (number, copy) in copies.all.iter_mut().enumerate() {
            for (entry, binding) in self.scope[copies.place..].iter_mut().zip(&copy.bindings) {
                entry.1 = *binding;
            }
            std::mem::swap(&mut self.values, &mut copy.values);
            outcome = write(self, number);
            std::mem::swap(&mut self.values, &mut copy.values);
            if outcome.is_err() {
                break;
            }
        }
        self.copies = Some(copies);
        outcome
    }

    /// The body of a vector loop for `count` vectors from `binding` on, together.
    pub(super) fn jammed(&mut self, var: LoopVar, binding: Binding, count: usize, body: &Block) -> Lowered {
        let lanes = self.lanes();
        self.in_lanes(var, lanes, binding, |this| {
            let copy =
                |c: usize| Copy { bindings: vec![further(binding, (c * lanes) as i64)], values: this.values.clone() };
            let all = (0..count).map(copy).collect();
            this.together(all, body)
        })
    }

    /// A block for several copies, whose variables are the innermost ones in scope.
    pub(super) fn together(&mut self, all: Vec<Copy>, body: &Block) -> Lowered {
        let place = self.scope.len() - all.first().map_or(0, |copy| copy.bindings.len());
        self.copies = Some(Copies { place, all });
        let outcome = self.block(body);
        self.copies = None;
        outcome
    }

    /// A serial loop.
    pub(super) fn for_loop(&mut self, var: LoopVar, extent: u64, carried: &[Carried], body: &Block) -> Lowered {
        self.hoist(body)?;
        if let Some(copy) = self.transposition(var, extent, carried, body) {
            return self.transposed(&copy);
        }
        if let Some(nest) = self.deferrable(var, extent, carried, body) {
            return self.deferred(&nest);
        }
        let size = size(body, self.lanes()).max(1);
        if (extent as usize).saturating_mul(size) <= LONGEST_WRITTEN_OUT || extent == 1 {
            self.begin(carried)?;
            (0..extent).try_for_each(|round| self.round(var, Binding::Known(round as i64), carried, body))?;
            return self.end(carried);
        }
        let at_once = if size >= LARGE { 1 } else { (ROUND / size).clamp(1, MOST_ROUNDS) as u64 };
        let whole = extent / at_once;
        let registers = self.registers(carried)?;
        self.counted((0, at_once as i64, whole), &mut |this, binding| {
            this.take(carried, &registers)?;
            (0..at_once).try_for_each(|r| this.round(var, further(binding, r as i64), carried, body))?;
            this.keep_carried(carried, &registers)
        })?;
        self.take(carried, &registers)?;
        (whole * at_once..extent).try_for_each(|r| self.round(var, Binding::Known(r as i64), carried, body))?;
        self.end(carried)
    }

    /// One round; afterwards the parameters are what the next one starts with.
    fn round(&mut self, var: LoopVar, binding: Binding, carried: &[Carried], body: &Block) -> Lowered {
        self.with_variable(var, binding, |this| this.block(body))?;
        self.each_copy(&mut |this, _| {
            let next: Vec<Bound> = carried.iter().map(|c| this.bound(c.next)).collect();
            carried.iter().zip(next).for_each(|(c, bound)| this.bind(c.parameter, bound));
            Ok(())
        })
    }

    /// The first round's parameters.
    fn begin(&mut self, carried: &[Carried]) -> Lowered {
        self.each_copy(&mut |this, _| {
            for c in carried {
                let bound = this.bound(c.initial);
                this.bind(c.parameter, bound);
            }
            Ok(())
        })
    }

    /// What the last round left is the loop's result.
    fn end(&mut self, carried: &[Carried]) -> Lowered {
        self.each_copy(&mut |this, _| {
            for c in carried {
                let bound = this.bound(c.parameter);
                this.bind(c.result, bound);
            }
            Ok(())
        })
    }

    /// Registers of each copy that start with the initial values.
    fn registers(&mut self, carried: &[Carried]) -> Lowered<Vec<Vec<Virtual>>> {
        let mut all = Vec::new();
        self.each_copy(&mut |this, _| {
            let mut registers = Vec::new();
            for c in carried {
                let initial = this.value(c.initial);
                registers.push(this.copy(initial));
            }
            all.push(registers);
            Ok(())
        })?;
        Ok(all)
    }

    /// The parameters are what the registers hold.
    fn take(&mut self, carried: &[Carried], registers: &[Vec<Virtual>]) -> Lowered {
        let in_lanes = self.lane.is_some();
        self.each_copy(&mut |this, copy| {
            for (c, register) in carried.iter().zip(&registers[copy]) {
                this.bind(c.parameter, if in_lanes { Bound::Lanes(*register) } else { Bound::Uniform(*register) });
            }
            Ok(())
        })
    }

    /// The registers hold what the parameters are.
    fn keep_carried(&mut self, carried: &[Carried], registers: &[Vec<Virtual>]) -> Lowered {
        self.each_copy(&mut |this, copy| {
            let registers = &registers[copy];
            // A value that goes on may be another parameter: all are read before any is written.
            let next: Vec<Virtual> = carried.iter().map(|c| this.value(c.parameter)).collect();
            let moves = |(n, own): (&Virtual, &Virtual)| n != own && registers.contains(n);
            let next = match next.iter().zip(registers).any(moves) {
                false => next,
                true => next.into_iter().map(|n| this.copy(n)).collect(),
            };
            for (destination, source) in registers.iter().zip(next) {
                if *destination != source {
                    this.push(Machine::Copy { destination: *destination, source });
                }
            }
            Ok(())
        })
    }
}

/// How many vectors of a loop with this body go together, of `whole` in all.
pub(super) fn copies(body: &Block, whole: u64) -> u64 {
    let carried = carried(body);
    if carried == 0 {
        let long = LONG_CHAIN.contains(&body.instructions.len()) && body.instructions.iter().all(is_straight);
        return if long && whole > 1 { 2 } else { 1 };
    }
    let size = innermost(body);
    let fits = |count: &u64| {
        let count = *count as usize;
        count as u64 <= whole && carried * count <= MOST_CARRIED && size * count <= 2 * ROUND
    };
    [4, 3, 2].into_iter().find(fits).unwrap_or(1)
}

fn is_straight(instruction: &Instruction) -> bool {
    !matches!(instruction, Instruction::For { .. })
}

/// The most values that loops, one in the other, carry at once.
fn carried(block: &Block) -> usize {
    let of = |i: &Instruction| match i {
        Instruction::For { carried: own, body, .. } => own.len() + carried(body),
        _ => 0,
    };
    block.instructions.iter().map(of).max().unwrap_or(0)
}

/// The instructions of the largest loop that has no loop in it.
fn innermost(block: &Block) -> usize {
    let of = |i: &Instruction| match i {
        Instruction::For { body, .. } => innermost(body),
        _ => 0,
    };
    match block.instructions.iter().map(of).max() {
        Some(inner) if inner > 0 => inner,
        _ => block.instructions.len(),
    }
}

/// About how many machine instructions a block becomes with vectors of so many lanes.
fn size(block: &Block, lanes: usize) -> usize {
    let of = |i: &Instruction| match i {
        Instruction::For { extent, body, .. } => (*extent as usize).saturating_mul(size(body, lanes)),
        Instruction::Lanes { extent, body, .. } => {
            (extent.div_ceil(lanes as u64) as usize).saturating_mul(size(body, lanes))
        }
        Instruction::Fold { .. } | Instruction::Contract(_) | Instruction::Tile(_) => LARGE,
        Instruction::Constant { .. } => 0,
        _ => 1,
    };
    block.instructions.iter().map(of).fold(0, usize::saturating_add)
}
