//! Paths of files as URIs.

use std::path::Path;
use std::str::FromStr;

use lsp_types::Uri;

/// The URI of a file.
pub fn of_path(path: &Path) -> Option<Uri> {
    let text = path.to_str()?.replace('\\', "/");
    let mut uri = String::from(if text.starts_with('/') { "file://" } else { "file:///" });
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => uri.push(char::from(byte)),
            other => uri.push_str(&format!("%{other:02X}")),
        }
    }
    Uri::from_str(&uri).ok()
}

/// The path of a URI, by which files that it uses are found; for one that is no file's, its text.
pub fn name(uri: &Uri) -> String {
    let Some(path) = uri.as_str().strip_prefix("file://") else { return uri.as_str().to_owned() };
    // `file:///C:/m.nn` on Windows.
    let drive = path.strip_prefix('/').filter(|rest| rest.contains(":/") || rest.contains("%3A/"));
    let (mut bytes, mut rest) = (Vec::new(), drive.unwrap_or(path));
    while let Some(character) = rest.chars().next() {
        let code = rest.strip_prefix('%').and_then(|code| u8::from_str_radix(code.get(..2)?, 16).ok());
        match code {
            Some(byte) => {
                bytes.push(byte);
                rest = &rest[3..];
            }
            None => {
                bytes.extend(character.to_string().bytes());
                rest = &rest[character.len_utf8()..];
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_that_a_uri_cannot_hold_are_encoded() {
        let uri = of_path(Path::new("/tmp/my models/größe.nn")).expect("it is a path");
        assert_eq!(uri.as_str(), "file:///tmp/my%20models/gr%C3%B6%C3%9Fe.nn");
        assert_eq!(name(&uri), "/tmp/my models/größe.nn");
        let other = Uri::from_str("untitled:Untitled-1").expect("it is a URI");
        assert_eq!(name(&other), "untitled:Untitled-1");
    }
}
