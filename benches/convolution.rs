//! Convolutions alone: how fast each of the three products of a layer is, as a share of what the register tile reaches with operands in the
//! first cache.
//!
//! `cargo bench --bench convolution`. Each sample runs beside a probe, such a tile in a loop, so that a core whose speed drifts does not
//! matter; medians of the ratio are printed. One thread.

use std::time::Instant;

use nnc::codegen::{EntryFunction, Loaded, backends};
use nnc::ir::builder::GraphBuilder;
use nnc::ir::cost::cost;
use nnc::ir::graph::{Argument, Function, FunctionResult, ResultRole, Role, ValueId};
use nnc::ir::loops::{Place, Program};
use nnc::ir::ops::convolve::Convolve;
use nnc::ir::ops::spatial::Geometry;
use nnc::ir::types::{DType, TensorType};
use nnc::passes::{GRAPH_PASSES, LOOP_PASSES, Limits, fuse, lower};

const SAMPLES: usize = 50;

/// A program and the memory that it runs on.
struct Case {
    label: String,
    flops: f64,
    loaded: Box<dyn Loaded>,
    buffers: Vec<Vec<f32>>,
    workspace: Vec<u8>,
}

/// A function of arguments of these shapes.
fn function(shapes: &[&[usize]], write: impl FnOnce(&mut GraphBuilder, &[ValueId]) -> ValueId) -> Function {
    let mut b = GraphBuilder::new();
    let types: Vec<TensorType> = shapes.iter().map(|s| TensorType::new(DType::F32, s.iter().copied())).collect();
    let values: Vec<ValueId> = types.iter().enumerate().map(|(i, ty)| b.argument(i as u32, ty.clone())).collect();
    let value = write(&mut b, &values);
    let argument = |(i, ty)| Argument { name: format!("x{i}"), role: Role::Input, ty };
    Function {
        name: "bench".into(),
        arguments: types.into_iter().enumerate().map(argument).collect(),
        graph: b.finish(),
        results: vec![FunctionResult { name: "y".into(), role: ResultRole::Output, value }],
    }
}

fn case(label: &str, function: &Function) -> Case {
    let flops = cost(function).expect("sizes are known").flops as f64;
    let mut function = function.clone();
    for pass in GRAPH_PASSES {
        function = pass.apply(&function).expect("a pass runs");
    }
    let mut program = lower::lower(&fuse::fuse(&function, &Limits::default())).expect("the function lowers");
    for pass in LOOP_PASSES {
        program = (pass.run)(program, &Limits::default()).expect("a pass runs");
    }
    let loaded = backends()[0].jit(std::slice::from_ref(&program)).expect("the program compiles");
    let (buffers, workspace) = (memory(&program), vec![0; program.arena_bytes as usize]);
    Case { label: label.to_string(), flops, loaded, buffers, workspace }
}

fn memory(program: &Program) -> Vec<Vec<f32>> {
    let mut buffers = vec![Vec::new(); program.pointers as usize];
    for buffer in &program.buffers {
        if let Place::Argument { index } = buffer.place {
            buffers[index as usize] = vec![0.5; buffer.elements as usize];
        }
    }
    buffers
}

/// Flops a nanosecond.
fn run(case: &mut Case) -> f64 {
    let entry: EntryFunction = case.loaded.entry("bench").expect("the program is there");
    let pointers: Vec<*mut u8> = case.buffers.iter_mut().map(|b| b.as_mut_ptr().cast()).collect();
    let start = Instant::now();
    // SAFETY: the buffers have the sizes that the program declares, and live through the call.
    unsafe { entry(pointers.as_ptr(), case.workspace.as_mut_ptr(), std::ptr::null()) };
    case.flops / start.elapsed().as_nanos() as f64
}

/// The three products of a layer: its result, and its gradients by the input and by the kernel.
fn layer(name: &str, geometry: &Geometry, x: &[usize], w: &[usize]) -> Vec<Case> {
    let op = Convolve { geometry: geometry.clone() };
    let forward = function(&[x, w], |b, v| b.emit(op.clone(), v));
    let y = forward.graph.type_of(forward.results[0].value).sizes().expect("sizes are known");
    let by_input = function(&[x, w, &y], |b, v| {
        let shape = b.shape_of(v[0]);
        nnc::ir::ops::convolve::input_gradient(b, geometry, &shape, v[1], v[2]).expect("the gradient exists")
    });
    let sizes = w[..geometry.rank()].to_vec();
    let adjoint = nnc::ir::ops::convolve_kernel::ConvolveKernel { geometry: geometry.clone(), sizes };
    let by_kernel = function(&[x, &y], |b, v| b.emit(adjoint, v));
    vec![
        case(&format!("{name} forward"), &forward),
        case(&format!("{name} by input"), &by_input),
        case(&format!("{name} by kernel"), &by_kernel),
    ]
}

fn main() {
    let plain = Geometry::plain;
    let same = Geometry { low: vec![1; 2], high: vec![1; 2], ..plain(2) };
    let mut cases = layer("8x28x28x1 * 3x3x32", &plain(2), &[8, 28, 28, 1], &[3, 3, 1, 32]);
    cases.extend(layer("8x13x13x32 * 3x3x32", &plain(2), &[8, 13, 13, 32], &[3, 3, 32, 32]));
    cases.extend(layer("2x28x28x64 * 3x3x64 same", &same, &[2, 28, 28, 64], &[3, 3, 64, 64]));
    cases.extend(layer("8x14x14x256 * 1x1x64", &plain(2), &[8, 14, 14, 256], &[1, 1, 256, 64]));
    let strided = Geometry { strides: vec![2; 2], ..same.clone() };
    cases.extend(layer("2x28x28x64 * 3x3x128 / 2", &strided, &[2, 28, 28, 64], &[3, 3, 64, 128]));
    let depthwise = Geometry { groups: 64, ..same };
    cases.extend(layer("2x28x28x64 * 3x3 depthwise", &depthwise, &[2, 28, 28, 64], &[3, 3, 1, 64]));
    let product = function(&[&[64, 256], &[256, 64]], |b, v| {
        b.contract((v[0], &[0, 1]), (v[1], &[1, 2]), &[0, 2]).expect("it fits")
    });
    let mut probe = case("64x256 @ 256x64", &product);
    let mut shares = vec![Vec::new(); cases.len()];
    let probed = |case: &mut Case| (0..20).map(|_| run(case)).fold(0.0, f64::max);
    for _ in 0..SAMPLES {
        for (case, shares) in cases.iter_mut().zip(&mut shares) {
            let before = probed(&mut probe);
            let rate = run(case);
            let peak = before.max(probed(&mut probe));
            shares.push((rate / peak, rate));
        }
    }
    println!("share of `{}`, and GFLOP/s", probe.label);
    for (case, shares) in cases.iter().zip(&mut shares) {
        shares.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (share, rate) = shares[SAMPLES * 9 / 10];
        println!("{:40} {:5.1} %  {rate:6.1}", case.label, 100.0 * share);
    }
}
