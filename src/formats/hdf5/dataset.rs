//! One dataset: its type, its shape, where its numbers are, and how rows are put together from chunks.

use std::collections::BTreeMap;
use std::ops::Range;

use super::bytes::Fields;
use super::chunks::{self, Chunk, Grid, Index};
use super::filter::{self, Filter};
use super::object::{DATASPACE, DATATYPE, FILL, FILTERS, File, LAYOUT, Object};
use crate::formats::idx::swap_bytes;
use crate::formats::rows::{RowSource, stored_bytes};
use crate::formats::{Array, FormatError, checked_size, shape_text};
use crate::ir::types::DType;

/// The most dims; the format's own limit.
const HIGHEST_RANK: usize = 32;
/// The largest chunk in bytes; the format's own limit.
const LARGEST_CHUNK: u64 = 1 << 32;

/// A dataset whose rows can be read.
pub struct Dataset {
    file: File,
    name: String,
    dtype: DType,
    big_endian: bool,
    shape: Vec<usize>,
    storage: Storage,
    /// One element, as the file writes it, for what was never written.
    fill: Vec<u8>,
}

/// Where the numbers are.
enum Storage {
    /// In the object header.
    Compact(Vec<u8>),
    /// In one piece; `None` if nothing was ever written.
    Contiguous(Option<u64>),
    Chunked {
        grid: Grid,
        filters: Vec<Filter>,
        /// The chunks by the number of their row of chunks.
        rows: BTreeMap<u64, Vec<Chunk>>,
    },
}

impl Dataset {
    /// What the object header describes.
    pub fn new(file: File, object: &Object) -> Result<Dataset, String> {
        if !object.is_dataset() {
            return Err("it is a group and no dataset".into());
        }
        let data = |kind, what: &str| match object.message(kind) {
            Some(message) if message.shared => Err(format!("{what} that is shared by name is not supported")),
            Some(message) => Ok(&message.data[..]),
            None => Err(format!("it has no {what}")),
        };
        let shape = dataspace(&file, data(DATASPACE, "shape")?)?;
        let (dtype, big_endian) = datatype(&file, data(DATATYPE, "type")?)?;
        if stored_bytes(&shape, dtype).is_none() {
            return Err(format!("{dtype}{} is more than can be held in memory", shape_text(&shape)));
        }
        let filters = match object.message(FILTERS) {
            Some(message) => filter::filters(&file, &message.data)?,
            None => Vec::new(),
        };
        let storage = layout(&file, data(LAYOUT, "layout")?, &shape, dtype, filters)?;
        let fill = match object.message(FILL) {
            Some(message) => fill_value(&file, &message.data, dtype)?,
            None => vec![0; dtype.bytes()],
        };
        Ok(Dataset { file, name: String::new(), dtype, big_endian, shape, storage, fill })
    }

    /// The dataset with the name that messages call it by.
    pub fn named(self, name: String) -> Dataset {
        Dataset { name, ..self }
    }

    fn row_bytes(&self) -> usize {
        self.shape.iter().skip(1).product::<usize>() * self.dtype.bytes()
    }

    fn gather(&self, rows: &Range<usize>, out: &mut [u8]) -> Result<(), String> {
        let row_bytes = self.row_bytes();
        match &self.storage {
            Storage::Compact(data) => {
                let start = rows.start * row_bytes;
                let found = data.get(start..start + out.len()).ok_or("it has fewer bytes than its shape says")?;
                out.copy_from_slice(found);
            }
            Storage::Contiguous(Some(address)) => {
                let at = address.saturating_add(rows.start as u64 * row_bytes as u64);
                out.copy_from_slice(&self.file.read(at, out.len(), "data")?);
            }
            Storage::Contiguous(None) => self.fill(out),
            Storage::Chunked { grid, filters, rows: by_row } => {
                self.fill(out);
                if rows.is_empty() || out.is_empty() {
                    return Ok(());
                }
                let first = rows.start as u64 / grid.chunk[0];
                let last = (rows.end as u64 - 1) / grid.chunk[0];
                for chunk in by_row.range(first..=last).flat_map(|(_, chunks)| chunks) {
                    let size = usize::try_from(chunk.size).map_err(|e| e.to_string())?;
                    let stored = self.file.read(chunk.address, size, "a chunk")?;
                    let whole = filter::undo(filters, chunk.mask, stored, grid.bytes as usize)?;
                    self.place(grid, chunk, &whole, rows, out);
                }
            }
        }
        Ok(())
    }

    fn fill(&self, out: &mut [u8]) {
        if self.fill.iter().any(|byte| *byte != 0) {
            out.chunks_exact_mut(self.fill.len()).for_each(|element| element.copy_from_slice(&self.fill));
        }
    }

    /// Copies what a chunk has of `rows` to its place in `out`, which holds just those rows.
    fn place(&self, grid: &Grid, chunk: &Chunk, whole: &[u8], rows: &Range<usize>, out: &mut [u8]) {
        let rank = grid.shape.len();
        let element = self.dtype.bytes();
        // The part of the chunk that lies within the dataset and, on the first axis, within the rows: indices in the dataset.
        let bounds = |axis: usize| match axis {
            0 => rows.start as u64..rows.end as u64,
            _ => 0..grid.shape[axis],
        };
        let part: Vec<Range<u64>> = (0..rank)
            .map(|axis| {
                let (within, start) = (bounds(axis), chunk.offset[axis]);
                start.max(within.start)..start.saturating_add(grid.chunk[axis]).min(within.end)
            })
            .collect();
        if part.iter().any(|range| range.start >= range.end) {
            return;
        }
        let last = rank - 1;
        let run = (part[last].end - part[last].start) as usize * element;
        let mut index: Vec<u64> = part.iter().map(|range| range.start).collect();
        loop {
            let (mut from, mut to) = (0, 0);
            for (axis, at) in index.iter().enumerate() {
                from = from * grid.chunk[axis] + (at - chunk.offset[axis]);
                let (origin, size) =
                    if axis == 0 { (rows.start as u64, rows.len() as u64) } else { (0, grid.shape[axis]) };
                to = to * size + (at - origin);
            }
            let (from, to) = (from as usize * element, to as usize * element);
            out[to..to + run].copy_from_slice(&whole[from..from + run]);
            // The next line of the part, the last axis being the line itself.
            let mut axis = last;
            loop {
                if axis == 0 {
                    return;
                }
                axis -= 1;
                index[axis] += 1;
                if index[axis] < part[axis].end {
                    break;
                }
                index[axis] = part[axis].start;
            }
        }
    }
}

impl RowSource for Dataset {
    fn dtype(&self) -> DType {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn block(&self, row: usize) -> Range<usize> {
        match &self.storage {
            Storage::Chunked { grid, .. } => {
                let size = usize::try_from(grid.chunk[0]).unwrap_or(usize::MAX);
                let start = row / size * size;
                start..start.saturating_add(size).min(self.shape[0])
            }
            _ => row..row + 1,
        }
    }

    fn read(&self, rows: Range<usize>) -> Result<Array, FormatError> {
        let fail = |message: String| self.file.error(format!("dataset `{}`: {message}", self.name));
        let mut shape = self.shape.clone();
        if let Some(first) = shape.first_mut() {
            *first = rows.len();
        }
        let described = || format!("{}{}", self.dtype, shape_text(&shape));
        let too_large = || fail(format!("{} is more than can be held in memory", described()));
        let (_, size) = checked_size(&shape, self.dtype.bytes()).ok_or_else(too_large)?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(size).map_err(|_| too_large())?;
        bytes.resize(size, 0);
        self.gather(&rows, &mut bytes).map_err(fail)?;
        if self.big_endian {
            swap_bytes(&mut bytes, self.dtype.bytes());
        }
        Ok(Array { dtype: self.dtype, shape, bytes })
    }
}

fn dataspace(file: &File, data: &[u8]) -> Result<Vec<usize>, String> {
    let mut fields = Fields::new(data, file.widths);
    let (version, rank) = (fields.u8()?, usize::from(fields.u8()?));
    fields.skip(1)?;
    match version {
        1 => fields.skip(5)?,
        2 => {
            if fields.u8()? == 2 {
                return Err("it is empty (a null dataspace)".into());
            }
        }
        other => return Err(format!("a shape of version {other}, expected 1 or 2")),
    }
    if rank > HIGHEST_RANK {
        return Err(format!("{rank} dims, expected at most {HIGHEST_RANK}"));
    }
    let size = |size: u64| usize::try_from(size).map_err(|e| e.to_string());
    (0..rank).map(|_| fields.length().and_then(size)).collect()
}

/// The dtype of the elements, and whether their bytes are swapped.
fn datatype(file: &File, data: &[u8]) -> Result<(DType, bool), String> {
    let mut fields = Fields::new(data, file.widths);
    let class = fields.u8()?;
    let bits = fields.number(3)?;
    let size = fields.u32()?;
    let big_endian = bits & 1 != 0;
    let dtype = match (class & 0x0f, size, bits & 8 != 0) {
        (0, 1, true) => DType::I8,
        (0, 2, true) => DType::I16,
        (0, 4, true) => DType::I32,
        (0, 8, true) => DType::I64,
        (0, 1, false) => DType::U8,
        (0, 2, false) => DType::U16,
        (0, 4, false) => DType::U32,
        (0, _, signed) => {
            let sign = if signed { "signed" } else { "unsigned" };
            return Err(format!("{sign} integers of {size} bytes are not supported"));
        }
        (1, _, _) => {
            fields.skip(5)?;
            let exponent = fields.u8()?;
            fields.skip(1)?;
            match (size, exponent, fields.u8()?) {
                (2, 5, 10) => DType::F16,
                (2, 8, 7) => DType::BF16,
                (4, 8, 23) => DType::F32,
                (8, 11, 52) => DType::F64,
                (_, exponent, mantissa) => {
                    return Err(format!(
                        "floats of {size} bytes with {exponent} bits of exponent and {mantissa} of mantissa are not supported"
                    ));
                }
            }
        }
        // An enumeration, as h5py writes bools, holds the type of its numbers.
        (8, _, _) => match data.get(8).map(|class| class & 0x0f) {
            Some(0) => return datatype(file, &data[8..]),
            _ => return Err("an enumeration of something other than integers is not supported".into()),
        },
        (other, _, _) => {
            let names = [
                "",
                "",
                "times",
                "strings",
                "bit fields",
                "opaque bytes",
                "compound values",
                "references",
                "",
                "strings of any length",
                "arrays",
            ];
            let name = names.get(usize::from(other)).copied().unwrap_or("values of an unknown type");
            return Err(format!("it holds {name}, expected integers or floats"));
        }
    };
    Ok((dtype, big_endian))
}

fn fill_value(file: &File, data: &[u8], dtype: DType) -> Result<Vec<u8>, String> {
    let zeros = vec![0; dtype.bytes()];
    let mut fields = Fields::new(data, file.widths);
    let defined = match fields.u8()? {
        1 => fields.skip(3).map(|()| true)?,
        2 => {
            fields.skip(2)?;
            fields.u8()? != 0
        }
        3 => fields.u8()? & 0x20 != 0,
        other => return Err(format!("a fill value of version {other}, expected 1 to 3")),
    };
    if !defined {
        return Ok(zeros);
    }
    let size = fields.u32()? as usize;
    match size {
        0 => Ok(zeros),
        _ if size == dtype.bytes() => Ok(fields.take(size)?.to_vec()),
        _ => Err(format!("a fill value of {size} bytes for elements of {}", dtype.bytes())),
    }
}

fn layout(file: &File, data: &[u8], shape: &[usize], dtype: DType, filters: Vec<Filter>) -> Result<Storage, String> {
    let mut fields = Fields::new(data, file.widths);
    let (version, class) = (fields.u8()?, fields.u8()?);
    if !(3..=5).contains(&version) {
        return Err(format!("a layout of version {version}, expected 3 to 5"));
    }
    let bytes = stored_bytes(shape, dtype).unwrap_or(u64::MAX);
    match class {
        0 => {
            let size = usize::from(fields.u16()?);
            let data = fields.take(size)?.to_vec();
            if data.len() as u64 != bytes {
                return Err(format!("expected {bytes} bytes, found {}", data.len()));
            }
            Ok(Storage::Compact(data))
        }
        1 => {
            let (address, size) = (fields.address()?, fields.length()?);
            let end = address.map_or(Some(0), |address| address.checked_add(bytes));
            if address.is_some() && (size < bytes || end.is_none_or(|end| end > file.length())) {
                return Err(format!(
                    "truncated: expected {bytes} bytes, its layout says {size}, the file has {}",
                    file.length()
                ));
            }
            Ok(Storage::Contiguous(address))
        }
        2 => {
            let chunked = Layout { file, shape, dtype, filters };
            if version == 3 { chunked.with_tree(&mut fields) } else { chunked.with_index(&mut fields) }
        }
        _ => Err("a virtual dataset is not supported: its parts may be read by a glob".into()),
    }
}

/// What a chunked layout is read with.
struct Layout<'a> {
    file: &'a File,
    shape: &'a [usize],
    dtype: DType,
    filters: Vec<Filter>,
}

impl Layout<'_> {
    fn with_tree(self, fields: &mut Fields<'_>) -> Result<Storage, String> {
        let rank = usize::from(fields.u8()?).checked_sub(1).ok_or("a chunk without dims")?;
        let address = fields.address()?;
        let chunk = (0..rank).map(|_| fields.u32().map(u64::from)).collect::<Result<Vec<_>, _>>()?;
        self.chunks(chunk, Index::Tree, address)
    }

    fn with_index(self, fields: &mut Fields<'_>) -> Result<Storage, String> {
        let flags = fields.u8()?;
        let rank = usize::from(fields.u8()?).checked_sub(1).ok_or("a chunk without dims")?;
        let width = usize::from(fields.u8()?);
        let chunk = (0..rank).map(|_| fields.number(width)).collect::<Result<Vec<_>, _>>()?;
        fields.skip(width)?;
        let index = match fields.u8()? {
            1 if flags & 2 != 0 => Index::Single(Some((fields.length()?, fields.u32()?))),
            1 => Index::Single(None),
            2 => Index::Implicit,
            3 => {
                fields.skip(1)?;
                Index::FixedArray
            }
            other => {
                let kind = match other {
                    4 => "an extensible array",
                    5 => "a B-tree of version 2",
                    _ => "an index of an unknown kind",
                };
                return Err(format!(
                    "chunks found through {kind} (a dataset that may grow, written with libver=\"latest\") are not supported; \
                     write it with libver=\"earliest\""
                ));
            }
        };
        let address = fields.address()?;
        self.chunks(chunk, index, address)
    }

    fn chunks(self, chunk: Vec<u64>, index: Index, address: Option<u64>) -> Result<Storage, String> {
        if chunk.len() != self.shape.len() || chunk.is_empty() || chunk.contains(&0) {
            return Err(format!("chunks of {chunk:?} do not cut the shape {}", shape_text(self.shape)));
        }
        let elements = chunk.iter().try_fold(self.dtype.bytes() as u64, |product, size| product.checked_mul(*size));
        let bytes = elements
            .filter(|bytes| *bytes < LARGEST_CHUNK)
            .ok_or_else(|| format!("chunks of {chunk:?} are too large"))?;
        let grid = Grid { shape: self.shape.iter().map(|size| *size as u64).collect(), chunk, bytes };
        let mut rows: BTreeMap<u64, Vec<Chunk>> = BTreeMap::new();
        for chunk in chunks::find(self.file, &grid, index, address)? {
            let aligned = chunk.offset.iter().zip(&grid.chunk).all(|(offset, size)| offset.is_multiple_of(*size));
            if !aligned {
                return Err(format!("a chunk at {:?}, which is no multiple of its size", chunk.offset));
            }
            rows.entry(chunk.offset[0] / grid.chunk[0]).or_default().push(chunk);
        }
        Ok(Storage::Chunked { grid, filters: self.filters, rows })
    }
}
