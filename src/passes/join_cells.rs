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
        Kernel {
            parallel: Some(ParallelLoop { var: self.var, extent: rounds as u64, grain: 1, reverse: false }),
            ..kernel
        }
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
        Kernel { parallel: Some(ParallelLoop { var: round, extent, grain: 1, reverse: false }), ..kernel }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::loops::text;
    use crate::passes::tests::computes_the_same;

    /// Three rounds of a cell of 64 units, of two matrices: its product in panels of sixteen columns, then what follows for `rows` rows, which reads the second
    /// matrix from column `second` on. It writes the next state to `next`.
    fn program(rows: u64, second: u64, next: &str) -> Program {
        let elements = 64 * rows;
        let source = format!(
            "program p pointers 2 arena 0
  buffer 0 x: f32[32768] argument 0
  buffer 1 y: f32[32768] argument 1
  buffer 2 h: f32[2048] arena
  buffer 3 gates: f32[1024] arena
  kernel copy
    read in0: f32[128]
    write out0: f32[128]
    lanes i0 in 0..128 {{
      %0: f32 = load in0[i0]
      store out0[i0] = %0
    }}
  end
  kernel product
    read in0: f32[{elements}]
    read in1: f32[32768]
    write out0: f32[{all}]
    parallel i0 in 0..8 grain 1
    tile i1 in 0..{rows}, i2 in 0..16 of 16, depth 1024
      left in0[0] by (64, 0)
      right in1[2048*i0] by (16, 1)
    -> %0: f32 {{
      store out0[16*i0 + 128*i1 + i2] = %0
    }}
  end
  kernel gates
    read in0: f32[{all}]
    write out0: f32[{elements}]
    for i0 in 0..{rows} {{
      lanes i1 in 0..64 {{
        %0: f32 = load in0[128*i0 + i1]
        %1: f32 = load in0[128*i0 + i1 + {second}]
        %2: f32 = sub %0, %1
        %3: f32 = tanh %2
        store out0[64*i0 + i1] = %3
      }}
    }}
  end
  call 0 (0, 2)
  repeat i0 in 0..3 {{
    call 1 (2[512*i0], 0, 3)
    call 2 (3, 2[{next}])
  }}
  call 0 (2[1536], 1)
end
",
            all = 128 * rows,
        );
        text::parse_program(&source).unwrap()
    }

    /// The calls in a round after the pass, which changes no result.
    fn calls(program: &Program) -> usize {
        let changed = join_cells(program.clone());
        computes_the_same(program, &changed, 32768);
        changed.steps.iter().map(|s| if let Step::Repeat(r) = s { r.steps.len() } else { 0 }).sum()
    }

    #[test]
    fn product_and_gates_become_one_kernel_of_rounds_of_units() {
        let program = program(2, 64, "512*i0 + 512");
        assert_eq!(calls(&program), 1);
        let joined = join_cells(program);
        let kernel = joined.kernels.iter().find(|k| k.name == "product+gates").unwrap();
        assert_eq!(kernel.parallel.as_ref().map(|p| p.extent), Some(4));
    }

    #[test]
    fn what_writes_the_state_that_the_product_reads_stays_apart() {
        assert_eq!(calls(&program(2, 64, "512*i0")), 2);
    }

    #[test]
    fn gates_that_cross_units_or_have_many_rows_stay_apart() {
        assert_eq!(calls(&program(2, 32, "512*i0 + 512")), 2);
        assert_eq!(calls(&program(8, 64, "512*i0 + 512")), 2);
    }
}
