//! What every op gets for free from its samples: the inferred shape is the evaluated one, the VJP agrees with central
//! differences in f64, so does the VJP of the VJP, and the text form parses back.

use nnc::ir::builder::GraphBuilder;
use nnc::ir::graph::{Argument, Function, FunctionResult, ResultRole, Role, ValueId};
use nnc::ir::ops::{Op, Sample, sample};
use nnc::ir::scalar::{Monoid, ScalarFunction};
use nnc::ir::tensor::Tensor;
use nnc::ir::types::TensorType;
use nnc::ir::{interpret, text, verify};
use nnc::passes::GRAPH_PASSES;

fn name(sample: &Sample<Op>) -> String {
    let types: Vec<String> = sample.inputs.iter().map(|t| t.ty.to_string()).collect();
    let attributes: Vec<String> = sample.op.attributes().0.iter().map(|(n, a)| format!("{n}={a}")).collect();
    format!("{}({}) {}", sample.op.doc().name, types.join(", "), attributes.join(" "))
}

fn arguments(inputs: &[Tensor]) -> Vec<Argument> {
    let argument = |(i, t): (usize, &Tensor)| Argument { name: format!("x{i}"), role: Role::Input, ty: t.ty.clone() };
    inputs.iter().enumerate().map(argument).collect()
}

fn function(builder: GraphBuilder, inputs: &[Tensor], results: &[ValueId]) -> Function {
    let result =
        |(i, v): (usize, &ValueId)| FunctionResult { name: format!("y{i}"), role: ResultRole::Output, value: *v };
    let results = results.iter().enumerate().map(result).collect();
    Function { name: "sample".into(), arguments: arguments(inputs), graph: builder.finish(), results }
}

fn operands(builder: &mut GraphBuilder, inputs: &[Tensor]) -> Vec<ValueId> {
    inputs.iter().enumerate().map(|(i, t)| builder.argument(i as u32, t.ty.clone())).collect()
}

#[test]
fn inferred_shapes_are_evaluated_shapes_and_text_parses_back() {
    for sample in Op::samples() {
        let mut builder = GraphBuilder::new();
        let inputs = operands(&mut builder, &sample.inputs);
        let outputs = builder.add(sample.op.clone(), &inputs).unwrap_or_else(|e| panic!("{}: {e}", name(&sample)));
        let types: Vec<TensorType> = outputs.iter().map(|v| builder.type_of(*v).clone()).collect();
        let function = function(builder, &sample.inputs, &outputs);
        verify::function(&function).unwrap();
        let results = interpret::run(&function, &sample.inputs).unwrap();
        for (ty, result) in types.iter().zip(&results) {
            assert_eq!(*ty, result.ty, "{}", name(&sample));
            assert_eq!(ty.elements(), Some(result.data.len()), "{}", name(&sample));
        }
        let printed = function.to_string();
        let parsed = text::parse(&printed).unwrap_or_else(|e| panic!("{}: {e}\n{printed}", name(&sample)));
        assert_eq!(parsed.to_string(), printed);
        assert!(parsed.graph.nodes().zip(function.graph.nodes()).all(|(a, b)| a.1.op == b.1.op), "{printed}");
    }
}

#[test]
fn every_op_but_grad_and_argument_has_samples() {
    let sampled: Vec<&str> = Op::samples().iter().map(|s| s.op.doc().name).collect();
    let missing: Vec<&str> = Op::DOCS.iter().map(|d| d.name).filter(|n| !sampled.contains(n)).collect();
    assert_eq!(missing, ["argument", "grad"]);
}

/// The scalar `Σ weights · value`, with weights that make every element count differently.
fn weighted_sum(builder: &mut GraphBuilder, value: ValueId, seed: usize) -> ValueId {
    let ty = builder.type_of(value).clone();
    let weights = sample::positive(&ty.sizes().unwrap(), seed);
    let op = nnc::ir::ops::literal::Literal {
        values: weights.data.iter().map(|v| v.to_bits()).collect(),
        dtype: ty.dtype,
        shape: weights.sizes(),
    };
    let weights = builder.emit(op, &[]);
    let product = builder.map(ScalarFunction::Mul, &[value, weights]).unwrap();
    let axes: Vec<usize> = (0..ty.rank()).collect();
    builder.reduce(Monoid::Sum, product, &axes, false).unwrap()
}

/// The scalar of a sample, and its gradients by the float operands, `order` times: each time the gradients are
/// summed with weights and differentiated again.
fn nested_gradients(sample: &Sample<Op>, order: usize) -> Option<Function> {
    let mut builder = GraphBuilder::new();
    let inputs = operands(&mut builder, &sample.inputs);
    let output = builder.add(sample.op.clone(), &inputs).ok()?[0];
    if !builder.dtype_of(output).is_float() {
        return None;
    }
    let floats: Vec<ValueId> = inputs.iter().copied().filter(|v| builder.dtype_of(*v).is_float()).collect();
    if floats.is_empty() {
        return None;
    }
    let mut scalar = weighted_sum(&mut builder, output, 11);
    let mut gradients = builder.grad(scalar, &floats).unwrap();
    for round in 1..order {
        let sums: Vec<ValueId> = gradients.iter().map(|g| weighted_sum(&mut builder, *g, 20 + round)).collect();
        scalar = sums.into_iter().reduce(|a, b| builder.apply(ScalarFunction::Add, &[a, b])).unwrap();
        gradients = builder.grad(scalar, &floats).unwrap();
    }
    let results: Vec<ValueId> = std::iter::once(scalar).chain(gradients).collect();
    Some(function(builder, &sample.inputs, &results))
}

/// Runs all passes, checking after each that the function is well formed.
fn through_passes(mut function: Function) -> Function {
    for pass in GRAPH_PASSES {
        function = (pass.run)(&function).unwrap();
        verify::function(&function).unwrap_or_else(|e| panic!("after {}: {e}\n{function}", pass.name));
    }
    function
}

fn scalar_at(function: &Function, inputs: &[Tensor]) -> f64 {
    interpret::run(function, inputs).unwrap()[0].data[0]
}

fn check_against_differences(order: usize) {
    const STEP: f64 = 1e-5;
    for sample in Op::samples() {
        let Some(function) = nested_gradients(&sample, order) else { continue };
        let expanded = (GRAPH_PASSES[0].run)(&function).unwrap();
        verify::function(&expanded).unwrap_or_else(|e| panic!("{}: {e}", name(&sample)));
        let results = interpret::run(&expanded, &sample.inputs).unwrap();
        let optimized = interpret::run(&through_passes(function), &sample.inputs).unwrap();
        for (a, b) in results.iter().zip(&optimized) {
            let close = |(x, y): (&f64, &f64)| x == y || (x - y).abs() <= 1e-6 * (1.0 + x.abs());
            assert!(a.data.iter().zip(&b.data).all(close), "{}: the passes change {a:?} into {b:?}", name(&sample));
        }
        let floats = (0..sample.inputs.len()).filter(|i| sample.inputs[*i].ty.dtype.is_float());
        for (number, operand) in floats.enumerate() {
            for element in 0..sample.inputs[operand].data.len().min(6) {
                let shifted = |by: f64| {
                    let mut inputs = sample.inputs.clone();
                    inputs[operand].data[element] += by;
                    scalar_at(&expanded, &inputs)
                };
                let difference = (shifted(STEP) - shifted(-STEP)) / (2.0 * STEP);
                let gradient = results[1 + number].data[element];
                let error = (difference - gradient).abs();
                let context = format!("{} operand {operand} element {element}", name(&sample));
                assert!(error <= 1e-5 * (1.0 + gradient.abs()), "{context}: {gradient} but differences {difference}");
            }
        }
    }
}

#[test]
fn gradients_are_central_differences() {
    check_against_differences(1);
}

#[test]
fn gradients_of_gradients_are_central_differences() {
    check_against_differences(2);
}

/// Small random graphs, the same on every run.
struct RandomGraph {
    builder: GraphBuilder,
    state: u64,
    values: Vec<ValueId>,
}

impl RandomGraph {
    fn below(&mut self, limit: usize) -> usize {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.state >> 33) % limit as u64) as usize
    }

    fn pick(&mut self) -> ValueId {
        let at = self.below(self.values.len());
        self.values[at]
    }

    /// Adds one op to the graph, if the one drawn fits the operands drawn.
    fn step(&mut self) -> Option<ValueId> {
        use ScalarFunction as F;
        let (x, y) = (self.pick(), self.pick());
        let ty = self.builder.type_of(x).clone();
        let sizes = ty.sizes()?;
        let axis = if sizes.is_empty() { None } else { Some(self.below(sizes.len())) };
        match self.below(14) {
            0..=2 => {
                let function = [F::Neg, F::Tanh, F::Sigmoid, F::Abs, F::Sin, F::Erf][self.below(6)];
                self.builder.map(function, &[x]).ok()
            }
            3..=5 => {
                let function = [F::Add, F::Sub, F::Mul, F::Max, F::Min, F::Add][self.below(6)];
                self.builder.map(function, &[x, y]).ok()
            }
            6 => {
                let function = [F::Add, F::Sub, F::Mul, F::Div, F::Pow, F::Max][self.below(6)];
                let exponents = [1.0, 2.0, 3.0, 4.0];
                let numbers = [0.0, 1.0, -1.0, 0.5, 3.0, -0.25];
                let number = match function {
                    F::Pow => exponents[self.below(4)],
                    F::Div => numbers[1 + self.below(5)],
                    _ => numbers[self.below(6)],
                };
                let constant = self.builder.constant_like(number, x);
                let swap = matches!(function, F::Add | F::Sub | F::Mul) && self.below(2) == 0;
                self.builder.map(function, &if swap { [constant, x] } else { [x, constant] }).ok()
            }
            7 => {
                let monoid = [Monoid::Sum, Monoid::Max, Monoid::Min, Monoid::Prod][self.below(4)];
                let keepdims = self.below(2) == 0;
                self.builder.reduce(monoid, x, &[axis?], keepdims).ok()
            }
            8 => {
                let mut permutation: Vec<usize> = (0..sizes.len()).collect();
                permutation.rotate_left(axis?);
                self.builder.transpose(x, &permutation).ok()
            }
            9 => {
                let mut shape = ty.shape.clone();
                match self.below(2) {
                    0 => shape.insert(self.below(sizes.len() + 1), 1i64.into()),
                    _ => shape = vec![sizes.iter().product::<usize>().into()],
                }
                self.builder.reshape(x, &shape).ok()
            }
            10 => {
                let mut shape = ty.shape.clone();
                shape.insert(0, 2i64.into());
                shape.iter_mut().filter(|d| d.is(1)).for_each(|d| *d = 3i64.into());
                if shape.len() > 4 { None } else { self.builder.broadcast(x, &shape).ok() }
            }
            11 => {
                use nnc::ir::ops::slice::Slice;
                let slice = match self.below(2) {
                    0 => Slice::reversed(&ty.shape, &[axis?])?,
                    _ => Slice::along(&ty.shape, axis?, (sizes[axis?] as i64 / 2).into(), 1i64.into()),
                };
                self.builder.add_one(slice, &[x]).ok()
            }
            12 => self.builder.add_one(nnc::ir::ops::concat::Concat { axis: axis? }, &[x, y]).ok(),
            _ => {
                let other = self.builder.type_of(y).clone();
                let (rows, columns) = (sizes.len().checked_sub(1)?, other.rank().checked_sub(1)?);
                let left: Vec<u32> = (0..=rows as u32).map(|l| if l as usize == rows { 99 } else { l }).collect();
                let right: Vec<u32> = (0..=columns as u32).map(|l| if l == 0 { 99 } else { 50 + l }).collect();
                let result: Vec<u32> = left.iter().chain(&right).copied().filter(|l| *l != 99).collect();
                if result.len() > 3 { None } else { self.builder.contract((x, &left), (y, &right), &result).ok() }
            }
        }
    }
}

#[test]
fn random_graphs_keep_their_meaning_through_the_passes() {
    let mut made = 0;
    for seed in 0..120 {
        let inputs =
            [sample::signed(&[2, 3], seed), sample::signed(&[3], seed + 1), sample::positive(&[3, 1], seed + 2)];
        let mut builder = GraphBuilder::new();
        let values = operands(&mut builder, &inputs);
        let mut random = RandomGraph { builder, state: seed as u64, values: values.clone() };
        for _ in 0..14 {
            if let Some(value) = random.step() {
                random.values.push(value);
            }
        }
        let RandomGraph { mut builder, values: all, .. } = random;
        made += all.len() - values.len();
        let sums: Vec<ValueId> = all.iter().map(|v| weighted_sum(&mut builder, *v, 5)).collect();
        let scalar = sums.into_iter().reduce(|a, b| builder.apply(ScalarFunction::Add, &[a, b])).unwrap();
        let gradients = builder.grad(scalar, &values).unwrap();
        let results: Vec<ValueId> = all.into_iter().chain(gradients).collect();
        let function = function(builder, &inputs, &results);
        assert_eq!(text::parse(&function.to_string()).unwrap().to_string(), function.to_string());
        let before = interpret::run(&(GRAPH_PASSES[0].run)(&function).unwrap(), &inputs).unwrap();
        let optimized = through_passes(function);
        let after = interpret::run(&optimized, &inputs).unwrap();
        for (a, b) in before.iter().zip(&after) {
            let close = |(x, y): (&f64, &f64)| {
                x == y || (x - y).abs() <= 1e-5 * (1.0 + x.abs().max(y.abs())) || (x.is_nan() && y.is_nan())
            };
            assert_eq!(a.ty, b.ty);
            assert!(a.data.iter().zip(&b.data).all(close), "seed {seed}: {a:?} became {b:?}\n{optimized}");
        }
    }
    assert!(made > 120 * 8, "only {made} ops fitted their operands");
}
