//! What is done with one input, by the tests here and by cargo-fuzz in `fuzz/`; each gives the messages.

use std::io::{Error, ErrorKind, Result};
use std::path::Path;

use nnc::diag::{Diagnostic, FileId, Sources};
use nnc::frontend::parse::{decode, parse};
use nnc::frontend::{Project, Settings, check};

/// The files that an input may use. None is read from the disk, so that an input does the same everywhere.
const USED: [(&str, &str); 3] = [
    ("used/blocks.nn", include_str!("../cases/errors/uses/used/blocks.nn")),
    ("used/more.nn", include_str!("../cases/errors/uses/used/more.nn")),
    ("used/broken.nn", include_str!("../cases/errors/uses/used/broken.nn")),
];

/// Parses an input.
pub fn parses(input: &[u8]) -> Vec<String> {
    let mut sources = Sources::default();
    let file = sources.add("fuzz.nn", String::from_utf8_lossy(input));
    let found = decode(input, file).map_or_else(|wrong| vec![wrong], |text| parse(&text, file).1);
    messages(&found, &sources)
}

/// Parses an input, resolves its names, and elaborates its model and recipe.
pub fn checks(input: &[u8]) -> Vec<String> {
    let text = match decode(input, FileId(0)) {
        Ok(text) => text,
        Err(_) => return parses(input),
    };
    let (project, mut found) = Project::parse_with("fuzz.nn", &text, &used);
    let settings = Settings { total_steps: Some(1), ..Settings::default() };
    match check(&project, &settings) {
        Ok(model) => found.extend(model.warnings),
        Err(errors) => found.extend(errors),
    }
    messages(&found, &project.sources)
}

fn used(path: &Path) -> Result<Vec<u8>> {
    let file = USED.iter().find(|(name, _)| Path::new(name) == path);
    file.map(|(_, text)| text.as_bytes().to_vec()).ok_or_else(|| Error::from(ErrorKind::NotFound))
}

/// Shows the diagnostics as a user sees them, and gives their messages alone.
fn messages(found: &[Diagnostic], sources: &Sources) -> Vec<String> {
    for diagnostic in found {
        let text = diagnostic.render(sources, false);
        assert!(text.len() < 1 << 20, "a report of {} bytes", text.len());
    }
    found.iter().map(|diagnostic| diagnostic.message.clone()).collect()
}
