//! The Cranelift backend: lowers any valid program, for any Cranelift target, into memory or an object file.
//!
//! Reading order: [`target`] (instruction sets), [`value`] (how values sit in registers), [`kernel`] (the function of one
//! kernel) with [`block`], [`map`], [`convert`], [`memory`], [`vector_loop`], [`fold`], [`contract`] and [`tile`]; then
//! [`program`] and [`wrapper`] (the functions that call kernels), [`unit`] (all functions of a unit into a module),
//! and the two drivers [`jit`] and [`object`].

mod block;
mod contract;
mod convert;
mod fold;
mod jit;
mod kernel;
mod map;
mod memory;
mod object;
mod program;
mod target;
mod tile;
mod unit;
mod value;
mod vector_loop;
mod wrapper;

use super::{Backend, CodegenError, Loaded, ObjectUnit, Target, TextStage};
use crate::ir::loops::Program;

/// The Cranelift backend.
pub struct Cranelift {
    /// Whether kernels that the wide code generator takes are left to it, where the target has what it needs.
    pub wide: bool,
}

impl Backend for Cranelift {
    fn name(&self) -> &'static str {
        if self.wide { "native" } else { "cranelift" }
    }

    fn jit(&self, programs: &[Program]) -> Result<Box<dyn Loaded>, CodegenError> {
        Ok(Box::new(jit::compile(programs, self.wide)?))
    }

    fn object(&self, unit: &ObjectUnit<'_>) -> Result<Vec<u8>, CodegenError> {
        object::compile(unit, self.wide)
    }

    fn text(&self, program: &Program, target: &Target, stage: TextStage) -> Result<String, CodegenError> {
        unit::text(program, target, stage, self.wide)
    }
}
