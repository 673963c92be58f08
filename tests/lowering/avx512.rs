//! Functions compiled for AVX-512: their tiles have other shapes and their vectors twice the lanes, and they give the same bits.
//!
//! Programs for AVX-512 run here too, by what of each kernel this machine's code generators take; the code itself runs on the emulated machine of
//! `cargo test --test backend --test lowering --test differential -- --ignored --nocapture avx512`.

use nnc::codegen::x86::Vectors;
use nnc::driver::{Cpu, Entry, Quiet, Target, compile_file};
use nnc::ir::ops::Op;

use crate::programs::agreement::same;
use crate::programs::{arguments_for, memory_of};
use crate::wide::instructions;
use crate::wide_programs::{Example, emulate, example, of_programs, run};
use crate::{contractions, function_of, reductions, training_steps};

/// Fewer wide kernels would mean that the generator refuses what it takes now.
const FEWEST: usize = 750;

/// Inference and training steps of the project's models, on a few rows.
fn models() -> Vec<Example> {
    const ROWS: usize = 13;
    let target = |cpu| Target { triple: "x86_64-unknown-linux-gnu".parse().unwrap(), cpu };
    let mut all = Vec::new();
    for name in ["convnet", "digits", "mnist_mlp_deep", "pinn", "wgan_gp"] {
        let compiled = compile_file(format!("{}/models/{name}.nn", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let sizes = compiled.sizes(ROWS).unwrap();
        for entry in [Entry::Infer, Entry::TrainStep] {
            let lower = |cpu| compiled.program(entry, &sizes, &target(cpu), &mut Quiet).unwrap();
            let (wide, usual) = (lower(Cpu::X86V4), lower(Cpu::X86V3));
            let before = memory_of(&wide.program, &arguments_for(&wide.function));
            all.push(of_programs(format!("{name}, {entry:?}"), wide.program, &usual.program, before));
        }
    }
    all
}

/// The samples of all ops, reductions, contractions, training steps and models.
fn examples() -> Vec<Example> {
    let functions = [reductions(), contractions(), training_steps()].into_iter().flatten();
    let mut all: Vec<Example> = functions.map(|(name, f)| example(name, &f, &arguments_for(&f))).collect();
    for (number, sample) in Op::samples().iter().enumerate() {
        let name = format!("sample {number}, {}", sample.op.doc().name);
        all.push(example(name, &function_of(sample), &sample.inputs));
    }
    all.extend(models());
    all
}

#[test]
fn tiles_for_other_registers_give_the_same_bits() {
    let mut wide = 0;
    for Example { name, program, before, after } in examples() {
        let found = run(&program, before);
        same("registers", &program, &found, &after).unwrap_or_else(|e| panic!("{name}: {e}"));
        for kernel in &program.kernels {
            instructions::check(kernel, Vectors::Avx2);
            wide += usize::from(instructions::check(kernel, Vectors::Avx512).is_some());
        }
    }
    assert!(wide >= FEWEST, "{wide} wide kernels");
}

#[test]
#[ignore = "needs the emulator Bochs, and minutes"]
fn avx512_gives_the_same_bits() {
    if let Some(calls) = emulate(&examples()) {
        assert!(calls >= FEWEST, "{calls} calls");
    }
}
