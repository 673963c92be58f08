//! Fields of a structure in a file, one after the other; reading beyond the end is an error, not a panic.

/// A place in some bytes of a file whose addresses and lengths have the file's widths.
pub struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
    widths: Widths,
}

/// How many bytes an address and a length take.
#[derive(Clone, Copy, Debug)]
pub struct Widths {
    pub address: usize,
    pub length: usize,
}

impl<'a> Fields<'a> {
    /// At the start of `bytes`.
    pub fn new(bytes: &'a [u8], widths: Widths) -> Fields<'a> {
        Fields { bytes, at: 0, widths }
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or("a structure ends before its last field")?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    /// Leaves out `count` bytes.
    pub fn skip(&mut self, count: usize) -> Result<(), String> {
        self.take(count).map(|_| ())
    }

    /// A little-endian number of up to 8 bytes.
    pub fn number(&mut self, width: usize) -> Result<u64, String> {
        if width > 8 {
            return Err(format!("a number of {width} bytes"));
        }
        Ok(self.take(width)?.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    pub fn u8(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?[0])
    }

    pub fn u16(&mut self) -> Result<u16, String> {
        Ok(self.number(2)? as u16)
    }

    pub fn u32(&mut self) -> Result<u32, String> {
        Ok(self.number(4)? as u32)
    }

    /// A length or a size.
    pub fn length(&mut self) -> Result<u64, String> {
        self.number(self.widths.length)
    }

    /// An address; `None` if it is undefined, all ones.
    pub fn address(&mut self) -> Result<Option<u64>, String> {
        let undefined = u64::MAX >> (64 - 8 * self.widths.address);
        Ok(Some(self.number(self.widths.address)?).filter(|address| *address != undefined))
    }

    /// Checks the four letters with which a structure begins.
    pub fn signature(&mut self, expected: &[u8; 4]) -> Result<(), String> {
        let found = self.take(4)?;
        if found == expected {
            return Ok(());
        }
        let (expected, found) = (String::from_utf8_lossy(expected), found.escape_ascii());
        Err(format!("expected the structure {expected}, found `{found}`"))
    }

    /// Bytes left.
    pub fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// How many bytes have been read.
    pub fn position(&self) -> usize {
        self.at
    }
}
