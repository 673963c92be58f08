//! Which calls go hand in hand: each reads what an earlier one of them wrote, strip by strip.

use std::collections::BTreeMap;
use std::ops::Range;

use super::{Slices, bytes, called};
use crate::ir::loops::steps::each_section;
use crate::ir::loops::sums::gcd;
use crate::ir::loops::{BufferId, Call, Program, Section, Step};
use crate::passes::plan_memory::is_arena;

/// A call joins one of the last so many groups.
const MOST_BETWEEN: usize = 12;

/// Who joins leaves at least one in so many of the strips into which it, or the group, could be cut: in few strips of what could be many nothing stays in the cache.
const MOST_LOST: u64 = 3;

/// Calls that run strip by strip, or one step that does not, by their places among the steps of the program.
#[derive(Clone, Debug)]
pub struct Group {
    pub calls: Vec<usize>,
    /// The most strips into which all of them can be cut.
    pub rounds: u64,
    /// The buffers that they touch, and whether they write them.
    touched: BTreeMap<u32, bool>,
    /// Whether others may join.
    open: bool,
}

/// The groups of a program in the order in which they run.
pub struct Groups<'p> {
    program: &'p Program,
    slices: &'p [Option<Slices>],
    allowed: &'p dyn Fn(usize) -> bool,
    /// The first and the last step that touch each buffer.
    lives: Vec<Option<(usize, usize)>>,
    groups: Vec<Group>,
}

impl<'p> Groups<'p> {
    /// No groups yet; only calls at `allowed` places join others.
    pub fn new(program: &'p Program, slices: &'p [Option<Slices>], allowed: &'p dyn Fn(usize) -> bool) -> Groups<'p> {
        let mut lives: Vec<Option<(usize, usize)>> = vec![None; program.buffers.len()];
        for (at, step) in program.steps.iter().enumerate() {
            each_section(&mut [step.clone()], &mut |section| {
                let life = lives[section.buffer as usize].get_or_insert((at, at));
                life.1 = at;
            });
        }
        Groups { program, slices, allowed, lives, groups: Vec::new() }
    }

    /// All groups.
    pub fn finish(self) -> Vec<Group> {
        self.groups
    }

    /// The next step: a call joins an earlier group, past others that have nothing to do with either, or begins one.
    pub fn add(&mut self, at: usize, step: &Step) {
        let Some(call) = called(step) else {
            // Nothing moves past what is no call.
            self.groups.iter_mut().for_each(|g| g.open = false);
            self.groups.push(Group { calls: vec![at], rounds: 1, touched: BTreeMap::new(), open: false });
            return;
        };
        let touched = self.touched(call);
        let slices = self.slices[call.kernel as usize].as_ref().filter(|_| (self.allowed)(at));
        let last = (0..self.groups.len()).rev().take(MOST_BETWEEN).take_while(|number| self.groups[*number].open);
        let place = slices.and_then(|slices| {
            let mut joined = last.filter_map(|number| Some((number, self.joined(&self.groups[number], call, slices)?)));
            joined.find_map(|(number, rounds)| {
                let before = self.before(number..self.groups.len(), &touched)?;
                let passes = number + 1 + before.len() < self.groups.len();
                (!passes || self.growth(at, &touched) <= 0).then_some((number, rounds, before))
            })
        });
        let Some((number, rounds, before)) = place else {
            let rounds = slices.map_or(1, |s| s.rounds.extent);
            self.groups.push(Group { calls: vec![at], rounds, touched, open: true });
            return;
        };
        let group = &mut self.groups[number];
        group.calls.push(at);
        group.rounds = rounds;
        touched.into_iter().for_each(|(buffer, writes)| *group.touched.entry(buffer).or_default() |= writes);
        self.run_first(number, &before);
        self.join_earlier(number + before.len());
    }

    /// Moves groups to before group `number`.
    fn run_first(&mut self, number: usize, before: &[usize]) {
        for (moved, from) in before.iter().enumerate() {
            let group = self.groups.remove(*from);
            self.groups.insert(number + moved, group);
        }
    }

    /// Joins a group with an earlier one that nothing has to stay behind, if it reads what that writes: two operands of a product come from a group each.
    fn join_earlier(&mut self, number: usize) {
        let earlier = (0..number).rev().take(MOST_BETWEEN).take_while(|h| self.groups[*h].open);
        let mut found = earlier.filter_map(|first| {
            let rounds = self.joined_groups(first, number)?;
            let before = self.before(first..number, &self.groups[number].touched)?;
            (before.len() == number - first - 1).then_some((first, rounds, before))
        });
        let Some((first, rounds, before)) = found.next() else { return };
        let Group { calls, touched, .. } = self.groups.remove(number);
        let group = &mut self.groups[first];
        group.calls.extend(calls);
        group.rounds = rounds;
        touched.into_iter().for_each(|(buffer, writes)| *group.touched.entry(buffer).or_default() |= writes);
        self.run_first(first, &before);
    }

    /// The strips of a group that all calls of a later one have joined.
    fn joined_groups(&self, first: usize, second: usize) -> Option<u64> {
        let (first, second) = (&self.groups[first], &self.groups[second]);
        let rounds = common(first.rounds, second.rounds)?;
        let mut reads = false;
        for call in second.calls.iter().filter_map(|at| called(&self.program.steps[*at])) {
            reads |= self.meets_apart(first, call, self.slices[call.kernel as usize].as_ref()?, rounds)?;
        }
        reads.then_some(rounds)
    }

    /// The groups behind the first of some that have to run before it so that a call of it may touch these buffers, such as one that packs what the call reads;
    /// `None` if one of them needs the group.
    fn before(&self, groups: Range<usize>, touched: &BTreeMap<u32, bool>) -> Option<Vec<usize>> {
        let number = groups.start;
        let mut before: Vec<usize> = Vec::new();
        let mut needed = touched.clone();
        for other in (number + 1..groups.end).rev() {
            let group = &self.groups[other];
            if conflict(&group.touched, &needed) {
                group.touched.iter().for_each(|(buffer, writes)| *needed.entry(*buffer).or_default() |= *writes);
                before.push(other);
            }
        }
        before.reverse();
        let stays = |other: &usize| !before.contains(other);
        let passed = |moved: &usize| (number..*moved).filter(stays);
        let meets =
            |moved: &usize| passed(moved).any(|o| conflict(&self.groups[o].touched, &self.groups[*moved].touched));
        (!before.iter().any(meets)).then_some(before)
    }

    /// The bytes of the workspace that are in use more once a call has run.
    fn growth(&self, at: usize, touched: &BTreeMap<u32, bool>) -> i64 {
        let change = |buffer: &u32| {
            let life = self.lives[*buffer as usize];
            let bytes = bytes(&self.program.buffers[*buffer as usize]) as i64;
            life.map_or(0, |(first, last)| if first == at { bytes } else { 0 } - if last == at { bytes } else { 0 })
        };
        touched.keys().filter(|b| is_arena(&self.program.buffers[**b as usize])).map(change).sum()
    }

    fn touched(&self, call: &Call) -> BTreeMap<u32, bool> {
        let mut touched = BTreeMap::new();
        for (parameter, section) in self.program.kernels[call.kernel as usize].buffers.iter().zip(&call.buffers) {
            *touched.entry(section.buffer).or_default() |= parameter.usage.writes();
        }
        touched
    }

    /// The strips of a group that a call has joined; `None` if it reads nothing that they write, or a strip would need another one.
    fn joined(&self, group: &Group, call: &Call, slices: &Slices) -> Option<u64> {
        let rounds = common(group.rounds, slices.rounds.extent)?;
        let reads = self.meets_apart(group, call, slices, rounds)?;
        reads.then_some(rounds)
    }

    /// Whether a call reads what a group writes, if in so many strips each of the call needs but one of the group.
    fn meets_apart(&self, group: &Group, call: &Call, slices: &Slices, rounds: u64) -> Option<bool> {
        let parameters = &self.program.kernels[call.kernel as usize].buffers;
        let mut reads = false;
        for (number, (parameter, section)) in parameters.iter().zip(&call.buffers).enumerate() {
            let Some(written) = group.touched.get(&section.buffer) else { continue };
            reads |= *written;
            if !written && !parameter.usage.writes() {
                continue;
            }
            let own = slices.are_apart(BufferId(number as u32), parameter.elements, rounds);
            if !own || !self.meet_apart(group, section, parameter.elements, rounds) {
                return None;
            }
        }
        Some(reads)
    }

    /// Whether all calls of a group that touch a buffer touch this section of it, each strip a slice of its own.
    fn meet_apart(&self, group: &Group, section: &Section, elements: u64, rounds: u64) -> bool {
        group.calls.iter().filter_map(|at| called(&self.program.steps[*at])).all(|call| {
            let kernel = &self.program.kernels[call.kernel as usize];
            let Some(slices) = &self.slices[call.kernel as usize] else { return false };
            call.buffers.iter().enumerate().filter(|(_, s)| s.buffer == section.buffer).all(|(number, s)| {
                let same = s == section && kernel.buffers[number].elements == elements;
                same && slices.are_apart(BufferId(number as u32), elements, rounds)
            })
        })
    }
}

/// Whether the order of two calls matters.
fn conflict(a: &BTreeMap<u32, bool>, b: &BTreeMap<u32, bool>) -> bool {
    b.iter().any(|(buffer, writes)| a.get(buffer).is_some_and(|written| *written || *writes))
}

/// The most strips into which both of two can be cut; `None` if these are none, or too few of many.
fn common(a: u64, b: u64) -> Option<u64> {
    let rounds = gcd(a, b);
    (rounds > 1 && rounds.saturating_mul(MOST_LOST) >= a.min(b)).then_some(rounds)
}

#[cfg(test)]
mod tests {
    use super::common;

    #[test]
    fn who_leaves_few_strips_of_many_does_not_join() {
        assert_eq!(common(256, 8), Some(8));
        assert_eq!(common(14, 4), Some(2));
        // 98 blocks of elements and 8 blocks of samples have halves alone in common.
        assert_eq!(common(98, 8), None);
        assert_eq!(common(98, 256), None);
        assert_eq!(common(7, 8), None);
    }
}
