//! A convolution of an input with zeros between its elements, as convolutions of the input itself.
//!
//! With `s - 1` zeros between elements, an output at `s q + p` meets only every `s`-th element of the kernel, from one that the phase `p` decides. So the outputs of
//! each phase are a convolution with a part of the kernel, and no zero is multiplied; the phases are put in turn. The gradient of a strided convolution by its input is
//! such a convolution, and so is a transposed one.

use crate::ir::builder::GraphBuilder;
use crate::ir::dim::Dim;
use crate::ir::graph::ValueId;
use crate::ir::ops::TypeError;
use crate::ir::ops::concat::Concat;
use crate::ir::ops::slice::Slice;
use crate::ir::ops::spatial::Geometry;

/// One phase of one axis.
#[derive(Clone, Copy)]
struct Phase {
    /// The first element of the kernel, and how many.
    first: i64,
    count: i64,
    low: i64,
    high: i64,
}

/// Whether a convolution is done by phases.
pub(super) fn apply_to(g: &Geometry) -> bool {
    let plain = g.strides.iter().chain(&g.dilations).all(|n| *n == 1);
    plain && g.input_dilations.iter().any(|d| *d > 1)
}

/// The phases of an axis: `size` inputs, a kernel of `kernel`, `outputs` outputs in all, rounded up to whole turns.
fn phases(size: i64, kernel: i64, dilation: i64, low: i64, outputs: i64) -> Vec<Phase> {
    let turns = outputs.div_euclid(dilation) + i64::from(outputs.rem_euclid(dilation) > 0);
    let phase = |p: i64| {
        let first = (low - p).rem_euclid(dilation);
        let count = (kernel - first).max(0).div_euclid(dilation) + i64::from((kernel - first).max(0) % dilation > 0);
        let low = (low - p - first).div_euclid(dilation);
        Phase { first, count, low, high: turns - 1 + count - size - low }
    };
    (0..dilation).map(phase).collect()
}

/// Expands a convolution of a plain input.
type Convolve = fn(&mut GraphBuilder, &Geometry, ValueId, ValueId) -> Result<ValueId, TypeError>;

/// The convolution by `convolve` of each phase.
///
/// # Errors
/// A size that is not known, or what `convolve` says.
pub(super) fn convolve(
    b: &mut GraphBuilder,
    g: &Geometry,
    (x, w): (ValueId, ValueId),
    outputs: &[Dim],
    convolve: Convolve,
) -> Result<ValueId, TypeError> {
    let unknown = || TypeError::new("a size is not known");
    let number = |dim: &Dim| dim.constant().ok_or_else(unknown);
    let (input, kernel) = (b.shape_of(x), b.shape_of(w));
    let mut axes: Vec<Vec<Phase>> = Vec::new();
    for axis in 0..g.rank() {
        let sizes = (number(&input[axis + 1])?, number(&kernel[axis])?, number(&outputs[axis + 1])?);
        axes.push(phases(sizes.0, sizes.1, g.input_dilations[axis] as i64, g.low[axis], sizes.2));
    }
    let whole = interleaved(b, &axes, &mut Vec::new(), &mut |b, chosen| {
        let mut part = Slice::whole(&b.shape_of(w));
        let mut geometry = Geometry { input_dilations: vec![1; g.rank()], ..g.clone() };
        for (axis, phase) in chosen.iter().enumerate() {
            part.starts[axis] = Dim::from(phase.first.min(number(&kernel[axis])?));
            part.sizes[axis] = Dim::from(phase.count);
            part.steps[axis] = g.input_dilations[axis] as i64;
            (geometry.low[axis], geometry.high[axis]) = (phase.low, phase.high);
        }
        if chosen.iter().any(|phase| phase.count == 0) {
            let mut shape = outputs.to_vec();
            for (axis, phase) in chosen.iter().enumerate() {
                let turns = number(&input[axis + 1])? + phase.low + phase.high - phase.count + 1;
                shape[axis + 1] = Dim::from(turns);
            }
            let dtype = b.dtype_of(x);
            return Ok(b.constant(0.0, dtype, &shape));
        }
        let kernel = b.add_one(part, &[w])?;
        convolve(b, &geometry, x, kernel)
    })?;
    if b.shape_of(whole) == outputs {
        return Ok(whole);
    }
    let mut cut = Slice::whole(&b.shape_of(whole));
    cut.sizes = outputs.to_vec();
    b.add_one(cut, &[whole])
}

/// Makes the value of one phase of each axis.
type Make<'m> = dyn FnMut(&mut GraphBuilder, &[Phase]) -> Result<ValueId, TypeError> + 'm;

/// The values of all phases in turn along the axes from `chosen.len()` on.
fn interleaved(
    b: &mut GraphBuilder,
    axes: &[Vec<Phase>],
    chosen: &mut Vec<Phase>,
    make: &mut Make<'_>,
) -> Result<ValueId, TypeError> {
    let Some(phases) = axes.get(chosen.len()) else { return make(b, chosen) };
    let axis = chosen.len() + 1;
    let mut parts = Vec::new();
    for phase in phases {
        chosen.push(*phase);
        parts.push(interleaved(b, axes, chosen, make)?);
        chosen.pop();
    }
    let [one] = parts[..] else {
        let mut shape = b.shape_of(parts[0]);
        let merged = shape[axis].mul(&Dim::from(parts.len())).ok_or_else(|| TypeError::new("a size is too large"))?;
        shape.insert(axis + 1, Dim::from(1i64));
        let mut apart = Vec::new();
        for part in parts {
            apart.push(b.reshape(part, &shape)?);
        }
        let together = b.add_one(Concat { axis: axis + 1 }, &apart)?;
        shape.remove(axis + 1);
        shape[axis] = merged;
        return b.reshape(together, &shape);
    };
    Ok(one)
}
