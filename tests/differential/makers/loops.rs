//! Loops with bodies that are random graphs themselves.

use std::sync::Arc;

use nnc::ir::dim::Dim;
use nnc::ir::graph::{FunctionResult, ResultRole, Role, ValueId};
use nnc::ir::ops::scan::Scan;
use nnc::ir::scalar::ScalarFunction as F;
use nnc::ir::types::{DType, TensorType};

use crate::choices::Choices;
use crate::draft::Draft;

/// No carry, element or yield is larger.
const LARGEST_IN_LOOP: usize = 64;

/// A loop over up to three carries, two sequences and two captures.
pub fn scan(draft: &mut Draft, choices: &mut Choices<'_>) -> Option<Vec<ValueId>> {
    if draft.inner && choices.below(2) == 0 {
        return None;
    }
    let length: usize = choices.of(&[3, 1, 2, 4, 7, 0]);
    let small = |ty: &TensorType| ty.elements().is_some_and(|n| n <= LARGEST_IN_LOOP);
    let pick = |draft: &Draft, choices: &mut Choices<'_>, count: usize| -> Vec<ValueId> {
        (0..count).filter_map(|_| draft.pick(choices, small)).collect()
    };
    let (first, second) = (choices.of(&[1, 2, 3, 0]), choices.of(&[1, 0, 2]));
    let carries = pick(draft, choices, first);
    let elements = pick(draft, choices, second);
    let captures = pick(draft, choices, choices_of_captures(second));
    let mut body = Draft::inner();
    let round = body.argument(Role::Step, DType::I32, &[]);
    let mut inside = vec![round];
    for (role, values) in [(Role::State, &carries), (Role::Input, &elements), (Role::Input, &captures)] {
        for value in values {
            let ty = draft.b.type_of(*value).clone();
            inside.push(body.argument(role, ty.dtype, &ty.sizes()?));
        }
    }
    body.values = inside.clone();
    let steps = 2 + choices.below(7);
    body.grow(&choices.genes(steps));
    let results = results(&mut body, &inside[1..1 + carries.len()], choices)?;
    let body = body.into_function("body", results);
    let sequences: Vec<ValueId> = elements
        .iter()
        .map(|element| {
            let ty = draft.b.type_of(*element).clone();
            let shape = std::iter::once(Dim::from(length)).chain(ty.shape).collect();
            let source = draft.pick(choices, |other| other.dtype == ty.dtype)?;
            draft.fit(source, &TensorType { dtype: ty.dtype, shape })
        })
        .collect::<Option<_>>()?;
    let operands: Vec<ValueId> = [carries.clone(), sequences, captures].concat();
    let scan = Scan {
        body: Arc::new(body),
        length: Dim::from(length),
        carries: carries.len() as u32,
        sequences: elements.len() as u32,
        reverse: choices.rarely(3),
        lean: choices.rarely(3),
    };
    draft.add(scan, &operands)
}

/// Loops over few sequences read more from outside.
fn choices_of_captures(sequences: usize) -> usize {
    2 - sequences.min(2)
}

/// The next value of each carry, kept small, and up to two yields.
fn results(body: &mut Draft, carries: &[ValueId], choices: &mut Choices<'_>) -> Option<Vec<FunctionResult>> {
    let mut results = Vec::new();
    for (number, carry) in carries.iter().enumerate() {
        let ty = body.b.type_of(*carry).clone();
        let value = body.pick(choices, |other| *other == ty).or_else(|| body.values.last().copied())?;
        let mut next = body.fit(value, &ty)?;
        if ty.dtype.is_float() {
            next = body.b.apply(F::Tanh, &[next]);
        }
        results.push(FunctionResult {
            name: format!("c{number}"),
            role: ResultRole::Update(1 + number as u32),
            value: next,
        });
    }
    let yields = if carries.is_empty() { 1 } else { choices.of(&[1, 0, 2]) };
    for number in 0..yields {
        let small = |ty: &TensorType| ty.elements().is_some_and(|n| n <= LARGEST_IN_LOOP);
        let value = body.pick(choices, small)?;
        results.push(FunctionResult { name: format!("y{number}"), role: ResultRole::Output, value });
    }
    Some(results)
}
