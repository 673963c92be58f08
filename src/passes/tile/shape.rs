//! Register tiles: what a machine sums in, and the shapes of tiles that fill it.

use serde::{Deserialize, Serialize};

use crate::ir::loops::Contract;
use crate::ir::types::DType;

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
    pub(super) fn lanes(self, dtype: DType) -> u64 {
        self.bytes / dtype.bytes() as u64
    }
}

/// The register tile: rows and columns of accumulators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TileShape {
    pub rows: u64,
    pub columns: u64,
}

impl TileShape {
    /// The shape for a product of this many columns: each step of the depth loads a vector for every so many columns and a number for every row.
    /// Narrower or wider where that pads less.
    pub(super) fn for_product(registers: Registers, dtype: DType, columns: u64) -> TileShape {
        let lanes = registers.lanes(dtype);
        // Two, three and one vectors, and what a column costs in each.
        let widths = [(2, 20), (3, 21), (1, 23)].map(|(vectors, cost)| (vectors, vectors * lanes, cost));
        let padded =
            |(_, width, cost): &(u64, u64, u64)| (columns.next_multiple_of(*width) * cost, std::cmp::Reverse(*width));
        let (vectors, ..) = widths.into_iter().min_by_key(padded).expect("there are widths");
        TileShape::of_vectors(registers, dtype, columns, vectors)
    }

    /// The highest tile that is so many vectors wide, or as the product is where that has fewer columns.
    pub(super) fn of_vectors(registers: Registers, dtype: DType, columns: u64, vectors: u64) -> TileShape {
        let lanes = registers.lanes(dtype);
        let columns = columns.next_multiple_of(4).min(vectors * lanes);
        TileShape { rows: registers.sums / columns.div_ceil(lanes), columns }
    }

    /// The shape for a right operand that is read in place by few rows: for one row narrower where that leaves no rest, which one thread would have to do,
    /// unless every row of the operand is on a page of its own, since each tile goes through all of them.
    pub(super) fn in_place(registers: Registers, dtype: DType, contract: &Contract) -> TileShape {
        let short = contract.right.row_stride.unsigned_abs() * (dtype.bytes() as u64) < PAGE;
        if contract.rows == 1 && short {
            return TileShape::of_one_row(registers, dtype, contract.columns);
        }
        TileShape::of_few_rows(registers, dtype, contract.rows, ENOUGH_SUMS)
    }

    /// The shape for few rows: as wide as so many vectors of sums allow.
    pub(super) fn of_few_rows(registers: Registers, dtype: DType, rows: u64, sums: u64) -> TileShape {
        let rows = rows.min(HIGHEST_IN_PLACE);
        TileShape { rows, columns: sums / rows * registers.lanes(dtype) }
    }

    /// The shape for one row whose right operand is packed: what waits for memory needs no more than [`FEW_BYTES`] side by side, and leaves tiles for threads.
    pub(super) fn of_packed_row(registers: Registers, dtype: DType, columns: u64) -> TileShape {
        let narrow = TileShape { rows: 1, columns: FEW_BYTES / dtype.bytes() as u64 };
        let fits = narrow.columns >= registers.lanes(dtype) && columns.is_multiple_of(narrow.columns);
        let shape = if fits { narrow } else { TileShape::of_one_row(registers, dtype, columns) };
        shape.within(registers, dtype, columns)
    }

    /// The shape for few rows whose right operand is packed.
    pub(super) fn of_packed_rows(registers: Registers, dtype: DType, rows: u64, columns: u64) -> TileShape {
        TileShape::of_few_rows(registers, dtype, rows, ENOUGH_SUMS).within(registers, dtype, columns)
    }

    /// No more vectors than these columns fill.
    fn within(self, registers: Registers, dtype: DType, columns: u64) -> TileShape {
        TileShape { columns: self.columns.min(columns.next_multiple_of(registers.lanes(dtype))), ..self }
    }

    /// The shape for one row: as wide as can be, or narrower where only that leaves no rest.
    pub(super) fn of_one_row(registers: Registers, dtype: DType, columns: u64) -> TileShape {
        let [widest, narrower] =
            [ENOUGH_SUMS, FEWEST_SUMS].map(|sums| TileShape::of_few_rows(registers, dtype, 1, sums));
        let no_rest = !columns.is_multiple_of(widest.columns) && columns.is_multiple_of(narrower.columns);
        if no_rest { narrower } else { widest }
    }
}

/// Rows of a tile whose right operand is read in place.
const HIGHEST_IN_PLACE: u64 = 4;

/// So many vectors of sums take an operand that is read in place as fast as memory gives it, where every machine has registers for them; more would
/// leave fewer tiles for threads.
pub(super) const ENOUGH_SUMS: u64 = 12;

/// So many vectors of sums go side by side without waiting for each other.
pub(super) const FEWEST_SUMS: u64 = 8;

/// Bytes of sums in a row that are enough where the right operand comes from a far cache: eight vectors of 256 bits, four of 512.
const FEW_BYTES: u64 = 256;

/// Bytes of a page of memory.
const PAGE: u64 = 4096;
