//! Builds graphs: every node's types are inferred as it is added.
//!
//! Beside [`GraphBuilder::add`] and [`GraphBuilder::emit`] there is one convenience for each thing that more than
//! one caller wants: broadcasting maps, constants, shapes, sums. The frontend's primitives, the ops' VJPs and the rules of the
//! passes are written with them. A convenience that would change nothing returns its operand.

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::dim::Dim;
use super::graph::{Graph, Node, NodeId, ValueId};
use super::ops::{
    Op, TypeError, argument, broadcast, cast, constant, contract, grad, map, reduce, reshape, stop_gradient, transpose,
};
use super::scalar::{Monoid, ScalarFunction};
use super::types::{DType, ShapeText, TensorType};

/// Builds a graph.
#[derive(Clone, Debug)]
pub struct GraphBuilder {
    graph: Graph,
    scope: Arc<str>,
}

impl Default for GraphBuilder {
    fn default() -> Self {
        GraphBuilder { graph: Graph::default(), scope: Arc::from("") }
    }
}

impl GraphBuilder {
    /// An empty graph.
    pub fn new() -> Self {
        Self::default()
    }

    /// The graph so far.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The finished graph.
    pub fn finish(self) -> Graph {
        self.graph
    }

    /// The type of a value.
    pub fn type_of(&self, value: ValueId) -> &TensorType {
        self.graph.type_of(value)
    }

    /// The shape of a value, copied.
    pub fn shape_of(&self, value: ValueId) -> Vec<Dim> {
        self.type_of(value).shape.clone()
    }

    /// The dtype of a value.
    pub fn dtype_of(&self, value: ValueId) -> DType {
        self.type_of(value).dtype
    }

    /// Nodes added from now on carry this layer path; returns the one before.
    pub fn set_scope(&mut self, scope: Arc<str>) -> Arc<str> {
        std::mem::replace(&mut self.scope, scope)
    }

    /// Adds a node and returns its outputs.
    ///
    /// # Errors
    /// What the op's `infer` says of its operands.
    pub fn add(&mut self, op: impl Into<Op>, inputs: &[ValueId]) -> Result<Vec<ValueId>, TypeError> {
        let op = op.into();
        let types: Vec<&TensorType> = inputs.iter().map(|v| self.graph.type_of(*v)).collect();
        let outputs = op.infer(&types)?;
        let count = outputs.len() as u32;
        let node = self.graph.push(Node { op, inputs: inputs.to_vec(), outputs, scope: self.scope.clone() });
        Ok((0..count).map(|output| ValueId { node, output }).collect())
    }

    /// Adds a copy of a node of another graph, whose operands are copies too: of the same types, so its outputs are.
    pub fn copy_node(&mut self, node: &Node, inputs: Vec<ValueId>) -> NodeId {
        debug_assert_eq!(inputs.len(), node.inputs.len());
        self.graph.push(Node { inputs, ..node.clone() })
    }

    /// Adds a node with one output whose operands are known to fit: for VJPs and rules.
    ///
    /// # Panics
    /// If the op refuses its operands, which is a bug of the caller.
    pub fn emit(&mut self, op: impl Into<Op>, inputs: &[ValueId]) -> ValueId {
        self.add_one(op, inputs).unwrap_or_else(|e| panic!("ill-typed node emitted: {e}"))
    }

    /// Adds a node with one output.
    pub fn add_one(&mut self, op: impl Into<Op>, inputs: &[ValueId]) -> Result<ValueId, TypeError> {
        self.add(op, inputs).map(|outputs| outputs[0])
    }

    /// The argument with number `index` of the function. Each index is to be added once.
    pub fn argument(&mut self, index: u32, ty: TensorType) -> ValueId {
        self.emit(argument::Argument { index, ty }, &[])
    }

    /// A tensor of `shape` with every element `value`.
    pub fn constant(&mut self, value: f64, dtype: DType, shape: &[Dim]) -> ValueId {
        self.emit(constant::Constant::number(value, dtype, shape), &[])
    }

    /// A tensor of the type of `like` with every element `value`.
    pub fn constant_like(&mut self, value: f64, like: ValueId) -> ValueId {
        let ty = self.type_of(like).clone();
        self.constant(value, ty.dtype, &ty.shape)
    }

    /// A scalar that holds a size, symbolic or not.
    pub fn dim_value(&mut self, dim: &Dim, dtype: DType) -> ValueId {
        self.emit(constant::Constant::size(dim.clone(), dtype, &[]), &[])
    }

    /// The value converted to `dtype`.
    pub fn cast(&mut self, value: ValueId, dtype: DType) -> ValueId {
        if self.dtype_of(value) == dtype { value } else { self.emit(cast::Cast { dtype }, &[value]) }
    }

    /// The scalar function applied elementwise, with NumPy's broadcasting. `index(K)` operands count as `i32`.
    ///
    /// # Errors
    /// Shapes that do not broadcast, dtypes that differ or that the function does not take.
    pub fn map(&mut self, function: ScalarFunction, operands: &[ValueId]) -> Result<ValueId, TypeError> {
        let operands: Vec<ValueId> = operands.iter().map(|v| self.cast(*v, self.dtype_of(*v).storage())).collect();
        let dtypes: Vec<DType> = operands.iter().map(|v| self.dtype_of(*v)).collect();
        map::check_dtypes(function, &dtypes)?;
        let mut shape: Vec<Dim> = Vec::new();
        for (i, operand) in operands.iter().enumerate() {
            shape = broadcast::broadcast_shapes(&shape, &self.type_of(*operand).shape).map_err(|(ours, theirs)| {
                let types: Vec<&TensorType> = operands.iter().map(|v| self.type_of(*v)).collect();
                broadcast::mismatch(function.name(), &types, i, &ours, &theirs)
            })?;
        }
        let operands: Vec<ValueId> =
            operands.into_iter().map(|v| self.broadcast(v, &shape)).collect::<Result<_, _>>()?;
        self.add_one(map::Map { function }, &operands)
    }

    /// The scalar function applied to operands of one shape and fitting dtypes: for VJPs and rules.
    pub fn apply(&mut self, function: ScalarFunction, operands: &[ValueId]) -> ValueId {
        self.emit(map::Map { function }, operands)
    }

    /// The value stretched to `shape`, aligned at the last dim.
    ///
    /// # Errors
    /// A dim that is neither the wanted one nor a literal 1.
    pub fn broadcast(&mut self, value: ValueId, shape: &[Dim]) -> Result<ValueId, TypeError> {
        let rank = self.type_of(value).rank();
        if rank > shape.len() {
            return Err(TypeError::new(format!("{} does not broadcast to {}", self.type_of(value), ShapeText(shape))));
        }
        self.broadcast_axes(value, shape, (shape.len() - rank..shape.len()).collect())
    }

    /// The value stretched to `shape`, its axis `i` becoming axis `axes[i]` of the result.
    ///
    /// # Errors
    /// A dim that is neither the wanted one nor a literal 1.
    pub fn broadcast_axes(&mut self, value: ValueId, shape: &[Dim], axes: Vec<usize>) -> Result<ValueId, TypeError> {
        if self.type_of(value).shape == shape {
            return Ok(value);
        }
        self.add_one(broadcast::Broadcast { shape: shape.to_vec(), axes }, &[value])
    }

    /// The same elements in row-major order under another shape.
    ///
    /// # Errors
    /// The numbers of elements differ.
    pub fn reshape(&mut self, value: ValueId, shape: &[Dim]) -> Result<ValueId, TypeError> {
        if self.type_of(value).shape == shape {
            return Ok(value);
        }
        self.add_one(reshape::Reshape { shape: shape.to_vec() }, &[value])
    }

    /// Axis `i` of the result is axis `permutation[i]` of the value.
    ///
    /// # Errors
    /// Not a permutation of the value's axes.
    pub fn transpose(&mut self, value: ValueId, permutation: &[usize]) -> Result<ValueId, TypeError> {
        if permutation.len() == self.type_of(value).rank() && permutation.iter().enumerate().all(|(i, p)| i == *p) {
            return Ok(value);
        }
        self.add_one(transpose::Transpose { permutation: permutation.to_vec() }, &[value])
    }

    /// The fold over `axes`, which disappear, or stay with size 1 if `keepdims`.
    ///
    /// # Errors
    /// An axis out of range or twice, or a dtype that the fold does not take.
    pub fn reduce(
        &mut self,
        monoid: Monoid,
        value: ValueId,
        axes: &[usize],
        keepdims: bool,
    ) -> Result<ValueId, TypeError> {
        let mut sorted = axes.to_vec();
        sorted.sort_unstable();
        let mut kept = self.shape_of(value);
        let folded = match (axes, monoid) {
            ([], Monoid::Sum | Monoid::Prod | Monoid::Max | Monoid::Min) => value,
            _ => self.add_one(reduce::Reduce { monoid, axes: sorted }, &[value])?,
        };
        if !keepdims {
            return Ok(folded);
        }
        for axis in axes {
            kept[*axis] = Dim::from(1i64);
        }
        self.reshape(folded, &kept)
    }

    /// The value summed down to `shape`: the adjoint of [`GraphBuilder::broadcast`].
    ///
    /// # Errors
    /// `shape` does not broadcast to the value's shape.
    pub fn sum_to(&mut self, value: ValueId, shape: &[Dim]) -> Result<ValueId, TypeError> {
        let from = self.shape_of(value);
        let Some(lead) = from.len().checked_sub(shape.len()) else {
            return Err(TypeError::new(format!("{} is not summed to {}", self.type_of(value), ShapeText(shape))));
        };
        let stretched = (lead..from.len()).filter(|i| shape[i - lead] != from[*i]);
        let axes: Vec<usize> = (0..lead).chain(stretched).collect();
        let summed = self.reduce(Monoid::Sum, value, &axes, false)?;
        self.reshape(summed, shape)
    }

    /// The sum of products over the labels that `result` lacks; labels number index axes.
    ///
    /// A label that stands in one operand alone and not in the result is summed first. With no label left to be summed the product is elementwise.
    ///
    /// # Errors
    /// Labels that fit no shape, or sizes or dtypes that disagree.
    pub fn contract(
        &mut self,
        left: (ValueId, &[u32]),
        right: (ValueId, &[u32]),
        result: &[u32],
    ) -> Result<ValueId, TypeError> {
        contract::contract(self, left, right, result)
    }

    /// The value, through which no gradient flows.
    pub fn stop_gradient(&mut self, value: ValueId) -> ValueId {
        self.emit(stop_gradient::StopGradient, &[value])
    }

    /// The gradients of the scalar `y` with respect to each of `xs`, to be expanded by the autodiff pass.
    ///
    /// # Errors
    /// `y` is no float scalar, or one of `xs` is no float tensor.
    pub fn grad(&mut self, y: ValueId, xs: &[ValueId]) -> Result<Vec<ValueId>, TypeError> {
        let inputs: Vec<ValueId> = std::iter::once(y).chain(xs.iter().copied()).collect();
        self.add(grad::Grad, &inputs)
    }

    /// The values `roots` as they would be if the values that are keys of `moved` were others of the same types. Nodes that depend on none
    /// of them are not copied.
    pub fn copy(&mut self, roots: &[ValueId], mut moved: FxHashMap<ValueId, ValueId>) -> Vec<ValueId> {
        let Some(last) = roots.iter().map(|root| root.node.0).max() else { return Vec::new() };
        let needed = self.ancestors(roots);
        for number in 0..=last {
            let id = NodeId(number);
            if !needed.contains(&id) {
                continue;
            }
            let node = self.graph.node(id).clone();
            if moved.contains_key(&ValueId { node: id, output: 0 })
                || !node.inputs.iter().any(|v| moved.contains_key(v))
            {
                continue;
            }
            let inputs: Vec<ValueId> = node.inputs.iter().map(|v| moved.get(v).copied().unwrap_or(*v)).collect();
            let scope = self.set_scope(node.scope);
            let outputs = self.add(node.op, &inputs).expect("a node that was well typed is so again");
            self.set_scope(scope);
            for (output, value) in (0u32..).zip(outputs) {
                moved.insert(ValueId { node: id, output }, value);
            }
        }
        roots.iter().map(|root| moved.get(root).copied().unwrap_or(*root)).collect()
    }

    fn ancestors(&self, roots: &[ValueId]) -> FxHashSet<NodeId> {
        let mut seen = FxHashSet::default();
        let mut waiting: Vec<NodeId> = roots.iter().map(|root| root.node).collect();
        while let Some(id) = waiting.pop() {
            if seen.insert(id) {
                waiting.extend(self.graph.node(id).inputs.iter().map(|v| v.node));
            }
        }
        seen
    }
}
