//! `contract`: the sum of products of two tensors over common axes; `@` and `einsum` are built of it.

use std::collections::BTreeMap;

use super::*;
use crate::ir::dim::Dim;
use crate::ir::scalar::{Monoid, ScalarFunction};
use crate::ir::tensor::indices;
use crate::ir::types::DType;

pub mod einsum;
pub mod primitives;

/// Labels number index axes: those of the operands' axes and of the result's.
///
/// A label of the result in both operands is a batch axis, in one operand a row or column axis; a label
/// of both operands that the result lacks is summed over. Every label is of one of these kinds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Contract {
    pub left: Vec<u32>,
    pub right: Vec<u32>,
    pub result: Vec<u32>,
}

impl Contract {
    /// The same contraction with labels numbered in the order of the result, then of the left operand, so that equal ones are equal.
    pub fn canonical(&self) -> Contract {
        let mut order: Vec<u32> = Vec::new();
        for label in self.result.iter().chain(&self.left).chain(&self.right) {
            if !order.contains(label) {
                order.push(*label);
            }
        }
        let number = |l: &u32| order.iter().position(|o| o == l).unwrap_or(order.len()) as u32;
        let renamed = |labels: &[u32]| labels.iter().map(number).collect();
        Contract { left: renamed(&self.left), right: renamed(&self.right), result: renamed(&self.result) }
    }
}

fn distinct(labels: &[u32]) -> bool {
    labels.iter().enumerate().all(|(i, l)| !labels[..i].contains(l))
}

impl OpDef for Contract {
    const DOC: OpDoc = OpDoc {
        name: "contract",
        summary: "the sum of products of two tensors over common axes",
        shapes: "a[left], b[right] -> [result], each label one size",
        equation: "y[result] = the sum of a[left] * b[right] over the labels that result lacks",
        derivative: "da[left] = contract(dy[result], b[right]), db[right] = contract(a[left], dy[result])",
        dtypes: "numbers, the same for both",
        error: "fused multiply-adds in the order of the summed index, from 512 products on in blocks of about sqrt(n), at least 256: at most n units in the last place of the sum of the magnitudes, and no more than 1024 or 4 sqrt(n), whichever is more; integers wrap",
    };

    fn attributes(&self) -> Attributes {
        let labels = |list: &[u32]| Attribute::dims(list.iter().map(|l| i64::from(*l)));
        let result = labels(&self.result);
        Attributes::new([("left", labels(&self.left)), ("right", labels(&self.right)), ("result", result)])
    }

    fn from_attributes(attributes: &Attributes) -> Result<Self, String> {
        let (left, right) = (attributes.numbers("left")?, attributes.numbers("right")?);
        Ok(Contract { left, right, result: attributes.numbers("result")? })
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [a, b] = expect_operands(inputs)?;
        let fits = self.left.len() == a.rank() && self.right.len() == b.rank();
        let lists = [&self.left, &self.right, &self.result];
        let known = self.result.iter().all(|l| self.left.contains(l) || self.right.contains(l));
        let used = |own: &[u32], other: &[u32]| own.iter().all(|l| other.contains(l) || self.result.contains(l));
        let all_used = used(&self.left, &self.right) && used(&self.right, &self.left);
        if !fits || !known || !all_used || lists.iter().any(|l| !distinct(l)) {
            return Err(TypeError::new(format!("labels {lists:?} do not contract {a} and {b}")).at([0, 1]));
        }
        if a.dtype != b.dtype || a.dtype == DType::Bool {
            return Err(
                TypeError::new(format!("the product of {a} and {b}: the dtypes must be one number type")).at([0, 1])
            );
        }
        let mut sizes: BTreeMap<u32, &Dim> = BTreeMap::new();
        for (label, dim) in self.left.iter().zip(&a.shape).chain(self.right.iter().zip(&b.shape)) {
            let size = *sizes.entry(*label).or_insert(dim);
            if size != dim {
                return Err(
                    TypeError::new(format!("the product of {a} and {b}: {size} does not match {dim}")).at([0, 1])
                );
            }
        }
        let shape = self.result.iter().map(|l| sizes[l].clone()).collect();
        Ok(vec![TensorType { dtype: a.dtype.storage(), shape }])
    }

    fn eval(&self, inputs: &[&Tensor], outputs: &[TensorType]) -> Vec<Tensor> {
        let dtype = outputs[0].dtype;
        let summed: Vec<u32> = self.left.iter().copied().filter(|l| !self.result.contains(l)).collect();
        let steps = [Steps::of(inputs[0], &self.left), Steps::of(inputs[1], &self.right)];
        let sizes: Vec<usize> = summed.iter().map(|l| steps[0].sizes[l]).collect();
        let offsets: Vec<(usize, usize)> =
            indices(&sizes).map(|k| (steps[0].offset(&summed, &k), steps[1].offset(&summed, &k))).collect();
        let element = |index: &[usize]| {
            let (left, right) = (steps[0].offset(&self.result, index), steps[1].offset(&self.result, index));
            let products = offsets.iter().map(|(l, r)| (inputs[0].data[left + l], inputs[1].data[right + r]));
            products.fold(0.0, |sum, (x, y)| ScalarFunction::Fma.eval(dtype, &[x, y, sum]))
        };
        vec![Tensor::from_fn(outputs[0].clone(), element)]
    }

    fn vjp(&self, cx: &mut VjpContext<'_>) -> Result<Vec<Option<ValueId>>, NotDifferentiable> {
        let (gradient, a, b) = (cx.gradient(), cx.inputs[0], cx.inputs[1]);
        let fits = "every label of an operand is in the result or in the other operand";
        let left = cx.wanted[0]
            .then(|| cx.builder.contract((gradient, &self.result), (b, &self.right), &self.left).expect(fits));
        let right = cx.wanted[1]
            .then(|| cx.builder.contract((a, &self.left), (gradient, &self.result), &self.right).expect(fits));
        Ok(vec![left, right])
    }

    fn access(&self, _: &[TensorType], _: &[TensorType]) -> Access {
        Access::Contract { left: self.left.clone(), right: self.right.clone(), result: self.result.clone() }
    }

    fn lower(&self, _: &mut LowerContext<'_, '_>) -> Vec<Value> {
        Vec::new()
    }

    fn primitives() -> Vec<Primitive> {
        primitives::all()
    }

    fn samples() -> Vec<Sample<Self>> {
        let sample = |labels: [&[u32]; 3], a: &[usize], b: &[usize]| Sample {
            op: Contract { left: labels[0].to_vec(), right: labels[1].to_vec(), result: labels[2].to_vec() },
            inputs: vec![sample::signed(a, 1), sample::signed(b, 2)],
        };
        let product: [&[u32]; 3] = [&[0, 1], &[1, 2], &[0, 2]];
        vec![
            sample(product, &[3, 5], &[5, 7]),
            sample(product, &[17, 33], &[33, 19]),
            sample(product, &[1, 4], &[4, 1]),
            sample(product, &[2, 1], &[1, 3]),
            sample(product, &[0, 3], &[3, 2]),
            sample(product, &[2, 0], &[0, 3]),
            sample([&[1, 0], &[1, 2], &[0, 2]], &[5, 3], &[5, 7]),
            sample([&[0, 1], &[2, 1], &[0, 2]], &[3, 5], &[7, 5]),
            sample([&[0, 1], &[1, 2], &[2, 0]], &[3, 5], &[5, 7]),
            sample([&[0], &[0], &[]], &[9], &[9]),
            sample([&[0], &[0], &[]], &[0], &[0]),
            sample([&[0], &[0], &[]], &[1], &[1]),
            sample([&[0, 1], &[0, 1], &[]], &[3, 7], &[3, 7]),
            sample([&[2, 0, 1], &[1, 3, 0], &[3, 2]], &[5, 3, 7], &[7, 4, 3]),
            Sample {
                op: Contract { left: vec![0, 1], right: vec![1, 2], result: vec![0, 2] },
                inputs: vec![sample::whole(DType::I8, &[3, 5], -9, 9, 1), sample::whole(DType::I8, &[5, 4], -9, 9, 2)],
            },
            sample([&[0, 1], &[1], &[0]], &[4, 6], &[6]),
            sample([&[0], &[0, 1], &[1]], &[6], &[6, 4]),
            sample([&[3, 0, 1], &[3, 1, 2], &[3, 0, 2]], &[2, 3, 5], &[2, 5, 4]),
            sample([&[3, 0, 4, 1], &[4, 1, 2], &[0, 3, 2]], &[2, 3, 2, 5], &[2, 5, 4]),
        ]
    }
}

/// How far one step along a label goes in an operand, and how many there are.
struct Steps {
    strides: BTreeMap<u32, usize>,
    sizes: BTreeMap<u32, usize>,
}

impl Steps {
    fn of(tensor: &Tensor, labels: &[u32]) -> Steps {
        let pairs = |list: Vec<usize>| labels.iter().copied().zip(list).collect();
        Steps { strides: pairs(tensor.strides()), sizes: pairs(tensor.sizes()) }
    }

    fn offset(&self, labels: &[u32], index: &[usize]) -> usize {
        labels.iter().zip(index).map(|(l, i)| self.strides.get(l).map_or(0, |s| s * i)).sum()
    }
}

/// See [`GraphBuilder::contract`].
pub fn contract(
    b: &mut GraphBuilder,
    left: (ValueId, &[u32]),
    right: (ValueId, &[u32]),
    result: &[u32],
) -> Result<ValueId, TypeError> {
    let (x, left) = sum_alone(b, left, right.1, result)?;
    let (y, right) = sum_alone(b, right, &left, result)?;
    let op = Contract { left, right, result: result.to_vec() }.canonical();
    if op.left.iter().any(|l| !op.result.contains(l)) {
        return b.add_one(op, &[x, y]);
    }
    // Nothing to be summed: type it as a contraction, make it an elementwise product.
    let ty = op.infer(&[b.type_of(x), b.type_of(y)])?.remove(0);
    let x = spread(b, x, &op.left, &op.result, &ty.shape)?;
    let y = spread(b, y, &op.right, &op.result, &ty.shape)?;
    b.map(ScalarFunction::Mul, &[x, y])
}

/// The operand summed over the labels that nothing else has.
fn sum_alone(
    b: &mut GraphBuilder,
    (value, labels): (ValueId, &[u32]),
    other: &[u32],
    result: &[u32],
) -> Result<(ValueId, Vec<u32>), TypeError> {
    let alone = |l: &u32| !other.contains(l) && !result.contains(l);
    let axes: Vec<usize> = (0..labels.len()).filter(|i| alone(&labels[*i])).collect();
    let summed = b.reduce(Monoid::Sum, value, &axes, false)?;
    Ok((summed, labels.iter().copied().filter(|l| !alone(l)).collect()))
}

/// The operand transposed to the order of the result's labels and stretched over those it lacks.
fn spread(
    b: &mut GraphBuilder,
    value: ValueId,
    labels: &[u32],
    result: &[u32],
    shape: &[Dim],
) -> Result<ValueId, TypeError> {
    let places: Vec<usize> = (0..result.len()).filter(|i| labels.contains(&result[*i])).collect();
    let order: Vec<usize> = places.iter().filter_map(|i| labels.iter().position(|l| *l == result[*i])).collect();
    let ordered = b.transpose(value, &order)?;
    b.broadcast_axes(ordered, shape, places)
}
