//! Where in a kernel its contraction stands.

use super::last_contract;
use crate::ir::loops::{Contract, Instruction, Kernel, LoopVar};

/// A loop around a contraction: its variable, its extent, and what is computed in it before the next one.
type Around = (LoopVar, u64, Vec<Instruction>);

/// The contraction of a kernel with the loops around it.
#[derive(Clone, Debug)]
pub struct Site {
    /// What is computed before any loop.
    pub before: Vec<Instruction>,
    /// The loops, outermost first; each list follows its loop's start.
    pub around: Vec<Around>,
    pub contract: Contract,
}

impl Site {
    /// The site of a kernel whose body is straight code, then loops around a contraction; no other kernel has one.
    pub fn find(kernel: &Kernel) -> Option<Site> {
        let mut around: Vec<Around> = Vec::new();
        let mut before = Vec::new();
        let mut block = &kernel.body;
        if let Some(parallel) = &kernel.parallel {
            around.push((parallel.var, parallel.extent, Vec::new()));
        }
        loop {
            let (straight, contract) = match last_contract(&block.instructions) {
                Some((straight, contract)) => (straight, Some(contract)),
                None => (block.instructions.split_last()?.1, None),
            };
            match around.last_mut() {
                Some(inner) => inner.2 = straight.to_vec(),
                None => before = straight.to_vec(),
            }
            if let Some(contract) = contract {
                return Some(Site { before, around, contract: contract.clone() });
            }
            let Some(Instruction::For { var, extent, carried, body }) = block.instructions.last() else { return None };
            if !carried.is_empty() {
                return None;
            }
            around.push((*var, *extent, Vec::new()));
            block = body;
        }
    }
}
