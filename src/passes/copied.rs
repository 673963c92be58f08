//! What kernels copy that do nothing else, and how the kernels that make what is copied store it where it goes instead.
//!
//! A copy permutes the digits of an address: the element at `512 i + 16 j + k` of its source goes to `16 i + 16384 j + k` of its target. If each
//! store to the source falls on such digits without carrying from one to the next, it can go to the target by itself.

use std::collections::BTreeMap;

use crate::ir::loops::{Affine, Block, BufferId, BufferParameter, Call, Instruction, Kernel, LoopVar, Program};
use crate::passes::lower::finish::Draft;
use crate::passes::lower::number::renumber;

/// One digit of an address: what it counts in the source and in the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Digit {
    source: i64,
    target: i64,
    extent: u64,
}

/// Where a kernel copies a whole array: rows of neighbours stay rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    pub source: BufferId,
    pub target: BufferId,
    /// Least of the source first.
    digits: Vec<Digit>,
    /// Where the source's first element goes.
    origin: i64,
}

impl Copied {
    /// What a kernel copies, if it is nothing else than copies of whole arrays.
    pub fn all_of(kernel: &Kernel) -> Option<Vec<Copied>> {
        let around: Vec<(LoopVar, u64)> = kernel.parallel.iter().map(|p| (p.var, p.extent)).collect();
        // Without loops the body of one copy is two instructions.
        let instructions = &kernel.body.instructions;
        let loops = instructions.iter().map(|i| Copied::of_loop(kernel, around.clone(), i));
        match instructions.len() {
            0 => None,
            _ => loops.collect(),
        }
    }

    /// The copy that a loop inside of others makes.
    fn of_loop(kernel: &Kernel, mut loops: Vec<(LoopVar, u64)>, mut outermost: &Instruction) -> Option<Copied> {
        loop {
            let (Instruction::For { var, extent, body, .. } | Instruction::Lanes { var, extent, body }) = outermost
            else {
                return None;
            };
            loops.push((*var, *extent));
            match &body.instructions[..] {
                [inner] => outermost = inner,
                [
                    Instruction::Load { result, buffer: source, address: from },
                    Instruction::Store { buffer: target, address: to, value },
                ] if result == value => return Copied::of(kernel, &loops, (*source, from), (*target, to)),
                _ => return None,
            }
        }
    }

    fn of(
        kernel: &Kernel,
        loops: &[(LoopVar, u64)],
        (source, from): (BufferId, &Affine),
        (target, to): (BufferId, &Affine),
    ) -> Option<Copied> {
        let digit = |(var, extent): &(LoopVar, u64)| Digit {
            source: from.coefficient(*var),
            target: to.coefficient(*var),
            extent: *extent,
        };
        let mut digits: Vec<Digit> = loops.iter().map(digit).collect();
        digits.sort_by_key(|d| d.source);
        let elements = kernel.buffers[source.0 as usize].elements;
        let all = from.constant == 0 && counted(digits.iter().map(|d| (d.source, d.extent))) == Some(elements);
        // Vectors are stored as vectors.
        let in_rows = digits.first().is_some_and(|d| d.target == 1);
        let serves = elements > 0
            && all
            && in_rows
            && source != target
            && to.constant >= 0
            && digits.iter().all(|d| d.target > 0);
        serves.then(|| Copied { source, target, digits: joined(digits), origin: to.constant })
    }

    /// Whether it writes every element of an array.
    pub fn is_onto(&self, array: &BufferParameter) -> bool {
        let mut digits = self.digits.clone();
        digits.sort_by_key(|d| d.target);
        self.origin == 0 && counted(digits.iter().map(|d| (d.target, d.extent))) == Some(array.elements)
    }

    /// Whether copies lay rows of their sources side by side, all in the same rows, and so write every element of an array once.
    pub fn are_side_by_side(copies: &[Copied], array: &BufferParameter) -> bool {
        let Some(first) = copies.first() else { return false };
        let mut width = 0;
        for copied in copies {
            let (row, rows) = copied.digits.split_first().expect("a copy is a loop");
            if copied.origin != width || copied.target != first.target || !same_rows(rows, &first.digits[1..]) {
                return false;
            }
            width += row.extent as i64;
        }
        let rows = first.digits[1..].iter().map(|d| (d.target, d.extent));
        counted([(1, width as u64)].into_iter().chain(rows)) == Some(array.elements)
    }

    /// Where in the target the elements at an address of the source are; `None` if some variable would carry from one digit to the next.
    fn address(&self, address: &Affine, extents: &BTreeMap<LoopVar, u64>) -> Option<Affine> {
        let mut left = u64::try_from(address.constant).ok()?;
        // The largest value of each digit so far.
        let mut most = Vec::with_capacity(self.digits.len());
        let mut out = Affine::constant(self.origin);
        for digit in &self.digits {
            most.push(left % digit.extent);
            out = out.offset((left % digit.extent) as i64 * digit.target);
            left /= digit.extent;
        }
        for (var, coefficient) in &address.terms {
            let number = self.digits.iter().rposition(|d| *coefficient >= d.source && coefficient % d.source == 0)?;
            let times = coefficient / self.digits[number].source;
            most[number] = most[number].saturating_add(times as u64 * extents.get(var)?.saturating_sub(1));
            out = out.plus(*var, times * self.digits[number].target);
        }
        let fits = left == 0 && most.iter().zip(&self.digits).all(|(most, digit)| *most < digit.extent);
        fits.then_some(out)
    }
}

/// Whether rows of two copies are as many and go to the same places.
fn same_rows(a: &[Digit], b: &[Digit]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a.target, a.extent) == (b.target, b.extent))
}

/// How many elements strides, ascending, count through without gap or repetition from 0 on.
pub fn counted(digits: impl Iterator<Item = (i64, u64)>) -> Option<u64> {
    let mut next = 1u64;
    for (stride, extent) in digits {
        if u64::try_from(stride) != Ok(next) {
            return None;
        }
        next = next.saturating_mul(extent);
    }
    Some(next)
}

/// Neighbours that count on as one digit in the source and in the target are one.
fn joined(digits: Vec<Digit>) -> Vec<Digit> {
    let mut out: Vec<Digit> = Vec::new();
    for digit in digits {
        match out.last_mut() {
            Some(last) if digit.target == last.target * last.extent as i64 => last.extent *= digit.extent,
            _ => out.push(digit),
        }
    }
    out
}

/// Stores of a kernel that go where what they store would be copied.
pub struct Moved<'c> {
    pub source: BufferId,
    pub target: BufferId,
    pub copied: &'c Copied,
    /// Whether the source is stored as well.
    pub stays: bool,
}

impl Moved<'_> {
    /// Changes a kernel's body whose loops have these extents. `None` if a store has no one place there.
    pub fn block(&self, block: &mut Block, extents: &BTreeMap<LoopVar, u64>) -> Option<()> {
        let mut out = Vec::with_capacity(block.instructions.len());
        for mut instruction in std::mem::take(&mut block.instructions) {
            match &mut instruction {
                Instruction::Store { buffer, address, value } if *buffer == self.source => {
                    let address = self.copied.address(address, extents)?;
                    let store = Instruction::Store { buffer: self.target, address, value: *value };
                    if self.stays {
                        out.push(instruction);
                    }
                    out.push(store);
                    continue;
                }
                Instruction::For { body, .. } | Instruction::Lanes { body, .. } => self.block(body, extents)?,
                Instruction::Fold { body, merge, .. } => {
                    self.block(body, extents)?;
                    self.block(merge, extents)?;
                }
                Instruction::Contract(contract) => self.block(&mut contract.epilogue, extents)?,
                Instruction::Tile(tile) => self.block(&mut tile.epilogue, extents)?,
                Instruction::StoreAt { buffer, .. } if *buffer == self.source => return None,
                _ => {}
            }
            out.push(instruction);
        }
        block.instructions = out;
        Some(())
    }
}

/// The call of a changed kernel, which the program may have already.
pub fn call_of(program: &mut Program, draft: Draft) -> Call {
    let Draft { kernel, buffers } = renumber(draft);
    let known = program.kernels.iter().position(|k| *k == kernel);
    let number = known.unwrap_or_else(|| {
        program.kernels.push(kernel);
        program.kernels.len() - 1
    });
    Call { kernel: number as u32, buffers }
}
