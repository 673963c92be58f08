//! `slice`: every so manieth element along each axis, forwards or backwards.

use super::*;
use crate::ir::dim::Dim;
use crate::ir::scalar::ScalarFunction;
use crate::ir::types::DType;
use primitive::Argument;

/// Element `i` along an axis is element `start + i * step` of the operand, for `i` below the size.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Slice {
    pub starts: Vec<Dim>,
    pub sizes: Vec<Dim>,
    /// Not 0; negative steps go backwards.
    pub steps: Vec<i64>,
}

impl Slice {
    /// The slice of a tensor of `shape` that takes everything, to be narrowed axis by axis.
    pub fn whole(shape: &[Dim]) -> Slice {
        Slice { starts: vec![Dim::from(0i64); shape.len()], sizes: shape.to_vec(), steps: vec![1; shape.len()] }
    }

    /// `size` elements along `axis` from `start`, and every other axis whole.
    pub fn along(shape: &[Dim], axis: usize, start: Dim, size: Dim) -> Slice {
        let mut slice = Slice::whole(shape);
        slice.starts[axis] = start;
        slice.sizes[axis] = size;
        slice
    }

    /// Everything, with `axes` reversed; `None` on overflow.
    pub fn reversed(shape: &[Dim], axes: &[usize]) -> Option<Slice> {
        let mut slice = Slice::whole(shape);
        for axis in axes {
            slice.starts[*axis] = shape[*axis].sub(&Dim::from(1i64))?;
            slice.steps[*axis] = -1;
        }
        Some(slice)
    }

    /// Whether the elements along one axis of size `dim` exist, as far as the sizes are known.
    fn fits(&self, axis: usize, dim: &Dim) -> bool {
        let (start, size, step) = (&self.starts[axis], &self.sizes[axis], self.steps[axis]);
        match (start.constant(), size.constant(), dim.constant()) {
            (_, Some(size), _) if size < 0 => false,
            (_, Some(0), _) => true,
            (Some(start), Some(size), Some(dim)) => {
                let last = (size - 1).checked_mul(step).and_then(|d| d.checked_add(start));
                (0..dim).contains(&start) && last.is_some_and(|l| (0..dim).contains(&l))
            }
            (start, _, _) if start.is_some_and(|s| s < 0) && step > 0 => false,
            // With symbolic sizes only what is left after a slice of step 1 may be known to be negative.
            _ if step == 1 => {
                let rest = dim.sub(start).and_then(|d| d.sub(size));
                rest.is_some_and(|r| r.constant().is_none_or(|r| r >= 0))
            }
            _ => true,
        }
    }
}

impl OpDef for Slice {
    const DOC: OpDoc = OpDoc {
        name: "slice",
        summary: "every so manieth element along each axis",
        shapes: "x[n, ..] -> sizes",
        equation: "y[i] = x[starts + i * steps]",
        derivative: "dx = dy padded with zeros, reversed where the step is negative",
        dtypes: "any",
        error: "exact",
    };

    fn attributes(&self) -> Attributes {
        Attributes::new([
            ("starts", Attribute::Dims(self.starts.clone())),
            ("sizes", Attribute::Dims(self.sizes.clone())),
            ("steps", Attribute::dims(self.steps.iter().copied())),
        ])
    }

    fn from_attributes(attributes: &Attributes) -> Result<Self, String> {
        let (starts, sizes) = (attributes.dims("starts")?, attributes.dims("sizes")?);
        Ok(Slice { starts, sizes, steps: attributes.numbers("steps")? })
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let [x] = expect_operands(inputs)?;
        let lengths = [self.starts.len(), self.sizes.len(), self.steps.len()];
        if lengths != [x.rank(); 3] || self.steps.contains(&0) {
            return Err(TypeError::new(format!(
                "a slice of {x} needs a start, a size and a step other than 0 for each axis"
            )));
        }
        if let Some(axis) = (0..x.rank()).find(|a| !self.fits(*a, &x.shape[*a])) {
            let (start, size, step) = (&self.starts[axis], &self.sizes[axis], self.steps[axis]);
            return Err(TypeError::new(format!("a slice leaves axis {axis} of {x}"))
                .note(format!("it takes {size} elements from {start} in steps of {step}"))
                .at([0]));
        }
        Ok(vec![TensorType { dtype: x.dtype, shape: self.sizes.clone() }])
    }

    fn eval(&self, inputs: &[&Tensor], outputs: &[TensorType]) -> Vec<Tensor> {
        let starts: Vec<i64> = self.starts.iter().map(known).collect();
        let at = |index: &[usize]| -> Vec<usize> {
            (0..index.len()).map(|a| (starts[a] + index[a] as i64 * self.steps[a]) as usize).collect()
        };
        vec![Tensor::from_fn(outputs[0].clone(), |index| inputs[0].at(&at(index)))]
    }

    fn vjp(&self, cx: &mut VjpContext<'_>) -> Result<Vec<Option<ValueId>>, NotDifferentiable> {
        let x = cx.inputs[0];
        let shape = cx.builder.shape_of(x);
        let gradient = cx.gradient();
        if self.sizes.iter().any(|s| s.is(0)) {
            return Ok(vec![Some(cx.builder.constant_like(0.0, x))]);
        }
        let overflow = || NotDifferentiable("the sizes of a slice are too large".into());
        let backwards: Vec<usize> = (0..shape.len()).filter(|a| self.steps[*a] < 0).collect();
        let forwards = match backwards.is_empty() {
            true => gradient,
            false => cx.builder.emit(Slice::reversed(&self.sizes, &backwards).ok_or_else(overflow)?, &[gradient]),
        };
        let mut pad = pad::Pad::none(shape.len(), 0.0);
        for (axis, dim) in shape.iter().enumerate() {
            let (low, high) = self.margins(axis, dim).ok_or_else(overflow)?;
            pad.low[axis] = low;
            pad.high[axis] = high;
            pad.interior[axis] = self.steps[axis].unsigned_abs() as usize - 1;
        }
        Ok(vec![Some(cx.builder.emit(pad, &[forwards]))])
    }

    fn access(&self, _: &[TensorType], _: &[TensorType]) -> Access {
        let expression = |axis: usize| IndexExpression {
            constant: known(&self.starts[axis]),
            terms: vec![(axis, self.steps[axis])],
        };
        Access::Pointwise(vec![IndexMap((0..self.starts.len()).map(expression).collect())])
    }

    fn lower(&self, cx: &mut LowerContext<'_, '_>) -> Vec<Value> {
        vec![cx.element(0)]
    }

    fn primitives() -> Vec<Primitive> {
        const X: Parameter = Parameter::required("x", "a tensor");
        vec![
            Primitive {
                name: "slice",
                doc: "x[starts:stops:steps] along each axis; negative places count from the end",
                parameters: const {
                    &[
                        X,
                        Parameter::optional("starts", "a list of ints, one an axis"),
                        Parameter::optional("stops", "a list of ints, one an axis"),
                        Parameter::optional("steps", "a list of ints, one an axis"),
                    ]
                },
                rest: false,
                draws: false,
                build: slice,
            },
            Primitive {
                name: "reverse",
                doc: "x backwards along the given axes, by default all",
                parameters: const { &[X, Parameter::optional("axis", "an int or a list of ints")] },
                rest: false,
                draws: false,
                build: |b, a| {
                    let x = a.tensor(b, 0)?;
                    let shape = b.shape_of(x);
                    let axes = a.axes(1, shape.len())?.unwrap_or_else(|| (0..shape.len()).collect());
                    Ok(vec![b.add_one(Slice::reversed(&shape, &axes).ok_or_else(too_large)?, &[x])?])
                },
            },
            Primitive {
                name: "diagonal",
                doc: "the elements with equal places along two axes, as the last axis: y[.., i] = x[.., i, i]",
                parameters: const {
                    &[
                        X,
                        Parameter::optional("axis1", "an int, the last but one by default"),
                        Parameter::optional("axis2", "an int, the last by default"),
                    ]
                },
                rest: false,
                draws: false,
                build: |b, a| {
                    let x = a.tensor(b, 0)?;
                    let rank = b.type_of(x).rank();
                    let (first, second) = (a.axis_or(1, -2, rank)?, a.axis_or(2, -1, rank)?);
                    if first == second {
                        return Err(TypeError::new("a diagonal is along two axes").at([1, 2]));
                    }
                    Ok(vec![diagonal(b, x, first, second)?])
                },
            },
            Primitive {
                name: "split",
                doc: "x in parts along an axis: so many equal ones, or ones of the given sizes",
                parameters: const {
                    &[
                        X,
                        Parameter::required("parts", "an int or a list of sizes"),
                        Parameter::optional("axis", "an int, 0 by default"),
                    ]
                },
                rest: false,
                draws: false,
                build: split,
            },
        ]
    }

    fn samples() -> Vec<Sample<Self>> {
        let sample = |shape: &[usize], starts: &[i64], sizes: &[i64], steps: &[i64]| Sample {
            op: Slice {
                starts: starts.iter().map(|n| Dim::from(*n)).collect(),
                sizes: sizes.iter().map(|n| Dim::from(*n)).collect(),
                steps: steps.to_vec(),
            },
            inputs: vec![sample::signed(shape, 1)],
        };
        vec![
            sample(&[19], &[2], &[11], &[1]),
            sample(&[19], &[1], &[7], &[2]),
            sample(&[19], &[18], &[19], &[-1]),
            sample(&[19], &[17], &[5], &[-3]),
            sample(&[5, 7], &[1, 6], &[3, 4], &[1, -2]),
            sample(&[5, 7], &[0, 3], &[5, 1], &[1, 1]),
            sample(&[4], &[4], &[0], &[1]),
            sample(&[], &[], &[], &[]),
            sample(&[1], &[0], &[1], &[-1]),
            sample(&[0, 3], &[0, 2], &[0, 2], &[1, -2]),
            sample(&[400], &[3], &[5], &[97]),
            sample(&[400], &[399], &[4], &[-131]),
            sample(&[6, 5, 9], &[5, 4, 8], &[3, 5, 2], &[-2, -1, -7]),
        ]
    }
}

impl Slice {
    /// What of an axis of size `dim` lies before and after the elements taken, in ascending order; `None` on overflow.
    fn margins(&self, axis: usize, dim: &Dim) -> Option<(Dim, Dim)> {
        let step = self.steps[axis];
        let reach = self.sizes[axis].sub(&Dim::from(1i64))?.mul(&Dim::from(step.checked_abs()?))?;
        let low = if step > 0 { self.starts[axis].clone() } else { self.starts[axis].sub(&reach)? };
        let high = dim.sub(&low)?.sub(&reach)?.sub(&Dim::from(1i64))?;
        Some((low, high))
    }
}

/// The elements whose places along two axes are equal, as the last axis; the axes themselves go.
///
/// # Errors
/// Sizes that are not numbers and not the same.
pub(super) fn diagonal(b: &mut GraphBuilder, x: ValueId, first: usize, second: usize) -> Result<ValueId, TypeError> {
    let shape = b.shape_of(x);
    let others: Vec<usize> = (0..shape.len()).filter(|a| ![first, second].contains(a)).collect();
    let turned = b.transpose(x, &[&others[..], &[first, second]].concat())?;
    let (rows, columns) = (&shape[first], &shape[second]);
    let length = match (rows.constant(), columns.constant()) {
        (Some(r), Some(c)) => Dim::from(r.min(c)),
        _ if rows == columns => rows.clone(),
        _ => return Err(TypeError::new(format!("the diagonal of {} by {}", rows, columns)).at([0])),
    };
    let all = rows.mul(columns).ok_or_else(too_large)?;
    let mut flat: Vec<Dim> = others.iter().map(|a| shape[*a].clone()).collect();
    let last = flat.len();
    flat.push(all);
    let flat_value = b.reshape(turned, &flat)?;
    // From one element of the diagonal to the next it is a row and one further.
    let step = columns.add(&Dim::from(1i64)).ok_or_else(too_large)?;
    if let Some(step) = step.constant() {
        let mut slice = Slice::along(&flat, last, Dim::from(0i64), length);
        slice.steps[last] = step;
        return b.add_one(slice, &[flat_value]);
    }
    let numbers = b.emit(iota::Iota { shape: vec![length], axis: 0 }, &[]);
    let step = b.dim_value(&step, DType::I32);
    let places = b.map(ScalarFunction::Mul, &[numbers, step])?;
    b.add_one(gather::Gather { axis: last }, &[flat_value, places])
}

fn known(dim: &Dim) -> i64 {
    dim.constant().expect("sizes are concrete here")
}

fn too_large() -> TypeError {
    TypeError::new("a size is too large")
}

/// Entry `axis` of a list argument, if it is there and not left out.
fn entry(arguments: &PrimitiveArguments, position: usize, axis: usize) -> Result<Option<Dim>, TypeError> {
    let item = match arguments.get(position) {
        None => return Ok(None),
        Some(Argument::List(items)) => items.get(axis),
        Some(single) => (axis == 0).then_some(single),
    };
    match item {
        None | Some(Argument::Nothing) => Ok(None),
        Some(Argument::Int(dim)) => Ok(Some(dim.clone())),
        Some(other) => Err(TypeError::new(format!("expected an int, found {}", other.kind())).at([position])),
    }
}

/// A place between elements, negative ones counted from the end.
fn place(given: Dim, dim: &Dim, axis: usize, position: usize) -> Result<Dim, TypeError> {
    let from_end = given.constant().is_some_and(|c| c < 0);
    let place = if from_end { dim.add(&given).ok_or_else(too_large)? } else { given.clone() };
    let rest = dim.sub(&place).ok_or_else(too_large)?;
    let outside = |d: &Dim| d.constant().is_some_and(|c| c < 0);
    if outside(&place) || outside(&rest) {
        return Err(
            TypeError::new(format!("{given} is out of range for axis {axis}, which has size {dim}")).at([0, position])
        );
    }
    Ok(place)
}

fn slice(b: &mut GraphBuilder, arguments: &PrimitiveArguments) -> Result<Vec<ValueId>, TypeError> {
    let x = arguments.tensor(b, 0)?;
    let shape = b.shape_of(x);
    let mut whole = Slice::whole(&shape);
    for position in 1..4 {
        if let Some(Argument::List(items)) = arguments.get(position)
            && items.len() > shape.len()
        {
            return Err(TypeError::new(format!("{} entries for {}", items.len(), b.type_of(x))).at([0, position]));
        }
    }
    for (axis, dim) in shape.iter().enumerate() {
        let step = entry(arguments, 3, axis)?.map_or(Some(1), |d| d.constant());
        let step = step.filter(|s| *s != 0 && s.checked_abs().is_some());
        let step = step.ok_or_else(|| TypeError::new("a step is an int other than 0").at([3]))?;
        let (start, stop) = (entry(arguments, 1, axis)?, entry(arguments, 2, axis)?);
        let start = start.map(|d| place(d, dim, axis, 1)).transpose()?;
        let stop = stop.map(|d| place(d, dim, axis, 2)).transpose()?;
        let (start, size) = run(start, stop, step, dim).ok_or_else(|| {
            TypeError::new(format!(
                "the size of a slice in steps of {step} along axis {axis} of {} is no dim",
                b.type_of(x)
            ))
            .at([0, 3])
        })?;
        whole.starts[axis] = start;
        whole.sizes[axis] = size;
        whole.steps[axis] = step;
    }
    if whole == Slice::whole(&shape) {
        return Ok(vec![x]);
    }
    Ok(vec![b.add_one(whole, &[x])?])
}

/// Start and size of `start:stop:step` along an axis of size `dim`; `None` if the size is no polynomial.
fn run(start: Option<Dim>, stop: Option<Dim>, step: i64, dim: &Dim) -> Option<(Dim, Dim)> {
    let one = Dim::from(1i64);
    let (start, distance) = if step > 0 {
        let start = start.unwrap_or_else(|| Dim::from(0i64));
        let distance = stop.unwrap_or_else(|| dim.clone()).sub(&start)?;
        (start, distance)
    } else {
        let last = dim.sub(&one)?;
        // A start at the very end means the last element, as in Python.
        let start = start.filter(|s| s != dim).unwrap_or(last);
        let before_end = stop.unwrap_or_else(|| Dim::from(-1i64));
        let distance = start.sub(&before_end)?;
        (start, distance)
    };
    let size = match distance.constant() {
        Some(d) => Dim::from(d.max(0).checked_add(step.abs() - 1)? / step.abs()),
        None => distance.div_exact(&Dim::from(step.abs()))?,
    };
    Some((start, size))
}

fn split(b: &mut GraphBuilder, arguments: &PrimitiveArguments) -> Result<Vec<ValueId>, TypeError> {
    const MOST: i64 = 4096;
    let x = arguments.tensor(b, 0)?;
    let shape = b.shape_of(x);
    let axis = arguments.axis_or(2, 0, shape.len())?;
    let sizes = match arguments.get(1) {
        Some(Argument::List(_)) => arguments.shape(1)?,
        _ => {
            let parts = arguments.int(1)?;
            if !(1..=MOST).contains(&parts) {
                return Err(TypeError::new(format!("expected 1 to {MOST} parts, found {parts}")).at([1]));
            }
            let size = shape[axis].div_exact(&Dim::from(parts));
            let size = size.or_else(|| shape[axis].is(0).then(|| Dim::from(0i64))).ok_or_else(|| {
                TypeError::new(format!("axis {axis} of {} does not split into {parts} equal parts", b.type_of(x)))
                    .at([0, 1])
            })?;
            vec![size; parts as usize]
        }
    };
    let total = sizes.iter().try_fold(Dim::from(0i64), |t, s| t.add(s)).ok_or_else(too_large)?;
    if total != shape[axis] {
        return Err(TypeError::new(format!(
            "the parts have {total} elements, axis {axis} of {} has {}",
            b.type_of(x),
            shape[axis]
        ))
        .at([0, 1]));
    }
    let mut start = Dim::from(0i64);
    let mut parts = Vec::new();
    for size in sizes {
        parts.push(b.add_one(Slice::along(&shape, axis, start.clone(), size.clone()), &[x])?);
        start = start.add(&size).ok_or_else(too_large)?;
    }
    Ok(parts)
}
