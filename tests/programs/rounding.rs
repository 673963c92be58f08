//! How far arithmetic in the dtypes' own precision may be from exact arithmetic: a running error analysis of a graph.
//!
//! Every element of every value has a bound, infinite where nothing can be said. The bound of an op's result is what the op
//! makes of the bounds of its operands plus the rounding of the op itself. So a comparison that may go either way gives a
//! `bool` with the bound 1, what is selected by it gets the distance between both sides, and a check against the bounds is
//! sharp where numbers are well conditioned and never fails where they are not.

use nnc::ir::graph::Function;
use nnc::ir::ops::scan::Scan;
use nnc::ir::ops::winograd::Winograd;
use nnc::ir::ops::{Op, pad};
use nnc::ir::scalar::{Monoid, ScalarFunction as F, meaning};
use nnc::ir::tensor::{Tensor, indices};
use nnc::ir::types::{DType, TensorType};

/// Exact values with a bound for each.
#[derive(Clone, Debug)]
pub struct Bounded {
    pub value: Tensor,
    pub error: Vec<f64>,
}

/// The bounds of all values of a function without gradients to expand, in the order of its nodes.
///
/// # Errors
/// As [`nnc::ir::interpret::evaluate`].
pub fn evaluate(function: &Function, arguments: &[Tensor]) -> Result<Vec<Vec<Bounded>>, String> {
    let exact: Vec<Bounded> = arguments.iter().cloned().map(without_error).collect();
    within(function, &exact)
}

/// As [`evaluate`], for arguments that have bounds themselves.
fn within(function: &Function, arguments: &[Bounded]) -> Result<Vec<Vec<Bounded>>, String> {
    let mut values: Vec<Vec<Bounded>> = Vec::with_capacity(function.graph.len());
    for (id, node) in function.graph.nodes() {
        let inputs: Vec<&Bounded> = node.inputs.iter().map(|v| &values[v.node.0 as usize][v.output as usize]).collect();
        let outputs = match &node.op {
            Op::Argument(argument) => vec![arguments[argument.index as usize].clone()],
            Op::Grad(_) => return Err(format!("node {} is a gradient that is not expanded", id.0)),
            Op::Scan(scan) => rounds(scan, &inputs, &node.outputs)?,
            op => apply(op, &inputs, &node.outputs),
        };
        values.push(outputs.into_iter().map(within_range).collect());
    }
    Ok(values)
}

/// A loop: its body once a round, with the bounds that the rounds before left.
fn rounds(scan: &Scan, inputs: &[&Bounded], outputs: &[TensorType]) -> Result<Vec<Bounded>, String> {
    let length = scan.length.constant().and_then(|n| usize::try_from(n).ok()).ok_or("a loop of no known length")?;
    let carries = scan.carries as usize;
    let mut arguments = vec![without_error(Tensor::filled(TensorType::scalar(DType::I32), 0.0))];
    arguments.extend(inputs.iter().map(|b| (*b).clone()));
    let blank = |ty: &TensorType| without_error(Tensor::filled(ty.clone(), 0.0));
    let mut yields: Vec<Bounded> = outputs[carries..].iter().map(blank).collect();
    for number in 0..length {
        let round = if scan.reverse { length - 1 - number } else { number };
        arguments[0].value.data[0] = round as f64;
        for index in scan.sequence_arguments() {
            let whole = inputs[index - 1];
            let size = whole.value.data.len() / length;
            let part = round * size..(round + 1) * size;
            let value = Tensor::new(scan.body.arguments[index].ty.clone(), whole.value.data[part.clone()].to_vec());
            arguments[index] = Bounded { value, error: whole.error[part].to_vec() };
        }
        let values = within(&scan.body, &arguments)?;
        let result = |at: usize| {
            let value = scan.body.results[at].value;
            values[value.node.0 as usize][value.output as usize].clone()
        };
        for (stack, at) in yields.iter_mut().zip(carries..) {
            let element = result(at);
            let size = element.error.len();
            stack.value.data[round * size..(round + 1) * size].copy_from_slice(&element.value.data);
            stack.error[round * size..(round + 1) * size].copy_from_slice(&element.error);
        }
        (0..carries).for_each(|carry| arguments[1 + carry] = result(carry));
    }
    Ok(arguments.into_iter().skip(1).take(carries).chain(yields).collect())
}

fn without_error(value: Tensor) -> Bounded {
    let error = vec![0.0; value.data.len()];
    Bounded { value, error }
}

/// Half a unit in the last place, relative to the number; 0 for dtypes that hold their numbers exactly.
fn half_unit(dtype: DType) -> f64 {
    match dtype {
        dtype if !dtype.is_float() => 0.0,
        DType::F64 => f64::exp2(-53.0),
        DType::F16 => f64::exp2(-11.0),
        DType::BF16 => f64::exp2(-8.0),
        _ => f64::exp2(-24.0),
    }
}

/// The smallest positive number and the largest finite one.
fn ends(dtype: DType) -> (f64, f64) {
    match dtype {
        dtype if !dtype.is_float() => (0.0, f64::INFINITY),
        DType::F64 => (5e-324, f64::MAX),
        DType::F16 => (6e-8, 65504.0),
        DType::BF16 => (1e-40, 3.38e38),
        _ => (1.5e-45, f64::from(f32::MAX)),
    }
}

/// Nothing is known of what may overflow or is no number. An infinity that was moved and not computed is exact.
fn within_range(mut bounded: Bounded) -> Bounded {
    let (_, largest) = ends(bounded.value.ty.dtype);
    for (value, error) in bounded.value.data.iter().zip(&mut bounded.error) {
        let exact = value.is_infinite() && *error == 0.0;
        let small = value.abs() + *error < largest;
        if !exact && !small {
            *error = f64::INFINITY;
        }
    }
    bounded
}

/// How an op passes on errors and makes new ones.
enum Kind {
    /// Every result is the sum of some elements of the float operands: the same sums bound the errors.
    Sum,
    /// As `Sum`, of products of an element of operand 0 and one of operand 1.
    Products,
    /// Anything else: tried out on shifted operands.
    Other,
}

fn kind(op: &Op) -> Kind {
    match op.doc().name {
        "broadcast" | "reshape" | "transpose" | "slice" | "pad" | "concat" | "stop_gradient" | "scatter_add"
        | "cumsum" | "windows" | "overlap_add" => Kind::Sum,
        "contract" | "convolve" | "convolve_kernel" | "recurrence" => Kind::Products,
        _ => Kind::Other,
    }
}

fn apply(op: &Op, inputs: &[&Bounded], outputs: &[TensorType]) -> Vec<Bounded> {
    let values: Vec<&Tensor> = inputs.iter().map(|b| &b.value).collect();
    if let Op::Map(map) = op {
        return vec![map_bounds(map.function, inputs, &outputs[0])];
    }
    let exact = op.eval(&values, outputs);
    let errors = match (op, kind(op)) {
        (Op::Reduce(reduce), _) => vec![reduce_bounds(op, reduce.monoid, inputs[0], &exact[0])],
        (Op::Cast(_), _) => vec![cast_bounds(op, inputs[0], &exact[0])],
        (Op::Winograd(winograd), _) => vec![winograd_bounds(winograd, inputs[0], &outputs[0])],
        (Op::Sort(sort), _) => sort_bounds(op, sort.axis, inputs[0], &exact),
        (_, Kind::Sum) if wholes_are_exact(inputs) => vec![sum_bounds(op, inputs, outputs)],
        // An uncertain index may be any.
        (Op::Gather(_) | Op::ScatterAdd(_), _) if !wholes_are_exact(inputs) => {
            exact.iter().map(|t| vec![f64::INFINITY; t.data.len()]).collect()
        }
        // Whether a border of zeros is multiplied by what is no number is left open.
        (Op::Convolve(_) | Op::ConvolveKernel(_), _) if !all_finite(inputs) => {
            exact.iter().map(|t| vec![f64::INFINITY; t.data.len()]).collect()
        }
        (_, Kind::Products) => vec![product_bounds(op, inputs, outputs)],
        _ => shifted_bounds(op, inputs, &exact),
    };
    exact.into_iter().zip(errors).map(|(value, error)| Bounded { value, error }).collect()
}

fn all_finite(inputs: &[&Bounded]) -> bool {
    inputs.iter().all(|b| b.value.data.iter().zip(&b.error).all(|(v, e)| (v + e).is_finite()))
}

fn wholes_are_exact(inputs: &[&Bounded]) -> bool {
    inputs.iter().all(|b| b.value.ty.dtype.is_float() || b.error.iter().all(|e| *e == 0.0))
}

/// The number of roundings that a sum of so many numbers is allowed: their errors add up like a random walk, in runs of 16.
fn roundings(terms: usize) -> f64 {
    (terms as f64).min(8.0 + 2.0 * (terms as f64).sqrt())
}

/// The op on other float operands, results that are not numbers infinite.
fn on(op: &Op, inputs: &[&Bounded], outputs: &[TensorType], float: impl Fn(&Bounded) -> Vec<f64>) -> Vec<Vec<f64>> {
    let changed: Vec<Tensor> = inputs
        .iter()
        .map(|b| match b.value.ty.dtype {
            dtype if dtype.is_float() => Tensor::new(b.value.ty.clone(), float(b)),
            _ => b.value.clone(),
        })
        .collect();
    let results = op.eval(&changed.iter().collect::<Vec<_>>(), outputs);
    let number = |v: f64| if v.is_nan() { f64::INFINITY } else { v };
    results.into_iter().map(|t| t.data.into_iter().map(number).collect()).collect()
}

fn sizes(bounded: &Bounded) -> Vec<f64> {
    bounded.value.data.iter().map(|v| v.abs()).collect()
}

fn sum_bounds(op: &Op, inputs: &[&Bounded], outputs: &[TensorType]) -> Vec<f64> {
    let dtype = outputs[0].dtype;
    if !dtype.is_float() {
        return vec![0.0; outputs[0].elements().unwrap_or(0)];
    }
    // The border of a pad has no error.
    let op = match op {
        Op::Pad(p) => Op::from(pad::Pad { value: 0, ..p.clone() }),
        other => other.clone(),
    };
    let mut errors = on(&op, inputs, outputs, |b| b.error.clone()).swap_remove(0);
    if matches!(op.doc().name, "scatter_add" | "cumsum" | "overlap_add") {
        let terms = inputs.last().map_or(0, |b| b.value.data.len());
        let rounding = roundings(terms) * half_unit(dtype);
        let totals = on(&op, inputs, outputs, sizes).swap_remove(0);
        errors.iter_mut().zip(totals).for_each(|(e, total)| *e += rounding * total);
    }
    errors
}

/// Two sums of at most 5 terms, of which each product and each sum is rounded.
fn winograd_bounds(op: &Winograd, x: &Bounded, output: &TensorType) -> Vec<f64> {
    let on = |data: Vec<f64>| op.eval_magnitudes(&Tensor::new(x.value.ty.clone(), data), output).data;
    let (errors, totals) = (on(x.error.clone()), on(sizes(x)));
    let tiny = 100.0 * ends(output.dtype).0;
    errors.iter().zip(totals).map(|(e, total)| e + 12.0 * half_unit(output.dtype) * (total + e) + tiny).collect()
}

fn product_bounds(op: &Op, inputs: &[&Bounded], outputs: &[TensorType]) -> Vec<f64> {
    let dtype = outputs[0].dtype;
    if !dtype.is_float() {
        // Whole numbers wrap: what is computed of an uncertain one may be any.
        let certain = inputs.iter().all(|b| b.error.iter().all(|e| *e == 0.0));
        return vec![if certain { 0.0 } else { f64::INFINITY }; outputs[0].elements().unwrap_or(0)];
    }
    let totals = on(op, inputs, outputs, sizes).swap_remove(0);
    let exact = inputs.iter().all(|b| b.error.iter().all(|e| *e == 0.0));
    let wide = |b: &Bounded| b.value.data.iter().zip(&b.error).map(|(v, e)| v.abs() + e).collect();
    let widest = if exact { vec![totals.clone()] } else { on(op, inputs, outputs, wide) };
    // No sum has more terms than the larger operand has elements.
    let terms = inputs.iter().map(|b| b.value.data.len()).max().unwrap_or(0);
    let rounding = (2.0 + roundings(terms)) * half_unit(dtype);
    let tiny = terms as f64 * ends(dtype).0;
    totals.iter().zip(&widest[0]).map(|(total, wide)| (wide - total).max(0.0) + rounding * wide + tiny).collect()
}

fn reduce_bounds(op: &Op, monoid: Monoid, x: &Bounded, exact: &Tensor) -> Vec<f64> {
    let dtype = x.value.ty.dtype;
    let output = [exact.ty.clone()];
    let unit = half_unit(dtype);
    let terms = roundings(x.value.data.len() / exact.data.len().max(1));
    let shifted = |sign: f64| {
        let data =
            x.value.data.iter().zip(&x.error).map(|(v, e)| if v.is_infinite() { *v } else { v + sign * e }).collect();
        op.eval(&[&Tensor::new(x.value.ty.clone(), data)], &output).swap_remove(0).data
    };
    match monoid {
        Monoid::ArgMax | Monoid::ArgMin => index_bounds(op, monoid, x, exact),
        _ if !dtype.is_float() && x.error.iter().all(|e| *e == 0.0) => vec![0.0; exact.data.len()],
        Monoid::Sum => {
            let totals = on(op, &[x], &output, sizes).swap_remove(0);
            let errors = on(op, &[x], &output, |b| b.error.clone()).swap_remove(0);
            errors.iter().zip(totals).map(|(e, total)| e + terms * unit * (total + e)).collect()
        }
        Monoid::Prod => {
            let totals = on(op, &[x], &output, sizes).swap_remove(0);
            let wide = on(op, &[x], &output, |b| b.value.data.iter().zip(&b.error).map(|(v, e)| v.abs() + e).collect());
            let count = (x.value.data.len() / exact.data.len().max(1)) as f64;
            let tiny = ends(dtype).0;
            totals.iter().zip(&wide[0]).map(|(t, w)| w - t + (1.0 + count) * (unit * w + tiny)).collect()
        }
        Monoid::Max | Monoid::Min => {
            let (above, below) = (shifted(1.0), shifted(-1.0));
            exact.data.iter().zip(above.iter().zip(below)).map(|(v, (a, b))| (a - v).max(v - b)).collect()
        }
    }
}

/// An index, in row-major order of the folded axes, is uncertain if another element may be as large as the largest.
fn index_bounds(op: &Op, monoid: Monoid, x: &Bounded, exact: &Tensor) -> Vec<f64> {
    let Op::Reduce(reduce) = op else { return vec![f64::INFINITY; exact.data.len()] };
    let (shape, strides) = (x.value.sizes(), x.value.strides());
    let kept: Vec<usize> = (0..shape.len()).filter(|a| !reduce.axes.contains(a)).collect();
    let offsets = |axes: &[usize]| -> Vec<usize> {
        let sizes: Vec<usize> = axes.iter().map(|a| shape[*a]).collect();
        indices(&sizes).map(|index| index.iter().zip(axes).map(|(i, a)| i * strides[*a]).sum()).collect()
    };
    let folded = offsets(&reduce.axes);
    let sign = if monoid == Monoid::ArgMax { 1.0 } else { -1.0 };
    let bound = |(origin, best): (usize, &f64)| {
        if folded.is_empty() {
            return 0.0;
        }
        let best = *best as usize;
        let at = |k: usize| (sign * x.value.data[origin + folded[k]], x.error[origin + folded[k]]);
        let (value, error) = at(best);
        let rivals = (0..folded.len()).filter(|k| {
            let (other, other_error) = at(*k);
            let below = other + other_error < value - error;
            *k != best && (error > 0.0 || other_error > 0.0) && !below
        });
        rivals.map(|k| k.abs_diff(best) as f64).fold(0.0, f64::max)
    };
    offsets(&kept).into_iter().zip(&exact.data).map(bound).collect()
}

/// The sorted values lie between the sorted ends of their bounds; an index is uncertain where bounds overlap.
fn sort_bounds(op: &Op, axis: usize, x: &Bounded, exact: &[Tensor]) -> Vec<Vec<f64>> {
    let outputs: Vec<TensorType> = exact.iter().map(|t| t.ty.clone()).collect();
    let shifted = |sign: f64| {
        let data =
            x.value.data.iter().zip(&x.error).map(|(v, e)| if v.is_infinite() { *v } else { v + sign * e }).collect();
        op.eval(&[&Tensor::new(x.value.ty.clone(), data)], &outputs).swap_remove(0).data
    };
    let (above, below) = (shifted(1.0), shifted(-1.0));
    let values = exact[0].data.iter().zip(above.iter().zip(&below)).map(|(v, (a, b))| (a - v).max(v - b)).collect();
    let (shape, stride) = (x.value.sizes(), x.value.strides()[axis]);
    let index = |(at, place): (usize, &f64)| {
        let first = at - at / stride % shape[axis] * stride;
        let own = first + *place as usize * stride;
        let overlaps = |k: usize| {
            let other = first + k * stride;
            let reach = x.error[own] + x.error[other];
            let apart = (x.value.data[own] - x.value.data[other]).abs() > reach;
            other != own && reach > 0.0 && !apart
        };
        if (0..shape[axis]).any(overlaps) { f64::INFINITY } else { 0.0 }
    };
    let indices = exact[1].data.iter().enumerate().map(index).collect();
    vec![values, indices]
}

fn cast_bounds(op: &Op, x: &Bounded, exact: &Tensor) -> Vec<f64> {
    let (from, to) = (x.value.ty.dtype, exact.ty.dtype);
    let outputs = [exact.ty.clone()];
    let shifted = |sign: f64| {
        let data = x.value.data.iter().zip(&x.error).map(|(v, e)| if *e == 0.0 { *v } else { v + sign * e }).collect();
        op.eval(&[&Tensor::new(x.value.ty.clone(), data)], &outputs).swap_remove(0).data
    };
    let (above, below) = (shifted(1.0), shifted(-1.0));
    let zero = Tensor::filled(x.value.ty.clone(), 0.0);
    let at_zero = op.eval(&[&zero], &outputs).swap_remove(0).data;
    let unit = half_unit(to);
    let narrows = !from.is_float() || unit > half_unit(from);
    let tiny = ends(to).0;
    (0..exact.data.len())
        .map(|i| {
            let value = exact.data[i];
            if x.error[i] == f64::INFINITY {
                return if to == DType::Bool { 1.0 } else { f64::INFINITY };
            }
            let mut spread = (above[i] - value).abs().max((below[i] - value).abs());
            // Between the ends there may be a 0, which alone is false.
            if to == DType::Bool && x.value.data[i].abs() <= x.error[i] {
                spread = spread.max((at_zero[i] - value).abs());
            }
            // An integer that wraps on the way may be any.
            if !to.is_float() && !from.is_float() && spread > 0.0 {
                spread = f64::INFINITY;
            }
            // A float that was once an exact whole number may be rounded to one beside it.
            spread + if narrows && to.is_float() { 2.0 * unit * (value.abs() + spread) + tiny } else { 0.0 }
        })
        .collect()
}

/// Numbers between -1 and 1 in a fixed order.
fn scatter(i: usize, pattern: usize) -> f64 {
    let bits =
        (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (pattern as u64).wrapping_mul(0xd1b5_4a32_d192_ed03);
    let mixed = (bits ^ (bits >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    if (mixed >> 40) & 1 == 0 { 1.0 } else { -1.0 }
}

/// For an op of which nothing is known: how far its results move when its operands do, in several directions.
fn shifted_bounds(op: &Op, inputs: &[&Bounded], exact: &[Tensor]) -> Vec<Vec<f64>> {
    const PATTERNS: usize = 6;
    let outputs: Vec<TensorType> = exact.iter().map(|t| t.ty.clone()).collect();
    let mut errors: Vec<Vec<f64>> = exact.iter().map(|t| vec![0.0; t.data.len()]).collect();
    let moved = inputs.iter().any(|b| b.error.iter().any(|e| *e > 0.0));
    for pattern in 0..if moved { PATTERNS } else { 0 } {
        let sign = |i: usize| match pattern {
            0 => 1.0,
            1 => -1.0,
            _ => scatter(i, pattern),
        };
        let shifted: Vec<Tensor> = inputs.iter().map(|b| moved_by(b, &sign)).collect();
        let results = op.eval(&shifted.iter().collect::<Vec<_>>(), &outputs);
        for ((error, value), result) in errors.iter_mut().zip(exact).zip(results) {
            for ((e, a), b) in error.iter_mut().zip(&value.data).zip(result.data) {
                let distance = if *a == b { 0.0 } else { (a - b).abs() };
                *e = if distance.is_nan() { f64::INFINITY } else { e.max(distance) };
            }
        }
    }
    // Six directions say whether something moves; how far is not known where an operand has no bound, or numbers wrap.
    let unbounded = inputs.iter().any(|b| b.error.contains(&f64::INFINITY));
    for (error, value) in errors.iter_mut().zip(exact) {
        let wraps = !value.ty.dtype.is_float() && value.ty.dtype != DType::Bool;
        if unbounded || wraps {
            error.iter_mut().filter(|e| **e > 0.0).for_each(|e| *e = f64::INFINITY);
        }
    }
    let largest = inputs.iter().flat_map(|b| &b.value.data).fold(0.0, |m: f64, v| m.max(v.abs()));
    for (error, value) in errors.iter_mut().zip(exact) {
        let dtype = value.ty.dtype;
        // What moves a number without computing is exact; a constant is rounded to its dtype.
        let unit = match op.doc().name {
            "gather" | "iota" => 0.0,
            "constant" | "literal" => half_unit(dtype),
            _ => 16.0 * half_unit(dtype),
        };
        let scale = if inputs.is_empty() { 0.0 } else { largest };
        error.iter_mut().zip(&value.data).for_each(|(e, v)| *e = 2.0 * *e + unit * v.abs().max(scale));
    }
    errors
}

/// The value moved by its bounds, by much where there is none.
fn moved_by(bounded: &Bounded, sign: &dyn Fn(usize) -> f64) -> Tensor {
    const MUCH: f64 = 1e6;
    let dtype = bounded.value.ty.dtype;
    let (low, high) = meaning::range(dtype);
    let element = |(i, (value, error)): (usize, (&f64, &f64))| match (*value, *error) {
        (value, 0.0) => value,
        (value, _) if dtype == DType::Bool => {
            if sign(i) > 0.0 {
                1.0 - value
            } else {
                value
            }
        }
        (value, error) if error.is_finite() => (value + sign(i) * error).clamp(low, high),
        (value, _) => (if value.is_finite() { value } else { 0.0 } + sign(i) * MUCH).clamp(low, high),
    };
    let data = bounded.value.data.iter().zip(&bounded.error).enumerate().map(element).collect();
    Tensor::new(bounded.value.ty.clone(), data)
}

/// Roundings of a scalar function, in units in the last place, with room for a rule that writes it in another way.
fn units(function: F) -> f64 {
    match function {
        F::Neg | F::Abs | F::Sign | F::Floor | F::Ceil | F::Round | F::Max | F::Min | F::Select => 0.0,
        F::Add | F::Sub | F::Mul | F::Fma => 2.0,
        F::Div | F::Sqrt | F::Rsqrt => 6.0,
        F::Erf => 20.0,
        _ => 12.0,
    }
}

fn map_bounds(function: F, inputs: &[&Bounded], output: &TensorType) -> Bounded {
    let dtype = inputs.last().map_or(output.dtype, |b| b.value.ty.dtype);
    let count = output.elements().unwrap_or(0);
    let (mut data, mut error) = (Vec::with_capacity(count), Vec::with_capacity(count));
    let unit = units(function) * half_unit(output.dtype);
    let tiny = if unit > 0.0 { 2.0 * ends(output.dtype).0 } else { 0.0 };
    let mut operands = [(0.0, 0.0, DType::Bool); 3];
    for i in 0..count {
        for (operand, b) in operands.iter_mut().zip(inputs) {
            *operand = (b.value.data[i], b.error[i], b.value.ty.dtype);
        }
        let x = operands.map(|o| o.0);
        let operands = &operands[..inputs.len()];
        let value = function.eval(dtype, &x[..inputs.len()]);
        let spread = corners(function, dtype, operands, value);
        // The result of an addition may be written as another sum of the same numbers.
        let scale = match function {
            F::Add | F::Sub => x[0].abs() + x[1].abs(),
            F::Fma => (x[0] * x[1]).abs() + x[2].abs(),
            F::Mod => value.abs() + x[0].abs() + x[1].abs(),
            F::Sin | F::Cos | F::Tan => value.abs() + x[0].abs() * half_unit(DType::F64),
            _ => value.abs(),
        };
        data.push(value);
        // Larger angles in f64 are not reduced, as `docs/numerics.md` says.
        let unreduced = matches!(function, F::Sin | F::Cos | F::Tan) && dtype == DType::F64;
        let spread = if unreduced && x[0].abs() + operands[0].1 >= 2f64.powi(50) { f64::INFINITY } else { spread };
        error.push(spread + if unit > 0.0 { unit * (scale + spread) + tiny } else { 0.0 });
    }
    Bounded { value: Tensor::new(output.clone(), data), error }
}

/// The largest distance of a function at the corners of its operands' bounds from its value between them.
fn corners(function: F, dtype: DType, operands: &[(f64, f64, DType)], value: f64) -> f64 {
    // The sign of a zero decides on which side of the cut an angle is.
    if function == F::Atan2 && operands[0].0.abs() <= operands[0].1 && operands[1].0 <= operands[1].1 {
        return std::f64::consts::TAU;
    }
    if operands.iter().all(|o| o.1 == 0.0) {
        return 0.0;
    }
    // Without a bound an operand may be no number at all.
    if operands.iter().any(|o| o.1 == f64::INFINITY) {
        return match function {
            F::Select if operands[0].1 == 0.0 => operands[if operands[0].0 != 0.0 { 1 } else { 2 }].1,
            _ if function.result_dtype(&operands.iter().map(|o| o.2).collect::<Vec<_>>()) == DType::Bool => 1.0,
            _ => f64::INFINITY,
        };
    }
    // The corners of a wave say nothing, nor those around a pole.
    let zero_within = |(value, error, _): (f64, f64, DType)| value.abs() <= error;
    match function {
        F::Div | F::Mod if zero_within(operands[1]) => return f64::INFINITY,
        // A remainder that wraps is anywhere below the divisor; one more wrap may come from the division's rounding.
        F::Mod if dtype.is_float() => {
            let ((x, e, _), (y, f, _)) = (operands[0], operands[1]);
            let quotients = [(x - e) / (y - f), (x - e) / (y + f), (x + e) / (y - f), (x + e) / (y + f)];
            if quotients.iter().any(|q| q.floor() != (x / y).floor()) {
                return 2.0 * (y.abs() + f);
            }
        }
        // Neighbouring distances, modulo the width, are far apart; so are the bits of neighbouring numbers.
        F::ShiftRight if operands[1].1 > 0.0 => return f64::INFINITY,
        F::ShiftLeft | F::Xor | F::MulHigh => return f64::INFINITY,
        F::Pow if zero_within(operands[0]) && operands[1].0 < operands[1].1 => return f64::INFINITY,
        F::Sin | F::Cos => return operands[0].1.min(2.0),
        F::Tan if operands[0].1 > 0.1 => return f64::INFINITY,
        _ => {}
    }
    let mut spread: f64 = 0.0;
    let mut x = [0.0; 3];
    for corner in 0..3usize.pow(operands.len() as u32) {
        let mut digits = corner;
        for (place, (value, error, dtype)) in x.iter_mut().zip(operands) {
            let sign = [-1.0, 0.0, 1.0][digits % 3];
            digits /= 3;
            let base = if value.is_nan() && sign != 0.0 { 0.0 } else { *value };
            *place = match dtype {
                _ if *error == 0.0 || sign == 0.0 => *value,
                DType::Bool => {
                    if sign > 0.0 {
                        1.0 - value
                    } else {
                        *value
                    }
                }
                dtype if dtype.is_float() => base + sign * error,
                dtype => {
                    let (low, high) = meaning::range(*dtype);
                    (base + sign * error).clamp(low, high)
                }
            };
        }
        let moved = function.eval(dtype, &x[..operands.len()]);
        let distance = if moved == value { 0.0 } else { (moved - value).abs() };
        spread = if distance.is_nan() { f64::INFINITY } else { spread.max(distance) };
    }
    // A whole number that moves may wrap, and what lies between the corners is not between their results.
    let wraps = !dtype.is_float() && spread > 0.0 && dtype != DType::Bool;
    let compares = matches!(function, F::Equal | F::NotEqual) && meets(operands);
    match (
        wraps && function.result_dtype(&[dtype; 3][..function.arity()]) != DType::Bool && function != F::Select,
        compares,
    ) {
        (true, _) => f64::INFINITY,
        (_, true) => 1.0,
        _ => spread,
    }
}

/// Whether two operands may be equal or not, within their bounds.
fn meets(operands: &[(f64, f64, DType)]) -> bool {
    let [(a, e, _), (b, f, _)] = operands else { return false };
    let apart = (a - b).abs() > e + f;
    e + f > 0.0 && !apart
}
