//! Lowering against the definition: every op's samples and small functions give in compiled loops what the graph says.

#[path = "lowering/avx512.rs"]
mod avx512;
#[path = "lowering/dtypes.rs"]
mod dtypes;
#[path = "lowering/gradients.rs"]
mod gradients;
#[path = "lowering/indexed.rs"]
mod indexed;
#[path = "programs/mlp.rs"]
mod mlp;
#[path = "lowering/numerics.rs"]
mod numerics;
mod programs;
#[path = "lowering/tuning.rs"]
mod tuning;
#[path = "wide/mod.rs"]
mod wide;
#[path = "wide/programs.rs"]
mod wide_programs;
#[path = "programs/writer.rs"]
mod writer;

use mlp::train_step;
use nnc::ir::builder::GraphBuilder;
use nnc::ir::graph::{Argument, Function, FunctionResult, ResultRole, Role};
use nnc::ir::ops::{Op, Sample};
use nnc::ir::scalar::{Monoid, ScalarFunction as F};
use nnc::ir::types::DType;
use nnc::passes::{Limits, fuse, lower};
use programs::agreement::agree;
use programs::*;
use writer::Writer;

/// A function of one node.
fn function_of(sample: &Sample<Op>) -> Function {
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

#[test]
fn every_sample_means_what_the_interpreter_says() {
    let mut failures = Vec::new();
    for (number, sample) in Op::samples().iter().enumerate() {
        if let Err(e) = agree(&function_of(sample), &sample.inputs) {
            failures.push(format!("sample {number}, {} of {:?}: {e}", sample.op.doc().name, sample.inputs));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Functions with what to call them.
type Named = Vec<(String, Function)>;

fn all_agree(functions: Named) {
    for (name, function) in functions {
        agree(&function, &arguments_for(&function)).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

fn training_steps() -> Named {
    let shapes = [(1, &[3, 2][..]), (6, &[7, 9, 5]), (33, &[50, 65, 10]), (40, &[40, 128, 96, 4])];
    shapes.map(|(batch, sizes)| (format!("batch {batch}, {sizes:?}"), train_step(batch, sizes))).to_vec()
}

#[test]
fn training_steps_of_many_shapes() {
    all_agree(training_steps());
}

#[test]
fn a_gradient_and_its_optimizer_update_are_one_kernel() {
    let function = train_step(8, &[16, 4]);
    let fused = fuse::fuse(&function, &Limits::default());
    let group = fused.groups.iter().find(|g| g.stores.len() == 3 && g.space == [16, 4]).expect("one group stores all");
    assert!(matches!(group.kind, fuse::Kind::Contract(_)));
    let copies = fused.groups.iter().filter(|g| g.kind == fuse::Kind::Copy).count();
    assert_eq!(copies, 0, "{fused}");
}

#[test]
fn index_only_ops_are_addresses() {
    let mut w = Writer::default();
    let x = w.argument("x", Role::Input, DType::F32, &[3, 4, 5]);
    let bias = w.argument("bias", Role::Input, DType::F32, &[4]);
    let turned = w.b.transpose(x, &[2, 0, 1]).unwrap();
    let sum = w.map(F::Add, &[turned, bias]);
    let flat = w.b.reshape(sum, &[15i64.into(), 4i64.into()]).unwrap();
    let doubled = w.map(F::Add, &[flat, flat]);
    w.result("y", ResultRole::Output, doubled);
    let function = w.finish();
    agree(&function, &arguments_for(&function)).unwrap();
}

#[test]
fn updates_in_place_wait_for_readers_and_swaps_copy() {
    let mut w = Writer::default();
    let a = w.argument("a", Role::State, DType::F32, &[6]);
    let b = w.argument("b", Role::State, DType::F32, &[6]);
    let c = w.argument("c", Role::State, DType::F32, &[6, 6]);
    // Each takes the other's old value; the third is read turned while it is overwritten.
    w.result("a", ResultRole::Update(0), b);
    w.result("b", ResultRole::Update(1), a);
    let turned = w.b.transpose(c, &[1, 0]).unwrap();
    let next = w.map(F::Add, &[turned, a]);
    w.result("c", ResultRole::Update(2), next);
    let total = w.b.reduce(Monoid::Sum, c, &[0, 1], false).unwrap();
    w.result("total", ResultRole::Metric, total);
    w.result("again", ResultRole::Output, next);
    w.result("same", ResultRole::Output, b);
    let function = w.finish();
    agree(&function, &arguments_for(&function)).unwrap();
}

fn reductions() -> Named {
    let shapes: [(&[usize], &[usize]); 12] = [
        (&[5, 300], &[1]),
        (&[300, 5], &[0]),
        (&[70, 33], &[0]),
        (&[4, 50, 3], &[1]),
        (&[4, 50, 3], &[0, 2]),
        (&[40_003], &[0]),
        (&[3, 20_000], &[1]),
        (&[20_000, 6], &[0]),
        (&[70, 20, 30], &[0, 1, 2]),
        (&[3000, 64], &[0]),
        (&[2, 1, 3], &[1]),
        (&[0, 3], &[0]),
    ];
    let mut all = Vec::new();
    for (shape, axes) in shapes {
        for monoid in [Monoid::Sum, Monoid::Max, Monoid::ArgMin] {
            if monoid == Monoid::ArgMin && shape.contains(&0) {
                continue;
            }
            let mut w = Writer::default();
            let x = w.argument("x", Role::Input, DType::F32, shape);
            let square = w.map(F::Mul, &[x, x]);
            let y = w.b.reduce(monoid, square, axes, false).unwrap();
            w.result("y", ResultRole::Output, y);
            all.push((format!("{monoid:?} {shape:?} {axes:?}"), w.finish()));
        }
    }
    all
}

#[test]
fn reductions_of_every_layout() {
    all_agree(reductions());
}

/// The labels of both operands and of the result, and the size of each label.
type Product = (&'static [u32], &'static [u32], &'static [u32], [usize; 5]);

fn contractions() -> Named {
    let cases: [Product; 18] = [
        // Sums of several blocks.
        (&[0, 1], &[1, 2], &[0, 2], [5, 784, 20, 1, 1]),
        (&[0, 1], &[1, 2], &[0, 2], [3, 1021, 9, 1, 1]),
        (&[0, 1, 4], &[4, 1, 2], &[0, 2], [6, 90, 9, 1, 70]),
        (&[1, 0, 4], &[1, 4, 2], &[0, 2], [20, 1100, 24, 1, 2]),
        (&[0, 1, 4], &[4, 1, 2], &[0, 2], [12, 7, 24, 1, 600]),
        (&[1, 0], &[1, 2], &[0, 2], [2, 70_000, 3, 1, 1]),
        (&[0, 1], &[1, 2], &[0, 2], [37, 41, 29, 1, 1]),
        (&[1, 0], &[1, 2], &[0, 2], [64, 130, 70, 1, 1]),
        (&[0, 1], &[2, 1], &[0, 2], [20, 64, 64, 1, 1]),
        (&[0, 1], &[1, 2], &[2, 0], [40, 30, 50, 1, 1]),
        (&[3, 0, 1], &[3, 1, 2], &[3, 0, 2], [9, 20, 33, 5, 1]),
        (&[0, 3, 1], &[1, 3, 2], &[3, 0, 2], [9, 20, 33, 5, 1]),
        (&[0, 1, 4], &[1, 4, 2], &[0, 2], [12, 10, 24, 1, 7]),
        (&[0, 1, 4], &[4, 1, 2], &[0, 2], [12, 10, 24, 1, 7]),
        (&[0, 1], &[1], &[0], [65, 80, 1, 1, 1]),
        (&[1], &[1, 2], &[2], [1, 120, 77, 1, 1]),
        (&[0, 1], &[1, 2], &[0, 2], [3, 200, 45, 1, 1]),
        (&[0, 1], &[2, 1], &[0, 2], [90, 40, 150, 1, 1]),
    ];
    let mut all = Vec::new();
    for dtype in [DType::F32, DType::F64] {
        for (left, right, result, sizes) in cases {
            let shape = |labels: &[u32]| labels.iter().map(|l| sizes[*l as usize]).collect::<Vec<_>>();
            let mut w = Writer::default();
            let a = w.argument("a", Role::Input, dtype, &shape(left));
            let b = w.argument("b", Role::Input, dtype, &shape(right));
            let c = w.argument("c", Role::Input, dtype, &shape(result)[result.len() - 1..]);
            let product = w.b.contract((a, left), (b, right), result).unwrap();
            let sum = w.map(F::Add, &[product, c]);
            let zero = w.number(0.0, sum);
            let y = w.map(F::Max, &[sum, zero]);
            w.result("y", ResultRole::Output, y);
            all.push((format!("{left:?} {right:?} {sizes:?}"), w.finish()));
        }
    }
    all
}

#[test]
fn contractions_of_every_layout() {
    all_agree(contractions());
}

#[test]
fn kernels_of_the_same_shape_are_kept_once() {
    let mut w = Writer::default();
    let (x, y) = (w.argument("x", Role::Input, DType::F32, &[8, 4]), w.argument("y", Role::Input, DType::F32, &[8, 4]));
    for (name, value) in [("a", x), ("b", y)] {
        let sum = w.b.reduce(Monoid::Sum, value, &[1], false).unwrap();
        w.result(name, ResultRole::Output, sum);
    }
    let program = lower::lower(&fuse::fuse(&w.finish(), &Limits::default())).unwrap();
    let names: Vec<&str> = program.kernels.iter().map(|k| k.name.as_str()).collect();
    assert_eq!(names, ["reduce_sum_8x4"]);
    assert_eq!(program.steps.len(), 2);
}

#[test]
fn kernels_of_the_same_content_are_kept_once_whatever_their_names() {
    let mut w = Writer::default();
    for (name, shape) in [("a", &[4, 6][..]), ("b", &[24])] {
        let x = w.argument(name, Role::Input, DType::F32, shape);
        let y = w.map(F::Exp, &[x]);
        w.result(name, ResultRole::Output, y);
    }
    let program = lower::lower(&fuse::fuse(&w.finish_raw(), &Limits::default())).unwrap();
    assert_eq!((program.kernels.len(), program.steps.len()), (1, 2));
}

#[test]
fn a_fused_function_reads_well() {
    let mut w = Writer::default();
    let x = w.argument("x", Role::Input, DType::F32, &[4, 3]);
    let a = w.argument("w", Role::Parameter, DType::F32, &[3, 2]);
    let b = w.argument("b", Role::Parameter, DType::F32, &[2]);
    let product = w.product(x, a);
    let sum = w.map(F::Add, &[product, b]);
    let y = w.map(F::Tanh, &[sum]);
    w.result("y", ResultRole::Output, y);
    let least = w.b.reduce(Monoid::Min, y, &[0], false).unwrap();
    w.result("least", ResultRole::Metric, least);
    insta::assert_snapshot!(fuse::fuse(&w.finish(), &Limits::default()), @r"
    fused test {
      group 0 contract [4, 2] {
        %3: f32[4, 2] = contract(x, w, left=[0, 2], right=[2, 1], result=[0, 1])
        %5: f32[4, 2] = map(%3, broadcast(b, shape=[4, 2], axes=[1]), function=add)  // inside its consumer
        %6: f32[4, 2] = map(%5, function=tanh)
        store %6 -> result `y`
      }
      group 1 reduce [2] {
        %7: f32[2] = reduce(%6, monoid=min, axes=[0])
        store %7 -> result `least`
      }
    }
    ");
}
