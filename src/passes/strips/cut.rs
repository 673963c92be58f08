//! One strip of a kernel.

use super::slices::{Motion, Slices};
use crate::ir::loops::{Block, Instruction, Kernel, LoopVar};

/// What the kernel does in one of `rounds` strips, and for each buffer how far its section moves from strip to strip.
pub fn strip(kernel: &Kernel, slices: &Slices, rounds: u64) -> (Kernel, Vec<i64>) {
    let extent = slices.rounds.extent / rounds;
    let distance = |motion: &Motion| match motion {
        Motion::Still => 0,
        Motion::Forward(step) => step * extent,
    };
    let distances: Vec<u64> = slices.rounds.motions.iter().map(distance).collect();
    let mut strip = kernel.clone();
    for (parameter, distance) in strip.buffers.iter_mut().zip(&distances) {
        // The last strip ends where the whole did.
        parameter.elements -= distance * (rounds - 1);
    }
    match &strip.parallel {
        Some(parallel) if parallel.var == slices.rounds.var => {
            let body = std::mem::take(&mut strip.body);
            let all = Instruction::For { var: slices.rounds.var, extent, carried: Vec::new(), body };
            strip.body = Block { instructions: vec![all] };
            strip.parallel = None;
        }
        _ => shorten(&mut strip.body, slices.rounds.var, extent),
    }
    (strip, distances.into_iter().map(|d| d as i64).collect())
}

/// Gives the loop of a variable another extent.
fn shorten(block: &mut Block, var: LoopVar, rounds: u64) {
    for instruction in &mut block.instructions {
        match instruction {
            Instruction::For { var: own, extent, .. } if *own == var => *extent = rounds,
            Instruction::For { body, .. } | Instruction::Lanes { body, .. } => shorten(body, var, rounds),
            _ => {}
        }
    }
}
