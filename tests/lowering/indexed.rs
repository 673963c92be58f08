//! Ops that gather, scatter, sort and run along an axis, on shapes large enough to be shared among threads.

use nnc::ir::graph::{Function, ResultRole, Role};
use nnc::ir::ops::{Op, cumsum, gather, recurrence, scatter_add, sort};
use nnc::ir::tensor::Tensor;
use nnc::ir::types::DType;

use crate::programs::agreement::{agree, compile};
use crate::writer::Writer;

/// An op of arguments of the given dtypes and shapes; integers are below `limit`.
fn one(op: impl Into<Op>, operands: &[(DType, &[usize])], limit: f64) -> (Function, Vec<Tensor>) {
    let mut w = Writer::default();
    let mut arguments = Vec::new();
    let mut inputs = Vec::new();
    for (number, (dtype, shape)) in operands.iter().enumerate() {
        inputs.push(w.argument(&format!("x{number}"), Role::Input, *dtype, shape));
        let part = |i: usize| (0.618_033_988_749_895 * (i + 1) as f64 + 0.31 * number as f64).fract();
        let value = |i: usize| match dtype {
            DType::F32 => f64::from((part(i) * 2.0 - 1.0) as f32),
            _ => (part(i) * limit).floor(),
        };
        let ty = nnc::ir::types::TensorType::new(*dtype, shape.iter().copied());
        arguments.push(Tensor::new(ty, (0..shape.iter().product::<usize>()).map(value).collect()));
    }
    for (number, value) in w.b.add(op, &inputs).expect("the operands fit").into_iter().enumerate() {
        w.result(&format!("y{number}"), ResultRole::Output, value);
    }
    (w.finish_raw(), arguments)
}

/// Whether some kernel of the function is shared among threads.
fn is_parallel(function: &Function) -> bool {
    compile(function, true).expect("it compiles").kernels.iter().any(|k| k.parallel.is_some())
}

#[test]
fn large_ones_are_shared_and_right() {
    let f = DType::F32;
    let sorted = |axis: usize, descending: bool| sort::Sort { axis, descending };
    let sum = |axis: usize| cumsum::Cumsum { axis, reverse: false, exclusive: false };
    let runs = |axis: usize| recurrence::Recurrence { axis, reverse: true };
    let scatter = |axis: usize| scatter_add::ScatterAdd { axis };
    let i = DType::I32;
    let cases: Vec<(bool, (Function, Vec<Tensor>))> = vec![
        (true, one(sorted(1, false), &[(f, &[130, 100])], 0.0)),
        (true, one(sorted(0, true), &[(f, &[100, 64])], 0.0)),
        (true, one(sorted(1, false), &[(DType::U8, &[7, 200, 33])], 256.0)),
        (false, one(sorted(0, false), &[(f, &[5000])], 0.0)),
        (true, one(sum(1), &[(f, &[256, 300])], 0.0)),
        (true, one(sum(0), &[(f, &[700, 128])], 0.0)),
        (true, one(sum(1), &[(f, &[3, 500, 50])], 0.0)),
        (false, one(sum(0), &[(f, &[4000])], 0.0)),
        (true, one(runs(1), &[(f, &[128, 257]), (f, &[128, 257])], 0.0)),
        (true, one(runs(0), &[(f, &[400, 96]), (f, &[400, 96])], 0.0)),
        // An embedding's table and its gradient.
        (true, one(gather::Gather { axis: 0 }, &[(f, &[500, 64]), (i, &[40, 20])], 500.0)),
        (true, one(scatter(0), &[(f, &[500, 64]), (i, &[800]), (f, &[800, 64])], 510.0)),
        (true, one(scatter(1), &[(f, &[30, 100]), (i, &[700]), (f, &[30, 700])], 100.0)),
        (false, one(scatter(0), &[(f, &[100]), (i, &[9000]), (f, &[9000])], 100.0)),
    ];
    for (parallel, (function, arguments)) in cases {
        agree(&function, &arguments).unwrap_or_else(|e| panic!("{e}\n{function}"));
        assert_eq!(is_parallel(&function), parallel, "{function}");
    }
}

#[test]
fn scattering_takes_time_in_proportion_to_the_updates() {
    let work = |places: usize, updates: usize| {
        let scatter = scatter_add::ScatterAdd { axis: 0 };
        let operands: [(DType, &[usize]); 3] =
            [(DType::F32, &[places]), (DType::I32, &[updates]), (DType::F32, &[updates])];
        let program = compile(&one(scatter, &operands, 1.0).0, true).expect("it compiles");
        program.kernels.iter().map(|k| nnc::passes::lower::finish::work(&k.body)).sum::<u64>()
    };
    let (small, large) = (work(1000, 1000), work(1000, 100_000));
    assert!(large < 120 * small, "{small} instructions became {large}");
    assert!(work(100_000, 1000) < 120 * small);
}
