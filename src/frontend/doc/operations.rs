//! Entries of what the compiler itself knows: operations and compile-time functions.

use super::{Entry, Fact, Kind, summary};
use crate::frontend::elaborate::BUILTINS;
use crate::ir::ops::{Op, OpDoc, Parameter, Primitive};
use crate::ir::scalar::{Rule, ScalarFunction};

/// Every operation by the names that the language has for it.
pub(super) fn operations() -> Vec<Entry> {
    let documented = Op::documented();
    documented.iter().flat_map(|(doc, primitives)| primitives.iter().map(|p| operation(doc, p))).collect()
}

fn operation(op: &OpDoc, primitive: &Primitive) -> Entry {
    let facts = match ScalarFunction::from_name(primitive.name).filter(|_| op.name == "map") {
        Some(function) => vec![
            fact("derivative", function.derivative()),
            fact("operands", operands(function.rule())),
            fact("error", function.error()),
        ],
        None => vec![
            fact("equation", op.equation),
            fact("shapes", op.shapes),
            fact("derivative", op.derivative),
            fact("dtypes", op.dtypes),
            fact("error", op.error),
        ],
    };
    let list = parameters(primitive).map_or(String::new(), |list| format!("\n\n{list}"));
    let doc = sentence(primitive.doc) + &list;
    Entry { facts, ..known(Kind::Operation, primitive.name, signature(primitive), doc) }
}

/// The functions that exist at compile time only.
pub(super) fn compile_time() -> Vec<Entry> {
    let entry = |(name, parameters, doc): &(&str, &str, &str)| {
        let signature = format!("{name}({})", parameters.replace(' ', ", "));
        known(Kind::CompileTime, name, signature, sentence(doc))
    };
    BUILTINS.iter().map(entry).collect()
}

fn known(kind: Kind, name: &str, signature: String, doc: String) -> Entry {
    Entry {
        kind,
        name: name.to_owned(),
        signature,
        summary: summary(&doc),
        doc,
        source: None,
        facts: Vec::new(),
        place: None,
    }
}

fn fact(name: &'static str, text: &str) -> Fact {
    Fact { name, text: text.to_owned() }
}

/// What may be left out of a call has a `?`.
fn signature(primitive: &Primitive) -> String {
    let parameter = |p: &Parameter| if p.required { p.name.to_owned() } else { format!("{}?", p.name) };
    let mut names: Vec<String> = primitive.parameters.iter().map(parameter).collect();
    if primitive.rest {
        names.push("..".into());
    }
    format!("{}({})", primitive.name, names.join(", "))
}

/// What each argument is, as a list; nothing where all are tensors.
fn parameters(primitive: &Primitive) -> Option<String> {
    let plain = |p: &Parameter| p.required && matches!(p.kind, "a tensor" | "a tensor or a number");
    if primitive.parameters.iter().all(plain) {
        return None;
    }
    let line = |p: &Parameter| format!("- `{}`: {}{}", p.name, p.kind, if p.required { "" } else { ", optional" });
    Some(primitive.parameters.iter().map(line).collect::<Vec<_>>().join("\n"))
}

/// The text as a sentence: with a capital letter where it begins with a word and not with an equation, and a full stop.
fn sentence(text: &str) -> String {
    let is_word = |word: &str| word.chars().all(|c| c.is_ascii_lowercase() || c == '-');
    let mut words = text.split([' ', ',', ':']);
    let (first, second) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    // In `a + b` and `a to the power b` the letter is an operand, in `a tensor of zeros` a word.
    let begins = is_word(first) && if first == "a" { second.len() > 3 && is_word(second) } else { first.len() > 1 };
    let mut chars = text.chars();
    let capital = chars.next().filter(|_| begins).map(|c| c.to_uppercase().collect::<String>() + chars.as_str());
    let text = capital.unwrap_or_else(|| text.to_owned());
    if text.ends_with('.') { text } else { text + "." }
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

#[cfg(test)]
mod tests {
    use super::sentence;

    #[test]
    fn words_begin_sentences_and_equations_do_not() {
        assert_eq!(sentence("the sine of x"), "The sine of x.");
        assert_eq!(sentence("a tensor of zeros"), "A tensor of zeros.");
        assert_eq!(sentence("a to the power b"), "a to the power b.");
        assert_eq!(sentence("-x"), "-x.");
        assert_eq!(sentence("K of a tensor"), "K of a tensor.");
    }
}
