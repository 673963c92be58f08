//! What tests of the wide code generator share: which instructions its code may have, and a machine with AVX-512 that runs it.

pub mod emulator;
mod image;
pub mod instructions;
