//! The nodes that are kernels before any are joined, and why one has to run before another.

use std::collections::BTreeMap;

use super::analysis::Analysis;
use super::classify::Class;
use super::inline::Inlined;
use crate::ir::graph::{Function, NodeId, ResultRole, ValueId};
use crate::ir::loops::{Affine, LoopVar};
use crate::ir::scalar::Monoid;
use crate::passes::lower::view;

/// What a unit computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    Node(NodeId),
    /// Copies a value that is in memory to the result with this number.
    Copy {
        value: ValueId,
        result: u32,
    },
}

/// `before` runs no later than `after`; in one kernel only if the second reads what the first makes (or overwrites what
/// it read) at the very same element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    pub before: usize,
    pub after: usize,
    pub same_point: bool,
}

/// A read of a value by a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnitRead {
    pub value: ValueId,
    pub same_point: bool,
}

/// All units and their order.
#[derive(Clone, Debug)]
pub struct Units {
    pub work: Vec<Work>,
    pub spaces: Vec<Vec<usize>>,
    pub reads: Vec<Vec<UnitRead>>,
    pub edges: Vec<Edge>,
    /// Results that are stored by the unit that computes them; the others have a copying unit.
    pub direct: Vec<bool>,
    of_node: BTreeMap<NodeId, usize>,
    /// The units that read each value.
    readers: BTreeMap<ValueId, Vec<usize>>,
    /// The units that run after each.
    after: Vec<Vec<usize>>,
    /// Whether the unit folds or must stay alone.
    pub folds: Vec<bool>,
    pub alone: Vec<bool>,
    /// Whether the unit computes a tensor of the gradient's half of a training step.
    pub late: Vec<bool>,
    /// Whether it computes one that no cache holds for long.
    pub large: Vec<bool>,
    /// The fewest elements that such a tensor has.
    least_large: usize,
    /// How many units with products or nests of their own stand before each.
    pub stage: Vec<usize>,
    /// Whether a unit works on single elements and all that it makes goes into results, by itself or through others like it.
    pub ends: Vec<bool>,
    turn: Option<NodeId>,
    /// Pairs of folds of which one finds the other's result as well.
    pub companions: Vec<(usize, usize)>,
}

/// Fewer results of a fold than this are left to folds that can be cut for threads.
const FEWEST_RESULTS: usize = 64;

/// A tensor of fewer elements is computed wherever it is convenient; the memory that it takes until it is read does not count.
const SMALLEST_TENSOR: usize = 1 << 14;

/// A tensor of so many elements is better computed late than kept, and so is one whose elements are more than one in so many bytes of all memory.
const LARGE_TENSOR: usize = 1 << 19;
const LARGE_PART: u64 = 128;

impl Units {
    /// One unit for each node that is work of its own and not computed inside another.
    pub fn new(function: &Function, analysis: &Analysis, inlined: &Inlined, memory: u64) -> Units {
        let mut units = Units {
            work: Vec::new(),
            spaces: Vec::new(),
            reads: Vec::new(),
            edges: Vec::new(),
            direct: vec![true; function.results.len()],
            of_node: BTreeMap::new(),
            readers: BTreeMap::new(),
            after: Vec::new(),
            folds: Vec::new(),
            alone: Vec::new(),
            late: Vec::new(),
            large: Vec::new(),
            least_large: LARGE_TENSOR.min((memory / LARGE_PART) as usize),
            stage: Vec::new(),
            ends: Vec::new(),
            turn: function.turn(),
            companions: Vec::new(),
        };
        for (id, _) in function.graph.nodes() {
            if analysis.is_real(id) && !inlined.inside[id.0 as usize] {
                let space = view::squeezed(&analysis.sizes[id.0 as usize][0]);
                let reads = unit_reads(analysis, inlined, id, Same { address: true, shape: true });
                let class = analysis.class(id);
                let folds = matches!(class, Class::Reduce { .. } | Class::Contract { .. });
                let products = class.is_alone() || matches!(class, Class::Contract { .. });
                let stage = units.stage.last().map_or(0, |before| before + usize::from(products));
                units.push(Work::Node(id), space, reads, folds, class.is_alone());
                units.stage.push(stage);
            }
        }
        units.find_companions(function, analysis);
        units.find_ends(function);
        units
    }

    fn find_ends(&mut self, function: &Function) {
        self.ends = vec![false; self.work.len()];
        for unit in (0..self.work.len()).rev() {
            let Work::Node(node) = self.work[unit] else { continue };
            let is_result = function.results.iter().any(|r| r.value.node == node);
            let readers = &self.after[unit];
            let direct = |reader: &usize| self.ends[*reader] && !self.folds[*reader] && !self.alone[*reader];
            self.ends[unit] = !self.folds[unit] && (is_result || !readers.is_empty() && readers.iter().all(direct));
        }
    }

    /// Where the largest element stands is found by looking for it: a fold for the one gives the other.
    fn find_companions(&mut self, function: &Function, analysis: &Analysis) {
        let mut extremes: BTreeMap<(ValueId, Vec<usize>, bool), usize> = BTreeMap::new();
        let fold = |unit: usize| match self.work[unit] {
            Work::Node(id) => match analysis.class(id) {
                Class::Reduce { axes, monoid } => Some((function.graph.node(id).inputs[0], axes.clone(), *monoid)),
                _ => None,
            },
            Work::Copy { .. } => None,
        };
        for unit in 0..self.work.len() {
            if let Some((operand, axes, monoid @ (Monoid::Max | Monoid::Min))) = fold(unit) {
                extremes.insert((operand, axes, monoid == Monoid::Max), unit);
            }
        }
        for unit in 0..self.work.len() {
            let Some((operand, axes, monoid @ (Monoid::ArgMax | Monoid::ArgMin))) = fold(unit) else { continue };
            let many = self.spaces[unit].iter().product::<usize>() >= FEWEST_RESULTS;
            if let (true, Some(extreme)) = (many, extremes.get(&(operand, axes, monoid == Monoid::ArgMax))) {
                self.companions.push((*extreme, unit));
            }
        }
    }

    fn push(&mut self, work: Work, space: Vec<usize>, reads: Vec<UnitRead>, folds: bool, alone: bool) -> usize {
        let unit = self.work.len();
        if let Work::Node(id) = work {
            self.of_node.insert(id, unit);
        }
        let behind = matches!(work, Work::Node(id) if self.turn.is_some_and(|turn| id > turn));
        let elements = space.iter().product::<usize>();
        self.late.push(behind && elements >= SMALLEST_TENSOR);
        self.large.push(elements >= self.least_large);
        self.after.push(Vec::new());
        for read in &reads {
            if let Some(before) = self.maker(read.value) {
                self.add_edge(Edge { before, after: unit, same_point: read.same_point });
            }
            let readers = self.readers.entry(read.value).or_default();
            if readers.last() != Some(&unit) {
                readers.push(unit);
            }
        }
        self.work.push(work);
        self.spaces.push(space);
        self.reads.push(reads);
        self.folds.push(folds);
        self.alone.push(alone);
        unit
    }

    fn add_edge(&mut self, edge: Edge) {
        self.after[edge.before].push(edge.after);
        self.edges.push(edge);
    }

    /// The unit that computes a value; none for an argument.
    pub fn maker(&self, value: ValueId) -> Option<usize> {
        self.of_node.get(&value.node).copied()
    }

    /// Decides for every result how it gets to its place: stored by its unit, or copied. A value that overwrites an
    /// argument is stored in place if that can wait for every reader of the old one.
    pub fn add_updates(&mut self, function: &Function, analysis: &Analysis) {
        let arguments: BTreeMap<u32, ValueId> = function
            .graph
            .nodes()
            .filter_map(|(id, n)| match &n.op {
                crate::ir::ops::Op::Argument(a) => Some((a.index, ValueId { node: id, output: 0 })),
                _ => None,
            })
            .collect();
        for number in 0..function.results.len() {
            let result = &function.results[number];
            let old = match result.role {
                ResultRole::Update(index) => arguments.get(&index).copied(),
                _ => None,
            };
            if old == Some(result.value) {
                self.direct[number] = false;
                continue;
            }
            let before = &function.results[..number];
            let again = (0..number).any(|n| before[n].value == result.value && self.direct[n]);
            // An opaque op stores each value once.
            let maker = self.maker(result.value).filter(|unit| !(again && self.alone[*unit]));
            match maker.and_then(|unit| self.waiting(unit, old)) {
                Some(edges) => edges.into_iter().for_each(|e| self.add_edge(e)),
                None => self.add_copy(analysis, result.value, number, old),
            }
        }
        self.edges.sort();
        self.edges.dedup();
    }

    fn add_copy(&mut self, analysis: &Analysis, value: ValueId, number: usize, old: Option<ValueId>) {
        self.direct[number] = false;
        let space = view::squeezed(analysis.sizes_of(value));
        let work = Work::Copy { value, result: number as u32 };
        let unit = self.push(work, space, vec![UnitRead { value, same_point: false }], false, true);
        self.stage.push(self.stage.last().map_or(0, |before| before + 1));
        self.ends.push(true);
        for reader in self.readers(old) {
            if reader.0 != unit {
                self.add_edge(Edge { before: reader.0, after: unit, same_point: false });
            }
        }
    }

    /// The units that read a value.
    pub fn readers_of(&self, value: ValueId) -> impl Iterator<Item = usize> {
        self.readers.get(&value).into_iter().flatten().copied()
    }

    fn readers(&self, value: Option<ValueId>) -> Vec<(usize, bool)> {
        let Some(value) = value else { return Vec::new() };
        let same = |unit: usize| self.reads[unit].iter().filter(|r| r.value == value).all(|r| r.same_point);
        self.readers.get(&value).into_iter().flatten().map(|unit| (*unit, same(*unit))).collect()
    }

    /// The edges that make `unit` wait for every reader of `old`; `None` if one of them needs what `unit` makes.
    fn waiting(&self, unit: usize, old: Option<ValueId>) -> Option<Vec<Edge>> {
        let readers = self.readers(old);
        let after = if readers.is_empty() { Vec::new() } else { self.reachable(unit) };
        let mut edges = Vec::new();
        for (reader, same_point) in readers {
            if reader == unit {
                same_point.then_some(())?;
            } else if after[reader] {
                return None;
            } else {
                edges.push(Edge { before: reader, after: unit, same_point });
            }
        }
        Some(edges)
    }

    fn reachable(&self, from: usize) -> Vec<bool> {
        let mut seen = vec![false; self.work.len()];
        let mut stack = vec![from];
        while let Some(unit) = stack.pop() {
            for next in &self.after[unit] {
                if !std::mem::replace(&mut seen[*next], true) {
                    stack.push(*next);
                }
            }
        }
        seen
    }
}

/// Whether a node inside a unit is computed at the unit's own point: at the same address, and in the same shape.
#[derive(Clone, Copy)]
struct Same {
    address: bool,
    shape: bool,
}

/// What a unit reads itself and through the nodes inside it.
fn unit_reads(analysis: &Analysis, inlined: &Inlined, node: NodeId, same: Same) -> Vec<UnitRead> {
    let sizes = &analysis.sizes[node.0 as usize][0];
    let pointwise = !matches!(
        analysis.class(node),
        Class::Reduce { .. } | Class::Contract { .. } | Class::Opaque | Class::Loop | Class::Source
    );
    let index: Vec<Affine> = (0..sizes.len()).map(|a| Affine::scaled(LoopVar(a as u32), 1)).collect();
    let squeezed_index: Vec<Affine> =
        index.iter().zip(sizes).map(|(i, s)| if *s == 1 { Affine::default() } else { i.clone() }).collect();
    let own = view::linear(sizes, &squeezed_index);
    let mut reads = Vec::new();
    for read in &inlined.reads[node.0 as usize] {
        let of_value = analysis.sizes_of(read.value);
        let address = read.address.as_ref().map(|a| without_units(a, sizes));
        let all = view::elements(of_value) == view::elements(sizes);
        let same = Same {
            address: same.address && pointwise && all && address.as_ref() == Some(&own),
            shape: same.shape && view::squeezed(of_value) == view::squeezed(sizes),
        };
        if inlined.inside[read.value.node.0 as usize] {
            reads.extend(unit_reads(analysis, inlined, read.value.node, same));
        } else {
            // An argument stands in memory, whatever its shape.
            let shape = same.shape || *analysis.class(read.value.node) == Class::Source;
            reads.push(UnitRead { value: read.value, same_point: same.address && shape });
        }
    }
    reads
}

/// An address without the variables of axes of size 1, which are always 0.
fn without_units(address: &Affine, sizes: &[usize]) -> Affine {
    let counts = |var: &LoopVar| sizes.get(var.0 as usize).is_some_and(|s| *s != 1);
    Affine { constant: address.constant, terms: address.terms.iter().copied().filter(|(v, _)| counts(v)).collect() }
}
