//! Tiles in loops, each of which is finished while the next one is summed.
//!
//! An epilogue with roots and quotients keeps the units for products idle, and the sums after it start too late for the processor to see
//! them. So the sums of a tile go to the frame, and its epilogue is written in pieces between the parts of the next tile's depth: these
//! have nothing to do with each other and run together. Only the order of independent operations is another, no result.
//!
//! All tiles share one code: where the loops' variables were is kept beside the sums, and the first tile jumps over the pieces.

use iced_x86::Code;

use super::tile::{Beside, Product, Summed, is_long};
use super::{Binding, Lowered, Lowering, PointerKey};
use crate::codegen::x86::machine::{Condition, Instruction as Machine, Memory, Virtual};
use crate::ir::loops::{Block, Carried, Instruction, LoopVar, Tile};
use crate::ir::scalar::ScalarFunction;

/// Steps of products beside which epilogues are written.
const DEPTHS: std::ops::RangeInclusive<u64> = 64..=512;

/// Registers beside those of the sums that an epilogue needs. With fewer it goes through the frame, which costs more than waiting.
const SPARE: usize = 8;

/// Vectors whose epilogues are one piece.
const AT_ONCE: usize = 2;

/// Loops around nothing but a tile, outermost first.
pub(super) struct Nest<'b> {
    loops: Vec<(LoopVar, u64)>,
    tile: &'b Tile,
}

impl<'b> Nest<'b> {
    /// The nest of a loop that carries nothing, if there is nothing in it but a tile.
    fn of(var: LoopVar, extent: u64, body: &'b Block) -> Option<Nest<'b>> {
        let (mut loops, mut inside) = (vec![(var, extent)], body);
        loop {
            match inside.instructions.as_slice() {
                [Instruction::For { var, extent, carried, body }] if carried.is_empty() => {
                    loops.push((*var, *extent));
                    inside = body;
                }
                [Instruction::Tile(tile)] => return Some(Nest { loops, tile }),
                _ => return None,
            }
        }
    }
}

/// The tile whose sums wait.
struct Waiting<'p> {
    product: &'p Product<'p>,
    groups: Vec<Vec<Summed>>,
    sums: Vec<Memory>,
    /// Whether there is one: 0 or 1.
    flag: Virtual,
    /// What the loops' variables were.
    variables: Vec<Virtual>,
}

impl Lowering<'_> {
    /// The nest of a loop, if the epilogues of its tiles may wait for the sums of the next ones and gain by it.
    pub(super) fn deferrable<'b>(
        &self,
        var: LoopVar,
        extent: u64,
        carried: &[Carried],
        body: &'b Block,
    ) -> Option<Nest<'b>> {
        let nest = Nest::of(var, extent, body)?;
        let serves = carried.is_empty() && self.copies.is_none() && self.may_wait(nest.tile) && self.gains(nest.tile);
        serves.then_some(nest)
    }

    /// Whether a tile's sums depend on no epilogue before.
    fn may_wait(&self, tile: &Tile) -> bool {
        let stores = |i: &Instruction| match i {
            Instruction::Store { buffer, .. } | Instruction::StoreAt { buffer, .. } => {
                *buffer == tile.left.buffer || *buffer == tile.right.buffer
            }
            _ => false,
        };
        tile.cut.is_none() && !tile.epilogue.instructions.iter().any(stores)
    }

    /// Whether a tile's epilogue waits itself, for slow operations or for memory, and its product is neither too short to have room for it nor so long that it
    /// does not matter. A long epilogue would need the registers of the sums.
    fn gains(&self, tile: &Tile) -> bool {
        let waits = |i: &Instruction| match i {
            Instruction::Map { function, .. } => matches!(function, ScalarFunction::Sqrt | ScalarFunction::Div),
            Instruction::Load { buffer, address, .. } => self.is_far(tile, *buffer, address),
            _ => false,
        };
        self.code.vectors.spare() >= SPARE
            && tile.rounds.is_empty()
            && DEPTHS.contains(&tile.depth)
            && !is_long(tile)
            && tile.epilogue.instructions.iter().any(waits)
    }

    /// All tiles of a nest.
    pub(super) fn deferred(&mut self, nest: &Nest<'_>) -> Lowered {
        let product = self.product(nest.tile)?;
        let waiting = Waiting {
            groups: product.groups(self.lanes(), AT_ONCE),
            sums: (0..product.sums()).map(|_| self.slot()).collect(),
            flag: self.number(0),
            variables: nest.loops.iter().map(|_| self.number(0)).collect(),
            product: &product,
        };
        self.loops_of(&nest.loops, &mut |this| this.beside_the_last(&waiting))?;
        let scope = self.scope.len();
        let bindings = nest.loops.iter().zip(&waiting.variables).map(|((var, _), r)| (*var, Binding::Register(*r, 0)));
        self.scope.extend(bindings);
        self.hoist(&nest.tile.epilogue)?;
        (0..waiting.groups.len()).try_for_each(|group| self.finish(&waiting, group))?;
        self.scope.truncate(scope);
        self.pointers.retain(|p| p.0 <= scope);
        Ok(())
    }

    fn number(&mut self, value: i64) -> Virtual {
        let destination = self.general();
        self.push(Machine::Number { destination, value });
        destination
    }

    fn loops_of(&mut self, loops: &[(LoopVar, u64)], body: &mut dyn FnMut(&mut Self) -> Lowered) -> Lowered {
        let Some(((var, extent), inside)) = loops.split_first() else { return body(self) };
        self.counted((0, 1, *extent), &mut |this, binding| {
            this.with_variable(*var, binding, |this| this.loops_of(inside, body))
        })
    }

    /// Sums a tile while the one that waits is finished; then this one waits.
    fn beside_the_last(&mut self, waiting: &Waiting<'_>) -> Lowered {
        let outside = self.scope.len() - waiting.variables.len();
        let mut pointers = self.pointers.iter().filter(|p| p.0 <= outside).cloned().collect();
        self.at_the_last(waiting, &mut pointers, |this| this.hoist(&waiting.product.tile.epilogue))?;
        let mut write = |this: &mut Self, group: usize| {
            this.unless_first(waiting, |this| {
                this.at_the_last(waiting, &mut pointers, |this| this.finish(waiting, group))
            })
        };
        let beside = Beside { pieces: waiting.groups.len(), write: &mut write };
        let sums = self.summed(waiting.product, Some(beside))?;
        sums.into_iter().zip(&waiting.sums).for_each(|(sum, to)| self.keep(sum, *to));
        self.remember(waiting, outside);
        Ok(())
    }

    /// Code that is jumped over while no tile waits.
    fn unless_first(&mut self, waiting: &Waiting<'_>, write: impl FnOnce(&mut Self) -> Lowered) -> Lowered {
        let after = self.label();
        self.push(Machine::Plain {
            code: Code::Cmp_rm64_imm32,
            destination: None,
            in_place: false,
            sources: vec![waiting.flag.into()],
            immediate: Some(1),
        });
        self.push(Machine::Jump { condition: Condition::Less, to: after });
        write(self)?;
        self.push(Machine::Label(after));
        Ok(())
    }

    /// From now on the tile waits at which the variables from some place in the scope on are.
    fn remember(&mut self, waiting: &Waiting<'_>, outside: usize) {
        self.push(Machine::Number { destination: waiting.flag, value: 1 });
        for (place, destination) in (outside..).zip(&waiting.variables) {
            match self.scope[place].1 {
                Binding::Known(value) => self.push(Machine::Number { destination: *destination, value }),
                Binding::Register(source, more) => {
                    self.push(Machine::Copy { destination: *destination, source });
                    self.add(*destination, more);
                }
            }
        }
    }

    /// Writes something where the loops' variables are what they were for the tile that waits, with the pointers made there.
    fn at_the_last(
        &mut self,
        waiting: &Waiting<'_>,
        pointers: &mut Vec<(usize, PointerKey, Virtual)>,
        write: impl FnOnce(&mut Self) -> Lowered,
    ) -> Lowered {
        let outside = self.scope.len() - waiting.variables.len();
        let now: Vec<Binding> = self.scope[outside..].iter().map(|entry| entry.1).collect();
        let last = waiting.variables.iter().map(|register| Binding::Register(*register, 0));
        self.scope[outside..].iter_mut().zip(last).for_each(|(entry, binding)| entry.1 = binding);
        std::mem::swap(&mut self.pointers, pointers);
        let outcome = write(self);
        std::mem::swap(&mut self.pointers, pointers);
        self.scope[outside..].iter_mut().zip(now).for_each(|(entry, binding)| entry.1 = binding);
        outcome
    }

    /// The epilogue of some vectors of the tile that waits.
    fn finish(&mut self, waiting: &Waiting<'_>, group: usize) -> Lowered {
        let vectors = &waiting.groups[group];
        let sums = vectors.iter().map(|v| self.in_register(waiting.sums[v.number].into())).collect();
        self.epilogue_of(waiting.product, vectors, sums)
    }
}
