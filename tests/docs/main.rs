//! What is written from the code is what the code says: `docs/ops.md`, and in `docs/language.md` the grammar and the names of the library.
//!
//! `UPDATE=1 cargo test --test docs` writes it anew.

mod grammar;
mod library;

use std::fmt::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use nnc::ir::ops::{Op, OpDoc, Parameter, Primitive};
use nnc::ir::scalar::{Rule, ScalarFunction};

const HEAD: &str = "\
# Operations

Written from the code by `UPDATE=1 cargo test --test docs`, never by hand.

The compiler knows the operations of this page and no others. Layers, losses, optimizers and everything else in the library is `.nn` code made of them.
Each op has one file, `src/ir/ops/NAME.rs`, whose `eval` is its definition in f64; the tests hold its shapes, its derivative, the derivative of that, and compiled code against it.

In the equations `y` is the result, `dy` the gradient of the loss by it, and `dx` that by an operand `x`. A derivative is itself made of operations of this page, so that it can be
differentiated again. No gradient flows to integers and bools. Errors are those of f32; f64 has the same in its own units, f16 and bf16 are computed in f32 and rounded once.
";

#[test]
fn the_reference_of_operations_is_what_the_code_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ops.md");
    let wanted = reference();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &wanted).expect("docs/ops.md can be written");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == wanted, "docs/ops.md is stale: `UPDATE=1 cargo test --test docs` writes it anew");
}

/// Two tests write to one page.
static WRITING: Mutex<()> = Mutex::new(());

/// Asks that `wanted` stands between two marks of a page; with `UPDATE` writes it there.
fn holds(page: &str, begin: &str, end: &str, wanted: &str) {
    let _turn = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
    let text = std::fs::read_to_string(&path).expect("the page can be read");
    let (before, rest) = text.split_once(begin).expect("the page has the mark");
    let (found, after) = rest.split_once(end).expect("the marked part ends");
    if std::env::var_os("UPDATE").is_some() {
        return std::fs::write(&path, format!("{before}{begin}{wanted}{end}{after}")).expect("it can be written");
    }
    assert!(found == wanted, "{page} is stale: `UPDATE=1 cargo test --test docs` writes it anew");
}

fn reference() -> String {
    let mut out = HEAD.to_string();
    let documented = Op::documented();
    out.push_str("\n## The ops\n\n");
    for (doc, _) in &documented {
        line(&mut out, &format!("- [`{0}`](#{0}): {1}", doc.name, doc.summary));
    }
    for (doc, primitives) in &documented {
        op(&mut out, doc, primitives);
    }
    functions(&mut out);
    out
}

fn line(out: &mut String, text: &str) {
    writeln!(out, "{text}").expect("writing to a string does not fail");
}

fn op(out: &mut String, doc: &OpDoc, primitives: &[Primitive]) {
    line(out, &format!("\n### {}\n\n{}.\n", doc.name, capitalised(doc.summary)));
    let rows = [
        ("equation", format!("`{}`", doc.equation)),
        ("shapes", format!("`{}`", doc.shapes)),
        ("derivative", doc.derivative.to_string()),
        ("dtypes", doc.dtypes.to_string()),
        ("error", doc.error.to_string()),
    ];
    line(out, "| | |\n| --- | --- |");
    for (name, text) in rows {
        line(out, &format!("| {name} | {} |", cell(&text)));
    }
    // The functions of `map` have a table of their own.
    let own = primitives.iter().filter(|p| ScalarFunction::from_name(p.name).is_none());
    for (i, primitive) in own.enumerate() {
        if i == 0 {
            line(out, "\nIn the language:\n");
        }
        line(out, &format!("- `{}`: {}", signature(primitive), primitive.doc));
    }
}

fn signature(primitive: &Primitive) -> String {
    let parameter = |p: &Parameter| if p.required { p.name.to_string() } else { format!("{}?", p.name) };
    let mut names: Vec<String> = primitive.parameters.iter().map(parameter).collect();
    if primitive.rest {
        names.push("..".into());
    }
    format!("{}({})", primitive.name, names.join(", "))
}

fn functions(out: &mut String) {
    line(out, "\n## The functions of `map`\n");
    line(
        out,
        "Applied elementwise to operands of one shape; in the language operands broadcast as in NumPy. Errors in units in the last place,",
    );
    line(
        out,
        "found as `docs/numerics.md` says. Those marked `*` the language does not name: they serve expansions and derivatives.\n",
    );
    line(out, "| function | computes | gradients | operands | error |\n| --- | --- | --- | --- | --- |");
    let visible: Vec<&str> = nnc::ir::ops::primitives().iter().map(|p| p.name).collect();
    for function in ScalarFunction::ALL {
        let mark = if visible.contains(&function.name()) { "" } else { " *" };
        let row = [
            format!("`{}`{mark}", function.name()),
            function.doc().to_string(),
            function.derivative().to_string(),
            operands(function.rule()).to_string(),
            function.error().to_string(),
        ];
        line(out, &format!("| {} |", row.map(|text| cell(&text)).join(" | ")));
    }
}

fn operands(rule: Rule) -> &'static str {
    match rule {
        Rule::Same => "numbers",
        Rule::Float => "floats",
        Rule::Compare => "any; gives bool",
        Rule::Logic => "bool or integers",
        Rule::Select => "bool, then two of any dtype",
        Rule::Integer => "integers",
    }
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_uppercase().collect::<String>() + chars.as_str())
}

/// A text that may stand in a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
