//! The words of the language, for messages and editors.

/// Keywords, which cannot be names.
pub const KEYWORDS: [&str; 28] = [
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
pub const ENTRIES: [&str; 16] = [
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
pub const ITEMS: [&str; 8] = ["use", "const", "fn", "layer", "model", "optimizer", "data", "train"];

/// The words that statements begin with.
pub const STATEMENTS: [&str; 12] =
    ["input", "target", "param", "state", "output", "loss", "metric", "return", "for", "scan", "fn", "layer"];

#[cfg(test)]
mod tests {
    use super::{ENTRIES, ITEMS, KEYWORDS, STATEMENTS};

    const GRAMMAR: &str = include_str!("../nn.pest");

    /// The words in quotes of the rule that begins with `head`, up to the first line with `end`.
    fn quoted(head: &str, end: &str) -> Vec<&'static str> {
        let start = GRAMMAR.find(head).expect("the grammar has the rule") + head.len();
        let rule = GRAMMAR[start..].split(end).next().expect("a split has a first part");
        rule.split('"').skip(1).step_by(2).collect()
    }

    #[test]
    fn keywords_are_those_of_the_grammar() {
        assert_eq!(quoted("\nreserved = _{", "}"), KEYWORDS);
    }

    #[test]
    fn words_that_begin_something_have_a_rule() {
        for word in ITEMS.iter().chain(&STATEMENTS).chain(&ENTRIES) {
            assert!(GRAMMAR.contains(&format!("\nword_{word} = @{{ \"{word}\" ~ !word_character }}")), "{word}");
        }
        for entry in ENTRIES {
            assert!(GRAMMAR.contains(&format!("\n{entry}_entry = {{ word_{entry} ~ ")), "{entry}");
        }
    }
}
