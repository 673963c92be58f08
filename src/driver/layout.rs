//! How tensors lie in one block of memory, which is also a struct of the C header: because element sizes descend, no padding is ever
//! needed between them.
//!
//! Parameters lie as in the data section of a safetensors file, in the order that the format's own writer uses (larger element types first, then by
//! name), so a file's data section can be handed to compiled code as it is. Optimizer states are in no such file: what fills whole
//! cache lines comes first, so that vectors of it do not lie across two.

use std::cmp::Reverse;

use crate::ir::types::{DType, TensorType};

/// Bytes of a cache line, on which blocks begin.
const LINE: usize = 64;

/// One tensor of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The path, as in weight files.
    pub path: String,
    pub dtype: DType,
    pub shape: Vec<usize>,
    /// Bytes from the start of the block.
    pub offset: usize,
    /// Whether an optimizer may change it (a model state is not trained).
    pub trained: bool,
}

impl Slot {
    /// Bytes of the tensor.
    pub fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bytes()
    }
}

/// Tensors in one block, without gaps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    slots: Vec<Slot>,
}

/// What a block is made for, which decides the order in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// That of a safetensors file.
    File,
    /// Tensors that fill cache lines before others.
    Lines,
}

impl Layout {
    /// Lays out tensors given as (path, type, trained); the types must be concrete.
    ///
    /// # Errors
    /// The path of the first tensor whose size is not a number.
    pub fn new<'a>(
        order: Order,
        tensors: impl IntoIterator<Item = (&'a str, &'a TensorType, bool)>,
    ) -> Result<Layout, String> {
        let mut slots = Vec::new();
        for (path, ty, trained) in tensors {
            let shape = ty.sizes().ok_or_else(|| path.to_string())?;
            slots.push(Slot { path: path.to_string(), dtype: ty.dtype.storage(), shape, offset: 0, trained });
        }
        let in_lines = |slot: &Slot| order == Order::Lines && slot.bytes().is_multiple_of(LINE);
        slots.sort_by_key(|slot| (!in_lines(slot), Reverse(slot.dtype.bytes()), slot.path.clone()));
        let mut offset = 0;
        for slot in &mut slots {
            slot.offset = offset;
            offset += slot.bytes();
        }
        Ok(Layout { slots })
    }

    /// The tensors in the order in which they lie.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// The tensor with this path.
    pub fn find(&self, path: &str) -> Option<&Slot> {
        self.slots.iter().find(|s| s.path == path)
    }

    /// Bytes of the whole block.
    pub fn bytes(&self) -> usize {
        self.slots.last().map_or(0, |s| s.offset + s.bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn larger_elements_first_then_by_name() {
        let (single, double) = (TensorType::new(DType::F32, [3i64]), TensorType::new(DType::F64, [2i64]));
        let layout =
            Layout::new(Order::File, [("b", &single, true), ("a", &single, true), ("z", &double, false)]).unwrap();
        let found: Vec<(&str, usize)> = layout.slots().iter().map(|s| (s.path.as_str(), s.offset)).collect();
        assert_eq!(found, [("z", 0), ("a", 16), ("b", 28)]);
        assert_eq!(layout.bytes(), 40);
    }

    #[test]
    fn what_fills_lines_comes_first_among_optimizer_states() {
        let (short, line) = (TensorType::new(DType::F32, [3i64]), TensorType::new(DType::F32, [4i64, 8]));
        let double = TensorType::new(DType::F64, [1i64]);
        let tensors = [("a", &short, false), ("b", &line, false), ("c", &line, false), ("z", &double, false)];
        let layout = Layout::new(Order::Lines, tensors).unwrap();
        let found: Vec<(&str, usize)> = layout.slots().iter().map(|s| (s.path.as_str(), s.offset)).collect();
        assert_eq!(found, [("b", 0), ("c", 128), ("z", 256), ("a", 264)]);
    }
}
