//! Into which blocks the weights of attention are cut.

/// One axis of the weights, cut into `parts` blocks of `size` and one of `rest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    pub axis: usize,
    pub parts: usize,
    pub size: usize,
    pub rest: usize,
}

/// How the axes that may be cut are cut, the outermost first, so that a block has about `most` elements.
///
/// `sizes` are those of the weights; `may` says which of its axes may be cut. Inner axes stay whole as long as they fit, so that what is in a block lies together in the weights.
pub fn cuts(sizes: &[usize], may: impl Fn(usize) -> bool, most: usize) -> Vec<Cut> {
    let whole: usize = (0..sizes.len()).filter(|axis| !may(*axis)).map(|axis| sizes[axis]).product();
    let mut left = (most / whole.max(1)).max(1);
    let mut cuts = Vec::new();
    for axis in (0..sizes.len()).rev().filter(|axis| may(*axis) && sizes[*axis] > 1) {
        if sizes[axis] <= left {
            left /= sizes[axis];
            continue;
        }
        let size = block(sizes[axis], left);
        cuts.push(Cut { axis, parts: sizes[axis] / size, size, rest: sizes[axis] % size });
        left = 1;
    }
    cuts.reverse();
    cuts
}

/// The size of blocks of at most `most` of `size`: a divisor if there is one within a factor of two, else blocks as even as can be.
fn block(size: usize, most: usize) -> usize {
    let divisor = (most.div_ceil(2)..=most).rev().find(|block| size.is_multiple_of(*block));
    divisor.unwrap_or_else(|| size.div_ceil(size.div_ceil(most)))
}

#[cfg(test)]
mod tests {
    use super::{Cut, cuts};

    /// The cuts of `[samples, heads, queries, keys]`.
    fn of(sizes: [usize; 4], most: usize) -> Vec<Cut> {
        cuts(&sizes, |axis| axis < 3, most)
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
        assert_eq!(of([1, 1, 7, 5], 10), [cut(2, 3, 2, 1)]);
        // A row is more than fits.
        assert_eq!(of([1, 1, 3, 50], 10), [cut(2, 3, 1, 0)]);
    }
}
