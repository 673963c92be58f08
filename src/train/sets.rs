//! The data sets of a run: each file is read once, however many splits share its rows.

use std::collections::HashMap;
use std::ops::Range;

use crate::diag::Diagnostic;
use crate::frontend::model::{DataSpec, DataSplit};

use super::dataset::{Dataset, Shapes};
use super::source::Places;
use super::splits;

/// A split: a data set and the rows of it that belong to the split.
#[derive(Clone, Debug)]
pub struct SplitRows {
    pub rows: Range<usize>,
    /// The name of the split that reads the files: the key in [`DataSets`].
    pub holder: String,
}

/// The data sets of the splits asked for, each file read once.
#[derive(Default)]
pub struct DataSets {
    sets: HashMap<String, Dataset>,
}

impl DataSets {
    /// Reads the files of `split` unless that has been done, and says which rows are the split's.
    ///
    /// # Errors
    /// As [`Dataset::load`], and if `from` or `take` is wrong.
    pub fn open(
        &mut self,
        data: &DataSpec,
        split: &DataSplit,
        shapes: &Shapes<'_>,
        places: &Places,
    ) -> Result<SplitRows, Vec<Diagnostic>> {
        let holder = splits::holder(data, split).map_err(|e| vec![e])?;
        if !self.sets.contains_key(&holder.name) {
            self.sets.insert(holder.name.clone(), Dataset::load(holder, shapes, places)?);
        }
        let total = self.sets[&holder.name].rows();
        let rows = splits::rows(data, split, total.unwrap_or(1)).map_err(|e| vec![e])?;
        Ok(SplitRows { rows, holder: holder.name.clone() })
    }

    /// The data set that holds a split's rows.
    pub fn get(&self, split: &SplitRows) -> &Dataset {
        &self.sets[&split.holder]
    }
}
