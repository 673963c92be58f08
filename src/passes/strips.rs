//! Runs kernels that hand large arrays on to each other strip by strip, so that of such an array only one strip is in memory.
//!
//! A convolution by Winograd's transforms pads its input, transforms it, multiplies and transforms back, and each step makes an array that is larger than the input and read by
//! the next step alone. Where the outermost loops of such kernels go hand in hand (over the samples, say), a repeat does one strip of all of them before the next one. What is
//! handed on shrinks to a strip, which stays in the cache. Each element is computed as before, so results are the same bits.
//!
//! Two things are decided: which calls belong together ([`group`]), and into how many strips they are cut. [`cut`] writes one strip of a kernel. A sum over parts that are
//! handed on is [split] for that.

use std::collections::BTreeSet;

use super::LoopPass;
use super::plan_memory::is_arena;
use crate::ir::loops::{Affine, Buffer, BufferId, BufferUse, Call, Kernel, LoopVar, Program, Repeat, Step, steps};
use crate::passes::lower::shared::Shared;

mod cut;
mod group;
mod slices;
mod split;

use group::{Group, Groups};
use slices::Slices;
use split::{Split, split};

/// The pass.
pub const PASS: LoopPass = LoopPass {
    name: "strips",
    doc: "runs kernels that hand large arrays on strip by strip",
    run: |program, limits| Ok(strips(program, limits.aim)),
};

/// What is handed on has to be of so many bytes in all.
const LEAST_SHRUNK: u64 = 4 << 20;

/// A strip of all that is handed on has at most so many bytes, if there are enough strips for that.
const STRIP_BYTES: u64 = 4 << 20;

/// The program with such calls in repeats, and in more of them where memory is short.
pub fn strips(program: Program, memory: u64) -> Program {
    let sizes = Sizes { least: LEAST_SHRUNK.min(memory), strip: STRIP_BYTES.min(memory) };
    // Sums are split only for what pays.
    let all = Plan::of(split(&program, sizes.least, &|_| true), sizes);
    let mut pays: BTreeSet<usize> = all.paying().collect();
    let kept: Vec<usize> = pays.iter().filter_map(|at| all.split.origins.get(at).copied()).collect();
    let plan = if kept.len() == all.split.origins.len() {
        all
    } else {
        let plan = Plan::of(split(&program, sizes.least, &|at| kept.contains(&at)), sizes);
        pays = plan.paying().collect();
        plan
    };
    if pays.is_empty() {
        return program;
    }
    // And calls move only for that.
    let groups = plan.groups(&|at| pays.contains(&at));
    write(&plan, &groups)
}

/// Bytes that decide.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    /// What a group has to hand on to be cut.
    least: u64,
    /// The most that one strip of it has, if that can be.
    strip: u64,
}

/// A program, what its kernels' rounds touch, and what belongs together in it.
struct Plan {
    sizes: Sizes,
    split: Split,
    slices: Vec<Option<Slices>>,
    touches: Vec<usize>,
}

impl Plan {
    fn of(split: Split, sizes: Sizes) -> Plan {
        let handed = handed(&split.program);
        let kernels = split.program.kernels.iter().zip(&handed).enumerate();
        let slices = kernels.map(|(number, (kernel, handed))| match split.parts.get(&(number as u32)) {
            Some(parts) => Slices::along(kernel, *parts),
            None => Slices::of(kernel, handed),
        });
        Plan { sizes, slices: slices.collect(), touches: touches(&split.program), split }
    }

    /// The groups if calls at `allowed` places may join others.
    fn groups(&self, allowed: &dyn Fn(usize) -> bool) -> Vec<Group> {
        let program = &self.split.program;
        let mut groups = Groups::new(program, &self.slices, allowed);
        program.steps.iter().enumerate().for_each(|(at, step)| groups.add(at, step));
        groups.finish()
    }

    /// The calls of groups that are worth it, by place.
    fn paying(&self) -> impl Iterator<Item = usize> {
        let shrinking = self.shrinking();
        let groups = self.groups(&|_| true);
        let calls = groups.into_iter().filter(|group| shrinking.rounds(group).is_some()).flat_map(|group| group.calls);
        calls.collect::<Vec<usize>>().into_iter()
    }

    fn shrinking(&self) -> Shrinking<'_> {
        Shrinking { sizes: self.sizes, program: &self.split.program, touches: &self.touches }
    }
}

fn write(plan: &Plan, groups: &[Group]) -> Program {
    let shrinking = plan.shrinking();
    let Program { name, buffers, kernels, steps, pointers, arena_bytes } = plan.split.program.clone();
    let mut writer = Writer {
        kernels: &kernels,
        slices: &plan.slices,
        buffers,
        shared: Shared::default(),
        next: LoopVar(variables(&steps)),
    };
    for group in groups {
        match (shrinking.rounds(group), group.calls.as_slice()) {
            (Some(rounds), _) => writer.repeat(group, &steps, rounds, &shrinking.inside(group)),
            (None, calls) => calls.iter().for_each(|at| writer.step(&steps[*at])),
        }
    }
    let Writer { buffers, shared, .. } = writer;
    let (kernels, steps) = shared.finish();
    Program { name, buffers, kernels, steps, pointers, arena_bytes }
}

/// Of each kernel the parameters that stand in the workspace in some call: what is handed to it or by it.
fn handed(program: &Program) -> Vec<Vec<BufferId>> {
    let mut handed = vec![Vec::new(); program.kernels.len()];
    for call in steps::calls(&program.steps) {
        let of_kernel = &mut handed[call.kernel as usize];
        for (number, section) in call.buffers.iter().enumerate() {
            let (buffer, id) = (&program.buffers[section.buffer as usize], BufferId(number as u32));
            if is_arena(buffer) && !of_kernel.contains(&id) {
                of_kernel.push(id);
            }
        }
    }
    handed
}

/// How many calls of the whole program touch each buffer.
fn touches(program: &Program) -> Vec<usize> {
    let mut touches = vec![0; program.buffers.len()];
    for call in steps::calls(&program.steps) {
        call.buffers.iter().for_each(|section| touches[section.buffer as usize] += 1);
    }
    touches
}

/// One more than the largest number of a repeat's variable.
fn variables(steps: &[Step]) -> u32 {
    let of = |step: &Step| match step {
        Step::Repeat(repeat) => variables(&repeat.steps).max(repeat.var.0 + 1),
        _ => 0,
    };
    steps.iter().map(of).max().unwrap_or(0)
}

/// Finds what groups hand on.
struct Shrinking<'p> {
    sizes: Sizes,
    program: &'p Program,
    touches: &'p [usize],
}

impl Shrinking<'_> {
    /// The buffers that nothing but the calls of a group touches, and of which every strip is written before it is read.
    fn inside(&self, group: &Group) -> Vec<u32> {
        let calls: Vec<&Call> = group.calls.iter().filter_map(|at| called(&self.program.steps[*at])).collect();
        let mut seen: Vec<(u32, bool, usize)> = Vec::new();
        for call in &calls {
            let parameters = &self.program.kernels[call.kernel as usize].buffers;
            for (parameter, section) in parameters.iter().zip(&call.buffers) {
                let buffer = &self.program.buffers[section.buffer as usize];
                let whole = section.is_at_start() && parameter.elements == buffer.elements && is_arena(buffer);
                match seen.iter_mut().find(|s| s.0 == section.buffer) {
                    Some(known) => (known.1, known.2) = (known.1 && whole, known.2 + 1),
                    None => seen.push((section.buffer, whole && parameter.usage == BufferUse::Write, 1)),
                }
            }
        }
        let only_here = seen.into_iter().filter(|s| s.1 && s.2 == self.touches[s.0 as usize]);
        only_here.map(|s| s.0).collect()
    }

    /// Into how many strips a group is cut, the fewest that are small; `None` if it hands on too little.
    fn rounds(&self, group: &Group) -> Option<u64> {
        let handed: u64 = self.inside(group).iter().map(|b| bytes(&self.program.buffers[*b as usize])).sum();
        if group.calls.len() < 2 || handed < self.sizes.least.max(1) {
            return None;
        }
        let mut strips = (2..=group.rounds).filter(|n| group.rounds.is_multiple_of(*n));
        strips.find(|n| handed / n <= self.sizes.strip || *n == group.rounds)
    }
}

fn called(step: &Step) -> Option<&Call> {
    if let Step::Call(call) = step { Some(call) } else { None }
}

fn bytes(buffer: &Buffer) -> u64 {
    buffer.elements * buffer.dtype.bytes() as u64
}

/// The program that is being written.
struct Writer<'p> {
    kernels: &'p [Kernel],
    slices: &'p [Option<Slices>],
    buffers: Vec<Buffer>,
    shared: Shared,
    /// The variable of the next repeat.
    next: LoopVar,
}

impl Writer<'_> {
    /// A step as it was.
    fn step(&mut self, step: &Step) {
        match step {
            Step::Call(call) => self.shared.call_again(&self.kernels[call.kernel as usize], call.clone()),
            Step::Index { .. } => self.shared.push(step.clone()),
            Step::Repeat(repeat) => {
                self.shared.enter();
                repeat.steps.iter().for_each(|step| self.step(step));
                let steps = self.shared.leave();
                self.shared.push(Step::Repeat(Repeat { steps, ..repeat.clone() }));
            }
        }
    }

    /// The calls of a group, strip after strip; the buffers `inside` hold one strip from now on.
    fn repeat(&mut self, group: &Group, steps: &[Step], rounds: u64, inside: &[u32]) {
        let var = self.next;
        self.next.0 += 1;
        for buffer in inside {
            self.buffers[*buffer as usize].elements /= rounds;
        }
        self.shared.enter();
        for call in group.calls.iter().filter_map(|at| called(&steps[*at])) {
            let kernel = &self.kernels[call.kernel as usize];
            let slices = self.slices[call.kernel as usize].as_ref().expect("calls of a group are cut into slices");
            let (mut strip, distances) = cut::strip(kernel, slices, rounds);
            let name = std::mem::take(&mut strip.name);
            let sections = call.buffers.iter().zip(distances).map(|(section, distance)| {
                let distance = if inside.contains(&section.buffer) { 0 } else { distance };
                section.moved(&Affine::scaled(var, distance))
            });
            let buffers = sections.collect();
            self.shared.call(crate::passes::lower::finish::Draft { kernel: strip, buffers }, &name);
        }
        let steps = self.shared.leave();
        self.shared.push(Step::Repeat(Repeat { var, count: rounds, reverse: false, steps }));
    }
}
