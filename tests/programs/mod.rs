//! What the tests of lowering share: running programs on tensors.

use nnc::codegen::Loaded;
use nnc::ir::graph::{Argument, Function, ResultRole, Role};
use nnc::ir::loops::{Place, Program, Step};
use nnc::ir::tensor::Tensor;
use nnc::ir::types::DType;
use nnc::passes::lower::finish;

pub mod agreement;
mod rounding;

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
            DType::F16 => bytes.extend(half::f16::from_f64(*v).to_le_bytes()),
            DType::BF16 => bytes.extend(half::bf16::from_f64(*v).to_le_bytes()),
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
        DType::F16 => each(2, &|c| half::f16::from_le_bytes(c.try_into().unwrap()).to_f64()),
        DType::BF16 => each(2, &|c| half::bf16::from_le_bytes(c.try_into().unwrap()).to_f64()),
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

/// The memory after compiled code ran on it.
pub fn run_loaded(
    loaded: &dyn Loaded,
    program: &Program,
    mut memory: Vec<Vec<u8>>,
    pool: Option<&nn_rt::Pool>,
) -> Vec<Vec<u8>> {
    let entry = loaded.entry(&program.name).expect("the program is there");
    // Buffers handed over are aligned to 64 bytes, as the calling convention asks.
    let mut aligned: Vec<Vec<Line>> = memory.iter().map(|bytes| lines(bytes)).collect();
    let mut workspace = vec![Line([0x55; 64]); (program.arena_bytes as usize).div_ceil(64).max(1)];
    let pointers: Vec<*mut u8> = aligned.iter_mut().map(|lines| lines.as_mut_ptr().cast()).collect();
    let pool = pool.map_or(std::ptr::null(), |p| p.as_ptr());
    // SAFETY: the pointers reach as many bytes as the program's buffers have, and outlive the call.
    unsafe { entry(pointers.as_ptr(), workspace.as_mut_ptr().cast(), pool) };
    for (bytes, lines) in memory.iter_mut().zip(&aligned) {
        let flat: Vec<u8> = lines.iter().flat_map(|l| l.0).collect();
        let length = bytes.len();
        bytes.copy_from_slice(&flat[..length]);
    }
    memory
}

/// The simple instructions that steps execute.
fn work(steps: &[Step], program: &Program) -> u64 {
    let one = |step: &Step| match step {
        Step::Call(call) => finish::work(&program.kernels[call.kernel as usize].body),
        Step::Repeat(repeat) => repeat.count * work(&repeat.steps, program),
        Step::Index { .. } => 1,
    };
    steps.iter().map(one).sum()
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
            DType::F16 | DType::BF16 => (part(i) * 64.0).floor() / 32.0 - 1.0,
            DType::Bool => (part(i) * 2.0).floor(),
            _ => (part(i) * 3.0).floor(),
        };
        Tensor::new(argument.ty.clone(), (0..count).map(value).collect())
    };
    function.arguments.iter().enumerate().map(argument).collect()
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
