//! `convolve_kernel`: the gradient of a convolution by its kernel, bilinear as the convolution itself.

use super::*;
use crate::ir::dim::Dim;
use crate::ir::scalar::ScalarFunction;
use crate::ir::tensor::indices;
use crate::ir::types::DType;
use spatial::Geometry;

/// From the input `[n, spatial.., c]` and the gradient of the result `[n, spatial.., filters]` of a convolution the gradient
/// `[sizes.., c / groups, filters]` of its kernel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ConvolveKernel {
    pub geometry: Geometry,
    /// The kernel's spatial sizes.
    pub sizes: Vec<usize>,
}

impl OpDef for ConvolveKernel {
    const DOC: OpDoc = OpDoc {
        name: "convolve_kernel",
        summary: "the gradient of a convolution of x by its kernel, for the gradient dy of its result",
        shapes: "x[n, spatial.., c], dy[n, o.., f] -> [k.., c / groups, f]",
        equation: "y[k, c, f] = the sum of x[n, o * stride + k * dilation - low, c] * dy[n, o, f] over n and o",
        derivative: "dx = convolve(dy, dw turned round), d(dy) = convolve(x, dw)",
        dtypes: "numbers, the same for both",
        error: "as `contract`, over parts of the batch and o; the parts' sums are added as `reduce` does",
    };

    fn attributes(&self) -> Attributes {
        let mut attributes = self.geometry.attributes();
        attributes.0.push(("sizes".into(), Attribute::dims(self.sizes.iter().copied())));
        attributes
    }

    fn from_attributes(attributes: &Attributes) -> Result<Self, String> {
        let geometry = Geometry::from_attributes(attributes)?;
        Ok(ConvolveKernel { geometry, sizes: attributes.numbers("sizes")? })
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x, dy] = expect_operands(inputs)?;
        let (rank, groups) = (self.geometry.rank(), Dim::from(self.geometry.groups));
        let wrong = || TypeError::new(format!("{dy} is no gradient of a convolution of {x}")).at([0, 1]);
        let whole = x.rank() == rank + 2 && dy.rank() == rank + 2 && self.sizes.len() == rank;
        if !whole || x.dtype != dy.dtype || x.dtype == DType::Bool {
            return Err(wrong());
        }
        let channels =
            x.shape[rank + 1].div_exact(&groups).or_else(|| x.shape[rank + 1].is(0).then(|| Dim::from(0i64)));
        let (channels, filters) = (channels.ok_or_else(wrong)?, dy.shape[rank + 1].clone());
        let divided = filters.is(0) || filters.div_exact(&groups).is_some();
        let spatial = self.geometry.output(&x.shape[1..=rank], &self.sizes)?;
        if !divided || x.shape[0] != dy.shape[0] || spatial != dy.shape[1..=rank] {
            return Err(wrong());
        }
        let shape = self.sizes.iter().map(|n| Dim::from(*n)).chain([channels, filters]).collect();
        Ok(vec![TensorType { dtype: x.dtype.storage(), shape }])
    }

    fn eval(&self, inputs: &[&Tensor], outputs: &[TensorType]) -> Vec<Tensor> {
        let (x, dy, rank) = (inputs[0], inputs[1], self.geometry.rank());
        let (from, to) = (x.sizes(), dy.sizes());
        let (own, filters) = (from[rank + 1] / self.geometry.groups, to[rank + 1] / self.geometry.groups);
        let places: Vec<Vec<usize>> = indices(&to[..=rank]).collect();
        let element = |index: &[usize]| {
            let filter = index[rank + 1];
            let channel = filter / filters * own + index[rank];
            let mut sum = 0.0;
            for (number, place) in places.iter().enumerate() {
                let origin = convolve::input_place(&self.geometry, place, &index[..rank], &from);
                let value = origin.map_or(0.0, |origin| x.data[origin + channel]);
                let gradient = dy.data[number * to[rank + 1] + filter];
                sum = ScalarFunction::Fma.eval(x.ty.dtype, &[value, gradient, sum]);
            }
            sum
        };
        vec![Tensor::from_fn(outputs[0].clone(), element)]
    }

    fn vjp(&self, cx: &mut VjpContext<'_>) -> Result<Vec<Option<ValueId>>, NotDifferentiable> {
        let (dw, x, dy) = (cx.gradient(), cx.inputs[0], cx.inputs[1]);
        let input = cx.builder.shape_of(x);
        let dx = cx.wanted[0].then(|| convolve::input_gradient(cx.builder, &self.geometry, &input, dw, dy));
        let convolve = convolve::Convolve { geometry: self.geometry.clone() };
        let by_dy = cx.wanted[1].then(|| cx.builder.emit(convolve, &[x, dw]));
        Ok(vec![dx.transpose().map_err(|e| NotDifferentiable(e.message))?, by_dy])
    }

    fn access(&self, _: &[TensorType], _: &[TensorType]) -> Access {
        Access::Opaque
    }

    fn lower(&self, _: &mut LowerContext<'_, '_>) -> Vec<Value> {
        unreachable!("convolutions are contractions before lowering")
    }

    fn primitives() -> Vec<Primitive> {
        Vec::new()
    }

    fn samples() -> Vec<Sample<Self>> {
        convolve::samples()
            .into_iter()
            .map(|(geometry, x, w)| {
                let rank = geometry.rank();
                let spatial: Vec<Dim> = x[1..=rank].iter().map(|n| Dim::from(*n)).collect();
                let places = geometry.output(&spatial, &w[..rank]).expect("a sample fits");
                let places = places.iter().map(|d| d.constant().expect("a sample is concrete") as usize);
                let dy: Vec<usize> = x[..1].iter().copied().chain(places).chain([w[rank + 1]]).collect();
                let op = ConvolveKernel { geometry, sizes: w[..rank].to_vec() };
                Sample { op, inputs: vec![sample::signed(&x, 1), sample::signed(&dy, 2)] }
            })
            .collect()
    }
}
