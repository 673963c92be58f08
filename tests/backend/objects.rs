//! Object files: linked with C, with the bytes of the JIT, and nothing undefined.

use std::path::Path;
use std::process::Command;

use nnc::codegen::x86::{self, Vectors};
use nnc::codegen::{CodegenError, Cpu, EntryWrapper, ObjectUnit, Source, Target, Variant, WrapperArgument, backends};
use nnc::ir::loops::{Program, interpret};

use crate::common::{Random, arguments};
use crate::programs::chain;

/// `int chain_infer(const float *x, float *out, size_t n, void *workspace)` over variants of 4 and 1 rows.
fn wrapper() -> EntryWrapper {
    let variant = |program: &str, rows| Variant {
        program: program.to_string(),
        rows,
        pointers: vec![Source::Argument { argument: 0, offset: 0 }, Source::Argument { argument: 1, offset: 0 }],
    };
    EntryWrapper {
        symbol: "chain_infer".to_string(),
        arguments: vec![
            WrapperArgument::Pointer { row_bytes: 200 },
            WrapperArgument::Pointer { row_bytes: 200 },
            WrapperArgument::Count,
            WrapperArgument::Workspace,
        ],
        prologue: Vec::new(),
        variants: vec![variant("four", 4), variant("one", 1)],
    }
}

fn named(name: &str, rows: u64) -> Program {
    Program { name: name.to_string(), ..chain(rows) }
}

fn object(target: Target, threaded: bool) -> Result<Vec<u8>, CodegenError> {
    let programs = [named("four", 4), named("one", 1)];
    let unit = ObjectUnit { programs: &programs, wrappers: &[wrapper()], constants: &[], target, threaded };
    backends()[0].object(&unit)
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("the output is text")
}

/// Reads rows from standard input, checks the return values, writes the results.
const MAIN: &str = r#"
#include <stdio.h>
#include <stdlib.h>
int chain_infer(const float *x, float *out, size_t n, void *workspace);
int main(void) {
    enum { ROWS = 11 };
    static float x[ROWS * 50], out[ROWS * 50];
    void *workspace = aligned_alloc(64, 4096);
    if (fread(x, sizeof x, 1, stdin) != 1) return 10;
    if (chain_infer(x, out, ROWS, NULL) != 1) return 11;
    if (chain_infer(x, out, 0, workspace) != 0) return 12;
    if (chain_infer(x, out, ROWS, workspace) != 0) return 13;
    fwrite(out, sizeof out, 1, stdout);
    return 0;
}
"#;

#[test]
#[cfg(all(unix, target_arch = "x86_64"))]
fn a_c_program_gets_the_interpreters_bytes() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("m.o"), object(Target::host(), false).unwrap()).unwrap();
    std::fs::write(path("main.c"), MAIN).unwrap();
    assert_eq!(run(Command::new("nm").arg("-u").arg(path("m.o"))), "", "the object has undefined symbols");
    run(Command::new("cc").args(["-O1", "-o"]).args([path("main"), path("main.c"), path("m.o")]));

    let whole = chain(11);
    let mut memory = arguments(&whole, &mut Random(3));
    std::fs::write(path("x"), &memory[0]).unwrap();
    let output = Command::new(path("main")).stdin(std::fs::File::open(path("x")).unwrap()).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    interpret::program(&whole, &mut memory).unwrap();
    let same = output.stdout.chunks(4).zip(memory[1].chunks(4)).all(|(a, b)| {
        let [a, b] = [a, b].map(|c| f32::from_le_bytes(c.try_into().unwrap()));
        a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
    });
    assert!(same && output.stdout.len() == memory[1].len());
}

#[test]
#[cfg(unix)]
fn threads_are_one_undefined_symbol() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let path: &Path = &folder.path().join("m.o");
    std::fs::write(path, object(Target::host(), true).unwrap()).unwrap();
    assert_eq!(run(Command::new("nm").arg("-u").arg(path)).trim(), "U nn_rt_parallel");
}

#[test]
fn targets_without_fma_are_refused() {
    let triple = "x86_64-unknown-linux-gnu".parse().unwrap();
    let error = object(Target { triple, cpu: Cpu::X86V2 }, false).unwrap_err().to_string();
    assert!(error.contains("no fused multiply-add"), "{error}");
    let triple = "x86_64-unknown-linux-gnu".parse().unwrap();
    assert!(object(Target { triple, cpu: Cpu::X86V3 }, false).is_ok());
    let triple = "wasm32-unknown-unknown".parse().unwrap();
    assert!(object(Target { triple, cpu: Cpu::Native }, false).is_err());
}

#[test]
fn each_level_has_its_vectors() {
    let vectors = |triple: &str, cpu| x86::vectors(&Target { triple: triple.parse().unwrap(), cpu });
    let linux = "x86_64-unknown-linux-gnu";
    assert_eq!(vectors(linux, Cpu::X86V2), None);
    assert_eq!(vectors(linux, Cpu::X86V3), Some(Vectors::Avx2));
    assert_eq!(vectors(linux, Cpu::X86V4), Some(Vectors::Avx512));
    assert_eq!(vectors("x86_64-pc-windows-msvc", Cpu::X86V4), None);
    assert_eq!(vectors("aarch64-unknown-linux-gnu", Cpu::Native), None);
    let code = |cpu| object(Target { triple: linux.parse().unwrap(), cpu }, false).unwrap();
    assert_ne!(code(Cpu::X86V3), code(Cpu::X86V4));
}
