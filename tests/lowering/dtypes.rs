//! Every op on every dtype: it either does what it means, compiled as interpreted bit for bit, or is refused with a sentence.

use nnc::ir::graph::{ResultRole, Role};
use nnc::ir::ops::{Attribute, Op, Sample};
use nnc::ir::scalar::meaning::{convert, round_half};
use nnc::ir::scalar::{Rule, ScalarFunction as F};
use nnc::ir::tensor::Tensor;
use nnc::ir::types::DType;

use crate::programs::agreement::agree;
use crate::writer::Writer;

/// Every dtype that a tensor can have.
fn all_dtypes() -> Vec<DType> {
    DType::NAMED.iter().map(|(_, dtype)| *dtype).chain([DType::Index { classes: 7 }]).collect()
}

/// The dtype of a sample that is to be replaced: that of its last operand, of the first where the others are places, or of the op.
fn subject(sample: &Sample<Op>) -> DType {
    let dtypes: Vec<DType> = sample.inputs.iter().map(|t| t.ty.dtype).collect();
    match (&sample.op, dtypes.as_slice()) {
        (Op::Gather(_) | Op::ScatterAdd(_), [first, ..]) => *first,
        (_, [.., last]) => *last,
        (op, []) => op.attributes().dtype("dtype").unwrap_or(DType::I32),
    }
}

/// A number of a sample as one of `dtype`: small, and of both signs where it has them.
fn number(value: f64, dtype: DType) -> f64 {
    match dtype {
        DType::Bool => f64::from(u8::from(value > 0.0)),
        DType::Index { classes } => (value.abs() * 3.0).floor().min(f64::from(classes - 1)),
        DType::I64 => convert(value.clamp(-2.0, 2.0).round(), DType::F64, dtype),
        d if d.is_half() => round_half(value, d),
        d if d.is_float() => value,
        d => convert((value * 5.0).round(), DType::I64, d),
    }
}

/// The sample with another dtype in place of its subject.
pub fn with_dtype(sample: &Sample<Op>, dtype: DType) -> Option<Sample<Op>> {
    // The dtypes of a loop are those of its body, which are other samples.
    if matches!(sample.op, Op::Scan(_)) {
        return None;
    }
    let from = subject(sample);
    let shift = matches!(&sample.op, Op::Map(map) if matches!(map.function, F::ShiftLeft | F::ShiftRight));
    let retyped = |(at, t): (usize, &Tensor)| {
        if t.ty.dtype != from {
            return t.clone();
        }
        let value = |v: &f64| match shift && at == 1 {
            true => (v.abs() % (8 * dtype.bytes()) as f64).floor(),
            false => number(*v, dtype),
        };
        Tensor::new(t.ty.with_dtype(dtype), t.data.iter().map(value).collect())
    };
    let inputs: Vec<Tensor> = sample.inputs.iter().enumerate().map(retyped).collect();
    let mut op = sample.op.clone();
    if inputs.is_empty() {
        let mut attributes = op.attributes();
        let own = attributes.0.iter_mut().find(|(name, _)| *name == "dtype")?;
        own.1 = Attribute::DType(dtype);
        op = Op::from_attributes(op.doc().name, &attributes).ok()?;
    }
    Some(Sample { op, inputs })
}

/// Whether an op is to refuse operands of a dtype. `None` where both are right.
fn refuses(op: &Op, dtype: DType) -> Option<bool> {
    match op {
        Op::Map(map) => Some(match map.function.rule() {
            Rule::Same => dtype == DType::Bool,
            Rule::Float => !dtype.is_float(),
            Rule::Logic => dtype.is_float(),
            Rule::Integer => !dtype.is_integer(),
            Rule::Compare | Rule::Select => false,
        }),
        Op::Reduce(_) | Op::Contract(_) | Op::ScatterAdd(_) => Some(dtype == DType::Bool),
        Op::RandomBits(_) => Some(dtype != DType::I32),
        Op::Concat(_) | Op::Pad(_) | Op::Slice(_) | Op::Gather(_) | Op::Cast(_) | Op::Broadcast(_) => Some(false),
        _ if matches!(dtype, DType::F32 | DType::F64 | DType::F16 | DType::BF16) => Some(false),
        _ => None,
    }
}

/// Checks all samples that take `dtype`, as one function; returns how many there are.
fn check(dtype: DType) -> usize {
    let mut writer = Writer::default();
    let mut arguments = Vec::new();
    for (number, sample) in Op::samples().iter().enumerate() {
        let Some(sample) = with_dtype(sample, dtype) else { continue };
        let name = format!("{}_{number}", sample.op.doc().name);
        let types: Vec<_> = sample.inputs.iter().map(|t| &t.ty).collect();
        let inferred = sample.op.infer(&types);
        let refused = inferred.as_ref().err().map(ToString::to_string);
        let expected = refuses(&sample.op, dtype).unwrap_or(refused.is_some());
        assert_eq!(refused.is_some(), expected, "{name} of {dtype}: {refused:?}");
        if inferred.is_err() {
            continue;
        }
        let mut operands = Vec::new();
        for (i, tensor) in sample.inputs.iter().enumerate() {
            let shape = tensor.sizes();
            operands.push(writer.argument(&format!("{name}_{i}"), Role::Input, tensor.ty.dtype, &shape));
            arguments.push(tensor.clone());
        }
        for value in writer.b.add(sample.op.clone(), &operands).expect("its types were inferred") {
            writer.result(&name, ResultRole::Output, value);
        }
    }
    let function = writer.finish_raw();
    agree(&function, &arguments).unwrap_or_else(|e| panic!("{dtype}: {e}"));
    function.results.len()
}

#[test]
fn every_op_works_on_every_dtype_or_refuses_it() {
    for dtype in all_dtypes() {
        let count = check(dtype);
        assert!(count > 40, "only {count} samples took {dtype}");
    }
}
