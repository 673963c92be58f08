//! `winograd`: the three linear transforms of Winograd's minimal filtering, for kernels of 3 × 3 that move by 1.
//!
//! Instead of 9 multiplications for an element of a convolution's result, a tile of m × m results takes (m + 2)² for all of them:
//! the tile's (m + 2) × (m + 2) inputs and the kernel are transformed, multiplied elementwise (over channels: a matrix product for each of the
//! (m + 2)² places) and transformed back. After A. Lavin and S. Gray, Fast Algorithms for Convolutional Neural Networks, 2015.
//! The pass `expand_convolutions` puts them in where they pay; the language does not reach them.

use super::*;
use crate::ir::dim::Dim;
use crate::ir::scalar::ScalarFunction;
use crate::ir::types::DType;

mod lower;
mod matrices;

use matrices::Matrix;

/// What is transformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// `[n, h, w, c]` with h = m · th + 2 and w = m · tw + 2 to `[(m + 2)², n · th · tw, c]`.
    Input,
    /// `[3, 3, c, f]` to `[(m + 2)², c, f]`.
    Kernel,
    /// `[(m + 2)², n · th · tw, f]` to `[n, m · th, m · tw, f]`.
    Output,
}

/// One transform: a matrix applied along both axes of a tile.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Winograd {
    pub part: Part,
    /// m, the results of a tile along one axis: 2 or 4.
    pub tile: usize,
    /// `th` and `tw`, how many tiles there are along each axis; 1 and 1 for a kernel.
    pub tiles: (usize, usize),
}

const PARTS: [(&str, Part); 3] = [("input", Part::Input), ("kernel", Part::Kernel), ("output", Part::Output)];

/// Where the elements of a tile stand: from the first of the tile, how far apart along either axis.
#[derive(Clone, Copy, Debug)]
struct Steps {
    row: usize,
    column: usize,
}

/// The sizes that a transform runs over.
struct Extents {
    /// Samples; 1 for a kernel.
    samples: usize,
    /// What moves along: channels, filters, or both.
    inner: usize,
}

impl Winograd {
    /// The matrix that is applied along both axes of a tile.
    fn matrix(&self) -> Matrix {
        matrices::matrix(self.part, self.tile)
    }

    /// Places of a transformed tile, (m + 2)².
    pub fn places(tile: usize) -> usize {
        (tile + 2) * (tile + 2)
    }

    fn extents(&self, x: &TensorType) -> Extents {
        let sizes = x.sizes().expect("sizes are concrete where tiles are counted");
        match self.part {
            Part::Input => Extents { samples: sizes[0], inner: sizes[3] },
            Part::Kernel => Extents { samples: 1, inner: sizes[2] * sizes[3] },
            Part::Output => Extents { samples: sizes[1] / (self.tiles.0 * self.tiles.1).max(1), inner: sizes[2] },
        }
    }

    /// For the operand and the result: the elements of a tile, and from one sample, row of tiles and tile to the next.
    fn layout(&self, e: &Extents) -> [(Steps, [usize; 3]); 2] {
        let ((th, tw), m, inner) = (self.tiles, self.tile, e.inner);
        // A transformed tile has its places in planes of all tiles.
        let plane = e.samples * th * tw * inner;
        let planes = (Steps { row: (m + 2) * plane, column: plane }, [th * tw * inner, tw * inner, inner]);
        let image = |step: usize, rest: usize| {
            let row = (step * tw + rest) * inner;
            (Steps { row, column: inner }, [(step * th + rest) * row, step * row, step * inner])
        };
        match self.part {
            Part::Input => [image(m, 2), planes],
            Part::Kernel => [(Steps { row: 3 * inner, column: inner }, [0; 3]), planes],
            Part::Output => [planes, image(m, 0)],
        }
    }

    /// The transform with `|M|` for its matrix: what bounds of rounding errors are made of.
    pub fn eval_magnitudes(&self, x: &Tensor, output: &TensorType) -> Tensor {
        self.apply(&self.matrix().map(f64::abs), x, output)
    }

    fn apply(&self, matrix: &Matrix, x: &Tensor, output: &TensorType) -> Tensor {
        let mut out = Tensor::filled(output.clone(), 0.0);
        let extents = self.extents(&x.ty);
        let [(from, from_outer), (to, to_outer)] = self.layout(&extents);
        for [sample, row, column] in counted([extents.samples, self.tiles.0, self.tiles.1]) {
            let origin = |outer: [usize; 3]| sample * outer[0] + row * outer[1] + column * outer[2];
            let (source, target) = (origin(from_outer), origin(to_outer));
            for [i, j, k] in counted([matrix.rows(), matrix.rows(), extents.inner]) {
                let mut sum = 0.0;
                for [a, b, _] in counted([matrix.columns(), matrix.columns(), 1]) {
                    let factor = matrix.at(i, a) * matrix.at(j, b);
                    if factor != 0.0 {
                        sum += factor * x.data[source + a * from.row + b * from.column + k];
                    }
                }
                out.data[target + i * to.row + j * to.column + k] = ScalarFunction::Add.eval(output.dtype, &[sum, 0.0]);
            }
        }
        out
    }

    /// `M ⊗ M`, or transposed, as a tensor of the dtype.
    fn product(&self, b: &mut GraphBuilder, dtype: DType) -> ValueId {
        let matrix = self.matrix();
        let (rows, columns) = (matrix.rows(), matrix.columns());
        let values = counted([rows, rows, columns * columns])
            .map(|[i, j, at]| (matrix.at(i, at / columns) * matrix.at(j, at % columns)).to_bits());
        b.emit(literal::Literal { values: values.collect(), dtype, shape: vec![rows * rows, columns * columns] }, &[])
    }
}

/// All indices below three sizes, the last running fastest.
fn counted(sizes: [usize; 3]) -> impl Iterator<Item = [usize; 3]> {
    let [a, b, c] = sizes;
    (0..a).flat_map(move |i| (0..b).flat_map(move |j| (0..c).map(move |k| [i, j, k])))
}

impl OpDef for Winograd {
    const DOC: OpDoc = OpDoc {
        name: "winograd",
        summary: "a transform of tiles by which convolutions with kernels of 3 by 3 take fewer multiplications",
        shapes: "input: x[n, m th + 2, m tw + 2, c] -> [(m + 2)^2, n th tw, c]; kernel: [3, 3, c, f] -> [(m + 2)^2, c, f]; output: [(m + 2)^2, n th tw, f] -> [n, m th, m tw, f]",
        equation: "y[i, j] = the sum of M[i, a] * M[j, b] * x[a, b] over a and b, for each tile; M is B^T, G or A^T of F(m, 3)",
        derivative: "dx = the same with M transposed, overlapping inputs added up",
        dtypes: "floats",
        error: "a sum of at most 5 terms along each axis, in each step rounded: at most 12 units in the last place of the sum of the magnitudes",
    };

    fn attributes(&self) -> Attributes {
        let part = PARTS.iter().find(|(_, p)| *p == self.part).expect("every part has a name").0;
        Attributes::new([
            ("part", Attribute::Name(part.to_owned())),
            ("tile", Attribute::dim(self.tile)),
            ("tiles", Attribute::dims([self.tiles.0, self.tiles.1])),
        ])
    }

    fn from_attributes(attributes: &Attributes) -> Result<Self, String> {
        let name = attributes.name("part")?;
        let part = PARTS.iter().find(|(n, _)| *n == name).ok_or_else(|| format!("`{name}` is no part of winograd"))?.1;
        let tile: usize = attributes.number("tile")?;
        let tiles: Vec<usize> = attributes.numbers("tiles")?;
        match (tile, tiles.as_slice()) {
            (2 | 4, [rows, columns]) if in_range(*rows) && in_range(*columns) => {
                Ok(Winograd { part, tile, tiles: (*rows, *columns) })
            }
            _ => Err("tiles of 2 or 4 results, so many along each of two axes".into()),
        }
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x] = expect_operands(inputs)?;
        let wrong = || TypeError::new(format!("{x} is not cut into {:?} tiles of {}", self.tiles, self.tile)).at([0]);
        if !x.dtype.is_float() {
            return Err(wrong());
        }
        let (th, tw) = self.tiles;
        let (count, places) = (Dim::from(th * tw), Dim::from(Winograd::places(self.tile)));
        let size = |tiles: usize, rest: usize| Dim::from(self.tile * tiles + rest);
        let shape = match (self.part, x.shape.as_slice()) {
            (Part::Input, [n, h, w, c]) if *h == size(th, 2) && *w == size(tw, 2) => {
                vec![places, n.mul(&count).ok_or_else(wrong)?, c.clone()]
            }
            (Part::Kernel, [h, w, c, f]) if h.is(3) && w.is(3) && self.tiles == (1, 1) => {
                vec![places, c.clone(), f.clone()]
            }
            (Part::Output, [k, p, f]) if *k == places => {
                vec![p.div_exact(&count).ok_or_else(wrong)?, size(th, 0), size(tw, 0), f.clone()]
            }
            _ => return Err(wrong()),
        };
        Ok(vec![TensorType { dtype: x.dtype, shape }])
    }

    fn eval(&self, inputs: &[&Tensor], outputs: &[TensorType]) -> Vec<Tensor> {
        vec![self.apply(&self.matrix(), inputs[0], &outputs[0])]
    }

    /// By the dense matrix `M ⊗ M`: nothing differentiates what the pass puts in, so this is plain instead of fast.
    fn vjp(&self, cx: &mut VjpContext<'_>) -> Result<Vec<Option<ValueId>>, NotDifferentiable> {
        let (gradient, ty) = (cx.gradient(), cx.builder.type_of(cx.inputs[0]).clone());
        self.transposed(cx.builder, gradient, &ty)
            .map(|dx| vec![Some(dx)])
            .map_err(|e| NotDifferentiable(e.message))
    }

    fn access(&self, _: &[TensorType], _: &[TensorType]) -> Access {
        Access::Opaque
    }

    fn lower(&self, cx: &mut LowerContext<'_, '_>) -> Vec<Value> {
        lower::write(self, cx);
        Vec::new()
    }

    fn primitives() -> Vec<Primitive> {
        Vec::new()
    }

    fn samples() -> Vec<Sample<Self>> {
        let sample = |part, tile, tiles, shape: &[usize]| Sample {
            op: Winograd { part, tile, tiles },
            inputs: vec![sample::signed(shape, 1)],
        };
        let mut all = vec![
            sample(Part::Input, 2, (1, 3), &[2, 4, 8, 9]),
            sample(Part::Input, 4, (2, 1), &[1, 10, 6, 5]),
            sample(Part::Input, 2, (1, 1), &[0, 4, 4, 2]),
            sample(Part::Output, 2, (2, 1), &[16, 4, 3]),
            sample(Part::Output, 4, (1, 2), &[36, 2, 17]),
            sample(Part::Output, 4, (1, 1), &[36, 3, 0]),
        ];
        all.extend([2, 4].map(|tile| sample(Part::Kernel, tile, (1, 1), &[3, 3, 2, 5])));
        all
    }
}

fn in_range(tiles: usize) -> bool {
    (1..1 << 20).contains(&tiles)
}

impl Winograd {
    /// The transform with the matrix transposed, of a gradient of the result: a gradient of the operand, which has the type `x`.
    fn transposed(&self, b: &mut GraphBuilder, dy: ValueId, x: &TensorType) -> Result<ValueId, TypeError> {
        let product = self.product(b, x.dtype);
        let (th, tw) = (Dim::from(self.tiles.0), Dim::from(self.tiles.1));
        let m = Dim::from(self.tile);
        let edge = Dim::from(self.tile + 2);
        // Labels: places of the result, places of the operand, tiles, what moves along.
        match self.part {
            Part::Kernel => {
                let dx = b.contract((product, &[0, 1]), (dy, &[0, 2, 3]), &[1, 2, 3])?;
                b.reshape(dx, &x.shape)
            }
            Part::Input => {
                let dx = b.contract((product, &[0, 1]), (dy, &[0, 2, 3]), &[2, 1, 3])?;
                let windows = [x.shape[0].clone(), th, tw, edge.clone(), edge, x.shape[3].clone()];
                let windows = b.reshape(dx, &windows)?;
                let back = overlap_add::OverlapAdd {
                    axes: vec![1, 2],
                    sizes: x.shape[1..3].to_vec(),
                    strides: vec![self.tile; 2],
                    dilations: vec![1; 2],
                };
                b.add_one(back, &[windows])
            }
            Part::Output => {
                let shape = b.shape_of(dy);
                let cut = b.reshape(dy, &[shape[0].clone(), th, m.clone(), tw, m, shape[3].clone()])?;
                let tiles = b.transpose(cut, &[2, 4, 0, 1, 3, 5])?;
                let places = Dim::from(self.tile * self.tile);
                let tiles = b.reshape(tiles, &[places, x.shape[1].clone(), x.shape[2].clone()])?;
                b.contract((product, &[0, 1]), (tiles, &[0, 2, 3]), &[1, 2, 3])
            }
        }
    }
}
