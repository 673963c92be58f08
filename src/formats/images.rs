//! Pictures as rows: the files of a folder, of one folder for each class, or of a glob.
//!
//! Pixels are `u8`, channels last. A picture whose folder holds several classes is numbered by the sorted names of the
//! folders. The rows of the classes are interleaved in proportion, so that every part of the rows has about the share of
//! each class that the whole has: splits may be cut by rows.

pub mod decode;
pub mod resize;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::diag::nearest;
use crate::ir::types::DType;

use self::decode::Picture;
use self::resize::Resize;
use super::files::{is_glob, listing, matching};
use super::rows::RowSource;
use super::{Array, FormatError, checked_size};

/// The endings of files that are looked for in folders.
const ENDINGS: [&str; 3] = ["png", "jpg", "jpeg"];

/// Files and their classes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// What was asked for.
    path: PathBuf,
    files: Vec<PathBuf>,
    /// The class of each file.
    labels: Vec<u32>,
    /// The names of the classes; empty if all files lie in one folder.
    classes: Vec<String>,
}

impl Listing {
    /// The pictures that `name` means: a folder, a folder of folders, or a glob. With `classes` only those folders count, in that order.
    ///
    /// # Errors
    /// If a folder cannot be read, holds no picture, or a class is missing.
    pub fn open(root: &Path, name: &str, classes: Option<&[String]>) -> Result<Listing, FormatError> {
        let path = root.join(name);
        let glob = is_glob(root, name);
        let files = if glob { matching(root, name)? } else { pictures_below(&path)? };
        let mut folders: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
        let mut parents = files.iter().filter_map(|f| f.parent());
        let first = parents.next();
        let several = parents.any(|parent| Some(parent) != first) || (!glob && first != Some(path.as_path()));
        for file in files {
            folders.entry(class_name(&file)).or_default().push(file);
        }
        let names: Vec<String> = match classes {
            Some(names) => names.to_vec(),
            None if several => folders.keys().cloned().collect(),
            None => Vec::new(),
        };
        if let Some(missing) = names.iter().find(|n| !folders.contains_key(*n)) {
            let message = match nearest(missing, folders.keys().map(String::as_str)) {
                Some(near) => format!("no folder of the class `{missing}`: did you mean `{near}`?"),
                None => format!("no folder of the class `{missing}` with pictures"),
            };
            return Err(FormatError::content(&path, message));
        }
        let groups: Vec<Vec<PathBuf>> = match names.is_empty() {
            true => folders.into_values().collect(),
            false => names.iter().map(|n| folders.remove(n).unwrap_or_default()).collect(),
        };
        let (files, labels) = interleave(groups);
        if files.is_empty() {
            return Err(FormatError::content(&path, "the folder holds no .png or .jpg files"));
        }
        Ok(Listing { path, files, labels, classes: names })
    }

    /// The names of the classes in the order of their numbers.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The classes as an array `i32[files]`.
    ///
    /// # Errors
    /// If the files do not lie in folders of their classes.
    pub fn labels(&self) -> Result<Array, FormatError> {
        if self.classes.is_empty() {
            let message = "labels need one folder for each class, all pictures lie in one";
            return Err(FormatError::content(&self.path, message));
        }
        let bytes = self.labels.iter().flat_map(|label| label.to_le_bytes()).collect();
        Ok(Array { dtype: DType::I32, shape: vec![self.labels.len()], bytes })
    }
}

/// The pictures in a folder, or in the folders in it.
fn pictures_below(folder: &Path) -> Result<Vec<PathBuf>, FormatError> {
    let entries = listing(folder)?;
    let folders: Vec<&PathBuf> = entries.iter().filter(|path| path.is_dir()).collect();
    let mut files = Vec::new();
    for inner in &folders {
        files.extend(listing(inner)?.into_iter().filter(|path| is_picture(path)));
    }
    let own: Vec<PathBuf> = entries.iter().filter(|path| is_picture(path)).cloned().collect();
    if !files.is_empty() && !own.is_empty() {
        let message = format!("the folder holds pictures (`{}`) beside folders of pictures", own[0].display());
        return Err(FormatError::content(folder, message));
    }
    files.extend(own);
    Ok(files)
}

fn is_picture(path: &Path) -> bool {
    let ending = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
    path.is_file() && ending.is_some_and(|e| ENDINGS.contains(&e.as_str()))
}

/// The name of the folder that a file lies in.
fn class_name(file: &Path) -> String {
    let folder = file.parent().and_then(Path::file_name);
    folder.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// One order of all files in which those of each group are spread evenly: the file `i` of `n` stands at `(i + 1/2) / n`.
fn interleave(groups: Vec<Vec<PathBuf>>) -> (Vec<PathBuf>, Vec<u32>) {
    let mut all = Vec::new();
    for (class, files) in groups.into_iter().enumerate() {
        let count = files.len() as u128;
        for (i, file) in files.into_iter().enumerate() {
            all.push((2 * i as u128 + 1, count, class as u32, file));
        }
    }
    // Fractions are compared by cross multiplication, so that equal places are equal; then the class decides.
    all.sort_by(|a, b| (a.0 * b.1).cmp(&(b.0 * a.1)).then(a.2.cmp(&b.2)));
    all.into_iter().map(|(_, _, class, file)| (file, class)).unzip()
}

/// The pictures of a listing in the size and with the channels that a field has.
pub struct Pictures {
    listing: Listing,
    /// `[files, height, width]` or `[files, height, width, channels]`.
    shape: Vec<usize>,
    resize: Option<Resize>,
}

impl Pictures {
    /// Pictures of the shape `row`: `[height, width]` or `[height, width, channels]`. Without `resize` all must have that size.
    ///
    /// # Errors
    /// A sentence if that is not the shape of a picture.
    pub fn new(listing: Listing, row: &[usize], resize: Option<Resize>) -> Result<Pictures, String> {
        let good = match row {
            [height, width] | [height, width, 1 | 3 | 4] => *height > 0 && *width > 0,
            _ => false,
        };
        if !good {
            return Err(
                "pictures are [batch, height, width] or [batch, height, width, channels] with 1, 3 or 4 channels"
                    .into(),
            );
        }
        let mut shape = vec![listing.files.len()];
        shape.extend_from_slice(row);
        Ok(Pictures { listing, shape, resize })
    }

    fn picture(&self, path: &Path) -> Result<Vec<u8>, FormatError> {
        let channels = self.shape.get(3).copied().unwrap_or(1);
        let (height, width) = (self.shape[1], self.shape[2]);
        let picture = decode::read(path)?.with_channels(channels);
        match self.resize {
            _ if (picture.height, picture.width) == (height, width) => Ok(picture.pixels),
            Some(how) => Ok(how.apply(&picture, height, width)),
            None => {
                let Picture { height: found_height, width: found_width, .. } = picture;
                let message = format!(
                    "the picture is {found_height} high and {found_width} wide, expected {height} and {width}; \
                     resize=\"bilinear\" changes the size"
                );
                Err(FormatError::content(path, message))
            }
        }
    }
}

impl RowSource for Pictures {
    fn dtype(&self) -> DType {
        DType::U8
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn read(&self, rows: Range<usize>) -> Result<Array, FormatError> {
        let mut shape = self.shape.clone();
        shape[0] = rows.len();
        let too_large =
            || FormatError::content(&self.listing.path, format!("{} pictures do not fit in memory", rows.len()));
        let (_, size) = checked_size(&shape, 1).ok_or_else(too_large)?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(size).map_err(|_| too_large())?;
        for path in &self.listing.files[rows] {
            bytes.extend_from_slice(&self.picture(path)?);
        }
        Ok(Array { dtype: DType::U8, shape, bytes })
    }

    fn file_of(&self, row: usize) -> Option<&Path> {
        self.listing.files.get(row).map(PathBuf::as_path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_has_its_share_of_each_class() {
        let files =
            |name: &str, count: usize| (0..count).map(|i| PathBuf::from(format!("{name}/{i:03}.png"))).collect();
        let (paths, labels) = interleave(vec![files("a", 30), files("b", 60), files("c", 10)]);
        assert_eq!(paths.len(), 100);
        for part in labels.chunks(20) {
            let count = |class| part.iter().filter(|label| **label == class).count();
            assert!(
                (5..=7).contains(&count(0)) && (11..=13).contains(&count(1)) && (1..=3).contains(&count(2)),
                "{part:?}"
            );
        }
        let firsts: Vec<&PathBuf> = paths.iter().zip(&labels).filter(|(_, l)| **l == 0).map(|(p, _)| p).collect();
        assert!(firsts.is_sorted());
    }
}
