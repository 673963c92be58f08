//! `reduce`: a fold over axes, which disappear.

use super::*;
use crate::ir::dim::Dim;
use crate::ir::scalar::{Monoid, ScalarFunction};
use crate::ir::types::DType;

/// The fold of the operand over `axes` (ascending). `argmax` and `argmin` fold one axis.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reduce {
    pub monoid: Monoid,
    pub axes: Vec<usize>,
}

fn picks_index(monoid: Monoid) -> bool {
    matches!(monoid, Monoid::ArgMax | Monoid::ArgMin)
}

/// The axes of a tensor of `rank` dims that are not in `axes`.
fn remaining(rank: usize, axes: &[usize]) -> Vec<usize> {
    (0..rank).filter(|a| !axes.contains(a)).collect()
}

impl OpDef for Reduce {
    const DOC: OpDoc = OpDoc {
        name: "reduce",
        summary: "a fold over axes, which disappear",
        equation: "y[i] = the fold of x[i, j] over all j",
        derivative: "sum: dx = dy stretched; prod: dx[j] = dy * the product of all others; max, min: dy goes to the first such element; argmax, argmin: none",
    };

    fn attributes(&self) -> Attributes {
        let axes = Attribute::dims(self.axes.iter().copied());
        Attributes::new([("monoid", Attribute::Name(self.monoid.name().into())), ("axes", axes)])
    }

    fn from_attributes(attributes: &Attributes) -> Result<Self, String> {
        let name = attributes.name("monoid")?;
        let monoid = Monoid::from_name(&name).ok_or_else(|| format!("there is no fold `{name}`"))?;
        Ok(Reduce { monoid, axes: attributes.numbers("axes")? })
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x] = expect_operands(inputs)?;
        let ascending = self.axes.windows(2).all(|p| p[0] < p[1]);
        if !ascending || self.axes.last().is_some_and(|a| *a >= x.rank()) {
            return Err(TypeError::new(format!("axes {:?} of {x}", self.axes)).at([0]));
        }
        if picks_index(self.monoid) && self.axes.len() != 1 {
            return Err(TypeError::new(format!("`{}` folds one axis, found {:?}", self.monoid.name(), self.axes)));
        }
        if x.dtype == DType::Bool {
            return Err(TypeError::new(format!("`{}` of {x}", self.monoid.name()))
                .note("fold a bool tensor with `any` or `all`, or convert it first, for example with `i32(x)`")
                .at([0]));
        }
        let shape: Vec<Dim> = remaining(x.rank(), &self.axes).into_iter().map(|a| x.shape[a].clone()).collect();
        let dtype = if picks_index(self.monoid) { DType::I32 } else { x.dtype.storage() };
        Ok(vec![TensorType { dtype, shape }])
    }

    fn eval(&self, inputs: &[&Tensor], outputs: &[TensorType]) -> Vec<Tensor> {
        let x = inputs[0];
        let (rest, sizes) = (remaining(x.ty.rank(), &self.axes), x.sizes());
        let strides = x.strides();
        let folded: Vec<usize> = self.axes.iter().map(|a| sizes[*a]).collect();
        let offset =
            |index: &[usize], axes: &[usize]| -> usize { index.iter().zip(axes).map(|(i, a)| i * strides[*a]).sum() };
        let offsets: Vec<usize> = crate::ir::tensor::indices(&folded).map(|j| offset(&j, &self.axes)).collect();
        let element = |index: &[usize]| {
            let origin = offset(index, &rest);
            self.fold(x.ty.dtype, offsets.iter().map(|o| x.data[origin + o]))
        };
        vec![Tensor::from_fn(outputs[0].clone(), element)]
    }

    fn vjp(&self, cx: &mut VjpContext<'_>) -> Result<Vec<Option<ValueId>>, NotDifferentiable> {
        let (x, gradient) = (cx.inputs[0], cx.gradient());
        Ok(vec![(!picks_index(self.monoid)).then(|| pull(cx.builder, self.monoid, x, &self.axes, gradient))])
    }

    fn access(&self, _: &[TensorType], _: &[TensorType]) -> Access {
        Access::Reduce { axes: self.axes.clone(), monoid: self.monoid }
    }

    fn lower(&self, cx: &mut LowerContext<'_, '_>) -> Vec<Value> {
        vec![cx.element(0)]
    }

    fn primitives() -> Vec<Primitive> {
        primitives()
    }

    fn samples() -> Vec<Sample<Self>> {
        let sample = |monoid: Monoid, shape: &[usize], axes: &[usize]| Sample {
            op: Reduce { monoid, axes: axes.to_vec() },
            inputs: vec![sample::signed(shape, 1)],
        };
        let mut all = vec![
            sample(Monoid::Sum, &[2, 3, 37], &[2]),
            sample(Monoid::Sum, &[], &[]),
            sample(Monoid::Sum, &[129], &[0]),
            Sample {
                op: Reduce { monoid: Monoid::Sum, axes: vec![0] },
                inputs: vec![sample::whole(DType::I32, &[7, 3], -9, 9, 2)],
            },
        ];
        for (_, monoid) in Monoid::ALL {
            all.extend([sample(monoid, &[19], &[0]), sample(monoid, &[3, 5], &[0]), sample(monoid, &[3, 5], &[1])]);
            all.extend([sample(monoid, &[3, 1], &[1]), sample(monoid, &[0, 3], &[1])]);
            if !picks_index(monoid) {
                all.extend([sample(monoid, &[2, 3, 4], &[0, 2]), sample(monoid, &[3, 0], &[1])]);
            }
        }
        all
    }
}

impl Reduce {
    /// The fold of values of `dtype` in order.
    fn fold(&self, dtype: DType, values: impl Iterator<Item = f64>) -> f64 {
        let function = match self.monoid {
            Monoid::Sum => ScalarFunction::Add,
            Monoid::Prod => ScalarFunction::Mul,
            Monoid::Max => ScalarFunction::Max,
            Monoid::Min => ScalarFunction::Min,
            Monoid::ArgMax => return first(values, |new, best| new > best),
            Monoid::ArgMin => return first(values, |new, best| new < best),
        };
        values.fold(self.monoid.neutral(dtype), |a, v| function.eval(dtype, &[a, v]))
    }
}

/// The place of the first value that no other beats, a NaN beating all numbers; 0 if there is no value.
fn first(values: impl Iterator<Item = f64>, beats: impl Fn(f64, f64) -> bool) -> f64 {
    let mut best: Option<(usize, f64)> = None;
    for (i, value) in values.enumerate() {
        let better = best.is_none_or(|(_, b)| beats(value, b) || (value.is_nan() && !b.is_nan()));
        if better {
            best = Some((i, value));
        }
    }
    best.map_or(0.0, |(i, _)| i as f64)
}

/// The gradient of `x`, of whose fold over `axes` the gradient is `gradient`.
fn pull(b: &mut GraphBuilder, monoid: Monoid, x: ValueId, axes: &[usize], gradient: ValueId) -> ValueId {
    let shape = b.shape_of(x);
    let spread = |b: &mut GraphBuilder, v: ValueId| {
        b.broadcast_axes(v, &shape, remaining(shape.len(), axes)).expect("the remaining axes")
    };
    match (monoid, axes) {
        (_, []) => gradient,
        (Monoid::Sum, _) => spread(b, gradient),
        (Monoid::Prod, [axis]) => {
            let others = product_of_others(b, x, *axis);
            let gradient = spread(b, gradient);
            b.apply(ScalarFunction::Mul, &[gradient, others])
        }
        (Monoid::Max | Monoid::Min, [axis]) => {
            let pick = if monoid == Monoid::Max { Monoid::ArgMax } else { Monoid::ArgMin };
            let place = b.reduce(pick, x, axes, false).expect("an axis of x");
            let (place, gradient) = (spread(b, place), spread(b, gradient));
            let index = b.emit(iota::Iota { shape: shape.clone(), axis: *axis }, &[]);
            let chosen = b.apply(ScalarFunction::Equal, &[index, place]);
            let zero = b.constant_like(0.0, gradient);
            b.apply(ScalarFunction::Select, &[chosen, gradient, zero])
        }
        // Several axes are folded one by one, the last first; so the first of equal elements is the first in row-major order.
        (_, [rest @ .., last]) => {
            let folded = b.reduce(monoid, x, &[*last], false).expect("an axis of x");
            let gradient = pull(b, monoid, folded, rest, gradient);
            pull(b, monoid, x, &[*last], gradient)
        }
    }
}

/// For each element of `x` the product of all others along `axis`.
///
/// Not the product divided by the element: that fails at 0, and so would its derivative. Instead each
/// element gets a copy of its row with itself replaced by 1; what is not stored costs only time.
fn product_of_others(b: &mut GraphBuilder, x: ValueId, axis: usize) -> ValueId {
    let shape = b.shape_of(x);
    let rank = shape.len();
    let mut places = remaining(rank, &[axis]);
    let mut square = shape.clone();
    square.push(shape[axis].clone());
    let permutation: Vec<usize> = places.iter().copied().chain([axis]).collect();
    let rows = b.transpose(x, &permutation).expect("a permutation of the axes");
    places.push(rank);
    let copies = b.broadcast_axes(rows, &square, places).expect("each axis in its place");
    let own = b.emit(iota::Iota { shape: square.clone(), axis }, &[]);
    let other = b.emit(iota::Iota { shape: square, axis: rank }, &[]);
    let same = b.apply(ScalarFunction::Equal, &[own, other]);
    let one = b.constant_like(1.0, copies);
    let replaced = b.apply(ScalarFunction::Select, &[same, one, copies]);
    b.reduce(Monoid::Prod, replaced, &[rank], false).expect("the last axis")
}

const FOLD: &[Parameter] = &[
    Parameter::required("x", "a tensor"),
    Parameter::optional("axis", "an int or a list of ints, by default all axes"),
    Parameter::optional("keepdims", "whether the axes stay, with size 1"),
];
const FOLD_OR_TWO: &[Parameter] = &[
    Parameter::required("x", "a tensor or a number"),
    Parameter::optional("other", "a tensor or a number, for the elementwise function"),
    Parameter::optional("axis", "an int or a list of ints, by default all axes"),
    Parameter::optional("keepdims", "whether the axes stay, with size 1"),
];
const PICK: &[Parameter] = &[
    Parameter::required("x", "a tensor"),
    Parameter::optional("axis", "an int, by default the place among all elements in row-major order"),
    Parameter::optional("keepdims", "whether the axis stays, with size 1"),
];

fn primitives() -> Vec<Primitive> {
    let entry = |name, doc, parameters, build| Primitive { name, doc, parameters, rest: false, draws: false, build };
    vec![
        entry("sum", "the sum over the given axes", FOLD, |b, a| fold(Monoid::Sum, b, a)),
        entry("prod", "the product over the given axes", FOLD, |b, a| fold(Monoid::Prod, b, a)),
        entry("mean", "the sum over the given axes divided by the number of elements", FOLD, mean),
        entry("any", "whether one element of a bool tensor is true", FOLD, |b, a| any_all(Monoid::Max, b, a)),
        entry("all", "whether every element of a bool tensor is true", FOLD, |b, a| any_all(Monoid::Min, b, a)),
        entry(
            "max",
            "max(a, b): the larger of two, elementwise; max(x, axis=-1): the largest over the given axes",
            FOLD_OR_TWO,
            |b, a| two_or_fold(ScalarFunction::Max, Monoid::Max, b, a),
        ),
        entry(
            "min",
            "min(a, b): the smaller of two, elementwise; min(x, axis=-1): the smallest over the given axes",
            FOLD_OR_TWO,
            |b, a| two_or_fold(ScalarFunction::Min, Monoid::Min, b, a),
        ),
        entry("argmax", "the i32 index of the first largest element along an axis", PICK, |b, a| {
            pick(Monoid::ArgMax, b, a)
        }),
        entry("argmin", "the i32 index of the first smallest element along an axis", PICK, |b, a| {
            pick(Monoid::ArgMin, b, a)
        }),
    ]
}

/// The tensor, the axes (all by default) and `keepdims` of a call whose `axis` parameter is number `axis`.
fn fold_arguments(
    b: &mut GraphBuilder,
    arguments: &PrimitiveArguments,
    axis: usize,
) -> Result<(ValueId, Vec<usize>, bool), TypeError> {
    let x = arguments.tensor(b, 0)?;
    let rank = b.type_of(x).rank();
    let axes = arguments.axes(axis, rank)?.unwrap_or_else(|| (0..rank).collect());
    Ok((x, axes, arguments.bool_or(axis + 1, false)?))
}

fn fold(monoid: Monoid, b: &mut GraphBuilder, arguments: &PrimitiveArguments) -> Result<Vec<ValueId>, TypeError> {
    let (x, axes, keepdims) = fold_arguments(b, arguments, 1)?;
    Ok(vec![b.reduce(monoid, x, &axes, keepdims)?])
}

fn mean(b: &mut GraphBuilder, arguments: &PrimitiveArguments) -> Result<Vec<ValueId>, TypeError> {
    let (x, axes, keepdims) = fold_arguments(b, arguments, 1)?;
    let ty = b.type_of(x).clone();
    if !ty.dtype.is_float() {
        return Err(TypeError::new(format!("the mean of {ty}"))
            .note("convert it first, for example with `f32(x)`")
            .at([0]));
    }
    let count = axes.iter().try_fold(Dim::from(1i64), |p, a| p.mul(&ty.shape[*a]));
    let count = count.ok_or_else(|| TypeError::new(format!("{ty} is too large")).at([0]))?;
    let sum = b.reduce(Monoid::Sum, x, &axes, keepdims)?;
    let count = b.dim_value(&count, ty.dtype);
    Ok(vec![b.map(ScalarFunction::Div, &[sum, count])?])
}

/// As `u8`, so that the fold of nothing is 0 for the largest (`any`) and not 0 for the smallest (`all`).
fn any_all(monoid: Monoid, b: &mut GraphBuilder, arguments: &PrimitiveArguments) -> Result<Vec<ValueId>, TypeError> {
    let (x, axes, keepdims) = fold_arguments(b, arguments, 1)?;
    if b.dtype_of(x) != DType::Bool {
        return Err(TypeError::new(format!("expected a bool tensor, found {}", b.type_of(x)))
            .note("compare first, for example `x != 0`")
            .at([0]));
    }
    let bytes = b.cast(x, DType::U8);
    let folded = b.reduce(monoid, bytes, &axes, keepdims)?;
    Ok(vec![b.cast(folded, DType::Bool)])
}

fn two_or_fold(
    function: ScalarFunction,
    monoid: Monoid,
    b: &mut GraphBuilder,
    arguments: &PrimitiveArguments,
) -> Result<Vec<ValueId>, TypeError> {
    if arguments.get(1).is_none() {
        let (x, axes, keepdims) = fold_arguments(b, arguments, 2)?;
        return Ok(vec![b.reduce(monoid, x, &axes, keepdims)?]);
    }
    if let Some(position) = (2..4).find(|p| arguments.get(*p).is_some()) {
        let name = function.name();
        return Err(TypeError::new(format!(
            "`{name}` of two tensors is elementwise and takes no `axis` or `keepdims`"
        ))
        .note(format!("`{name}(x, axis=..)` reduces one tensor"))
        .at([position]));
    }
    let operands = arguments.operands(b, 0..2)?;
    Ok(vec![b.map(function, &operands)?])
}

fn pick(monoid: Monoid, b: &mut GraphBuilder, arguments: &PrimitiveArguments) -> Result<Vec<ValueId>, TypeError> {
    let mut x = arguments.tensor(b, 0)?;
    let shape = b.shape_of(x);
    let keepdims = arguments.bool_or(2, false)?;
    if arguments.get(1).is_some() {
        let axis = arguments.axis(1, shape.len())?;
        return Ok(vec![b.reduce(monoid, x, &[axis], keepdims)?]);
    }
    let count = shape.iter().try_fold(Dim::from(1i64), |p, d| p.mul(d));
    let count = count.ok_or_else(|| TypeError::new(format!("{} is too large", b.type_of(x))).at([0]))?;
    x = b.reshape(x, &[count])?;
    let place = b.reduce(monoid, x, &[0], false)?;
    let kept = if keepdims { vec![Dim::from(1i64); shape.len()] } else { Vec::new() };
    Ok(vec![b.reshape(place, &kept)?])
}
