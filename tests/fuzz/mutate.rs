//! Changes to an input: on characters, on words, on lines, and by expressions made from the words of the language.

use std::sync::LazyLock;

use nnc::frontend::parse::KEYWORDS;

use super::corpus::LONGEST;

/// SplitMix64.
pub struct Random(u64);

impl Random {
    /// A generator of its own for each seed.
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is at least 1.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn pick<'a, T: AsRef<str>>(&mut self, from: &'a [T]) -> &'a str {
        from[self.below(from.len())].as_ref()
    }

    /// True once in `n`.
    fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

const OPERATORS: &[&str] = &["+", "-", "*", "/", "//", "%", "@", "^", "==", "<", ">=", "and", "or", "|>", ".."];

/// The words of the dictionary, and its numbers.
static WORDS: LazyLock<(Vec<String>, Vec<String>)> = LazyLock::new(|| {
    let entries = include_str!("../../fuzz/nn.dict").lines().filter(|line| line.starts_with('"')).map(entry);
    entries.partition(|word| !word.trim_start_matches('-').starts_with(|first: char| first.is_ascii_digit()))
});

/// What a line of a dictionary of libFuzzer stands for: text in quotes with `\\`, `\"` and `\xNN`.
fn entry(line: &str) -> String {
    let inner = line.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).expect("an entry is in quotes");
    let (mut bytes, mut rest) = (Vec::new(), inner.bytes());
    while let Some(byte) = rest.next() {
        match (byte, if byte == b'\\' { rest.next() } else { None }) {
            (_, Some(b'x')) => {
                let digits: String = rest.by_ref().take(2).map(char::from).collect();
                bytes.push(u8::from_str_radix(&digits, 16).expect("two digits follow"));
            }
            (_, Some(escaped)) => bytes.push(escaped),
            (byte, None) => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).expect("an entry is UTF-8")
}

#[test]
fn the_dictionary_has_the_words_of_the_language() {
    let missing: Vec<&&str> = KEYWORDS.iter().filter(|word| !WORDS.0.iter().any(|known| known == *word)).collect();
    assert!(missing.is_empty(), "fuzz/nn.dict lacks {missing:?}");
    assert_eq!(entry(r#""\\\"\x41""#), "\\\"A");
}

/// A changed copy of `first`; lines may come from `second`.
pub fn mutate(first: &str, second: &str, random: &mut Random) -> String {
    let mut text = first.to_owned();
    for _ in 0..1 + random.below(4) {
        text = match random.below(10) {
            0 => characters(&text, random),
            1 => lines(&text, second, random),
            2 => nested(&text, random),
            3 => expression_for_word(&text, random),
            _ => words(&text, random),
        };
    }
    let end = text.floor_char_boundary(LONGEST);
    text.truncate(end);
    text
}

/// Ranges of words, numbers, blanks and single signs.
fn tokens(text: &str) -> Vec<std::ops::Range<usize>> {
    let kind = |c: char| match c {
        c if c.is_ascii_alphanumeric() || c == '_' => 0,
        ' ' => 1,
        _ => 2,
    };
    let mut out: Vec<std::ops::Range<usize>> = Vec::new();
    let mut last = 2;
    for (at, character) in text.char_indices() {
        let end = at + character.len_utf8();
        match out.last_mut() {
            Some(range) if kind(character) == last && last != 2 => range.end = end,
            _ => out.push(at..end),
        }
        last = kind(character);
    }
    out
}

fn replaced(text: &str, range: std::ops::Range<usize>, by: &str) -> String {
    format!("{}{by}{}", &text[..range.start], &text[range.end..])
}

fn words(text: &str, random: &mut Random) -> String {
    let tokens = tokens(text);
    if tokens.is_empty() {
        return random.pick(&WORDS.0).to_owned();
    }
    let at = random.below(tokens.len());
    let token = tokens[at].clone();
    let end = tokens[(at + random.below(6)).min(tokens.len() - 1)].end;
    let other = tokens[random.below(tokens.len())].clone();
    match random.below(8) {
        0 => replaced(text, token.start..end, ""),
        1 => replaced(text, token.end..token.end, &format!(" {} ", random.pick(&WORDS.0))),
        2 => replaced(text, token, random.pick(&WORDS.0)),
        3 => replaced(text, token, random.pick(&WORDS.1)),
        4 => replaced(text, other.end..other.end, &text[token.start..end]),
        5 => number(text, &tokens, random),
        // Another name of the same text: types and shapes become wrong while the text stays right.
        _ => name(text, &tokens, random),
    }
}

fn words_where(
    text: &str,
    tokens: &[std::ops::Range<usize>],
    belongs: impl Fn(u8) -> bool,
) -> Vec<std::ops::Range<usize>> {
    tokens.iter().filter(|range| belongs(text.as_bytes()[range.start])).cloned().collect()
}

fn number(text: &str, tokens: &[std::ops::Range<usize>], random: &mut Random) -> String {
    let numbers = words_where(text, tokens, |byte| byte.is_ascii_digit());
    match numbers.is_empty() {
        true => text.to_owned(),
        false => replaced(text, numbers[random.below(numbers.len())].clone(), random.pick(&WORDS.1)),
    }
}

fn name(text: &str, tokens: &[std::ops::Range<usize>], random: &mut Random) -> String {
    let names = words_where(text, tokens, |byte| byte.is_ascii_alphabetic());
    if names.is_empty() {
        return text.to_owned();
    }
    let (here, there) = (names[random.below(names.len())].clone(), names[random.below(names.len())].clone());
    let by = if random.once_in(3) { random.pick(&WORDS.0).to_owned() } else { text[there].to_owned() };
    replaced(text, here, &by)
}

fn characters(text: &str, random: &mut Random) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..1 + random.below(4) {
        let at = random.below(bytes.len() + 1);
        match random.below(3) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => drop(bytes.remove(at)),
            _ => bytes.insert(at, random.below(256) as u8),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn lines(text: &str, second: &str, random: &mut Random) -> String {
    let mut own: Vec<&str> = text.split('\n').collect();
    let others: Vec<&str> = second.split('\n').collect();
    let at = random.below(own.len());
    match random.below(4) {
        0 => drop(own.remove(at)),
        1 => {
            let to = random.below(own.len());
            own.swap(at, to);
        }
        2 => own.insert(at, own[random.below(own.len())]),
        _ => {
            let from = random.below(others.len());
            let count = 1 + random.below(4);
            for line in others[from..].iter().take(count).rev() {
                own.insert(at, line);
            }
        }
    }
    own.join("\n")
}

/// Something many times inside itself or many times in a row.
fn nested(text: &str, random: &mut Random) -> String {
    let tokens = tokens(text);
    let Some(range) = (!tokens.is_empty()).then(|| tokens[random.below(tokens.len())].clone()) else {
        return text.to_owned();
    };
    let count = 1 << random.below(8);
    let (open, close) = [
        ("(", ")"),
        ("[", "]"),
        ("-", ""),
        ("|x| ", ""),
        ("if true { ", " } else { 1 }"),
        ("relu(", ")"),
        ("", " + 1"),
    ][random.below(7)];
    replaced(text, range.clone(), &format!("{}{}{}", open.repeat(count), &text[range], close.repeat(count)))
}

fn expression_for_word(text: &str, random: &mut Random) -> String {
    let tokens = tokens(text);
    let names = words_where(text, &tokens, |byte| byte.is_ascii_alphanumeric());
    if names.is_empty() {
        return text.to_owned();
    }
    let here = names[random.below(names.len())].clone();
    let words: Vec<&str> = names.iter().map(|range| &text[range.clone()]).collect();
    let by = expression(&words, 3, random);
    replaced(text, here, &by)
}

/// An expression over `names` and the words of the language.
fn expression(names: &[&str], depth: usize, random: &mut Random) -> String {
    let shape = if depth == 0 { random.below(3) } else { random.below(12) };
    let inner = |random: &mut Random| expression(names, depth.saturating_sub(1), random);
    match shape {
        0 | 1 => random.pick(names).to_owned(),
        2 => random.pick(&WORDS.1).to_owned(),
        3 | 4 => format!("{} {} {}", inner(random), random.pick(OPERATORS), inner(random)),
        5 => format!("{}({}, {})", random.pick(&WORDS.0), inner(random), inner(random)),
        6 => format!("{}({}, {}={})", random.pick(&WORDS.0), inner(random), random.pick(names), inner(random)),
        7 => format!("[{}, {}]", inner(random), inner(random)),
        8 => format!("({})[{}, {}:{}]", inner(random), inner(random), inner(random), inner(random)),
        9 => format!("if {} {{ {} }} else {{ {} }}", inner(random), inner(random), inner(random)),
        10 => format!("|{}| {}", random.pick(names), inner(random)),
        _ => format!("[{} for {} in {}]", inner(random), random.pick(names), inner(random)),
    }
}
