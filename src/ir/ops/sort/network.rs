//! Batcher's odd-even merge sort as sets of exchanges that loops of constant bounds can do.
//!
//! K. E. Batcher, "Sorting networks and their applications", 1968; in the iterative form of Knuth, The Art of Computer Programming,
//! volume 3, 5.3.4. For a length that is no power of two the exchanges that reach beyond the end are left out: what would
//! stand there is larger than everything, and no exchange moves it.

/// Exchanges of places `start + Σ i · step` (each axis: how many, how far) with those `distance` further on. No place occurs twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comb {
    pub start: usize,
    /// Blocks that are being merged, runs in a block, places in a run.
    pub axes: [(usize, usize); 3],
    pub distance: usize,
}

/// The exchanges that sort `length` elements, in order: about `log2(length)^2 / 2` rounds, each one comb or, where the length is
/// no power of two, up to four.
pub fn combs(length: usize) -> Vec<Comb> {
    let mut out = Vec::new();
    // Blocks of `half` are sorted; two of them become one, by exchanges at falling distances.
    let mut half = 1;
    while half < length {
        let mut distance = half;
        while distance > 0 {
            round(length, half, distance, &mut out);
            distance /= 2;
        }
        half *= 2;
    }
    out
}

fn round(length: usize, half: usize, distance: usize, out: &mut Vec<Comb>) {
    let (block, run) = (2 * half, (distance, 1));
    let (first, runs) = if distance == half { (0, 1) } else { (distance, half / distance - 1) };
    let mut add = |start: usize, axes: [(usize, usize); 3]| {
        if axes.iter().all(|(count, _)| *count > 0) {
            out.push(Comb { start, axes, distance });
        }
    };
    let (whole, rest) = (length / block, length % block);
    add(first, [(whole, block), (runs, 2 * distance), run]);
    // In the last, shorter block: the runs whose partners all exist, then what of one more has partners.
    let origin = whole * block;
    let reach = |n: usize| first + n * 2 * distance + 2 * distance;
    let full = (0..runs).take_while(|n| reach(*n) <= rest).count();
    add(origin + first, [(1, block), (full, 2 * distance), run]);
    if full < runs {
        let start = first + full * 2 * distance;
        add(origin + start, [(1, block), (1, 1), (rest.saturating_sub(start + distance), 1)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchanges(comb: &Comb) -> Vec<(usize, usize)> {
        let [a, b, c] = comb.axes;
        let mut out = Vec::new();
        for i in 0..a.0 {
            for j in 0..b.0 {
                for k in 0..c.0 {
                    let low = comb.start + i * a.1 + j * b.1 + k * c.1;
                    out.push((low, low + comb.distance));
                }
            }
        }
        out
    }

    fn sort(data: &mut [u32]) {
        for comb in combs(data.len()) {
            for (low, high) in exchanges(&comb) {
                if data[low] > data[high] {
                    data.swap(low, high);
                }
            }
        }
    }

    /// A network that sorts all sequences of zeros and ones sorts all sequences (Knuth, 5.3.4, theorem Z).
    #[test]
    fn all_zeros_and_ones_of_small_lengths() {
        for length in 0..=15 {
            for bits in 0..1u32 << length {
                let mut data: Vec<u32> = (0..length).map(|i| bits >> i & 1).collect();
                sort(&mut data);
                assert!(data.is_sorted(), "length {length}, {bits:b}");
            }
        }
    }

    #[test]
    fn every_length() {
        for length in 0..200u32 {
            for factor in [1, 7, 1_103_515_245, 2_654_435_761] {
                let mut data: Vec<u32> = (0..length).map(|i| (i + 1).wrapping_mul(factor) >> 3).collect();
                let mut wanted = data.clone();
                wanted.sort_unstable();
                sort(&mut data);
                assert_eq!(data, wanted, "length {length}");
            }
        }
    }

    #[test]
    fn no_place_is_in_two_exchanges_of_a_comb() {
        for length in [1, 2, 3, 13, 64, 100, 129] {
            for comb in combs(length) {
                let mut places: Vec<usize> = exchanges(&comb).into_iter().flat_map(|(a, b)| [a, b]).collect();
                assert!(places.iter().all(|p| *p < length));
                places.sort_unstable();
                assert!(places.windows(2).all(|p| p[0] != p[1]), "{length}: {comb:?}");
            }
        }
    }
}
