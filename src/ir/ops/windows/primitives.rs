//! The language's `windows` and the folds of them that pool.

use super::*;
use crate::ir::scalar::{Monoid, ScalarFunction};
use spatial::{Padding, per_axis};

const X: Parameter = Parameter::required("x", "a tensor [n, spatial.., channels] with 1 to 3 spatial dims");
const SIZE: Parameter = Parameter::required("size", "an int or a list, one a spatial dim");
const STRIDE: Parameter = Parameter::optional("stride", "an int or a list, the size by default");
const DILATION: Parameter = Parameter::optional("dilation", "an int or a list, 1 by default");
const POOL: &[Parameter] = &[
    X,
    SIZE,
    STRIDE,
    Parameter::optional(
        "pad",
        "`valid` (the default), `same`, `full`, an int, or a list of ints or of [before, after]",
    ),
    DILATION,
];

pub fn all() -> Vec<Primitive> {
    let entry = |name, doc, parameters, build| Primitive { name, doc, parameters, rest: false, draws: false, build };
    vec![
        entry(
            "windows",
            "the elements under each window: [n, h, w, c] becomes [n, oh, ow, kh, kw, c]; the stride is 1 by default",
            const { &[X, SIZE, Parameter::optional("stride", "an int or a list, 1 by default"), DILATION] },
            |b, a| {
                let (x, rank) = input(b, a)?;
                let windows = read(a, rank, 1)?;
                let value = b.add_one(windows, &[x])?;
                Ok(vec![value])
            },
        ),
        entry("window_max", "the largest element of each window; padding never wins", POOL, |b, a| {
            Ok(vec![pool(b, a, Monoid::Max)?.0])
        }),
        entry("window_min", "the smallest element of each window; padding never wins", POOL, |b, a| {
            Ok(vec![pool(b, a, Monoid::Min)?.0])
        }),
        entry("window_sum", "the sum of each window", POOL, |b, a| Ok(vec![pool(b, a, Monoid::Sum)?.0])),
        entry("window_mean", "the mean of each window's elements, padding not counted", POOL, mean),
    ]
}

/// The tensor and the number of its spatial axes.
fn input(b: &mut GraphBuilder, arguments: &PrimitiveArguments) -> Result<(ValueId, usize), TypeError> {
    let x = arguments.tensor(b, 0)?;
    let rank = b.type_of(x).rank().wrapping_sub(2);
    if !(1..=3).contains(&rank) {
        let text = format!("expected [n, spatial.., channels] with 1 to 3 spatial dims, found {}", b.type_of(x));
        return Err(TypeError::new(text).at([0]));
    }
    Ok((x, rank))
}

/// The windows of a call; without a stride they move by `default`, or by their size if that is 0.
fn read(arguments: &PrimitiveArguments, rank: usize, default: usize) -> Result<Windows, TypeError> {
    let sizes = per_axis(arguments, 1, rank, &[])?;
    let steps = if default == 0 { sizes.clone() } else { vec![default; rank] };
    let dilation = if default == 0 { 4 } else { 3 };
    Ok(Windows {
        axes: (1..=rank).collect(),
        strides: per_axis(arguments, 2, rank, &steps)?,
        dilations: per_axis(arguments, dilation, rank, &vec![1; rank])?,
        sizes,
    })
}

/// The fold of each window, and the windows and borders it was made of.
fn pool(
    b: &mut GraphBuilder,
    arguments: &PrimitiveArguments,
    monoid: Monoid,
) -> Result<(ValueId, Windows, pad::Pad), TypeError> {
    let (x, rank) = input(b, arguments)?;
    let windows = read(arguments, rank, 0)?;
    let padding = Padding::read(arguments, 3, rank)?;
    let ty = b.type_of(x).clone();
    if ty.dtype == DType::Bool {
        return Err(TypeError::new(format!("pooling of {ty}"))
            .note("convert it first, for example with `f32(x)`")
            .at([0]));
    }
    let mut pad = pad::Pad::none(ty.rank(), monoid.neutral(ty.dtype));
    for axis in 0..rank {
        let reach = extent(windows.sizes[axis], windows.dilations[axis]);
        let (low, high) = padding.borders(axis, &ty.shape[axis + 1], reach, windows.strides[axis])?;
        if low < 0 || high < 0 {
            return Err(TypeError::new("the borders of a pool cannot be negative").at([3]));
        }
        (pad.low[axis + 1], pad.high[axis + 1]) = (Dim::from(low), Dim::from(high));
    }
    let folded = fold(b, x, &windows, &pad, monoid)?;
    Ok((folded, windows, pad))
}

fn fold(
    b: &mut GraphBuilder,
    x: ValueId,
    windows: &Windows,
    pad: &pad::Pad,
    monoid: Monoid,
) -> Result<ValueId, TypeError> {
    let bordered = pad.low.iter().chain(&pad.high).any(|d| !d.is(0));
    let padded = if bordered { b.add_one(pad.clone(), &[x])? } else { x };
    let cut = b.add_one(windows.clone(), &[padded])?;
    let inner: Vec<usize> = (0..windows.axes.len()).map(|i| Windows::inner_axis(&windows.axes, i)).collect();
    b.reduce(monoid, cut, &inner, false)
}

/// The sum divided by the number of elements that are no padding, which is the sum of as many ones.
fn mean(b: &mut GraphBuilder, arguments: &PrimitiveArguments) -> Result<Vec<ValueId>, TypeError> {
    let (sum, windows, pad) = pool(b, arguments, Monoid::Sum)?;
    let (x, _) = input(b, arguments)?;
    let ty = b.type_of(x).clone();
    if !ty.dtype.is_float() {
        return Err(TypeError::new(format!("the mean of windows of {ty}"))
            .note("convert it first, for example with `f32(x)`")
            .at([0]));
    }
    let bordered = pad.low.iter().chain(&pad.high).any(|d| !d.is(0));
    let count = if bordered {
        let mut shape = ty.shape.clone();
        shape[0] = Dim::from(1i64);
        shape[ty.rank() - 1] = Dim::from(1i64);
        let ones = b.constant(1.0, ty.dtype, &shape);
        fold(b, ones, &windows, &pad, Monoid::Sum)?
    } else {
        b.constant(windows.sizes.iter().map(|n| *n as f64).product(), ty.dtype, &[])
    };
    Ok(vec![b.map(ScalarFunction::Div, &[sum, count])?])
}
