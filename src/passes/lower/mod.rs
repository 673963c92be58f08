//! From fused groups to kernels of the loop IR.
//!
//! Each group becomes one kernel (a large fold two), a loop over a function the kernels of its body ([`repeat`]). [`emit`] writes scalar code, [`axes`] decides which axes run together, [`map`],
//! [`fold`] and [`contract`] write the nests, and [`finish`] gives kernels their last form, in which equal ones are kept once.

use rustc_hash::FxHashMap;

use crate::ir::graph::{ResultRole, ValueId};
use crate::ir::loops::{Buffer, Place, Program};
use crate::ir::ops::Op;
use crate::ir::types::TensorType;
use crate::passes::fuse::{Class, Destination, Fused, Group, Kind};

pub(crate) mod accesses;
mod axes;
mod contract;
mod emit;
pub mod finish;
mod fold;
mod fold_nest;
pub mod hoist;
mod map;
mod monoid;
mod name;
pub mod number;
mod opaque;
mod reduce;
mod repeat;
pub mod shared;
pub mod view;
pub mod visit;

pub use name::apart;

use emit::{Array, Context};
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
    let function = &fused.function;
    let mut buffers = Vec::new();
    let mut declare = |name: &str, ty: &TensorType| {
        let index = buffers.len() as u32;
        let buffer = buffer(name, ty, Place::Argument { index });
        let array = Array::of(&buffer, index);
        buffers.push(buffer);
        array
    };
    let arguments = function.arguments.iter().map(|a| declare(&a.name, &a.ty)).collect();
    let stored = function.results.iter().filter(|r| !matches!(r.role, ResultRole::Update(_)));
    let results = stored.map(|r| declare(&r.name, function.graph.type_of(r.value))).collect();
    let pointers = buffers.len() as u32;
    let mut cx = context(fused, buffers, arguments, results);
    let mut shared = Shared::default();
    lower_groups(&mut cx, fused, &mut shared);
    let (kernels, steps) = shared.finish();
    Ok(Program { name: function.name.clone(), buffers: cx.buffers, kernels, steps, pointers, arena_bytes: 0 })
}

/// Writes the steps of all groups.
fn lower_groups(cx: &mut Context<'_>, fused: &Fused, shared: &mut Shared) {
    for group in &fused.groups {
        if let Kind::Loop(node) = group.kind {
            repeat::lower(cx, shared, fused, node);
            continue;
        }
        if group.space.contains(&0) && !matches!(group.kind, Kind::Opaque(_)) {
            continue;
        }
        let drafts = lower_group(cx, fused, group);
        let name = name::of_group(fused, group);
        drafts.into_iter().for_each(|draft| shared.call(draft, &name));
    }
}

fn lower_group(cx: &mut Context<'_>, fused: &Fused, group: &Group) -> Vec<Draft> {
    match group.kind {
        Kind::Map | Kind::Copy => map::lower(cx, group),
        Kind::Opaque(node) => vec![opaque::lower(cx, group, node)],
        Kind::Loop(_) => unreachable!("a loop is no kernel"),
        Kind::Reduce(node) | Kind::Contract(node) => match fused.analysis.class(node) {
            Class::Reduce { axes, monoid } => reduce::lower(cx, group, node, axes, *monoid),
            Class::Contract { left, right, result } => contract::lower(cx, group, node, (left, right, result)),
            _ => unreachable!("the kind of a group is the class of its root"),
        },
    }
}

/// What the kernels of a function address: its arguments, its results that are no updates, and everything stored in between, which is added to
/// `buffers`.
fn context(fused: &Fused, buffers: Vec<Buffer>, arguments: Vec<Array>, results: Vec<Array>) -> Context<'_> {
    let function = &fused.function;
    let mut cx = Context {
        function,
        analysis: &fused.analysis,
        buffers,
        arrays: arguments,
        homes: FxHashMap::default(),
        results: Vec::new(),
    };
    for (id, node) in function.graph.nodes() {
        if let Op::Argument(argument) = &node.op {
            cx.homes.insert(ValueId { node: id, output: 0 }, argument.index);
        }
    }
    let mut others = results.into_iter();
    for result in &function.results {
        let number = match result.role {
            ResultRole::Update(argument) => argument,
            _ => {
                cx.arrays.extend(others.next());
                cx.arrays.len() as u32 - 1
            }
        };
        cx.results.push(number);
    }
    for store in fused.groups.iter().filter(|g| g.kind != Kind::Copy).flat_map(|g| &g.stores) {
        let home = match store.destination {
            Destination::Result(number) => cx.results[number as usize],
            Destination::Temporary => {
                let ty = function.graph.type_of(store.value);
                cx.add(buffer(&name::of_value(fused, store.value), ty, Place::Arena { offset: None }))
            }
        };
        cx.homes.entry(store.value).or_insert(home);
    }
    cx
}

fn buffer(name: &str, ty: &TensorType, place: Place) -> Buffer {
    let elements = ty.elements().expect("fusion found every size") as u64;
    Buffer { name: name.into(), dtype: ty.dtype.storage(), elements, place }
}
