//! The reference as one HTML page that needs nothing but itself.

use std::collections::HashMap;
use std::fmt::Write;

use crate::frontend::doc::highlight::{Style, highlight};
use crate::frontend::doc::markdown::{Block, Inline, inline, parse};
use crate::frontend::doc::{Entry, Kind};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Lines of a source that is shown without asking.
const SHORT: usize = 12;

/// The page of all `entries`, under a title.
pub fn page(title: &str, entries: &[Entry]) -> String {
    let links = Links::new(entries);
    let mut out = String::new();
    let title = escaped(title);
    out.push_str("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    out.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    put(&mut out, format_args!("<title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n"));
    put(&mut out, format_args!("<header><a class=\"home\" href=\"#\">nnc</a><h1>{title}</h1>"));
    out.push_str("<input id=\"search\" type=\"search\" placeholder=\"Search  ( / )\" aria-label=\"Search\" autocomplete=\"off\" spellcheck=\"false\">");
    out.push_str("<button id=\"theme\" type=\"button\" aria-label=\"Light or dark\">◐</button></header>\n");
    navigation(&mut out, entries);
    out.push_str("<main>\n<p id=\"nothing\" hidden>Nothing is called that, and no text mentions it.</p>\n");
    for (kind, of_kind) in by_kind(entries) {
        put(&mut out, format_args!("<section>\n<h2 id=\"{}\">{}</h2>\n", slug(kind.heading()), kind.heading()));
        for entry in of_kind {
            article(&mut out, entry, &links);
        }
        out.push_str("</section>\n");
    }
    put(&mut out, format_args!("</main>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n"));
    out
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a string does not fail");
}

/// The kinds that there are, with their entries.
fn by_kind(entries: &[Entry]) -> impl Iterator<Item = (Kind, Vec<&Entry>)> {
    let group = |kind| (kind, entries.iter().filter(|entry| entry.kind == kind).collect::<Vec<_>>());
    Kind::ALL.into_iter().map(group).filter(|(_, of_kind)| !of_kind.is_empty())
}

fn navigation(out: &mut String, entries: &[Entry]) {
    out.push_str("<nav>\n");
    for (kind, of_kind) in by_kind(entries) {
        put(out, format_args!("<details open><summary>{}</summary><ul>\n", kind.heading()));
        for entry in of_kind {
            put(out, format_args!("<li><a href=\"#{}\">{}</a></li>\n", anchor(entry), escaped(&entry.name)));
        }
        out.push_str("</ul></details>\n");
    }
    out.push_str("</nav>\n");
}

fn article(out: &mut String, entry: &Entry, links: &Links<'_>) {
    let anchor = anchor(entry);
    let name = escaped(&entry.name);
    put(out, format_args!("<article id=\"{anchor}\" data-name=\"{}\">\n", escaped(&entry.name.to_lowercase())));
    put(out, format_args!("<h3><a href=\"#{anchor}\">{name}</a> <small>{}</small></h3>\n", place(entry)));
    put(out, format_args!("<pre class=\"signature\">{}</pre>\n", source(&entry.signature, links)));
    for block in parse(&entry.doc) {
        text_block(out, &block, links);
    }
    if !entry.facts.is_empty() {
        out.push_str("<table>\n");
        for fact in &entry.facts {
            put(out, format_args!("<tr><th>{}</th><td>{}</td></tr>\n", fact.name, line(&inline(&fact.text), links)));
        }
        out.push_str("</table>\n");
    }
    if let Some(text) = &entry.source {
        let open = if text.lines().count() <= SHORT { " open" } else { "" };
        let shown = source(text, links);
        put(
            out,
            format_args!("<details class=\"source\"{open}><summary>Source</summary><pre>{shown}</pre></details>\n"),
        );
    }
    out.push_str("</article>\n");
}

fn place(entry: &Entry) -> String {
    let place = entry.place.as_ref().map_or(String::new(), |p| format!(" · {}:{}", escaped(&p.file), p.line));
    format!("{}{place}", entry.kind.word())
}

fn text_block(out: &mut String, block: &Block, links: &Links<'_>) {
    match block {
        Block::Paragraph { label, text } => {
            let label = label.as_ref().map_or(String::new(), |label| format!("<b>{}:</b> ", escaped(label)));
            put(out, format_args!("<p>{label}{}</p>\n", line(text, links)));
        }
        Block::List(items) => {
            out.push_str("<ul>\n");
            for item in items {
                put(out, format_args!("<li>{}</li>\n", line(item, links)));
            }
            out.push_str("</ul>\n");
        }
        Block::Code { language, text } if language.starts_with("nn") => {
            put(out, format_args!("<pre>{}</pre>\n", source(text, links)));
        }
        Block::Code { text, .. } => put(out, format_args!("<pre>{}</pre>\n", escaped(text))),
    }
}

fn line(text: &[Inline], links: &Links<'_>) -> String {
    let piece = |piece: &Inline| match piece {
        Inline::Text(text) => escaped(text),
        Inline::Code(code) => match links.to(code) {
            Some(anchor) => format!("<a href=\"#{anchor}\"><code>{}</code></a>", escaped(code)),
            None => format!("<code>{}</code>", source(code, links)),
        },
    };
    text.iter().map(piece).collect()
}

/// Source with its colours; names of the reference lead to their entries.
fn source(text: &str, links: &Links<'_>) -> String {
    let piece = |(style, text): (Style, &str)| {
        let shown = match class(style) {
            "" => escaped(text),
            class => format!("<span class=\"{class}\">{}</span>", escaped(text)),
        };
        match links.to(text).filter(|_| matches!(style, Style::Call | Style::Plain)) {
            Some(anchor) => format!("<a href=\"#{anchor}\">{shown}</a>"),
            None => shown,
        }
    };
    highlight(text).into_iter().map(piece).collect()
}

fn class(style: Style) -> &'static str {
    match style {
        Style::Plain => "",
        Style::Keyword => "k",
        Style::Type => "t",
        Style::Number => "n",
        Style::Text => "s",
        Style::Comment => "c",
        Style::Call => "f",
    }
}

/// Where names of functions and layers lead.
struct Links<'a>(HashMap<&'a str, String>);

impl<'a> Links<'a> {
    fn new(entries: &'a [Entry]) -> Links<'a> {
        let mut links = HashMap::new();
        // Of two things of one name the first of the reference is meant, so that what can be called wins over words.
        for entry in entries.iter().filter(|entry| entry.kind <= Kind::CompileTime) {
            links.entry(entry.name.as_str()).or_insert_with(|| anchor(entry));
        }
        Links(links)
    }

    fn to(&self, name: &str) -> Option<&str> {
        // Names of one letter are variables of an equation.
        self.0.get(name).filter(|_| name.len() > 1).map(String::as_str)
    }
}

/// The name of an entry's place in the page.
fn anchor(entry: &Entry) -> String {
    format!("{}-{}", slug(entry.kind.word()), slug(&entry.name))
}

/// Letters, digits and signs that may stand in an address; others by their number.
fn slug(text: &str) -> String {
    let piece = |c: char| match c {
        ' ' => "-".to_owned(),
        c if c.is_ascii_alphanumeric() || c == '_' || c == '-' => c.to_ascii_lowercase().to_string(),
        c => format!("x{:x}", u32::from(c)),
    };
    text.chars().map(piece).collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
