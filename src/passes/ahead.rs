//! Cuts off what depends on parameters alone, so that a host that knows when they change computes it once and not in every call.
//!
//! Weights in panels, transformed kernels and folded scales are made by one program, ahead of the calls, and handed to the other as further arguments.
//! Only whole calls outside of repeats are moved, after tiles are cut and before anything is joined or placed in memory.

use crate::ir::loops::{Buffer, Place, Program, Step};
use crate::ir::types::DType;

/// A program in two.
#[derive(Clone, Debug)]
pub struct Split {
    /// What is computed ahead. Of the arguments it reads those that stay the same and writes the handed ones.
    pub ahead: Program,
    /// What every call computes.
    pub rest: Program,
    /// The dtype and the elements of each further argument, which both programs take behind the others.
    pub handed: Vec<(DType, u64)>,
}

/// More bytes than this are not kept.
const MOST_BYTES: u64 = 1 << 30;

/// Cuts a program whose arguments with the numbers of which `stays` is true are the same in many calls; `None` if nothing depends on them alone.
pub fn split(program: &Program, stays: impl Fn(u32) -> bool) -> Option<Split> {
    let moved = moved(program, &stays);
    let inside = |number: usize, ahead: bool| moved[number] == ahead;
    let part = |ahead: bool| -> Vec<Step> {
        program.steps.iter().enumerate().filter(|(i, _)| inside(*i, ahead)).map(|(_, step)| step.clone()).collect()
    };
    let (first, rest) = (part(true), part(false));
    let (made, read) = (touched(program, &first), touched(program, &rest));
    let handed: Vec<usize> =
        (0..program.buffers.len()).filter(|b| is_arena(&program.buffers[*b]) && made[*b] && read[*b]).collect();
    let bytes = handed.iter().map(|b| program.buffers[*b].elements * program.buffers[*b].dtype.bytes() as u64);
    if handed.is_empty() || bytes.sum::<u64>() > MOST_BYTES {
        return None;
    }
    let mut buffers = program.buffers.clone();
    for (index, buffer) in (program.pointers..).zip(&handed) {
        buffers[*buffer].place = Place::Argument { index };
    }
    let types = handed.iter().map(|b| (buffers[*b].dtype, buffers[*b].elements)).collect();
    let pointers = program.pointers + handed.len() as u32;
    let with = |name: String, steps: Vec<Step>| Program {
        name,
        buffers: buffers.clone(),
        kernels: program.kernels.clone(),
        steps,
        pointers,
        arena_bytes: 0,
    };
    let ahead = with(format!("{}_ahead", program.name), first);
    Some(Split { ahead, rest: with(program.name.clone(), rest), handed: types })
}

fn is_arena(buffer: &Buffer) -> bool {
    matches!(buffer.place, Place::Arena { .. })
}

/// For each step, whether it reads only what stays and what such steps make, and nothing else writes what it writes.
fn moved(program: &Program, stays: &impl Fn(u32) -> bool) -> Vec<bool> {
    let mut moved: Vec<bool> = program.steps.iter().map(|step| matches!(step, Step::Call(_))).collect();
    loop {
        // What other steps write changes from call to call.
        let mut fixed: Vec<bool> = program
            .buffers
            .iter()
            .map(|buffer| match buffer.place {
                Place::Argument { index } => stays(index),
                Place::Arena { .. } | Place::Constant { .. } => true,
            })
            .collect();
        for (step, moved) in program.steps.iter().zip(&moved) {
            if !moved {
                let written = crate::ir::loops::steps::written(std::slice::from_ref(step), &program.kernels);
                written.iter().for_each(|buffer| fixed[*buffer as usize] = false);
            }
        }
        let mut changed = false;
        for (step, moved) in program.steps.iter().zip(&mut moved) {
            let Step::Call(call) = step else { continue };
            let parameters = &program.kernels[call.kernel as usize].buffers;
            let fits = parameters.iter().zip(&call.buffers).all(|(parameter, section)| {
                let buffer = section.buffer as usize;
                fixed[buffer] && (is_arena(&program.buffers[buffer]) || !parameter.usage.writes())
            });
            changed |= std::mem::replace(moved, *moved && fits) && !fits;
        }
        if !changed {
            return moved;
        }
    }
}

/// Which buffers steps name.
fn touched(program: &Program, steps: &[Step]) -> Vec<bool> {
    let mut touched = vec![false; program.buffers.len()];
    let mut steps = steps.to_vec();
    crate::ir::loops::steps::each_section(&mut steps, &mut |section| touched[section.buffer as usize] = true);
    touched
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::loops::build::KernelBuilder;
    use crate::ir::loops::{Affine, BufferUse, Call, Kernel, verify};
    use crate::ir::scalar::ScalarFunction;

    fn doubles() -> Kernel {
        let mut k = KernelBuilder::new();
        let source = k.buffer("source", DType::F32, 1, BufferUse::Read);
        let target = k.buffer("target", DType::F32, 1, BufferUse::Write);
        k.finish("double", None, |b| {
            let value = b.load(source, Affine::constant(0));
            let twice = b.map(ScalarFunction::Add, &[value, value]);
            b.store(target, Affine::constant(0), twice);
        })
    }

    /// Arguments 0 (which stays) and 1, and result 2; calls between buffers.
    fn program(calls: &[[u32; 2]]) -> Program {
        let place = |number: u32| match number {
            0..3 => Place::Argument { index: number },
            _ => Place::Arena { offset: None },
        };
        let buffer = |n: u32| Buffer { name: format!("b{n}"), dtype: DType::F32, elements: 1, place: place(n) };
        Program {
            name: "p".into(),
            buffers: (0..6).map(buffer).collect(),
            kernels: vec![doubles()],
            steps: calls.iter().map(|b| Step::Call(Call::on_whole(0, *b))).collect(),
            pointers: 3,
            arena_bytes: 0,
        }
    }

    fn calls(program: &Program) -> Vec<Vec<u32>> {
        let all = crate::ir::loops::steps::calls(&program.steps);
        all.into_iter().map(|call| call.buffers.iter().map(|s| s.buffer).collect()).collect()
    }

    #[test]
    fn what_hangs_on_arguments_that_stay_is_made_ahead() {
        let split = split(&program(&[[1, 3], [0, 4], [4, 5], [3, 2], [5, 2]]), |index| index == 0).unwrap();
        assert_eq!(calls(&split.ahead), [[0, 4], [4, 5]]);
        assert_eq!(calls(&split.rest), [[1, 3], [3, 2], [5, 2]]);
        assert_eq!((split.handed.as_slice(), split.rest.pointers), (&[(DType::F32, 1)][..], 4));
        for program in [&split.ahead, &split.rest] {
            verify::program(&crate::passes::plan_memory::plan(program.clone())).unwrap();
        }
    }

    #[test]
    fn results_and_what_others_write_stay_in_every_call() {
        assert!(split(&program(&[[0, 2], [1, 2]]), |index| index == 0).is_none());
        assert!(split(&program(&[[0, 3], [1, 3], [3, 2]]), |index| index == 0).is_none());
        assert!(split(&program(&[[1, 3], [3, 2]]), |index| index == 0).is_none());
    }
}
