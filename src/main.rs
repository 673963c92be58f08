//! The `nnc` command: exit codes only. 0 is success, 1 a mistake in the user's file or data, 2 wrong usage, 101 a bug of ours.

use std::process::ExitCode;

fn main() -> ExitCode {
    nnc::cli::main()
}
