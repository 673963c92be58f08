//! From when to when the contents of each buffer matter.
//!
//! Steps are numbered in the order of the text: calls by one number each, a repeat by one for its start, those of its steps, and one
//! for its end. A buffer that every round of a repeat writes before it reads it, and that nothing outside of the repeat touches, lives
//! within a round. Any other buffer that a repeat uses has to outlast all rounds: its life covers the whole repeat.

use crate::ir::loops::{BufferUse, Call, LoopVar, Program, Section, Step};

/// The first and the last step that use a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    pub first: usize,
    pub last: usize,
}

impl Life {
    /// Whether there is a step at which both matter.
    pub fn meets(self, other: Life) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// The life of each buffer; none if no step uses it.
pub fn lives(program: &Program) -> Vec<Option<Life>> {
    let mut walk = Walk {
        program,
        next: 0,
        spans: Vec::new(),
        variables: Vec::new(),
        around: Vec::new(),
        uses: vec![Vec::new(); program.buffers.len()],
    };
    walk.steps(&program.steps);
    walk.uses.iter().map(|uses| life(uses, &walk.spans)).collect()
}

/// The calls among some steps, by their numbers.
pub fn numbered_calls(steps: &[Step]) -> Vec<Option<Call>> {
    fn collect(steps: &[Step], calls: &mut Vec<Option<Call>>) {
        for step in steps {
            match step {
                Step::Call(call) => calls.push(Some(call.clone())),
                Step::Index { .. } => calls.push(None),
                Step::Repeat(repeat) => {
                    calls.push(None);
                    collect(&repeat.steps, calls);
                    calls.push(None);
                }
            }
        }
    }
    let mut calls = Vec::new();
    collect(steps, &mut calls);
    calls
}

/// One use of a buffer.
#[derive(Clone, Debug)]
struct Use {
    number: usize,
    /// The repeats around, outermost first, by number.
    around: Vec<usize>,
    /// How many of them the place of the section does not depend on, counted from the outermost.
    still: usize,
    /// Whether what was there before does not matter.
    overwrites: bool,
}

struct Walk<'p> {
    program: &'p Program,
    next: usize,
    /// Start and end of each repeat.
    spans: Vec<Life>,
    variables: Vec<LoopVar>,
    around: Vec<usize>,
    uses: Vec<Vec<Use>>,
}

impl Walk<'_> {
    fn steps(&mut self, steps: &[Step]) {
        for step in steps {
            let number = self.next;
            self.next += 1;
            match step {
                Step::Call(call) => {
                    let parameters = &self.program.kernels[call.kernel as usize].buffers;
                    for (parameter, section) in parameters.iter().zip(&call.buffers) {
                        self.touch(number, section, parameter.usage == BufferUse::Write);
                    }
                }
                Step::Index { target, .. } => self.touch(number, target, true),
                Step::Repeat(repeat) => {
                    self.around.push(self.spans.len());
                    let own = self.spans.len();
                    self.spans.push(Life { first: number, last: number });
                    self.variables.push(repeat.var);
                    self.steps(&repeat.steps);
                    self.spans[own].last = self.next;
                    self.next += 1;
                    self.around.pop();
                }
            }
        }
    }

    fn touch(&mut self, number: usize, section: &Section, overwrites: bool) {
        let moves = |repeat: &usize| section.offset.coefficient(self.variables[*repeat]) != 0;
        let still = self.around.iter().position(moves).unwrap_or(self.around.len());
        let around = self.around.clone();
        self.uses[section.buffer as usize].push(Use { number, around, still, overwrites });
    }
}

fn life(uses: &[Use], spans: &[Life]) -> Option<Life> {
    let first = uses.first()?;
    // The repeats within one round of which all uses lie.
    let common = |u: &Use| u.around.iter().zip(&first.around).take_while(|(a, b)| a == b).count().min(u.still);
    let within = if first.overwrites { uses.iter().map(common).min().unwrap_or(0) } else { 0 };
    let span = |u: &Use| u.around.get(within).map_or(Life { first: u.number, last: u.number }, |r| spans[*r]);
    uses.iter().map(span).reduce(|a, b| Life { first: a.first.min(b.first), last: a.last.max(b.last) })
}
