//! Loops, carried values and folds.

use nnc::ir::loops::build::KernelBuilder;
use nnc::ir::loops::*;
use nnc::ir::scalar::ScalarFunction as F;
use nnc::ir::types::DType;

use crate::common::{ALL, check};

#[test]
pub fn lanes_of_every_extent() {
    let mut k = KernelBuilder::new();
    let x = k.buffer("x", DType::F32, 40, BufferUse::Read);
    let y = k.buffer("y", DType::F32, 40 * 40, BufferUse::Write);
    check(k.finish("extents", None, |b| {
        for extent in 0..40 {
            b.lanes(extent, |b, i| {
                let v = b.load(x, Affine::scaled(i, 1));
                let two = b.constant(DType::F32, 2.0);
                let one = b.constant(DType::F32, 1.0);
                let r = b.map(F::Fma, &[v, two, one]);
                b.store(y, Affine::scaled(i, 1).offset(40 * extent as i64), r);
            });
        }
    }));
}

#[test]
pub fn carried_lanes_and_scalars() {
    for dtype in ALL.into_iter().filter(|d| *d != DType::Bool && !d.is_half()) {
        for (rows, columns) in [(0, 5), (1, 9), (6, 21), (7, 64)] {
            let mut k = KernelBuilder::new();
            let x = k.buffer("x", dtype, 7 * 64, BufferUse::Read);
            let y = k.buffer("y", dtype, 64, BufferUse::Write);
            let flags = k.buffer("flags", DType::Bool, 64, BufferUse::Write);
            let total = k.buffer("total", dtype, 1, BufferUse::Write);
            check(k.finish("carried", None, |b| {
                b.lanes(columns, |b, i| {
                    let start = b.constant(dtype, 1.0);
                    let truth = b.constant(DType::Bool, 1.0);
                    let last = b.for_carried(rows, &[start, truth], |b, row, now| {
                        let v = b.load(x, Affine::scaled(row, 64).plus(i, 1));
                        let sum = b.map(F::Add, &[now[0], v]);
                        let less = b.map(F::Less, &[v, sum]);
                        vec![sum, b.map(F::And, &[now[1], less])]
                    });
                    b.store(y, Affine::scaled(i, 1), last[0]);
                    b.store(flags, Affine::scaled(i, 1), last[1]);
                });
                let zero = b.constant(dtype, 0.0);
                let sum = b.for_carried(rows, &[zero], |b, row, now| {
                    let v = b.load(x, Affine::scaled(row, 64).offset(3));
                    vec![b.map(F::Add, &[now[0], v])]
                });
                b.store(total, Affine::constant(0), sum[0]);
            }));
        }
    }
}

#[test]
pub fn folds_of_every_extent() {
    let mut k = KernelBuilder::new();
    let x = k.buffer("x", DType::F32, 100, BufferUse::Read);
    let y = k.buffer("y", DType::F32, 101, BufferUse::Write);
    check(k.finish("sums", None, |b| {
        for extent in 0..=100 {
            let sum = b.fold(
                extent,
                &[(DType::F32, 0.0)],
                |b, i| vec![b.load(x, Affine::scaled(i, 1))],
                |b, l, r| vec![b.map(F::Add, &[l[0], r[0]])],
            );
            b.store(y, Affine::constant(extent as i64), sum[0]);
        }
    }));
}

#[test]
pub fn folds_of_every_dtype() {
    for dtype in ALL.into_iter().filter(|d| !d.is_half()) {
        for extent in [5, 16, 39] {
            let mut k = KernelBuilder::new();
            let x = k.buffer("x", dtype, 64, BufferUse::Read);
            let y = k.buffer("y", dtype, 3, BufferUse::Write);
            let at = k.buffer("at", DType::I32, 3, BufferUse::Write);
            let function = if dtype == DType::Bool { F::Or } else { F::Add };
            check(k.finish("fold", None, |b| {
                b.for_each(3, |b, row| {
                    // A sum beside the place of the largest element, as argmax has it.
                    let results = b.fold(
                        extent,
                        &[(dtype, 0.0), (dtype, -100.0), (DType::I32, 1e6)],
                        |b, i| {
                            let v = b.load(x, Affine::scaled(i, 1).plus(row, 8));
                            vec![v, v, b.index(Affine::scaled(i, 1))]
                        },
                        |b, l, r| {
                            let sum = b.map(function, &[l[0], r[0]]);
                            let larger = b.map(F::Greater, &[r[1], l[1]]);
                            let equal = b.map(F::Equal, &[r[1], l[1]]);
                            let before = b.map(F::Less, &[r[2], l[2]]);
                            let tie = b.map(F::And, &[equal, before]);
                            let take = b.map(F::Or, &[larger, tie]);
                            let most = b.map(F::Select, &[take, r[1], l[1]]);
                            vec![sum, most, b.map(F::Select, &[take, r[2], l[2]])]
                        },
                    );
                    let mixed = b.map(function, &[results[0], results[1]]);
                    b.store(y, Affine::scaled(row, 1), mixed);
                    b.store(at, Affine::scaled(row, 1), results[2]);
                });
            }));
        }
    }
}

#[test]
pub fn a_parallel_loop_runs_its_range() {
    for reverse in [false, true] {
        let mut k = KernelBuilder::new();
        let x = k.buffer("x", DType::F32, 9 * 10, BufferUse::Update);
        let var = k.variable();
        check(k.finish("rows", Some(ParallelLoop { var, extent: 9, grain: 2, reverse }), |b| {
            b.lanes(10, |b, i| {
                let at = Affine::scaled(var, 10).plus(i, 1);
                let v = b.load(x, at.clone());
                let row = b.index(Affine::scaled(var, 1));
                let row = b.convert(row, DType::F32);
                let sum = b.map(F::Add, &[v, row]);
                b.store(x, at, sum);
            });
        }));
    }
}

/// More values than registers, of both kinds: sums of everything, last loaded first used, from buffers of different strides.
#[test]
pub fn more_values_than_registers() {
    const COUNT: i64 = 44;
    let mut k = KernelBuilder::new();
    let inputs: Vec<BufferId> = (0..COUNT)
        .map(|i| k.buffer(format!("x{i}"), DType::F32, 3 * 21 * (1 + i as u64 % 5), BufferUse::Read))
        .collect();
    let y = k.buffer("y", DType::F32, 63, BufferUse::Write);
    check(k.finish("many", None, |b| {
        b.for_each(3, |b, row| {
            b.lanes(21, |b, lane| {
                let values: Vec<Value> = (0..COUNT)
                    .map(|i| {
                        let stride = 1 + i % 5;
                        b.load(inputs[i as usize], Affine::scaled(row, 21 * stride).plus(lane, stride))
                    })
                    .collect();
                let half = b.constant(DType::F32, 0.5);
                let last = *values.last().expect("there are values");
                let sum = values.iter().rev().fold(last, |sum, v| b.map(F::Fma, &[sum, half, *v]));
                let product = values.iter().fold(sum, |all, v| b.map(F::Mul, &[all, *v]));
                let both = b.map(F::Add, &[sum, product]);
                b.store(y, Affine::scaled(row, 21).plus(lane, 1), both);
            });
        });
    }));
}
