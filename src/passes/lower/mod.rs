//! From fused groups to kernels of the loop IR.
//!
//! Each group becomes one kernel (a large fold two). [`emit`] writes scalar code, [`axes`] decides which axes run together, [`map`],
//! [`fold`] and [`contract`] write the nests, and [`finish`] gives kernels their last form, in which equal ones are kept once.

use std::collections::HashMap;

use crate::ir::graph::{ResultRole, ValueId};
use crate::ir::loops::{Buffer, Place, Program};
use crate::ir::ops::Op;
use crate::passes::fuse::{Class, Destination, Fused, Group, Kind};

mod axes;
mod contract;
mod emit;
pub mod finish;
mod fold;
mod fold_nest;
mod hoist;
mod map;
mod monoid;
mod name;
pub mod number;
mod opaque;
mod reduce;
pub mod shared;
pub mod view;
pub mod visit;

use emit::Context;
use finish::Draft;
use shared::Shared;

/// Why a function cannot be lowered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LowerError {
    /// A tensor that no machine can hold.
    #[error("a tensor of type `{ty}` is too large")]
    TooLarge { ty: String },
    /// A dim that is not known.
    #[error("a tensor of type `{ty}` has a size that is not known")]
    Symbolic { ty: String },
}

/// The program of a fused function: kernels called in the order of the groups.
///
/// Arena buffers have no offsets yet and contractions are whole.
///
/// # Errors
/// A tensor of unknown size, or one too large for any machine.
pub fn lower(fused: &Fused) -> Result<Program, LowerError> {
    if let Some(problem) = &fused.problem {
        return Err(problem.clone());
    }
    let mut cx = context(fused);
    let mut shared = Shared::default();
    for group in &fused.groups {
        if group.space.contains(&0) && !matches!(group.kind, Kind::Opaque(_)) {
            continue;
        }
        let drafts = lower_group(&mut cx, fused, group);
        let name = name::of_group(fused, group);
        drafts.into_iter().for_each(|draft| shared.call(draft, &name));
    }
    let pointers = cx.buffers.iter().filter(|b| matches!(b.place, Place::Argument { .. })).count() as u32;
    Ok(Program {
        name: fused.function.name.clone(),
        buffers: cx.buffers,
        kernels: shared.kernels,
        calls: shared.calls,
        pointers,
        arena_bytes: 0,
    })
}

fn lower_group(cx: &mut Context<'_>, fused: &Fused, group: &Group) -> Vec<Draft> {
    match group.kind {
        Kind::Map | Kind::Copy => map::lower(cx, group),
        Kind::Opaque(node) => vec![opaque::lower(cx, group, node)],
        Kind::Reduce(node) | Kind::Contract(node) => match fused.analysis.class(node) {
            Class::Reduce { axes, monoid } => reduce::lower(cx, group, node, axes, *monoid),
            Class::Contract { left, right, result } => contract::lower(cx, group, node, (left, right, result)),
            _ => unreachable!("the kind of a group is the class of its root"),
        },
    }
}

/// Buffers for the arguments, the results that are no updates, and everything stored in between.
fn context(fused: &Fused) -> Context<'_> {
    let function = &fused.function;
    let mut cx = Context {
        function,
        analysis: &fused.analysis,
        buffers: Vec::new(),
        homes: HashMap::new(),
        results: Vec::new(),
    };
    for argument in &function.arguments {
        let index = cx.buffers.len() as u32;
        cx.buffers.push(buffer(&argument.name, &argument.ty, Place::Argument { index }));
    }
    for (id, node) in function.graph.nodes() {
        if let Op::Argument(argument) = &node.op {
            cx.homes.insert(ValueId { node: id, output: 0 }, argument.index);
        }
    }
    for result in &function.results {
        let number = match result.role {
            ResultRole::Update(argument) => argument,
            _ => {
                let index = cx.buffers.len() as u32;
                cx.buffers.push(buffer(&result.name, function.graph.type_of(result.value), Place::Argument { index }));
                index
            }
        };
        cx.results.push(number);
    }
    for store in fused.groups.iter().filter(|g| g.kind != Kind::Copy).flat_map(|g| &g.stores) {
        let home = match store.destination {
            Destination::Result(number) => cx.results[number as usize],
            Destination::Temporary => {
                let ty = function.graph.type_of(store.value);
                cx.buffers.push(buffer(&name::of_value(fused, store.value), ty, Place::Arena { offset: None }));
                cx.buffers.len() as u32 - 1
            }
        };
        cx.homes.entry(store.value).or_insert(home);
    }
    cx
}

fn buffer(name: &str, ty: &crate::ir::types::TensorType, place: Place) -> Buffer {
    let elements = ty.elements().expect("fusion found every size") as u64;
    Buffer { name: name.into(), dtype: ty.dtype.storage(), elements, place }
}
