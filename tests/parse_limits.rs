//! Texts that break parsers: each must give a diagnostic, quickly, on the stack that a test thread has.

use std::time::{Duration, Instant};

use nnc::diag::{FileId, Sources};
use nnc::frontend::parse::{MAX_SOURCE, decode, parse};
use nnc::frontend::print::print;
use proptest::prelude::*;

#[path = "parse/soup.rs"]
mod soup;

/// Parses on a thread with the stack of a thread of the host program, and gives the messages.
fn messages(source: String) -> Vec<String> {
    let work = move || {
        let start = Instant::now();
        let (file, diagnostics) = parse(&source, FileId(0));
        print(&file);
        let taken = start.elapsed();
        assert!(taken < Duration::from_secs(30), "took {taken:?} for {}", &source[..40.min(source.len())]);
        diagnostics.into_iter().map(|diagnostic| diagnostic.message).collect()
    };
    let thread = std::thread::Builder::new().stack_size(1 << 20).spawn(work).expect("a thread can be started");
    thread.join().expect("the parser does not panic")
}

/// The text as a model's body.
fn in_model(body: &str) -> String {
    format!("model M {{\n    y = {body}\n}}\n")
}

#[track_caller]
fn refused(source: String, message: &str) {
    let found = messages(source);
    assert!(found.iter().any(|text| text.contains(message)), "{found:?}");
}

#[track_caller]
fn accepted(source: String) {
    assert_eq!(messages(source), Vec::<String>::new());
}

const MANY: usize = 2_000;

#[test]
fn brackets_inside_brackets() {
    for (open, close) in
        [("(", ")"), ("[", "]"), ("f(", ")"), ("x[", "]"), ("if a { ", " } else { 1 }"), ("|x| { ", " }")]
    {
        let nested = |count: usize| in_model(&format!("{}x{}", open.repeat(count), close.repeat(count)));
        accepted(nested(50));
        refused(nested(MANY), "nested more than");
    }
    refused(format!("model M {{ x = {}", "(".repeat(100_000)), "nested more than");
    refused(in_model(&"{".repeat(MANY)), "nested more than");
    refused(in_model(&"([{".repeat(MANY)), "nested more than");
}

#[test]
fn chains_without_brackets() {
    for link in ["- ", "not ", "if ", "|x| ", "|x = ", "|x, y| ", "a ^ ", "1 + if a { 1 } else { ", "1 + |x| "] {
        let found = messages(in_model(&format!("{}a", link.repeat(MANY))));
        assert!(!found.is_empty(), "{link}");
    }
    for link in [" + a", " |> f", "(a)", "[0]", ".f", " and a", " or not a", " @ a", " .. a", " == -a"] {
        accepted(in_model(&format!("a{}", link.repeat(50))));
        refused(in_model(&format!("a{}", link.repeat(MANY))), "levels deep");
    }
    let chain = "if a { 1 } else ".repeat(MANY);
    refused(in_model(&format!("{chain} {{ 2 }}")), "levels deep");
    refused(format!("fn f(a) {{\n{chain} {{ 2 }}\n}}"), "levels deep");
}

#[test]
fn deep_trees_of_moderate_parts() {
    let inner = format!("a{}", " + a".repeat(100));
    let nested = |levels: usize| in_model(&(0..levels).fold("a".to_owned(), |text, _| format!("({text}) + {inner}")));
    accepted(nested(2));
    refused(nested(20), "levels deep");
}

#[test]
fn brackets_that_do_not_match() {
    for text in
        ["(", ")", "[", "]", "{", "}", "([)]", "{(}", ")))", "(((", "{[}]", "|", "||", "\"", "\"\\", "(\"", "} {"]
    {
        for repeat in [1, 2, 3, 1000] {
            let text = text.repeat(repeat);
            assert!(!messages(text.clone()).is_empty(), "{text}");
            // An even number of quotes makes strings.
            assert!(!messages(in_model(&text)).is_empty() || text.starts_with("\"\""), "{text}");
            messages(format!("{}model N {{ x = 1 }}", in_model(&text)));
        }
    }
}

#[test]
fn large_texts() {
    refused("model M {}\n".repeat(1_000_000), "larger than");
    refused("(".repeat(10 << 20), "larger than");
    // What takes more than time in proportion to its length takes far too long at this one.
    const LONG: usize = 64 * 1024;
    let up_to = |size: usize, unit: &str| unit.repeat((size - 100) / unit.len());
    let fill = |unit: &str| up_to(LONG, unit);
    accepted(up_to(MAX_SOURCE, "\n"));
    accepted(up_to(MAX_SOURCE, " "));
    accepted(up_to(MAX_SOURCE, "// a // b // c\n"));
    accepted(format!("const a = \"{}\"", up_to(MAX_SOURCE, "x")));
    accepted(fill("const a = 1\n"));
    accepted(format!("const a = [{}]", fill("1,")));
    accepted(format!("model M {{{}}}", fill("a = b;")));
    accepted(format!("const a = [{}]", fill("a//b, ")));
    for unit in [
        "a // b ",
        "a ",
        "\"",
        "1.",
        "..",
        "é",
        "\0",
        "|",
        "\\",
        "///\n",
        "if",
        "}",
        "} {\n",
        "x = (\n",
        "y = 1 1\n",
        "{}",
    ] {
        messages(fill(unit));
        messages(format!("model M {{\n{}\n}}", unit.repeat(3_000)));
        messages(format!("const a = [{}]", unit.repeat(3_000)));
    }
}

#[test]
fn numbers_out_of_range() {
    refused("const a = 9223372036854775808".into(), "does not fit");
    refused("const a = 0x10000000000000000".into(), "does not fit");
    refused(format!("const a = {}", "9".repeat(100_000)), "does not fit");
    refused("const a = 1e999".into(), "too large");
    refused(format!("const a = 1e{}", "9".repeat(1000)), "too large");
    refused("const a = 12abc".into(), "`12abc` is not a number");
    refused("const a = 0x".into(), "`0x` is not a number");
    accepted("const a = 9223372036854775807".into());
    accepted(format!("const a = 0.{}", "1".repeat(100_000)));
    accepted("const a = 1e-999".into());
}

#[test]
fn bytes_that_are_no_text() {
    assert_eq!(decode("é = 1".as_bytes(), FileId(0)).expect("it is UTF-8"), "é = 1");
    for (bytes, place) in [(b"ab\n\xC3\xA9x\xFFy".to_vec(), 6), (b"\xC3".to_vec(), 0), (vec![0xFF; 100_000], 0)] {
        let mut sources = Sources::default();
        let file = sources.add("m.nn", String::from_utf8_lossy(&bytes).into_owned());
        let diagnostic = decode(&bytes, file).expect_err("it is not UTF-8");
        assert_eq!(diagnostic.message, format!("the file is not UTF-8 text: byte 0x{:02X}", bytes[place]));
        assert_eq!(diagnostic.span().map(|span| span.start as usize), Some(place));
        assert!(diagnostic.render(&sources, false).len() < 1000);
    }
}

/// Every prefix and every text with one piece missing of a file that uses the whole language.
#[test]
fn pieces_of_a_good_file() {
    let source = include_str!("parse/language.nn");
    let places: Vec<usize> = (0..source.len()).filter(|at| source.is_char_boundary(*at)).collect();
    for at in places.iter().step_by(31) {
        parse(&source[..*at], FileId(0));
        parse(&source[*at..], FileId(0));
        let end = source.ceil_char_boundary((at + 7).min(source.len()));
        parse(&format!("{}{}", &source[..*at], &source[end..]), FileId(0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn words_in_any_order(body in soup::soup(), value in soup::soup()) {
        for source in [format!("model M {{\n a = {value}\n {body}\n}}"), body.clone(), format!("const a = {value}")] {
            let (file, diagnostics) = parse(&source, FileId(0));
            for diagnostic in &diagnostics {
                let span = diagnostic.span().expect("a mistake in a text has a place");
                prop_assert!(span.start <= span.end && span.end as usize <= source.len());
            }
            if diagnostics.is_empty() {
                let text = print(&file);
                let (again, wrong) = parse(&text, FileId(0));
                prop_assert_eq!(&wrong, &[], "{}", text);
                prop_assert_eq!(print(&again), text, "{}", source);
            }
        }
    }

    #[test]
    fn any_characters(source in "\\PC*") {
        parse(&source, FileId(0));
    }
}
