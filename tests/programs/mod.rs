//! What the tests of lowering share: running programs on tensors.

pub mod mlp;

use nnc::codegen::{CodegenError, backends};
use nnc::ir::builder::GraphBuilder;
use nnc::ir::graph::{Argument, Function, FunctionResult, ResultRole, Role};
use nnc::ir::loops::{Place, Program, verify};
use nnc::ir::ops::{Op, Sample};
use nnc::ir::tensor::Tensor;
use nnc::ir::types::DType;
use nnc::passes::{expand_math, fuse, lower, plan_memory, tile};

/// A function of one node.
pub fn function_of(sample: &Sample<Op>) -> Function {
    let mut builder = GraphBuilder::new();
    let inputs: Vec<_> =
        sample.inputs.iter().enumerate().map(|(i, t)| builder.argument(i as u32, t.ty.clone())).collect();
    let outputs = builder.add(sample.op.clone(), &inputs).expect("a sample is well typed");
    let arguments = sample
        .inputs
        .iter()
        .enumerate()
        .map(|(i, t)| Argument { name: format!("x{i}"), role: Role::Input, ty: t.ty.clone() })
        .collect();
    let results = outputs
        .into_iter()
        .enumerate()
        .map(|(i, value)| FunctionResult { name: format!("y{i}"), role: ResultRole::Output, value })
        .collect();
    Function { name: "test".into(), arguments, graph: builder.finish(), results }
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

/// Whether compiled code gives what the graph interpreter says, the same bits with and without tiles and threads.
pub fn check(function: &Function, arguments: &[Tensor]) -> Result<(), String> {
    let expected = nnc::ir::interpret::run(function, arguments)?;
    let program = compile(function, true)?;
    let mut memory = memory_of(&program, arguments);
    let before = memory.clone();
    run_compiled(&program, &mut memory, None).map_err(|e| e.to_string())?;
    for ((result, found), wanted) in function.results.iter().zip(results_in(function, &memory)).zip(&expected) {
        near(&found, wanted).map_err(|e| format!("result `{}` {e}", result.name))?;
    }
    unchanged(function, &before, &memory)?;
    let mut threaded = before.clone();
    run_compiled(&program, &mut threaded, Some(&nn_rt::Pool::new(3))).map_err(|e| e.to_string())?;
    same("three threads", &memory, &threaded)?;
    let plain = compile(function, false)?;
    let mut untiled = before;
    run_compiled(&plain, &mut untiled, None).map_err(|e| e.to_string())?;
    same("no tiles", &memory, &untiled)
}

fn same(what: &str, one: &[Vec<u8>], other: &[Vec<u8>]) -> Result<(), String> {
    if one == other { Ok(()) } else { Err(format!("{what} give other bits")) }
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

/// Single precision against double: relative to the largest number of the tensor.
fn near(found: &[f64], wanted: &Tensor) -> Result<(), String> {
    let scale = wanted.data.iter().filter(|v| v.is_finite()).fold(1e-3f64, |m, v| m.max(v.abs()));
    for (i, (a, b)) in found.iter().zip(&wanted.data).enumerate() {
        let same = a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 2e-5 * scale;
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
