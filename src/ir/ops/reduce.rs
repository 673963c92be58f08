//! `reduce`: a fold over axes, which disappear.

use super::*;
use crate::ir::dim::Dim;
use crate::ir::scalar::{Monoid, ScalarFunction};
use crate::ir::types::DType;

/// The fold of the operand over `axes` (ascending). `argmax` and `argmin` give the place among the folded elements in row-major order.
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
        shapes: "x[s] -> s without the axes",
        equation: "y[i] = the fold of x[i, j] over all j",
        derivative: "sum: dx = dy stretched; prod: dx[j] = dy * the product of all others; max, min: dy goes to the first such element; argmax, argmin: none",
        dtypes: "numbers (bool through `any` and `all`); argmax and argmin give i32",
        error: "max, min, argmax, argmin: exact. sum, prod: each step rounded, in blocks, blocks of blocks and so on, cut by shape, so a sum's error grows like the logarithm of n (at most some dozens of units in the last place of the sum of the magnitudes for each level), a product's like the number of factors",
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
        if picks_index(self.monoid) && self.axes.is_empty() {
            return Err(TypeError::new(format!("`{}` folds at least one axis", self.monoid.name())));
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
        // A product of which one factor is 0, and one with two.
        for zeros in [&[2][..], &[1, 4]] {
            let mut product = sample(Monoid::Prod, &[7], &[0]);
            zeros.iter().for_each(|i| product.inputs[0].data[*i] = 0.0);
            all.push(product);
        }
        for (_, monoid) in Monoid::ALL {
            all.extend([sample(monoid, &[19], &[0]), sample(monoid, &[3, 5], &[0]), sample(monoid, &[3, 5], &[1])]);
            all.extend([sample(monoid, &[3, 1], &[1]), sample(monoid, &[0, 3], &[1])]);
            all.push(sample(monoid, &[2, 3, 4], &[0, 2]));
            all.extend([
                sample(monoid, &[1], &[0]),
                sample(monoid, &[41, 3], &[0]),
                sample(monoid, &[2, 1, 19], &[0, 1, 2]),
            ]);
            if !picks_index(monoid) {
                all.push(sample(monoid, &[3, 0], &[1]));
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
        (Monoid::Max | Monoid::Min, _) => {
            let pick = if monoid == Monoid::Max { Monoid::ArgMax } else { Monoid::ArgMin };
            let place = b.reduce(pick, x, axes, false).expect("axes of x");
            let (place, gradient) = (spread(b, place), spread(b, gradient));
            let index = position(b, &shape, axes);
            let chosen = b.apply(ScalarFunction::Equal, &[index, place]);
            let zero = b.constant_like(0.0, gradient);
            b.apply(ScalarFunction::Select, &[chosen, gradient, zero])
        }
        (_, [rest @ .., last]) => {
            let folded = b.reduce(monoid, x, &[*last], false).expect("an axis of x");
            let gradient = pull(b, monoid, folded, rest, gradient);
            pull(b, monoid, x, &[*last], gradient)
        }
    }
}

/// For each element of a tensor its place among those of `axes` in row-major order.
fn position(b: &mut GraphBuilder, shape: &[Dim], axes: &[usize]) -> ValueId {
    let mut place = None;
    for axis in axes {
        let own = b.emit(iota::Iota { shape: shape.to_vec(), axis: *axis }, &[]);
        place = Some(match place {
            None => own,
            Some(outer) => {
                let size = b.dim_value(&shape[*axis], DType::I32);
                let size = b.broadcast(size, shape).expect("a scalar stretches");
                let before = b.apply(ScalarFunction::Mul, &[outer, size]);
                b.apply(ScalarFunction::Add, &[before, own])
            }
        });
    }
    place.expect("a fold that picks an element has axes")
}

/// For each element of `x` the product of all others along `axis`: of those before it times of those after it.
///
/// Not the product divided by the element: that fails at 0, and so would its derivative.
fn product_of_others(b: &mut GraphBuilder, x: ValueId, axis: usize) -> ValueId {
    let [before, after] =
        [false, true].map(|reverse| recurrence::products(b, x, axis, reverse, true).expect("an axis of floats"));
    b.apply(ScalarFunction::Mul, &[before, after])
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
    Parameter::optional(
        "axis",
        "an int or a list of ints; the place among the elements of them, by default of all, in row-major order",
    ),
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

/// As NumPy: no elements have a sum (0) and a product (1), but no largest or smallest.
fn refuse_nothing(monoid: Monoid, b: &GraphBuilder, x: ValueId, axes: &[usize]) -> Result<(), TypeError> {
    let ty = b.type_of(x);
    match axes.iter().find(|a| ty.shape[**a].is(0)) {
        Some(axis) => Err(TypeError::new(format!("the {} of no elements: axis {axis} of {ty}", monoid.name())).at([0])),
        None => Ok(()),
    }
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
    // A half holds neither a large sum nor a large count.
    let wide = if ty.dtype.is_half() { DType::F32 } else { ty.dtype };
    let x = b.cast(x, wide);
    let sum = b.reduce(Monoid::Sum, x, &axes, keepdims)?;
    let count = b.dim_value(&count, wide);
    let quotient = b.map(ScalarFunction::Div, &[sum, count])?;
    Ok(vec![b.cast(quotient, ty.dtype)])
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
        refuse_nothing(monoid, b, x, &axes)?;
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
    if let Some(axes) = arguments.axes(1, shape.len())? {
        refuse_nothing(monoid, b, x, &axes)?;
        return Ok(vec![b.reduce(monoid, x, &axes, keepdims)?]);
    }
    refuse_nothing(monoid, b, x, &(0..shape.len()).collect::<Vec<_>>())?;
    x = reshape::flat(b, x)?;
    let place = b.reduce(monoid, x, &[0], false)?;
    let kept = if keepdims { vec![Dim::from(1i64); shape.len()] } else { Vec::new() };
    Ok(vec![b.reshape(place, &kept)?])
}
