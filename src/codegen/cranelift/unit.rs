//! All functions and constants of a unit into a module: one routine for memory and for object files.

use std::sync::atomic::{AtomicUsize, Ordering};

use cranelift_codegen::Context;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir as clif;
use cranelift_codegen::isa::TargetIsa;
use cranelift_module::{DataDescription, DataId, FuncId, Linkage, Module, ModuleReloc};
use rustc_hash::FxHashMap;

use super::kernel::{self, Unsupported};
use super::program::{self, References};
use super::target::{Isas, Use};
use super::wrapper;
use crate::codegen::{CodegenError, EntryWrapper, Target, TextStage, x86};
use crate::ir::loops::{Kernel, Place, Program, verify};

/// The function of the runtime that runs a kernel on a pool.
pub(super) const PARALLEL_SYMBOL: &str = "nn_rt_parallel";

/// Threads that compile functions; a compilation is a few milliseconds, so more do not pay.
const COMPILER_THREADS: usize = 2;

/// What was defined.
pub(super) struct Defined {
    /// The function of each program, in order.
    pub programs: Vec<FuncId>,
    /// The functions of each program's kernels, in order.
    pub kernels: Vec<Vec<FuncId>>,
    /// Bytes of machine code.
    pub code_bytes: usize,
}

/// A function to be compiled.
struct Job<'a> {
    id: FuncId,
    name: &'a str,
    work: Work<'a>,
}

enum Work<'a> {
    Kernel(&'a Kernel),
    /// Built already, since it refers to others.
    Function(Box<clif::Function>),
}

/// The machine code of a function.
struct Compiled {
    bytes: Vec<u8>,
    relocations: Vec<ModuleReloc>,
    alignment: u64,
}

/// Checks programs before anything is made of them.
pub(super) fn check(programs: &[Program]) -> Result<(), CodegenError> {
    for program in programs {
        verify::program(program)?;
        let planned = |p: &Place| !matches!(p, Place::Arena { offset: None });
        if let Some(buffer) = program.buffers.iter().find(|b| !planned(&b.place)) {
            let message = format!("buffer `{}` has no place in memory yet", buffer.name);
            return Err(verify::Invalid { place: program.name.clone(), message }.into());
        }
    }
    Ok(())
}

/// Compiles everything and defines it in `module`.
pub(super) fn define(
    module: &mut dyn Module,
    isas: &Isas,
    programs: &[Program],
    wrappers: &[EntryWrapper],
    constants: &[(String, u64)],
    threaded: bool,
) -> Result<Defined, CodegenError> {
    let kernel_signature = kernel::signature(module.isa());
    let program_signature = program::signature(module.isa());
    let parallel_signature = program::parallel_signature(module.isa());
    let parallel = match threaded {
        true => Some(declare(module, PARALLEL_SYMBOL, Linkage::Import, &parallel_signature)?),
        false => None,
    };
    let mut jobs: Vec<Job<'_>> = Vec::new();
    let mut kernels: FxHashMap<Kernel, FuncId> = FxHashMap::default();
    let mut references = Vec::new();
    for (number, program) in programs.iter().enumerate() {
        let mut ids = Vec::new();
        for kernel in &program.kernels {
            let content = kernel.named("");
            let id = match kernels.get(&content) {
                Some(id) => *id,
                None => {
                    let name = format!("kernel_{}_{}", kernels.len(), symbol_part(&kernel.name));
                    let id = declare(module, &name, Linkage::Local, &kernel_signature)?;
                    jobs.push(Job { id, name: &kernel.name, work: Work::Kernel(kernel) });
                    kernels.insert(content, id);
                    id
                }
            };
            ids.push(id);
        }
        let constants = define_constants(module, program, number)?;
        references.push(References { kernels: ids, constants, parallel });
    }
    let mut ids = Vec::new();
    for (number, (program, references)) in programs.iter().zip(&references).enumerate() {
        let name = format!("program_{number}_{}", symbol_part(&program.name));
        let id = declare(module, &name, Linkage::Local, &program_signature)?;
        let function = program::lower(program, references, module);
        jobs.push(Job { id, name: &program.name, work: Work::Function(Box::new(function)) });
        ids.push(id);
    }
    for wrapper in wrappers {
        let function = wrapper::lower(wrapper, programs, &ids, module)?;
        let id = declare(module, &wrapper.symbol, Linkage::Export, &function.signature)?;
        jobs.push(Job { id, name: &wrapper.symbol, work: Work::Function(Box::new(function)) });
    }
    for (symbol, value) in constants {
        let function = wrapper::constant(*value, module);
        let id = declare(module, symbol, Linkage::Export, &function.signature)?;
        jobs.push(Job { id, name: symbol, work: Work::Function(Box::new(function)) });
    }
    let code_bytes = compile_and_define(module, isas, &jobs)?;
    let kernels = references.into_iter().map(|r| r.kernels).collect();
    Ok(Defined { programs: ids, kernels, code_bytes })
}

/// The letters of a name that may stand in a symbol.
fn symbol_part(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).take(64).collect()
}

fn internal(place: &str, error: impl std::fmt::Display) -> CodegenError {
    CodegenError::Internal { place: place.to_string(), message: error.to_string() }
}

fn declare(
    module: &mut dyn Module,
    name: &str,
    linkage: Linkage,
    signature: &clif::Signature,
) -> Result<FuncId, CodegenError> {
    module.declare_function(name, linkage, signature).map_err(|e| internal(name, e))
}

fn define_constants(
    module: &mut dyn Module,
    program: &Program,
    number: usize,
) -> Result<Vec<Option<DataId>>, CodegenError> {
    let mut ids = Vec::new();
    for (index, buffer) in program.buffers.iter().enumerate() {
        let Place::Constant { bytes } = &buffer.place else {
            ids.push(None);
            continue;
        };
        let name = format!("constant_{number}_{index}");
        let id = module.declare_data(&name, Linkage::Local, false, false).map_err(|e| internal(&name, e))?;
        let mut data = DataDescription::new();
        // An empty object is no object to some linkers.
        data.define(if bytes.is_empty() { vec![0] } else { bytes.clone() }.into_boxed_slice());
        data.set_align(64);
        module.define_data(id, &data).map_err(|e| internal(&name, e))?;
        ids.push(Some(id));
    }
    Ok(ids)
}

fn compile_and_define(module: &mut dyn Module, isas: &Isas, jobs: &[Job<'_>]) -> Result<usize, CodegenError> {
    let mut total = 0;
    for (job, compiled) in jobs.iter().zip(compile_all(isas, jobs)) {
        let compiled = compiled?;
        total += compiled.bytes.len();
        module
            .define_function_bytes(job.id, compiled.alignment, &compiled.bytes, &compiled.relocations)
            .map_err(|e| internal(job.name, e))?;
    }
    Ok(total)
}

/// Compiles functions on a few threads; the results are in the order of the jobs.
fn compile_all(isas: &Isas, jobs: &[Job<'_>]) -> Vec<Result<Compiled, CodegenError>> {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            match jobs.get(at) {
                Some(job) => done.push((at, compile(isas, job))),
                None => return done,
            }
        }
    };
    let mut done = std::thread::scope(|scope| {
        let others: Vec<_> = (1..COMPILER_THREADS.min(jobs.len())).map(|_| scope.spawn(worker)).collect();
        let mut done = worker();
        for other in others {
            done.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        done
    });
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

/// The instruction set for a kernel.
fn isa_for<'a>(isas: &'a Isas, kernel: &Kernel) -> &'a dyn TargetIsa {
    if kernel::is_hand_ordered(&kernel.body) { &*isas.ordered } else { &*isas.speed }
}

fn lower_kernel(kernel: &Kernel, isa: &dyn TargetIsa) -> Result<clif::Function, CodegenError> {
    kernel::lower(kernel, isa)
        .map_err(|Unsupported(what)| CodegenError::Unsupported { kernel: kernel.name.clone(), what })
}

fn compile(isas: &Isas, job: &Job<'_>) -> Result<Compiled, CodegenError> {
    let (isa, function) = match &job.work {
        Work::Kernel(kernel) => {
            if let Some(bytes) = isas.wide.and_then(|vectors| x86::compile(kernel, vectors)) {
                return Ok(Compiled { bytes, relocations: Vec::new(), alignment: x86::ALIGNMENT });
            }
            let isa = isa_for(isas, kernel);
            (isa, lower_kernel(kernel, isa)?)
        }
        Work::Function(function) => (&*isas.speed, (**function).clone()),
    };
    let mut context = Context::for_function(function);
    context.compile(isa, &mut ControlPlane::default()).map_err(|e| internal(job.name, format!("{:?}", e.inner)))?;
    let code = context.compiled_code().expect("the function was compiled just now");
    let relocations =
        code.buffer.relocs().iter().map(|r| ModuleReloc::from_mach_reloc(r, &context.func, job.id)).collect();
    let alignment = u64::from(code.buffer.alignment).max(u64::from(isa.function_alignment().minimum));
    Ok(Compiled { bytes: code.code_buffer().to_vec(), relocations, alignment })
}

/// The kernels of a program in the form of some stage, one after the other.
pub(super) fn text(program: &Program, target: &Target, stage: TextStage, wide: bool) -> Result<String, CodegenError> {
    check(std::slice::from_ref(program))?;
    let isas = Isas::new(target, Use::Object, wide)?;
    let mut out = String::new();
    for kernel in &program.kernels {
        let isa = isa_for(&isas, kernel);
        let vectors = isas.wide.filter(|_| stage == TextStage::Assembly);
        let wide = vectors.and_then(|vectors| x86::text(kernel, vectors));
        if let Some(body) = wide {
            out.push_str(&format!("; kernel {}\n{body}\n", kernel.name));
            continue;
        }
        let function = lower_kernel(kernel, isa)?;
        let body = match stage {
            TextStage::Intermediate => function.display().to_string(),
            TextStage::Assembly => assembly(function, isa).map_err(|e| internal(&kernel.name, e))?,
        };
        out.push_str(&format!("; kernel {}\n{}\n\n", kernel.name, body.trim_end()));
    }
    Ok(out)
}

fn assembly(function: clif::Function, isa: &dyn TargetIsa) -> Result<String, String> {
    let mut context = Context::for_function(function);
    context.set_disasm(true);
    let code = context.compile(isa, &mut ControlPlane::default()).map_err(|e| format!("{:?}", e.inner))?;
    Ok(code.vcode.clone().unwrap_or_default())
}
