//! Pictures: files, classes, sizes, channels.

use std::fs;
use std::path::Path;

use nnc::formats::images::decode::{self, Picture};
use nnc::formats::images::resize::Resize;
use nnc::formats::images::{Listing, Pictures};
use nnc::formats::rows::RowSource;

use super::{contents, fixture, message, values};

fn folder() -> std::path::PathBuf {
    fixture("pictures")
}

#[test]
fn png_and_jpeg_in_grey_and_colour() {
    let png = decode::read(&fixture("colour.png")).expect("the PNG is read");
    assert_eq!((png.height, png.width, png.channels), (8, 8, 3));
    assert_eq!((&png.pixels[..3], &png.pixels[12..15]), ([200, 100, 50].as_slice(), [20, 40, 240].as_slice()));
    let near = |a: &Picture, b: &Picture| {
        assert_eq!(a.pixels.len(), b.pixels.len());
        let apart = a.pixels.iter().zip(&b.pixels).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(apart <= Some(6), "{apart:?} apart");
    };
    near(&decode::read(&fixture("colour.jpg")).expect("the JPEG is read"), &png);
    let grey = decode::read(&fixture("grey.jpg")).expect("the grey JPEG is read");
    let red = Picture { channels: 1, pixels: png.pixels.iter().step_by(3).copied().collect(), ..png };
    near(&grey, &red);
}

#[test]
fn classes_are_folders_and_spread_over_the_rows() {
    let listing = Listing::open(&folder(), "", None).expect("the folder is read");
    assert_eq!(listing.classes(), ["dark", "light"]);
    let labels = values(&listing.labels().expect("there are classes"));
    assert_eq!(labels, [0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0]);
    let pictures = Pictures::new(listing.clone(), &[4, 5, 1], None).expect("a good shape");
    let pixels = pictures.into_rows().expect("the pictures are read");
    for (picture, label) in pixels.chunks(20).zip(&labels) {
        assert!(picture.iter().all(|p| (*p > 128.0) == (*label == 1.0)), "a picture and its label differ");
    }
    let glob = Listing::open(&folder(), "*/*.png", None).expect("the glob matches");
    assert_eq!(values(&glob.labels().expect("there are classes")), labels);
    let chosen = Listing::open(&folder(), "", Some(&["light".into(), "dark".into()])).expect("both are there");
    assert_eq!(values(&chosen.labels().expect("there are classes"))[..3], [1.0, 0.0, 1.0]);
    let flat = Listing::open(&folder(), "dark", None).expect("the folder is read");
    assert!(message(flat.labels()).contains("one folder for each class"));
    assert!(message(Listing::open(&folder(), "", Some(&["drak".into()]))).contains("did you mean `dark`?"));
    assert!(message(Listing::open(&folder(), "none", None)).contains("no such file"));
}

trait IntoValues {
    fn into_rows(self) -> Result<Vec<f64>, nnc::formats::FormatError>;
}

impl IntoValues for Pictures {
    fn into_rows(self) -> Result<Vec<f64>, nnc::formats::FormatError> {
        self.read(0..self.rows()).map(|array| values(&array))
    }
}

#[test]
fn sizes_are_those_of_the_field() {
    let listing = || Listing::open(&folder(), "dark", None).expect("the folder is read");
    let wrong = Pictures::new(listing(), &[8, 8], None).expect("a good shape").into_rows();
    let text = message(wrong);
    assert!(text.contains("0.png") && text.contains("4 high and 5 wide, expected 8 and 8"), "{text}");
    let resized = Pictures::new(listing(), &[8, 10, 3], Some(Resize::Nearest)).expect("a good shape");
    let own =
        Pictures::new(listing(), &[4, 5], None).expect("a good shape").into_rows().expect("the pictures are read");
    let resized = resized.into_rows().expect("the pictures are read");
    assert_eq!((resized.len(), resized[0], resized[3]), (6 * 240, own[0], own[0]));
    assert!(Pictures::new(listing(), &[4, 5, 2], None).is_err());
    assert!(Pictures::new(listing(), &[20], None).is_err());
}

#[test]
fn a_folder_of_both_pictures_and_classes_is_refused() {
    let place = tempfile::tempdir().expect("a temporary folder");
    let copy = |to: &Path| fs::write(to, contents("colour.png")).expect("a copy");
    fs::create_dir(place.path().join("a")).expect("a folder");
    copy(&place.path().join("a/1.PNG"));
    assert_eq!(Listing::open(place.path(), ".", None).expect("one class").classes(), ["a"]);
    copy(&place.path().join("2.png"));
    assert!(message(Listing::open(place.path(), ".", None)).contains("beside folders of pictures"));
}
