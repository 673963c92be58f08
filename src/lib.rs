//! `nnc` turns a neural network written as equations in a `.nn` file into native code.
//!
//! The modules in reading order, which is the order in which a model passes through them:
//! [`diag`] (mistakes and their places), [`frontend`] (text to symbolic graph), [`ir`] (the tensor graph and the loop IR),
//! [`passes`] (derivatives, simplification, fusion, lowering), [`codegen`] (machine code), [`driver`] (all of it in one place),
//! [`train`] (what happens around a step), [`formats`] (files), [`doc`] (the reference as text and page), [`lsp`] (what an editor asks)
//! and [`cli`] (the command).

pub mod cli;
pub mod codegen;
pub mod diag;
pub mod doc;
pub mod driver;
pub mod formats;
pub mod frontend;
pub mod ir;
pub mod lsp;
pub mod passes;
pub mod train;

pub use driver::{Compiled, Error, Session, Slice, compile, compile_file, compile_file_with, compile_with};
