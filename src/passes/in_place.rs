//! Lets an output take the place of an input that dies with the same call.
//!
//! That is right where a kernel reads the input and writes the output at one and the same address in every round: the element is read
//! before it is overwritten, by the same round. The two parameters become one that is updated, so no backend has to know of aliases.
//! Several calls that each read a part of the input and write that part of the output, such as those for the bulk and for the edge of a
//! product, count as one call.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use rustc_hash::FxHashMap;

use super::LoopPass;
use super::plan_memory::is_arena;
use super::plan_memory::life::{Life, lives, numbered_calls};
use crate::ir::loops::steps::remove_uncalled;
use crate::ir::loops::verify::affine_range;
use crate::ir::loops::{
    Affine, Block, Buffer, BufferId, BufferUse, Call, Instruction, Kernel, LoopVar, Program, Section, Step, Value,
};
use crate::passes::lower::accesses::collect_extents;
use crate::passes::lower::finish::Draft;
use crate::passes::lower::number::renumber;
use crate::passes::lower::visit::{Touch, Visitor, walk};

/// The pass.
pub const PASS: LoopPass = LoopPass {
    name: "in_place",
    doc: "lets outputs take the place of inputs that die",
    run: |mut program, _| {
        reuse_inputs(&mut program);
        Ok(program)
    },
};

/// So many steps after the first that reads an input and writes an output may do so for other parts of them.
const MOST_STEPS: usize = 8;

/// Joins buffers of a program where a call allows it. A call that is left with nothing but to store what it loads is dropped.
pub fn reuse_inputs(program: &mut Program) {
    let mut joiner = Joiner {
        lives: lives(program),
        buffers: program.buffers.clone(),
        homes: (0..program.buffers.len() as u32).collect(),
        numbers: FxHashMap::default(),
        calls: numbered_calls(&program.steps),
        agreed: FxHashMap::default(),
        addresses: program.kernels.iter().map(addresses).collect(),
        kernels: std::mem::take(&mut program.kernels),
        next: 0,
    };
    joiner.steps(&mut program.steps);
    program.kernels = joiner.kernels;
    remove_uncalled(program);
}

/// The one address at which each buffer parameter is touched, where it is only one.
type Addresses = BTreeMap<BufferId, Option<Affine>>;

struct Joiner {
    lives: Vec<Option<Life>>,
    buffers: Vec<Buffer>,
    /// Where each buffer is by now.
    homes: Vec<u32>,
    kernels: Vec<Kernel>,
    /// The calls as they were, by the numbers of their steps.
    calls: Vec<Option<Call>>,
    /// The homes of outputs that took the place of an input part by part.
    agreed: FxHashMap<u32, u32>,
    /// Kernels with joined parameters, by content: without their names.
    numbers: FxHashMap<Kernel, u32>,
    addresses: Vec<Addresses>,
    /// The number of the step that comes next, as lives count them.
    next: usize,
}

impl Joiner {
    fn steps(&mut self, steps: &mut Vec<Step>) {
        steps.retain_mut(|step| {
            let number = self.next;
            self.next += 1;
            match step {
                Step::Call(call) => return self.call(call, number),
                Step::Index { target, .. } => target.buffer = self.homes[target.buffer as usize],
                Step::Repeat(repeat) => {
                    self.steps(&mut repeat.steps);
                    self.next += 1;
                }
            }
            true
        });
    }

    /// Returns whether the call still does something.
    fn call(&mut self, call: &mut Call, number: usize) -> bool {
        let fresh: Vec<u32> = call.buffers.iter().map(|s| s.buffer).collect();
        call.buffers.iter_mut().for_each(|s| s.buffer = self.homes[s.buffer as usize]);
        let mut joined: Vec<(usize, usize)> = Vec::new();
        for output in 0..fresh.len() {
            let free = |input: &usize| joined.iter().all(|(_, taken)| taken != input);
            let written = self.kernels[call.kernel as usize].buffers[output].usage == BufferUse::Write;
            // What agreed once may be read later, by a call whose output takes its place in turn.
            if let Some(home) = self.agreed.get(&fresh[output]).filter(|_| written) {
                // A later call may read the output itself, which has the same home.
                let is_input = |p: &usize| fresh[*p] != fresh[output] && call.buffers[*p].buffer == *home;
                let input = (0..fresh.len()).find(is_input);
                joined.extend(input.map(|input| (output, input)));
                continue;
            }
            let found =
                (0..fresh.len()).filter(free).find(|input| self.fits(call, number, *input, output, fresh[output]));
            if let Some(input) = found {
                let home = call.buffers[input].buffer;
                self.homes[fresh[output] as usize] = home;
                let last = self.lives[fresh[output] as usize].map_or(number, |l| l.last);
                if let Some(life) = &mut self.lives[home as usize] {
                    if life.last > number {
                        self.agreed.insert(fresh[output], home);
                    }
                    life.last = last;
                }
                joined.push((output, input));
            }
        }
        if joined.is_empty() {
            return true;
        }
        self.join(call, &joined);
        !stores_what_it_loads(&self.kernels[call.kernel as usize].body)
    }

    /// Whether parameter `output`, buffer `fresh`, may take the place of parameter `input` in this call.
    fn fits(&self, call: &Call, number: usize, input: usize, output: usize, fresh: u32) -> bool {
        let kernel = &self.kernels[call.kernel as usize];
        let (from, to) = (&kernel.buffers[input], &kernel.buffers[output]);
        let source = &call.buffers[input];
        let (old, new) = (&self.buffers[source.buffer as usize], &self.buffers[fresh as usize]);
        let once = |buffer: u32| call.buffers.iter().filter(|s| s.buffer == buffer).count() == 1;
        let address = |p: usize| self.addresses[call.kernel as usize].get(&BufferId(p as u32)).cloned().flatten();
        from.usage == BufferUse::Read
            && to.usage == BufferUse::Write
            && is_arena(old)
            && is_arena(new)
            && (old.dtype, old.elements) == (new.dtype, new.elements)
            && source.is_at_start()
            && call.buffers[output].is_at_start()
            && self.lives[source.buffer as usize]
                .is_some_and(|l| self.parts_are_apart(number..=l.last, source.buffer, fresh))
            && self.lives[fresh as usize].is_some_and(|l| l.first == number)
            && once(source.buffer)
            && once(fresh)
            && address(input).is_some_and(|a| Some(a) == address(output))
    }

    /// Whether all calls of the steps that touch an input or an output read a part of the one and write the same part of the other, each its own.
    fn parts_are_apart(&self, steps: RangeInclusive<usize>, home: u32, fresh: u32) -> bool {
        if steps.start() == steps.end() {
            return true;
        }
        if steps.clone().count() > MOST_STEPS {
            return false;
        }
        let mut parts: Vec<(i128, i128)> = Vec::new();
        for number in steps {
            let Some(call) = &self.calls[number] else { return false };
            let is = |section: &Section, buffer: u32| self.homes[section.buffer as usize] == buffer;
            let of = |buffer: u32| (0..call.buffers.len()).filter(move |p| is(&call.buffers[*p], buffer));
            let [inputs, outputs] = [home, fresh].map(|buffer| of(buffer).collect::<Vec<_>>());
            match (&inputs[..], &outputs[..]) {
                ([], []) => {}
                ([input], [output]) => match self.part(call, *input, *output) {
                    Some(part) => parts.push(part),
                    None => return false,
                },
                _ => return false,
            }
        }
        parts.sort_unstable();
        parts.windows(2).all(|pair| pair[0].1 < pair[1].0)
    }

    /// The first and the last element of the part of a buffer that a call reads as one parameter and writes at the same addresses as another.
    fn part(&self, call: &Call, input: usize, output: usize) -> Option<(i128, i128)> {
        let kernel = &self.kernels[call.kernel as usize];
        let [read, written] = [input, output].map(|parameter| {
            let address = self.addresses[call.kernel as usize].get(&BufferId(parameter as u32))?.clone()?;
            call.buffers[parameter].is_at_start().then_some((address, kernel.buffers[parameter].usage))
        });
        let ((address, BufferUse::Read), (same, BufferUse::Write)) = (read?, written?) else { return None };
        if address == same { range(kernel, &address) } else { None }
    }

    /// Makes the call use a kernel in which each pair of parameters is one.
    fn join(&mut self, call: &mut Call, joined: &[(usize, usize)]) {
        let mut changed = self.kernels[call.kernel as usize].clone();
        walk(&mut changed.body, &mut Replace(joined));
        changed.name = format!("{}_in_place", changed.name);
        let Draft { kernel, buffers } = renumber(Draft { kernel: changed, buffers: call.buffers.clone() });
        let next = self.kernels.len() as u32;
        let new = *self.numbers.entry(kernel.named("")).or_insert(next);
        if new == next {
            self.addresses.push(addresses(&kernel));
            self.kernels.push(kernel);
        }
        (call.kernel, call.buffers) = (new, buffers);
    }
}

/// The smallest and the largest value of an address.
fn range(kernel: &Kernel, address: &Affine) -> Option<(i128, i128)> {
    let mut extents: BTreeMap<LoopVar, u64> = kernel.parallel.iter().map(|p| (p.var, p.extent)).collect();
    collect_extents(&kernel.body, &mut extents);
    affine_range(address, |var| extents.get(&var).copied())
}

/// Whether every store puts back what was loaded from the same place.
fn stores_what_it_loads(block: &Block) -> bool {
    let mut loaded: BTreeMap<Value, (BufferId, &Affine)> = BTreeMap::new();
    block.instructions.iter().all(|instruction| match instruction {
        Instruction::Load { result, buffer, address } => {
            loaded.insert(*result, (*buffer, address));
            true
        }
        Instruction::Store { buffer, address, value } => loaded.get(value) == Some(&(*buffer, address)),
        Instruction::For { carried, body, .. } => carried.is_empty() && stores_what_it_loads(body),
        Instruction::Lanes { body, .. } => stores_what_it_loads(body),
        _ => false,
    })
}

/// Puts inputs in the place of outputs.
struct Replace<'a>(&'a [(usize, usize)]);

impl Visitor for Replace<'_> {
    fn buffer(&mut self, buffer: &mut BufferId, _: Touch) {
        if let Some((_, input)) = self.0.iter().find(|(output, _)| *output == buffer.0 as usize) {
            *buffer = BufferId(*input as u32);
        }
    }
}

fn addresses(kernel: &Kernel) -> Addresses {
    struct Collect {
        current: Option<BufferId>,
        found: Addresses,
    }
    impl Visitor for Collect {
        fn buffer(&mut self, buffer: &mut BufferId, touch: Touch) {
            self.current = Some(*buffer);
            if touch.is_many() {
                self.found.insert(*buffer, None);
            }
        }
        fn affine(&mut self, affine: &mut Affine) {
            if let Some(buffer) = self.current.take() {
                let known = self.found.entry(buffer).or_insert_with(|| Some(affine.clone()));
                if known.as_ref() != Some(affine) {
                    *known = None;
                }
            }
        }
    }
    let mut collect = Collect { current: None, found: Addresses::new() };
    walk(&mut kernel.body.clone(), &mut collect);
    collect.found
}
