//! NumPy's `.npz`: a zip archive of `.npy` files, stored or deflated.
//!
//! Only what NumPy writes is read: the central directory, zip64 sizes included, and the two methods. Checksums are verified.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use flate2::Crc;
use flate2::read::DeflateDecoder;

use crate::diag::nearest;

use super::input::open_file;
use super::{Array, FormatError, LARGEST_ARRAY, atomic, npy};

const LOCAL: u32 = 0x0403_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
const END64: u32 = 0x0606_4b50;
const LOCATOR64: u32 = 0x0706_4b50;
/// The end record without its comment.
const END_LENGTH: usize = 22;
const LARGEST_DIRECTORY: u64 = 16 << 20;
const STORED: u16 = 0;
const DEFLATED: u16 = 8;

/// Reads the array called `key`; without a key the archive must hold exactly one.
///
/// # Errors
/// If the archive is broken, has no such array (the message lists what it has), or the array is.
pub fn read(path: &Path, key: Option<&str>) -> Result<Array, FormatError> {
    let (mut file, length) = open_file(path)?;
    let error = |message: String| FormatError::content(path, message);
    let entries = directory(&mut file, length).map_err(error)?;
    let entry = choose(&entries, key).map_err(error)?;
    let contents = extract(&mut file, length, entry).map_err(|m| error(format!("array `{}`: {m}", entry.key())))?;
    npy::decode(&contents).map_err(|m| error(format!("array `{}`: {m}", entry.key())))
}

/// Writes arrays by name, without compression.
///
/// # Errors
/// If the file cannot be written, or an array is larger than 4 GiB.
pub fn write(path: &Path, arrays: &[(&str, &Array)]) -> Result<(), FormatError> {
    let contents = encode(arrays).map_err(|m| FormatError::content(path, m))?;
    atomic::write(path, |out| out.write_all(&contents))
}

/// One file of the archive.
struct Entry {
    name: String,
    method: u16,
    crc: u32,
    compressed: u64,
    size: u64,
    offset: u64,
}

impl Entry {
    /// The name without `.npy`, as NumPy shows it.
    fn key(&self) -> &str {
        self.name.strip_suffix(".npy").unwrap_or(&self.name)
    }
}

fn choose<'a>(entries: &'a [Entry], key: Option<&str>) -> Result<&'a Entry, String> {
    let keys = || entries.iter().map(Entry::key);
    let list = || keys().collect::<Vec<_>>().join(", ");
    match (key, entries) {
        (None, [only]) => Ok(only),
        (None, []) => Err("the archive holds no array".into()),
        (None, _) => Err(format!("the archive holds several arrays, choose one with key=\"..\": {}", list())),
        (Some(key), _) => entries.iter().find(|e| e.key() == key).ok_or_else(|| match nearest(key, keys()) {
            Some(near) => format!("no array `{key}`: did you mean `{near}`?"),
            None => format!("no array `{key}`: the archive holds {}", list()),
        }),
    }
}

/// Reads `count` bytes at `offset`, which must lie within the file.
fn read_at(file: &mut File, length: u64, offset: u64, count: u64) -> Result<Vec<u8>, String> {
    let inside = offset.checked_add(count).is_some_and(|end| end <= length);
    if !inside {
        return Err(format!("truncated: {count} bytes at offset {offset} are beyond its {length} bytes"));
    }
    let mut bytes = vec![0; usize::try_from(count).map_err(|e| e.to_string())?];
    file.seek(SeekFrom::Start(offset)).and_then(|_| file.read_exact(&mut bytes)).map_err(|e| e.to_string())?;
    Ok(bytes)
}

fn directory(file: &mut File, length: u64) -> Result<Vec<Entry>, String> {
    let not_zip = || "not an NPZ file, or truncated: it has no zip directory at its end".to_string();
    let tail_length = length.min(END_LENGTH as u64 + 0xffff);
    let tail_start = length - tail_length;
    let tail = read_at(file, length, tail_start, tail_length)?;
    let last = tail.len().checked_sub(END_LENGTH).ok_or_else(not_zip)?;
    let end = (0..=last).rev().find(|&at| u32_at(&tail, at) == Some(END)).ok_or_else(not_zip)?;
    let mut size = u64::from(u32_at(&tail, end + 12).ok_or_else(not_zip)?);
    let mut start = u64::from(u32_at(&tail, end + 16).ok_or_else(not_zip)?);
    if start == 0xffff_ffff || size == 0xffff_ffff {
        let locator = end.checked_sub(20).filter(|&at| u32_at(&tail, at) == Some(LOCATOR64)).ok_or_else(not_zip)?;
        let at = u64_at(&tail, locator + 8).ok_or_else(not_zip)?;
        let record = read_at(file, length, at, 56)?;
        if u32_at(&record, 0) != Some(END64) {
            return Err(not_zip());
        }
        size = u64_at(&record, 40).ok_or_else(not_zip)?;
        start = u64_at(&record, 48).ok_or_else(not_zip)?;
    }
    if size > LARGEST_DIRECTORY {
        return Err(format!("its zip directory claims {size} bytes"));
    }
    entries(&read_at(file, length, start, size)?)
}

fn entries(directory: &[u8]) -> Result<Vec<Entry>, String> {
    let broken = || "its zip directory is broken".to_string();
    let mut entries = Vec::new();
    let mut rest = directory;
    while !rest.is_empty() {
        if u32_at(rest, 0) != Some(CENTRAL) {
            return Err(broken());
        }
        let (name_length, extra_length, comment_length) = (u16_at(rest, 28), u16_at(rest, 30), u16_at(rest, 32));
        let name_end = 46 + usize::from(name_length.ok_or_else(broken)?);
        let extra_end = name_end + usize::from(extra_length.ok_or_else(broken)?);
        let end = extra_end + usize::from(comment_length.ok_or_else(broken)?);
        let record = rest.get(..end).ok_or_else(broken)?;
        let mut entry = Entry {
            name: String::from_utf8_lossy(&record[46..name_end]).into_owned(),
            method: u16_at(record, 10).ok_or_else(broken)?,
            crc: u32_at(record, 16).ok_or_else(broken)?,
            compressed: u64::from(u32_at(record, 20).ok_or_else(broken)?),
            size: u64::from(u32_at(record, 24).ok_or_else(broken)?),
            offset: u64::from(u32_at(record, 42).ok_or_else(broken)?),
        };
        widen(&mut entry, &record[name_end..extra_end]).ok_or_else(broken)?;
        entries.push(entry);
        rest = &rest[end..];
    }
    Ok(entries)
}

/// Takes the sizes that did not fit in 32 bits from the zip64 field; `None` if they are not there.
fn widen(entry: &mut Entry, mut extra: &[u8]) -> Option<()> {
    let narrow = 0xffff_ffff;
    if ![entry.size, entry.compressed, entry.offset].contains(&narrow) {
        return Some(());
    }
    loop {
        let (id, length) = (u16_at(extra, 0)?, usize::from(u16_at(extra, 2)?));
        let field = extra.get(4..4 + length)?;
        if id == 1 {
            let mut at = 0;
            for value in [&mut entry.size, &mut entry.compressed, &mut entry.offset] {
                if *value == narrow {
                    *value = u64_at(field, at)?;
                    at += 8;
                }
            }
            return Some(());
        }
        extra = &extra[4 + length..];
    }
}

/// The contents of one file of the archive, its length and checksum verified.
fn extract(file: &mut File, length: u64, entry: &Entry) -> Result<Vec<u8>, String> {
    if entry.size > LARGEST_ARRAY {
        return Err(format!("{} bytes are more than can be held in memory", entry.size));
    }
    let header = read_at(file, length, entry.offset, 30)?;
    let lengths = (u16_at(&header, 26), u16_at(&header, 28));
    let (Some(LOCAL), (Some(name), Some(extra))) = (u32_at(&header, 0), lengths) else {
        return Err("its zip header is broken".into());
    };
    let start = entry.offset + 30 + u64::from(name) + u64::from(extra);
    let data = read_at(file, length, start, entry.compressed)?;
    let contents = match entry.method {
        STORED => data,
        DEFLATED => inflate(&data, entry.size)?,
        other => return Err(format!("zip method {other} is not supported, stored and deflate are")),
    };
    if contents.len() as u64 != entry.size {
        return Err(format!("expected {} bytes, found {}", entry.size, contents.len()));
    }
    let mut crc = Crc::new();
    crc.update(&contents);
    if crc.sum() != entry.crc {
        return Err(format!("the checksum is wrong: expected {:08x}, found {:08x}", entry.crc, crc.sum()));
    }
    Ok(contents)
}

fn inflate(data: &[u8], size: u64) -> Result<Vec<u8>, String> {
    let mut contents = Vec::new();
    // One byte more than promised shows a stream that is too long, without holding the rest of it.
    let outcome = DeflateDecoder::new(data).take(size + 1).read_to_end(&mut contents);
    outcome.map_err(|error| format!("the compressed stream is broken: {error}"))?;
    Ok(contents)
}

fn encode(arrays: &[(&str, &Array)]) -> Result<Vec<u8>, String> {
    let (mut contents, mut directory) = (Vec::new(), Vec::new());
    for (key, array) in arrays {
        let name = format!("{key}.npy");
        let data = npy::encode(array)?;
        let mut crc = Crc::new();
        crc.update(&data);
        let fit = |n: usize| u32::try_from(n).map_err(|_| format!("array `{key}` does not fit in a plain zip archive"));
        let (size, offset) = (fit(data.len())?, fit(contents.len())?);
        let name_length = u16::try_from(name.len()).map_err(|_| format!("`{key}` is too long a name"))?;
        // Version 2.0, no flags, stored, 1980-01-01 so that the same arrays are the same file.
        let mut common = Vec::new();
        for word in [20u16, 0, STORED, 0, 0x0021] {
            common.extend_from_slice(&word.to_le_bytes());
        }
        for word in [crc.sum(), size, size] {
            common.extend_from_slice(&word.to_le_bytes());
        }
        common.extend_from_slice(&name_length.to_le_bytes());
        common.extend_from_slice(&0u16.to_le_bytes());
        contents.extend_from_slice(&LOCAL.to_le_bytes());
        contents.extend_from_slice(&common);
        contents.extend_from_slice(name.as_bytes());
        contents.extend_from_slice(&data);
        directory.extend_from_slice(&CENTRAL.to_le_bytes());
        directory.extend_from_slice(&20u16.to_le_bytes());
        directory.extend_from_slice(&common);
        directory.extend_from_slice(&[0; 10]);
        directory.extend_from_slice(&offset.to_le_bytes());
        directory.extend_from_slice(name.as_bytes());
    }
    let too_many = |_| "too many arrays for a plain zip archive".to_string();
    let (start, size) =
        (u32::try_from(contents.len()).map_err(too_many)?, u32::try_from(directory.len()).map_err(too_many)?);
    let count = u16::try_from(arrays.len()).map_err(too_many)?;
    contents.extend_from_slice(&directory);
    contents.extend_from_slice(&END.to_le_bytes());
    contents.extend_from_slice(&[0; 4]);
    contents.extend_from_slice(&count.to_le_bytes());
    contents.extend_from_slice(&count.to_le_bytes());
    contents.extend_from_slice(&size.to_le_bytes());
    contents.extend_from_slice(&start.to_le_bytes());
    contents.extend_from_slice(&[0; 2]);
    Ok(contents)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}
