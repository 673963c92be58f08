//! Programs timed in turns, and compared by the ratios of times that lie next to each other: the speed of a core drifts.

use std::time::Instant;

use crate::driver::quantile;
use crate::driver::runner::Runner;

/// Seconds of a turn at least: the clock, and what the one before has left in the caches, are little of it.
const TURN: f64 = 3e-4;
const MOST_CALLS: f64 = 4096.0;

/// After so many rounds those that take so many times as long as the first are out.
const TRIALS: [(usize, f64); 2] = [(1, 1.5), (3, 1.1)];

/// How many rounds there are at least and at most.
#[derive(Clone, Copy)]
pub(super) struct Rounds {
    pub least: usize,
    pub most: usize,
}

/// For each of some programs its time as a share of the first one's, in the median of the rounds; `None` if there is no time for the least rounds.
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
    let mut shares: Vec<Vec<f64>> = vec![Vec::new(); contenders.len()];
    for round in 0..rounds.most {
        if Instant::now() >= until {
            if round < rounds.least {
                return None;
            }
            break;
        }
        let mut times = vec![f64::NAN; contenders.len()];
        for place in 0..running.len() {
            // Nobody always runs behind the same one.
            let number = running[(place + round) % running.len()];
            times[number] = turn(runner, contenders[number], calls);
        }
        running.iter().for_each(|number| shares[*number].push(times[*number] / times[0]));
        for (_, longest) in TRIALS.iter().filter(|(rounds, _)| *rounds == round + 1) {
            running.retain(|number| median(&shares[*number]) <= *longest);
        }
    }
    Some(shares.iter().map(|shares| median(shares)).collect())
}

/// Seconds of some calls.
fn turn(runner: &mut Runner<'_>, contender: usize, calls: usize) -> f64 {
    let start = Instant::now();
    (0..calls).for_each(|_| runner.call(contender));
    start.elapsed().as_secs_f64()
}

fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    quantile(&sorted, 0.5)
}
