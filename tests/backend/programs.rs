//! Whole programs: places of buffers, threads, and what is refused.

use nnc::codegen::{CodegenError, Target, TextStage, backends};
use nnc::ir::loops::build::KernelBuilder;
use nnc::ir::loops::*;
use nnc::ir::scalar::ScalarFunction as F;
use nnc::ir::types::DType;

use crate::common::{Random, arguments, assert_same, call, program_of};

/// y = x · factor, row by row, rows in parallel.
fn scale(rows: u64, grain: u64) -> Kernel {
    let mut k = KernelBuilder::new();
    let x = k.buffer("x", DType::F32, rows * 50, BufferUse::Read);
    let factor = k.buffer("factor", DType::F32, 50, BufferUse::Read);
    let y = k.buffer("y", DType::F32, rows * 50, BufferUse::Write);
    let var = k.variable();
    k.finish("scale", Some(ParallelLoop { var, extent: rows, grain, reverse: false }), |b| {
        b.lanes(50, |b, i| {
            let v = b.load(x, Affine::scaled(var, 50).plus(i, 1));
            let f = b.load(factor, Affine::scaled(i, 1));
            let r = b.map(F::Mul, &[v, f]);
            b.store(y, Affine::scaled(var, 50).plus(i, 1), r);
        });
    })
}

/// out = (x · c) · c by way of the arena.
pub fn chain(rows: u64) -> Program {
    let buffer = |name: &str, elements, place| Buffer { name: name.to_string(), dtype: DType::F32, elements, place };
    let constant: Vec<u8> = (0..50).flat_map(|i| (i as f32 * 0.25 - 3.0).to_le_bytes()).collect();
    Program {
        name: "chain".to_string(),
        buffers: vec![
            buffer("x", rows * 50, Place::Argument { index: 0 }),
            buffer("out", rows * 50, Place::Argument { index: 1 }),
            buffer("middle", rows * 50, Place::Arena { offset: Some(64) }),
            buffer("factor", 50, Place::Constant { bytes: constant }),
        ],
        kernels: vec![scale(rows, 3)],
        steps: [[0, 3, 2], [2, 3, 1]].map(|b| Step::Call(Call::on_whole(0, b))).into(),
        pointers: 2,
        arena_bytes: 64 + rows * 200,
    }
}

#[test]
fn one_thread_and_three_give_the_same_bits() {
    let program = chain(40);
    let printed = text::program(&program);
    assert_eq!(text::program(&text::parse_program(&printed).unwrap()), printed);
    let loaded = backends()[0].jit(std::slice::from_ref(&program)).unwrap();
    assert!(loaded.code_bytes() > 0);
    let first = arguments(&program, &mut Random(5));
    let mut want = first.clone();
    interpret::program(&program, &mut want).unwrap();
    for threads in [None, Some(1), Some(3)] {
        let pool = threads.map(nn_rt::Pool::new);
        let mut got = first.clone();
        call(&*loaded, &program, &mut got, pool.as_ref());
        assert_same(&program, &got, &want);
    }
}

#[test]
fn code_is_shared_between_threads_and_programs() {
    let mut other = chain(40);
    other.name = "other".to_string();
    let loaded = backends()[0].jit(&[chain(40), other]).unwrap();
    std::thread::scope(|scope| {
        for name in ["chain", "other"] {
            let loaded = &*loaded;
            scope.spawn(move || {
                let mut program = chain(40);
                program.name = name.to_string();
                let mut got = arguments(&program, &mut Random(9));
                let mut want = got.clone();
                interpret::program(&program, &mut want).unwrap();
                call(loaded, &program, &mut got, None);
                assert_same(&program, &got, &want);
            });
        }
    });
    assert!(loaded.entry("third").is_none());
}

#[test]
fn invalid_and_unsupported_programs_are_errors() {
    let refused = |program: Program| backends()[0].jit(&[program]).err().expect("it does not compile");
    let mut short = chain(4);
    short.arena_bytes = 64;
    assert!(matches!(refused(short), CodegenError::Invalid(_)));
    let mut unplanned = chain(4);
    unplanned.buffers[2].place = Place::Arena { offset: None };
    assert!(refused(unplanned).to_string().contains("no place in memory"));

    let mut k = KernelBuilder::new();
    let x = k.buffer("x", DType::F16, 4, BufferUse::Read);
    let y = k.buffer("y", DType::F32, 4, BufferUse::Write);
    let half = k.finish("half", None, |b| {
        b.lanes(4, |b, i| {
            let v = b.load(x, Affine::scaled(i, 1));
            let wide = b.convert(v, DType::F32);
            b.store(y, Affine::scaled(i, 1), wide);
        });
    });
    assert!(refused(program_of(half)).to_string().contains("conversion of f16 to f32 before its expansion"));

    let mut k = KernelBuilder::new();
    let x = k.buffer("x", DType::F32, 1, BufferUse::Update);
    let exp = k.finish("exp", None, |b| {
        let v = b.load(x, Affine::constant(0));
        let e = b.map(F::Exp, &[v]);
        b.store(x, Affine::constant(0), e);
    });
    assert!(refused(program_of(exp)).to_string().contains("`exp` of floats before its expansion"));
}

#[test]
fn stages_have_a_text() {
    let backend = backends()[0];
    let clif = backend.text(&chain(4), &Target::host(), TextStage::Intermediate).unwrap();
    assert!(clif.contains("; kernel scale") && clif.contains("fmul"), "{clif}");
    let assembly = backend.text(&chain(4), &Target::host(), TextStage::Assembly).unwrap();
    assert!(assembly.contains("; kernel scale") && !assembly.contains("fmul."), "{assembly}");
}

#[test]
fn texts_with_mistakes_are_errors() {
    let good = text::kernel(&scale(2, 1));
    assert!(text::parse_kernel(&good).is_ok());
    for (from, to, message) in [
        ("mul", "mull", "line 9: `mull` is no function"),
        ("%0, %1", "%0, %9", "line 9: %9 is not defined here"),
        ("store y", "store z", "line 10: there is no buffer `z`"),
        ("f32[50]", "f33[50]", "line 3: `f33` is no dtype"),
        ("end", "", "line 11: expected a word"),
    ] {
        let bad = good.replacen(from, to, 1);
        let error = text::parse_kernel(&bad).unwrap_err().to_string();
        assert_eq!(error, message, "{bad}");
    }
    let deep = format!("kernel deep\n{}", "for i0 in 0..1 {\n".repeat(100_000));
    assert!(text::parse_kernel(&deep).unwrap_err().message.contains("too deep"));
}
