//! The library's sources as files, so that an editor can open a definition in them.
//!
//! They are part of the program; they are written, read-only, when first needed, into a folder that is named by what they say.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::driver::cache_folder;
use crate::frontend::library::FILES;

/// Where the library's files are written.
#[derive(Debug)]
pub struct LibraryFiles {
    folder: PathBuf,
}

impl LibraryFiles {
    /// In the user's folder for caches, or in that for temporary files where there is none.
    pub fn new() -> LibraryFiles {
        LibraryFiles::below(&cache_folder().unwrap_or_else(|| std::env::temp_dir().join("nnc")))
    }

    fn below(folder: &Path) -> LibraryFiles {
        LibraryFiles { folder: folder.join(format!("std-{:016x}", content())) }
    }

    /// Whether a URI's path is that of one of these files.
    pub fn holds(&self, uri: &str) -> bool {
        let folder = super::uri::of_path(&self.folder);
        folder.is_some_and(|folder| uri.starts_with(folder.as_str()))
    }

    /// The file of the library with this name (`layers.nn`), written if it is not there. `None` if it cannot be.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        let (_, text) = FILES.iter().find(|(known, _)| *known == name)?;
        let path = self.folder.join(name);
        if fs::read_to_string(&path).is_ok_and(|found| found == *text) {
            return Some(path);
        }
        self.write(&path, text).ok()?;
        Some(path)
    }

    /// Whole or not at all, so that another server never sees half of a file.
    fn write(&self, path: &Path, text: &str) -> std::io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
        file.write_all(text.as_bytes())?;
        let mut permissions = file.as_file().metadata()?.permissions();
        permissions.set_readonly(true);
        file.as_file().set_permissions(permissions)?;
        file.persist(path)?;
        Ok(())
    }
}

/// A number for what all files say: FNV-1a.
fn content() -> u64 {
    let bytes = FILES.iter().flat_map(|(name, text)| name.bytes().chain(text.bytes()));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_written_once_and_mended() {
        let folder = tempfile::tempdir().expect("there is a folder for temporary files");
        let files = LibraryFiles::below(folder.path());
        let path = files.path("layers.nn").expect("it can be written");
        let text = fs::read_to_string(&path).expect("it was written");
        assert!(text.contains("layer dense("));
        assert!(fs::metadata(&path).expect("it is there").permissions().readonly());
        assert_eq!(files.path("layers.nn"), Some(path.clone()));
        fs::remove_file(&path).expect("it can be removed");
        fs::write(&path, "something else").expect("it can be written");
        files.path("layers.nn").expect("it can be written again");
        assert_eq!(fs::read_to_string(&path).expect("it is there"), text);
        assert_eq!(files.path("nothing.nn"), None);
        assert!(files.holds(super::super::uri::of_path(&path).expect("a path").as_str()));
    }
}
