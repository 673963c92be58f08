//! The nnc command: exit codes only.
fn main() {}
