//! `Tile`: a product that stays in registers, written in the order in which it shall run.
//!
//! Functions that hold tiles are compiled without optimization, so what is written here is what runs.
//! An FMA of Cranelift overwrites a multiplicand (it never picks the form that overwrites the addend), so an operand used again is copied; a copy
//! costs no execution unit. What counts is to load little: one load of B for each pack, one of A for each row.
//!
//! Share of the 256-bit FMA peak by shape (f32, operands in L1; half is the ceiling of 128-bit vectors): 2×16 48.8 %, 4×8 and 5×8
//! 38-42 %, 3×12 41 %, 4×12 38 %, 1×24 37 %, 2×12 37 %, 1×16 and 2×8 25 %.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{self as clif, BlockArg, InstBuilder, StackSlot, StackSlotData, StackSlotKind, types};

use super::kernel::{Binding, Lowered, Lowering, flags};
use super::memory::Place;
use super::value::{Slot, pack_lanes, pack_type};
use crate::ir::loops::{Cut, Matrix, Round, Tile};

/// Steps of k written out in one round of the inner loop.
const UNROLL: u64 = 8;

/// So many steps are written out without any loop.
const WRITTEN_OUT: u64 = 16;

/// Where the operands of a round of the inner loop start.
#[derive(Clone, Copy)]
struct Cursor {
    left: clif::Value,
    right: clif::Value,
}

/// Vectors of sums that stay in registers. A tile of more is done in parts, one after the other.
const MOST_SUMS: usize = 8;

impl Lowering<'_, '_> {
    pub(super) fn tile(&mut self, tile: &Tile) -> Lowered {
        let lanes = pack_lanes(self.dtype(tile.accumulator));
        let columns = (tile.columns as usize).next_multiple_of(lanes).min(MOST_SUMS * lanes);
        let rows = MOST_SUMS / (columns / lanes);
        for row in (0..tile.rows as usize).step_by(rows.max(1)) {
            for column in (0..tile.columns as usize).step_by(columns) {
                self.tile_part(&part_of(tile, (row, rows), (column, columns)), row, column)?;
            }
        }
        Ok(())
    }

    /// A part whose first row and column have these numbers in the whole tile.
    fn tile_part(&mut self, tile: &Tile, row: usize, column: usize) -> Lowered {
        let dtype = self.dtype(tile.accumulator);
        let packs = (tile.columns as usize).div_ceil(pack_lanes(dtype));
        let count = packs * tile.rows as usize;
        let start = Cursor { left: self.origin(&tile.left), right: self.origin(&tile.right) };
        let zeros = self.zero_sums(tile, count);
        let slot = match tile.cut {
            None => {
                let sums = self.tile_rounds(tile, &tile.rounds, tile.depth, start, zeros);
                self.keep_sums(&sums)
            }
            Some(cut) => {
                let totals = self.keep_sums(&zeros);
                self.tile_blocks(tile, cut, 0, start, (totals, count));
                totals
            }
        };
        self.tile_epilogue(tile, slot, count, (row, column))
    }

    fn zero_sums(&mut self, tile: &Tile, count: usize) -> Vec<clif::Value> {
        let zero = self.constant_pack(self.dtype(tile.accumulator), 0.0);
        vec![zero; count]
    }

    /// The bytes from one index of a summed axis to the next, in both operands. The depth follows the rounds.
    fn axis_steps(&self, tile: &Tile, level: usize) -> [i64; 2] {
        let bytes = self.dtype(tile.accumulator).bytes() as i64;
        let depth = [tile.left.column_stride, tile.right.row_stride];
        tile.rounds.get(level).map_or(depth, |r| [r.left_stride, r.right_stride]).map(|stride| stride * bytes)
    }

    /// All blocks in the axes from number `level` on, each summed in registers and added to the totals on the stack.
    fn tile_blocks(&mut self, tile: &Tile, cut: Cut, level: usize, start: Cursor, totals: (StackSlot, usize)) {
        let steps = self.axis_steps(tile, level);
        if level < cut.level {
            self.top_tested(tile.rounds[level].count, start, Vec::new(), steps, |this, cursor, none| {
                this.tile_blocks(tile, cut, level + 1, cursor, totals);
                none
            });
            return;
        }
        let (whole, rest) = cut.blocks(&tile.rounds, tile.depth);
        let long = steps.map(|s| s * cut.size as i64);
        self.top_tested(whole, start, Vec::new(), long, |this, cursor, none| {
            this.tile_block(tile, level, cut.size, cursor, totals);
            none
        });
        if rest > 0 {
            let [left, right] = long.map(|s| s * whole as i64);
            let cursor = Cursor { left: self.advance(start.left, left), right: self.advance(start.right, right) };
            self.tile_block(tile, level, rest, cursor, totals);
        }
    }

    /// Adds the sum of one block, so much of axis `level`, to the totals.
    fn tile_block(&mut self, tile: &Tile, level: usize, extent: u64, start: Cursor, (slot, count): (StackSlot, usize)) {
        let zeros = self.zero_sums(tile, count);
        let mut rounds = tile.rounds.get(level..).unwrap_or_default().to_vec();
        let depth = match rounds.first_mut() {
            Some(round) => {
                round.count = extent;
                tile.depth
            }
            None => extent,
        };
        let sums = self.tile_rounds(tile, &rounds, depth, start, zeros);
        for (i, sum) in sums.into_iter().enumerate() {
            let (place, ty) = (16 * i as i32, self.builder.func.dfg.value_type(sum));
            let before = self.builder.ins().stack_load(types::I64, ty, slot, place);
            let total = self.builder.ins().fadd(before, sum);
            self.builder.ins().stack_store(types::I64, total, slot, place);
        }
    }

    fn origin(&mut self, matrix: &Matrix) -> clif::Value {
        let Place { base, offset } = self.place(matrix.buffer, &matrix.address);
        if offset == 0 { base } else { self.builder.ins().iadd_imm_s(base, i64::from(offset)) }
    }

    /// The rounds, each a loop around the next ones; a few short ones are written out.
    fn tile_rounds(
        &mut self,
        tile: &Tile,
        rounds: &[Round],
        depth: u64,
        start: Cursor,
        sums: Vec<clif::Value>,
    ) -> Vec<clif::Value> {
        let Some((round, rest)) = rounds.split_first() else { return self.tile_depth(tile, depth, start, sums) };
        let bytes = self.dtype(tile.accumulator).bytes() as i64;
        let steps = [round.left_stride * bytes, round.right_stride * bytes];
        let inside = rest.iter().fold(depth, |product, r| product.saturating_mul(r.count));
        if round.count.saturating_mul(inside) > WRITTEN_OUT {
            return self.top_tested(round.count, start, sums, steps, |this, cursor, sums| {
                this.tile_rounds(tile, rest, depth, cursor, sums)
            });
        }
        (0..round.count as i64).fold(sums, |sums, number| {
            let cursor = Cursor {
                left: self.advance(start.left, number * steps[0]),
                right: self.advance(start.right, number * steps[1]),
            };
            self.tile_rounds(tile, rest, depth, cursor, sums)
        })
    }

    /// All steps of k: rounds of [`UNROLL`] steps, then what is left.
    fn tile_depth(&mut self, tile: &Tile, depth: u64, start: Cursor, sums: Vec<clif::Value>) -> Vec<clif::Value> {
        let steps = self.axis_steps(tile, tile.rounds.len());
        let round = steps.map(|s| s * UNROLL as i64);
        if depth <= WRITTEN_OUT {
            return (0..depth).fold(sums, |sums, k| self.tile_step(tile, start, k as i64, &sums));
        }
        let rounds = depth / UNROLL;
        let sums = self.top_tested(rounds, start, sums, round, |this, cursor, sums| {
            (0..UNROLL).fold(sums, |sums, k| this.tile_step(tile, cursor, k as i64, &sums))
        });
        let done = (rounds * UNROLL) as i64;
        let rest = Cursor {
            left: self.advance(start.left, done * steps[0]),
            right: self.advance(start.right, done * steps[1]),
        };
        (0..depth % UNROLL).fold(sums, |sums, k| self.tile_step(tile, rest, k as i64, &sums))
    }

    fn advance(&mut self, base: clif::Value, bytes: i64) -> clif::Value {
        if bytes == 0 { base } else { self.builder.ins().iadd_imm_s(base, bytes) }
    }

    /// A loop that tests at its top, which keeps the sums in their registers; `steps` are the bytes that the cursor moves by.
    fn top_tested(
        &mut self,
        rounds: u64,
        start: Cursor,
        sums: Vec<clif::Value>,
        steps: [i64; 2],
        body: impl FnOnce(&mut Self, Cursor, Vec<clif::Value>) -> Vec<clif::Value>,
    ) -> Vec<clif::Value> {
        if rounds == 0 {
            return sums;
        }
        let [head, inside, exit] = [(); 3].map(|()| self.builder.create_block());
        let mut parameters = Vec::new();
        let count = self.builder.ins().iconst(types::I64, rounds as i64);
        let arguments: Vec<clif::Value> = [count, start.left, start.right].into_iter().chain(sums).collect();
        for value in &arguments {
            let ty = self.builder.func.dfg.value_type(*value);
            parameters.push(self.builder.append_block_param(head, ty));
        }
        self.jump(head, &arguments);
        self.builder.switch_to_block(head);
        let more = self.builder.ins().icmp_imm_s(IntCC::NotEqual, parameters[0], 0);
        self.builder.ins().brif(more, inside, &[], exit, &[]);
        self.builder.switch_to_block(inside);
        let cursor = Cursor { left: parameters[1], right: parameters[2] };
        let sums = body(self, cursor, parameters[3..].to_vec());
        let count = self.builder.ins().iadd_imm_s(parameters[0], -1);
        let left = self.advance(cursor.left, steps[0]);
        let right = self.advance(cursor.right, steps[1]);
        let next: Vec<clif::Value> = [count, left, right].into_iter().chain(sums).collect();
        self.jump(head, &next);
        self.builder.switch_to_block(exit);
        parameters[3..].to_vec()
    }

    fn jump(&mut self, to: clif::Block, arguments: &[clif::Value]) {
        let arguments: Vec<BlockArg> = arguments.iter().map(|v| BlockArg::Value(*v)).collect();
        self.builder.ins().jump(to, &arguments);
    }

    /// One step of k for all rows and columns. Each pack of B is loaded, used for all rows and forgotten, so that besides the sums only
    /// the numbers of A stay in registers; where those are more than the packs, it is the other way round.
    fn tile_step(&mut self, tile: &Tile, cursor: Cursor, k: i64, sums: &[clif::Value]) -> Vec<clif::Value> {
        let rows = tile.rows as usize;
        let packs = sums.len() / rows.max(1);
        let mut next = sums.to_vec();
        if rows <= packs {
            let left: Vec<clif::Value> = (0..rows).map(|row| self.left_number(tile, cursor, k, row)).collect();
            for pack in 0..packs {
                let right = self.right_pack(tile, cursor, k, pack);
                for (row, left) in left.iter().enumerate() {
                    next[row * packs + pack] = self.builder.ins().fma(right, *left, sums[row * packs + pack]);
                }
            }
        } else {
            let right: Vec<clif::Value> = (0..packs).map(|pack| self.right_pack(tile, cursor, k, pack)).collect();
            for row in 0..rows {
                let left = self.left_number(tile, cursor, k, row);
                for (pack, right) in right.iter().enumerate() {
                    next[row * packs + pack] = self.builder.ins().fma(*right, left, sums[row * packs + pack]);
                }
            }
        }
        next
    }

    /// A pack of B at step `k` of a round.
    fn right_pack(&mut self, tile: &Tile, cursor: Cursor, k: i64, pack: usize) -> clif::Value {
        let dtype = self.dtype(tile.accumulator);
        let distance = k * tile.right.row_stride * dtype.bytes() as i64 + 16 * pack as i64;
        let place = Place { base: cursor.right, offset: 0 }.plus(distance);
        self.builder.ins().load(pack_type(dtype), flags(), place.base, place.offset)
    }

    /// A number of A at step `k` of a round, in all lanes.
    fn left_number(&mut self, tile: &Tile, cursor: Cursor, k: i64, row: usize) -> clif::Value {
        let dtype = self.dtype(tile.accumulator);
        let distance = (row as i64 * tile.left.row_stride + k * tile.left.column_stride) * dtype.bytes() as i64;
        let scalar = self.load_scalar(dtype, Place { base: cursor.left, offset: 0 }.plus(distance));
        self.builder.ins().splat(pack_type(dtype), scalar)
    }

    /// Puts the sums on the stack. An epilogue needs registers of its own; sums that waited for it in registers would be
    /// spilled in the middle of the inner loop, where the time of a store and a load is not hidden.
    fn keep_sums(&mut self, sums: &[clif::Value]) -> StackSlot {
        let data = StackSlotData::new(StackSlotKind::ExplicitSlot, 16 * sums.len() as u32, 4);
        let slot = self.builder.create_sized_stack_slot(data);
        for (i, sum) in sums.iter().enumerate() {
            self.builder.ins().stack_store(types::I64, *sum, slot, 16 * i as i32);
        }
        slot
    }

    /// The epilogue of every row, with as many lanes at once as are stored; what does not fill a pack goes by scalars.
    fn tile_epilogue(&mut self, tile: &Tile, slot: StackSlot, sums: usize, first: (usize, usize)) -> Lowered {
        let dtype = self.dtype(tile.accumulator);
        let packs = sums / (tile.rows as usize).max(1);
        let wide = tile.stored_columns as usize / 4 * 4;
        for row in 0..tile.rows as usize {
            let place = |pack: usize| 16 * (row * packs + pack) as i32;
            let mine: Vec<clif::Value> = (0..packs)
                .map(|p| self.builder.ins().stack_load(types::I64, pack_type(dtype), slot, place(p)))
                .collect();
            self.with_variable(tile.row, Binding::Known((first.0 + row) as i64), |this| {
                if wide > 0 {
                    let slot = Slot::Lanes(mine[..wide / pack_lanes(dtype)].to_vec());
                    this.at_width(tile.column, wide, Binding::Known(first.1 as i64), |this| {
                        this.bind(tile.accumulator, slot);
                        this.block(&tile.epilogue)
                    })?;
                }
                for column in wide..tile.stored_columns as usize {
                    let pack = mine[column / pack_lanes(dtype)];
                    let lane = this.extract(dtype, pack, (column % pack_lanes(dtype)) as u8);
                    this.at_width(tile.column, 1, Binding::Known((first.1 + column) as i64), |this| {
                        this.bind(tile.accumulator, Slot::Uniform(lane));
                        this.block(&tile.epilogue)
                    })?;
                }
                Ok(())
            })?;
        }
        Ok(())
    }
}

/// Some rows and columns of a tile: as many as are asked for, or fewer at its edges.
fn part_of(tile: &Tile, (row, rows): (usize, usize), (column, columns): (usize, usize)) -> Tile {
    let within = |size: u64, first: usize, most: usize| (size as usize).saturating_sub(first).min(most) as u64;
    let mut part = Tile {
        rows: within(tile.rows, row, rows),
        columns: within(tile.columns, column, columns),
        stored_columns: within(tile.stored_columns, column, columns),
        ..tile.clone()
    };
    part.left.address.constant += row as i64 * tile.left.row_stride;
    part.right.address.constant += column as i64;
    part
}
