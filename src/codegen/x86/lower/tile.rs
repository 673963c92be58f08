//! `Tile`: a product that stays in registers: as many vectors of sums as there are registers for, one load for each vector of B, one broadcast for each row of A.

use iced_x86::Code;

use super::rounds::Copy;
use super::{Binding, Bound, Lowered, Lowering, Unsupported};
use crate::codegen::x86::machine::{Instruction, Memory, Operand, Vectors, Virtual, plain};
use crate::ir::loops::{self, Affine, BufferId, BufferUse, Cut, Matrix, Tile};
use crate::ir::types::DType;

/// Steps of k written out in one round of the inner loop of a tile of so many sums: a round is long enough without more.
fn unrolled(sums: usize) -> u64 {
    if sums > 12 { 2 } else { 4 }
}

/// An epilogue of at least so many instructions is written for two vectors at a time; three need more registers than there are.
const LONG_EPILOGUE: usize = 24;

/// Below so many steps the product is done before anything that it asks for could come.
const FEWEST_STEPS: u64 = 16;

/// Buffers of fewer bytes are near anyway.
const SMALLEST_FAR: u64 = 1 << 16;

/// So many lines are on their way to a core at a time.
const FETCHED_AT_ONCE: u64 = 20;

/// More rows than these are often as far from each other as the first cache has sets, and would drive each other out of it.
const MANY_ROWS: u64 = 24;

/// Fewer vectors of sums than these wait for each other's additions: several blocks of a sum that is cut are summed side by side.
const SIDE_BY_SIDE: usize = 8;

/// Bytes that memory moves together.
const LINE: u64 = 64;

/// A summed axis: its extent and the bytes that both operands move by.
#[derive(Clone, Copy)]
struct Axis {
    count: u64,
    left: i64,
    right: i64,
}

/// Where the operands start, in registers that may be moved.
#[derive(Clone, Copy)]
struct Cursor {
    left: Virtual,
    right: Virtual,
    /// Bytes from there to the same step of the next block of those that are summed side by side.
    next_left: i64,
    next_right: i64,
}

/// A vector of a tile's sums, by number, and how many of its lanes count.
#[derive(Clone, Copy, Debug)]
pub(super) struct Summed {
    pub number: usize,
    pub active: usize,
}

/// Code that is written in so many pieces between the parts of a product.
pub(super) struct Beside<'w, L> {
    pub pieces: usize,
    pub write: &'w mut dyn FnMut(&mut L, usize) -> Lowered,
}

/// The product of a tile: what every step needs to know.
pub(super) struct Product<'t> {
    pub tile: &'t Tile,
    /// Outermost first; the last is the depth.
    axes: Vec<Axis>,
    /// Bytes from row to row of A.
    row: i64,
    vectors: usize,
    /// All ones in the lanes of the last vector that have a column, where these are neither all of them nor four.
    mask: Option<Virtual>,
}

impl Product<'_> {
    /// Vectors of sums.
    pub fn sums(&self) -> usize {
        self.vectors * self.tile.rows as usize
    }

    /// The vectors that have columns to store, those whose epilogues are written together in one group.
    pub fn groups(&self, lanes: usize, side_by_side: usize) -> Vec<Vec<Summed>> {
        let stored = self.tile.stored_columns as usize;
        let mut groups: Vec<Vec<Summed>> = Vec::new();
        for number in 0..self.sums() {
            let active = stored.saturating_sub(number % self.vectors * lanes).min(lanes);
            match groups.last_mut() {
                _ if active == 0 => {}
                Some(group) if group.len() < side_by_side && group[0].active == active => {
                    group.push(Summed { number, active });
                }
                _ => groups.push(vec![Summed { number, active }]),
            }
        }
        groups
    }
}

impl Lowering<'_> {
    pub(super) fn tile(&mut self, tile: &Tile) -> Lowered {
        let product = self.product(tile)?;
        let sums = self.summed(&product, None)?;
        self.tile_epilogue(&product, &sums)
    }

    /// What is known of a tile's product before it is summed.
    ///
    /// # Errors
    /// If the tile is left to the other code generator.
    pub(super) fn product<'t>(&mut self, tile: &'t Tile) -> Lowered<Product<'t>> {
        if self.dtype(tile.accumulator) != DType::F32 {
            return Err(Unsupported("a tile of another width"));
        }
        let (lanes, columns) = (self.lanes(), tile.columns as usize);
        let rest = columns % lanes;
        let count = columns.div_ceil(lanes) * tile.rows as usize;
        if count > self.code.vectors.sums() || !rest.is_multiple_of(4) {
            return Err(Unsupported("a tile of another shape"));
        }
        let mask = (rest > 4).then(|| self.active_mask(rest)).map(|mask| self.in_register(mask));
        let vectors = columns.div_ceil(lanes);
        let product = Product { tile, axes: axes(tile), row: 4 * tile.left.row_stride, vectors, mask };
        let farthest = product.axes.last().map_or(0, |a| a.left.abs().max(a.right.abs())) * unrolled(count) as i64;
        if product.row.abs() * tile.rows as i64 + farthest >= 1 << 30 {
            return Err(Unsupported("a tile of far rows"));
        }
        Ok(product)
    }

    /// Sums a product, and writes something else beside it. The sums are in registers.
    ///
    /// # Errors
    /// Only a product of one axis, summed in one go, has places for something else.
    pub(super) fn summed(&mut self, product: &Product<'_>, beside: Option<Beside<'_, Self>>) -> Lowered<Vec<Virtual>> {
        let tile = product.tile;
        if beside.is_some() && (tile.cut.is_some() || product.axes.len() != 1) {
            return Err(Unsupported("something beside a sum of several parts"));
        }
        let fetches = self.fetches(product)?;
        let (left, right) = (self.origin(&tile.left)?, self.origin(&tile.right)?);
        let start = Cursor { left, right, next_left: 0, next_right: 0 };
        match tile.cut {
            None => {
                let sums = self.zeros(product.sums());
                self.sum_and_fetch(product, start, &sums, fetches, beside)?;
                // The epilogue needs registers: what waits for it is another value than what the inner loop sums.
                Ok(sums.into_iter().map(|s| self.copy(s)).collect())
            }
            Some(cut) => {
                fetches.into_iter().for_each(|fetch| self.push(fetch));
                let totals: Vec<Memory> = (0..product.sums()).map(|_| self.slot()).collect();
                let zero = self.zero();
                totals.iter().for_each(|t| self.keep(zero, *t));
                self.blocks_of_tile(product, cut, 0, start, &totals)?;
                Ok(totals.into_iter().map(|t| self.in_register(t.into())).collect())
            }
        }
    }

    /// What asks for the memory that the epilogue touches, so that it comes while the product is summed. Rows are far apart, which the
    /// machine does not foresee by itself.
    fn fetches(&mut self, product: &Product<'_>) -> Lowered<Vec<Instruction>> {
        let tile = product.tile;
        let mut fetches = Vec::new();
        if tile.steps() < FEWEST_STEPS {
            return Ok(fetches);
        }
        self.hoist(&tile.epilogue)?;
        let many = self.updated_rows(tile) > MANY_ROWS;
        let mut asked: Vec<(BufferId, &Affine)> = Vec::new();
        for instruction in &tile.epilogue.instructions {
            let (loops::Instruction::Load { buffer, address, .. } | loops::Instruction::Store { buffer, address, .. }) =
                instruction
            else {
                continue;
            };
            if !self.is_far(tile, *buffer, address) || asked.contains(&(*buffer, address)) {
                continue;
            }
            asked.push((*buffer, address));
            let parameter = &self.kernel.buffers[buffer.0 as usize];
            let bytes = parameter.dtype.bytes() as u64;
            let code = match parameter.usage {
                BufferUse::Read => Code::Prefetcht0_m8,
                BufferUse::Update if many => Code::Prefetcht1_m8,
                BufferUse::Write | BufferUse::Update => Code::Prefetchw_m8,
            };
            // Lines may begin in the middle of a row: the last element's is asked for too.
            let line = (LINE / bytes) as usize;
            let last = tile.stored_columns as usize - 1;
            let places = (0..=last).step_by(line).chain((!last.is_multiple_of(line)).then_some(last));
            for (row, column) in (0..tile.rows).flat_map(|row| places.clone().map(move |column| (row, column))) {
                let memory = self.with_variable(tile.row, Binding::Known(row as i64), |this| {
                    this.with_variable(tile.column, Binding::Known(column as i64), |this| this.memory(*buffer, address))
                })?;
                fetches.push(plain(code, None, vec![memory.into()]));
            }
        }
        Ok(fetches)
    }

    /// Whether an epilogue has rows of a buffer from far away at some address.
    pub(super) fn is_far(&self, tile: &Tile, buffer: BufferId, address: &Affine) -> bool {
        let parameter = &self.kernel.buffers[buffer.0 as usize];
        let in_rows = address.coefficient(tile.column) == 1 && address.coefficient(tile.row) != 0;
        in_rows && parameter.elements * parameter.dtype.bytes() as u64 >= SMALLEST_FAR
    }

    /// Rows of far buffers that an epilogue changes.
    fn updated_rows(&self, tile: &Tile) -> u64 {
        let is_updated = |i: &&loops::Instruction| match i {
            loops::Instruction::Store { buffer, address, .. } => {
                self.kernel.buffers[buffer.0 as usize].usage == BufferUse::Update && self.is_far(tile, *buffer, address)
            }
            _ => false,
        };
        tile.epilogue.instructions.iter().filter(is_updated).count() as u64 * tile.rows
    }

    /// Sums the product, and before each part of the depth asks for some memory, since what is asked for at once beyond [`FETCHED_AT_ONCE`] lines is forgotten or
    /// waited for, and writes a piece of what shall run beside it.
    fn sum_and_fetch(
        &mut self,
        product: &Product<'_>,
        start: Cursor,
        sums: &[Virtual],
        fetches: Vec<Instruction>,
        mut beside: Option<Beside<'_, Self>>,
    ) -> Lowered {
        let at_once = unrolled(sums.len());
        let pieces = beside.as_ref().map_or(0, |b| b.pieces);
        let parts = (fetches.len() as u64).div_ceil(FETCHED_AT_ONCE);
        let (axis, parts) = match product.axes.as_slice() {
            [axis] if pieces > 0 => (*axis, parts.max(pieces as u64)),
            [axis] if parts > 1 && axis.count >= parts * FEWEST_STEPS => (*axis, parts),
            _ => {
                fetches.into_iter().for_each(|fetch| self.push(fetch));
                return self.axes(product, &product.axes, start, sums);
            }
        };
        let rounds = axis.count / at_once;
        let mut fetches = fetches.into_iter();
        let per_part = fetches.len().div_ceil(parts as usize);
        for part in 0..parts {
            fetches.by_ref().take(per_part).for_each(|fetch| self.push(fetch));
            if let Some(beside) = &mut beside
                && (part as usize) < pieces
            {
                (beside.write)(self, part as usize)?;
            }
            let of_part = ((part + 1) * rounds / parts - part * rounds / parts) * at_once;
            let left = if part + 1 == parts { axis.count % at_once } else { 0 };
            self.depth(product, Axis { count: of_part + left, ..axis }, start, sums)?;
        }
        Ok(())
    }

    fn zeros(&mut self, count: usize) -> Vec<Virtual> {
        (0..count).map(|_| self.zero()).collect()
    }

    /// The address of an operand's first element, in a register that may be moved.
    fn origin(&mut self, matrix: &Matrix) -> Lowered<Virtual> {
        let memory = self.memory(matrix.buffer, &matrix.address)?;
        Ok(self.address_of(memory))
    }

    pub(super) fn keep(&mut self, register: Virtual, to: Memory) {
        self.push(crate::codegen::x86::machine::store(crate::codegen::x86::machine::Class::Vector, register, to));
    }

    fn moved(&mut self, cursor: Cursor) -> Cursor {
        Cursor { left: self.copy(cursor.left), right: self.copy(cursor.right), ..cursor }
    }

    fn advance(&mut self, cursor: Cursor, axis: Axis, steps: i64) -> Lowered {
        for (register, step) in [(cursor.left, axis.left), (cursor.right, axis.right)] {
            let distance = step.saturating_mul(steps);
            if i32::try_from(distance).is_err() {
                return Err(Unsupported("an operand far along"));
            }
            self.add(register, distance);
        }
        Ok(())
    }

    /// All blocks in the axes from number `level` on, each summed in registers and added to the totals in the frame.
    fn blocks_of_tile(
        &mut self,
        product: &Product<'_>,
        cut: Cut,
        level: usize,
        start: Cursor,
        totals: &[Memory],
    ) -> Lowered {
        let axis = product.axes[level];
        if level < cut.level {
            return self.repeated(axis.count, &mut |this| {
                let inner = this.moved(start);
                this.blocks_of_tile(product, cut, level + 1, inner, totals)?;
                this.advance(start, axis, 1)
            });
        }
        let (whole, rest) = (axis.count / cut.size, axis.count % cut.size);
        let [next_left, next_right] = [axis.left, axis.right].map(|step| step.saturating_mul(cut.size as i64));
        let start = Cursor { next_left, next_right, ..start };
        let blocks = |this: &mut Self, count: u64, length: u64| {
            let mut axes = product.axes[level..].to_vec();
            axes[0].count = length;
            let sums = this.zeros(totals.len() * count as usize);
            let inner = this.moved(start);
            this.axes(product, &axes, inner, &sums)?;
            // Each total takes the blocks in their order.
            let (first, others) = sums.split_at(totals.len());
            for (number, slot) in totals.iter().enumerate() {
                let mut add =
                    |sum: Virtual, total: Operand| this.op(Code::VEX_Vaddps_ymm_ymm_ymmm256, &[sum.into(), total]);
                let others = others.iter().skip(number).step_by(totals.len());
                let total = others.fold(add(first[number], (*slot).into()), |total, sum| add(*sum, total.into()));
                this.keep(total, *slot);
            }
            Ok(())
        };
        let at_once = blocks_at_once(totals.len(), whole, start);
        self.repeated(whole / at_once, &mut |this| {
            blocks(this, at_once, cut.size)?;
            this.advance(start, axis, (at_once * cut.size) as i64)
        })?;
        let left = whole % at_once;
        if left > 0 {
            blocks(self, left, cut.size)?;
            self.advance(start, axis, (left * cut.size) as i64)?;
        }
        if rest > 0 { blocks(self, 1, rest) } else { Ok(()) }
    }

    /// Adds the products of some axes; moves the cursor.
    fn axes(&mut self, product: &Product<'_>, axes: &[Axis], cursor: Cursor, sums: &[Virtual]) -> Lowered {
        let (axis, inside) = axes.split_first().expect("there is at least the depth");
        if inside.is_empty() {
            return self.depth(product, *axis, cursor, sums);
        }
        self.repeated(axis.count, &mut |this| {
            let inner = this.moved(cursor);
            this.axes(product, inside, inner, sums)?;
            this.advance(cursor, *axis, 1)
        })
    }

    /// The innermost axis: rounds of several steps, then what is left.
    fn depth(&mut self, product: &Product<'_>, axis: Axis, cursor: Cursor, sums: &[Virtual]) -> Lowered {
        let at_once = unrolled(sums.len());
        self.repeated(axis.count / at_once, &mut |this| {
            (0..at_once as i64).for_each(|k| this.step(product, axis, cursor, k, sums));
            this.advance(cursor, axis, at_once as i64)
        })?;
        (0..(axis.count % at_once) as i64).for_each(|k| self.step(product, axis, cursor, k, sums));
        Ok(())
    }

    /// One step of k, in each of the blocks that are summed side by side.
    fn step(&mut self, product: &Product<'_>, axis: Axis, cursor: Cursor, k: i64, sums: &[Virtual]) {
        for (block, sums) in sums.chunks(product.sums().max(1)).enumerate() {
            let left = Memory::at(cursor.left, (k * axis.left + block as i64 * cursor.next_left) as i32);
            let right = Memory::at(cursor.right, (k * axis.right + block as i64 * cursor.next_right) as i32);
            self.step_of_block(product, left, right, sums);
        }
    }

    /// One step for all rows and columns.
    fn step_of_block(&mut self, product: &Product<'_>, left: Memory, right: Memory, sums: &[Virtual]) {
        let rows = product.tile.rows as usize;
        let mut of_columns: Vec<Operand> = Vec::with_capacity(product.vectors);
        for vector in 0..product.vectors {
            let memory = further(right, (vector * self.code.vectors.bytes()) as i64);
            let is_whole = (vector + 1) * self.lanes() <= product.tile.columns as usize;
            of_columns.push(match (is_whole, product.mask, rows) {
                (true, _, 1) => memory.into(),
                (true, _, _) => self.in_register(memory.into()).into(),
                (false, None, _) => self.op(Code::VEX_Vmovups_xmm_xmmm128, &[memory.into()]).into(),
                (false, Some(mask), _) => {
                    self.op(Code::VEX_Vmaskmovps_ymm_ymm_m256, &[mask.into(), memory.into()]).into()
                }
            });
        }
        for row in 0..rows {
            let place = further(left, row as i64 * product.row);
            // Used once, a number goes into its product where it lies: beside a load of its own, products take a third longer (Zen 4).
            let left = match product.vectors == 1 && rows > 1 && self.code.vectors == Vectors::Avx512 {
                true => Operand::Repeated(place),
                false => self.op(Code::VEX_Vbroadcastss_ymm_m32, &[place.into()]).into(),
            };
            for (vector, right) in of_columns.iter().enumerate() {
                let sum = sums[row * product.vectors + vector];
                self.push(Instruction::MultiplyAdd { destination: sum, a: left, b: *right, c: sum.into() });
            }
        }
    }

    /// The epilogue of every row, a vector of columns at once; what does not fill a vector has fewer lanes that count.
    fn tile_epilogue(&mut self, product: &Product<'_>, sums: &[Virtual]) -> Lowered {
        self.hoist(&product.tile.epilogue)?;
        // Long epilogues are chains of operations that wait for each other: those of two vectors run side by side.
        let side_by_side = if is_long(product.tile) { 2 } else { 1 };
        let groups = product.groups(self.lanes(), side_by_side);
        groups.iter().try_for_each(|vectors| {
            let sums = vectors.iter().map(|v| sums[v.number]).collect();
            self.epilogue_of(product, vectors, sums)
        })
    }

    /// The epilogue of some vectors, whose sums are in registers.
    pub(super) fn epilogue_of(&mut self, product: &Product<'_>, vectors: &[Summed], sums: Vec<Virtual>) -> Lowered {
        let (tile, lanes) = (product.tile, self.lanes());
        let place = |number: usize| {
            let (row, vector) = (number / product.vectors, number % product.vectors);
            vec![Binding::Known(row as i64), Binding::Known((vector * lanes) as i64)]
        };
        let outer = place(vectors[0].number);
        self.with_variable(tile.row, outer[0], |this| {
            this.in_lanes(tile.column, vectors[0].active, outer[1], |this| {
                let copy = |(vector, sum): (&Summed, Virtual)| {
                    let mut values = this.values.clone();
                    values[tile.accumulator.0 as usize] = Some(Bound::Lanes(sum));
                    Copy { bindings: place(vector.number), values }
                };
                let all = vectors.iter().zip(sums).map(copy).collect();
                this.together(all, &tile.epilogue)
            })
        })
    }
}

/// Some bytes further on.
fn further(memory: Memory, bytes: i64) -> Memory {
    Memory { displacement: memory.displacement + bytes as i32, ..memory }
}

/// How many of `whole` blocks, of so many vectors of sums each, are summed side by side.
fn blocks_at_once(sums: usize, whole: u64, cursor: Cursor) -> u64 {
    let count = ((SIDE_BY_SIDE / sums.max(1)) as u64).min(whole).max(1);
    let step = cursor.next_left.saturating_abs().max(cursor.next_right.saturating_abs());
    if step.saturating_mul(count as i64) < 1 << 30 { count } else { 1 }
}

/// Whether a tile's epilogue needs many operations for each element.
pub(super) fn is_long(tile: &Tile) -> bool {
    tile.epilogue.instructions.len() >= LONG_EPILOGUE
}

fn axes(tile: &Tile) -> Vec<Axis> {
    let rounds = tile.rounds.iter().map(|r| (r.count, r.left_stride, r.right_stride));
    let depth = (tile.depth, tile.left.column_stride, tile.right.row_stride);
    rounds.chain([depth]).map(|(count, left, right)| Axis { count, left: 4 * left, right: 4 * right }).collect()
}
