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

/// A serial loop; the body gets its variable as an index. One round alone is no loop and has index 0.
pub fn repeat(block: &mut BlockBuilder<'_>, extent: usize, write: impl FnOnce(&mut BlockBuilder<'_>, Affine)) {
    match extent {
        1 => write(block, Affine::constant(0)),
        _ => block.for_each(extent as u64, |b, var| write(b, Affine::scaled(var, 1))),
    }
}

/// Writes the work on one place of a line, given its address and its number in the line.
type Place<'a> = Box<dyn FnOnce(&mut BlockBuilder<'_>, Affine, Affine) + 'a>;

/// Lines along one axis of a row-major tensor that are worked on together, one in each lane.
pub struct Lines {
    /// Of the first line: its index among the dims before the axis, and its place among the elements behind the axis.
    row: Affine,
    column: Affine,
    /// How many lines, and whether they lie one behind the other instead of side by side.
    pub count: usize,
    across: bool,
    /// Elements of a line, and how far from one to the next.
    pub length: usize,
    pub stride: usize,
}

impl Lines {
    /// The address of the first element of the line of a lane.
    pub fn origin(&self, lane: LoopVar) -> Affine {
        self.start(self.length).plus(lane, if self.across { self.length * self.stride } else { 1 } as i64)
    }

    /// As [`Lines::origin`], in a tensor whose axis is `length` long. Not for lines one behind the other.
    pub fn origin_of_length(&self, length: usize, lane: LoopVar) -> Affine {
        self.start(length).plus(lane, 1)
    }

    fn start(&self, length: usize) -> Affine {
        self.row.times((length * self.stride) as i64).sum(&self.column)
    }

    /// Writes loops over places of the lines, `start` and so many steps along each of `axes` further on (how many, how far); the lanes
    /// are the lines where there are several, else the longest axis. `write` gets an address and the place in the line.
    pub fn each(
        &self,
        block: &mut BlockBuilder<'_>,
        start: usize,
        axes: &[(usize, usize)],
        write: impl FnOnce(&mut BlockBuilder<'_>, Affine, Affine),
    ) {
        let mut outer: Vec<(usize, usize)> = axes.iter().copied().filter(|(count, _)| *count != 1).collect();
        let longest = (0..outer.len()).max_by_key(|i| (outer[*i].0, *i)).filter(|_| self.count == 1);
        let inner = longest.map_or((1, 0), |at| outer.remove(at));
        self.nested(block, &outer, inner, Affine::constant(start as i64), write);
    }

    fn nested(
        &self,
        block: &mut BlockBuilder<'_>,
        axes: &[(usize, usize)],
        inner: (usize, usize),
        place: Affine,
        write: impl FnOnce(&mut BlockBuilder<'_>, Affine, Affine),
    ) {
        if let [(count, step), rest @ ..] = axes {
            return block.for_each(*count as u64, |b, var| {
                let write: Place<'_> = Box::new(write);
                self.nested(b, rest, inner, place.plus(var, *step as i64), write);
            });
        }
        block.lanes((self.count * inner.0) as u64, |b, lane| {
            // Either there is one line or its elements are not in lanes.
            let place = place.plus(lane, inner.1 as i64);
            let first = if self.count == 1 { self.start(self.length) } else { self.origin(lane) };
            write(b, first.sum(&place.times(self.stride as i64)), place);
        });
    }
}

/// Lines with fewer neighbours than this beside them are worked on one at a time, or across rows.
const FEWEST_LANES: usize = 4;
/// Lines of a bundle where threads share the bundles.
const BUNDLE: std::ops::RangeInclusive<usize> = 16..=64;

/// Writes loops over all lines along `axis`, in bundles cut by shape so that the outermost loop may become parallel.
///
/// Lines side by side are a bundle; where there are few and `across` is set, lines one behind the other are.
/// `write` must store to its own lines only.
pub fn lines(
    block: &mut BlockBuilder<'_>,
    sizes: &[usize],
    axis: usize,
    across: bool,
    mut write: impl FnMut(&mut BlockBuilder<'_>, &Lines),
) {
    let (outer, length, inner) = around(sizes, axis);
    if outer * length * inner == 0 {
        return;
    }
    let across = across && inner < FEWEST_LANES;
    let count = match inner {
        ..FEWEST_LANES => {
            if across {
                bundle_of(outer)
            } else {
                1
            }
        }
        _ if outer > 1 => inner,
        _ => bundle_of(inner),
    };
    let (rows, columns) = if across { (count, 1) } else { (1, count) };
    repeat(block, outer / rows, |b, o| {
        repeat(b, inner / columns, |b, c| {
            let (row, column) = (o.times(rows as i64), c.times(columns as i64));
            write(b, &Lines { row, column, count, across, length, stride: inner });
        });
    });
}

/// How many of so many lines are a bundle: a divisor that fits, or all of them.
fn bundle_of(count: usize) -> usize {
    BUNDLE.rev().find(|d| count.is_multiple_of(*d) && *d < count).unwrap_or(count)
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
