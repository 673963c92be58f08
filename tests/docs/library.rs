//! The names of the library in `docs/language.md` are those that `nnc doc` has.

use nnc::frontend::doc::{Kind, entries};

const BEGIN: &str = "<!-- written from src/frontend/std by `UPDATE=1 cargo test --test docs` -->\n";
const END: &str = "<!-- end of the library -->";

#[test]
fn the_names_in_the_reference_are_those_of_the_library() {
    super::holds("docs/language.md", BEGIN, END, &table());
}

/// A row for each kind of what is written in `.nn`.
fn table() -> String {
    let mut out = String::from("\n| kind | names |\n| --- | --- |\n");
    for kind in Kind::ALL.into_iter().filter(|kind| *kind < Kind::Operation) {
        let names: Vec<&str> = entries().iter().filter(|e| e.kind == kind).map(|e| e.name.as_str()).collect();
        if !names.is_empty() {
            out.push_str(&format!("| {} | {} |\n", kind.heading().to_lowercase(), names.join(" ")));
        }
    }
    out + "\n"
}
