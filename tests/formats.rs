//! Readers and writers of files: round trips, files made by hand, and broken files, which must give precise errors.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use nnc::formats::csv::{Column, Columns, Options};
use nnc::formats::safetensors::{Entry, WeightFile};
use nnc::formats::{Array, csv, idx, npy, npz, safetensors, text};
use nnc::ir::types::DType;
use tempfile::TempDir;

struct Folder(TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, contents).unwrap();
        path
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An IDX file of `u8[2, 3]`.
fn small_idx() -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3];
    bytes.extend_from_slice(&[1, 2, 3, 4, 5, 6]);
    bytes
}

fn message<T>(outcome: Result<T, nnc::formats::FormatError>) -> String {
    match outcome {
        Ok(_) => panic!("the broken file was read"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn idx_plain_and_gzip() {
    let folder = Folder::new();
    for contents in [small_idx(), gzip(&small_idx())] {
        let array = idx::read(&folder.file("a.idx", contents)).unwrap();
        assert_eq!((array.dtype, array.shape.as_slice()), (DType::U8, [2, 3].as_slice()));
        assert_eq!(array.bytes, [1, 2, 3, 4, 5, 6]);
    }
    let big_endian = [0u8, 0, 0x0d, 1, 0, 0, 0, 1, 0x3f, 0x80, 0, 0];
    assert_eq!(idx::read(&folder.file("f.idx", big_endian)).unwrap().values().collect::<Vec<_>>(), [1.0]);
}

#[test]
fn broken_idx_says_what_was_expected_and_found() {
    let folder = Folder::new();
    let truncated = &small_idx()[..15];
    let text = message(idx::read(&folder.file("t.idx", truncated)));
    assert!(text.contains("expected 6 bytes of u8[2, 3] as its header says, found 3"), "{text}");
    let text = message(idx::read(&folder.file("t.gz", gzip(truncated))));
    assert!(text.contains("expected 6 bytes of u8[2, 3] as its header says, found 3"), "{text}");
    let compressed = gzip(&small_idx());
    let text = message(idx::read(&folder.file("cut.gz", &compressed[..compressed.len() - 12])));
    assert!(text.contains("compressed stream is broken"), "{text}");
    let longer = [small_idx(), vec![9]].concat();
    let text = message(idx::read(&folder.file("l.idx", longer)));
    assert!(text.contains("expected 18 bytes") && text.contains("found 19"), "{text}");
    let text = message(idx::read(&folder.file("m.idx", b"hello, world")));
    assert!(text.contains("68 65 6c 6c"), "{text}");
    let huge = [0u8, 0, 8, 3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    assert!(message(idx::read(&folder.file("h.idx", huge))).contains("more than can be held"));
    let large = [0u8, 0, 8, 1, 0x7f, 0xff, 0xff, 0xff];
    let text = message(idx::read(&folder.file("h.gz", gzip(&large))));
    assert!(text.contains("found at most"), "{text}");
}

#[test]
fn missing_files_and_folders() {
    let folder = Folder::new();
    let text = message(idx::read(&folder.path("none.idx")));
    assert!(text.contains("none.idx") && text.contains("no such file"), "{text}");
    assert!(message(npy::read(folder.0.path())).contains("folder"));
}

#[test]
fn npy_round_trip_of_every_dtype() {
    let folder = Folder::new();
    for (name, dtype) in DType::NAMED {
        if dtype == DType::BF16 {
            continue;
        }
        for shape in [vec![], vec![0], vec![6], vec![2, 3], vec![3, 1, 2]] {
            let elements: usize = shape.iter().product();
            let bytes = (0..elements * dtype.bytes()).map(|i| u8::from(i % 2 == 0)).collect();
            let array = Array::new(dtype, shape, bytes).unwrap();
            let path = folder.path(&format!("{name}.npy"));
            npy::write(&path, &array).unwrap();
            assert_eq!(npy::read(&path).unwrap(), array);
            assert_eq!(fs::read(&path).unwrap().len() % 64, array.bytes.len() % 64);
        }
    }
}

/// A version 1 NPY file with the given dictionary.
fn npy_with(dictionary: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend_from_slice(&(dictionary.len() as u16).to_le_bytes());
    bytes.extend_from_slice(dictionary.as_bytes());
    bytes.extend_from_slice(data);
    bytes
}

#[test]
fn npy_column_major_and_big_endian() {
    let folder = Folder::new();
    let file = npy_with("{'descr': '|u1', 'fortran_order': True, 'shape': (2, 3), }", &[1, 4, 2, 5, 3, 6]);
    assert_eq!(npy::read(&folder.file("f.npy", file)).unwrap().bytes, [1, 2, 3, 4, 5, 6]);
    let file = npy_with("{'descr': '>i2', 'fortran_order': False, 'shape': (2,), }", &[0, 1, 1, 0]);
    assert_eq!(npy::read(&folder.file("b.npy", file)).unwrap().values().collect::<Vec<_>>(), [1.0, 256.0]);
}

#[test]
fn broken_npy() {
    let folder = Folder::new();
    let cases: [(&str, &[u8], &str); 6] = [
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }", &[0; 8], "expected 12 bytes of f32[3], found 8"),
        ("{'descr': '<c8', 'fortran_order': False, 'shape': (1,), }", &[0; 8], "'<c8' is not supported"),
        ("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", &[0; 4], "structured"),
        ("{'descr': '<f4', 'shape': (1,), }", &[0; 4], "no 'fortran_order'"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }", &[0; 4], "not a tuple of sizes"),
        (
            "{'descr': '<f4', 'fortran_order': False, 'shape': (9999999999, 9999999999), }",
            &[0; 4],
            "more than can be held",
        ),
    ];
    for (dictionary, data, expected) in cases {
        let text = message(npy::read(&folder.file("x.npy", npy_with(dictionary, data))));
        assert!(text.contains(expected), "{text}");
    }
    assert!(message(npy::read(&folder.file("x.npy", b"\x93NUMPY\x01\x00\xff\xff"))).contains("truncated"));
    assert!(message(npy::read(&folder.file("x.npy", ""))).contains("truncated"));
}

#[test]
fn npz_round_trip_and_keys() {
    let folder = Folder::new();
    let a = Array::from_f32(vec![2], &[1.0, 2.0]).unwrap();
    let b = Array::from_f64(vec![1, 2], &[3.0, 4.0]).unwrap();
    let path = folder.path("ab.npz");
    npz::write(&path, &[("first", &a), ("second", &b)]).unwrap();
    assert_eq!(npz::read(&path, Some("first")).unwrap(), a);
    assert_eq!(npz::read(&path, Some("second")).unwrap(), b);
    assert!(message(npz::read(&path, None)).contains("first, second"));
    assert!(message(npz::read(&path, Some("secnod"))).contains("did you mean `second`?"));
}

/// The archive with one deflated array, as `numpy.savez_compressed` makes it.
const DEFLATED_NPZ: &[u8] = include_bytes!("fixtures/compressed.npz");

#[test]
fn npz_of_numpy_with_compression() {
    let folder = Folder::new();
    let array = npz::read(&folder.file("n.npz", DEFLATED_NPZ), Some("x")).unwrap();
    assert_eq!((array.dtype, array.shape.as_slice()), (DType::F32, [3, 4].as_slice()));
    assert_eq!(array.values().collect::<Vec<_>>(), (0..12).map(f64::from).collect::<Vec<_>>());
}

#[test]
fn no_prefix_and_no_changed_byte_of_an_archive_panics() {
    let folder = Folder::new();
    for length in 0..DEFLATED_NPZ.len() {
        assert!(npz::read(&folder.file("p.npz", &DEFLATED_NPZ[..length]), None).is_err());
    }
    for at in 0..DEFLATED_NPZ.len() {
        let mut changed = DEFLATED_NPZ.to_vec();
        changed[at] ^= 0xff;
        let _ = npz::read(&folder.file("p.npz", &changed), None);
    }
}

#[test]
fn csv_columns() {
    let folder = Folder::new();
    let path = folder.file("t.csv", "a, b ,label\n1,2,0\n3,4.5,1\n");
    let all = csv::read(&path, &Options::default()).unwrap();
    assert_eq!((all.shape.as_slice(), all.values().sum::<f64>()), ([2, 3].as_slice(), 11.5));
    let one = Options { columns: Columns::One(Column::Name("label".into())), ..Options::default() };
    let labels = csv::read(&path, &one).unwrap();
    assert_eq!((labels.shape.as_slice(), labels.values().collect::<Vec<_>>()), ([2].as_slice(), vec![0.0, 1.0]));
    let many = Columns::Many(vec![Column::Number(1), Column::Name("a".into())]);
    let two = csv::read(&path, &Options { columns: many, ..Options::default() }).unwrap();
    assert_eq!(two.values().collect::<Vec<_>>(), [2.0, 1.0, 4.5, 3.0]);
    let headless = csv::read(&folder.file("h.csv", "1,2\n3,4\n"), &Options::default()).unwrap();
    assert_eq!(headless.shape, [2, 2]);
}

#[test]
fn broken_csv_names_line_and_column() {
    let folder = Folder::new();
    let read = |contents: &str| message(csv::read(&folder.file("t.csv", contents), &Options::default()));
    let text = read("a,b\n1,2\n3,four\n");
    assert!(text.contains("line 3, column 1 (`b`): `four` is not a number"), "{text}");
    assert!(read("a,b\n1,\n").contains("line 2, column 1 (`b`): the field is empty"));
    assert!(read("a,b\n1,2\nnan,3\n").contains("line 3, column 0 (`a`): `nan` is not a finite number"));
    let text = read("a,b\n1,2\n3\n");
    assert!(text.contains("line 3 has 1 fields, the lines before have 2"), "{text}");
    assert!(read("").contains("empty"));
    let one = Options { columns: Columns::One(Column::Name("lable".into())), ..Options::default() };
    assert!(message(csv::read(&folder.file("t.csv", "x,label\n1,2\n"), &one)).contains("did you mean `label`?"));
}

#[test]
fn text_windows() {
    let folder = Folder::new();
    let path = folder.file("t.txt", "abcdefgh");
    assert_eq!(text::read(&path, 3, 3).unwrap().bytes, b"abcdef");
    assert_eq!(text::read(&path, 4, 2).unwrap().shape, [3, 4]);
    assert!(message(text::read(&path, 9, 9)).contains("8 bytes, fewer than one window of 9"));
}

fn weights() -> (Vec<Entry>, Vec<u8>) {
    let entry = |name: &str, shape: Vec<usize>, offset, length| Entry {
        name: name.into(),
        dtype: DType::F32,
        shape,
        offset,
        length,
    };
    let entries = vec![entry("dense_1.b", vec![2], 0, 8), entry("dense_1.w", vec![1, 2], 8, 8)];
    (entries, (0..16).collect())
}

fn write_weights(path: &Path) {
    let (entries, data) = weights();
    safetensors::write(path, &entries, &data).unwrap();
}

#[test]
fn safetensors_round_trip_with_aligned_data() {
    let folder = Folder::new();
    let path = folder.path("w.safetensors");
    write_weights(&path);
    let (entries, data) = weights();
    let file = WeightFile::open(&path).unwrap();
    assert_eq!((file.entries(), file.data()), (entries.as_slice(), data.as_slice()));
    let contents = fs::read(&path).unwrap();
    let header = u64::from_le_bytes(contents[..8].try_into().unwrap());
    assert_eq!((8 + header) % 64, 0);
    assert_eq!(fs::read_dir(folder.0.path()).unwrap().count(), 1, "no temporary file stays behind");
    let (mut entries, data) = weights();
    entries[1].offset = 4;
    assert!(safetensors::write(&path, &entries, &data).is_err());
    assert_eq!(fs::read(&path).unwrap(), contents);
}

#[test]
fn broken_safetensors() {
    let folder = Folder::new();
    let path = folder.path("w.safetensors");
    write_weights(&path);
    let good = fs::read(&path).unwrap();
    for length in 0..good.len() {
        assert!(WeightFile::open(&folder.file("p.safetensors", &good[..length])).is_err());
    }
    let text = message(WeightFile::open(&folder.file("p.safetensors", &good[..good.len() - 3])).map(|_| ()));
    assert!(text.contains("expected 16 bytes of data as its header says, found 13"), "{text}");
    for at in 0..good.len() {
        let mut changed = good.clone();
        changed[at] ^= 0x55;
        let _ = WeightFile::open(&folder.file("p.safetensors", &changed)).map(|file| file.data().len());
    }
}

/// Calls `check` with every prefix of `good` and with every byte of it changed, which must not panic.
fn disturb(good: &[u8], check: impl Fn(&Path)) {
    let folder = Folder::new();
    for length in 0..good.len() {
        check(&folder.file("p", &good[..length]));
    }
    for at in 0..good.len() {
        for change in [0xff, 0x01, 0x20] {
            let mut changed = good.to_vec();
            changed[at] ^= change;
            check(&folder.file("p", changed));
        }
    }
}

#[test]
fn disturbed_files_never_panic() {
    let npy = npy::encode(&Array::from_f32(vec![2, 2], &[1.0; 4]).unwrap()).unwrap();
    disturb(&npy, |path| drop(npy::read(path)));
    disturb(&small_idx(), |path| drop(idx::read(path)));
    disturb(&gzip(&small_idx()), |path| drop(idx::read(path)));
    disturb(b"a,\"b\"\n1,2.5\n-3,4e1\n", |path| drop(csv::read(path, &Options::default())));
}
