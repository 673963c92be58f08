//! The two intermediate representations and what they share.
//!
//! Reading order: [`dim`] and [`types`], then [`ops`] and [`graph`] (tensors), then [`scalar`] and [`loops`] (kernels).

pub mod builder;
pub mod cost;
pub mod dim;
pub mod graph;
pub mod interpret;
pub mod loops;
pub mod ops;
pub mod outline;
pub mod rewrite;
pub mod scalar;
pub mod slope;
pub mod tensor;
pub mod text;
pub mod types;
pub mod verify;
