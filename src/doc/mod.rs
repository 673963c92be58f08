//! The reference as `nnc doc` shows it: [`text`] for a terminal, [`html`] as one page.
//!
//! What there is to say is in [`crate::frontend::doc`]; here is only how it looks.

pub mod html;
pub mod text;
