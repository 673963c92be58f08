//! The fields of a split, checked against the model: rows agree, shapes fit, numbers can be held.
//!
//! They are held in memory, converted, up to a limit; beyond it their rows stay in the files.

use std::path::Path;
use std::sync::Arc;

use crate::diag::{Diagnostic, Span};
use crate::formats::rows::RowSource;
use crate::formats::{Array, checked_size, shape_text};
use crate::frontend::model::{DataBinding, DataSplit, Field};
use crate::ir::dim::{Dim, Symbol};
use crate::ir::types::{DType, TensorType};

use super::convert::convert;
use super::files::{Files, Target, bad_element};
use super::order::Mixing;
use super::source::{Loaded, Parts, Places, Wanted, load};

/// Bytes of the largest element.
const LARGEST_ELEMENT: usize = 8;

/// Bytes of the blocks of rows among which rows are mixed when they are read from files.
const POOL_BYTES: usize = 1 << 30;
/// The most such blocks.
const MOST_BLOCKS: usize = 8;

/// One input or target for every row.
#[derive(Clone, Debug)]
pub struct Column {
    pub name: String,
    pub(super) dtype: DType,
    /// Bytes of one row; of the whole field if it has no rows.
    pub(super) row_bytes: usize,
    pub(super) store: Store,
}

/// Where the rows of a column are.
#[derive(Clone, Debug)]
pub(super) enum Store {
    /// A field without a `batch` dim, which every batch gets whole.
    Whole(Vec<u8>),
    /// One row after the other.
    Memory(Vec<u8>),
    /// The same row again and again.
    Same(Vec<u8>),
    /// In files, read when a batch needs them.
    Files(Arc<Files>),
}

/// All fields of the files of one split.
#[derive(Clone, Debug)]
pub struct Dataset {
    pub(super) columns: Vec<Column>,
    /// `None` if no field has rows.
    rows: Option<usize>,
    /// How rows are mixed if they are read from files in blocks.
    mixing: Option<Mixing>,
}

/// What fields need to know of the model.
pub struct Shapes<'a> {
    pub fields: Vec<&'a Field>,
    /// The dim that counts rows.
    pub batch: Option<Symbol>,
}

/// A field's array before its rows are known to agree.
struct Candidate<'a> {
    field: &'a Field,
    binding: &'a DataBinding,
    loaded: Loaded,
    has_rows: bool,
    /// The sizes of one row.
    row: Vec<usize>,
}

impl Dataset {
    /// Reads what a split binds for each of the fields.
    ///
    /// # Errors
    /// Every mistake that can be told independently: missing files, shapes, labels out of range, numbers of rows.
    pub fn load(split: &DataSplit, shapes: &Shapes<'_>, places: &Places) -> Result<Dataset, Vec<Diagnostic>> {
        let mut errors = Vec::new();
        let mut candidates = Vec::new();
        for &field in &shapes.fields {
            match candidate(split, field, shapes.batch.as_ref(), places) {
                Ok(candidate) => candidates.push(candidate),
                Err(error) => errors.push(error),
            }
        }
        let rows = agreed_rows(&candidates).map_err(|e| errors.push(e)).unwrap_or_default();
        let row_bytes: usize = candidates.iter().filter(|c| c.has_rows).map(Candidate::row_bytes).sum();
        let resident = row_bytes as u128 * rows.unwrap_or(0) as u128 <= u128::from(places.resident);
        let block = candidates.iter().filter_map(Candidate::block).max().filter(|block| *block > 1 && !resident);
        let mixing = block.map(|block| {
            let pool = POOL_BYTES / block.saturating_mul(row_bytes).max(1);
            Mixing { block, pool: pool.clamp(1, MOST_BLOCKS) }
        });
        let mut columns = Vec::new();
        for candidate in candidates {
            match candidate.column(resident, mixing) {
                Ok(column) => columns.push(column),
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(Dataset { columns, rows, mixing }) } else { Err(errors) }
    }

    /// A data set of columns made by hand, for inference on files.
    ///
    /// # Errors
    /// A sentence if the columns do not have as many rows, or too many.
    pub fn from_columns(columns: Vec<Column>) -> Result<Dataset, String> {
        let mut known: Option<(&str, usize)> = None;
        for column in &columns {
            let Store::Memory(bytes) = &column.store else { continue };
            let rows = bytes.len() / column.row_bytes.max(1);
            match known {
                Some((name, expected)) if expected != rows => {
                    return Err(format!("`{}` has {rows} rows, `{name}` has {expected}", column.name));
                }
                _ => known = Some((&column.name, rows)),
            }
        }
        let rows = known.map(|(_, rows)| rows);
        match rows {
            Some(rows) if u32::try_from(rows).is_err() => Err(format!("{rows} rows are more than {}", u32::MAX)),
            _ => Ok(Dataset { columns, rows, mixing: None }),
        }
    }

    /// Whether rows are read from files while the run goes on.
    pub fn reads_files(&self) -> bool {
        self.columns.iter().any(|column| matches!(column.store, Store::Files(_)))
    }

    /// How rows are mixed if they are read in blocks; `None` if any order is as good as another.
    pub fn mixing(&self) -> Option<Mixing> {
        self.mixing
    }

    /// The number of rows, `None` if no field has any.
    pub fn rows(&self) -> Option<usize> {
        self.rows
    }
}

impl Column {
    /// An array as a field of the model.
    ///
    /// # Errors
    /// A sentence: a shape that does not fit, or an element that cannot be held.
    pub fn new(field: &Field, batch: Option<&Symbol>, array: Array, flat_rows: bool) -> Result<Column, String> {
        let (has_rows, row) = row_shape(&field.ty, batch)?;
        check_shape(&array, has_rows, &row, flat_rows).map_err(|misfit| {
            let found = format!("{}{}", array.dtype, shape_text(&array.shape));
            format!("`{}` is declared as {}, but the file holds {found}: {misfit}", field.name, field.ty)
        })?;
        let shape = array.shape.clone();
        let bytes = convert(array, field.ty.dtype)
            .map_err(|bad| bad_element(&bad, &Target::new(field, field.span), &shape, 0))?;
        let row_bytes = row.iter().product::<usize>() * field.ty.dtype.bytes();
        let store = if has_rows { Store::Memory(bytes) } else { Store::Whole(bytes) };
        Ok(Column { name: field.name.clone(), dtype: field.ty.dtype, row_bytes, store })
    }
}

fn candidate<'a>(
    split: &'a DataSplit,
    field: &'a Field,
    batch: Option<&Symbol>,
    places: &Places,
) -> Result<Candidate<'a>, Diagnostic> {
    let binding = split.bindings.iter().find(|b| b.field == field.name).ok_or_else(|| {
        let message = format!("the split `{}` does not bind `{}`", split.name, field.name);
        Diagnostic::error(split.span, message).label(field.span, "declared here")
    })?;
    let (has_rows, row) = row_shape(&field.ty, batch).map_err(|m| Diagnostic::error(field.span, m))?;
    let loaded = load(&binding.reader, places, &Wanted { dtype: field.ty.dtype, has_rows, row: &row })?;
    let candidate = Candidate { field, binding, loaded, has_rows, row };
    if let Loaded::Files(Parts { parts, flat_rows }) = &candidate.loaded {
        for part in parts {
            check_shape(part.rows.as_ref(), has_rows, &candidate.row, *flat_rows)
                .map_err(|misfit| candidate.shape_error(part.rows.as_ref(), &part.path, &misfit))?;
        }
    }
    Ok(candidate)
}

impl Candidate<'_> {
    /// The place to point at: the path, or the whole reader.
    fn span(&self) -> Span {
        self.binding.reader.path().map_or(self.binding.reader.span, |(_, span)| span)
    }

    fn rows(&self) -> Option<usize> {
        match &self.loaded {
            Loaded::Files(files) if self.has_rows => {
                Some(files.parts.iter().map(|part| part.rows.rows()).fold(0, usize::saturating_add))
            }
            _ => None,
        }
    }

    /// The bytes of one row as the model takes it.
    fn row_bytes(&self) -> usize {
        self.row.iter().product::<usize>() * self.field.ty.dtype.bytes()
    }

    /// The most rows that are decoded together.
    fn block(&self) -> Option<usize> {
        match &self.loaded {
            Loaded::Files(files) if self.has_rows => files.parts.iter().map(|part| part.rows.block(0).len()).max(),
            _ => None,
        }
    }

    fn shape_error(&self, rows: &dyn RowSource, path: &Path, misfit: &str) -> Diagnostic {
        let message = format!("`{}` does not fit `{}`", path.display(), self.field.name);
        Diagnostic::error(self.span(), message)
            .primary(misfit)
            .label(self.field.span, "declared here")
            .note(format!("expected {}", self.field.ty))
            .note(format!("found    {}{}", rows.dtype(), shape_text(rows.shape())))
    }

    /// The column: its numbers converted, or left in the files if they are not `resident`.
    fn column(self, resident: bool, mixing: Option<Mixing>) -> Result<Column, Diagnostic> {
        let target = Target::new(self.field, self.span());
        let (row_bytes, name, dtype) = (self.row_bytes(), self.field.name.clone(), self.field.ty.dtype);
        let store = match self.loaded {
            Loaded::Constant(values) => {
                let bytes = constant_row(&values, &self.row, &target)?;
                if self.has_rows { Store::Same(bytes) } else { Store::Whole(bytes) }
            }
            Loaded::Files(files) if self.has_rows && !resident => {
                Store::Files(Arc::new(Files::new(files.parts, target, row_bytes, mixing)))
            }
            Loaded::Files(files) => {
                let mut bytes = Vec::new();
                for part in files.parts {
                    let converted = target.convert_all(part)?;
                    if bytes.is_empty() { bytes = converted } else { bytes.extend_from_slice(&converted) }
                }
                if self.has_rows { Store::Memory(bytes) } else { Store::Whole(bytes) }
            }
        };
        Ok(Column { name, dtype, row_bytes, store })
    }
}

/// One row of a constant: a number spreads over it, a list must have as many elements.
fn constant_row(values: &[f64], row: &[usize], target: &Target) -> Result<Vec<u8>, Diagnostic> {
    let elements: usize = row.iter().product();
    let values = match values {
        [value] => vec![*value; elements],
        _ if values.len() == elements => values.to_vec(),
        _ => {
            let message = format!("the constant has {} numbers, expected 1 or {elements}", values.len());
            return Err(target.error(message));
        }
    };
    let shape = [&[1], row].concat();
    let array = Array::from_f64(shape.clone(), &values).expect("as many values as the shape says");
    convert(array, target.dtype()).map_err(|bad| target.error(bad_element(&bad, target, &shape, 0)))
}

/// Whether a field has rows, and the sizes of one row.
fn row_shape(ty: &TensorType, batch: Option<&Symbol>) -> Result<(bool, Vec<usize>), String> {
    let is_batch = |dim: &Dim| batch.is_some_and(|b| *dim == Dim::symbol(b.0.clone()));
    let has_rows = ty.shape.first().is_some_and(is_batch);
    let sizes = TensorType { dtype: ty.dtype, shape: ty.shape[usize::from(has_rows)..].to_vec() }.sizes();
    let row = sizes.ok_or_else(|| {
        format!("data for {ty}, which has a size besides the number of rows that is not a number, is not supported yet")
    })?;
    match checked_size(&row, LARGEST_ELEMENT) {
        Some(_) => Ok((has_rows, row)),
        None => Err(format!("a row of {ty} is more than can be held in memory")),
    }
}

/// Whether an array's shape fits; dims of 1 may be there or not, and flat rows may have any shape of as many elements.
fn check_shape(rows: &dyn RowSource, has_rows: bool, row: &[usize], flat_rows: bool) -> Result<(), String> {
    let found = match (has_rows, rows.shape().split_first()) {
        (true, Some((_, found))) => found,
        (true, None) => return Err("a scalar has no rows".into()),
        (false, _) => rows.shape(),
    };
    let (have, want) = (found.iter().product::<usize>(), row.iter().product::<usize>());
    let squeeze = |shape: &[usize]| shape.iter().copied().filter(|size| *size != 1).collect::<Vec<_>>();
    if squeeze(found) == squeeze(row) || (flat_rows && have == want) {
        return Ok(());
    }
    let what = if has_rows { "a row" } else { "it" };
    if flat_rows {
        return Err(format!("{what} has {have} columns, not {want}"));
    }
    if found.len() == row.len() {
        let axis = found.iter().zip(row).position(|(a, b)| a != b).unwrap_or(0);
        let number = axis + usize::from(has_rows);
        return Err(format!("dim {number} is {}, not {}", found[axis], row[axis]));
    }
    Err(format!("{what} has the shape {}, not {}", shape_text(found), shape_text(row)))
}

/// The number of rows that all fields have.
fn agreed_rows(candidates: &[Candidate<'_>]) -> Result<Option<usize>, Diagnostic> {
    let mut known: Option<(&Candidate<'_>, usize)> = None;
    for candidate in candidates {
        let Some(rows) = candidate.rows() else { continue };
        match known {
            Some((first, expected)) if expected != rows => {
                let message =
                    format!("`{}` has {rows} rows, but `{}` has {expected}", candidate.field.name, first.field.name);
                return Err(Diagnostic::error(candidate.span(), message)
                    .primary(format!("{rows} rows"))
                    .label(first.span(), format!("{expected} rows")));
            }
            _ => known = Some((candidate, rows)),
        }
    }
    match known {
        Some((candidate, 0)) => Err(Diagnostic::error(candidate.span(), "the file has no rows")),
        Some((candidate, rows)) if u32::try_from(rows).is_err() => {
            Err(Diagnostic::error(candidate.span(), format!("{rows} rows are more than the supported {}", u32::MAX)))
        }
        _ => Ok(known.map(|(_, rows)| rows)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diag::FileId;
    use crate::frontend::model::{Constant, Reader, ReaderArgument};
    use crate::ir::graph::Role;

    const SPAN: Span = Span { file: FileId(0), start: 0, end: 0 };

    fn field(name: &str, dtype: DType, shape: Vec<Dim>) -> Field {
        Field { name: name.into(), role: Role::Input, ty: TensorType { dtype, shape }, span: SPAN }
    }

    fn rows_of(sizes: &[i64]) -> Vec<Dim> {
        std::iter::once(Dim::symbol("batch")).chain(sizes.iter().map(|s| Dim::from(*s))).collect()
    }

    fn binding(field: &str, reader: &str, argument: Constant) -> DataBinding {
        let arguments = vec![ReaderArgument { name: None, value: argument, span: SPAN }];
        let reader = Reader { name: reader.into(), name_span: SPAN, arguments, span: SPAN };
        DataBinding { field: field.into(), field_span: SPAN, reader }
    }

    fn load_fields(fields: &[Field], bindings: Vec<DataBinding>, root: &Path) -> Result<Dataset, Vec<String>> {
        let split = DataSplit { name: "train".into(), span: SPAN, bindings, from: None, take: None };
        let shapes = Shapes { fields: fields.iter().collect(), batch: Some(Symbol("batch".into())) };
        let places = Places { root: root.to_owned(), model_folder: root.to_owned(), resident: u64::MAX };
        Dataset::load(&split, &shapes, &places).map_err(|e| e.into_iter().map(|d| d.message).collect())
    }

    #[test]
    fn csv_rows_take_the_shape_of_the_field() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.csv"), "1,2,3,4\n5,6,7,8\n").unwrap();
        let fields = [field("x", DType::U8, rows_of(&[2, 2])), field("scale", DType::F32, rows_of(&[]))];
        let file = || binding("x", "csv", Constant::Text("a.csv".into()));
        let bindings = vec![file(), binding("scale", "constant", Constant::Float(0.5))];
        let data = load_fields(&fields, bindings, folder.path()).unwrap();
        assert_eq!(data.rows(), Some(2));
        assert!(matches!(&data.columns[0].store, Store::Memory(bytes) if *bytes == [1, 2, 3, 4, 5, 6, 7, 8]));
        assert!(matches!(&data.columns[1].store, Store::Same(bytes) if *bytes == 0.5f32.to_le_bytes()));
        let narrow = [field("x", DType::U8, rows_of(&[3]))];
        let errors = load_fields(&narrow, vec![file()], folder.path()).unwrap_err();
        assert!(errors[0].contains("does not fit `x`"), "{errors:?}");
    }

    #[test]
    fn every_mistake_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.csv"), "1\n12\n").unwrap();
        let fields = [
            field("label", DType::Index { classes: 10 }, rows_of(&[])),
            field("x", DType::F32, rows_of(&[])),
            field("y", DType::F32, rows_of(&[])),
        ];
        let text = |name: &str| Constant::Text(name.into());
        let bindings = vec![binding("label", "csv", text("a.csv")), binding("x", "npy", text("no.npy"))];
        let errors = load_fields(&fields, bindings, folder.path()).unwrap_err();
        assert!(errors.iter().any(|e| e.contains("label 12 in row 1 is outside 0..10")), "{errors:?}");
        assert!(errors.iter().any(|e| e.contains("no.npy") && e.contains("no such file")), "{errors:?}");
        assert!(errors.iter().any(|e| e.contains("does not bind `y`")), "{errors:?}");
    }
}
