//! The order in which an epoch takes the rows: file order, or a permutation drawn from the seed and the epoch.

use crate::driver::random::{fnv1a, philox};

/// A permutation of `0..rows` by Fisher and Yates, a function of `(rows, seed, epoch)` alone. `docs/random.md` specifies it.
///
/// # Panics
/// If there are more than 2^32 rows.
pub fn shuffled(rows: usize, seed: u64, epoch: u32) -> Vec<u32> {
    let mut order = in_file_order(rows);
    mix(&mut order, &mut Words::new(seed, epoch));
    order
}

/// How the rows of files are mixed that can only be read in blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mixing {
    /// Rows of a block.
    pub block: usize,
    /// How many blocks lie in memory together.
    pub pool: usize,
}

/// A permutation of `0..rows` that takes a few blocks at a time: the blocks are put in random order, then the rows of every
/// `pool` blocks are mixed among themselves. A function of its arguments alone.
///
/// # Panics
/// If there are more than 2^32 rows.
pub fn shuffled_in_blocks(rows: usize, mixing: Mixing, seed: u64, epoch: u32) -> Vec<u32> {
    let mut words = Words::new(seed, epoch);
    let mut blocks = in_file_order(rows.div_ceil(mixing.block));
    mix(&mut blocks, &mut words);
    let mut order = Vec::with_capacity(rows);
    for pool in blocks.chunks(mixing.pool.max(1)) {
        let start = order.len();
        for block in pool {
            let first = *block as usize * mixing.block;
            let last = first.saturating_add(mixing.block).min(rows);
            order.extend((first..last).map(|row| u32::try_from(row).expect("fewer than 2^32 rows")));
        }
        mix(&mut order[start..], &mut words);
    }
    order
}

/// Fisher and Yates.
fn mix(order: &mut [u32], words: &mut Words) {
    for last in (1..order.len()).rev() {
        let draw = u64::from(words.next()) | u64::from(words.next()) << 32;
        let at = (u128::from(draw) * (last as u128 + 1)) >> 64;
        order.swap(last, at as usize);
    }
}

/// The rows as they are.
///
/// # Panics
/// If there are more than 2^32 rows.
pub fn in_file_order(rows: usize) -> Vec<u32> {
    (0..rows).map(|row| u32::try_from(row).expect("fewer than 2^32 rows")).collect()
}

/// Counters that make a block of words, and the words of a counter: the layout of every draw.
const COUNTERS: usize = 16;
const WORDS: usize = 4;

/// The words of the draw at the site `shuffle`, in order; the epoch stands in the place of the step.
struct Words {
    key: [u32; 2],
    epoch: u32,
    site: u32,
    /// The first counter of the next block.
    counter: u32,
    block: [u32; COUNTERS * WORDS],
    /// The next word of the block.
    next: usize,
}

impl Words {
    fn new(seed: u64, epoch: u32) -> Words {
        let key = [seed as u32, (seed >> 32) as u32];
        let block = [0; COUNTERS * WORDS];
        Words { key, epoch, site: fnv1a("shuffle"), counter: 0, block, next: COUNTERS * WORDS }
    }

    fn next(&mut self) -> u32 {
        if self.next == self.block.len() {
            for lane in 0..COUNTERS {
                let words = philox([self.counter.wrapping_add(lane as u32), self.epoch, 0, self.site], self.key);
                for (run, word) in words.into_iter().enumerate() {
                    self.block[run * COUNTERS + lane] = word;
                }
            }
            self.counter = self.counter.wrapping_add(COUNTERS as u32);
            self.next = 0;
        }
        self.next += 1;
        self.block[self.next - 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::random::word;

    #[test]
    fn a_permutation_that_depends_on_seed_and_epoch() {
        let order = shuffled(1000, 7, 1);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, in_file_order(1000));
        assert_eq!(order, shuffled(1000, 7, 1));
        assert_ne!(order, shuffled(1000, 7, 2));
        assert_ne!(order, shuffled(1000, 8, 1));
        assert_ne!(order, shuffled(1000, 7 + (1 << 40), 1));
        assert_eq!(shuffled(0, 0, 1), [0u32; 0]);
        assert_eq!(shuffled(1, 0, 1), [0]);
    }

    #[test]
    fn blocks_are_mixed_a_few_at_a_time() {
        let mixing = Mixing { block: 10, pool: 3 };
        let order = shuffled_in_blocks(95, mixing, 7, 1);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, in_file_order(95));
        let blocks = |rows: &[u32]| rows.iter().map(|row| row / 10).collect::<std::collections::BTreeSet<_>>().len();
        assert!(blocks(&order[..25]) <= 3);
        assert_ne!(order, shuffled_in_blocks(95, mixing, 7, 2));
        assert_eq!(shuffled_in_blocks(95, Mixing { block: 100, pool: 1 }, 7, 1).len(), 95);
        assert_eq!(shuffled_in_blocks(0, mixing, 7, 1), [0u32; 0]);
    }

    #[test]
    fn words_are_those_of_every_draw() {
        let mut words = Words::new(0x0123_4567_89ab_cdef, 3);
        for element in 0..200 {
            assert_eq!(words.next(), word([0x89ab_cdef, 0x0123_4567], 3, 0, fnv1a("shuffle"), element));
        }
    }

    #[test]
    fn the_example_of_the_specification() {
        assert_eq!(shuffled(8, 7, 1), [5, 4, 7, 6, 0, 3, 1, 2]);
        assert_eq!(shuffled(100, (1 << 40) + 3, 12)[..8], [73, 92, 32, 65, 16, 24, 39, 26]);
    }

    #[test]
    fn every_row_comes_first_about_equally_often() {
        let mut counts = [0; 4];
        for epoch in 0..4000 {
            counts[shuffled(4, 1, epoch)[0] as usize] += 1;
        }
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
    }
}
