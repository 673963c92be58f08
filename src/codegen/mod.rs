//! Backends: from loop IR to machine code.
pub mod cranelift;
