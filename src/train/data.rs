//! The data of a run: the splits that a recipe needs, in memory.

use crate::diag::Diagnostic;
use crate::frontend::model::{DataSpec, Recipe, Validate};

use super::dataset::Shapes;
use super::sets::{DataSets, SplitRows};
use super::source::Places;
use super::splits;

/// The data of a run, in memory.
pub struct RunData {
    pub(super) sets: DataSets,
    pub(super) train: SplitRows,
    pub(super) validation: Option<SplitRows>,
    pub(super) test: Option<SplitRows>,
}

impl RunData {
    /// Reads the splits that a recipe needs: `train`, what validates, and `test` where there is one.
    ///
    /// # Errors
    /// Every mistake in the files and in how they are cut.
    pub fn load(
        data: &DataSpec,
        recipe: &Recipe,
        shapes: &Shapes<'_>,
        places: &Places,
    ) -> Result<RunData, Vec<Diagnostic>> {
        let mut sets = DataSets::default();
        let mut errors = Vec::new();
        let mut open = |name: &str| {
            let split = splits::find(data, name)?;
            sets.open(data, split, shapes, places).map_err(|e| errors.extend(e)).ok()
        };
        let mut train = open("train");
        let test = open("test");
        let mut validation = match &recipe.validate {
            Some(Validate::Split(name)) => open(name),
            _ => None,
        };
        if splits::find(data, "train").is_none() {
            errors.push(Diagnostic::error(data.span, "the data block has no split `train`"));
        }
        if let Some(Validate::Split(name)) = &recipe.validate
            && splits::find(data, name).is_none()
        {
            let message = format!("`validate {name}` names no split of the data block");
            errors.push(Diagnostic::error(recipe.span, message));
        }
        if let (Some(Validate::Fraction(fraction)), Some(train)) = (&recipe.validate, &mut train) {
            match hold_out(train, *fraction) {
                Ok(held) => validation = Some(held),
                Err(message) => errors.push(Diagnostic::error(recipe.span, message)),
            }
        }
        match train {
            Some(train) if errors.is_empty() => Ok(RunData { sets, train, validation, test }),
            _ => Err(errors),
        }
    }

    /// Steps of all epochs of a recipe.
    pub fn steps(&self, recipe: &Recipe) -> u64 {
        let batch = usize::try_from(recipe.batch).unwrap_or(usize::MAX).max(1);
        let each = match self.sets.get(&self.train).rows() {
            Some(_) => self.train.rows.len().div_ceil(batch) as u64,
            None => 1,
        };
        recipe.epochs.unwrap_or(1).saturating_mul(each)
    }
}

/// Takes the last rows away from `train`.
fn hold_out(train: &mut SplitRows, fraction: f64) -> Result<SplitRows, String> {
    let held = splits::part(train.rows.len(), fraction);
    if held == 0 || held >= train.rows.len() {
        return Err(format!("`validate {fraction}` of {} training rows leaves nothing on one side", train.rows.len()));
    }
    let cut = train.rows.end - held;
    let validation = SplitRows { rows: cut..train.rows.end, holder: train.holder.clone() };
    train.rows.end = cut;
    Ok(validation)
}
