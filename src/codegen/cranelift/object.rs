//! Into an object file, for any target that Cranelift has.

use cranelift_module::default_libcall_names;
use cranelift_object::{ObjectBuilder, ObjectModule};

use super::target::{Isas, Use};
use super::unit;
use crate::codegen::{CodegenError, ObjectUnit};

/// Compiles programs and their wrappers; returns the bytes of the object file.
///
/// Without threads the object has no undefined symbol: kernels call nothing, and instructions that would need a library were refused
/// with the target. There is no unwind information, as nothing in it unwinds.
pub(super) fn compile(unit: &ObjectUnit<'_>, wide: bool) -> Result<Vec<u8>, CodegenError> {
    unit::check(unit.programs)?;
    let isas = Isas::new(&unit.target, Use::Object, wide)?;
    let builder = ObjectBuilder::new(isas.speed.clone(), "nn", default_libcall_names()).map_err(internal)?;
    let mut module = ObjectModule::new(builder);
    unit::define(&mut module, &isas, unit.programs, unit.wrappers, unit.constants, unit.threaded)?;
    module.finish().emit().map_err(internal)
}

fn internal(error: impl std::fmt::Display) -> CodegenError {
    CodegenError::Internal { place: "object file".to_string(), message: error.to_string() }
}
