//! Ops that move elements.

use nnc::ir::graph::ValueId;
use nnc::ir::ops::slice::Slice;
use nnc::ir::ops::{broadcast, concat, pad, reshape, transpose};
use nnc::ir::types::TensorType;

use crate::choices::Choices;
use crate::draft::{Draft, dims};

/// No value has more dims.
const MOST_DIMS: usize = 5;

/// One or two more axes, and axes of size 1 stretched.
pub fn broadcast(draft: &mut Draft, choices: &mut Choices<'_>) -> Option<Vec<ValueId>> {
    let value = draft.pick(choices, |ty| ty.rank() < MOST_DIMS)?;
    let mut shape = draft.sizes(value);
    let mut axes: Vec<usize> = (0..shape.len()).collect();
    for size in shape.iter_mut().filter(|s| **s == 1) {
        *size = choices.size();
    }
    let at = choices.below(shape.len() + 1);
    shape.insert(at, choices.size());
    axes.iter_mut().filter(|a| **a >= at).for_each(|a| *a += 1);
    draft.add(broadcast::Broadcast { shape: dims(&shape), axes }, &[value])
}

/// Two neighbouring axes as one, one cut in two, a new one of size 1, or all flat.
pub fn reshape(draft: &mut Draft, choices: &mut Choices<'_>) -> Option<Vec<ValueId>> {
    let value = draft.pick(choices, |ty| ty.rank() < MOST_DIMS)?;
    let mut shape = draft.sizes(value);
    let at = choices.below(shape.len().max(1));
    let factor = |size: usize| (2..=4).find(|f| size > *f && size.is_multiple_of(*f));
    match choices.below(4) {
        0 => shape.insert(at, 1),
        1 if shape.len() > 1 => {
            let at = at.min(shape.len() - 2);
            let second = shape.remove(at + 1);
            shape[at] *= second;
        }
        2 if !shape.is_empty() && factor(shape[at]).is_some() => {
            let factor = factor(shape[at])?;
            shape[at] /= factor;
            shape.insert(at + choices.below(2), factor);
        }
        _ => shape = vec![shape.iter().product()],
    }
    draft.add(reshape::Reshape { shape: dims(&shape) }, &[value])
}

/// Any permutation of the axes.
pub fn transpose(draft: &mut Draft, choices: &mut Choices<'_>) -> Option<Vec<ValueId>> {
    let value = draft.pick(choices, |ty| ty.rank() > 1)?;
    let mut left: Vec<usize> = (0..draft.sizes(value).len()).rev().collect();
    let mut permutation = Vec::new();
    while !left.is_empty() {
        permutation.push(left.remove(choices.below(left.len())));
    }
    draft.add(transpose::Transpose { permutation }, &[value])
}

/// Along each axis every first, second or third element, forwards or backwards.
pub fn slice(draft: &mut Draft, choices: &mut Choices<'_>) -> Option<Vec<ValueId>> {
    let value = draft.pick(choices, |ty| ty.rank() > 0)?;
    let shape = draft.sizes(value);
    let mut slice = Slice::whole(&dims(&shape));
    for (axis, size) in shape.iter().enumerate().filter(|(_, size)| **size > 0) {
        let step: i64 = choices.of(&[1, 1, -1, 2, -2, 3]);
        let first = choices.below(*size);
        let reach = if step > 0 { size - first } else { first + 1 };
        let most = reach.div_ceil(step.unsigned_abs() as usize);
        slice.starts[axis] = first.into();
        slice.sizes[axis] = (most - choices.of(&[0, 0, 0, 1]).min(most)).into();
        slice.steps[axis] = step;
    }
    draft.add(slice, &[value])
}

/// Borders and gaps of 0 or 1.
pub fn pad(draft: &mut Draft, choices: &mut Choices<'_>) -> Option<Vec<ValueId>> {
    let value = draft.pick(choices, |ty| ty.rank() > 0)?;
    let rank = draft.sizes(value).len();
    let mut pad = pad::Pad::none(rank, choices.of(&[0.0, 0.0, 1.0]));
    for axis in 0..rank {
        pad.low[axis] = choices.of(&[0usize, 1, 2]).into();
        pad.high[axis] = choices.of(&[0usize, 0, 3]).into();
        pad.interior[axis] = choices.of(&[0, 0, 1, 2]);
    }
    draft.add(pad, &[value])
}

/// A value with one or two others that are made to fit but along the axis.
pub fn concat(draft: &mut Draft, choices: &mut Choices<'_>) -> Option<Vec<ValueId>> {
    let value = draft.pick(choices, |ty| ty.rank() > 0)?;
    let (dtype, shape) = (draft.b.dtype_of(value), draft.sizes(value));
    let axis = choices.below(shape.len());
    let mut parts = vec![value];
    for _ in 0..1 + choices.below(2) {
        let other = draft.pick(choices, |ty| ty.dtype == dtype)?;
        let mut wanted = shape.clone();
        wanted[axis] = choices.size();
        if !draft.is_small(&wanted) {
            return None;
        }
        parts.push(draft.fit(other, &TensorType::new(dtype, wanted))?);
    }
    let turn = choices.below(parts.len());
    parts.rotate_left(turn);
    draft.add(concat::Concat { axis }, &parts)
}
