//! Wide code with AVX-512, which is compared with the interpreter on an emulated machine, and what instructions wide code has.
//!
//! `cargo test --test backend --test lowering --test differential -- --ignored --nocapture avx512` runs the emulator, Bochs, if it is installed.

use nnc::codegen::x86::{self, Vectors};
use nnc::ir::loops::text;

use crate::common::{Example, assert_same, gather};
use crate::wide::emulator::{self, Call, Work};
use crate::wide::instructions;
use crate::{functions, loops, products};

/// Fewer examples that the generator takes would mean that it refuses what it takes now.
const FEWEST: usize = 700;

/// All kernels of the tests of functions, loops and products, on random memory.
fn examples() -> Vec<Example> {
    gather(|| {
        functions::every_function_of_every_dtype();
        functions::one_of_four_by_two_bits();
        functions::choices_of_zero();
        functions::functions_with_a_constant();
        functions::conversions_between_all_dtypes();
        functions::bits_as_other_dtypes();
        functions::rests_of_every_way_to_memory();
        functions::strides_and_gathers();
        functions::columns_into_rows();
        loops::lanes_of_every_extent();
        loops::carried_lanes_and_scalars();
        loops::folds_of_every_extent();
        loops::folds_of_every_dtype();
        loops::a_parallel_loop_runs_its_range();
        loops::more_values_than_registers();
        products::tiles_of_all_shapes();
        products::tiles_of_many_registers();
        products::tiles_in_loops();
        products::tiles_that_wait_for_the_next();
        products::contractions_of_all_layouts();
    })
}

#[test]
fn wide_code_has_the_instructions_of_its_machine() {
    let mut compiled = 0;
    for example in examples() {
        let kernel = &example.program.kernels[0];
        let narrower = instructions::check(kernel, Vectors::Avx2);
        let wider = instructions::check(kernel, Vectors::Avx512);
        assert!(narrower.is_none() || wider.is_some(), "{}", text::kernel(kernel));
        compiled += usize::from(wider.is_some());
    }
    assert!(compiled >= FEWEST, "{compiled} kernels");
}

#[test]
#[ignore = "needs the emulator Bochs, and minutes"]
fn avx512_gives_the_same_bits() {
    if !emulator::is_installed() {
        eprintln!("SKIPPED: code with AVX-512 was not run, there is no `bochs` on this machine");
        return;
    }
    let (mut all, mut work) = (Vec::new(), Vec::new());
    for example in examples() {
        let kernel = &example.program.kernels[0];
        let Some(code) = x86::compile(kernel, Vectors::Avx512) else { continue };
        let buffers = (0..kernel.buffers.len()).map(|region| (region, 0)).collect();
        let extent = kernel.parallel.as_ref().map_or(1, |parallel| parallel.extent);
        let calls = vec![Call { code, buffers, extent }];
        work.push(Work { name: text::kernel(kernel), memory: example.before.clone(), calls });
        all.push(example);
    }
    let results = emulator::run(&work).unwrap_or_else(|e| panic!("{e}"));
    for (example, result) in all.iter().zip(&results) {
        assert_same(&example.program, result, &example.after);
    }
    eprintln!("{} runs of kernels with AVX-512 gave the bits of the interpreter", all.len());
    assert!(all.len() >= FEWEST);
}
