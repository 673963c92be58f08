//! TensorBoard's event files: scalars over steps.
//!
//! A file is a run of TFRecords (length, its checksum, data, its checksum; checksums are CRC-32C, rotated and offset), each of which
//! is an `Event` in protobuf's wire format. Only the few fields that scalars need are written, so the encoding is by hand.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use super::FormatError;

/// An event file that is being written.
pub struct EventFile {
    path: PathBuf,
    out: BufWriter<File>,
}

impl EventFile {
    /// Makes the folder and an event file in it, named after the time `now` (seconds since 1970) as TensorBoard wants it.
    ///
    /// # Errors
    /// If the folder or the file cannot be made.
    pub fn create(folder: &Path, now: f64) -> Result<EventFile, FormatError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| FormatError::Write { path, source }
        };
        std::fs::create_dir_all(folder).map_err(failed(folder))?;
        let path = folder.join(format!("events.out.tfevents.{:010}.{}.nnc", now as u64, std::process::id()));
        let out = BufWriter::new(File::create(&path).map_err(failed(&path))?);
        let mut file = EventFile { path, out };
        let mut event = Message::default();
        event.double(1, now).bytes(3, b"brain.Event:2");
        file.record(&event.0)?;
        Ok(file)
    }

    /// Appends scalars of one step.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn scalars(&mut self, now: f64, step: u64, scalars: &[(String, f64)]) -> Result<(), FormatError> {
        let mut summary = Message::default();
        for (tag, value) in scalars {
            let mut entry = Message::default();
            entry.bytes(1, tag.as_bytes()).float(2, *value as f32);
            summary.bytes(1, &entry.0);
        }
        let mut event = Message::default();
        event.double(1, now).integer(2, step).bytes(5, &summary.0);
        self.record(&event.0)
    }

    fn record(&mut self, data: &[u8]) -> Result<(), FormatError> {
        let length = (data.len() as u64).to_le_bytes();
        let parts: [&[u8]; 4] = [&length, &masked(&length).to_le_bytes(), data, &masked(data).to_le_bytes()];
        let written = parts.iter().try_for_each(|part| self.out.write_all(part)).and_then(|()| self.out.flush());
        written.map_err(|source| FormatError::Write { path: self.path.clone(), source })
    }
}

/// A protobuf message in its wire format.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn key(&mut self, field: u64, wire: u64) {
        self.varint(field << 3 | wire);
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn integer(&mut self, field: u64, value: u64) -> &mut Self {
        self.key(field, 0);
        self.varint(value);
        self
    }

    fn double(&mut self, field: u64, value: f64) -> &mut Self {
        self.key(field, 1);
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn bytes(&mut self, field: u64, value: &[u8]) -> &mut Self {
        self.key(field, 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    fn float(&mut self, field: u64, value: f32) -> &mut Self {
        self.key(field, 5);
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }
}

/// The checksum of a record.
fn masked(data: &[u8]) -> u32 {
    crc32c(data).rotate_right(15).wrapping_add(0xA282_EAD8)
}

/// CRC-32C (Castagnoli), bit by bit: events are short.
fn crc32c(data: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0x82F6_3B78 } else { crc >> 1 };
    !data.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_of_the_standard() {
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
    }

    #[test]
    fn records_as_tensorboard_reads_them() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = EventFile::create(folder.path(), 1.5).unwrap();
        file.scalars(2.0, 300, &[("train/ce".into(), 0.5)]).unwrap();
        let bytes = std::fs::read(&file.path).unwrap();
        let first = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        assert_eq!(&bytes[12..12 + first], [&[9][..], &1.5f64.to_le_bytes(), &[26, 13], b"brain.Event:2"].concat());
        let event = &bytes[16 + first..];
        let value = [&[10, 8][..], b"train/ce", &[21], &0.5f32.to_le_bytes()].concat();
        let data = [&[9][..], &2.0f64.to_le_bytes(), &[16, 0xAC, 2, 42, 17, 10, 15], &value].concat();
        assert_eq!(&event[12..event.len() - 4], data);
        assert_eq!(event[event.len() - 4..], masked(&data).to_le_bytes());
        assert_eq!(event[8..12], masked(&event[..8]).to_le_bytes());
    }
}
