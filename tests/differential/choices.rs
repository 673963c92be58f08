//! Choices read from a list of numbers, so that a graph is a function of numbers and smaller numbers make smaller graphs.

/// What one step of a graph is made of.
pub type Gene = [u16; 12];

/// Reads choices from a gene; after its last number every choice is 0.
pub struct Choices<'g>(&'g [u16]);

impl<'g> Choices<'g> {
    /// The choices of a gene.
    pub fn new(gene: &'g Gene) -> Choices<'g> {
        Choices(gene)
    }

    /// A number below `count`; 0 if there is none.
    pub fn below(&mut self, count: usize) -> usize {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(*first) % count.max(1)
    }

    /// One of several things.
    pub fn of<T: Copy>(&mut self, things: &[T]) -> T {
        things[self.below(things.len())]
    }

    /// True once in `count` times, never for the simplest gene.
    pub fn rarely(&mut self, count: usize) -> bool {
        self.below(count) == count - 1
    }

    /// More genes, for what one is too short for.
    pub fn genes(&mut self, count: usize) -> Vec<Gene> {
        let mut state = self.below(1 << 16) as u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as u16
        };
        (0..count).map(|_| std::array::from_fn(|_| next())).collect()
    }

    /// The size of a dim: odd ones, those around vector widths, 1 and rarely 0.
    pub fn size(&mut self) -> usize {
        self.of(&[2, 3, 1, 4, 5, 8, 16, 17, 7, 33, 6, 1, 0])
    }

    /// A shape of up to four dims.
    pub fn shape(&mut self) -> Vec<usize> {
        let rank = self.of(&[1, 2, 3, 0, 2, 4]);
        (0..rank).map(|_| self.size()).collect()
    }
}
