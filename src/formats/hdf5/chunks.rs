//! Where the chunks of a dataset are: B-trees of version 1, single chunks, implicit indexes and fixed arrays.

use super::bytes::Fields;
use super::object::File;

/// The most nodes of a tree and the most chunks of a dataset.
const MOST_NODES: usize = 1 << 18;
const MOST_CHUNKS: u64 = 1 << 24;
const DEEPEST_TREE: u8 = 32;

/// A chunk in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The index of its first element, by axis.
    pub offset: Vec<u64>,
    pub address: u64,
    /// Bytes in the file.
    pub size: u64,
    /// Filters left out.
    pub mask: u32,
}

/// A dataset's extent and how it is cut.
#[derive(Clone, Debug)]
pub struct Grid {
    pub shape: Vec<u64>,
    pub chunk: Vec<u64>,
    /// Bytes of a whole chunk before filters.
    pub bytes: u64,
}

/// How chunks are found.
#[derive(Clone, Copy, Debug)]
pub enum Index {
    Tree,
    /// The only chunk: its size in the file and its mask if it went through filters.
    Single(Option<(u64, u32)>),
    Implicit,
    FixedArray,
}

impl Grid {
    /// The number of chunks along each axis, and of all.
    fn counts(&self) -> Result<(Vec<u64>, u64), String> {
        let counts: Vec<u64> = self.shape.iter().zip(&self.chunk).map(|(size, chunk)| size.div_ceil(*chunk)).collect();
        let all = counts.iter().try_fold(1u64, |product, count| product.checked_mul(*count));
        match all.filter(|all| *all <= MOST_CHUNKS) {
            Some(all) => Ok((counts, all)),
            None => Err(format!("more than {MOST_CHUNKS} chunks")),
        }
    }

    /// The first element of chunk number `number` in row-major order.
    fn offset(&self, counts: &[u64], mut number: u64) -> Vec<u64> {
        let mut offset = vec![0; counts.len()];
        for axis in (0..counts.len()).rev() {
            offset[axis] = number % counts[axis].max(1) * self.chunk[axis];
            number /= counts[axis].max(1);
        }
        offset
    }
}

/// The chunks that the file holds; those that were never written are not among them.
pub fn find(file: &File, grid: &Grid, index: Index, address: Option<u64>) -> Result<Vec<Chunk>, String> {
    let (counts, all) = grid.counts()?;
    let Some(address) = address.filter(|_| all > 0) else { return Ok(Vec::new()) };
    match index {
        Index::Tree => tree(file, grid, address, all),
        Index::Single(filtered) => {
            let (size, mask) = filtered.unwrap_or((grid.bytes, 0));
            Ok(vec![Chunk { offset: vec![0; grid.shape.len()], address, size, mask }])
        }
        Index::Implicit => {
            if all.checked_mul(grid.bytes).is_none_or(|bytes| bytes > file.length()) {
                return Err("truncated: the chunks lie beyond the file".into());
            }
            let chunk = |number| {
                let address = address.saturating_add(number * grid.bytes);
                Chunk { offset: grid.offset(&counts, number), address, size: grid.bytes, mask: 0 }
            };
            Ok((0..all).map(chunk).collect())
        }
        Index::FixedArray => {
            let entries = fixed_array(file, grid, address, all)?;
            let located = entries.into_iter().enumerate().filter_map(|(number, entry)| {
                let (address, size, mask) = entry?;
                Some(Chunk { offset: grid.offset(&counts, number as u64), address, size, mask })
            });
            Ok(located.collect())
        }
    }
}

fn tree(file: &File, grid: &Grid, root: u64, all: u64) -> Result<Vec<Chunk>, String> {
    let widths = file.widths;
    let rank = grid.shape.len();
    let head = 8 + 2 * widths.address;
    let entry = 8 + 8 * (rank + 1) + widths.address;
    let (mut chunks, mut nodes, mut seen) = (Vec::new(), vec![(root, None)], 0);
    while let Some((address, expected)) = nodes.pop() {
        seen += 1;
        if seen > MOST_NODES {
            return Err("the tree of chunks is too large, or circular".into());
        }
        let header = file.read(address, head, "a node of the tree of chunks")?;
        let mut fields = Fields::new(&header, widths);
        fields.signature(b"TREE")?;
        let (kind, level, count) = (fields.u8()?, fields.u8()?, usize::from(fields.u16()?));
        if kind != 1 || level > DEEPEST_TREE || expected.is_some_and(|expected| level != expected) {
            return Err(format!("the tree of chunks has a node of kind {kind} at level {level}"));
        }
        let body = file.read(address.saturating_add(head as u64), count * entry, "a node of the tree of chunks")?;
        let mut fields = Fields::new(&body, widths);
        for _ in 0..count {
            let (size, mask) = (fields.u32()?, fields.u32()?);
            let offset = (0..rank).map(|_| fields.number(8)).collect::<Result<Vec<_>, _>>()?;
            fields.skip(8)?;
            let child = fields.address()?.ok_or("the tree of chunks has an undefined address")?;
            if level > 0 {
                nodes.push((child, Some(level - 1)));
                continue;
            }
            if chunks.len() as u64 >= all {
                return Err(format!("the tree has more than the {all} chunks that the shape has"));
            }
            chunks.push(Chunk { offset, address: child, size: u64::from(size), mask });
        }
        if nodes.len() > MOST_NODES {
            return Err("the tree of chunks is too large, or circular".into());
        }
    }
    Ok(chunks)
}

/// Address, size in the file, and mask of a chunk; `None` for one that was never written.
type Entry = Option<(u64, u64, u32)>;

fn fixed_array(file: &File, grid: &Grid, address: u64, all: u64) -> Result<Vec<Entry>, String> {
    let widths = file.widths;
    let header = file.read(address, 8 + widths.length + widths.address, "the index of the chunks")?;
    let mut fields = Fields::new(&header, widths);
    fields.signature(b"FAHD")?;
    fields.skip(1)?;
    let (filtered, entry, page_bits) = (fields.u8()? == 1, usize::from(fields.u8()?), fields.u8()?);
    let count = fields.length()?;
    let block = fields.address()?;
    let smallest = if filtered { widths.address + 5 } else { widths.address };
    if count != all || entry < smallest || entry > smallest + 7 || page_bits > 32 {
        return Err(format!("the index of the chunks has {count} entries of {entry} bytes, expected {all}"));
    }
    let Some(block) = block else { return Ok(vec![None; all as usize]) };
    let count = all as usize;
    let prefix = 6 + widths.address;
    let page = 1usize << page_bits;
    let start = file.read(block, prefix, "the index of the chunks")?;
    Fields::new(&start, widths).signature(b"FADB")?;
    let mut entries = Vec::new();
    let mut read = |at: u64, count: usize| -> Result<(), String> {
        let body = file.read(at, count * entry, "the index of the chunks")?;
        let mut fields = Fields::new(&body, widths);
        for _ in 0..count {
            let address = fields.address()?;
            let (size, mask) = match filtered {
                true => (fields.number(entry - widths.address - 4)?, fields.u32()?),
                false => (grid.bytes, 0),
            };
            entries.push(address.map(|address| (address, size, mask)));
        }
        Ok(())
    };
    if count <= page {
        read(block.saturating_add(prefix as u64), count)?;
        return Ok(entries);
    }
    let bitmap = count.div_ceil(page).div_ceil(8);
    let written = file.read(block.saturating_add(prefix as u64), bitmap, "the index of the chunks")?;
    let mut at = block.saturating_add((prefix + bitmap + 4) as u64);
    for number in 0..count.div_ceil(page) {
        let here = page.min(count - number * page);
        if written[number / 8] & 0x80 >> (number % 8) != 0 {
            read(at, here)?;
        } else {
            return Err("an index of chunks of which a page was never written is not supported".into());
        }
        at = at.saturating_add((page * entry + 4) as u64);
    }
    Ok(entries)
}
