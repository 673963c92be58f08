//! Joins units of the same space into groups, as long as no group then has to run both before and after another.

use std::collections::{BTreeMap, BTreeSet};

use super::Apart;
use super::units::{Units, Work};

/// No kernel gets more than this many nodes that are not inlined.
const LARGEST_GROUP: usize = 32;

/// Groups of units; a unit's group is `of_unit[unit]`, an index into `members`, whose dead entries are empty.
#[derive(Clone, Debug)]
pub struct Grouping {
    pub of_unit: Vec<usize>,
    pub members: Vec<Vec<usize>>,
    /// For each group, the groups that have to run after it, and whether only the same points meet.
    pub after: Vec<BTreeMap<usize, bool>>,
    before: Vec<BTreeSet<usize>>,
}

/// One side of a search for a path.
struct Search {
    seen: Vec<bool>,
    frontier: Vec<usize>,
}

impl Search {
    fn new(groups: usize) -> Search {
        Search { seen: vec![false; groups], frontier: Vec::new() }
    }

    fn reach(&mut self, groups: impl Iterator<Item = usize>) {
        for group in groups {
            if !std::mem::replace(&mut self.seen[group], true) {
                self.frontier.push(group);
            }
        }
    }
}

/// Joins greedily: first folds that find each other's results, then every unit with the makers of what it reads at the same point, then siblings that read the same.
/// What is in memory for others anyway is read again by units of the gradient that come much later.
pub fn merge(units: &Units) -> Grouping {
    let mut groups = Grouping::new(units);
    for (extreme, place) in &units.companions {
        groups.try_join(units, *extreme, *place);
    }
    for unit in 0..units.work.len() {
        for read in units.reads[unit].iter().filter(|r| r.same_point) {
            if let Some(maker) = units.maker(read.value)
                && (near(units, maker, unit) || units.readers_of(read.value).count() == 1)
            {
                groups.try_join(units, maker, unit);
            }
        }
    }
    groups.join_siblings(units);
    groups
}

/// Whether two units, of which `b` comes later, may run as one without keeping something for long: no product stands between them, or they are no large ones of the gradient, or
/// what the later one makes goes into results.
fn near(units: &Units, a: usize, b: usize) -> bool {
    let large_and_late = |unit: usize| units.late[unit] && units.large[unit];
    units.stage[a] == units.stage[b] || !(large_and_late(a) && large_and_late(b)) || units.ends[b]
}

impl Grouping {
    fn new(units: &Units) -> Grouping {
        let count = units.work.len();
        let mut groups = Grouping {
            of_unit: (0..count).collect(),
            members: (0..count).map(|u| vec![u]).collect(),
            after: vec![BTreeMap::new(); count],
            before: vec![BTreeSet::new(); count],
        };
        for edge in &units.edges {
            let same = groups.after[edge.before].entry(edge.after).or_insert(true);
            *same &= edge.same_point;
            groups.before[edge.after].insert(edge.before);
        }
        groups
    }

    /// Joins the groups of two units if that is legal.
    fn try_join(&mut self, units: &Units, a: usize, b: usize) -> bool {
        let (a, b) = (self.of_unit[a], self.of_unit[b]);
        if a == b || !self.fits(units, a, b) {
            return false;
        }
        let direct = [self.after[a].get(&b), self.after[b].get(&a)];
        if direct.iter().flatten().any(|same| !**same) || self.detour(a, b) || self.detour(b, a) {
            return false;
        }
        self.join(a.min(b), a.max(b));
        true
    }

    fn fits(&self, units: &Units, a: usize, b: usize) -> bool {
        let (x, y) = (&self.members[a], &self.members[b]);
        let folds: Vec<usize> = x.iter().chain(y).copied().filter(|u| units.folds[*u]).collect();
        let one_fold = match folds[..] {
            [] | [_] => true,
            [a, b] => units.companions.contains(&(a, b)) || units.companions.contains(&(b, a)),
            _ => false,
        };
        let alone = x.iter().chain(y).any(|u| units.alone[*u]);
        let one_half = units.late[x[0]] == units.late[y[0]];
        units.spaces[x[0]] == units.spaces[y[0]] && one_fold && one_half && !alone && x.len() + y.len() <= LARGEST_GROUP
    }

    /// Which units that read each other's results are in different groups, and why.
    pub fn apart(&self, units: &Units) -> Vec<Apart> {
        let node = |unit: usize| match units.work[unit] {
            Work::Node(id) => Some(id),
            Work::Copy { .. } => None,
        };
        let mut apart = Vec::new();
        for reader in 0..units.work.len() {
            for read in &units.reads[reader] {
                let Some(maker) = units.maker(read.value).filter(|m| self.of_unit[*m] != self.of_unit[reader]) else {
                    continue;
                };
                if let (Some(a), Some(b)) = (node(maker), node(reader)) {
                    apart.push(Apart {
                        maker: a,
                        reader: b,
                        why: self.why_apart(units, maker, reader, read.same_point),
                    });
                }
            }
        }
        apart
    }

    fn why_apart(&self, units: &Units, maker: usize, reader: usize, same_point: bool) -> &'static str {
        let (a, b) = (&self.members[self.of_unit[maker]], &self.members[self.of_unit[reader]]);
        let some = |flags: &[bool]| a.iter().chain(b).any(|u| flags[*u]);
        if units.alone[maker] || units.alone[reader] {
            "one of them is a nest or a loop of its own"
        } else if !same_point {
            "elements are read at other places than where they are made"
        } else if units.spaces[a[0]] != units.spaces[b[0]] {
            "they run over different axes"
        } else if some(&units.folds) && a.iter().chain(b).filter(|u| units.folds[**u]).count() > 1 {
            "both fold"
        } else if units.late[a[0]] != units.late[b[0]] {
            "the gradient is computed after the loss"
        } else if a.len() + b.len() > LARGEST_GROUP {
            "the kernel would be too large"
        } else if !near(units, maker, reader) {
            "what is made would be kept until after a product"
        } else {
            "another kernel has to run between them"
        }
    }

    /// Whether a third group runs after `from` and before `to`.
    ///
    /// Searched from both ends in turn: the smaller side decides how long it takes.
    fn detour(&self, from: usize, to: usize) -> bool {
        let forward = |g: usize| self.after[g].keys().copied();
        let backward = |g: usize| self.before[g].iter().copied();
        let mut sides = [Search::new(self.members.len()), Search::new(self.members.len())];
        sides[0].reach(forward(from).filter(|g| *g != to));
        sides[1].reach(backward(to).filter(|g| *g != from));
        loop {
            let Some(group) = sides[0].frontier.pop() else { return false };
            if sides[1].seen[group] {
                return true;
            }
            sides[0].reach(forward(group));
            let Some(group) = sides[1].frontier.pop() else { return false };
            if sides[0].seen[group] {
                return true;
            }
            sides[1].reach(backward(group));
        }
    }

    /// Makes `gone` part of `kept`.
    fn join(&mut self, kept: usize, gone: usize) {
        let moved = std::mem::take(&mut self.members[gone]);
        moved.iter().for_each(|u| self.of_unit[*u] = kept);
        self.members[kept].extend(moved);
        self.members[kept].sort_unstable();
        for (next, same) in std::mem::take(&mut self.after[gone]) {
            self.before[next].remove(&gone);
            if next != kept {
                *self.after[kept].entry(next).or_insert(true) &= same;
                self.before[next].insert(kept);
            }
        }
        for previous in std::mem::take(&mut self.before[gone]) {
            let same = self.after[previous].remove(&gone).unwrap_or(true);
            if previous != kept {
                *self.after[previous].entry(kept).or_insert(true) &= same;
                self.before[kept].insert(previous);
            }
        }
        self.before[kept].remove(&kept);
        self.after[kept].remove(&kept);
    }

    /// Joins groups that read the same array at the same points, so that it is read once.
    fn join_siblings(&mut self, units: &Units) {
        let mut readers: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        for unit in 0..units.work.len() {
            for read in units.reads[unit].iter().filter(|r| r.same_point) {
                if matches!(units.work[unit], Work::Node(_)) {
                    readers.entry(read.value).or_default().push(unit);
                }
            }
        }
        for siblings in readers.into_values() {
            for pair in siblings.windows(2) {
                if near(units, pair[0], pair[1]) {
                    self.try_join(units, pair[0], pair[1]);
                }
            }
        }
    }
}
