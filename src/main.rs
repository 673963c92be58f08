//! The `nnc` command: exit codes only. 0 is success, 1 a mistake in the user's file or data, 2 wrong usage, 101 a bug of ours.

use std::process::ExitCode;

/// Compiling is a third allocation: passes make graphs and kernels anew, of many small vectors.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    nnc::cli::main()
}
