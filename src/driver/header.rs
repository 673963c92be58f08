//! The C header of a compiled model: constants, the structs of weights and training state, and the functions.

use std::fmt::Write;

use crate::ir::types::DType;

use super::layout::{Layout, Slot};

/// A pointer argument of a C function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CArgument {
    pub name: String,
    pub dtype: DType,
    /// The shape as the model declares it, for the comment.
    pub shape: String,
    /// Whether the function writes through it.
    pub written: bool,
}

/// What a C function does, which decides its fixed arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CKind {
    /// `(params, state, seed)`.
    Init,
    /// `(const params, ..., [seed,] n, workspace)`.
    Infer { seeded: bool },
    /// `(const params, ..., workspace)` on one batch.
    Eval,
    /// `(params, state, ..., workspace)` on one batch.
    TrainStep,
}

/// A C function of the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CFunction {
    /// The symbol without the prefix (`infer`).
    pub name: &'static str,
    pub kind: CKind,
    pub arguments: Vec<CArgument>,
}

/// All that the header says.
#[derive(Clone, Debug)]
pub struct Interface {
    /// What every symbol starts with.
    pub prefix: String,
    /// The model's name.
    pub model: String,
    pub parameters: Layout,
    /// States of the optimizer; empty without a training step.
    pub optimizer: Layout,
    pub functions: Vec<CFunction>,
    /// Rows of a training or evaluation batch.
    pub batch: usize,
    pub workspace_bytes: usize,
}

/// A path as a C identifier: `dense_1.w` is `dense_1_w`.
pub fn identifier(path: &str) -> String {
    let mut out: String = path.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if out.starts_with(|c: char| c.is_ascii_digit()) || out.is_empty() {
        out.insert(0, '_');
    }
    out
}

/// The name of a dtype for which C has no type of its own, after a space; for others nothing.
fn half_name(dtype: DType) -> &'static str {
    match dtype {
        DType::F16 => " f16",
        DType::BF16 => " bf16",
        _ => "",
    }
}

/// As [`half_name`], as a comment.
fn note(dtype: DType) -> &'static str {
    match dtype {
        DType::F16 => " /* f16 */",
        DType::BF16 => " /* bf16 */",
        _ => "",
    }
}

/// The C type of an element as it is stored.
pub fn c_type(dtype: DType) -> &'static str {
    match dtype.storage() {
        DType::F32 => "float",
        DType::F64 => "double",
        DType::F16 | DType::BF16 | DType::U16 => "uint16_t",
        DType::I8 => "int8_t",
        DType::I16 => "int16_t",
        DType::I32 | DType::Index { .. } => "int32_t",
        DType::I64 => "int64_t",
        DType::U8 | DType::Bool => "uint8_t",
        DType::U32 => "uint32_t",
    }
}

impl Interface {
    /// The text of the header.
    pub fn header(&self) -> String {
        let mut out = String::new();
        let guard = format!("NNC_{}_H", self.prefix.to_uppercase());
        let p = &self.prefix;
        let upper = p.to_uppercase();
        let _ = writeln!(
            out,
            "/* {}: compiled by nnc. The functions are re-entrant, allocate nothing and keep no",
            self.model
        );
        let _ = writeln!(
            out,
            "   globals; they return 0, or 1 if a pointer is null. The workspace is best aligned to 64 bytes. */"
        );
        let _ = writeln!(out, "#ifndef {guard}\n#define {guard}\n\n#include <stddef.h>\n#include <stdint.h>\n");
        let _ = writeln!(out, "#ifdef __cplusplus\nextern \"C\" {{\n#endif\n");
        let _ = writeln!(out, "#define {upper}_WORKSPACE_BYTES {}", self.workspace_bytes);
        let _ = writeln!(out, "#define {upper}_PARAMS_BYTES {}", self.parameters.bytes());
        let _ = writeln!(out, "#define {upper}_BATCH {}", self.batch);
        let _ =
            writeln!(out, "\n/* The data section of the safetensors file, which may be mapped and passed as it is. */");
        let _ = writeln!(out, "typedef struct {p}_params {{");
        fields(&mut out, &self.parameters);
        if self.parameters.slots().is_empty() {
            let _ = writeln!(out, "    char no_parameters;");
        }
        let _ = writeln!(out, "}} {p}_params;");
        if self.functions.iter().any(|f| matches!(f.kind, CKind::TrainStep | CKind::Init)) {
            let _ = writeln!(
                out,
                "\n/* What training keeps beside the parameters: optimizer states, seed, steps done, epoch from 1. */"
            );
            let _ = writeln!(out, "typedef struct {p}_state {{");
            fields(&mut out, &self.optimizer);
            let _ = writeln!(out, "    uint32_t seed[2];\n    int32_t step;\n    int32_t epoch;\n}} {p}_state;");
        }
        let _ = writeln!(out, "\nsize_t {p}_workspace_bytes(void);");
        self.functions.iter().for_each(|f| self.function(&mut out, f));
        let _ = writeln!(out, "\n#ifdef __cplusplus\n}}\n#endif\n#endif");
        out
    }

    fn function(&self, out: &mut String, function: &CFunction) {
        let p = &self.prefix;
        let mut arguments: Vec<String> = match function.kind {
            CKind::Init => vec![format!("{p}_params *params"), format!("{p}_state *state"), "uint64_t seed".into()],
            CKind::Infer { .. } | CKind::Eval => vec![format!("const {p}_params *params")],
            CKind::TrainStep => vec![format!("{p}_params *params"), format!("{p}_state *state")],
        };
        for a in &function.arguments {
            let constant = if a.written { "" } else { "const " };
            arguments.push(format!("{constant}{}{} *{}", c_type(a.dtype), note(a.dtype), identifier(&a.name)));
        }
        match function.kind {
            CKind::Infer { seeded } => {
                arguments.extend(seeded.then(|| "uint64_t seed".to_string()));
                arguments.push("size_t n".into());
            }
            CKind::Init | CKind::Eval | CKind::TrainStep => {}
        }
        arguments.push("void *workspace".into());
        let shapes: Vec<String> =
            function.arguments.iter().map(|a| format!("{} {}{}", identifier(&a.name), a.dtype, a.shape)).collect();
        let purpose = match function.kind {
            CKind::Init => "Sets the first values of parameters and state from a seed.".to_string(),
            CKind::Infer { .. } => format!("Inference on n samples, any n. Per call: {}.", shapes.join(", ")),
            CKind::Eval => format!("Losses and metrics of one batch of {}: {}.", self.batch, shapes.join(", ")),
            CKind::TrainStep => format!("One training step on a batch of {}: {}.", self.batch, shapes.join(", ")),
        };
        let _ = writeln!(out, "\n/* {purpose} */\nint {p}_{}({});", function.name, arguments.join(", "));
    }
}

/// Writes the tensors of a block as array fields; a name that is taken already gets a number.
fn fields(out: &mut String, layout: &Layout) {
    let mut taken = std::collections::BTreeSet::new();
    for Slot { path, dtype, shape, .. } in layout.slots() {
        let base = identifier(path);
        let numbered = (2..).map(|i| format!("{base}_{i}"));
        let name = std::iter::once(base.clone()).chain(numbered).find(|n| !taken.contains(n)).unwrap_or(base);
        let elements: usize = shape.iter().product();
        let _ = writeln!(out, "    {} {name}[{elements}]; /* {path} {shape:?}{} */", c_type(*dtype), half_name(*dtype));
        taken.insert(name);
    }
}
