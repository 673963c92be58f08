//! Stores at once where it is joined what would be joined next.
//!
//! `concat` copies its operands side by side into one array. Where each of them is made by one kernel and read by nothing else, that kernel stores it
//! where it goes, and nothing is copied: the gradients of an LSTM's gates are columns of one matrix for the products that follow.
//! What is stored, and so every bit of the results, stays the same.

use std::collections::{BTreeMap, BTreeSet};

use super::LoopPass;
use super::copied::{Copied, Moved, call_of};
use super::plan_memory::is_arena;
use crate::ir::loops::steps::{each_section, remove_uncalled};
use crate::ir::loops::{BufferId, BufferUse, Call, Kernel, LoopVar, Program, Section, Step};
use crate::passes::lower::accesses::collect_extents;
use crate::passes::lower::finish::Draft;

/// The pass.
pub const PASS: LoopPass = LoopPass {
    name: "store_joined",
    doc: "stores where it goes what is joined next",
    // The whole target is in memory from the first of its makers on: where memory is short it waits until all is joined.
    run: |program, limits| Ok(if limits.is_short() { program } else { store_joined(program) }),
};

/// The program without those joins that the makers of their operands can write.
pub fn store_joined(mut program: Program) -> Program {
    let joins = program.kernels.iter().map(join_of).collect();
    let mut touches = vec![0; program.buffers.len()];
    each_section(&mut program.steps, &mut |section| touches[section.buffer as usize] += 1);
    let mut steps = std::mem::take(&mut program.steps);
    without_joins(&mut program, &mut steps, &mut Known { joins, touches });
    program.steps = steps;
    remove_uncalled(&mut program);
    program
}

/// What is known of a program while it is changed.
struct Known {
    /// What each kernel joins, if it does nothing else; of new kernels nothing is known.
    joins: Vec<Option<Vec<Copied>>>,
    /// How often each buffer is an operand.
    touches: Vec<usize>,
}

impl Known {
    /// Puts a call in a step's place, or takes the step away.
    fn replace(&mut self, step: &Step, by: Option<&Call>) {
        if let Step::Call(call) = step {
            call.buffers.iter().for_each(|section| self.touches[section.buffer as usize] -= 1);
        }
        by.into_iter().flat_map(|call| &call.buffers).for_each(|section| self.touches[section.buffer as usize] += 1);
    }
}

fn join_of(kernel: &Kernel) -> Option<Vec<Copied>> {
    let copies = Copied::all_of(kernel)?;
    let target = &kernel.buffers[copies.first()?.target.0 as usize];
    // What goes to two places is stored once, and so is copied to one of them at least.
    let sources: BTreeSet<BufferId> = copies.iter().map(|c| c.source).collect();
    let once = copies.len() > 1 && sources.len() == copies.len();
    (once && Copied::are_side_by_side(&copies, target)).then_some(copies)
}

fn without_joins(program: &mut Program, steps: &mut Vec<Step>, known: &mut Known) {
    for step in steps.iter_mut() {
        if let Step::Repeat(repeat) = step {
            without_joins(program, &mut repeat.steps, known);
        }
    }
    let mut at = 0;
    while at < steps.len() {
        match makers(program, steps, at, known) {
            Some(makers) => {
                for (step, draft) in makers {
                    let call = call_of(program, draft);
                    known.replace(&steps[step], Some(&call));
                    steps[step] = Step::Call(call);
                }
                known.replace(&steps.remove(at), None);
            }
            None => at += 1,
        }
    }
}

/// The steps that make what step `at` joins, with their kernels as they store it there; `None` if it joins nothing or they cannot.
fn makers(program: &Program, steps: &[Step], at: usize, known: &Known) -> Option<Vec<(usize, Draft)>> {
    let Step::Call(call) = &steps[at] else { return None };
    let copies = known.joins.get(call.kernel as usize)?.as_ref()?;
    let mut makers: BTreeMap<usize, Draft> = BTreeMap::new();
    for copied in copies {
        let source = &call.buffers[copied.source.0 as usize];
        for step in makers_of(program, &steps[..at], source, known)? {
            let Step::Call(own) = &steps[step] else { return None };
            let whole = || Draft { kernel: program.kernels[own.kernel as usize].clone(), buffers: own.buffers.clone() };
            let draft = makers.remove(&step).unwrap_or_else(whole);
            makers.insert(step, stored_joined(program, draft, source, call, copied)?);
        }
    }
    let target = call.buffers[copies[0].target.0 as usize].buffer;
    let first = *makers.keys().next()?;
    let is_free = !steps[first..at].iter().any(|step| touches(step, target));
    is_free.then(|| makers.into_iter().collect())
}

/// The steps that make an array, if they do nothing but write it and the step behind them is all that reads it.
fn makers_of(program: &Program, before: &[Step], source: &Section, known: &Known) -> Option<Vec<usize>> {
    let number = source.buffer as usize;
    let writes = |step: &usize| match &before[*step] {
        Step::Call(call) => {
            let parameters = program.kernels[call.kernel as usize].buffers.iter().zip(&call.buffers);
            let mut own = parameters.filter(|(_, section)| section.buffer == source.buffer);
            own.all(|(parameter, section)| parameter.usage == BufferUse::Write && section == source)
        }
        _ => false,
    };
    let makers: Vec<usize> = (0..before.len()).filter(|step| touches(&before[*step], source.buffer)).collect();
    let is_between = source.is_at_start()
        && is_arena(&program.buffers[number])
        && known.touches[number] == makers.len() + 1
        && makers.iter().all(writes);
    (is_between && !makers.is_empty()).then_some(makers)
}

fn touches(step: &Step, buffer: u32) -> bool {
    match step {
        Step::Call(call) => call.buffers.iter().any(|section| section.buffer == buffer),
        Step::Index { target, .. } => target.buffer == buffer,
        Step::Repeat(repeat) => repeat.steps.iter().any(|step| touches(step, buffer)),
    }
}

/// A maker that stores what it stored to `source` to the place where `join` copies it.
fn stored_joined(program: &Program, maker: Draft, source: &Section, join: &Call, copied: &Copied) -> Option<Draft> {
    let Draft { mut kernel, mut buffers } = maker;
    let target = &join.buffers[copied.target.0 as usize];
    let own = buffers.iter().position(|section| section == source)?;
    let joined = buffers.iter().position(|section| section == target).unwrap_or_else(|| {
        kernel.buffers.push(program.kernels[join.kernel as usize].buffers[copied.target.0 as usize].clone());
        buffers.push(target.clone());
        buffers.len() - 1
    });
    let mut extents: BTreeMap<LoopVar, u64> = kernel.parallel.iter().map(|p| (p.var, p.extent)).collect();
    collect_extents(&kernel.body, &mut extents);
    let [own, joined] = [own, joined].map(|number| BufferId(number as u32));
    Moved { source: own, target: joined, copied, stays: false }.block(&mut kernel.body, &extents)?;
    Some(Draft { kernel, buffers })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::loops::text;
    use crate::passes::tests::computes_the_same;

    /// Doubles and squares rows of 16 and joins them to rows of 32, in each of two rounds; between, `touched` is written, and `read` at the end.
    fn program(touched: u32, read: u32) -> Program {
        let source = format!(
            "program p pointers 2 arena 0
  buffer 0 x: f32[256] argument 0
  buffer 1 y: f32[256] argument 1
  buffer 2 b: f32[64] arena
  buffer 3 c: f32[64] arena
  buffer 4 d: f32[256] arena
  buffer 5 e: f32[64] arena
  kernel both
    read in0: f32[64]
    write out0: f32[64]
    write out1: f32[64]
    lanes i0 in 0..64 {{
      %0: f32 = load in0[i0]
      %1: f32 = add %0, %0
      %2: f32 = mul %0, %0
      store out0[i0] = %1
      store out1[i0] = %2
    }}
  end
  kernel rows
    read in0: f32[64]
    write out0: f32[64]
    write out1: f32[64]
    for i0 in 0..4 {{
      lanes i1 in 0..16 {{
        %0: f32 = load in0[16*i0 + i1]
        %1: f32 = add %0, %0
        %2: f32 = mul %0, %0
        store out0[16*i0 + i1] = %1
        store out1[16*i0 + i1] = %2
      }}
    }}
  end
  kernel join
    read in0: f32[64]
    read in1: f32[64]
    write out0: f32[128]
    parallel i0 in 0..4 grain 1
    lanes i1 in 0..16 {{
      %0: f32 = load in0[16*i0 + i1]
      store out0[32*i0 + i1] = %0
    }}
    lanes i2 in 0..16 {{
      %1: f32 = load in1[16*i0 + i2]
      store out0[32*i0 + i2 + 16] = %1
    }}
  end
  kernel copy
    read in0: f32[64]
    write out0: f32[64]
    lanes i0 in 0..64 {{
      %0: f32 = load in0[i0]
      store out0[i0] = %0
    }}
  end
  kernel result
    read in0: f32[256]
    read in1: f32[64]
    write out0: f32[256]
    for i0 in 0..4 {{
      lanes i1 in 0..64 {{
        %0: f32 = load in0[64*i0 + i1]
        %1: f32 = load in1[i1]
        %2: f32 = add %0, %1
        store out0[64*i0 + i1] = %2
      }}
    }}
  end
  call 3 (0, 5)
  repeat i0 in 0..2 {{
    call 1 (0[64*i0], 2, 3)
    call 3 (0, {touched})
    call 2 (2, 3, 4[128*i0])
  }}
  call 4 (4, {read}, 1)
end
"
        );
        text::parse_program(&source).unwrap()
    }

    /// The calls in the repeat after the pass, which changes no result.
    fn calls_left(program: &Program) -> usize {
        let changed = store_joined(program.clone());
        computes_the_same(program, &changed, 256);
        changed.steps.iter().map(|s| if let Step::Repeat(r) = s { r.steps.len() } else { 0 }).sum()
    }

    #[test]
    fn operands_are_stored_where_they_are_joined() {
        assert_eq!(calls_left(&program(5, 5)), 2);
    }

    #[test]
    fn a_join_stays_where_its_target_is_in_use_or_an_operand_is_read() {
        assert_eq!(calls_left(&program(4, 5)), 3);
        assert_eq!(calls_left(&program(5, 3)), 3);
    }

    /// Doubles, joins and adds vectors as the calls say.
    fn vectors(calls: &str) -> Program {
        let source = format!(
            "program p pointers 2 arena 0
  buffer 0 x: f32[16] argument 0
  buffer 1 y: f32[48] argument 1
  buffer 2 b: f32[16] arena
  buffer 3 c: f32[16] arena
  buffer 4 d: f32[16] arena
  buffer 5 bc: f32[32] arena
  buffer 6 bcd: f32[48] arena
  kernel double
    read in0: f32[16]
    write out0: f32[16]
    lanes i0 in 0..16 {{
      %0: f32 = load in0[i0]
      %1: f32 = add %0, %0
      store out0[i0] = %1
    }}
  end
  kernel twice
    read in0: f32[16]
    write out0: f32[32]
    lanes i0 in 0..16 {{
      %0: f32 = load in0[i0]
      store out0[i0] = %0
    }}
    lanes i1 in 0..16 {{
      %1: f32 = load in0[i1]
      store out0[i1 + 16] = %1
    }}
  end
  kernel both
    read in0: f32[16]
    read in1: f32[16]
    write out0: f32[32]
    lanes i0 in 0..16 {{
      %0: f32 = load in0[i0]
      store out0[i0] = %0
    }}
    lanes i1 in 0..16 {{
      %1: f32 = load in1[i1]
      store out0[i1 + 16] = %1
    }}
  end
  kernel all
    read in0: f32[32]
    read in1: f32[16]
    write out0: f32[48]
    lanes i0 in 0..32 {{
      %0: f32 = load in0[i0]
      store out0[i0] = %0
    }}
    lanes i1 in 0..16 {{
      %1: f32 = load in1[i1]
      store out0[i1 + 32] = %1
    }}
  end
  kernel result
    read in0: f32[32]
    read in1: f32[48]
    write out0: f32[48]
    lanes i0 in 0..32 {{
      %0: f32 = load in0[i0]
      %1: f32 = load in1[i0 + 16]
      %2: f32 = add %0, %1
      store out0[i0] = %2
    }}
    lanes i1 in 0..16 {{
      %3: f32 = load in1[i1]
      store out0[i1 + 32] = %3
    }}
  end
  {calls}
end
"
        );
        text::parse_program(&source).unwrap()
    }

    /// Of how many calls the pass makes how many.
    fn calls(program: &Program) -> [usize; 2] {
        let changed = store_joined(program.clone());
        computes_the_same(program, &changed, 48);
        [program.steps.len(), changed.steps.len()]
    }

    #[test]
    fn what_goes_to_two_places_is_copied() {
        let program = vectors("call 0 (0, 2)\n call 0 (0, 4)\n call 1 (2, 5)\n call 3 (5, 4, 6)\n call 4 (5, 6, 1)");
        assert_eq!(calls(&program), [5, 5]);
    }

    #[test]
    fn what_is_joined_early_has_more_makers_and_as_many_readers() {
        let program = vectors(
            "call 0 (0, 2)\n call 0 (2, 3)\n call 0 (3, 4)\n call 2 (2, 3, 5)\n call 3 (5, 4, 6)\n call 4 (5, 6, 1)",
        );
        assert_eq!(calls(&program), [6, 6]);
        let program = vectors(
            "call 0 (0, 2)\n call 0 (0, 3)\n call 0 (0, 4)\n call 2 (2, 3, 5)\n call 3 (5, 4, 6)\n call 4 (5, 6, 1)",
        );
        assert_eq!(calls(&program), [6, 5]);
    }

    #[test]
    fn a_join_stays_where_stores_would_carry_from_row_to_row() {
        let mut flat = program(5, 5);
        let [both, rows] = [0, 1];
        flat.kernels.swap(both, rows);
        assert_eq!(calls_left(&flat), 3);
    }
}
