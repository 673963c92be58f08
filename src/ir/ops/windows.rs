//! `windows`: the elements under a window at each of its places, as a view; pooling is a fold over it.

use super::*;
use crate::ir::dim::Dim;
use crate::ir::types::DType;
use spatial::{extent, places};

mod primitives;

/// Each of `axes` (ascending) becomes the axis of the window's places; the axes within the window follow the last of them, in order.
///
/// `[n, h, w, c]` with `axes = [1, 2]` becomes `[n, oh, ow, kh, kw, c]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Windows {
    pub axes: Vec<usize>,
    /// Elements of the window along each axis.
    pub sizes: Vec<usize>,
    /// From one place to the next.
    pub strides: Vec<usize>,
    /// From one element of the window to the next.
    pub dilations: Vec<usize>,
}

impl Windows {
    /// The axis of the result that counts within the window, for entry `i` of `axes`.
    pub fn inner_axis(axes: &[usize], i: usize) -> usize {
        axes.last().map_or(0, |last| last + 1) + i
    }

    /// The axis of the result where axis `axis` of the operand is.
    pub fn outer_axis(axes: &[usize], axis: usize) -> usize {
        if axes.last().is_some_and(|last| axis > *last) { axis + axes.len() } else { axis }
    }

    /// The operand's indices for an index of the result.
    fn map(&self, rank: usize) -> IndexMap {
        let mut map = IndexMap((0..rank).map(|a| IndexExpression::axis(Windows::outer_axis(&self.axes, a))).collect());
        for (i, axis) in self.axes.iter().enumerate() {
            let inner = Windows::inner_axis(&self.axes, i);
            map.0[*axis].terms = vec![(*axis, self.strides[i] as i64), (inner, self.dilations[i] as i64)];
        }
        map
    }

    /// The shape of the result.
    ///
    /// # Errors
    /// A window does not fit, or the number of its places is no dim.
    pub fn shape(&self, x: &[Dim]) -> Result<Vec<Dim>, TypeError> {
        let mut shape = x.to_vec();
        for (i, axis) in self.axes.iter().enumerate() {
            let reach = extent(self.sizes[i], self.dilations[i]);
            shape[*axis] = places(&x[*axis], reach, self.strides[i]).map_err(|e| e.at([0]))?;
            shape.insert(Windows::inner_axis(&self.axes, i), Dim::from(self.sizes[i]));
        }
        Ok(shape)
    }
}

/// Whether axes are ascending and below `rank`, and each has a size, a stride and a dilation in range.
pub fn fits(axes: &[usize], rank: usize, lists: [&[usize]; 3]) -> bool {
    let ascending = axes.windows(2).all(|p| p[0] < p[1]) && axes.last().is_some_and(|a| *a < rank);
    ascending && lists.iter().all(|l| l.len() == axes.len() && spatial::in_range(l))
}

impl OpDef for Windows {
    const DOC: OpDoc = OpDoc {
        name: "windows",
        summary: "the elements under a window at each of its places",
        shapes: "x[.., n, .., c] -> [.., o, .., k, .., c], o = (n - k's reach) // stride + 1",
        equation: "y[.., o, .., k, ..] = x[.., o * stride + k * dilation, ..]",
        derivative: "dx = overlap_add(dy)",
        dtypes: "any",
        error: "exact; a view, never stored",
    };

    fn attributes(&self) -> Attributes {
        let list = |all: &[usize]| Attribute::dims(all.iter().copied());
        Attributes::new([
            ("axes", list(&self.axes)),
            ("sizes", list(&self.sizes)),
            ("strides", list(&self.strides)),
            ("dilations", list(&self.dilations)),
        ])
    }

    fn from_attributes(attributes: &Attributes) -> Result<Self, String> {
        let (axes, sizes) = (attributes.numbers("axes")?, attributes.numbers("sizes")?);
        Ok(Windows {
            axes,
            sizes,
            strides: attributes.numbers("strides")?,
            dilations: attributes.numbers("dilations")?,
        })
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x] = expect_operands(inputs)?;
        if !fits(&self.axes, x.rank(), [&self.sizes, &self.strides, &self.dilations]) {
            return Err(TypeError::new(format!("axes, sizes and steps of windows over {x} do not fit")).at([0]));
        }
        Ok(vec![TensorType { dtype: x.dtype, shape: self.shape(&x.shape)? }])
    }

    fn eval(&self, inputs: &[&Tensor], outputs: &[TensorType]) -> Vec<Tensor> {
        let map = self.map(inputs[0].ty.rank());
        let at = |index: &[usize]| -> Vec<usize> {
            let one = |e: &IndexExpression| e.terms.iter().map(|(axis, factor)| index[*axis] * *factor as usize).sum();
            map.0.iter().map(one).collect()
        };
        vec![Tensor::from_fn(outputs[0].clone(), |index| inputs[0].at(&at(index)))]
    }

    fn vjp(&self, cx: &mut VjpContext<'_>) -> Result<Vec<Option<ValueId>>, NotDifferentiable> {
        let shape = cx.builder.shape_of(cx.inputs[0]);
        let adjoint = overlap_add::OverlapAdd {
            axes: self.axes.clone(),
            sizes: self.axes.iter().map(|a| shape[*a].clone()).collect(),
            strides: self.strides.clone(),
            dilations: self.dilations.clone(),
        };
        let gradient = cx.gradient();
        Ok(vec![Some(cx.builder.emit(adjoint, &[gradient]))])
    }

    fn access(&self, inputs: &[TensorType], _: &[TensorType]) -> Access {
        Access::Pointwise(vec![self.map(inputs[0].rank())])
    }

    fn lower(&self, cx: &mut LowerContext<'_, '_>) -> Vec<Value> {
        vec![cx.element(0)]
    }

    fn primitives() -> Vec<Primitive> {
        primitives::all()
    }

    fn samples() -> Vec<Sample<Self>> {
        let sample =
            |shape: &[usize], axes: &[usize], sizes: &[usize], strides: &[usize], dilations: &[usize]| Sample {
                op: Windows {
                    axes: axes.to_vec(),
                    sizes: sizes.to_vec(),
                    strides: strides.to_vec(),
                    dilations: dilations.to_vec(),
                },
                inputs: vec![sample::signed(shape, 1)],
            };
        let mut all = vec![
            sample(&[7], &[0], &[3], &[1], &[1]),
            sample(&[7], &[0], &[2], &[3], &[1]),
            sample(&[9], &[0], &[3], &[2], &[2]),
            sample(&[1], &[0], &[1], &[1], &[1]),
            sample(&[2, 5, 4, 3], &[1, 2], &[2, 2], &[2, 2], &[1, 1]),
            sample(&[2, 5, 4, 3], &[1, 2], &[3, 2], &[1, 2], &[2, 1]),
            sample(&[3, 4, 5], &[0, 2], &[2, 3], &[1, 1], &[1, 1]),
            sample(&[0, 4, 3], &[1], &[2], &[1], &[1]),
            sample(&[1, 3, 4, 3, 2], &[1, 2, 3], &[2, 2, 2], &[1, 2, 1], &[1, 1, 2]),
        ];
        let mut whole = sample(&[4, 6], &[0], &[3], &[1], &[1]);
        whole.inputs = vec![sample::whole(DType::I32, &[4, 6], -9, 9, 2)];
        all.push(whole);
        all
    }
}
