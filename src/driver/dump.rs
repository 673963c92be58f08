//! The text of any stage, for `nnc dump` and for tests.

use std::time::Duration;

use crate::codegen::{self, Target, TextStage};
use crate::frontend;

use super::error::Error;
use super::stages::{Observer, Quiet};
use super::{Compiled, Entry};

/// A stage as a person asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The syntax tree.
    Ast,
    /// The tensor graph at concrete sizes, gradients still as `grad` ops.
    Graph,
    /// The tensor graph with gradients expanded and simplified.
    Grad,
    /// The graph in groups, each to become a kernel.
    Fused,
    /// Kernels as loops, before they are tiled.
    Loops,
    /// The backend's intermediate representation.
    Clif,
    /// Machine instructions.
    Asm,
}

impl Stage {
    /// All stages with their names on the command line, in the order of the pipeline.
    pub const ALL: [(&'static str, Stage); 7] = [
        ("ast", Stage::Ast),
        ("graph", Stage::Graph),
        ("grad", Stage::Grad),
        ("fused", Stage::Fused),
        ("loops", Stage::Loops),
        ("clif", Stage::Clif),
        ("asm", Stage::Asm),
    ];

    /// The pass after which the stage's text is printed, for the stages between syntax tree and backend.
    fn pass(self) -> Option<&'static str> {
        match self {
            Stage::Graph => Some("specialize"),
            Stage::Grad => Some("hoist"),
            Stage::Fused => Some("fuse"),
            Stage::Loops => Some("lower"),
            Stage::Ast | Stage::Clif | Stage::Asm => None,
        }
    }
}

/// Keeps the text after one pass and stops there.
struct Capture<'a> {
    after: &'a str,
    text: Option<String>,
    seen: Vec<String>,
}

impl Observer for Capture<'_> {
    fn stage(&mut self, name: &str, _: Duration, text: &dyn Fn() -> String) -> bool {
        self.seen.push(name.to_string());
        if name == self.after {
            self.text = Some(text());
        }
        self.text.is_none()
    }
}

impl Compiled {
    /// The text of a stage of one entry for batches of `rows` rows, for the given machine where it matters.
    ///
    /// # Errors
    /// If the model has no such entry or a stage before this one fails.
    pub fn dump(&self, stage: Stage, entry: Entry, rows: usize, target: &Target) -> Result<String, Error> {
        let backend = |text| -> Result<String, Error> {
            let lowered = self.program(entry, &self.sizes(rows)?, target, &mut Quiet)?;
            Ok(codegen::backends()[0].text(&lowered.program, target, text)?)
        };
        match stage {
            Stage::Ast => {
                let used = self.project().used_files();
                let used = used.map(|(name, file)| format!("\n// {name}\n\n{}", frontend::print::print(file)));
                Ok(frontend::print::print(self.project().file()) + &used.collect::<String>())
            }
            Stage::Clif => backend(TextStage::Intermediate),
            Stage::Asm => backend(TextStage::Assembly),
            Stage::Graph | Stage::Grad | Stage::Fused | Stage::Loops => {
                self.dump_after(stage.pass().expect("these stages have a pass"), entry, rows, target)
            }
        }
    }

    /// The text after the pass called `pass`, in code for the given machine.
    ///
    /// # Errors
    /// As [`dump`](Self::dump), or if there is no such pass.
    pub fn dump_after(&self, pass: &str, entry: Entry, rows: usize, target: &Target) -> Result<String, Error> {
        let mut capture = Capture { after: pass, text: None, seen: Vec::new() };
        let result = self.program(entry, &self.sizes(rows)?, target, &mut capture);
        match (capture.text, result) {
            (Some(text), _) => Ok(text),
            (None, Err(error)) => Err(error),
            (None, Ok(_)) => Err(Error::NoPass { pass: pass.to_string(), passes: capture.seen.join(", ") }),
        }
    }
}
