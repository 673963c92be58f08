//! One strip of a kernel.

use super::slices::{Motion, Slices};
use crate::ir::loops::{Block, Instruction, Kernel};

/// What the kernel does in one of `rounds` strips, and for each buffer how far its section moves from strip to strip.
pub fn strip(kernel: &Kernel, slices: &Slices, rounds: u64) -> (Kernel, Vec<i64>) {
    let parallel = kernel.parallel.as_ref().expect("slices are those of a parallel loop");
    let extent = parallel.extent / rounds;
    let distance = |motion: &Motion| match motion {
        Motion::Still => 0,
        Motion::Forward(step) => step * extent,
    };
    let distances: Vec<u64> = slices.motions.iter().map(distance).collect();
    let mut strip = kernel.clone();
    for (parameter, distance) in strip.buffers.iter_mut().zip(&distances) {
        // The last strip ends where the whole did.
        parameter.elements -= distance * (rounds - 1);
    }
    let body = std::mem::take(&mut strip.body);
    let all = Instruction::For { var: parallel.var, extent, carried: Vec::new(), body };
    strip.body = Block { instructions: vec![all] };
    strip.parallel = None;
    (strip, distances.into_iter().map(|d| d as i64).collect())
}
