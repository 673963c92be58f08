//! The matrices of F(2, 3), for the points 0, 1, -1 and infinity, and of F(4, 3).

use super::Part;

/// A small dense matrix.
#[derive(Clone, Debug)]
pub struct Matrix(Vec<Vec<f64>>);

impl Matrix {
    fn of<const R: usize, const C: usize>(rows: [[f64; C]; R]) -> Matrix {
        Matrix(rows.iter().map(|row| row.to_vec()).collect())
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.0.len()
    }

    /// The number of columns.
    pub fn columns(&self) -> usize {
        self.0[0].len()
    }

    /// An element.
    pub fn at(&self, row: usize, column: usize) -> f64 {
        self.0[row][column]
    }

    fn transposed(&self) -> Matrix {
        Matrix((0..self.columns()).map(|c| (0..self.rows()).map(|r| self.at(r, c)).collect()).collect())
    }

    /// The matrix with `f` applied to each element.
    pub fn map(&self, f: impl Fn(f64) -> f64) -> Matrix {
        Matrix(self.0.iter().map(|row| row.iter().map(|v| f(*v)).collect()).collect())
    }

    /// Whether two rows differ in signs alone, some of which do differ.
    pub fn rows_are_mirrored(&self, a: usize, b: usize) -> bool {
        mirrored((0..self.columns()).map(|c| (self.at(a, c), self.at(b, c))))
    }

    /// Whether two columns differ in signs alone, some of which do differ.
    pub fn columns_are_mirrored(&self, a: usize, b: usize) -> bool {
        mirrored((0..self.rows()).map(|r| (self.at(r, a), self.at(r, b))))
    }
}

fn mirrored(pairs: impl Iterator<Item = (f64, f64)>) -> bool {
    let pairs: Vec<(f64, f64)> = pairs.collect();
    let (same, turned) = (|p: &(f64, f64)| p.0 == p.1, |p: &(f64, f64)| p.0 == -p.1);
    pairs.iter().all(|p| same(p) || turned(p)) && pairs.iter().any(|p| !same(p)) && pairs.iter().any(|p| !turned(p))
}

/// Beside 0 and infinity, the points of F(4, 3) are these and their negatives. With 1 and 2, as Lavin and Gray have it, the largest error is four times as large
/// and the mean one twice; among pairs of small fractions these are near the best. All numbers made of them but the kernel's are exact.
const POINTS: (f64, f64) = (0.625, 1.5);

/// The matrix of a part for tiles of `tile` results: Bᵀ, G, Aᵀ, A or Gᵀ.
pub fn matrix(part: Part, tile: usize) -> Matrix {
    let (a, b) = POINTS;
    let (aa, bb) = (a * a, b * b);
    match (part, tile) {
        (Part::OutputAdjoint, _) => matrix(Part::Output, tile).transposed(),
        (Part::KernelAdjoint, _) => matrix(Part::Kernel, tile).transposed(),
        (Part::Input, 2) => Matrix::of([[1.0, 0.0, -1.0, 0.0], [0.0, 1.0, 1.0, 0.0], [0.0, -1.0, 1.0, 0.0], [0.0, 1.0, 0.0, -1.0]]),
        (Part::Kernel, 2) => Matrix::of([[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]]),
        (Part::Output, 2) => Matrix::of([[1.0, 1.0, 1.0, 0.0], [0.0, 1.0, -1.0, -1.0]]),
        // A row for each point: the coefficients of the product of (x - p) over the other points; for infinity over all of them.
        (Part::Input, _) => Matrix::of([
            [aa * bb, 0.0, -(aa + bb), 0.0, 1.0, 0.0],
            [0.0, -a * bb, -bb, a, 1.0, 0.0],
            [0.0, a * bb, -bb, -a, 1.0, 0.0],
            [0.0, -b * aa, -aa, b, 1.0, 0.0],
            [0.0, b * aa, -aa, -b, 1.0, 0.0],
            [0.0, aa * bb, 0.0, -(aa + bb), 0.0, 1.0],
        ]),
        // Powers of each point, divided by that product at the point itself.
        (Part::Kernel, _) => {
            let (at_a, at_b) = (2.0 * aa * (aa - bb), 2.0 * bb * (bb - aa));
            Matrix::of([
                [1.0 / (aa * bb), 0.0, 0.0],
                [1.0 / at_a, a / at_a, aa / at_a],
                [1.0 / at_a, -a / at_a, aa / at_a],
                [1.0 / at_b, b / at_b, bb / at_b],
                [1.0 / at_b, -b / at_b, bb / at_b],
                [0.0, 0.0, 1.0],
            ])
        }
        // Powers of the points as columns.
        (Part::Output, _) => Matrix::of([
            [1.0, 1.0, 1.0, 1.0, 1.0, 0.0],
            [0.0, a, -a, b, -b, 0.0],
            [0.0, aa, aa, bb, bb, 0.0],
            [0.0, a * aa, -a * aa, b * bb, -b * bb, 1.0],
        ]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Aᵀ ((G g) ∘ (Bᵀ d)) is the convolution of d with g, in one dimension.
    #[test]
    fn the_matrices_make_a_convolution() {
        for tile in [2, 4] {
            let apply = |part: Part, x: &[f64]| -> Vec<f64> {
                let m = matrix(part, tile);
                (0..m.rows()).map(|r| (0..m.columns()).map(|c| m.at(r, c) * x[c]).sum()).collect()
            };
            let kernel = [0.3, -1.7, 2.1];
            let data: Vec<f64> = (0..tile + 2).map(|i| (i * i) as f64 * 0.37 - 1.1).collect();
            let products: Vec<f64> =
                apply(Part::Kernel, &kernel).iter().zip(apply(Part::Input, &data)).map(|(u, v)| u * v).collect();
            for (i, y) in apply(Part::Output, &products).iter().enumerate() {
                let direct: f64 = (0..3).map(|k| kernel[k] * data[i + k]).sum();
                assert!((y - direct).abs() < 1e-12, "{tile}: {y} is not {direct}");
            }
        }
    }
}
