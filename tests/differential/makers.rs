//! How each op is made: the table that the generator of graphs works from.
//!
//! An op without a row is made from its samples, so a new op is in the graphs as soon as it is in the list of ops.

use nnc::ir::graph::{Role, ValueId};
use nnc::ir::ops::{Op, cast, constant, iota, literal, random_bits, stop_gradient};
use nnc::ir::scalar::{Rule, ScalarFunction as F};
use nnc::ir::types::{DType, TensorType};

use crate::choices::Choices;
use crate::draft::{Draft, dims};

mod loops;
mod shapes;
mod sums;
mod windows;

/// Adds an op and what it needs, and gives the values that later ops may use; `None` if it does not fit this time.
type Maker = fn(&mut Draft, &mut Choices<'_>) -> Option<Vec<ValueId>>;

/// The ops that are made in more ways than their samples show.
const TABLE: &[(&str, Maker)] = &[
    ("argument", argument),
    ("constant", constant),
    ("literal", literal),
    ("iota", iota),
    ("map", map),
    ("cast", cast),
    ("broadcast", shapes::broadcast),
    ("reshape", shapes::reshape),
    ("transpose", shapes::transpose),
    ("slice", shapes::slice),
    ("pad", shapes::pad),
    ("concat", shapes::concat),
    ("reduce", sums::reduce),
    ("contract", sums::contract),
    ("gather", sums::gather),
    ("scatter_add", sums::scatter_add),
    ("random_bits", random_bits),
    ("scan", loops::scan),
    ("sort", sums::sort),
    ("cumsum", sums::cumsum),
    ("recurrence", sums::recurrence),
    ("convolve", windows::convolve),
    ("convolve_kernel", windows::convolve_kernel),
    ("windows", windows::windows),
    ("overlap_add", windows::overlap_add),
    ("stop_gradient", stop_gradient),
    ("grad", grad),
];

/// The dtypes of values. `i64` is left out, since the definition in f64 does not hold all its numbers.
pub const DTYPES: [DType; 10] = [
    DType::F32,
    DType::F64,
    DType::I32,
    DType::U8,
    DType::Bool,
    DType::F16,
    DType::BF16,
    DType::I8,
    DType::U32,
    DType::I16,
];

/// One more op: a scalar function every third time, else any op of the list.
pub fn step(draft: &mut Draft, choices: &mut Choices<'_>) -> Option<Vec<ValueId>> {
    let number = choices.below(Op::DOCS.len() * 3 / 2);
    let name = Op::DOCS.get(number).map_or("map", |doc| doc.name);
    let maker = TABLE.iter().find(|(n, _)| *n == name).map(|(_, maker)| maker);
    match maker {
        Some(maker) if !choices.rarely(5) => maker(draft, choices),
        Some(maker) => draft.of_sample(name, choices).or_else(|| maker(draft, choices)),
        None => draft.of_sample(name, choices),
    }
}

fn argument(draft: &mut Draft, choices: &mut Choices<'_>) -> Option<Vec<ValueId>> {
    if draft.inner {
        return None;
    }
    let dtype = choices.of(&DTYPES);
    let role = choices.of(&[Role::Input, Role::State, Role::Parameter]);
    let shape = choices.shape();
    Some(vec![draft.argument(role, dtype, &shape)])
}

fn constant(draft: &mut Draft, choices: &mut Choices<'_>) -> Option<Vec<ValueId>> {
    let dtype = choices.of(&DTYPES);
    let value = match dtype {
        DType::Bool => choices.of(&[0.0, 1.0]),
        dtype if dtype.is_float() => choices.of(&[1.0, 0.0, -0.5, 0.1, 2.0, -3.0]),
        _ => choices.of(&[1.0, 0.0, 2.0, 3.0, 7.0]),
    };
    let shape = choices.shape();
    draft.add(constant::Constant::number(value, dtype, &dims(&shape)), &[])
}

fn literal(draft: &mut Draft, choices: &mut Choices<'_>) -> Option<Vec<ValueId>> {
    let dtype = choices.of(&[DType::F32, DType::F64, DType::I32, DType::U8]);
    let shape = [choices.size(), choices.of(&[1, 2, 3])];
    let shape = &shape[..1 + choices.below(2)];
    let value = |i: usize| if dtype.is_float() { (i as f64 * 0.7).sin() } else { (i * 7 % 5) as f64 };
    let values = (0..shape.iter().product()).map(|i| value(i).to_bits()).collect();
    draft.add(literal::Literal { values, dtype, shape: shape.to_vec() }, &[])
}

fn iota(draft: &mut Draft, choices: &mut Choices<'_>) -> Option<Vec<ValueId>> {
    let mut shape = choices.shape();
    shape.push(choices.size());
    let axis = choices.below(shape.len());
    draft.add(iota::Iota { shape: dims(&shape), axis }, &[])
}

fn cast(draft: &mut Draft, choices: &mut Choices<'_>) -> Option<Vec<ValueId>> {
    let mut value = draft.pick(choices, |_| true)?;
    let dtype = choices.of(&DTYPES);
    if draft.b.dtype_of(value).is_float() && !dtype.is_float() {
        let seven = draft.number(7.3, value);
        value = draft.b.apply(F::Mul, &[value, seven]);
    }
    draft.add(cast::Cast { dtype }, &[value])
}

fn stop_gradient(draft: &mut Draft, choices: &mut Choices<'_>) -> Option<Vec<ValueId>> {
    let value = draft.float(choices)?;
    draft.add(stop_gradient::StopGradient, &[value])
}

/// Bits, and numbers between -0.5 and 0.5 made of them.
fn random_bits(draft: &mut Draft, choices: &mut Choices<'_>) -> Option<Vec<ValueId>> {
    let shape = choices.shape();
    if draft.inner || !draft.is_small(&shape) {
        return None;
    }
    let source = draft.random_source();
    let bits =
        draft.add(random_bits::RandomBits { shape: dims(&shape), site: choices.below(1000) as u32 }, &source)?[0];
    let eight = draft.number(8.0, bits);
    let high = draft.b.apply(F::ShiftRight, &[bits, eight]);
    let whole = draft.b.cast(high, DType::F32);
    let scale = draft.number(f64::exp2(-24.0), whole);
    let unit = draft.b.apply(F::Mul, &[whole, scale]);
    let half = draft.number(0.5, unit);
    Some(vec![bits, draft.b.apply(F::Sub, &[unit, half])])
}

/// The gradient of a scalar by up to three values.
fn grad(draft: &mut Draft, choices: &mut Choices<'_>) -> Option<Vec<ValueId>> {
    if !draft.may_differentiate() {
        return None;
    }
    let value = draft.float(choices)?;
    let by: Vec<ValueId> = (0..1 + choices.below(3)).filter_map(|_| draft.float(choices)).collect();
    let scalar = draft.scalar(value)?;
    let gradients = draft.b.grad(scalar, &by).ok()?;
    draft.gradients += 1;
    Some(gradients.into_iter().map(|g| draft.b.apply(F::Tanh, &[g])).collect())
}

/// A scalar function of values, of which all after the first are made to fit.
fn map(draft: &mut Draft, choices: &mut Choices<'_>) -> Option<Vec<ValueId>> {
    let function = choices.of(F::ALL);
    let accept = |ty: &TensorType| match function.rule() {
        Rule::Same | Rule::Select => ty.dtype != DType::Bool,
        Rule::Float => ty.dtype.is_float(),
        Rule::Compare => true,
        Rule::Logic => !ty.dtype.is_float(),
        Rule::Integer => ty.dtype.is_integer(),
    };
    let first = draft.pick(choices, accept)?;
    let dtype = draft.b.dtype_of(first);
    let mut operands = vec![first];
    while operands.len() < function.arity() - usize::from(function == F::Select) {
        operands.push(beside(draft, first, dtype, choices)?);
    }
    if function == F::Select {
        operands.insert(0, beside(draft, first, DType::Bool, choices)?);
    }
    if matches!(function, F::ShiftLeft | F::ShiftRight) {
        let most = draft.number(8.0 * dtype.bytes() as f64 - 1.0, operands[1]);
        operands[1] = draft.b.apply(F::And, &[operands[1], most]);
    } else if dtype.is_float() && !choices.rarely(12) {
        operands = inside_domain(draft, function, operands)?;
    }
    let result = draft.b.map(function, &operands).ok()?;
    if !draft.is_small(&draft.sizes(result)) {
        return None;
    }
    Some(vec![draft.tame(result, choices)])
}

/// A value of a dtype whose shape broadcasts with that of another.
fn beside(draft: &mut Draft, other: ValueId, dtype: DType, choices: &mut Choices<'_>) -> Option<ValueId> {
    let value = draft.pick(choices, |ty| ty.dtype == dtype).or_else(|| draft.values.last().copied())?;
    let value = draft.b.cast(value, dtype);
    let (a, b) = (draft.sizes(other), draft.sizes(value));
    let broadcasts = a.iter().rev().zip(b.iter().rev()).all(|(a, b)| a == b || *a == 1 || *b == 1);
    if broadcasts {
        return Some(value);
    }
    let wanted = draft.b.type_of(other).with_dtype(dtype);
    draft.fit(value, &wanted)
}

/// Operands for which a float function has a value of moderate size.
fn inside_domain(draft: &mut Draft, function: F, mut operands: Vec<ValueId>) -> Option<Vec<ValueId>> {
    let positive = |draft: &mut Draft, value: ValueId, least: f64| {
        let least = draft.number(least, value);
        let size = draft.b.apply(F::Abs, &[value]);
        draft.b.apply(F::Add, &[size, least])
    };
    match function {
        F::Log | F::Log1p | F::Sqrt | F::Rsqrt => operands[0] = positive(draft, operands[0], 0.1),
        F::Div | F::Mod => operands[1] = positive(draft, operands[1], 0.5),
        F::Pow => {
            operands[0] = positive(draft, operands[0], 0.3);
            operands[1] = draft.b.apply(F::Tanh, &[operands[1]]);
        }
        F::Exp | F::Expm1 | F::Tan => operands[0] = draft.b.apply(F::Tanh, &[operands[0]]),
        _ => {}
    }
    Some(operands)
}
