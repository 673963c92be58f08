//! Suggestions for common mistakes: words nearly right, and the habits of other languages.

use nn_grammar::words::{ENTRIES, ITEMS, STATEMENTS};

use super::Rule;
use super::lexeme::Lexeme;
use super::report::{Found, after_value, wants_value};
use crate::diag::nearest;

/// What may help, where the mistake is a common one.
pub(super) fn advice(found: &Found<'_>, rules: &[Rule]) -> Option<String> {
    around(found, rules)
        .or_else(|| foreign(found).map(str::to_owned))
        .or_else(|| keyword(found, rules).map(str::to_owned))
        .or_else(|| near_word(found, rules))
}

/// A word of the language that was probably meant.
fn near_word(found: &Found<'_>, rules: &[Rule]) -> Option<String> {
    let has = |wanted: Rule| rules.contains(&wanted);
    let (word, candidates): (&str, &[&str]) = match (found.lexeme, found.first) {
        (Lexeme::Word(word), _) if has(Rule::train_entry) => (word, &ENTRIES),
        (Lexeme::Word(word), _) if has(Rule::item) || has(Rule::definition) => (word, &ITEMS),
        // `ouput probs = x`: the word that does not fit is the one before.
        (_, Lexeme::Word(first)) if found.before == found.first && after_value(rules) => (first, &STATEMENTS),
        _ => return None,
    };
    nearest(word, candidates.iter().copied()).filter(|near| *near != word).map(|near| format!("did you mean `{near}`?"))
}

/// Keywords where the language has another form.
fn keyword(found: &Found<'_>, rules: &[Rule]) -> Option<&'static str> {
    match (found.before, found.lexeme) {
        (_, Lexeme::Word("fn" | "layer")) if wants_value(rules) => {
            Some("a function without a name is written `|x| x + 1`")
        }
        (Lexeme::Word("loss"), Lexeme::Symbol("=")) => Some("a loss has a name: `loss error = ...`"),
        (Lexeme::Word("output"), Lexeme::Symbol("=")) => Some("an output has a name: `output y = ...`"),
        (Lexeme::Word("metric"), Lexeme::Symbol("=")) => Some("a metric has a name: `metric accuracy = ...`"),
        _ => None,
    }
}

/// Forms of this language that were written almost right.
fn around(found: &Found<'_>, rules: &[Rule]) -> Option<String> {
    let has = |wanted: Rule| rules.contains(&wanted);
    Some(match (found.first, found.before, found.lexeme) {
        (Lexeme::Word(entry), before, Lexeme::Symbol("=")) if before == found.first && ENTRIES.contains(&entry) => {
            format!("an entry of a recipe has no `=`: `{entry} ...`")
        }
        (Lexeme::Word(word @ ("output" | "loss" | "metric")), _, _) if has(Rule::assign) => {
            format!("write `{word} name = value`; `{word} name` alone stands for `{word} name = name`")
        }
        (_, Lexeme::Word(dtype), _) if has(Rule::open_bracket) && !after_value(rules) => {
            format!("a type says its dims: `{dtype}[]` is a scalar, `{dtype}[batch, 3]` has two")
        }
        (_, Lexeme::Word(name), Lexeme::Symbol("=")) if has(Rule::open_brace) && !after_value(rules) => {
            format!("a `data` block holds splits, and these the readers: `train {{ {name} = ... }}`")
        }
        (_, _, Lexeme::Word("lr")) if has(Rule::train_entry) => {
            "the learning rate is an argument of the optimizer: `minimize ce with adam(lr=1e-3)`".to_owned()
        }
        (Lexeme::Word("clip"), Lexeme::Word("clip"), _) => "write `clip norm 1.0` or `clip value 1.0`".to_owned(),
        (_, Lexeme::Word("yield"), _) if after_value(rules) => "`yield` stands in the body of a `scan`".to_owned(),
        (_, _, Lexeme::Word("if")) if after_value(rules) => "a choice is written `if c { a } else { b }`".to_owned(),
        (_, _, Lexeme::Symbol(sign)) if found.begins_line && found.lexeme.continues_before() => {
            format!("a line that begins with `{sign}` continues the one before; put brackets around a value that begins with it")
        }
        _ => return None,
    })
    .filter(|_| !wants_value(rules) || found.lexeme == Lexeme::Symbol("="))
}

/// Ways of writing that other languages have.
fn foreign(found: &Found<'_>) -> Option<&'static str> {
    match found.lexeme {
        Lexeme::Word(word) => foreign_word(word).or_else(|| match found.before {
            Lexeme::Word(before) => foreign_word(before),
            _ => None,
        }),
        Lexeme::Symbol(sign) => foreign_sign(sign, found),
        Lexeme::Other('#') => Some("a comment begins with `//`"),
        Lexeme::Other('\'') => Some("a string stands in double quotes: `\"text\"`"),
        Lexeme::Other('?') => Some("a choice is written `if c { a } else { b }`"),
        Lexeme::Other(character) if !character.is_ascii() => Some("outside strings and comments the text is ASCII"),
        _ => match found.before {
            Lexeme::Word(before) => foreign_word(before),
            _ => None,
        },
    }
}

fn foreign_word(word: &str) -> Option<&'static str> {
    Some(match word {
        "elif" | "elsif" | "elseif" => "write `else if`",
        "def" | "func" | "function" => "a function is written `fn name(x) { ... }`",
        "let" | "var" => "a binding is written `name = value`, without a keyword",
        "import" => "another file is read with `use \"path.nn\"`",
        "class" | "module" => "a model is written `model Name { ... }`",
        "lambda" => "a function without a name is written `|x| x + 1`",
        "while" => "there is no `while`: `for i in 0..4 { ... }` repeats, and `scan` goes along an axis",
        _ => return None,
    })
}

fn foreign_sign(sign: &str, found: &Found<'_>) -> Option<&'static str> {
    Some(match (sign, found.first, found.before) {
        ("**" | "**=", ..) => "a power is written `a ^ b`",
        ("&&" | "&", ..) => "`and` joins conditions",
        ("||", ..) => "`or` joins conditions",
        ("!", ..) => "`not` negates a condition",
        ("+=" | "-=" | "*=" | "/=" | "//=", ..) => "write the whole equation: `x = x + 1`; names are rebound freely",
        (":=", ..) => "a binding is written `name = value`",
        ("=>", ..) => "a function is written `|x| x + 1`",
        ("<-", ..) => "`<-` gives a new value to a state; a comparison with a negative number is written `a < -1`",
        ("=", Lexeme::Word("input" | "target"), _) => {
            "an input has no value of its own; a `data` block says where it comes from"
        }
        ("=", Lexeme::Open(_), Lexeme::Close(_)) => "names stand on the left of `=` without brackets: `a, b = f(x)`",
        ("=", Lexeme::Word("if"), _) => "equality is written `==`",
        (".", ..) => "a number begins with a digit: `0.5`",
        (":", _, Lexeme::Word("lambda")) => "a function without a name is written `|x| x + 1`",
        _ => return None,
    })
}
