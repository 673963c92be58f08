//! What was found on this machine before: a file in the user's folder for caches, one for each kind of processor and version of `nnc`.
//!
//! It may be deleted at any time. A file that cannot be read, or is another version's or another processor's, counts as none.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::codegen::{Target, x86};
use crate::passes::tile::{Choice, ProductKey};

/// The user's folder for what `nnc` may keep: `$NNC_CACHE_DIR`, or `nnc` in the system's folder for caches. `None` where there is neither.
pub fn cache_folder() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let system =
        || set("XDG_CACHE_HOME").or_else(|| set("LOCALAPPDATA")).or_else(|| set("HOME").map(|h| h.join(".cache")));
    set("NNC_CACHE_DIR").or_else(|| system().map(|folder| folder.join("nnc")))
}

/// What the file says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Contents {
    nnc: String,
    processor: String,
    instructions: String,
    products: BTreeMap<String, Choice>,
}

impl Contents {
    /// Nothing about this machine, by this version.
    fn here() -> Contents {
        let target = Target::host();
        let wide = x86::vectors(&target).map_or(String::new(), |vectors| format!("-{}", 8 * vectors.bytes()));
        Contents {
            nnc: env!("CARGO_PKG_VERSION").to_string(),
            processor: processor(),
            instructions: format!("{}{wide}", target.triple.architecture),
            products: BTreeMap::new(),
        }
    }

    /// The file's name: only letters that every file system takes.
    fn file_name(&self) -> String {
        let text = format!("tune-{}-{}-{}", self.nnc, self.processor, self.instructions).to_lowercase();
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' || c == '_' { c } else { '-' };
        let text: String = text.chars().map(plain).collect();
        let words: Vec<&str> = text.split('-').filter(|word| !word.is_empty()).collect();
        format!("{}.json", words.join("-"))
    }

    /// What a file says about this machine; nothing if there is none.
    fn read(&self, path: &Path) -> Result<Contents, String> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(self.clone()),
            Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
        };
        let found: Contents =
            serde_json::from_str(&text).map_err(|error| format!("{} is no cache: {error}", path.display()))?;
        let about = |contents: &Contents| Contents { products: BTreeMap::new(), ..contents.clone() };
        if about(&found) != about(self) {
            return Err(format!("{} was written by another version or on another machine", path.display()));
        }
        Ok(found)
    }

    /// Whole or not at all.
    fn write(&self, path: &Path) -> io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        serde_json::to_writer_pretty(&mut file, self)?;
        file.write_all(b"\n")?;
        file.persist(path)?;
        Ok(())
    }
}

/// Choices by product, kept in a file if there is a folder for it.
#[derive(Debug)]
pub(super) struct Cache {
    path: Option<PathBuf>,
    contents: Contents,
    changed: bool,
}

impl Cache {
    /// The cache in a folder, and why what is there does not count, if it does not.
    pub(super) fn open(folder: Option<&Path>) -> (Cache, Option<String>) {
        let mut contents = Contents::here();
        let path = folder.map(|folder| folder.join(contents.file_name()));
        let mut warning = None;
        if let Some(path) = &path {
            match contents.read(path) {
                Ok(found) => contents = found,
                Err(why) => warning = Some(format!("what was measured before is ignored: {why}")),
            }
        }
        (Cache { path, contents, changed: false }, warning)
    }

    /// What was found for a product.
    pub(super) fn get(&self, key: &ProductKey) -> Option<Choice> {
        self.contents.products.get(key.as_str()).copied()
    }

    /// Keeps what was found for a product.
    pub(super) fn insert(&mut self, key: &ProductKey, choice: Choice) {
        self.contents.products.insert(key.as_str().to_string(), choice);
        self.changed = true;
    }

    /// Writes the file if there is anything new, with what others have written meanwhile.
    ///
    /// # Errors
    /// Why it cannot be written, as a sentence.
    pub(super) fn save(&mut self) -> Result<(), String> {
        let Some(path) = self.path.as_ref().filter(|_| self.changed) else { return Ok(()) };
        if let Ok(others) = (Contents { products: BTreeMap::new(), ..self.contents.clone() }).read(path) {
            for (key, choice) in others.products {
                self.contents.products.entry(key).or_insert(choice);
            }
        }
        let written = self.contents.write(path);
        self.changed = false;
        written.map_err(|error| format!("what was measured is not kept: cannot write {}: {error}", path.display()))
    }
}

/// What the processor calls itself.
#[cfg(target_arch = "x86_64")]
fn processor() -> String {
    use std::arch::x86_64::__cpuid;
    const NAME: std::ops::RangeInclusive<u32> = 0x8000_0002..=0x8000_0004;
    if __cpuid(0x8000_0000).eax < *NAME.end() {
        return "unknown".into();
    }
    let words = NAME.map(__cpuid).flat_map(|r| [r.eax, r.ebx, r.ecx, r.edx]);
    let bytes: Vec<u8> = words.flat_map(u32::to_le_bytes).take_while(|byte| *byte != 0).collect();
    String::from_utf8_lossy(&bytes).trim().to_string()
}

/// What the system says of the processor.
#[cfg(not(target_arch = "x86_64"))]
fn processor() -> String {
    let described = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let names = ["CPU implementer", "CPU part", "CPU variant"];
    let value = |name: &str| {
        let line = described.lines().find(|line| line.starts_with(name))?;
        line.split(':').nth(1).map(|value| value.trim().to_string())
    };
    let values: Vec<String> = names.iter().filter_map(|name| value(name)).collect();
    if values.is_empty() { std::env::consts::ARCH.to_string() } else { values.join(" ") }
}
