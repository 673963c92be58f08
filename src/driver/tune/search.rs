//! The products of an entry one by one: each is cut in every way that it may be, and the ways are timed beside each other.

use std::time::Instant;

use nn_rt::Pool;

use super::race::{Rounds, race};
use crate::driver::error::Error;
use crate::driver::runner::Runner;
use crate::driver::stages::{self, Loops};
use crate::ir::graph::Function;
use crate::ir::loops::{Program, Step};
use crate::passes::Limits;
use crate::passes::tile::{self, Choice, Product, ProductKey};

/// A choice is taken if its share of the usual one's time is no more.
const ENOUGH: f64 = 0.97;

/// Rounds of a first look at all choices, and of a second one at the best and the usual.
const LOOK: Rounds = Rounds { least: 3, most: 9 };
const SECOND_LOOK: Rounds = Rounds { least: 5, most: 15 };

/// An entry point whose products are not cut yet.
pub(super) struct Subject<'a> {
    pub function: &'a Function,
    pub program: &'a Program,
    pub limits: &'a Limits,
    pub pool: Option<&'a Pool>,
}

/// Products with the same key, of which one stands for all.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub product: Product,
    /// An estimate of the time that all of them take, in any unit.
    pub weight: f64,
}

/// A choice that was faster than the usual one.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub key: ProductKey,
    pub usual: Choice,
    pub choice: Choice,
    /// Its share of the usual one's time.
    pub share: f64,
    pub weight: f64,
}

impl Found {
    /// What the whole gains by it, in the unit of weights.
    pub(super) fn gain(&self) -> f64 {
        self.weight * (1.0 - self.share)
    }
}

/// A core reads a byte from memory in the time of so many operations.
const OPERATIONS_A_BYTE: f64 = 5.0;

/// Rounds of a repeat that are measured of longer ones: by then what is packed before it is little of the time.
const MOST_ROUNDS: u64 = 16;

/// The different products of a program, those that take longest first.
pub(super) fn groups(products: Vec<Product>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for product in products {
        let cost = product.cost;
        let weight = product.rounds as f64 * (cost.flops as f64 + OPERATIONS_A_BYTE * cost.bytes as f64);
        match groups.iter_mut().find(|group| group.product.key == product.key) {
            Some(group) => group.weight += weight,
            None => groups.push(Group { product, weight }),
        }
    }
    groups.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    groups
}

/// What a search of one product came to.
pub(super) enum Outcome {
    /// Nothing is so much faster than the usual choice.
    Usual,
    Faster(Found),
    /// There was no time.
    Late,
}

/// Looks for a faster choice.
///
/// # Errors
/// If a program cannot be compiled, which is a bug: each alternative is legal.
pub(super) fn search(subject: &Subject<'_>, group: &Group, until: Instant) -> Result<Outcome, Error> {
    let Group { product, weight } = group;
    let [usual, others @ ..] = product.choices.as_slice() else { return Ok(Outcome::Usual) };
    if others.is_empty() {
        return Ok(Outcome::Usual);
    }
    let programs: Vec<Loops> =
        product.choices.iter().map(|choice| subject.alone(product.number, *choice)).collect::<Result<_, _>>()?;
    let mut runner = Runner::new(&programs, subject.pool)?;
    let all: Vec<usize> = (0..programs.len()).collect();
    let Some(shares) = race(&mut runner, &all, LOOK, until) else { return Ok(Outcome::Late) };
    let best = all.into_iter().min_by(|a, b| shares[*a].total_cmp(&shares[*b])).unwrap_or(0);
    if shares[best] > ENOUGH {
        return Ok(Outcome::Usual);
    }
    // The best of many is partly luck.
    let Some(shares) = race(&mut runner, &[0, best], SECOND_LOOK, until) else { return Ok(Outcome::Late) };
    if shares[1] > ENOUGH {
        return Ok(Outcome::Usual);
    }
    let (key, choice) = (product.key.clone(), product.choices[best]);
    Ok(Outcome::Faster(Found { key, usual: *usual, choice, share: shares[1], weight: *weight }))
}

impl Subject<'_> {
    /// A program of nothing but one product, cut by a choice.
    fn alone(&self, number: usize, choice: Choice) -> Result<Loops, Error> {
        let mut alone = tile::alone(self.program, number, choice, self.limits);
        shorten(&mut alone.program.steps);
        let origins = &alone.origins;
        let argument = |index: u32| self.program.buffers[origins[index as usize] as usize].argument();
        let stays = |index: u32| argument(index).is_some_and(|index| stages::stays(self.function, index));
        stages::finish_tiled(alone.program, self.limits, &stays)
    }
}

/// Ends long repeats early.
fn shorten(steps: &mut [Step]) {
    for step in steps {
        if let Step::Repeat(repeat) = step {
            repeat.count = repeat.count.min(MOST_ROUNDS);
            shorten(&mut repeat.steps);
        }
    }
}
