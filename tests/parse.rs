//! The parser through its public face: every form of the language, what its tree looks like, and that no text, however
//! broken, does worse than a diagnostic.

use nnc::diag::{Diagnostic, FileId};
use nnc::frontend::parse::parse;
use nnc::frontend::print::print;

/// The printed tree of a text that must be right.
fn printed(source: &str) -> String {
    let (file, diagnostics) = parse(source, FileId(0));
    assert_eq!(diagnostics, Vec::<Diagnostic>::new(), "in {source}");
    print(&file)
}

#[test]
fn every_form_of_the_language_prints_and_parses_back() {
    let text = printed(include_str!("parse/language.nn"));
    insta::assert_snapshot!("language", text);
    assert_eq!(printed(&text), text, "the printed text is the same program");
}
