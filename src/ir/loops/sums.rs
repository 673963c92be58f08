//! The order in which contractions add.
//!
//! A long sum is cut into blocks, of about as many steps as there are blocks. Each block is summed from 0 by fused multiply-adds
//! and then added to the total, so that rounding errors grow with the square root of the length at worst. Where the cuts are is
//! decided when a contraction is made, from the extents of its summed axes alone, and kept by every pass.

use super::Round;

/// Steps of a block of a sum that is not longer than the square of this.
const BLOCK: u64 = 256;

/// Where a sum is cut: the axes around axis `level` begin a block in each round, and that axis itself every `size` of its indices.
///
/// The axes are the rounds of a contraction, outermost first, and then its depth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cut {
    pub level: usize,
    pub size: u64,
}

impl Cut {
    /// Where to cut a sum over these axes; `None` if it is one block.
    pub fn of(rounds: &[Round], depth: u64) -> Option<Cut> {
        let extents: Vec<u64> = rounds.iter().map(|r| r.count).chain([depth]).collect();
        let target = extents.iter().copied().fold(1, u64::saturating_mul).isqrt().max(BLOCK);
        let mut inside = 1u64;
        for (level, extent) in extents.into_iter().enumerate().rev() {
            if inside.saturating_mul(extent) >= 2 * target {
                let about = |steps: u64| (steps / inside).max(1);
                let size = divisor(extent, about(target / 2), about(2 * target)).unwrap_or(about(target));
                return Some(Cut { level, size });
            }
            inside = inside.saturating_mul(extent);
        }
        None
    }

    /// The whole blocks in a round of the axes around, and how much of the axis the last, shorter one has.
    pub fn blocks(self, rounds: &[Round], depth: u64) -> (u64, u64) {
        let extent = rounds.get(self.level).map_or(depth, |r| r.count);
        (extent / self.size, extent % self.size)
    }
}

/// The largest divisor of `extent` in `low..=high`, preferring multiples of 16.
pub fn divisor(extent: u64, low: u64, high: u64) -> Option<u64> {
    let fits = |d: &u64| extent.is_multiple_of(*d);
    let high = high.min(extent);
    let even = (low..=high).rev().filter(|d| d.is_multiple_of(16)).find(fits);
    even.or_else(|| (low..=high).rev().find(fits))
}

/// The greatest common divisor; of 0 and a number, the number.
pub fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_about_the_square_root() {
        let of = |counts: &[u64], depth: u64| {
            let round = |count: &u64| Round { count: *count, left_stride: 0, right_stride: 0 };
            let rounds: Vec<Round> = counts.iter().map(round).collect();
            Cut::of(&rounds, depth).map(|c| (c.level, c.size))
        };
        assert_eq!(of(&[], 511), None);
        assert_eq!(of(&[], 784), Some((0, 392)));
        assert_eq!(of(&[], 1024), Some((0, 512)));
        assert_eq!(of(&[], 1_000_000), Some((0, 2000)));
        assert_eq!(of(&[], 1_000_003), Some((0, 1000)));
        assert_eq!(of(&[3, 3], 40), None);
        assert_eq!(of(&[3, 3], 64), Some((0, 1)));
        assert_eq!(of(&[128, 28], 28), Some((1, 14)));
    }

    #[test]
    fn divisors_near_a_size() {
        assert_eq!(divisor(401_408, 2048, 16_384), Some(14_336));
        assert_eq!(divisor(100_003, 2048, 16_384), None);
        assert_eq!(divisor(30, 4, 20), Some(15));
    }
}
