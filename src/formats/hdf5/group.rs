//! The names in a group: symbol tables (a B-tree of names in a heap), or link messages.

use super::bytes::Fields;
use super::object::{File, LINK, LINK_INFO, Object, SYMBOL_TABLE};

/// The most names of one group, and the most nodes of its tree.
const MOST_LINKS: usize = 1 << 20;
const MOST_NODES: usize = 1 << 14;
const LARGEST_HEAP: u64 = 64 << 20;
const DEEPEST_TREE: u8 = 16;

/// A name in a group.
pub struct Link {
    pub name: String,
    /// The address of the object; `None` for soft and external links.
    address: Option<u64>,
}

impl Link {
    /// The address of the object's header.
    pub fn target(&self) -> Result<u64, String> {
        self.address.ok_or_else(|| format!("`{}` is a soft or external link, which is not followed", self.name))
    }
}

/// The links of a group; none if the object is no group.
pub fn links(file: &File, group: &Object) -> Result<Vec<Link>, String> {
    if let Some(table) = group.message(SYMBOL_TABLE) {
        return symbols(file, &table.data);
    }
    let mut links = Vec::new();
    for message in group.messages.iter().filter(|message| message.kind == LINK) {
        links.push(link(file, &message.data)?);
    }
    if links.is_empty()
        && let Some(info) = group.message(LINK_INFO)
        && is_dense(file, &info.data)?
    {
        return Err(
            "a group of more names than fit in its header, which is stored as a fractal heap, is not supported; \
             write the file with libver=\"earliest\""
                .into(),
        );
    }
    Ok(links)
}

fn is_dense(file: &File, data: &[u8]) -> Result<bool, String> {
    let mut fields = Fields::new(data, file.widths);
    fields.skip(1)?;
    let flags = fields.u8()?;
    fields.skip(if flags & 1 != 0 { 8 } else { 0 })?;
    Ok(fields.address()?.is_some())
}

fn link(file: &File, data: &[u8]) -> Result<Link, String> {
    let mut fields = Fields::new(data, file.widths);
    fields.skip(1)?;
    let flags = fields.u8()?;
    let kind = if flags & 8 != 0 { fields.u8()? } else { 0 };
    fields.skip(if flags & 4 != 0 { 8 } else { 0 })?;
    fields.skip(if flags & 16 != 0 { 1 } else { 0 })?;
    let length = fields.number(1 << (flags & 3))?;
    let name = fields.take(usize::try_from(length).unwrap_or(usize::MAX))?;
    let name = String::from_utf8_lossy(name).into_owned();
    let address = if kind == 0 { fields.address()? } else { None };
    Ok(Link { name, address })
}

fn symbols(file: &File, table: &[u8]) -> Result<Vec<Link>, String> {
    let mut fields = Fields::new(table, file.widths);
    let missing = "a group has no symbol table";
    let (tree, heap) = (fields.address()?.ok_or(missing)?, fields.address()?.ok_or(missing)?);
    let names = heap_data(file, heap)?;
    let mut links = Vec::new();
    let mut nodes = vec![tree];
    let mut seen = 0;
    while let Some(address) = nodes.pop() {
        seen += 1;
        if seen > MOST_NODES || links.len() > MOST_LINKS {
            return Err("the tree of a group is too large, or circular".into());
        }
        let start = file.read(address, 8, "a node of a group")?;
        if start.starts_with(b"SNOD") {
            symbol_node(file, address, &names, &mut links)?;
        } else {
            nodes.extend(tree_node(file, address)?);
        }
    }
    links.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(links)
}

fn heap_data(file: &File, address: u64) -> Result<Vec<u8>, String> {
    let widths = file.widths;
    let header = file.read(address, 8 + 2 * widths.length + widths.address, "the heap of a group")?;
    let mut fields = Fields::new(&header, widths);
    fields.signature(b"HEAP")?;
    fields.skip(4)?;
    let size = fields.length()?;
    fields.length()?;
    let data = fields.address()?.ok_or("the heap of a group has no data")?;
    if size > LARGEST_HEAP {
        return Err(format!("the heap of a group claims {size} bytes"));
    }
    file.read(data, size as usize, "the heap of a group")
}

/// The children of a node of a group's tree.
fn tree_node(file: &File, address: u64) -> Result<Vec<u64>, String> {
    let widths = file.widths;
    let head = 8 + 2 * widths.address;
    let header = file.read(address, head, "a node of a group")?;
    let mut fields = Fields::new(&header, widths);
    fields.signature(b"TREE")?;
    let (kind, level, count) = (fields.u8()?, fields.u8()?, usize::from(fields.u16()?));
    if kind != 0 || level > DEEPEST_TREE {
        return Err(format!("the tree of a group has a node of kind {kind} at level {level}"));
    }
    let entry = widths.length + widths.address;
    let body = file.read(address.saturating_add(head as u64), count * entry, "a node of a group")?;
    let mut fields = Fields::new(&body, widths);
    let mut children = Vec::new();
    for _ in 0..count {
        fields.length()?;
        children.extend(fields.address()?);
    }
    Ok(children)
}

fn symbol_node(file: &File, address: u64, names: &[u8], links: &mut Vec<Link>) -> Result<(), String> {
    let widths = file.widths;
    let header = file.read(address, 8, "a node of a group")?;
    let mut fields = Fields::new(&header, widths);
    fields.signature(b"SNOD")?;
    fields.skip(2)?;
    let count = usize::from(fields.u16()?);
    let body = file.read(address.saturating_add(8), count * (2 * widths.address + 24), "a node of a group")?;
    let mut fields = Fields::new(&body, widths);
    for _ in 0..count {
        let offset = fields.address()?.ok_or("a name of a group is missing")?;
        let address = fields.address()?;
        let cache = fields.u32()?;
        fields.skip(20)?;
        let name = usize::try_from(offset).ok().and_then(|at| names.get(at..)).ok_or("a name lies beyond its heap")?;
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        let address = address.filter(|_| cache != 2);
        links.push(Link { name: String::from_utf8_lossy(name).into_owned(), address });
    }
    Ok(())
}
