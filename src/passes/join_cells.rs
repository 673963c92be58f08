//! Joins the product of a recurrent cell with the gates that follow it, unit by unit.
//!
//! The gates of a cell are several matrices side by side, of whose columns a unit takes one each. A product of few rows is cut for threads by panels of
//! columns, and its result is so small that what follows is not cut at all: one core computes it of what others have just written, and they wait. So in each of some rounds the one kernel
//! takes the panels of some units in all matrices, and then what follows for these units: threads meet once in a round of the recurrence, and what a core reads
//! it wrote. Each element is computed as before, so results are the same bits.
//!
//! With many rows, each of a page, to go through them by a few columns takes longer than that gains (T4 in docs/performance.md).

use super::LoopPass;
use super::copied::call_of;
use super::join_kernels::Together;
use crate::ir::loops::steps::remove_uncalled;
use crate::ir::loops::{
    Affine, Block, BufferId, Call, Instruction, Kernel, LoopVar, ParallelLoop, Program, Repeat, Step,
};
use crate::passes::lower::accesses::Accesses;
use crate::passes::lower::finish::{Draft, is_repeatable};
use crate::passes::lower::visit::each_affine;

/// The pass.
pub const PASS: LoopPass = LoopPass {
    name: "join_cells",
    doc: "joins the products and the gates of recurrent cells",
    run: |program, _| Ok(join_cells(program)),
};

/// Fewer rounds than this would leave threads without work.
const FEWEST_ROUNDS: i64 = 4;

/// With more rows the gates' kernel goes over them row by row.
const MOST_ROWS: u64 = 4;

/// The program with one kernel for each product in a repeat and the gates behind it.
pub fn join_cells(mut program: Program) -> Program {
    let mut steps = std::mem::take(&mut program.steps);
    for step in &mut steps {
        if let Step::Repeat(repeat) = step {
            in_repeat(&mut program, repeat);
        }
    }
    program.steps = steps;
    remove_uncalled(&mut program);
    program
}

fn in_repeat(program: &mut Program, repeat: &mut Repeat) {
    for step in &mut repeat.steps {
        if let Step::Repeat(inner) = step {
            in_repeat(program, inner);
        }
    }
    let mut at = 1;
    while at < repeat.steps.len() {
        match Pair::of(program, &repeat.steps[at - 1], &repeat.steps[at]).and_then(Pair::joined) {
            Some(draft) => {
                repeat.steps[at - 1] = Step::Call(call_of(program, draft));
                repeat.steps.remove(at);
            }
            None => at += 1,
        }
    }
}

/// A product and what follows it, each in as many rounds that go hand in hand.
struct Pair {
    name: String,
    product: Draft,
    follower: Draft,
    rounds: u64,
}

impl Pair {
    fn of(program: &Program, product: &Step, follower: &Step) -> Option<Pair> {
        let (Step::Call(product), Step::Call(follower)) = (product, follower) else { return None };
        let [first, second] = [product, follower].map(|call| &program.kernels[call.kernel as usize]);
        let panels = Panels::of(first)?;
        let section = &product.buffers[panels.target.0 as usize];
        let read = follower.buffers.iter().position(|other| other == section)?;
        let lanes = Lanes::of(second).filter(|lanes| lanes.are_units(second, BufferId(read as u32), &panels))?;
        let rounds = lanes.extent / panels.width;
        if rounds < FEWEST_ROUNDS {
            return None;
        }
        let draft = |kernel: Kernel, call: &Call| Draft { kernel, buffers: call.buffers.clone() };
        Some(Pair {
            name: format!("{}+{}", first.name, second.name),
            product: draft(panels.by_units(first.clone(), rounds), product),
            follower: draft(lanes.by_units(second.clone(), panels.width), follower),
            rounds: rounds as u64,
        })
    }

    /// Both as one kernel, if none of its rounds has to do with another.
    fn joined(self) -> Option<Draft> {
        let [first, second] = [&self.product, &self.follower];
        let together = Together::of((&first.kernel, &first.buffers), (&second.kernel, &second.buffers))?;
        let Draft { kernel, buffers } = together.joined(&first.kernel, &second.kernel, self.rounds)?;
        Some(Draft { kernel: kernel.named(&self.name), buffers })
    }
}

/// A product that is cut for threads by panels of columns.
struct Panels {
    var: LoopVar,
    /// Columns of a panel and of the whole.
    width: i64,
    columns: i64,
    target: BufferId,
}

impl Panels {
    fn of(kernel: &Kernel) -> Option<Panels> {
        let ParallelLoop { var, extent, .. } = *kernel.parallel.as_ref()?;
        let accesses = Accesses::of(&kernel.body);
        let written: Vec<_> = accesses.of_buffer.iter().filter(|(_, uses)| uses.written).collect();
        let [(target, uses)] = written[..] else { return None };
        let width = uses.addresses.first()?.coefficient(var);
        let columns = width.checked_mul(i64::try_from(extent).ok()?)?;
        let in_panels = width > 0 && uses.addresses.iter().all(|address| address.coefficient(var) == width);
        (in_panels && has_tile(&kernel.body)).then_some(Panels { var, width, columns, target: *target })
    }

    /// The kernel in `rounds` rounds of the panels of some units each: of every matrix of units, of which there are some side by side, one.
    fn by_units(&self, mut kernel: Kernel, rounds: i64) -> Kernel {
        let matrices = self.columns / self.width / rounds;
        if matrices > 1 {
            let matrix = LoopVar(kernel.variables);
            kernel.variables += 1;
            let mut body = std::mem::take(&mut kernel.body);
            each_affine(&mut body, |affine| {
                let step = affine.coefficient(self.var);
                *affine = std::mem::take(affine).plus(matrix, step * rounds);
            });
            kernel.body = one_loop(matrix, matrices as u64, body);
        }
        Kernel { parallel: Some(ParallelLoop { var: self.var, extent: rounds as u64, grain: 1 }), ..kernel }
    }
}

fn one_loop(var: LoopVar, extent: u64, body: Block) -> Block {
    Block { instructions: vec![Instruction::For { var, extent, carried: Vec::new(), body }] }
}

fn has_tile(block: &Block) -> bool {
    block.instructions.iter().any(|instruction| match instruction {
        Instruction::Tile(_) => true,
        Instruction::For { body, .. } => has_tile(body),
        _ => false,
    })
}

/// The one loop over lanes in a kernel that does nothing beside it.
struct Lanes {
    var: LoopVar,
    extent: i64,
    /// How often the loops around it run it.
    rows: u64,
}

impl Lanes {
    fn of(kernel: &Kernel) -> Option<Lanes> {
        let mut block = &kernel.body;
        let mut rows = kernel.parallel.as_ref().map_or(1, |p| p.extent);
        loop {
            let (last, before) = block.instructions.split_last()?;
            match last {
                _ if !before.iter().all(is_repeatable) => return None,
                Instruction::For { extent, carried, body, .. } if carried.is_empty() => {
                    rows = rows.saturating_mul(*extent);
                    block = body;
                }
                Instruction::Lanes { var, extent, body } => {
                    let is_straight = |i: &Instruction| is_repeatable(i) || matches!(i, Instruction::Store { .. });
                    let extent = i64::try_from(*extent).ok()?;
                    return body.instructions.iter().all(is_straight).then_some(Lanes { var: *var, extent, rows });
                }
                _ => return None,
            }
        }
    }

    /// Whether each lane reads the elements of one unit of a product's matrices, which are all there is of it.
    fn are_units(&self, kernel: &Kernel, read: BufferId, panels: &Panels) -> bool {
        let accesses = Accesses::of(&kernel.body);
        let Some(uses) = accesses.of_buffer.get(&read) else { return false };
        let is_unit = |address: &Affine| address.coefficient(self.var) == 1 && address.constant % self.extent == 0;
        let divides = |whole: i64, part: i64| part > 0 && whole % part == 0;
        self.rows <= MOST_ROWS
            && divides(panels.columns, self.extent)
            && divides(self.extent, panels.width)
            && !uses.written
            && uses.addresses.iter().all(is_unit)
    }

    /// The kernel in rounds of `width` units.
    fn by_units(&self, mut kernel: Kernel, width: i64) -> Kernel {
        let round = LoopVar(kernel.variables);
        kernel.variables += 1;
        let mut body = std::mem::take(&mut kernel.body);
        self.narrow(&mut body, round, width);
        kernel.body = match &kernel.parallel {
            Some(rows) => one_loop(rows.var, rows.extent, body),
            None => body,
        };
        let extent = (self.extent / width) as u64;
        Kernel { parallel: Some(ParallelLoop { var: round, extent, grain: 1 }), ..kernel }
    }

    /// Makes of the loop that of one round.
    fn narrow(&self, block: &mut Block, round: LoopVar, width: i64) {
        for instruction in &mut block.instructions {
            match instruction {
                Instruction::For { body, .. } => self.narrow(body, round, width),
                Instruction::Lanes { extent, body, .. } => {
                    *extent = width as u64;
                    each_affine(body, |affine| {
                        let step = affine.coefficient(self.var);
                        *affine = std::mem::take(affine).plus(round, step * width);
                    });
                }
                _ => {}
            }
        }
    }
}
