//! Cuts contractions into register tiles.
//!
//! A product large enough becomes loops over tiles of a fixed shape. The right operand is first packed into panels by a kernel of its
//! own ([`pack`]); with few rows it is read where it lies, since then each element is used only once or twice, and so it is if its rows are short, or if
//! they are spread over the cache and tiles gain less by a copy than it takes. The left one is
//! read where it lies if its depth is contiguous or its rows overlap, as the windows of a convolution do, and packed otherwise, since
//! steps of a power of two miss the first cache. These rules are in [`choice`], with what may be chosen instead where it has been measured ([`tuning`]).
//! What no round of a repeat changes is packed once before it. Rounds that follow each other
//! in both operands become one depth. The order of the sums never changes, so neither do the results.
//! Which loop is cut for threads, and into what, never depends on the number of threads that run it.

use std::collections::BTreeSet;

use rustc_hash::FxHashMap;

use crate::ir::loops::cost::cost;
use crate::ir::loops::steps::written;
use crate::ir::loops::{
    Affine, Buffer, BufferId, BufferParameter, Call, Contract, Cut, Instruction, Kernel, LoopVar, Matrix, Place,
    Program, Repeat, Round, Section, Step,
};
use crate::passes::lower::finish::Draft;
use crate::passes::lower::shared::Shared;
use crate::passes::pad_rows::is_padded;
use crate::passes::{Limits, LoopPass};

mod alone;
mod choice;
mod nest;
mod pack;
mod rename;
mod shape;
mod site;
mod tuning;

pub use alone::{Alone, Product, alone, products};
pub use choice::{Choice, Left, Outermost, Right};
pub use shape::{Registers, TileShape};
pub use tuning::{ProductKey, Tuning};

use choice::{CACHED, FEW_SETS, LeftCopy, NEAR, Question, RightSource};
use nest::{Layout, LeftPanel};
use pack::Packing;
use site::Site;
use tuning::{Source, Surroundings};

/// The pass.
pub const PASS: LoopPass = LoopPass {
    name: "tile",
    doc: "cuts contractions into packed register tiles",
    run: |program, limits| Ok(tile(program, limits)),
};

/// Products of fewer multiplications stay as they are.
const SMALLEST: u64 = 2048;

/// So many products later a packed copy is made again instead of being kept for it.
const FAR: usize = 24;

/// In so many rounds a packed copy of an operand pays.
const MANY_ROUNDS: u64 = 8;

/// What a packed copy was made of; two products with the same key share it while nobody writes the source.
type PackedKey = (Section, Packing);

/// The program with every large contraction cut into tiles that fit into the registers of the machine.
pub fn tile(program: Program, limits: &Limits) -> Program {
    let Program { name, buffers, kernels, steps, pointers, arena_bytes } = program;
    let mut tiler = Tiler::new(limits, buffers, Task::All);
    tiler.steps(&kernels, steps);
    let Tiler { buffers, shared, .. } = tiler;
    let (kernels, steps) = shared.finish();
    Program { name, buffers, kernels, steps, pointers, arena_bytes }
}

/// What a walk through a program is for.
enum Task {
    /// To cut all products.
    All,
    /// To list them.
    List(Vec<Product>),
    /// To cut the one before which there are so many; `None` behind it.
    One { before: Option<usize>, choice: Choice },
}

/// A repeat that is being written: its variable, its rounds and the buffers that its steps write.
struct Around {
    var: LoopVar,
    count: u64,
    written: BTreeSet<u32>,
}

struct Tiler<'a> {
    limits: &'a Limits,
    task: Task,
    buffers: Vec<Buffer>,
    shared: Shared,
    /// The buffers of packed copies, and how many products there were when each was made or read last.
    packed: FxHashMap<PackedKey, (u32, usize)>,
    products: usize,
    /// Outermost first.
    repeats: Vec<Around>,
}

impl<'a> Tiler<'a> {
    fn new(limits: &'a Limits, buffers: Vec<Buffer>, task: Task) -> Tiler<'a> {
        let (shared, packed) = (Shared::default(), FxHashMap::default());
        Tiler { limits, task, buffers, shared, packed, products: 0, repeats: Vec::new() }
    }

    fn steps(&mut self, kernels: &[Kernel], steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Call(call) => self.call(&kernels[call.kernel as usize], call),
                Step::Index { ref target, .. } => {
                    let buffer = target.buffer;
                    self.packed.retain(|(source, _), _| source.buffer != buffer);
                    if matches!(self.task, Task::All) {
                        self.shared.push(step);
                    }
                }
                Step::Repeat(repeat) => self.repeat(kernels, repeat),
            }
        }
    }

    fn repeat(&mut self, kernels: &[Kernel], repeat: Repeat) {
        let written: BTreeSet<u32> = written(&repeat.steps, kernels).into_iter().collect();
        self.packed.retain(|(source, _), _| !written.contains(&source.buffer));
        self.repeats.push(Around { var: repeat.var, count: repeat.count, written });
        self.shared.enter();
        self.steps(kernels, repeat.steps);
        let steps = self.shared.leave();
        let around = self.repeats.pop().expect("it was pushed above");
        // What was packed of one round's data is of no use after it.
        let lasting =
            |source: &Section| source.offset.coefficient(around.var) == 0 && !around.written.contains(&source.buffer);
        self.packed.retain(|(source, _), _| lasting(source));
        if !steps.is_empty() {
            self.shared.push(Step::Repeat(Repeat { steps, ..repeat }));
        }
    }

    /// Around how many repeats data is packed: outside of all that neither write it nor move along it.
    fn packing_depth(&self, source: &Section) -> usize {
        let changes = |a: &Around| a.written.contains(&source.buffer) || source.offset.coefficient(a.var) != 0;
        self.repeats.iter().rposition(changes).map_or(0, |at| at + 1)
    }

    /// In how many rounds of repeats one packed copy of an operand is read.
    fn rounds_of(&self, source: &Section) -> u64 {
        self.repeats[self.packing_depth(source)..].iter().fold(1, |n, r| n.saturating_mul(r.count))
    }

    /// What is known of a right operand. If a product of few rows reads it in many rounds of repeats it is packed for them: in place its columns, of
    /// which each thread takes some, lie in few sets of the caches, and on as many pages as it has rows. So it is where that is done ahead of the calls, if the
    /// third cache has it, which gives a sixth more of what lies in one piece, or if its rows are no whole vectors.
    fn right_source(&self, kernel: &Kernel, call: &Call, contract: &Contract) -> RightSource {
        let right = contract.right.buffer.0 as usize;
        let section = &call.buffers[right];
        let buffer = &self.buffers[section.buffer as usize];
        let bytes_of = |elements: u64| elements.saturating_mul(kernel.buffers[right].dtype.bytes() as u64);
        let rounds = self.rounds_of(section);
        let row = bytes_of(contract.right.row_stride.unsigned_abs());
        let bytes = bytes_of(contract.columns.saturating_mul(contract.steps()));
        let ahead = self.is_ahead(section);
        let lanes = self.limits.registers.lanes(kernel.buffers[right].dtype);
        let gains_ahead = bytes >= NEAR || !contract.columns.is_multiple_of(lanes);
        RightSource {
            rounds,
            for_few_rows: rounds >= MANY_ROUNDS && bytes >= NEAR / 2 || ahead && bytes <= CACHED && gains_ahead,
            ahead,
            is_spread: !row.is_multiple_of(FEW_SETS) || is_padded(self.limits, buffer, row),
        }
    }

    /// Whether a copy would be made ahead of the calls.
    fn is_ahead(&self, source: &Section) -> bool {
        let computed = matches!(self.buffers[source.buffer as usize].place, Place::Arena { .. });
        self.limits.ahead && !computed
    }

    fn call(&mut self, kernel: &Kernel, call: Call) {
        match Site::find(kernel).filter(|site| worth(&site.contract)) {
            Some(site) => self.product(kernel, &call, &site),
            None if matches!(self.task, Task::All) => self.shared.call_again(kernel, call.clone()),
            None => {}
        }
        let written = kernel.buffers.iter().zip(&call.buffers);
        for (_, section) in written.filter(|(p, _)| p.usage.writes()) {
            self.packed.retain(|(source, _), _| source.buffer != section.buffer);
        }
    }

    /// Does with a product what the walk is for.
    fn product(&mut self, kernel: &Kernel, call: &Call, site: &Site) {
        self.products += 1;
        let right = self.right_source(kernel, call, &site.contract);
        let question = Question { kernel, site, registers: self.limits.registers, right };
        let surroundings = self.surroundings(call, &site.contract);
        match &mut self.task {
            Task::All => {
                let choice = tuned(&self.limits.tuning, &question, &surroundings).unwrap_or_else(|| question.usual());
                self.cut(kernel, call, site, choice);
            }
            Task::List(products) => products.push(Product {
                key: surroundings.key(&question),
                number: products.len(),
                choices: question.alternatives(),
                cost: cost(kernel),
                rounds: surroundings.rounds,
            }),
            Task::One { before: before @ Some(1..), .. } => *before = before.map(|before| before - 1),
            Task::One { before: before @ Some(0), choice } => {
                let choice = *choice;
                *before = None;
                self.cut(kernel, call, site, choice);
            }
            Task::One { before: None, .. } => {}
        }
    }

    fn surroundings(&self, call: &Call, contract: &Contract) -> Surroundings {
        let source = |matrix: &Matrix| {
            let section = &call.buffers[matrix.buffer.0 as usize];
            Source { rounds: self.rounds_of(section), ahead: self.is_ahead(section) }
        };
        Surroundings {
            left: source(&contract.left),
            right: source(&contract.right),
            rounds: self.repeats.iter().fold(1, |n, r| n.saturating_mul(r.count)),
            threads: self.limits.tuning.threads,
        }
    }

    fn cut(&mut self, kernel: &Kernel, call: &Call, site: &Site, choice: Choice) {
        let Choice { shape, right, left, outermost } = choice;
        let (mut product, mut cut) = (Draft { kernel: kernel.clone(), buffers: call.buffers.clone() }, site.clone());
        let panels_outside = outermost == Outermost::Panels;
        let lanes = self.limits.registers.lanes(kernel.values[site.contract.accumulator.0 as usize]);
        let mut layout =
            Layout { shape, lanes, left_panel: None, right_packed: right == Right::Packed, panels_outside };
        if right == Right::Packed {
            let packing = Packing::of_right(site, shape.columns);
            cut.contract.right = Matrix {
                buffer: self.pack(&mut product, &packing),
                address: packing.packed_address(),
                row_stride: shape.columns as i64,
                column_stride: 1,
            };
            packed_rounds(&mut cut.contract, |round, step| round.right_stride = step, shape.columns);
        }
        if let Left::Packed { rows } = left {
            layout.left_panel = self.pack_left(&mut product, site, &mut cut.contract, rows);
        }
        join_rounds(&mut cut.contract);
        for draft in nest::kernels(&product, &cut, layout) {
            self.shared.call(draft, &kernel.name);
        }
    }

    /// Packs the left operand in panels of `rows` rows, and says how they lie.
    fn pack_left(&mut self, product: &mut Draft, site: &Site, contract: &mut Contract, rows: u64) -> Option<LeftPanel> {
        let left = &site.contract.left;
        let packing = match LeftCopy::of(&product.kernel, site, rows)? {
            LeftCopy::Rows(packing) => {
                contract.left = Matrix {
                    buffer: self.pack(product, &packing),
                    address: packing.packed_address(),
                    row_stride: 1,
                    column_stride: rows as i64,
                };
                packed_rounds(contract, |round, step| round.left_stride = step, rows);
                packing
            }
            LeftCopy::Lines(packing) => {
                let length = site.contract.rows as i64;
                let moved = |distance: i64| distance / length * rows as i64;
                let address = Affine {
                    constant: moved(left.address.constant),
                    terms: left.address.terms.iter().map(|(var, factor)| (*var, moved(*factor))).collect(),
                };
                let buffer = self.pack(product, &packing);
                contract.left = Matrix { buffer, address, row_stride: 1, column_stride: moved(left.column_stride) };
                contract.rounds.iter_mut().for_each(|round| round.left_stride = moved(round.left_stride));
                packing
            }
        };
        Some(LeftPanel { rows, stride: packing.steps() * rows })
    }

    /// Packs an operand of `product`, unless an earlier product left the same, and makes the packed one a parameter.
    fn pack(&mut self, product: &mut Draft, packing: &Packing) -> BufferId {
        let source = product.buffers[packing.source.0 as usize].clone();
        let parameter = product.kernel.buffers[packing.source.0 as usize].clone();
        let key = (source.clone(), packing.canonical());
        let products = self.products;
        let near = self.packed.get_mut(&key).filter(|(_, last)| products - *last <= FAR || !self.repeats.is_empty());
        let packed = match near {
            Some((packed, last)) => {
                *last = products;
                *packed
            }
            None => {
                let packed = self.buffers.len() as u32;
                let name = format!("packed_{}", self.buffers[source.buffer as usize].name);
                let (dtype, elements) = (parameter.dtype, packing.elements());
                self.buffers.push(Buffer { name, dtype, elements, place: Place::Arena { offset: None } });
                let depth = self.packing_depth(&source);
                for draft in packing.kernels(&parameter, &source, packed) {
                    self.shared.call_at(depth, draft, &format!("pack_{elements}"));
                }
                self.packed.insert(key, (packed, products));
                packed
            }
        };
        let name = format!("packed_{}", parameter.name);
        product.kernel.buffers.push(BufferParameter { name, elements: packing.elements(), ..parameter });
        product.buffers.push(Section::whole(packed));
        BufferId(product.buffers.len() as u32 - 1)
    }
}

/// What has been found for a product, if that is one of its choices.
fn tuned(tuning: &Tuning, question: &Question<'_>, surroundings: &Surroundings) -> Option<Choice> {
    if tuning.choices.is_empty() {
        return None;
    }
    let choice = *tuning.choices.get(&surroundings.key(question))?;
    question.alternatives().contains(&choice).then_some(choice)
}

/// Whether tiles pay for a product.
fn worth(contract: &Contract) -> bool {
    let work = contract.rows.saturating_mul(contract.columns).saturating_mul(contract.steps());
    work >= SMALLEST && contract.columns >= 4
}

/// Sets the steps from round to round of an operand that is packed with `width` elements a step of the depth.
fn packed_rounds(contract: &mut Contract, set: fn(&mut Round, i64), width: u64) {
    let mut step = contract.depth * width;
    for round in contract.rounds.iter_mut().rev() {
        set(round, step as i64);
        step *= round.count;
    }
}

/// Joins the innermost rounds with the depth, and rounds with each other, where both operands go on as they would within one.
///
/// The sum stays cut where it was: an axis whose last block is shorter is not joined with the one around it.
fn join_rounds(contract: &mut Contract) {
    let depth = Round {
        count: contract.depth,
        left_stride: contract.left.column_stride,
        right_stride: contract.right.row_stride,
    };
    let axes: Vec<Round> = contract.rounds.iter().copied().chain([depth]).collect();
    // Innermost first, each with the size of a block if it is cut.
    let mut joined: Vec<(Round, Option<u64>)> = Vec::new();
    for (level, axis) in axes.into_iter().enumerate().rev() {
        let size = contract.cut.filter(|c| c.level == level).map(|c| c.size);
        match joined.last_mut() {
            Some((inner, cut)) if follows(&axis, inner) && cut.is_none_or(|size| inner.count.is_multiple_of(size)) => {
                *cut = cut.or(size.map(|size| size * inner.count));
                inner.count *= axis.count;
            }
            _ => joined.push((axis, size)),
        }
    }
    joined.reverse();
    contract.cut =
        joined.iter().position(|j| j.1.is_some()).and_then(|level| Some(Cut { level, size: joined[level].1? }));
    let (depth, _) = joined.pop().expect("there is at least the depth");
    contract.depth = depth.count;
    contract.rounds = joined.into_iter().map(|j| j.0).collect();
}

/// Whether each round of `outer` begins where the one before it has ended with `inner`.
fn follows(outer: &Round, inner: &Round) -> bool {
    let count = inner.count as i64;
    outer.left_stride == inner.left_stride * count && outer.right_stride == inner.right_stride * count
}

/// Whether a block holds nothing but a contraction at its end, and what stands before it.
fn last_contract(instructions: &[Instruction]) -> Option<(&[Instruction], &Contract)> {
    match instructions.split_last()? {
        (Instruction::Contract(contract), before) => Some((before, contract)),
        _ => None,
    }
}
