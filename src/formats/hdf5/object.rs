//! The superblock, and object headers as lists of messages.

use super::bytes::{Fields, Widths};
use crate::formats::rows::Positioned;

const SIGNATURE: &[u8; 8] = b"\x89HDF\r\n\x1a\n";
/// Where a superblock may be: at the start, or behind a block of the user's.
const PLACES: [u64; 10] = [0, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131_072];
/// The most bytes of messages of one object, and the most blocks they lie in.
const LARGEST_HEADER: usize = 1 << 20;
const MOST_BLOCKS: usize = 256;

/// The kinds of messages that are read.
pub const DATASPACE: u16 = 0x01;
pub const LINK_INFO: u16 = 0x02;
pub const DATATYPE: u16 = 0x03;
pub const FILL: u16 = 0x05;
pub const LINK: u16 = 0x06;
pub const LAYOUT: u16 = 0x08;
pub const FILTERS: u16 = 0x0b;
const CONTINUATION: u16 = 0x10;
pub const SYMBOL_TABLE: u16 = 0x11;

/// An open file.
pub struct File {
    positioned: Positioned,
    pub widths: Widths,
    /// What addresses count from.
    base: u64,
    root: u64,
}

/// One message of an object header.
pub struct Message {
    pub kind: u16,
    /// Whether the contents are kept elsewhere and shared.
    pub shared: bool,
    pub data: Vec<u8>,
}

/// What an object header says.
pub struct Object {
    pub messages: Vec<Message>,
}

impl Object {
    /// The message of a kind.
    pub fn message(&self, kind: u16) -> Option<&Message> {
        self.messages.iter().find(|message| message.kind == kind)
    }

    /// Whether the object is a dataset and no group.
    pub fn is_dataset(&self) -> bool {
        self.message(LAYOUT).is_some() && self.message(DATASPACE).is_some()
    }
}

impl File {
    /// Reads the superblock.
    pub fn open(positioned: Positioned) -> Result<File, String> {
        let length = positioned.length();
        let found = PLACES
            .into_iter()
            .take_while(|at| at + 8 <= length)
            .find(|at| positioned.read(*at, 8, "the signature").is_ok_and(|bytes| bytes == SIGNATURE));
        let start = found.ok_or("not an HDF5 file, or truncated: it has no superblock")?;
        let count = (length - start).min(256) as usize;
        let bytes = positioned.read(start, count, "the superblock").map_err(|e| e.to_string())?;
        let version = bytes.get(8).copied().ok_or("truncated: the superblock is not whole")?;
        let widths_at = match version {
            0 | 1 => 13,
            2 | 3 => 9,
            other => return Err(format!("superblock version {other} is unknown, expected 0 to 3")),
        };
        let width = |at: usize| match bytes.get(at) {
            Some(&width @ (2 | 4 | 8)) => Ok(usize::from(width)),
            Some(other) => Err(format!("addresses or lengths of {other} bytes, expected 2, 4 or 8")),
            None => Err("truncated: the superblock is not whole".to_owned()),
        };
        let widths = Widths { address: width(widths_at)?, length: width(widths_at + 1)? };
        let mut fields = Fields::new(&bytes, widths);
        let missing = "the superblock has no root group";
        let (base, end, root) = match version {
            0 | 1 => {
                fields.skip(if version == 0 { 24 } else { 28 })?;
                let base = fields.address()?.unwrap_or(0);
                fields.address()?;
                let end = fields.address()?;
                fields.address()?;
                fields.address()?;
                (base, end, fields.address()?.ok_or(missing)?)
            }
            _ => {
                fields.skip(12)?;
                let base = fields.address()?.unwrap_or(0);
                fields.address()?;
                (base, fields.address()?, fields.address()?.ok_or(missing)?)
            }
        };
        if let Some(end) = end.filter(|end| *end > length) {
            return Err(format!("truncated: expected {end} bytes, found {length}"));
        }
        Ok(File { positioned, widths, base: if base == 0 { start } else { base }, root })
    }

    /// The bytes of the file.
    pub fn length(&self) -> u64 {
        self.positioned.length()
    }

    /// An error about this file.
    pub fn error(&self, message: impl Into<String>) -> crate::formats::FormatError {
        self.positioned.error(message)
    }

    /// `count` bytes at an address.
    pub fn read(&self, address: u64, count: usize, what: &str) -> Result<Vec<u8>, String> {
        let offset = self.base.checked_add(address).ok_or_else(|| format!("{what} lies beyond the file"))?;
        self.positioned.read(offset, count, what).map_err(|e| match e {
            crate::formats::FormatError::Content { message, .. } => message,
            other => other.to_string(),
        })
    }

    /// `count` bytes at an address, or as many as the file has there.
    pub fn read_up_to(&self, address: u64, count: usize, what: &str) -> Result<Vec<u8>, String> {
        let left = self.length().saturating_sub(self.base).saturating_sub(address);
        self.read(address, count.min(usize::try_from(left).unwrap_or(count)), what)
    }

    /// The root group.
    pub fn root(&self) -> Result<Object, String> {
        self.object(self.root)
    }

    /// The object whose header is at `address`.
    pub fn object(&self, address: u64) -> Result<Object, String> {
        let start = self.read_up_to(address, 64, "an object header")?;
        let mut reader = Headers { file: self, messages: Vec::new(), blocks: Vec::new(), bytes: 0 };
        if start.starts_with(b"OHDR") {
            reader.modern(address, &start)?
        } else {
            reader.old(address, &start)?
        }
        Ok(Object { messages: reader.messages })
    }
}

/// The messages of one object while they are read.
struct Headers<'a> {
    file: &'a File,
    messages: Vec<Message>,
    /// Continuation blocks still to be read: address and length.
    blocks: Vec<(u64, u64)>,
    /// Bytes of all blocks so far.
    bytes: usize,
}

impl Headers<'_> {
    fn block(&mut self, address: u64, length: u64) -> Result<Vec<u8>, String> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        self.bytes = self.bytes.saturating_add(length);
        if self.bytes > LARGEST_HEADER {
            return Err(format!("an object header claims {} bytes", self.bytes));
        }
        self.file.read(address, length, "an object header")
    }

    fn old(&mut self, address: u64, start: &[u8]) -> Result<(), String> {
        let mut fields = Fields::new(start, self.file.widths);
        let version = fields.u8()?;
        if version != 1 {
            return Err(format!("expected an object header at {address}, found a structure of version {version}"));
        }
        fields.skip(7)?;
        let size = fields.u32()?;
        let mut next = Some((address.saturating_add(16), u64::from(size)));
        let mut blocks = 0;
        while let Some((address, length)) = next {
            let block = self.block(address, length)?;
            let mut fields = Fields::new(&block, self.file.widths);
            while fields.left() >= 8 {
                let (kind, size, flags) = (fields.u16()?, fields.u16()?, fields.u8()?);
                fields.skip(3)?;
                let data = fields.take(usize::from(size))?.to_vec();
                self.message(kind, flags, data)?;
            }
            blocks += 1;
            next = self.next_block(blocks)?;
        }
        Ok(())
    }

    fn modern(&mut self, address: u64, start: &[u8]) -> Result<(), String> {
        let mut fields = Fields::new(start, self.file.widths);
        fields.signature(b"OHDR")?;
        let (version, flags) = (fields.u8()?, fields.u8()?);
        if version != 2 {
            return Err(format!("object header version {version} is unknown"));
        }
        fields.skip(if flags & 0x20 != 0 { 16 } else { 0 })?;
        fields.skip(if flags & 0x10 != 0 { 4 } else { 0 })?;
        let size = fields.number(1 << (flags & 3))?;
        let tracked = flags & 4 != 0;
        let first = self.block(address.saturating_add(fields.position() as u64), size)?;
        self.modern_messages(&first, tracked)?;
        let mut blocks = 1;
        while let Some((address, length)) = self.next_block(blocks)? {
            let block = self.block(address, length)?;
            let inner = block.strip_prefix(b"OCHK").ok_or("a continuation of an object header is missing")?;
            let inner = &inner[..inner.len().saturating_sub(4)];
            self.modern_messages(inner, tracked)?;
            blocks += 1;
        }
        Ok(())
    }

    fn modern_messages(&mut self, block: &[u8], tracked: bool) -> Result<(), String> {
        let mut fields = Fields::new(block, self.file.widths);
        let head = if tracked { 6 } else { 4 };
        while fields.left() >= head {
            let (kind, size, flags) = (fields.u8()?, fields.u16()?, fields.u8()?);
            fields.skip(head - 4)?;
            let data = fields.take(usize::from(size))?.to_vec();
            self.message(u16::from(kind), flags, data)?;
        }
        Ok(())
    }

    fn message(&mut self, kind: u16, flags: u8, data: Vec<u8>) -> Result<(), String> {
        if kind == CONTINUATION {
            let mut fields = Fields::new(&data, self.file.widths);
            let address = fields.address()?.ok_or("a continuation of an object header is missing")?;
            self.blocks.push((address, fields.length()?));
        } else {
            self.messages.push(Message { kind, shared: flags & 2 != 0, data });
        }
        Ok(())
    }

    fn next_block(&mut self, read: usize) -> Result<Option<(u64, u64)>, String> {
        if read > MOST_BLOCKS {
            return Err("an object header lies in too many blocks".into());
        }
        Ok(self.blocks.pop())
    }
}
