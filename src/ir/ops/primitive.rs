//! How the language reaches an op: a name, a list of arguments, and a function that builds nodes.
//!
//! The frontend knows primitives only through this table; it binds arguments by position and name, and
//! reports a [`TypeError`](super::TypeError) at the call. The getters of [`PrimitiveArguments`] turn bound
//! arguments into what a `build` function wants, or into the error a user understands.

use super::TypeError;
use crate::ir::builder::GraphBuilder;
use crate::ir::dim::Dim;
use crate::ir::graph::ValueId;
use crate::ir::types::DType;

/// A compile-time or run-time value handed to a primitive.
#[derive(Clone, Debug)]
pub enum Argument {
    Tensor(ValueId),
    /// A compile-time integer or a (possibly symbolic) dim.
    Int(Dim),
    Float(f64),
    Bool(bool),
    /// A string, or one of the bare words `valid`, `same`, `full`.
    Text(String),
    DType(DType),
    List(Vec<Argument>),
    /// Left out, as an entry of a list (`x[2:]` has no stop).
    Nothing,
}

impl Argument {
    /// What it is, in a user's words, for errors.
    pub fn kind(&self) -> &'static str {
        match self {
            Argument::Tensor(_) => "a tensor",
            Argument::Int(d) if d.constant().is_none() => "a symbolic dim",
            Argument::Int(_) => "an int",
            Argument::Float(_) => "a float",
            Argument::Bool(_) => "a bool",
            Argument::Text(_) => "a string",
            Argument::DType(_) => "a dtype",
            Argument::List(_) => "a list",
            Argument::Nothing => "nothing",
        }
    }
}

/// One parameter of a primitive as the language sees it.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    pub name: &'static str,
    /// Whether a call must give it.
    pub required: bool,
    /// What it is, in a user's words (`a tensor`, `an int or a list of ints`), for documentation and errors.
    pub kind: &'static str,
}

impl Parameter {
    /// A parameter that a call must give.
    pub const fn required(name: &'static str, kind: &'static str) -> Parameter {
        Parameter { name, required: true, kind }
    }

    /// A parameter that a call may leave out.
    pub const fn optional(name: &'static str, kind: &'static str) -> Parameter {
        Parameter { name, required: false, kind }
    }
}

/// A function of the language that makes nodes.
#[derive(Clone, Debug)]
pub struct Primitive {
    /// The name in the language, or the word behind an operator (`add`, `matmul`, `less`).
    pub name: &'static str,
    /// One line and the equation.
    pub doc: &'static str,
    pub parameters: &'static [Parameter],
    /// Whether the last parameter is a list that takes every further positional argument too (`einsum(spec, a, b)`).
    pub rest: bool,
    /// Whether `build` reads [`PrimitiveArguments::random`], so that callers without draws need no seed.
    pub draws: bool,
    pub build: fn(&mut GraphBuilder, &PrimitiveArguments) -> Result<Vec<ValueId>, TypeError>,
}

/// The arguments that every random draw of a function reads.
#[derive(Clone, Copy, Debug)]
pub struct RandomSource {
    /// `u32[2]`, low word first: the argument with role `Seed`.
    pub seed: ValueId,
    /// `i32[]`: the argument with role `Step`.
    pub step: ValueId,
    /// `i32[]`: the number of the round of the `scan` around the draw, rounds of nested ones counted together; 0 outside.
    pub round: ValueId,
}

/// The arguments of one call, bound to the primitive's parameters by position in [`Primitive::parameters`].
#[derive(Clone, Debug)]
pub struct PrimitiveArguments {
    pub values: Vec<Option<Argument>>,
    /// The name of the draw in (seed, step, round, site, element): the path of the call, unique in the model.
    pub site: String,
    /// Seed and step; must be there if [`Primitive::draws`], else it is not looked at.
    pub random: Option<RandomSource>,
    /// Whether the surrounding entry is the training step.
    pub training: bool,
    /// The dtype of floats that nothing else decides.
    pub float: DType,
}

impl PrimitiveArguments {
    /// Arguments of a call that draws no random numbers.
    pub fn new(values: Vec<Option<Argument>>) -> PrimitiveArguments {
        PrimitiveArguments { values, site: String::new(), random: None, training: false, float: DType::F32 }
    }

    /// The argument bound to parameter `position`, if the call gave it.
    pub fn get(&self, position: usize) -> Option<&Argument> {
        self.values.get(position).and_then(Option::as_ref)
    }

    fn required(&self, position: usize, what: &str) -> Result<&Argument, TypeError> {
        self.get(position).ok_or_else(|| TypeError::new(format!("an argument is missing: {what}")).at([position]))
    }

    fn wrong<T>(&self, position: usize, expected: &str) -> Result<T, TypeError> {
        let found = self.get(position).map_or("nothing", Argument::kind);
        Err(TypeError::new(format!("expected {expected}, found {found}")).at([position]))
    }

    /// A tensor; a number becomes a scalar of the dtype `float`, a bool one of `bool`.
    pub fn tensor(&self, b: &mut GraphBuilder, position: usize) -> Result<ValueId, TypeError> {
        match self.required(position, "a tensor")? {
            Argument::Tensor(v) => Ok(*v),
            Argument::Bool(v) => Ok(b.constant(f64::from(u8::from(*v)), DType::Bool, &[])),
            number @ (Argument::Int(_) | Argument::Float(_)) => number_as(b, number, self.float, position),
            _ => self.wrong(position, "a tensor"),
        }
    }

    /// Operands of an elementwise function: tensors, and literals that take the dtype of the first tensor among them.
    pub fn operands(
        &self,
        b: &mut GraphBuilder,
        positions: impl Iterator<Item = usize> + Clone,
    ) -> Result<Vec<ValueId>, TypeError> {
        let tensors = positions.clone().filter_map(|p| match self.get(p) {
            Some(Argument::Tensor(v)) => Some(*v),
            _ => None,
        });
        let dtype = tensors.map(|v| b.dtype_of(v).storage()).next();
        positions
            .map(|p| match (self.required(p, "a tensor or a number")?, dtype) {
                (Argument::Tensor(v), _) => Ok(*v),
                (Argument::Bool(_), None) => self.tensor(b, p),
                (number, dtype) => number_as(b, number, dtype.unwrap_or(self.float), p),
            })
            .collect()
    }

    /// A list of tensors.
    pub fn tensors(&self, b: &mut GraphBuilder, position: usize) -> Result<Vec<ValueId>, TypeError> {
        match self.required(position, "a list of tensors")? {
            Argument::List(items) => {
                let single =
                    |item: &Argument| PrimitiveArguments { float: self.float, ..Self::new(vec![Some(item.clone())]) };
                items.iter().map(|i| single(i).tensor(b, 0).map_err(|e| e.at([position]))).collect()
            }
            _ => Ok(vec![self.tensor(b, position)?]),
        }
    }

    /// A dim, symbolic or not.
    pub fn dim(&self, position: usize) -> Result<Dim, TypeError> {
        match self.required(position, "an int")? {
            Argument::Int(d) => Ok(d.clone()),
            _ => self.wrong(position, "an int"),
        }
    }

    /// A list of dims; one int counts as a list of one.
    pub fn dims(&self, position: usize) -> Result<Vec<Dim>, TypeError> {
        match self.required(position, "a list of ints")? {
            Argument::Int(d) => Ok(vec![d.clone()]),
            Argument::List(items) => {
                items
                    .iter()
                    .map(|item| match item {
                        Argument::Int(d) => Ok(d.clone()),
                        other => Err(TypeError::new(format!("expected a list of ints, found {} in it", other.kind()))
                            .at([position])),
                    })
                    .collect()
            }
            _ => self.wrong(position, "a list of ints"),
        }
    }

    /// A shape: a list of dims none of which is a negative number.
    pub fn shape(&self, position: usize) -> Result<Vec<Dim>, TypeError> {
        let shape = self.dims(position)?;
        match shape.iter().find(|d| d.constant().is_some_and(|c| c < 0)) {
            Some(d) => Err(TypeError::new(format!("a size cannot be negative, found {d}")).at([position])),
            None => Ok(shape),
        }
    }

    /// An int known at compile time.
    pub fn int(&self, position: usize) -> Result<i64, TypeError> {
        let dim = self.dim(position)?;
        dim.constant()
            .ok_or_else(|| TypeError::new(format!("expected an int, found the symbolic dim {dim}")).at([position]))
    }

    /// A bool, or `default` where the call gave none.
    pub fn bool_or(&self, position: usize, default: bool) -> Result<bool, TypeError> {
        match self.get(position) {
            None => Ok(default),
            Some(Argument::Bool(v)) => Ok(*v),
            Some(_) => self.wrong(position, "true or false"),
        }
    }

    /// A dtype, or `default` where the call gave none.
    pub fn dtype_or(&self, position: usize, default: DType) -> Result<DType, TypeError> {
        match self.get(position) {
            None => Ok(default),
            Some(Argument::DType(v)) => Ok(*v),
            Some(_) => self.wrong(position, "a dtype such as `f32`"),
        }
    }

    /// A string.
    pub fn text(&self, position: usize) -> Result<&str, TypeError> {
        match self.required(position, "a string")? {
            Argument::Text(text) => Ok(text),
            _ => self.wrong(position, "a string"),
        }
    }

    /// An axis of a tensor of `rank` dims, counted from the end if negative.
    pub fn axis(&self, position: usize, rank: usize) -> Result<usize, TypeError> {
        normalize_axis(self.int(position)?, rank).map_err(|e| e.at([position]))
    }

    /// As [`PrimitiveArguments::axis`], with a default given as the language would write it.
    pub fn axis_or(&self, position: usize, default: i64, rank: usize) -> Result<usize, TypeError> {
        match self.get(position) {
            Some(_) => self.axis(position, rank),
            None => normalize_axis(default, rank),
        }
    }

    /// An int or a list of ints as axes of a tensor of `rank` dims, in the order given; `None` if the call gave none.
    pub fn axes(&self, position: usize, rank: usize) -> Result<Option<Vec<usize>>, TypeError> {
        if self.get(position).is_none() {
            return Ok(None);
        }
        let mut axes = Vec::new();
        for dim in self.dims(position)? {
            let axis = dim.constant().ok_or_else(|| TypeError::new("an axis is an int").at([position]))?;
            let axis = normalize_axis(axis, rank).map_err(|e| e.at([position]))?;
            if axes.contains(&axis) {
                return Err(TypeError::new(format!("axis {axis} stands twice in the list")).at([position]));
            }
            axes.push(axis);
        }
        Ok(Some(axes))
    }
}

/// The axis counted from the front.
fn normalize_axis(axis: i64, rank: usize) -> Result<usize, TypeError> {
    let signed = rank as i64;
    let from_front = if axis < 0 { axis.checked_add(signed) } else { Some(axis) };
    match from_front {
        Some(a) if (0..signed).contains(&a) => Ok(a as usize),
        _ if rank == 0 => Err(TypeError::new(format!("axis {axis} of a scalar, which has no axis"))),
        _ => Err(TypeError::new(format!("axis {axis} is out of range for a tensor of {rank} dims")).note(format!(
            "axes go from {} to {}",
            -signed,
            signed - 1
        ))),
    }
}

/// The literal `number` as a scalar of `dtype`.
fn number_as(b: &mut GraphBuilder, number: &Argument, dtype: DType, position: usize) -> Result<ValueId, TypeError> {
    let refuse = |text: String| Err(TypeError::new(text).at([position]));
    match number {
        Argument::Int(dim) if dtype != DType::Bool => match dim.constant() {
            Some(value) if !fits(value, dtype) => refuse(format!("{value} does not fit {dtype}")),
            Some(value) => Ok(b.constant(value as f64, dtype, &[])),
            None => Ok(b.dim_value(dim, dtype)),
        },
        Argument::Float(value) if dtype.is_float() => Ok(b.constant(*value, dtype, &[])),
        Argument::Float(value) if dtype.is_integer() => {
            Err(TypeError::new(format!("the float {value} meets a tensor of {dtype}"))
                .note("a literal takes the tensor's dtype; convert the tensor first, with `f32(x)`")
                .at([position]))
        }
        Argument::Bool(value) if dtype == DType::Bool => Ok(b.constant(f64::from(u8::from(*value)), dtype, &[])),
        other => refuse(format!("{} meets a tensor of {dtype}", other.kind())),
    }
}

/// Whether the integer is a value of `dtype` (every integer is one of a float dtype, rounded).
fn fits(value: i64, dtype: DType) -> bool {
    let bits = 8 * dtype.bytes() as u32;
    match dtype {
        _ if dtype.is_float() || dtype == DType::I64 => true,
        DType::U8 | DType::U16 | DType::U32 => (0..1i64 << bits).contains(&value),
        _ => (-(1i64 << (bits - 1))..1i64 << (bits - 1)).contains(&value),
    }
}

#[cfg(test)]
mod tests;
