//! How the language sorts: `sort`, `argsort`, `topk`.

use crate::ir::builder::GraphBuilder;
use crate::ir::dim::Dim;
use crate::ir::graph::ValueId;
use crate::ir::ops::sort::Sort;
use crate::ir::ops::{Parameter, Primitive, PrimitiveArguments, TypeError, slice};

const SORT: &[Parameter] = &[
    Parameter::required("x", "a tensor"),
    Parameter::optional("axis", "an int, the last by default"),
    Parameter::optional("descending", "whether the largest comes first"),
];

pub(super) fn all() -> Vec<Primitive> {
    let entry = |name, doc, parameters, build| Primitive { name, doc, parameters, rest: false, draws: false, build };
    vec![
        entry(
            "sort",
            "the elements along an axis in ascending order; equal ones keep their order, NaN comes last",
            SORT,
            |b, a| Ok(vec![sorted(b, a, 1, a.bool_or(2, false)?)?.0[0]]),
        ),
        entry(
            "argsort",
            "the i32 indices that sort x along an axis: sort(x) = take_along_axis(x, argsort(x), axis)",
            SORT,
            |b, a| Ok(vec![sorted(b, a, 1, a.bool_or(2, false)?)?.0[1]]),
        ),
        entry(
            "topk",
            "the k largest elements along an axis, largest first, and their i32 indices",
            const {
                &[
                    Parameter::required("x", "a tensor"),
                    Parameter::required("k", "an int"),
                    Parameter::optional("axis", "an int, the last by default"),
                ]
            },
            topk,
        ),
    ]
}

/// Both results of a sort of argument 0 along the axis at `position`, and the axis.
fn sorted(
    b: &mut GraphBuilder,
    arguments: &PrimitiveArguments,
    position: usize,
    descending: bool,
) -> Result<(Vec<ValueId>, usize), TypeError> {
    let x = arguments.tensor(b, 0)?;
    let axis = arguments.axis_or(position, -1, b.type_of(x).rank())?;
    Ok((b.add(Sort { axis, descending }, &[x])?, axis))
}

fn topk(b: &mut GraphBuilder, arguments: &PrimitiveArguments) -> Result<Vec<ValueId>, TypeError> {
    let (results, axis) = sorted(b, arguments, 2, true)?;
    let (k, shape) = (arguments.dim(1)?, b.shape_of(results[0]));
    let most = || TypeError::new(format!("the {k} largest of {} elements along axis {axis}", shape[axis])).at([0, 1]);
    let left = shape[axis].sub(&k).ok_or_else(most)?;
    if [&k, &left].iter().any(|d| d.constant().is_some_and(|c| c < 0)) {
        return Err(most());
    }
    let first = slice::Slice::along(&shape, axis, Dim::from(0i64), k.clone());
    results.iter().map(|v| b.add_one(first.clone(), &[*v])).collect()
}
