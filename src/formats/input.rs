//! Opening files for reading: gzip by its magic number, and reads that allocate no more than the file can hold.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use super::{FormatError, LARGEST_ARRAY};

/// Deflate cannot expand by more than this factor.
const LARGEST_EXPANSION: u64 = 1032;

/// An open file, decompressed on the way if it is gzip.
pub struct Input {
    pub path: PathBuf,
    reader: Box<dyn Read>,
    /// Bytes of the file on disk.
    length: u64,
    compressed: bool,
    /// Bytes read so far, after decompression.
    position: u64,
}

impl Input {
    /// Opens `path`.
    ///
    /// # Errors
    /// If there is no such file or it is not a regular file.
    pub fn open(path: &Path) -> Result<Input, FormatError> {
        let (mut file, length) = open_file(path)?;
        let mut magic = [0; 2];
        let read = read_up_to(&mut file, &mut magic).map_err(|source| read_error(path, source))?;
        file.seek(SeekFrom::Start(0)).map_err(|source| read_error(path, source))?;
        let compressed = read == 2 && magic == [0x1f, 0x8b];
        let buffered = BufReader::new(file);
        let reader: Box<dyn Read> =
            if compressed { Box::new(MultiGzDecoder::new(buffered)) } else { Box::new(buffered) };
        Ok(Input { path: path.to_owned(), reader, length, compressed, position: 0 })
    }

    /// The bytes of the whole file if it is not compressed.
    pub fn plain_length(&self) -> Option<u64> {
        (!self.compressed).then_some(self.length)
    }

    /// Where the next byte lies if exactly `count` bytes of `what` follow; `None` for a compressed file, which has no places.
    ///
    /// # Errors
    /// If more or fewer bytes follow.
    pub fn place(&self, count: u64, what: &str) -> Result<Option<u64>, FormatError> {
        let Some(length) = self.plain_length() else { return Ok(None) };
        let left = length.saturating_sub(self.position);
        if count > left {
            return Err(self.error(format!("truncated: expected {count} bytes of {what}, found {left}")));
        }
        if count < left {
            let expected = self.position + count;
            return Err(self.error(format!("expected {expected} bytes ({what}), found {length}")));
        }
        Ok(Some(self.position))
    }

    /// Exactly `count` bytes, which are `what`.
    ///
    /// # Errors
    /// If the file ends before: says how many bytes were expected and found.
    pub fn take(&mut self, count: usize, what: &str) -> Result<Vec<u8>, FormatError> {
        let most = if self.compressed { self.length.saturating_mul(LARGEST_EXPANSION) } else { self.length };
        let left = most.saturating_sub(self.position);
        if count as u64 > LARGEST_ARRAY {
            return Err(self.error(format!("{what} would take {count} bytes, more than can be held in memory")));
        }
        if count as u64 > left {
            let at_most = if self.compressed { "at most " } else { "" };
            return Err(self.error(format!("truncated: expected {count} bytes of {what}, found {at_most}{left}")));
        }
        let mut bytes = Vec::new();
        bytes
            .try_reserve_exact(count)
            .map_err(|_| self.error(format!("{what}: {count} bytes do not fit in memory")))?;
        let outcome = (&mut self.reader).take(count as u64).read_to_end(&mut bytes);
        let found = bytes.len();
        self.position += found as u64;
        match outcome {
            Ok(_) if found == count => Ok(bytes),
            Ok(_) => Err(self.error(format!("truncated: expected {count} bytes of {what}, found {found}"))),
            Err(error) if self.compressed => Err(self.error(format!(
                "the compressed stream is broken ({error}): expected {count} bytes of {what}, found {found}"
            ))),
            Err(source) => Err(read_error(&self.path, source)),
        }
    }

    /// Checks that nothing follows.
    ///
    /// # Errors
    /// If there are more bytes.
    pub fn finish(mut self, expected: &str) -> Result<(), FormatError> {
        match read_up_to(&mut self.reader, &mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => {
                let found = match self.plain_length() {
                    Some(length) => format!("{length}"),
                    None => "more".into(),
                };
                Err(self.error(format!("expected {} bytes ({expected}), found {found}", self.position)))
            }
            Err(error) => Err(self.error(format!("the compressed stream is broken at its end ({error})"))),
        }
    }

    /// An error about the contents of this file.
    pub fn error(&self, message: impl Into<String>) -> FormatError {
        FormatError::content(&self.path, message)
    }
}

/// The whole of a text or binary file, decompressed if it is gzip.
///
/// # Errors
/// If it cannot be read, or holds more than `limit` bytes.
pub fn read_whole(path: &Path, limit: u64) -> Result<Vec<u8>, FormatError> {
    let mut input = Input::open(path)?;
    let mut bytes = Vec::new();
    (&mut input.reader).take(limit + 1).read_to_end(&mut bytes).map_err(|source| read_error(path, source))?;
    if bytes.len() as u64 > limit {
        return Err(input.error(format!("the file holds more than {limit} bytes")));
    }
    Ok(bytes)
}

/// Opens a regular file; also its length.
///
/// # Errors
/// If there is no such file or it is not a regular file.
pub fn open_file(path: &Path) -> Result<(File, u64), FormatError> {
    let open_error = |source| FormatError::Open { path: path.to_owned(), source };
    // The kind is asked for first: opening a named pipe would wait for its writer.
    let metadata = std::fs::metadata(path).map_err(open_error)?;
    if metadata.is_dir() {
        return Err(open_error(io::ErrorKind::IsADirectory.into()));
    }
    if !metadata.is_file() {
        return Err(open_error(io::Error::other("it is not a regular file")));
    }
    Ok((File::open(path).map_err(open_error)?, metadata.len()))
}

fn read_error(path: &Path, source: io::Error) -> FormatError {
    FormatError::Read { path: path.to_owned(), source }
}

/// Fills as much of `buffer` as the reader has; the number of bytes.
fn read_up_to(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
