//! What a program does: calls of kernels on sections of buffers, and repeats of them.
//!
//! A repeat is a loop at run time around calls. Its variable appears in the offsets of sections, so that one round's
//! part of a sequence is an address and no copy. Code and kernels do not depend on how often it runs.

use super::{Affine, Kernel, LoopVar, Program};

/// A part of a program buffer: what lies from element `offset` on, as far as the kernel's parameter reaches.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Section {
    /// Index into `Program::buffers`.
    pub buffer: u32,
    /// In elements, affine in the variables of the repeats around.
    pub offset: Affine,
}

/// One call of a kernel with a section for each of its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub kernel: u32,
    pub buffers: Vec<Section>,
}

/// Steps that run for every value of `var` in `0..count`, one round after another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repeat {
    /// Numbered within the program; each repeat has one of its own.
    pub var: LoopVar,
    pub count: u64,
    /// From `count - 1` down to 0 instead of from 0 up.
    pub reverse: bool,
    pub steps: Vec<Step>,
}

/// One thing that a program does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Call(Call),
    Repeat(Repeat),
    /// Stores the `i32` value of an expression of repeat variables as the one element of `target`.
    Index {
        target: Section,
        index: Affine,
    },
}

impl Section {
    /// The whole buffer.
    pub fn whole(buffer: u32) -> Section {
        Section { buffer, offset: Affine::default() }
    }

    /// The section `distance` elements further on.
    pub fn moved(&self, distance: &Affine) -> Section {
        Section { buffer: self.buffer, offset: self.offset.clone().sum(distance) }
    }

    /// Whether it starts where the buffer does.
    pub fn is_at_start(&self) -> bool {
        self.offset == Affine::default()
    }
}

impl Call {
    /// A call on whole buffers.
    pub fn on_whole(kernel: u32, buffers: impl IntoIterator<Item = u32>) -> Call {
        Call { kernel, buffers: buffers.into_iter().map(Section::whole).collect() }
    }
}

/// All calls in the order of the text, those in repeats once.
pub fn calls(steps: &[Step]) -> Vec<&Call> {
    fn collect<'s>(steps: &'s [Step], out: &mut Vec<&'s Call>) {
        for step in steps {
            match step {
                Step::Call(call) => out.push(call),
                Step::Repeat(repeat) => collect(&repeat.steps, out),
                Step::Index { .. } => {}
            }
        }
    }
    let mut out = Vec::new();
    collect(steps, &mut out);
    out
}

/// Visits every call with leave to change it.
pub fn each_call(steps: &mut [Step], change: &mut dyn FnMut(&mut Call)) {
    for step in steps {
        match step {
            Step::Call(call) => change(call),
            Step::Repeat(repeat) => each_call(&mut repeat.steps, change),
            Step::Index { .. } => {}
        }
    }
}

/// Visits every section with leave to change it.
pub fn each_section(steps: &mut [Step], change: &mut dyn FnMut(&mut Section)) {
    for step in steps {
        match step {
            Step::Call(call) => call.buffers.iter_mut().for_each(&mut *change),
            Step::Repeat(repeat) => each_section(&mut repeat.steps, change),
            Step::Index { target, .. } => change(target),
        }
    }
}

/// The buffers that steps write.
pub fn written(steps: &[Step], kernels: &[Kernel]) -> Vec<u32> {
    let mut out = Vec::new();
    for step in steps {
        match step {
            Step::Call(call) => {
                let parameters = &kernels[call.kernel as usize].buffers;
                out.extend(
                    parameters.iter().zip(&call.buffers).filter(|(p, _)| p.usage.writes()).map(|(_, s)| s.buffer),
                );
            }
            Step::Repeat(repeat) => out.extend(written(&repeat.steps, kernels)),
            Step::Index { target, .. } => out.push(target.buffer),
        }
    }
    out
}

/// Drops kernels that no call names any more.
pub fn remove_uncalled(program: &mut Program) {
    let mut numbers = vec![0; program.kernels.len()];
    let mut left: Vec<Option<Kernel>> = std::mem::take(&mut program.kernels).into_iter().map(Some).collect();
    let mut kept = Vec::with_capacity(left.len());
    each_call(&mut program.steps, &mut |call| {
        let number = &mut numbers[call.kernel as usize];
        if let Some(kernel) = left[call.kernel as usize].take() {
            *number = kept.len() as u32;
            kept.push(kernel);
        }
        call.kernel = *number;
    });
    program.kernels = kept;
}
