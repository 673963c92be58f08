//! The facts about a function that fusion and lowering share: sizes, classes, what is kept in memory, and how values are reached.

use std::collections::{BTreeMap, BTreeSet};

use super::classify::{Class, classify};
use super::placement;
use crate::ir::graph::{Function, Node, NodeId, ValueId};
use crate::ir::loops::{Affine, LoopVar};
use crate::ir::ops::Op;
use crate::passes::lower::view::{self, View};

/// Chains of rearranging ops are kept in memory at every so many links, so that walks along them stay short.
const LONGEST_CHAIN: usize = 64;

/// Tensors of so many elements do not stay in the cache: writing and reading one takes longer than a step on each element.
const LARGE: usize = 1 << 18;

/// Operands of at most one part in so many of a tensor stay in the cache while it passes through.
const CACHED_PART: usize = 64;

/// So many steps are computed anew in a row at most.
const MOST_STEPS: usize = 3;

/// One element of a value that a node reads: which, as an address in its row-major order, for an index of the reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    pub value: ValueId,
    /// The address where variable `i` counts axis `i` of the reader; `None` if the reader takes the whole buffer.
    pub address: Option<Affine>,
}

/// What is known of each node.
#[derive(Clone, Debug)]
pub struct Analysis {
    pub classes: Vec<Class>,
    /// The sizes of each output of each node.
    pub sizes: Vec<Vec<Vec<usize>>>,
    /// Values that have to stand in memory as whole row-major arrays.
    pub stored: BTreeSet<ValueId>,
    /// Nodes computed anew wherever they are read.
    pub free: Vec<bool>,
    /// Arguments that do not stand in memory as whole row-major arrays, and how they do.
    places: BTreeMap<ValueId, View>,
}

impl Analysis {
    /// Looks at every node of a function whose dims are all concrete; `places` are as in [`fuse_placed`](super::fuse_placed).
    pub fn new(function: &Function, places: &BTreeMap<u32, View>) -> Analysis {
        let sizes = function
            .graph
            .nodes()
            .map(|(_, n)| n.outputs.iter().map(|t| t.sizes().expect("fusion runs on concrete types")).collect())
            .collect();
        let classes = classify(function);
        let free = vec![false; classes.len()];
        let placed = function.graph.nodes().filter_map(|(node, n)| match &n.op {
            Op::Argument(a) => places.get(&a.index).map(|view| (ValueId { node, output: 0 }, view.clone())),
            _ => None,
        });
        let mut analysis = Analysis { classes, sizes, stored: BTreeSet::new(), free, places: placed.collect() };
        analysis.require_stored(function);
        analysis.find_free(function);
        analysis
    }

    /// The class of a node.
    pub fn class(&self, node: NodeId) -> &Class {
        &self.classes[node.0 as usize]
    }

    /// The sizes of a value.
    pub fn sizes_of(&self, value: ValueId) -> &[usize] {
        &self.sizes[value.node.0 as usize][value.output as usize]
    }

    /// Whether the node only rearranges and is not itself kept.
    pub fn is_view(&self, value: ValueId) -> bool {
        matches!(self.class(value.node), Class::View(_) | Class::Reshape) && !self.stored.contains(&value)
    }

    /// Whether the node is work of its own: no argument, no view, not free.
    pub fn is_real(&self, node: NodeId) -> bool {
        let value = ValueId { node, output: 0 };
        *self.class(node) != Class::Source
            && !self.is_view(value)
            && (!self.free[node.0 as usize] || self.stored.contains(&value))
    }

    /// The value at the end of the chain of rearranging ops below `value`, and `value` as a view of it.
    pub fn base(&self, function: &Function, value: ValueId) -> Option<(ValueId, View)> {
        let mut chain = Vec::new();
        let mut base = value;
        while self.is_view(base) {
            chain.push(base);
            base = function.graph.node(base.node).inputs[0];
        }
        let mut view = self.places.get(&base).cloned().unwrap_or_else(|| View::whole(self.sizes_of(base)));
        for step in chain.into_iter().rev() {
            let sizes = self.sizes_of(step);
            view = match self.class(step.node) {
                Class::View(map) => view.through(map, sizes),
                _ => view.reshape(sizes)?,
            };
        }
        Some((base, view))
    }

    /// Marks what must stand in memory whatever is fused: results, operands of contractions and of opaque ops, and what is
    /// reshaped in a way no address can say.
    fn require_stored(&mut self, function: &Function) {
        let mut depth = vec![0usize; self.classes.len()];
        for (id, node) in function.graph.nodes() {
            if matches!(self.class(id), Class::View(_) | Class::Reshape) {
                depth[id.0 as usize] = (depth[node.inputs[0].node.0 as usize] + 1) % LONGEST_CHAIN;
                if depth[id.0 as usize] == 0 {
                    self.require(ValueId { node: id, output: 0 });
                }
            }
        }
        for result in &function.results {
            self.require(result.value);
        }
        // What is stored on the way to a value is its base from then on, of which it may be another view: until nothing is added.
        loop {
            let before = self.stored.len();
            function.graph.nodes().for_each(|(id, node)| self.require_operands(function, id, node));
            if self.stored.len() == before {
                break;
            }
        }
    }

    /// Marks what a node cannot read unless it stands in memory.
    fn require_operands(&mut self, function: &Function, id: NodeId, node: &Node) {
        match self.class(id).clone() {
            Class::Reshape => self.require_reshape(function, ValueId { node: id, output: 0 }),
            Class::Contract { .. } => node.inputs.iter().for_each(|v| self.require_view(function, *v)),
            Class::Opaque => node.inputs.iter().for_each(|v| self.require_whole(function, *v)),
            Class::Loop => {
                let Op::Scan(scan) = &node.op else { unreachable!("only a scan is a loop") };
                for (operand, value) in node.inputs.iter().enumerate() {
                    match placement::reads_in_place(scan, operand) {
                        true => self.require_view(function, *value),
                        false => self.require_whole(function, *value),
                    }
                }
            }
            _ => {}
        }
    }

    fn require(&mut self, value: ValueId) {
        if *self.class(value.node) != Class::Source {
            self.stored.insert(value);
        }
    }

    fn require_view(&mut self, function: &Function, value: ValueId) {
        match self.base(function, value) {
            Some((base, _)) => self.require(base),
            None => self.require(value),
        }
    }

    fn require_whole(&mut self, function: &Function, value: ValueId) {
        match self.base(function, value) {
            Some((base, view))
                if view.is_whole() && view::elements(self.sizes_of(base)) == view::elements(&view.sizes) =>
            {
                self.require(base);
            }
            _ => self.require(value),
        }
    }

    /// A reshape that cuts no axis up may be computed through; any other needs its operand in memory.
    fn require_reshape(&mut self, function: &Function, value: ValueId) {
        let operand = function.graph.node(value.node).inputs[0];
        let (from, to) = (self.sizes_of(operand), self.sizes_of(value));
        let index: Vec<Affine> = (0..to.len()).map(|a| Affine::scaled(LoopVar(a as u32), 1)).collect();
        if view::reshape_index(from, to, &index).is_some() {
            return;
        }
        match self.base(function, operand).filter(|(_, view)| view.reshape(to).is_some()) {
            Some((base, _)) => self.require(base),
            None => self.require(operand),
        }
    }

    /// Finds what is cheaper to compute again than to keep: constants, one step on single elements, conversions to
    /// something no smaller, and [steps](Self::step_of) on each element of a large tensor that is in memory anyway.
    fn find_free(&mut self, function: &Function) {
        let readers = self.readers(function);
        // How many steps away from memory each node is.
        let mut steps = vec![0usize; self.classes.len()];
        for (id, node) in function.graph.nodes() {
            let Class::Pointwise { cost, .. } = self.class(id) else { continue };
            let constant = node.inputs.is_empty() && *cost == 0;
            if let (Some(of), 1) = (self.step_of(function, id), *cost) {
                let at = of.node.0 as usize;
                let in_memory =
                    if self.free[at] { steps[at] < MOST_STEPS } else { readers[at] > 1 || self.stored.contains(&of) };
                if in_memory {
                    steps[id.0 as usize] = steps[at] + 1;
                    self.free[id.0 as usize] = true;
                    continue;
                }
            }
            let cheap = *cost <= 1 && !node.inputs.is_empty() && {
                let widens = node.inputs.len() == 1 && {
                    let from = function.graph.type_of(node.inputs[0]);
                    from.dtype.bytes() <= node.outputs[0].dtype.bytes() && from.dtype != node.outputs[0].dtype
                };
                node.inputs.iter().all(|v| self.is_cheap_operand(function, *v, widens))
            };
            self.free[id.0 as usize] = constant || cheap;
        }
    }

    /// How many nodes read each node, themselves or a view of it.
    fn readers(&self, function: &Function) -> Vec<usize> {
        let mut readers = vec![0; self.classes.len()];
        for (id, node) in function.graph.nodes() {
            if !self.is_view(ValueId { node: id, output: 0 }) {
                node.inputs.iter().for_each(|v| readers[self.behind_views(function, *v).node.0 as usize] += 1);
            }
        }
        readers
    }

    fn behind_views(&self, function: &Function, value: ValueId) -> ValueId {
        let mut base = value;
        while self.is_view(base) {
            base = function.graph.node(base.node).inputs[0];
        }
        base
    }

    /// The large tensor of whose elements a pointwise node computes one each, with nothing else but operands that stay in the cache.
    fn step_of(&self, function: &Function, node: NodeId) -> Option<ValueId> {
        let elements = |value: ValueId| view::elements(self.sizes_of(value));
        let all = elements(ValueId { node, output: 0 });
        let operands = &function.graph.node(node).inputs;
        let bases: Vec<ValueId> = operands.iter().map(|v| self.behind_views(function, *v)).collect();
        let mut large = (0..bases.len()).filter(|i| elements(bases[*i]) * CACHED_PART > all);
        let (of, others) = (large.next()?, large.next());
        let as_it_is = bases[of] == operands[of] && elements(bases[of]) == all;
        let real = !matches!(self.class(bases[of].node), Class::Source | Class::Pointwise { cost: 0, .. });
        (all >= LARGE && others.is_none() && as_it_is && real).then_some(bases[of])
    }

    /// Whether reading `value` costs nothing: a constant, a single element, or anything in memory for a conversion.
    fn is_cheap_operand(&self, function: &Function, value: ValueId, conversion: bool) -> bool {
        let base = self.behind_views(function, value);
        match self.class(base.node) {
            Class::Pointwise { cost: 0, .. } => function.graph.node(base.node).inputs.is_empty(),
            Class::Source => conversion || view::elements(self.sizes_of(base)) == 1,
            _ => !self.free[base.node.0 as usize] && (conversion || view::elements(self.sizes_of(base)) == 1),
        }
    }

    /// What a node reads for one element, through everything that is not work of its own.
    ///
    /// Variable `i` counts axis `i` of the result, or of operand 0 for a reduction.
    pub fn reads(&self, function: &Function, node: NodeId) -> Vec<Read> {
        let inputs = &function.graph.node(node).inputs;
        let axes = |sizes: &[usize]| (0..sizes.len()).map(|a| Affine::scaled(LoopVar(a as u32), 1)).collect::<Vec<_>>();
        let mut reads = Vec::new();
        match self.class(node) {
            Class::Pointwise { maps, .. } => {
                let index = axes(&self.sizes[node.0 as usize][0]);
                for (input, map) in inputs.iter().zip(maps) {
                    self.collect(function, *input, view::apply(map, &index), &mut reads);
                }
            }
            Class::View(map) => {
                let index = view::apply(map, &axes(&self.sizes[node.0 as usize][0]));
                self.collect(function, inputs[0], index, &mut reads);
            }
            Class::Reshape => {
                let index = axes(&self.sizes[node.0 as usize][0]);
                self.collect_reshaped(function, ValueId { node, output: 0 }, index, &mut reads);
            }
            Class::Reduce { .. } => self.collect(function, inputs[0], axes(self.sizes_of(inputs[0])), &mut reads),
            Class::Contract { .. } | Class::Opaque | Class::Loop => {
                for input in inputs {
                    let base = self.base(function, *input).map_or(*input, |(base, _)| base);
                    reads.push(Read { value: base, address: None });
                }
            }
            Class::Source => {}
        }
        reads.dedup();
        reads
    }

    fn collect(&self, function: &Function, value: ValueId, index: Vec<Affine>, reads: &mut Vec<Read>) {
        let node = function.graph.node(value.node);
        if self.is_real(value.node) || *self.class(value.node) == Class::Source {
            let read = Read { value, address: Some(view::linear(self.sizes_of(value), &index)) };
            if !reads.contains(&read) {
                reads.push(read);
            }
            return;
        }
        match self.class(value.node) {
            Class::View(map) => self.collect(function, node.inputs[0], view::apply(map, &index), reads),
            Class::Reshape => self.collect_reshaped(function, value, index, reads),
            Class::Pointwise { maps, .. } => {
                for (input, map) in node.inputs.iter().zip(maps) {
                    self.collect(function, *input, view::apply(map, &index), reads);
                }
            }
            _ => unreachable!("folds are work of their own"),
        }
    }

    fn collect_reshaped(&self, function: &Function, value: ValueId, index: Vec<Affine>, reads: &mut Vec<Read>) {
        let operand = function.graph.node(value.node).inputs[0];
        if let Some(inner) = view::reshape_index(self.sizes_of(operand), self.sizes_of(value), &index) {
            return self.collect(function, operand, inner, reads);
        }
        let reached = self.base(function, operand).and_then(|(base, v)| Some((base, v.reshape(self.sizes_of(value))?)));
        let (base, view) = reached.expect("a reshape that no address can say has its operand in memory");
        reads.push(Read { value: base, address: Some(view.address(&index)) });
    }
}
