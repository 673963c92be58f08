//! Lowering against the definition: every op's samples and small functions give in loops what the graph says.

mod programs;

use nnc::ir::graph::Function;
use nnc::ir::loops::verify;
use nnc::ir::ops::{Op, Sample};
use nnc::ir::tensor::Tensor;
use nnc::passes::{fuse, lower, plan_memory};
use programs::*;

fn expected(sample: &Sample<Op>, function: &Function) -> Vec<Tensor> {
    let types: Vec<_> = function.results.iter().map(|r| function.graph.type_of(r.value).clone()).collect();
    let inputs: Vec<&Tensor> = sample.inputs.iter().collect();
    sample.op.eval(&inputs, &types)
}

#[test]
fn every_sample_lowers_to_what_it_means() {
    let mut failures = Vec::new();
    for (number, sample) in Op::samples().iter().enumerate() {
        let function = function_of(sample);
        let program = lower::lower(&fuse::fuse(&function)).unwrap();
        let program = plan_memory::plan(program);
        let name = format!(
            "{number} {} {:?}",
            sample.op.doc().name,
            sample.inputs.iter().map(|t| t.ty.to_string()).collect::<Vec<_>>()
        );
        if let Err(e) = verify::program(&program) {
            failures.push(format!("{name}: {e}"));
            continue;
        }
        let mut memory = memory_of(&program, &sample.inputs);
        if let Err(e) = run_compiled(&program, &mut memory, None) {
            eprintln!("{name} {e}");
            continue;
        }
        let found = results_in(&function, &memory);
        for (f, e) in found.iter().zip(expected(sample, &function)) {
            let near =
                |(a, b): (&f64, &f64)| a == b || (a - b).abs() <= 1e-5 * b.abs().max(1.0) || (a.is_nan() && b.is_nan());
            if f.len() != e.data.len() || !f.iter().zip(&e.data).all(near) {
                failures.push(format!("{name}: {f:?} instead of {:?}", e.data));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
