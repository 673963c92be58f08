//! Stores at once in the order in which it is packed what would be packed next.
//!
//! A packing kernel ([`tile`](super::tile)) is a copy that permutes the digits of an address: the element at `512 i + 16 j + k` goes to `16 i + 16384 j + k`. If each
//! store to the source falls on such digits without carrying from one to the next, as the stores of a tile do whose columns are those of a panel, it can go
//! to the packed copy by itself: the source is neither read again nor, if nothing else reads it, written at all.
//! What is stored, and so every bit of the results, stays the same.

use std::collections::BTreeMap;

use super::LoopPass;
use super::copied::{Copied, Moved, call_of};
use super::plan_memory::is_arena;
use crate::ir::loops::steps::{calls, remove_uncalled, written};
use crate::ir::loops::{BufferId, BufferParameter, BufferUse, Kernel, LoopVar, Program, Section, Step};
use crate::passes::lower::accesses::collect_extents;
use crate::passes::lower::finish::Draft;

/// The pass.
pub const PASS: LoopPass = LoopPass {
    name: "store_packed",
    doc: "stores in packed order what is packed next",
    run: |program, _| Ok(store_packed(program)),
};

/// A source that others read as well is stored twice only if no more calls than these are between its last store and the copy: the copy takes memory from then on.
const MOST_BETWEEN: usize = 16;

/// The program without those copies that the makers of their sources can write.
pub fn store_packed(mut program: Program) -> Program {
    let orders: Vec<Option<Copied>> = program.kernels.iter().map(reordering).collect();
    let order = |step: &Step| match step {
        Step::Call(call) => orders.get(call.kernel as usize).cloned().flatten(),
        _ => None,
    };
    let mut touches = Touches::of(&program);
    let mut made = vec![false; program.steps.len()];
    for (at, made) in made.iter_mut().enumerate() {
        let rewrite = order(&program.steps[at]).and_then(|order| Rewrite::new(&program, &touches, at, order));
        if let Some(rewrite) = rewrite {
            touches.moved(&rewrite, at);
            rewrite.apply(&mut program);
            *made = true;
        }
    }
    let mut made = made.into_iter();
    program.steps.retain(|_| made.next() != Some(true));
    remove_uncalled(&mut program);
    program
}

/// The steps that touch each buffer, in order.
struct Touches {
    written: Vec<Vec<usize>>,
    read: Vec<Vec<usize>>,
}

impl Touches {
    fn of(program: &Program) -> Touches {
        let none = vec![Vec::new(); program.buffers.len()];
        let mut touches = Touches { written: none.clone(), read: none };
        for (number, step) in program.steps.iter().enumerate() {
            let steps = std::slice::from_ref(step);
            written(steps, &program.kernels).into_iter().for_each(|b| touches.written[b as usize].push(number));
            for call in calls(steps) {
                let parameters = program.kernels[call.kernel as usize].buffers.iter();
                let read = parameters.zip(&call.buffers).filter(|(p, _)| p.usage != BufferUse::Write);
                read.for_each(|(_, section)| touches.read[section.buffer as usize].push(number));
            }
        }
        touches
    }

    /// A copy is made by the makers of its source and no longer by step `at`.
    fn moved(&mut self, rewrite: &Rewrite, at: usize) {
        self.written[rewrite.copy as usize] = rewrite.makers.iter().map(|maker| maker.0).collect();
        self.read[rewrite.source as usize].retain(|step| *step != at);
        if !rewrite.is_read {
            self.written[rewrite.source as usize].clear();
        }
    }
}

/// How a kernel's target is a permutation of its source, if that is all that it does.
fn reordering(kernel: &Kernel) -> Option<Copied> {
    let [copied] = <[Copied; 1]>::try_from(Copied::all_of(kernel)?).ok()?;
    copied.is_onto(&kernel.buffers[copied.target.0 as usize]).then_some(copied)
}

/// How a copy is made by those who make its source.
struct Rewrite {
    order: Copied,
    source: u32,
    copy: u32,
    /// The steps that store to the source, and their kernels as they store to the copy, which is their last parameter.
    makers: Vec<(usize, Kernel)>,
    /// Elements of the copy.
    elements: u64,
    /// Whether others read the source.
    is_read: bool,
}

impl Rewrite {
    /// `None` if the copy that is made by step `at` cannot be made before.
    fn new(program: &Program, touches: &Touches, at: usize, order: Copied) -> Option<Rewrite> {
        let Step::Call(call) = &program.steps[at] else { return None };
        let [from, to] = &call.buffers[..] else { return None };
        let (source, copy) = (from.buffer, to.buffer);
        let in_arena = |buffer: u32| is_arena(&program.buffers[buffer as usize]);
        if !from.is_at_start() || !to.is_at_start() || source == copy || !in_arena(source) || !in_arena(copy) {
            return None;
        }
        let elements = program.kernels[call.kernel as usize].buffers[1].elements;
        if elements != program.buffers[source as usize].elements || touches.written[copy as usize] != [at] {
            return None;
        }
        let is_read = touches.read[source as usize].iter().any(|step| *step != at);
        let stored = touches.written[source as usize].iter().copied().take_while(|step| *step < at);
        if is_read && at - stored.clone().last()? > MOST_BETWEEN {
            return None;
        }
        let mut rewrite = Rewrite { order, source, copy, makers: Vec::new(), elements, is_read };
        for number in stored {
            let maker = rewrite.maker(program, number)?;
            rewrite.makers.push(maker);
        }
        (!rewrite.makers.is_empty()).then_some(rewrite)
    }

    /// A step that stores to the source, as it stores to the copy.
    fn maker(&self, program: &Program, step: usize) -> Option<(usize, Kernel)> {
        let Step::Call(call) = &program.steps[step] else { return None };
        let kernel = &program.kernels[call.kernel as usize];
        let own = |p: &usize| call.buffers[*p].buffer == self.source;
        let mut parameters = (0..call.buffers.len()).filter(own);
        let (parameter, None) = (parameters.next()?, parameters.next()) else { return None };
        let is_output = kernel.buffers[parameter].usage == BufferUse::Write && call.buffers[parameter].is_at_start();
        if !is_output {
            return None;
        }
        let mut extents: BTreeMap<LoopVar, u64> = kernel.parallel.iter().map(|p| (p.var, p.extent)).collect();
        collect_extents(&kernel.body, &mut extents);
        let mut changed = kernel.clone();
        let copy = BufferId(changed.buffers.len() as u32);
        let parameter_of_copy = BufferParameter { elements: self.elements, ..kernel.buffers[parameter].clone() };
        changed.buffers.push(parameter_of_copy);
        let moved =
            Moved { source: BufferId(parameter as u32), target: copy, copied: &self.order, stays: self.is_read };
        moved.block(&mut changed.body, &extents)?;
        changed.name = format!("{}_packed", kernel.name);
        Some((step, changed))
    }

    fn apply(self, program: &mut Program) {
        for (step, changed) in self.makers {
            let Step::Call(call) = &mut program.steps[step] else { continue };
            call.buffers.push(Section::whole(self.copy));
            let draft = Draft { kernel: changed, buffers: call.buffers.clone() };
            program.steps[step] = Step::Call(call_of(program, draft));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::loops::text;
    use crate::passes::tests::computes_the_same;

    /// Twice each element, tile by tile.
    const IN_TILES: &str = "for i0 in 0..8 {
      for i1 in 0..2 {
        lanes i2 in 0..16 {
          %0: f32 = load in0[32*i0 + 16*i1 + i2]
          %1: f32 = add %0, %0
          store out0[32*i0 + 16*i1 + i2] = %1
        }
      }
    }";

    /// Twice each element, all in one loop.
    const IN_A_ROW: &str = "lanes i0 in 0..256 {
      %0: f32 = load in0[i0]
      %1: f32 = add %0, %0
      store out0[i0] = %1
    }";

    /// Makes 8 rows of 32, copies them in panels of 16, and adds two buffers.
    fn program(make: &str, added: &str) -> Program {
        let text = format!(
            "program p pointers 2 arena 0
  buffer 0 x: f32[256] argument 0
  buffer 1 y: f32[256] argument 1
  buffer 2 b: f32[256] arena
  buffer 3 c: f32[256] arena
  kernel double
    read in0: f32[256]
    write out0: f32[256]
    {make}
  end
  kernel copy
    read in0: f32[256]
    write out0: f32[256]
    for i0 in 0..2 {{
      for i1 in 0..8 {{
        lanes i2 in 0..16 {{
          %0: f32 = load in0[16*i0 + 32*i1 + i2]
          store out0[128*i0 + 16*i1 + i2] = %0
        }}
      }}
    }}
  end
  kernel add
    read in0: f32[256]
    read in1: f32[256]
    write out0: f32[256]
    lanes i0 in 0..256 {{
      %0: f32 = load in0[i0]
      %1: f32 = load in1[i0]
      %2: f32 = add %0, %1
      store out0[i0] = %2
    }}
  end
  call 0 (0, 2)
  call 1 (2, 3)
  call 2 ({added})
end
"
        );
        text::parse_program(&text).unwrap()
    }

    /// The program after the pass, whose results are those from before.
    fn after(make: &str, added: &str) -> Program {
        let program = program(make, added);
        let changed = store_packed(program.clone());
        computes_the_same(&program, &changed, 256);
        changed
    }

    #[test]
    fn a_copy_in_panels_is_stored_by_the_maker_of_its_source() {
        let alone = after(IN_TILES, "3, 0, 1");
        assert_eq!((alone.steps.len(), alone.kernels[0].buffers.len()), (2, 2));
        // What is read as well is stored twice.
        let twice = after(IN_TILES, "3, 2, 1");
        assert_eq!((twice.steps.len(), twice.kernels[0].buffers.len()), (2, 3));
    }

    #[test]
    fn a_copy_stays_where_stores_would_carry_from_digit_to_digit() {
        assert_eq!(after(IN_A_ROW, "3, 0, 1").steps.len(), 3);
    }
}
