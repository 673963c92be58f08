//! The entry point as a whole with the choices that were found: what is faster alone need not be so where operands are packed once for several products, or
//! stored in panels by those that make them. Only what does not make the whole slower is kept.

use std::sync::Arc;
use std::time::Instant;

use super::race::{Rounds, race};
use super::search::{Found, Subject};
use crate::driver::error::Error;
use crate::driver::runner::Runner;
use crate::driver::stages::{self, Loops};
use crate::passes::Limits;
use crate::passes::tile::Tuning;

const ROUNDS: Rounds = Rounds { least: 3, most: 60 };

/// What became of choices.
#[derive(Default)]
pub(super) struct Settled {
    pub tuning: Tuning,
    /// Those that the whole is not slower with.
    pub kept: Vec<Found>,
    /// Those that it is slower with; what is in neither list was not looked at.
    pub dropped: Vec<Found>,
    /// The share of the usual choices' time that the whole takes, if that was measured.
    pub share: Option<f64>,
}

/// Adds to `known` choices those of `found` with which the whole is not slower: all if possible, or one after the other. Where those that are left are
/// slower than the usual ones after all, nothing is added.
///
/// # Errors
/// If a program cannot be compiled.
pub(super) fn settle(
    subject: &Subject<'_>,
    known: Tuning,
    found: Vec<Found>,
    until: Instant,
) -> Result<Settled, Error> {
    settle_by(|old, new, until| subject.share(old, new, until), known, found, until)
}

/// [`settle`] by any comparison: the time with the second choices as a share of that with the first ones, or `None` if there is no time.
fn settle_by(
    mut compare: impl FnMut(&Tuning, &Tuning, Instant) -> Result<Option<f64>, Error>,
    known: Tuning,
    mut found: Vec<Found>,
    until: Instant,
) -> Result<Settled, Error> {
    let none = Tuning::for_threads(known.threads);
    let before = known.clone();
    let choosing = Instant::now() + until.saturating_duration_since(Instant::now()) / 2;
    let mut settled = Settled { tuning: known, kept: Vec::new(), dropped: Vec::new(), share: None };
    found.sort_by(|a, b| b.gain().total_cmp(&a.gain()));
    let all = with(&settled.tuning, &found);
    match compare(&settled.tuning, &all, choosing)? {
        _ if found.is_empty() => {}
        Some(share) if share <= 1.0 => {
            (settled.tuning, settled.kept) = (all, found);
        }
        Some(_) => {
            for one in found {
                let more = with(&settled.tuning, std::slice::from_ref(&one));
                match compare(&settled.tuning, &more, choosing)? {
                    Some(share) if share <= 1.0 => {
                        settled.tuning = more;
                        settled.kept.push(one);
                    }
                    Some(_) => settled.dropped.push(one),
                    None => break,
                }
            }
        }
        None => {}
    }
    // What has been chosen by a comparison looks better in it than it is: another one says what was gained.
    settled.share = compare(&none, &settled.tuning, until)?;
    if settled.share.is_some_and(|share| share > 1.0) && !settled.kept.is_empty() {
        settled.dropped.append(&mut settled.kept);
        settled = Settled { tuning: before, dropped: settled.dropped, ..Settled::default() };
    }
    Ok(settled)
}

fn with(tuning: &Tuning, found: &[Found]) -> Tuning {
    let mut tuning = tuning.clone();
    tuning.choices.extend(found.iter().map(|one| (one.key.clone(), one.choice)));
    tuning
}

impl Subject<'_> {
    /// The time with `new` choices as a share of that with `old` ones; `None` if there is no time to find out.
    fn share(&self, old: &Tuning, new: &Tuning, until: Instant) -> Result<Option<f64>, Error> {
        if old == new || Instant::now() >= until {
            return Ok(None);
        }
        let programs = [self.whole(old)?, self.whole(new)?];
        let mut runner = Runner::new(&programs, self.pool)?;
        Ok(race(&mut runner, &[0, 1], ROUNDS, until).map(|shares| shares[1]))
    }

    fn whole(&self, tuning: &Tuning) -> Result<Loops, Error> {
        let limits = Limits { tuning: Arc::new(tuning.clone()), ..self.limits.clone() };
        stages::finish_untiled(self.function, self.program.clone(), &limits)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::passes::tile::{Choice, Left, Outermost, ProductKey, Right, TileShape};

    fn choice(right: Right) -> Choice {
        let shape = TileShape { rows: 6, columns: 16 };
        Choice { shape, right, left: Left::InPlace, outermost: Outermost::Rounds }
    }

    fn found(name: &str) -> Found {
        let key = ProductKey::from_text(name.into());
        Found { key, usual: choice(Right::InPlace), choice: choice(Right::Packed), share: 0.9, weight: 1.0 }
    }

    fn names(found: &[Found]) -> Vec<&str> {
        found.iter().map(|one| one.key.as_str()).collect()
    }

    /// What becomes of `a` and `b` where the answers of the comparisons are these, in turn.
    fn settled(answers: &[Option<f64>]) -> Settled {
        let mut answers = answers.iter().copied();
        let until = Instant::now() + Duration::from_secs(60);
        let compare = |_: &Tuning, _: &Tuning, _| Ok(answers.next().expect("as many answers as comparisons"));
        let settled = settle_by(compare, Tuning::for_threads(1), vec![found("a"), found("b")], until).unwrap();
        assert_eq!(answers.next(), None);
        settled
    }

    #[test]
    fn all_are_kept_where_the_whole_is_faster_with_all() {
        let settled = settled(&[Some(0.9), Some(0.95)]);
        assert_eq!((names(&settled.kept), names(&settled.dropped)), (vec!["a", "b"], vec![]));
        assert_eq!(settled.tuning.choices.len(), 2);
    }

    #[test]
    fn what_slows_the_whole_is_dropped() {
        let settled = settled(&[Some(1.1), Some(0.9), Some(1.2), Some(0.9)]);
        assert_eq!((names(&settled.kept), names(&settled.dropped)), (vec!["a"], vec!["b"]));
        assert_eq!(settled.tuning.choices.len(), 1);
    }

    #[test]
    fn what_gains_nothing_in_the_end_is_dropped_too() {
        let all = settled(&[Some(0.99), Some(1.01)]);
        assert_eq!((names(&all.kept), names(&all.dropped)), (vec![], vec!["a", "b"]));
        let one = settled(&[Some(1.1), Some(1.2), Some(0.99), Some(1.01)]);
        assert_eq!((names(&one.kept), names(&one.dropped)), (vec![], vec!["a", "b"]));
        assert!(all.tuning.choices.is_empty() && one.tuning.choices.is_empty());
    }

    #[test]
    fn what_there_was_no_time_for_is_in_neither_list() {
        let settled = settled(&[Some(1.1), Some(1.2), None, None]);
        assert_eq!((names(&settled.kept), names(&settled.dropped)), (vec![], vec!["a"]));
    }
}
