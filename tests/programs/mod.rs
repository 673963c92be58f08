//! What the tests of lowering share: running programs on tensors.

use nnc::codegen::{CodegenError, backends};
use nnc::ir::builder::GraphBuilder;
use nnc::ir::graph::{Argument, Function, FunctionResult, ResultRole, Role, ValueId};
use nnc::ir::loops::{Place, Program, interpret, verify};
use nnc::ir::scalar::ScalarFunction as F;
use nnc::ir::tensor::Tensor;
use nnc::ir::types::{DType, TensorType};
use nnc::passes::lower::finish;
use nnc::passes::{expand_math, fuse, lower, plan_memory, tile};

/// Builds functions with named arguments and results.
#[derive(Default)]
pub struct Writer {
    pub b: GraphBuilder,
    pub arguments: Vec<Argument>,
    results: Vec<FunctionResult>,
}

impl Writer {
    /// A new argument.
    pub fn argument(&mut self, name: &str, role: Role, dtype: DType, shape: &[usize]) -> ValueId {
        let ty = TensorType::new(dtype, shape.iter().copied());
        self.arguments.push(Argument { name: name.into(), role, ty: ty.clone() });
        self.b.argument(self.arguments.len() as u32 - 1, ty)
    }

    /// A new result.
    pub fn result(&mut self, name: &str, role: ResultRole, value: ValueId) {
        self.results.push(FunctionResult { name: name.into(), role, value });
    }

    /// A function of operands that broadcast.
    pub fn map(&mut self, function: F, operands: &[ValueId]) -> ValueId {
        self.b.map(function, operands).unwrap()
    }

    /// The function as written.
    pub fn finish_raw(self) -> Function {
        Function { name: "test".into(), arguments: self.arguments, graph: self.b.finish(), results: self.results }
    }
}

/// The bytes of a tensor in memory.
pub fn bytes_of(tensor: &Tensor) -> Vec<u8> {
    let mut bytes = Vec::new();
    for v in &tensor.data {
        match tensor.ty.dtype.storage() {
            DType::F32 => bytes.extend((*v as f32).to_le_bytes()),
            DType::F64 => bytes.extend(v.to_le_bytes()),
            DType::I8 => bytes.extend((*v as i8).to_le_bytes()),
            DType::I16 => bytes.extend((*v as i16).to_le_bytes()),
            DType::I32 => bytes.extend((*v as i32).to_le_bytes()),
            DType::I64 => bytes.extend((*v as i64).to_le_bytes()),
            DType::U8 => bytes.extend((*v as u8).to_le_bytes()),
            DType::U16 => bytes.extend((*v as u16).to_le_bytes()),
            DType::U32 => bytes.extend((*v as u32).to_le_bytes()),
            DType::Bool => bytes.push(u8::from(*v != 0.0)),
            other => panic!("no test holds {other}"),
        }
    }
    bytes
}

/// The values that bytes in memory hold.
pub fn values_of(dtype: DType, bytes: &[u8]) -> Vec<f64> {
    let each = |n: usize, f: &dyn Fn(&[u8]) -> f64| bytes.chunks_exact(n).map(f).collect();
    match dtype.storage() {
        DType::F32 => each(4, &|c| f64::from(f32::from_le_bytes(c.try_into().unwrap()))),
        DType::F64 => each(8, &|c| f64::from_le_bytes(c.try_into().unwrap())),
        DType::I8 => each(1, &|c| f64::from(c[0] as i8)),
        DType::I16 => each(2, &|c| f64::from(i16::from_le_bytes(c.try_into().unwrap()))),
        DType::I32 => each(4, &|c| f64::from(i32::from_le_bytes(c.try_into().unwrap()))),
        DType::I64 => each(8, &|c| i64::from_le_bytes(c.try_into().unwrap()) as f64),
        DType::U8 | DType::Bool => each(1, &|c| f64::from(c[0])),
        DType::U16 => each(2, &|c| f64::from(u16::from_le_bytes(c.try_into().unwrap()))),
        DType::U32 => each(4, &|c| f64::from(u32::from_le_bytes(c.try_into().unwrap()))),
        other => panic!("no test holds {other}"),
    }
}

/// The pointers of a program before it runs: the arguments' bytes, then zeros for the results.
pub fn memory_of(program: &Program, arguments: &[Tensor]) -> Vec<Vec<u8>> {
    let mut memory = vec![Vec::new(); program.pointers as usize];
    for buffer in &program.buffers {
        if let Place::Argument { index } = buffer.place {
            memory[index as usize] = vec![0xAA; buffer.elements as usize * buffer.dtype.bytes()];
        }
    }
    for (place, tensor) in memory.iter_mut().zip(arguments) {
        *place = bytes_of(tensor);
    }
    memory
}

/// The values of a function's results in memory after a run: an update's stand in its argument's place.
pub fn results_in(function: &Function, memory: &[Vec<u8>]) -> Vec<Vec<f64>> {
    let mut next = function.arguments.len();
    let mut results = Vec::new();
    for result in &function.results {
        let at = match result.role {
            ResultRole::Update(index) => index as usize,
            _ => {
                next += 1;
                next - 1
            }
        };
        results.push(values_of(function.graph.type_of(result.value).dtype, &memory[at]));
    }
    results
}

/// Runs compiled code on memory in place.
pub fn run_compiled(program: &Program, memory: &mut [Vec<u8>], pool: Option<&nn_rt::Pool>) -> Result<(), CodegenError> {
    let loaded = backends()[0].jit(std::slice::from_ref(program))?;
    let entry = loaded.entry(&program.name).expect("the program is there");
    // Buffers handed over are aligned to 64 bytes, as the calling convention asks.
    let mut aligned: Vec<Vec<Line>> = memory.iter().map(|bytes| lines(bytes)).collect();
    let mut workspace = lines(&vec![0x55; program.arena_bytes as usize]);
    let pointers: Vec<*mut u8> = aligned.iter_mut().map(|lines| lines.as_mut_ptr().cast()).collect();
    let pool = pool.map_or(std::ptr::null(), |p| p.as_ptr());
    // SAFETY: the pointers reach as many bytes as the program's buffers have, and outlive the call.
    unsafe { entry(pointers.as_ptr(), workspace.as_mut_ptr().cast(), pool) };
    for (bytes, lines) in memory.iter_mut().zip(&aligned) {
        let flat: Vec<u8> = lines.iter().flat_map(|l| l.0).collect();
        let length = bytes.len();
        bytes.copy_from_slice(&flat[..length]);
    }
    Ok(())
}

/// Arguments for a function: varied numbers, small whole ones for integers.
pub fn arguments_for(function: &Function) -> Vec<Tensor> {
    let argument = |(number, argument): (usize, &Argument)| {
        let count = argument.ty.elements().expect("tests have concrete shapes");
        let part = |i: usize| (0.618_033_988_749_895 * (i + 1) as f64 + 0.31 * number as f64).fract();
        let value = |i: usize| match argument.ty.dtype {
            DType::F32 | DType::F64 if argument.role == Role::OptimizerState => {
                f64::from((part(i) * 0.1 + 0.01) as f32)
            }
            DType::F32 | DType::F64 => f64::from((part(i) * 2.0 - 1.0) as f32),
            DType::Bool => (part(i) * 2.0).floor(),
            _ => (part(i) * 3.0).floor(),
        };
        Tensor::new(argument.ty.clone(), (0..count).map(value).collect())
    };
    function.arguments.iter().enumerate().map(argument).collect()
}

/// The program of a function through all passes, verified after each; with or without tiles.
pub fn compile(function: &Function, tiles: bool) -> Result<Program, String> {
    let verified = |p: Program| verify::program(&p).map(|()| p).map_err(|e| e.to_string());
    let mut program = verified(lower::lower(&fuse::fuse(function)).map_err(|e| e.to_string())?)?;
    if tiles {
        program = verified(tile::tile(program))?;
    }
    expand_math::run(&mut program).map_err(|e| e.to_string())?;
    verified(plan_memory::plan(verified(program)?))
}

/// Programs of more work are not interpreted, which takes a microsecond or so for each step.
const MOST_INTERPRETED: u64 = 300_000;

/// Whether compiled code gives what the graph interpreter says, the same bits interpreted, without tiles, and with threads.
pub fn check(function: &Function, arguments: &[Tensor]) -> Result<(), String> {
    let values = nnc::ir::interpret::evaluate(function, arguments)?;
    let expected = function.results.iter().map(|r| &values[r.value.node.0 as usize][r.value.output as usize]);
    // What cancels on the way leaves the rounding errors of the largest numbers.
    let largest =
        values.iter().flatten().flat_map(|t| &t.data).filter(|v| v.abs() < 1e6).fold(1e-3, |m, v| v.abs().max(m));
    let program = compile(function, true)?;
    let mut memory = memory_of(&program, arguments);
    let before = memory.clone();
    run_compiled(&program, &mut memory, None).map_err(|e| e.to_string())?;
    for ((result, found), wanted) in function.results.iter().zip(results_in(function, &memory)).zip(expected) {
        near(&found, wanted, largest).map_err(|e| format!("result `{}` {e}", result.name))?;
    }
    unchanged(function, &before, &memory)?;
    let work: u64 = program.calls.iter().map(|c| finish::work(&program.kernels[c.kernel as usize].body)).sum();
    if work < MOST_INTERPRETED {
        let mut interpreted = before.clone();
        interpret::program(&program, &mut interpreted).map_err(|e| e.to_string())?;
        same("the loop interpreter", &memory, &interpreted)?;
    }
    let mut threaded = before.clone();
    run_compiled(&program, &mut threaded, Some(&nn_rt::Pool::new(3))).map_err(|e| e.to_string())?;
    same("running on three threads", &memory, &threaded)?;
    let plain = compile(function, false)?;
    let mut untiled = before;
    run_compiled(&plain, &mut untiled, None).map_err(|e| e.to_string())?;
    same("leaving out tiles", &memory, &untiled)
}

fn same(what: &str, one: &[Vec<u8>], other: &[Vec<u8>]) -> Result<(), String> {
    if one == other { Ok(()) } else { Err(format!("{what} gives other bits")) }
}

/// Arguments that nothing updates keep their bytes.
fn unchanged(function: &Function, before: &[Vec<u8>], after: &[Vec<u8>]) -> Result<(), String> {
    for (index, argument) in function.arguments.iter().enumerate() {
        let updated = function.results.iter().any(|r| r.role == ResultRole::Update(index as u32));
        if !updated && before[index] != after[index] {
            return Err(format!("argument `{}` was overwritten", argument.name));
        }
    }
    Ok(())
}

/// Single precision against double, relative to the larger of the number itself and `scale`.
fn near(found: &[f64], wanted: &Tensor, scale: f64) -> Result<(), String> {
    for (i, (a, b)) in found.iter().zip(&wanted.data).enumerate() {
        let same = a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 2e-5 * b.abs().max(scale);
        if !same {
            return Err(format!("is {a} instead of {b} at {i}"));
        }
    }
    if found.len() == wanted.data.len() { Ok(()) } else { Err("has another size".into()) }
}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

fn lines(bytes: &[u8]) -> Vec<Line> {
    let mut out = vec![Line([0; 64]); bytes.len().div_ceil(64).max(1)];
    for (i, byte) in bytes.iter().enumerate() {
        out[i / 64].0[i % 64] = *byte;
    }
    out
}
