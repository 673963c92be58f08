//! What the grammar could not read, in the user's words.
//!
//! pest says how far it came and which rules it tried there. [`explain`] turns that and the words around the place into one
//! sentence; [`advice`](super::advice) adds a suggestion where the mistake is a common one.

use std::ops::Range;

use nn_grammar::words::KEYWORDS;
use pest::error::{Error, ErrorVariant, InputLocation};

use super::layout::Layout;
use super::lexeme::{Lexeme, Lexer};
use super::words::{is_operator, phrase};
use super::{Rule, advice, span};
use crate::diag::{Diagnostic, FileId};

/// The place of the mistake in the file and what to say about it.
pub(super) fn explain(
    source: &str,
    file: FileId,
    layout: &Layout,
    item: &Range<usize>,
    error: &Error<Rule>,
) -> (usize, Diagnostic) {
    let offset = match error.location {
        InputLocation::Pos(offset) | InputLocation::Span((offset, _)) => offset,
    };
    let rest = &layout.text[item.start + offset..item.end];
    // pest stops before the blanks in front of what it cannot read.
    let place = item.start + offset + rest.len() - rest.trim_start_matches([' ', '\t']).len();
    let rules: &[Rule] = match &error.variant {
        ErrorVariant::ParsingError { positives, .. } => positives,
        ErrorVariant::CustomError { .. } => &[],
    };
    let statement = layout.statements.iter().find(|s| s.start <= place && place <= s.end).unwrap_or(item);
    let found = Found::read(source, &layout.text, statement.start, place);
    if let Some(diagnostic) = unfinished_line(file, source, &found, rules) {
        return (place, diagnostic);
    }
    let mut diagnostic = Diagnostic::error(span(file, found.range.clone()), message(&found, rules));
    diagnostic.help = advice::advice(&found, rules);
    (place, diagnostic)
}

/// A lexeme and its place.
pub(super) type Placed<'a> = (Lexeme<'a>, Range<usize>);

/// What stands where the grammar stopped, and around it.
pub(super) struct Found<'a> {
    pub lexeme: Lexeme<'a>,
    /// Of no width for the end of a line or of the file.
    pub range: Range<usize>,
    /// The lexeme before in the same statement, and the one before that.
    pub before: Lexeme<'a>,
    pub two_before: Placed<'a>,
    /// The lexeme after.
    pub after: Lexeme<'a>,
    /// The first lexeme of the statement.
    pub first: Lexeme<'a>,
    /// Whether the lexeme is the first of its line, and whether the one before is.
    pub begins_line: bool,
    pub before_begins_line: bool,
}

impl<'a> Found<'a> {
    fn read(source: &'a str, text: &'a str, statement: usize, place: usize) -> Self {
        let mut lexer = Lexer::starting_at(text, statement);
        let mut next = || loop {
            // Comments are blanks by now, so every `//` divides.
            let (lexeme, range) = lexer.next(Lexeme::Close(b')'), true);
            if lexeme != Lexeme::Blank {
                return (lexeme, range);
            }
        };
        let nothing = || (Lexeme::End, statement..statement);
        let (mut two_before, mut before, mut first) = (nothing(), nothing(), Lexeme::End);
        let (lexeme, range) = loop {
            let (lexeme, range) = next();
            if range.end > place || lexeme == Lexeme::End {
                break (lexeme, range);
            }
            if first == Lexeme::End {
                first = lexeme;
            }
            two_before = std::mem::replace(&mut before, (lexeme, range));
        };
        let new_line = |from: usize, to: usize| source.get(from..to).is_some_and(|between| between.contains('\n'));
        Found {
            lexeme,
            range: if matches!(lexeme, Lexeme::Newline) { range.start..range.start } else { range.clone() },
            begins_line: new_line(before.1.end, range.start),
            before_begins_line: new_line(two_before.1.end, before.1.start),
            before: before.0,
            two_before,
            after: next().0,
            first,
        }
    }

    /// The lexeme as the sentence names it.
    fn words(&self) -> String {
        match self.lexeme {
            Lexeme::End => "the end of the file".into(),
            Lexeme::Newline => "the end of the line".into(),
            Lexeme::Word(word) if KEYWORDS.contains(&word) => format!("the keyword `{word}`"),
            Lexeme::Word(word) | Lexeme::Number(word) | Lexeme::Symbol(word) => format!("`{}`", shortened(word)),
            Lexeme::Open(bracket) | Lexeme::Close(bracket) => format!("`{}`", char::from(bracket)),
            Lexeme::Text | Lexeme::OpenText => "a string".into(),
            Lexeme::Other(character) if character.is_control() => {
                format!("the character U+{:04X}", u32::from(character))
            }
            Lexeme::Other(character) => format!("the character `{character}`"),
            Lexeme::Blank | Lexeme::Comment => "a blank".into(),
        }
    }
}

/// Whether the grammar stopped behind a whole value.
pub(super) fn after_value(rules: &[Rule]) -> bool {
    rules.iter().any(|rule| matches!(rule, Rule::op_add | Rule::call | Rule::op_pipe))
}

/// Whether a value could have stood where the grammar stopped.
pub(super) fn wants_value(rules: &[Rule]) -> bool {
    let value = |rule: &Rule| matches!(rule, Rule::expression | Rule::expressions | Rule::operation | Rule::operand);
    rules.iter().any(value) && !after_value(rules)
}

/// `y = x +` with a whole statement on the next line, which the operator has made a part of this one.
fn unfinished_line(file: FileId, source: &str, found: &Found<'_>, rules: &[Rule]) -> Option<Diagnostic> {
    let (operator, place) = &found.two_before;
    let statement_follows = matches!(found.lexeme, Lexeme::Symbol("=" | "<-")) && after_value(rules);
    if !statement_follows || !found.before_begins_line || !operator.continues_after() {
        return None;
    }
    let sign = source.get(place.clone()).unwrap_or("");
    let diagnostic = Diagnostic::error(
        span(file, place.clone()),
        format!("expected a value after `{sign}`, found the end of the line"),
    )
    .label(span(file, found.range.clone()), "so the next line continues this one, up to here");
    Some(diagnostic)
}

fn message(found: &Found<'_>, rules: &[Rule]) -> String {
    let keyword = match found.lexeme {
        Lexeme::Word(word) if KEYWORDS.contains(&word) => Some(word),
        _ => None,
    };
    let wants_name = rules.iter().any(|rule| matches!(rule, Rule::name | Rule::names | Rule::parameter | Rule::carry));
    let is_bound = matches!(found.after, Lexeme::Symbol("=" | "<-"));
    match (keyword, found.lexeme) {
        (Some(word), _) if is_bound || wants_name && !wants_value(rules) && !rules.contains(&Rule::statement) => {
            return format!("`{word}` is a keyword and cannot be a name");
        }
        (_, Lexeme::Number(number)) if wants_value(rules) => return format!("`{}` is not a number", shortened(number)),
        _ => {}
    }
    let expected = expected(rules);
    match expected.as_slice() {
        [] => format!("{} does not belong here", found.words()),
        [one] => format!("expected {one}, found {}", found.words()),
        [rest @ .., last] => format!("expected {} or {last}, found {}", rest.join(", "), found.words()),
    }
}

/// What could have stood here: phrases without repetition, and without those that others imply.
fn expected(rules: &[Rule]) -> Vec<String> {
    let (after_value, wants_value) = (after_value(rules), wants_value(rules));
    let ends = rules.contains(&Rule::separator);
    let begins = rules.iter().any(|rule| matches!(rule, Rule::statement | Rule::train_entry | Rule::split));
    let implied = |rule: Rule| match rule {
        // Behind a value that could be a name, what makes a statement of it; brackets that make an operand longer.
        Rule::assign | Rule::op_update | Rule::colon | Rule::open_bracket | Rule::bar | Rule::word_for
            if after_value =>
        {
            true
        }
        Rule::bar | Rule::word_if | Rule::word_not | Rule::op_negate | Rule::word_index if wants_value => true,
        Rule::close_brace | Rule::comma if ends => true,
        Rule::separator | Rule::close_brace if begins => true,
        _ => false,
    };
    let mut phrases: Vec<String> = Vec::new();
    for rule in rules.iter().copied().filter(|rule| !implied(*rule)) {
        let phrase = match rule {
            Rule::name if after_value => Some("a unit such as `epochs`".to_owned()),
            _ => phrase(rule),
        };
        phrases.extend(phrase.filter(|phrase| !phrases.contains(phrase)));
    }
    // The most general first, the end of all last.
    phrases.sort_by_key(|phrase| match phrase.as_str() {
        "a value" | "an operator" => 0,
        "the end of the statement" => 2,
        _ => 1,
    });
    if phrases.len() > 1 && rules.iter().all(|rule| is_operator(*rule)) {
        phrases.truncate(1);
    }
    phrases
}

fn shortened(word: &str) -> String {
    const LIMIT: usize = 40;
    match word.char_indices().nth(LIMIT) {
        Some((end, _)) => format!("{}…", &word[..end]),
        None => word.to_owned(),
    }
}
