//! What has been measured: choices for products that are known by what decides their speed.

use std::collections::BTreeMap;
use std::fmt;

use super::choice::{Choice, Question};
use crate::ir::loops::{Affine, LoopVar};

/// What decides the speed of a product on one machine, in words: two products with the same key are cut in the same way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProductKey(String);

impl ProductKey {
    /// The key that has been written like this.
    pub fn from_text(text: String) -> ProductKey {
        ProductKey(text)
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ProductKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Choices that take the place of the usual ones, and the number of threads for which they were found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tuning {
    pub threads: usize,
    pub choices: BTreeMap<ProductKey, Choice>,
}

impl Tuning {
    /// For so many threads, with nothing measured.
    pub fn for_threads(threads: usize) -> Tuning {
        Tuning { threads, choices: BTreeMap::new() }
    }
}

/// An operand in the program around a product.
pub(super) struct Source {
    /// In how many rounds of repeats one packed copy of it is read.
    pub rounds: u64,
    /// Whether a copy would be made ahead of the calls.
    pub ahead: bool,
}

/// What the program around a product says of it.
pub(super) struct Surroundings {
    pub left: Source,
    pub right: Source,
    /// How often repeats run it.
    pub rounds: u64,
    pub threads: usize,
}

impl Surroundings {
    /// The key of a product in these surroundings.
    pub(super) fn key(&self, question: &Question<'_>) -> ProductKey {
        let contract = &question.site.contract;
        let (left, right) = (&contract.left, &contract.right);
        let around: Vec<String> = question
            .site
            .around
            .iter()
            .map(|(var, extent, _)| format!("{extent}{}", steps(&left.address, &right.address, *var)))
            .collect();
        let rounds: Vec<String> =
            contract.rounds.iter().map(|r| format!("{}({},{})", r.count, r.left_stride, r.right_stride)).collect();
        let cut = contract.cut.map_or(String::new(), |cut| format!(" cut {}/{}", cut.level, cut.size));
        let text = format!(
            "{} {}x{} depth {}{cut} rounds [{}] around [{}] left {},{} {} right {},{} {} epilogue {} runs {} threads {} registers {}x{}",
            question.dtype(),
            contract.rows,
            contract.columns,
            contract.depth,
            rounds.join(" "),
            around.join(" "),
            left.row_stride,
            left.column_stride,
            self.left,
            right.row_stride,
            right.column_stride,
            self.right,
            contract.epilogue.instructions.len(),
            self.rounds,
            self.threads,
            question.registers.bytes,
            question.registers.sums,
        );
        ProductKey(text)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let when = if self.ahead { " ahead" } else { "" };
        write!(f, "read {}{when}", self.rounds)
    }
}

/// How far both operands move in a round of a loop around.
fn steps(left: &Affine, right: &Affine, var: LoopVar) -> String {
    format!("({},{})", left.coefficient(var), right.coefficient(var))
}
