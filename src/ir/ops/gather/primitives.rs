//! How the language picks elements: `gather`, `take_along_axis`, `index_at`, all of them made of `gather`.

use super::Gather;
use crate::ir::builder::GraphBuilder;
use crate::ir::dim::Dim;
use crate::ir::graph::ValueId;
use crate::ir::ops::primitive::Argument;
use crate::ir::ops::{
    OpDef, Parameter, Primitive, PrimitiveArguments, TypeError, broadcast, iota, reshape, scatter_add, slice,
};
use crate::ir::scalar::ScalarFunction;
use crate::ir::types::DType;

const X: Parameter = Parameter::required("x", "a tensor");

pub(super) fn all() -> Vec<Primitive> {
    let entry = |name, doc, parameters, build| Primitive { name, doc, parameters, rest: false, draws: false, build };
    vec![
        entry(
            "gather",
            "slices along an axis picked by an int or an integer tensor: y[i, j, k] = x[i, index[j], k]; an index of a tensor outside its range counts as the nearest inside",
            const {
                &[
                    X,
                    Parameter::required("index", "an int or an integer tensor"),
                    Parameter::optional("axis", "an int, 0 by default"),
                ]
            },
            build,
        ),
        entry(
            "take_along_axis",
            "one element for each index along an axis: y[i, j, k] = x[i, index[i, j, k], k]; the other dims broadcast",
            const {
                &[
                    X,
                    Parameter::required("index", "an integer tensor with as many dims as x"),
                    Parameter::optional("axis", "an int, the last by default"),
                ]
            },
            take_along_axis,
        ),
        entry(
            "index_at",
            "x[i, j]: elements at several integer tensors at once, one an axis, which broadcast; their dims stand where the axes were if those are neighbours, else first",
            const {
                &[
                    X,
                    Parameter::required("axes", "a list of ints, ascending"),
                    Parameter::required("indices", "a list of integer tensors"),
                ]
            },
            index_at,
        ),
    ]
}

fn build(b: &mut GraphBuilder, arguments: &PrimitiveArguments) -> Result<Vec<ValueId>, TypeError> {
    let x = arguments.tensor(b, 0)?;
    let shape = b.shape_of(x);
    let axis = arguments.axis_or(2, 0, shape.len())?;
    if let Some(Argument::Int(index)) = arguments.get(1) {
        return Ok(vec![pick_one(b, x, axis, index)?]);
    }
    let index = integer_index(b, arguments)?;
    Ok(vec![b.add_one(Gather { axis }, &[x, index])?])
}

/// Argument 1 as a tensor of `i32`.
pub fn integer_index(b: &mut GraphBuilder, arguments: &PrimitiveArguments) -> Result<ValueId, TypeError> {
    let index = arguments.tensor(b, 1)?;
    if !b.dtype_of(index).is_integer() {
        return Err(TypeError::new(format!("an index is an integer tensor, found {}", b.type_of(index))).at([1]));
    }
    Ok(b.cast(index, DType::I32))
}

/// For each element of `index`, which has as many axes as `x`, the row-major place in `x` of the element that it picks along
/// `axis`: the index there, everything else as it stands.
///
/// # Errors
/// More elements than can be counted.
pub fn flat_places(b: &mut GraphBuilder, x: ValueId, axis: usize, index: ValueId) -> Result<ValueId, TypeError> {
    let (from, shape) = (b.shape_of(x), b.shape_of(index));
    let mut stride = Dim::from(1i64);
    let mut places = None;
    for (own, size) in from.iter().enumerate().rev() {
        let step = if own == axis { index } else { b.add_one(iota::Iota { shape: shape.clone(), axis: own }, &[])? };
        let factor = b.dim_value(&stride, DType::I32);
        let part = b.map(ScalarFunction::Mul, &[step, factor])?;
        places = Some(match places {
            Some(sum) => b.map(ScalarFunction::Add, &[sum, part])?,
            None => part,
        });
        stride = stride.mul(size).ok_or_else(|| TypeError::new(format!("{} is too large", b.type_of(x))).at([0]))?;
    }
    places.ok_or_else(|| TypeError::new("a scalar has no axis").at([0]))
}

/// `x` with `updates` added at row-major places.
///
/// # Errors
/// As [`flat_places`].
pub fn add_flat(b: &mut GraphBuilder, x: ValueId, places: ValueId, updates: ValueId) -> Result<ValueId, TypeError> {
    let shape = b.shape_of(x);
    let (x, places, updates) = (reshape::flat(b, x)?, reshape::flat(b, places)?, reshape::flat(b, updates)?);
    let sum = b.add_one(scatter_add::ScatterAdd { axis: 0 }, &[x, places, updates])?;
    b.reshape(sum, &shape)
}

/// `index` in 0..size, or the nearest place in there.
fn clamped(b: &mut GraphBuilder, index: ValueId, size: &Dim) -> Result<ValueId, TypeError> {
    let too_large = || TypeError::new("a size is too large");
    let last = b.dim_value(&size.sub(&Dim::from(1i64)).ok_or_else(too_large)?, DType::I32);
    let zero = b.constant(0.0, DType::I32, &[]);
    let low = b.map(ScalarFunction::Max, &[index, zero])?;
    b.map(ScalarFunction::Min, &[low, last])
}

/// The one slice at a place known at compile time, without the axis.
fn pick_one(b: &mut GraphBuilder, x: ValueId, axis: usize, index: &Dim) -> Result<ValueId, TypeError> {
    let mut shape = b.shape_of(x);
    let size = &shape[axis];
    let outside =
        || TypeError::new(format!("index {index} is out of range for axis {axis}, which has size {size}")).at([0, 1]);
    let from_end = index.constant().is_some_and(|c| c < 0);
    let start = if from_end { size.add(index).ok_or_else(outside)? } else { index.clone() };
    let slice = slice::Slice::along(&shape, axis, start, Dim::from(1i64));
    slice.infer(&[b.type_of(x)]).map_err(|_| outside())?;
    let slab = b.emit(slice, &[x]);
    shape.remove(axis);
    b.reshape(slab, &shape)
}

fn take_along_axis(b: &mut GraphBuilder, arguments: &PrimitiveArguments) -> Result<Vec<ValueId>, TypeError> {
    let (x, index) = (arguments.tensor(b, 0)?, integer_index(b, arguments)?);
    let axis = arguments.axis_or(2, -1, b.type_of(x).rank())?;
    let (mut from, mut to) = (b.shape_of(x), b.shape_of(index));
    let disagree = |b: &GraphBuilder| {
        TypeError::new(format!("elements of {} by {} along axis {axis}", b.type_of(x), b.type_of(index)))
            .note("both have as many dims, and all but the axis agree or are a literal 1")
            .at([0, 1])
    };
    if from.len() != to.len() {
        return Err(disagree(b));
    }
    for other in (0..from.len()).filter(|a| *a != axis) {
        let common = broadcast::broadcast_shapes(&from[other..=other], &to[other..=other]).map_err(|_| disagree(b))?;
        (from[other], to[other]) = (common[0].clone(), common[0].clone());
    }
    let (x, index) = (b.broadcast(x, &from)?, b.broadcast(index, &to)?);
    let index = clamped(b, index, &from[axis])?;
    let places = flat_places(b, x, axis, index)?;
    let flat = reshape::flat(b, x)?;
    Ok(vec![b.add_one(Gather { axis: 0 }, &[flat, places])?])
}

fn index_at(b: &mut GraphBuilder, arguments: &PrimitiveArguments) -> Result<Vec<ValueId>, TypeError> {
    let x = arguments.tensor(b, 0)?;
    let shape = b.shape_of(x);
    let axes = arguments.axes(1, shape.len())?.unwrap_or_default();
    let indices = arguments.tensors(b, 2)?;
    if axes.is_empty() || axes.len() != indices.len() || !axes.is_sorted() {
        return Err(TypeError::new("expected an integer tensor for each of some ascending axes").at([1, 2]));
    }
    if let Some(other) = indices.iter().find(|v| !b.dtype_of(**v).is_integer()) {
        return Err(TypeError::new(format!("an index is an integer tensor, found {}", b.type_of(*other))).at([2]));
    }
    let mut common: Vec<Dim> = Vec::new();
    for index in &indices {
        common = broadcast::broadcast_shapes(&common, &b.shape_of(*index)).map_err(|(ours, theirs)| {
            let types: Vec<String> = indices.iter().map(|v| b.type_of(*v).to_string()).collect();
            TypeError::new(format!("indices {}: {ours} does not match {theirs}", types.join(" and "))).at([2])
        })?;
    }
    // The axes become one, in which the indices together are one.
    let (mut place, mut count) = (None, Dim::from(1i64));
    for (axis, index) in axes.iter().zip(&indices).rev() {
        let index = b.cast(*index, DType::I32);
        let index = clamped(b, index, &shape[*axis])?;
        let factor = b.dim_value(&count, DType::I32);
        let part = b.map(ScalarFunction::Mul, &[index, factor])?;
        place = Some(match place {
            Some(sum) => b.map(ScalarFunction::Add, &[part, sum])?,
            None => part,
        });
        count = count.mul(&shape[*axis]).ok_or_else(|| TypeError::new("a size is too large").at([0]))?;
    }
    let place = place.ok_or_else(|| TypeError::new("there is at least one axis"))?;
    let place = b.broadcast(place, &common)?;
    let neighbours = axes.windows(2).all(|p| p[0] + 1 == p[1]);
    let first = if neighbours { axes[0] } else { 0 };
    let others: Vec<usize> = (0..shape.len()).filter(|a| !axes.contains(a)).collect();
    let order: Vec<usize> = [&others[..first], &axes, &others[first..]].concat();
    let turned = b.transpose(x, &order)?;
    let dims = |axes: &[usize]| axes.iter().map(|a| shape[*a].clone()).collect::<Vec<_>>();
    let joined = [&dims(&others[..first])[..], &[count], &dims(&others[first..])].concat();
    let joined = b.reshape(turned, &joined)?;
    Ok(vec![b.add_one(Gather { axis: first }, &[joined, place])?])
}
