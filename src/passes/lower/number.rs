//! Numbers the variables, values and buffers of a kernel in the order in which they occur, so that equal work is equal data.

use rustc_hash::FxHashMap;

use super::finish::Draft;
use super::visit::{Touch, Visitor, walk};
use crate::ir::loops::{Affine, BufferId, BufferParameter, BufferUse, Kernel, LoopVar, Value};
use crate::ir::types::DType;

/// The kernel with canonical numbers and buffer names, without unused buffers, every buffer's use as found.
pub fn renumber(draft: Draft) -> Draft {
    let Draft { mut kernel, buffers } = draft;
    let mut numbers = Numbers::default();
    if let Some(parallel) = &mut kernel.parallel {
        numbers.variable(&mut parallel.var);
    }
    walk(&mut kernel.body, &mut numbers);
    let mut values = vec![DType::Bool; numbers.values.len()];
    for (old, new) in &numbers.values {
        values[new.0 as usize] = kernel.values[old.0 as usize];
    }
    let mut parameters = Vec::new();
    let mut counts = [0usize; 3];
    for (old, uses) in &numbers.order {
        let (usage, name, kind) = match uses {
            (true, true) => (BufferUse::Update, "both", 2),
            (false, true) => (BufferUse::Write, "out", 1),
            _ => (BufferUse::Read, "in", 0),
        };
        let parameter = &kernel.buffers[old.0 as usize];
        parameters.push(BufferParameter { name: format!("{name}{}", counts[kind]), usage, ..parameter.clone() });
        counts[kind] += 1;
    }
    let buffers = numbers.order.iter().map(|(old, _)| buffers[old.0 as usize].clone()).collect();
    let variables = numbers.variables.len() as u32;
    Draft { kernel: Kernel { buffers: parameters, values, variables, ..kernel }, buffers }
}

#[derive(Default)]
struct Numbers {
    values: FxHashMap<Value, Value>,
    variables: FxHashMap<LoopVar, LoopVar>,
    buffers: FxHashMap<BufferId, BufferId>,
    /// Old numbers in new order, each with whether it is read and whether it is written.
    order: Vec<(BufferId, (bool, bool))>,
}

impl Visitor for Numbers {
    fn affine(&mut self, affine: &mut Affine) {
        // A variable that no loop around binds any more cannot occur: addresses use only variables in scope.
        let renamed = std::mem::take(&mut affine.terms);
        *affine =
            renamed.into_iter().fold(Affine::constant(affine.constant), |a, (var, c)| a.plus(self.variables[&var], c));
    }

    fn buffer(&mut self, buffer: &mut BufferId, touch: Touch) {
        let next = BufferId(self.order.len() as u32);
        let new = *self.buffers.entry(*buffer).or_insert(next);
        if new == next {
            self.order.push((*buffer, (false, false)));
        }
        let uses = &mut self.order[new.0 as usize].1;
        match touch.writes() {
            true => uses.1 = true,
            false => uses.0 = true,
        }
        *buffer = new;
    }

    fn definition(&mut self, value: &mut Value) {
        let next = Value(self.values.len() as u32);
        *value = *self.values.entry(*value).or_insert(next);
    }

    fn operand(&mut self, value: &mut Value) {
        self.definition(value);
    }

    fn variable(&mut self, var: &mut LoopVar) {
        let next = LoopVar(self.variables.len() as u32);
        *var = *self.variables.entry(*var).or_insert(next);
    }
}
