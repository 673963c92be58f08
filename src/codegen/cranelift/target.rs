//! Instruction sets: from a [`Target`] to Cranelift's `TargetIsa`, once for tile kernels and once for all others.

use cranelift_codegen::isa::{self, OwnedTargetIsa};
use cranelift_codegen::settings::{self, Configurable};
use target_lexicon::{Architecture, Triple};

use crate::codegen::{CodegenError, Cpu, Target, x86};

/// The same machine with two optimization levels.
pub(super) struct Isas {
    /// For everything but tiles.
    pub speed: OwnedTargetIsa,
    /// For kernels with tiles, whose instructions are already in the right order; `speed` would move and spill them.
    pub ordered: OwnedTargetIsa,
    /// The vectors of kernels that are wide, of more bits than Cranelift's; none if no kernel may be.
    pub wide: Option<x86::Vectors>,
}

/// What becomes of the code.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Jit,
    Object,
}

impl Isas {
    /// The instruction sets of a target; `wide` says whether kernels may be wide where it has wide vectors.
    pub(super) fn new(target: &Target, usage: Use, wide: bool) -> Result<Isas, CodegenError> {
        let fail = |reason: String| CodegenError::Target { target: target.triple.to_string(), reason };
        let isas = Isas {
            speed: isa(target, usage, "speed").map_err(fail)?,
            ordered: isa(target, usage, "none").map_err(fail)?,
            wide: if wide { x86::vectors(target) } else { None },
        };
        // Cranelift calls a library for `fma` unless it may use both; other architectures have neither flag.
        let lacks = |name: &str| isas.speed.isa_flags().iter().any(|f| f.name == name && f.as_bool() == Some(false));
        let without_fma = lacks("has_fma") || lacks("has_avx");
        if without_fma {
            return Err(fail("it has no fused multiply-add (FMA); use x86-64-v3 or later".to_string()));
        }
        Ok(isas)
    }
}

fn isa(target: &Target, usage: Use, opt_level: &str) -> Result<OwnedTargetIsa, String> {
    let mut flags = settings::builder();
    let pic = if usage == Use::Object { "true" } else { "false" };
    for (name, value) in [
        ("opt_level", opt_level),
        ("is_pic", pic),
        ("enable_verifier", if cfg!(debug_assertions) { "true" } else { "false" }),
        ("enable_probestack", "false"),
        ("unwind_info", "false"),
        ("log2_min_function_alignment", "6"),
        ("use_colocated_libcalls", "false"),
    ] {
        flags.set(name, value).map_err(|e| format!("flag {name}: {e}"))?;
    }
    builder(target)?.finish(settings::Flags::new(flags)).map_err(|e| e.to_string())
}

fn builder(target: &Target) -> Result<isa::Builder, String> {
    let host = Triple::host();
    let native = target.cpu == Cpu::Native && target.triple.architecture == host.architecture;
    let mut builder = isa::lookup(target.triple.clone()).map_err(|e| e.to_string())?;
    if native {
        cranelift_native::infer_native_flags(&mut builder)?;
        return Ok(builder);
    }
    let preset = match (target.cpu, target.triple.architecture) {
        (Cpu::Native, Architecture::X86_64) => "x86-64-v3",
        (Cpu::Native, _) => return Ok(builder),
        (_, architecture) if architecture != Architecture::X86_64 => {
            return Err("the cpu levels x86-64-v2 to v4 are for x86-64 only".to_string());
        }
        (Cpu::X86V2, _) => "x86-64-v2",
        (Cpu::X86V3, _) => "x86-64-v3",
        (Cpu::X86V4, _) => "x86-64-v4",
    };
    builder.enable(preset).map_err(|e| e.to_string())?;
    if preset != "x86-64-v2" {
        // Cranelift's presets leave them out, though the levels v3 and v4 have them.
        for flag in ["has_avx", "has_avx2"] {
            builder.enable(flag).map_err(|e| e.to_string())?;
        }
    }
    Ok(builder)
}
