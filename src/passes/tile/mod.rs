//! Cuts contractions into register tiles.
//!
//! A product large enough becomes loops over tiles of a fixed shape. The right operand is first packed into panels by a kernel of its
//! own ([`pack`]); with few rows it is read where it lies, since then each element is used only once or twice. The left one is
//! read where it lies if its depth is contiguous, and packed otherwise, since steps of a power of two miss the first cache. The order of k never changes, so neither do the results.
//! Which loop is cut for threads, and into what, depends on the shape alone.

use std::collections::HashMap;

use crate::ir::loops::{
    Buffer, BufferId, BufferParameter, BufferUse, Call, Contract, Instruction, Kernel, Matrix, Place, Program,
};
use crate::ir::types::DType;
use crate::passes::LoopPass;
use crate::passes::lower::finish::Draft;
use crate::passes::lower::shared::Shared;

mod nest;
mod pack;
mod rename;
mod site;

use nest::Layout;
use pack::Packing;
use site::Site;

/// The pass.
pub const PASS: LoopPass =
    LoopPass { name: "tile", doc: "cuts contractions into packed register tiles", run: |program| Ok(tile(program)) };

/// Products of fewer multiplications stay as they are.
const SMALLEST: u64 = 2048;

/// With at most so many rows the right operand is read where it lies.
const FEW_ROWS: u64 = 8;

/// A left operand whose depth is not contiguous is packed for at least so many columns.
const MANY_COLUMNS: u64 = 32;

/// Rows of a panel of a packed left operand: several tiles, so that a step of the depth is a whole cache line.
const LEFT_PANEL: u64 = 16;

/// The register tile: rows and columns of accumulators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TileShape {
    pub rows: u64,
    pub columns: u64,
}

impl TileShape {
    /// The shape for a product of this many columns: few rows of many columns, since each step of the depth loads a vector for
    /// every accumulator and a number for every row. Narrower where that pads less.
    fn for_product(dtype: DType, columns: u64) -> TileShape {
        let accumulators = ACCUMULATORS * vector_lanes(dtype);
        // Four, three and two vectors, and what a column costs in each.
        let widths = [(4, 20), (3, 21), (2, 24)].map(|(quarter, cost)| (accumulators / 8 * quarter, cost));
        let padded = |(width, cost): &(u64, u64)| (columns.next_multiple_of(*width) * cost, std::cmp::Reverse(*width));
        let fitting = widths.into_iter().filter(|(width, _)| width.is_multiple_of(4));
        let (width, _) = fitting.min_by_key(padded).expect("the widest fits");
        let columns = columns.next_multiple_of(4).min(width);
        TileShape { rows: accumulators / columns, columns }
    }

    /// The shape for a right operand that is read in place by few rows.
    fn in_place(dtype: DType, rows: u64) -> TileShape {
        let rows = rows.min(4);
        TileShape { rows, columns: ACCUMULATORS * vector_lanes(dtype) / rows / 4 * 4 }
    }
}

/// Vectors that a register tile accumulates in.
const ACCUMULATORS: u64 = 8;

/// Lanes of a 128-bit vector.
fn vector_lanes(dtype: DType) -> u64 {
    16 / dtype.bytes() as u64
}

/// What a packed copy was made of; two products with the same key share it while nobody writes the source.
type PackedKey = (u32, Packing);

/// The program with every large contraction cut into tiles.
pub fn tile(program: Program) -> Program {
    let Program { name, buffers, kernels, calls, pointers, arena_bytes } = program;
    let mut tiler = Tiler { buffers, shared: Shared::default(), packed: HashMap::new() };
    for call in calls {
        tiler.call(&kernels[call.kernel as usize], call);
    }
    let Tiler { buffers, shared, .. } = tiler;
    Program { name, buffers, kernels: shared.kernels, calls: shared.calls, pointers, arena_bytes }
}

struct Tiler {
    buffers: Vec<Buffer>,
    shared: Shared,
    packed: HashMap<PackedKey, u32>,
}

impl Tiler {
    fn call(&mut self, kernel: &Kernel, call: Call) {
        match Site::find(kernel).filter(|site| worth(&site.contract)) {
            Some(site) => self.product(kernel, &call, &site),
            None => self.shared.call(Draft { kernel: kernel.clone(), buffers: call.buffers.clone() }, &kernel.name),
        }
        let written = kernel.buffers.iter().zip(&call.buffers);
        for (_, buffer) in written.filter(|(p, _)| p.usage != BufferUse::Read) {
            self.packed.retain(|(source, _), _| source != buffer);
        }
    }

    fn product(&mut self, kernel: &Kernel, call: &Call, site: &Site) {
        let contract = &site.contract;
        let dtype = kernel.values[contract.accumulator.0 as usize];
        let in_place = contract.rows <= FEW_ROWS && contract.right.column_stride == 1;
        let shape = match in_place {
            true => TileShape::in_place(dtype, contract.rows),
            false => TileShape::for_product(dtype, contract.columns),
        };
        let (mut product, mut cut) = (Draft { kernel: kernel.clone(), buffers: call.buffers.clone() }, site.clone());
        let mut layout = Layout { shape, left_panel: None, right_packed: false };
        if !in_place {
            let packing = Packing::of_right(site, shape.columns);
            cut.contract.right = Matrix {
                buffer: self.pack(&mut product, &packing),
                address: packing.packed_address(),
                row_stride: shape.columns as i64,
                column_stride: 1,
            };
            layout.right_packed = true;
            if contract.left.column_stride != 1 && contract.columns >= MANY_COLUMNS {
                let panel = LEFT_PANEL.next_multiple_of(shape.rows);
                let packing = Packing::of_left(site, panel);
                cut.contract.left = Matrix {
                    buffer: self.pack(&mut product, &packing),
                    address: packing.packed_address(),
                    row_stride: 1,
                    column_stride: panel as i64,
                };
                layout.left_panel = Some(panel);
            }
        }
        for draft in nest::kernels(&product, &cut, layout) {
            self.shared.call(draft, &kernel.name);
        }
    }

    /// Packs an operand of `product`, unless an earlier product left the same, and makes the packed one a parameter.
    fn pack(&mut self, product: &mut Draft, packing: &Packing) -> BufferId {
        let source = product.buffers[packing.source.0 as usize];
        let parameter = product.kernel.buffers[packing.source.0 as usize].clone();
        let key = (source, packing.canonical());
        let packed = match self.packed.get(&key) {
            Some(packed) => *packed,
            None => {
                let packed = self.buffers.len() as u32;
                let name = format!("packed_{}", self.buffers[source as usize].name);
                let (dtype, elements) = (parameter.dtype, packing.elements());
                self.buffers.push(Buffer { name, dtype, elements, place: Place::Arena { offset: None } });
                for draft in packing.kernels(&parameter, source, packed) {
                    self.shared.call(draft, &format!("pack_{elements}"));
                }
                self.packed.insert(key, packed);
                packed
            }
        };
        let name = format!("packed_{}", parameter.name);
        product.kernel.buffers.push(BufferParameter { name, elements: packing.elements(), ..parameter });
        product.buffers.push(packed);
        BufferId(product.buffers.len() as u32 - 1)
    }
}

/// Whether tiles pay for a product.
fn worth(contract: &Contract) -> bool {
    let work = contract.rows.saturating_mul(contract.columns).saturating_mul(contract.depth);
    work >= SMALLEST && contract.columns >= 4 && contract.depth > 0
}

/// Whether a block holds nothing but a contraction at its end, and what stands before it.
fn last_contract(instructions: &[Instruction]) -> Option<(&[Instruction], &Contract)> {
    match instructions.split_last()? {
        (Instruction::Contract(contract), before) => Some((before, contract)),
        _ => None,
    }
}
