//! Programs timed in turns, and compared by the least time of each.
//!
//! Whatever else the machine does makes a turn longer and never shorter: with two threads on cores that others use too, most turns may take five times as long as the
//! shortest, and medians say nothing. The speed of a core drifts as well, but slower than turns change.

use std::time::Instant;

use crate::driver::runner::Runner;

/// Seconds of a turn at least: the clock, and what the one before has left in the caches, are little of it.
const TURN: f64 = 3e-4;
const MOST_CALLS: f64 = 4096.0;

/// After so many rounds those that take so many times as long as the first are out.
const TRIAL: usize = 3;
const HOPELESS: f64 = 1.15;

/// How many rounds there are at least and at most.
#[derive(Clone, Copy)]
pub(super) struct Rounds {
    pub least: usize,
    pub most: usize,
}

/// For each of some programs its least time as a share of the first one's; `None` if there is no time for the least rounds.
pub(super) fn race(runner: &mut Runner<'_>, contenders: &[usize], rounds: Rounds, until: Instant) -> Option<Vec<f64>> {
    for contender in contenders {
        if Instant::now() >= until {
            return None;
        }
        runner.call(*contender);
    }
    let once = turn(runner, *contenders.first()?, 1);
    let calls = (TURN / once.max(1e-9)).clamp(1.0, MOST_CALLS).ceil() as usize;
    let mut running: Vec<usize> = (0..contenders.len()).collect();
    let mut least = vec![f64::INFINITY; contenders.len()];
    for round in 0..rounds.most {
        if Instant::now() >= until {
            if round < rounds.least {
                return None;
            }
            break;
        }
        for place in 0..running.len() {
            // Nobody always runs behind the same one.
            let number = running[(place + round) % running.len()];
            least[number] = least[number].min(turn(runner, contenders[number], calls));
        }
        if round + 1 == TRIAL {
            running.retain(|number| least[*number] <= HOPELESS * least[0]);
        }
    }
    Some(least.iter().map(|time| time / least[0]).collect())
}

/// Seconds of some calls.
fn turn(runner: &mut Runner<'_>, contender: usize, calls: usize) -> f64 {
    let start = Instant::now();
    (0..calls).for_each(|_| runner.call(contender));
    start.elapsed().as_secs_f64()
}
