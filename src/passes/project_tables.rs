//! Products of rows that are picked from a table become rows picked from the table's product.
//!
//! `gather(table, index) @ w` is `gather(table @ w, index)`: each row is the same sum, and where more rows are picked than the table has, many are computed once instead
//! of many times. An embedding in front of a recurrent or dense layer is such a table: of 96 characters instead of 2048. What follows for each row by
//! itself, such as adding a bias, is done to the table too. As this comes before differentiation, gradients arrive at the table's product as sums of rows, and
//! the products of the gradient are as small.
//!
//! In a session, where weights stay the same from call to call ([`ahead`](super::ahead)), the table's product is made when they change, and calls only pick rows.

use std::ops::Range;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::{GraphPass, Limits, PassError};
use crate::ir::graph::{Function, Node, Role, ValueId};
use crate::ir::ops::Op;
use crate::ir::ops::broadcast::Broadcast;
use crate::ir::ops::contract::Contract;
use crate::ir::ops::gather::Gather;
use crate::ir::ops::transpose::Transpose;
use crate::ir::rewrite::Rewriter;

/// The pass.
pub const PASS: GraphPass =
    GraphPass { name: "project_tables", doc: "picks rows of tables' products instead of multiplying picked rows", run };

/// A row is picked and its gradient added up in about the time of so many multiply-adds for each element.
const SHORTEST_SUM: usize = 32;

fn run(function: &Function, limits: &Limits) -> Result<Function, PassError> {
    if !function.graph.nodes().any(|(_, node)| matches!(node.op, Op::Gather(_))) {
        return Ok(function.clone());
    }
    let mut pass = Pass::new(function, limits.ahead);
    for (id, node) in function.graph.nodes() {
        match pass.moved(node) {
            Some(picked) => {
                let gather = Gather { axis: picked.axis };
                let value = pass.rewriter.builder.emit(gather, &[picked.table, picked.index]);
                pass.rewriter.set(id, vec![value]);
                pass.remember(ValueId { node: id, output: 0 }, picked);
            }
            None => {
                pass.rewriter.copy(id, node);
                if let Some(picked) = pass.picked_by(node) {
                    pass.remember(ValueId { node: id, output: 0 }, picked);
                }
            }
        }
    }
    // What nobody reads now is left for `dce`: pruned here, loops would lose what they yield for their gradients.
    Ok(pass.rewriter.finish(function))
}

/// A value that is slices of a table along an axis, in whose place the index's axes stand. Its values are those of the new graph.
#[derive(Clone, Debug)]
struct Picked {
    table: ValueId,
    index: ValueId,
    axis: usize,
    /// Axes of the index.
    rank: usize,
    /// Whether the table was made by this pass.
    is_moved: bool,
    /// Whether the table is the same in many calls.
    stays: bool,
}

impl Picked {
    /// The axes of the value that are the index's.
    fn axes(&self) -> Range<usize> {
        self.axis..self.axis + self.rank
    }
}

struct Pass<'f> {
    function: &'f Function,
    rewriter: Rewriter,
    /// Of values of the old graph, the ones that are slices of a table.
    picked: FxHashMap<ValueId, Picked>,
    /// What some gradient is taken by: what is computed of it has to be computed of it.
    sources: FxHashSet<ValueId>,
    /// For each node of the old graph, whether it is the same in many calls.
    stays: Vec<bool>,
}

impl<'f> Pass<'f> {
    fn new(function: &'f Function, ahead: bool) -> Pass<'f> {
        let graph = &function.graph;
        let is_grad = |node: &&Node| matches!(node.op, Op::Grad(_));
        let sources = graph.nodes().map(|(_, node)| node).filter(is_grad).flat_map(|node| node.inputs[1..].to_vec());
        let mut stays: Vec<bool> = Vec::with_capacity(graph.len());
        for (_, node) in graph.nodes() {
            stays.push(match &node.op {
                Op::Argument(argument) => ahead && function.arguments[argument.index as usize].role == Role::Parameter,
                _ => node.inputs.iter().all(|v| stays[v.node.0 as usize]),
            });
        }
        Pass {
            function,
            rewriter: Rewriter::new(graph.len()),
            picked: FxHashMap::default(),
            sources: sources.collect(),
            stays,
        }
    }

    fn remember(&mut self, value: ValueId, picked: Picked) {
        if !self.sources.contains(&value) {
            self.picked.insert(value, picked);
        }
    }

    /// What a node picks that the new graph has a copy of.
    fn picked_by(&mut self, node: &Node) -> Option<Picked> {
        match &node.op {
            Op::Gather(gather) => {
                let inputs = self.rewriter.inputs(node);
                let [table, index] = inputs[..] else { return None };
                let rank = self.rewriter.builder.type_of(index).rank();
                let stays = self.stays(node.inputs[0]);
                Some(Picked { table, index, axis: gather.axis, rank, is_moved: false, stays })
            }
            Op::Transpose(transpose) => self.transposed(node, transpose),
            _ => None,
        }
    }

    /// A transposed value picks of a transposed table with a transposed index, if the index's axes stay side by side.
    fn transposed(&mut self, node: &Node, transpose: &Transpose) -> Option<Picked> {
        let picked = self.picked.get(&node.inputs[0])?.clone();
        let axes = picked.axes();
        let axis = transpose.permutation.iter().position(|from| axes.contains(from))?;
        let (of_index, of_table): (Vec<usize>, Vec<usize>) =
            transpose.permutation.iter().partition(|from| axes.contains(from));
        if transpose.permutation[axis..axis + picked.rank] != of_index[..] {
            return None;
        }
        let of_index: Vec<usize> = of_index.iter().map(|from| from - picked.axis).collect();
        // The picked axis is one in the table.
        let behind = |from: &usize| if *from < picked.axis { *from } else { from + 1 - picked.rank };
        let mut of_table: Vec<usize> = of_table.iter().map(behind).collect();
        of_table.insert(axis, picked.axis);
        let builder = &mut self.rewriter.builder;
        builder.set_scope(Arc::clone(&node.scope));
        let table = builder.transpose(picked.table, &of_table).ok()?;
        let index = builder.transpose(picked.index, &of_index).ok()?;
        Some(Picked { table, index, axis, ..picked })
    }

    /// What a node computes of picked slices, picked from what it computes of the table, if that is better.
    fn moved(&mut self, node: &Node) -> Option<Picked> {
        self.rewriter.builder.set_scope(Arc::clone(&node.scope));
        match &node.op {
            Op::Contract(contract) => self.product(node, contract),
            Op::Map(_) => self.mapped(node),
            _ => None,
        }
    }

    fn product(&mut self, node: &Node, contract: &Contract) -> Option<Picked> {
        let operand = node.inputs.iter().position(|input| self.picked.contains_key(input))?;
        let (own, other) =
            if operand == 0 { (&contract.left, &contract.right) } else { (&contract.right, &contract.left) };
        let picked = self.picked[&node.inputs[operand]].clone();
        let labels = &own[picked.axes()];
        let axis = contract.result.iter().position(|label| Some(label) == labels.first())?;
        if contract.result.get(axis..axis + picked.rank) != Some(labels) || labels.iter().any(|l| other.contains(l)) {
            return None;
        }
        let stays = picked.stays && self.stays(node.inputs[1 - operand]);
        let sizes = self.function.graph.type_of(node.inputs[operand]).sizes()?;
        let summed = own.iter().zip(sizes).filter(|(label, _)| !contract.result.contains(label)).map(|(_, n)| n);
        if !self.pays(&picked, summed.product(), stays)? {
            return None;
        }
        let row = 1 + contract.left.iter().chain(&contract.right).max()?;
        let with_row = |labels: &[u32], at: usize| [&labels[..at], &[row], &labels[at + picked.rank..]].concat();
        let (own, result) = (with_row(own, picked.axis), with_row(&contract.result, axis));
        let other_value = self.rewriter.value(node.inputs[1 - operand]);
        let (labels, operands) = match operand {
            0 => ([own, other.clone()], [picked.table, other_value]),
            _ => ([other.clone(), own], [other_value, picked.table]),
        };
        let [left, right] = labels;
        let table = self.rewriter.builder.add_one(Contract { left, right, result }.canonical(), &operands).ok()?;
        Some(Picked { table, axis, is_moved: true, stays, ..picked })
    }

    /// Whether the product with a table computes less than that with the slices picked from it, or nothing in most calls.
    fn pays(&self, picked: &Picked, summed: usize, stays: bool) -> Option<bool> {
        let builder = &self.rewriter.builder;
        let picks = builder.type_of(picked.index).elements()?;
        let rows = builder.type_of(picked.table).sizes()?[picked.axis];
        // A table that is kept has at most twice the rows of the weights for which it stands.
        Some(summed >= SHORTEST_SUM && (rows <= picks / 2 || (stays && rows <= 2 * summed)))
    }

    /// Whether a value of the old graph is the same in many calls.
    fn stays(&self, value: ValueId) -> bool {
        self.stays[value.node.0 as usize]
    }

    /// A function of each element of a table's product and of values that do not depend on the row.
    fn mapped(&mut self, node: &Node) -> Option<Picked> {
        let mut operands = node.inputs.iter().filter_map(|input| self.picked.get(input));
        let picked = operands.next().filter(|picked| picked.is_moved)?.clone();
        if operands.next().is_some() {
            return None;
        }
        let shape = self.rewriter.builder.shape_of(picked.table);
        let (mut inputs, mut stays) = (Vec::with_capacity(node.inputs.len()), picked.stays);
        for input in &node.inputs {
            inputs.push(match self.picked.contains_key(input) {
                true => picked.table,
                false => {
                    let made = self.function.graph.node(input.node);
                    let Op::Broadcast(Broadcast { axes, .. }) = &made.op else { return None };
                    if self.sources.contains(input) || axes.iter().any(|axis| picked.axes().contains(axis)) {
                        return None;
                    }
                    let before = |axis: &usize| if *axis < picked.axis { *axis } else { axis + 1 - picked.rank };
                    let value = self.rewriter.value(made.inputs[0]);
                    stays &= self.stays(made.inputs[0]);
                    self.rewriter.builder.broadcast_axes(value, &shape, axes.iter().map(before).collect()).ok()?
                }
            });
        }
        let table = self.rewriter.builder.add_one(node.op.clone(), &inputs).ok()?;
        Some(Picked { table, stays, ..picked })
    }
}
