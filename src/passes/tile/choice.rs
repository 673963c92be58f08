//! What there is to choose for a product: the shape of its tiles, which operands are packed, and which loop is the outermost.
//!
//! No choice changes the order in which one result's products are summed, so none changes a bit of the results. [`Question::usual`] decides by constants that were
//! measured on other machines and shapes; [`Question::alternatives`] is what a search by measurement may choose from, and all that is ever accepted of one.

use serde::{Deserialize, Serialize};

use super::pack::Packing;
use super::shape::{ENOUGH_SUMS, FEWEST_SUMS, Registers, TileShape};
use super::site::Site;
use crate::ir::loops::{Contract, Kernel, LoopVar};
use crate::ir::types::DType;

/// With at most so many rows, counted in all loops that use the same right operand, that is read where it lies.
const FEW_ROWS: u64 = 8;

/// With at most so many, a right operand of at least so many panels is read where it lies as well, if its rows are spread over the sets of the first
/// cache: a copy would take more time than tiles gain by it.
const MODERATE_ROWS: u64 = 256;
const MANY_PANELS: u64 = 4;

/// A right operand whose rows have at most so many elements is read where it lies: the panels of a row are in a few lines next to each other.
const SHORT_ROW: u64 = 64;

/// But it is packed where a panel of so many steps leaves no room in the first cache, and what lies beside it comes with it from the second one, in
/// which all of it stays.
const LONG_SUM: u64 = 256;

/// A left operand whose depth is not contiguous is packed for at least so many columns, if its steps are multiples of [`FEW_SETS`] bytes, which
/// leaves them few places in the first cache, or else for so very many.
const MANY_COLUMNS: u64 = 32;
const VERY_MANY_COLUMNS: u64 = 128;
pub(super) const FEW_SETS: u64 = 512;

/// An operand is not packed if that would take so many times its room, but for right ones that are known to gain by it.
const MOST_COPIES: u64 = 2;

/// Rows of a panel of a packed left operand: several tiles, so that a step of the depth is most of a cache line.
const LEFT_PANEL: u64 = 12;

/// Rows of a tile below which its sums wait for each other.
const FEWEST_ROWS: u64 = 4;

/// In more tiles of rows than these a rest hardly counts.
const FEW_TILES: u64 = 32;

/// Bytes that stay in the second cache while others pass through it.
pub(super) const NEAR: u64 = 1 << 18;

/// Bytes that the third cache keeps from call to call.
pub(super) const CACHED: u64 = 1 << 24;

/// Where tiles find the right operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Right {
    InPlace,
    /// In panels as wide as a tile.
    Packed,
}

/// Where tiles find the left operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Left {
    InPlace,
    /// In panels of so many rows.
    Packed {
        rows: u64,
    },
}

/// Which loop is the outermost of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outermost {
    /// Those around the product, each round of which goes through all panels.
    Rounds,
    /// The panels of the packed right operand, each of which goes through all those loops.
    Panels,
}

/// How a product is cut into tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Choice {
    pub shape: TileShape,
    pub right: Right,
    pub left: Left,
    pub outermost: Outermost,
}

impl std::fmt::Display for Choice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "tiles of {}×{}", self.shape.rows, self.shape.columns)?;
        let right = if self.right == Right::Packed { "packed" } else { "in place" };
        match self.left {
            Left::InPlace => write!(f, ", left in place, right {right}")?,
            Left::Packed { rows } => write!(f, ", left packed by {rows}, right {right}")?,
        }
        if self.outermost == Outermost::Panels { write!(f, ", panels outermost") } else { Ok(()) }
    }
}

/// A left operand as it is packed.
pub(super) enum LeftCopy {
    /// Its rows are.
    Rows(Packing),
    /// Windows overlap: what they lie in is packed, and they stay windows of that.
    Lines(Packing),
}

impl LeftCopy {
    /// The copy in panels of `rows` rows; `None` if there is none of reasonable size.
    pub(super) fn of(kernel: &Kernel, site: &Site, rows: u64) -> Option<LeftCopy> {
        let elements = kernel.buffers[site.contract.left.buffer.0 as usize].elements;
        let packing = Packing::of_left(site, rows);
        if packing.elements() <= MOST_COPIES.saturating_mul(elements) {
            return Some(LeftCopy::Rows(packing));
        }
        Packing::of_lines(site, elements, rows).map(LeftCopy::Lines)
    }
}

/// What a packed copy of a right operand would be for, and whether there is need of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RightSource {
    /// In how many rounds of repeats a packed copy would be read.
    pub rounds: u64,
    /// Whether a copy pays for few rows too.
    pub for_few_rows: bool,
    /// Whether a copy would be made ahead of the calls.
    pub ahead: bool,
    /// Whether its rows lie apart in the first cache, or will.
    pub is_spread: bool,
}

/// A product for which is to be chosen.
pub(super) struct Question<'a> {
    pub kernel: &'a Kernel,
    pub site: &'a Site,
    pub registers: Registers,
    pub right: RightSource,
}

impl Question<'_> {
    fn contract(&self) -> &Contract {
        &self.site.contract
    }

    /// The dtype of operands and sums.
    pub(super) fn dtype(&self) -> DType {
        self.kernel.values[self.contract().accumulator.0 as usize]
    }

    /// How many rows use the same right operand, in all loops around.
    fn rows(&self) -> u64 {
        let same_right = |var: LoopVar| self.contract().right.address.coefficient(var) == 0;
        let around = self.site.around.iter().filter(|a| same_right(a.0));
        around.fold(self.contract().rows, |n, a| n.saturating_mul(a.1))
    }

    /// Whether hardly more rows use an element of the right operand than it takes to pack it.
    fn few_rows(&self) -> bool {
        self.rows() <= FEW_ROWS && self.contract().right.column_stride == 1
    }

    /// Whether tiles of this shape lose less by a right operand that is not packed than it takes to pack it.
    fn moderate_rows(&self, shape: TileShape) -> bool {
        let (contract, right) = (self.contract(), self.right);
        contract.right.column_stride == 1
            && right.is_spread
            && !right.ahead
            && self.rows().saturating_mul(right.rounds) <= MODERATE_ROWS
            && contract.columns >= MANY_PANELS * shape.columns
    }

    /// The choice where nobody has measured.
    pub(super) fn usual(&self) -> Choice {
        let (contract, registers, dtype) = (self.contract(), self.registers, self.dtype());
        let few_rows = self.few_rows();
        let shape = match (few_rows, contract.rows) {
            (true, 1) if self.right.for_few_rows => TileShape::of_packed_row(registers, dtype, contract.columns),
            (true, rows @ 2..=4) if self.right.for_few_rows => {
                TileShape::of_packed_rows(registers, dtype, rows, contract.columns)
            }
            (true, _) if !self.right.for_few_rows => TileShape::in_place(registers, dtype, contract),
            _ => self.without_rest(TileShape::for_product(registers, dtype, contract.columns)),
        };
        let in_place = few_rows && !self.right.for_few_rows
            || self.moderate_rows(shape)
            || is_panels(contract, shape, dtype.bytes() as u64);
        let left = if few_rows { Left::InPlace } else { self.usual_left(shape) };
        let panels = !in_place && panels_outside(self.kernel, self.site, shape);
        Choice {
            shape,
            right: if in_place { Right::InPlace } else { Right::Packed },
            left,
            outermost: if panels { Outermost::Panels } else { Outermost::Rounds },
        }
    }

    /// A somewhat lower tile, if only that leaves no rest of rows where one thread would have to do it: a product of one panel that is in no loop.
    fn without_rest(&self, shape: TileShape) -> TileShape {
        let Contract { rows, columns, .. } = *self.contract();
        let is_alone = columns <= shape.columns && self.site.around.is_empty() && rows <= FEW_TILES * shape.rows;
        let vectors = shape.columns.div_ceil(self.registers.lanes(self.dtype()));
        let lowest = (shape.rows * 2).div_ceil(3).max(ENOUGH_SUMS.div_ceil(vectors));
        let height = (lowest..=shape.rows).rev().find(|height| rows.is_multiple_of(*height));
        TileShape { rows: height.filter(|_| is_alone).unwrap_or(shape.rows), ..shape }
    }

    fn usual_left(&self, shape: TileShape) -> Left {
        let left = &self.contract().left;
        let parameter = &self.kernel.buffers[left.buffer.0 as usize];
        let bytes = left.column_stride.unsigned_abs() * parameter.dtype.bytes() as u64;
        let enough = if bytes.is_multiple_of(FEW_SETS) { MANY_COLUMNS } else { VERY_MANY_COLUMNS };
        if left.column_stride == 1 || self.contract().columns < enough {
            return Left::InPlace;
        }
        self.packed_left(shape, 1).unwrap_or(Left::InPlace)
    }

    /// Panels of the usual height for tiles of this shape, so many times, if the left operand can be packed into them.
    fn packed_left(&self, shape: TileShape, times: u64) -> Option<Left> {
        let rows = LEFT_PANEL.next_multiple_of(shape.rows) * times;
        LeftCopy::of(self.kernel, self.site, rows).map(|_| Left::Packed { rows })
    }

    /// All that may be chosen, the usual choice first: tiles of other shapes, whose right operand lies as it is or is packed; the left operand packed otherwise or not at
    /// all, with either right one; the other loop outermost.
    pub(super) fn alternatives(&self) -> Vec<Choice> {
        let usual = self.usual();
        let mut all = vec![usual];
        for right in [usual.right, other(usual.right)].into_iter().filter(|right| self.allows(*right, usual)) {
            let outermost = if right == usual.right { usual.outermost } else { Outermost::Rounds };
            let same = Choice { right, outermost, ..usual };
            all.extend(self.shapes().map(|shape| Choice { shape, left: self.left_for(shape, usual.left), ..same }));
            all.extend(self.lefts(usual.shape).map(|left| Choice { left, ..same }));
        }
        if usual.right == Right::Packed && !self.right_moves() {
            let outermost = match usual.outermost {
                Outermost::Rounds => Outermost::Panels,
                Outermost::Panels => Outermost::Rounds,
            };
            all.push(Choice { outermost, ..usual });
        }
        let mut known = Vec::new();
        all.retain(|choice| {
            let new = !known.contains(choice);
            known.push(*choice);
            new
        });
        all
    }

    /// Whether the right operand may be read like this.
    fn allows(&self, right: Right, usual: Choice) -> bool {
        let contract = self.contract();
        match right {
            Right::InPlace => contract.right.column_stride == 1,
            Right::Packed if usual.right == Right::Packed => true,
            Right::Packed => {
                let elements = self.kernel.buffers[contract.right.buffer.0 as usize].elements;
                Packing::of_right(self.site, usual.shape.columns).elements() <= MOST_COPIES.saturating_mul(elements)
            }
        }
    }

    /// Tiles two, three and one vectors wide, and for few rows those that are as wide as there are sums.
    fn shapes(&self) -> impl Iterator<Item = TileShape> {
        let (registers, dtype) = (self.registers, self.dtype());
        let Contract { rows, columns, .. } = *self.contract();
        let high = [2, 3, 1].map(|vectors| TileShape::of_vectors(registers, dtype, columns, vectors));
        let wide = [ENOUGH_SUMS, FEWEST_SUMS].map(|sums| TileShape::of_few_rows(registers, dtype, rows, sums));
        let fits = move |shape: &TileShape| rows <= FEWEST_ROWS && shape.columns <= columns;
        high.into_iter().chain(wide.into_iter().filter(fits))
    }

    /// The left operand as the usual choice has it, in panels that tiles of this shape fall on.
    fn left_for(&self, shape: TileShape, usual: Left) -> Left {
        match usual {
            Left::InPlace => Left::InPlace,
            Left::Packed { .. } => self.packed_left(shape, 1).unwrap_or(Left::InPlace),
        }
    }

    /// The left operand where it lies, and in panels of usual and of twice that height.
    fn lefts(&self, shape: TileShape) -> impl Iterator<Item = Left> {
        let rows = self.contract().rows;
        let packed = [1, 2].into_iter().filter_map(move |times| self.packed_left(shape, times));
        let worth = move |left: &Left| matches!(left, Left::Packed { rows: panel } if *panel < 2 * rows && rows > 1);
        std::iter::once(Left::InPlace).chain(packed.filter(worth))
    }

    /// Whether rounds of the loops around have right operands of their own.
    fn right_moves(&self) -> bool {
        self.site.around.iter().any(|(var, ..)| self.contract().right.address.coefficient(*var) != 0)
    }
}

fn other(right: Right) -> Right {
    match right {
        Right::InPlace => Right::Packed,
        Right::Packed => Right::InPlace,
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
