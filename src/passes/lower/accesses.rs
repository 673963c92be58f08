//! Which elements of each buffer a block touches: every address, with the extents of the variables in it.

use std::collections::BTreeMap;

use super::visit::{Touch, Visitor, walk};
use crate::ir::loops::{Affine, Block, BufferId, Instruction, LoopVar};

/// How one buffer is used.
#[derive(Clone, Debug, Default)]
pub(crate) struct Uses {
    pub written: bool,
    /// With a variable of its own for each index that goes on from an address.
    pub addresses: Vec<Affine>,
}

/// All accesses of a block.
#[derive(Clone, Debug, Default)]
pub(crate) struct Accesses {
    pub of_buffer: BTreeMap<BufferId, Uses>,
    /// Of the variables that the block binds, and of those made for indices.
    pub extents: BTreeMap<LoopVar, u64>,
    /// Expressions that are values and no addresses.
    pub values: Vec<Affine>,
    current: Option<BufferId>,
    /// The indices that go on from the address to come, each as a variable of its own.
    reaches: Vec<(LoopVar, i64)>,
    /// How many variables were made for indices.
    indices: u32,
}

impl Accesses {
    /// The accesses of a block.
    pub fn of(block: &Block) -> Accesses {
        Accesses::in_place(&mut block.clone())
    }

    /// The accesses of a block, which is left as it is: a walk asks for leave to change what it visits.
    pub fn in_place(block: &mut Block) -> Accesses {
        let mut accesses = Accesses::default();
        collect_extents(block, &mut accesses.extents);
        walk(block, &mut accesses);
        accesses
    }
}

impl Visitor for Accesses {
    fn buffer(&mut self, buffer: &mut BufferId, touch: Touch) {
        self.current = Some(*buffer);
        let uses = self.of_buffer.entry(*buffer).or_default();
        uses.written |= touch.writes();
    }

    fn reach(&mut self, stride: i64, extent: u64) {
        // Counted down from the last number, which no kernel's own variables reach.
        let var = LoopVar(u32::MAX - self.indices);
        self.indices += 1;
        self.extents.insert(var, extent);
        self.reaches.push((var, stride));
    }

    fn affine(&mut self, affine: &mut Affine) {
        let Some(buffer) = self.current.take() else { return self.values.push(affine.clone()) };
        let uses = self.of_buffer.entry(buffer).or_default();
        let reaches = std::mem::take(&mut self.reaches);
        let address = reaches.into_iter().fold(affine.clone(), |address, (var, stride)| address.plus(var, stride));
        uses.addresses.push(address);
    }
}

/// The extent of every variable that a block binds.
pub(crate) fn collect_extents(block: &Block, extents: &mut BTreeMap<LoopVar, u64>) {
    for instruction in &block.instructions {
        match instruction {
            Instruction::For { var, extent, body, .. }
            | Instruction::Lanes { var, extent, body }
            | Instruction::Fold { var, extent, body, .. } => {
                extents.insert(*var, *extent);
                collect_extents(body, extents);
            }
            Instruction::Contract(c) => {
                extents.extend([(c.row, c.rows), (c.column, c.columns)]);
                collect_extents(&c.epilogue, extents);
            }
            Instruction::Tile(t) => {
                // Its epilogue sees no other columns.
                extents.extend([(t.row, t.rows), (t.column, t.stored_columns)]);
                collect_extents(&t.epilogue, extents);
            }
            _ => {}
        }
    }
}
