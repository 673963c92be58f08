//! The grammar in `docs/language.md` is that of `grammar/nn.pest`, in the signs of a reference.

use std::collections::HashMap;
use std::path::Path;

/// Where the grammar stands in the page.
const BEGIN: &str = "<!-- written from grammar/nn.pest by `UPDATE=1 cargo test --test docs` -->\n";
const END: &str = "<!-- end of the grammar -->";

/// Where its lines are broken.
const WIDTH: usize = 130;

/// A rule as pest has it.
struct Rule<'a> {
    name: &'a str,
    body: &'a str,
    /// The heading that it is the first below.
    heading: Option<&'a str>,
    /// An example, from the comment over it.
    example: Option<&'a str>,
}

#[test]
fn the_grammar_in_the_reference_is_what_the_parser_reads() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pest = std::fs::read_to_string(root.join("grammar/nn.pest")).expect("the grammar can be read");
    super::holds("docs/language.md", BEGIN, END, &grammar(&pest));
}

/// The whole grammar as a block of code.
fn grammar(pest: &str) -> String {
    let rules = rules(pest);
    let signs: HashMap<&str, &str> = rules.iter().filter_map(|rule| Some((rule.name, sign(rule)?))).collect();
    let width = rules.iter().filter(|r| !signs.contains_key(r.name)).map(|r| r.name.len()).max().unwrap_or(0);
    let mut out = String::from("\n```ebnf\n");
    for rule in &rules {
        if let Some(heading) = rule.heading {
            out.push_str(&format!("{}(* {heading} *)\n", if out.len() > 10 { "\n" } else { "" }));
        }
        if signs.contains_key(rule.name) || rule.name == "WHITESPACE" {
            continue;
        }
        if let Some(example) = rule.example {
            out.push_str(&format!("(* {example} *)\n"));
        }
        let first = format!("{:width$} =", rule.name);
        out.push_str(&wrapped(&first, &body(rule.body, &signs)));
    }
    out + "```\n"
}

/// The words behind `first`, in lines of at most [`WIDTH`].
fn wrapped(first: &str, text: &str) -> String {
    let mut lines = vec![first.to_owned()];
    for word in text.split(' ') {
        let last = lines.last_mut().expect("there is a line");
        if last.len() + 1 + word.len() <= WIDTH {
            last.push(' ');
            last.push_str(word);
        } else {
            lines.push(format!("{:indent$} {word}", "", indent = first.len()));
        }
    }
    lines.join("\n") + "\n"
}

/// The rules of the file, in order.
fn rules(pest: &str) -> Vec<Rule<'_>> {
    let mut rules = Vec::new();
    let (mut heading, mut example) = (None, None);
    let mut rest = pest;
    while let Some(line) = rest.lines().next() {
        let next = &rest[line.len()..];
        let next = next.strip_prefix('\n').unwrap_or(next);
        if let Some(comment) = line.strip_prefix("// ") {
            if comment.starts_with("---") {
                heading = Some(comment.trim_matches(['-', ' ']));
            } else if example.is_none() && comment.starts_with('`') {
                example = Some(comment);
            }
        } else if let Some((name, _)) = line.split_once(" = ") {
            let open = rest.find('{').expect("a rule has a body");
            let end = closing(&rest[open..]) + open;
            rules.push(Rule { name, body: &rest[open + 1..end], heading: heading.take(), example: example.take() });
            rest = rest[end + 1..].trim_start_matches('\n');
            continue;
        } else if line.is_empty() {
            example = None;
        }
        rest = next;
    }
    rules
}

/// The place of the brace that closes the first one, those in strings left aside.
fn closing(text: &str) -> usize {
    let (mut depth, mut quoted, mut escaped) = (0, false, false);
    for (place, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'{' if !quoted => depth += 1,
            b'}' if !quoted => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return place;
        }
    }
    panic!("a brace is not closed: {text}");
}

/// The literal that a rule stands for, if it is a keyword or a sign.
fn sign<'a>(rule: &Rule<'a>) -> Option<&'a str> {
    let body = rule.body.trim();
    let end = 1 + body.get(1..)?.find('"').filter(|_| body.starts_with('"'))? + 1;
    let rest = body[end..].trim();
    // A sign may forbid what follows it: `"use" ~ !word_character`.
    let forbidden = rest.strip_prefix("~ !").is_some_and(|rest| rest.starts_with('(') || !rest.contains(' '));
    (rest.is_empty() || forbidden).then_some(&body[..end])
}

/// A body with signs in their places, blanks for `~`, and on one line.
fn body(text: &str, signs: &HashMap<&str, &str>) -> String {
    let mut out = String::new();
    let mut rest = text.trim();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' => 2 + string_length(&rest[1..]),
            c if c.is_alphanumeric() || c == '_' => {
                rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
            }
            c => c.len_utf8(),
        };
        let token = &rest[..length];
        match token {
            "~" | " " | "\n" => out.push(' '),
            token => out.push_str(signs.get(token).copied().unwrap_or(token)),
        }
        rest = &rest[length..];
    }
    let words: Vec<&str> = out.split_whitespace().filter(|word| !matches!(*word, "SOI" | "EOI")).collect();
    words.join(" ").replace("( ", "(").replace(" )", ")")
}

/// The characters of a string before its closing quote.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    text.bytes()
        .position(|byte| {
            let ends = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            ends
        })
        .expect("a string is closed")
}

#[test]
fn a_rule_is_written_with_its_signs() {
    let pest = "// ---- items\n\n// `f(x)`\ncall = { \"(\" ~ (name ~ comma)* ~ close }\ncomma = { \",\" }\nclose = @{ \")\" ~ !\"]\" }\n";
    assert_eq!(grammar(pest), "\n```ebnf\n(* items *)\n(* `f(x)` *)\ncall = \"(\" (name \",\")* \")\"\n```\n");
}
