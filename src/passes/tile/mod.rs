//! Cuts contractions into register tiles.
//!
//! A product large enough becomes loops over [`Tile`]s of a fixed shape. The right operand is first packed into panels, one column block
//! after another with the depth outermost, zero-padded, by a kernel of its own ([`pack`]); with few rows it is read where it lies,
//! since then each element is used only once or twice. The order of k never changes, so neither do the results.
//! Which loop is cut for threads, and into what, depends on the shape alone.

use std::collections::HashMap;

use crate::ir::loops::{Buffer, Call, Contract, Instruction, Kernel, Matrix, Place, Program};
use crate::ir::types::DType;
use crate::passes::LoopPass;
use crate::passes::lower::finish::Draft;
use crate::passes::lower::shared::Shared;

mod nest;
mod pack;
mod rename;
mod site;

use nest::Blocks;
use site::Site;

/// The pass.
pub const PASS: LoopPass =
    LoopPass { name: "tile", doc: "cuts contractions into packed register tiles", run: |program| Ok(tile(program)) };

/// Products of fewer multiplications stay as they are.
const SMALLEST: u64 = 2048;

/// With at most so many rows the right operand is read where it lies.
const FEW_ROWS: u64 = 8;

/// The register tile: rows and columns of accumulators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TileShape {
    pub rows: u64,
    pub columns: u64,
}

impl TileShape {
    /// The shape for a product of this many columns: eight vectors of accumulators.
    fn for_product(dtype: DType, columns: u64) -> TileShape {
        let accumulators = ACCUMULATORS * vector_lanes(dtype);
        let columns = columns.next_multiple_of(4).min(accumulators / 4);
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
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct PackedKey {
    source: u32,
    right: Matrix,
    extents: Vec<u64>,
    columns: u64,
    depth: u64,
    width: u64,
}

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
        for (_, buffer) in written.filter(|(p, _)| p.usage != crate::ir::loops::BufferUse::Read) {
            self.packed.retain(|key, _| key.source != *buffer);
        }
    }

    fn product(&mut self, kernel: &Kernel, call: &Call, site: &Site) {
        let contract = &site.contract;
        let dtype = kernel.values[contract.accumulator.0 as usize];
        let in_place = contract.rows <= FEW_ROWS && contract.right.column_stride == 1;
        let mut buffers = call.buffers.clone();
        let mut site = site.clone();
        let shape = if in_place {
            TileShape::in_place(dtype, contract.rows)
        } else {
            let shape = TileShape::for_product(dtype, contract.columns);
            let packed = self.pack(kernel, call, &site, shape.columns);
            site.contract.right = pack::packed_matrix(&site, shape.columns, buffers.len() as u32);
            buffers.push(packed);
            shape
        };
        let mut kernel = kernel.clone();
        if !in_place {
            kernel.buffers.push(pack::parameter(&self.buffers[*buffers.last().expect("just pushed") as usize]));
        }
        let blocks = Blocks::new(&site.contract, shape, !in_place);
        for draft in nest::kernels(&kernel, &buffers, &site, &blocks) {
            self.shared.call(draft, &kernel.name);
        }
    }

    /// The buffer of the packed right operand, packed by new calls if no earlier product left it.
    fn pack(&mut self, kernel: &Kernel, call: &Call, site: &Site, width: u64) -> u32 {
        let contract = &site.contract;
        let source = call.buffers[contract.right.buffer.0 as usize];
        let key = PackedKey {
            source,
            right: site.canonical_right(),
            extents: site.right_loops().iter().map(|l| l.1).collect(),
            columns: contract.columns,
            depth: contract.depth,
            width,
        };
        if let Some(packed) = self.packed.get(&key) {
            return *packed;
        }
        let packed = self.buffers.len() as u32;
        let dtype = kernel.buffers[contract.right.buffer.0 as usize].dtype;
        let elements = pack::elements(site, width);
        let name = format!("packed_{}", self.buffers[source as usize].name);
        self.buffers.push(Buffer { name, dtype, elements, place: Place::Arena { offset: None } });
        let name = format!("pack_{}x{}", contract.depth, contract.columns);
        for draft in pack::kernels(kernel, site, width, source, packed, elements) {
            self.shared.call(draft, &name);
        }
        self.packed.insert(key, packed);
        packed
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
