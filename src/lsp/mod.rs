//! The language server: what an editor asks about a `.nn` file while it is being written.
//!
//! [`analysis`] knows everything about one text and nothing of the protocol. Around it, thin: [`server`] keeps the open documents
//! and answers, [`worker`] reads texts on a thread of its own, [`requests`] has one file for each kind of question, [`position`] and
//! [`uri`] turn the protocol's places into bytes, and [`library`] writes the library's sources where an editor can open them.

pub mod analysis;
mod document;
mod library;
mod position;
mod requests;
mod server;
mod uri;
mod worker;

pub use server::{Ended, serve};
