//! Runs kernels on an emulated machine with AVX-512: the image of a computer that does nothing else, booted by Bochs.
//!
//! The machine starts in the code of [`image`], calls one kernel after the other and writes their memory to a port that Bochs copies to its output.
//! Around each region of memory are bytes that nobody may change. Bochs itself is no dependency: see [`is_installed`].

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::image::{self, Image, MARKER};

/// Bytes before and after each region, and what is in them.
const GUARD: usize = 64;
const GUARDED: u8 = 0xa5;

/// So much work goes into the memory of one machine.
const MOST_WORK: usize = 4096;

/// The emulator is stopped after so long.
const PATIENCE: Duration = Duration::from_secs(900);

/// Calls of kernels on some regions of memory.
pub struct Work {
    pub name: String,
    pub memory: Vec<Vec<u8>>,
    pub calls: Vec<Call>,
}

/// A call of machine code with the signature of a kernel.
pub struct Call {
    pub code: Vec<u8>,
    /// The region of each buffer, and the byte of it that the buffer begins with.
    pub buffers: Vec<(usize, usize)>,
    /// The end of the range of the parallel variable.
    pub extent: u64,
}

/// Whether there is an emulator to run.
pub fn is_installed() -> bool {
    Command::new("bochs")
        .arg("--help")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok()
}

/// What each work leaves in its memory.
///
/// # Errors
/// If the machine stopped before its end, as it does at an instruction that it does not have, or wrote where it must not.
pub fn run(all: &[Work]) -> Result<Vec<Vec<Vec<u8>>>, String> {
    let images = all.chunks(MOST_WORK).map(run_image).collect::<Result<Vec<_>, String>>()?;
    Ok(images.into_iter().flatten().collect())
}

fn run_image(all: &[Work]) -> Result<Vec<Vec<Vec<u8>>>, String> {
    let mut image = Image::new();
    for work in all {
        place(&mut image, work);
    }
    let output = boot(image.finish())?;
    let start = output
        .windows(MARKER.len())
        .position(|w| w == MARKER)
        .ok_or_else(|| format!("the machine did not start:\n{}", String::from_utf8_lossy(&output)))?;
    let mut rest = &output[start + MARKER.len()..];
    let mut results = Vec::new();
    for work in all {
        let mut memory = Vec::new();
        for region in &work.memory {
            let length = region.len() + 2 * GUARD;
            let (guarded, later) =
                rest.split_at_checked(length).ok_or(format!("the machine stopped in {}", work.name))?;
            let (inside, after) = guarded[GUARD..].split_at(region.len());
            if guarded[..GUARD].iter().chain(after).any(|byte| *byte != GUARDED) {
                return Err(format!("{} writes beyond its memory", work.name));
            }
            memory.push(inside.to_vec());
            rest = later;
        }
        results.push(memory);
    }
    Ok(results)
}

/// Puts the regions, the code and the commands of a work into an image.
fn place(image: &mut Image, work: &Work) {
    let guard = [GUARDED; GUARD];
    let regions: Vec<u64> =
        work.memory.iter().map(|r| image.put(&[&guard, r.as_slice(), &guard].concat(), 64)).collect();
    for call in &work.calls {
        let code = image.put_once(&call.code, 64);
        let address = |(region, byte): &(usize, usize)| regions[*region] + (GUARD + byte) as u64;
        let table: Vec<u8> = call.buffers.iter().flat_map(|b| address(b).to_le_bytes()).collect();
        let table = image.put(&table, 8);
        image.call(code, [table, 0, call.extent]);
    }
    for (address, region) in regions.iter().zip(&work.memory) {
        image.write(*address, (region.len() + 2 * GUARD) as u64);
    }
}

/// Boots an image; what the machine and Bochs wrote to their output.
fn boot((rom, memory): (Vec<u8>, Vec<u8>)) -> Result<Vec<u8>, String> {
    let text = |e: std::io::Error| e.to_string();
    let folder = tempfile::tempdir().map_err(text)?;
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("rom"), rom).map_err(text)?;
    std::fs::write(path("memory"), memory).map_err(text)?;
    // Debian's Bochs has its debugger built in, which waits for the order to continue.
    std::fs::write(path("orders"), "c\n").map_err(text)?;
    std::fs::write(path("settings"), image::settings(folder.path())).map_err(text)?;
    let output = std::fs::File::create(path("output")).map_err(text)?;
    let mut bochs = Command::new("bochs")
        .args(["-q", "-f"])
        .arg(path("settings"))
        .arg("-rc")
        .arg(path("orders"))
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(Stdio::null())
        .spawn()
        .map_err(text)?;
    let start = Instant::now();
    // How it ends says nothing: the machine switches itself off, which Bochs calls a panic.
    while bochs.try_wait().map_err(text)?.is_none() {
        if start.elapsed() > PATIENCE {
            bochs.kill().map_err(text)?;
            return Err("the machine did not come to its end".to_string());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    std::fs::read(path("output")).map_err(text)
}
