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
    mut found: Vec<Found>,
    until: Instant,
) -> Result<Settled, Error> {
    let none = Tuning::for_threads(known.threads);
    let before = known.clone();
    let choosing = Instant::now() + until.saturating_duration_since(Instant::now()) / 2;
    let mut settled = Settled { tuning: known, kept: Vec::new(), dropped: Vec::new(), share: None };
    found.sort_by(|a, b| b.gain().total_cmp(&a.gain()));
    let all = with(&settled.tuning, &found);
    match subject.share(&settled.tuning, &all, choosing)? {
        _ if found.is_empty() => {}
        Some(share) if share <= 1.0 => {
            (settled.tuning, settled.kept) = (all, found);
        }
        Some(_) => {
            for one in found {
                let more = with(&settled.tuning, std::slice::from_ref(&one));
                match subject.share(&settled.tuning, &more, choosing)? {
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
    settled.share = subject.share(&none, &settled.tuning, until)?;
    if settled.share.is_some_and(|share| share > 1.0) && !settled.kept.is_empty() {
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
