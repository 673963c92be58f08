//! Reads the state that a recurrence carries from the sequence that keeps it.
//!
//! Where each round of a repeat stores its state twice, as what the next round begins with and in a sequence of all states, the next round can as well read the
//! sequence. With a round more that sequence begins with the first state, and the array that was carried is gone. A round then writes nothing that it reads
//! elsewhere, so that kernels which read the old state and make the new one may become one (`join_cells`).

use std::collections::BTreeMap;

use super::LoopPass;
use super::copied::{Copied, call_of, counted};
use super::plan_memory::is_arena;
use super::share_states::{only_store, touches, writes};
use crate::ir::loops::steps::{Repeat, each_section, remove_uncalled};
use crate::ir::loops::{Affine, Block, BufferId, Call, Instruction, Kernel, LoopVar, Program, Section, Step};
use crate::passes::lower::accesses::collect_extents;
use crate::passes::lower::finish::Draft;

/// The pass.
pub const PASS: LoopPass = LoopPass {
    name: "carry_in_sequences",
    doc: "reads carried states from the sequences that keep them",
    run: |program, _| Ok(carry_in_sequences(program)),
};

/// The program without the carried states that some sequence keeps.
pub fn carry_in_sequences(mut program: Program) -> Program {
    let mut at = 0;
    while at < program.steps.len() {
        while let Some((state, places)) = State::kept_in(&program, at) {
            // The copy of the first state is a step before.
            at -= usize::from(places.copy.is_some());
            state.replace(&mut program, places);
        }
        at += 1;
    }
    remove_uncalled(&mut program);
    program
}

/// A state that a repeat carries in an array of its own.
struct State {
    /// The number of the repeat's step.
    repeat: usize,
    buffer: u32,
    elements: u64,
    /// The step in the repeat that makes the next state, and the parameter by which it does.
    maker: usize,
    parameter: usize,
}

/// Where a sequence has the states.
struct Places {
    sequence: u32,
    /// Elements by which it grows, to have a place for the first state, and by which what is in it moves.
    grows: i64,
    moves: i64,
    /// The step that copies the first state there, if it has a place already.
    copy: Option<usize>,
    /// Where the state before a round is, that before the first round and that behind the last one.
    before: Affine,
    first: i64,
    last: i64,
}

impl State {
    /// A state that the repeat at a step carries, and a sequence that keeps it.
    fn kept_in(program: &Program, number: usize) -> Option<(State, Places)> {
        let Step::Repeat(repeat) = &program.steps[number] else { return None };
        let in_call = |(maker, step): (usize, &Step)| {
            let Step::Call(call) = step else { return None };
            (0..call.buffers.len()).find_map(|parameter| {
                let twin = twin_of(program, call, parameter)?;
                let state = State::carried_by(program, number, (maker, call), parameter)?;
                let places = state.places(program, repeat, twin)?;
                Some((state, places))
            })
        };
        repeat.steps.iter().enumerate().find_map(in_call)
    }

    /// The state that a step of a repeat carries on by a parameter.
    fn carried_by(program: &Program, repeat: usize, (maker, call): (usize, &Call), parameter: usize) -> Option<State> {
        let Step::Repeat(Repeat { steps, .. }) = &program.steps[repeat] else { return None };
        let section = &call.buffers[parameter];
        let buffer = &program.buffers[section.buffer as usize];
        let elements = program.kernels[call.kernel as usize].buffers[parameter].elements;
        let mut whole = section.is_at_start() && buffer.elements == elements && is_arena(buffer);
        each_section(&mut program.steps.clone(), &mut |other| {
            whole &= other.buffer != section.buffer || other == section;
        });
        // All reads in the repeat come before the one step that writes: they see the state of the round before.
        let written = |steps: &[Step]| writes(steps, &program.kernels, section.buffer);
        let last = touches(steps, section.buffer).last().copied();
        let begins = touches(&program.steps[..repeat], section.buffer).last().is_some();
        let carried = last == Some(maker) && written(steps) == 1 && written(&program.steps[repeat + 1..]) == 0;
        (whole && begins && carried).then_some(State { repeat, buffer: section.buffer, elements, maker, parameter })
    }

    /// Where a sequence has the states, of which the maker stores that of its round to `section`.
    fn places(&self, program: &Program, repeat: &Repeat, section: &Section) -> Option<Places> {
        let buffer = &program.buffers[section.buffer as usize];
        let (state, rounds) = (i64::try_from(self.elements).ok()?, i64::try_from(repeat.count).ok()?);
        let begin = section.offset.constant;
        let one_round = section.offset == Affine::scaled(repeat.var, state).offset(begin);
        if !one_round || begin < 0 || !is_arena(buffer) || section.buffer == self.buffer {
            return None;
        }
        let (first, last) = match repeat.reverse {
            false => (begin - state, begin + state * (rounds - 1)),
            true => (begin + state * rounds, begin),
        };
        let elements = buffer.elements as i64;
        let has_place = first >= 0 && first + state <= elements;
        let (grows, moves) = match (has_place, repeat.reverse) {
            (true, _) => (0, 0),
            (false, false) if begin == 0 => (state, state),
            (false, true) if first == elements => (state, 0),
            (false, _) => return None,
        };
        let copy = if has_place { Some(self.copy(program, section.buffer, first)?) } else { None };
        if self.is_disturbed(program, section.buffer, has_place) {
            return None;
        }
        let before = if repeat.reverse { state } else { -state };
        Some(Places {
            sequence: section.buffer,
            grows,
            moves,
            copy,
            before: section.offset.clone().offset(before + moves),
            first: first + moves,
            last: last + moves,
        })
    }

    /// The step that copies the first state to its place in a sequence, after which nothing changes the state.
    fn copy(&self, program: &Program, sequence: u32, first: i64) -> Option<usize> {
        let steps = &program.steps[..self.repeat];
        let copy = *touches(steps, sequence).last()?;
        let Step::Call(call) = &steps[copy] else { return None };
        let kernel = &program.kernels[call.kernel as usize];
        let [copied] = <[Copied; 1]>::try_from(Copied::all_of(kernel)?).ok()?;
        let [source, target] = [copied.source, copied.target].map(|p| &call.buffers[p.0 as usize]);
        let is_copy = *source == Section::whole(self.buffer)
            && *target == Section { buffer: sequence, offset: Affine::constant(first) }
            && Copied::are_side_by_side(std::slice::from_ref(&copied), &kernel.buffers[copied.target.0 as usize]);
        let stays = writes(&steps[copy + 1..], &program.kernels, self.buffer) == 0;
        (is_copy && stays).then_some(copy)
    }

    /// Whether anything but the maker, and the copy of the first state if there is one, writes a sequence or reads it early.
    fn is_disturbed(&self, program: &Program, sequence: u32, copied: bool) -> bool {
        let early = touches(&program.steps[..self.repeat], sequence).len();
        early != usize::from(copied) || writes(&program.steps, &program.kernels, sequence) != 1 + usize::from(copied)
    }

    fn replace(self, program: &mut Program, places: Places) {
        let Places { sequence, grows, moves, copy, before, first, last } = places;
        program.buffers[sequence as usize].elements += grows as u64;
        self.drop_store(program);
        let at = |offset: Affine| Section { buffer: sequence, offset };
        for (number, step) in program.steps.iter_mut().enumerate() {
            let place = match number.cmp(&self.repeat) {
                std::cmp::Ordering::Less => Affine::constant(first),
                std::cmp::Ordering::Equal => before.clone(),
                std::cmp::Ordering::Greater => Affine::constant(last),
            };
            each_section(std::slice::from_mut(step), &mut |section| {
                if section.buffer == sequence {
                    *section = at(section.offset.clone().offset(moves));
                } else if section.buffer == self.buffer {
                    *section = at(place.clone());
                }
            });
        }
        if let Some(copy) = copy {
            program.steps.remove(copy);
        }
    }

    /// The maker stores the next state in the sequence alone.
    fn drop_store(&self, program: &mut Program) {
        let Step::Repeat(repeat) = &program.steps[self.repeat] else { return };
        let Step::Call(call) = &repeat.steps[self.maker] else { return };
        let mut kernel = program.kernels[call.kernel as usize].clone();
        drop_stores(&mut kernel.body, BufferId(self.parameter as u32));
        let draft = Draft { kernel, buffers: call.buffers.clone() };
        let call = call_of(program, draft);
        if let Step::Repeat(repeat) = &mut program.steps[self.repeat] {
            repeat.steps[self.maker] = Step::Call(call);
        }
    }
}

/// Where a call stores the same as to all of a parameter.
fn twin_of<'c>(program: &Program, call: &'c Call, parameter: usize) -> Option<&'c Section> {
    let kernel = &program.kernels[call.kernel as usize];
    let stored = only_store(kernel, parameter)?;
    // What a round left as it was would be missing in the sequence.
    if !fills(kernel, &stored.1, kernel.buffers[parameter].elements) {
        return None;
    }
    let is_same = |p: &usize| *p != parameter && only_store(kernel, *p).as_ref() == Some(&stored);
    (0..call.buffers.len()).find(is_same).map(|twin| &call.buffers[twin])
}

/// Whether a store reaches each of so many elements once.
fn fills(kernel: &Kernel, address: &Affine, elements: u64) -> bool {
    let mut extents: BTreeMap<LoopVar, u64> = kernel.parallel.iter().map(|p| (p.var, p.extent)).collect();
    collect_extents(&kernel.body, &mut extents);
    let digit = |(var, step): &(LoopVar, i64)| Some((*step, *extents.get(var)?));
    let Some(mut digits) = address.terms.iter().map(digit).collect::<Option<Vec<_>>>() else { return false };
    digits.sort_unstable();
    address.constant == 0 && counted(digits.into_iter()) == Some(elements)
}

/// Takes out all stores to a parameter.
fn drop_stores(block: &mut Block, parameter: BufferId) {
    block.instructions.retain(|i| !matches!(i, Instruction::Store { buffer, .. } if *buffer == parameter));
    for instruction in &mut block.instructions {
        match instruction {
            Instruction::For { body, .. } | Instruction::Lanes { body, .. } | Instruction::Fold { body, .. } => {
                drop_stores(body, parameter);
            }
            Instruction::Contract(contract) => drop_stores(&mut contract.epilogue, parameter),
            Instruction::Tile(tile) => drop_stores(&mut tile.epilogue, parameter),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::loops::text;
    use crate::passes::tests::computes_the_same;

    /// A state of 32 that is added to in four rounds, with rounds of a sequence of `size` elements in the order `order` at `kept`; `early` comes before them and
    /// `late` behind. At the end sums with the sequence from `from` on are the result.
    fn program(order: &str, size: u64, kept: &str, [early, late]: [&str; 2], from: u64) -> Program {
        let source = format!(
            "program p pointers 2 arena 0
  buffer 0 x: f32[128] argument 0
  buffer 1 y: f32[128] argument 1
  buffer 2 s: f32[32] arena
  buffer 3 all: f32[{size}] arena
  buffer 4 t: f32[32] arena
  kernel copy
    read in0: f32[32]
    write out0: f32[32]
    lanes i0 in 0..32 {{
      %0: f32 = load in0[i0]
      store out0[i0] = %0
    }}
  end
  kernel double
    read in0: f32[32]
    write out0: f32[32]
    lanes i0 in 0..32 {{
      %0: f32 = load in0[i0]
      %1: f32 = add %0, %0
      store out0[i0] = %1
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
      store out0[i0] = %2
      store out1[i0] = %2
    }}
  end
  kernel result
    read in0: f32[128]
    read in1: f32[32]
    write out0: f32[128]
    for i0 in 0..4 {{
      lanes i1 in 0..32 {{
        %0: f32 = load in0[32*i0 + i1]
        %1: f32 = load in1[i1]
        %2: f32 = add %0, %1
        store out0[32*i0 + i1] = %2
      }}
    }}
  end
  call 0 (0, 2)
  {early}
  repeat i0 in 0..4{order} {{
    call 1 (2, 4)
    call 2 (4, 0[32*i0], 2, 3[{kept}])
  }}
  {late}
  call 3 (3[{from}], 2, 1)
end
"
        );
        text::parse_program(&source).unwrap()
    }

    /// Whether the carried state is gone and the sequence has a state more; no result changes.
    fn is_carried_in_sequence(program: &Program) -> bool {
        let changed = carry_in_sequences(program.clone());
        computes_the_same(program, &changed, 128);
        let gone = touches(&changed.steps, 2).is_empty();
        assert_eq!(gone, changed.buffers[3].elements == 160 && changed != *program);
        gone
    }

    #[test]
    fn a_state_that_is_kept_as_well_is_read_from_there() {
        assert!(is_carried_in_sequence(&program("", 128, "32*i0", ["", ""], 0)));
        assert!(is_carried_in_sequence(&program(" backwards", 128, "32*i0", ["", ""], 0)));
    }

    #[test]
    fn a_sequence_that_begins_with_the_first_state_stays_as_long_as_it_is() {
        assert!(is_carried_in_sequence(&program("", 160, "32*i0 + 32", ["call 0 (2, 3)", ""], 32)));
        assert!(is_carried_in_sequence(&program(" backwards", 160, "32*i0", ["call 0 (2, 3[128])", ""], 0)));
    }

    #[test]
    fn a_state_stays_if_the_sequence_has_something_else_before_it() {
        assert!(!is_carried_in_sequence(&program("", 160, "32*i0 + 32", ["call 1 (2, 3)", ""], 32)));
        assert!(!is_carried_in_sequence(&program("", 160, "32*i0 + 32", ["call 0 (2, 3)\n call 1 (0, 2)", ""], 32)));
    }

    #[test]
    fn a_state_stays_if_either_is_written_later() {
        assert!(!is_carried_in_sequence(&program("", 128, "32*i0", ["", "call 1 (4, 2)"], 0)));
        assert!(!is_carried_in_sequence(&program("", 128, "32*i0", ["", "call 1 (4, 3)"], 0)));
    }
}
