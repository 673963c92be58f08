//! `f16` and `bf16` against the `half` crate: every value, and every place where rounding turns.

use half::{bf16, f16};
use nnc::codegen::backends;
use nnc::ir::loops::build::KernelBuilder;
use nnc::ir::loops::*;
use nnc::ir::types::DType;
use nnc::passes::expand_math;

use crate::common::{call, program_of};

/// Converts all elements by compiled code.
fn converted<const N: usize>(from: DType, to: DType, elements: &[[u8; N]]) -> Vec<Vec<u8>> {
    let count = elements.len() as u64;
    let mut k = KernelBuilder::new();
    let x = k.buffer("x", from, count, BufferUse::Read);
    let y = k.buffer("y", to, count, BufferUse::Write);
    let kernel = k.finish("convert", None, |b| {
        b.lanes(count, |b, i| {
            let value = b.load(x, Affine::scaled(i, 1));
            let value = b.convert(value, to);
            b.store(y, Affine::scaled(i, 1), value);
        });
    });
    let program = program_of(expand_math::kernel(&kernel).expect("conversions have an expansion"));
    let loaded = backends()[0].jit(std::slice::from_ref(&program)).expect("the kernel compiles");
    let mut arguments = vec![elements.concat(), vec![0; count as usize * to.bytes()]];
    call(&*loaded, &program, &mut arguments, None);
    arguments[1].chunks(to.bytes()).map(<[u8]>::to_vec).collect()
}

fn single(bytes: &[u8]) -> f32 {
    f32::from_le_bytes(bytes.try_into().expect("4 bytes"))
}

fn word(bytes: &[u8]) -> u16 {
    u16::from_le_bytes(bytes.try_into().expect("2 bytes"))
}

#[test]
fn every_half_widens_exactly() {
    let all: Vec<[u8; 2]> = (0..=u16::MAX).map(u16::to_le_bytes).collect();
    let widened = [converted(DType::F16, DType::F32, &all), converted(DType::BF16, DType::F32, &all)];
    for bits in 0..=u16::MAX {
        let truth = [f16::from_bits(bits).to_f32(), bf16::from_bits(bits).to_f32()];
        for (got, truth) in widened.iter().zip(truth) {
            let got = single(&got[usize::from(bits)]);
            assert!(
                got.to_bits() == truth.to_bits() || (got.is_nan() && truth.is_nan()),
                "{bits:04x}: {got}, not {truth}"
            );
        }
    }
}

/// Each half, the middle between it and the next, and the numbers beside both.
fn turning_points(widen: impl Fn(u16) -> f32) -> Vec<[u8; 4]> {
    let mut points = Vec::new();
    for bits in 0..u16::MAX {
        let (here, next) = (widen(bits), widen(bits + 1));
        let middle = ((f64::from(here) + f64::from(next)) / 2.0) as f32;
        for point in [here, middle] {
            let bits = point.to_bits();
            points.extend([bits.wrapping_sub(1), bits, bits.wrapping_add(1)].map(u32::to_le_bytes));
        }
    }
    let ends = [f32::MAX, f32::MIN, 65519.99, 65520.0, 1e-45, f32::NAN, f32::INFINITY, 3.395e38, -0.0];
    points.extend(ends.map(f32::to_le_bytes));
    points.extend((0..1u32 << 16).map(|i| (i.wrapping_mul(65_521) ^ 0x5555).to_le_bytes()));
    points
}

#[test]
fn narrowing_rounds_to_nearest_even() {
    let points = turning_points(|bits| f16::from_bits(bits).to_f32());
    for (got, x) in converted(DType::F32, DType::F16, &points).iter().zip(&points) {
        let (got, truth) = (f16::from_bits(word(got)), f16::from_f32(single(x)));
        assert!(
            got.to_bits() == truth.to_bits() || (got.is_nan() && truth.is_nan()),
            "{:e}: {got}, not {truth}",
            single(x)
        );
    }
    let points = turning_points(|bits| bf16::from_bits(bits).to_f32());
    for (got, x) in converted(DType::F32, DType::BF16, &points).iter().zip(&points) {
        let (got, truth) = (bf16::from_bits(word(got)), bf16::from_f32(single(x)));
        assert!(
            got.to_bits() == truth.to_bits() || (got.is_nan() && truth.is_nan()),
            "{:e}: {got}, not {truth}",
            single(x)
        );
    }
}
