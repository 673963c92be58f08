//! The kernels of a program as they come, equal ones kept once.

use std::collections::HashMap;

use super::finish::{Draft, finish};
use crate::ir::loops::{Call, Kernel};

/// The kernels of a program, equal ones once, and the calls of them.
#[derive(Debug, Default)]
pub struct Shared {
    pub kernels: Vec<Kernel>,
    pub calls: Vec<Call>,
    numbers: HashMap<Kernel, u32>,
    names: HashMap<String, u32>,
}

impl Shared {
    /// Finishes a kernel and calls it; `name` is its name, or the stem of it if another kernel has that name.
    pub fn call(&mut self, draft: Draft, name: &str) {
        let Draft { mut kernel, buffers } = finish(draft);
        kernel.name = name.to_string();
        let number = match self.numbers.get(&kernel) {
            Some(number) => *number,
            None => {
                let number = self.kernels.len() as u32;
                self.numbers.insert(kernel.clone(), number);
                let count = self.names.entry(name.to_string()).or_insert(0);
                *count += 1;
                if *count > 1 {
                    kernel.name = format!("{name}_{count}");
                }
                self.kernels.push(kernel);
                number
            }
        };
        self.calls.push(Call { kernel: number, buffers });
    }
}
