//! Groups around a contraction: which labels are rows, columns and depth of a matrix product, and which are loops around it.
//!
//! The columns become lanes, so they are the axis along which the epilogue stores contiguously; left and right change roles where
//! that fits better (a product of numbers commutes, so results stay the same bits). Depth axes that do not run together are rounds
//! around the innermost one. What is no matrix product of floats (a dot product, integers, one whose contiguous axis is a batch) is a
//! [`Fold`] of products.

use super::axes::{Addresses, Axis, spread};
use super::emit::{Context, Emitter};
use super::finish::Draft;
use super::fold::Fold;
use super::map::nested;
use crate::ir::graph::NodeId;
use crate::ir::loops::build::{BlockBuilder, KernelBuilder};
use crate::ir::loops::{Affine, Contract, Cut, Instruction, Matrix, Round};
use crate::ir::scalar::{Monoid, ScalarFunction};
use crate::ir::types::DType;
use crate::passes::fuse::Group;

const BATCH: u8 = 0;
const LEFT: u8 = 1;
const RIGHT: u8 = 2;
const DEPTH: u8 = 3;

/// A row axis this long is as good as any longer one; the innermost of those is taken, for its rows lie close together.
const ENOUGH_ROWS: u64 = 8;

/// An operand: its buffer, and its address as a function of the product's axes.
#[derive(Clone, Debug)]
struct Operand {
    buffer: u32,
    offset: i64,
    strides: Vec<i64>,
}

impl Operand {
    fn address(&self, index: &[Affine]) -> Affine {
        index.iter().zip(&self.strides).fold(Affine::constant(self.offset), |a, (i, s)| a.sum(&i.times(*s)))
    }
}

/// The axes of a product: those of the result, then the depth.
struct Product {
    root: NodeId,
    extents: Vec<u64>,
    classes: Vec<u8>,
    results: usize,
    left: Operand,
    right: Operand,
    dtype: DType,
}

/// How a product becomes loops around a matrix product.
struct Shape {
    outer: Vec<Axis>,
    row: Option<Axis>,
    column: Axis,
    /// Outermost first.
    depth: Vec<Axis>,
}

/// The kernels of a group whose root is a contraction with these labels.
pub fn lower(cx: &mut Context<'_>, group: &Group, root: NodeId, labels: (&[u32], &[u32], &[u32])) -> Vec<Draft> {
    let product = Product::new(cx, root, labels);
    match product.shape(cx, group) {
        Some(shape) => vec![product.write(cx, group, &shape)],
        None => product.fold(cx, group),
    }
}

impl Product {
    fn new(cx: &Context<'_>, root: NodeId, (left, right, result): (&[u32], &[u32], &[u32])) -> Product {
        let inputs = &cx.function.graph.node(root).inputs;
        let size = |label: u32| {
            let found = |labels: &[u32], operand: usize| {
                labels.iter().position(|l| *l == label).map(|a| cx.analysis.sizes_of(inputs[operand])[a] as u64)
            };
            found(left, 0).or_else(|| found(right, 1)).unwrap_or(1)
        };
        let mut axes = result.to_vec();
        for label in left.iter().chain(right) {
            if !axes.contains(label) {
                axes.push(*label);
            }
        }
        let operand = |labels: &[u32], number: usize| {
            let (base, view) =
                cx.analysis.base(cx.function, inputs[number]).expect("fusion keeps operands addressable");
            let stride =
                |label: &u32| labels.iter().zip(&view.strides).filter(|(l, _)| *l == label).map(|(_, s)| s).sum();
            Operand { buffer: cx.homes[&base], offset: view.offset, strides: axes.iter().map(stride).collect() }
        };
        let (a, b) = (operand(left, 0), operand(right, 1));
        // Depth axes in the order in which the larger operand has them in memory, so that they run together where they can.
        let mut order: Vec<usize> = (0..axes.len()).collect();
        let elements = |labels: &[u32]| labels.iter().fold(1u64, |product, l| product.saturating_mul(size(*l)));
        let (first, second) = if elements(left) < elements(right) { (&b, &a) } else { (&a, &b) };
        order[result.len()..].sort_by_key(|i| (-first.strides[*i].abs(), -second.strides[*i].abs()));
        let ordered = |o: Operand| Operand { strides: order.iter().map(|i| o.strides[*i]).collect(), ..o };
        let class = |i: &usize| match (left.contains(&axes[*i]), right.contains(&axes[*i])) {
            _ if *i >= result.len() => DEPTH,
            (true, true) => BATCH,
            (true, false) => LEFT,
            _ => RIGHT,
        };
        Product {
            root,
            extents: order.iter().map(|i| size(axes[*i])).collect(),
            classes: order.iter().map(class).collect(),
            results: result.len(),
            left: ordered(a),
            right: ordered(b),
            dtype: cx.function.graph.type_of(inputs[0]).dtype,
        }
    }

    /// The point of the group's space for an index of the product's axes.
    fn point(&self, index: &[Affine]) -> Vec<Affine> {
        (0..self.results).filter(|a| self.extents[*a] != 1).map(|a| index[a].clone()).collect()
    }

    /// The addresses of the epilogue alone, and of all.
    fn probe(&self, cx: &Context<'_>, group: &Group) -> (Addresses, Addresses) {
        let mut emitter = Emitter::new(cx, group);
        let mut index = Vec::new();
        let kernel = KernelBuilder::new().finish("probe", None, |b| {
            index = self.extents.iter().map(|_| Affine::scaled(b.variable(), 1)).collect();
            let result = b.value(self.dtype);
            let point = self.point(&index);
            emitter.scope(&[(self.root, result)], |e| e.stores(b, group, &point));
        });
        let epilogue = Addresses::of(&kernel.body);
        let mut all = epilogue.clone();
        all.add(self.left.address(&index));
        all.add(self.right.address(&index));
        (epilogue, all)
    }

    /// The loops, if this is a matrix product.
    fn shape(&self, cx: &Context<'_>, group: &Group) -> Option<Shape> {
        if !matches!(self.dtype, DType::F32 | DType::F64) || self.extents.contains(&0) {
            return None;
        }
        let (epilogue, all) = self.probe(cx, group);
        let axes = all.collapse(&self.extents, &self.classes);
        let depth = axes.iter().filter(|a| a.class == DEPTH).cloned().collect();
        let free = |a: &&Axis| a.class == LEFT || a.class == RIGHT;
        let score = |a: &Axis| epilogue.vector_score(a.axis);
        let column = axes.iter().filter(free).max_by_key(|a| (score(a), a.axis))?.clone();
        if axes.iter().any(|a| a.class == BATCH && score(a) > score(&column)) {
            return None;
        }
        let others = axes.iter().filter(free).filter(|a| a.class != column.class);
        let row = others.max_by_key(|a| (a.extent.min(ENOUGH_ROWS), a.axis)).cloned();
        let chosen = |a: &Axis| *a == column || Some(a) == row.as_ref() || a.class == DEPTH;
        let outer = axes.iter().filter(|a| !chosen(a)).cloned().collect();
        let shape = Shape { outer, row, depth, column };
        (!self.is_dot(&shape)).then_some(shape)
    }

    /// Whether both operands lie along the depth and no row uses a column again: then each result is a dot product.
    fn is_dot(&self, shape: &Shape) -> bool {
        let Some(depth) = shape.depth.last() else { return false };
        let along = |o: &Operand| o.strides[depth.axis] == 1;
        let (_, right) = self.operands(shape);
        shape.row.is_none() && along(&self.left) && along(&self.right) && right.strides[shape.column.axis] != 1
    }

    /// The operands with the roles that the columns demand.
    fn operands(&self, shape: &Shape) -> (&Operand, &Operand) {
        if shape.column.class == RIGHT { (&self.left, &self.right) } else { (&self.right, &self.left) }
    }

    fn write(&self, cx: &Context<'_>, group: &Group, shape: &Shape) -> Draft {
        let mut emitter = Emitter::new(cx, group);
        let extents: Vec<u64> = shape.outer.iter().map(|a| a.extent).collect();
        let kernel = KernelBuilder::new().finish("contract", None, |b| {
            nested(b, &extents, &mut Vec::new(), &mut |b, vars| {
                let around: Vec<(&Axis, Affine)> =
                    shape.outer.iter().zip(vars).map(|(a, v)| (a, Affine::scaled(*v, 1))).collect();
                self.write_product(&mut emitter, b, group, shape, around);
            });
        });
        emitter.draft(kernel)
    }

    fn write_product<'s>(
        &self,
        e: &mut Emitter<'_>,
        b: &mut BlockBuilder<'_>,
        group: &Group,
        shape: &'s Shape,
        mut around: Vec<(&'s Axis, Affine)>,
    ) {
        let origin = spread(self.extents.len(), &around);
        let (left, right) = self.operands(shape);
        let step = |o: &Operand, axis: Option<&Axis>| axis.map_or(0, |a| o.strides[a.axis]);
        let mut matrix = |b: &mut BlockBuilder<'_>, o: &Operand, rows: Option<&Axis>, columns: Option<&Axis>| Matrix {
            buffer: e.buffer(b, o.buffer),
            address: o.address(&origin),
            row_stride: step(o, rows),
            column_stride: step(o, columns),
        };
        let round = |a: &Axis| Round {
            count: a.extent,
            left_stride: left.strides[a.axis],
            right_stride: right.strides[a.axis],
        };
        let (depth, rounds) = shape
            .depth
            .split_last()
            .map_or((None, Vec::new()), |(last, around)| (Some(last), around.iter().map(round).collect()));
        let extent = depth.map_or(1, |a| a.extent);
        let left = matrix(b, left, shape.row.as_ref(), depth);
        let right = matrix(b, right, depth, Some(&shape.column));
        let (row, column, accumulator) = (b.variable(), b.variable(), b.value(self.dtype));
        around.extend(shape.row.as_ref().map(|a| (a, Affine::scaled(row, 1))));
        around.push((&shape.column, Affine::scaled(column, 1)));
        let point = self.point(&spread(self.extents.len(), &around));
        let epilogue = b.block(|b| e.scope(&[(self.root, accumulator)], |e| e.stores(b, group, &point)));
        b.push(Instruction::Contract(Box::new(Contract {
            row,
            rows: shape.row.as_ref().map_or(1, |a| a.extent),
            column,
            columns: shape.column.extent,
            cut: Cut::of(&rounds, extent),
            rounds,
            depth: extent,
            left,
            right,
            accumulator,
            epilogue,
        })));
    }

    /// The product as a fold over its depth axes.
    fn fold(&self, cx: &mut Context<'_>, group: &Group) -> Vec<Draft> {
        let element = |e: &mut Emitter<'_>, b: &mut BlockBuilder<'_>, index: &[Affine]| {
            let factors = [&self.left, &self.right].map(|o| {
                let buffer = e.buffer(b, o.buffer);
                b.load(buffer, o.address(index))
            });
            b.map(ScalarFunction::Mul, &factors)
        };
        let fold = Fold {
            monoid: Monoid::Sum,
            dtype: self.dtype,
            extents: self.extents.clone(),
            reduced: self.classes.iter().map(|c| *c == DEPTH).collect(),
            element: Box::new(element),
        };
        fold.lower(cx, group, &|e, b, results, index| {
            let point = self.point(index);
            e.scope(&[(self.root, results[0])], |e| e.stores(b, group, &point));
        })
    }
}
