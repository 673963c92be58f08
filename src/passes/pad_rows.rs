//! Puts a cache line between rows that meet in few sets of the first cache.
//!
//! Rows a page apart lie in the same set, which has room for eight lines or so: the twelve rows of a tile drive each other out before their next numbers are read,
//! as do twenty-four rows of half a page, and the rows of a panel that is read where it lies. So do the 36 planes into which a round of Winograd's transforms writes, and
//! from which it reads. With a line behind each row they lie in as many sets. Only arrays between kernels can be laid out anew, and only where each address in them is a row and a
//! column, the column never carrying into the row. What is computed stays the same.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::plan_memory::is_arena;
use super::{Limits, LoopPass};
use crate::ir::loops::steps::{Repeat, calls, each_call, remove_uncalled};
use crate::ir::loops::sums::gcd;
use crate::ir::loops::{
    Affine, Block, Buffer, BufferId, Instruction, Kernel, LoopVar, Matrix, Program, Round, Section, Step, Tile,
};
use crate::passes::lower::accesses::Accesses;
use crate::passes::lower::visit::{Touch, Visitor, walk};

/// The pass.
pub const PASS: LoopPass = LoopPass {
    name: "pad_rows",
    doc: "keeps rows of arrays out of each other's sets of the cache",
    run: |program, limits| Ok(pad_rows(program, if limits.is_short() { LONG } else { 1 })),
};

/// Rows that are a multiple of so many bytes apart share a set of the first cache: a page, since the cache is addressed before pages are translated.
const PAGE: u64 = 4096;

/// Lines in a set.
const WAYS: u64 = 8;

/// Bytes put behind each row: a line.
const LINE: u64 = 64;

/// Where memory is short, only rows so many times as long are given room for speed: planes of Winograd's transforms, not of a page or two.
const LONG: i64 = 256;

/// Whether an array gets its rows moved apart if they are so many bytes apart, a product reads many of them, and all addresses allow it.
pub fn is_padded(limits: &Limits, buffer: &Buffer, bytes: u64) -> bool {
    is_arena(buffer) && bytes.is_multiple_of(PAGE) && !limits.is_short()
}

/// The program with rows that do not meet, if they are at least so many times as long as what is put behind them.
pub fn pad_rows(mut program: Program, least: i64) -> Program {
    let mut padded = crowded(&program);
    padded.retain(|_, padding| padding.row >= least * padding.line);
    keep_splittable(&program.steps, &program, &mut BTreeMap::new(), &mut HashMap::new(), &mut padded);
    if !padded.is_empty() {
        apply(&mut program, &padded);
    }
    program
}

/// How an array's rows are moved apart, in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Padding {
    row: i64,
    line: i64,
}

impl Padding {
    /// A distance of whole rows, or one inside of a row.
    fn distance(self, elements: i64) -> i64 {
        if elements % self.row == 0 { elements / self.row * (self.row + self.line) } else { elements }
    }

    /// A place or a size.
    fn place(self, elements: i64) -> i64 {
        elements / self.row * (self.row + self.line) + elements % self.row
    }

    fn affine(self, affine: &Affine) -> Affine {
        let terms = affine.terms.iter().map(|(var, factor)| (*var, self.distance(*factor)));
        Affine { constant: self.place(affine.constant), terms: terms.collect() }
    }

    /// The largest column that an address reaches; `None` if it is not a row and a column.
    fn column(self, address: &Affine, extents: &BTreeMap<LoopVar, u64>) -> Option<i64> {
        let mut column = (address.constant >= 0).then_some(address.constant % self.row)?;
        for (var, factor) in &address.terms {
            let most = i64::try_from(*extents.get(var)?).ok()? - 1;
            let in_row = factor % self.row != 0;
            if most > 0 && in_row {
                column = (*factor > 0).then(|| factor.checked_mul(most))??.checked_add(column)?;
            }
            if most > 0 && *factor < 0 {
                return None;
            }
        }
        Some(column)
    }
}

/// The arrays of the program by number, with the rows that tiles have of them.
fn crowded(program: &Program) -> BTreeMap<u32, Padding> {
    let strides: Vec<BTreeMap<BufferId, i64>> = program.kernels.iter().map(crowded_strides).collect();
    let mut padded: BTreeMap<u32, Padding> = BTreeMap::new();
    for call in calls(&program.steps) {
        for (parameter, row) in &strides[call.kernel as usize] {
            let number = call.buffers[parameter.0 as usize].buffer;
            let buffer = &program.buffers[number as usize];
            let bytes = buffer.dtype.bytes() as u64;
            if is_arena(buffer) && buffer.elements.is_multiple_of(*row as u64) {
                let padding = Padding { row: *row, line: (LINE / bytes) as i64 };
                let entry = padded.entry(number).or_insert(padding);
                entry.row = entry.row.min(*row);
            }
        }
    }
    padded
}

/// How far the rows of tiles that meet in too few sets are from each other, the least for each buffer.
fn crowded_strides(kernel: &Kernel) -> BTreeMap<BufferId, i64> {
    let mut strides = BTreeMap::new();
    let mut found = |rows: u64, buffer: BufferId, stride: i64| {
        let bytes = stride.max(0) as u64 * kernel.buffers[buffer.0 as usize].dtype.bytes() as u64;
        // Strides of a power of two of a page's bytes come back to a set after so many rows.
        let apart = PAGE >> bytes.trailing_zeros().min(PAGE.trailing_zeros());
        if bytes > 0 && rows.div_ceil(apart) > WAYS {
            let least = strides.entry(buffer).or_insert(stride);
            *least = stride.min(*least);
        }
    };
    each_tile(&kernel.body, &mut |tile| {
        found(tile.rows, tile.left.buffer, tile.left.row_stride);
        // Panels of shorter rows fill the cache from end to end.
        if tile.right.row_stride.unsigned_abs() * kernel.buffers[tile.right.buffer.0 as usize].dtype.bytes() as u64
            >= PAGE
        {
            found(tile.depth, tile.right.buffer, tile.right.row_stride);
        }
        for instruction in &tile.epilogue.instructions {
            if let Instruction::Load { buffer, address, .. } | Instruction::Store { buffer, address, .. } = instruction
            {
                found(tile.rows, *buffer, address.coefficient(tile.row));
            }
        }
    });
    for (buffer, uses) in &Accesses::of(&kernel.body).of_buffer {
        if let Some((count, stride)) = planes(&uses.addresses) {
            found(count, *buffer, stride);
        }
    }
    strides
}

/// How many places in a row, all moving together, some code touches, and the largest step that all of them are multiples of apart: the planes of
/// Winograd's transforms.
fn planes(addresses: &[Affine]) -> Option<(u64, i64)> {
    let first = addresses.first()?;
    if addresses.iter().any(|address| address.terms != first.terms) {
        return None;
    }
    let places: BTreeSet<i64> = addresses.iter().map(|address| address.constant - first.constant).collect();
    let step = places.iter().fold(0, |step, place| gcd(step, place.unsigned_abs()));
    (step > 0).then_some((places.len() as u64, i64::try_from(step).ok()?))
}

fn each_tile(block: &Block, see: &mut dyn FnMut(&Tile)) {
    for instruction in &block.instructions {
        match instruction {
            Instruction::For { body, .. } => each_tile(body, see),
            Instruction::Tile(tile) => see(tile),
            _ => {}
        }
    }
}

/// The largest columns of what kernels touch of their parameters, by kernel, parameter and padding.
type Splits = HashMap<(u32, u32, Padding), Option<i64>>;

/// Takes out the arrays that some step touches elsewhere than at rows and columns.
fn keep_splittable(
    steps: &[Step],
    program: &Program,
    extents: &mut BTreeMap<LoopVar, u64>,
    splits: &mut Splits,
    padded: &mut BTreeMap<u32, Padding>,
) {
    for step in steps {
        match step {
            Step::Call(call) => {
                for (number, section) in (0..).zip(&call.buffers) {
                    let Some(padding) = padded.get(&section.buffer).copied() else { continue };
                    let kernel = &program.kernels[call.kernel as usize];
                    let split = splits.entry((call.kernel, number, padding));
                    let inside = *split.or_insert_with(|| column_of(kernel, BufferId(number), padding));
                    let outside = padding.column(&section.offset, extents);
                    let fits = inside.zip(outside).is_some_and(|(a, b)| a.saturating_add(b) < padding.row);
                    if !fits {
                        padded.remove(&section.buffer);
                    }
                }
            }
            Step::Repeat(Repeat { var, count, steps, .. }) => {
                extents.insert(*var, *count);
                keep_splittable(steps, program, extents, splits, padded);
            }
            Step::Index { target, .. } => {
                padded.remove(&target.buffer);
            }
        }
    }
}

/// The largest column of a parameter that a kernel touches, if all are rows and columns.
fn column_of(kernel: &Kernel, parameter: BufferId, padding: Padding) -> Option<i64> {
    let mut accesses = Accesses::of(&kernel.body);
    accesses.extents.extend(kernel.parallel.iter().map(|p| (p.var, p.extent)));
    let Some(uses) = accesses.of_buffer.get(&parameter) else { return Some(0) };
    let columns = uses.addresses.iter().map(|address| padding.column(address, &accesses.extents));
    columns.collect::<Option<Vec<i64>>>()?.into_iter().max()
}

fn apply(program: &mut Program, padded: &BTreeMap<u32, Padding>) {
    for (number, padding) in padded {
        let elements = &mut program.buffers[*number as usize].elements;
        *elements = padding.place(*elements as i64) as u64;
    }
    let mut kernels = std::mem::take(&mut program.kernels);
    let mut changed: HashMap<(u32, Vec<Option<Padding>>), u32> = HashMap::new();
    each_call(&mut program.steps, &mut |call| {
        let paddings: Vec<Option<Padding>> = call.buffers.iter().map(|s| padded.get(&s.buffer).copied()).collect();
        if paddings.iter().all(Option::is_none) {
            return;
        }
        for (section, padding) in call.buffers.iter_mut().zip(&paddings) {
            if let Some(padding) = padding {
                *section = Section { offset: padding.affine(&section.offset), ..section.clone() };
            }
        }
        call.kernel = *changed.entry((call.kernel, paddings.clone())).or_insert_with(|| {
            let kernel = with_paddings(kernels[call.kernel as usize].clone(), paddings);
            kernels.push(kernel);
            kernels.len() as u32 - 1
        });
    });
    program.kernels = kernels;
    remove_uncalled(program);
}

/// A kernel some of whose parameters have their rows further apart.
fn with_paddings(mut kernel: Kernel, paddings: Vec<Option<Padding>>) -> Kernel {
    for (parameter, padding) in kernel.buffers.iter_mut().zip(&paddings) {
        if let Some(padding) = padding {
            parameter.elements = padding.place(parameter.elements as i64) as u64;
        }
    }
    let mut layout = Layout { paddings, current: None };
    walk(&mut kernel.body, &mut layout);
    layout.strides(&mut kernel.body);
    kernel
}

/// Changes addresses and strides.
struct Layout {
    paddings: Vec<Option<Padding>>,
    /// The buffer whose address comes next.
    current: Option<BufferId>,
}

impl Visitor for Layout {
    fn buffer(&mut self, buffer: &mut BufferId, _: Touch) {
        self.current = Some(*buffer);
    }

    fn affine(&mut self, affine: &mut Affine) {
        if let Some(padding) = self.current.take().and_then(|buffer| self.of(buffer)) {
            *affine = padding.affine(affine);
        }
    }
}

impl Layout {
    fn of(&self, buffer: BufferId) -> Option<Padding> {
        self.paddings[buffer.0 as usize]
    }

    /// The steps of products and of indices.
    fn strides(&self, block: &mut Block) {
        for instruction in &mut block.instructions {
            match instruction {
                Instruction::For { body, .. } | Instruction::Lanes { body, .. } | Instruction::Fold { body, .. } => {
                    self.strides(body);
                }
                Instruction::LoadAt { buffer, stride, .. } | Instruction::StoreAt { buffer, stride, .. } => {
                    if let Some(padding) = self.of(*buffer) {
                        *stride = padding.distance(*stride);
                    }
                }
                Instruction::Contract(c) => {
                    self.operands(&mut c.left, &mut c.right, &mut c.rounds);
                    self.strides(&mut c.epilogue);
                }
                Instruction::Tile(t) => {
                    self.operands(&mut t.left, &mut t.right, &mut t.rounds);
                    self.strides(&mut t.epilogue);
                }
                _ => {}
            }
        }
    }

    fn operands(&self, left: &mut Matrix, right: &mut Matrix, rounds: &mut [Round]) {
        let change = |matrix: &mut Matrix, round: fn(&mut Round) -> &mut i64, rounds: &mut [Round]| {
            let Some(padding) = self.of(matrix.buffer) else { return };
            let steps = [&mut matrix.row_stride, &mut matrix.column_stride];
            steps.into_iter().chain(rounds.iter_mut().map(round)).for_each(|step| *step = padding.distance(*step));
        };
        change(left, |round| &mut round.left_stride, rounds);
        change(right, |round| &mut round.right_stride, rounds);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::loops::text;
    use crate::passes::tests::computes_the_same;

    /// Doubles 16 rows of 1024, two in each of eight rounds, with loops of their own or in one, and multiplies ten of them, from column 8 on.
    fn program(double: &str) -> Program {
        let source = format!(
            "program p pointers 2 arena 0
  buffer 0 x: f32[16384] argument 0
  buffer 1 y: f32[16384] argument 1
  buffer 2 b: f32[16384] arena
  kernel double
    read in0: f32[2048]
    write out0: f32[2048]
    {double}
  end
  kernel product
    read in0: f32[15360]
    read in1: f32[16384]
    write out0: f32[16384]
    for i0 in 0..2 {{
      tile i1 in 0..10, i2 in 0..4 of 4, depth 3
        left in0[i0 + 1024] by (1024, 2)
        right in1[0] by (4, 1)
      -> %0: f32 {{
        %1: f32 = load in0[1024*i1 + i2 + 512]
        %2: f32 = add %0, %1
        store out0[1024*i1 + 4*i0 + i2] = %2
      }}
    }}
  end
  repeat i0 in 0..8 {{
    call 0 (0[2048*i0], 2[2048*i0])
  }}
  call 1 (2[8], 0, 1)
end
"
        );
        text::parse_program(&source).unwrap()
    }

    /// Elements of the array between the kernels after the pass, which changes no result.
    fn elements(double: &str) -> u64 {
        let program = program(double);
        let changed = pad_rows(program.clone(), 1);
        computes_the_same(&program, &changed, 16384);
        changed.buffers[2].elements
    }

    #[test]
    fn rows_of_a_page_get_a_line_behind_them() {
        let rows = "for i0 in 0..2 {
      lanes i1 in 0..1024 {
        %0: f32 = load in0[1024*i0 + i1]
        %1: f32 = add %0, %0
        store out0[1024*i0 + i1] = %1
      }
    }";
        assert_eq!(elements(rows), 16 * 1040);
    }

    #[test]
    fn rows_of_a_panel_that_is_read_where_it_lies_get_one_too() {
        let source = "program p pointers 2 arena 0
  buffer 0 x: f32[16384] argument 0
  buffer 1 y: f32[16384] argument 1
  buffer 2 b: f32[16384] arena
  kernel double
    read in0: f32[1024]
    write out0: f32[1024]
    lanes i0 in 0..1024 {
      %0: f32 = load in0[i0]
      %1: f32 = add %0, %0
      store out0[i0] = %1
    }
  end
  kernel product
    read in0: f32[16384]
    read in1: f32[16384]
    write out0: f32[16384]
    for i0 in 0..2 {
      tile i1 in 0..4, i2 in 0..8 of 8, depth 12
        left in1[0] by (1024, 1)
        right in0[8*i0 + 1024] by (1024, 1)
      -> %0: f32 {
        store out0[1024*i1 + 8*i0 + i2] = %0
      }
    }
  end
  repeat i0 in 0..16 {
    call 0 (0[1024*i0], 2[1024*i0])
  }
  call 1 (2, 0, 1)
end
";
        let program = text::parse_program(source).unwrap();
        let changed = pad_rows(program.clone(), 1);
        computes_the_same(&program, &changed, 16384);
        assert_eq!(changed.buffers[2].elements, 16 * 1040);
        let few = text::parse_program(&source.replace("depth 12", "depth 8")).unwrap();
        assert_eq!(pad_rows(few, 1).buffers[2].elements, 16 * 1024);
    }

    #[test]
    fn planes_that_one_round_writes_get_one_if_they_are_more_than_a_set_holds() {
        let planes = |count: usize| {
            let store = |plane: usize| format!("        store out0[i0 + {}] = %0\n", 1024 * plane);
            let stores: String = (0..count).map(store).collect();
            let all = 1024 * count;
            let source = format!(
                "program p pointers 2 arena 0
  buffer 0 x: f32[1024] argument 0
  buffer 1 y: f32[{all}] argument 1
  buffer 2 b: f32[{all}] arena
  kernel spread
    read in0: f32[1024]
    write out0: f32[{all}]
    lanes i0 in 0..1024 {{
        %0: f32 = load in0[i0]
{stores}    }}
  end
  kernel copy
    read in0: f32[{all}]
    write out0: f32[{all}]
    for i0 in 0..{count} {{
      lanes i1 in 0..1024 {{
        %0: f32 = load in0[1024*i0 + i1]
        store out0[1024*i0 + i1] = %0
      }}
    }}
  end
  call 0 (0, 2)
  call 1 (2, 1)
end
"
            );
            let program = text::parse_program(&source).unwrap();
            let changed = pad_rows(program.clone(), 1);
            computes_the_same(&program, &changed, all);
            changed.buffers[2].elements
        };
        assert_eq!(planes(9), 9 * 1040);
        assert_eq!(planes(8), 8 * 1024);
    }

    #[test]
    fn rows_stay_where_a_loop_goes_from_one_to_the_next() {
        let flat = "lanes i0 in 0..2048 {
      %0: f32 = load in0[i0]
      %1: f32 = add %0, %0
      store out0[i0] = %1
    }";
        assert_eq!(elements(flat), 16 * 1024);
    }
}
