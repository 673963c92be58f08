//! Blocks of memory aligned to cache lines, handed to compiled code.
//!
//! What is kept from call to call asks the system for huge pages, so that a step does not wait for the places of thousands of small ones to be looked up.

use memmap2::MmapMut;

/// One cache line.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Bytes of a huge page.
#[cfg(target_os = "linux")]
const HUGE: usize = 2 << 20;

/// Where the bytes are.
enum Memory {
    Lines(Vec<Line>),
    /// Pages of their own, from some byte on.
    Pages {
        pages: MmapMut,
        start: usize,
    },
}

/// Zero-initialised bytes whose first byte is aligned to 64.
pub struct AlignedBytes {
    memory: Memory,
    length: usize,
}

impl AlignedBytes {
    /// `length` zero bytes.
    pub fn zeroed(length: usize) -> Self {
        AlignedBytes { memory: Memory::Lines(vec![Line([0; 64]); length.div_ceil(64)]), length }
    }

    /// `length` zero bytes that are used again and again.
    pub fn lasting(length: usize) -> Self {
        huge_pages(length).map_or_else(|| Self::zeroed(length), |memory| AlignedBytes { memory, length })
    }

    /// A copy of `bytes`.
    pub fn copy_of(bytes: &[u8]) -> Self {
        let mut out = Self::zeroed(bytes.len());
        out.as_mut().copy_from_slice(bytes);
        out
    }
}

/// Memory of huge pages, if there is enough to fill half of one and the system has them.
#[cfg(target_os = "linux")]
fn huge_pages(length: usize) -> Option<Memory> {
    if length < HUGE / 2 {
        return None;
    }
    let pages = MmapMut::map_anon(length.checked_next_multiple_of(HUGE)?.checked_add(HUGE)?).ok()?;
    pages.advise(memmap2::Advice::HugePage).ok()?;
    let start = pages.as_ptr().align_offset(HUGE);
    Some(Memory::Pages { pages, start })
}

/// Other systems decide by themselves.
#[cfg(not(target_os = "linux"))]
fn huge_pages(_: usize) -> Option<Memory> {
    None
}

impl Clone for AlignedBytes {
    fn clone(&self) -> Self {
        Self::copy_of(self.as_ref())
    }
}

impl AsRef<[u8]> for AlignedBytes {
    fn as_ref(&self) -> &[u8] {
        match &self.memory {
            Memory::Lines(lines) => &bytemuck::cast_slice(lines)[..self.length],
            Memory::Pages { pages, start } => &pages[*start..][..self.length],
        }
    }
}

impl AsMut<[u8]> for AlignedBytes {
    fn as_mut(&mut self) -> &mut [u8] {
        match &mut self.memory {
            Memory::Lines(lines) => &mut bytemuck::cast_slice_mut(lines)[..self.length],
            Memory::Pages { pages, start } => &mut pages[*start..][..self.length],
        }
    }
}

impl std::fmt::Debug for AlignedBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AlignedBytes({})", self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_lasts_is_zero_and_begins_at_a_line() {
        for length in [0, 1, 100, (1 << 20) + 5, (4 << 20) + 3] {
            let mut bytes = AlignedBytes::lasting(length);
            assert_eq!(bytes.as_ref().len(), length);
            assert!(bytes.as_ref().iter().all(|b| *b == 0));
            assert!(bytes.as_ref().as_ptr().addr().is_multiple_of(64));
            bytes.as_mut().fill(7);
            assert_eq!(bytes.clone().as_ref(), bytes.as_ref());
        }
    }
}
