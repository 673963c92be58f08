//! Products one by one: a list of those of a program, and programs of nothing but one of them, to be measured.

use std::collections::BTreeSet;

use rustc_hash::FxHashMap;

use super::choice::Choice;
use super::tuning::ProductKey;
use super::{Task, Tiler};
use crate::ir::loops::cost::KernelCost;
use crate::ir::loops::steps::each_section;
use crate::ir::loops::{Buffer, Place, Program};
use crate::passes::Limits;

/// A product of a program that is not cut into tiles yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Product {
    pub key: ProductKey,
    /// Its place among the products of the program.
    pub number: usize,
    /// How it may be cut, the usual choice first.
    pub choices: Vec<Choice>,
    /// The work of one call.
    pub cost: KernelCost,
    /// How often a call of the program runs it.
    pub rounds: u64,
}

/// The products that [`tile`](super::tile) would cut, in the order of the text.
pub fn products(program: &Program, limits: &Limits) -> Vec<Product> {
    let mut tiler = Tiler::new(limits, program.buffers.clone(), Task::List(Vec::new()));
    tiler.steps(&program.kernels, program.steps.clone());
    match tiler.task {
        Task::List(products) => products,
        Task::All | Task::One { .. } => unreachable!("a walk keeps its task"),
    }
}

/// One product of a program, with the kernels that pack its operands and the repeats around them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alone {
    pub program: Program,
    /// For each argument the buffer of the whole program that it stands for.
    pub origins: Vec<u32>,
}

/// The product with a number, cut by a choice. What it reads and writes of the whole program are arguments.
pub fn alone(program: &Program, number: usize, choice: Choice, limits: &Limits) -> Alone {
    let mut tiler = Tiler::new(limits, program.buffers.clone(), Task::One { before: Some(number), choice });
    tiler.steps(&program.kernels, program.steps.clone());
    let Tiler { buffers, shared, .. } = tiler;
    let (kernels, steps) = shared.finish();
    let whole = Program { name: program.name.clone(), buffers, kernels, steps, pointers: 0, arena_bytes: 0 };
    with_arguments(whole, program.buffers.len() as u32)
}

/// The program with no buffers but those that it touches, in their order. The first `given` of all are arguments.
fn with_arguments(mut program: Program, given: u32) -> Alone {
    let mut touched = BTreeSet::new();
    each_section(&mut program.steps, &mut |section| {
        touched.insert(section.buffer);
    });
    let numbers: FxHashMap<u32, u32> = touched.iter().copied().zip(0..).collect();
    each_section(&mut program.steps, &mut |section| section.buffer = numbers[&section.buffer]);
    let mut origins = Vec::new();
    let buffer = |number: u32| {
        let mut buffer = program.buffers[number as usize].clone();
        if number < given && !matches!(buffer.place, Place::Constant { .. }) {
            buffer.place = Place::Argument { index: origins.len() as u32 };
            origins.push(number);
        }
        buffer
    };
    let buffers: Vec<Buffer> = touched.into_iter().map(buffer).collect();
    let pointers = origins.len() as u32;
    Alone { program: Program { buffers, pointers, ..program }, origins }
}
