//! Values of a column in the encodings of Parquet, as `f64`.

use super::thrift::Value;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Bool,
    I32,
    U32,
    I64,
    U64,
    F16,
    F32,
    F64,
}

/// The types and encodings of Parquet by number.
const BOOLEAN: i64 = 0;
const INT32: i64 = 1;
const INT64: i64 = 2;
const FLOAT: i64 = 4;
const DOUBLE: i64 = 5;
const FIXED: i64 = 7;
const PLAIN: u64 = 0;
const OLD_DICTIONARY: u64 = 2;
const RUNS: u64 = 3;
const DIFFERENCES: u64 = 5;
const DICTIONARY: u64 = 8;
const SPLIT: u64 = 9;

/// What a column of the schema holds, or why that is no number.
pub fn kind(element: &Value) -> Result<Kind, String> {
    let converted = element.find(6).and_then(Value::int);
    let half = element.find(10).is_some_and(|logical| logical.find(15).is_some());
    if converted == Some(5) {
        return Err("holds decimals, which are not supported".into());
    }
    match element.find(1).and_then(Value::int) {
        Some(BOOLEAN) => Ok(Kind::Bool),
        Some(INT32) if matches!(converted, Some(11..=13)) => Ok(Kind::U32),
        Some(INT32) => Ok(Kind::I32),
        Some(INT64) if converted == Some(14) => Ok(Kind::U64),
        Some(INT64) => Ok(Kind::I64),
        Some(FLOAT) => Ok(Kind::F32),
        Some(DOUBLE) => Ok(Kind::F64),
        Some(FIXED) if half => Ok(Kind::F16),
        Some(_) => Err("holds text or bytes, expected numbers".into()),
        None => Err("has no type".into()),
    }
}

impl Kind {
    fn bytes(self) -> usize {
        match self {
            Kind::Bool => 1,
            Kind::F16 => 2,
            Kind::I32 | Kind::U32 | Kind::F32 => 4,
            Kind::I64 | Kind::U64 | Kind::F64 => 8,
        }
    }

    /// One value of as many little-endian bytes as [`Kind::bytes`] says.
    fn value(self, bytes: &[u8]) -> f64 {
        let bits = bytes.iter().rev().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
        match self {
            Kind::Bool | Kind::U32 | Kind::U64 => bits as f64,
            Kind::I32 => f64::from(bits as u32 as i32),
            Kind::I64 => bits as i64 as f64,
            Kind::F16 => half::f16::from_bits(bits as u16).to_f64(),
            Kind::F32 => f64::from(f32::from_bits(bits as u32)),
            Kind::F64 => f64::from_bits(bits),
        }
    }
}

/// `count` values in an encoding.
pub fn decode(
    kind: Kind,
    encoding: u64,
    bytes: &[u8],
    count: usize,
    dictionary: Option<&[f64]>,
) -> Result<Vec<f64>, String> {
    match encoding {
        PLAIN => plain(kind, bytes, count),
        DICTIONARY | OLD_DICTIONARY => {
            let dictionary = dictionary.ok_or("a page needs a dictionary that is not there")?;
            if count == 0 {
                return Ok(Vec::new());
            }
            let (width, indices) = bytes.split_first().ok_or("a page ends before its values")?;
            let indices = runs(indices, *width, count)?;
            let value = |index: u64| {
                let value = usize::try_from(index).ok().and_then(|index| dictionary.get(index)).copied();
                value.ok_or_else(|| format!("value {index} of a dictionary of {}", dictionary.len()))
            };
            indices.into_iter().map(value).collect()
        }
        RUNS if kind == Kind::Bool => {
            let bytes = bytes.get(4..).ok_or("a page ends before its values")?;
            Ok(runs(bytes, 1, count)?.into_iter().map(|bit| bit as f64).collect())
        }
        DIFFERENCES => differences(kind, bytes, count),
        SPLIT => {
            let size = kind.bytes();
            if bytes.len() != count.saturating_mul(size) || kind == Kind::Bool {
                return Err(format!("expected {count} values of {size} bytes, found {} bytes", bytes.len()));
            }
            let mut element = [0; 8];
            let value = |i: usize| {
                (0..size).for_each(|byte| element[byte] = bytes[byte * count + i]);
                kind.value(&element[..size])
            };
            Ok((0..count).map(value).collect())
        }
        other => Err(format!("the encoding {other} is not supported for numbers")),
    }
}

/// Values one after the other.
pub fn plain(kind: Kind, bytes: &[u8], count: usize) -> Result<Vec<f64>, String> {
    let size = kind.bytes();
    let needed = if kind == Kind::Bool { count.div_ceil(8) } else { count.saturating_mul(size) };
    let bytes =
        bytes.get(..needed).ok_or_else(|| format!("expected {needed} bytes of values, found {}", bytes.len()))?;
    if kind == Kind::Bool {
        return Ok((0..count).map(|i| f64::from(bytes[i / 8] >> (i % 8) & 1)).collect());
    }
    Ok(bytes.chunks_exact(size).map(|value| kind.value(value)).collect())
}

/// `count` numbers of `width` bits, as runs of equal ones and packed groups of eight.
pub fn runs(bytes: &[u8], width: u8, count: usize) -> Result<Vec<u64>, String> {
    if width > 32 {
        return Err(format!("numbers of {width} bits"));
    }
    let mut bytes = bytes;
    let mut out = Vec::new();
    while out.len() < count {
        let head = varint(&mut bytes)?;
        let left = count - out.len();
        if head & 1 == 1 {
            let groups = head >> 1;
            let size = groups.checked_mul(u64::from(width)).and_then(|size| usize::try_from(size).ok());
            // The last group may lack the bytes that hold no values.
            let size = size.ok_or("a run is too long")?.min(bytes.len());
            let packed = &bytes[..size];
            let held = if width == 0 { left } else { size * 8 / usize::from(width) };
            let here = usize::try_from(groups.saturating_mul(8)).unwrap_or(usize::MAX).min(left).min(held);
            if here == 0 {
                return Err(format!("truncated: expected {count} numbers, found {}", out.len()));
            }
            out.extend((0..here).map(|i| bits(packed, i * usize::from(width), width)));
            bytes = &bytes[size..];
        } else {
            let run = usize::try_from(head >> 1).unwrap_or(usize::MAX).min(left);
            let size = usize::from(width).div_ceil(8);
            let value = bytes.get(..size).filter(|_| run > 0).ok_or("a run is broken")?;
            let value = value.iter().rev().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
            out.extend(std::iter::repeat_n(value, run));
            bytes = &bytes[size..];
        }
    }
    Ok(out)
}

/// The number of `width` bits that begins at bit `at`, the lowest bits first; bits beyond the end are 0.
fn bits(bytes: &[u8], at: usize, width: u8) -> u64 {
    let mut value = 0u128;
    for (place, byte) in bytes.iter().skip(at / 8).take(9).enumerate() {
        value |= u128::from(*byte) << (8 * place);
    }
    let mask = (1u128 << width) - 1;
    (value >> (at % 8) & mask) as u64
}

fn varint(bytes: &mut &[u8]) -> Result<u64, String> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or("truncated: a number is missing")?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err("a number has too many bytes".into())
}

fn zigzag(bytes: &mut &[u8]) -> Result<i64, String> {
    let value = varint(bytes)?;
    Ok((value >> 1) as i64 ^ -((value & 1) as i64))
}

/// Integers as packed differences: blocks of a smallest difference and what the others are above it.
fn differences(kind: Kind, bytes: &[u8], count: usize) -> Result<Vec<f64>, String> {
    let narrow = match kind {
        Kind::I32 | Kind::U32 => true,
        Kind::I64 | Kind::U64 => false,
        _ => return Err("differences of something other than integers".into()),
    };
    let mut bytes = bytes;
    let (block, parts, total) = (varint(&mut bytes)?, varint(&mut bytes)?, varint(&mut bytes)?);
    let mut value = zigzag(&mut bytes)?;
    if total != count as u64
        || parts == 0
        || block == 0
        || block > 1 << 20
        || !block.is_multiple_of(parts)
        || !(block / parts).is_multiple_of(8)
    {
        return Err(format!("differences of {total} values in blocks of {block}, expected {count} values"));
    }
    let each = (block / parts) as usize;
    let mut out = Vec::new();
    let store = |value: i64, out: &mut Vec<f64>| {
        let size = if narrow { 4 } else { 8 };
        out.push(kind.value(&value.to_le_bytes()[..size]));
    };
    if count > 0 {
        store(value, &mut out);
    }
    while out.len() < count {
        let smallest = zigzag(&mut bytes)?;
        let widths = bytes.get(..parts as usize).ok_or("truncated: the widths of differences are missing")?;
        bytes = &bytes[parts as usize..];
        for width in widths {
            if out.len() == count {
                break;
            }
            if *width > 64 {
                return Err(format!("differences of {width} bits"));
            }
            let size = each * usize::from(*width) / 8;
            let packed = bytes.get(..size).ok_or("truncated: differences are missing")?;
            bytes = &bytes[size..];
            for i in 0..each.min(count - out.len()) {
                let difference = bits(packed, i * usize::from(*width), *width) as i64;
                value = value.wrapping_add(smallest).wrapping_add(difference);
                store(value, &mut out);
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_and_packed_groups() {
        assert_eq!(runs(&[3, 0b1000_1000, 0b1100_0110, 0b1111_1010], 3, 8), Ok(vec![0, 1, 2, 3, 4, 5, 6, 7]));
        assert_eq!(runs(&[8, 5], 3, 4), Ok(vec![5; 4]));
        assert_eq!(runs(&[9], 0, 20), Ok(vec![0; 20]));
        assert!(runs(&[8, 5], 3, 5).is_err());
        assert_eq!(bits(&[0xff; 9], 7, 64), u64::MAX);
    }

    #[test]
    fn packed_differences() {
        // 7 5 3 1 2 3 4 5 in one block of 128, of which the differences are -2 -2 -2 1 1 1 1.
        let mut bytes = vec![0x80, 0x01, 4, 8, 14, 3, 2, 0, 0, 0];
        bytes.extend([0b1100_0000, 0b0011_1111, 0, 0, 0, 0, 0, 0]);
        assert_eq!(differences(Kind::I32, &bytes, 8), Ok(vec![7.0, 5.0, 3.0, 1.0, 2.0, 3.0, 4.0, 5.0]));
        assert!(differences(Kind::I32, &bytes, 9).is_err());
    }
}
