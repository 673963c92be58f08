//! The language's `convolve` and `convolve_transpose`.

use super::*;
use spatial::{Padding, extent, per_axis};

const STRIDE: Parameter = Parameter::optional("stride", "an int or a list, 1 by default");
const PAD: Parameter = Parameter::optional(
    "pad",
    "`valid` (the default), `same`, `full`, an int, or a list of ints or of [before, after]",
);
const DILATION: Parameter = Parameter::optional("dilation", "an int or a list, 1 by default");
const GROUPS: Parameter = Parameter::optional("groups", "an int, 1 by default");
const X: Parameter = Parameter::required("x", "a tensor [n, spatial.., channels] with 1 to 3 spatial dims");

pub fn all() -> Vec<Primitive> {
    vec![
        Primitive {
            name: "convolve",
            doc: "the cross-correlation of x with a kernel, channels last, 1 to 3 dims: y[n, o, f] = sum over k, c of x[n, o * stride + k * dilation, c] * w[k, c, f]",
            parameters: const {
                &[
                    X,
                    Parameter::required("w", "a kernel [spatial.., channels / groups, filters]"),
                    STRIDE,
                    PAD,
                    DILATION,
                    GROUPS,
                ]
            },
            rest: false,
            draws: false,
            build: forward,
        },
        Primitive {
            name: "convolve_transpose",
            doc: "the adjoint of `convolve` with the same kernel: y[n, o * stride + k * dilation, f] gets x[n, o, c] * w[k, f, c] added",
            parameters: const {
                &[
                    X,
                    Parameter::required("w", "a kernel [spatial.., filters / groups, channels]"),
                    STRIDE,
                    PAD,
                    DILATION,
                    GROUPS,
                ]
            },
            rest: false,
            draws: false,
            build: transposed,
        },
    ]
}

/// What both take.
struct Call {
    x: ValueId,
    w: ValueId,
    rank: usize,
    /// Of the kernel.
    sizes: Vec<usize>,
    padding: Padding,
    /// Without borders.
    geometry: Geometry,
}

fn call(b: &mut GraphBuilder, arguments: &PrimitiveArguments) -> Result<Call, TypeError> {
    let (x, w) = (arguments.tensor(b, 0)?, arguments.tensor(b, 1)?);
    let rank = b.type_of(x).rank().wrapping_sub(2);
    if !(1..=3).contains(&rank) {
        let text = format!("expected [n, spatial.., channels] with 1 to 3 spatial dims, found {}", b.type_of(x));
        return Err(TypeError::new(text).at([0]));
    }
    if b.type_of(w).rank() != rank + 2 {
        let text = format!("a kernel for {} has {} dims, found {}", b.type_of(x), rank + 2, b.type_of(w));
        return Err(TypeError::new(text).note("a kernel is [spatial.., channels, filters]").at([0, 1]));
    }
    let sizes = kernel_sizes(b.type_of(w), rank)?;
    let mut geometry = Geometry::plain(rank);
    geometry.strides = per_axis(arguments, 2, rank, &geometry.strides)?;
    let padding = Padding::read(arguments, 3, rank)?;
    geometry.dilations = per_axis(arguments, 4, rank, &geometry.dilations)?;
    if arguments.get(5).is_some() {
        let groups = usize::try_from(arguments.int(5)?).ok().filter(|g| *g > 0);
        geometry.groups = groups.ok_or_else(|| TypeError::new("expected at least 1 group").at([5]))?;
    }
    Ok(Call { x, w, rank, sizes, padding, geometry })
}

fn forward(b: &mut GraphBuilder, arguments: &PrimitiveArguments) -> Result<Vec<ValueId>, TypeError> {
    let Call { x, w, rank, sizes, padding, mut geometry } = call(b, arguments)?;
    let input = b.shape_of(x);
    for axis in 0..rank {
        let reach = extent(sizes[axis], geometry.dilations[axis]);
        (geometry.low[axis], geometry.high[axis]) =
            padding.borders(axis, &input[axis + 1], reach, geometry.strides[axis]).map_err(|e| e.at([0, 2]))?;
    }
    Ok(vec![b.add_one(Convolve { geometry }, &[x, w])?])
}

/// The input's gradient of the convolution with the same padding. Of the inputs that such a convolution takes to this many places
/// it is the smallest, but with `same` padding the one of `places · stride` elements and with `valid` none below `stride`, as in Keras.
fn transposed(b: &mut GraphBuilder, arguments: &PrimitiveArguments) -> Result<Vec<ValueId>, TypeError> {
    let Call { x, w, rank, sizes, padding, mut geometry } = call(b, arguments)?;
    let shape = b.shape_of(x);
    let mut result = vec![shape[0].clone()];
    let too_large = || TypeError::new("a size is too large").at([0]);
    for axis in 0..rank {
        let (reach, stride) = (extent(sizes[axis], geometry.dilations[axis]), geometry.strides[axis]);
        let last =
            shape[axis + 1].sub(&Dim::from(1i64)).and_then(|d| d.mul(&Dim::from(stride))).ok_or_else(too_large)?;
        let after = match &padding {
            Padding::Valid => reach.max(stride as i64),
            Padding::Same => stride as i64,
            Padding::Full => 2 - reach,
            Padding::Explicit(pairs) => reach - pairs[axis].0 - pairs[axis].1,
        };
        let size = last.add(&Dim::from(after)).filter(|d| d.constant().is_none_or(|n| n > 0));
        let size = size.ok_or_else(|| {
            TypeError::new(format!("the padding takes away all of axis {} of the result", axis + 1)).at([0, 3])
        })?;
        (geometry.low[axis], geometry.high[axis]) = padding.borders(axis, &size, reach, stride)?;
        result.push(size);
    }
    check_channels(b, x, w, rank, geometry.groups)?;
    result.push(b.shape_of(w)[rank].mul(&Dim::from(geometry.groups)).ok_or_else(too_large)?);
    Ok(vec![input_gradient(b, &geometry, &result, w, x)?])
}

/// The kernel's last axis are the channels of `x`.
fn check_channels(b: &GraphBuilder, x: ValueId, w: ValueId, rank: usize, groups: usize) -> Result<(), TypeError> {
    let (x, w) = (b.type_of(x), b.type_of(w));
    let (channels, taken) = (&x.shape[rank + 1], &w.shape[rank + 1]);
    if channels != taken {
        let text = format!("the input has {channels} channels, the kernel takes {taken}");
        let order = "a transposed kernel is [spatial.., filters, channels]";
        return Err(TypeError::new(text).note(format!("the input is {x}, the kernel {w}")).note(order).at([0, 1]));
    }
    if groups > 1 && channels.div_exact(&Dim::from(groups)).is_none() {
        return Err(TypeError::new(format!("{channels} channels do not divide into {groups} groups")).at([0, 5]));
    }
    Ok(())
}
