//! Lowering against the definition: every op's samples and small functions give in loops what the graph says.

mod programs;

use nnc::ir::graph::Function;
use nnc::ir::loops::verify;
use nnc::ir::ops::{Op, Sample};
use nnc::ir::tensor::Tensor;
use nnc::passes::{fuse, lower, plan_memory, tile};
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
        let program = plan_memory::plan(tile::tile(program));
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

#[test]
fn a_training_step_is_few_kernels() {
    let function = mlp::train_step(128, &[784, 512, 512, 10]);
    let fused = fuse::fuse(&function);
    eprintln!("{function}");
    eprintln!("{fused}");
    let program = lower::lower(&fused).unwrap();
    verify::program(&program).unwrap();
    let program = plan_memory::plan(tile::tile(program));
    verify::program(&program).unwrap();
    for call in &program.calls {
        let k = &program.kernels[call.kernel as usize];
        eprintln!(
            "{} {:?} {:?}",
            k.name,
            k.parallel,
            call.buffers.iter().map(|b| program.buffers[*b as usize].name.as_str()).collect::<Vec<_>>()
        );
    }
    eprintln!("{}", plan_memory::describe(&program));
}

/// How long a step takes, with stand-ins for functions that need expansion.
#[test]
#[ignore]
fn time_of_a_training_step() {
    use nnc::ir::loops::Place;
    use nnc::ir::scalar::ScalarFunction as F;
    let function = mlp::train_step(128, &[784, 512, 512, 10]);
    let program = lower::lower(&fuse::fuse(&function)).unwrap();
    let mut program = plan_memory::plan(tile::tile(program));
    let text = format!("{:?}", program.kernels);
    for kernel in &mut program.kernels {
        let _ = &text;
        fn swap(block: &mut nnc::ir::loops::Block) {
            use nnc::ir::loops::Instruction as I;
            for i in &mut block.instructions {
                match i {
                    I::Map { function, .. } => match function {
                        F::Exp | F::Log => *function = F::Abs,
                        F::Pow => *function = F::Mul,
                        _ => {}
                    },
                    I::For { body, .. } | I::Lanes { body, .. } | I::Fold { body, .. } => swap(body),
                    I::Contract(c) => swap(&mut c.epilogue),
                    I::Tile(c) => swap(&mut c.epilogue),
                    _ => {}
                }
            }
        }
        swap(&mut kernel.body);
    }
    // Each call alone, as a program of one call.
    let mut total = 0.0;
    for number in 0..=program.calls.len() {
        let mut one = program.clone();
        if number < program.calls.len() {
            one.calls = vec![program.calls[number].clone()];
        }
        let mut memory: Vec<Vec<u8>> = Vec::new();
        for b in &one.buffers {
            if let Place::Argument { .. } = b.place {
                memory.push((0..b.elements).flat_map(|i| (0.01f32 * (1 + i % 7) as f32).to_le_bytes()).collect());
            }
        }
        let time = time_compiled(&one, &mut memory, 30);
        let name = if number < program.calls.len() {
            &program.kernels[program.calls[number].kernel as usize].name
        } else {
            "ALL"
        };
        if number < program.calls.len() {
            total += time;
        }
        println!("{:9.1} us {name}", time * 1e6);
    }
    println!("{:9.1} us sum", total * 1e6);
}
