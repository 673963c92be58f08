//! Partitions a graph into groups, each to become one kernel.
//!
//! A group has one iteration space, at most one root that folds (a reduction or a contraction), the pointwise
//! producers inlined into it, the pointwise consumers computed at the root's result (its epilogue), and the values it stores.
//! Decided greedily and in a fixed order: [`analysis`] says what is free and what must be kept, [`inline`] puts
//! producers with a single consumer into it, [`merge`] joins groups of the same space, [`schedule`] orders them so
//! that updates in place come after every reader of the old value. A loop over a function is a group of its own, and its body is cut in the same way.

use std::collections::BTreeMap;
use std::fmt;

use crate::ir::graph::{Function, Graph, NodeId, ValueId};
use crate::ir::ops::Op;
use crate::passes::Limits;
use crate::passes::lower::LowerError;
use crate::passes::lower::view::View;

pub mod analysis;
pub mod classify;
mod inline;
mod merge;
pub mod placement;
mod prepare;
mod print;
mod schedule;
mod units;

pub use analysis::Analysis;
pub use classify::Class;

/// Where a stored value goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Destination {
    /// A buffer of the workspace.
    Temporary,
    /// The buffer of the function's result with this number: for an update, its argument's.
    Result(u32),
}

/// A value that a group stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Store {
    pub value: ValueId,
    pub destination: Destination,
}

/// What a group does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Elements one by one.
    Map,
    /// A reduction and what follows it.
    Reduce(NodeId),
    /// A contraction and what follows it.
    Contract(NodeId),
    /// A nest of its own.
    Opaque(NodeId),
    /// A loop over a function of its own.
    Loop(NodeId),
    /// A value that is in memory goes to one more place.
    Copy,
}

/// Nodes that become one kernel.
#[derive(Clone, Debug)]
pub struct Group {
    pub kind: Kind,
    /// The sizes of the iteration space, those of size 1 left out.
    pub space: Vec<usize>,
    /// The nodes computed at each point of the space, in topological order, the folding one included.
    pub members: Vec<NodeId>,
    /// The nodes computed inside others.
    pub inlined: Vec<NodeId>,
    pub stores: Vec<Store>,
}

/// A node that makes a value, one that reads it in another kernel, and why it is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Apart {
    pub maker: NodeId,
    pub reader: NodeId,
    pub why: &'static str,
}

/// A function cut into groups in the order in which they run.
#[derive(Clone, Debug)]
pub struct Fused {
    pub function: Function,
    pub analysis: Analysis,
    pub groups: Vec<Group>,
    /// The functions that loops run, cut as well.
    pub bodies: BTreeMap<NodeId, Fused>,
    /// Nodes of which one reads the other and that are in different groups.
    pub apart: Vec<Apart>,
    /// Why the function cannot be lowered; there are no groups then.
    pub problem: Option<LowerError>,
}

/// Cuts a function, whose dims are all concrete, into groups.
pub fn fuse(function: &Function, limits: &Limits) -> Fused {
    fuse_placed(function, limits, &BTreeMap::new())
}

/// Cuts a function of which some arguments, by number, stand in memory as views and not as whole arrays.
pub fn fuse_placed(function: &Function, limits: &Limits, places: &BTreeMap<u32, View>) -> Fused {
    if let Some(problem) = problem(function) {
        return refused(function, problem);
    }
    let function = &prepare::prepare(function);
    let analysis = Analysis::new(function, places);
    let scans = function.graph.nodes().filter_map(|(id, node)| match &node.op {
        Op::Scan(scan) => {
            Some((id, fuse_placed(&scan.body, limits, &placement::places(function, &analysis, id, scan))))
        }
        _ => None,
    });
    let bodies: BTreeMap<NodeId, Fused> = scans.collect();
    if let Some(problem) = bodies.values().find_map(|b| b.problem.clone()) {
        return refused(function, problem);
    }
    let inlined = inline::inline(function, &analysis);
    let mut units = units::Units::new(function, &analysis, &inlined, limits.aim);
    units.add_updates(function, &analysis);
    let groups = merge::merge(&units);
    let apart = groups.apart(&units);
    let groups = schedule::schedule(function, &analysis, &inlined, &units, &groups);
    Fused { function: function.clone(), analysis, groups, bodies, apart, problem: None }
}

fn refused(function: &Function, problem: LowerError) -> Fused {
    let nothing = Function { graph: Graph::default(), results: Vec::new(), ..function.clone() };
    let analysis = Analysis::new(&nothing, &BTreeMap::new());
    Fused {
        function: nothing,
        analysis,
        groups: Vec::new(),
        bodies: BTreeMap::new(),
        apart: Vec::new(),
        problem: Some(problem),
    }
}

/// The largest tensor, in elements: addresses and their products stay far inside `i64`.
const LARGEST: usize = 1 << 40;

/// The first type that is symbolic or too large.
fn problem(function: &Function) -> Option<LowerError> {
    let arguments = function.arguments.iter().map(|a| &a.ty);
    let nodes = function.graph.nodes().flat_map(|(_, n)| &n.outputs);
    arguments.chain(nodes).find_map(|ty| match ty.sizes() {
        None => Some(LowerError::Symbolic { ty: ty.to_string() }),
        // Sizes of 0 do not count: the strides of such a shape are formed all the same.
        Some(sizes) => {
            let product = sizes.iter().try_fold(1usize, |p, s| p.checked_mul((*s).max(1)));
            product.is_none_or(|p| p > LARGEST).then(|| LowerError::TooLarge { ty: ty.to_string() })
        }
    })
}

impl fmt::Display for Fused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print::print(self, f)
    }
}
