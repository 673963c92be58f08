//! A graph under construction: values to pick operands from, and ways to make an operand fit.

use std::sync::OnceLock;

use nnc::ir::builder::GraphBuilder;
use nnc::ir::dim::Dim;
use nnc::ir::graph::{Argument, Function, FunctionResult, ResultRole, Role, ValueId};
use nnc::ir::ops::slice::Slice;
use nnc::ir::ops::{Op, Sample};
use nnc::ir::scalar::{Monoid, ScalarFunction as F};
use nnc::ir::types::{DType, TensorType};

use crate::choices::{Choices, Gene};
use crate::makers;

/// No tensor of most graphs is larger, in elements.
const LARGEST: usize = 600;
/// Some graphs are large enough for several threads.
const LARGEST_OF_SOME: usize = 20_000;
/// Gradients of gradients multiply the nodes.
const MOST_GRADIENTS: usize = 3;

/// A graph under construction.
pub struct Draft {
    pub b: GraphBuilder,
    arguments: Vec<Argument>,
    /// What operands are picked from.
    pub values: Vec<ValueId>,
    source: Option<[ValueId; 2]>,
    largest: usize,
    pub gradients: usize,
    /// Whether this is the body of a loop, whose arguments are given.
    pub inner: bool,
}

/// The samples of all ops.
fn samples() -> &'static [Sample<Op>] {
    static SAMPLES: OnceLock<Vec<Sample<Op>>> = OnceLock::new();
    SAMPLES.get_or_init(Op::samples)
}

/// The sizes as dims.
pub fn dims(sizes: &[usize]) -> Vec<Dim> {
    sizes.iter().map(|s| Dim::from(*s)).collect()
}

/// The function that genes stand for: the first chooses the arguments, the last the results, each other one adds an op.
pub fn function(genes: &[Gene]) -> Function {
    let (first, rest) = genes.split_first().expect("a graph has a gene");
    let (last, rest) = rest.split_last().unwrap_or((first, &[]));
    let mut choices = Choices::new(first);
    let mut draft = Draft::new(if choices.rarely(16) { LARGEST_OF_SOME } else { LARGEST });
    for _ in 0..2 + choices.below(3) {
        let shape = choices.shape();
        let value = draft.argument(Role::State, DType::F32, &shape);
        draft.values.push(value);
    }
    draft.grow(rest);
    draft.finish(&mut Choices::new(last))
}

impl Draft {
    fn new(largest: usize) -> Draft {
        Draft {
            b: GraphBuilder::new(),
            arguments: Vec::new(),
            values: Vec::new(),
            source: None,
            largest,
            gradients: 0,
            inner: false,
        }
    }

    /// A graph for the body of a loop.
    pub fn inner() -> Draft {
        Draft { inner: true, gradients: MOST_GRADIENTS - 1, ..Draft::new(LARGEST / 4) }
    }

    /// An op for each gene.
    pub fn grow(&mut self, genes: &[Gene]) {
        for gene in genes {
            let made = makers::step(self, &mut Choices::new(gene));
            self.values.extend(made.unwrap_or_default());
        }
    }

    /// The function with given results.
    pub fn into_function(self, name: &str, results: Vec<FunctionResult>) -> Function {
        Function { name: name.into(), arguments: self.arguments, graph: self.b.finish(), results }
    }

    /// A new argument, of a shape that is not too large.
    pub fn argument(&mut self, role: Role, dtype: DType, shape: &[usize]) -> ValueId {
        let shape = if shape.iter().product::<usize>() > self.largest { &shape[..1] } else { shape };
        let ty = TensorType::new(dtype, shape.iter().copied());
        let index = self.arguments.len() as u32;
        self.arguments.push(Argument { name: format!("x{index}"), role, ty: ty.clone() });
        self.b.argument(index, ty)
    }

    /// The seed and the step.
    pub fn random_source(&mut self) -> [ValueId; 2] {
        if let Some(source) = self.source {
            return source;
        }
        let source = [self.argument(Role::Seed, DType::U32, &[2]), self.argument(Role::Step, DType::I32, &[])];
        self.source = Some(source);
        source
    }

    /// The concrete shape of a value.
    pub fn sizes(&self, value: ValueId) -> Vec<usize> {
        self.b.type_of(value).sizes().expect("all sizes are numbers")
    }

    /// A value of a type that will do; late ones are more likely, so that chains grow.
    pub fn pick(&self, choices: &mut Choices<'_>, accept: impl Fn(&TensorType) -> bool) -> Option<ValueId> {
        let fitting: Vec<ValueId> = self.values.iter().copied().filter(|v| accept(self.b.type_of(*v))).collect();
        let reach = choices.of(&[2, 4, 8, 1000]).min(fitting.len());
        (reach > 0).then(|| fitting[fitting.len() - 1 - choices.below(reach)])
    }

    /// Any float value.
    pub fn float(&self, choices: &mut Choices<'_>) -> Option<ValueId> {
        self.pick(choices, |ty| ty.dtype.is_float())
    }

    /// Adds a node if the op takes the operands and no result is too large.
    pub fn add(&mut self, op: impl Into<Op>, inputs: &[ValueId]) -> Option<Vec<ValueId>> {
        let op = op.into();
        let types: Vec<&TensorType> = inputs.iter().map(|v| self.b.type_of(*v)).collect();
        let outputs = op.infer(&types).ok()?;
        let small = outputs.iter().all(|ty| ty.elements().is_some_and(|n| n <= self.largest));
        if small { self.b.add(op, inputs).ok() } else { None }
    }

    /// Whether so many elements are not too many.
    pub fn is_small(&self, sizes: &[usize]) -> bool {
        sizes.iter().try_fold(1usize, |n, s| n.checked_mul(*s)).is_some_and(|n| n <= self.largest)
    }

    /// A value of the wanted type made of another: flattened, repeated or cut, reshaped and converted.
    pub fn fit(&mut self, value: ValueId, wanted: &TensorType) -> Option<ValueId> {
        let (have, want) = (self.b.type_of(value).elements()?, wanted.elements()?);
        if self.b.type_of(value) == wanted {
            return Some(value);
        }
        if have == 0 && want > 0 {
            return Some(self.b.constant(1.0, wanted.dtype, &wanted.shape));
        }
        let mut flat = self.b.reshape(value, &dims(&[have])).ok()?;
        if have < want {
            let times = want.div_ceil(have);
            let rows = self.b.broadcast_axes(flat, &dims(&[times, have]), vec![1]).ok()?;
            flat = self.b.reshape(rows, &dims(&[times * have])).ok()?;
        }
        let length = self.sizes(flat)[0];
        if length > want {
            let cut = Slice::along(&dims(&[length]), 0, ((length - want) / 2).into(), want.into());
            flat = self.b.add_one(cut, &[flat]).ok()?;
        }
        let shaped = self.b.reshape(flat, &wanted.shape).ok()?;
        Some(self.b.cast(shaped, wanted.dtype))
    }

    /// A number beside a value, stretched to its shape.
    pub fn number(&mut self, value: f64, like: ValueId) -> ValueId {
        self.b.constant_like(value, like)
    }

    /// A float value made small most of the time, so that chains neither overflow nor vanish.
    pub fn tame(&mut self, value: ValueId, choices: &mut Choices<'_>) -> ValueId {
        if !self.b.dtype_of(value).is_float() {
            return value;
        }
        match choices.below(5) {
            0 | 1 => self.b.apply(F::Tanh, &[value]),
            2 => self.b.apply(F::Sin, &[value]),
            3 => {
                let quarter = self.number(0.25, value);
                self.b.apply(F::Mul, &[value, quarter])
            }
            _ => value,
        }
    }

    /// An op with the attributes of one of its samples, on values made to fit.
    pub fn of_sample(&mut self, name: &str, choices: &mut Choices<'_>) -> Option<Vec<ValueId>> {
        let of_op: Vec<&Sample<Op>> = samples().iter().filter(|s| s.op.doc().name == name).collect();
        if of_op.is_empty() {
            return None;
        }
        let sample = of_op[choices.below(of_op.len())];
        let mut inputs = Vec::new();
        for input in &sample.inputs {
            let exact = self.pick(choices, |ty| *ty == input.ty);
            let value = match exact.filter(|_| !choices.rarely(3)) {
                Some(value) => value,
                None => {
                    let value = self.pick(choices, |ty| ty.dtype == input.ty.dtype).or(self.values.last().copied())?;
                    self.fit(value, &input.ty)?
                }
            };
            inputs.push(value);
        }
        let outputs = self.add(sample.op.clone(), &inputs)?;
        Some(outputs.into_iter().map(|v| self.tame(v, choices)).collect())
    }

    /// The scalar `Σ tanh(value) · weight`, which depends on every element differently.
    pub fn scalar(&mut self, value: ValueId) -> Option<ValueId> {
        let ty = self.b.type_of(value).clone();
        let flat = self.b.reshape(value, &dims(&[ty.elements()?])).ok()?;
        let small = self.b.apply(F::Tanh, &[flat]);
        let places = self.b.emit(nnc::ir::ops::iota::Iota { shape: dims(&[ty.elements()?]), axis: 0 }, &[]);
        let places = self.b.cast(places, ty.dtype);
        let wave = self.b.apply(F::Cos, &[places]);
        let product = self.b.apply(F::Mul, &[small, wave]);
        self.b.reduce(Monoid::Sum, product, &[0], false).ok()
    }

    /// The function whose results are some values that nothing uses, some others, and new values of the states.
    fn finish(self, choices: &mut Choices<'_>) -> Function {
        let mut used = vec![false; self.b.graph().len()];
        for (_, node) in self.b.graph().nodes() {
            node.inputs.iter().for_each(|v| used[v.node.0 as usize] = true);
        }
        let unused = self.values.iter().copied().filter(|v| !used[v.node.0 as usize]);
        let mut chosen: Vec<ValueId> = unused.filter(|_| !choices.rarely(7)).collect();
        for _ in 0..1 + choices.below(3) {
            chosen.extend(self.values.get(choices.below(self.values.len())));
        }
        // What comes behind a loss may compute again what is before it.
        let mut result = |(i, value): (usize, &ValueId)| {
            let is_loss = self.b.type_of(*value).shape.is_empty() && self.b.dtype_of(*value) == DType::F32;
            let role = if is_loss && !choices.rarely(3) { ResultRole::Loss } else { ResultRole::Output };
            FunctionResult { name: format!("y{i}"), role, value: *value }
        };
        let mut results: Vec<FunctionResult> = chosen.iter().enumerate().map(&mut result).collect();
        for (index, argument) in self.arguments.iter().enumerate().filter(|(_, a)| a.role == Role::State) {
            let same = |v: &&ValueId| self.b.type_of(**v) == &argument.ty;
            if let Some(value) = self.values.iter().rev().find(same) {
                let role = ResultRole::Update(index as u32);
                results.push(FunctionResult { name: argument.name.clone(), role, value: *value });
            }
        }
        self.into_function("graph", results)
    }

    /// Whether one more gradient is not too many.
    pub fn may_differentiate(&self) -> bool {
        self.gradients < MOST_GRADIENTS
    }
}
