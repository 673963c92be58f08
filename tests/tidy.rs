//! The rules of the house that a compiler does not check: who may import whom, what every file opens with, how long it may
//! be, and what has no place in finished code.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use nnc::diag::Sources;
use nnc::frontend::parse::parse;

/// What each module may import of the crate besides itself; the invariants in ARCHITECTURE.md say the same.
const BORDERS: [(&str, &[&str]); 11] = [
    ("diag", &[]),
    ("ir", &[]),
    ("frontend", &["ir", "diag"]),
    ("passes", &["ir"]),
    ("codegen", &["ir::types", "ir::scalar", "ir::loops"]),
    ("driver", &["frontend", "ir", "passes", "codegen", "diag"]),
    ("train", &["ir::types", "ir::dim", "diag", "formats", "frontend::model", "driver"]),
    ("formats", &["ir::types", "diag", "driver"]),
    ("doc", &["frontend::doc"]),
    ("lsp", &["ir::types", "diag", "frontend", "driver"]),
    ("cli", &["ir::types", "ir::dim", "diag", "doc", "frontend", "driver", "train", "formats", "lsp"]),
];

/// Where `unsafe` may stand, beside tests: what runs compiled code, and the mapping of files.
const UNSAFE: [&str; 5] =
    ["runtime/", "src/codegen/mod.rs", "src/codegen/cranelift/jit", "src/driver/", "src/formats/map.rs"];

/// The longest file, in lines.
const LONGEST: usize = 800;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file of the project's own folders with one of the extensions: its path from the root, and its text.
fn files(extensions: &[&str]) -> Vec<(String, String)> {
    let folders = ["src", "runtime", "grammar", "tests", "models", "examples", "benches", "fuzz/fuzz_targets"];
    let mut paths: Vec<PathBuf> = folders.iter().flat_map(|folder| below(&root().join(folder))).collect();
    paths.retain(|path| path.extension().is_some_and(|found| extensions.iter().any(|wanted| found == *wanted)));
    paths.sort();
    let read = |path: PathBuf| {
        let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let name = path.strip_prefix(root()).expect("the path is below the root").to_string_lossy().replace('\\', "/");
        (name, text)
    };
    paths.into_iter().map(read).collect()
}

/// Every file below a folder; none where there is no such folder.
fn below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.expect("a folder can be read").path());
    paths.flat_map(|path| if path.is_dir() { below(&path) } else { vec![path] }).collect()
}

/// The code of a file without comments and without its tests.
fn code(text: &str) -> String {
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    let without_comment = |line: &str| line.split("//").next().unwrap_or("").to_owned();
    text[..end].lines().map(without_comment).collect::<Vec<_>>().join("\n")
}

fn is_test(name: &str) -> bool {
    name.starts_with("tests/") || name.ends_with("/tests.rs") || name.contains("/tests/")
}

#[test]
fn modules_import_only_what_they_may() {
    let mut wrong = String::new();
    for (name, text) in files(&["rs"]) {
        let Some(module) = name.strip_prefix("src/").and_then(|rest| rest.split(['/', '.']).next()) else { continue };
        let Some((_, allowed)) = BORDERS.iter().find(|(known, _)| *known == module).filter(|_| !is_test(&name)) else {
            continue;
        };
        for import in imports(&code(&text)) {
            let within = |path: &&str| import == *path || import.starts_with(&format!("{path}::"));
            if !allowed.iter().copied().chain([module]).any(|path| within(&path)) {
                let _ = writeln!(wrong, "{name} imports crate::{import}");
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}{module_list}", module_list = "allowed is what BORDERS in tests/tidy.rs lists");
}

/// The paths after `crate::`, with groups in braces written out.
fn imports(code: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for (place, _) in code.match_indices("crate::") {
        let before = code[..place].chars().next_back();
        if before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != '$') {
            expand("", &code[place + "crate::".len()..], &mut paths);
        }
    }
    paths
}

/// Adds the path or paths that `text` begins with, each after `prefix`, and returns the text behind.
fn expand<'a>(prefix: &str, text: &'a str, paths: &mut Vec<String>) -> &'a str {
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = rest.trim_start_matches([' ', '\n', ',']);
            if rest.is_empty() || rest.starts_with('}') {
                return rest.strip_prefix('}').unwrap_or(rest);
            }
            let behind = expand(prefix, rest, paths);
            rest =
                if behind.len() < rest.len() { behind } else { &rest[rest.chars().next().map_or(0, char::len_utf8)..] };
        }
    }
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let path = format!("{prefix}{}", &text[..end]);
    match text[end..].strip_prefix("::") {
        Some(rest) => expand(&format!("{path}::"), rest, paths),
        None => {
            paths.push(path);
            &text[end..]
        }
    }
}

#[test]
fn groups_of_imports_are_written_out() {
    let code = "use crate::{ir::{types, loops::Kernel}, diag::Span};\nlet x = crate::driver::run();";
    assert_eq!(imports(code), ["ir::types", "ir::loops::Kernel", "diag::Span", "driver::run"]);
}

#[test]
fn the_runtime_has_no_dependencies() {
    let manifest = fs::read_to_string(root().join("runtime/Cargo.toml")).expect("the runtime has a manifest");
    let section = manifest.split("[dependencies]").nth(1).unwrap_or("");
    let listed = section.lines().take_while(|line| !line.starts_with('[')).filter(|line| !line.trim().is_empty());
    assert_eq!(listed.count(), 0, "{section}");
}

#[test]
fn only_the_parser_and_the_formatter_use_the_grammar() {
    let uses = |(name, text): &(String, String)| {
        let may = ["src/frontend/parse/", "src/frontend/format/"].iter().any(|folder| name.starts_with(folder));
        name.starts_with("src/") && !may && code(text).contains("nn_grammar")
    };
    let wrong: Vec<String> = files(&["rs"]).into_iter().filter(uses).map(|(name, _)| name).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    let manifest = fs::read_to_string(root().join("grammar/Cargo.toml")).expect("the grammar has a manifest");
    assert!(!manifest.contains("path ="), "the grammar depends on nothing of the project");
}

#[test]
fn rust_files_say_what_they_are_for() {
    let silent: Vec<String> =
        files(&["rs"]).into_iter().filter(|(_, text)| !text.starts_with("//!")).map(|(name, _)| name).collect();
    assert!(silent.is_empty(), "these do not open with `//!`: {silent:?}");
}

#[test]
fn files_are_short() {
    let long: Vec<String> = files(&["rs", "pest", "nn"])
        .into_iter()
        .map(|(name, text)| (name, text.lines().count()))
        .filter(|(_, lines)| *lines > LONGEST)
        .map(|(name, lines)| format!("{name}: {lines} lines"))
        .collect();
    assert!(long.is_empty(), "longer than {LONGEST} lines: {long:?}");
}

#[test]
fn nothing_is_left_unfinished() {
    // Written in two parts so that this file does not hold what it looks for.
    let marks =
        [concat!("todo", "!("), concat!("unimplemented", "!("), concat!("dbg", "!("), concat!("allow(dead", "_code)")];
    let mut wrong = String::new();
    for (name, text) in files(&["rs"]) {
        for mark in marks.iter().filter(|mark| text.contains(**mark)) {
            let _ = writeln!(wrong, "{name} has {mark}");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn unsafe_code_stands_where_it_must() {
    let misplaced = |(name, text): &(String, String)| {
        let outside = !UNSAFE.iter().any(|place| name.starts_with(place)) && name.starts_with("src/") && !is_test(name);
        outside && code(text).split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe")
    };
    let wrong: Vec<String> = files(&["rs"]).into_iter().filter(misplaced).map(|(name, _)| name).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn programs_of_the_project_parse() {
    let programs = files(&["nn"]).into_iter().filter(|(name, _)| !name.starts_with("tests/"));
    let mut seen = 0;
    for (name, text) in programs {
        let mut sources = Sources::default();
        let file = sources.add(name, text.as_str());
        let (_, diagnostics) = parse(&text, file);
        let reports: String = diagnostics.iter().map(|diagnostic| diagnostic.render(&sources, false)).collect();
        assert!(reports.is_empty(), "{reports}");
        seen += 1;
    }
    assert!(seen > 0, "the library is read");
}
