//! The pages of a column in a row group, and their compression.

use std::io::Read;

use flate2::read::MultiGzDecoder;
use ruzstd::decoding::StreamingDecoder;

use super::thrift::{self, Value};
use super::values::{self, Kind};

/// The largest page in bytes.
const LARGEST_PAGE: usize = 256 << 20;
/// The most bytes that a frame of zstd may ask to look back on.
const LARGEST_WINDOW: u64 = 128 << 20;

/// How pages are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    Plain,
    Snappy,
    Gzip,
    Zstd,
}

/// The pages of a column in a row group.
pub struct Chunk {
    pub start: u64,
    pub length: usize,
    pub codec: Codec,
}

impl Chunk {
    /// What metadata says of a chunk.
    pub fn new(chunk: &Value) -> Result<Chunk, String> {
        if chunk.find(1).is_some() {
            return Err("columns in other files are not supported".into());
        }
        let metadata = chunk.find(3).ok_or("a column has no metadata")?;
        let data = metadata.unsigned(9)?;
        let dictionary = metadata.unsigned(11).ok().filter(|at| *at > 0);
        let length = usize::try_from(metadata.unsigned(7)?).map_err(|e| e.to_string())?;
        let codec = match metadata.unsigned(4)? {
            0 => Codec::Plain,
            1 => Codec::Snappy,
            2 => Codec::Gzip,
            6 => Codec::Zstd,
            other => {
                let names = ["", "", "", "lzo", "brotli", "lz4", "", "lz4"];
                let name = names.get(other as usize).copied().unwrap_or("an unknown method");
                return Err(format!("compression with {name} is not supported; snappy, gzip and zstd are"));
            }
        };
        Ok(Chunk { start: dictionary.map_or(data, |at| at.min(data)), length, codec })
    }
}

/// A page's header.
struct Header<'a> {
    kind: u64,
    size: usize,
    body: &'a [u8],
    fields: Value,
}

/// The `rows` values of a chunk.
pub fn values(bytes: &[u8], codec: Codec, kind: Kind, optional: bool, rows: usize) -> Result<Vec<f64>, String> {
    let mut out = Vec::new();
    let mut dictionary: Option<Vec<f64>> = None;
    let mut rest = bytes;
    while out.len() < rows {
        if rest.is_empty() {
            return Err(format!("truncated: expected {rows} values, found {}", out.len()));
        }
        let page = header(&mut rest)?;
        match page.kind {
            0 => data_page(&page, codec, kind, optional, dictionary.as_deref(), rows, &mut out)?,
            3 => data_page_2(&page, codec, kind, optional, dictionary.as_deref(), rows, &mut out)?,
            2 => {
                let fields = page.fields.find(7).ok_or("a dictionary has no header")?;
                let count = fields.unsigned(1)? as usize;
                let body = decompress(codec, page.body, page.size)?;
                dictionary = Some(values::plain(kind, &body, count)?);
            }
            1 => {}
            other => return Err(format!("a page of the unknown kind {other}")),
        }
    }
    if out.len() != rows {
        return Err(format!("expected {rows} values, found {}", out.len()));
    }
    Ok(out)
}

fn header<'a>(rest: &mut &'a [u8]) -> Result<Header<'a>, String> {
    let (fields, length) =
        thrift::parse(rest).map_err(|message| format!("the header of a page is broken: {message}"))?;
    let size = fields.unsigned(2)? as usize;
    let stored = fields.unsigned(3)? as usize;
    if size > LARGEST_PAGE {
        return Err(format!("a page claims {size} bytes, more than {LARGEST_PAGE}"));
    }
    let after = &rest[length..];
    let body =
        after.get(..stored).ok_or_else(|| format!("truncated: a page of {stored} bytes, {} are left", after.len()))?;
    *rest = &after[stored..];
    Ok(Header { kind: fields.unsigned(1)?, size, body, fields })
}

fn data_page(
    page: &Header<'_>,
    codec: Codec,
    kind: Kind,
    optional: bool,
    dictionary: Option<&[f64]>,
    rows: usize,
    out: &mut Vec<f64>,
) -> Result<(), String> {
    let fields = page.fields.find(5).ok_or("a page has no header")?;
    let (count, encoding) = (count(fields, rows, out.len())?, fields.unsigned(2)?);
    let body = decompress(codec, page.body, page.size)?;
    let mut rest = &body[..];
    if optional {
        if fields.unsigned(3)? != 3 {
            return Err("levels that are packed in the old way are not supported".into());
        }
        let length = rest.first_chunk().map(|bytes| u32::from_le_bytes(*bytes) as usize);
        let length = length.ok_or("a page ends within its levels")?;
        let levels = rest.get(4..).and_then(|rest| rest.get(..length)).ok_or("a page ends within its levels")?;
        all_there(levels, count, out.len())?;
        rest = &rest[4 + length..];
    }
    out.extend(values::decode(kind, encoding, rest, count, dictionary)?);
    Ok(())
}

fn data_page_2(
    page: &Header<'_>,
    codec: Codec,
    kind: Kind,
    optional: bool,
    dictionary: Option<&[f64]>,
    rows: usize,
    out: &mut Vec<f64>,
) -> Result<(), String> {
    let fields = page.fields.find(8).ok_or("a page has no header")?;
    let (count, encoding) = (count(fields, rows, out.len())?, fields.unsigned(4)?);
    let (definition, repetition) = (fields.unsigned(5)? as usize, fields.unsigned(6)? as usize);
    let levels = definition.checked_add(repetition).filter(|end| *end <= page.body.len() && *end <= page.size);
    let levels = levels.ok_or("a page ends within its levels")?;
    if optional {
        all_there(&page.body[repetition..levels], count, out.len())?;
    }
    let stored = &page.body[levels..];
    let plain = fields.find(7) == Some(&Value::Bool(false));
    let body = decompress(if plain { Codec::Plain } else { codec }, stored, page.size - levels)?;
    out.extend(values::decode(kind, encoding, &body, count, dictionary)?);
    Ok(())
}

/// The number of values of a page, which cannot be more than are still expected.
fn count(fields: &Value, rows: usize, found: usize) -> Result<usize, String> {
    let count = fields.unsigned(1)? as usize;
    match count <= rows - found {
        true => Ok(count),
        false => Err(format!("a page has {count} values, expected at most {}", rows - found)),
    }
}

/// Checks that no value is missing: every definition level is 1.
fn all_there(levels: &[u8], count: usize, first: usize) -> Result<(), String> {
    let levels = values::runs(levels, 1, count)?;
    match levels.iter().position(|level| *level == 0) {
        Some(missing) => {
            Err(format!("the value of row {} of the row group is missing (null), expected a number", first + missing))
        }
        None => Ok(()),
    }
}

fn decompress(codec: Codec, body: &[u8], size: usize) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    // One byte more than promised shows a page that is too long, without holding the rest of it.
    let most = size as u64 + 1;
    match codec {
        Codec::Plain => out.extend_from_slice(body),
        Codec::Snappy => {
            let length = snap::raw::decompress_len(body).map_err(|e| broken(&e))?;
            if length == size {
                out = snap::raw::Decoder::new().decompress_vec(body).map_err(|e| broken(&e))?;
            } else {
                return Err(format!("a page claims {size} bytes and holds {length}"));
            }
        }
        Codec::Gzip => {
            MultiGzDecoder::new(body).take(most).read_to_end(&mut out).map_err(|e| broken(&e))?;
        }
        Codec::Zstd => {
            let decoder = StreamingDecoder::new_with_max_window_size(body, LARGEST_WINDOW).map_err(|e| broken(&e))?;
            decoder.take(most).read_to_end(&mut out).map_err(|e| broken(&e))?;
        }
    }
    if out.len() != size {
        return Err(format!("expected a page of {size} bytes, found {}", out.len()));
    }
    Ok(out)
}

fn broken(error: &dyn std::fmt::Display) -> String {
    format!("a compressed page is broken: {error}")
}
