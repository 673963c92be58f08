//! Functions whose tiles are made for AVX-512 beside the same with the usual tiles, and the former's wide kernels on the emulated machine.

use std::collections::HashMap;

use nnc::codegen::x86::Vectors;
use nnc::codegen::{Loaded, backends};
use nnc::ir::graph::Function;
use nnc::ir::loops::{self, Affine, LoopVar, Place, Program, Section, Step};
use nnc::ir::tensor::Tensor;
use nnc::ir::types::DType;
use nnc::passes::tile::Registers;
use nnc::passes::{GRAPH_PASSES, Limits};

use crate::programs::agreement::{compile, compile_within, difference, same};
use crate::programs::{memory_of, run_loaded};
use crate::wide::emulator::{self, Call, Work};
use crate::wide::instructions;

/// A function whose tiles are made for AVX-512, its memory before a run, and after a run with the usual tiles here.
pub struct Example {
    pub name: String,
    pub program: Program,
    pub before: Vec<Vec<u8>>,
    pub after: Vec<Vec<u8>>,
}

/// A function in both forms, on some arguments.
pub fn example(name: String, function: &Function, arguments: &[Tensor]) -> Example {
    let apply = |function: Function, pass: &nnc::passes::GraphPass| pass.apply(&function).unwrap();
    let function = GRAPH_PASSES.iter().fold(function.clone(), apply);
    let (bytes, sums) = (Vectors::Avx512.bytes() as u64, Vectors::Avx512.sums() as u64);
    let limits = Limits { registers: Registers { bytes, sums }, ..Limits::default() };
    let program = compile_within(&function, true, &limits).unwrap();
    let before = memory_of(&program, arguments);
    of_programs(name, program, &compile(&function, true).unwrap(), before)
}

/// Two programs of one function, the first one's tiles made for AVX-512.
pub fn of_programs(name: String, program: Program, usual: &Program, before: Vec<Vec<u8>>) -> Example {
    Example { name, after: run(usual, before.clone()), program, before }
}

/// What this machine's code of a program leaves in memory.
pub fn run(program: &Program, memory: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let loaded = backends()[0].jit(std::slice::from_ref(program)).unwrap();
    run_loaded(&*loaded, program, memory, None)
}

/// Runs the wide kernels of examples on the emulated machine, each call on the memory that it finds in its program, and fails where this machine's
/// code leaves other bits; how many calls there are. Without an emulator it says so.
pub fn emulate(examples: &[Example]) -> Option<usize> {
    if !emulator::is_installed() {
        eprintln!("SKIPPED: programs with AVX-512 were not run, there is no `bochs` on this machine");
        return None;
    }
    let calls: Vec<WideCall> = examples.iter().flat_map(calls_of).collect();
    let (work, expected): (Vec<Work>, Vec<Expected>) = calls.into_iter().map(|call| (call.work, call.expected)).unzip();
    let results = emulator::run(&work).unwrap_or_else(|e| panic!("{e}"));
    for ((work, expected), result) in work.iter().zip(&expected).zip(&results) {
        let views = work.calls[0].buffers.iter().zip(&expected.buffers);
        for (number, ((region, start), (dtype, bytes))) in views.enumerate() {
            let found = &result[*region][*start..*start + bytes.len()];
            let difference = difference(*dtype, found, bytes);
            assert_eq!(difference, None, "{}: buffer {number} differs at that element", work.name);
        }
    }
    let wide = work.len();
    eprintln!(
        "{wide} calls of kernels in {} programs gave the bits of this machine's code with AVX-512",
        examples.len()
    );
    Some(wide)
}

/// A call of a wide kernel and what it leaves in the kernel's buffers.
struct WideCall {
    work: Work,
    expected: Expected,
}

/// The dtype and the bytes of each buffer.
struct Expected {
    buffers: Vec<(DType, Vec<u8>)>,
}

/// The calls of wide kernels in a program that runs here.
fn calls_of(example: &Example) -> Vec<WideCall> {
    let program = &example.program;
    let mut memory = example.before.clone();
    let arena = memory.len();
    memory.push(vec![0x55; program.arena_bytes as usize]);
    let mut places = Vec::new();
    for buffer in &program.buffers {
        places.push(match &buffer.place {
            Place::Argument { index } => (*index as usize, 0),
            Place::Arena { offset } => (arena, offset.expect("memory is planned") as usize),
            Place::Constant { bytes } => {
                memory.push(bytes.clone());
                (memory.len() - 1, 0)
            }
        });
    }
    let loaded = backends()[0].jit(std::slice::from_ref(program)).unwrap();
    let code = program.kernels.iter().map(|kernel| instructions::check(kernel, Vectors::Avx512)).collect();
    let mut runner = Runner { example, loaded, places, memory, code, rounds: HashMap::new(), wide: Vec::new() };
    runner.steps(&program.steps);
    same("registers", program, &runner.memory, &example.after).unwrap_or_else(|e| panic!("{}: {e}", example.name));
    runner.wide
}

/// A program being run call by call.
struct Runner<'e> {
    example: &'e Example,
    loaded: Box<dyn Loaded>,
    /// The region of each buffer and its first byte there.
    places: Vec<(usize, usize)>,
    memory: Vec<Vec<u8>>,
    /// The code of each kernel with AVX-512, if it is wide.
    code: Vec<Option<Vec<u8>>>,
    rounds: HashMap<LoopVar, i64>,
    wide: Vec<WideCall>,
}

impl Runner<'_> {
    fn steps(&mut self, steps: &[Step]) {
        steps.iter().for_each(|step| match step {
            Step::Call(call) => self.call(call),
            Step::Index { target, index } => {
                let (region, start) = self.place(target);
                let value = self.value(index) as i32;
                self.memory[region][start..start + 4].copy_from_slice(&value.to_le_bytes());
            }
            Step::Repeat(repeat) => (0..repeat.count as i64).for_each(|round| {
                let value = if repeat.reverse { repeat.count as i64 - 1 - round } else { round };
                self.rounds.insert(repeat.var, value);
                self.steps(&repeat.steps);
            }),
        });
    }

    fn call(&mut self, call: &loops::Call) {
        let program = &self.example.program;
        let kernel = &program.kernels[call.kernel as usize];
        let extent = kernel.parallel.as_ref().map_or(1, |parallel| parallel.extent);
        let places: Vec<(usize, usize)> = call.buffers.iter().map(|section| self.place(section)).collect();
        let lengths = kernel.buffers.iter().map(|b| b.elements as usize * b.dtype.bytes());
        let spans: Vec<Span> =
            places.iter().zip(lengths).map(|((region, start), n)| (*region, *start, start + n)).collect();
        let joined = joined(&spans);
        let before: Vec<Vec<u8>> = joined.iter().map(|span| self.bytes(*span).to_vec()).collect();
        let pointers: Vec<*mut u8> =
            places.iter().map(|(region, start)| self.memory[*region][*start..].as_mut_ptr()).collect();
        let function = self.loaded.kernel(&program.name, call.kernel as usize).expect("the kernel was compiled");
        // SAFETY: the pointers reach as far as the kernel's buffers do, and the range is that of its parallel variable.
        unsafe { function(pointers.as_ptr(), 0, extent) };
        let Some(code) = &self.code[call.kernel as usize] else { return };
        let inside = |(region, start, end): &Span| {
            let within = |s: &Span| s.0 == *region && s.1 <= *start && *end <= s.2;
            let number = joined.iter().position(within).expect("joined spans hold all");
            (number, start - joined[number].1)
        };
        let buffers = spans.iter().map(inside).collect();
        let calls = vec![Call { code: code.clone(), buffers, extent }];
        let after = kernel.buffers.iter().zip(&spans).map(|(b, span)| (b.dtype, self.bytes(*span).to_vec())).collect();
        let name = format!("{}, kernel {}", self.example.name, kernel.name);
        self.wide.push(WideCall { work: Work { name, memory: before, calls }, expected: Expected { buffers: after } });
    }

    fn bytes(&self, (region, start, end): Span) -> &[u8] {
        &self.memory[region][start..end]
    }

    fn place(&self, section: &Section) -> (usize, usize) {
        let (region, start) = self.places[section.buffer as usize];
        let bytes = self.example.program.buffers[section.buffer as usize].dtype.bytes();
        (region, start + self.value(&section.offset) as usize * bytes)
    }

    fn value(&self, affine: &Affine) -> i64 {
        affine.constant + affine.terms.iter().map(|(var, factor)| self.rounds[var] * factor).sum::<i64>()
    }
}

/// A region of memory, the first byte and the end.
type Span = (usize, usize, usize);

/// Spans that do not overlap and hold all others.
fn joined(spans: &[Span]) -> Vec<Span> {
    let mut sorted = spans.to_vec();
    sorted.sort_unstable();
    let mut joined: Vec<Span> = Vec::new();
    for span in sorted {
        match joined.last_mut() {
            Some(last) if last.0 == span.0 && span.1 < last.2 => last.2 = last.2.max(span.2),
            _ => joined.push(span),
        }
    }
    joined
}
