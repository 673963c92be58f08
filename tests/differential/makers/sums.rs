//! Ops that fold, multiply and pick along axes.

use nnc::ir::graph::ValueId;
use nnc::ir::ops::{cumsum, gather, recurrence, scatter_add, sort};
use nnc::ir::scalar::{Monoid, ScalarFunction as F};
use nnc::ir::types::{DType, TensorType};

use crate::choices::Choices;
use crate::draft::Draft;

/// A fold over some axes.
pub fn reduce(draft: &mut Draft, choices: &mut Choices<'_>) -> Option<Vec<ValueId>> {
    let value = draft.pick(choices, |ty| ty.rank() > 0 && ty.dtype != DType::Bool)?;
    let shape = draft.sizes(value);
    let monoid =
        choices.of(&[Monoid::Sum, Monoid::Sum, Monoid::Max, Monoid::Min, Monoid::Prod, Monoid::ArgMax, Monoid::ArgMin]);
    let picks = matches!(monoid, Monoid::ArgMax | Monoid::ArgMin);
    let first = choices.below(shape.len());
    let axes: Vec<usize> = match picks {
        true => vec![first],
        false => (0..shape.len()).filter(|a| *a == first || choices.below(2) == 0).collect(),
    };
    if !matches!(monoid, Monoid::Sum | Monoid::Prod) && shape.contains(&0) {
        return None;
    }
    let result = draft.b.reduce(monoid, value, &axes, choices.rarely(3)).ok()?;
    Some(vec![draft.tame(result, choices)])
}

/// A product over one or two summed axes, with or without a batch axis, in any order of axes.
pub fn contract(draft: &mut Draft, choices: &mut Choices<'_>) -> Option<Vec<ValueId>> {
    let a = draft.pick(choices, |ty| ty.rank() > 0 && ty.rank() < 5 && ty.dtype != DType::Bool)?;
    let (dtype, left) = (draft.b.dtype_of(a), draft.sizes(a));
    let labels: Vec<u32> = (0..left.len() as u32).collect();
    let first = choices.below(left.len());
    // Of each axis: summed, batch, or a row of the result.
    let kinds: Vec<usize> = (0..left.len())
        .map(|axis| if axis == first { choices.of(&[0, 0, 0, 1]) } else { choices.of(&[2, 0, 1, 2]) })
        .collect();
    let mut right: Vec<u32> = labels.iter().copied().filter(|l| kinds[*l as usize] < 2).collect();
    let mut shape: Vec<usize> = right.iter().map(|l| left[*l as usize]).collect();
    for column in 0..choices.below(3) {
        let at = choices.below(right.len() + 1);
        right.insert(at, 50 + column as u32);
        shape.insert(at, choices.size());
    }
    let summed: usize = (0..left.len()).filter(|axis| kinds[*axis] == 0).map(|axis| left[axis]).product();
    let mut result: Vec<u32> = labels
        .iter()
        .copied()
        .filter(|l| kinds[*l as usize] > 0)
        .chain(right.iter().copied().filter(|l| *l >= 50))
        .collect();
    let turn = choices.below(result.len().max(1));
    result.rotate_left(turn);
    let sizes: Vec<usize> = result
        .iter()
        .map(|l| if *l >= 50 { shape[right.iter().position(|r| r == l).unwrap_or(0)] } else { left[*l as usize] })
        .collect();
    let products = sizes.iter().product::<usize>().saturating_mul(summed);
    if !draft.is_small(&shape) || !draft.is_small(&sizes) || products > 40_000 || result.len() > 5 {
        return None;
    }
    let other = draft.pick(choices, |ty| ty.dtype == dtype)?;
    let b = draft.fit(other, &TensorType::new(dtype, shape))?;
    let product = draft.b.contract((a, &labels), (b, &right), &result).ok()?;
    Some(vec![draft.tame(product, choices)])
}

/// An `i32` index: a value that is one, or a float made whole.
fn index(draft: &mut Draft, choices: &mut Choices<'_>) -> Option<ValueId> {
    let whole = draft.pick(choices, |ty| ty.dtype.storage() == DType::I32 && ty.rank() < 3);
    if let Some(index) = whole.filter(|_| !choices.rarely(3)) {
        return Some(index);
    }
    let value = draft.pick(choices, |ty| ty.dtype == DType::F32 && ty.rank() < 3)?;
    let three = draft.number(3.7, value);
    let scaled = draft.b.apply(F::Mul, &[value, three]);
    Some(draft.b.cast(scaled, DType::I32))
}

/// Slices picked along any axis.
pub fn gather(draft: &mut Draft, choices: &mut Choices<'_>) -> Option<Vec<ValueId>> {
    let value = draft.pick(choices, |ty| ty.rank() > 0 && ty.rank() < 4)?;
    let axis = choices.below(draft.sizes(value).len());
    let index = index(draft, choices)?;
    draft.add(gather::Gather { axis }, &[value, index])
}

/// Slices added along any axis.
pub fn scatter_add(draft: &mut Draft, choices: &mut Choices<'_>) -> Option<Vec<ValueId>> {
    let value = draft.pick(choices, |ty| ty.rank() > 0 && ty.rank() < 4 && ty.dtype != DType::Bool)?;
    let (dtype, shape) = (draft.b.dtype_of(value), draft.sizes(value));
    let axis = choices.below(shape.len());
    let index = index(draft, choices)?;
    let picked = [&shape[..axis], &draft.sizes(index), &shape[axis + 1..]].concat();
    if !draft.is_small(&picked) {
        return None;
    }
    let other = draft.pick(choices, |ty| ty.dtype == dtype)?;
    let updates = draft.fit(other, &TensorType::new(dtype, picked))?;
    draft.add(scatter_add::ScatterAdd { axis }, &[value, index, updates])
}

/// The elements along an axis in order, and where they came from.
pub fn sort(draft: &mut Draft, choices: &mut Choices<'_>) -> Option<Vec<ValueId>> {
    let value = draft.pick(choices, |ty| ty.rank() > 0)?;
    let axis = choices.below(draft.sizes(value).len());
    draft.add(sort::Sort { axis, descending: choices.below(2) == 1 }, &[value])
}

/// Running sums along an axis.
pub fn cumsum(draft: &mut Draft, choices: &mut Choices<'_>) -> Option<Vec<ValueId>> {
    let value = draft.pick(choices, |ty| ty.rank() > 0 && ty.dtype != DType::Bool)?;
    let axis = choices.below(draft.sizes(value).len());
    let (reverse, exclusive) = (choices.below(2) == 1, choices.below(2) == 1);
    let sums = draft.add(cumsum::Cumsum { axis, reverse, exclusive }, &[value])?[0];
    Some(vec![draft.tame(sums, choices)])
}

/// Each element from the one before, by factors that are not large.
pub fn recurrence(draft: &mut Draft, choices: &mut Choices<'_>) -> Option<Vec<ValueId>> {
    let b = draft.pick(choices, |ty| ty.rank() > 0 && ty.dtype.is_float())?;
    let ty = draft.b.type_of(b).clone();
    let other = draft.pick(choices, |other| other.dtype == ty.dtype)?;
    let a = draft.fit(other, &ty)?;
    let a = draft.b.apply(F::Tanh, &[a]);
    let axis = choices.below(ty.rank());
    let y = draft.add(recurrence::Recurrence { axis, reverse: choices.below(2) == 1 }, &[a, b])?[0];
    Some(vec![draft.tame(y, choices)])
}
