//! NumPy's `.npy`: a header that is a Python dictionary, then the values.

use std::io::{self, Write};
use std::path::Path;

use crate::ir::types::DType;

use super::idx::swap_bytes;
use super::input::Input;
use super::rows::{Rows, Stored, stored_bytes};
use super::{Array, FormatError, atomic, checked_size, shape_text};

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// Headers of arrays of numbers are a few dozen bytes.
const LONGEST_HEADER: usize = 64 << 10;

/// Reads a `.npy` file.
///
/// # Errors
/// As [`open`].
pub fn read(path: &Path) -> Result<Array, FormatError> {
    open(path)?.into_array()
}

/// The rows of a `.npy` file; a gzip one, and one in Fortran's order, is read whole.
///
/// # Errors
/// If the header is not NumPy's, the dtype is not one of ours, or the file is shorter or longer than its header says.
pub fn open(path: &Path) -> Result<Rows, FormatError> {
    let mut input = Input::open(path)?;
    let preamble = input.take(8, "the NPY magic number and version")?;
    let length_bytes = length_width(&preamble).map_err(|m| input.error(m))?;
    let length = input.take(length_bytes, "the header's length")?;
    let length = little_endian(&length);
    if length > LONGEST_HEADER {
        return Err(input.error(format!("its header claims {length} bytes, more than {LONGEST_HEADER}")));
    }
    let text = input.take(length, "the NPY header")?;
    let header = Header::parse(&text).map_err(|m| input.error(m))?;
    let described = header.described();
    let too_large = || input.error(format!("its header says {described}, more than can be held in memory"));
    let stored = stored_bytes(&header.shape, header.dtype).ok_or_else(too_large)?;
    let start = input.place(stored, &described)?;
    if let Some(start) = start.filter(|_| !header.fortran || header.shape.len() < 2) {
        return Ok(Box::new(Stored::new(path, start, header.dtype, header.shape, header.big_endian)?));
    }
    let bytes = header.bytes().map_err(|m| input.error(m))?;
    let data = input.take(bytes, &described)?;
    input.finish(&described)?;
    Ok(Box::new(header.array(data)))
}

/// Reads the contents of a `.npy` file.
///
/// # Errors
/// As [`read`], as a sentence without the file's name.
pub fn decode(contents: &[u8]) -> Result<Array, String> {
    let truncated = || format!("truncated: {} bytes do not hold an NPY header", contents.len());
    let width = length_width(contents.get(..8).ok_or_else(truncated)?)?;
    let length = little_endian(contents.get(8..8 + width).ok_or_else(truncated)?);
    let start = 8 + width;
    let text = contents[start..].get(..length).ok_or_else(truncated)?;
    let header = Header::parse(text)?;
    let data = &contents[start + length..];
    let bytes = header.bytes()?;
    if data.len() != bytes {
        return Err(format!("expected {bytes} bytes of {}, found {}", header.described(), data.len()));
    }
    Ok(header.array(data.to_vec()))
}

/// Writes an array as `.npy`, atomically.
///
/// # Errors
/// If the file cannot be written, or the dtype is `bf16`, which NumPy does not have.
pub fn write(path: &Path, array: &Array) -> Result<(), FormatError> {
    let contents = encode(array).map_err(|m| FormatError::content(path, m))?;
    atomic::write(path, |out| out.write_all(&contents))
}

/// Writes an array as `.npy` to a stream such as standard output.
///
/// # Errors
/// If writing fails, or the dtype is `bf16`.
pub fn write_to(out: &mut dyn Write, array: &Array) -> io::Result<()> {
    out.write_all(&encode(array).map_err(io::Error::other)?)
}

/// The contents of a `.npy` file.
///
/// # Errors
/// If the dtype is `bf16`.
pub fn encode(array: &Array) -> Result<Vec<u8>, String> {
    let descriptor = match array.dtype.storage() {
        DType::F32 => "<f4",
        DType::F64 => "<f8",
        DType::F16 => "<f2",
        DType::I8 => "|i1",
        DType::I16 => "<i2",
        DType::I32 | DType::Index { .. } => "<i4",
        DType::I64 => "<i8",
        DType::U8 => "|u1",
        DType::U16 => "<u2",
        DType::U32 => "<u4",
        DType::Bool => "|b1",
        DType::BF16 => return Err("NumPy has no bf16: convert the output with f32(..)".into()),
    };
    let sizes: String = array.shape.iter().map(|size| format!("{size}, ")).collect();
    let sizes = if array.shape.len() == 1 { sizes.trim_end() } else { sizes.trim_end_matches(", ") };
    let mut header = format!("{{'descr': '{descriptor}', 'fortran_order': False, 'shape': ({sizes}), }}");
    // Magic, version, length and header together are a multiple of 64, the header's last byte a line end.
    let padding = (64 - (MAGIC.len() + 4 + header.len() + 1) % 64) % 64;
    header.push_str(&" ".repeat(padding));
    header.push('\n');
    let length = u16::try_from(header.len()).map_err(|_| "an array of so many dims has no NPY header")?;
    let mut contents = Vec::with_capacity(10 + header.len() + array.bytes.len());
    contents.extend_from_slice(MAGIC);
    contents.extend_from_slice(&[1, 0]);
    contents.extend_from_slice(&length.to_le_bytes());
    contents.extend_from_slice(header.as_bytes());
    contents.extend_from_slice(&array.bytes);
    Ok(contents)
}

/// How many bytes the header's length takes, which depends on the version.
fn length_width(preamble: &[u8]) -> Result<usize, String> {
    if &preamble[..6] != MAGIC {
        return Err("not an NPY file: it does not start with \\x93NUMPY".into());
    }
    match preamble[6] {
        1 => Ok(2),
        2 | 3 => Ok(4),
        other => Err(format!("NPY version {other} is unknown, expected 1, 2 or 3")),
    }
}

fn little_endian(bytes: &[u8]) -> usize {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | usize::from(*byte))
}

/// What the header says.
struct Header {
    dtype: DType,
    big_endian: bool,
    fortran: bool,
    shape: Vec<usize>,
}

impl Header {
    fn parse(text: &[u8]) -> Result<Header, String> {
        let text = std::str::from_utf8(text).map_err(|_| "the NPY header is not text")?;
        let descriptor = quoted(after_key(text, "descr")?)?;
        let fortran = match after_key(text, "fortran_order")? {
            rest if rest.starts_with("True") => true,
            rest if rest.starts_with("False") => false,
            _ => return Err("the NPY header's 'fortran_order' is neither True nor False".into()),
        };
        let (dtype, big_endian) = dtype_of(descriptor)?;
        Ok(Header { dtype, big_endian, fortran, shape: sizes(after_key(text, "shape")?)? })
    }

    fn bytes(&self) -> Result<usize, String> {
        let too_large = || format!("its header says {}, more than can be held in memory", self.described());
        checked_size(&self.shape, self.dtype.bytes()).map(|(_, bytes)| bytes).ok_or_else(too_large)
    }

    fn described(&self) -> String {
        format!("{}{}", self.dtype, shape_text(&self.shape))
    }

    fn array(self, mut data: Vec<u8>) -> Array {
        let element = self.dtype.bytes();
        if self.big_endian {
            swap_bytes(&mut data, element);
        }
        if self.fortran && self.shape.len() > 1 {
            data = to_row_major(&data, &self.shape, element);
        }
        Array { dtype: self.dtype, shape: self.shape, bytes: data }
    }
}

/// The text after `'key':`.
fn after_key<'a>(text: &'a str, key: &str) -> Result<&'a str, String> {
    let missing = || format!("the NPY header has no '{key}'");
    let quoted = [format!("'{key}'"), format!("\"{key}\"")];
    let at = quoted.iter().find_map(|q| text.find(q.as_str()).map(|i| i + q.len())).ok_or_else(missing)?;
    text[at..].trim_start().strip_prefix(':').map(str::trim_start).ok_or_else(missing)
}

fn quoted(text: &str) -> Result<&str, String> {
    let structured = "only plain dtypes are supported, no structured ones";
    let mark = text.chars().next().filter(|c| matches!(c, '\'' | '"')).ok_or(structured)?;
    text[1..].split(mark).next().ok_or_else(|| structured.into())
}

/// `<f4` and friends: dtype, and whether the bytes must be swapped.
fn dtype_of(descriptor: &str) -> Result<(DType, bool), String> {
    let (order, code) = match descriptor.as_bytes().first() {
        Some(b'<' | b'|' | b'=') => (false, &descriptor[1..]),
        Some(b'>') => (true, &descriptor[1..]),
        _ => (false, descriptor),
    };
    let dtype = match code {
        "f2" => DType::F16,
        "f4" => DType::F32,
        "f8" => DType::F64,
        "i1" => DType::I8,
        "i2" => DType::I16,
        "i4" => DType::I32,
        "i8" => DType::I64,
        "u1" => DType::U8,
        "u2" => DType::U16,
        "u4" => DType::U32,
        "b1" | "?" => DType::Bool,
        _ => {
            return Err(format!(
                "the NumPy dtype '{}' is not supported; f2 f4 f8, i1 i2 i4 i8, u1 u2 u4 and b1 are",
                descriptor.escape_debug()
            ));
        }
    };
    Ok((dtype, order))
}

/// `(3, 4)`, `(3,)`, `()`.
fn sizes(text: &str) -> Result<Vec<usize>, String> {
    let wrong = || "the NPY header's 'shape' is not a tuple of sizes".to_string();
    let inner = text.strip_prefix('(').and_then(|t| t.split_once(')')).ok_or_else(wrong)?.0;
    inner
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(|part| part.parse().map_err(|_| wrong()))
        .collect()
}

/// Column-major data as row-major.
fn to_row_major(data: &[u8], shape: &[usize], element: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len());
    let mut index = vec![0; shape.len()];
    for _ in 0..data.len() / element {
        let (mut at, mut stride) = (0, 1);
        for (i, size) in index.iter().zip(shape) {
            at += i * stride;
            stride *= size;
        }
        out.extend_from_slice(&data[at * element..(at + 1) * element]);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            if index[axis] < shape[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
    out
}
