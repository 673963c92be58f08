//! The files for editors: they are JSON, their patterns compile, and their words are those of the language.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use nn_grammar::words::{ENTRIES, KEYWORDS};
use regex::Regex;
use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("editors/vscode")
}

fn json(name: &str) -> Value {
    let text = fs::read_to_string(folder().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn grammar() -> Value {
    json("syntaxes/nn.tmLanguage.json")
}

/// Every string under one of the keys, at any depth.
fn strings_under<'a>(value: &'a Value, keys: &[&str], found: &mut Vec<&'a str>) {
    match value {
        Value::Object(fields) => {
            for (key, inner) in fields {
                found.extend(inner.as_str().filter(|_| keys.contains(&key.as_str())));
                strings_under(inner, keys, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| strings_under(item, keys, found)),
        _ => {}
    }
}

fn strings<'a>(value: &'a Value, keys: &[&str]) -> Vec<&'a str> {
    let mut found = Vec::new();
    strings_under(value, keys, &mut found);
    found
}

fn compiled(pattern: &str) -> Regex {
    Regex::new(pattern).unwrap_or_else(|error| panic!("{error}"))
}

/// The words that the patterns of a rule list, each of the form `\b(?:a|b)\b`.
fn words_of(rule: &str) -> Vec<String> {
    let grammar = grammar();
    let patterns = strings(&grammar["repository"][rule], &["match"]);
    let inner =
        |pattern: &str| pattern.strip_prefix(r"\b(?:").and_then(|rest| rest.strip_suffix(r")\b")).map(str::to_owned);
    let lists =
        patterns.iter().map(|pattern| inner(pattern).unwrap_or_else(|| panic!("{pattern} is no list of words")));
    lists.flat_map(|list| list.split('|').map(str::to_owned).collect::<Vec<_>>()).collect()
}

#[track_caller]
fn assert_same_words(found: &[String], wanted: &[&str]) {
    let set: BTreeSet<&str> = found.iter().map(String::as_str).collect();
    assert_eq!(set, wanted.iter().copied().collect());
    assert_eq!(found.len(), set.len(), "a word stands there twice");
}

#[test]
fn the_words_are_those_of_the_language() {
    assert_same_words(&words_of("keywords"), &KEYWORDS);
    assert_same_words(&words_of("entries"), &ENTRIES);
}

#[test]
fn every_pattern_compiles_and_matches_something() {
    let grammar = grammar();
    let patterns = strings(&grammar, &["match", "begin", "end"]);
    assert!(patterns.len() > 30, "{}", patterns.len());
    patterns.into_iter().for_each(|pattern| drop(compiled(pattern)));
    for pattern in strings(&grammar, &["match", "begin"]) {
        assert!(!compiled(pattern).is_match(""), "{pattern} matches nothing, again and again");
    }
    let configuration = json("language-configuration.json");
    for pattern in strings(&configuration, &["increaseIndentPattern", "decreaseIndentPattern", "beforeText"]) {
        compiled(pattern);
    }
}

#[test]
fn every_rule_that_is_included_exists_and_every_rule_is_included() {
    let grammar = grammar();
    let included: BTreeSet<&str> = strings(&grammar, &["include"]).into_iter().collect();
    let rules = grammar["repository"].as_object().expect("the grammar has rules");
    let wanted: Vec<String> = rules.keys().map(|name| format!("#{name}")).collect();
    assert_eq!(included, wanted.iter().map(String::as_str).collect());
}

#[test]
fn the_manifest_names_files_that_are_there() {
    let manifest = json("package.json");
    let contributes = &manifest["contributes"];
    for path in [&manifest["main"], &contributes["languages"][0]["configuration"], &contributes["grammars"][0]["path"]]
    {
        let path = path.as_str().expect("a path is a string");
        assert!(folder().join(path).is_file(), "{path}");
    }
    assert_eq!(contributes["grammars"][0]["scopeName"], grammar()["scopeName"]);
    assert_eq!(manifest["version"], env!("CARGO_PKG_VERSION"));
    let extension = fs::read_to_string(folder().join("extension.js")).expect("the extension can be read");
    assert!(extension.contains(r#"args: ["lsp"]"#), "the extension starts `nnc lsp`");
}

#[test]
fn patterns_tell_a_division_from_a_comment() {
    let grammar = grammar();
    let inside = strings(&grammar["repository"]["inside"], &["match"]);
    let comment = inside.iter().find(|pattern| pattern.starts_with("//(?:")).expect("there is a rule for comments");
    for (rest, is_comment) in
        [("// 2, w]", false), ("// two", true), ("// see f(x)", true), ("/// (", true), ("// - a)", true)]
    {
        assert_eq!(compiled(comment).is_match(rest), is_comment, "{rest}");
    }
    let tight = strings(&grammar["repository"]["floor-division"], &["match"]);
    for (text, divides) in [("h//2", true), ("x[0]//n", true), ("(a)//(b)", true), ("h // 2", false), ("h //2", false)]
    {
        assert_eq!(tight.iter().any(|pattern| compiled(pattern).is_match(text)), divides, "{text}");
    }
}
