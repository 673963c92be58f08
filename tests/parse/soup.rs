//! Random sequences of the words of the language, for the tests of what reads them.

use proptest::prelude::*;

/// Words that meet in programs, so that random sequences of them are sometimes right.
const WORDS: [&str; 58] = [
    "a", "b", "x", "param", "yield", "batch", "1", "2.5", "0x1F", "1e-3", "true", "\"s\\n\"", "(", ")", "[", "]", "{",
    "}", "(", ")", ",", ";", "\n", "\n", "=", "<-", "->", ":", "|", "|x|", "|>", "+", "-", "*", "//", "/", "%", "@",
    "^", "==", "<", "..", ".", "and", "not", "if", "else", "for", "in", "scan", "carry", "return", "state", "output",
    "fn f", "f(x)", "// c\n", "/// d\n",
];

/// Up to forty words, some with a blank between them.
pub fn soup() -> impl Strategy<Value = String> {
    proptest::collection::vec((0..WORDS.len(), any::<bool>()), 0..40).prop_map(|picks| {
        let word = |(word, blank): (usize, bool)| format!("{}{}", WORDS[word], if blank { " " } else { "" });
        picks.into_iter().map(word).collect()
    })
}
