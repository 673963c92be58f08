//! `map`: a scalar function applied elementwise to operands of one shape.
//!
//! Broadcasting is an op of its own; [`GraphBuilder::map`] inserts it. Under their own names the language sees all
//! functions of the table but the low-level ones; `max` and `min` also reduce, so they are primitives of `reduce`.

use super::*;
use crate::ir::scalar::derivative::Pullback;
use crate::ir::scalar::{Rule, ScalarFunction};
use crate::ir::types::DType;

/// One scalar function, elementwise.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Map {
    pub function: ScalarFunction,
}

/// Whether the function takes operands of these dtypes.
///
/// # Errors
/// A sentence that says what it takes and what it was given.
pub fn check_dtypes(function: ScalarFunction, dtypes: &[DType]) -> Result<(), TypeError> {
    if dtypes.len() != function.arity() {
        let (name, arity) = (function.name(), function.arity());
        return Err(TypeError::new(format!("`{name}` takes {arity} operands, found {}", dtypes.len())));
    }
    if function.accepts(dtypes) {
        return Ok(());
    }
    let compared = if function.rule() == Rule::Select { &dtypes[1..] } else { dtypes };
    let offset = dtypes.len() - compared.len();
    if let Some(other) = (1..compared.len()).find(|i| compared[*i] != compared[0]) {
        let (a, b) = (compared[0], compared[other]);
        return Err(TypeError::new(format!("`{}` of {a} and {b}: the dtypes differ", function.name()))
            .note(format!("convert one of them, for example with `{a}(..)`"))
            .at([offset, offset + other]));
    }
    let (name, found) = (function.name(), dtypes[0]);
    Err(match function.rule() {
        Rule::Float => TypeError::new(format!("`{name}` takes a float tensor, found {found}"))
            .note("convert it first, for example with `f32(x)`"),
        Rule::Same => TypeError::new(format!("`{name}` takes numbers, found {found}"))
            .note("convert it first, for example with `f32(x)`"),
        Rule::Logic => TypeError::new(format!("`{name}` takes bool or integer tensors, found {found}")),
        Rule::Select => TypeError::new(format!("the condition of `{name}` is a bool tensor, found {found}")),
        Rule::Integer | Rule::Compare => TypeError::new(format!("`{name}` takes integer tensors, found {found}")),
    }
    .at([0]))
}

impl OpDef for Map {
    const DOC: OpDoc = OpDoc {
        name: "map",
        summary: "a scalar function applied elementwise",
        shapes: "a[s], b[s], .. -> [s]",
        equation: "y[i] = f(a[i], b[i], ..)",
        derivative: "da = dy * f'(a, b, ..), and so on for each float operand",
        dtypes: "as the function says (see the functions below); comparisons give bool",
        error: "that of the function (see the functions below)",
    };

    fn attributes(&self) -> Attributes {
        Attributes::new([("function", Attribute::Name(self.function.name().into()))])
    }

    fn from_attributes(attributes: &Attributes) -> Result<Self, String> {
        let name = attributes.name("function")?;
        let function = ScalarFunction::from_name(&name).ok_or_else(|| format!("there is no function `{name}`"))?;
        Ok(Map { function })
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let dtypes: Vec<DType> = inputs.iter().map(|t| t.dtype).collect();
        check_dtypes(self.function, &dtypes)?;
        if let Some(other) = (1..inputs.len()).find(|i| inputs[*i].shape != inputs[0].shape) {
            let (a, b) = (inputs[0], inputs[other]);
            return Err(
                TypeError::new(format!("`{}` of {a} and {b}: the shapes differ", self.function.name())).at([0, other])
            );
        }
        Ok(vec![inputs[0].with_dtype(self.function.result_dtype(&dtypes))])
    }

    fn eval(&self, inputs: &[&Tensor], outputs: &[TensorType]) -> Vec<Tensor> {
        let dtype = inputs[inputs.len() - 1].ty.dtype;
        let mut operands = vec![0.0; inputs.len()];
        let data = (0..inputs[0].data.len()).map(|i| {
            operands.iter_mut().zip(inputs).for_each(|(o, t)| *o = t.data[i]);
            self.function.eval(dtype, &operands)
        });
        vec![Tensor::new(outputs[0].clone(), data.collect())]
    }

    fn vjp(&self, cx: &mut VjpContext<'_>) -> Result<Vec<Option<ValueId>>, NotDifferentiable> {
        let gradient = cx.gradient();
        let (operands, wanted) = (cx.inputs, cx.wanted);
        let mut pullback = Pullback { builder: cx.builder, operands, result: cx.outputs[0], gradient };
        Ok((0..operands.len()).map(|i| if wanted[i] { pullback.operand(self.function, i) } else { None }).collect())
    }

    fn access(&self, inputs: &[TensorType], outputs: &[TensorType]) -> Access {
        Access::Pointwise(vec![IndexMap::identity(outputs[0].rank()); inputs.len()])
    }

    fn lower(&self, cx: &mut LowerContext<'_, '_>) -> Vec<Value> {
        let operands: Vec<Value> = (0..cx.inputs.len()).map(|i| cx.element(i)).collect();
        vec![cx.block.map(self.function, &operands)]
    }

    fn primitives() -> Vec<Primitive> {
        let mut all = functions();
        all.push(Primitive {
            name: "floor_div",
            doc: "the quotient rounded down, as in NumPy: floor(a / b), for floats of the exact quotient; x // 0 = 0 for integers",
            parameters: TWO,
            rest: false,
            draws: false,
            build: floor_div,
        });
        all
    }

    fn samples() -> Vec<Sample<Self>> {
        let mut all: Vec<Sample<Self>> = ScalarFunction::ALL.iter().flat_map(|f| samples_of(*f)).collect();
        for shape in [&[][..], &[1], &[0], &[3, 5], &[2, 0, 3], &[2, 3, 17]] {
            all.push(sample_of(ScalarFunction::Add, shape, 7));
            all.push(sample_of(ScalarFunction::Tanh, shape, 8));
        }
        all
    }
}

const ONE: &[Parameter] = &[Parameter::required("x", "a tensor")];
const TWO: &[Parameter] =
    &[Parameter::required("a", "a tensor or a number"), Parameter::required("b", "a tensor or a number")];
const SELECT: &[Parameter] = &[
    Parameter::required("condition", "a bool tensor"),
    Parameter::required("a", "a tensor or a number"),
    Parameter::required("b", "a tensor or a number"),
];

/// The functions of the table that the language sees, each with a `build` of its own.
fn functions() -> Vec<Primitive> {
    macro_rules! visible {
        ($($function:ident)*) => {
            vec![$(Primitive {
                name: ScalarFunction::$function.name(),
                doc: ScalarFunction::$function.doc(),
                parameters: match ScalarFunction::$function.arity() { 1 => ONE, 2 => TWO, _ => SELECT },
                rest: false,
                draws: false,
                build: |b, a| build(ScalarFunction::$function, b, a),
            },)*]
        };
    }
    visible! {
        Add Sub Mul Div Mod Pow Atan2 Equal NotEqual Less LessEqual Greater GreaterEqual And Or Not Select
        Neg Abs Sign Floor Ceil Round Sqrt Rsqrt Exp Log Log1p Expm1 Sin Cos Tan Atan Tanh Sigmoid Erf
        ShiftLeft ShiftRight
    }
}

fn build(
    function: ScalarFunction,
    b: &mut GraphBuilder,
    arguments: &PrimitiveArguments,
) -> Result<Vec<ValueId>, TypeError> {
    let operands = match function.rule() {
        Rule::Select => {
            let mut all = vec![arguments.tensor(b, 0)?];
            all.extend(arguments.operands(b, 1..3)?);
            all
        }
        _ => arguments.operands(b, 0..function.arity())?,
    };
    let integers = operands.iter().all(|v| b.dtype_of(*v).is_integer());
    match function {
        ScalarFunction::Div if integers => Err(TypeError::new(format!("`/` of {}", b.type_of(operands[0])))
            .note("use `//`, which rounds down, or convert with `f32(x)`")
            .at([0])),
        ScalarFunction::Pow if integers => integer_power(b, operands[0], arguments),
        _ => Ok(vec![b.map(function, &operands)?]),
    }
}

/// An integer tensor to a small power known at compile time, by multiplication.
fn integer_power(
    b: &mut GraphBuilder,
    base: ValueId,
    arguments: &PrimitiveArguments,
) -> Result<Vec<ValueId>, TypeError> {
    const MOST: i64 = 64;
    let exponent = match arguments.get(1) {
        Some(primitive::Argument::Int(d)) => d.constant(),
        _ => None,
    };
    let Some(exponent) = exponent.filter(|e| (0..=MOST).contains(e)) else {
        return Err(TypeError::new(format!("`^` of {}", b.type_of(base)))
            .note(format!(
                "the exponent of an integer tensor is a number from 0 to {MOST}; convert with `f32(x)` for others"
            ))
            .at([0, 1]));
    };
    let mut result = b.constant_like(1.0, base);
    for _ in 0..exponent {
        result = b.map(ScalarFunction::Mul, &[result, base])?;
    }
    Ok(vec![result])
}

fn floor_div(b: &mut GraphBuilder, arguments: &PrimitiveArguments) -> Result<Vec<ValueId>, TypeError> {
    let operands = arguments.operands(b, 0..2)?;
    if b.dtype_of(operands[0]).is_float() {
        let quotient = b.map(ScalarFunction::Div, &operands)?;
        let whole = b.map(ScalarFunction::Floor, &[quotient])?;
        return Ok(vec![floor_exactly(b, operands[0], operands[1], whole)?]);
    }
    let rest = b.map(ScalarFunction::Mod, &operands)?;
    let whole = b.map(ScalarFunction::Sub, &[operands[0], rest])?;
    Ok(vec![b.map(ScalarFunction::Div, &[whole, operands[1]])?])
}

/// The whole quotient of floats, one less where rounding brought `whole = floor(a / b)` up: then b times it is beyond a, and `a mod b` is not
/// near 0. As in NumPy, `1.0 // 0.1` is 9.
fn floor_exactly(b: &mut GraphBuilder, dividend: ValueId, divisor: ValueId, whole: ValueId) -> Result<ValueId, TypeError> {
    let zero = b.constant_like(0.0, whole);
    let one = b.constant_like(1.0, whole);
    let minus = b.map(ScalarFunction::Neg, &[whole])?;
    let rest = b.map(ScalarFunction::Fma, &[minus, divisor, dividend])?;
    let negative = b.map(ScalarFunction::Less, &[divisor, zero])?;
    let above = b.map(ScalarFunction::Greater, &[rest, zero])?;
    let below = b.map(ScalarFunction::Less, &[rest, zero])?;
    let beyond = b.map(ScalarFunction::Select, &[negative, above, below])?;
    let less = b.map(ScalarFunction::Sub, &[whole, one])?;
    b.map(ScalarFunction::Select, &[beyond, less, whole])
}

fn samples_of(function: ScalarFunction) -> Vec<Sample<Map>> {
    vec![sample_of(function, &[37], 1)]
}

fn sample_of(function: ScalarFunction, shape: &[usize], seed: usize) -> Sample<Map> {
    use ScalarFunction as F;
    let operand = |i: usize| match (function, i) {
        (F::Log | F::Log1p | F::Sqrt | F::Rsqrt | F::Pow | F::Div | F::Mod, _) => sample::positive(shape, seed + i),
        (F::And | F::Or | F::Not, _) | (F::Select, 0) => sample::whole(DType::Bool, shape, 0, 2, seed + i),
        (F::ShiftLeft | F::ShiftRight, 1) => sample::whole(DType::U32, shape, 0, 32, seed + i),
        (F::Xor | F::ShiftLeft | F::ShiftRight | F::MulHigh, _) => {
            sample::whole(DType::U32, shape, 0, 1 << 32, seed + i)
        }
        _ => sample::signed(shape, seed + 3 * i),
    };
    Sample { op: Map { function }, inputs: (0..function.arity()).map(operand).collect() }
}
