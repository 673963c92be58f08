//! Every function, conversion and way to memory, in vector loops of every kind of extent.

use nnc::ir::loops::build::{BlockBuilder, KernelBuilder};
use nnc::ir::loops::*;
use nnc::ir::scalar::ScalarFunction as F;
use nnc::ir::types::DType;
use nnc::passes::expand_math;

use crate::common::{ALL, INTEGERS, check, check_with};

/// Extents that take every way through a vector loop.
const EXTENTS: [u64; 6] = [1, 3, 4, 16, 23, 45];
const TOTAL: u64 = 92;

/// A kernel that computes `write` of the elements of its inputs, in loops of all extents, and once by scalars.
fn elementwise(
    name: &str,
    inputs: &[DType],
    output: DType,
    write: impl Fn(&mut BlockBuilder<'_>, &[Value]) -> Value,
) -> Kernel {
    let mut k = KernelBuilder::new();
    let xs: Vec<BufferId> =
        (inputs.iter().enumerate()).map(|(i, d)| k.buffer(format!("x{i}"), *d, TOTAL + 1, BufferUse::Read)).collect();
    let y = k.buffer("y", output, TOTAL + 1, BufferUse::Write);
    k.finish(name, None, |b| {
        let mut start = 0;
        for extent in EXTENTS {
            b.lanes(extent, |b, i| {
                let at = Affine::scaled(i, 1).offset(start);
                let operands: Vec<Value> = xs.iter().map(|x| b.load(*x, at.clone())).collect();
                let result = write(b, &operands);
                b.store(y, at, result);
            });
            start += extent as i64;
        }
        let at = Affine::constant(start);
        let operands: Vec<Value> = xs.iter().map(|x| b.load(*x, at.clone())).collect();
        let result = write(b, &operands);
        b.store(y, at, result);
    })
}

#[test]
pub fn every_function_of_every_dtype() {
    for function in F::ALL {
        for dtype in ALL {
            let mut operands = vec![dtype; function.arity()];
            if *function == F::Select {
                operands[0] = DType::Bool;
            }
            if !function.accepts(&operands) || (dtype.is_half() && *function != F::Select) {
                continue;
            }
            let name = format!("{}_{dtype}", function.name());
            let output = function.result_dtype(&operands);
            let kernel = elementwise(&name, &operands, output, |b, x| b.map(*function, x));
            let kernel = expand_math::kernel(&kernel).unwrap_or_else(|e| panic!("{e}"));
            check(kernel);
        }
    }
}

#[test]
pub fn functions_with_a_constant() {
    for dtype in INTEGERS.into_iter().chain([DType::F32, DType::F64]) {
        for function in [F::Min, F::Max, F::Less, F::Mul, F::Div] {
            let output = function.result_dtype(&[dtype, dtype]);
            for number in [0.0, 3.0] {
                check(elementwise("right", &[dtype], output, |b, x| {
                    let c = b.constant(dtype, number);
                    b.map(function, &[x[0], c])
                }));
                check(elementwise("left", &[dtype], output, |b, x| {
                    let c = b.constant(dtype, number);
                    b.map(function, &[c, x[0]])
                }));
            }
        }
    }
    for dtype in INTEGERS {
        for function in [F::ShiftLeft, F::ShiftRight] {
            check(elementwise("shift", &[dtype], dtype, |b, x| {
                let c = b.constant(dtype, 5.0);
                b.map(function, &[x[0], c])
            }));
        }
    }
}

#[test]
pub fn conversions_between_all_dtypes() {
    for from in ALL {
        for to in ALL {
            check(elementwise(&format!("{from}_to_{to}"), &[from], to, |b, x| b.convert(x[0], to)));
        }
    }
}

#[test]
pub fn bits_as_other_dtypes() {
    for from in ALL {
        for to in ALL {
            if from.bytes() == to.bytes() && from != DType::Bool && to != DType::Bool {
                check(elementwise(&format!("{from}_as_{to}"), &[from], to, |b, x| b.bitcast(x[0], to)));
            }
        }
    }
}

#[test]
pub fn one_of_four_by_two_bits() {
    for (dtype, table) in [
        (DType::F32, [0.1, -2.0, f64::INFINITY, 1e-40]),
        (DType::I32, [0.0, -7.0, 1e9, 3.0]),
        (DType::U32, [4e9, 1.0, 2.0, 0.0]),
    ] {
        check(elementwise("one_of", &[DType::I32], dtype, |b, x| b.one_of(x[0], dtype, table)));
    }
}

/// What a choice makes of a zero on either side, where a bit mask will do.
#[test]
pub fn choices_of_zero() {
    for zero in [0.0, -0.0] {
        let inputs = [DType::Bool, DType::F32];
        check(elementwise("zero_or", &inputs, DType::F32, |b, x| {
            let zero = b.constant(DType::F32, zero);
            b.map(F::Select, &[x[0], zero, x[1]])
        }));
        check(elementwise("or_zero", &inputs, DType::F32, |b, x| {
            let zero = b.constant(DType::F32, zero);
            b.map(F::Select, &[x[0], x[1], zero])
        }));
    }
}

/// Vector loops of every length whose loads and stores are of bytes, masks, words next to each other, words apart and words at indices.
#[test]
pub fn rests_of_every_way_to_memory() {
    const MOST: i64 = 33;
    let mut k = KernelBuilder::new();
    let bytes = k.buffer("bytes", DType::U8, MOST as u64, BufferUse::Read);
    let flags = k.buffer("flags", DType::Bool, MOST as u64, BufferUse::Read);
    let x = k.buffer("x", DType::F32, 100 + MOST as u64, BufferUse::Read);
    let index = k.buffer("index", DType::I32, MOST as u64, BufferUse::Read);
    let y = k.buffer("y", DType::F32, ((MOST + 1) * MOST * 2) as u64, BufferUse::Update);
    let less = k.buffer("less", DType::Bool, ((MOST + 1) * MOST) as u64, BufferUse::Update);
    let kernel = k.finish("rests", None, |b| {
        for extent in 1..=MOST {
            b.lanes(extent as u64, |b, i| {
                let at = b.load(index, Affine::scaled(i, 1));
                let gathered = b.load_at(x, Affine::scaled(i, 1), at, (1, 100));
                let byte = b.load(bytes, Affine::scaled(i, 1));
                let byte = b.convert(byte, DType::F32);
                let sum = b.map(F::Add, &[gathered, byte]);
                let flag = b.load(flags, Affine::scaled(i, 1));
                let apart = b.load(x, Affine::scaled(i, 3));
                let chosen = b.map(F::Select, &[flag, sum, apart]);
                b.store(y, Affine::scaled(i, 2).offset(2 * extent * MOST), chosen);
                let smaller = b.map(F::Less, &[apart, gathered]);
                b.store(less, Affine::scaled(i, 1).offset(extent * MOST), smaller);
            });
        }
    });
    check_with(kernel, |buffer, bytes| indices_below(100, buffer, bytes));
}

#[test]
pub fn strides_and_gathers() {
    for dtype in ALL {
        for (from, to) in [(2, 1), (1, 3), (-1, 1), (5, -2), (0, 1)] {
            let mut k = KernelBuilder::new();
            let x = k.buffer("x", dtype, 256, BufferUse::Read);
            let y = k.buffer("y", dtype, 256, BufferUse::Update);
            check(k.finish("strided", None, |b| {
                b.lanes(37, |b, i| {
                    let source = Affine::scaled(i, from).offset(if from < 0 { 200 } else { 4 });
                    let target = Affine::scaled(i, to).offset(if to < 0 { 200 } else { 4 });
                    let v = b.load(x, source);
                    b.store(y, target, v);
                });
            }));
        }
        let mut k = KernelBuilder::new();
        let x = k.buffer("x", dtype, 1000, BufferUse::Read);
        let index = k.buffer("index", DType::I32, 37, BufferUse::Read);
        let y = k.buffer("y", dtype, 37, BufferUse::Write);
        let kernel = k.finish("gather", None, |b| {
            b.lanes(37, |b, i| {
                let at = b.load(index, Affine::scaled(i, 1));
                let result = b.load_at(x, Affine::scaled(i, 2).offset(7), at, (9, 100));
                b.store(y, Affine::scaled(i, 1), result);
            });
        });
        check_with(kernel, |buffer, bytes| indices_below(100, buffer, bytes));
    }
}

/// Wide code turns squares of rows; what is left of both loops is copied element by element.
#[test]
pub fn columns_into_rows() {
    for dtype in [DType::F32, DType::I32, DType::F64, DType::U8] {
        for (columns, rows, stride) in [(16, 16, 16), (35, 32, 40), (40, 12, 41), (17, 19, 17), (64, 3, -64), (8, 8, 9)]
        {
            let mut k = KernelBuilder::new();
            let x = k.buffer("x", dtype, 64 * 64, BufferUse::Read);
            let y = k.buffer("y", dtype, 64 * 64, BufferUse::Update);
            let block = k.variable();
            let parallel = ParallelLoop { var: block, extent: 2, grain: 1, reverse: false };
            let last = if stride < 0 { 64 * 60 } else { 0 };
            check(k.finish("turn", Some(parallel), |b| {
                b.for_each(columns, |b, column| {
                    b.lanes(rows, |b, row| {
                        let source = Affine::scaled(row, stride).plus(column, 1).plus(block, 64).offset(last);
                        let v = b.load(x, source);
                        b.store(y, Affine::scaled(column, 32).plus(row, 1).plus(block, 2048), v);
                    });
                });
            }));
        }
    }
}

/// Makes the random bytes of a buffer called `index` numbers below 100.
fn indices_below(limit: u8, buffer: &str, bytes: &mut [u8]) {
    if buffer == "index" {
        bytes.chunks_mut(4).for_each(|c| c.copy_from_slice(&i32::from(c[0] % limit).to_le_bytes()));
    }
}

#[test]
pub fn stores_at_indices() {
    for dtype in ALL {
        let mut k = KernelBuilder::new();
        let x = k.buffer("x", dtype, 37 * 5, BufferUse::Read);
        let index = k.buffer("index", DType::I32, 37, BufferUse::Read);
        let y = k.buffer("y", dtype, 11 * 37 + 3, BufferUse::Update);
        let apart = k.buffer("apart", dtype, 37 * 40, BufferUse::Update);
        let kernel = k.finish("scatter", None, |b| {
            // One index for all lanes, adjacent and apart; the row is read and written again.
            b.for_each(5, |b, j| {
                let at = b.load(index, Affine::scaled(j, 3));
                b.lanes(37, |b, i| {
                    let v = b.load(x, Affine::scaled(i, 1).plus(j, 37));
                    let there = b.load_at(y, Affine::scaled(i, 1).offset(3), at, (37, 11));
                    // Halves are compared as the f32 that they are.
                    let compared = [there, v].map(|x| if dtype.is_half() { b.convert(x, DType::F32) } else { x });
                    let larger = b.map(F::Less, &compared);
                    let kept = b.map(F::Select, &[larger, v, there]);
                    b.store_at(y, Affine::scaled(i, 1).offset(3), at, (37, 11), kept);
                    b.store_at(apart, Affine::scaled(i, 40).offset(11), at, (-1, 11), v);
                });
            });
            // An index for each lane.
            b.lanes(37, |b, i| {
                let at = b.load(index, Affine::scaled(i, 1));
                let v = b.load(x, Affine::scaled(i, 2));
                b.store_at(apart, Affine::scaled(i, 40), at, (3, 11), v);
            });
        });
        check_with(kernel, |buffer, bytes| indices_below(11, buffer, bytes));
    }
}

#[test]
pub fn places_of_indices_are_checked() {
    let scatter = |extent: u64, lanes: i64| {
        let mut k = KernelBuilder::new();
        let index = k.buffer("index", DType::I32, 1, BufferUse::Read);
        let y = k.buffer("y", DType::F32, 20, BufferUse::Write);
        let kernel = k.finish("scatter", None, |b| {
            let at = b.load(index, Affine::constant(0));
            let one = b.constant(DType::F32, 1.0);
            b.lanes(4, |b, i| b.store_at(y, Affine::scaled(i, lanes), at, (4, extent), one));
        });
        verify::kernel(&kernel)
    };
    assert_eq!(scatter(5, 1), Ok(()));
    assert!(scatter(6, 1).unwrap_err().message.contains("addressed at 0..=23"));
    assert!(scatter(5, 0).unwrap_err().message.contains("stores at one place"));
    assert!(scatter(0, 1).is_err());
}

#[test]
pub fn indices_of_loops() {
    let mut k = KernelBuilder::new();
    let y = k.buffer("y", DType::I32, 5 * 21, BufferUse::Write);
    check(k.finish("indices", None, |b| {
        b.for_each(5, |b, row| {
            b.lanes(21, |b, i| {
                let index = b.index(Affine::scaled(i, 3).plus(row, -100).offset(i64::from(i32::MAX) - 20));
                let other = b.index(Affine::scaled(row, 1).offset(2));
                let sum = b.map(F::Xor, &[index, other]);
                b.store(y, Affine::scaled(i, 1).plus(row, 21), sum);
            });
        });
    }));
}
