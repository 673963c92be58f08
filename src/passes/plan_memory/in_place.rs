//! Lets an output take the place of an input that dies with the same call.
//!
//! That is right where a kernel reads the input and writes the output at one and the same address in every round: the element is read
//! before it is overwritten, by the same round. The two parameters become one that is updated, so no backend has to know of aliases.

use std::collections::{BTreeMap, HashMap};

use super::{Life, is_arena, lives};
use crate::ir::loops::{Affine, BufferId, BufferUse, Kernel, Program};
use crate::passes::lower::finish::Draft;
use crate::passes::lower::number::renumber;
use crate::passes::lower::visit::{Touch, Visitor, walk};

/// Joins buffers of a program where a call allows it.
pub fn reuse_inputs(program: &mut Program) {
    let mut joiner = Joiner {
        lives: lives(program),
        homes: (0..program.buffers.len() as u32).collect(),
        numbers: HashMap::new(),
        addresses: program.kernels.iter().map(addresses).collect(),
    };
    for number in 0..program.calls.len() {
        joiner.call(program, number);
    }
    remove_uncalled(program);
}

/// The one address at which each buffer parameter is touched, where it is only one.
type Addresses = BTreeMap<BufferId, Option<Affine>>;

struct Joiner {
    lives: Vec<Option<Life>>,
    /// Where each buffer is by now.
    homes: Vec<u32>,
    /// Kernels with joined parameters, by content.
    numbers: HashMap<Kernel, u32>,
    addresses: Vec<Addresses>,
}

impl Joiner {
    fn call(&mut self, program: &mut Program, number: usize) {
        let kernel = program.calls[number].kernel as usize;
        let original = program.calls[number].buffers.clone();
        program.calls[number].buffers = original.iter().map(|b| self.homes[*b as usize]).collect();
        let mut joined: Vec<(usize, usize)> = Vec::new();
        for output in 0..original.len() {
            let free = |input: &usize| joined.iter().all(|(_, taken)| taken != input);
            let found = (0..original.len())
                .filter(free)
                .find(|input| self.fits(program, number, *input, output, original[output]));
            if let Some(input) = found {
                let home = program.calls[number].buffers[input];
                self.homes[original[output] as usize] = home;
                let last = self.lives[original[output] as usize].map_or(number, |l| l.last);
                if let Some(life) = &mut self.lives[home as usize] {
                    life.last = last;
                }
                joined.push((output, input));
            }
        }
        if !joined.is_empty() {
            self.join(program, number, kernel, &joined);
        }
    }

    /// Whether parameter `output`, buffer `fresh`, may take the place of parameter `input` in this call.
    fn fits(&self, program: &Program, number: usize, input: usize, output: usize, fresh: u32) -> bool {
        let call = &program.calls[number];
        let kernel = &program.kernels[call.kernel as usize];
        let (from, to) = (&kernel.buffers[input], &kernel.buffers[output]);
        let (old, new) = (&program.buffers[call.buffers[input] as usize], &program.buffers[fresh as usize]);
        let once = |buffer: u32| call.buffers.iter().filter(|b| **b == buffer).count() == 1;
        let address = |p: usize| self.addresses[call.kernel as usize].get(&BufferId(p as u32)).cloned().flatten();
        from.usage == BufferUse::Read
            && to.usage == BufferUse::Write
            && is_arena(old)
            && is_arena(new)
            && (old.dtype, old.elements) == (new.dtype, new.elements)
            && self.lives[call.buffers[input] as usize].is_some_and(|l| l.last == number)
            && self.lives[fresh as usize].is_some_and(|l| l.first == number)
            && once(call.buffers[input])
            && once(fresh)
            && address(input).is_some_and(|a| Some(a) == address(output))
    }

    /// Makes the call use a kernel in which each pair of parameters is one.
    fn join(&mut self, program: &mut Program, number: usize, kernel: usize, joined: &[(usize, usize)]) {
        let mut changed = program.kernels[kernel].clone();
        walk(&mut changed.body, &mut Replace(joined));
        changed.name = format!("{}_in_place", changed.name);
        let buffers = program.calls[number].buffers.clone();
        let Draft { kernel, buffers } = renumber(Draft { kernel: changed, buffers });
        let next = program.kernels.len() as u32;
        let new = *self.numbers.entry(kernel.clone()).or_insert(next);
        if new == next {
            self.addresses.push(addresses(&kernel));
            program.kernels.push(kernel);
        }
        let call = &mut program.calls[number];
        (call.kernel, call.buffers) = (new, buffers);
    }
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
            if touch == Touch::ReadFrom {
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

/// Drops kernels that no call names any more.
fn remove_uncalled(program: &mut Program) {
    let mut numbers = vec![None; program.kernels.len()];
    let mut kept = Vec::new();
    for call in &mut program.calls {
        let number = numbers[call.kernel as usize].get_or_insert_with(|| {
            kept.push(program.kernels[call.kernel as usize].clone());
            kept.len() as u32 - 1
        });
        call.kernel = *number;
    }
    program.kernels = kept;
}
