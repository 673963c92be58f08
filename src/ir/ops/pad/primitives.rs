//! How the language pads: by a number, by the elements at the border, or by those before it mirrored.

use super::Pad;
use crate::ir::builder::GraphBuilder;
use crate::ir::dim::Dim;
use crate::ir::graph::ValueId;
use crate::ir::ops::primitive::Argument;
use crate::ir::ops::slice::Slice;
use crate::ir::ops::{Parameter, Primitive, PrimitiveArguments, TypeError, concat};
use crate::ir::types::DType;

pub(super) fn all() -> Vec<Primitive> {
    vec![Primitive {
        name: "pad",
        doc: "x with a border: an int for all sides, or [low, high] for each axis; \"edge\" repeats the outermost elements, \"reflect\" mirrors at them, \"symmetric\" beside them",
        parameters: const {
            &[
                Parameter::required("x", "a tensor"),
                Parameter::required("widths", "an int or a list of [low, high], one an axis"),
                Parameter::optional("value", "a number, 0 by default"),
                Parameter::optional("mode", "\"constant\" (the default), \"edge\", \"reflect\" or \"symmetric\""),
            ]
        },
        rest: false,
        draws: false,
        build,
    }]
}

fn build(b: &mut GraphBuilder, arguments: &PrimitiveArguments) -> Result<Vec<ValueId>, TypeError> {
    let x = arguments.tensor(b, 0)?;
    let rank = b.type_of(x).rank();
    let widths = widths(b, x, arguments)?;
    if arguments.get(3).is_none() || arguments.text(3)? == "constant" {
        let mut pad = Pad::none(rank, value(b.dtype_of(x), arguments)?);
        (pad.low, pad.high) = widths.into_iter().unzip();
        return Ok(vec![b.add_one(pad, &[x])?]);
    }
    if arguments.get(2).is_some() {
        return Err(TypeError::new("only a border of one number has a `value`").at([2, 3]));
    }
    let mut padded = x;
    for (axis, (low, high)) in widths.iter().enumerate() {
        // The borders of later axes are those of what is padded by now.
        let mut parts = Vec::new();
        if let Some(border) = border(b, x, axis, low, true, arguments)? {
            parts.push(border.take(b, padded, axis)?);
        }
        parts.push(padded);
        if let Some(border) = border(b, x, axis, high, false, arguments)? {
            parts.push(border.take(b, padded, axis)?);
        }
        if parts.len() > 1 {
            padded = b.add_one(concat::Concat { axis }, &parts)?;
        }
    }
    Ok(vec![padded])
}

/// A number of the dtype.
fn value(dtype: DType, arguments: &PrimitiveArguments) -> Result<f64, TypeError> {
    match arguments.get(2) {
        None => Ok(0.0),
        Some(Argument::Float(v)) if dtype.is_float() => Ok(*v),
        Some(Argument::Bool(v)) if dtype == DType::Bool => Ok(f64::from(u8::from(*v))),
        Some(Argument::Int(d)) if dtype != DType::Bool && d.constant().is_some() => Ok(arguments.int(2)? as f64),
        Some(other) => {
            Err(TypeError::new(format!("expected a number that is a {dtype}, found {}", other.kind())).at([2]))
        }
    }
}

/// The widths before and after each axis.
fn widths(b: &GraphBuilder, x: ValueId, arguments: &PrimitiveArguments) -> Result<Vec<(Dim, Dim)>, TypeError> {
    let rank = b.type_of(x).rank();
    match arguments.get(1) {
        Some(Argument::Int(width)) => Ok(vec![(width.clone(), width.clone()); rank]),
        Some(Argument::List(axes)) if axes.len() == rank => axes
            .iter()
            .map(|pair| {
                let pair = PrimitiveArguments::new(vec![Some(pair.clone())]).dims(0).map_err(|e| e.at([1]))?;
                let [low, high] =
                    <[Dim; 2]>::try_from(pair).map_err(|_| TypeError::new("expected [low, high]").at([1]))?;
                Ok((low, high))
            })
            .collect(),
        _ => {
            let text = format!("expected an int or a list of {rank} [low, high] for {}", b.type_of(x));
            Err(TypeError::new(text).at([0, 1]))
        }
    }
}

/// What stands beside a tensor along an axis.
struct Border {
    /// The first of the elements taken, going backwards; or the one that is repeated.
    start: Dim,
    width: Dim,
    repeated: bool,
}

impl Border {
    fn take(self, b: &mut GraphBuilder, x: ValueId, axis: usize) -> Result<ValueId, TypeError> {
        let mut shape = b.shape_of(x);
        if self.repeated {
            let edge = b.add_one(Slice::along(&shape, axis, self.start, Dim::from(1i64)), &[x])?;
            shape[axis] = self.width;
            return b.broadcast(edge, &shape);
        }
        let mut slice = Slice::along(&shape, axis, self.start, self.width);
        slice.steps[axis] = -1;
        b.add_one(slice, &[x])
    }
}

/// The border of `width` before or after an axis of `x`; none if it is 0 wide.
fn border(
    b: &GraphBuilder,
    x: ValueId,
    axis: usize,
    width: &Dim,
    low: bool,
    arguments: &PrimitiveArguments,
) -> Result<Option<Border>, TypeError> {
    let dim = b.type_of(x).shape[axis].clone();
    let mode = arguments.text(3)?;
    // How far the mirror stands inside, and how many elements there are to be mirrored.
    let (inside, repeated) = match mode {
        "edge" => (0, true),
        "reflect" => (1, false),
        "symmetric" => (0, false),
        other => {
            let text = format!(
                "there is no padding {other:?}; there are \"constant\", \"edge\", \"reflect\" and \"symmetric\""
            );
            return Err(TypeError::new(text).at([3]));
        }
    };
    if width.is(0) {
        return Ok(None);
    }
    let too_wide =
        || TypeError::new(format!("a border of {width} by {mode:?} along axis {axis} of {}", b.type_of(x))).at([0, 1]);
    let needed = if repeated { Dim::from(1i64) } else { width.add(&Dim::from(inside)).ok_or_else(too_wide)? };
    let rest = dim.sub(&needed).ok_or_else(too_wide)?;
    if [width, &rest].iter().any(|d| d.constant().is_some_and(|c| c < 0)) {
        return Err(too_wide());
    }
    let last = |back: i64| dim.sub(&Dim::from(1 + back)).ok_or_else(too_wide);
    let start = match (low, repeated) {
        (true, true) => Dim::from(0i64),
        (true, false) => width.sub(&Dim::from(1 - inside)).ok_or_else(too_wide)?,
        (false, _) => last(inside)?,
    };
    Ok(Some(Border { start, width: width.clone(), repeated }))
}
