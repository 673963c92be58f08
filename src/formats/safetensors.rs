//! Safetensors: named tensors, a JSON header before one block of data.
//!
//! Reading maps the file; the `safetensors` crate checks the header (offsets within the file, no overlaps, no holes). Writing is
//! our own, because the header is padded with spaces so that the data starts at a multiple of 64 bytes.

use std::path::{Path, PathBuf};

use memmap2::MmapMut;
use safetensors::tensor::{Dtype, SafeTensors};

use crate::ir::types::DType;

use super::map::map;
use super::rows::Stored;
use super::{Array, FormatError, atomic, shape_text};

/// Where the data begins is a multiple of this, so that a mapped file can be used by vector code as it lies.
const ALIGNMENT: usize = 64;

/// One tensor of a file: its name, type and place in the data section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    pub dtype: DType,
    pub shape: Vec<usize>,
    /// The offset in bytes within the data section.
    pub offset: usize,
    /// The length in bytes.
    pub length: usize,
}

impl Entry {
    /// The type as messages write it: `f32[784, 32]`.
    pub fn described(&self) -> String {
        format!("{}{}", self.dtype, shape_text(&self.shape))
    }
}

/// A mapped safetensors file.
pub struct WeightFile {
    pub path: PathBuf,
    mapping: MmapMut,
    data_start: usize,
    /// By offset.
    entries: Vec<Entry>,
}

impl WeightFile {
    /// Maps the file at `path` and reads its header.
    ///
    /// # Errors
    /// If the file is missing, no safetensors file, truncated, or has a dtype that is not one of ours.
    pub fn open(path: &Path) -> Result<WeightFile, FormatError> {
        let error = |message: String| FormatError::content(path, message);
        let mapping = map(path)?.ok_or_else(|| error("not a safetensors file: it is empty".into()))?;
        let (header_length, metadata) =
            SafeTensors::read_metadata(&mapping).map_err(|e| error(explain(&mapping, &e)))?;
        let mut entries = Vec::new();
        for (name, info) in metadata.tensors() {
            let dtype = dtype_of(info.dtype).ok_or_else(|| {
                error(format!("tensor `{name}` has the dtype {:?}, which is not supported", info.dtype))
            })?;
            let (start, end) = info.data_offsets;
            entries.push(Entry { name, dtype, shape: info.shape.clone(), offset: start, length: end - start });
        }
        entries.sort_by(|a, b| (a.offset, a.length, &a.name).cmp(&(b.offset, b.length, &b.name)));
        Ok(WeightFile { path: path.to_owned(), mapping, data_start: 8 + header_length, entries })
    }

    /// The tensors in the order of the file.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The data section.
    pub fn data(&self) -> &[u8] {
        &self.mapping[self.data_start..]
    }

    /// The bytes of one of this file's tensors.
    pub fn bytes(&self, entry: &Entry) -> &[u8] {
        &self.data()[entry.offset..entry.offset + entry.length]
    }

    /// Whether the data starts where vector code may use it as it lies.
    pub fn is_aligned(&self) -> bool {
        self.data_start.is_multiple_of(ALIGNMENT)
    }

    /// The data section as memory to be read and changed; changes never reach the file.
    pub fn into_data(self) -> MappedData {
        MappedData { mapping: self.mapping, start: self.data_start }
    }

    /// The rows of the tensor called `name`, read from the file when they are asked for.
    ///
    /// # Errors
    /// If the file cannot be opened again.
    pub fn rows(&self, name: &str) -> Option<Result<Stored, FormatError>> {
        let entry = self.entries.iter().find(|e| e.name == name)?;
        let start = (self.data_start + entry.offset) as u64;
        Some(Stored::new(&self.path, start, entry.dtype, entry.shape.clone(), false))
    }

    /// The tensor called `name` as an array of its own.
    pub fn array(&self, name: &str) -> Option<Array> {
        let entry = self.entries.iter().find(|e| e.name == name)?;
        Array::new(entry.dtype, entry.shape.clone(), self.bytes(entry).to_vec())
    }
}

/// The data section of a mapped file.
pub struct MappedData {
    mapping: MmapMut,
    start: usize,
}

impl AsRef<[u8]> for MappedData {
    fn as_ref(&self) -> &[u8] {
        &self.mapping[self.start..]
    }
}

impl AsMut<[u8]> for MappedData {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.mapping[self.start..]
    }
}

/// Writes `data` under a header that lists `entries`, atomically.
///
/// The entries must cover the data in order without holes, as parameters in memory do.
///
/// # Errors
/// If the entries do not cover the data, or the file cannot be written.
pub fn write(path: &Path, entries: &[Entry], data: &[u8]) -> Result<(), FormatError> {
    let covered = entries.iter().try_fold(0usize, |at, e| (e.offset == at).then_some(at + e.length));
    if covered != Some(data.len()) {
        return Err(FormatError::content(path, "the tensors do not cover the data without holes"));
    }
    let header = header(entries);
    atomic::write(path, |out| {
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(header.as_bytes())?;
        out.write_all(data)
    })
}

/// The JSON header, padded.
fn header(entries: &[Entry]) -> String {
    let fields: Vec<String> = entries
        .iter()
        .map(|entry| {
            let shape: Vec<String> = entry.shape.iter().map(usize::to_string).collect();
            format!(
                "{}:{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}}",
                serde_json::Value::from(entry.name.as_str()),
                name_of(entry.dtype),
                shape.join(","),
                entry.offset,
                entry.offset + entry.length
            )
        })
        .collect();
    let mut header = format!("{{{}}}", fields.join(","));
    let padding = (ALIGNMENT - (8 + header.len()) % ALIGNMENT) % ALIGNMENT;
    header.push_str(&" ".repeat(padding));
    header
}

/// The crate's error as a sentence that gives lengths.
fn explain(bytes: &[u8], error: &safetensors::SafeTensorError) -> String {
    use safetensors::SafeTensorError as E;
    let header = bytes.get(..8).map(|b| u64::from_le_bytes(b.try_into().expect("eight bytes")));
    match (error, header) {
        (E::HeaderTooSmall, _) => format!("not a safetensors file: it has only {} bytes", bytes.len()),
        (E::HeaderTooLarge | E::InvalidHeaderLength, Some(length)) => format!(
            "not a safetensors file, or truncated: its header claims {length} bytes, the file has {}",
            bytes.len()
        ),
        (E::MetadataIncompleteBuffer, Some(length)) => {
            let start = 8 + usize::try_from(length).expect("the header was within the file");
            let found = bytes.len().saturating_sub(start);
            match described_length(&bytes[8..start]) {
                Some(expected) if expected > found as u64 => {
                    format!("truncated: expected {expected} bytes of data as its header says, found {found}")
                }
                _ => format!("its header does not describe its {found} bytes of data"),
            }
        }
        _ => format!("not a good safetensors file: {error}"),
    }
}

/// Where the last tensor of a header ends.
fn described_length(header: &[u8]) -> Option<u64> {
    let header: serde_json::Value = serde_json::from_slice(header).ok()?;
    header.as_object()?.values().filter_map(|tensor| tensor.get("data_offsets")?.get(1)?.as_u64()).max()
}

fn dtype_of(dtype: Dtype) -> Option<DType> {
    Some(match dtype {
        Dtype::F32 => DType::F32,
        Dtype::F64 => DType::F64,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::I8 => DType::I8,
        Dtype::I16 => DType::I16,
        Dtype::I32 => DType::I32,
        Dtype::I64 => DType::I64,
        Dtype::U8 => DType::U8,
        Dtype::U16 => DType::U16,
        Dtype::U32 => DType::U32,
        Dtype::BOOL => DType::Bool,
        _ => return None,
    })
}

fn name_of(dtype: DType) -> &'static str {
    match dtype.storage() {
        DType::F32 => "F32",
        DType::F64 => "F64",
        DType::F16 => "F16",
        DType::BF16 => "BF16",
        DType::I8 => "I8",
        DType::I16 => "I16",
        DType::I32 | DType::Index { .. } => "I32",
        DType::I64 => "I64",
        DType::U8 => "U8",
        DType::U16 => "U16",
        DType::U32 => "U32",
        DType::Bool => "BOOL",
    }
}
