//! Passes: one file each, listed here.

pub mod autodiff;
pub mod cse;
pub mod dce;
pub mod expand_math;
pub mod fuse;
pub mod lower;
pub mod plan_memory;
pub mod simplify;
pub mod tile;
