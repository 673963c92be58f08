//! `nnc fmt`: the layout, that it changes no meaning and is its own, that the programs of the project have it, and the command.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use nnc::diag::{FileId, Sources};
use nnc::frontend::format::format;
use nnc::frontend::parse::lexeme::{Lexeme, Lexer};
use nnc::frontend::parse::parse;
use nnc::frontend::print::print;
use proptest::prelude::*;

#[path = "parse/soup.rs"]
mod soup;

/// Files that are untidy for a reason.
const UNTIDY: [&str; 3] = ["tests/cases/", "tests/format/untidy.nn", "tests/parse/language.nn"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every `.nn` file of the project that is UTF-8: its path from the root, and its text.
fn programs() -> Vec<(String, String)> {
    let mut paths: Vec<PathBuf> =
        ["src", "models", "tests", "examples", "benches"].iter().flat_map(|f| below(&root().join(f))).collect();
    paths.sort();
    let read = |path: PathBuf| {
        let name = path.strip_prefix(root()).expect("the path is below the root").to_string_lossy().replace('\\', "/");
        String::from_utf8(fs::read(&path).expect("a file can be read")).ok().map(|text| (name, text))
    };
    paths.into_iter().filter(|path| path.extension().is_some_and(|found| found == "nn")).filter_map(read).collect()
}

fn below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.expect("a folder can be read").path());
    paths.flat_map(|path| if path.is_dir() { below(&path) } else { vec![path] }).collect()
}

/// The layout of a text that is right, after checking what must hold of every layout.
#[track_caller]
fn formatted(source: &str) -> String {
    let text = format(source, FileId(0)).unwrap_or_else(|wrong| panic!("{:?} in\n{source}", wrong[0].message));
    let tree = |text: &str| print(&parse(text, FileId(0)).0);
    assert_same(&tree(&text), &tree(source), "the meaning");
    assert_eq!(words(&text), words(source), "words or comments change:\n{text}");
    assert_same(&format(&text, FileId(0)).expect("it is right"), &text, "the layout of the layout");
    text
}

/// Asserts that two texts are the same, and shows the first line that is not.
#[track_caller]
fn assert_same(found: &str, wanted: &str, name: &str) {
    let differ = found.lines().zip(wanted.lines()).enumerate().find(|(_, (found, wanted))| found != wanted);
    assert_eq!(differ, None, "in {name}");
    assert_eq!(found.len(), wanted.len(), "in {name}");
}

/// The lexemes that have a meaning, and the comments.
fn words(text: &str) -> Vec<String> {
    let all = cut(text).into_iter().filter(|(lexeme, _)| !matches!(lexeme, Lexeme::Blank | Lexeme::Newline));
    all.filter(|(lexeme, _)| *lexeme != Lexeme::Symbol(";")).map(|(_, text)| text.trim_end().to_owned()).collect()
}

fn cut(text: &str) -> Vec<(Lexeme<'_>, &str)> {
    let mut lexer = Lexer::new(text);
    let (mut last, mut brackets, mut cut) = (Lexeme::End, Vec::new(), Vec::new());
    loop {
        let (lexeme, range) = lexer.next(last, matches!(brackets.last(), Some(b'(' | b'[')));
        match lexeme {
            Lexeme::End => return cut,
            Lexeme::Open(bracket) => brackets.push(bracket),
            Lexeme::Close(_) => drop(brackets.pop()),
            _ => {}
        }
        if !matches!(lexeme, Lexeme::Blank | Lexeme::Newline | Lexeme::Comment) {
            last = lexeme;
        }
        cut.push((lexeme, &text[range]));
    }
}

#[test]
fn examples_of_the_language_keep_their_layout() {
    let source = include_str!("format/examples.nn");
    assert_same(&formatted(source), source, "examples.nn");
}

#[test]
fn an_untidy_text() {
    insta::assert_snapshot!("untidy", formatted(include_str!("format/untidy.nn")));
}

#[test]
fn programs_keep_their_meaning() {
    let mut seen = 0;
    for (_, text) in programs() {
        let (_, diagnostics) = parse(&text, FileId(0));
        if diagnostics.iter().all(|diagnostic| diagnostic.severity != nnc::diag::Severity::Error) {
            formatted(&text);
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen}");
}

/// `UPDATE=1 cargo test --test format` sets the layout of all of them.
#[test]
fn programs_of_the_project_have_the_layout() {
    let mut wrong = Vec::new();
    for (name, text) in programs() {
        let untidy = UNTIDY.iter().any(|place| name.starts_with(place));
        let Some(wanted) = format(&text, FileId(0)).ok().filter(|wanted| !untidy && *wanted != text) else { continue };
        if std::env::var_os("UPDATE").is_some() {
            fs::write(root().join(&name), wanted).expect("a program can be written");
        } else {
            wrong.push(name);
        }
    }
    assert!(wrong.is_empty(), "`cargo run -- fmt {}` sets the layout", wrong.join(" "));
}

/// The text with other blanks, as `blanks` say; line ends stay. Comments on lines of their own begin the line, so that none
/// comes to stand below one behind code.
fn with_other_blanks(text: &str, blanks: &[u8]) -> String {
    let mut more = blanks.iter().cycle();
    let mut blank = |needed: bool| match more.next().map_or(0, |next| next % 4) {
        0 => " ",
        1 => "\t",
        2 => "   ",
        _ if needed => " ",
        _ => "",
    };
    let pieces = cut(text);
    let mut other = String::new();
    for (index, (lexeme, piece)) in pieces.iter().enumerate() {
        let before = index.checked_sub(1).map(|index| pieces[index].0);
        let divides = |lexeme: Option<Lexeme<'_>>| lexeme == Some(Lexeme::Symbol("//"));
        match lexeme {
            Lexeme::Blank => {}
            Lexeme::Newline => other.push_str(&format!("{}{piece}", blank(false))),
            Lexeme::Comment if other.trim_end_matches([' ', '\t']).ends_with('\n') => other.push_str(piece),
            _ if divides(Some(*lexeme)) || divides(before) => other.push_str(piece),
            _ => other.push_str(&format!("{}{piece}", blank(before == Some(Lexeme::Blank)))),
        }
    }
    other
}

#[test]
fn the_blanks_of_the_writer_do_not_matter() {
    for (name, text) in programs() {
        let Ok(wanted) = format(&text, FileId(0)) else { continue };
        if name == "tests/format/untidy.nn" {
            continue;
        }
        for blanks in [&[3][..], &[0, 1, 2, 3, 3, 1, 0, 2, 2, 3, 0], &[1], &[2, 3, 3]] {
            let other = with_other_blanks(&wanted, blanks);
            assert_same(&format(&other, FileId(0)).expect("it is right"), &wanted, &name);
        }
    }
}

#[test]
fn what_is_wrong_has_no_layout() {
    for (text, message) in [
        ("model M { x = }", "expected a value, found `}`"),
        ("model M {", "this `{` is never closed"),
        (&"(".repeat(10 << 20), "the file is larger than 512 KiB, which is the limit for a source text"),
    ] {
        let wrong = format(text, FileId(0)).expect_err("it is wrong");
        assert_eq!(wrong[0].message, message);
    }
}

#[test]
fn hard_texts_take_little_time_and_room() {
    const LONG: usize = 48 * 1024;
    let fill = |unit: &str| unit.repeat(LONG / unit.len());
    let name = "x".repeat(LONG / 2);
    let texts = [
        fill("// a\n"),
        fill("\n"),
        fill("const a = 1 // b\n"),
        format!("const a = [{}]", fill("1,")),
        format!("const a = [{}]", fill("1,\n")),
        format!("const {name} = [{}]", fill("1,\n")),
        format!("const {name} = 1 // b\n{}", fill("const a = 1 // b\n")),
        format!("model M {{ {name} = 1\n{} }}", fill("a = b\n")),
        format!("model M {{ {} }}", fill("a = b;")),
        format!("model M {{ {} }}", fill("; ")),
        format!("model M {{ {} }}", fill(";\n//\n")),
        format!("model M {{ x = {}a{} }}", "(\n".repeat(60), ")".repeat(60)),
        format!("model M {{ x = {}a{} }}", "f(a, ".repeat(60), "\n)".repeat(60)),
        format!("model M {{ x = {}a{} }}", "|x| { y = 1\n".repeat(30), "\n}".repeat(30)),
        format!("model M {{ x = {}a{} }}", "if a { ".repeat(30), "\n} else { b }".repeat(30)),
        format!("model M {{ x = a{} }}", " + a\n + a".repeat(100)),
    ];
    for text in texts {
        let start = Instant::now();
        let result = formatted(&text);
        assert!(start.elapsed() < Duration::from_secs(60), "{:?} for {}", start.elapsed(), &text[..40]);
        assert!(result.len() < 100 * text.len(), "{} for {}", result.len(), &text[..40]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn words_in_any_order(body in soup::soup(), value in soup::soup()) {
        for source in [format!("model M {{\n a = {value}\n {body}\n}}"), body.clone(), format!("const a = {value}")] {
            if format(&source, FileId(0)).is_ok() {
                formatted(&source);
            } else {
                let right = parse(&source, FileId(0)).1.iter().all(|d| d.severity != nnc::diag::Severity::Error);
                prop_assert!(!right, "{}", source);
            }
        }
    }

    #[test]
    fn any_blanks(blanks in proptest::collection::vec(any::<u8>(), 1..40)) {
        let source = include_str!("format/examples.nn");
        assert_same(&format(&with_other_blanks(source, &blanks), FileId(0)).expect("it is right"), source, "examples.nn");
    }
}

fn nnc(folder: &Path, arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nnc"));
    command.current_dir(folder).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("nnc starts");
    child.stdin.take().expect("it is a pipe").write_all(input.as_bytes()).expect("nnc reads its input");
    child.wait_with_output().expect("nnc ends")
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("output is UTF-8")
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("messages are UTF-8")
}

const UNTIDY_TEXT: &str = "const   a=1\n";
const TIDY_TEXT: &str = "const a = 1\n";

#[test]
fn the_command_writes_what_differs_and_leaves_the_rest_alone() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let path = |name: &str| folder.path().join(name);
    for (name, text) in [("a.nn", UNTIDY_TEXT), ("b.nn", TIDY_TEXT), ("c.nn", "const = 1\n")] {
        fs::write(path(name), text).expect("a file can be written");
    }
    let checked = nnc(folder.path(), &["fmt", "--check", "a.nn", "b.nn"], "");
    assert_eq!((checked.status.code(), out(&checked)), (Some(1), "a.nn\n".into()));
    assert!(err(&checked).contains("one file has another layout"), "{}", err(&checked));
    assert_eq!(fs::read_to_string(path("a.nn")).expect("it is there"), UNTIDY_TEXT);

    let written = nnc(folder.path(), &["fmt", "c.nn", "missing.nn", "a.nn", "b.nn"], "");
    assert_eq!((written.status.code(), out(&written)), (Some(1), "a.nn: formatted\n".into()));
    assert!(
        err(&written).contains("c.nn:1:7") && err(&written).contains("cannot read missing.nn"),
        "{}",
        err(&written)
    );
    assert_eq!(fs::read_to_string(path("a.nn")).expect("it is there"), TIDY_TEXT);
    assert_eq!(fs::read_to_string(path("c.nn")).expect("it is there"), "const = 1\n");

    let again = nnc(folder.path(), &["fmt", "--check", "--json", "a.nn", "b.nn"], "");
    assert_eq!(again.status.code(), Some(0));
    assert_eq!(out(&again).lines().next(), Some(r#"{"event":"fmt","file":"a.nn","changed":false}"#));
    assert_eq!(nnc(folder.path(), &["fmt"], "").status.code(), Some(2));
}

#[test]
fn the_command_lays_out_standard_input() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let laid = nnc(folder.path(), &["fmt", "-"], UNTIDY_TEXT);
    assert_eq!((laid.status.code(), out(&laid)), (Some(0), TIDY_TEXT.into()));
    let json = nnc(folder.path(), &["fmt", "--json", "-"], UNTIDY_TEXT);
    assert_eq!(out(&json), "{\"event\":\"fmt\",\"file\":\"-\",\"changed\":true,\"text\":\"const a = 1\\n\"}\n");
    let checked = nnc(folder.path(), &["fmt", "--check", "-"], UNTIDY_TEXT);
    assert_eq!((checked.status.code(), out(&checked)), (Some(1), "<stdin>\n".into()));
    let wrong = nnc(folder.path(), &["fmt", "-"], "const");
    assert_eq!((wrong.status.code(), out(&wrong)), (Some(1), String::new()));
    assert!(err(&wrong).contains("<stdin>:1"), "{}", err(&wrong));
}

#[cfg(unix)]
#[test]
fn a_file_keeps_its_permissions_and_a_link_stays_one() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let folder = tempfile::tempdir().expect("a folder can be made");
    let (file, link) = (folder.path().join("a.nn"), folder.path().join("link.nn"));
    fs::write(&file, UNTIDY_TEXT).expect("a file can be written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("permissions can be set");
    symlink("a.nn", &link).expect("a link can be made");
    assert_eq!(nnc(folder.path(), &["fmt", "link.nn"], "").status.code(), Some(0));
    assert_eq!(fs::read_to_string(&file).expect("it is there"), TIDY_TEXT);
    assert_eq!(fs::metadata(&file).expect("it is there").permissions().mode() & 0o777, 0o600);
    assert!(fs::symlink_metadata(&link).expect("it is there").is_symlink());
}

#[test]
fn mistakes_point_into_the_file() {
    let mut sources = Sources::default();
    let file = sources.add("m.nn", "const = 1");
    let wrong = format("const = 1", file).expect_err("it is wrong");
    assert!(wrong[0].render(&sources, false).contains("m.nn:1:7"));
}
