//! Gives every temporary buffer a place in the arena.
//!
//! A buffer lives from the first step that uses it to the last ([`life`]). One after another, largest first, each goes to the lowest offset (a multiple of 64) at
//! which it overlaps no buffer that lives at the same time. Where gaps make the arena larger than what lives at one time, those that ended highest go
//! first in another round.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::ir::loops::steps::each_section;
use crate::ir::loops::{Buffer, Place, Program};
use crate::passes::LoopPass;

pub(super) mod life;

use life::{Life, lives};

/// The pass.
pub const PASS: LoopPass = LoopPass {
    name: "plan_memory",
    doc: "gives every temporary buffer a place in the arena",
    run: |program, _| Ok(plan(program)),
};

/// Offsets and the arena's size are multiples of this many bytes.
const ALIGNMENT: u64 = 64;

/// So many rounds are tried for a smaller arena.
const MOST_ROUNDS: usize = 24;

/// The program with an offset for each arena buffer and the arena's size. Arena buffers that no step uses are removed.
pub fn plan(mut program: Program) -> Program {
    remove_unused(&mut program);
    let lives = lives(&program);
    let arena = (0..program.buffers.len()).filter(|b| is_arena(&program.buffers[*b]));
    let mut order: Vec<Resident> = arena
        .filter_map(|number| {
            let size = bytes(&program.buffers[number]).next_multiple_of(ALIGNMENT);
            lives[number].map(|life| Resident { number, size, life })
        })
        .collect();
    order.sort_by_key(|r| (std::cmp::Reverse(r.size), r.number));
    let least = most_at_once(&order);
    let mut best = Layout::of(&order);
    let mut last = best.clone();
    for _ in 0..MOST_ROUNDS {
        if best.bytes == least {
            break;
        }
        // What ends at the top has found no room among the others: it goes first.
        let top = last.bytes;
        let is_high = |r: &Resident| last.offsets[&r.number] + r.size == top;
        let (high, others): (Vec<Resident>, Vec<Resident>) = order.into_iter().partition(is_high);
        order = high.into_iter().chain(others).collect();
        last = Layout::of(&order);
        if last.bytes < best.bytes {
            best = last.clone();
        }
    }
    for (number, offset) in &best.offsets {
        program.buffers[*number].place = Place::Arena { offset: Some(*offset) };
    }
    program.arena_bytes = best.bytes;
    program
}

/// A buffer that needs room in the arena.
#[derive(Clone, Copy, Debug)]
struct Resident {
    number: usize,
    size: u64,
    life: Life,
}

/// The most bytes that live at one step: no arena is smaller.
fn most_at_once(residents: &[Resident]) -> u64 {
    let mut changes: Vec<(usize, i64)> =
        residents.iter().flat_map(|r| [(r.life.first, r.size as i64), (r.life.last + 1, -(r.size as i64))]).collect();
    changes.sort_unstable();
    let (mut live, mut most) = (0, 0);
    for (_, change) in changes {
        live += change;
        most = most.max(live);
    }
    most as u64
}

/// Where each buffer is, and where the last ends.
#[derive(Clone, Debug, Default)]
struct Layout {
    offsets: BTreeMap<usize, u64>,
    bytes: u64,
}

impl Layout {
    /// Each where there is room among those before it.
    fn of(order: &[Resident]) -> Layout {
        let mut layout = Layout::default();
        // By offset.
        let mut placed: Vec<(u64, u64, Life)> = Vec::with_capacity(order.len());
        for Resident { number, size, life } in order {
            let mut offset = 0;
            for (start, end, _) in placed.iter().filter(|p| p.2.meets(*life)) {
                if offset + size <= *start {
                    break;
                }
                offset = offset.max(*end);
            }
            let end = offset + size;
            placed.insert(placed.partition_point(|p| (p.0, p.1) < (offset, end)), (offset, end, *life));
            layout.offsets.insert(*number, offset);
            layout.bytes = layout.bytes.max(end);
        }
        layout
    }
}

/// The plan as a table, by offset: what a person wants to see of where the memory goes.
pub fn describe(program: &Program) -> String {
    let lives = lives(program);
    let total: u64 = program.buffers.iter().filter(|b| is_arena(b)).map(bytes).sum();
    let mut text = format!("arena of {} bytes for buffers of {total} bytes\n", program.arena_bytes);
    let mut rows: Vec<(u64, usize)> = Vec::new();
    for (number, buffer) in program.buffers.iter().enumerate() {
        if let Place::Arena { offset: Some(offset) } = buffer.place {
            rows.push((offset, number));
        }
    }
    rows.sort_unstable();
    for (offset, number) in rows {
        let buffer = &program.buffers[number];
        let life = lives[number].map_or(String::new(), |l| format!("steps {}..={}", l.first, l.last));
        let size = bytes(buffer);
        let name = &buffer.name;
        writeln!(text, "  {offset:>10} {size:>10} bytes  {name}: {}[{}]  {life}", buffer.dtype, buffer.elements)
            .expect("writing to a string does not fail");
    }
    text
}

pub(super) fn is_arena(buffer: &Buffer) -> bool {
    matches!(buffer.place, Place::Arena { .. })
}

fn bytes(buffer: &Buffer) -> u64 {
    buffer.elements * buffer.dtype.bytes() as u64
}

fn remove_unused(program: &mut Program) {
    let lives = lives(program);
    let mut numbers = Vec::new();
    let mut kept = Vec::new();
    for (buffer, life) in std::mem::take(&mut program.buffers).into_iter().zip(lives) {
        numbers.push(kept.len() as u32);
        if life.is_some() || !is_arena(&buffer) {
            kept.push(buffer);
        }
    }
    program.buffers = kept;
    each_section(&mut program.steps, &mut |section| section.buffer = numbers[section.buffer as usize]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::loops::build::KernelBuilder;
    use crate::ir::loops::{Affine, BufferUse, Call, Kernel, LoopVar, Repeat, Section, Step, steps, verify};
    use crate::ir::scalar::ScalarFunction;
    use crate::ir::types::DType;

    fn arena(name: &str, elements: u64) -> Buffer {
        Buffer { name: name.into(), dtype: DType::F32, elements, place: Place::Arena { offset: None } }
    }

    /// Reads element 0 of one buffer and writes twice that as element `to` of another.
    fn kernel(to: i64) -> Kernel {
        let mut k = KernelBuilder::new();
        let source = k.buffer("source", DType::F32, 3, BufferUse::Read);
        let target = k.buffer("target", DType::F32, 3, BufferUse::Write);
        k.finish("double", None, |b| {
            let value = b.load(source, Affine::constant(0));
            let twice = b.map(ScalarFunction::Add, &[value, value]);
            b.store(target, Affine::constant(to), twice);
        })
    }

    /// The plan after outputs took the place of inputs.
    fn planned(mut program: Program) -> Program {
        crate::passes::in_place::reuse_inputs(&mut program);
        plan(program)
    }

    #[test]
    fn buffers_that_never_live_together_share_memory() {
        let steps = [vec![0, 1], vec![1, 2], vec![2, 4]].map(|buffers| Step::Call(Call::on_whole(0, buffers)));
        let buffers = vec![arena("a", 10), arena("b", 100), arena("c", 10), arena("unused", 5), arena("d", 3)];
        let kernels = vec![kernel(1)];
        let program = Program { name: "p".into(), buffers, kernels, steps: steps.into(), pointers: 0, arena_bytes: 0 };
        let planned = plan(program);
        let offsets: Vec<&Place> = planned.buffers.iter().map(|b| &b.place).collect();
        let at = |offset| Place::Arena { offset: Some(offset) };
        assert_eq!(offsets, [&at(448), &at(0), &at(448), &at(0)]);
        assert_eq!(planned.arena_bytes, 512);
        assert_eq!(planned.steps[2], Step::Call(Call::on_whole(0, [2, 3])));
        insta::assert_snapshot!(describe(&planned), @r"
        arena of 512 bytes for buffers of 492 bytes
                   0        400 bytes  b: f32[100]  steps 0..=1
                   0         12 bytes  d: f32[3]  steps 2..=2
                 448         40 bytes  a: f32[10]  steps 0..=0
                 448         40 bytes  c: f32[10]  steps 1..=2
        ");
    }

    #[test]
    fn an_output_takes_the_place_of_an_input_that_dies() {
        let program = |to: i64, calls: &[[u32; 2]]| Program {
            name: "p".into(),
            buffers: vec![arena("a", 3), arena("b", 3), arena("c", 3)],
            kernels: vec![kernel(to)],
            steps: calls.iter().map(|b| Step::Call(Call::on_whole(0, *b))).collect(),
            pointers: 0,
            arena_bytes: 0,
        };
        let places = |p: Program| {
            let planned = planned(p);
            verify::program(&planned).unwrap();
            let last =
                steps::calls(&planned.steps).last().map(|c| c.buffers.iter().map(|s| s.buffer).collect::<Vec<u32>>());
            (planned.buffers.len(), last.unwrap_or_default())
        };
        assert_eq!(places(program(0, &[[0, 1], [1, 2]])), (1, vec![0]));
        // Another address, and an input that is read again.
        assert_eq!(places(program(1, &[[0, 1], [1, 2]])), (3, vec![1, 2]));
        assert_eq!(places(program(0, &[[0, 1], [0, 2]])), (2, vec![0]));
    }

    /// Doubles `count` elements from `start` on.
    fn part(start: i64, count: u64) -> Kernel {
        let mut k = KernelBuilder::new();
        let source = k.buffer("source", DType::F32, 10, BufferUse::Read);
        let target = k.buffer("target", DType::F32, 10, BufferUse::Write);
        k.finish("part", None, |b| {
            b.lanes(count, |b, i| {
                let at = Affine::scaled(i, 1).offset(start);
                let value = b.load(source, at.clone());
                let twice = b.map(ScalarFunction::Add, &[value, value]);
                b.store(target, at, twice);
            });
        })
    }

    #[test]
    fn parts_of_an_output_take_the_places_of_the_same_parts_of_an_input() {
        let buffers_of = |kernels: Vec<Kernel>| {
            let last = kernels.len() as u32;
            let mut steps: Vec<Step> = (0..last).map(|kernel| Step::Call(Call::on_whole(kernel, [0, 1]))).collect();
            steps.insert(0, Step::Call(Call::on_whole(last, [2, 0])));
            steps.push(Step::Call(Call::on_whole(last, [1, 2])));
            let mut copy = part(0, 10);
            copy.name = "all".into();
            let kernels = kernels.into_iter().chain([copy]).collect();
            let argument = Buffer { place: Place::Argument { index: 0 }, ..arena("x", 10) };
            let buffers = vec![arena("a", 10), arena("b", 10), argument];
            let planned = planned(Program { name: "p".into(), buffers, kernels, steps, pointers: 1, arena_bytes: 0 });
            verify::program(&planned).unwrap();
            planned.buffers.len()
        };
        assert_eq!(buffers_of(vec![part(0, 10)]), 2);
        assert_eq!(buffers_of(vec![part(0, 7), part(7, 3)]), 2);
        assert_eq!(buffers_of(vec![part(6, 4), part(0, 3), part(3, 3)]), 2);
        // The second call would read what the first has written.
        assert_eq!(buffers_of(vec![part(0, 7), part(6, 4)]), 3);
    }

    #[test]
    fn parts_take_the_places_of_parts_that_have_done_so() {
        // b takes the place of a, and c that of b, each in two parts.
        let buffers = ["a", "b", "c"]
            .map(|name| arena(name, 10))
            .into_iter()
            .chain([Buffer { place: Place::Argument { index: 0 }, ..arena("x", 10) }]);
        let copy = Kernel { name: "all".into(), ..part(0, 10) };
        let calls = [(2, [3, 0]), (0, [0, 1]), (1, [0, 1]), (0, [1, 2]), (1, [1, 2]), (2, [2, 3])];
        let planned = planned(Program {
            name: "p".into(),
            buffers: buffers.collect(),
            kernels: vec![part(0, 7), part(7, 3), copy],
            steps: calls.map(|(kernel, buffers)| Step::Call(Call::on_whole(kernel, buffers))).into(),
            pointers: 1,
            arena_bytes: 0,
        });
        verify::program(&planned).unwrap();
        assert_eq!(planned.buffers.len(), 2);
    }

    #[test]
    fn what_the_next_round_reads_outlasts_the_round() {
        // a and b are first written before the repeat; b is read once more after it. In a round c lives, then d, then e.
        let call = |buffers: [u32; 2]| Step::Call(Call::on_whole(0, buffers));
        let inside = vec![call([0, 2]), call([2, 3]), call([3, 4]), call([4, 0]), call([1, 4])];
        let repeat = Step::Repeat(Repeat { var: LoopVar(0), count: 3, reverse: false, steps: inside });
        let program = Program {
            name: "p".into(),
            buffers: ["a", "b", "c", "d", "e"].map(|name| arena(name, 3)).into(),
            kernels: vec![kernel(0)],
            steps: vec![call([1, 0]), call([0, 1]), repeat, call([1, 0])],
            pointers: 0,
            arena_bytes: 0,
        };
        let spans: Vec<(usize, usize)> = lives(&program).iter().flatten().map(|l| (l.first, l.last)).collect();
        assert_eq!(spans, [(0, 9), (0, 9), (3, 4), (4, 5), (5, 7)]);
        let planned = planned(program);
        verify::program(&planned).unwrap();
        // d and e take the place of c, but nothing that of a or b within the repeat.
        let names: Vec<&str> = planned.buffers.iter().map(|b| b.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert_eq!(planned.arena_bytes, 3 * 64);
    }

    #[test]
    fn a_buffer_that_a_round_reads_before_it_writes_keeps_its_contents() {
        let call = |buffers: [u32; 2]| Step::Call(Call::on_whole(0, buffers));
        let repeat = |steps| Step::Repeat(Repeat { var: LoopVar(0), count: 3, reverse: false, steps });
        let moving = Section { buffer: 1, offset: Affine::scaled(LoopVar(0), 3) };
        let to_moving = Step::Call(Call { kernel: 0, buffers: vec![Section::whole(0), moving] });
        let program = Program {
            name: "p".into(),
            buffers: vec![arena("a", 3), arena("b", 9), arena("c", 3)],
            kernels: vec![kernel(1)],
            steps: vec![repeat(vec![call([0, 2]), call([2, 0]), to_moving])],
            pointers: 0,
            arena_bytes: 0,
        };
        let spans: Vec<(usize, usize)> = lives(&program).iter().flatten().map(|l| (l.first, l.last)).collect();
        assert_eq!(spans, [(0, 4), (0, 4), (1, 2)]);
    }
}
