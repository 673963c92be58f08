//! Data blocks: every reader gives the same numbers, in memory and from its files; broken files give precise errors.
//!
//! The files of `tests/fixtures/data` are made by the script beside them, with h5py, pyarrow and Pillow.

mod damage;
mod formats;
mod pictures;
mod training;

use std::fs;
use std::path::{Path, PathBuf};

use nnc::formats::csv::{self, Column, Columns, Options};
use nnc::formats::{Array, FormatError};

/// A file made by the script of the fixtures.
fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/data").join(name)
}

/// The contents of a fixture.
fn contents(name: &str) -> Vec<u8> {
    fs::read(fixture(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The table of the fixtures, as its CSV file has it.
fn table(columns: &[&str]) -> Array {
    let columns = Columns::Many(columns.iter().map(|name| Column::Name((*name).to_owned())).collect());
    csv::read(&fixture("table.csv"), &Options { columns, ..Options::default() }).expect("the table is read")
}

fn values(array: &Array) -> Vec<f64> {
    array.values().collect()
}

fn message<T>(outcome: Result<T, FormatError>) -> String {
    match outcome {
        Ok(_) => panic!("the file was read"),
        Err(error) => error.to_string(),
    }
}
