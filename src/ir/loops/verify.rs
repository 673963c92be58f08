//! Checks the invariants of kernels and programs: SSA dominance, dtypes, variables in scope, addresses in range.
//!
//! Runs after every pass on loops; a failure is a bug of the pass before, never of the user's file.

use std::collections::{BTreeMap, BTreeSet};

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
    Frame { program, extents: BTreeMap::new(), bound: BTreeSet::new(), calls: 0 }.steps(&program.steps)
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

/// The repeats around a step.
struct Frame<'p> {
    program: &'p Program,
    extents: BTreeMap<LoopVar, u64>,
    bound: BTreeSet<LoopVar>,
    calls: usize,
}

impl Frame<'_> {
    fn steps(&mut self, steps: &[Step]) -> Check {
        for step in steps {
            match step {
                Step::Call(call) => {
                    self.call(call).map_err(|m| format!("call {} {m}", self.calls))?;
                    self.calls += 1;
                }
                Step::Index { target, index } => {
                    let buffer = self.section(target, 1, "an index")?;
                    require(buffer.dtype == DType::I32, || format!("an index is stored as {}", buffer.dtype))?;
                    let constant = matches!(buffer.place, Place::Constant { .. });
                    require(!constant, || "an index is stored in a constant".to_string())?;
                    self.range(index)?;
                }
                Step::Repeat(repeat) => {
                    let var = repeat.var;
                    require(self.bound.insert(var), || format!("variable {} belongs to two repeats", var.0))?;
                    self.extents.insert(var, repeat.count);
                    self.steps(&repeat.steps)?;
                    self.extents.remove(&var);
                }
            }
        }
        Ok(())
    }

    fn call(&self, call: &Call) -> Check {
        let kernel = self.program.kernels.get(call.kernel as usize).ok_or("names no kernel")?;
        require(kernel.buffers.len() == call.buffers.len(), || format!("passes {} buffers", call.buffers.len()))?;
        for (parameter, section) in kernel.buffers.iter().zip(&call.buffers) {
            let buffer = self.section(section, parameter.elements, &parameter.name)?;
            let name = &parameter.name;
            require(parameter.dtype == buffer.dtype, || format!("passes {} for `{name}`", buffer.dtype))?;
            let constant = matches!(buffer.place, Place::Constant { .. });
            require(!parameter.usage.writes() || !constant, || format!("writes the constant `{name}`"))?;
        }
        self.sections_apart(kernel, call)
    }

    fn range(&self, affine: &Affine) -> Result<(i128, i128), String> {
        affine_range(affine, |v| self.extents.get(&v).copied())
            .ok_or_else(|| format!("an offset uses a variable out of scope: {affine:?}"))
    }

    /// The buffer of a section, of which `elements` elements lie inside it. In a repeat that never runs no address is formed.
    fn section(&self, section: &Section, elements: u64, name: &str) -> Result<&Buffer, String> {
        let buffer = self.program.buffers.get(section.buffer as usize).ok_or("passes a buffer that does not exist")?;
        let (low, high) = self.range(&section.offset)?;
        let dead = self.extents.values().any(|e| *e == 0);
        let inside = dead || (low >= 0 && high + i128::from(elements) <= i128::from(buffer.elements));
        require(inside, || format!("passes too small a buffer for `{name}`"))?;
        Ok(buffer)
    }

    /// What is written meets nothing else that is passed.
    fn sections_apart(&self, kernel: &Kernel, call: &Call) -> Check {
        for (i, one) in call.buffers.iter().enumerate() {
            for (j, other) in call.buffers.iter().enumerate().skip(i + 1) {
                let (a, b) = (&kernel.buffers[i], &kernel.buffers[j]);
                if one.buffer != other.buffer || !(a.usage.writes() || b.usage.writes()) {
                    continue;
                }
                let (low, high) = self.range(&other.offset.clone().sum(&one.offset.times(-1)))?;
                let apart = low >= i128::from(a.elements) || -high >= i128::from(b.elements);
                require(apart, || format!("passes one memory for `{}` and `{}`", a.name, b.name))?;
            }
        }
        Ok(())
    }
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
        self.reach(buffer, address, (0, 1))
    }

    /// An address that goes on from `address` by an index below an extent.
    fn indexed(&self, buffer: BufferId, address: &Affine, index: Value, (stride, extent): (i64, u64)) -> Check {
        self.read(index)?;
        self.expect(index, DType::I32)?;
        require(extent > 0 || self.dead, || format!("value {} is below 0 places", index.0))?;
        self.reach(buffer, address, (stride, extent))
    }

    fn reach(&self, buffer: BufferId, address: &Affine, (stride, extent): (i64, u64)) -> Check {
        let parameter = self.buffer(buffer)?;
        let (mut low, mut high) = self.range(address)?;
        let reach = i128::from(extent.saturating_sub(1)) * i128::from(stride);
        low += reach.min(0);
        high += reach.max(0);
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
            Instruction::OneOf { result, index, .. } => {
                self.read(*index)?;
                self.expect(*index, DType::I32)?;
                self.define(*result)?;
                let dtype = self.dtype(*result)?;
                require(dtype.bytes() == 4, || format!("a table in a register is not of {dtype}"))
            }
            Instruction::Load { result, buffer, address } => {
                self.address(*buffer, address)?;
                self.define(*result)?;
                self.expect(*result, self.buffer(*buffer)?.dtype)
            }
            Instruction::LoadAt { result, buffer, address, index, stride, extent } => {
                self.indexed(*buffer, address, *index, (*stride, *extent))?;
                self.define(*result)?;
                self.expect(*result, self.buffer(*buffer)?.dtype)
            }
            Instruction::Store { buffer, address, value } => {
                self.address(*buffer, address)?;
                self.store(*buffer, address, *value)
            }
            Instruction::StoreAt { buffer, address, index, stride, extent, value } => {
                self.indexed(*buffer, address, *index, (*stride, *extent))?;
                self.store(*buffer, address, *value)
            }
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
        let half = dtypes.iter().find(|d| d.is_half()).filter(|_| function != ScalarFunction::Select);
        require(half.is_none(), || format!("`{}` computes in {dtypes:?}, which kernels only move", function.name()))?;
        self.define(result)?;
        self.expect(result, function.result_dtype(&dtypes))
    }

    /// What holds of a store beside its place.
    fn store(&mut self, buffer: BufferId, address: &Affine, value: Value) -> Check {
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
        self.dead_or([c.rows, c.columns, c.steps()].contains(&0), |v| {
            v.matrix(&c.left, c.rows, c.depth, &c.rounds, |r| r.left_stride)?;
            v.matrix(&c.right, c.depth, c.columns, &c.rounds, |r| r.right_stride)
        })?;
        check_cut(c.cut, &c.rounds)?;
        self.operands(&c.left, &c.right, c.accumulator)?;
        self.lanes_scope(&[(c.row, c.rows), (c.column, c.columns)], |v| {
            v.define(c.accumulator)?;
            v.block(&c.epilogue)
        })
    }

    fn tile(&mut self, t: &Tile) -> Check {
        require(t.stored_columns <= t.columns, || "a tile stores more columns than it has".to_string())?;
        require(t.right.column_stride == 1, || "the right operand of a tile has columns apart".to_string())?;
        self.dead_or([t.rows, t.columns, t.steps()].contains(&0), |v| {
            v.matrix(&t.left, t.rows, t.depth, &t.rounds, |r| r.left_stride)?;
            v.matrix(&t.right, t.depth, t.columns, &t.rounds, |r| r.right_stride)
        })?;
        check_cut(t.cut, &t.rounds)?;
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

    fn matrix(&self, matrix: &Matrix, rows: u64, columns: u64, rounds: &[Round], stride: fn(&Round) -> i64) -> Check {
        let parameter = self.buffer(matrix.buffer)?;
        let (mut low, mut high) = self.range(&matrix.address)?;
        let own = [(rows, matrix.row_stride), (columns, matrix.column_stride)];
        for (extent, stride) in own.into_iter().chain(rounds.iter().map(|r| (r.count, stride(r)))) {
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

fn check_cut(cut: Option<Cut>, rounds: &[Round]) -> Check {
    let holds = cut.is_none_or(|c| c.level <= rounds.len() && c.size > 0);
    require(holds, || "a contraction is cut where it has no axis".to_string())
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
                | Instruction::OneOf { .. }
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
