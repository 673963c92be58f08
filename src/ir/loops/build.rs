//! Writing kernels: a builder that numbers values and variables and keeps blocks nested.

use super::*;
use crate::ir::scalar::ScalarFunction;

/// What is shared by all blocks of the kernel being written.
#[derive(Debug, Default)]
pub struct KernelState {
    values: Vec<DType>,
    variables: u32,
    buffers: Vec<BufferParameter>,
}

/// Writes the body of one kernel.
#[derive(Debug, Default)]
pub struct KernelBuilder {
    state: KernelState,
}

/// Writes one block; nested blocks are written through closures.
pub struct BlockBuilder<'a> {
    state: &'a mut KernelState,
    instructions: Vec<Instruction>,
}

impl KernelBuilder {
    /// An empty kernel.
    pub fn new() -> Self {
        Self::default()
    }

    /// A builder with the values, variables and buffers of `kernel`, for a pass that writes its body anew.
    pub fn resume(kernel: &Kernel) -> Self {
        let Kernel { values, variables, buffers, .. } = kernel.clone();
        KernelBuilder { state: KernelState { values, variables, buffers } }
    }

    /// Declares the next buffer parameter.
    pub fn buffer(&mut self, name: impl Into<String>, dtype: DType, elements: u64, usage: BufferUse) -> BufferId {
        self.state.buffers.push(BufferParameter { name: name.into(), dtype: dtype.storage(), elements, usage });
        BufferId(self.state.buffers.len() as u32 - 1)
    }

    /// A fresh loop variable, for the parallel loop.
    pub fn variable(&mut self) -> LoopVar {
        self.state.variables += 1;
        LoopVar(self.state.variables - 1)
    }

    /// Writes the body and finishes the kernel.
    pub fn finish(
        mut self,
        name: impl Into<String>,
        parallel: Option<ParallelLoop>,
        write: impl FnOnce(&mut BlockBuilder<'_>),
    ) -> Kernel {
        let mut block = BlockBuilder { state: &mut self.state, instructions: Vec::new() };
        write(&mut block);
        let body = Block { instructions: block.instructions };
        let KernelState { values, variables, buffers } = self.state;
        Kernel { name: name.into(), buffers, parallel, body, values, variables }
    }
}

impl BlockBuilder<'_> {
    /// A fresh value of `dtype`, to be defined by an instruction or a loop.
    pub fn value(&mut self, dtype: DType) -> Value {
        self.state.values.push(dtype.storage());
        Value(self.state.values.len() as u32 - 1)
    }

    /// The dtype of a value.
    pub fn dtype(&self, value: Value) -> DType {
        self.state.values[value.0 as usize]
    }

    /// A fresh loop variable.
    pub fn variable(&mut self) -> LoopVar {
        self.state.variables += 1;
        LoopVar(self.state.variables - 1)
    }

    /// Declares one more buffer parameter.
    pub fn buffer(&mut self, name: impl Into<String>, dtype: DType, elements: u64, usage: BufferUse) -> BufferId {
        self.state.buffers.push(BufferParameter { name: name.into(), dtype: dtype.storage(), elements, usage });
        BufferId(self.state.buffers.len() as u32 - 1)
    }

    /// Makes the last instruction, a `Map`, `Convert` or `Bitcast`, define `result` instead of a fresh value.
    /// For passes that write an instruction anew whose result others use.
    pub fn define_last_as(&mut self, value: Value) {
        if let Some(
            Instruction::Map { result, .. } | Instruction::Convert { result, .. } | Instruction::Bitcast { result, .. },
        ) = self.instructions.last_mut()
        {
            *result = value;
        }
    }

    /// Appends an instruction.
    pub fn push(&mut self, instruction: Instruction) {
        self.instructions.push(instruction);
    }

    /// A constant; the value is given as `f64` for every dtype.
    pub fn constant(&mut self, dtype: DType, value: f64) -> Value {
        let result = self.value(dtype);
        self.push(Instruction::Constant { result, value: ConstantBits(value.to_bits()) });
        result
    }

    /// The `i32` value of an index expression.
    pub fn index(&mut self, index: Affine) -> Value {
        let result = self.value(DType::I32);
        self.push(Instruction::Index { result, index });
        result
    }

    /// A scalar function applied to values; the result's dtype follows from the function and the operands.
    pub fn map(&mut self, function: ScalarFunction, operands: &[Value]) -> Value {
        let dtypes: Vec<DType> = operands.iter().map(|v| self.dtype(*v)).collect();
        let result = self.value(function.result_dtype(&dtypes));
        self.push(Instruction::Map { result, function, operands: operands.to_vec() });
        result
    }

    /// The value as another dtype; the value itself if it has that dtype already.
    pub fn convert(&mut self, operand: Value, dtype: DType) -> Value {
        if self.dtype(operand) == dtype.storage() {
            return operand;
        }
        let result = self.value(dtype);
        self.push(Instruction::Convert { result, operand });
        result
    }

    /// The same bits as another dtype.
    pub fn bitcast(&mut self, operand: Value, dtype: DType) -> Value {
        let result = self.value(dtype);
        self.push(Instruction::Bitcast { result, operand });
        result
    }

    /// One of four constants of a dtype of four bytes, by the last two bits of an `i32`.
    pub fn one_of(&mut self, index: Value, dtype: DType, table: [f64; 4]) -> Value {
        let result = self.value(dtype);
        self.push(Instruction::OneOf { result, index, table: table.map(|entry| ConstantBits(entry.to_bits())) });
        result
    }

    /// A load; the result has the buffer's dtype.
    pub fn load(&mut self, buffer: BufferId, address: Affine) -> Value {
        let result = self.value(self.state.buffers[buffer.0 as usize].dtype);
        self.push(Instruction::Load { result, buffer, address });
        result
    }

    /// A load at `address + index · stride`, the index below `extent`; the result has the buffer's dtype.
    pub fn load_at(&mut self, buffer: BufferId, address: Affine, index: Value, (stride, extent): (i64, u64)) -> Value {
        let result = self.value(self.state.buffers[buffer.0 as usize].dtype);
        self.push(Instruction::LoadAt { result, buffer, address, index, stride, extent });
        result
    }

    /// A store at `address + index · stride`, the index below `extent`.
    pub fn store_at(
        &mut self,
        buffer: BufferId,
        address: Affine,
        index: Value,
        (stride, extent): (i64, u64),
        value: Value,
    ) {
        self.push(Instruction::StoreAt { buffer, address, index, stride, extent, value });
    }

    /// A store.
    pub fn store(&mut self, buffer: BufferId, address: Affine, value: Value) {
        self.push(Instruction::Store { buffer, address, value });
    }

    /// Writes a nested block.
    pub fn block(&mut self, write: impl FnOnce(&mut BlockBuilder<'_>)) -> Block {
        let mut inner = BlockBuilder { state: self.state, instructions: Vec::new() };
        write(&mut inner);
        Block { instructions: inner.instructions }
    }

    /// A serial loop without carried values.
    pub fn for_each(&mut self, extent: u64, write: impl FnOnce(&mut BlockBuilder<'_>, LoopVar)) {
        let var = self.variable();
        let body = self.block(|b| write(b, var));
        self.push(Instruction::For { var, extent, carried: Vec::new(), body });
    }

    /// A serial loop with carried values; `write` returns the next value of each. Returns the last ones.
    pub fn for_carried(
        &mut self,
        extent: u64,
        initial: &[Value],
        write: impl FnOnce(&mut BlockBuilder<'_>, LoopVar, &[Value]) -> Vec<Value>,
    ) -> Vec<Value> {
        let var = self.variable();
        let parameters: Vec<Value> = initial.iter().map(|v| self.value(self.dtype(*v))).collect();
        let mut next = Vec::new();
        let body = self.block(|b| next = write(b, var, &parameters));
        let carried: Vec<Carried> = (0..initial.len())
            .map(|i| Carried {
                initial: initial[i],
                parameter: parameters[i],
                next: next[i],
                result: self.value(self.dtype(initial[i])),
            })
            .collect();
        let results = carried.iter().map(|c| c.result).collect();
        self.push(Instruction::For { var, extent, carried, body });
        results
    }

    /// A vector loop.
    pub fn lanes(&mut self, extent: u64, write: impl FnOnce(&mut BlockBuilder<'_>, LoopVar)) {
        let var = self.variable();
        let body = self.block(|b| write(b, var));
        self.push(Instruction::Lanes { var, extent, body });
    }

    /// A horizontal reduction. `element` writes one round and returns its values, `merge` joins two partial results.
    /// `neutral` gives the dtype and the neutral element of each accumulator. Returns the scalars.
    pub fn fold(
        &mut self,
        extent: u64,
        neutral: &[(DType, f64)],
        element: impl FnOnce(&mut BlockBuilder<'_>, LoopVar) -> Vec<Value>,
        merge: impl FnOnce(&mut BlockBuilder<'_>, &[Value], &[Value]) -> Vec<Value>,
    ) -> Vec<Value> {
        let var = self.variable();
        let mut elements = Vec::new();
        let body = self.block(|b| elements = element(b, var));
        let left: Vec<Value> = neutral.iter().map(|(d, _)| self.value(*d)).collect();
        let right: Vec<Value> = neutral.iter().map(|(d, _)| self.value(*d)).collect();
        let mut merged = Vec::new();
        let merge = self.block(|b| merged = merge(b, &left, &right));
        let accumulators: Vec<Accumulator> = (0..neutral.len())
            .map(|i| Accumulator {
                initial: ConstantBits(neutral[i].1.to_bits()),
                element: elements[i],
                left: left[i],
                right: right[i],
                merged: merged[i],
                result: self.value(neutral[i].0),
            })
            .collect();
        let results = accumulators.iter().map(|a| a.result).collect();
        self.push(Instruction::Fold { var, extent, body, accumulators, merge });
        results
    }
}

impl Affine {
    /// A constant address.
    pub fn constant(constant: i64) -> Affine {
        Affine { constant, terms: Vec::new() }
    }

    /// `coefficient · var`.
    pub fn scaled(var: LoopVar, coefficient: i64) -> Affine {
        Affine::constant(0).plus(var, coefficient)
    }

    /// `self + coefficient · var`.
    pub fn plus(mut self, var: LoopVar, coefficient: i64) -> Affine {
        match self.terms.binary_search_by_key(&var, |t| t.0) {
            Ok(at) => {
                self.terms[at].1 += coefficient;
                if self.terms[at].1 == 0 {
                    self.terms.remove(at);
                }
            }
            Err(at) if coefficient != 0 => self.terms.insert(at, (var, coefficient)),
            Err(_) => {}
        }
        self
    }

    /// `self + offset`.
    pub fn offset(mut self, offset: i64) -> Affine {
        self.constant += offset;
        self
    }

    /// The sum of two expressions.
    pub fn sum(self, other: &Affine) -> Affine {
        other.terms.iter().fold(self.offset(other.constant), |a, (v, c)| a.plus(*v, *c))
    }

    /// `factor · self`.
    pub fn times(&self, factor: i64) -> Affine {
        self.terms.iter().fold(Affine::constant(self.constant * factor), |a, (v, c)| a.plus(*v, c * factor))
    }

    /// The coefficient of `var`.
    pub fn coefficient(&self, var: LoopVar) -> i64 {
        self.terms.iter().find(|(v, _)| *v == var).map_or(0, |(_, c)| *c)
    }
}
