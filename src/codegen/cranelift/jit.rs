//! Into memory: code that this process calls.

use std::mem::ManuallyDrop;
use std::sync::Mutex;

use cranelift_jit::{ArenaMemoryProvider, JITBuilder, JITModule};
use cranelift_module::{FuncId, default_libcall_names};
use rustc_hash::FxHashMap;

use super::target::{Isas, Use};
use super::unit;
use crate::codegen::{CodegenError, EntryFunction, KernelFunction, Loaded, Target};
use crate::ir::loops::{Place, Program};

/// Address space for code, beside what constants need. Only pages that are used cost memory.
const CODE_SPACE: usize = 256 << 20;

/// Programs in memory.
pub(super) struct JitCode {
    entries: FxHashMap<String, EntryFunction>,
    kernels: FxHashMap<String, Vec<KernelFunction>>,
    code_bytes: usize,
    /// Owns the memory. The lock is never taken but at the end: it makes the module, which is only `Send`, shareable.
    module: ManuallyDrop<Mutex<JITModule>>,
}

/// Compiles programs for this machine.
pub(super) fn compile(programs: &[Program], wide: bool) -> Result<JitCode, CodegenError> {
    unit::check(programs)?;
    let isas = Isas::new(&Target::host(), Use::Jit, wide)?;
    let mut builder = JITBuilder::with_isa(isas.speed.clone(), default_libcall_names());
    // One arena, so that every call reaches its target by a 32-bit distance.
    let arena = ArenaMemoryProvider::new_with_size(CODE_SPACE + constant_bytes(programs)).map_err(internal)?;
    builder.memory_provider(Box::new(arena));
    builder.symbol(unit::PARALLEL_SYMBOL, nn_rt::nn_rt_parallel as *const u8);
    let mut module = JITModule::new(builder);
    let defined = unit::define(&mut module, &isas, programs, &[], &[], true)?;
    module.finalize_definitions().map_err(internal)?;
    let entries = programs
        .iter()
        .zip(&defined.programs)
        .map(|(program, id)| {
            let address = module.get_finalized_function(*id);
            // SAFETY: the address is the start of a function which `program::lower` gave the signature of
            // `EntryFunction` in the calling convention of this machine.
            let entry = unsafe { std::mem::transmute::<*const u8, EntryFunction>(address) };
            (program.name.clone(), entry)
        })
        .collect();
    let of_kernel = |id: &FuncId| {
        let address = module.get_finalized_function(*id);
        // SAFETY: the address is the start of a function which either code generator gave the signature of
        // `KernelFunction` in the calling convention of this machine.
        unsafe { std::mem::transmute::<*const u8, KernelFunction>(address) }
    };
    let kernels = programs
        .iter()
        .zip(&defined.kernels)
        .map(|(program, ids)| (program.name.clone(), ids.iter().map(of_kernel).collect()))
        .collect();
    Ok(JitCode { entries, kernels, code_bytes: defined.code_bytes, module: ManuallyDrop::new(Mutex::new(module)) })
}

/// Bytes of constants with their alignment and the pages that they may begin.
fn constant_bytes(programs: &[Program]) -> usize {
    let bytes = |p: &Place| match p {
        Place::Constant { bytes } => bytes.len() + 8192,
        _ => 0,
    };
    programs.iter().flat_map(|p| &p.buffers).map(|b| bytes(&b.place)).sum()
}

fn internal(error: impl std::fmt::Display) -> CodegenError {
    CodegenError::Internal { place: "memory for code".to_string(), message: error.to_string() }
}

impl Loaded for JitCode {
    fn entry(&self, name: &str) -> Option<EntryFunction> {
        self.entries.get(name).copied()
    }

    fn kernel(&self, name: &str, number: usize) -> Option<KernelFunction> {
        self.kernels.get(name)?.get(number).copied()
    }

    fn code_bytes(&self) -> usize {
        self.code_bytes
    }
}

impl Drop for JitCode {
    fn drop(&mut self) {
        // SAFETY: the module is taken once, here, and the field is not used afterwards.
        let module = unsafe { ManuallyDrop::take(&mut self.module) };
        let module = module.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        // SAFETY: callers of `entry` promise that no call outlives this object (see `Loaded`).
        unsafe { module.free_memory() };
    }
}
