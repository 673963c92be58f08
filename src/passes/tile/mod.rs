//! Cuts contractions into register tiles.
//!
//! A product large enough becomes loops over tiles of a fixed shape. The right operand is first packed into panels by a kernel of its
//! own ([`pack`]); with few rows it is read where it lies, since then each element is used only once or twice, and so it is if its rows are short. The left one is
//! read where it lies if its depth is contiguous or its rows overlap, as the windows of a convolution do, and packed otherwise, since
//! steps of a power of two miss the first cache. What no round of a repeat changes is packed once before it. Rounds that follow each other
//! in both operands become one depth. The order of the sums never changes, so neither do the results.
//! Which loop is cut for threads, and into what, depends on the shape alone.

use std::collections::BTreeSet;

use rustc_hash::FxHashMap;

use crate::ir::loops::steps::written;
use crate::ir::loops::{
    Affine, Buffer, BufferId, BufferParameter, Call, Contract, Cut, Instruction, Kernel, LoopVar, Matrix, Place,
    Program, Repeat, Round, Section, Step,
};
use crate::ir::types::DType;
use crate::passes::LoopPass;
use crate::passes::lower::finish::Draft;
use crate::passes::lower::shared::Shared;

mod nest;
mod pack;
mod rename;
mod site;

use nest::{Layout, LeftPanel};
use pack::Packing;
use site::Site;

/// The pass.
pub const PASS: LoopPass = LoopPass {
    name: "tile",
    doc: "cuts contractions into packed register tiles",
    run: |program, limits| Ok(tile(program, limits.registers)),
};

/// The vector registers of the machine that tiles are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers {
    /// Bytes of one.
    pub bytes: u64,
    /// How many of them a tile sums in: with one for a number of the left operand and those of a step of the right one they fill all there are.
    /// A code generator of smaller vectors does a tile in parts.
    pub sums: u64,
}

impl Default for Registers {
    /// Sixteen of 256 bits.
    fn default() -> Registers {
        Registers { bytes: 32, sums: 12 }
    }
}

impl Registers {
    /// Elements in a register.
    fn lanes(self, dtype: DType) -> u64 {
        self.bytes / dtype.bytes() as u64
    }
}

/// Products of fewer multiplications stay as they are.
const SMALLEST: u64 = 2048;

/// With at most so many rows, counted in all loops that use the same right operand, that is read where it lies.
const FEW_ROWS: u64 = 8;

/// A right operand whose rows have at most so many elements is read where it lies: the panels of a row are in a few lines next to each other.
const SHORT_ROW: u64 = 64;

/// But it is packed where a panel of so many steps leaves no room in the first cache, and what lies beside it comes with it from the second one, in
/// which all of it stays.
const LONG_SUM: u64 = 256;

/// A left operand whose depth is not contiguous is packed for at least so many columns, if its steps are multiples of [`FEW_SETS`] bytes, which
/// leaves them few places in the first cache, or else for so very many.
const MANY_COLUMNS: u64 = 32;
const VERY_MANY_COLUMNS: u64 = 128;
const FEW_SETS: u64 = 512;

/// A left operand is not packed if that would take so many times its room.
const MOST_COPIES: u64 = 2;

/// Rows of a panel of a packed left operand: several tiles, so that a step of the depth is most of a cache line.
const LEFT_PANEL: u64 = 12;

/// So many products later a packed copy is made again instead of being kept for it.
const FAR: usize = 24;

/// In so many rounds a packed copy of an operand pays.
const MANY_ROUNDS: u64 = 8;

/// Bytes that stay in the second cache while others pass through it.
const NEAR: u64 = 1 << 18;

/// The register tile: rows and columns of accumulators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TileShape {
    pub rows: u64,
    pub columns: u64,
}

impl TileShape {
    /// The shape for a product of this many columns: each step of the depth loads a vector for every so many columns and a number for every row.
    /// Narrower or wider where that pads less.
    fn for_product(registers: Registers, dtype: DType, columns: u64) -> TileShape {
        let lanes = registers.lanes(dtype);
        // Two, three and one vectors, and what a column costs in each.
        let widths = [(2, 20), (3, 21), (1, 23)].map(|(vectors, cost)| (vectors * lanes, cost));
        let padded = |(width, cost): &(u64, u64)| (columns.next_multiple_of(*width) * cost, std::cmp::Reverse(*width));
        let (width, _) = widths.into_iter().min_by_key(padded).expect("there are widths");
        let columns = columns.next_multiple_of(4).min(width);
        TileShape { rows: registers.sums / columns.div_ceil(lanes), columns }
    }

    /// The shape for a right operand that is read in place by few rows: for one row narrower where that leaves no rest, which one thread would have to do,
    /// unless every row of the operand is on a page of its own, since each tile goes through all of them.
    fn in_place(registers: Registers, dtype: DType, contract: &Contract) -> TileShape {
        let short = contract.right.row_stride.unsigned_abs() * (dtype.bytes() as u64) < PAGE;
        if contract.rows == 1 && short {
            return TileShape::of_one_row(registers, dtype, contract.columns);
        }
        let rows = contract.rows.min(4);
        TileShape { rows, columns: ENOUGH_SUMS / rows * registers.lanes(dtype) }
    }

    /// The shape for one row: as wide as can be, or narrower where only that leaves no rest.
    fn of_one_row(registers: Registers, dtype: DType, columns: u64) -> TileShape {
        let [widest, narrower] = [ENOUGH_SUMS, FEWEST_SUMS].map(|sums| sums * registers.lanes(dtype));
        let no_rest = !columns.is_multiple_of(widest) && columns.is_multiple_of(narrower);
        TileShape { rows: 1, columns: if no_rest { narrower } else { widest } }
    }
}

/// So many vectors of sums take an operand that is read in place as fast as memory gives it, where every machine has registers for them; more would
/// leave fewer tiles for threads.
const ENOUGH_SUMS: u64 = 12;

/// So many vectors of sums go side by side without waiting for each other.
const FEWEST_SUMS: u64 = 8;

/// Bytes of a page of memory.
const PAGE: u64 = 4096;

/// What a packed copy was made of; two products with the same key share it while nobody writes the source.
type PackedKey = (Section, Packing);

/// The program with every large contraction cut into tiles that fit into these registers.
pub fn tile(program: Program, registers: Registers) -> Program {
    let Program { name, buffers, kernels, steps, pointers, arena_bytes } = program;
    let (shared, packed) = (Shared::default(), FxHashMap::default());
    let mut tiler = Tiler { registers, buffers, shared, packed, products: 0, repeats: Vec::new() };
    tiler.steps(&kernels, steps);
    let Tiler { buffers, shared, .. } = tiler;
    let (kernels, steps) = shared.finish();
    Program { name, buffers, kernels, steps, pointers, arena_bytes }
}

/// A repeat that is being written: its variable, its rounds and the buffers that its steps write.
struct Around {
    var: LoopVar,
    count: u64,
    written: BTreeSet<u32>,
}

struct Tiler {
    registers: Registers,
    buffers: Vec<Buffer>,
    shared: Shared,
    /// The buffers of packed copies, and how many products there were when each was made or read last.
    packed: FxHashMap<PackedKey, (u32, usize)>,
    products: usize,
    /// Outermost first.
    repeats: Vec<Around>,
}

impl Tiler {
    fn steps(&mut self, kernels: &[Kernel], steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Call(call) => self.call(&kernels[call.kernel as usize], call),
                Step::Index { ref target, .. } => {
                    let buffer = target.buffer;
                    self.packed.retain(|(source, _), _| source.buffer != buffer);
                    self.shared.push(step);
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
        self.shared.push(Step::Repeat(Repeat { steps, ..repeat }));
    }

    /// Around how many repeats data is packed: outside of all that neither write it nor move along it.
    fn packing_depth(&self, source: &Section) -> usize {
        let changes = |a: &Around| a.written.contains(&source.buffer) || source.offset.coefficient(a.var) != 0;
        self.repeats.iter().rposition(changes).map_or(0, |at| at + 1)
    }

    /// Whether the right operand of a product of few rows is read in so many rounds of repeats that it is packed for them: in place its columns, of which each thread takes
    /// some, lie in few sets of the caches, and on as many pages as it has rows.
    fn is_read_again(&self, call: &Call, site: &Site, dtype: DType) -> bool {
        let right = &call.buffers[site.contract.right.buffer.0 as usize];
        let rounds = self.repeats[self.packing_depth(right)..].iter().fold(1u64, |n, r| n.saturating_mul(r.count));
        let bytes = site.contract.columns.saturating_mul(site.contract.steps()) * dtype.bytes() as u64;
        rounds >= MANY_ROUNDS && bytes >= NEAR / 2
    }

    fn call(&mut self, kernel: &Kernel, call: Call) {
        match Site::find(kernel).filter(|site| worth(&site.contract)) {
            Some(site) => self.product(kernel, &call, &site),
            None => self.shared.call_again(kernel, call.clone()),
        }
        let written = kernel.buffers.iter().zip(&call.buffers);
        for (_, section) in written.filter(|(p, _)| p.usage.writes()) {
            self.packed.retain(|(source, _), _| source.buffer != section.buffer);
        }
    }

    fn product(&mut self, kernel: &Kernel, call: &Call, site: &Site) {
        self.products += 1;
        let contract = &site.contract;
        let dtype = kernel.values[contract.accumulator.0 as usize];
        let same_right = |var: LoopVar| contract.right.address.coefficient(var) == 0;
        let rows = site.around.iter().filter(|a| same_right(a.0)).fold(contract.rows, |n, a| n.saturating_mul(a.1));
        let few_rows = rows <= FEW_ROWS && contract.right.column_stride == 1;
        let again = few_rows && self.is_read_again(call, site, dtype);
        let shape = match (few_rows, contract.rows) {
            (true, 1) if again => TileShape::of_one_row(self.registers, dtype, contract.columns),
            (true, 1..=4) => TileShape::in_place(self.registers, dtype, contract),
            (true, _) if !again => TileShape::in_place(self.registers, dtype, contract),
            _ => TileShape::for_product(self.registers, dtype, contract.columns),
        };
        let in_place = few_rows && !again || is_panels(contract, shape, dtype.bytes() as u64);
        let (mut product, mut cut) = (Draft { kernel: kernel.clone(), buffers: call.buffers.clone() }, site.clone());
        let mut layout = Layout { shape, left_panel: None, right_packed: false, panels_outside: false };
        if !in_place {
            let packing = Packing::of_right(site, shape.columns);
            cut.contract.right = Matrix {
                buffer: self.pack(&mut product, &packing),
                address: packing.packed_address(),
                row_stride: shape.columns as i64,
                column_stride: 1,
            };
            packed_rounds(&mut cut.contract, |round, step| round.right_stride = step, shape.columns);
            layout.right_packed = true;
        }
        if !few_rows {
            layout.left_panel = self.pack_left(&mut product, site, &mut cut.contract, shape);
        }
        layout.panels_outside = layout.right_packed && panels_outside(kernel, site, shape);
        join_rounds(&mut cut.contract);
        for draft in nest::kernels(&product, &cut, layout) {
            self.shared.call(draft, &kernel.name);
        }
    }

    /// Packs the left operand where that pays, and says how its panels lie.
    fn pack_left(
        &mut self,
        product: &mut Draft,
        site: &Site,
        contract: &mut Contract,
        shape: TileShape,
    ) -> Option<LeftPanel> {
        let left = &site.contract.left;
        let parameter = &product.kernel.buffers[left.buffer.0 as usize];
        let bytes = left.column_stride.unsigned_abs() * parameter.dtype.bytes() as u64;
        let enough = if bytes.is_multiple_of(FEW_SETS) { MANY_COLUMNS } else { VERY_MANY_COLUMNS };
        if left.column_stride == 1 || site.contract.columns < enough {
            return None;
        }
        let rows = LEFT_PANEL.next_multiple_of(shape.rows);
        let packing = Packing::of_left(site, rows);
        if packing.elements() <= MOST_COPIES.saturating_mul(parameter.elements) {
            contract.left = Matrix {
                buffer: self.pack(product, &packing),
                address: packing.packed_address(),
                row_stride: 1,
                column_stride: rows as i64,
            };
            packed_rounds(contract, |round, step| round.left_stride = step, rows);
            return Some(LeftPanel { rows, stride: packing.steps() * rows });
        }
        // Windows overlap: what they lie in is packed, and they stay windows of that.
        let length = site.contract.rows as i64;
        let packing = Packing::of_lines(site, parameter.elements, rows)?;
        let moved = |distance: i64| distance / length * rows as i64;
        let address = Affine {
            constant: moved(left.address.constant),
            terms: left.address.terms.iter().map(|(var, factor)| (*var, moved(*factor))).collect(),
        };
        let buffer = self.pack(product, &packing);
        contract.left = Matrix { buffer, address, row_stride: 1, column_stride: moved(left.column_stride) };
        contract.rounds.iter_mut().for_each(|round| round.left_stride = moved(round.left_stride));
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

/// Whether a right operand lies as its packed form would, or nearly: whole panels, of which few share a row.
fn is_panels(contract: &Contract, shape: TileShape, bytes_of_element: u64) -> bool {
    let right = &contract.right;
    let whole = contract.columns.is_multiple_of(shape.columns);
    let bytes = contract.columns.saturating_mul(contract.steps()).saturating_mul(bytes_of_element);
    let longest = if contract.steps() > LONG_SUM && bytes <= NEAR { shape.columns } else { SHORT_ROW };
    whole && right.column_stride == 1 && right.row_stride.unsigned_abs() <= longest
}

/// Whether the panels of the right operand are gone through outside of the loops around a product: where that operand is too large for the second
/// cache, and reading the left one for each panel moves less memory than reading the right one in each round of those loops.
fn panels_outside(kernel: &Kernel, site: &Site, shape: TileShape) -> bool {
    let contract = &site.contract;
    let moves = |var: &LoopVar| contract.right.address.coefficient(*var) != 0;
    if site.around.iter().any(|(var, ..)| moves(var)) {
        return false;
    }
    let rounds = site.around.iter().fold(1u64, |rounds, (_, extent, _)| rounds.saturating_mul(*extent));
    let parameter = &kernel.buffers[contract.left.buffer.0 as usize];
    let bytes = |elements: u64| elements.saturating_mul(parameter.dtype.bytes() as u64);
    let panels = contract.columns.div_ceil(shape.columns);
    let (left, right) = (bytes(parameter.elements), bytes(contract.columns.saturating_mul(contract.steps())));
    let left_again = if left > NEAR { panels } else { 1 };
    right > NEAR && left.saturating_mul(left_again) < right.saturating_mul(rounds)
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
