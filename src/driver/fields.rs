//! Whether what a caller gives fits the inputs and targets that a model declares.
//!
//! Everything that does not depend on the call is found out once, since a small model's call takes a microsecond.

use super::Compiled;
use super::error::Error;
use super::slice::Slice;
use crate::diag::nearest;
use crate::ir::types::{DType, TensorType};

/// The inputs and targets of a model.
pub(super) struct Fields {
    fields: Vec<Field>,
    /// The rows of a batch if no field says.
    nominal_rows: usize,
}

struct Field {
    name: String,
    ty: TensorType,
    /// Bytes of a row; `None` if they are too many for a number.
    row: Option<usize>,
    /// Whether there are as many rows as the batch has; there is one otherwise.
    is_batched: bool,
}

impl Fields {
    /// The fields of a model.
    ///
    /// # Errors
    /// If a field has a symbolic dim that is neither the batch nor given.
    pub(super) fn new(compiled: &Compiled) -> Result<Fields, Error> {
        let (one, batch) = (compiled.sizes(1)?, compiled.batch_symbol());
        let field = |name: &str, ty: &TensorType| {
            let row = ty.substitute(&one).and_then(|t| t.elements()).and_then(|n| n.checked_mul(ty.dtype.bytes()));
            let is_batched = ty.shape.iter().any(|d| batch.as_ref().is_some_and(|b| d.symbols().contains(b)));
            Field { name: name.to_string(), ty: ty.clone(), row, is_batched }
        };
        let fields = compiled.model().fields.iter().map(|f| field(&f.name, &f.ty)).collect();
        Ok(Fields { fields, nominal_rows: compiled.nominal_rows() })
    }

    /// The number of rows in `given`, after checking that each field is declared, has the declared dtype, and holds whole rows, as many as the others.
    ///
    /// # Errors
    /// The first field that does not fit.
    pub(super) fn rows_of(&self, given: &[(&str, Slice<'_>)]) -> Result<usize, Error> {
        let mut rows: Option<(usize, &str)> = None;
        for (name, slice) in given {
            let wrong = |reason: String| Error::Field { field: (*name).to_string(), reason };
            let field = self.find(name)?;
            let Some(found) = field.rows(*slice).map_err(wrong)? else { continue };
            match rows {
                None => rows = Some((found, name)),
                Some((expected, other)) if expected != found => {
                    return Err(wrong(format!("has {found} rows, but `{other}` has {expected}")));
                }
                Some(_) => {}
            }
        }
        Ok(rows.map_or(self.nominal_rows, |(n, _)| n))
    }

    fn find(&self, name: &str) -> Result<&Field, Error> {
        self.fields.iter().find(|f| f.name == name).ok_or_else(|| {
            let near = nearest(name, self.fields.iter().map(|f| f.name.as_str()));
            let hint = near.map_or(String::new(), |n| format!("; did you mean `{n}`?"));
            Error::Field {
                field: name.to_string(),
                reason: format!("the model declares no such input or target{hint}"),
            }
        })
    }
}

impl Field {
    /// How many rows of the batch elements are; `None` if they do not depend on the batch.
    ///
    /// # Errors
    /// Why they do not fit.
    fn rows(&self, slice: Slice<'_>) -> Result<Option<usize>, String> {
        let ty = &self.ty;
        if slice.dtype() != ty.dtype.storage() {
            return Err(format!("declared as {ty}, given as {}", slice.dtype()));
        }
        let row = self.row.ok_or_else(|| format!("{ty} is too large"))?;
        check_classes(ty.dtype, slice)?;
        if row == 0 {
            return Ok(None);
        }
        let bytes = slice.bytes().len();
        if !bytes.is_multiple_of(row) || (!self.is_batched && bytes != row) {
            return Err(format!("declared as {ty}: {bytes} bytes are not whole rows of {row}"));
        }
        Ok(self.is_batched.then_some(bytes / row))
    }
}

/// Checks that labels are in their class range.
fn check_classes(dtype: DType, slice: Slice<'_>) -> Result<(), String> {
    let DType::Index { classes } = dtype else { return Ok(()) };
    let (words, _) = slice.bytes().as_chunks::<4>();
    // All of them first, in a loop of vectors. A negative label is a large one without its sign.
    let is_wrong = |word: &[u8; 4]| u32::from_le_bytes(*word) >= classes;
    if !words.iter().fold(false, |any, word| any | is_wrong(word)) {
        return Ok(());
    }
    let row = words.iter().position(is_wrong).unwrap_or(0);
    Err(format!("label {} at position {row} is outside 0..{classes}", i32::from_le_bytes(words[row])))
}
