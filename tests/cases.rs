//! One small program per file under `tests/cases/errors`: what the compiler says about it.
//!
//! The file itself states its diagnostics, one a line: `// error 4:6-9: part of the message` (line, first and last
//! column; `4:6-5:1` over several lines, `4:6` where there is nothing to underline, none without a place), or `// warning ...`.
//! A place in a used file has its name before the line: `used/blocks.nn:1:2-3`. Used files are in folders called `used`.
//! Every diagnostic must be stated and every stated one must come. The rendered reports are snapshots in
//! `tests/cases/snapshots`.
//!
//! A folder under `tests/cases/data` is a model with data that is wrong. Its file `command` is run there, must end with exit
//! code 1, and what it says is a snapshot.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nnc::diag::{Diagnostic, Severity, Sources, Span};
use nnc::frontend::{Project, Settings, check};

#[test]
fn every_case_says_what_it_states() {
    let root = root();
    let mut wrong = String::new();
    for path in programs(&root.join("errors")) {
        let source = fs::read_to_string(&path).expect("a case can be read");
        let name = path.strip_prefix(&root).expect("a case is in the folder of cases").with_extension("");
        let (sources, diagnostics) = frontend(&path, &source);
        let stated: Vec<&str> = source.lines().filter(|line| is_statement(line)).collect();
        let found: Vec<String> = diagnostics.iter().map(|diagnostic| statement(diagnostic, &sources)).collect();
        if !agree(&stated, &found) {
            let _ = writeln!(
                wrong,
                "{}: the file states\n{}\nfound\n{}\n",
                name.display(),
                stated.join("\n"),
                found.join("\n")
            );
        }
        let reports: Vec<String> = diagnostics.iter().map(|diagnostic| report(diagnostic, &sources)).collect();
        snapshot(&name, &reports.join("\n"));
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn wrong_data_is_told_and_ends_with_code_one() {
    let root = root();
    let mut folders: Vec<PathBuf> = fs::read_dir(root.join("data"))
        .expect("the folder can be read")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    folders.sort();
    for folder in folders {
        let name = folder.strip_prefix(&root).expect("a case is in the folder of cases");
        let command = fs::read_to_string(folder.join("command")).expect("a case has a command");
        let arguments = command.trim().strip_prefix("nnc ").expect("a command begins with `nnc`").split(' ');
        let mut process = Command::new(env!("CARGO_BIN_EXE_nnc"));
        let output = process.args(arguments).current_dir(&folder).output().expect("nnc can be started");
        let said = String::from_utf8_lossy(&output.stderr).replace(&*folder.to_string_lossy(), "DIR");
        assert_eq!(output.status.code(), Some(1), "{}: {said}", name.display());
        snapshot(name, &said);
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases")
}

/// Compares with the kept text of a case.
fn snapshot(name: &Path, text: &str) {
    let name = name.to_string_lossy().replace(['/', '\\'], "__");
    insta::with_settings!({ snapshot_path => root().join("snapshots"), prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!(name, text);
    });
}

/// All `.nn` files below a folder, in order.
fn programs(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).expect("the folder can be read").map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    let below = |path: PathBuf| match path.extension() {
        _ if path.ends_with("used") => Vec::new(),
        _ if path.is_dir() => programs(&path),
        Some(extension) if extension == "nn" => vec![path],
        _ => Vec::new(),
    };
    paths.into_iter().flat_map(below).collect()
}

/// Everything the frontend says about a file.
fn frontend(path: &Path, source: &str) -> (Sources, Vec<Diagnostic>) {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // Used files stand beside the case.
    let folder = path.parent().unwrap_or(Path::new(""));
    let (project, mut diagnostics) = Project::parse_with(&name, source, &|used| fs::read(folder.join(used)));
    match check(&project, &Settings::default()) {
        Ok(model) => diagnostics.extend(model.warnings),
        Err(found) => diagnostics.extend(found),
    }
    (project.sources, diagnostics)
}

/// The rendered report; of places in the library only the words, so that its lines may move.
fn report(diagnostic: &Diagnostic, sources: &Sources) -> String {
    let (own, library): (Vec<_>, Vec<_>) =
        diagnostic.labels.iter().cloned().partition(|label| !sources.get(label.span.file).name.starts_with("<std>"));
    let mut text = Diagnostic { labels: own, ..diagnostic.clone() }.render(sources, false);
    for label in library {
        let _ = writeln!(text, "  and in {}: {}", sources.get(label.span.file).name, label.text);
    }
    text
}

fn is_statement(line: &str) -> bool {
    line.starts_with("// error") || line.starts_with("// warning")
}

/// The line that a case file would have for a diagnostic.
fn statement(diagnostic: &Diagnostic, sources: &Sources) -> String {
    let severity = match diagnostic.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let file = |span: Span| match span.file.0 {
        0 => String::new(),
        _ => format!("{}:", sources.get(span.file).name),
    };
    let place = diagnostic.span().map(|span| format!(" {}{}", file(span), place(span, sources))).unwrap_or_default();
    format!("// {severity}{place}: {}", diagnostic.message)
}

fn place(span: Span, sources: &Sources) -> String {
    let (line, column) = sources.line_column(span);
    let (last_line, behind) = sources.line_column(Span { start: span.end, ..span });
    match (span.end - span.start, last_line == line) {
        (0, _) => format!("{line}:{column}"),
        (_, true) => format!("{line}:{column}-{}", behind - 1),
        (_, false) => format!("{line}:{column}-{last_line}:{}", behind.saturating_sub(1)),
    }
}

/// Whether the lines agree: the same number, each stated one with the place and a part of the message of the one found.
fn agree(stated: &[&str], found: &[String]) -> bool {
    let same = |(stated, found): (&&str, &String)| match (stated.split_once(": "), found.split_once(": ")) {
        (Some((place, text)), Some((found_place, message))) => place == found_place && message.contains(text.trim()),
        _ => false,
    };
    stated.len() == found.len() && stated.iter().zip(found).all(same)
}
