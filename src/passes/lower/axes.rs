//! Which axes of an iteration space run together as one loop, and which one is the vector axis.
//!
//! A kernel's code is first written once with one variable an axis; the addresses found there decide. Two neighbouring axes become
//! one where every address counts through them as through one; the code is then written with index 0 for the outer and the
//! joint variable for the inner, which by that very condition gives the same addresses.

use super::visit::{Touch, Visitor, walk};
use crate::ir::loops::{Affine, Block, BufferId, LoopVar};

/// A loop over one or more axes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Axis {
    /// The innermost of the axes; the others have index 0.
    pub axis: usize,
    pub extent: u64,
    /// Axes of different classes (kept and reduced ones, ...) do not run together.
    pub class: u8,
}

/// Accesses in longer loops count no more than this often.
const MOST_WEIGHT: i64 = 1 << 16;

/// Everything that addresses memory in some code, where variable `i` counts axis `i`.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    pub all: Vec<Affine>,
    /// Those of loads (1) and stores (2), by weight, as often as they run.
    pub memory: Vec<(Affine, i64)>,
}

impl Addresses {
    /// The addresses of a block.
    pub fn of(block: &Block) -> Addresses {
        struct Collect {
            weight: Option<i64>,
            found: Addresses,
        }
        impl Visitor for Collect {
            fn buffer(&mut self, _: &mut BufferId, touch: Touch) {
                self.weight = Some(if touch.writes() { 2 } else { 1 });
            }
            fn affine(&mut self, affine: &mut Affine) {
                self.found.all.push(affine.clone());
                if let Some(weight) = self.weight.take() {
                    self.found.memory.push((affine.clone(), weight));
                }
            }
        }
        let mut collect = Collect { weight: None, found: Addresses::default() };
        walk(&mut block.clone(), &mut collect);
        collect.found
    }

    /// Adds an address that stands in no block (an operand of a contraction).
    pub fn add(&mut self, affine: Affine) {
        self.memory.push((affine.clone(), 1));
        self.all.push(affine);
    }

    /// Counts loads and stores as often as some loop inside runs them.
    pub fn times(mut self, rounds: u64) -> Addresses {
        let rounds = i64::try_from(rounds).unwrap_or(i64::MAX).min(MOST_WEIGHT);
        self.memory.iter_mut().for_each(|(_, weight)| *weight *= rounds);
        self
    }

    /// Both together.
    pub fn and(mut self, other: Addresses) -> Addresses {
        self.all.extend(other.all);
        self.memory.extend(other.memory);
        self
    }

    /// The loops over axes of these extents and classes.
    pub fn collapse(&self, extents: &[u64], classes: &[u8]) -> Vec<Axis> {
        let mut axes: Vec<Axis> = Vec::new();
        for (axis, (extent, class)) in extents.iter().zip(classes).enumerate() {
            if *extent == 1 {
                continue;
            }
            let current = Axis { axis, extent: *extent, class: *class };
            match axes.last_mut() {
                Some(last) if last.class == *class && self.together(last.axis, axis, *extent) => {
                    *last = Axis { extent: last.extent * extent, ..current };
                }
                _ => axes.push(current),
            }
        }
        axes
    }

    fn together(&self, outer: usize, inner: usize, extent: u64) -> bool {
        let var = |axis: usize| LoopVar(axis as u32);
        self.all.iter().all(|a| a.coefficient(var(outer)) == a.coefficient(var(inner)) * extent as i64)
    }

    /// How well an axis suits vectors: contiguous accesses count for it, strided ones against it.
    pub fn vector_score(&self, axis: usize) -> i64 {
        let score = |(affine, weight): &(Affine, i64)| match affine.coefficient(LoopVar(axis as u32)) {
            1 => *weight,
            0 => 0,
            _ => -weight,
        };
        self.memory.iter().map(score).sum()
    }

    /// The position in `axes` of the axis that suits vectors best; the innermost of equals.
    pub fn vector_axis(&self, axes: &[Axis]) -> Option<usize> {
        let worth = |at: &usize| (axes[*at].extent >= 4, self.vector_score(axes[*at].axis), *at);
        (0..axes.len()).max_by_key(worth)
    }
}

/// The index of every axis from the indices of the loops.
pub fn spread(rank: usize, loops: &[(&Axis, Affine)]) -> Vec<Affine> {
    let mut index = vec![Affine::default(); rank];
    for (axis, value) in loops {
        index[axis.axis] = value.clone();
    }
    index
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_run_together_where_all_addresses_agree() {
        let row_major = Affine::scaled(LoopVar(0), 12).plus(LoopVar(1), 4).plus(LoopVar(2), 1);
        let bias = Affine::scaled(LoopVar(2), 1);
        let mut addresses = Addresses::default();
        addresses.add(row_major);
        assert_eq!(addresses.collapse(&[2, 3, 4], &[0; 3]), [Axis { axis: 2, extent: 24, class: 0 }]);
        assert_eq!(addresses.collapse(&[2, 3, 4], &[0, 0, 1]).len(), 2);
        addresses.add(bias);
        let axes = addresses.collapse(&[2, 3, 4], &[0; 3]);
        assert_eq!(axes.iter().map(|a| (a.axis, a.extent)).collect::<Vec<_>>(), [(1, 6), (2, 4)]);
        assert_eq!(addresses.vector_axis(&axes), Some(1));
    }
}
