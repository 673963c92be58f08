//! The nest of a transform: rows of tiles, tiles, and lanes of what moves along; a tile is straight-line code.
//!
//! Of the first axis, two rows of the matrix that differ in signs alone are worked on together, and only what they make is kept: so a
//! tile's values stay in registers, for which its elements are read more than once.

use super::matrices::Matrix;
use super::{LowerContext, Winograd};
use crate::ir::loops::build::BlockBuilder;
use crate::ir::loops::{Affine, Value};
use crate::ir::ops::nest;
use crate::ir::scalar::ScalarFunction as F;
use crate::ir::types::DType;

/// Writes the nest.
pub fn write(op: &Winograd, cx: &mut LowerContext<'_, '_>) {
    let (inputs, outputs) = cx.buffers();
    let (x, y) = (inputs[0], outputs[0]);
    let [(from, source), (to, target)] = op.layout(&cx.inputs[0]);
    let around = op.around(&cx.inputs[0]);
    let (matrix, dtype) = (op.matrix(), cx.inputs[0].dtype);
    let inner = op.inner(&cx.inputs[0]);
    if around.contains(&0) || inner == 0 {
        return;
    }
    each(cx.block, &around, &mut Vec::new(), &|b, at| {
        b.lanes(inner as u64, |b, lane| {
            let origin = |outer: super::Around| {
                let sum = |sum: Affine, (at, step): (&Affine, usize)| sum.sum(&at.times(step as i64));
                at.iter().zip(outer).fold(Affine::constant(0), sum).plus(lane, 1)
            };
            let (read, write) = (origin(source), origin(target));
            let place = |at: &Affine, steps: super::Steps, i: usize, j: usize| {
                at.clone().offset((i * steps.row + j * steps.column) as i64)
            };
            let load = |b: &mut BlockBuilder<'_>, i: usize, j: usize| b.load(x, place(&read, from, i, j));
            let store = |b: &mut BlockBuilder<'_>, i: usize, j: usize, value: Value| {
                b.store(y, place(&write, to, i, j), value);
            };
            transform(b, &matrix, dtype, load, store);
        });
    });
}

/// Loops of these extents in one another, the outermost first, around `body`, which gets the index of each.
fn each(
    b: &mut BlockBuilder<'_>,
    extents: &[usize],
    at: &mut Vec<Affine>,
    body: &dyn Fn(&mut BlockBuilder<'_>, &[Affine]),
) {
    let Some((extent, inside)) = extents.split_first() else { return body(b, at) };
    nest::repeat(b, *extent, |b, index| {
        at.push(index);
        each(b, inside, at, body);
        at.pop();
    });
}

/// `M x Mᵀ` for a tile `x`.
fn transform(
    b: &mut BlockBuilder<'_>,
    matrix: &Matrix,
    dtype: DType,
    load: impl Fn(&mut BlockBuilder<'_>, usize, usize) -> Value,
    store: impl Fn(&mut BlockBuilder<'_>, usize, usize, Value),
) {
    for rows in row_groups(matrix, 2) {
        // For each of the rows, the values along the second axis.
        let mut made: Vec<Vec<Value>> = vec![Vec::new(); rows.len()];
        for column in 0..matrix.columns() {
            let values = combine(b, matrix, &rows, dtype, &mut |b, i| load(b, i, column));
            made.iter_mut().zip(values).for_each(|(row, value)| row.push(value));
        }
        for (row, values) in rows.iter().zip(&made) {
            for columns in row_groups(matrix, matrix.rows()) {
                let results = combine(b, matrix, &columns, dtype, &mut |_, i| values[i]);
                for (column, result) in columns.iter().zip(results) {
                    store(b, *row, *column, result);
                }
            }
        }
    }
}

/// The rows, those together that share work: two that are mirrored; up to `most` where columns are, since their sums and differences
/// serve every row.
fn row_groups(matrix: &Matrix, most: usize) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let columns_are_paired = !column_pairs(matrix).is_empty();
    for row in 0..matrix.rows() {
        match groups.last_mut() {
            Some(group) if columns_are_paired && group.len() < most => group.push(row),
            Some(group) if group.len() == 1 && matrix.rows_are_mirrored(group[0], row) => group.push(row),
            _ => groups.push(vec![row]),
        }
    }
    groups
}

/// Neighbouring columns that are mirrored.
fn column_pairs(matrix: &Matrix) -> Vec<usize> {
    let mut pairs = Vec::new();
    for column in 1..matrix.columns() {
        if pairs.last() != Some(&(column - 1)) && matrix.columns_are_mirrored(column - 1, column) {
            pairs.push(column);
        }
    }
    pairs.iter().map(|second| second - 1).collect()
}

/// One term of a sum.
type Term = (f64, Value);

/// The elements `rows` of the matrix times a vector, whose elements `element` gives, each asked for once at most.
fn combine<'b>(
    b: &mut BlockBuilder<'b>,
    matrix: &Matrix,
    rows: &[usize],
    dtype: DType,
    element: &mut dyn FnMut(&mut BlockBuilder<'b>, usize) -> Value,
) -> Vec<Value> {
    if let [first, second] = rows
        && matrix.rows_are_mirrored(*first, *second)
    {
        let (mut same, mut turned) = (Vec::new(), Vec::new());
        for column in 0..matrix.columns() {
            let factor = matrix.at(*first, column);
            if factor != 0.0 {
                let term = (factor, element(b, column));
                if factor == matrix.at(*second, column) { same.push(term) } else { turned.push(term) }
            }
        }
        let (same, turned) = (sum(b, &same, dtype), sum(b, &turned, dtype));
        return vec![b.map(F::Add, &[same, turned]), b.map(F::Sub, &[same, turned])];
    }
    let pairs = column_pairs(matrix);
    let mut terms: Vec<Vec<Term>> = vec![Vec::new(); rows.len()];
    let mut column = 0;
    while column < matrix.columns() {
        let used = rows.iter().any(|row| matrix.at(*row, column) != 0.0);
        if pairs.contains(&column) {
            let (left, right) = (element(b, column), element(b, column + 1));
            let both = [F::Add, F::Sub].map(|function| {
                let wanted = rows.iter().any(|r| (matrix.at(*r, column) == matrix.at(*r, column + 1)) == (function == F::Add));
                wanted.then(|| b.map(function, &[left, right]))
            });
            for (row, terms) in rows.iter().zip(&mut terms) {
                let factor = matrix.at(*row, column);
                let value = both[usize::from(factor != matrix.at(*row, column + 1))];
                terms.extend(value.map(|value| (factor, value)));
            }
            column += 2;
            continue;
        }
        if used {
            let value = element(b, column);
            for (row, terms) in rows.iter().zip(&mut terms) {
                terms.push((matrix.at(*row, column), value));
            }
        }
        column += 1;
    }
    terms.iter().map(|terms| sum(b, terms, dtype)).collect()
}

/// The sum of the terms whose factor is not 0, in their order; terms of factor 1 first, so that the others are fused multiply-adds.
fn sum(b: &mut BlockBuilder<'_>, terms: &[Term], dtype: DType) -> Value {
    let mut ordered: Vec<Term> = terms.iter().copied().filter(|(factor, _)| *factor != 0.0).collect();
    ordered.sort_by_key(|(factor, _)| *factor != 1.0);
    let mut total: Option<Value> = None;
    for (factor, value) in ordered {
        total = Some(match total {
            None if factor == 1.0 => value,
            None => {
                let factor = b.constant(dtype, factor);
                b.map(F::Mul, &[factor, value])
            }
            Some(total) if factor == 1.0 => b.map(F::Add, &[total, value]),
            Some(total) if factor == -1.0 => b.map(F::Sub, &[total, value]),
            Some(total) => {
                let factor = b.constant(dtype, factor);
                b.map(F::Fma, &[factor, value, total])
            }
        });
    }
    total.expect("no row of a transform is zero")
}
