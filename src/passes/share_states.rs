//! Keeps the states of a recurrence once where they are kept as what a round begins with and as what it ends with.
//!
//! A gradient often needs both sequences: the products of an LSTM read each state before its round, what follows the recurrence reads it behind. They are the
//! same numbers one round apart, so one array of a round more holds both, and the copy that each round made of its state is gone.

use std::collections::BTreeMap;

use super::LoopPass;
use super::copied::Copied;
use super::plan_memory::is_arena;
use crate::ir::loops::steps::{Repeat, each_section};
use crate::ir::loops::{
    Affine, Block, Buffer, BufferId, BufferUse, Call, Instruction, Kernel, Program, Section, Step, Value,
};

/// The pass.
pub const PASS: LoopPass = LoopPass {
    name: "share_states",
    doc: "keeps states before and behind each round in one array",
    run: |program, _| Ok(share_states(program)),
};

/// The program with one array for each such pair of sequences.
pub fn share_states(mut program: Program) -> Program {
    let mut at = 0;
    while at < program.steps.len() {
        while let Some(pair) = Pair::in_step(&program, at) {
            pair.share(&mut program, at);
            // The copy of the first state is a step of its own.
            at += 1;
        }
        at += 1;
    }
    program
}

/// A sequence of states before the rounds of a repeat and one of states behind them.
struct Pair {
    /// The step in the repeat that copies a state to the first sequence.
    copy: usize,
    call: Call,
    before: u32,
    behind: u32,
    /// Elements of a state.
    elements: u64,
}

impl Pair {
    fn in_step(program: &Program, number: usize) -> Option<Pair> {
        let Step::Repeat(repeat) = &program.steps[number] else { return None };
        (0..repeat.steps.len()).find_map(|step| Pair::copied_by(program, number, repeat, step))
    }

    /// The pair whose first sequence is what a step of a repeat copies.
    fn copied_by(program: &Program, number: usize, repeat: &Repeat, copy: usize) -> Option<Pair> {
        let Step::Call(call) = &repeat.steps[copy] else { return None };
        let kernel = &program.kernels[call.kernel as usize];
        let [copied] = <[Copied; 1]>::try_from(Copied::all_of(kernel)?).ok()?;
        let target = &kernel.buffers[copied.target.0 as usize];
        let [state, before] = [copied.source, copied.target].map(|p| &call.buffers[p.0 as usize]);
        let is_plain = Copied::are_side_by_side(std::slice::from_ref(&copied), target);
        let elements = target.elements;
        let serves = is_plain && state.is_at_start() && is_round(before, repeat, elements);
        let first_touch = touches(&repeat.steps, state.buffer).first() == Some(&copy);
        if !serves || !first_touch || !is_sequence(program, before.buffer, repeat, elements) {
            return None;
        }
        let behind = Pair::made_behind(program, repeat, copy, state, elements)?;
        let written_once = |buffer: u32| writes(&program.steps, &program.kernels, buffer) == 1;
        let apart = behind != before.buffer && is_sequence(program, behind, repeat, elements);
        let same = program.buffers[behind as usize].dtype == program.buffers[before.buffer as usize].dtype;
        // Nothing may look at either before the repeat has made it.
        let early = [before.buffer, behind].iter().any(|b| !touches(&program.steps[..number], *b).is_empty());
        let serves = apart && same && !early && written_once(before.buffer) && written_once(behind);
        serves.then(|| Pair { copy, call: call.clone(), before: before.buffer, behind, elements })
    }

    /// The sequence in which the one step that makes the next state keeps it as well.
    fn made_behind(program: &Program, repeat: &Repeat, copy: usize, state: &Section, elements: u64) -> Option<u32> {
        let inside = touches(&repeat.steps, state.buffer);
        let makes = |step: &&usize| writes(&repeat.steps[**step..=**step], &program.kernels, state.buffer) > 0;
        let [maker] = inside.iter().filter(makes).collect::<Vec<_>>()[..] else { return None };
        let Step::Call(call) = &repeat.steps[*maker] else { return None };
        let kernel = &program.kernels[call.kernel as usize];
        let parameter = call.buffers.iter().position(|section| section == state)?;
        let stored = only_store(kernel, parameter)?;
        let is_same = |p: &usize| *p != parameter && only_store(kernel, *p).as_ref() == Some(&stored);
        let twin = (0..call.buffers.len()).find(is_same)?;
        let section = &call.buffers[twin];
        (*maker > copy && is_round(section, repeat, elements)).then_some(section.buffer)
    }

    fn share(self, program: &mut Program, number: usize) {
        let buffer = &program.buffers[self.before as usize];
        let both = Buffer { elements: buffer.elements + self.elements, ..buffer.clone() };
        let home = program.buffers.len() as u32;
        let Step::Repeat(repeat) = &mut program.steps[number] else { return };
        repeat.steps.remove(self.copy);
        let state = self.elements as i64;
        let (before, behind, first) = if repeat.reverse { (state, 0, buffer.elements as i64) } else { (0, state, 0) };
        program.buffers.push(both);
        each_section(&mut program.steps, &mut |section| {
            for (sequence, offset) in [(self.before, before), (self.behind, behind)] {
                if section.buffer == sequence {
                    *section = Section { buffer: home, offset: section.offset.clone().offset(offset) };
                }
            }
        });
        let mut call = self.call;
        for section in &mut call.buffers {
            if section.buffer == self.before {
                *section = Section { buffer: home, offset: Affine::constant(first) };
            }
        }
        program.steps.insert(number, Step::Call(call));
    }
}

/// Whether a section is that of the round in a sequence.
fn is_round(section: &Section, repeat: &Repeat, elements: u64) -> bool {
    section.offset == Affine::scaled(repeat.var, elements as i64)
}

/// Whether a buffer of the workspace has a state for each round.
fn is_sequence(program: &Program, buffer: u32, repeat: &Repeat, elements: u64) -> bool {
    let buffer = &program.buffers[buffer as usize];
    is_arena(buffer) && elements.checked_mul(repeat.count) == Some(buffer.elements)
}

/// The steps that touch a buffer.
pub(super) fn touches(steps: &[Step], buffer: u32) -> Vec<usize> {
    let touches = |number: &usize| {
        let mut found = false;
        each_section(&mut [steps[*number].clone()], &mut |section| found |= section.buffer == buffer);
        found
    };
    (0..steps.len()).filter(touches).collect()
}

/// How many parameters of calls write a buffer.
pub(super) fn writes(steps: &[Step], kernels: &[Kernel], buffer: u32) -> usize {
    crate::ir::loops::steps::written(steps, kernels).into_iter().filter(|b| *b == buffer).count()
}

/// The value and the address of the one store to a parameter that is written only.
pub(super) fn only_store(kernel: &Kernel, parameter: usize) -> Option<(Value, Affine)> {
    fn collect(block: &Block, stores: &mut BTreeMap<BufferId, Vec<(Value, Affine)>>) {
        for instruction in &block.instructions {
            match instruction {
                Instruction::Store { buffer, address, value } => {
                    stores.entry(*buffer).or_default().push((*value, address.clone()));
                }
                Instruction::For { body, .. } | Instruction::Lanes { body, .. } | Instruction::Fold { body, .. } => {
                    collect(body, stores);
                }
                Instruction::Contract(c) => collect(&c.epilogue, stores),
                Instruction::Tile(t) => collect(&t.epilogue, stores),
                _ => {}
            }
        }
    }
    if kernel.buffers[parameter].usage != BufferUse::Write {
        return None;
    }
    let mut stores = BTreeMap::new();
    collect(&kernel.body, &mut stores);
    let [only] = &stores.remove(&BufferId(parameter as u32))?[..] else { return None };
    Some(only.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::loops::text;
    use crate::passes::tests::computes_the_same;

    /// A state of 32 that is added to in four rounds and kept before each and, as `kept` says, behind each; both are used at the end.
    fn program(order: &str, kept: &str) -> Program {
        let source = format!(
            "program p pointers 2 arena 0
  buffer 0 x: f32[128] argument 0
  buffer 1 y: f32[128] argument 1
  buffer 2 s: f32[32] arena
  buffer 3 before: f32[128] arena
  buffer 4 behind: f32[128] arena
  kernel copy
    read in0: f32[32]
    write out0: f32[32]
    lanes i0 in 0..32 {{
      %0: f32 = load in0[i0]
      store out0[i0] = %0
    }}
  end
  kernel next
    read in0: f32[32]
    read in1: f32[32]
    write out0: f32[32]
    write out1: f32[32]
    lanes i0 in 0..32 {{
      %0: f32 = load in0[i0]
      %1: f32 = load in1[i0]
      %2: f32 = add %0, %1
      %3: f32 = add %2, %1
      store out0[i0] = %2
      store out1[i0] = {kept}
    }}
  end
  kernel last
    read in0: f32[128]
    read in1: f32[128]
    write out0: f32[128]
    lanes i0 in 0..128 {{
      %0: f32 = load in0[i0]
      %1: f32 = load in1[i0]
      %2: f32 = mul %0, %1
      %3: f32 = sub %2, %1
      store out0[i0] = %3
    }}
  end
  call 0 (0, 2)
  repeat i0 in 0..4{order} {{
    call 0 (2, 3[32*i0])
    call 1 (3[32*i0], 0[32*i0], 2, 4[32*i0])
  }}
  call 2 (3, 4, 1)
end
"
        );
        text::parse_program(&source).unwrap()
    }

    /// The calls in the repeat after the pass, which changes no result.
    fn calls(order: &str, kept: &str) -> usize {
        let program = program(order, kept);
        let changed = share_states(program.clone());
        computes_the_same(&program, &changed, 128);
        changed.steps.iter().map(|s| if let Step::Repeat(r) = s { r.steps.len() } else { 0 }).sum()
    }

    #[test]
    fn states_before_and_behind_rounds_are_kept_once() {
        assert_eq!(calls("", "%2"), 1);
        assert_eq!(calls(" backwards", "%2"), 1);
    }

    #[test]
    fn what_is_kept_behind_a_round_has_to_be_the_state() {
        assert_eq!(calls("", "%3"), 2);
    }
}
