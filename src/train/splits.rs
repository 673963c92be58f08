//! Which rows are whose: `take`, splits cut from another, and the rows held out for validation.
//!
//! A split that is cut from another (`test { from train take 0.2 }`) takes its rows away from it, so no row is trained on and
//! tested with. `from` without `take` shares the rows.

use std::ops::Range;

use crate::diag::{Diagnostic, nearest};
use crate::frontend::model::{DataSpec, DataSplit, Take};

/// How many splits may be cut one from the other.
const LONGEST_CHAIN: usize = 16;

/// The split called `name`.
pub fn find<'a>(data: &'a DataSpec, name: &str) -> Option<&'a DataSplit> {
    data.splits.iter().find(|split| split.name == name)
}

/// The split that holds the readers of `split`, through any number of `from`.
///
/// # Errors
/// If a `from` names no split or leads in a circle.
pub fn holder<'a>(data: &'a DataSpec, split: &'a DataSplit) -> Result<&'a DataSplit, Diagnostic> {
    let mut current = split;
    for _ in 0..=LONGEST_CHAIN {
        let Some((source, span)) = &current.from else { return Ok(current) };
        current = find(data, source).ok_or_else(|| {
            let diagnostic = Diagnostic::error(*span, format!("there is no split `{source}`"));
            match nearest(source, data.splits.iter().map(|s| s.name.as_str())) {
                Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
                None => diagnostic,
            }
        })?;
    }
    let message = format!("the split `{}` is cut from itself, or through more than {LONGEST_CHAIN} others", split.name);
    Err(Diagnostic::error(split.span, message))
}

/// The rows of `split` among the `total` rows of the files that its holder reads.
///
/// # Errors
/// If a `from` is wrong, or a `take` wants more rows than there are, or none.
pub fn rows(data: &DataSpec, split: &DataSplit, total: usize) -> Result<Range<usize>, Diagnostic> {
    holder(data, split)?;
    rows_left(data, split, total)
}

/// The rows of `split` without those that others cut from it. Its `from` must lead to a holder.
fn rows_left(data: &DataSpec, split: &DataSplit, total: usize) -> Result<Range<usize>, Diagnostic> {
    Ok(remaining(data, split, rows_before(data, split, total)?)?.0)
}

/// The rows of `split` before others cut some from it.
fn rows_before(data: &DataSpec, split: &DataSplit, total: usize) -> Result<Range<usize>, Diagnostic> {
    let Some((source, _)) = &split.from else {
        return Ok(take(split, &(0..total), total)?.unwrap_or(0..total));
    };
    let source = find(data, source).expect("`holder` found every split on the way");
    if split.take.is_none() {
        return rows_left(data, source, total);
    }
    let cuts = remaining(data, source, rows_before(data, source, total)?)?.1;
    let mine = cuts.into_iter().find(|(name, _)| *name == split.name).map(|(_, range)| range);
    Ok(mine.expect("every split with `from` and `take` is among the cuts of its source"))
}

/// What is left of the rows `whole` of `source`, and what each split cut from it has, in the order of the file.
type Cuts<'a> = (Range<usize>, Vec<(&'a str, Range<usize>)>);

fn remaining<'a>(data: &'a DataSpec, source: &DataSplit, whole: Range<usize>) -> Result<Cuts<'a>, Diagnostic> {
    let total = whole.len();
    let mut left = whole;
    let mut cuts = Vec::new();
    for split in &data.splits {
        if split.from.as_ref().is_none_or(|(name, _)| *name != source.name) {
            continue;
        }
        let Some(cut) = take(split, &left, total)? else { continue };
        left = if cut.start == left.start { cut.end..left.end } else { left.start..cut.start };
        cuts.push((split.name.as_str(), cut));
    }
    Ok((left, cuts))
}

/// The rows that `split` takes of `left`; fractions are of `total` rows.
fn take(split: &DataSplit, left: &Range<usize>, total: usize) -> Result<Option<Range<usize>>, Diagnostic> {
    let Some((amount, span)) = split.take else { return Ok(None) };
    let (count, last) = match amount {
        Take::First(count) => (usize::try_from(count).unwrap_or(usize::MAX), false),
        Take::Last(count) => (usize::try_from(count).unwrap_or(usize::MAX), true),
        Take::FirstFraction(fraction) => (part(total, fraction), false),
        Take::LastFraction(fraction) => (part(total, fraction), true),
    };
    if count == 0 || count > left.len() {
        let message = format!("`{}` takes {count} rows, of {} that there are", split.name, left.len());
        return Err(Diagnostic::error(span, message));
    }
    Ok(Some(if last { left.end - count..left.end } else { left.start..left.start + count }))
}

/// `fraction` of `total` rows; a part of a row counts as a row. So the larger part has as many rows as Keras gives it.
pub fn part(total: usize, fraction: f64) -> usize {
    // The product of, say, 0.1 and 60000 may lie a hair above the whole number that is meant.
    ((total as f64 * fraction - 1e-6).ceil().max(0.0)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diag::{FileId, Span};

    const SPAN: Span = Span { file: FileId(0), start: 0, end: 0 };

    fn split(name: &str, from: Option<&str>, take: Option<Take>) -> DataSplit {
        DataSplit {
            name: name.into(),
            span: SPAN,
            bindings: Vec::new(),
            from: from.map(|f| (f.into(), SPAN)),
            take: take.map(|t| (t, SPAN)),
        }
    }

    fn rows_of(data: &DataSpec, name: &str, total: usize) -> Result<Range<usize>, String> {
        rows(data, find(data, name).unwrap(), total).map_err(|d| d.message)
    }

    #[test]
    fn cuts_take_rows_away() {
        let splits = vec![
            split("train", None, None),
            split("test", Some("train"), Some(Take::LastFraction(0.2))),
            split("dev", Some("train"), Some(Take::First(10))),
            split("all", Some("train"), None),
        ];
        let data = DataSpec { splits, span: SPAN };
        assert_eq!(rows_of(&data, "test", 100), Ok(80..100));
        assert_eq!(rows_of(&data, "dev", 100), Ok(0..10));
        assert_eq!(rows_of(&data, "train", 100), Ok(10..80));
        assert_eq!(rows_of(&data, "all", 100), Ok(10..80));
        assert_eq!(rows_of(&data, "dev", 5).unwrap_err(), "`dev` takes 10 rows, of 4 that there are");
    }

    #[test]
    fn own_take_and_chains() {
        let splits = vec![
            split("train", None, Some(Take::First(50))),
            split("held", Some("train"), Some(Take::Last(20))),
            split("inner", Some("held"), Some(Take::FirstFraction(0.5))),
        ];
        let data = DataSpec { splits, span: SPAN };
        assert_eq!(rows_of(&data, "train", 100), Ok(0..30));
        assert_eq!(rows_of(&data, "inner", 100), Ok(30..40));
        assert_eq!(rows_of(&data, "held", 100), Ok(40..50));
    }

    #[test]
    fn circles_and_unknown_names() {
        let splits = vec![split("a", Some("b"), None), split("b", Some("a"), None), split("c", Some("trian"), None)];
        let data = DataSpec { splits, span: SPAN };
        assert!(rows_of(&data, "a", 1).unwrap_err().contains("cut from itself"));
        assert!(rows_of(&data, "c", 1).unwrap_err().contains("no split `trian`"));
    }

    #[test]
    fn parts_of_rows() {
        assert_eq!(part(60000, 0.1), 6000);
        assert_eq!(part(1433, 0.1), 144);
        assert_eq!(part(10, 0.9), 9);
        assert_eq!(part(3, 0.0), 0);
    }
}
