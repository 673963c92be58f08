//! Makes a copy as soon as its source is there, if nothing else reads that any more: the copy takes the place of the source in memory, instead of both waiting for the product that the copy is
//! packed for while its other operand is made.

use super::LoopPass;
use super::plan_memory::is_arena;
use crate::ir::loops::steps::each_section;
use crate::ir::loops::{Block, BufferUse, Call, Instruction, Program, Step};

/// The pass.
pub const PASS: LoopPass = LoopPass {
    name: "copy_early",
    doc: "copies early what the copy alone reads",
    run: |program, _| Ok(copy_early(program)),
};

/// The program with such copies right behind the steps that make what they read.
pub fn copy_early(mut program: Program) -> Program {
    let mut order: Vec<usize> = (0..program.steps.len()).collect();
    let lives = lives(&program);
    for at in 0..program.steps.len() {
        let Some((source, copy)) = copied(&program, &program.steps[at]) else { continue };
        let touched = [source, copy].map(|buffer| lives[buffer as usize].as_slice());
        let ([.., before, last], [first, ..]) = (touched[0], touched[1]) else { continue };
        if *last == at && *first == at {
            let from = order.iter().position(|step| *step == at).expect("every step has a place");
            order.remove(from);
            let behind = order.iter().position(|step| step == before).expect("every step has a place");
            order.insert(behind + 1, at);
        }
    }
    let mut steps: Vec<Option<Step>> = std::mem::take(&mut program.steps).into_iter().map(Some).collect();
    program.steps = order.into_iter().map(|at| steps[at].take().expect("each step has one place")).collect();
    program
}

/// The steps that touch each buffer, in order.
fn lives(program: &Program) -> Vec<Vec<usize>> {
    let mut lives = vec![Vec::new(); program.buffers.len()];
    for (at, step) in program.steps.iter().enumerate() {
        each_section(&mut [step.clone()], &mut |section| {
            let life: &mut Vec<usize> = &mut lives[section.buffer as usize];
            if life.last() != Some(&at) {
                life.push(at);
            }
        });
    }
    lives
}

/// The two buffers in the workspace of a step that copies one to another that is no larger.
fn copied(program: &Program, step: &Step) -> Option<(u32, u32)> {
    let Step::Call(Call { kernel, buffers }) = step else { return None };
    let [source, copy] = buffers.as_slice() else { return None };
    let kernel = &program.kernels[*kernel as usize];
    let [from, to] = [source, copy].map(|section| &program.buffers[section.buffer as usize]);
    let in_order = kernel.buffers[0].usage == BufferUse::Read && kernel.buffers[1].usage == BufferUse::Write;
    let no_larger = to.elements * to.dtype.bytes() as u64 <= from.elements * from.dtype.bytes() as u64;
    let moves = in_order && no_larger && is_arena(from) && is_arena(to) && only_copies(&kernel.body);
    moves.then_some((source.buffer, copy.buffer))
}

fn only_copies(block: &Block) -> bool {
    block.instructions.iter().all(|instruction| match instruction {
        Instruction::Load { .. } | Instruction::Store { .. } | Instruction::Constant { .. } => true,
        Instruction::For { body, carried, .. } => carried.is_empty() && only_copies(body),
        Instruction::Lanes { body, .. } => only_copies(body),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::loops::text;
    use crate::passes::tests::computes_the_same;

    /// Doubles x twice, once more than is needed, copies the first and adds what the last call says.
    fn program(added: &str) -> Program {
        let text = format!(
            "program p pointers 2 arena 0
  buffer 0 x: f32[16] argument 0
  buffer 1 y: f32[16] argument 1
  buffer 2 a: f32[16] arena
  buffer 3 b: f32[16] arena
  buffer 4 c: f32[16] arena
  kernel double
    read in0: f32[16]
    write out0: f32[16]
    lanes i0 in 0..16 {{
      %0: f32 = load in0[i0]
      %1: f32 = add %0, %0
      store out0[i0] = %1
    }}
  end
  kernel copy
    read in0: f32[16]
    write out0: f32[16]
    lanes i0 in 0..16 {{
      %0: f32 = load in0[i0]
      store out0[i0] = %0
    }}
  end
  kernel add
    read in0: f32[16]
    read in1: f32[16]
    write out0: f32[16]
    lanes i0 in 0..16 {{
      %0: f32 = load in0[i0]
      %1: f32 = load in1[i0]
      %2: f32 = add %0, %1
      store out0[i0] = %2
    }}
  end
  call 0 (0, 2)
  call 0 (0, 3)
  call 1 (2, 4)
  call 2 ({added})
end
"
        );
        text::parse_program(&text).unwrap()
    }

    /// The kernels that run after the pass, in order; results are those from before.
    fn after(added: &str) -> Vec<u32> {
        let program = program(added);
        let changed = copy_early(program.clone());
        computes_the_same(&program, &changed, 16);
        let kernel = |step: &Step| if let Step::Call(call) = step { call.kernel } else { unreachable!() };
        changed.steps.iter().map(kernel).collect()
    }

    #[test]
    fn a_copy_follows_what_makes_its_source() {
        assert_eq!(after("4, 3, 1"), [0, 1, 0, 2]);
    }

    #[test]
    fn a_copy_of_what_is_read_again_stays() {
        assert_eq!(after("4, 2, 1"), [0, 0, 1, 2]);
    }
}
