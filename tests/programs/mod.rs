//! What the tests of lowering share: running programs on tensors.

pub mod mlp;

use nnc::codegen::{CodegenError, backends};
use nnc::ir::builder::GraphBuilder;
use nnc::ir::graph::{Argument, Function, FunctionResult, ResultRole, Role};
use nnc::ir::loops::{Place, Program};
use nnc::ir::ops::{Op, Sample};
use nnc::ir::tensor::Tensor;
use nnc::ir::types::DType;

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

/// Seconds of a call, the shortest of several.
pub fn time_compiled(program: &Program, memory: &mut [Vec<u8>], rounds: usize) -> f64 {
    let loaded = backends()[0].jit(std::slice::from_ref(program)).expect("compiles");
    let entry = loaded.entry(&program.name).expect("the program is there");
    let mut aligned: Vec<Vec<Line>> = memory.iter().map(|bytes| lines(bytes)).collect();
    let mut workspace = lines(&vec![0x3c; program.arena_bytes as usize]);
    let pointers: Vec<*mut u8> = aligned.iter_mut().map(|lines| lines.as_mut_ptr().cast()).collect();
    let mut best = f64::MAX;
    for _ in 0..rounds {
        let start = std::time::Instant::now();
        // SAFETY: as in `run_compiled`.
        unsafe { entry(pointers.as_ptr(), workspace.as_mut_ptr().cast(), std::ptr::null()) };
        best = best.min(start.elapsed().as_secs_f64());
    }
    best
}
