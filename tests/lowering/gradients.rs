//! The gradients of every op, and the gradients of those, compiled as they are meant: in f32, and in f64 for every sample that has floats.

use nnc::ir::graph::{ResultRole, Role, ValueId};
use nnc::ir::ops::{Op, Sample};
use nnc::ir::scalar::{Monoid, ScalarFunction as F};
use nnc::ir::tensor::Tensor;
use nnc::ir::types::DType;

use crate::dtypes::with_dtype;
use crate::programs::agreement::agree;
use crate::writer::Writer;

/// Samples of one function, whose compilation then costs less.
const TOGETHER: usize = 30;

/// The sum of the squares of all elements of all values.
fn squares(writer: &mut Writer, values: &[ValueId]) -> Option<ValueId> {
    let sum = |value: &ValueId| {
        let square = writer.b.apply(F::Mul, &[*value, *value]);
        let axes: Vec<usize> = (0..writer.b.type_of(square).rank()).collect();
        writer.b.reduce(Monoid::Sum, square, &axes, false).expect("a sum over all axes")
    };
    let sums: Vec<ValueId> = values.iter().map(sum).collect();
    sums.into_iter().reduce(|a, b| writer.b.apply(F::Add, &[a, b]))
}

/// Adds the gradients of a sample, and theirs, to a function; whether it has any.
fn add(writer: &mut Writer, arguments: &mut Vec<Tensor>, name: &str, sample: &Sample<Op>) -> Option<()> {
    let is_float = |writer: &Writer, v: &ValueId| writer.b.dtype_of(*v).is_float();
    let finite = sample.inputs.iter().all(|x| x.data.iter().all(|v| v.is_finite()));
    let has_floats = sample.inputs.iter().any(|x| x.ty.dtype.is_float());
    if matches!(sample.op, Op::Argument(_) | Op::Grad(_)) || !finite || !has_floats {
        return None;
    }
    let mut inputs = Vec::new();
    for (i, tensor) in sample.inputs.iter().enumerate() {
        inputs.push(writer.argument(&format!("{name}_{i}"), Role::Input, tensor.ty.dtype, &tensor.sizes()));
        arguments.push(tensor.clone());
    }
    let mut outputs = writer.b.add(sample.op.clone(), &inputs).expect("a sample is well typed");
    outputs.retain(|v| is_float(writer, v));
    let floats: Vec<ValueId> = inputs.into_iter().filter(|v| is_float(writer, v)).collect();
    let scalar = squares(writer, &outputs)?;
    let first = writer.b.grad(scalar, &floats).expect("gradients of floats");
    let again = squares(writer, &first)?;
    let second = writer.b.grad(again, &floats).expect("gradients of floats");
    for (number, value) in first.into_iter().chain(second).enumerate() {
        writer.result(&format!("{name}_d{number}"), ResultRole::Output, value);
    }
    Some(())
}

fn check(dtype: DType) {
    let samples = Op::samples();
    let converted = samples.iter().enumerate().filter_map(|(number, sample)| {
        let of_f32 = dtype == DType::F32;
        let sample = if of_f32 { Some(sample.clone()) } else { with_dtype(sample, dtype) }?;
        let types: Vec<_> = sample.inputs.iter().map(|t| &t.ty).collect();
        let fits = sample.op.infer(&types).is_ok();
        fits.then(|| (format!("{}_{number}", sample.op.doc().name), sample))
    });
    let converted: Vec<(String, Sample<Op>)> = converted.collect();
    for together in converted.chunks(TOGETHER) {
        let mut writer = Writer::default();
        let mut arguments = Vec::new();
        let added = together.iter().filter_map(|(name, sample)| add(&mut writer, &mut arguments, name, sample)).count();
        if added > 0 {
            let function = writer.finish_raw();
            let names: Vec<&str> = together.iter().map(|(name, _)| name.as_str()).collect();
            agree(&function, &arguments).unwrap_or_else(|e| panic!("{dtype}: {e}, one of {names:?}"));
        }
    }
}

#[test]
fn gradients_of_every_op_in_f32() {
    check(DType::F32);
}

#[test]
fn gradients_of_every_op_in_f64() {
    check(DType::F64);
}
