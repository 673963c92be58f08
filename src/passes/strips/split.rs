//! Takes sums over parts apart, so that each part may be added up as soon as it is there.
//!
//! The gradient of a convolution's kernel is made in parts, of a sample each, say, that another kernel adds up: it goes over all elements, for each over the parts, and then
//! updates a parameter. Split, it is one kernel that sets a total to 0, one that adds parts to it, which can run strip by strip, and one for what follows. The order of
//! every sum is as before.

use std::collections::BTreeMap;

use super::{bytes, called};
use crate::ir::loops::verify::affine_range;
use crate::ir::loops::{
    Affine, Block, Buffer, BufferId, BufferParameter, BufferUse, Call, Carried, Instruction, Kernel, LoopVar, Place,
    Program, Section, Step, Value,
};
use crate::ir::scalar::ScalarFunction;
use crate::passes::lower::accesses::collect_extents;
use crate::passes::lower::finish::{Draft, finish};
use crate::passes::lower::visit::each_affine;
use crate::passes::plan_memory::is_arena;

/// Of fewer parts the total takes as much memory as is saved.
const FEWEST_PARTS: u64 = 4;

/// A program with sums that are split.
pub struct Split {
    pub program: Program,
    /// Kernels that add parts, and their variable that counts these.
    pub parts: BTreeMap<u32, LoopVar>,
    /// For each call that adds parts, by place, the step that it was split from, by its place in the program before.
    pub origins: BTreeMap<usize, usize>,
}

/// The program with the sums of those steps split, by place, that are `wanted`, if their parts have `least` bytes in all.
pub fn split(program: &Program, least: u64, wanted: &dyn Fn(usize) -> bool) -> Split {
    let mut out = Split { program: program.clone(), parts: BTreeMap::new(), origins: BTreeMap::new() };
    out.program.steps.clear();
    for (at, step) in program.steps.iter().enumerate() {
        let found = called(step).filter(|_| wanted(at)).and_then(|call| Some((call, Sum::find(program, call, least)?)));
        match found {
            Some((call, sum)) => out.add(&program.kernels[call.kernel as usize], call, &sum, at),
            None => out.program.steps.push(step.clone()),
        }
    }
    out
}

impl Split {
    fn add(&mut self, kernel: &Kernel, call: &Call, sum: &Sum, origin: usize) {
        let total = Section::whole(self.program.buffers.len() as u32);
        self.program.buffers.push(Buffer {
            name: format!("total_{}", self.program.buffers[call.buffers[sum.parts.0 as usize].buffer as usize].name),
            dtype: kernel.buffers[sum.parts.0 as usize].dtype,
            elements: sum.elements,
            place: Place::Arena { offset: None },
        });
        for (task, stem) in [(Task::Zero, "zero"), (Task::Add, "add"), (Task::Rest, "")] {
            let name = if stem.is_empty() { kernel.name.clone() } else { format!("{stem}_{}", kernel.name) };
            let buffers = call.buffers.iter().cloned().chain([total.clone()]).collect();
            let Draft { kernel, buffers } = finish(Draft { kernel: sum.kernel(kernel, task).named(&name), buffers });
            let number = self.program.kernels.len() as u32;
            if task == Task::Add {
                let parts = sum_loop(&kernel).expect("the kernel was made with one").var;
                self.parts.insert(number, parts);
                self.origins.insert(self.program.steps.len(), origin);
            }
            self.program.kernels.push(kernel);
            self.program.steps.push(Step::Call(Call { kernel: number, buffers }));
        }
    }
}

/// What one of the kernels does that a sum is split into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    Zero,
    Add,
    Rest,
}

/// A sum over parts within a kernel.
struct Sum {
    /// The parameter that holds the parts.
    parts: BufferId,
    /// Elements of a part.
    elements: u64,
    /// The address of an element within a part.
    address: Affine,
}

/// The loop over the parts.
struct SumLoop<'k> {
    var: LoopVar,
    extent: u64,
    carried: &'k Carried,
    body: &'k Block,
}

/// The innermost loop in the vector loop at the end of a kernel, if it carries one value and is the only one but for loops of one round around it.
fn sum_loop(kernel: &Kernel) -> Option<SumLoop<'_>> {
    let Some(Instruction::Lanes { body, .. }) = kernel.body.instructions.last() else { return None };
    only_loop(body)
}

fn only_loop(block: &Block) -> Option<SumLoop<'_>> {
    let mut loops = block.instructions.iter().filter(|i| matches!(i, Instruction::For { .. }));
    let (Some(Instruction::For { var, extent, carried, body }), None) = (loops.next(), loops.next()) else {
        return None;
    };
    match (only_loop(body), carried.as_slice()) {
        (Some(inside), _) => (*extent == 1).then_some(inside),
        (None, [carried]) => Some(SumLoop { var: *var, extent: *extent, carried, body }),
        _ => None,
    }
}

/// The loop of a variable, taken out, and what is to stand in its place.
fn replaced(block: &mut Block, var: LoopVar, new: &Instruction) -> Option<Instruction> {
    block.instructions.iter_mut().find_map(|instruction| match instruction {
        Instruction::For { var: own, .. } if *own == var => Some(std::mem::replace(instruction, new.clone())),
        Instruction::For { body, .. } => replaced(body, var, new),
        _ => None,
    })
}

impl Sum {
    /// The sum in a kernel that adds up a large array of parts from 0, and nothing else in that loop.
    fn find(program: &Program, call: &Call, least: u64) -> Option<Sum> {
        let kernel = &program.kernels[call.kernel as usize];
        let parallel = kernel.parallel.as_ref()?;
        let sum = sum_loop(kernel)?;
        let from_zero = kernel.body.instructions.iter().any(|i| {
            matches!(i, Instruction::Constant { result, value } if *result == sum.carried.initial && f64::from_bits(value.0) == 0.0)
        });
        let [Instruction::Load { result, buffer, address }, Instruction::Map { result: next, function, operands }] =
            sum.body.instructions.as_slice()
        else {
            return None;
        };
        let adds = *function == ScalarFunction::Add
            && *next == sum.carried.next
            && (*operands == [sum.carried.parameter, *result] || *operands == [*result, sum.carried.parameter]);
        let place = &program.buffers[call.buffers[buffer.0 as usize].buffer as usize];
        let elements = u64::try_from(address.coefficient(sum.var)).ok()?;
        let mut extents = BTreeMap::from([(parallel.var, parallel.extent)]);
        collect_extents(&kernel.body, &mut extents);
        let counts = |var: LoopVar| var != sum.var && extents.get(&var) != Some(&1);
        let within = Affine {
            constant: address.constant,
            terms: address.terms.iter().copied().filter(|(var, _)| counts(*var)).collect(),
        };
        let range = affine_range(&within, |var| extents.get(&var).copied())?;
        let in_a_part = range.0 >= 0 && range.1 < i128::from(elements);
        let whole = kernel.buffers[buffer.0 as usize].elements == elements * sum.extent;
        let large = is_arena(place) && bytes(place) >= least && sum.extent >= FEWEST_PARTS;
        (from_zero && adds && in_a_part && whole && large).then_some(Sum { parts: *buffer, elements, address: within })
    }

    /// A kernel with the total as one more parameter.
    fn kernel(&self, kernel: &Kernel, task: Task) -> Kernel {
        let mut kernel = kernel.clone();
        let (total, dtype) = (BufferId(kernel.buffers.len() as u32), kernel.buffers[self.parts.0 as usize].dtype);
        let usage = if task == Task::Zero { BufferUse::Write } else { BufferUse::Update };
        kernel.buffers.push(BufferParameter { name: "total".into(), dtype, elements: self.elements, usage });
        let sum = sum_loop(&kernel).expect("a sum was found in the kernel");
        let (var, initial, result) = (sum.var, sum.carried.initial, sum.carried.result);
        let old = Value(kernel.values.len() as u32);
        kernel.values.push(dtype);
        let kept: Vec<LoopVar> = self.address.terms.iter().map(|term| term.0).chain([var]).collect();
        let load = |result: Value| Instruction::Load { result, buffer: total, address: self.address.clone() };
        let store = |value: Value| Instruction::Store { buffer: total, address: self.address.clone(), value };
        let Some(Instruction::Lanes { body, .. }) = kernel.body.instructions.last_mut() else {
            unreachable!("a sum is in a vector loop")
        };
        match task {
            Task::Zero => body.instructions = vec![store(initial)],
            Task::Add => {
                let mut adding = replaced(body, var, &load(result)).expect("a sum is in the vector loop");
                let Instruction::For { carried, body: parts, .. } = &mut adding else {
                    unreachable!("a sum is a loop")
                };
                carried[0].initial = old;
                // Of a loop of one round around nothing is left.
                each_affine(parts, |affine| affine.terms.retain(|(var, _)| kept.contains(var)));
                body.instructions = vec![load(old), adding, store(result)];
            }
            Task::Rest => {
                replaced(body, var, &load(result)).expect("a sum is in the vector loop");
            }
        }
        kernel
    }
}
