//! IDX, the format of MNIST: a magic number with dtype and rank, big-endian sizes, big-endian values; plain or gzip.

use std::path::Path;

use crate::ir::types::DType;

use super::input::Input;
use super::rows::{Rows, Stored, stored_bytes};
use super::{Array, FormatError, checked_size, shape_text};

/// Reads an IDX file, gzip or not.
///
/// # Errors
/// As [`open`].
pub fn read(path: &Path) -> Result<Array, FormatError> {
    open(path)?.into_array()
}

/// The rows of an IDX file; a gzip one is read whole.
///
/// # Errors
/// If the magic number is wrong, or the file is shorter or longer than its header says.
pub fn open(path: &Path) -> Result<Rows, FormatError> {
    let mut input = Input::open(path)?;
    let magic = input.take(4, "the IDX magic number")?;
    let Some(dtype) = (if magic[0] == 0 && magic[1] == 0 { dtype_of(magic[2]) } else { None }) else {
        let found: Vec<String> = magic.iter().map(|b| format!("{b:02x}")).collect();
        return Err(input.error(format!(
            "not an IDX file: it starts with the bytes {}, an IDX file with 00 00, a dtype (08 to 0e) and a rank",
            found.join(" ")
        )));
    };
    let rank = usize::from(magic[3]);
    let header = input.take(4 * rank, "the IDX sizes")?;
    let shape: Vec<usize> =
        header.chunks_exact(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]) as usize).collect();
    let described = format!("{dtype}{} as its header says", shape_text(&shape));
    let too_large =
        || input.error(format!("its header says {dtype}{}, more than can be held in memory", shape_text(&shape)));
    let stored = stored_bytes(&shape, dtype).ok_or_else(too_large)?;
    if let Some(start) = input.place(stored, &described)? {
        return Ok(Box::new(Stored::new(path, start, dtype, shape, true)?));
    }
    let (_, bytes) = checked_size(&shape, dtype.bytes()).ok_or_else(too_large)?;
    let mut data = input.take(bytes, &described)?;
    input.finish(&described)?;
    swap_bytes(&mut data, dtype.bytes());
    Ok(Box::new(Array { dtype, shape, bytes: data }))
}

/// The dtype with IDX code `code`.
fn dtype_of(code: u8) -> Option<DType> {
    Some(match code {
        0x08 => DType::U8,
        0x09 => DType::I8,
        0x0b => DType::I16,
        0x0c => DType::I32,
        0x0d => DType::F32,
        0x0e => DType::F64,
        _ => return None,
    })
}

/// Reverses the bytes of every element.
pub(super) fn swap_bytes(data: &mut [u8], element: usize) {
    if element > 1 {
        data.chunks_exact_mut(element).for_each(<[u8]>::reverse);
    }
}
