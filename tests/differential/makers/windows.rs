//! Windows that move along axes: convolutions of every geometry, views of windows and their sums.

use nnc::ir::graph::ValueId;
use nnc::ir::ops::convolve::Convolve;
use nnc::ir::ops::convolve_kernel::ConvolveKernel;
use nnc::ir::ops::overlap_add::OverlapAdd;
use nnc::ir::ops::spatial::Geometry;
use nnc::ir::ops::windows::Windows;
use nnc::ir::types::{DType, TensorType};

use crate::choices::Choices;
use crate::draft::{Draft, dims};

/// How a kernel moves over `rank` axes.
fn geometry(choices: &mut Choices<'_>, rank: usize) -> Geometry {
    let mut geometry = Geometry::plain(rank);
    for axis in 0..rank {
        geometry.strides[axis] = choices.of(&[1, 2, 1, 3]);
        geometry.low[axis] = choices.of(&[0, 1, 2, 0, -1]);
        geometry.high[axis] = choices.of(&[0, 1, 0, 2]);
        geometry.dilations[axis] = choices.of(&[1, 1, 2]);
        geometry.input_dilations[axis] = choices.of(&[1, 1, 1, 2]);
    }
    geometry.groups = choices.of(&[1, 1, 2]);
    geometry
}

/// A value of a number dtype made to fit a shape.
fn fitted(draft: &mut Draft, choices: &mut Choices<'_>, dtype: DType, shape: &[usize]) -> Option<ValueId> {
    if !draft.is_small(shape) {
        return None;
    }
    let value = draft.pick(choices, |ty| ty.dtype == dtype)?;
    draft.fit(value, &TensorType::new(dtype, shape.iter().copied()))
}

/// The dtype of a number in the graph.
fn dtype(draft: &Draft, choices: &mut Choices<'_>) -> Option<DType> {
    let value = draft.pick(choices, |ty| ty.dtype != DType::Bool)?;
    Some(draft.b.dtype_of(value))
}

/// The shapes of an input and a kernel.
fn shapes(choices: &mut Choices<'_>, rank: usize, groups: usize) -> (Vec<usize>, Vec<usize>) {
    let (mut input, mut kernel) = (vec![choices.of(&[1, 2, 3])], Vec::new());
    for _ in 0..rank {
        input.push(choices.of(&[5, 4, 7, 3]));
        kernel.push(choices.of(&[2, 1, 3]));
    }
    let channels = choices.of(&[1, 2, 3]);
    input.push(channels * groups);
    kernel.extend([channels, groups * choices.of(&[1, 2, 4])]);
    (input, kernel)
}

/// A convolution over one or two axes.
pub fn convolve(draft: &mut Draft, choices: &mut Choices<'_>) -> Option<Vec<ValueId>> {
    let dtype = dtype(draft, choices)?;
    let more = choices.genes(2);
    let more = &mut Choices::new(&more[0]);
    let rank = choices.of(&[1, 2, 1]);
    let geometry = geometry(more, rank);
    let (input, kernel) = shapes(choices, rank, geometry.groups);
    let x = fitted(draft, choices, dtype, &input)?;
    let w = fitted(draft, choices, dtype, &kernel)?;
    let y = draft.add(Convolve { geometry }, &[x, w])?[0];
    Some(vec![draft.tame(y, choices)])
}

/// The gradient of a convolution by its kernel.
pub fn convolve_kernel(draft: &mut Draft, choices: &mut Choices<'_>) -> Option<Vec<ValueId>> {
    let dtype = dtype(draft, choices)?;
    let more = choices.genes(2);
    let more = &mut Choices::new(&more[0]);
    let rank = choices.of(&[1, 2, 1]);
    let geometry = geometry(more, rank);
    let (input, kernel) = shapes(choices, rank, geometry.groups);
    let spatial = geometry.output(&dims(&input[1..=rank]), &kernel[..rank]).ok()?;
    let spatial: Option<Vec<usize>> = spatial.iter().map(|d| usize::try_from(d.constant()?).ok()).collect();
    let result = [&input[..1], &spatial?, &kernel[rank + 1..]].concat();
    let x = fitted(draft, choices, dtype, &input)?;
    let dy = fitted(draft, choices, dtype, &result)?;
    let dw = draft.add(ConvolveKernel { geometry, sizes: kernel[..rank].to_vec() }, &[x, dy])?[0];
    Some(vec![draft.tame(dw, choices)])
}

/// Windows over one or two neighbouring axes of any value.
fn windows_over(shape: &[usize], choices: &mut Choices<'_>) -> Option<Windows> {
    let first = choices.below(shape.len());
    let count = if first + 1 < shape.len() { 1 + choices.below(2) } else { 1 };
    let axes: Vec<usize> = (first..first + count).collect();
    let pick = |choices: &mut Choices<'_>, from: &[usize]| (0..count).map(|_| choices.of(from)).collect::<Vec<_>>();
    let (sizes, strides) = (pick(choices, &[2, 1, 3]), pick(choices, &[1, 2, 3]));
    let dilations = pick(choices, &[1, 1, 2]);
    let fits = axes.iter().enumerate().all(|(i, axis)| (sizes[i] - 1) * dilations[i] < shape[*axis]);
    fits.then_some(Windows { axes, sizes, strides, dilations })
}

/// A view of the windows of a value.
pub fn windows(draft: &mut Draft, choices: &mut Choices<'_>) -> Option<Vec<ValueId>> {
    let value = draft.pick(choices, |ty| ty.rank() > 0 && ty.rank() < 4)?;
    let windows = windows_over(&draft.sizes(value), choices)?;
    draft.add(windows, &[value])
}

/// Windows put back in place.
pub fn overlap_add(draft: &mut Draft, choices: &mut Choices<'_>) -> Option<Vec<ValueId>> {
    let dtype = dtype(draft, choices)?;
    let shape = [choices.of(&[3, 5, 7, 4]), choices.of(&[2, 6, 4]), choices.of(&[1, 3])];
    let windows = windows_over(&shape, choices)?;
    let sizes = windows.shape(&dims(&shape)).ok()?;
    let sizes: Option<Vec<usize>> = sizes.iter().map(|d| usize::try_from(d.constant()?).ok()).collect();
    let value = fitted(draft, choices, dtype, &sizes?)?;
    let op = OverlapAdd {
        sizes: windows.axes.iter().map(|a| shape[*a].into()).collect(),
        axes: windows.axes,
        strides: windows.strides,
        dilations: windows.dilations,
    };
    let sum = draft.add(op, &[value])?[0];
    Some(vec![draft.tame(sum, choices)])
}
