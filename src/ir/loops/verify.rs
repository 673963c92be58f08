//! Checks the invariants of kernels and programs: SSA dominance, dtypes, variables in scope, addresses in range.
//!
//! Runs after every pass on loops; a failure is a bug of the pass before, never of the user's file.

use super::*;

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{place}` is invalid: {message}")]
pub struct Invalid {
    /// The kernel or program.
    pub place: String,
    /// What is wrong.
    pub message: String,
}

type Check = Result<(), String>;

/// Checks one kernel.
pub fn kernel(kernel: &Kernel) -> Result<(), Invalid> {
    Verifier::new(kernel).run().map_err(|message| Invalid { place: kernel.name.clone(), message })
}

/// Checks a program and all its kernels.
pub fn program(program: &Program) -> Result<(), Invalid> {
    program.kernels.iter().try_for_each(kernel)?;
    program_frame(program).map_err(|message| Invalid { place: program.name.clone(), message })
}

fn program_frame(program: &Program) -> Check {
    for (number, buffer) in program.buffers.iter().enumerate() {
        program_buffer(program, buffer).map_err(|m| format!("buffer {number} `{}` {m}", buffer.name))?;
    }
    for (number, call) in program.calls.iter().enumerate() {
        program_call(program, call).map_err(|m| format!("call {number} {m}"))?;
    }
    Ok(())
}

fn program_buffer(program: &Program, buffer: &Buffer) -> Check {
    require(buffer.dtype == buffer.dtype.storage(), || format!("has dtype {}, which memory never has", buffer.dtype))?;
    let bytes = buffer.elements.checked_mul(buffer.dtype.bytes() as u64).ok_or("is too large")?;
    match &buffer.place {
        Place::Argument { index } => {
            require(*index < program.pointers, || format!("is argument {index}, out of range"))
        }
        Place::Arena { offset: None } => Ok(()),
        Place::Arena { offset: Some(offset) } => {
            require(offset % 64 == 0, || format!("lies at {offset}, not a multiple of 64"))?;
            let end = offset.checked_add(bytes).ok_or("is too large")?;
            require(end <= program.arena_bytes, || "reaches beyond the arena".to_string())
        }
        Place::Constant { bytes: data } => {
            require(data.len() as u64 == bytes, || format!("holds {} bytes instead of {bytes}", data.len()))
        }
    }
}

fn program_call(program: &Program, call: &Call) -> Check {
    let kernel = program.kernels.get(call.kernel as usize).ok_or("names no kernel")?;
    require(kernel.buffers.len() == call.buffers.len(), || format!("passes {} buffers", call.buffers.len()))?;
    for (parameter, buffer) in kernel.buffers.iter().zip(&call.buffers) {
        let buffer = program.buffers.get(*buffer as usize).ok_or("passes a buffer that does not exist")?;
        let name = &parameter.name;
        require(parameter.dtype == buffer.dtype, || format!("passes {} for `{name}`", buffer.dtype))?;
        require(parameter.elements <= buffer.elements, || format!("passes too small a buffer for `{name}`"))?;
        let constant = matches!(buffer.place, Place::Constant { .. });
        require(parameter.usage == BufferUse::Read || !constant, || format!("writes the constant `{name}`"))?;
    }
    Ok(())
}

fn require(holds: bool, message: impl FnOnce() -> String) -> Check {
    if holds { Ok(()) } else { Err(message()) }
}

/// The lowest and highest value of an affine expression for variables counting up to their extents.
///
/// `None` if a variable is not in scope (its extent is `None`). An extent of 0 counts as 1.
pub fn affine_range(affine: &Affine, extent: impl Fn(LoopVar) -> Option<u64>) -> Option<(i128, i128)> {
    let mut range = (i128::from(affine.constant), i128::from(affine.constant));
    for (var, coefficient) in &affine.terms {
        let reach = i128::from(*coefficient) * i128::from(extent(*var)?.saturating_sub(1));
        range.0 += reach.min(0);
        range.1 += reach.max(0);
    }
    Some(range)
}

struct Verifier<'a> {
    kernel: &'a Kernel,
    /// Whether a value was defined anywhere, and whether it is visible here.
    defined: Vec<bool>,
    visible: Vec<bool>,
    /// Values made visible, in order, so that leaving a block hides them again.
    trail: Vec<Value>,
    extents: Vec<Option<u64>>,
    bound: Vec<bool>,
    /// The variable of the vector loop around.
    lanes: Option<LoopVar>,
    /// Whether some loop around never runs, so that no address in it is formed.
    dead: bool,
}

impl<'a> Verifier<'a> {
    fn new(kernel: &'a Kernel) -> Self {
        let (values, variables) = (kernel.values.len(), kernel.variables as usize);
        Verifier {
            kernel,
            defined: vec![false; values],
            visible: vec![false; values],
            trail: Vec::new(),
            extents: vec![None; variables],
            bound: vec![false; variables],
            lanes: None,
            dead: false,
        }
    }

    fn run(mut self) -> Check {
        let kernel = self.kernel;
        for dtype in kernel.values.iter().chain(kernel.buffers.iter().map(|b| &b.dtype)) {
            require(*dtype == dtype.storage(), || format!("a value has dtype {dtype}, which memory never has"))?;
        }
        if let Some(parallel) = &kernel.parallel {
            require(parallel.grain > 0, || "the parallel loop has a grain of 0".to_string())?;
            self.dead = parallel.extent == 0;
            self.bind(parallel.var, parallel.extent)?;
        }
        self.block(&kernel.body)
    }

    fn bind(&mut self, var: LoopVar, extent: u64) -> Check {
        let bound = self.bound.get_mut(var.0 as usize).ok_or(format!("variable {} does not exist", var.0))?;
        require(!*bound, || format!("variable {} belongs to two loops", var.0))?;
        *bound = true;
        self.extents[var.0 as usize] = Some(extent);
        Ok(())
    }

    /// Runs `check` with `var` in scope and hides what it defines afterwards.
    fn scope(&mut self, vars: &[(LoopVar, u64)], check: impl FnOnce(&mut Self) -> Check) -> Check {
        let (mark, dead) = (self.trail.len(), self.dead);
        for (var, extent) in vars {
            self.bind(*var, *extent)?;
            self.dead |= *extent == 0;
        }
        check(self)?;
        for value in self.trail.drain(mark..) {
            self.visible[value.0 as usize] = false;
        }
        for (var, _) in vars {
            self.extents[var.0 as usize] = None;
        }
        self.dead = dead;
        Ok(())
    }

    /// As `scope`, in lanes along the last variable.
    fn lanes_scope(&mut self, vars: &[(LoopVar, u64)], check: impl FnOnce(&mut Self) -> Check) -> Check {
        require(self.lanes.is_none(), || "a vector loop stands inside a vector loop".to_string())?;
        self.lanes = vars.last().map(|v| v.0);
        self.scope(vars, check)?;
        self.lanes = None;
        Ok(())
    }

    fn dtype(&self, value: Value) -> Result<DType, String> {
        self.kernel.values.get(value.0 as usize).copied().ok_or(format!("value {} does not exist", value.0))
    }

    fn define(&mut self, value: Value) -> Check {
        self.dtype(value)?;
        require(!self.defined[value.0 as usize], || format!("value {} is defined twice", value.0))?;
        self.defined[value.0 as usize] = true;
        self.visible[value.0 as usize] = true;
        self.trail.push(value);
        Ok(())
    }

    fn read(&self, value: Value) -> Result<DType, String> {
        let dtype = self.dtype(value)?;
        require(self.visible[value.0 as usize], || format!("value {} is used where it is not defined", value.0))?;
        Ok(dtype)
    }

    fn buffer(&self, buffer: BufferId) -> Result<&'a BufferParameter, String> {
        self.kernel.buffers.get(buffer.0 as usize).ok_or(format!("buffer {} does not exist", buffer.0))
    }

    fn range(&self, affine: &Affine) -> Result<(i128, i128), String> {
        affine_range(affine, |v| self.extents.get(v.0 as usize).copied().flatten())
            .ok_or_else(|| format!("an address uses a variable out of scope: {affine:?}"))
    }

    fn address(&self, buffer: BufferId, address: &Affine) -> Check {
        let parameter = self.buffer(buffer)?;
        let (low, high) = self.range(address)?;
        let inside = self.dead || (low >= 0 && high < i128::from(parameter.elements));
        require(inside, || {
            format!("`{}` has {} elements and is addressed at {low}..={high}", parameter.name, parameter.elements)
        })
    }

    fn block(&mut self, block: &Block) -> Check {
        block.instructions.iter().try_for_each(|i| self.instruction(i))
    }

    fn instruction(&mut self, instruction: &Instruction) -> Check {
        match instruction {
            Instruction::Constant { result, .. } => self.define(*result),
            Instruction::Index { result, index } => {
                self.range(index)?;
                self.define(*result)?;
                self.expect(*result, DType::I32)
            }
            Instruction::Map { result, function, operands } => self.map(*result, *function, operands),
            Instruction::Convert { result, operand } => {
                self.read(*operand)?;
                self.define(*result)
            }
            Instruction::Bitcast { result, operand } => {
                let from = self.read(*operand)?;
                self.define(*result)?;
                let to = self.dtype(*result)?;
                let fits = from.bytes() == to.bytes() && from != DType::Bool && to != DType::Bool;
                require(fits, || format!("{from} has not the bits of {to}"))
            }
            Instruction::Load { result, buffer, address } => {
                self.address(*buffer, address)?;
                self.define(*result)?;
                self.expect(*result, self.buffer(*buffer)?.dtype)
            }
            Instruction::LoadAt { result, buffer, address, index, .. } => {
                self.address(*buffer, address)?;
                self.read(*index)?;
                self.expect(*index, DType::I32)?;
                self.define(*result)?;
                self.expect(*result, self.buffer(*buffer)?.dtype)
            }
            Instruction::Store { buffer, address, value } => self.store(*buffer, address, *value),
            Instruction::For { var, extent, carried, body } => self.for_loop(*var, *extent, carried, body),
            Instruction::Lanes { var, extent, body } => self.lanes_scope(&[(*var, *extent)], |v| v.block(body)),
            Instruction::Fold { var, extent, body, accumulators, merge } => {
                self.fold(*var, *extent, body, accumulators, merge)
            }
            Instruction::Contract(contract) => self.contract(contract),
            Instruction::Tile(tile) => self.tile(tile),
        }
    }

    fn expect(&self, value: Value, dtype: DType) -> Check {
        let found = self.dtype(value)?;
        require(found == dtype, || format!("value {} is {found} where {dtype} is needed", value.0))
    }

    fn map(&mut self, result: Value, function: ScalarFunction, operands: &[Value]) -> Check {
        let dtypes: Vec<DType> = operands.iter().map(|o| self.read(*o)).collect::<Result<_, _>>()?;
        require(function.accepts(&dtypes), || format!("`{}` does not take {dtypes:?}", function.name()))?;
        self.define(result)?;
        self.expect(result, function.result_dtype(&dtypes))
    }

    fn store(&mut self, buffer: BufferId, address: &Affine, value: Value) -> Check {
        self.address(buffer, address)?;
        self.read(value)?;
        let parameter = self.buffer(buffer)?;
        self.expect(value, parameter.dtype)?;
        require(parameter.usage != BufferUse::Read, || format!("`{}` is read only", parameter.name))?;
        let independent =
            |var: LoopVar| address.coefficient(var) != 0 || self.extents[var.0 as usize].is_none_or(|e| e <= 1);
        let around = self.lanes.into_iter().chain(self.kernel.parallel.as_ref().map(|p| p.var));
        for var in around {
            require(independent(var), || format!("every round of variable {} stores at one place", var.0))?;
        }
        Ok(())
    }

    fn for_loop(&mut self, var: LoopVar, extent: u64, carried: &[Carried], body: &Block) -> Check {
        for c in carried {
            let dtype = self.read(c.initial)?;
            for other in [c.parameter, c.next, c.result] {
                self.expect(other, dtype)?;
            }
        }
        self.scope(&[(var, extent)], |v| {
            carried.iter().try_for_each(|c| v.define(c.parameter))?;
            v.block(body)?;
            carried.iter().try_for_each(|c| v.read(c.next).map(drop))
        })?;
        carried.iter().try_for_each(|c| self.define(c.result))
    }

    fn fold(&mut self, var: LoopVar, extent: u64, body: &Block, accumulators: &[Accumulator], merge: &Block) -> Check {
        for a in accumulators {
            let dtype = self.dtype(a.result)?;
            for other in [a.element, a.left, a.right, a.merged] {
                self.expect(other, dtype)?;
            }
        }
        self.lanes_scope(&[(var, extent)], |v| {
            v.block(body)?;
            accumulators.iter().try_for_each(|a| v.read(a.element).map(drop))
        })?;
        // The merge sees neither the round's values nor its variable: it also joins lanes at the end.
        self.scope(&[], |v| {
            for a in accumulators {
                v.define(a.left)?;
                v.define(a.right)?;
            }
            require(is_straight_line(merge), || "the merge of a fold holds a loop or touches memory".to_string())?;
            v.block(merge)?;
            accumulators.iter().try_for_each(|a| v.read(a.merged).map(drop))
        })?;
        accumulators.iter().try_for_each(|a| self.define(a.result))
    }

    fn contract(&mut self, c: &Contract) -> Check {
        self.dead_or([c.rows, c.columns, c.depth].contains(&0), |v| {
            v.matrix(&c.left, c.rows, c.depth, 1, 0)?;
            v.matrix(&c.right, c.depth, c.columns, 1, 0)
        })?;
        self.operands(&c.left, &c.right, c.accumulator)?;
        self.lanes_scope(&[(c.row, c.rows), (c.column, c.columns)], |v| {
            v.define(c.accumulator)?;
            v.block(&c.epilogue)
        })
    }

    fn tile(&mut self, t: &Tile) -> Check {
        require(t.stored_columns <= t.columns, || "a tile stores more columns than it has".to_string())?;
        require(t.right.column_stride == 1, || "the right operand of a tile has columns apart".to_string())?;
        self.dead_or([t.rows, t.columns, t.depth, t.batches].contains(&0), |v| {
            v.matrix(&t.left, t.rows, t.depth, t.batches, t.left_batch_stride)?;
            v.matrix(&t.right, t.depth, t.columns, t.batches, t.right_batch_stride)
        })?;
        self.operands(&t.left, &t.right, t.accumulator)?;
        self.lanes_scope(&[(t.row, t.rows), (t.column, t.stored_columns)], |v| {
            v.define(t.accumulator)?;
            v.block(&t.epilogue)
        })
    }

    fn dead_or(&mut self, dead: bool, check: impl FnOnce(&mut Self) -> Check) -> Check {
        let before = self.dead;
        self.dead |= dead;
        check(self)?;
        self.dead = before;
        Ok(())
    }

    fn operands(&self, left: &Matrix, right: &Matrix, accumulator: Value) -> Check {
        let dtype = self.dtype(accumulator)?;
        require(matches!(dtype, DType::F32 | DType::F64), || format!("a contraction accumulates {dtype}"))?;
        for matrix in [left, right] {
            let found = self.buffer(matrix.buffer)?.dtype;
            require(found == dtype, || format!("a contraction of {dtype} reads {found}"))?;
        }
        Ok(())
    }

    fn matrix(&self, matrix: &Matrix, rows: u64, columns: u64, batches: u64, batch_stride: i64) -> Check {
        let parameter = self.buffer(matrix.buffer)?;
        let (mut low, mut high) = self.range(&matrix.address)?;
        for (extent, stride) in [(rows, matrix.row_stride), (columns, matrix.column_stride), (batches, batch_stride)] {
            let reach = i128::from(extent.saturating_sub(1)) * i128::from(stride);
            low += reach.min(0);
            high += reach.max(0);
        }
        let inside = self.dead || (low >= 0 && high < i128::from(parameter.elements));
        require(inside, || {
            format!("`{}` has {} elements and is read at {low}..={high}", parameter.name, parameter.elements)
        })
    }
}

/// Whether a block computes values from values only.
fn is_straight_line(block: &Block) -> bool {
    block.instructions.iter().all(|i| {
        matches!(
            i,
            Instruction::Constant { .. }
                | Instruction::Map { .. }
                | Instruction::Convert { .. }
                | Instruction::Bitcast { .. }
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::build::KernelBuilder;
    use super::*;

    fn copy_kernel(elements: u64, extent: u64, stride: i64) -> Kernel {
        let mut k = KernelBuilder::new();
        let source = k.buffer("x", DType::F32, elements, BufferUse::Read);
        let target = k.buffer("y", DType::F32, elements, BufferUse::Write);
        k.finish("copy", None, |b| {
            b.lanes(extent, |b, i| {
                let x = b.load(source, Affine::scaled(i, 1));
                b.store(target, Affine::scaled(i, stride), x);
            });
        })
    }

    #[test]
    fn addresses_stay_in_range_and_lanes_store_apart() {
        assert_eq!(kernel(&copy_kernel(8, 8, 1)), Ok(()));
        let message = kernel(&copy_kernel(8, 9, 1)).unwrap_err().to_string();
        assert!(message.contains("`x` has 8 elements and is addressed at 0..=8"), "{message}");
        assert!(kernel(&copy_kernel(8, 8, 0)).is_err());
        assert!(kernel(&copy_kernel(8, 8, -1)).is_err());
    }

    #[test]
    fn values_of_an_inner_block_end_with_it() {
        let mut k = KernelBuilder::new();
        let target = k.buffer("y", DType::F32, 1, BufferUse::Write);
        let kernel = k.finish("leak", None, |b| {
            let mut inner = None;
            b.for_each(2, |b, _| inner = Some(b.constant(DType::F32, 1.0)));
            b.store(target, Affine::constant(0), inner.expect("the loop's body was written"));
        });
        assert!(super::kernel(&kernel).unwrap_err().message.contains("used where it is not defined"));
    }
}
