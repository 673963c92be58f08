//! What was done to a chunk before it was written, undone: deflate, shuffle, fletcher32.

use std::io::Read;

use flate2::read::ZlibDecoder;

use super::bytes::Fields;
use super::object::File;

/// The most filters of one dataset; the format's own limit.
const MOST_FILTERS: u8 = 32;

/// A filter of a dataset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    Deflate,
    /// Byte `i` of all elements before byte `i + 1`, elements being of so many bytes.
    Shuffle(usize),
    /// A checksum behind the data.
    Fletcher32,
}

/// The filters of a message, in the order of writing.
pub fn filters(file: &File, data: &[u8]) -> Result<Vec<Filter>, String> {
    let mut fields = Fields::new(data, file.widths);
    let (version, count) = (fields.u8()?, fields.u8()?);
    match version {
        1 => fields.skip(6)?,
        2 => {}
        other => return Err(format!("a list of filters of version {other}, expected 1 or 2")),
    }
    if count > MOST_FILTERS {
        return Err(format!("{count} filters, expected at most {MOST_FILTERS}"));
    }
    let mut filters = Vec::new();
    for _ in 0..count {
        let id = fields.u16()?;
        let name_length = if version == 1 || id >= 256 { usize::from(fields.u16()?) } else { 0 };
        fields.skip(2)?;
        let values = usize::from(fields.u16()?);
        let padded = if version == 1 { name_length.next_multiple_of(8) } else { name_length };
        let name = String::from_utf8_lossy(fields.take(padded)?).trim_end_matches('\0').to_owned();
        let first = fields.take(4 * values)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
        fields.skip(if version == 1 && values % 2 == 1 { 4 } else { 0 })?;
        filters.push(match id {
            1 => Filter::Deflate,
            2 => Filter::Shuffle(first.unwrap_or(1).max(1) as usize),
            3 => Filter::Fletcher32,
            _ => {
                let known = match id {
                    4 => "szip",
                    5 => "nbit",
                    6 => "scaleoffset",
                    32000 => "lzf",
                    32001 => "blosc",
                    32004 => "lz4",
                    32015 => "zstd",
                    _ => name.as_str(),
                };
                return Err(format!(
                    "the filter {known} (number {id}) is not supported; deflate (gzip), shuffle and fletcher32 are"
                ));
            }
        });
    }
    Ok(filters)
}

/// The chunk as it was before writing; `mask` says which filters were left out, `size` what it must come to.
pub fn undo(filters: &[Filter], mask: u32, data: Vec<u8>, size: usize) -> Result<Vec<u8>, String> {
    let mut data = data;
    for (number, filter) in filters.iter().enumerate().rev() {
        if mask & 1 << number != 0 {
            continue;
        }
        data = match filter {
            Filter::Deflate => inflate(&data, size)?,
            Filter::Shuffle(element) => unshuffle(&data, *element),
            Filter::Fletcher32 => check(data)?,
        };
    }
    if data.len() != size {
        return Err(format!("expected a chunk of {size} bytes, found {}", data.len()));
    }
    Ok(data)
}

fn inflate(data: &[u8], size: usize) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    // A checksum may follow the data, so a few bytes more than the chunk's are no mistake here.
    let outcome = ZlibDecoder::new(data).take(size as u64 + 5).read_to_end(&mut out);
    outcome.map_err(|error| format!("a compressed chunk is broken: {error}"))?;
    Ok(out)
}

fn unshuffle(data: &[u8], element: usize) -> Vec<u8> {
    let count = data.len() / element;
    let mut out = Vec::with_capacity(data.len());
    for i in 0..count {
        out.extend((0..element).map(|byte| data[byte * count + i]));
    }
    out.extend_from_slice(&data[count * element..]);
    out
}

/// The data without the checksum behind it.
fn check(mut data: Vec<u8>) -> Result<Vec<u8>, String> {
    let at = data.len().checked_sub(4).ok_or("a chunk has no checksum")?;
    let stored = data.split_off(at);
    let stored = stored.iter().rev().fold(0, |value: u32, byte| value << 8 | u32::from(*byte));
    let found = fletcher32(&data);
    // Files of HDF5 before 1.6.3 have the halves' bytes swapped.
    let swapped = (found & 0x00ff_00ff) << 8 | (found & 0xff00_ff00) >> 8;
    if stored == found || stored == swapped {
        return Ok(data);
    }
    Err(format!("the checksum of a chunk is wrong: expected {stored:08x}, found {found:08x}"))
}

fn fletcher32(data: &[u8]) -> u32 {
    let (mut low, mut high) = (0u32, 0u32);
    let words = data.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |byte| u32::from(*byte)));
    for word in words {
        low = (low + word) % 65535;
        high = (high + low) % 65535;
    }
    high << 16 | low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_in_order() {
        assert_eq!(unshuffle(&[1, 3, 5, 2, 4, 6, 9], 2), [1, 2, 3, 4, 5, 6, 9]);
        assert_eq!(undo(&[Filter::Shuffle(2), Filter::Deflate], 0b10, vec![1, 3, 2, 4], 4), Ok(vec![1, 2, 3, 4]));
        assert!(undo(&[], 0, vec![1], 2).unwrap_err().contains("expected a chunk of 2 bytes, found 1"));
    }
}
