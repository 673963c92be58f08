//! `nnc lsp`: the language server, on standard input and output.

use lsp_server::Connection;

use super::Failure;
use crate::diag::Diagnostic;
use crate::lsp::{Ended, serve};

/// Answer an editor's questions: the language server, on standard input and output
#[derive(Debug, clap::Args)]
pub struct Lsp {
    /// Editors pass this; there is no other way to speak with the server
    #[arg(long, hide = true)]
    stdio: bool,
}

impl Lsp {
    /// Runs the command.
    pub fn run(&self) -> Result<(), Failure> {
        // Both values of the flag mean standard input and output.
        let Lsp { stdio: _ } = self;
        let (connection, threads) = Connection::stdio();
        match serve(connection) {
            Ok(Ended::Orderly) => {
                // The answers that are still on their way.
                threads.join().map_err(|error| Diagnostic::error_without_place(format!("language server: {error}")))?;
                Ok(())
            }
            Ok(Ended::Abruptly) => {
                Err(Diagnostic::error_without_place("the client ended without `shutdown` and `exit`").into())
            }
            Err(error) => Err(Diagnostic::error_without_place(format!("language server: {error}")).into()),
        }
    }
}
