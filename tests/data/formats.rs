//! HDF5 and Parquet as their own libraries write them.

use nnc::formats::csv::{Column, Columns};
use nnc::formats::rows::Rows;
use nnc::formats::{hdf5, parquet};

use super::{fixture, message, table, values};

fn named(names: &[&str]) -> Columns {
    Columns::Many(names.iter().map(|name| Column::Name((*name).to_owned())).collect())
}

fn one(name: &str) -> Columns {
    Columns::One(Column::Name(name.to_owned()))
}

/// Rows read in pieces of any size are those read at once.
fn in_pieces(rows: Rows, whole: &[f64]) {
    for size in [1, 3, 7, 10, 24] {
        let mut found = Vec::new();
        for start in (0..rows.rows()).step_by(size) {
            let piece = rows.read(start..rows.rows().min(start + size)).expect("a piece is read");
            found.extend(piece.values());
        }
        assert_eq!(found, whole, "pieces of {size}");
    }
    for row in 0..rows.rows() {
        assert!(rows.block(row).contains(&row));
    }
}

#[test]
fn every_storage_of_hdf5() {
    let x = values(&table(&["a", "b", "c"]));
    let label = values(&table(&["label"]));
    let read = |file: &str, key: &str| hdf5::open(&fixture(file), Some(key)).unwrap_or_else(|e| panic!("{key}: {e}"));
    for key in ["x", "/events/x", "packed/x", "packed/plain", "big_endian", "half"] {
        let rows = read("earliest.h5", key);
        assert_eq!(rows.shape(), [24, 3], "{key}");
        in_pieces(rows, &x);
    }
    for key in ["events/x", "single", "array", "plain"] {
        in_pieces(read("latest.h5", key), &x);
    }
    for key in ["events/label", "packed/label"] {
        in_pieces(read("earliest.h5", key), &label);
    }
    let flags: Vec<f64> = label.iter().map(|label| f64::from(u8::from(*label == 1.0))).collect();
    in_pieces(read("earliest.h5", "flags"), &flags);
    in_pieces(read("latest.h5", "pages"), &(0..2500).map(f64::from).collect::<Vec<_>>());
    let sparse = values(&read("earliest.h5", "sparse").into_array().expect("a dataset with holes is read"));
    let expected: Vec<f64> = (0..40).map(|i| if (16..20).contains(&i) { 2.0 } else { 0.5 }).collect();
    assert_eq!(sparse, expected);
}

#[test]
fn what_hdf5_cannot_say_is_named() {
    let say = |file: &str, key: Option<&str>| message(hdf5::open(&fixture(file), key));
    assert!(say("earliest.h5", Some("event/x")).contains("the file` has no `event`: did you mean `events`?"));
    assert!(say("earliest.h5", Some("events/y")).contains("`events` has no `y`: it holds label, x"));
    assert!(say("earliest.h5", Some("events")).contains("it is a group and no dataset"));
    assert!(say("earliest.h5", None).contains("the file holds big_endian, events, flags"));
    assert!(say("earliest.h5", Some("lzf")).contains("the filter lzf (number 32000) is not supported"));
    assert!(say("earliest.h5", Some("text")).contains("it holds strings, expected integers or floats"));
    assert!(say("latest.h5", Some("growing")).contains("libver=\"earliest\""));
    assert!(say("table.csv", None).contains("not an HDF5 file"));
}

#[test]
fn every_encoding_of_parquet() {
    let x = values(&table(&["a", "b", "c"]));
    let label = values(&table(&["label"]));
    for file in ["table.parquet", "version_2.parquet", "plain.parquet", "encodings.parquet"] {
        let open = |columns: &Columns| parquet::open(&fixture(file), columns).unwrap_or_else(|e| panic!("{file}: {e}"));
        in_pieces(open(&named(&["a", "b", "c"])), &x);
        in_pieces(open(&one("label")), &label);
        assert_eq!((open(&Columns::All).shape(), open(&one("b")).shape()), ([24, 4].as_slice(), [24].as_slice()));
        let turned = values(&open(&named(&["c", "a"])).into_array().expect("columns in another order"));
        assert_eq!(turned[..2], [x[2], x[0]]);
    }
    assert_eq!(parquet::open(&fixture("table.parquet"), &one("a")).expect("the table").block(12), 10..20);
}

#[test]
fn kinds_of_parquet() {
    let (x, label) = (values(&table(&["a"])), values(&table(&["label"])));
    let column = |name: &str| {
        let rows = parquet::open(&fixture("kinds.parquet"), &one(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        values(&rows.into_array().unwrap_or_else(|e| panic!("{name}: {e}")))
    };
    assert_eq!((column("half"), column("double"), column("small")), (x.clone(), x, label.clone()));
    assert_eq!(column("flag"), label.iter().map(|l| f64::from(u8::from(*l == 1.0))).collect::<Vec<_>>());
    assert_eq!(column("unsigned"), label.iter().map(|l| l + 4_294_967_290.0).collect::<Vec<_>>());
}

#[test]
fn what_parquet_cannot_say_is_named() {
    let open = |name: &str| parquet::open(&fixture("kinds.parquet"), &one(name));
    let missing = open("missing").and_then(|rows| rows.into_array());
    assert!(
        message(missing)
            .contains("column `missing`, row group at row 0: the value of row 13 of the row group is missing")
    );
    assert!(message(open("word")).contains("column `word` holds text or bytes, expected numbers"));
    assert!(message(open("smal")).contains("no column `smal`: did you mean `small`?"));
    assert!(message(parquet::open(&fixture("kinds.parquet"), &Columns::All)).contains("column `word`"));
    assert!(message(parquet::open(&fixture("table.csv"), &Columns::All)).contains("not a Parquet file"));
}
