//! From source text to a checked model and its entry points as graphs.

pub mod ast;
pub mod build;
pub mod elaborate;
pub mod parse;
pub mod print;
pub mod resolve;
