//! Functions compiled for AVX-512: their tiles have other shapes and their vectors twice the lanes, and they give the same bits.
//!
//! Programs for AVX-512 run here too, by what of each kernel this machine's code generators take; the code itself runs on the emulated machine of
//! `cargo test --test backend --test lowering -- --ignored --nocapture avx512`.

use std::collections::HashMap;

use nnc::codegen::backends;
use nnc::codegen::x86::Vectors;
use nnc::ir::graph::Function;
use nnc::ir::loops::{Affine, LoopVar, Place, Program, Section, Step};
use nnc::ir::ops::Op;
use nnc::ir::tensor::Tensor;
use nnc::passes::tile::Registers;
use nnc::passes::{GRAPH_PASSES, Limits};

use crate::programs::agreement::{compile, compile_within, same};
use crate::programs::{arguments_for, memory_of, run_loaded};
use crate::wide::emulator::{self, Call, Work};
use crate::wide::instructions;
use crate::{contractions, function_of, reductions, training_steps};

/// Fewer programs all of whose kernels are wide would mean that the generator refuses what it takes now.
const FEWEST: usize = 100;

/// A function compiled for AVX-512, its memory before a run, and after a run of what is compiled for AVX2.
struct Example {
    name: String,
    program: Program,
    before: Vec<Vec<u8>>,
    after: Vec<Vec<u8>>,
}

fn example(name: String, function: &Function, arguments: &[Tensor]) -> Example {
    let apply = |function: Function, pass: &nnc::passes::GraphPass| pass.apply(&function).unwrap();
    let function = GRAPH_PASSES.iter().fold(function.clone(), apply);
    let (bytes, sums) = (Vectors::Avx512.bytes() as u64, Vectors::Avx512.sums() as u64);
    let limits = Limits { registers: Registers { bytes, sums }, ..Limits::default() };
    let program = compile_within(&function, true, &limits).unwrap();
    let before = memory_of(&program, arguments);
    let narrower = compile(&function, true).unwrap();
    Example { name, after: run(&narrower, before.clone()), program, before }
}

/// The samples of all ops, reductions, contractions and training steps.
fn examples() -> Vec<Example> {
    let functions = [reductions(), contractions(), training_steps()].into_iter().flatten();
    let mut all: Vec<Example> = functions.map(|(name, f)| example(name, &f, &arguments_for(&f))).collect();
    for (number, sample) in Op::samples().iter().enumerate() {
        let name = format!("sample {number}, {}", sample.op.doc().name);
        all.push(example(name, &function_of(sample), &sample.inputs));
    }
    all
}

fn run(program: &Program, memory: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let loaded = backends()[0].jit(std::slice::from_ref(program)).unwrap();
    run_loaded(&*loaded, program, memory, None)
}

#[test]
fn tiles_for_other_registers_give_the_same_bits() {
    let mut others = 0;
    for Example { name, program, before, after } in examples() {
        let found = run(&program, before);
        same("registers", &program, &found, &after).unwrap_or_else(|e| panic!("{name}: {e}"));
        for kernel in &program.kernels {
            others += usize::from(instructions::check(kernel, Vectors::Avx512).is_some());
        }
    }
    assert!(others >= FEWEST, "{others} wide kernels");
}

#[test]
#[ignore = "needs the emulator Bochs, and a minute"]
fn avx512_gives_the_same_bits() {
    if !emulator::is_installed() {
        eprintln!("SKIPPED: programs with AVX-512 were not run, there is no `bochs` on this machine");
        return;
    }
    let (mut wide, mut work, mut left) = (Vec::new(), Vec::new(), 0);
    for example in examples() {
        match work_of(&example) {
            Some(own) => {
                work.push(own);
                wide.push(example);
            }
            None => left += 1,
        }
    }
    let results = emulator::run(&work).unwrap_or_else(|e| panic!("{e}"));
    for (Example { name, program, after, .. }, result) in wide.iter().zip(&results) {
        same("AVX-512", program, result, after).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    let calls: usize = work.iter().map(|w| w.calls.len()).sum();
    eprintln!(
        "{} programs, {calls} calls of kernels with AVX-512, gave the bits of AVX2; {left} have other kernels",
        wide.len()
    );
    assert!(wide.len() >= FEWEST);
}

/// The calls of a program, those of repeats in every round; `None` if it has a kernel that is not wide.
fn work_of(example: &Example) -> Option<Work> {
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
    let code = program.kernels.iter().map(|kernel| instructions::check(kernel, Vectors::Avx512));
    let code = code.collect::<Option<Vec<Vec<u8>>>>()?;
    let mut calls = Calls { program, places, code, rounds: HashMap::new(), all: Vec::new() };
    calls.steps(&program.steps)?;
    Some(Work { name: example.name.clone(), memory, calls: calls.all })
}

/// The calls of a program being collected.
struct Calls<'p> {
    program: &'p Program,
    /// The region of each buffer and its first byte there.
    places: Vec<(usize, usize)>,
    code: Vec<Vec<u8>>,
    rounds: HashMap<LoopVar, i64>,
    all: Vec<Call>,
}

impl Calls<'_> {
    fn steps(&mut self, steps: &[Step]) -> Option<()> {
        steps.iter().try_for_each(|step| match step {
            Step::Call(call) => {
                let kernel = &self.program.kernels[call.kernel as usize];
                let buffers = call.buffers.iter().map(|section| self.place(section)).collect();
                let extent = kernel.parallel.as_ref().map_or(1, |parallel| parallel.extent);
                self.all.push(Call { code: self.code[call.kernel as usize].clone(), buffers, extent });
                Some(())
            }
            Step::Repeat(repeat) => (0..repeat.count as i64).try_for_each(|round| {
                let value = if repeat.reverse { repeat.count as i64 - 1 - round } else { round };
                self.rounds.insert(repeat.var, value);
                self.steps(&repeat.steps)
            }),
            // The machine calls kernels and does nothing else.
            Step::Index { .. } => None,
        })
    }

    fn place(&self, section: &Section) -> (usize, usize) {
        let (region, start) = self.places[section.buffer as usize];
        let bytes = self.program.buffers[section.buffer as usize].dtype.bytes();
        (region, start + self.value(&section.offset) as usize * bytes)
    }

    fn value(&self, affine: &Affine) -> i64 {
        affine.constant + affine.terms.iter().map(|(var, factor)| self.rounds[var] * factor).sum::<i64>()
    }
}
