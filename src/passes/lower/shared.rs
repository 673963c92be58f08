//! The kernels of a program as they come, equal ones kept once.

use std::hash::BuildHasher;

use rustc_hash::{FxBuildHasher, FxHashMap};

use super::finish::{Draft, finish};
use crate::ir::loops::{Call, Kernel, LoopVar, Section, Step};

/// The kernels of a program, equal ones once, and the steps that call them.
#[derive(Debug)]
pub struct Shared {
    pub kernels: Vec<Kernel>,
    /// The steps of the program, then those of each repeat that is being written, outermost first.
    levels: Vec<Vec<Step>>,
    /// By the hash of their content, which is all but their names.
    numbers: FxHashMap<u64, Vec<u32>>,
    /// Kernels without their names as they were before they were finished, which takes longer than to compare them.
    finished: FxHashMap<Kernel, Finished>,
    /// By their numbers in the program that is written anew.
    known: FxHashMap<u32, u32>,
    names: FxHashMap<String, u32>,
    variables: u32,
}

/// A finished kernel by its number, and which of its parameters from before each of its parameters is.
#[derive(Clone, Debug)]
struct Finished {
    kernel: u32,
    order: Vec<u32>,
}

impl Default for Shared {
    fn default() -> Self {
        Shared {
            kernels: Vec::new(),
            levels: vec![Vec::new()],
            numbers: FxHashMap::default(),
            finished: FxHashMap::default(),
            known: FxHashMap::default(),
            names: FxHashMap::default(),
            variables: 0,
        }
    }
}

impl Shared {
    /// Finishes a kernel and calls it. If it is the first of its kind `name` is its name, or the stem of it where another kernel has that name.
    pub fn call(&mut self, draft: Draft, name: &str) {
        self.call_at(self.depth(), draft, name);
    }

    /// As [`Shared::call`], before whatever stands at a depth: 0 is outside of all repeats.
    pub fn call_at(&mut self, depth: usize, draft: Draft, name: &str) {
        let Draft { kernel, buffers } = draft;
        let raw = Kernel { name: String::new(), ..kernel };
        let Finished { kernel, order } = match self.finished.get(&raw) {
            Some(known) => known.clone(),
            None => self.finish_raw(raw, name),
        };
        let buffers = order.iter().map(|parameter| buffers[*parameter as usize].clone()).collect();
        self.levels[depth].push(Step::Call(Call { kernel, buffers }));
    }

    /// Finishes a kernel that has not been met before.
    fn finish_raw(&mut self, raw: Kernel, name: &str) -> Finished {
        let parameters = (0..raw.buffers.len() as u32).map(Section::whole).collect();
        let Draft { kernel, buffers } = finish(Draft { kernel: raw.clone(), buffers: parameters });
        let order = buffers.into_iter().map(|section| section.buffer).collect();
        let finished = Finished { kernel: self.number(kernel, name), order };
        self.finished.insert(raw, finished.clone());
        finished
    }

    /// Calls a kernel as it was finished in the program that is written anew, where it has the number of the call.
    pub fn call_again(&mut self, kernel: &Kernel, call: Call) {
        let number = match self.known.get(&call.kernel) {
            Some(number) => *number,
            None => {
                let number = self.number(kernel.clone(), &kernel.name);
                self.known.insert(call.kernel, number);
                number
            }
        };
        self.push(Step::Call(Call { kernel: number, buffers: call.buffers }));
    }

    /// The number of a finished kernel.
    fn number(&mut self, kernel: Kernel, name: &str) -> u32 {
        let alike = self.numbers.entry(content_hash(&kernel)).or_default();
        if let Some(number) = alike.iter().find(|n| self.kernels[**n as usize].computes_as(&kernel)) {
            return *number;
        }
        let number = self.kernels.len() as u32;
        let count = self.names.entry(name.to_string()).or_insert(0);
        *count += 1;
        let name = if *count > 1 { format!("{name}_{count}") } else { name.to_string() };
        self.kernels.push(Kernel { name, ..kernel });
        alike.push(number);
        number
    }

    /// Adds a step that calls nothing, or whose calls were written before.
    pub fn push(&mut self, step: Step) {
        let depth = self.depth();
        self.levels[depth].push(step);
    }

    /// A variable for a new repeat.
    pub fn variable(&mut self) -> LoopVar {
        self.variables += 1;
        LoopVar(self.variables - 1)
    }

    /// How many repeats are being written.
    pub fn depth(&self) -> usize {
        self.levels.len() - 1
    }

    /// From now on steps belong to one more repeat.
    pub fn enter(&mut self) {
        self.levels.push(Vec::new());
    }

    /// Ends the innermost repeat and returns its steps.
    pub fn leave(&mut self) -> Vec<Step> {
        self.levels.pop().expect("every `leave` follows its `enter`")
    }

    /// The kernels and the steps of the whole program.
    pub fn finish(mut self) -> (Vec<Kernel>, Vec<Step>) {
        let steps = self.leave();
        (self.kernels, steps)
    }
}

/// A hash of all of a kernel but its name.
fn content_hash(kernel: &Kernel) -> u64 {
    let Kernel { name: _, buffers, parallel, body, values, variables } = kernel;
    FxBuildHasher.hash_one((buffers, parallel, body, values, variables))
}
