//! Rewrites convolutions, once they are differentiated, into contractions of windows of the padded input.
//!
//! Windows are a view, so nothing is copied but for padding. Groups become a batch label. The kernel's gradient is summed in parts of the
//! batch and of the outermost spatial axis, which run in parallel, keep sums short and what they read in the first cache.

mod phases;
mod winograd;

use std::sync::Arc;

use super::{GraphPass, Limits, PassError};
use crate::ir::builder::GraphBuilder;
use crate::ir::dim::Dim;
use crate::ir::graph::{Function, Node, ResultRole, ValueId};
use crate::ir::ops::Op;
use crate::ir::ops::TypeError;
use crate::ir::ops::convolve::kernel_sizes;
use crate::ir::ops::convolve_kernel::ConvolveKernel;
use crate::ir::ops::overlap_add::OverlapAdd;
use crate::ir::ops::pad::Pad;
use crate::ir::ops::slice::Slice;
use crate::ir::ops::spatial::Geometry;
use crate::ir::ops::windows::Windows;
use crate::ir::rewrite::Rewriter;
use crate::ir::scalar::Monoid;

/// The pass.
pub const PASS: GraphPass =
    GraphPass { name: "expand_convolutions", doc: "makes contractions of windows of convolutions", run };

/// Summed elements of one part of a kernel's gradient: enough that storing a partial sum costs little.
const LEAST_STEPS: i64 = 96;

/// All partial sums of one kernel's gradient, in elements, and how many there are: no more than are added up in one block.
const MOST_PARTIAL: i64 = 5_000_000;
const MOST_PARTS: i64 = 64;

/// The gradient of a kernel of so many elements stays whole: adding up parts takes longer than long sums.
const LARGE_KERNEL: i64 = 1 << 20;

fn run(function: &Function, limits: &Limits) -> Result<Function, PassError> {
    let trains = function.results.iter().any(|r| matches!(r.role, ResultRole::Update(_)));
    let allowed = Allowed { exact: limits.exact, trains };
    let mut rewriter = Rewriter::new(function.graph.len());
    for (id, node) in function.graph.nodes() {
        let inputs = rewriter.inputs(node);
        rewriter.builder.set_scope(Arc::clone(&node.scope));
        match expand(&mut rewriter.builder, node, &inputs, allowed) {
            Some(Ok(value)) => rewriter.set(id, vec![value]),
            Some(Err(e)) => return Err(PassError { message: e.message, scope: Arc::clone(&node.scope) }),
            None => rewriter.copy(id, node),
        }
    }
    Ok(rewriter.finish(function))
}

/// What the parts of convolutions have to keep to.
#[derive(Clone, Copy, Debug)]
struct Allowed {
    /// Whether Winograd's transforms are refused.
    exact: bool,
    /// Whether the function trains: it transforms kernels in every step, and keeps much else in memory at the time.
    trains: bool,
}

/// What stands for a node; `None` if the node stays.
fn expand(
    b: &mut GraphBuilder,
    node: &Node,
    inputs: &[ValueId],
    allowed: Allowed,
) -> Option<Result<ValueId, TypeError>> {
    match &node.op {
        Op::Convolve(op) if phases::apply_to(&op.geometry) => {
            Some(phases::convolve(b, &op.geometry, (inputs[0], inputs[1]), &node.outputs[0].shape, convolve))
        }
        Op::Convolve(op) => {
            let output = &node.outputs[0].shape;
            let tile = winograd::tile(b, &op.geometry, (inputs[0], inputs[1]), output, allowed);
            Some(match tile {
                Some(tile) => {
                    winograd::convolve(b, &op.geometry, (inputs[0], inputs[1]), output, (tile, allowed.trains))
                }
                None => convolve(b, &op.geometry, inputs[0], inputs[1]),
            })
        }
        Op::ConvolveKernel(op) => Some(
            winograd::kernel_gradient(b, op, (inputs[0], inputs[1]), allowed)
                .unwrap_or_else(|| kernel_gradient(b, op, (inputs[0], inputs[1]))),
        ),
        Op::OverlapAdd(op) => side_by_side(b, op, inputs[0]),
        _ => None,
    }
}

/// The windows `[n, o.., k.., c]` of the padded input that a kernel of these sizes meets.
fn windows(b: &mut GraphBuilder, g: &Geometry, x: ValueId, sizes: &[usize]) -> Result<ValueId, TypeError> {
    let padded = padded(b, g, x)?;
    let axes = (1..=g.rank()).collect();
    let windows = Windows { axes, sizes: sizes.to_vec(), strides: g.strides.clone(), dilations: g.dilations.clone() };
    b.add_one(windows, &[padded])
}

/// The input with its zeros; negative borders are cut off after zeros were put between elements.
fn padded(b: &mut GraphBuilder, g: &Geometry, x: ValueId) -> Result<ValueId, TypeError> {
    let shape = b.shape_of(x);
    let mut pad = Pad::none(shape.len(), 0.0);
    for axis in 0..g.rank() {
        pad.low[axis + 1] = Dim::from(g.low[axis].max(0));
        pad.high[axis + 1] = Dim::from(g.high[axis].max(0));
        pad.interior[axis + 1] = g.input_dilations[axis] - 1;
    }
    let x = if pad == Pad::none(shape.len(), 0.0) { x } else { b.add_one(pad, &[x])? };
    if g.low.iter().chain(&g.high).all(|n| *n >= 0) {
        return Ok(x);
    }
    let mut slice = Slice::whole(&b.shape_of(x));
    for axis in 0..g.rank() {
        let (low, high) = ((-g.low[axis]).max(0), (-g.high[axis]).max(0));
        slice.starts[axis + 1] = Dim::from(low);
        let size = slice.sizes[axis + 1].sub(&Dim::from(low + high));
        slice.sizes[axis + 1] = size.ok_or_else(|| TypeError::new("a size is too large"))?;
    }
    b.add_one(slice, &[x])
}

/// The value with its last axis cut into `groups` equal parts.
fn grouped(b: &mut GraphBuilder, value: ValueId, groups: usize) -> Result<ValueId, TypeError> {
    let mut shape = b.shape_of(value);
    let parts = shape.pop().and_then(|last| if last.is(0) { Some(last) } else { last.div_exact(&Dim::from(groups)) });
    shape.extend([Dim::from(groups), parts.ok_or_else(|| TypeError::new("channels do not divide into groups"))?]);
    b.reshape(value, &shape)
}

/// The labels of all operands: the batch and its parts, bands of the outermost spatial axis, places, the kernel's axes, groups, channels and filters of one.
struct Labels {
    places: Vec<u32>,
    kernel: Vec<u32>,
}

const BATCH: u32 = 0;
const PART: u32 = 1;
const BAND: u32 = 2;
const GROUP: u32 = 3;
const CHANNEL: u32 = 4;
const FILTER: u32 = 5;

impl Labels {
    fn new(rank: usize) -> Labels {
        let from = |first: u32| (first..first + rank as u32).collect();
        Labels { places: from(6), kernel: from(6 + rank as u32) }
    }

    /// Labels one after the other; the group's stands only where there are groups.
    fn list(&self, parts: &[&[u32]], groups: usize) -> Vec<u32> {
        parts.iter().flat_map(|p| p.iter()).copied().filter(|l| *l != GROUP || groups > 1).collect()
    }
}

fn convolve(b: &mut GraphBuilder, g: &Geometry, x: ValueId, w: ValueId) -> Result<ValueId, TypeError> {
    let rank = g.rank();
    let sizes = kernel_sizes(b.type_of(w), rank)?;
    let (mut x, mut w) = (windows(b, g, x, &sizes)?, w);
    let filters = b.shape_of(w)[rank + 1].clone();
    if g.groups > 1 {
        (x, w) = (grouped(b, x, g.groups)?, grouped(b, w, g.groups)?);
    }
    let labels = Labels::new(rank);
    let of_x = labels.list(&[&[BATCH], &labels.places, &labels.kernel, &[GROUP, CHANNEL]], g.groups);
    let of_w = labels.list(&[&labels.kernel, &[CHANNEL, GROUP, FILTER]], g.groups);
    let of_y = labels.list(&[&[BATCH], &labels.places, &[GROUP, FILTER]], g.groups);
    let y = b.contract((x, &of_x), (w, &of_w), &of_y)?;
    let mut shape = b.shape_of(y);
    shape.truncate(rank + 1);
    shape.push(filters);
    b.reshape(y, &shape)
}

fn kernel_gradient(
    b: &mut GraphBuilder,
    op: &ConvolveKernel,
    (x, dy): (ValueId, ValueId),
) -> Result<ValueId, TypeError> {
    let (g, sizes) = (&op.geometry, op.sizes.as_slice());
    let rank = g.rank();
    let (mut x, mut dy) = (windows(b, g, x, sizes)?, dy);
    let (input, output) = (b.shape_of(x), b.shape_of(dy));
    if g.groups > 1 {
        (x, dy) = (grouped(b, x, g.groups)?, grouped(b, dy, g.groups)?);
    }
    let labels = Labels::new(rank);
    let parts = parts(g, sizes, (&input, &output));
    let (parted, around): (&[u32], &[u32]) = match parts {
        Some(_) => (&[PART, BAND], &[PART, BATCH, BAND]),
        None => (&[], &[BATCH]),
    };
    if let Some(parts) = parts {
        (x, dy) = (in_parts(b, x, parts)?, in_parts(b, dy, parts)?);
    }
    let of_x = labels.list(&[around, &labels.places, &labels.kernel, &[GROUP, CHANNEL]], g.groups);
    let of_dy = labels.list(&[around, &labels.places, &[GROUP, FILTER]], g.groups);
    let of_w = labels.list(&[parted, &labels.kernel, &[CHANNEL, GROUP, FILTER]], g.groups);
    let mut w = b.contract((x, &of_x), (dy, &of_dy), &of_w)?;
    if parts.is_some() {
        w = b.reduce(Monoid::Sum, w, &[0, 1], false)?;
    }
    let mut shape = b.shape_of(w);
    shape.truncate(rank + 1);
    shape.push(output[rank + 1].clone());
    b.reshape(w, &shape)
}

/// Into how many parts of the batch, and into how many bands of the outermost spatial axis, the sum of a kernel's gradient is cut: as
/// many as leave each sum long enough and all partial sums small; bands only of single samples.
fn parts(g: &Geometry, sizes: &[usize], (input, output): (&[Dim], &[Dim])) -> Option<(i64, i64)> {
    let product = |dims: &[Dim]| dims.iter().try_fold(1i64, |p, d| p.checked_mul(d.constant()?));
    let (batch, rows) = (output[0].constant()?, if g.rank() > 0 { output[1].constant()? } else { return None });
    let steps = product(&output[..=g.rank()])?;
    let channels = input.last()?.constant()? / g.groups as i64;
    let window = sizes.iter().try_fold(channels, |p, n| p.checked_mul(*n as i64))?;
    let kernel = window.checked_mul(output.last()?.constant()?)?;
    let fits = |parts: i64| {
        let small = kernel < LARGE_KERNEL && parts <= MOST_PARTS && parts.saturating_mul(kernel) <= MOST_PARTIAL;
        small && steps / parts >= LEAST_STEPS
    };
    let bands = (2..=rows).rev().map(|bands| (batch, bands)).filter(|_| batch > 0);
    let cuts = bands.chain((2..=batch).rev().map(|parts| (parts, 1)));
    cuts.into_iter().find(|(p, q)| batch % p == 0 && rows % q == 0 && p.checked_mul(*q).is_some_and(fits))
}

/// `[n, h, ..]` as `[parts, n / parts, bands, h / bands, ..]`.
fn in_parts(b: &mut GraphBuilder, value: ValueId, (parts, bands): (i64, i64)) -> Result<ValueId, TypeError> {
    let shape = b.shape_of(value);
    let cut = |dim: &Dim, count: i64| {
        let rest = dim.div_exact(&Dim::from(count)).ok_or_else(|| TypeError::new("an axis does not divide"))?;
        Ok([Dim::from(count), rest])
    };
    let cut = [&cut(&shape[0], parts)?[..], &cut(&shape[1], bands)?, &shape[2..]].concat();
    b.reshape(value, &cut)
}

/// Windows that lie side by side are put back by moving axes: no element is touched twice, and what makes them fuses with what
/// uses the result.
fn side_by_side(b: &mut GraphBuilder, op: &OverlapAdd, x: ValueId) -> Option<Result<ValueId, TypeError>> {
    let shape = b.shape_of(x);
    let size = |i: usize| &shape[Windows::inner_axis(&op.axes, i)];
    let apart =
        |i: usize| op.dilations[i] == 1 && size(i).is(op.strides[i] as i64) || size(i).is(1) && op.strides[i] == 1;
    (0..op.axes.len()).all(apart).then(|| merge(b, op, x))
}

fn merge(b: &mut GraphBuilder, op: &OverlapAdd, x: ValueId) -> Result<ValueId, TypeError> {
    let shape = b.shape_of(x);
    let rank = shape.len() - op.axes.len();
    let too_large = || TypeError::new("a size is too large");
    let (mut order, mut merged, mut pad) = (Vec::new(), Vec::new(), Pad::none(rank, 0.0));
    for axis in 0..rank {
        let outer = Windows::outer_axis(&op.axes, axis);
        order.push(outer);
        let Some(i) = op.axes.iter().position(|a| *a == axis) else {
            merged.push(shape[outer].clone());
            continue;
        };
        let inner = Windows::inner_axis(&op.axes, i);
        order.push(inner);
        let size = shape[outer].mul(&shape[inner]).ok_or_else(too_large)?;
        pad.high[axis] = op.sizes[i].sub(&size).ok_or_else(too_large)?;
        merged.push(size);
    }
    let turned = b.transpose(x, &order)?;
    let whole = b.reshape(turned, &merged)?;
    if pad == Pad::none(rank, 0.0) { Ok(whole) } else { b.add_one(pad, &[whole]) }
}
