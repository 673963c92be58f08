//! HDF5: one dataset of numbers, found by its path in the file and read a part at a time.
//!
//! What h5py and the tools of HDF5 1.8 to 1.14 write by default is read, and most of what they write with `libver="latest"`:
//! superblocks 0 to 3, groups as symbol tables or link messages, compact, contiguous and chunked storage (B-trees of version 1,
//! single chunks, implicit indexes, fixed arrays), the filters deflate, shuffle and fletcher32, and integers and floats of either byte order.
//! The rest has errors of its own that name it. Nothing of a file is trusted: offsets are checked against its
//! length, trees have limits, and chunks are no larger than the dataset says.
//!
//! The modules: [`bytes`] (fields of a structure), [`object`] (superblock and object headers), [`group`] (names to objects),
//! [`dataset`] (type, space, layout, filters of one dataset), [`chunks`] (where its chunks are), [`filter`] (what undoes compression).

mod bytes;
mod chunks;
mod dataset;
mod filter;
mod group;
mod object;

use std::path::Path;

use crate::diag::nearest;

use self::dataset::Dataset;
use self::object::{File, Object};
use super::FormatError;
use super::rows::{Positioned, Rows};

/// The rows of the dataset at `key`, such as `events/x`; without a key the file must hold exactly one at its root.
///
/// # Errors
/// If the file is broken, has no such dataset, or the dataset is stored in a way that is not read.
pub fn open(path: &Path, key: Option<&str>) -> Result<Rows, FormatError> {
    let positioned = Positioned::open(path)?;
    let fail = |message: String| FormatError::content(path, message);
    let file = File::open(positioned).map_err(fail)?;
    let root = file.root().map_err(fail)?;
    let (name, object) = match key {
        Some(key) => (key.to_owned(), follow(&file, root, key).map_err(fail)?),
        None => only_dataset(&file, &root).map_err(fail)?,
    };
    let dataset = Dataset::new(file, &object).map_err(|m| fail(format!("dataset `{name}`: {m}")))?;
    Ok(Box::new(dataset.named(name)))
}

/// The object at a path of names.
fn follow(file: &File, root: Object, key: &str) -> Result<Object, String> {
    let mut object = root;
    let mut walked = String::new();
    for name in key.split('/').filter(|name| !name.is_empty()) {
        let links = group::links(file, &object)?;
        let place = if walked.is_empty() { "the file" } else { walked.trim_end_matches('/') };
        let Some(link) = links.iter().find(|link| link.name == name) else {
            let names: Vec<&str> = links.iter().map(|link| link.name.as_str()).collect();
            return Err(match nearest(name, names.iter().copied()) {
                Some(near) => format!("`{place}` has no `{name}`: did you mean `{near}`?"),
                None if names.is_empty() => format!("`{place}` has no `{name}`: it is no group, or an empty one"),
                None => format!("`{place}` has no `{name}`: it holds {}", listed(&names)),
            });
        };
        object = file.object(link.target()?)?;
        walked.push_str(name);
        walked.push('/');
    }
    Ok(object)
}

fn only_dataset(file: &File, root: &Object) -> Result<(String, Object), String> {
    let links = group::links(file, root)?;
    let mut datasets = Vec::new();
    for link in links.iter().take(MOST_LISTED) {
        let object = file.object(link.target()?)?;
        if object.is_dataset() {
            datasets.push((link.name.clone(), object));
        }
    }
    match datasets.len() {
        1 => Ok(datasets.remove(0)),
        _ => {
            let names: Vec<&str> = links.iter().map(|link| link.name.as_str()).collect();
            Err(format!(
                "choose a dataset with a path such as hdf5(\"f.h5\", \"group/x\"); the file holds {}",
                listed(&names)
            ))
        }
    }
}

/// How many names a message lists.
const MOST_LISTED: usize = 20;

fn listed(names: &[&str]) -> String {
    let mut text = names.iter().take(MOST_LISTED).copied().collect::<Vec<_>>().join(", ");
    if names.len() > MOST_LISTED {
        text.push_str(", ..");
    }
    if text.is_empty() { "nothing".into() } else { text }
}
