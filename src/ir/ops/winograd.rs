//! `winograd`: the linear transforms of Winograd's minimal filtering, for kernels of 3 × 3 that move by 1.
//!
//! Instead of 9 multiplications for an element of a convolution's result, a tile of m × m results takes (m + 2)² for all of them:
//! the tile's (m + 2) × (m + 2) inputs and the kernel are transformed, multiplied elementwise (over channels: a matrix product for each of the
//! (m + 2)² places) and transformed back. A kernel's gradient takes the same way back: by the adjoints of two of the transforms. After A. Lavin and S. Gray, Fast Algorithms for Convolutional Neural Networks, 2015.
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
    /// `[n, h, w, c]` with h = m · th + 2 and w = m · tw + 2 to `[n · th / s, (m + 2)², s · tw, c]`.
    Input,
    /// `[3, 3, c, f]`, or `[b, 3, 3, c, f / b]`, to `[b, (m + 2)², c, f / b]`.
    Kernel,
    /// `[b, n · th / s, (m + 2)², s · tw, f / b]` to `[n, m · th, m · tw, f]`.
    Output,
    /// The adjoint of that, for the gradient of a result: `[n, m · th, m · tw, f]` to `[n · th / s, (m + 2)², s · tw, f]`.
    OutputAdjoint,
    /// The adjoint of a kernel's, for p parts of its gradient: `[b, p, (m + 2)², c / b, f]` to `[b, p, 3, 3, c / b, f]`.
    KernelAdjoint,
}

/// One transform: a matrix applied along both axes of a tile.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Winograd {
    pub part: Part,
    /// m, the results of a tile along one axis: 2 or 4.
    pub tile: usize,
    /// `th` and `tw`, how many tiles there are along each axis; 1 and 1 for a kernel or its gradient.
    pub tiles: (usize, usize),
    /// s, the rows of tiles in a strip: a part of the rows of one sample, or all rows of some samples; 1 for a kernel or its gradient. Transformed tiles stand strip
    /// after strip, so that one can be multiplied and transformed back before the next one.
    pub strip: usize,
    /// b, into how many blocks filters, or the channels of a kernel's gradient, are cut, each with a transformed kernel and products of its own; 1 for an input and for the gradient of a result.
    pub blocks: usize,
}

const PARTS: [(&str, Part); 5] = [
    ("input", Part::Input),
    ("kernel", Part::Kernel),
    ("output", Part::Output),
    ("output_adjoint", Part::OutputAdjoint),
    ("kernel_adjoint", Part::KernelAdjoint),
];

/// Where the elements of a tile stand: from the first of the tile, how far apart along either axis.
#[derive(Clone, Copy, Debug)]
struct Steps {
    row: usize,
    column: usize,
}

/// The loops around what moves along a tile, outermost first: blocks, samples or strips of samples or parts of a kernel's gradient, strips of a sample or samples of a strip, rows of
/// tiles, tiles, channels of a kernel.
type Around = [usize; 6];

impl Winograd {
    /// The matrix that is applied along both axes of a tile.
    fn matrix(&self) -> Matrix {
        matrices::matrix(self.part, self.tile)
    }

    /// Places of a transformed tile, (m + 2)².
    pub fn places(tile: usize) -> usize {
        (tile + 2) * (tile + 2)
    }

    /// What moves along a tile: channels, or filters of a block.
    fn inner(&self, x: &TensorType) -> usize {
        let sizes = x.sizes().expect("sizes are concrete where tiles are counted");
        let last = *sizes.last().expect("every operand has axes");
        if self.part == Part::Kernel && !Winograd::is_in_blocks(x) { last / self.blocks } else { last }
    }

    /// Whether a kernel's blocks of filters stand one after the other.
    fn is_in_blocks(kernel: &TensorType) -> bool {
        kernel.shape.len() == 5
    }

    /// The extents of the loops around.
    fn around(&self, x: &TensorType) -> Around {
        let sizes = x.sizes().expect("sizes are concrete where tiles are counted");
        let (th, tw) = self.tiles;
        let (samples, channels) = match self.part {
            Part::Input | Part::OutputAdjoint => (sizes[0], 1),
            Part::Kernel => (1, sizes[sizes.len() - 2]),
            Part::Output => (sizes[1] * self.strip / th, 1),
            Part::KernelAdjoint => (sizes[1], sizes[3]),
        };
        match self.strip.checked_div(th) {
            Some(of_strip @ 1..) => [self.blocks, samples / of_strip, of_strip, th, tw, channels],
            _ => [self.blocks, samples, th / self.strip, self.strip, tw, channels],
        }
    }

    /// For the operand and the result: the elements of a tile, and how far a round of each loop around goes.
    fn layout(&self, x: &TensorType) -> [(Steps, Around); 2] {
        let ((th, tw), m, inner) = (self.tiles, self.tile, self.inner(x));
        let [_, samples, second, rows, _, channels] = self.around(x);
        let whole_samples = self.strip >= th;
        // A transformed tile has its places in planes of all tiles of its strip.
        let row = tw * channels * inner;
        let plane = self.strip * row;
        let strip = Winograd::places(m) * plane;
        let outer = if whole_samples { [strip, rows * row] } else { [second * strip, strip] };
        let planes_block = samples * if whole_samples { strip } else { second * strip };
        let planes = (Steps { row: (m + 2) * plane, column: plane }, [planes_block, outer[0], outer[1], row, inner, inner]);
        let all = inner * self.blocks;
        let image = |step: usize, rest: usize| {
            let row = (step * tw + rest) * all;
            let sample = (step * th + rest) * row;
            let outer = if whole_samples { [second * sample, sample] } else { [sample, rows * step * row] };
            (Steps { row, column: all }, [inner, outer[0], outer[1], step * row, step * all, 0])
        };
        // From block to block, and from channel to channel.
        let (block, wide) = match self.part {
            Part::KernelAdjoint => (9 * samples * channels * inner, inner),
            Part::Kernel if Winograd::is_in_blocks(x) => (9 * channels * inner, inner),
            _ => (inner, all),
        };
        let kernel = Steps { row: 3 * channels * wide, column: channels * wide };
        let kernel = (kernel, [block, 9 * channels * wide, 0, 0, 0, wide]);
        match self.part {
            Part::Input => [image(m, 2), planes],
            Part::Kernel => [kernel, planes],
            Part::Output => [planes, image(m, 0)],
            Part::OutputAdjoint => [image(m, 0), planes],
            Part::KernelAdjoint => [planes, kernel],
        }
    }

    /// The transform with `|M|` for its matrix: what bounds of rounding errors are made of.
    pub fn eval_magnitudes(&self, x: &Tensor, output: &TensorType) -> Tensor {
        self.apply(&self.matrix().map(f64::abs), x, output)
    }

    fn apply(&self, matrix: &Matrix, x: &Tensor, output: &TensorType) -> Tensor {
        let mut out = Tensor::filled(output.clone(), 0.0);
        let [(from, from_outer), (to, to_outer)] = self.layout(&x.ty);
        let inner = self.inner(&x.ty);
        for at in counted(self.around(&x.ty)) {
            let origin = |outer: Around| at.iter().zip(outer).map(|(at, step)| at * step).sum::<usize>();
            let (source, target) = (origin(from_outer), origin(to_outer));
            for [i, j, k] in counted([matrix.rows(), matrix.rows(), inner]) {
                let mut sum = 0.0;
                for [a, b] in counted([matrix.columns(), matrix.columns()]) {
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

/// All indices below some sizes, the last running fastest.
fn counted<const N: usize>(sizes: [usize; N]) -> impl Iterator<Item = [usize; N]> {
    (0..sizes.iter().product()).map(move |mut number| {
        let mut at = [0; N];
        for (at, size) in at.iter_mut().zip(sizes).rev() {
            *at = number % size;
            number /= size;
        }
        at
    })
}

impl OpDef for Winograd {
    const DOC: OpDoc = OpDoc {
        name: "winograd",
        summary: "a transform of tiles by which convolutions with kernels of 3 by 3 take fewer multiplications",
        shapes: "input: x[n, m th + 2, m tw + 2, c] -> [n th / s, (m + 2)^2, s tw, c]; kernel: [3, 3, c, f] or [b, 3, 3, c, f / b] -> [b, (m + 2)^2, c, f / b]; output: [b, n th / s, (m + 2)^2, s tw, f / b] -> [n, m th, m tw, f]; output_adjoint: [n, m th, m tw, f] -> [n th / s, (m + 2)^2, s tw, f]; kernel_adjoint: [b, p, (m + 2)^2, c / b, f] -> [b, p, 3, 3, c / b, f]",
        equation: "y[i, j] = the sum of M[i, a] * M[j, b] * x[a, b] over a and b, for each tile; M is B^T, G, A^T, A or G^T of F(m, 3)",
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
            ("strip", Attribute::dim(self.strip)),
            ("blocks", Attribute::dim(self.blocks)),
        ])
    }

    fn from_attributes(attributes: &Attributes) -> Result<Self, String> {
        let name = attributes.name("part")?;
        let part = PARTS.iter().find(|(n, _)| *n == name).ok_or_else(|| format!("`{name}` is no part of winograd"))?.1;
        let tile: usize = attributes.number("tile")?;
        let tiles: Vec<usize> = attributes.numbers("tiles")?;
        let (strip, blocks) = (attributes.number("strip")?, attributes.number("blocks")?);
        match (tile, tiles.as_slice()) {
            (2 | 4, [rows, columns]) if [*rows, *columns, strip, blocks].into_iter().all(in_range) => {
                Ok(Winograd { part, tile, tiles: (*rows, *columns), strip, blocks })
            }
            _ => Err("tiles of 2 or 4 results, so many along each of two axes, strips of some rows, some blocks".into()),
        }
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x] = expect_operands(inputs)?;
        let wrong = || TypeError::new(format!("{x} is not cut into {:?} tiles of {}", self.tiles, self.tile)).at([0]);
        if !x.dtype.is_float() {
            return Err(wrong());
        }
        let ((th, tw), strip) = (self.tiles, self.strip);
        let (places, of_strip) = (Dim::from(Winograd::places(self.tile)), Dim::from(strip * tw));
        let size = |tiles: usize, rest: usize| Dim::from(self.tile * tiles + rest);
        if !strip.is_multiple_of(th) && !th.is_multiple_of(strip) {
            return Err(wrong());
        }
        let scaled = |n: &Dim, by: usize, parts: usize| n.mul(&Dim::from(by))?.div_exact(&Dim::from(parts));
        let shape = match (self.part, x.shape.as_slice()) {
            (Part::Input, [n, h, w, c]) if *h == size(th, 2) && *w == size(tw, 2) && self.blocks == 1 => {
                vec![scaled(n, th, strip).ok_or_else(wrong)?, places, of_strip, c.clone()]
            }
            (Part::OutputAdjoint, [n, h, w, f]) if *h == size(th, 0) && *w == size(tw, 0) && self.blocks == 1 => {
                vec![scaled(n, th, strip).ok_or_else(wrong)?, places, of_strip, f.clone()]
            }
            (Part::KernelAdjoint, [b, p, k, c, f])
                if *k == places && b.is(self.blocks as i64) && self.tiles == (1, 1) && strip == 1 =>
            {
                vec![b.clone(), p.clone(), Dim::from(3usize), Dim::from(3usize), c.clone(), f.clone()]
            }
            (Part::Kernel, [h, w, c, f]) if h.is(3) && w.is(3) && self.tiles == (1, 1) && strip == 1 => {
                vec![Dim::from(self.blocks), places, c.clone(), f.div_exact(&Dim::from(self.blocks)).ok_or_else(wrong)?]
            }
            (Part::Kernel, [b, h, w, c, f])
                if b.is(self.blocks as i64) && h.is(3) && w.is(3) && self.tiles == (1, 1) && strip == 1 =>
            {
                vec![b.clone(), places, c.clone(), f.clone()]
            }
            (Part::Output, [b, n, k, p, f]) if *k == places && *p == of_strip && b.is(self.blocks as i64) => {
                let filters = f.mul(b).ok_or_else(wrong)?;
                vec![scaled(n, strip, th).ok_or_else(wrong)?, size(th, 0), size(tw, 0), filters]
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
        let sample = |part, tile, tiles, (strip, blocks), shape: &[usize]| Sample {
            op: Winograd { part, tile, tiles, strip, blocks },
            inputs: vec![sample::signed(shape, 1)],
        };
        let mut all = vec![
            sample(Part::Input, 2, (1, 3), (2, 1), &[2, 4, 8, 9]),
            sample(Part::Input, 2, (2, 1), (2, 1), &[3, 6, 4, 9]),
            sample(Part::Input, 4, (2, 1), (1, 1), &[1, 10, 6, 5]),
            sample(Part::Input, 2, (1, 1), (1, 1), &[0, 4, 4, 2]),
            sample(Part::Output, 2, (2, 1), (2, 1), &[1, 2, 16, 2, 3]),
            sample(Part::Output, 2, (2, 1), (1, 2), &[2, 4, 16, 1, 3]),
            sample(Part::Output, 2, (2, 1), (4, 1), &[1, 1, 16, 4, 3]),
            sample(Part::Output, 2, (1, 2), (2, 3), &[3, 2, 16, 4, 2]),
            sample(Part::Output, 4, (1, 2), (1, 1), &[1, 1, 36, 2, 17]),
            sample(Part::Output, 4, (1, 1), (3, 1), &[1, 1, 36, 3, 0]),
            sample(Part::Kernel, 2, (1, 1), (1, 2), &[3, 3, 2, 6]),
            sample(Part::Kernel, 2, (1, 1), (1, 2), &[2, 3, 3, 2, 3]),
            sample(Part::OutputAdjoint, 2, (1, 3), (2, 1), &[2, 2, 6, 9]),
            sample(Part::OutputAdjoint, 4, (2, 1), (1, 1), &[1, 8, 4, 5]),
            sample(Part::KernelAdjoint, 2, (1, 1), (1, 2), &[2, 1, 16, 2, 3]),
            sample(Part::KernelAdjoint, 4, (1, 1), (1, 1), &[1, 3, 36, 2, 5]),
        ];
        all.extend([2, 4].map(|tile| sample(Part::Kernel, tile, (1, 1), (1, 1), &[3, 3, 2, 5])));
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
        // Labels: places of the result, places of the operand, tiles or channels, what moves along, strips or parts, blocks.
        match self.part {
            Part::KernelAdjoint => {
                let [blocks, parts, _, channels, filters] = &x.shape[..] else { unreachable!("its type was inferred") };
                let shape = [blocks.clone(), parts.clone(), Dim::from(9usize), channels.clone(), filters.clone()];
                let cut = b.reshape(dy, &shape)?;
                b.contract((product, &[0, 1]), (cut, &[5, 4, 0, 2, 3]), &[5, 4, 1, 2, 3])
            }
            Part::Kernel if Winograd::is_in_blocks(x) => {
                let dx = b.contract((product, &[0, 1]), (dy, &[5, 0, 2, 3]), &[5, 1, 2, 3])?;
                b.reshape(dx, &x.shape)
            }
            Part::Kernel => {
                let dx = b.contract((product, &[0, 1]), (dy, &[5, 0, 2, 3]), &[1, 2, 5, 3])?;
                b.reshape(dx, &x.shape)
            }
            Part::Input | Part::OutputAdjoint => {
                let edge = Dim::from(if self.part == Part::Input { self.tile + 2 } else { self.tile });
                let dx = b.contract((product, &[0, 1]), (dy, &[4, 0, 2, 3]), &[4, 2, 1, 3])?;
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
                let (blocks, of_block) = (x.shape[0].clone(), x.shape[4].clone());
                let cut = b.reshape(dy, &[shape[0].clone(), th, m.clone(), tw, m, blocks.clone(), of_block.clone()])?;
                let tiles = b.transpose(cut, &[2, 4, 5, 0, 1, 3, 6])?;
                let places = Dim::from(self.tile * self.tile);
                let tiles = b.reshape(tiles, &[places, blocks, x.shape[1].clone(), x.shape[3].clone(), of_block])?;
                b.contract((product, &[0, 1]), (tiles, &[0, 5, 4, 2, 3]), &[5, 4, 1, 2, 3])
            }
        }
    }
}
