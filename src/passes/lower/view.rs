//! Index algebra: how ops that only rearrange turn the index of a result element into an index or an address of their operand.
//!
//! Indices are vectors of [`Affine`] expressions, one an axis. A [`View`] is the whole map from an index to an address in a
//! row-major buffer; it exists for chains of broadcasts, transposes, slices and most reshapes.

use crate::ir::loops::Affine;
use crate::ir::ops::IndexMap;

/// Sizes with a checked product, in elements.
pub fn elements(sizes: &[usize]) -> usize {
    sizes.iter().product()
}

/// The axes that count: those of a size other than 1.
pub fn squeezed(sizes: &[usize]) -> Vec<usize> {
    sizes.iter().copied().filter(|s| *s != 1).collect()
}

/// An index of `sizes` from an index of its squeezed form.
pub fn unsqueeze(sizes: &[usize], squeezed: &[Affine]) -> Vec<Affine> {
    let mut rest = squeezed.iter();
    let unit = Affine::default();
    sizes.iter().map(|s| if *s == 1 { &unit } else { rest.next().unwrap_or(&unit) }.clone()).collect()
}

/// The index of the operand that an op with this map reads for `index` of its result.
pub fn apply(map: &IndexMap, index: &[Affine]) -> Vec<Affine> {
    let one = |e: &crate::ir::ops::IndexExpression| {
        e.terms.iter().fold(Affine::constant(e.constant), |sum, (axis, factor)| sum.sum(&index[*axis].times(*factor)))
    };
    map.0.iter().map(one).collect()
}

/// Row-major strides of `sizes`.
pub fn row_major(sizes: &[usize]) -> Vec<i64> {
    crate::ir::tensor::strides(sizes).into_iter().map(|s| s as i64).collect()
}

/// The row-major address of `index`.
pub fn linear(sizes: &[usize], index: &[Affine]) -> Affine {
    View::whole(sizes).address(index)
}

/// An affine map from the index of a value to the address of its element in a buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    pub offset: i64,
    pub sizes: Vec<usize>,
    pub strides: Vec<i64>,
}

impl View {
    /// The view of a whole row-major buffer.
    pub fn whole(sizes: &[usize]) -> View {
        View { offset: 0, sizes: sizes.to_vec(), strides: row_major(sizes) }
    }

    /// Whether element `i` of the value, in row-major order, is element `i` of the buffer.
    pub fn is_whole(&self) -> bool {
        let standard = row_major(&self.sizes);
        self.offset == 0
            && self.sizes.iter().zip(self.strides.iter().zip(&standard)).all(|(size, (a, b))| *size == 1 || a == b)
    }

    /// The address of the element at `index`.
    pub fn address(&self, index: &[Affine]) -> Affine {
        let terms = index.iter().zip(&self.strides);
        terms.fold(Affine::constant(self.offset), |sum, (i, stride)| sum.sum(&i.times(*stride)))
    }

    /// The view of the result of an op that reads this view through `map`.
    pub fn through(&self, map: &IndexMap, sizes: &[usize]) -> View {
        let mut view = View { offset: self.offset, sizes: sizes.to_vec(), strides: vec![0; sizes.len()] };
        for (expression, stride) in map.0.iter().zip(&self.strides) {
            view.offset += expression.constant * stride;
            for (axis, factor) in &expression.terms {
                view.strides[*axis] += factor * stride;
            }
        }
        view
    }

    /// The view under another shape with the same row-major order, where strides can say it.
    pub fn reshape(&self, sizes: &[usize]) -> Option<View> {
        if elements(sizes) == 0 {
            return Some(View { offset: 0, sizes: sizes.to_vec(), strides: row_major(sizes) });
        }
        let mut strides = vec![0; sizes.len()];
        for (from, to) in matching(&self.sizes, sizes)? {
            let stride = self.run_stride(&from)?;
            let mut inner = stride;
            for axis in to.into_iter().rev() {
                strides[axis] = inner;
                inner *= sizes[axis] as i64;
            }
        }
        Some(View { offset: self.offset, sizes: sizes.to_vec(), strides })
    }

    /// The stride of the innermost of `axes` if they count through memory as one axis would.
    fn run_stride(&self, axes: &[usize]) -> Option<i64> {
        let Some(last) = axes.last() else { return Some(0) };
        let together = axes.windows(2).all(|p| self.strides[p[0]] == self.strides[p[1]] * self.sizes[p[1]] as i64);
        together.then_some(self.strides[*last])
    }
}

/// Runs of axes of two shapes that cover the same elements: the finest partition with equal products.
///
/// Axes of size 1 are left out. `None` if the shapes have different numbers of elements.
fn matching(from: &[usize], to: &[usize]) -> Option<Vec<(Vec<usize>, Vec<usize>)>> {
    let mut runs = Vec::new();
    let axes = |sizes: &[usize]| (0..sizes.len()).filter(|a| sizes[*a] != 1).collect::<Vec<_>>().into_iter();
    let (mut left, mut right) = (axes(from), axes(to));
    if squeezed(from) == squeezed(to) {
        return Some(left.zip(right).map(|(a, b)| (vec![a], vec![b])).collect());
    }
    while let Some(first) = left.next() {
        let mut run = (vec![first], vec![right.next()?]);
        let (mut a, mut b) = (from[first], to[run.1[0]]);
        while a != b {
            if a < b {
                let axis = left.next()?;
                a *= from[axis];
                run.0.push(axis);
            } else {
                let axis = right.next()?;
                b *= to[axis];
                run.1.push(axis);
            }
        }
        runs.push(run);
    }
    right.next().is_none().then_some(runs)
}

/// The index of the operand of a reshape for `index` of its result, where it is affine: where no axis has to be cut up.
pub fn reshape_index(from: &[usize], to: &[usize], index: &[Affine]) -> Option<Vec<Affine>> {
    let mut result = vec![Affine::default(); from.len()];
    for (operand, own) in matching(from, to)? {
        match operand.as_slice() {
            [axis] => {
                let sizes: Vec<usize> = own.iter().map(|a| to[*a]).collect();
                let index: Vec<Affine> = own.iter().map(|a| index[*a].clone()).collect();
                result[*axis] = linear(&sizes, &index);
            }
            _ => return None,
        }
    }
    Some(result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::loops::LoopVar;

    fn vars(n: u32) -> Vec<Affine> {
        (0..n).map(|v| Affine::scaled(LoopVar(v), 1)).collect()
    }

    #[test]
    fn reshapes_of_views_keep_addresses_where_they_can() {
        let whole = View::whole(&[2, 3, 4]);
        assert_eq!(whole.reshape(&[6, 4]).unwrap(), View::whole(&[6, 4]));
        assert_eq!(whole.reshape(&[24]).unwrap(), View::whole(&[24]));
        let transposed = View { offset: 0, sizes: vec![3, 2, 4], strides: vec![4, 12, 1] };
        assert_eq!(transposed.reshape(&[6, 4]), None);
        assert_eq!(transposed.reshape(&[3, 1, 2, 2, 2]).unwrap().strides, vec![4, 0, 12, 2, 1]);
    }

    #[test]
    fn a_split_axis_has_an_affine_index_and_a_merged_one_has_not() {
        let index = reshape_index(&[2, 12], &[2, 3, 4], &vars(3)).unwrap();
        assert_eq!(index[1], Affine::scaled(LoopVar(1), 4).plus(LoopVar(2), 1));
        assert_eq!(reshape_index(&[3, 4], &[12], &vars(1)), None);
        assert_eq!(reshape_index(&[0, 3], &[1, 0, 3], &vars(3)).unwrap(), vars(3)[1..]);
        assert_eq!(reshape_index(&[3, 1, 4], &[1, 3, 4, 1], &vars(4)).unwrap().len(), 3);
    }
}
