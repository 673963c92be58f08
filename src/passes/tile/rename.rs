//! Copies of an epilogue with values and variables of their own, at another place.

use rustc_hash::FxHashMap;

use crate::ir::loops::{Affine, Block, Kernel, LoopVar, Value};
use crate::passes::lower::visit::{Visitor, walk};

/// A copy of `block` whose values are fresh in `kernel`, with `values` and `variables` replaced.
pub fn copy(kernel: &mut Kernel, block: &Block, values: &[(Value, Value)], variables: &[(LoopVar, Affine)]) -> Block {
    let mut copied = block.clone();
    let mut rename = Rename { kernel, values: values.iter().copied().collect(), variables };
    walk(&mut copied, &mut rename);
    copied
}

struct Rename<'a> {
    kernel: &'a mut Kernel,
    values: FxHashMap<Value, Value>,
    variables: &'a [(LoopVar, Affine)],
}

impl Visitor for Rename<'_> {
    fn affine(&mut self, affine: &mut Affine) {
        let replaced = |var: LoopVar| self.variables.iter().find(|(v, _)| *v == var).map(|(_, a)| a);
        *affine =
            affine.terms.iter().fold(Affine::constant(affine.constant), |sum, (var, factor)| match replaced(*var) {
                Some(other) => sum.sum(&other.times(*factor)),
                None => sum.plus(*var, *factor),
            });
    }

    fn definition(&mut self, value: &mut Value) {
        let dtype = self.kernel.values[value.0 as usize];
        let fresh = fresh_value(self.kernel, dtype);
        self.values.insert(*value, fresh);
        *value = fresh;
    }

    fn operand(&mut self, value: &mut Value) {
        if let Some(new) = self.values.get(value) {
            *value = *new;
        }
    }
}

/// A value that is new in a kernel.
pub fn fresh_value(kernel: &mut Kernel, dtype: crate::ir::types::DType) -> Value {
    kernel.values.push(dtype);
    Value(kernel.values.len() as u32 - 1)
}

/// A variable that is new in a kernel.
pub fn fresh_variable(kernel: &mut Kernel) -> LoopVar {
    kernel.variables += 1;
    LoopVar(kernel.variables - 1)
}
