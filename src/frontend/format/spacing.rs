//! Which tokens have a blank between them.
//!
//! By the words alone `-` may be a sign or a subtraction and `[` an index or a list. The grammar knows, so [`spacing`] asks it; what
//! it does not mark has the blanks of its kind of token.

use nn_grammar::{Grammar, Rule};
use pest::Parser;
use pest::iterators::Pair;
use rustc_hash::FxHashMap;

use super::tokens::Token;
use crate::frontend::parse::layout::Layout;
use crate::frontend::parse::lexeme::{Lexeme, Lexer};

/// On which sides a token has no blank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sides {
    /// `a + b`
    Loose,
    /// `f(a, b)`: the comma
    NotBefore,
    /// `-a`
    NotAfter,
    /// `a^b`
    Tight,
}

/// What the grammar says about tokens, by their place in the source.
pub(super) struct Spacing {
    marked: FxHashMap<usize, Sides>,
}

/// Reads every item of a text that is known to be right.
pub(super) fn spacing(layout: &Layout) -> Spacing {
    let mut spacing = Spacing { marked: FxHashMap::default() };
    for item in &layout.items {
        if let Ok(pairs) = Grammar::parse(Rule::item, &layout.text[item.clone()]) {
            spacing.mark_all(item.start, pairs.collect());
        }
    }
    spacing
}

impl Spacing {
    /// Whether a blank stands between two tokens of one line.
    pub fn between(&self, left: &Token<'_>, right: &Token<'_>) -> bool {
        let joined = matches!(self.sides(left), Sides::NotAfter | Sides::Tight)
            || matches!(self.sides(right), Sides::NotBefore | Sides::Tight)
            || (left.lexeme == Lexeme::Open(b'{') && right.lexeme == Lexeme::Close(b'}'));
        !joined || merge(left, right)
    }

    fn sides(&self, token: &Token<'_>) -> Sides {
        self.marked.get(&token.at).copied().unwrap_or(match token.lexeme {
            Lexeme::Open(b'(' | b'[') => Sides::NotAfter,
            Lexeme::Close(b')' | b']') | Lexeme::Symbol("," | ";" | ":") => Sides::NotBefore,
            _ => Sides::Loose,
        })
    }

    /// Marks the tokens of some pairs and all within them.
    fn mark_all(&mut self, base: usize, pairs: Vec<Pair<'_, Rule>>) {
        // Each with whether arithmetic in it is written without blanks: `f32[n, 4*units]`, `x[:n-1]`.
        let mut waiting: Vec<(Pair<'_, Rule>, bool)> = pairs.into_iter().map(|pair| (pair, false)).collect();
        while let Some((pair, dense)) = waiting.pop() {
            let (rule, start) = (pair.as_rule(), base + pair.as_span().start());
            if let Some(sides) = of_operator(rule, dense) {
                self.marked.insert(start, sides);
            }
            if rule == Rule::index_dtype {
                // Its `(` is no rule of its own.
                self.marked.extend(pair.as_str().find('(').map(|offset| (start + offset, Sides::Tight)));
            }
            let inner: Vec<Pair<'_, Rule>> = pair.into_inner().collect();
            self.mark_signs(rule, base, start, &inner);
            let is_slice = |pair: &Pair<'_, Rule>| pair.as_rule() == Rule::slice;
            let dense = match rule {
                Rule::type_expression | Rule::slice => true,
                Rule::subscript => inner.iter().any(is_slice),
                Rule::call | Rule::list | Rule::lambda | Rule::choice => false,
                _ => dense,
            };
            waiting.extend(inner.into_iter().map(|pair| (pair, dense)));
        }
    }

    /// Marks the brackets and signs that a rule itself holds.
    fn mark_signs(&mut self, rule: Rule, base: usize, start: usize, inner: &[Pair<'_, Rule>]) {
        let place = |pair: &Pair<'_, Rule>| base + pair.as_span().start();
        let of = |rule: Rule| inner.iter().filter(move |pair| pair.as_rule() == rule).map(place);
        match rule {
            Rule::call | Rule::index | Rule::parameters | Rule::field => drop(self.marked.insert(start, Sides::Tight)),
            Rule::type_expression => self.marked.extend(of(Rule::open_bracket).map(|at| (at, Sides::Tight))),
            Rule::argument => self.marked.extend(of(Rule::assign).map(|at| (at, Sides::Tight))),
            // `x[:, 2:5]`: the comma before a slice that begins its subscript has its blank.
            Rule::subscript => {
                let first = inner.first().filter(|pair| pair.as_rule() == Rule::slice).map(place);
                self.marked.extend(first.map(|at| (at, Sides::NotAfter)));
            }
            Rule::slice => of(Rule::colon).for_each(|at| {
                self.marked.entry(at).or_insert(Sides::Tight);
            }),
            Rule::lambda => {
                let bars: Vec<usize> = of(Rule::bar).collect();
                if let [open, close] = bars[..] {
                    self.marked.insert(close, Sides::NotBefore);
                    // `||` is one token.
                    self.marked.insert(open, if close == open + 1 { Sides::Loose } else { Sides::NotAfter });
                }
            }
            _ => {}
        }
    }
}

fn of_operator(rule: Rule, dense: bool) -> Option<Sides> {
    match rule {
        Rule::op_negate | Rule::op_rest => Some(Sides::NotAfter),
        Rule::op_power | Rule::op_floor_divide | Rule::op_range => Some(Sides::Tight),
        Rule::op_add | Rule::op_subtract | Rule::op_multiply | Rule::op_divide | Rule::op_remainder if dense => {
            Some(Sides::Tight)
        }
        _ => None,
    }
}

/// Whether two tokens side by side would be read as others.
fn merge(left: &Token<'_>, right: &Token<'_>) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    match (left.lexeme, right.lexeme) {
        (Lexeme::Number(_), Lexeme::Symbol(".")) => true,
        (Lexeme::Number(number), Lexeme::Symbol("..")) => number.ends_with('.'),
        (Lexeme::Symbol(a), Lexeme::Symbol(b)) => {
            let (_, first) = Lexer::new(&format!("{a}{b}")).next(Lexeme::Close(b')'), true);
            first.end != a.len()
        }
        _ => left.text.ends_with(is_word) && right.text.starts_with(is_word),
    }
}
