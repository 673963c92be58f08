//! Which instructions code of either width has: what its machines have, in one encoding, since going to and fro costs time.

use iced_x86::{Code, CpuidFeature, Decoder, DecoderOptions, EncodingKind, Instruction};
use nnc::codegen::x86::{self, Vectors};
use nnc::ir::loops::{Kernel, text};

/// The instructions of a kernel, to its return; constants follow.
fn decoded(code: &[u8]) -> Vec<Instruction> {
    let mut all = Vec::new();
    for instruction in &mut Decoder::new(64, code, DecoderOptions::NONE) {
        let is_last = instruction.code() == Code::Retnq;
        all.push(instruction);
        if is_last {
            break;
        }
    }
    all
}

/// Whether an instruction is one of code with these vectors.
fn belongs(instruction: &Instruction, vectors: Vectors) -> bool {
    use CpuidFeature as F;
    let basic = [F::INTEL8086, F::INTEL186, F::INTEL386, F::X64, F::SSE, F::PREFETCHW];
    let (own, encoding): (&[F], _) = match vectors {
        Vectors::Avx2 => (&[F::AVX, F::AVX2, F::FMA], EncodingKind::VEX),
        Vectors::Avx512 => (&[F::AVX512F, F::AVX512DQ, F::AVX512BW, F::AVX512VL], EncodingKind::EVEX),
    };
    match instruction.code() {
        Code::INVALID => false,
        Code::VEX_Vzeroupper => true,
        code => {
            let features = code.cpuid_features();
            let fits = |feature: &F| basic.contains(feature) || own.contains(feature);
            let is_wide = features.iter().any(|feature| own.contains(feature));
            features.iter().all(fits) && (!is_wide || code.op_code().encoding() == encoding)
        }
    }
}

/// The code of a kernel, if the generator takes it, all of whose instructions are those of the machine.
pub fn check(kernel: &Kernel, vectors: Vectors) -> Option<Vec<u8>> {
    let code = x86::compile(kernel, vectors)?;
    let all = decoded(&code);
    assert_eq!(all.last().map(Instruction::code), Some(Code::Retnq), "{}", text::kernel(kernel));
    for instruction in all {
        assert!(belongs(&instruction, vectors), "{vectors:?}: {:?}\n{}", instruction.code(), text::kernel(kernel));
    }
    Some(code)
}
