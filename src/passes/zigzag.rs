//! Lets every second round of a repeat go backwards through what all rounds read.
//!
//! A recurrence reads the same weights in each of its rounds. If they are larger than a cache and each round begins where they begin, a cache has always just
//! given up what is read next. A round that goes the other way begins with what the one before it read last. So two rounds become one, of whose calls the second
//! ones run their parallel loops backwards; rounds of such a loop compute apart, so that results are the same bits.
//!
//! It pays where reading takes longer than computing, which is with few rows; elsewhere it would only make more code.

use super::LoopPass;
use super::copied::call_of;
use crate::ir::loops::cost::cost;
use crate::ir::loops::steps::{Repeat, calls, remove_uncalled, written};
use crate::ir::loops::{Affine, BufferId, Call, LoopVar, Program, Section, Step};
use crate::passes::lower::accesses::Accesses;
use crate::passes::lower::finish::Draft;

/// The pass.
pub const PASS: LoopPass = LoopPass {
    name: "zigzag",
    doc: "lets every second round read large operands backwards",
    run: |program, _| Ok(zigzag(program)),
};

/// Less than so many bytes stay in the caches near a core whatever the order.
const LARGE: u64 = 256 << 10;

/// With more operations in a round for each byte that all rounds read, reading is not what takes the time.
const FLOPS_PER_BYTE: u64 = 4;

/// The program with repeats of half as many rounds, of two each, where rounds read much and compute little.
pub fn zigzag(mut program: Program) -> Program {
    let mut steps = std::mem::take(&mut program.steps);
    in_steps(&mut program, &mut steps);
    program.steps = steps;
    remove_uncalled(&mut program);
    program
}

fn in_steps(program: &mut Program, steps: &mut Vec<Step>) {
    let mut done = Vec::with_capacity(steps.len());
    for step in steps.drain(..) {
        match step {
            Step::Repeat(repeat) => in_repeat(program, repeat, &mut done),
            other => done.push(other),
        }
    }
    *steps = done;
}

/// Appends to `done` what a repeat becomes.
fn in_repeat(program: &mut Program, mut repeat: Repeat, done: &mut Vec<Step>) {
    let is_inner = !repeat.steps.iter().any(|step| matches!(step, Step::Repeat(_)));
    if !is_inner {
        in_steps(program, &mut repeat.steps);
    } else if let Some(backward) = backward(program, &repeat) {
        return in_pairs(repeat, &backward, done);
    }
    done.push(Step::Repeat(repeat));
}

/// The steps of a round whose calls go backwards through what they read in all rounds, if reading that is most of what a round does.
fn backward(program: &mut Program, repeat: &Repeat) -> Option<Vec<Step>> {
    let written = written(&repeat.steps, &program.kernels);
    let (mut bytes, mut flops) = (0u64, 0u64);
    for call in calls(&repeat.steps) {
        bytes = bytes.saturating_add(same_in_all_rounds(program, call, repeat.var, &written));
        flops = flops.saturating_add(cost(&program.kernels[call.kernel as usize]).flops);
    }
    if repeat.count < 2 || bytes < LARGE || flops > bytes.saturating_mul(FLOPS_PER_BYTE) {
        return None;
    }
    let of_step = |step: &Step| match step {
        Step::Call(call) if same_in_all_rounds(program, call, repeat.var, &written) > 0 => {
            Step::Call(call_of(program, turned(program, call)))
        }
        other => other.clone(),
    };
    Some(repeat.steps.iter().map(of_step).collect())
}

/// Bytes that a call reads in every round of a repeat, another part of them in each round of its parallel loop.
fn same_in_all_rounds(program: &Program, call: &Call, round: LoopVar, written: &[u32]) -> u64 {
    let kernel = &program.kernels[call.kernel as usize];
    let Some(parallel) = kernel.parallel.as_ref().filter(|parallel| parallel.extent > 1) else { return 0 };
    let accesses = Accesses::of(&kernel.body);
    let bytes = |(number, section): (usize, &Section)| {
        let parameter = &kernel.buffers[number];
        let is_same = section.offset.coefficient(round) == 0 && !written.contains(&section.buffer);
        let uses = accesses.of_buffer.get(&BufferId(number as u32))?;
        let in_parts = uses.addresses.iter().all(|address| address.coefficient(parallel.var) != 0);
        (is_same && in_parts).then(|| parameter.elements.saturating_mul(parameter.dtype.bytes() as u64))
    };
    call.buffers.iter().enumerate().filter_map(bytes).sum()
}

/// A call whose parallel loop goes the other way.
fn turned(program: &Program, call: &Call) -> Draft {
    let mut kernel = program.kernels[call.kernel as usize].clone();
    if let Some(parallel) = &mut kernel.parallel {
        parallel.reverse = !parallel.reverse;
    }
    Draft { kernel, buffers: call.buffers.clone() }
}

/// Appends a repeat of half as many rounds, of the steps of a round and then of those of one that goes `backward`, and the last round of an odd number.
fn in_pairs(repeat: Repeat, backward: &[Step], done: &mut Vec<Step>) {
    let Repeat { var, count, reverse, steps } = repeat;
    let (pairs, odd) = (count / 2, (count % 2) as i64);
    let [first, second, last] = if reverse { [1 + odd, odd, 0] } else { [0, 1, count as i64 - 1] };
    let in_pair = |steps: &[Step], of_pair: i64| at(steps, var, &Affine::scaled(var, 2).offset(of_pair));
    let both = in_pair(&steps, first).into_iter().chain(in_pair(backward, second)).collect();
    done.push(Step::Repeat(Repeat { var, count: pairs, reverse, steps: both }));
    if odd == 1 {
        done.extend(at(&steps, var, &Affine::constant(last)));
    }
}

/// Steps in the round that has a number.
fn at(steps: &[Step], var: LoopVar, round: &Affine) -> Vec<Step> {
    let put = |affine: &Affine| {
        let times = affine.coefficient(var);
        affine.clone().plus(var, -times).sum(&round.times(times))
    };
    let of_step = |step: &Step| match step {
        Step::Call(call) => {
            let sections = call.buffers.iter().map(|s| Section { offset: put(&s.offset), ..s.clone() });
            Step::Call(Call { kernel: call.kernel, buffers: sections.collect() })
        }
        Step::Index { target, index } => {
            Step::Index { target: Section { offset: put(&target.offset), ..target.clone() }, index: put(index) }
        }
        Step::Repeat(_) => unreachable!("only repeats of calls are taken in pairs"),
    };
    steps.iter().map(of_step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::loops::text;
    use crate::passes::tests::computes_the_same;

    /// Rounds of a product of a state with weights of 256 rows and as many columns, in panels of sixteen columns, of which each round makes the state of the next one.
    fn program(rounds: &str, state: &str, next: &str, weights: &str) -> Program {
        let source = format!(
            "program p pointers 2 arena 0
  buffer 0 x: f32[67000] argument 0
  buffer 1 y: f32[67000] argument 1
  buffer 2 h: f32[2048] arena
  buffer 3 number: i32[6] arena
  kernel copy
    read in0: f32[2048]
    write out0: f32[2048]
    lanes i0 in 0..2048 {{
      %0: f32 = load in0[i0]
      store out0[i0] = %0
    }}
  end
  kernel numbers
    read in0: i32[6]
    write out0: f32[6]
    lanes i0 in 0..6 {{
      %0: i32 = load in0[i0]
      %1: f32 = convert %0
      store out0[i0] = %1
    }}
  end
  kernel product
    read in0: f32[256]
    read in1: f32[65536]
    write out0: f32[256]
    parallel i0 in 0..16 grain 1
    tile i1 in 0..1, i2 in 0..16 of 16, depth 256
      left in0[0] by (0, 1)
      right in1[4096*i0] by (16, 1)
    -> %0: f32 {{
      %1: f32 = sin %0
      store out0[16*i0 + i2] = %1
    }}
  end
  call 0 (0, 2)
  repeat i0 in 0..{rounds} {{
    index 3[i0] = i0
    call 2 (2[{state}], {weights}, 2[{next}])
  }}
  call 0 (2, 1)
  call 1 (3, 1[3000])
end
"
        );
        text::parse_program(&source).unwrap()
    }

    /// The text of the rounds after the pass, which changes no result.
    fn rounds(program: &Program) -> String {
        let changed = zigzag(program.clone());
        computes_the_same(program, &changed, 67000);
        let text = text::program(&changed);
        let lines = text.lines().skip_while(|line| !line.starts_with("  repeat"));
        lines.take_while(|line| !line.starts_with("  call 0")).map(|line| format!("{line}\n")).collect()
    }

    #[test]
    fn every_second_round_goes_backwards() {
        let program = program("6", "256*i0", "256*i0 + 256", "0");
        let pairs = "  repeat i0 in 0..3 {
    index 3[2*i0] = 2*i0
    call 1 (2[512*i0], 0, 2[512*i0 + 256])
    index 3[2*i0 + 1] = 2*i0 + 1
    call 2 (2[512*i0 + 256], 0, 2[512*i0 + 512])
  }
";
        assert_eq!(rounds(&program), pairs);
        let reverse: Vec<_> =
            zigzag(program).kernels[1..3].iter().map(|k| k.parallel.as_ref().unwrap().reverse).collect();
        assert_eq!(reverse, [false, true]);
    }

    #[test]
    fn of_an_odd_number_of_rounds_the_last_one_stands_alone() {
        let pairs = "  repeat i0 in 0..2 {
    index 3[2*i0] = 2*i0
    call 1 (2[512*i0], 0, 2[512*i0 + 256])
    index 3[2*i0 + 1] = 2*i0 + 1
    call 2 (2[512*i0 + 256], 0, 2[512*i0 + 512])
  }
  index 3[4] = 4
  call 1 (2[1024], 0, 2[1280])
";
        assert_eq!(rounds(&program("5", "256*i0", "256*i0 + 256", "0")), pairs);
        let pairs = "  repeat i0 in 0..2 backwards {
    index 3[2*i0 + 2] = 2*i0 + 2
    call 1 (2[512*i0 + 768], 0, 2[512*i0 + 512])
    index 3[2*i0 + 1] = 2*i0 + 1
    call 2 (2[512*i0 + 512], 0, 2[512*i0 + 256])
  }
  index 3 = 0
  call 1 (2[256], 0, 2)
";
        assert_eq!(rounds(&program("5 backwards", "256*i0 + 256", "256*i0", "0")), pairs);
    }

    #[test]
    fn what_differs_from_round_to_round_is_read_forwards() {
        assert!(rounds(&program("5", "256*i0", "256*i0 + 256", "0[256*i0]")).starts_with("  repeat i0 in 0..5 {"));
    }

    #[test]
    fn rounds_that_compute_much_are_left_alone() {
        let nine_rows =
            text::program(&program("6", "256*i0", "256*i0 + 256", "0")).replace("tile i1 in 0..1,", "tile i1 in 0..9,");
        assert!(rounds(&text::parse_program(&nine_rows).unwrap()).starts_with("  repeat i0 in 0..6 {"));
    }
}
