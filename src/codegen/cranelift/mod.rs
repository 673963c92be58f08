//! The Cranelift backend: any loop IR, any Cranelift target.
