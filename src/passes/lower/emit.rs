//! Writes the scalar code of graph values: every op's `lower` at an affine index, with loads where a value is in memory.

use std::collections::BTreeSet;

use rustc_hash::FxHashMap;

use super::finish::Draft;
use super::view;
use crate::ir::graph::{Function, NodeId, ValueId};
use crate::ir::loops::build::BlockBuilder;
use crate::ir::loops::{Affine, Buffer, BufferId, BufferUse, Kernel, Place, Section, Value};
use crate::ir::ops::{LowerContext, LowerOperands, Op};
use crate::ir::types::DType;
use crate::passes::fuse::classify::input_types;
use crate::passes::fuse::{Analysis, Class, Destination, Group};

/// What all kernels of a program share while they are written.
#[derive(Debug)]
pub struct Context<'a> {
    pub function: &'a Function,
    pub analysis: &'a Analysis,
    /// The program's buffers so far.
    pub buffers: Vec<Buffer>,
    /// What the kernels of this function address.
    pub arrays: Vec<Array>,
    /// The array in which a value stands once it is computed.
    pub homes: FxHashMap<ValueId, u32>,
    /// The array of each result; for an update, of its argument.
    pub results: Vec<u32>,
}

/// Something to be addressed: a section of a program buffer.
#[derive(Clone, Debug)]
pub struct Array {
    pub name: String,
    pub dtype: DType,
    pub elements: u64,
    pub section: Section,
}

impl Array {
    /// A whole buffer with this number.
    pub fn of(buffer: &Buffer, number: u32) -> Array {
        let Buffer { name, dtype, elements, .. } = buffer.clone();
        Array { name, dtype, elements, section: Section::whole(number) }
    }
}

impl Context<'_> {
    /// A new program buffer as an array of this function.
    pub fn add(&mut self, buffer: Buffer) -> u32 {
        self.arrays.push(Array::of(&buffer, self.buffers.len() as u32));
        self.buffers.push(buffer);
        self.arrays.len() as u32 - 1
    }

    /// A new buffer of the workspace.
    pub fn temporary(&mut self, name: impl Into<String>, dtype: DType, elements: u64) -> u32 {
        let (name, dtype) = (name.into(), dtype.storage());
        self.add(Buffer { name, dtype, elements, place: Place::Arena { offset: None } })
    }

    /// The array of one of a group's stores.
    pub fn target(&self, value: ValueId, destination: Destination) -> u32 {
        match destination {
            Destination::Temporary => self.homes[&value],
            Destination::Result(number) => self.results[number as usize],
        }
    }
}

/// An op on values of a kernel at an index.
type Code<'a> = (&'a Op, Vec<Value>, Vec<Affine>);

/// Writes the elements of one kernel.
///
/// Values are remembered by index within a scope, so that nothing is computed twice at one point.
pub struct Emitter<'a> {
    pub cx: &'a Context<'a>,
    /// The nodes this kernel computes; everything else that is work of its own is loaded.
    computed: BTreeSet<NodeId>,
    /// The array of each buffer parameter.
    parameters: Vec<u32>,
    known: FxHashMap<(ValueId, Vec<Affine>), Value>,
    /// The results of code by op, operands and index: nodes that say the same are written once.
    numbered: FxHashMap<Code<'a>, Vec<Value>>,
    /// What folds of this kernel found.
    roots: Vec<(NodeId, Value)>,
    /// The point of the group's space at which its members are computed.
    point: Vec<Affine>,
}

impl<'a> Emitter<'a> {
    /// For a kernel that computes what `group` does.
    pub fn new(cx: &'a Context<'a>, group: &Group) -> Self {
        let computed = group.members.iter().chain(&group.inlined).copied().collect();
        Emitter {
            cx,
            computed,
            parameters: Vec::new(),
            known: FxHashMap::default(),
            numbered: FxHashMap::default(),
            roots: Vec::new(),
            point: Vec::new(),
        }
    }

    /// The kernel's parameter for an array; its use is found when the kernel is complete.
    pub fn buffer(&mut self, b: &mut BlockBuilder<'_>, array: u32) -> BufferId {
        if let Some(at) = self.parameters.iter().position(|p| *p == array) {
            return BufferId(at as u32);
        }
        self.parameters.push(array);
        let array = &self.cx.arrays[array as usize];
        b.buffer(array.name.clone(), array.dtype, array.elements, BufferUse::Read)
    }

    /// The finished kernel with the sections that it addresses.
    pub fn draft(self, kernel: Kernel) -> Draft {
        let sections = self.parameters.iter().map(|array| self.cx.arrays[*array as usize].section.clone());
        Draft { kernel, buffers: sections.collect() }
    }

    /// Runs `write` with nothing remembered and forgets what it computed, as fits the edge of a block.
    pub fn scope<R>(&mut self, roots: &[(NodeId, Value)], write: impl FnOnce(&mut Self) -> R) -> R {
        let outer = std::mem::replace(&mut self.roots, roots.to_vec());
        let (known, numbered) = (std::mem::take(&mut self.known), std::mem::take(&mut self.numbered));
        let result = write(self);
        (self.known, self.numbered, self.roots) = (known, numbered, outer);
        result
    }

    /// The element of `value` at `index`.
    pub fn element(&mut self, b: &mut BlockBuilder<'_>, value: ValueId, index: &[Affine]) -> Value {
        if let Some((_, root)) = self.roots.iter().find(|(node, _)| *node == value.node) {
            return *root;
        }
        let key = (value, index.to_vec());
        if let Some(known) = self.known.get(&key) {
            return *known;
        }
        let result = self.compute(b, value, index);
        self.known.insert(key, result);
        result
    }

    fn compute(&mut self, b: &mut BlockBuilder<'_>, value: ValueId, index: &[Affine]) -> Value {
        let analysis = self.cx.analysis;
        let here = self.computed.contains(&value.node);
        if !here && let Some((buffer, address)) = self.place(value, index) {
            let parameter = self.buffer(b, buffer);
            return b.load(parameter, address);
        }
        let node = self.cx.function.graph.node(value.node);
        match analysis.class(value.node) {
            Class::View(map) => self.element(b, node.inputs[0], &view::apply(map, index)),
            Class::Reshape => self.reshaped(b, value, index),
            Class::Pointwise { maps, .. } => {
                let operands: Vec<Value> = node
                    .inputs
                    .iter()
                    .zip(maps)
                    .map(|(input, map)| self.element(b, *input, &view::apply(map, index)))
                    .collect();
                let key = (&node.op, operands, index.to_vec());
                if let Some(results) = self.numbered.get(&key) {
                    return results[value.output as usize];
                }
                let results = self.apply(b, value.node, &key.1, index);
                let result = results[value.output as usize];
                self.numbered.insert(key, results);
                result
            }
            _ => unreachable!("a fold is the root of its kernel or in memory"),
        }
    }

    /// A reshape that this kernel carries out itself.
    fn reshaped(&mut self, b: &mut BlockBuilder<'_>, value: ValueId, index: &[Affine]) -> Value {
        let (analysis, function) = (self.cx.analysis, self.cx.function);
        let operand = function.graph.node(value.node).inputs[0];
        if let Some(inner) = view::reshape_index(analysis.sizes_of(operand), analysis.sizes_of(value), index) {
            return self.element(b, operand, &inner);
        }
        let reached = analysis.base(function, operand);
        let reached = reached.and_then(|(base, v)| Some((base, v.reshape(analysis.sizes_of(value))?)));
        let (base, view) = reached.expect("fusion keeps in memory what a reshape cannot be computed through");
        if self.computed.contains(&base.node) {
            // Reshapes that undo each other: a group reads what it computes at its own point only.
            let own = view::unsqueeze(analysis.sizes_of(base), &self.point);
            return self.element(b, base, &own);
        }
        let parameter = self.buffer(b, self.cx.homes[&base]);
        b.load(parameter, view.address(index))
    }

    /// Where the element stands, if it is in memory.
    fn place(&self, value: ValueId, index: &[Affine]) -> Option<(u32, Affine)> {
        let (base, view) = self.cx.analysis.base(self.cx.function, value)?;
        if self.computed.contains(&base.node) {
            return None;
        }
        let home = self.cx.homes.get(&base)?;
        Some((*home, view.address(index)))
    }

    /// The scalar code of one node for given operand elements.
    pub fn apply(
        &mut self,
        b: &mut BlockBuilder<'_>,
        node: NodeId,
        operands: &[Value],
        index: &[Affine],
    ) -> Vec<Value> {
        let node = self.cx.function.graph.node(node);
        let inputs = input_types(self.cx.function, &node.inputs);
        let mut index_of = |b: &mut BlockBuilder<'_>, axis: usize| b.index(index[axis].clone());
        let operands = LowerOperands::Elements { values: operands, index: &mut index_of };
        node.op.lower(&mut LowerContext { block: b, inputs: &inputs, outputs: &node.outputs, operands })
    }

    /// Computes and stores everything that `group` stores, at one point of its space.
    ///
    /// All values are computed before the first is stored, so updates in place read the old values.
    pub fn stores(&mut self, b: &mut BlockBuilder<'_>, group: &Group, point: &[Affine]) {
        self.point = point.to_vec();
        let analysis = self.cx.analysis;
        let place = |v: ValueId| view::unsqueeze(analysis.sizes_of(v), point);
        for member in &group.members {
            let value = ValueId { node: *member, output: 0 };
            self.element(b, value, &place(value));
        }
        let values: Vec<Value> = group.stores.iter().map(|s| self.element(b, s.value, &place(s.value))).collect();
        for (store, value) in group.stores.iter().zip(values) {
            let buffer = self.buffer(b, self.cx.target(store.value, store.destination));
            b.store(buffer, view::linear(&group.space, point), value);
        }
    }
}
