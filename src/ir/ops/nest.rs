//! Loop nests that more than one opaque op writes.

use crate::ir::loops::build::BlockBuilder;
use crate::ir::loops::{Affine, LoopVar};

/// Writes the innermost block of a nest, given the loop variables.
type Body<'a> = dyn FnMut(&mut BlockBuilder<'_>, &[LoopVar]) + 'a;

/// Writes serial loops over all `sizes` but the last, which becomes a vector loop; `write` gets the variables.
///
/// A scalar (no sizes) is a vector loop of one round; nothing is written if a size is 0.
pub fn elementwise(
    block: &mut BlockBuilder<'_>,
    sizes: &[usize],
    mut write: impl FnMut(&mut BlockBuilder<'_>, &[LoopVar]),
) {
    if sizes.contains(&0) {
        return;
    }
    match sizes {
        [] => block.lanes(1, |b, _| write(b, &[])),
        _ => nested(block, sizes, &mut Vec::new(), &mut write),
    }
}

fn nested(block: &mut BlockBuilder<'_>, sizes: &[usize], variables: &mut Vec<LoopVar>, write: &mut Body<'_>) {
    match sizes {
        [] => unreachable!("there is at least one size"),
        [last] => block.lanes(*last as u64, |b, var| {
            variables.push(var);
            write(b, variables);
        }),
        [first, rest @ ..] => block.for_each(*first as u64, |b, var| {
            variables.push(var);
            nested(b, rest, variables, write);
        }),
    }
}

/// `Σ coefficients[i] · variables[i]`, a row-major address.
pub fn address(variables: &[LoopVar], coefficients: &[usize]) -> Affine {
    let terms = variables.iter().zip(coefficients);
    terms.fold(Affine::constant(0), |a, (v, c)| a.plus(*v, *c as i64))
}

/// The products of the sizes before `axis`, of `axis` itself and of those after it.
pub fn around(sizes: &[usize], axis: usize) -> (usize, usize, usize) {
    (sizes[..axis].iter().product(), sizes[axis], sizes[axis + 1..].iter().product())
}
