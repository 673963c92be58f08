//! Joins kernels whose rounds go hand in hand into one kernel.
//!
//! Where two kernels run over the same outermost loop (the samples of a batch, say), and the second reads in each round only what the first wrote in that round, one kernel
//! does a round of both before the next one: what the first wrote is still in the cache, and threads meet once instead of twice. A loop that
//! counts more finely (rows of samples) becomes a loop inside. Calls in between that touch nothing of the second move behind. Each element is computed as before, so
//! results are the same bits.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::LoopPass;
use crate::ir::loops::{
    Affine, Block, Buffer, BufferId, BufferParameter, BufferUse, Call, Instruction, Kernel, LoopVar, ParallelLoop,
    Program, Repeat, Section, Step, Value,
};
use crate::passes::lower::finish::{Draft, finish};
use crate::passes::lower::shared::Shared;
use crate::passes::lower::visit::{Touch, Visitor, walk};

/// The pass.
pub const PASS: LoopPass = LoopPass {
    name: "join_kernels",
    doc: "joins kernels whose rounds go hand in hand",
    run: |program, _| Ok(join_kernels(program)),
};

/// A kernel is joined with one of the last so many calls.
const MOST_BETWEEN: usize = 12;

/// So many kernels become one at most.
const MOST_PARTS: usize = 6;

/// Fewer rounds than this would leave threads without work.
const FEWEST_ROUNDS: u64 = 4;

/// A finer loop has at most so many rounds in one of the coarser.
const MOST_FINER: u64 = 64;

/// Smaller buffers stay in the cache anyway.
const SMALLEST: u64 = 1 << 15;

/// The program with kernels joined.
pub fn join_kernels(program: Program) -> Program {
    let Program { name, buffers, kernels, steps, pointers, arena_bytes } = program;
    let mut joiner = Joiner { buffers: &buffers, kernels: &kernels, shared: Shared::default() };
    joiner.steps(steps, true);
    let (kernels, steps) = joiner.shared.finish();
    Program { name, buffers, kernels, steps, pointers, arena_bytes }
}

struct Joiner<'p> {
    buffers: &'p [Buffer],
    kernels: &'p [Kernel],
    shared: Shared,
}

/// A call that others may still join.
struct Pending<'p> {
    kernel: Cow<'p, Kernel>,
    buffers: Vec<Section>,
    /// The number of a kernel that is as it was.
    number: Option<u32>,
    name: String,
    parts: usize,
}

impl<'p> Joiner<'p> {
    /// In repeats calls stay as they are: what a joined kernel hands on within itself would have to outlast the rounds of the repeat.
    fn steps(&mut self, steps: Vec<Step>, outside: bool) {
        let mut pending: Vec<Pending<'p>> = Vec::new();
        for step in steps {
            match step {
                Step::Call(call) => {
                    let kernel = &self.kernels[call.kernel as usize];
                    let name = kernel.name.clone();
                    let (kernel, number) = (Cow::Borrowed(kernel), Some(call.kernel));
                    let new = Pending { kernel, buffers: call.buffers, number, name, parts: 1 };
                    if outside { self.add(&mut pending, new) } else { pending.push(new) }
                }
                Step::Index { .. } => {
                    self.flush(&mut pending);
                    self.shared.push(step);
                }
                Step::Repeat(repeat) => {
                    self.flush(&mut pending);
                    self.shared.enter();
                    self.steps(repeat.steps, false);
                    let steps = self.shared.leave();
                    self.shared.push(Step::Repeat(Repeat { steps, ..repeat }));
                }
            }
        }
        self.flush(&mut pending);
    }

    fn flush(&mut self, pending: &mut Vec<Pending<'p>>) {
        for Pending { kernel, buffers, number, name, .. } in pending.drain(..) {
            match number {
                Some(number) => self.shared.call_again(&kernel, Call { kernel: number, buffers }),
                None => self.shared.call(Draft { kernel: kernel.into_owned(), buffers }, &name),
            }
        }
    }

    /// Joins a call with an earlier one, past calls that have nothing to do with it, or appends it.
    fn add(&self, pending: &mut Vec<Pending<'p>>, new: Pending<'p>) {
        for earlier in pending.iter_mut().rev().take(MOST_BETWEEN) {
            if let Some(joined) = self.join(earlier, &new) {
                *earlier = joined;
                return;
            }
            if conflict(earlier, &new) {
                break;
            }
        }
        pending.push(new);
    }

    /// Both calls as one, if each round of the second needs no other round of the first.
    fn join(&self, a: &Pending<'p>, b: &Pending<'p>) -> Option<Pending<'p>> {
        let (outer, inner) = (a.kernel.parallel.as_ref()?, b.kernel.parallel.as_ref()?);
        let rounds = outer.extent.min(inner.extent);
        let whole = |p: &ParallelLoop| p.extent.is_multiple_of(rounds) && p.extent / rounds <= MOST_FINER;
        if rounds < FEWEST_ROUNDS || !whole(outer) || !whole(inner) || a.parts + b.parts > MOST_PARTS {
            return None;
        }
        let together = Together::of((&a.kernel, &a.buffers), (&b.kernel, &b.buffers))?;
        let bytes = |p: &BufferId| {
            let number = together.sections[p.0 as usize].buffer;
            self.buffers[number as usize].dtype.bytes() as u64 * together.buffers[p.0 as usize].elements
        };
        if !together.handed_on.iter().any(|parameter| bytes(parameter) >= SMALLEST) {
            return None;
        }
        let draft = together.joined(&a.kernel, &b.kernel, rounds)?;
        let parts = a.parts + b.parts;
        // The first and the last say most; all would be too long to read.
        let first_name = a.name.split('+').next().unwrap_or_default();
        let name = match parts {
            2 => format!("{first_name}+{}", b.name),
            _ => format!("{first_name}+{}_more+{}", parts - 2, b.name),
        };
        let Draft { kernel, buffers } = draft;
        Some(Pending { kernel: Cow::Owned(kernel), buffers, number: None, name, parts })
    }
}

/// The parameters of two kernels in one.
pub(super) struct Together {
    buffers: Vec<BufferParameter>,
    sections: Vec<Section>,
    of_first: Vec<BufferId>,
    of_second: Vec<BufferId>,
    /// What the first writes and the second reads.
    handed_on: Vec<BufferId>,
}

impl Together {
    /// The parameters of two calls, common ones once; `None` if what one writes meets another section of either.
    pub(super) fn of(a: (&Kernel, &[Section]), b: (&Kernel, &[Section])) -> Option<Together> {
        let own = a.1.len();
        let mut together = Together {
            buffers: a.0.buffers.clone(),
            sections: a.1.to_vec(),
            of_first: (0..own as u32).map(BufferId).collect(),
            of_second: Vec::new(),
            handed_on: Vec::new(),
        };
        let mut written: Vec<bool> = a.0.buffers.iter().map(|p| p.usage.writes()).collect();
        for (parameter, section) in b.0.buffers.iter().zip(b.1) {
            let found = (0..own).find(|i| together.sections[*i] == *section);
            let number = found.unwrap_or(together.buffers.len());
            together.of_second.push(BufferId(number as u32));
            match found {
                Some(at) => {
                    let before = &mut together.buffers[at];
                    before.elements = before.elements.max(parameter.elements);
                    if before.usage.writes() && parameter.usage != BufferUse::Write {
                        together.handed_on.push(BufferId(number as u32));
                    }
                    written[at] |= parameter.usage.writes();
                }
                None => {
                    together.buffers.push(parameter.clone());
                    together.sections.push(section.clone());
                    written.push(parameter.usage.writes());
                }
            }
        }
        let pairs = (0..written.len()).flat_map(|i| (0..i).map(move |j| (i, j)));
        let mut written_pairs = pairs.filter(|(i, j)| written[*i] || written[*j]);
        written_pairs.all(|(i, j)| together.are_apart(i, j)).then_some(together)
    }

    /// Whether two sections have nothing in common, wherever the rounds of repeats move them.
    fn are_apart(&self, one: usize, other: usize) -> bool {
        let [a, b] = [one, other].map(|i| &self.sections[i]);
        let distance = b.offset.clone().sum(&a.offset.times(-1));
        let reach = |i: usize| i64::try_from(self.buffers[i].elements).unwrap_or(i64::MAX);
        let follows = distance.constant >= reach(one) || -distance.constant >= reach(other);
        a.buffer != b.buffer || distance.terms.is_empty() && follows
    }

    /// Both kernels as one that does in each of `rounds` rounds what they do in theirs; `None` if rounds would have to do with each other.
    pub(super) fn joined(self, first: &Kernel, second: &Kernel, rounds: u64) -> Option<Draft> {
        let mut kernel = Kernel {
            name: String::new(),
            buffers: Vec::new(),
            parallel: None,
            body: Block::default(),
            values: Vec::new(),
            variables: 1,
        };
        let round = LoopVar(0);
        let mut body = Block::default();
        for (part_of, buffers) in [(first, &self.of_first), (second, &self.of_second)] {
            let part = part(&mut kernel, part_of, buffers, round, rounds);
            body.instructions.extend(part.instructions);
        }
        kernel.buffers = self.buffers;
        kernel.body.instructions.push(Instruction::For { var: round, extent: rounds, carried: Vec::new(), body });
        let draft = finish(Draft { kernel, buffers: self.sections });
        draft.kernel.parallel.is_some().then_some(draft)
    }
}

/// Whether the order of two calls matters.
fn conflict(a: &Pending<'_>, b: &Pending<'_>) -> bool {
    let mut uses: BTreeMap<u32, bool> = BTreeMap::new();
    for (parameter, section) in a.kernel.buffers.iter().zip(&a.buffers) {
        *uses.entry(section.buffer).or_default() |= parameter.usage.writes();
    }
    let meets =
        |(p, s): (&BufferParameter, &Section)| uses.get(&s.buffer).is_some_and(|written| *written || p.usage.writes());
    b.kernel.buffers.iter().zip(&b.buffers).any(meets)
}

/// What a kernel does in one of `rounds` rounds, with numbers of its own in `target`.
fn part(target: &mut Kernel, kernel: &Kernel, buffers: &[BufferId], round: LoopVar, rounds: u64) -> Block {
    let parallel = kernel.parallel.as_ref().expect("only parallel kernels are joined");
    let mut body = kernel.body.clone();
    let mut renumber = Renumber { values: target.values.len() as u32, variables: target.variables, buffers };
    walk(&mut body, &mut renumber);
    target.values.extend(&kernel.values);
    target.variables += kernel.variables;
    let own = LoopVar(parallel.var.0 + renumber.variables);
    let finer = parallel.extent / rounds;
    let place = match finer {
        1 => Affine::scaled(round, 1),
        _ => Affine::scaled(round, finer as i64).plus(own, 1),
    };
    crate::passes::lower::visit::each_affine(&mut body, |affine| {
        let factor = affine.coefficient(own);
        affine.terms.retain(|(var, _)| *var != own);
        *affine = std::mem::take(affine).sum(&place.times(factor));
    });
    match finer {
        1 => body,
        _ => Block { instructions: vec![Instruction::For { var: own, extent: finer, carried: Vec::new(), body }] },
    }
}

/// Moves all numbers behind those that are there.
struct Renumber<'b> {
    values: u32,
    variables: u32,
    buffers: &'b [BufferId],
}

impl Visitor for Renumber<'_> {
    fn affine(&mut self, affine: &mut Affine) {
        affine.terms.iter_mut().for_each(|(var, _)| var.0 += self.variables);
    }

    fn buffer(&mut self, buffer: &mut BufferId, _: Touch) {
        *buffer = self.buffers[buffer.0 as usize];
    }

    fn definition(&mut self, value: &mut Value) {
        value.0 += self.values;
    }

    fn operand(&mut self, value: &mut Value) {
        value.0 += self.values;
    }

    fn variable(&mut self, var: &mut LoopVar) {
        var.0 += self.variables;
    }
}
