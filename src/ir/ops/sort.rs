//! `sort`: the elements along an axis in order, and where each came from.

use super::*;
use crate::ir::loops::Affine;
use crate::ir::loops::build::BlockBuilder;
use crate::ir::scalar::ScalarFunction;
use crate::ir::types::DType;
use cumsum::each_line;

pub mod network;
pub mod primitives;

/// The elements along `axis` ascending or descending, and their indices there (`i32`). Equal elements keep their order, NaNs
/// come last either way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sort {
    pub axis: usize,
    pub descending: bool,
}

impl OpDef for Sort {
    const DOC: OpDoc = OpDoc {
        name: "sort",
        summary: "the elements along an axis in order, and where each came from",
        shapes: "x[s, n, t] -> [s, n, t], [s, n, t]",
        equation: "y1 = x along the axis in order, equal ones in the order in which they stand, NaN last; y1[.., i, ..] = x[.., y2[.., i, ..], ..]",
        derivative: "dx = zeros to which scatter_add adds dy1 at y2; none for y2",
        dtypes: "any; the second result is i32",
        error: "exact",
    };

    fn attributes(&self) -> Attributes {
        Attributes::new([("axis", Attribute::dim(self.axis)), ("descending", Attribute::Bool(self.descending))])
    }

    fn from_attributes(attributes: &Attributes) -> Result<Self, String> {
        Ok(Sort { axis: attributes.number("axis")?, descending: attributes.bool("descending")? })
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x] = expect_operands(inputs)?;
        if self.axis >= x.rank() {
            return Err(TypeError::new(format!("axis {} of {x}", self.axis)).at([0]));
        }
        Ok(vec![x.clone(), x.with_dtype(DType::I32)])
    }

    fn eval(&self, inputs: &[&Tensor], outputs: &[TensorType]) -> Vec<Tensor> {
        let x = inputs[0];
        let mut values = Tensor::new(outputs[0].clone(), x.data.clone());
        let mut indices = Tensor::filled(outputs[1].clone(), 0.0);
        each_line(&x.sizes(), self.axis, false, |places| {
            let line: Vec<f64> = places.iter().map(|at| x.data[*at]).collect();
            let mut order: Vec<usize> = (0..line.len()).collect();
            let compare = |a: f64, b: f64| if self.descending { b.partial_cmp(&a) } else { a.partial_cmp(&b) };
            order.sort_by(|i, j| {
                compare(line[*i], line[*j]).unwrap_or_else(|| line[*i].is_nan().cmp(&line[*j].is_nan()))
            });
            for (at, from) in places.iter().zip(order) {
                (values.data[*at], indices.data[*at]) = (line[from], from as f64);
            }
        });
        vec![values, indices]
    }

    fn vjp(&self, cx: &mut VjpContext<'_>) -> Result<Vec<Option<ValueId>>, NotDifferentiable> {
        let Some(gradient) = cx.gradients[0] else { return Ok(vec![None]) };
        let (x, indices) = (cx.inputs[0], cx.outputs[1]);
        let impossible = "the indices have the shape of the operand";
        let places = gather::flat_places(cx.builder, x, self.axis, indices).expect(impossible);
        let zeros = cx.builder.constant_like(0.0, x);
        Ok(vec![Some(gather::add_flat(cx.builder, zeros, places, gradient).expect(impossible))])
    }

    fn access(&self, _: &[TensorType], _: &[TensorType]) -> Access {
        Access::Opaque
    }

    /// A network of exchanges that a line's contents do not change, so lines lie side by side in lanes. By value and then by index,
    /// which no two share: so it is stable though a network by itself is not.
    fn lower(&self, cx: &mut LowerContext<'_, '_>) -> Vec<Value> {
        let (inputs, outputs) = cx.buffers();
        let sizes = cx.inputs[0].sizes().expect("sizes are concrete when a graph is lowered");
        let sorter = Sorter { values: outputs[0], indices: outputs[1], dtype: cx.outputs[0].dtype, op: self };
        nest::lines(cx.block, &sizes, self.axis, false, |b, lines| {
            lines.each(b, 0, &[(lines.length, 1)], |b, address, place| {
                let value = b.load(inputs[0], address.clone());
                b.store(outputs[0], address.clone(), value);
                let index = b.index(place);
                b.store(outputs[1], address, index);
            });
            for comb in network::combs(lines.length) {
                let distance = (comb.distance * lines.stride) as i64;
                lines
                    .each(b, comb.start, &comb.axes, |b, low, _| sorter.exchange(b, low.clone(), low.offset(distance)));
            }
        });
        Vec::new()
    }

    fn primitives() -> Vec<Primitive> {
        primitives::all()
    }

    fn samples() -> Vec<Sample<Self>> {
        let sample = |x: Tensor, axis: usize| {
            [false, true].map(|descending| Sample { op: Sort { axis, descending }, inputs: vec![x.clone()] })
        };
        let mut special = sample::signed(&[21], 2);
        [(3, f64::NAN), (9, f64::INFINITY), (11, f64::NAN), (20, f64::NEG_INFINITY)]
            .into_iter()
            .for_each(|(i, v)| special.data[i] = v);
        let ties = sample::whole(DType::I32, &[50], 0, 5, 3);
        let flags = sample::whole(DType::Bool, &[9], 0, 2, 1);
        let shapes: [(&[usize], usize); 10] = [
            (&[1], 0),
            (&[0], 0),
            (&[2, 0], 0),
            (&[2], 0),
            (&[19], 0),
            (&[3, 1], 1),
            (&[4, 17], 1),
            (&[17, 4], 0),
            (&[2, 9, 3], 1),
            (&[130], 0),
        ];
        let mut all: Vec<Sample<Self>> =
            shapes.iter().flat_map(|(s, axis)| sample(sample::signed(s, 1), *axis)).collect();
        all.extend([special, ties, flags].into_iter().flat_map(|x| sample(x, 0)));
        all
    }
}

/// The arrays being sorted.
struct Sorter<'a> {
    values: BufferId,
    indices: BufferId,
    dtype: DType,
    op: &'a Sort,
}

impl Sorter<'_> {
    /// Puts two elements in order.
    fn exchange(&self, b: &mut BlockBuilder<'_>, low: Affine, high: Affine) {
        use ScalarFunction as F;
        let value = [b.load(self.values, low.clone()), b.load(self.values, high.clone())];
        let index = [b.load(self.indices, low.clone()), b.load(self.indices, high.clone())];
        let smaller = if self.op.descending { F::Greater } else { F::Less };
        let mut swap = b.map(smaller, &[value[1], value[0]]);
        let mut equal = b.map(F::Equal, &[value[0], value[1]]);
        if self.dtype.is_float() {
            let nan = value.map(|v| b.map(F::NotEqual, &[v, v]));
            let number = b.map(F::Not, &[nan[1]]);
            let forward = b.map(F::And, &[nan[0], number]);
            swap = b.map(F::Or, &[swap, forward]);
            let both = b.map(F::And, &[nan[0], nan[1]]);
            equal = b.map(F::Or, &[equal, both]);
        }
        let earlier = b.map(F::Less, &[index[1], index[0]]);
        let tie = b.map(F::And, &[equal, earlier]);
        let swap = b.map(F::Or, &[swap, tie]);
        for (buffer, pair) in [(self.values, value), (self.indices, index)] {
            let first = b.map(F::Select, &[swap, pair[1], pair[0]]);
            let second = b.map(F::Select, &[swap, pair[0], pair[1]]);
            b.store(buffer, low.clone(), first);
            b.store(buffer, high.clone(), second);
        }
    }
}
