//! The files that a path with `*`, `?` or `[..]` means, in the order of their names.

use std::path::{Path, PathBuf};

use super::FormatError;

/// The most files of one glob.
const MOST_FILES: usize = 1 << 22;

/// Whether a path names many files: it has `*`, `?` or `[`, and there is no file of that very name.
pub fn is_glob(root: &Path, name: &str) -> bool {
    name.contains(['*', '?', '[']) && !root.join(name).exists()
}

/// The regular files that `pattern` matches, sorted by path; numbers in names count as text, `part-10` comes before `part-2`.
///
/// # Errors
/// If the pattern is wrong, matches nothing, or a folder cannot be read.
pub fn matching(root: &Path, pattern: &str) -> Result<Vec<PathBuf>, FormatError> {
    let whole = root.join(pattern);
    let error = |message: String| FormatError::content(&whole, message);
    // The root is a path and no pattern, whatever characters it has.
    let escaped = Path::new(&glob::Pattern::escape(&root.to_string_lossy())).join(pattern);
    let options = glob::MatchOptions { require_literal_leading_dot: true, ..glob::MatchOptions::new() };
    let found = glob::glob_with(&escaped.to_string_lossy(), options)
        .map_err(|e| error(format!("the pattern is wrong at character {}: {}", e.pos, e.msg)))?;
    let mut paths = Vec::new();
    for entry in found {
        let path = entry.map_err(|e| FormatError::Open { path: e.path().to_owned(), source: e.into() })?;
        if path.is_file() {
            paths.push(path);
        }
        if paths.len() > MOST_FILES {
            return Err(error(format!("the pattern matches more than {MOST_FILES} files")));
        }
    }
    if paths.is_empty() {
        return Err(error("no file matches this pattern".into()));
    }
    paths.sort();
    Ok(paths)
}

/// The names in a folder, sorted, those that begin with a dot left out.
///
/// # Errors
/// If it cannot be read.
pub fn listing(folder: &Path) -> Result<Vec<PathBuf>, FormatError> {
    let open_error = |source| FormatError::Open { path: folder.to_owned(), source };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(open_error)? {
        let entry = entry.map_err(open_error)?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
        if paths.len() > MOST_FILES {
            return Err(FormatError::content(folder, format!("the folder holds more than {MOST_FILES} files")));
        }
    }
    paths.sort();
    Ok(paths)
}
