//! The primitive tensor operations: one op, one file, one line.
//!
//! Everything the compiler knows of an op is its implementation of [`OpDef`]; the `ops!` list below makes
//! the closed enum [`Op`] from them. Layers, losses and optimizers are not ops: they are `.nn` code.

use super::builder::GraphBuilder;
use super::graph::ValueId;
use super::loops::build::BlockBuilder;
use super::loops::{BufferId, Value};
use super::tensor::Tensor;
use super::types::TensorType;

pub mod attribute;
pub mod nest;
pub mod primitive;
pub mod sample;
pub mod spatial;

pub use attribute::{Attribute, Attributes};
pub use primitive::{Parameter, Primitive, PrimitiveArguments};

/// Why an op does not apply to its operands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TypeError {
    /// One sentence without a full stop, with both shapes where two disagree.
    pub message: String,
    /// Further facts, one a line.
    pub notes: Vec<String>,
    /// The operands that disagree, so that the frontend can say where each came from.
    pub operands: Vec<usize>,
}

impl TypeError {
    /// An error with this message, neither notes nor operands yet.
    pub fn new(message: impl Into<String>) -> TypeError {
        TypeError { message: message.into(), notes: Vec::new(), operands: Vec::new() }
    }

    /// One more fact.
    pub fn note(mut self, text: impl Into<String>) -> TypeError {
        self.notes.push(text.into());
        self
    }

    /// The operands (of a primitive: the parameters) that disagree.
    pub fn at(mut self, operands: impl IntoIterator<Item = usize>) -> TypeError {
        self.operands = operands.into_iter().collect();
        self
    }
}

/// What `nnc doc` and the reference (`docs/ops.md`) say of an op.
#[derive(Clone, Copy, Debug)]
pub struct OpDoc {
    /// The name in the graph's text form, `snake_case`.
    pub name: &'static str,
    /// One line.
    pub summary: &'static str,
    /// The shapes of the operands and of the results, as in `x[.., n], y[n] -> [.., n]`.
    pub shapes: &'static str,
    /// The element of the result, as an equation.
    pub equation: &'static str,
    /// The vector-Jacobian product, as an equation, or why there is none.
    pub derivative: &'static str,
    /// The dtypes that the operands may have, and that of the results.
    pub dtypes: &'static str,
    /// How far results in floats are from the exact ones (`exact` where nothing is rounded), and the order of what is added up.
    pub error: &'static str,
}

/// Which elements of the operands an element of the result reads: all that fusion sees of an op.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// A function argument: nothing to compute.
    Source,
    /// One element of each operand at affine indices; `lower` makes the scalar code, inlined into any consumer.
    Pointwise(Vec<IndexMap>),
    /// The operand's elements in the same row-major order under another shape.
    Reshape,
    /// A fold of operand 0 over `axes` by `monoid`; the result has the remaining axes in order.
    Reduce { axes: Vec<usize>, monoid: super::scalar::Monoid },
    /// A sum of products of operands 0 and 1 over the labels missing in `result`; labels number index axes.
    Contract { left: Vec<u32>, right: Vec<u32>, result: Vec<u32> },
    /// `lower` writes the whole nest from buffer to buffer.
    Opaque,
    /// A loop over a function of its own, which is lowered by the pass; the op's `lower` is not asked.
    Loop,
}

/// For each axis of an operand, the index read for a result element, affine in the result's indices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexMap(pub Vec<IndexExpression>);

/// `constant + Σ coefficient · index[axis]`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct IndexExpression {
    pub constant: i64,
    /// (axis of the result, coefficient), axes ascending, no zero coefficient.
    pub terms: Vec<(usize, i64)>,
}

impl IndexMap {
    /// The identity on `rank` axes.
    pub fn identity(rank: usize) -> IndexMap {
        IndexMap((0..rank).map(IndexExpression::axis).collect())
    }
}

impl IndexExpression {
    /// The index of result axis `axis` itself.
    pub fn axis(axis: usize) -> IndexExpression {
        IndexExpression { constant: 0, terms: vec![(axis, 1)] }
    }

    /// A constant index.
    pub fn constant(constant: i64) -> IndexExpression {
        IndexExpression { constant, terms: Vec::new() }
    }
}

/// What [`OpDef::lower`] works with.
pub struct LowerContext<'a, 'b> {
    /// Where instructions go.
    pub block: &'a mut BlockBuilder<'b>,
    /// Concrete types of the operands.
    pub inputs: &'a [TensorType],
    /// Concrete types of the results.
    pub outputs: &'a [TensorType],
    /// The operands, as elements or as buffers according to the op's [`Access`].
    pub operands: LowerOperands<'a, 'b>,
}

/// A function from an axis of the result to the `i32` index of the element being computed.
pub type IndexOf<'a, 'b> = dyn FnMut(&mut BlockBuilder<'b>, usize) -> Value + 'a;

/// The operands of an op being lowered.
pub enum LowerOperands<'a, 'b> {
    /// For `Pointwise`, `Reduce` and `Contract`: the operand elements read for the element being computed.
    Elements { values: &'a [Value], index: &'a mut IndexOf<'a, 'b> },
    /// For `Opaque`: whole row-major buffers.
    Buffers { inputs: &'a [BufferId], outputs: &'a [BufferId] },
}

impl LowerContext<'_, '_> {
    /// The element of operand `number`.
    pub fn element(&self, number: usize) -> Value {
        match &self.operands {
            LowerOperands::Elements { values, .. } => values[number],
            LowerOperands::Buffers { .. } => unreachable!("an op that lowers elements gets elements"),
        }
    }

    /// The index along `axis` of the result element being computed.
    pub fn index(&mut self, axis: usize) -> Value {
        match &mut self.operands {
            LowerOperands::Elements { index, .. } => index(self.block, axis),
            LowerOperands::Buffers { .. } => unreachable!("an op that lowers elements gets elements"),
        }
    }

    /// The buffers of the operands and of the results.
    pub fn buffers(&self) -> (Vec<BufferId>, Vec<BufferId>) {
        match &self.operands {
            LowerOperands::Buffers { inputs, outputs } => (inputs.to_vec(), outputs.to_vec()),
            LowerOperands::Elements { .. } => unreachable!("an op that lowers buffers gets buffers"),
        }
    }
}

/// What [`OpDef::vjp`] works with: the operands and results of the node, and the gradient of each result.
pub struct VjpContext<'a> {
    pub builder: &'a mut GraphBuilder,
    pub inputs: &'a [ValueId],
    pub outputs: &'a [ValueId],
    /// The gradient of each result; `None` where nothing depends on it.
    pub gradients: &'a [Option<ValueId>],
    /// Which operands a gradient is wanted of; the others may be answered with `None` without work.
    pub wanted: &'a [bool],
}

impl VjpContext<'_> {
    /// The gradient of the one result of the node.
    pub fn gradient(&self) -> ValueId {
        self.gradients[0].expect("a node is asked for its VJP only where a gradient reaches it")
    }
}

/// Why a gradient cannot flow through an op; a sentence without a full stop.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotDifferentiable(pub String);

/// One op applied to concrete operands: what every test and every backend runs.
#[derive(Clone, Debug)]
pub struct Sample<O> {
    pub op: O,
    pub inputs: Vec<Tensor>,
}

/// Everything about one op. No default methods: the compiler is the checklist.
pub trait OpDef: Sized + Clone + std::fmt::Debug + Eq + std::hash::Hash {
    const DOC: OpDoc;
    /// The attributes by name, for printing, parsing and substituting sizes.
    fn attributes(&self) -> Attributes;
    /// The inverse of `attributes`.
    fn from_attributes(attributes: &Attributes) -> Result<Self, String>;
    /// The types of the results, symbolic dims included.
    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, TypeError>;
    /// The definition, naively in f64.
    fn eval(&self, inputs: &[&Tensor], outputs: &[TensorType]) -> Vec<Tensor>;
    /// The gradients of the operands, emitted as ops, so that they are differentiable again.
    fn vjp(&self, cx: &mut VjpContext<'_>) -> Result<Vec<Option<ValueId>>, NotDifferentiable>;
    /// Iteration space and index maps, for concrete types.
    fn access(&self, inputs: &[TensorType], outputs: &[TensorType]) -> Access;
    /// Loop IR: the element (one value a result) for `Pointwise`, the element to be folded for `Reduce`,
    /// nothing for `Source`, `Reshape` and `Contract`, a whole nest (returning no value) for `Opaque`.
    fn lower(&self, cx: &mut LowerContext<'_, '_>) -> Vec<Value>;
    /// The names under which the language reaches the op.
    fn primitives() -> Vec<Primitive>;
    /// Cases for the tests that every op gets.
    fn samples() -> Vec<Sample<Self>>;
}

/// The operands as an array, for `infer`.
///
/// # Errors
/// Their number is another one, which only a text form can bring about.
pub fn expect_operands<'a, const N: usize>(inputs: &[&'a TensorType]) -> Result<[&'a TensorType; N], TypeError> {
    <[&TensorType; N]>::try_from(inputs)
        .map_err(|_| TypeError::new(format!("the op takes {N} operands, found {}", inputs.len())))
}

macro_rules! ops {
    ($($module:ident::$name:ident,)*) => {
        $(pub mod $module;)*

        /// A primitive operation with its attributes.
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub enum Op { $($name($module::$name),)* }

        $(impl From<$module::$name> for Op {
            fn from(op: $module::$name) -> Op { Op::$name(op) }
        })*

        impl Op {
            /// The documentation of every op, in the order of the list.
            pub const DOCS: &'static [OpDoc] = &[$(<$module::$name as OpDef>::DOC,)*];

            /// The documentation of every op with the functions of the language that reach it, in the order of the list.
            pub fn documented() -> Vec<(OpDoc, Vec<Primitive>)> {
                vec![$((<$module::$name as OpDef>::DOC, <$module::$name as OpDef>::primitives()),)*]
            }

            /// The op's documentation.
            pub fn doc(&self) -> OpDoc {
                match self { $(Op::$name(_) => <$module::$name as OpDef>::DOC,)* }
            }

            /// See [`OpDef::attributes`].
            pub fn attributes(&self) -> Attributes {
                match self { $(Op::$name(op) => op.attributes(),)* }
            }

            /// The op called `name` with the given attributes.
            ///
            /// # Errors
            /// A sentence: no such op, or an attribute is missing or of the wrong kind.
            pub fn from_attributes(name: &str, attributes: &Attributes) -> Result<Op, String> {
                $(if name == <$module::$name as OpDef>::DOC.name {
                    return <$module::$name as OpDef>::from_attributes(attributes).map(Op::$name);
                })*
                Err(format!("there is no op `{name}`"))
            }

            /// See [`OpDef::infer`].
            pub fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
                match self { $(Op::$name(op) => op.infer(inputs),)* }
            }

            /// See [`OpDef::eval`].
            pub fn eval(&self, inputs: &[&Tensor], outputs: &[TensorType]) -> Vec<Tensor> {
                match self { $(Op::$name(op) => op.eval(inputs, outputs),)* }
            }

            /// See [`OpDef::vjp`].
            pub fn vjp(&self, cx: &mut VjpContext<'_>) -> Result<Vec<Option<ValueId>>, NotDifferentiable> {
                match self { $(Op::$name(op) => op.vjp(cx),)* }
            }

            /// See [`OpDef::access`].
            pub fn access(&self, inputs: &[TensorType], outputs: &[TensorType]) -> Access {
                match self { $(Op::$name(op) => op.access(inputs, outputs),)* }
            }

            /// See [`OpDef::lower`].
            pub fn lower(&self, cx: &mut LowerContext<'_, '_>) -> Vec<Value> {
                match self { $(Op::$name(op) => op.lower(cx),)* }
            }

            /// The samples of every op.
            pub fn samples() -> Vec<Sample<Op>> {
                let mut all = Vec::new();
                $(all.extend(<$module::$name as OpDef>::samples().into_iter().map(|s| Sample { op: Op::from(s.op), inputs: s.inputs }));)*
                all
            }
        }

        /// Every function of the language that makes nodes, each name once.
        pub fn primitives() -> Vec<Primitive> {
            let mut all = Vec::new();
            $(all.extend(<$module::$name as OpDef>::primitives());)*
            all
        }
    };
}

ops! {
    argument::Argument,
    constant::Constant,
    literal::Literal,
    iota::Iota,
    map::Map,
    cast::Cast,
    broadcast::Broadcast,
    reshape::Reshape,
    transpose::Transpose,
    slice::Slice,
    pad::Pad,
    concat::Concat,
    windows::Windows,
    overlap_add::OverlapAdd,
    reduce::Reduce,
    contract::Contract,
    convolve::Convolve,
    convolve_kernel::ConvolveKernel,
    winograd::Winograd,
    gather::Gather,
    scatter_add::ScatterAdd,
    sort::Sort,
    cumsum::Cumsum,
    recurrence::Recurrence,
    random_bits::RandomBits,
    stop_gradient::StopGradient,
    scan::Scan,
    grad::Grad,
}
