//! `overlap_add`: windows put back in place, what overlaps added up; the adjoint of `windows`.

use super::*;
use crate::ir::dim::Dim;
use crate::ir::loops::Affine;
use crate::ir::scalar::ScalarFunction;
use crate::ir::tensor::{indices, strides};
use crate::ir::types::DType;
use windows::Windows;

/// The operand has the form that [`Windows`] gives a tensor whose `axes` have these `sizes`; the result is such a tensor.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OverlapAdd {
    pub axes: Vec<usize>,
    /// Of the result's `axes`.
    pub sizes: Vec<Dim>,
    pub strides: Vec<usize>,
    pub dilations: Vec<usize>,
}

impl OverlapAdd {
    /// The windows of which a tensor of this type is the form; `None` if it cannot be one.
    fn windows(&self, x: &TensorType) -> Option<Windows> {
        let rank = x.rank().checked_sub(self.axes.len())?;
        let inner = (0..self.axes.len()).map(|i| x.shape.get(Windows::inner_axis(&self.axes, i))?.constant());
        let sizes: Vec<usize> = inner.map(|n| n.and_then(|n| usize::try_from(n).ok())).collect::<Option<_>>()?;
        let fits = windows::fits(&self.axes, rank, [&sizes, &self.strides, &self.dilations]);
        let windows = Windows {
            axes: self.axes.clone(),
            sizes,
            strides: self.strides.clone(),
            dilations: self.dilations.clone(),
        };
        (fits && self.sizes.len() == self.axes.len()).then_some(windows)
    }

    /// The shape of the result.
    fn shape(&self, x: &TensorType) -> Vec<Dim> {
        let rank = x.rank() - self.axes.len();
        let size = |axis: usize| match self.axes.iter().position(|a| *a == axis) {
            Some(i) => self.sizes[i].clone(),
            None => x.shape[Windows::outer_axis(&self.axes, axis)].clone(),
        };
        (0..rank).map(size).collect()
    }

    /// For each axis of the operand, how far a step along it goes in the result.
    fn steps(&self, windows: &Windows, result: &TensorType) -> Vec<usize> {
        let outer = strides(&result.sizes().expect("sizes are concrete here"));
        let mut steps = vec![0; result.rank() + self.axes.len()];
        for (axis, step) in outer.iter().enumerate() {
            let own = self.axes.iter().position(|a| *a == axis);
            steps[Windows::outer_axis(&self.axes, axis)] = step * own.map_or(1, |i| windows.strides[i]);
            if let Some(i) = own {
                steps[Windows::inner_axis(&self.axes, i)] = step * windows.dilations[i];
            }
        }
        steps
    }
}

impl OpDef for OverlapAdd {
    const DOC: OpDoc = OpDoc {
        name: "overlap_add",
        summary: "windows put back in place, what overlaps added up",
        shapes: "x[.., o, .., k, .., c] -> [.., n, .., c]",
        equation: "y[.., i, ..] = the sum of x[.., o, .., k, ..] over all o * stride + k * dilation = i, in the order of k",
        derivative: "dx = windows(dy)",
        dtypes: "numbers",
        error: "what overlaps is added in the order of k, each sum rounded; integers wrap",
    };

    fn attributes(&self) -> Attributes {
        let list = |all: &[usize]| Attribute::dims(all.iter().copied());
        Attributes::new([
            ("axes", list(&self.axes)),
            ("sizes", Attribute::Dims(self.sizes.clone())),
            ("strides", list(&self.strides)),
            ("dilations", list(&self.dilations)),
        ])
    }

    fn from_attributes(attributes: &Attributes) -> Result<Self, String> {
        let (axes, sizes) = (attributes.numbers("axes")?, attributes.dims("sizes")?);
        let (strides, dilations) = (attributes.numbers("strides")?, attributes.numbers("dilations")?);
        Ok(OverlapAdd { axes, sizes, strides, dilations })
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x] = expect_operands(inputs)?;
        let wrong = || TypeError::new(format!("{x} has not the form of windows over axes {:?}", self.axes)).at([0]);
        let windows = self.windows(x).ok_or_else(wrong)?;
        let result = TensorType { dtype: x.dtype, shape: self.shape(x) };
        if x.dtype == DType::Bool || windows.shape(&result.shape)? != x.shape {
            return Err(wrong());
        }
        Ok(vec![result])
    }

    fn eval(&self, inputs: &[&Tensor], outputs: &[TensorType]) -> Vec<Tensor> {
        let x = inputs[0];
        let windows = self.windows(&x.ty).expect("checked by infer");
        let steps = self.steps(&windows, &outputs[0]);
        let mut out = Tensor::filled(outputs[0].clone(), 0.0);
        for (value, index) in x.data.iter().zip(indices(&x.sizes())) {
            let at: usize = index.iter().zip(&steps).map(|(i, s)| i * s).sum();
            out.data[at] = ScalarFunction::Add.eval(x.ty.dtype, &[out.data[at], *value]);
        }
        vec![out]
    }

    fn vjp(&self, cx: &mut VjpContext<'_>) -> Result<Vec<Option<ValueId>>, NotDifferentiable> {
        let windows = self.windows(cx.builder.type_of(cx.inputs[0])).expect("checked by infer");
        let gradient = cx.gradient();
        Ok(vec![Some(cx.builder.emit(windows, &[gradient]))])
    }

    fn access(&self, _: &[TensorType], _: &[TensorType]) -> Access {
        Access::Opaque
    }

    /// For each index of the axes before the windowed ones: zeros, then window element after window element added in place.
    fn lower(&self, cx: &mut LowerContext<'_, '_>) -> Vec<Value> {
        let (inputs, outputs) = cx.buffers();
        let (x, y) = (inputs[0], outputs[0]);
        let windows = self.windows(&cx.inputs[0]).expect("checked by infer");
        let from = cx.inputs[0].sizes().expect("sizes are concrete here");
        let (own, target) = (strides(&from), self.steps(&windows, &cx.outputs[0]));
        let to = cx.outputs[0].sizes().expect("sizes are concrete here");
        let (first, last) = (self.axes[0], self.axes[self.axes.len() - 1]);
        let lead: usize = to[..first].iter().product();
        let slab: usize = to[first..].iter().product();
        let read: usize = from[first..].iter().product();
        if lead == 0 || slab == 0 {
            return Vec::new();
        }
        // Elements of the window outside, so that the sums of one place are made in their order; then places, then what follows.
        let inner: Vec<usize> = (0..self.axes.len()).map(|i| Windows::inner_axis(&self.axes, i)).collect();
        let outer: Vec<usize> = (first..=last).collect();
        let tail: usize = to[last + 1..].iter().product();
        let mut axes: Vec<(usize, usize, usize)> =
            inner.iter().chain(&outer).map(|a| (from[*a], own[*a], target[*a])).collect();
        axes.push((tail, 1, 1));
        if tail == 1 {
            axes.pop();
        }
        let sizes: Vec<usize> = axes.iter().map(|a| a.0).collect();
        let dtype = cx.inputs[0].dtype;
        cx.block.for_each(lead as u64, |b, row| {
            b.lanes(slab as u64, |b, at| {
                let zero = b.constant(dtype, 0.0);
                b.store(y, Affine::scaled(row, slab as i64).plus(at, 1), zero);
            });
            nest::elementwise(b, &sizes, |b, vars| {
                let address = |origin: usize, step: fn(&(usize, usize, usize)) -> usize| {
                    let steps: Vec<usize> = axes.iter().map(step).collect();
                    nest::address(vars, &steps).plus(row, origin as i64)
                };
                let place = address(slab, |a| a.2);
                let sum = b.load(y, place.clone());
                let more = b.load(x, address(read, |a| a.1));
                let sum = b.map(ScalarFunction::Add, &[sum, more]);
                b.store(y, place, sum);
            });
        });
        Vec::new()
    }

    fn primitives() -> Vec<Primitive> {
        Vec::new()
    }

    fn samples() -> Vec<Sample<Self>> {
        Windows::samples()
            .into_iter()
            .map(|windows| {
                let shape = windows.inputs[0].ty.shape.clone();
                let sizes = windows.op.axes.iter().map(|a| shape[*a].clone()).collect();
                let form = windows.op.infer(&[&windows.inputs[0].ty]).expect("a sample is well typed").remove(0);
                let sizes_of_form = form.sizes().expect("a sample is concrete");
                let Windows { axes, strides, dilations, .. } = windows.op;
                let input = match form.dtype {
                    DType::I32 => sample::whole(DType::I32, &sizes_of_form, -9, 9, 4),
                    _ => sample::signed(&sizes_of_form, 4),
                };
                Sample { op: OverlapAdd { axes, sizes, strides, dilations }, inputs: vec![input] }
            })
            .collect()
    }
}
