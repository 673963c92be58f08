//! What every op gets for free from its samples: the inferred shape is the evaluated one, the VJP agrees with central
//! differences in f64, so does the VJP of the VJP, and the text form parses back.

use nnc::ir::builder::GraphBuilder;
use nnc::ir::graph::{Argument, Function, FunctionResult, ResultRole, Role, ValueId};
use nnc::ir::ops::{Op, Sample, sample};
use nnc::ir::scalar::{Monoid, ScalarFunction};
use nnc::ir::tensor::Tensor;
use nnc::ir::types::TensorType;
use nnc::ir::{interpret, text, verify};
use nnc::passes::{GRAPH_PASSES, autodiff};

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
    let mut outputs = builder.add(sample.op.clone(), &inputs).ok()?;
    outputs.retain(|v| builder.dtype_of(*v).is_float());
    let floats: Vec<ValueId> = inputs.iter().copied().filter(|v| builder.dtype_of(*v).is_float()).collect();
    let finite = sample.inputs.iter().all(|x| x.data.iter().all(|v| v.is_finite()));
    if floats.is_empty() || !finite {
        return None;
    }
    let sums: Vec<ValueId> = outputs.iter().enumerate().map(|(i, v)| weighted_sum(&mut builder, *v, 11 + i)).collect();
    let mut scalar = sums.into_iter().reduce(|a, b| builder.apply(ScalarFunction::Add, &[a, b]))?;
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
        function = pass.apply(&function).unwrap();
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
        let expanded = autodiff::PASS.apply(&function).unwrap();
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
