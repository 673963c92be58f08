//! The loop IR: kernels of loop nests with vector bodies of abstract width, and the program that calls them ([`steps`]).
//!
//! A [`Kernel`] is a function from buffers to buffers. Its [`Block`]s are straight-line SSA; loops are
//! instructions with blocks of their own. Values are scalars outside `Lanes`/`Fold`/epilogues and *lanes* inside:
//! one element per iteration of the vector variable, at whatever width the backend has. Addresses are affine in
//! the loop variables. Results never depend on the width: lanes are independent, `Fold` has 16 fixed lanes and
//! a fixed tree, contractions add in the order of k, in blocks ([`sums`]).

use super::scalar::ScalarFunction;
use super::types::DType;

pub mod build;
pub mod cost;
pub mod interpret;
pub mod steps;
pub mod sums;
pub mod text;
pub mod verify;

pub use steps::{Call, Repeat, Section, Step};
pub use sums::Cut;

/// A buffer parameter of a kernel, by position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BufferId(pub u32);

/// A loop variable of a kernel. Counts from 0 to its extent by 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LoopVar(pub u32);

/// An SSA value of a kernel; its dtype is `Kernel::values[id]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value(pub u32);

/// `constant + Σ coefficient · variable`, counted in elements.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Affine {
    pub constant: i64,
    /// Variables ascending, no zero coefficient.
    pub terms: Vec<(LoopVar, i64)>,
}

/// How a kernel uses a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BufferUse {
    Read,
    Write,
    /// Read and written at the same addresses (an in-place update).
    Update,
}

impl BufferUse {
    /// Whether the kernel stores to the buffer.
    pub fn writes(self) -> bool {
        self != BufferUse::Read
    }
}

/// A buffer parameter: a row-major array of `elements` elements.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BufferParameter {
    pub name: String,
    pub dtype: DType,
    pub elements: u64,
    pub usage: BufferUse,
}

/// The outermost loop of a kernel where it may be cut into chunks for threads.
///
/// Invariant: no two iterations write the same element, so results do not depend on the cut.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ParallelLoop {
    pub var: LoopVar,
    pub extent: u64,
    /// Iterations of one chunk, from the shapes alone.
    pub grain: u64,
    /// Whether a range of iterations is gone through from its end down to its beginning.
    pub reverse: bool,
}

/// A function from buffers to buffers.
///
/// Calls of the same content share one kernel. A name says what the kernel does, not where, and nothing depends on it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Kernel {
    pub name: String,
    pub buffers: Vec<BufferParameter>,
    /// If present, `body` runs once for each value of its variable; else once.
    pub parallel: Option<ParallelLoop>,
    pub body: Block,
    /// The dtype of each [`Value`].
    pub values: Vec<DType>,
    /// The number of loop variables.
    pub variables: u32,
}

impl Kernel {
    /// The same kernel under another name.
    pub fn named(&self, name: &str) -> Kernel {
        Kernel { name: name.to_string(), ..self.clone() }
    }

    /// Whether another kernel is the same but for its name.
    pub fn computes_as(&self, other: &Kernel) -> bool {
        let Kernel { name: _, buffers, parallel, body, values, variables } = self;
        *buffers == other.buffers
            && *parallel == other.parallel
            && *body == other.body
            && *values == other.values
            && *variables == other.variables
    }
}

/// Straight-line instructions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Block {
    pub instructions: Vec<Instruction>,
}

/// A constant of some dtype, as the bits of its `f64` value (exact for every dtype but large i64).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConstantBits(pub u64);

/// A loop-carried value: `parameter` is `initial` in the first round and the last round's `next` after that;
/// `result` is its value after the last round.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Carried {
    pub initial: Value,
    pub parameter: Value,
    pub next: Value,
    pub result: Value,
}

/// One accumulator of a [`Instruction::Fold`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Accumulator {
    /// The neutral element.
    pub initial: ConstantBits,
    /// The lanes value computed by the body in each round.
    pub element: Value,
    /// The two parameters of `merge`: what is there, and what comes.
    pub left: Value,
    pub right: Value,
    /// The value `merge` computes.
    pub merged: Value,
    /// The scalar after all rounds.
    pub result: Value,
}

/// One instruction.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Instruction {
    Constant {
        result: Value,
        value: ConstantBits,
    },
    /// The `i32` value of an affine expression of loop variables.
    Index {
        result: Value,
        index: Affine,
    },
    /// A scalar function; `Fma`, shifts and the like are in the same table. The dtype of the operands decides which.
    Map {
        result: Value,
        function: ScalarFunction,
        operands: Vec<Value>,
    },
    /// The value as another dtype: float to int truncates toward zero and saturates (NaN to 0), int to narrower int wraps, to bool is `!= 0`.
    /// `f16` and `bf16` are converted through `f32`; kernels move them (load, store, select) and never compute with them.
    Convert {
        result: Value,
        operand: Value,
    },
    /// The same bits as another dtype of the same size.
    Bitcast {
        result: Value,
        operand: Value,
    },
    /// One of four constants, by the last two bits of an `i32`: a table that is in a register.
    OneOf {
        result: Value,
        index: Value,
        table: [ConstantBits; 4],
    },
    Load {
        result: Value,
        buffer: BufferId,
        address: Affine,
    },
    /// Loads at `address + index · stride`, `index` an `i32` value (a gather).
    ///
    /// The index is in `0..extent`: the code before clamps it, for no backend looks at it. So what may be read is known, and
    /// the verifier holds it against the buffer.
    LoadAt {
        result: Value,
        buffer: BufferId,
        address: Affine,
        index: Value,
        stride: i64,
        extent: u64,
    },
    Store {
        buffer: BufferId,
        address: Affine,
        value: Value,
    },
    /// Stores at `address + index · stride` (a scatter); the index is in `0..extent` as in [`Instruction::LoadAt`].
    ///
    /// Rounds of a vector loop and of the parallel loop store apart whatever the index: their variable is in `address`.
    StoreAt {
        buffer: BufferId,
        address: Affine,
        index: Value,
        stride: i64,
        extent: u64,
        value: Value,
    },
    /// `body` for `var` in `0..extent`, in order.
    For {
        var: LoopVar,
        extent: u64,
        carried: Vec<Carried>,
        body: Block,
    },
    /// `body` for `var` in `0..extent`, rounds independent, so at any vector width. May hold `For`, no vector loop.
    Lanes {
        var: LoopVar,
        extent: u64,
        body: Block,
    },
    /// A reduction: element `i` of `body` goes to lane `i % 16` by `merge`, in order of `i / 16`; then the lanes are merged
    /// 8+8, 4+4, 2+2, 1+1 (lane `l` with lane `l + half`).
    Fold {
        var: LoopVar,
        extent: u64,
        body: Block,
        accumulators: Vec<Accumulator>,
        merge: Block,
    },
    Contract(Box<Contract>),
    Tile(Box<Tile>),
}

/// A matrix operand addressed in place: element (row, column) at `address + row · row_stride + column · column_stride`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Matrix {
    pub buffer: BufferId,
    pub address: Affine,
    pub row_stride: i64,
    pub column_stride: i64,
}

/// A summed axis around the depth of a product: in each of `count` rounds the operands start so much further on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Round {
    pub count: u64,
    pub left_stride: i64,
    pub right_stride: i64,
}

/// A whole product before tiling: for each (i, j) of `rows` × `columns`,
/// `accumulator = Σ_r Σ_k left_r[i, k] · right_r[k, j]`, fused multiply-adds in the order of the rounds r and in each in the order of k,
/// in blocks (see [`sums`]); then `epilogue` with `row` = i and lanes along `column` = j.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Contract {
    pub row: LoopVar,
    pub rows: u64,
    pub column: LoopVar,
    pub columns: u64,
    /// The summed axes but the innermost, outermost first.
    pub rounds: Vec<Round>,
    pub depth: u64,
    /// Where the sum is cut into blocks, each summed from 0 and then added to the total.
    pub cut: Option<Cut>,
    pub left: Matrix,
    pub right: Matrix,
    /// The lanes value with which the epilogue starts.
    pub accumulator: Value,
    pub epilogue: Block,
}

/// The batch-reduce contraction on one register tile:
/// `acc[i, j] = Σ_r Σ_k left_r[i, k] · right_r[k, j]` for `i < rows`, `j < columns`, then `epilogue` for each row.
///
/// `right.column_stride` is 1. In the epilogue `row` and `column` are the place *within the tile*; addresses
/// there add the tile's origin by the loop variables around. Columns `stored_columns..columns` are computed (their operands are
/// readable padding) and not seen by the epilogue.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tile {
    pub row: LoopVar,
    pub rows: u64,
    pub column: LoopVar,
    pub columns: u64,
    pub stored_columns: u64,
    /// The batch-reduce rounds, outermost first.
    pub rounds: Vec<Round>,
    pub depth: u64,
    /// Where the sum is cut into blocks, each summed from 0 and then added to the total.
    pub cut: Option<Cut>,
    pub left: Matrix,
    pub right: Matrix,
    pub accumulator: Value,
    pub epilogue: Block,
}

impl Contract {
    /// The number of products summed for one element.
    pub fn steps(&self) -> u64 {
        steps_of(&self.rounds, self.depth)
    }
}

impl Tile {
    /// The number of products summed for one element.
    pub fn steps(&self) -> u64 {
        steps_of(&self.rounds, self.depth)
    }
}

fn steps_of(rounds: &[Round], depth: u64) -> u64 {
    rounds.iter().fold(depth, |product, round| product.saturating_mul(round.count))
}

/// Where a buffer of a program lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Pointer number `index` of the call: the function's arguments first, then its results that are no updates.
    Argument { index: u32 },
    /// In the workspace; the offset in bytes is known once memory is planned.
    Arena { offset: Option<u64> },
    /// Read-only data, little-endian.
    Constant { bytes: Vec<u8> },
}

/// A buffer of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buffer {
    pub name: String,
    pub dtype: DType,
    pub elements: u64,
    pub place: Place,
}

impl Buffer {
    /// The number of the argument that it is, if it is one.
    pub fn argument(&self) -> Option<u32> {
        match self.place {
            Place::Argument { index } => Some(index),
            Place::Arena { .. } | Place::Constant { .. } => None,
        }
    }
}

/// One entry point as steps in order.
///
/// Invariant: a section of a buffer that a call writes meets no other section of that buffer in the same call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    pub name: String,
    pub buffers: Vec<Buffer>,
    pub kernels: Vec<Kernel>,
    pub steps: Vec<Step>,
    /// The number of pointers a call passes.
    pub pointers: u32,
    /// Bytes of workspace; 0 until memory is planned. Offsets are multiples of 64.
    pub arena_bytes: u64,
}
