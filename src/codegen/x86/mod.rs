//! The wide code generator: kernels as AVX2 and FMA instructions, eight lanes at once, or as AVX-512 ones, sixteen at once.
//!
//! It takes most kernels of 32-bit values and leaves the others to Cranelift, which also takes every one of these and is their oracle: both
//! give the same bits. Kernels become bytes without relocations, which the Cranelift backend places beside its own functions.
//!
//! Reading order: [`machine`] (instructions on virtual registers), [`lower`] (from the loop IR to these), [`allocate`] (registers), [`encode`] (bytes), [`avx512`] (what
//! the wider vectors have in place of an AVX2 instruction).

mod allocate;
mod avx512;
mod encode;
mod lower;
mod machine;

use iced_x86::{Code, Decoder, DecoderOptions, Formatter, IntelFormatter};
use target_lexicon::{Architecture, OperatingSystem, Triple};

use super::{Cpu, Target};
use crate::ir::loops::Kernel;

pub use machine::Vectors;

/// Bytes that a kernel's code is aligned to: its constants are, and the inner loops of its tiles lie as they were measured.
pub const ALIGNMENT: u64 = 64;

/// The widest vectors that code of this kind may have on a target; `None` if it does not run there. It is written for one calling convention.
pub fn vectors(target: &Target) -> Option<Vectors> {
    let Target { triple, cpu } = target;
    if triple.architecture != Architecture::X86_64 || triple.operating_system == OperatingSystem::Windows {
        return None;
    }
    match cpu {
        Cpu::X86V2 => None,
        Cpu::X86V3 => Some(Vectors::Avx2),
        Cpu::X86V4 => Some(Vectors::Avx512),
        Cpu::Native if Triple::host().architecture == Architecture::X86_64 => detected(),
        // What `Native` means for another architecture than this machine's.
        Cpu::Native => Some(Vectors::Avx2),
    }
}

/// What this machine has, and its operating system saves when it changes threads.
#[cfg(target_arch = "x86_64")]
fn detected() -> Option<Vectors> {
    use std::arch::is_x86_feature_detected as has;
    if has!("avx512f") && has!("avx512dq") && has!("avx512bw") && has!("avx512vl") && has!("fma") {
        return Some(Vectors::Avx512);
    }
    (has!("avx2") && has!("fma")).then_some(Vectors::Avx2)
}

/// This machine is none of this architecture.
#[cfg(not(target_arch = "x86_64"))]
fn detected() -> Option<Vectors> {
    None
}

/// The code of a kernel, `extern "C" fn(buffers, begin, end)`; `None` if it is one that this generator leaves to others.
pub fn compile(kernel: &Kernel, vectors: Vectors) -> Option<Vec<u8>> {
    let mut code = lower::lower(kernel, vectors).ok()?;
    let assigned = allocate::allocate(&mut code)?;
    match encode::encode(&code, &assigned) {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            debug_assert!(false, "kernel {}: {error}", kernel.name);
            None
        }
    }
}

/// The instructions of a kernel's code as text.
pub fn text(kernel: &Kernel, vectors: Vectors) -> Option<String> {
    let bytes = compile(kernel, vectors)?;
    let mut formatter = IntelFormatter::new();
    let mut out = String::new();
    for instruction in &mut Decoder::with_ip(64, &bytes, 0, DecoderOptions::NONE) {
        let mut line = String::new();
        formatter.format(&instruction, &mut line);
        out.push_str(&format!("  {:5x}  {line}\n", instruction.ip()));
        // Constants follow.
        if instruction.code() == Code::Retnq {
            break;
        }
    }
    Some(out)
}
