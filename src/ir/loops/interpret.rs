//! Runs kernels in the machine's own arithmetic: f32 as f32, fused multiply-adds rounded once, sums in the documented order.
//!
//! Compiled code must agree with it bit for bit (the bits of a NaN excepted), which is how backends are tested. Functions
//! that `expand_math` writes out may still be there; they are computed in f64 and rounded.

use rustc_hash::FxHashMap;

use super::*;

mod number;

use number::Number;

/// An access outside a buffer, or a dtype that has no arithmetic.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("kernel `{kernel}`: {message}")]
pub struct Fault {
    pub kernel: String,
    pub message: String,
}

type Run<T = ()> = Result<T, String>;

/// Where a buffer lies: a region of memory and its first byte in it.
pub type Location = (usize, usize);

/// Runs a valid kernel for `begin..end` of its parallel variable (once if it has none), with buffers in `memory`.
pub fn kernel(
    kernel: &Kernel,
    memory: &mut [Vec<u8>],
    buffers: &[Location],
    begin: u64,
    end: u64,
) -> Result<(), Fault> {
    let mut machine = Machine {
        kernel,
        memory,
        buffers,
        values: vec![Number::Int(0); kernel.values.len()],
        variables: vec![0; kernel.variables as usize],
    };
    machine.run(begin, end).map_err(|message| Fault { kernel: kernel.name.clone(), message })
}

/// Runs a valid program; `arguments` are the bytes that its pointers point to. Arena buffers without an offset lie apart.
pub fn program(program: &Program, arguments: &mut [Vec<u8>]) -> Result<(), Fault> {
    let mut memory: Vec<Vec<u8>> = arguments.iter_mut().map(std::mem::take).collect();
    let arena = memory.len();
    memory.push(vec![0; program.arena_bytes as usize]);
    let mut locations = Vec::new();
    for buffer in &program.buffers {
        locations.push(match &buffer.place {
            Place::Argument { index } => (*index as usize, 0),
            Place::Arena { offset: Some(offset) } => (arena, *offset as usize),
            Place::Arena { offset: None } => {
                memory.push(vec![0; buffer.elements as usize * buffer.dtype.bytes()]);
                (memory.len() - 1, 0)
            }
            Place::Constant { bytes } => {
                memory.push(bytes.clone());
                (memory.len() - 1, 0)
            }
        });
    }
    let mut runner = Runner { program, memory, locations, variables: FxHashMap::default() };
    let result = runner.steps(&program.steps);
    let memory = runner.memory;
    for (argument, bytes) in arguments.iter_mut().zip(memory) {
        *argument = bytes;
    }
    result
}

/// A program being run.
struct Runner<'p> {
    program: &'p Program,
    memory: Vec<Vec<u8>>,
    locations: Vec<Location>,
    /// The variables of the repeats around.
    variables: FxHashMap<LoopVar, i64>,
}

impl Runner<'_> {
    fn steps(&mut self, steps: &[Step]) -> Result<(), Fault> {
        steps.iter().try_for_each(|step| match step {
            Step::Call(call) => self.call(call),
            Step::Index { target, index } => {
                let (region, at) = self.location(target);
                let value = self.affine(index) as i32;
                self.memory[region][at..at + 4].copy_from_slice(&value.to_le_bytes());
                Ok(())
            }
            Step::Repeat(repeat) => (0..repeat.count as i64).try_for_each(|round| {
                let value = if repeat.reverse { repeat.count as i64 - 1 - round } else { round };
                self.variables.insert(repeat.var, value);
                self.steps(&repeat.steps)
            }),
        })
    }

    fn call(&mut self, call: &Call) -> Result<(), Fault> {
        let called = &self.program.kernels[call.kernel as usize];
        let buffers: Vec<Location> = call.buffers.iter().map(|s| self.location(s)).collect();
        kernel(called, &mut self.memory, &buffers, 0, called.parallel.as_ref().map_or(1, |p| p.extent))
    }

    fn location(&self, section: &Section) -> Location {
        let (region, at) = self.locations[section.buffer as usize];
        let bytes = self.program.buffers[section.buffer as usize].dtype.bytes() as i64;
        (region, (at as i64 + self.affine(&section.offset) * bytes) as usize)
    }

    fn affine(&self, affine: &Affine) -> i64 {
        affine.terms.iter().map(|(var, factor)| self.variables[var] * factor).sum::<i64>() + affine.constant
    }
}

struct Machine<'a> {
    kernel: &'a Kernel,
    memory: &'a mut [Vec<u8>],
    buffers: &'a [Location],
    values: Vec<Number>,
    variables: Vec<i64>,
}

impl Machine<'_> {
    fn run(&mut self, begin: u64, end: u64) -> Run {
        let kernel = self.kernel;
        match &kernel.parallel {
            None => self.block(&kernel.body),
            Some(parallel) => (begin..end).try_for_each(|round| {
                let i = if parallel.reverse { begin + end - 1 - round } else { round };
                self.set_variable(parallel.var, i);
                self.block(&kernel.body)
            }),
        }
    }

    fn set_variable(&mut self, var: LoopVar, value: u64) {
        self.variables[var.0 as usize] = value as i64;
    }

    fn get(&self, value: Value) -> Number {
        self.values[value.0 as usize]
    }

    fn set(&mut self, value: Value, number: Number) {
        self.values[value.0 as usize] = number;
    }

    fn dtype(&self, value: Value) -> DType {
        self.kernel.values[value.0 as usize]
    }

    fn affine(&self, affine: &Affine) -> i64 {
        let term = |(var, factor): &(LoopVar, i64)| self.variables[var.0 as usize].wrapping_mul(*factor);
        affine.terms.iter().map(term).fold(affine.constant, i64::wrapping_add)
    }

    /// The bytes of an element.
    fn bytes(&mut self, buffer: BufferId, element: i64) -> Run<&mut [u8]> {
        let parameter = &self.kernel.buffers[buffer.0 as usize];
        if element < 0 || element as u64 >= parameter.elements {
            return Err(format!("element {element} of `{}`, which has {}", parameter.name, parameter.elements));
        }
        let (region, start) = self.buffers[buffer.0 as usize];
        let size = parameter.dtype.bytes();
        let at = start + element as usize * size;
        let region = &mut self.memory[region];
        region.get_mut(at..at + size).ok_or_else(|| format!("`{}` reaches beyond its memory", parameter.name))
    }

    fn load(&mut self, buffer: BufferId, element: i64) -> Run<Number> {
        let dtype = self.kernel.buffers[buffer.0 as usize].dtype;
        Ok(Number::from_bytes(dtype, self.bytes(buffer, element)?))
    }

    fn store(&mut self, buffer: BufferId, element: i64, number: Number) -> Run {
        let dtype = self.kernel.buffers[buffer.0 as usize].dtype;
        number.write(dtype, self.bytes(buffer, element)?);
        Ok(())
    }

    /// The distance that an index goes.
    fn step(&self, index: Value, stride: i64, extent: u64) -> Run<i64> {
        let index = self.get(index).integer();
        match u64::try_from(index) {
            Ok(inside) if inside < extent => Ok(index.wrapping_mul(stride)),
            _ => Err(format!("the index {index} is not below {extent}")),
        }
    }

    fn block(&mut self, block: &Block) -> Run {
        block.instructions.iter().try_for_each(|i| self.instruction(i))
    }

    fn instruction(&mut self, instruction: &Instruction) -> Run {
        match instruction {
            Instruction::Constant { result, value } => {
                let number = Number::constant(self.dtype(*result), f64::from_bits(value.0));
                self.set(*result, number);
            }
            Instruction::Index { result, index } => {
                let number = Number::Int(i64::from(self.affine(index) as i32));
                self.set(*result, number);
            }
            Instruction::Map { result, function, operands } => {
                let numbers: Vec<Number> = operands.iter().map(|o| self.get(*o)).collect();
                let dtype = self.dtype(operands[operands.len() - 1]);
                self.set(*result, number::apply(*function, dtype, &numbers));
            }
            Instruction::Convert { result, operand } => {
                let number = self.get(*operand).convert(self.dtype(*result));
                self.set(*result, number);
            }
            Instruction::Bitcast { result, operand } => {
                let mut bytes = [0; 8];
                self.get(*operand).write(self.dtype(*operand), &mut bytes);
                let dtype = self.dtype(*result);
                let number = Number::from_bytes(dtype, &bytes[..dtype.bytes()]);
                self.set(*result, number);
            }
            Instruction::OneOf { result, index, table } => {
                let entry = table[(self.get(*index).integer() & 3) as usize];
                let number = Number::constant(self.dtype(*result), f64::from_bits(entry.0));
                self.set(*result, number);
            }
            Instruction::Load { result, buffer, address } => {
                let number = self.load(*buffer, self.affine(address))?;
                self.set(*result, number);
            }
            Instruction::LoadAt { result, buffer, address, index, stride, extent } => {
                let step = self.step(*index, *stride, *extent)?;
                let number = self.load(*buffer, self.affine(address).wrapping_add(step))?;
                self.set(*result, number);
            }
            Instruction::StoreAt { buffer, address, index, stride, extent, value } => {
                let step = self.step(*index, *stride, *extent)?;
                self.store(*buffer, self.affine(address).wrapping_add(step), self.get(*value))?;
            }
            Instruction::Store { buffer, address, value } => {
                self.store(*buffer, self.affine(address), self.get(*value))?;
            }
            Instruction::For { var, extent, carried, body } => self.for_loop(*var, *extent, carried, body)?,
            Instruction::Lanes { var, extent, body } => {
                for i in 0..*extent {
                    self.set_variable(*var, i);
                    self.block(body)?;
                }
            }
            Instruction::Fold { var, extent, body, accumulators, merge } => {
                self.fold(*var, *extent, body, accumulators, merge)?;
            }
            Instruction::Contract(contract) => self.contract(contract)?,
            Instruction::Tile(tile) => self.tile(tile)?,
        }
        Ok(())
    }

    fn for_loop(&mut self, var: LoopVar, extent: u64, carried: &[Carried], body: &Block) -> Run {
        let mut now: Vec<Number> = carried.iter().map(|c| self.get(c.initial)).collect();
        for i in 0..extent {
            self.set_variable(var, i);
            for (c, number) in carried.iter().zip(&now) {
                self.set(c.parameter, *number);
            }
            self.block(body)?;
            now = carried.iter().map(|c| self.get(c.next)).collect();
        }
        for (c, number) in carried.iter().zip(now) {
            self.set(c.result, number);
        }
        Ok(())
    }

    fn fold(&mut self, var: LoopVar, extent: u64, body: &Block, accumulators: &[Accumulator], merge: &Block) -> Run {
        let neutral = accumulators
            .iter()
            .map(|a| Number::constant(self.dtype(a.result), f64::from_bits(a.initial.0)))
            .collect::<Vec<Number>>();
        let mut lanes = vec![neutral; 16];
        for i in 0..extent {
            self.set_variable(var, i);
            self.block(body)?;
            let elements: Vec<Number> = accumulators.iter().map(|a| self.get(a.element)).collect();
            let lane = (i % 16) as usize;
            lanes[lane] = self.merge(accumulators, merge, &lanes[lane], &elements)?;
        }
        for half in [8, 4, 2, 1] {
            for lane in 0..half {
                lanes[lane] = self.merge(accumulators, merge, &lanes[lane], &lanes[lane + half])?;
            }
        }
        for (a, number) in accumulators.iter().zip(&lanes[0]) {
            self.set(a.result, *number);
        }
        Ok(())
    }

    fn merge(&mut self, all: &[Accumulator], merge: &Block, left: &[Number], right: &[Number]) -> Run<Vec<Number>> {
        for (i, a) in all.iter().enumerate() {
            self.set(a.left, left[i]);
            self.set(a.right, right[i]);
        }
        self.block(merge)?;
        Ok(all.iter().map(|a| self.get(a.merged)).collect())
    }

    fn contract(&mut self, c: &Contract) -> Run {
        for row in 0..c.rows {
            self.set_variable(c.row, row);
            for column in 0..c.columns {
                self.set_variable(c.column, column);
                let axes = summed_axes(&c.left, &c.right, &c.rounds, c.depth);
                let sum = self.product((&c.left, row), (&c.right, column), &axes, c.cut)?;
                self.set(c.accumulator, sum);
                self.block(&c.epilogue)?;
            }
        }
        Ok(())
    }

    fn tile(&mut self, t: &Tile) -> Run {
        for row in 0..t.rows {
            for column in 0..t.stored_columns {
                let axes = summed_axes(&t.left, &t.right, &t.rounds, t.depth);
                let sum = self.product((&t.left, row), (&t.right, column), &axes, t.cut)?;
                self.set_variable(t.row, row);
                self.set_variable(t.column, column);
                self.set(t.accumulator, sum);
                self.block(&t.epilogue)?;
            }
        }
        Ok(())
    }

    /// The products of a row and a column, summed in blocks.
    fn product(
        &mut self,
        (left, row): (&Matrix, u64),
        (right, column): (&Matrix, u64),
        axes: &[Round],
        cut: Option<Cut>,
    ) -> Run<Number> {
        let at = (
            self.affine(&left.address) + row as i64 * left.row_stride,
            self.affine(&right.address) + column as i64 * right.column_stride,
        );
        let cut = cut.map(|c| (axes.len() - c.level, c.size));
        let zero = Number::constant(self.kernel.buffers[left.buffer.0 as usize].dtype, 0.0);
        self.steps((left.buffer, right.buffer), axes, cut, at, zero)
    }

    /// `sum` and all steps of the summed axes, or at the axis that is cut (so many axes from the last) the sum of each block from 0.
    fn steps(
        &mut self,
        buffers: (BufferId, BufferId),
        axes: &[Round],
        cut: Option<(usize, u64)>,
        at: (i64, i64),
        mut sum: Number,
    ) -> Run<Number> {
        let dtype = self.kernel.buffers[buffers.0.0 as usize].dtype;
        let Some((axis, rest)) = axes.split_first() else {
            let (a, b) = (self.load(buffers.0, at.0)?, self.load(buffers.1, at.1)?);
            return Ok(number::apply(ScalarFunction::Fma, dtype, &[a, b, sum]));
        };
        let size = cut.filter(|c| c.0 == axes.len()).map(|c| c.1);
        let mut total = None;
        for i in 0..axis.count {
            if size.is_some_and(|size| i % size == 0) {
                total = Some(total.map_or(sum, |t| number::apply(ScalarFunction::Add, dtype, &[t, sum])));
                sum = Number::constant(dtype, 0.0);
            }
            let at = (at.0 + i as i64 * axis.left_stride, at.1 + i as i64 * axis.right_stride);
            sum = self.steps(buffers, rest, cut, at, sum)?;
        }
        Ok(total.map_or(sum, |t| number::apply(ScalarFunction::Add, dtype, &[t, sum])))
    }
}

/// All axes that a contraction sums over, the depth last.
fn summed_axes(left: &Matrix, right: &Matrix, rounds: &[Round], depth: u64) -> Vec<Round> {
    let depth = Round { count: depth, left_stride: left.column_stride, right_stride: right.row_stride };
    rounds.iter().cloned().chain([depth]).collect()
}
