//! Into which blocks the weights of attention are cut.

/// One axis of the weights, cut into `parts` blocks of `size` and one of `rest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    pub axis: usize,
    pub parts: usize,
    pub size: usize,
    pub rest: usize,
}

/// What an axis of the weights is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// Keys, or of size 1: it is not cut.
    Whole,
    /// Of the values too: samples, heads.
    Shared,
    /// Of rows that read the same values: queries.
    Rows,
}

/// Products and sums of fewer rows are computed in another order where they are long, see `docs/numerics.md`.
const LEAST_ROWS: usize = 8;

/// How the axes of the weights are cut, the outermost first, so that a block has about `most` elements and no fewer than [`LEAST_ROWS`] rows.
///
/// Inner axes stay whole as long as they fit, so that what is in a block lies together in the weights.
pub fn cuts(sizes: &[usize], axes: &[Axis], most: usize) -> Vec<Cut> {
    let keys: usize = sizes.iter().zip(axes).filter(|(_, axis)| **axis == Axis::Whole).map(|(size, _)| size).product();
    let (mut left, mut rows) = ((most / keys.max(1)).max(1), 1);
    let mut cuts = Vec::new();
    for axis in (0..sizes.len()).rev().filter(|axis| axes[*axis] != Axis::Whole) {
        let least = if axes[axis] == Axis::Rows { LEAST_ROWS.div_ceil(rows) } else { 1 };
        let size = if sizes[axis] <= left { sizes[axis] } else { block(sizes[axis], left, least) };
        left = if size < sizes[axis] { 1 } else { (left / size).max(1) };
        rows *= if axes[axis] == Axis::Rows { size } else { 1 };
        if size < sizes[axis] {
            cuts.push(Cut { axis, parts: sizes[axis] / size, size, rest: sizes[axis] % size });
        }
    }
    cuts.reverse();
    cuts
}

/// The size of blocks of about `most` of `size`: a divisor if there is one within a factor of two, else as even as can be; neither a block nor the rest has fewer than `least`.
fn block(size: usize, most: usize, least: usize) -> usize {
    let fits = |block: &usize| *block >= least && (size.is_multiple_of(*block) || size % block >= least);
    let divisor = (most.div_ceil(2)..=most).rev().find(|block| fits(block) && size.is_multiple_of(*block));
    let even = size.div_ceil(size.div_ceil(most));
    divisor.or_else(|| (even..size).find(fits)).unwrap_or(size)
}

/// Numbers that are drawn together, a power of two, see [`RandomBits`](crate::ir::ops::random_bits::RandomBits).
pub const DRAWN_TOGETHER: usize = 64;

/// Whether each block is a piece of the weights in row-major order that begins where numbers drawn together do.
pub fn are_whole_draws(sizes: &[usize], cuts: &[Cut]) -> bool {
    let Some(last) = cuts.last() else { return true };
    let one = |axis: usize| sizes[axis] == 1 || cuts.iter().any(|cut| cut.axis == axis && cut.size == 1);
    let together = |cut: &Cut| {
        let elements = cut.size * sizes[cut.axis + 1..].iter().product::<usize>();
        elements.is_multiple_of(DRAWN_TOGETHER)
    };
    (0..last.axis).all(one) && cuts.iter().all(together)
}

#[cfg(test)]
mod tests {
    use super::Axis::{Rows, Shared, Whole};
    use super::{Cut, are_whole_draws, cuts};

    /// The cuts of `[samples, heads, queries, keys]`.
    fn of(sizes: [usize; 4], most: usize) -> Vec<Cut> {
        cuts(&sizes, &[Shared, Shared, Rows, Whole], most)
    }

    fn cut(axis: usize, parts: usize, size: usize, rest: usize) -> Cut {
        Cut { axis, parts, size, rest }
    }

    #[test]
    fn inner_axes_stay_whole_where_they_fit() {
        assert_eq!(of([2, 8, 64, 64], 1 << 20), []);
        assert_eq!(of([8, 8, 64, 64], 1 << 16), [cut(0, 4, 2, 0)]);
        assert_eq!(of([2, 8, 512, 512], 1 << 20), [cut(0, 2, 1, 0), cut(1, 2, 4, 0)]);
        assert_eq!(of([2, 8, 4096, 4096], 1 << 20), [cut(0, 2, 1, 0), cut(1, 8, 1, 0), cut(2, 16, 256, 0)]);
    }

    #[test]
    fn odd_sizes_leave_a_smaller_block() {
        assert_eq!(of([1, 1, 2047, 2048], 1 << 20), [cut(2, 3, 512, 511)]);
        assert_eq!(of([1, 7, 5, 5], 100), [cut(1, 1, 4, 3)]);
    }

    #[test]
    fn no_block_has_few_rows() {
        // A row is more than fits; seven rows are not cut, and of 17 neither one nor the rest has fewer than eight.
        assert_eq!(of([1, 1, 32, 50], 10), [cut(2, 4, 8, 0)]);
        assert_eq!(of([1, 1, 7, 50], 10), []);
        assert_eq!(of([1, 1, 17, 50], 10), [cut(2, 1, 9, 8)]);
        assert_eq!(cuts(&[6, 4, 50], &[Rows, Rows, Whole], 10), [cut(0, 3, 2, 0)]);
    }

    #[test]
    fn draws_are_cut_where_64_numbers_end() {
        let apart = |sizes: [usize; 4], most| are_whole_draws(&sizes, &of(sizes, most));
        assert!(apart([2, 8, 4096, 4096], 1 << 20) && apart([2, 8, 100, 64], 100));
        assert!(!apart([2, 8, 100, 63], 100) && !apart([3, 1, 5, 5], 25));
        // Keys outside: a block is no piece of the weights.
        assert!(!are_whole_draws(&[64, 64], &cuts(&[64, 64], &[Whole, Rows], 64 * 8)));
    }
}
