//! `einsum`: sums of products of any number of tensors by letters, as NumPy has them.
//!
//! Every operand is first brought to distinct labels whose sizes are those of all: a letter twice is a diagonal, a dim of 1 under a
//! letter of another size is dropped, and leading dims under `..` get labels of their own. Then operands are contracted from left to right.

use crate::ir::builder::GraphBuilder;
use crate::ir::dim::Dim;
use crate::ir::graph::ValueId;
use crate::ir::ops::{PrimitiveArguments, TypeError, slice};
use crate::ir::scalar::Monoid;
use crate::ir::types::DType;

/// The label of the dim under `..` that is so many from the last of them; letters are below.
const LEADING: u32 = 0x11_0000;

/// The labels of one tensor as written; `leading` is how many of them stand before a `..`, if there is one.
struct Written {
    letters: Vec<u32>,
    leading: Option<usize>,
}

/// An operand and the label of each of its axes.
struct Operand {
    value: ValueId,
    labels: Vec<u32>,
}

pub(super) fn einsum(b: &mut GraphBuilder, arguments: &PrimitiveArguments) -> Result<Vec<ValueId>, TypeError> {
    let spec = arguments.text(0)?.to_string();
    let (written, result) = parse(&spec)?;
    let values = arguments.tensors(b, 1)?;
    check_operands(b, &spec, &written, &values)?;
    let mut operands = Vec::new();
    for (i, (own, value)) in written.iter().zip(&values).enumerate() {
        let labels = labels_of(b, &spec, own, *value).map_err(|e| e.at([0, 1 + i]))?;
        let operand = Operand { value: b.cast(*value, b.dtype_of(*value).storage()), labels };
        operands.push(distinct(b, &spec, operand).map_err(|e| e.at([1 + i]))?);
    }
    let sizes = sizes(b, &spec, &operands)?;
    let result = result_labels(&spec, result, &written, &operands, &sizes)?;
    for operand in &mut operands {
        stretch(b, operand, &sizes)?;
    }
    Ok(vec![contract_all(b, operands, &result)?])
}

/// The labels of each operand and, if it is written, of the result.
fn parse(spec: &str) -> Result<(Vec<Written>, Option<Written>), TypeError> {
    let compact: String = spec.chars().filter(|c| !c.is_whitespace()).collect();
    let (operands, result) = match compact.split_once("->") {
        Some((operands, result)) => (operands, Some(result)),
        None => (compact.as_str(), None),
    };
    let written = |text: &str| -> Result<Written, TypeError> {
        let dots = if text.contains("...") { "..." } else { ".." };
        let (before, behind) = text.split_once(dots).map_or((text, None), |(a, b)| (a, Some(b)));
        let letters: String = [before, behind.unwrap_or("")].concat();
        if let Some(c) = letters.chars().find(|c| !c.is_ascii_alphabetic()) {
            return Err(TypeError::new(format!("`{c}` is no letter in the einsum `{spec}`")).at([0]));
        }
        let letters = letters.chars().map(u32::from).collect();
        Ok(Written { letters, leading: behind.map(|_| before.len()) })
    };
    let operands = operands.split(',').map(written).collect::<Result<_, _>>()?;
    Ok((operands, result.map(written).transpose()?))
}

fn check_operands(b: &GraphBuilder, spec: &str, written: &[Written], values: &[ValueId]) -> Result<(), TypeError> {
    if written.len() != values.len() {
        let text = format!("the einsum `{spec}` is of {} operands, found {}", written.len(), values.len());
        return Err(TypeError::new(text).at([0]));
    }
    for (i, value) in values.iter().enumerate() {
        let (ty, first) = (b.type_of(*value), b.type_of(values[0]));
        if ty.dtype.storage() != first.dtype.storage() || ty.dtype == DType::Bool {
            let text = format!("the einsum `{spec}` of {first} and {ty}: the dtypes must be one number type");
            return Err(TypeError::new(text).at([1, 1 + i]));
        }
    }
    Ok(())
}

/// A label for each axis of an operand.
fn labels_of(b: &GraphBuilder, spec: &str, written: &Written, value: ValueId) -> Result<Vec<u32>, TypeError> {
    let ty = b.type_of(value);
    let mut labels = written.letters.clone();
    let covered = ty.rank().checked_sub(labels.len());
    match (covered, written.leading) {
        (Some(covered), Some(at)) => {
            labels.splice(at..at, (0..covered).rev().map(|from_end| LEADING + from_end as u32));
            Ok(labels)
        }
        (Some(0), None) => Ok(labels),
        _ => Err(TypeError::new(format!("the einsum `{spec}` has {} letters for {ty}", labels.len()))),
    }
}

fn letter(label: u32) -> String {
    char::from_u32(label).map_or("..".into(), |c| c.to_string())
}

/// The operand with every label once: its diagonals where one stands twice.
fn distinct(b: &mut GraphBuilder, spec: &str, mut operand: Operand) -> Result<Operand, TypeError> {
    let twice = |labels: &[u32]| {
        (1..labels.len()).find_map(|j| labels[..j].iter().position(|l| *l == labels[j]).map(|i| (i, j)))
    };
    while let Some((first, second)) = twice(&operand.labels) {
        let ty = b.type_of(operand.value).clone();
        let (x, y) = (&ty.shape[first], &ty.shape[second]);
        let label = operand.labels[first];
        if x == y {
            operand.value = slice::diagonal(b, operand.value, first, second)?;
            operand.labels.remove(second);
            operand.labels.remove(first);
            operand.labels.push(label);
        } else if x.is(1) || y.is(1) {
            drop_axis(b, &mut operand, if x.is(1) { first } else { second })?;
        } else {
            let text = format!("the einsum `{spec}`: `{}` is {x} and {y} in {ty}", letter(label));
            return Err(TypeError::new(text));
        }
    }
    Ok(operand)
}

/// Takes an axis of size 1 away.
fn drop_axis(b: &mut GraphBuilder, operand: &mut Operand, axis: usize) -> Result<(), TypeError> {
    let mut shape = b.shape_of(operand.value);
    shape.remove(axis);
    operand.labels.remove(axis);
    operand.value = b.reshape(operand.value, &shape)?;
    Ok(())
}

/// The size of every label: that of the operands that are not 1 there.
fn sizes(b: &GraphBuilder, spec: &str, operands: &[Operand]) -> Result<Vec<(u32, Dim)>, TypeError> {
    let mut sizes: Vec<(u32, Dim, usize)> = Vec::new();
    for (i, operand) in operands.iter().enumerate() {
        for (label, dim) in operand.labels.iter().zip(&b.type_of(operand.value).shape) {
            match sizes.iter_mut().find(|(known, ..)| known == label) {
                None => sizes.push((*label, dim.clone(), i)),
                Some((_, size, first)) if size.is(1) => (*size, *first) = (dim.clone(), i),
                Some((_, size, first)) if size != dim && !dim.is(1) => {
                    let text = format!("the einsum `{spec}`: `{}` is {size} and {dim}", letter(*label));
                    return Err(TypeError::new(text).at([1 + *first, 1 + i]));
                }
                Some(_) => {}
            }
        }
    }
    Ok(sizes.into_iter().map(|(label, size, _)| (label, size)).collect())
}

/// The labels of the result. Without `->` the leading dims, then the letters that stand once, in alphabetical order.
fn result_labels(
    spec: &str,
    written: Option<Written>,
    operands: &[Written],
    given: &[Operand],
    sizes: &[(u32, Dim)],
) -> Result<Vec<u32>, TypeError> {
    let mut leading: Vec<u32> = sizes.iter().map(|(l, _)| *l).filter(|l| *l >= LEADING).collect();
    leading.sort_unstable_by(|a, b| b.cmp(a));
    let wrong = |text: String| Err(TypeError::new(format!("the einsum `{spec}`: {text}")).at([0]));
    let Some(written) = written else {
        let all: Vec<u32> = operands.iter().flat_map(|o| &o.letters).copied().collect();
        let mut once: Vec<u32> = all.iter().copied().filter(|l| all.iter().filter(|m| *m == l).count() == 1).collect();
        once.sort_unstable();
        return Ok([leading, once].concat());
    };
    if let Some(l) = written.letters.iter().find(|l| given.iter().all(|o| !o.labels.contains(l))) {
        return wrong(format!("`{}` is in no operand", letter(*l)));
    }
    if let Some(l) = written.letters.iter().find(|l| written.letters.iter().filter(|m| m == l).count() > 1) {
        return wrong(format!("`{}` stands twice in the result", letter(*l)));
    }
    match written.leading {
        Some(at) => Ok([&written.letters[..at], &leading, &written.letters[at..]].concat()),
        None if leading.is_empty() => Ok(written.letters),
        None => wrong("the result has no `..` for the leading dims of its operands".into()),
    }
}

/// Takes away the dims of 1 that other operands stretch.
fn stretch(b: &mut GraphBuilder, operand: &mut Operand, sizes: &[(u32, Dim)]) -> Result<(), TypeError> {
    for axis in (0..operand.labels.len()).rev() {
        let stretched = sizes.iter().any(|(label, size)| *label == operand.labels[axis] && !size.is(1));
        if stretched && b.type_of(operand.value).shape[axis].is(1) {
            drop_axis(b, operand, axis)?;
        }
    }
    Ok(())
}

/// Contracts operands from left to right, each time summing over the labels that nothing after needs.
fn contract_all(b: &mut GraphBuilder, operands: Vec<Operand>, result: &[u32]) -> Result<ValueId, TypeError> {
    let mut rest = operands.into_iter();
    let Some(mut current) = rest.next() else { return Err(TypeError::new("an einsum of nothing").at([1])) };
    while let Some(next) = rest.next() {
        let others = rest.as_slice();
        let needed = |l: &u32| result.contains(l) || others.iter().any(|o| o.labels.contains(l));
        let all: Vec<u32> = current.labels.iter().chain(&next.labels).copied().collect();
        let kept = match others {
            [] => result.iter().copied().filter(|l| all.contains(l)).collect(),
            _ => (0..all.len()).filter(|i| needed(&all[*i]) && !all[..*i].contains(&all[*i])).map(|i| all[i]).collect(),
        };
        let labels: Vec<u32> = kept;
        let value = b.contract((current.value, &current.labels), (next.value, &next.labels), &labels)?;
        current = Operand { value, labels };
    }
    let alone: Vec<usize> = (0..current.labels.len()).filter(|i| !result.contains(&current.labels[*i])).collect();
    let value = b.reduce(Monoid::Sum, current.value, &alone, false)?;
    current.labels.retain(|l| result.contains(l));
    let order: Vec<usize> = result.iter().filter_map(|l| current.labels.iter().position(|c| c == l)).collect();
    b.transpose(value, &order)
}
