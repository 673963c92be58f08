//! How the language writes contractions: `@`, and `einsum` by [`einsum`](super::einsum).

use super::einsum;
use crate::ir::builder::GraphBuilder;
use crate::ir::dim::Dim;
use crate::ir::graph::ValueId;
use crate::ir::ops::{Parameter, Primitive, TypeError};
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
            doc: "a sum of products by letters, as in `einsum(\"ij,jk->ik\", a, b)`; `..` stands for leading dims, a letter twice in one operand for its diagonal",
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
            build: einsum::einsum,
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
