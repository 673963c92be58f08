//! `nnc new NAME`: a folder with a model, its recipe and a small data set, which trains at once.

use std::f64::consts::TAU;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Failure;
use super::console::Console;
use crate::diag::Diagnostic;

/// The model as it is written, but for its name.
const MODEL: &str = include_str!("model.nn");

/// The name in [`MODEL`].
const EXAMPLE: &str = "Example";

/// Rows of the data set.
const ROWS: u32 = 500;

/// Make a folder with a model, its recipe and a small data set that trains at once
#[derive(Debug, clap::Args)]
pub struct New {
    /// The folder; its last part names the model
    #[arg(value_name = "NAME")]
    path: PathBuf,
}

#[derive(Serialize)]
struct Made<'a> {
    event: &'static str,
    folder: &'a Path,
    model: &'a Path,
}

impl New {
    /// Runs the command.
    pub fn run(&self, console: &Console) -> Result<(), Failure> {
        let name = self.path.file_name().and_then(|name| name.to_str()).unwrap_or("");
        let Some(model_name) = camel_case(name) else {
            let help = "letters, digits, `_` and `-`, with a letter first, as in `my-net`";
            return Err(Diagnostic::error_without_place(format!("`{name}` cannot name a model")).help(help).into());
        };
        if self.path.exists() {
            let message = format!("`{}` is there already", self.path.display());
            return Err(Diagnostic::error_without_place(message).into());
        }
        let file = self.path.join(format!("{}.nn", name.replace('-', "_")));
        std::fs::create_dir_all(&self.path).map_err(|error| unwritable(&self.path, &error))?;
        write(&file, &MODEL.replace(EXAMPLE, &model_name))?;
        write(&self.path.join("spirals.csv"), &spirals())?;
        console.object(&Made { event: "new", folder: &self.path, model: &file });
        if !console.quiet {
            console.result(&format!("made {}; train it with\n  nnc train {}", self.path.display(), file.display()));
        }
        Ok(())
    }
}

fn write(path: &Path, text: &str) -> Result<(), Diagnostic> {
    std::fs::write(path, text).map_err(|error| unwritable(path, &error))
}

fn unwritable(path: &Path, error: &std::io::Error) -> Diagnostic {
    Diagnostic::error_without_place(format!("cannot write `{}`: {error}", path.display()))
}

/// `my-net` as `MyNet`; nothing if the name cannot be a model's.
fn camel_case(name: &str) -> Option<String> {
    let valid = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) || !name.chars().all(valid) {
        return None;
    }
    let parts = name.split(['_', '-']).filter(|part| !part.is_empty());
    Some(parts.map(|part| part[..1].to_uppercase() + &part[1..]).collect())
}

/// Points on two spirals, a little off, in mixed order.
fn spirals() -> String {
    let mut state = 1u32;
    let mut text = String::from("x,y,arm\n");
    for row in 0..ROWS {
        let arm = row % 2;
        let way = uniform(&mut state);
        let angle = TAU * (0.15 + 0.75 * way) + f64::from(arm) * TAU / 2.0;
        let radius = 0.2 + way;
        let x = radius * angle.cos() + 0.06 * (uniform(&mut state) - 0.5);
        let y = radius * angle.sin() + 0.06 * (uniform(&mut state) - 0.5);
        text.push_str(&format!("{x:.4},{y:.4},{arm}\n"));
    }
    text
}

/// The next number of a linear congruential generator, in 0..1.
fn uniform(state: &mut u32) -> f64 {
    *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    f64::from(*state >> 8) / f64::from(1u32 << 24)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_folders_become_names_of_models() {
        assert_eq!(camel_case("my-small_net2").as_deref(), Some("MySmallNet2"));
        assert_eq!(camel_case("net").as_deref(), Some("Net"));
        for wrong in ["", "2net", "a b", "ä", "..", "-a"] {
            assert_eq!(camel_case(wrong), None);
        }
    }
}
