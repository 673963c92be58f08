//! Backends: from loop IR to machine code, in memory or as an object file.
//!
//! A [`Backend`] takes whole [`Program`]s whose loop passes have run (no `Contract` needs to be left, high-level
//! functions are expanded, memory is planned). What compiled code expects at run time is in `ARCHITECTURE.md`,
//! "Calling convention". The list of backends is [`backends`].

use std::ffi::c_void;

use target_lexicon::Triple;

use crate::ir::loops::Program;
use crate::ir::loops::verify::Invalid;

pub mod cranelift;
pub mod wrapper;
pub mod x86;

pub use wrapper::{EntryWrapper, Prologue, Source, Variant, WrapperArgument};

/// Compiled entry point: pointers for the program's arguments, a 64-byte aligned workspace, and a pool or null.
pub type EntryFunction = unsafe extern "C" fn(*const *mut u8, *mut u8, *const c_void);

/// Compiled kernel: the addresses of its buffers, and the range of its parallel variable.
pub type KernelFunction = unsafe extern "C" fn(*const *mut u8, u64, u64);

/// A set of machine instructions that code may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cpu {
    /// What this machine has; for another architecture than this machine's, its baseline.
    Native,
    /// x86-64 with SSE4.2.
    X86V2,
    /// x86-64 with AVX2 and FMA.
    X86V3,
    /// x86-64 with AVX-512.
    X86V4,
}

impl Cpu {
    /// The names of the command line, in order.
    pub const NAMED: [(&'static str, Cpu); 4] =
        [("native", Cpu::Native), ("x86-64-v2", Cpu::X86V2), ("x86-64-v3", Cpu::X86V3), ("x86-64-v4", Cpu::X86V4)];

    /// The level called `name`; `v2` to `v4` are short for `x86-64-v2` and so on.
    pub fn from_name(name: &str) -> Option<Cpu> {
        Self::NAMED.iter().find(|(n, _)| *n == name || n.strip_prefix("x86-64-") == Some(name)).map(|(_, c)| *c)
    }
}

/// The machine that code is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub triple: Triple,
    pub cpu: Cpu,
}

impl Target {
    /// This machine with all it has.
    pub fn host() -> Target {
        Target { triple: Triple::host(), cpu: Cpu::Native }
    }
}

/// What an object file is made of.
#[derive(Clone, Debug)]
pub struct ObjectUnit<'a> {
    pub programs: &'a [Program],
    /// The functions that other code sees. Programs themselves are local to the object.
    pub wrappers: &'a [EntryWrapper],
    /// Functions `size_t SYMBOL(void)` with the number they return.
    pub constants: &'a [(String, u64)],
    pub target: Target,
    /// Whether parallel kernels go through `nn_rt_parallel`; if not, the object has no undefined symbol.
    pub threaded: bool,
}

/// A text form of generated code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextStage {
    /// The backend's own intermediate representation.
    Intermediate,
    /// Machine instructions.
    Assembly,
}

/// Why code could not be generated.
#[derive(Debug, thiserror::Error)]
pub enum CodegenError {
    /// The target does not exist, or this build cannot make code for it.
    #[error("no code can be made for target `{target}`: {reason}")]
    Target { target: String, reason: String },
    /// A valid program that the backend cannot compile.
    #[error("kernel `{kernel}`: {what} is not supported yet")]
    Unsupported { kernel: String, what: String },
    /// An invalid program: a bug of an earlier pass.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The code generator itself failed: a bug of ours or of a library.
    #[error("code generation failed in `{place}`: {message}")]
    Internal { place: String, message: String },
}

/// Compiled programs in memory; the memory is freed when this is dropped, so it must outlive every call.
pub trait Loaded: Send + Sync {
    /// The entry point of the program called `name`.
    fn entry(&self, name: &str) -> Option<EntryFunction>;

    /// The function of kernel `number` of the program called `name`.
    fn kernel(&self, name: &str, number: usize) -> Option<KernelFunction>;

    /// Bytes of machine code.
    fn code_bytes(&self) -> usize;
}

/// A way from programs to machine code.
pub trait Backend: Sync {
    /// The name on the command line.
    fn name(&self) -> &'static str;

    /// Compiles programs of different names into memory, for this machine.
    fn jit(&self, programs: &[Program]) -> Result<Box<dyn Loaded>, CodegenError>;

    /// Compiles programs and the functions around them into an object file.
    fn object(&self, unit: &ObjectUnit<'_>) -> Result<Vec<u8>, CodegenError>;

    /// The text of a stage inside the backend.
    fn text(&self, program: &Program, target: &Target, stage: TextStage) -> Result<String, CodegenError>;
}

/// All backends, the default one first: Cranelift with wide kernels, and Cranelift alone. They give the same bits.
pub fn backends() -> [&'static dyn Backend; 2] {
    [&cranelift::Cranelift { wide: true }, &cranelift::Cranelift { wide: false }]
}
