//! How the language writes contractions: `@` and `einsum`.

use crate::ir::builder::GraphBuilder;
use crate::ir::dim::Dim;
use crate::ir::graph::ValueId;
use crate::ir::ops::{Parameter, Primitive, PrimitiveArguments, TypeError};
use crate::ir::scalar::Monoid;
use crate::ir::types::DType;

pub(super) fn all() -> Vec<Primitive> {
    vec![
        Primitive {
            name: "matmul",
            doc: "a @ b: the product over the last dim of a and the last but one of b, broadcast over leading dims",
            parameters: const { &[Parameter::required("a", "a tensor"), Parameter::required("b", "a tensor")] },
            rest: false,
            draws: false,
            build: |b, a| {
                let (x, y) = (a.tensor(b, 0)?, a.tensor(b, 1)?);
                Ok(vec![matmul(b, x, y)?])
            },
        },
        Primitive {
            name: "einsum",
            doc: "a sum of products by letters, as in `einsum(\"ij,jk->ik\", a, b)`",
            parameters: const {
                &[
                    Parameter::required(
                        "spec",
                        "a string: letters for each operand's axes, `->`, letters for the result's",
                    ),
                    Parameter::required("operands", "tensors"),
                ]
            },
            rest: true,
            draws: false,
            build: einsum,
        },
    ]
}

fn disagree(b: &GraphBuilder, x: ValueId, y: ValueId, why: String) -> TypeError {
    TypeError::new(format!("the matrix product of {} and {}", b.type_of(x), b.type_of(y))).note(why).at([0, 1])
}

/// NumPy's `@`: vectors count as a row on the left and a column on the right.
fn matmul(b: &mut GraphBuilder, x: ValueId, y: ValueId) -> Result<ValueId, TypeError> {
    let (left, right) = (b.type_of(x).clone(), b.type_of(y).clone());
    if left.rank() == 0 || right.rank() == 0 {
        return Err(disagree(b, x, y, "a scalar has no axis to sum over; use `*`".into()));
    }
    if left.dtype != right.dtype || left.dtype == DType::Bool {
        return Err(disagree(
            b,
            x,
            y,
            "the dtypes must be one number type; convert one, for example with `f32(x)`".into(),
        ));
    }
    let inner = (&left.shape[left.rank() - 1], &right.shape[right.rank().max(2) - 2]);
    if inner.0 != inner.1 {
        let which = if right.rank() == 1 { "dim" } else { "last but one" };
        return Err(disagree(
            b,
            x,
            y,
            format!("the last dim of the left is {}, the {which} of the right is {}", inner.0, inner.1),
        ));
    }
    let lead_left = left.rank().saturating_sub(2);
    let lead_right = right.rank().saturating_sub(2);
    let rank = lead_left.max(lead_right);
    // Labels: 0 the sum, 1 the rows, 2 the columns, 3 + i the leading dims counted from the last.
    let label = |from_end: usize| 3 + from_end as u32;
    let (mut left_labels, mut right_labels) = (Vec::new(), Vec::new());
    let (mut left_shape, mut right_shape) = (Vec::new(), Vec::new());
    let mut result: Vec<u32> = Vec::new();
    for from_end in (0..rank).rev() {
        let at = |shape: &[Dim], lead: usize| (from_end < lead).then(|| shape[lead - 1 - from_end].clone());
        let (p, q) = (at(&left.shape, lead_left), at(&right.shape, lead_right));
        let (keep_left, keep_right) = match (&p, &q) {
            (Some(p), Some(q)) if p == q => (true, true),
            (Some(_), Some(q)) if q.is(1) => (true, false),
            (Some(p), Some(_)) if p.is(1) => (false, true),
            (Some(p), Some(q)) => return Err(disagree(b, x, y, format!("the leading dims {p} and {q} do not match"))),
            (p, q) => (p.is_some(), q.is_some()),
        };
        for (keep, dim, labels, shape) in
            [(keep_left, p, &mut left_labels, &mut left_shape), (keep_right, q, &mut right_labels, &mut right_shape)]
        {
            if let (true, Some(dim)) = (keep, dim) {
                labels.push(label(from_end));
                shape.push(dim);
            }
        }
        result.push(label(from_end));
    }
    if left.rank() > 1 {
        left_labels.push(1);
        result.push(1);
    }
    left_labels.push(0);
    right_labels.push(0);
    if right.rank() > 1 {
        right_labels.push(2);
        result.push(2);
    }
    left_shape.extend_from_slice(&left.shape[lead_left..]);
    right_shape.extend_from_slice(&right.shape[lead_right..]);
    // A leading 1 that the other side stretches is dropped, so that nothing is copied.
    let (x, y) = (b.reshape(x, &left_shape)?, b.reshape(y, &right_shape)?);
    b.contract((x, &left_labels), (y, &right_labels), &result)
}

/// The letters of each operand and of the result.
fn parse_spec(spec: &str) -> Result<(Vec<Vec<u32>>, Vec<u32>), TypeError> {
    let compact: String = spec.chars().filter(|c| !c.is_whitespace()).collect();
    if compact.contains("..") {
        return Err(TypeError::new("`..` in an einsum is not supported yet").at([0]));
    }
    let (operands, result) = match compact.split_once("->") {
        Some((operands, result)) => (operands.to_string(), Some(result.to_string())),
        None => (compact, None),
    };
    let letters = |text: &str| -> Result<Vec<u32>, TypeError> {
        let mut labels = Vec::new();
        for c in text.chars() {
            if !c.is_ascii_alphabetic() {
                return Err(TypeError::new(format!("`{c}` is no letter in the einsum `{spec}`")).at([0]));
            }
            if labels.contains(&(c as u32)) {
                return Err(TypeError::new(format!("`{c}` twice in `{text}`: diagonals are not supported yet")).at([0]));
            }
            labels.push(c as u32);
        }
        Ok(labels)
    };
    let operands = operands.split(',').map(letters).collect::<Result<Vec<_>, _>>()?;
    let result = match result {
        Some(text) => letters(&text)?,
        // Without `->`: the letters that stand once, in alphabetical order, as in NumPy.
        None => {
            let all: Vec<u32> = operands.iter().flatten().copied().collect();
            let mut once: Vec<u32> =
                all.iter().copied().filter(|l| all.iter().filter(|m| *m == l).count() == 1).collect();
            once.sort_unstable();
            once
        }
    };
    Ok((operands, result))
}

fn einsum(b: &mut GraphBuilder, arguments: &PrimitiveArguments) -> Result<Vec<ValueId>, TypeError> {
    let spec = arguments.text(0)?.to_string();
    let (labels, result) = parse_spec(&spec)?;
    let operands = arguments.tensors(b, 1)?;
    check_spec(b, &spec, &labels, &result, &operands)?;
    let mut value = operands[0];
    let mut current = labels[0].clone();
    for next in 1..operands.len() {
        let needed = |l: &u32| result.contains(l) || labels[next + 1..].iter().any(|o| o.contains(l));
        let last = next + 1 == operands.len();
        let mut kept: Vec<u32> = current.iter().copied().filter(needed).collect();
        kept.extend(labels[next].iter().copied().filter(|l| needed(l) && !current.contains(l)));
        let kept = if last { result.clone() } else { kept };
        value = b.contract((value, &current), (operands[next], &labels[next]), &kept)?;
        current = kept;
    }
    let alone: Vec<usize> = (0..current.len()).filter(|i| !result.contains(&current[*i])).collect();
    value = b.reduce(Monoid::Sum, value, &alone, false)?;
    current.retain(|l| result.contains(l));
    let order: Vec<usize> = result.iter().filter_map(|l| current.iter().position(|c| c == l)).collect();
    Ok(vec![b.transpose(value, &order)?])
}

/// Whether the letters fit the operands, so that errors speak of letters.
fn check_spec(
    b: &GraphBuilder,
    spec: &str,
    labels: &[Vec<u32>],
    result: &[u32],
    operands: &[ValueId],
) -> Result<(), TypeError> {
    if labels.len() != operands.len() {
        return Err(TypeError::new(format!(
            "the einsum `{spec}` is of {} operands, found {}",
            labels.len(),
            operands.len()
        ))
        .at([0]));
    }
    let letter = |l: u32| char::from_u32(l).unwrap_or('?');
    let mut sizes: Vec<(u32, Dim, usize)> = Vec::new();
    for (i, (own, value)) in labels.iter().zip(operands).enumerate() {
        let ty = b.type_of(*value);
        if own.len() != ty.rank() {
            return Err(
                TypeError::new(format!("the einsum `{spec}` has {} letters for {ty}", own.len())).at([0, 1 + i])
            );
        }
        if ty.dtype != b.dtype_of(operands[0]) || ty.dtype == DType::Bool {
            return Err(TypeError::new(format!(
                "the einsum `{spec}` of {} and {ty}: the dtypes must be one number type",
                b.type_of(operands[0])
            ))
            .at([1, 1 + i]));
        }
        for (l, dim) in own.iter().zip(&ty.shape) {
            match sizes.iter().find(|(known, ..)| known == l) {
                Some((_, size, first)) if size != dim => {
                    return Err(TypeError::new(format!("the einsum `{spec}`: `{}` is {size} and {dim}", letter(*l)))
                        .at([1 + first, 1 + i]));
                }
                Some(_) => {}
                None => sizes.push((*l, dim.clone(), i)),
            }
        }
    }
    match result.iter().find(|l| sizes.iter().all(|(known, ..)| known != *l)) {
        Some(l) => Err(TypeError::new(format!("the einsum `{spec}`: `{}` is in no operand", letter(*l))).at([0])),
        None => Ok(()),
    }
}
