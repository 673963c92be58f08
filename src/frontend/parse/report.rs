//! What the grammar could not read, in the user's words.
//!
//! pest says how far it came and which rules it tried there. [`explain`] turns that, the word that stands there and the one
//! before it into one sentence, and recognises the habits of other languages.

use std::ops::Range;

use pest::error::{Error, ErrorVariant, InputLocation};

use super::layout::Layout;
use super::lexeme::{Lexeme, Lexer};
use super::{Rule, span};
use crate::diag::{Diagnostic, FileId, nearest};

/// Keywords, which cannot be names.
const KEYWORDS: [&str; 28] = [
    "use",
    "const",
    "fn",
    "layer",
    "model",
    "optimizer",
    "data",
    "train",
    "input",
    "target",
    "param",
    "state",
    "output",
    "loss",
    "metric",
    "if",
    "else",
    "for",
    "in",
    "scan",
    "return",
    "and",
    "or",
    "not",
    "over",
    "with",
    "true",
    "false",
];

/// The words that entries of a recipe begin with.
const ENTRIES: [&str; 16] = [
    "epochs",
    "steps",
    "batch",
    "seed",
    "shuffle",
    "validate",
    "minimize",
    "clip",
    "accumulate",
    "freeze",
    "load",
    "stop",
    "keep",
    "checkpoint",
    "average",
    "phase",
];

/// The words that items begin with.
const ITEMS: [&str; 8] = ["use", "const", "fn", "layer", "model", "optimizer", "data", "train"];

/// The words that statements begin with.
const STATEMENTS: [&str; 12] =
    ["input", "target", "param", "state", "output", "loss", "metric", "return", "for", "scan", "fn", "layer"];

/// Whether a rule is a keyword or a sign that holds nothing.
pub(super) fn is_mark(rule: Rule) -> bool {
    word(rule).is_some()
        || matches!(rule, Rule::colon | Rule::assign | Rule::bar | Rule::op_pipe | Rule::op_arrow | Rule::EOI)
}

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
    let text = &layout.text[..item.end];
    // pest stops before the blanks in front of what it cannot read.
    let blanks = text[item.start + offset..].len() - text[item.start + offset..].trim_start_matches([' ', '\t']).len();
    let place = item.start + offset + blanks;
    let rules: &[Rule] = match &error.variant {
        ErrorVariant::ParsingError { positives, .. } => positives,
        ErrorVariant::CustomError { .. } => &[],
    };
    let statement = layout.statements.iter().find(|s| s.start <= place && place <= s.end).unwrap_or(item);
    let found = Found::read(source, layout, statement.start, place);
    let expected = expected(rules, &found);
    let mut diagnostic = Diagnostic::error(span(file, found.range.clone()), message(&found, &expected, rules));
    if let Some(help) = advice(&found, rules) {
        diagnostic = diagnostic.help(help);
    }
    (place, diagnostic)
}

/// What stands where the grammar stopped.
struct Found<'a> {
    lexeme: Lexeme<'a>,
    range: Range<usize>,
    /// The lexeme before, in the same statement.
    before: Lexeme<'a>,
    /// The first lexeme of the statement.
    first: Lexeme<'a>,
    /// The innermost bracket that the statement has open here.
    bracket: Option<u8>,
}

impl<'a> Found<'a> {
    fn read(source: &'a str, layout: &'a Layout, statement: usize, place: usize) -> Self {
        let mut lexer = Lexer::starting_at(&layout.text, statement);
        let (mut before, mut first) = (Lexeme::End, None);
        let mut brackets = Vec::new();
        loop {
            // Comments are blanks by now, so every `//` divides.
            let (lexeme, range) = lexer.next(Lexeme::Close(b')'), true);
            if range.end > place || lexeme == Lexeme::End {
                let range = visible(source, range);
                return Found { lexeme, range, before, first: first.unwrap_or(lexeme), bracket: brackets.pop() };
            }
            match lexeme {
                Lexeme::Blank | Lexeme::Newline => continue,
                Lexeme::Open(bracket) => brackets.push(bracket),
                Lexeme::Close(_) => drop(brackets.pop()),
                _ => {}
            }
            first.get_or_insert(lexeme);
            before = lexeme;
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

/// The place to underline: for a newline or the end of the text, which have no width, the character before.
fn visible(source: &str, range: Range<usize>) -> Range<usize> {
    let shown = source.get(range.clone()).unwrap_or("");
    if shown.trim().is_empty() {
        return range.start..range.start;
    }
    range
}

fn shortened(word: &str) -> String {
    const LIMIT: usize = 40;
    match word.char_indices().nth(LIMIT) {
        Some((end, _)) => format!("{}…", &word[..end]),
        None => word.to_owned(),
    }
}

/// What could have stood here, as a list of words for people, without repetition.
fn expected(rules: &[Rule], found: &Found<'_>) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let has = |wanted: &[Rule]| rules.iter().any(|rule| wanted.contains(rule));
    let after_operand = has(&[Rule::op_add, Rule::op_pipe, Rule::call]);
    for rule in rules {
        let phrase = match rule {
            _ if after_operand && is_operator(*rule) => continue,
            Rule::expression | Rule::expressions | Rule::operation | Rule::operand => "a value".to_owned(),
            Rule::name | Rule::names | Rule::parameter | Rule::carry | Rule::scan_source => "a name".to_owned(),
            Rule::field_name => "the name of a field".to_owned(),
            Rule::type_expression => "a type such as `f32[n]`".to_owned(),
            Rule::block | Rule::scan_body => "`{`".to_owned(),
            Rule::parameters => "`(`".to_owned(),
            Rule::statement => "a statement".to_owned(),
            Rule::item | Rule::definition => {
                "`model`, `layer`, `fn`, `optimizer`, `data`, `train`, `const` or `use`".to_owned()
            }
            Rule::split_name | Rule::split => "the name of a split, such as `train`".to_owned(),
            Rule::train_entry => "an entry of a recipe, such as `epochs 12`".to_owned(),
            Rule::subscript => "an index".to_owned(),
            Rule::text => "a string in double quotes".to_owned(),
            Rule::colon => "`:`".to_owned(),
            Rule::assign => "`=`".to_owned(),
            Rule::bar => "`|`".to_owned(),
            Rule::comma => "`,`".to_owned(),
            Rule::op_arrow => "`->`".to_owned(),
            Rule::op_update => "`<-`".to_owned(),
            other => match word(*other) {
                Some(word) => format!("`{word}`"),
                None => continue,
            },
        };
        if !words.contains(&phrase) {
            words.push(phrase);
        }
    }
    if after_operand {
        words.retain(|word| word != "`,`");
        match found.bracket {
            Some(b'(') => words.push("`,` or `)`".into()),
            Some(b'[') => words.push("`,` or `]`".into()),
            _ => words.push("the end of the statement".into()),
        }
        words.insert(0, "an operator".into());
    }
    words
}

fn is_operator(rule: Rule) -> bool {
    matches!(
        rule,
        Rule::op_add
            | Rule::op_subtract
            | Rule::op_multiply
            | Rule::op_divide
            | Rule::op_floor_divide
            | Rule::op_remainder
            | Rule::op_matrix_product
            | Rule::op_power
            | Rule::op_equal
            | Rule::op_not_equal
            | Rule::op_less
            | Rule::op_less_equal
            | Rule::op_greater
            | Rule::op_greater_equal
            | Rule::op_range
            | Rule::op_pipe
            | Rule::word_or
            | Rule::word_and
            | Rule::call
            | Rule::index
            | Rule::field
    )
}

fn message(found: &Found<'_>, expected: &[String], rules: &[Rule]) -> String {
    if let Lexeme::Word(word) = found.lexeme
        && KEYWORDS.contains(&word)
        && rules.iter().any(|rule| matches!(rule, Rule::name | Rule::names | Rule::parameter | Rule::carry))
        && !rules.contains(&Rule::statement)
    {
        return format!("`{word}` is a keyword and cannot be a name");
    }
    if let Lexeme::Number(number) = found.lexeme
        && !after_value(rules)
        && rules.iter().any(|rule| matches!(rule, Rule::expression | Rule::operand | Rule::number | Rule::expressions))
    {
        return format!("`{}` is not a number", shortened(number));
    }
    match expected {
        [] => format!("{} does not belong here", found.words()),
        [one] => format!("expected {one}, found {}", found.words()),
        [rest @ .., last] => format!("expected {} or {last}, found {}", rest.join(", "), found.words()),
    }
}

fn after_value(rules: &[Rule]) -> bool {
    rules.iter().any(|rule| matches!(rule, Rule::op_add | Rule::call | Rule::op_pipe))
}

/// A suggestion, where the mistake is a common one.
fn advice(found: &Found<'_>, rules: &[Rule]) -> Option<String> {
    if let Some(habit) = habit(found) {
        return Some(habit);
    }
    let Lexeme::Word(word) = found.lexeme else { return None };
    let has = |wanted: Rule| rules.contains(&wanted);
    let candidates: &[&str] = if has(Rule::train_entry) {
        &ENTRIES
    } else if has(Rule::item) || has(Rule::definition) {
        &ITEMS
    } else {
        &[]
    };
    if let Some(near) = nearest(word, candidates.iter().copied()) {
        return Some(format!("did you mean `{near}`?"));
    }
    // `ouput probs = x`: the mistake is the word before the one that does not fit.
    match found.before {
        Lexeme::Word(first) if Lexeme::Word(first) == found.first && after_value(rules) => nearest(first, STATEMENTS)
            .filter(|near| *near != first)
            .map(|near| format!("did you mean `{near}` for `{first}`?")),
        _ => None,
    }
}

/// Ways of writing that other languages have.
fn habit(found: &Found<'_>) -> Option<String> {
    let advice = match (found.lexeme, found.before) {
        (Lexeme::Symbol("**" | "**="), _) => "a power is written `a ^ b`",
        (Lexeme::Symbol("&&"), _) => "`and` joins conditions",
        (Lexeme::Symbol("||"), _) => "`or` joins conditions",
        (Lexeme::Symbol("!"), _) => "`not` negates a condition",
        (Lexeme::Symbol("+=" | "-=" | "*=" | "/=" | "//="), _) => {
            "write the whole equation: `x = x + 1`; names are rebound freely"
        }
        (Lexeme::Symbol(":="), _) => "a binding is written `name = value`",
        (Lexeme::Symbol("=>"), _) => "a function is written `|x| x + 1`",
        (Lexeme::Symbol("<-"), _) => {
            "`<-` gives a new value to a state; a comparison with a negative number is written `a < -1`"
        }
        (Lexeme::Symbol("="), Lexeme::Close(_)) => "names stand on the left of `=` without brackets: `a, b = f(x)`",
        (Lexeme::Symbol("="), _) => "equality is written `==`",
        (Lexeme::Symbol("."), _) => "a number begins with a digit: `0.5`",
        (Lexeme::Other('#'), _) => "a comment begins with `//`",
        (Lexeme::Other('\''), _) => "a string stands in double quotes: `\"text\"`",
        (Lexeme::Word("elif" | "elsif" | "elseif"), _) => "write `else if`",
        (Lexeme::Word(_), Lexeme::Word("def" | "func" | "function")) => "a function is written `fn name(x) { ... }`",
        (Lexeme::Word(_), Lexeme::Word("let" | "var" | "val")) => {
            "a binding is written `name = value`, without a keyword"
        }
        (Lexeme::Word(_), Lexeme::Word("import")) => "another file is read with `use \"path.nn\"`",
        (Lexeme::Word(_), Lexeme::Word("class")) => "a model is written `model Name { ... }`",
        (Lexeme::Word(_) | Lexeme::Symbol(":"), Lexeme::Word("lambda")) => {
            "a function without a name is written `|x| x + 1`"
        }
        (_, Lexeme::Word("while")) => {
            "there is no `while`: `for i in 0..4 { ... }` repeats, and `scan` goes along an axis"
        }
        (Lexeme::Other(character), _) if !character.is_ascii() => "outside strings and comments the text is ASCII",
        _ => return None,
    };
    Some(advice.to_owned())
}

/// The word of a keyword rule.
fn word(rule: Rule) -> Option<&'static str> {
    Some(match rule {
        Rule::word_use => "use",
        Rule::word_const => "const",
        Rule::word_fn => "fn",
        Rule::word_layer => "layer",
        Rule::word_model => "model",
        Rule::word_optimizer => "optimizer",
        Rule::word_data => "data",
        Rule::word_train => "train",
        Rule::word_input => "input",
        Rule::word_target => "target",
        Rule::word_param => "param",
        Rule::word_state => "state",
        Rule::word_output => "output",
        Rule::word_loss => "loss",
        Rule::word_metric => "metric",
        Rule::word_if => "if",
        Rule::word_else => "else",
        Rule::word_for => "for",
        Rule::word_in => "in",
        Rule::word_scan => "scan",
        Rule::word_return => "return",
        Rule::word_and => "and",
        Rule::word_or => "or",
        Rule::word_not => "not",
        Rule::word_over => "over",
        Rule::word_with => "with",
        Rule::word_index => "index",
        Rule::word_axis => "axis",
        Rule::word_reverse => "reverse",
        Rule::word_carry => "carry",
        Rule::word_yield => "yield",
        Rule::word_from => "from",
        Rule::word_take => "take",
        Rule::word_epochs => "epochs",
        Rule::word_steps => "steps",
        Rule::word_batch => "batch",
        Rule::word_seed => "seed",
        Rule::word_shuffle => "shuffle",
        Rule::word_validate => "validate",
        Rule::word_minimize => "minimize",
        Rule::word_times => "times",
        Rule::word_clip => "clip",
        Rule::word_accumulate => "accumulate",
        Rule::word_freeze => "freeze",
        Rule::word_load => "load",
        Rule::word_into => "into",
        Rule::word_stop => "stop",
        Rule::word_when => "when",
        Rule::word_has => "has",
        Rule::word_improved => "improved",
        Rule::word_keep => "keep",
        Rule::word_best => "best",
        Rule::word_checkpoint => "checkpoint",
        Rule::word_every => "every",
        Rule::word_average => "average",
        Rule::word_phase => "phase",
        _ => return None,
    })
}
