//! Writes attention as loops in loops, one for each axis that is cut, whose innermost body is the attention of one block.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::blocks::{Cut, DRAWN_TOGETHER};
use super::region::{Reading, Region};
use crate::ir::builder::GraphBuilder;
use crate::ir::dim::Dim;
use crate::ir::graph::{Argument, Function, FunctionResult, Graph, ResultRole, Role, ValueId};
use crate::ir::ops::Op;
use crate::ir::ops::concat::Concat;
use crate::ir::ops::scan::Scan;
use crate::ir::ops::slice::Slice;
use crate::ir::scalar::ScalarFunction;
use crate::ir::types::{DType, TensorType};

/// Attention being written.
pub struct Rounds<'a> {
    pub graph: &'a Graph,
    pub region: &'a Region,
    pub cuts: &'a [Cut],
}

/// Some places along an axis of the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub axis: usize,
    pub first: usize,
    pub size: usize,
}

/// A block of the weights, where it is computed.
#[derive(Clone, Default)]
struct Block {
    /// What the region reads from outside, cut down to the block.
    outside: Vec<ValueId>,
    /// For each axis that is cut already its size and the number of the first place, `i32[]`, if it is not 0.
    axes: FxHashMap<usize, (usize, Option<ValueId>)>,
}

impl Block {
    /// The number of the first place along an axis, if it is not 0.
    fn first(&self, axis: usize) -> Option<ValueId> {
        self.axes.get(&axis).and_then(|(_, first)| *first)
    }
}

/// The sum of two numbers of places, `i32[]`; 0 is none.
fn sum(b: &mut GraphBuilder, one: Option<ValueId>, other: Option<ValueId>) -> Option<ValueId> {
    match (one, other) {
        (Some(one), Some(other)) => Some(b.apply(ScalarFunction::Add, &[one, other])),
        (one, other) => one.or(other),
    }
}

impl Rounds<'_> {
    /// The result of the attention that reads the values `outside`, for some places along axes of the weights and all along the others.
    pub fn write(&self, b: &mut GraphBuilder, outside: &[ValueId], ranges: &[Range]) -> ValueId {
        b.set_scope(Arc::clone(&self.graph.node(self.region.product.value.node).scope));
        let block = Block { outside: outside.to_vec(), ..Block::default() };
        let block = ranges.iter().fold(block, |block, range| self.part(b, &block, *range));
        self.cut(b, &block, self.cuts)
    }

    /// Some places of a block, counted from its first.
    fn part(&self, b: &mut GraphBuilder, block: &Block, range: Range) -> Block {
        let Range { axis, first, size } = range;
        let mut part = block.clone();
        for (value, reading) in part.outside.iter_mut().zip(&self.region.outside) {
            *value = along(b, *value, place(reading, axis), first, size);
        }
        let first = (first > 0).then(|| b.constant(first as f64, DType::I32, &[]));
        part.axes.insert(axis, (size, sum(b, block.first(axis), first)));
        part
    }

    /// The result for a block that is still to be cut as `cuts` says.
    fn cut(&self, b: &mut GraphBuilder, block: &Block, cuts: &[Cut]) -> ValueId {
        let Some((cut, inner)) = cuts.split_first() else { return self.whole(b, block) };
        let bulk = self.rounds(b, block, *cut, inner);
        if cut.rest == 0 {
            return bulk;
        }
        let last = self.part(b, block, Range { axis: cut.axis, first: cut.parts * cut.size, size: cut.rest });
        let rest = self.cut(b, &last, inner);
        let axis = self.result_axis(*cut);
        b.emit(Concat { axis }, &[bulk, rest])
    }

    /// The axis of the result that is an axis of the weights.
    fn result_axis(&self, cut: Cut) -> usize {
        place(&self.region.product, cut.axis).expect("axes that are cut are in the result")
    }

    /// The loop over the blocks of one axis, its results side by side.
    fn rounds(&self, b: &mut GraphBuilder, block: &Block, cut: Cut, inner: &[Cut]) -> ValueId {
        let (mut body, mut operands) = (Body::new(), Vec::new());
        let mut within = block.clone();
        let readings = || self.region.outside.iter().enumerate();
        let bulk = cut.parts * cut.size;
        for (number, reading) in readings() {
            let Some(axis) = place(reading, cut.axis) else { continue };
            let all = along(b, block.outside[number], Some(axis), 0, bulk);
            operands.push(in_parts(b, all, axis, cut));
            let mut ty = b.type_of(all).clone();
            ty.shape[axis] = Dim::from(cut.size);
            within.outside[number] = body.argument(self.name(reading), ty);
        }
        let sequences = operands.len() as u32;
        for (number, reading) in readings().filter(|(_, r)| place(r, cut.axis).is_none()) {
            let value = block.outside[number];
            operands.push(value);
            within.outside[number] = body.argument(self.name(reading), b.type_of(value).clone());
        }
        let mut before: Vec<usize> = block.axes.keys().copied().collect();
        before.sort_unstable();
        for axis in before {
            let (size, first) = block.axes[&axis];
            let inside = first.map(|first| {
                operands.push(first);
                body.argument(format!("first_{axis}"), TensorType::scalar(DType::I32))
            });
            within.axes.insert(axis, (size, inside));
        }
        body.builder.set_scope(Arc::clone(&self.graph.node(self.region.product.value.node).scope));
        let size = body.builder.constant(cut.size as f64, DType::I32, &[]);
        let first = body.builder.apply(ScalarFunction::Mul, &[body.number, size]);
        let first = sum(&mut body.builder, within.first(cut.axis), Some(first));
        within.axes.insert(cut.axis, (cut.size, first));
        let result = self.cut(&mut body.builder, &within, inner);
        let body = Arc::new(body.finish(result));
        let length = Dim::from(cut.parts);
        let scan = Scan { body, length, carries: 0, sequences, reverse: false, lean: true };
        let parts = b.add_one(scan, &operands).unwrap_or_else(|e| panic!("rounds of attention: {e}"));
        side_by_side(b, parts, self.result_axis(cut))
    }

    fn name(&self, reading: &Reading) -> String {
        let node = reading.value.node;
        format!("{}_{}", self.graph.node(node).op.doc().name, node.0)
    }

    /// The attention of one block.
    fn whole(&self, b: &mut GraphBuilder, block: &Block) -> ValueId {
        let mut values: FxHashMap<&Reading, ValueId> =
            self.region.outside.iter().zip(block.outside.iter().copied()).collect();
        for (reading, operands) in &self.region.inside {
            let inputs: Vec<ValueId> = operands.iter().map(|r| values[r]).collect();
            let value = self.node(b, block, reading, &inputs);
            values.insert(reading, value);
        }
        let operands = self.region.operands.each_ref().map(|r| values[r]);
        self.node(b, block, &self.region.product, &operands)
    }

    /// A node of the region in a block: shapes are those of the block, and places count from the block's first.
    fn node(&self, b: &mut GraphBuilder, block: &Block, reading: &Reading, inputs: &[ValueId]) -> ValueId {
        let node = self.graph.node(reading.value.node);
        let shape = |shape: &[Dim]| -> Vec<Dim> {
            let size = |axis: &Option<usize>| axis.and_then(|axis| block.axes.get(&axis)).map(|(size, _)| *size);
            shape.iter().zip(&reading.axes).map(|(dim, axis)| size(axis).map_or(dim.clone(), Dim::from)).collect()
        };
        let mut op = node.op.clone();
        match &mut op {
            Op::Broadcast(op) => op.shape = shape(&op.shape),
            Op::Reshape(op) => op.shape = shape(&op.shape),
            Op::Constant(op) => op.shape = shape(&op.shape),
            Op::Iota(op) => op.shape = shape(&op.shape),
            _ => {}
        }
        b.set_scope(Arc::clone(&node.scope));
        if let Op::RandomBits(op) = &mut op {
            op.shape = shape(&op.shape);
            let first = self.first(b, block);
            let inputs: Vec<ValueId> = inputs.iter().copied().chain([first]).collect();
            return b.emit(op.clone(), &inputs);
        }
        let value = b.emit(op, inputs);
        let Op::Iota(iota) = &node.op else { return value };
        let Some(first) = reading.axes[iota.axis].and_then(|axis| block.first(axis)) else { return value };
        let shape = b.shape_of(value);
        let first = b.broadcast(first, &shape).unwrap_or_else(|e| panic!("a scalar spread: {e}"));
        b.apply(ScalarFunction::Add, &[value, first])
    }

    /// How many times [`DRAWN_TOGETHER`] weights are before the block's first, `i32[]`: a block is a piece of the weights in row-major order.
    fn first(&self, b: &mut GraphBuilder, block: &Block) -> ValueId {
        let mut total = b.constant(0.0, DType::I32, &[]);
        for cut in self.cuts {
            let apart: usize = self.region.sizes[cut.axis + 1..].iter().product();
            let apart = b.constant(apart as f64, DType::I32, &[]);
            if let Some(first) = block.first(cut.axis) {
                let places = b.apply(ScalarFunction::Mul, &[first, apart]);
                total = b.apply(ScalarFunction::Add, &[total, places]);
            }
        }
        let together = b.constant(f64::from(DRAWN_TOGETHER.ilog2()), DType::I32, &[]);
        b.apply(ScalarFunction::ShiftRight, &[total, together])
    }
}

/// The body of a loop being written: the number of the round, then what it is handed.
struct Body {
    builder: GraphBuilder,
    arguments: Vec<Argument>,
    number: ValueId,
}

impl Body {
    fn new() -> Body {
        let ty = TensorType::scalar(DType::I32);
        let mut builder = GraphBuilder::new();
        let number = builder.argument(0, ty.clone());
        Body { builder, arguments: vec![Argument { name: "round".into(), role: Role::Step, ty }], number }
    }

    fn argument(&mut self, name: String, ty: TensorType) -> ValueId {
        let value = self.builder.argument(self.arguments.len() as u32, ty.clone());
        self.arguments.push(Argument { name, role: Role::Input, ty });
        value
    }

    fn finish(self, result: ValueId) -> Function {
        let results = vec![FunctionResult { name: "block".into(), role: ResultRole::Output, value: result }];
        Function { name: "attention".into(), arguments: self.arguments, graph: self.builder.finish(), results }
    }
}

/// Which axis of a value is an axis of the weights.
pub fn place(reading: &Reading, axis: usize) -> Option<usize> {
    reading.axes.iter().position(|a| *a == Some(axis))
}

/// `size` elements along an axis from `start`; the value itself if that is all or it has no such axis.
fn along(b: &mut GraphBuilder, value: ValueId, axis: Option<usize>, start: usize, size: usize) -> ValueId {
    let shape = b.shape_of(value);
    match axis {
        Some(axis) if !shape[axis].is(size as i64) => {
            b.emit(Slice::along(&shape, axis, Dim::from(start), Dim::from(size)), &[value])
        }
        _ => value,
    }
}

/// `[.., parts * size, ..]` as `[parts, .., size, ..]`.
fn in_parts(b: &mut GraphBuilder, value: ValueId, axis: usize, cut: Cut) -> ValueId {
    let mut shape = b.shape_of(value);
    shape.splice(axis..=axis, [Dim::from(cut.parts), Dim::from(cut.size)]);
    let split = reshape(b, value, &shape);
    move_axis(b, split, axis, 0)
}

/// `[parts, .., size, ..]` as `[.., parts * size, ..]`, where `axis` is that of the result.
fn side_by_side(b: &mut GraphBuilder, value: ValueId, axis: usize) -> ValueId {
    let turned = move_axis(b, value, 0, axis);
    let mut shape = b.shape_of(turned);
    let size = shape[axis].mul(&shape[axis + 1]).expect("as many elements as the result has");
    shape.splice(axis..=axis + 1, [size]);
    reshape(b, turned, &shape)
}

/// The value with one axis at another place: as another shape of the same elements where it only moves past axes of size 1.
fn move_axis(b: &mut GraphBuilder, value: ValueId, from: usize, to: usize) -> ValueId {
    let mut order: Vec<usize> = (0..b.type_of(value).rank()).collect();
    let moved = order.remove(from);
    order.insert(to, moved);
    let shape = b.shape_of(value);
    let passed = if from < to { from + 1..=to } else { to..=from.saturating_sub(1) };
    if from != to && shape[passed].iter().all(|dim| dim.is(1)) {
        let shape: Vec<Dim> = order.iter().map(|axis| shape[*axis].clone()).collect();
        return reshape(b, value, &shape);
    }
    b.transpose(value, &order).unwrap_or_else(|e| panic!("an axis moved: {e}"))
}

fn reshape(b: &mut GraphBuilder, value: ValueId, shape: &[Dim]) -> ValueId {
    b.reshape(value, shape).unwrap_or_else(|e| panic!("the same elements: {e}"))
}
