//! The wide code generator: kernels as AVX2 and FMA instructions, eight lanes at once.
//!
//! It takes most kernels of 32-bit values and leaves the others to Cranelift, which also takes every one of these and is their oracle: both
//! give the same bits. Kernels become bytes without relocations, which the Cranelift backend places beside its own functions.
//!
//! Reading order: [`machine`] (instructions on virtual registers), [`lower`] (from the loop IR to these), [`allocate`] (registers), [`encode`] (bytes).

mod allocate;
mod encode;
mod lower;
mod machine;

use iced_x86::{Code, Decoder, DecoderOptions, Formatter, IntelFormatter};
use target_lexicon::{Architecture, OperatingSystem, Triple};

use crate::ir::loops::Kernel;

/// Bytes that a kernel's code is aligned to: its constants are, and the inner loops of its tiles lie as they were measured.
pub const ALIGNMENT: u64 = 64;

/// Whether code of this kind runs on a target that has AVX2 and FMA: it is written for one calling convention.
pub fn runs_on(triple: &Triple) -> bool {
    triple.architecture == Architecture::X86_64 && triple.operating_system != OperatingSystem::Windows
}

/// The code of a kernel, `extern "C" fn(buffers, begin, end)`; `None` if it is one that this generator leaves to others.
pub fn compile(kernel: &Kernel) -> Option<Vec<u8>> {
    let mut code = lower::lower(kernel).ok()?;
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
pub fn text(kernel: &Kernel) -> Option<String> {
    let bytes = compile(kernel)?;
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
