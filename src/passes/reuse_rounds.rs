//! Lets what a repeat stores in each round take the place of what that round has read for the last time.
//!
//! Sequences have a section for each round. Where the rounds of one are dead as soon as their round has used them, sections of others that are made later in
//! the round lie in their places, side by side: the lines are at hand, and the arrays need no memory of their own. The activated gates of an LSTM
//! take the place of what its inputs contributed to them. Kernels stay as they are; only sections move.

use std::collections::BTreeMap;

use super::LoopPass;
use super::plan_memory::is_arena;
use crate::ir::loops::steps::{Repeat, each_section};
use crate::ir::loops::{Affine, BufferUse, Call, Program, Section, Step};

/// The pass.
pub const PASS: LoopPass = LoopPass {
    name: "reuse_rounds",
    doc: "stores a round's results where its last operands were",
    run: |program, _| Ok(reuse_rounds(program)),
};

/// The program with sequences in the place of others.
pub fn reuse_rounds(mut program: Program) -> Program {
    let uses = Uses::of(&program);
    let mut moved: BTreeMap<u32, Place> = BTreeMap::new();
    for (number, step) in program.steps.iter().enumerate() {
        let Step::Repeat(repeat) = step else { continue };
        for (home, room) in uses.left_by(&program, number, repeat) {
            let is_home = |buffer: u32| moved.values().any(|place| place.home == buffer);
            let free = |(buffer, _): &(u32, i64)| !moved.contains_key(buffer) && !is_home(*buffer);
            let guests: Vec<(u32, i64)> = uses.made_in(&program, number, repeat).into_iter().filter(free).collect();
            if !moved.contains_key(&home) {
                let places = uses.places(&program, home, room, &guests);
                moved.extend(places);
            }
        }
    }
    each_section(&mut program.steps, &mut |section| {
        if let Some(place) = moved.get(&section.buffer) {
            *section = place.of(section);
        }
    });
    program
}

/// Where a sequence's sections go.
#[derive(Clone, Copy, Debug)]
struct Place {
    home: u32,
    /// Elements from round to round there.
    stride: i64,
    /// Of the first round's section.
    offset: i64,
}

impl Place {
    fn of(self, section: &Section) -> Section {
        let terms = section.offset.terms.iter().map(|(var, _)| (*var, self.stride)).collect();
        Section { buffer: self.home, offset: Affine { constant: self.offset, terms } }
    }
}

/// One use of a buffer by a call.
#[derive(Clone, Debug)]
struct Use {
    /// The number of the step, and of that in it if it is a repeat.
    at: (usize, usize),
    /// Elements from round to round, if the use is of one round's section of a sequence.
    stride: Option<i64>,
    /// Whether it does nothing but write.
    makes: bool,
}

/// All uses of each buffer, in the order of the text.
struct Uses(Vec<Vec<Use>>);

impl Uses {
    fn of(program: &Program) -> Uses {
        let mut uses = Uses(vec![Vec::new(); program.buffers.len()]);
        for (number, step) in program.steps.iter().enumerate() {
            match step {
                Step::Call(call) => uses.call(program, (number, 0), None, call),
                Step::Index { target, .. } => uses.other((number, 0), target.buffer),
                Step::Repeat(repeat) => {
                    for (inside, step) in repeat.steps.iter().enumerate() {
                        match step {
                            Step::Call(call) => uses.call(program, (number, inside), Some(repeat), call),
                            Step::Index { target, .. } => uses.other((number, inside), target.buffer),
                            Step::Repeat(inner) => each_section(&mut inner.steps.clone(), &mut |section| {
                                uses.other((number, inside), section.buffer);
                            }),
                        }
                    }
                }
            }
        }
        uses
    }

    fn other(&mut self, at: (usize, usize), buffer: u32) {
        self.0[buffer as usize].push(Use { at, stride: None, makes: false });
    }

    fn call(&mut self, program: &Program, at: (usize, usize), repeat: Option<&Repeat>, call: &Call) {
        let kernel = &program.kernels[call.kernel as usize];
        for (parameter, section) in kernel.buffers.iter().zip(&call.buffers) {
            let elements = program.buffers[section.buffer as usize].elements;
            let stride = repeat.and_then(|r| match section.offset.terms[..] {
                [(var, stride)] if var == r.var && section.offset.constant == 0 => Some((stride, r.count)),
                _ => None,
            });
            let fits = |(stride, count): &(i64, u64)| {
                *stride >= parameter.elements as i64 && (*stride as u64).checked_mul(*count) == Some(elements)
            };
            let stride = stride.filter(fits).map(|s| s.0);
            self.0[section.buffer as usize].push(Use { at, stride, makes: parameter.usage == BufferUse::Write });
        }
    }

    /// The sequences whose rounds are dead from some step of a repeat on: that step and the elements of a round.
    fn left_by(&self, program: &Program, number: usize, repeat: &Repeat) -> Vec<(u32, (usize, i64))> {
        let last = |buffer: &u32| {
            let (last, before) = self.0[*buffer as usize].split_last()?;
            let inside = before.iter().rev().take_while(|u| u.at.0 == number);
            let alike = inside.clone().all(|u| u.stride == last.stride);
            let serves = last.at.0 == number && alike && is_arena(&program.buffers[*buffer as usize]);
            serves.then_some((*buffer, (last.at.1, last.stride?)))
        };
        let mut found: Vec<u32> = Vec::new();
        each_section(&mut repeat.steps.clone(), &mut |section| {
            if !found.contains(&section.buffer) {
                found.push(section.buffer);
            }
        });
        found.iter().filter_map(last).collect()
    }

    /// The sequences that a repeat makes: buffers and elements of a round.
    fn made_in(&self, program: &Program, number: usize, repeat: &Repeat) -> Vec<(u32, i64)> {
        let mut found: Vec<(u32, i64)> = Vec::new();
        each_section(&mut repeat.steps.clone(), &mut |section| {
            let uses = &self.0[section.buffer as usize];
            let first = &uses[0];
            let is_made = first.at.0 == number && first.makes && is_arena(&program.buffers[section.buffer as usize]);
            let Some(stride) = first.stride.filter(|s| is_made && uses.iter().all(|u| u.stride == Some(*s))) else {
                return;
            };
            if !found.contains(&(section.buffer, stride)) {
                found.push((section.buffer, stride));
            }
        });
        found
    }

    /// Places in a home for guests that are made behind the step from which on it is dead, if they fill most of it.
    fn places(
        &self,
        program: &Program,
        home: u32,
        (step, room): (usize, i64),
        guests: &[(u32, i64)],
    ) -> Vec<(u32, Place)> {
        let dtype = |buffer: u32| program.buffers[buffer as usize].dtype;
        let mut places = Vec::new();
        let mut offset = 0;
        for (buffer, stride) in guests {
            let later = self.0[*buffer as usize][0].at.1 > step;
            if later && *buffer != home && dtype(*buffer) == dtype(home) && offset + stride <= room {
                places.push((*buffer, Place { home, stride: room, offset }));
                offset += stride;
            }
        }
        if offset * 2 > room { places } else { Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::loops::text;
    use crate::passes::tests::computes_the_same;

    /// Doubles x into rounds of 64, makes halves of each round twice and three times as large, and adds what `read` says at the end.
    fn program(between: &str, read: u32) -> Program {
        let source = format!(
            "program p pointers 2 arena 0
  buffer 0 x: f32[256] argument 0
  buffer 1 y: f32[256] argument 1
  buffer 2 a: f32[256] arena
  buffer 3 b: f32[128] arena
  buffer 4 c: f32[128] arena
  buffer 5 r: f32[64] arena
  kernel double
    read in0: f32[256]
    write out0: f32[256]
    lanes i0 in 0..256 {{
      %0: f32 = load in0[i0]
      %1: f32 = add %0, %0
      store out0[i0] = %1
    }}
  end
  kernel copy
    read in0: f32[64]
    write out0: f32[64]
    lanes i0 in 0..64 {{
      %0: f32 = load in0[i0]
      store out0[i0] = %0
    }}
  end
  kernel halves
    read in0: f32[64]
    write out0: f32[32]
    write out1: f32[32]
    lanes i0 in 0..32 {{
      %0: f32 = load in0[i0]
      %1: f32 = load in0[i0 + 32]
      %2: f32 = add %0, %1
      %3: f32 = mul %0, %1
      store out0[i0] = %2
      store out1[i0] = %3
    }}
  end
  kernel sum
    read in0: f32[32]
    read in1: f32[32]
    write out0: f32[64]
    lanes i0 in 0..32 {{
      %0: f32 = load in0[i0]
      %1: f32 = load in1[i0]
      %2: f32 = add %0, %1
      store out0[i0] = %2
      store out0[i0 + 32] = %1
    }}
  end
  kernel last
    read in0: f32[128]
    update both0: f32[256]
    lanes i0 in 0..128 {{
      %0: f32 = load in0[i0]
      %1: f32 = load both0[i0]
      %2: f32 = add %0, %1
      store both0[i0] = %2
    }}
  end
  call 0 (0, 2)
  repeat i0 in 0..4 {{
    call 1 (2[64*i0], 5)
    call 2 (5, 3[32*i0], 4[32*i0])
    {between}
  }}
  repeat i1 in 0..4 backwards {{
    call 3 (3[32*i1], 4[32*i1], 1[64*i1])
  }}
  call 4 ({read}, 1)
end
"
        );
        text::parse_program(&source).unwrap()
    }

    /// The buffers that the second call in the first repeat writes after the pass, which changes no result.
    fn written(between: &str, read: u32) -> Vec<u32> {
        let program = program(between, read);
        let changed = reuse_rounds(program.clone());
        computes_the_same(&program, &changed, 256);
        let Step::Repeat(repeat) = &changed.steps[1] else { panic!("the repeat stays") };
        let Step::Call(call) = &repeat.steps[1] else { panic!("the call stays") };
        call.buffers[1..].iter().map(|section| section.buffer).collect()
    }

    #[test]
    fn sections_made_in_a_round_go_where_it_has_read() {
        assert_eq!(written("", 0), [2, 2]);
    }

    #[test]
    fn what_is_read_again_or_as_a_whole_stays() {
        // The rounds of `a` are read later in the round, or behind the repeat.
        assert_eq!(written("call 1 (2[64*i0], 5)", 0), [3, 4]);
        assert_eq!(written("", 2), [3, 4]);
        // One of the halves is read as a whole, and the other alone fills too little.
        assert_eq!(written("", 3), [3, 4]);
    }
}
