//! The command line: one file per command, each a struct of its flags and a function that runs it.
//!
//! Commands report results through [`console::Console`] and mistakes as [`Failure`]; only [`main`] turns them into exit codes.

mod bench;
mod check;
mod compile;
mod console;
mod doc;
mod dump;
mod eval;
mod explain;
mod fmt;
mod lsp;
mod model;
mod new;
mod reporter;
mod run;
mod summary;
mod synthetic;
mod train;
mod tune;
mod values;

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::diag::{Diagnostic, Sources};
use crate::driver;
use console::Console;

/// Compiles neural networks written as equations to native code, trains and runs them.
#[derive(Debug, Parser)]
#[command(name = "nnc", version, propagate_version = true)]
struct CommandLine {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// The heading of [`Global`] in the help.
const EVERYWHERE: &str = "Options of every command";

/// Flags that every command takes.
#[derive(Clone, Debug, Args)]
struct Global {
    /// Print one JSON object a line on standard output, and nothing else there
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    json: bool,
    /// Print no progress
    #[arg(long, short, global = true, help_heading = EVERYWHERE)]
    quiet: bool,
    /// Whether messages are coloured
    #[arg(long, global = true, help_heading = EVERYWHERE, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    color: Color,
    /// Threads to run on; results do not depend on it [default: all cores]
    #[arg(long, global = true, help_heading = EVERYWHERE, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

impl Global {
    /// The number of threads; 0 stands for all cores.
    fn threads(&self) -> usize {
        self.threads.map_or(0, usize::from)
    }

    /// Whether what goes to standard output is coloured.
    fn colors_output(&self) -> bool {
        self.color.wanted(io::stdout().is_terminal())
    }
}

/// When to use colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

impl Color {
    /// Whether a stream is coloured that is a terminal or not.
    fn wanted(self, terminal: bool) -> bool {
        match self {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => terminal && std::env::var_os("NO_COLOR").is_none(),
        }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    New(new::New),
    Check(check::Check),
    Fmt(fmt::Fmt),
    Summary(summary::Summary),
    Train(train::Train),
    Eval(eval::Eval),
    Run(run::Run),
    Doc(doc::Doc),
    Dump(dump::Dump),
    Compile(compile::Compile),
    Bench(bench::Bench),
    Explain(explain::Explain),
    Lsp(lsp::Lsp),
}

/// Why a command did not succeed.
#[derive(Debug)]
enum Failure {
    /// The user's file or data is wrong: exit code 1.
    Mistakes(Vec<Diagnostic>, Sources),
    /// The command line is: exit code 2.
    Usage(String),
}

impl Failure {
    /// A flag or feature that is not there yet.
    fn unsupported(what: &str) -> Failure {
        Diagnostic::error_without_place(format!("{what} is not supported yet")).into()
    }
}

impl From<Diagnostic> for Failure {
    fn from(diagnostic: Diagnostic) -> Failure {
        Failure::Mistakes(vec![diagnostic], Sources::default())
    }
}

impl From<driver::Error> for Failure {
    fn from(error: driver::Error) -> Failure {
        match error {
            driver::Error::Source(errors) => Failure::Mistakes(errors.diagnostics, errors.sources),
            other => Diagnostic::error_without_place(other.to_string()).into(),
        }
    }
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    report_panics_as_bugs();
    let line = match CommandLine::try_parse() {
        Ok(line) => line,
        Err(error) => {
            // Help and version come this way too, with exit code 0. There is nobody to tell if printing fails.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let console = Console::new(&line.global);
    let outcome = match &line.command {
        Command::New(command) => command.run(&console),
        Command::Check(command) => command.run(&console),
        Command::Fmt(command) => command.run(&console),
        Command::Summary(command) => command.run(&console),
        Command::Train(command) => command.run(&console, &line.global),
        Command::Eval(command) => command.run(&console, &line.global),
        Command::Run(command) => command.run(&console, &line.global),
        Command::Doc(command) => command.run(&console, &line.global),
        Command::Dump(command) => command.run(&console),
        Command::Compile(command) => command.run(&console, &line.global),
        Command::Bench(command) => command.run(&console, &line.global),
        Command::Explain(command) => command.run(&console, &line.global),
        Command::Lsp(command) => command.run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Mistakes(diagnostics, sources)) => {
            console.report(&diagnostics, &sources);
            ExitCode::from(1)
        }
        Err(Failure::Usage(message)) => {
            console.report(&[Diagnostic::error_without_place(message)], &Sources::default());
            ExitCode::from(2)
        }
    }
}

/// Says of every panic that it is ours; Rust ends the process with 101.
fn report_panics_as_bugs() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        eprintln!("this is a bug in nnc {}, please report it with the file that shows it", env!("CARGO_PKG_VERSION"));
        default(info);
    }));
}
