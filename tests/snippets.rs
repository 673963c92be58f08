//! The code in the project's documentation is right: blocks of `.nn` check, and the tour's files and commands do what it shows.
//!
//! A block that begins with "```nn" holds a file or statements. One with a model must pass the checker, one with definitions alone
//! the resolver, statements the parser; `...` stands for what is left out. In `docs/tour.md` a block with a name (`nn gan.nn`, `csv or.csv`) is
//! that file, and "```console" has commands and what they print: `_` stands for a time, `...` for lines left out, and numbers with a
//! fraction may differ a little.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nnc::diag::{Diagnostic, Severity, Sources};
use nnc::frontend::ast::Item;
use nnc::frontend::parse::parse;
use nnc::frontend::{Project, Settings, check};

/// A block of code in a page.
struct Snippet {
    /// Page and line.
    place: String,
    language: String,
    /// The file that it is, where it is one.
    file: Option<String>,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The blocks of a page, in order.
fn snippets(page: &Path) -> Vec<Snippet> {
    let text = fs::read_to_string(page).expect("a page can be read");
    let mut found = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let Some(info) = line.trim_start().strip_prefix("```").filter(|info| !info.is_empty()) else { continue };
        let mut words = info.split_whitespace();
        let body: Vec<&str> = lines.by_ref().map(|(_, line)| line).take_while(|line| line.trim() != "```").collect();
        found.push(Snippet {
            place: format!("{}:{}", page.display(), number + 1),
            language: words.next().unwrap_or("").to_owned(),
            file: words.next().map(str::to_owned),
            text: body.join("\n") + "\n",
        });
    }
    found
}

/// README.md and the pages of docs/.
fn pages() -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join("docs")).expect("the project has docs");
    let mut pages: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    pages.retain(|page| page.extension().is_some_and(|extension| extension == "md"));
    pages.push(root().join("README.md"));
    pages.sort();
    pages
}

#[test]
fn code_in_the_documentation_is_right() {
    let mut seen = 0;
    for snippet in pages().iter().flat_map(|page| snippets(page)).filter(|snippet| snippet.language == "nn") {
        // The tour shows what a mistake looks like; that is compared with what the checker says.
        if snippet.file.as_deref() == Some("wrong.nn") {
            continue;
        }
        let text = snippet.text.replace("...", "");
        let (errors, sources) = errors_of(&text);
        let reports: String = errors.iter().map(|error| error.render(&sources, false)).collect();
        assert!(errors.is_empty(), "{}\n{text}\n{reports}", snippet.place);
        seen += 1;
    }
    assert!(seen > 12, "the pages were read, and have {seen} snippets");
}

/// What is wrong with a file, with definitions, or with statements.
fn errors_of(text: &str) -> (Vec<Diagnostic>, Sources) {
    let (parsed, problems) = parsed(text);
    let body = format!("layer snippet() {{\n{text}\n}}\n");
    if has_errors(&problems.0) {
        let (_, in_body) = self::parsed(&body);
        return if has_errors(&in_body.0) { problems } else { (Vec::new(), in_body.1) };
    }
    let only_definitions =
        parsed.iter().all(|item| matches!(item, Item::Function(_) | Item::Optimizer(_) | Item::Const { .. }));
    let models: Vec<String> = parsed.iter().filter_map(model_name).collect();
    if !only_definitions && models.is_empty() {
        return (Vec::new(), problems.1);
    }
    let (project, mut diagnostics) = Project::parse("<snippet>", text);
    for model in models {
        let settings = Settings { model: Some(model), total_steps: Some(100), ..Settings::default() };
        diagnostics.extend(check(&project, &settings).err().unwrap_or_default());
    }
    diagnostics.retain(|diagnostic| diagnostic.severity == Severity::Error);
    (diagnostics, project.sources)
}

fn model_name(item: &Item) -> Option<String> {
    match item {
        Item::Model(definition) => Some(definition.name.text.to_string()),
        _ => None,
    }
}

fn parsed(text: &str) -> (Vec<Item>, (Vec<Diagnostic>, Sources)) {
    let mut sources = Sources::default();
    let file = sources.add("<snippet>", text);
    let (tree, diagnostics) = parse(text, file);
    (tree.items, (diagnostics, sources))
}

fn has_errors(diagnostics: &[Diagnostic]) -> bool {
    diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
}

#[test]
fn the_tour_does_what_it_shows() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("digits");
    fs::create_dir(&data).expect("a folder for the data");
    for entry in fs::read_dir(root().join("models/digits")).expect("the digits are in the project") {
        let entry = entry.expect("an entry");
        fs::copy(entry.path(), data.join(entry.file_name())).expect("data can be copied");
    }
    let mut commands = 0;
    for snippet in snippets(&root().join("docs/tour.md")) {
        if let Some(file) = &snippet.file {
            fs::write(folder.path().join(file), &snippet.text).expect("a file of the tour can be written");
        } else if snippet.language == "console" {
            for (command, shown) in commands_of(&snippet.text) {
                let printed = run(folder.path(), command);
                let problem = difference(shown, &printed);
                assert!(
                    problem.is_none(),
                    "{}: `{command}`\n{}\n{printed}",
                    snippet.place,
                    problem.unwrap_or_default()
                );
                commands += 1;
            }
        }
    }
    assert!(commands >= 12, "{commands} commands of the tour were run");
}

/// The commands of a console block, each with what it prints.
fn commands_of(text: &str) -> Vec<(&str, &str)> {
    let parts = text.strip_prefix("$ ").expect("a console block begins with a command").split("\n$ ");
    parts.map(|part| part.split_once('\n').unwrap_or((part, ""))).collect()
}

/// What a command says, on both streams; the commands of the tour write to one only.
fn run(folder: &Path, command: &str) -> String {
    let mut words = command.split_whitespace();
    assert_eq!(words.next(), Some("nnc"), "{command}");
    let mut process = Command::new(env!("CARGO_BIN_EXE_nnc"));
    let output = process.args(words).current_dir(folder).env("COLUMNS", "100").output().expect("nnc can be started");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

/// The first line that is shown but not printed, if there is one.
fn difference(shown: &str, printed: &str) -> Option<String> {
    let mut printed = printed.lines().map(words).filter(|line| !line.is_empty());
    let mut skips = false;
    for line in shown.lines().filter(|line| !line.trim().is_empty()) {
        if line.trim() == "..." {
            skips = true;
            continue;
        }
        let wanted = words(line);
        let found = if skips {
            printed.any(|l| alike(&wanted, &l))
        } else {
            printed.next().is_some_and(|l| alike(&wanted, &l))
        };
        if !found {
            return Some(format!("shown, but not printed: {line}"));
        }
        skips = false;
    }
    match printed.next() {
        Some(rest) if !skips => Some(format!("printed, but not shown: {}", rest.join(" "))),
        _ => None,
    }
}

/// The words of a line, with `_` for times.
fn words(line: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for word in line.split_whitespace() {
        let unit = word.trim_end_matches(',');
        match words.last_mut().filter(|last| matches!(unit, "s" | "ms" | "us" | "min") && last.parse::<f64>().is_ok()) {
            Some(last) => *last = word.replace(unit, "_"),
            None => words.push(word.to_owned()),
        }
    }
    words
}

/// Whether two lines say the same, numbers with a fraction but for a tenth.
fn alike(wanted: &[String], found: &[String]) -> bool {
    let same = |(a, b): (&String, &String)| match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(x), Ok(y)) if a.contains('.') && b.contains('.') => (x - y).abs() <= 0.05 + 0.1 * x.abs(),
        _ => a == b,
    };
    wanted.len() == found.len() && wanted.iter().zip(found).all(same)
}

#[test]
fn outputs_are_compared_but_for_times_and_last_digits() {
    let printed = "epoch 1  step 4  12 ms  ce 0.5021\nepoch 2  step 8  9 ms  ce 0.2\n8 steps in 1.2 s, weights in w\n";
    assert_eq!(difference("epoch 1 step 4 _ ce 0.5\n...\n8 steps in _, weights in w", printed), None);
    assert!(difference("epoch 1 step 4 _ ce 0.9\n...", printed).is_some());
    assert!(difference("epoch 1 step 5 _ ce 0.5\n...", printed).is_some());
    assert!(difference("epoch 1 step 4 _ ce 0.5", printed).is_some());
}
