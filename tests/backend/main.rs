//! Compiled kernels against the interpreter of the loop IR, bit for bit.

mod avx512;
mod common;
mod functions;
mod halves;
mod loops;
mod objects;
mod products;
mod programs;
mod repeats;
#[path = "../wide/mod.rs"]
mod wide;
