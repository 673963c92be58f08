//! Random graphs: compiled code against the interpreter, with and without tiles and threads.

mod programs;

use nnc::ir::dim::Dim;
use nnc::ir::graph::{Function, ResultRole, Role, ValueId};
use nnc::ir::ops::slice::Slice;
use nnc::ir::scalar::{Monoid, ScalarFunction as F};
use nnc::ir::types::DType;
use programs::{Writer, arguments_for, check};
use proptest::prelude::*;

/// No tensor of a random graph is larger, in elements.
const LARGEST: usize = 4096;

/// Reads choices from bytes; after the last byte every choice is 0.
struct Choices<'b>(&'b [u8]);

impl Choices<'_> {
    /// A number below `count`.
    fn below(&mut self, count: usize) -> usize {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first as usize % count.max(1)
    }

    fn size(&mut self) -> usize {
        [1, 2, 3, 4, 5, 8, 16, 33, 7, 0][self.below(10)]
    }
}

/// The graph that some bytes stand for: each step adds a node to those that may be operands.
fn graph(bytes: &[u8]) -> Function {
    let mut choices = Choices(bytes);
    let mut w = Writer::default();
    let mut values = Vec::new();
    for number in 0..2 + choices.below(3) {
        let shape: Vec<usize> = (0..choices.below(4)).map(|_| choices.size()).collect();
        values.push(w.argument(&format!("x{number}"), Role::State, DType::F32, &shape));
    }
    let arguments = values.clone();
    while !choices.0.is_empty() {
        if let Some(value) = step(&mut w, &values, &mut choices) {
            values.push(value);
        }
    }
    for (number, value) in values.iter().rev().take(1 + choices.below(3)).enumerate() {
        w.result(&format!("y{number}"), ResultRole::Output, *value);
    }
    for (index, argument) in arguments.iter().enumerate() {
        let same = |v: &&ValueId| w.b.type_of(**v) == w.b.type_of(*argument);
        if let Some(value) = values.iter().rev().find(same).copied() {
            w.result(&format!("x{index}"), ResultRole::Update(index as u32), value);
        }
    }
    w.finish_raw()
}

fn sizes(w: &Writer, value: ValueId) -> Vec<usize> {
    w.b.type_of(value).sizes().expect("all sizes are numbers")
}

fn dims(sizes: &[usize]) -> Vec<Dim> {
    sizes.iter().map(|s| Dim::from(*s)).collect()
}

fn step(w: &mut Writer, values: &[ValueId], choices: &mut Choices<'_>) -> Option<ValueId> {
    let kind = choices.below(9);
    // Late values are more likely, so that chains grow.
    let reach = values.len().min(1 + choices.below(6));
    let a = values[values.len() - 1 - choices.below(reach)];
    let shape = sizes(w, a);
    match kind {
        0 => Some(w.map([F::Neg, F::Abs, F::Tanh, F::Sigmoid][choices.below(4)], &[a])),
        1 | 2 => {
            let b = values[choices.below(values.len())];
            w.b.map([F::Add, F::Mul, F::Max, F::Sub][choices.below(4)], &[a, b]).ok().filter(|v| fits(w, *v))
        }
        3 if !shape.is_empty() => {
            let axes: Vec<usize> = (0..shape.len()).filter(|_| choices.below(2) == 0).collect();
            let monoid = [Monoid::Sum, Monoid::Max, Monoid::Min][choices.below(3)];
            let empty = monoid != Monoid::Sum && shape.contains(&0);
            let sum = (!axes.is_empty() && !empty).then(|| w.b.reduce(monoid, a, &axes, choices.below(2) == 0).ok());
            sum.flatten()
        }
        4 if shape.len() > 1 => {
            let mut permutation: Vec<usize> = (0..shape.len()).collect();
            permutation.rotate_left(1 + choices.below(shape.len() - 1));
            w.b.transpose(a, &permutation).ok()
        }
        5 => reshaped(w, a, &shape, choices),
        6 if !shape.contains(&0) && !shape.is_empty() => sliced(w, a, &shape, choices),
        7 => {
            let mut wide = shape.clone();
            wide.insert(0, choices.size().max(1));
            let axes = (1..wide.len()).collect();
            (wide.iter().product::<usize>() <= LARGEST)
                .then(|| w.b.broadcast_axes(a, &dims(&wide), axes).ok())
                .flatten()
        }
        _ => product(w, a, values, choices),
    }
}

fn fits(w: &Writer, value: ValueId) -> bool {
    sizes(w, value).iter().product::<usize>() <= LARGEST
}

/// Two neighbouring axes as one, one cut in two, or a new one of size 1.
fn reshaped(w: &mut Writer, a: ValueId, shape: &[usize], choices: &mut Choices<'_>) -> Option<ValueId> {
    let mut to = shape.to_vec();
    let at = choices.below(shape.len().max(1));
    match choices.below(3) {
        0 if shape.len() > 1 => {
            let at = at.min(shape.len() - 2);
            let second = to.remove(at + 1);
            to[at] *= second;
        }
        1 if !shape.is_empty() && shape[at] > 2 && shape[at].is_multiple_of(2) => {
            to[at] /= 2;
            to.insert(at, 2);
        }
        _ => to.insert(at, 1),
    }
    (to.len() < 6).then(|| w.b.reshape(a, &dims(&to)).ok()).flatten()
}

/// A part of one axis, perhaps backwards.
fn sliced(w: &mut Writer, a: ValueId, shape: &[usize], choices: &mut Choices<'_>) -> Option<ValueId> {
    let at = choices.below(shape.len());
    if choices.below(3) == 0 {
        let reversed = Slice::reversed(&dims(shape), &[at])?;
        return w.b.add_one(reversed, &[a]).ok();
    }
    let start = choices.below(shape[at]);
    let mut sizes = shape.to_vec();
    sizes[at] -= start;
    let mut starts = vec![0; shape.len()];
    starts[at] = start;
    let slice = Slice { starts: dims(&starts), sizes: dims(&sizes), steps: vec![1; shape.len()] };
    w.b.add_one(slice, &[a]).ok()
}

/// The product with some value that shares a size, kept small by tanh.
fn product(w: &mut Writer, a: ValueId, values: &[ValueId], choices: &mut Choices<'_>) -> Option<ValueId> {
    let b = values[choices.below(values.len())];
    let (left, right) = (sizes(w, a), sizes(w, b));
    let (i, j) = (choices.below(left.len()), choices.below(right.len()));
    if left.is_empty() || right.is_empty() || left[i] != right[j] || left.len() + right.len() > 6 {
        return None;
    }
    let labels_a: Vec<u32> = (0..left.len() as u32).collect();
    let labels_b: Vec<u32> = (0..right.len()).map(|l| if l == j { i as u32 } else { 10 + l as u32 }).collect();
    let summed = choices.below(4) > 0;
    let mut result: Vec<u32> = labels_a.iter().chain(&labels_b).copied().filter(|l| *l != i as u32).collect();
    if !summed {
        result.insert(0, i as u32);
    }
    let turn = choices.below(result.len());
    result.rotate_left(turn);
    let elements = left.iter().product::<usize>() * right.iter().product::<usize>() / left[i].max(1);
    if elements > LARGEST {
        return None;
    }
    let product = w.b.contract((a, &labels_a), (b, &labels_b), &result).ok()?;
    Some(w.map(F::Tanh, &[product]))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_graphs_compile_to_what_they_mean(bytes in proptest::collection::vec(any::<u8>(), 20..140)) {
        let function = graph(&bytes);
        let outcome = check(&function, &arguments_for(&function));
        prop_assert!(outcome.is_ok(), "{}\n{}", outcome.unwrap_err(), function);
    }
}
