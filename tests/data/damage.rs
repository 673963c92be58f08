//! Broken files of every format: an error or other numbers, never a panic, a hang or a large allocation.

use std::fs;
use std::path::Path;

use nnc::formats::csv::Columns;
use nnc::formats::rows::Rows;
use nnc::formats::{FormatError, hdf5, images, parquet};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::contents;

/// Reads `good` after each of some truncations and changes of a few bytes.
fn disturb(name: &str, cases: u32, read: impl Fn(&Path) -> Result<(), FormatError>) {
    let good = contents(name);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join(name);
    fs::write(&path, &good).expect("a copy");
    read(&path).unwrap_or_else(|error| panic!("{name} is good: {error}"));
    for cut in (0..good.len()).step_by(1 + good.len() / 100) {
        fs::write(&path, &good[..cut]).expect("a copy");
        assert!(read(&path).is_err(), "{name} cut to {cut} bytes is read");
    }
    let changes = proptest::collection::vec((0..good.len(), any::<u8>()), 1..4);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new(config).run(&changes, |changes| {
        let mut bad = good.clone();
        changes.iter().for_each(|(at, byte)| bad[*at] = *byte);
        fs::write(&path, &bad).expect("a copy");
        let _ = read(&path);
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{name}: {error}"));
}

fn all(rows: Result<Rows, FormatError>) -> Result<(), FormatError> {
    rows?.into_array().map(drop)
}

#[test]
fn hdf5() {
    for key in ["packed/x", "big_endian", "flags"] {
        disturb("earliest.h5", 300, |path| all(hdf5::open(path, Some(key))));
    }
    for key in ["array", "single", "pages"] {
        disturb("latest.h5", 150, |path| all(hdf5::open(path, Some(key))));
    }
}

#[test]
fn parquet() {
    for name in ["table.parquet", "version_2.parquet", "plain.parquet", "encodings.parquet"] {
        disturb(name, 400, |path| all(parquet::open(path, &Columns::All)));
    }
}

#[test]
fn pictures() {
    disturb("colour.png", 600, |path| images::decode::read(path).map(drop));
    for name in ["colour.jpg", "grey.jpg"] {
        let good = contents(name);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join(name);
        for cut in 0..good.len() {
            fs::write(&path, &good[..cut]).expect("a copy");
            let _ = images::decode::read(&path);
        }
        for at in 0..good.len() {
            for change in [0xff, 0x01, 0x80] {
                let mut bad = good.clone();
                bad[at] ^= change;
                fs::write(&path, bad).expect("a copy");
                let _ = images::decode::read(&path);
            }
        }
    }
}
