//! `convolve`: cross-correlation in any number of dims, channels last. The input's gradient is a convolution too.
//!
//! Convolutions live in the graph until they have been differentiated; the pass `expand_convolutions` then makes contractions of windows.

use super::*;
use crate::ir::dim::Dim;
use crate::ir::scalar::ScalarFunction;
use crate::ir::tensor::indices;
use crate::ir::types::DType;
use spatial::Geometry;

mod primitives;

/// Input `[n, spatial.., c]`, kernel `[spatial.., c / groups, filters]`, result `[n, spatial.., filters]`.
///
/// The zeros around the input and in its gaps are numbers like others: times an infinity they are NaN.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Convolve {
    pub geometry: Geometry,
}

/// The spatial sizes of a kernel of type `w`, which are numbers.
///
/// # Errors
/// A size is symbolic.
pub fn kernel_sizes(w: &TensorType, rank: usize) -> Result<Vec<usize>, TypeError> {
    let sizes = w.shape.iter().take(rank).map(|d| d.constant().and_then(|n| usize::try_from(n).ok()));
    let unknown = || TypeError::new(format!("the sizes of a kernel are numbers, found {w}")).at([1]);
    sizes.collect::<Option<_>>().ok_or_else(unknown)
}

impl Convolve {
    /// The type of the result; channels, groups and sizes are checked one after the other.
    fn result(&self, x: &TensorType, w: &TensorType) -> Result<TensorType, TypeError> {
        let (rank, groups) = (self.geometry.rank(), self.geometry.groups);
        if x.rank() != rank + 2 || w.rank() != rank + 2 {
            return Err(TypeError::new(format!("the convolution of {x} with {w}: both need {} dims", rank + 2))
                .note("the input is [n, spatial.., channels], the kernel [spatial.., channels, filters]")
                .at([0, 1]));
        }
        if x.dtype != w.dtype || x.dtype == DType::Bool {
            let text = format!("the convolution of {x} with {w}: the dtypes must be one number type");
            return Err(TypeError::new(text).at([0, 1]));
        }
        let (channels, own, filters) = (&x.shape[rank + 1], &w.shape[rank], &w.shape[rank + 1]);
        let divided = |d: &Dim| groups == 1 || d.div_exact(&Dim::from(groups)).is_some();
        if !divided(channels) || !divided(filters) {
            let (what, count) = if divided(channels) { ("filters", filters) } else { ("channels", channels) };
            return Err(TypeError::new(format!("{count} {what} do not divide into {groups} groups")).at([0, 1]));
        }
        if own.mul(&Dim::from(groups)).as_ref() != Some(channels) {
            let grouped = if groups == 1 { String::new() } else { format!(" in each of {groups} groups") };
            let text = format!("the input has {channels} channels, the kernel takes {own}{grouped}");
            return Err(TypeError::new(text).note(format!("the input is {x}, the kernel {w}")).at([0, 1]));
        }
        let sizes = kernel_sizes(w, rank)?;
        let spatial = self.geometry.output(&x.shape[1..=rank], &sizes)?;
        let shape = std::iter::once(x.shape[0].clone()).chain(spatial).chain([filters.clone()]).collect();
        Ok(TensorType { dtype: x.dtype.storage(), shape })
    }
}

/// Where the first channel of an input of these sizes is that `place`, which begins with the sample, and `offset` in the kernel meet;
/// `None` where there is a zero.
pub fn input_place(g: &Geometry, place: &[usize], offset: &[usize], sizes: &[usize]) -> Option<usize> {
    let mut origin = place[0];
    for a in 0..g.rank() {
        let at = (place[a + 1] * g.strides[a] + offset[a] * g.dilations[a]) as i64 - g.low[a];
        let gap = g.input_dilations[a] as i64;
        let index = usize::try_from(at / gap).ok().filter(|i| at >= 0 && at % gap == 0 && *i < sizes[a + 1])?;
        origin = origin * sizes[a + 1] + index;
    }
    Some(origin * sizes[g.rank() + 1])
}

/// What the input's gradient is for the gradient `dy` of the result: the convolution of `dy`, spread by the strides, with the kernel
/// turned round and its channels and filters exchanged.
///
/// # Errors
/// A border that depends on a symbolic size.
pub fn input_gradient(
    b: &mut GraphBuilder,
    geometry: &Geometry,
    input: &[Dim],
    w: ValueId,
    dy: ValueId,
) -> Result<ValueId, TypeError> {
    let rank = geometry.rank();
    let sizes = kernel_sizes(b.type_of(w), rank)?;
    let output = b.shape_of(dy)[1..=rank].to_vec();
    let turned = geometry.transposed(&input[1..=rank], &output, &sizes);
    let turned = turned.ok_or_else(|| TypeError::new("a border of a convolution depends on a symbolic size"))?;
    let kernel = turn(b, w, rank, geometry.groups)?;
    b.add_one(Convolve { geometry: turned }, &[dy, kernel])
}

/// The kernel `[k.., c / g, g · f]` backwards along its spatial axes, as `[k.., f, g · c / g]`.
fn turn(b: &mut GraphBuilder, w: ValueId, rank: usize, groups: usize) -> Result<ValueId, TypeError> {
    let shape = b.shape_of(w);
    let axes: Vec<usize> = (0..rank).filter(|a| !shape[*a].is(1)).collect();
    let reversed = slice::Slice::reversed(&shape, &axes).ok_or_else(|| TypeError::new("a size is too large"))?;
    let backwards = if axes.is_empty() { w } else { b.add_one(reversed, &[w])? };
    let spatial: Vec<usize> = (0..rank).collect();
    if groups == 1 {
        return b.transpose(backwards, &[&spatial[..], &[rank + 1, rank]].concat());
    }
    let (own, groups) = (&shape[rank], Dim::from(groups));
    let filters = shape[rank + 1].div_exact(&groups).ok_or_else(|| TypeError::new("filters do not divide"))?;
    let channels = own.mul(&groups).ok_or_else(|| TypeError::new("a size is too large"))?;
    let split = [&shape[..rank], &[own.clone(), groups, filters.clone()]].concat();
    let cut = b.reshape(backwards, &split)?;
    let exchanged = b.transpose(cut, &[&spatial[..], &[rank + 2, rank + 1, rank]].concat())?;
    b.reshape(exchanged, &[&shape[..rank], &[filters, channels]].concat())
}

impl OpDef for Convolve {
    const DOC: OpDoc = OpDoc {
        name: "convolve",
        summary: "the cross-correlation of [n, spatial.., c] with a kernel [spatial.., c / groups, filters]",
        shapes: "x[n, spatial.., c], w[k.., c / groups, f] -> [n, o.., f]",
        equation: "y[n, o, f] = the sum of x[n, o * stride + k * dilation - low, c] * w[k, c, f] over k and the channels c of f's group",
        derivative: "dx = convolve(dy, w turned round), dw = convolve_kernel(x, dy)",
        dtypes: "numbers, the same for both",
        error: "as `contract`, over k and then the channels",
    };

    fn attributes(&self) -> Attributes {
        self.geometry.attributes()
    }

    fn from_attributes(attributes: &Attributes) -> Result<Self, String> {
        Ok(Convolve { geometry: Geometry::from_attributes(attributes)? })
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x, w] = expect_operands(inputs)?;
        Ok(vec![self.result(x, w)?])
    }

    fn eval(&self, inputs: &[&Tensor], outputs: &[TensorType]) -> Vec<Tensor> {
        let (x, w, rank) = (inputs[0], inputs[1], self.geometry.rank());
        let (from, kernel) = (x.sizes(), w.sizes());
        let (own, filters) = (kernel[rank], kernel[rank + 1] / self.geometry.groups);
        let offsets: Vec<Vec<usize>> = indices(&kernel[..rank]).collect();
        let element = |index: &[usize]| {
            let filter = index[rank + 1];
            let group = filter / filters * own;
            let mut sum = 0.0;
            for (number, offset) in offsets.iter().enumerate() {
                let origin = input_place(&self.geometry, &index[..=rank], offset, &from);
                for c in 0..own {
                    let value = origin.map_or(0.0, |origin| x.data[origin + group + c]);
                    let weight = w.data[(number * own + c) * kernel[rank + 1] + filter];
                    sum = ScalarFunction::Fma.eval(x.ty.dtype, &[value, weight, sum]);
                }
            }
            sum
        };
        vec![Tensor::from_fn(outputs[0].clone(), element)]
    }

    fn vjp(&self, cx: &mut VjpContext<'_>) -> Result<Vec<Option<ValueId>>, NotDifferentiable> {
        let (gradient, x, w) = (cx.gradient(), cx.inputs[0], cx.inputs[1]);
        let (input, kernel) = (cx.builder.shape_of(x), cx.builder.type_of(w).clone());
        let failed = |e: TypeError| NotDifferentiable(e.message);
        let dx = cx.wanted[0].then(|| input_gradient(cx.builder, &self.geometry, &input, w, gradient));
        let sizes = kernel_sizes(&kernel, self.geometry.rank()).map_err(failed)?;
        let adjoint = convolve_kernel::ConvolveKernel { geometry: self.geometry.clone(), sizes };
        let dw = cx.wanted[1].then(|| cx.builder.emit(adjoint, &[x, gradient]));
        Ok(vec![dx.transpose().map_err(failed)?, dw])
    }

    fn access(&self, _: &[TensorType], _: &[TensorType]) -> Access {
        Access::Opaque
    }

    fn lower(&self, _: &mut LowerContext<'_, '_>) -> Vec<Value> {
        unreachable!("convolutions are contractions before lowering")
    }

    fn primitives() -> Vec<Primitive> {
        primitives::all()
    }

    fn samples() -> Vec<Sample<Self>> {
        let floats = samples().into_iter().map(|(geometry, x, w)| Sample {
            op: Convolve { geometry },
            inputs: vec![sample::signed(&x, 1), sample::signed(&w, 2)],
        });
        let whole = |shape: &[usize], seed| sample::whole(DType::I32, shape, -9, 9, seed);
        let integers = Sample {
            op: Convolve { geometry: Geometry::plain(1) },
            inputs: vec![whole(&[2, 6, 3], 1), whole(&[2, 3, 2], 2)],
        };
        floats.chain([integers]).collect()
    }
}

/// Geometries with the shapes of an input and a kernel, for this op's tests and those of `convolve_kernel`.
pub fn samples() -> Vec<(Geometry, Vec<usize>, Vec<usize>)> {
    let plain = Geometry::plain;
    let mut all: Vec<(Geometry, &[usize], &[usize])> = vec![
        (plain(1), &[2, 7, 3], &[3, 3, 4]),
        (plain(1), &[1, 1, 1], &[1, 1, 1]),
        (plain(1), &[0, 5, 2], &[3, 2, 3]),
        (plain(2), &[2, 5, 6, 3], &[3, 2, 3, 5]),
        (plain(2), &[3, 4, 4, 2], &[1, 1, 2, 3]),
        (plain(2), &[1, 3, 3, 2], &[3, 3, 2, 1]),
        (plain(3), &[1, 3, 4, 3, 2], &[2, 2, 2, 2, 3]),
    ];
    let same = Geometry { low: vec![1, 0], high: vec![1, 1], ..plain(2) };
    all.push((same, &[2, 5, 4, 2], &[3, 2, 2, 3]));
    let full = Geometry { low: vec![2, 2], high: vec![2, 2], ..plain(2) };
    all.push((full, &[1, 2, 2, 2], &[3, 3, 2, 2]));
    all.push((Geometry { strides: vec![2], low: vec![1], high: vec![2], ..plain(1) }, &[2, 8, 2], &[3, 2, 3]));
    all.push((Geometry { strides: vec![2, 3], ..plain(2) }, &[2, 7, 8, 2], &[3, 3, 2, 3]));
    all.push((Geometry { strides: vec![3, 1], ..plain(2) }, &[1, 8, 3, 1], &[2, 2, 1, 2]));
    all.push((Geometry { dilations: vec![2, 1], ..plain(2) }, &[1, 6, 5, 2], &[3, 2, 2, 2]));
    all.push((Geometry { dilations: vec![3], strides: vec![2], ..plain(1) }, &[1, 11, 2], &[3, 2, 2]));
    all.push((Geometry { input_dilations: vec![2], low: vec![2], high: vec![1], ..plain(1) }, &[2, 5, 2], &[3, 2, 2]));
    let spread =
        Geometry { input_dilations: vec![3, 2], strides: vec![2, 1], low: vec![1, 0], high: vec![0, 3], ..plain(2) };
    all.push((spread, &[1, 3, 4, 2], &[2, 3, 2, 2]));
    all.push((Geometry { low: vec![-1, 2], high: vec![0, -2], ..plain(2) }, &[1, 6, 5, 2], &[2, 2, 2, 2]));
    let cut = Geometry { low: vec![-3], high: vec![-1], input_dilations: vec![2], ..plain(1) };
    all.push((cut, &[2, 6, 2], &[2, 2, 3]));
    all.push((Geometry { low: vec![2], high: vec![2], ..plain(1) }, &[1, 2, 2], &[5, 2, 2]));
    all.push((Geometry { groups: 2, ..plain(2) }, &[2, 4, 4, 4], &[2, 2, 2, 6]));
    all.push((
        Geometry { groups: 3, strides: vec![2], low: vec![1], high: vec![1], ..plain(1) },
        &[2, 7, 3],
        &[3, 1, 3],
    ));
    all.push((Geometry { groups: 4, low: vec![1, 1], high: vec![1, 1], ..plain(2) }, &[1, 4, 3, 4], &[3, 3, 1, 4]));
    all.push((Geometry { groups: 2, ..plain(2) }, &[1, 3, 3, 2], &[2, 2, 1, 6]));
    all.into_iter().map(|(g, x, w)| (g, x.to_vec(), w.to_vec())).collect()
}
