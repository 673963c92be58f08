//! What a driver says about the C functions around programs in an object file.
//!
//! An [`EntryWrapper`] becomes `int SYMBOL(arguments...)`. It fills the pointer array of a program from the C arguments and calls
//! it, once, or for a function with a row count `n` as often as `n` takes: the first variant as long as its rows fit, then the
//! next one, each call's pointers advanced by the rows done. It returns 0; 1 if a pointer is null (the workspace only if a program
//! needs one); 2 if some rows were left that no variant covers (none is left where a variant has 1 row).

use crate::ir::types::DType;

/// One C function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryWrapper {
    /// The name that C code calls.
    pub symbol: String,
    /// The C parameters in order.
    pub arguments: Vec<WrapperArgument>,
    /// What happens to the training state first, in order.
    pub prologue: Vec<Prologue>,
    /// The programs to call, by falling number of rows. Without a [`WrapperArgument::Count`] there is exactly one.
    pub variants: Vec<Variant>,
}

/// One C parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrapperArgument {
    /// A pointer: to a block of parameters or states (`row_bytes` 0), or to rows of `row_bytes` bytes of which each call takes the next ones.
    Pointer { row_bytes: u64 },
    /// A number by value (`float`, `double`, or the fixed-width integer of that size). The program gets a pointer to a copy.
    Scalar { dtype: DType },
    /// `size_t n`, the number of rows.
    Count,
    /// `void *workspace`.
    Workspace,
    /// `const nn_rt_pool *pool`, for threaded objects; null or absent runs on the caller.
    Pool,
}

/// A change of a 32-bit counter or a seed in a block, made before any program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prologue {
    /// Adds 1 to the `int32_t` at `offset` of C parameter `argument`.
    Increment { argument: u32, offset: u64 },
    /// Stores `value` in the `int32_t` at `offset` of C parameter `argument`.
    Set { argument: u32, offset: u64, value: i32 },
    /// Stores the scalar C parameter `from` at `offset` of C parameter `to`.
    Copy { from: u32, to: u32, offset: u64 },
}

/// A program, and what it gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    /// The name of the program.
    pub program: String,
    /// Rows that one call covers; at least 1. Ignored without a [`WrapperArgument::Count`].
    pub rows: u64,
    /// Where each of the program's pointers comes from, by index.
    pub pointers: Vec<Source>,
}

/// Where a pointer of a program comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// C parameter `argument` (by position), plus `offset` bytes: a tensor in a block, or with offset 0 the pointer as it is.
    Argument { argument: u32, offset: u64 },
    /// Zeros on the stack: a number that nobody passes, or room for a result that nobody wants. At most 4096 bytes in one wrapper.
    Scratch { bytes: u32 },
}
