//! The grammar of the `.nn` language.
//!
//! pest makes a parser of `nn.pest`. It is a crate of its own because that parser is a lot of code that seldom changes: builds of
//! the compiler find it done. `frontend/parse` and `frontend/format` of `nnc` call it; editors take their words from the [`words`] below.

#![warn(missing_docs)]

pub mod words;

mod generated {
    //! What pest generates has no documentation of its own; the grammar file says what each rule reads.
    #![allow(missing_docs)]

    /// Reads texts by the grammar. The text must have been through the scan of `frontend/parse/layout.rs`.
    #[derive(Debug, pest_derive::Parser)]
    #[grammar = "../nn.pest"]
    pub struct Grammar;
}

pub use generated::{Grammar, Rule};
