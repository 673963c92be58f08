//! Orders the groups and says what each stores.
//!
//! Among the groups that may run next, the one that frees most memory (or needs least) runs first, so that a gradient is consumed as
//! soon as it is whole. What depends on arguments alone could run at any time before it is read: it runs right before.

use std::collections::{BTreeMap, BTreeSet};

use super::analysis::Analysis;
use super::classify::Class;
use super::inline::Inlined;
use super::merge::Grouping;
use super::units::{Units, Work};
use super::{Destination, Group, Kind, Store};
use crate::ir::graph::{Function, NodeId, ValueId};
use crate::ir::scalar::Monoid;
use crate::passes::lower::view;

/// The groups in the order in which they run.
pub fn schedule(
    function: &Function,
    analysis: &Analysis,
    inlined: &Inlined,
    units: &Units,
    grouping: &Grouping,
) -> Vec<Group> {
    let alive: Vec<usize> = (0..grouping.members.len()).filter(|g| !grouping.members[*g].is_empty()).collect();
    let groups: BTreeMap<usize, Group> =
        alive.iter().map(|g| (*g, group(function, analysis, inlined, units, grouping, *g))).collect();
    order(function, analysis, units, grouping, &groups).into_iter().map(|g| groups[&g].clone()).collect()
}

fn group(
    function: &Function,
    analysis: &Analysis,
    inlined: &Inlined,
    units: &Units,
    grouping: &Grouping,
    number: usize,
) -> Group {
    let own = &grouping.members[number];
    let members: Vec<NodeId> = own
        .iter()
        .filter_map(|u| match units.work[*u] {
            Work::Node(id) => Some(id),
            Work::Copy { .. } => None,
        })
        .collect();
    let mut stores = Vec::new();
    for unit in own {
        if let Work::Copy { value, result } = units.work[*unit] {
            stores.push(Store { value, destination: Destination::Result(result) });
        }
    }
    for id in &members {
        for output in 0..function.graph.node(*id).outputs.len() as u32 {
            stores_of(function, analysis, units, grouping, number, ValueId { node: *id, output }, &mut stores);
        }
    }
    let mut inside = BTreeSet::new();
    members.iter().for_each(|id| collect_inlined(inlined, *id, &mut inside));
    let space = units.spaces[own[0]].clone();
    Group { kind: kind(analysis, &members), space, members, inlined: inside.into_iter().collect(), stores }
}

fn kind(analysis: &Analysis, members: &[NodeId]) -> Kind {
    // Of two folds, the one that finds the other's result as well is what the group does.
    let finds_place =
        |id: &&NodeId| matches!(analysis.class(**id), Class::Reduce { monoid: Monoid::ArgMax | Monoid::ArgMin, .. });
    if let Some(id) = members.iter().find(finds_place) {
        return Kind::Reduce(*id);
    }
    let folding = members.iter().find_map(|id| match analysis.class(*id) {
        Class::Reduce { .. } => Some(Kind::Reduce(*id)),
        Class::Contract { .. } => Some(Kind::Contract(*id)),
        Class::Opaque => Some(Kind::Opaque(*id)),
        Class::Loop => Some(Kind::Loop(*id)),
        _ => None,
    });
    folding.unwrap_or(if members.is_empty() { Kind::Copy } else { Kind::Map })
}

fn collect_inlined(inlined: &Inlined, node: NodeId, inside: &mut BTreeSet<NodeId>) {
    for read in &inlined.reads[node.0 as usize] {
        if inlined.inside[read.value.node.0 as usize] && inside.insert(read.value.node) {
            collect_inlined(inlined, read.value.node, inside);
        }
    }
}

/// Where a value computed by group `number` has to be stored: at its results, or in the workspace if only others read it.
fn stores_of(
    function: &Function,
    analysis: &Analysis,
    units: &Units,
    grouping: &Grouping,
    number: usize,
    value: ValueId,
    stores: &mut Vec<Store>,
) {
    let results = (0..function.results.len()).filter(|r| function.results[*r].value == value && units.direct[*r]);
    let direct: Vec<Store> = results.map(|r| Store { value, destination: Destination::Result(r as u32) }).collect();
    let read_elsewhere = units.readers_of(value).any(|unit| grouping.of_unit[unit] != number);
    let opaque = analysis.class(value.node).is_alone();
    if direct.is_empty() && (read_elsewhere || opaque) {
        stores.push(Store { value, destination: Destination::Temporary });
    }
    stores.extend(direct);
}

/// A topological order of the groups by the memory that is in use after each.
fn order(
    function: &Function,
    analysis: &Analysis,
    units: &Units,
    grouping: &Grouping,
    groups: &BTreeMap<usize, Group>,
) -> Vec<usize> {
    let memory = Memory::new(function, analysis, units, grouping, groups);
    soon(late(&greedy(&memory, grouping), grouping, &memory), grouping, &memory)
}

/// What groups make in the workspace and read of it.
struct Memory {
    bytes: BTreeMap<ValueId, i64>,
    /// Of each group, by number.
    made: BTreeMap<usize, Vec<ValueId>>,
    reads: BTreeMap<usize, Vec<ValueId>>,
    readers: BTreeMap<ValueId, Vec<usize>>,
}

impl Memory {
    fn new(
        function: &Function,
        analysis: &Analysis,
        units: &Units,
        grouping: &Grouping,
        groups: &BTreeMap<usize, Group>,
    ) -> Memory {
        let size = |v: ValueId| (view::elements(analysis.sizes_of(v)) * function.graph.type_of(v).dtype.bytes()) as i64;
        let temporary = |g: &Group| -> Vec<ValueId> {
            g.stores.iter().filter(|s| s.destination == Destination::Temporary).map(|s| s.value).collect()
        };
        let made: BTreeMap<usize, Vec<ValueId>> = groups.iter().map(|(n, g)| (*n, temporary(g))).collect();
        let bytes: BTreeMap<ValueId, i64> = made.values().flatten().map(|v| (*v, size(*v))).collect();
        let mut reads = BTreeMap::new();
        let mut readers: BTreeMap<ValueId, Vec<usize>> = BTreeMap::new();
        for group in groups.keys() {
            let all = grouping.members[*group].iter().flat_map(|u| &units.reads[*u]).map(|r| r.value);
            let own: BTreeSet<ValueId> = all.filter(|v| bytes.contains_key(v)).collect();
            own.iter().for_each(|v| readers.entry(*v).or_default().push(*group));
            reads.insert(*group, own.into_iter().collect());
        }
        Memory { bytes, made, reads, readers }
    }

    fn sum<'v>(&self, values: impl Iterator<Item = &'v ValueId>) -> i64 {
        values.map(|v| self.bytes[v]).sum()
    }
}

/// How many groups behind one another are looked at for what they free, and how many in all with those that they wait for.
const FORESIGHT: usize = 5;
const MOST_AHEAD: usize = 10;

/// The state of choosing group after group.
struct Choice<'a> {
    memory: &'a Memory,
    /// How many readers of each value have not run.
    readers: BTreeMap<ValueId, usize>,
    /// The groups that each waits for.
    waiting: BTreeMap<usize, BTreeSet<usize>>,
}

/// Each time the group that frees most, or needs least.
fn greedy(memory: &Memory, grouping: &Grouping) -> Vec<usize> {
    let readers = memory.readers.iter().map(|(v, r)| (*v, r.len())).collect();
    let mut choice = Choice { memory, readers, waiting: memory.made.keys().map(|g| (*g, BTreeSet::new())).collect() };
    for g in memory.made.keys() {
        grouping.after[*g].keys().for_each(|n| {
            choice.waiting.entry(*n).or_default().insert(*g);
        });
    }
    let mut ready: BTreeSet<usize> = choice.waiting.iter().filter(|(_, w)| w.is_empty()).map(|(g, _)| *g).collect();
    let mut out = Vec::new();
    while let Some(next) = ready.iter().copied().min_by_key(|g| (choice.growth(*g), *g)) {
        ready.remove(&next);
        for value in &memory.reads[&next] {
            *choice.readers.get_mut(value).expect("every read was counted") -= 1;
        }
        for after in grouping.after[next].keys() {
            let left = choice.waiting.get_mut(after).expect("every group was counted");
            left.remove(&next);
            if left.is_empty() {
                ready.insert(*after);
            }
        }
        out.push(next);
    }
    out
}

impl Choice<'_> {
    /// The bytes that are in use more once `group` has run. Where its one result is for one group alone that frees more than it makes, that is counted too, and so on,
    /// each with what is made for it alone: partial sums are made to be added up, and both operands of a product to be multiplied.
    fn growth(&self, group: usize) -> i64 {
        let mut together = BTreeSet::from([group]);
        let (mut last, mut least) = (group, self.change(&together));
        for _ in 0..FORESIGHT {
            let [value] = self.memory.made[&last].as_slice() else { break };
            let Some([reader]) = self.memory.readers.get(value).map(Vec::as_slice) else { break };
            if !self.collect(*reader, &mut together) {
                break;
            }
            (last, least) = (*reader, least.min(self.change(&together)));
        }
        least
    }

    /// Adds a group and all that it waits for; whether these are few enough, and make nothing for others.
    fn collect(&self, group: usize, together: &mut BTreeSet<usize>) -> bool {
        together.insert(group);
        let is_only_reader = |before: &usize| {
            self.memory.made[before].iter().all(|value| self.memory.readers.get(value).is_some_and(|r| *r == [group]))
        };
        let collected = |before: &usize, together: &mut BTreeSet<usize>| {
            together.contains(before) || is_only_reader(before) && self.collect(*before, together)
        };
        together.len() <= MOST_AHEAD && self.waiting[&group].iter().all(|before| collected(before, together))
    }

    /// The bytes that are in use more once all these groups have run.
    fn change(&self, together: &BTreeSet<usize>) -> i64 {
        let made: i64 = together.iter().map(|group| self.memory.sum(self.memory.made[group].iter())).sum();
        let mut reads: BTreeMap<ValueId, usize> = BTreeMap::new();
        for value in together.iter().flat_map(|group| &self.memory.reads[group]) {
            *reads.entry(*value).or_default() += 1;
        }
        let freed = reads.iter().filter(|(value, count)| self.readers[value] == **count).map(|(value, _)| value);
        made - self.memory.sum(freed)
    }
}

/// The order in which a group waits for its first reader if that takes no memory: if it makes more than what only it keeps waiting.
fn late(order: &[usize], grouping: &Grouping, memory: &Memory) -> Vec<usize> {
    let makers = memory.made.iter().flat_map(|(group, made)| made.iter().map(|v| (*v, *group))).collect();
    let mut waiting = Waiting { memory, grouping, makers, places: BTreeMap::new() };
    for (place, group) in order.iter().enumerate().rev() {
        let places = &waiting.places;
        let first = grouping.after[*group].keys().map(|after| places[after]).min();
        // Where it would keep what it reads for itself alone, it runs before the last of the others.
        let others = memory.reads[group].iter().flat_map(|v| &memory.readers[v]).filter_map(|other| places.get(other));
        let last = others.filter(|other| first.is_some_and(|first| **other < first)).max().copied();
        let before = |(at, _): Moved| (at, -(places.len() as i64) - 1);
        let moved = first
            .into_iter()
            .chain(last)
            .map(before)
            .find(|moved| memory.sum(memory.made[group].iter()) > waiting.kept(*group, *moved, LONGEST_CHAIN));
        waiting.places.insert(*group, moved.unwrap_or((place, 0)));
    }
    let mut out = order.to_vec();
    out.sort_by_key(|group| waiting.places[group]);
    out
}

/// So many groups in a row wait together.
const LONGEST_CHAIN: usize = 8;

/// A group that does not move stands at its place, one that does before the place of another: later ones closer to it.
type Moved = (usize, i64);

/// What becomes of groups that wait.
struct Waiting<'a> {
    memory: &'a Memory,
    grouping: &'a Grouping,
    makers: BTreeMap<ValueId, usize>,
    /// Of all groups behind those that are still to be looked at.
    places: BTreeMap<usize, Moved>,
}

impl Waiting<'_> {
    /// The bytes that stay in use if a group waits until then: what nobody else reads that late, or what its makers keep if they wait as well.
    fn kept(&self, group: usize, moved: Moved, chain: usize) -> i64 {
        let alone = |v: &&ValueId| {
            let others = self.memory.readers[*v].iter().filter_map(|other| self.places.get(other));
            others.max().is_none_or(|last| *last < moved)
        };
        let of_value = |v: &ValueId| {
            let bytes = self.memory.bytes[v];
            let maker = self.makers[v];
            let only = self.memory.readers[v] == [group] && self.memory.made[&maker].len() == 1;
            // What reads a parameter cannot wait for longer than its update does.
            let mut others = self.grouping.after[maker].keys().filter(|after| **after != group);
            let can_wait = others.all(|after| self.places.get(after).is_some_and(|place| *place >= moved));
            if only && can_wait && chain > 0 { bytes.min(self.kept(maker, moved, chain - 1)) } else { bytes }
        };
        self.memory.reads[&group].iter().filter(alone).map(of_value).sum()
    }
}

/// The order in which a group that makes less than it frees runs as soon as it can and frees as much.
fn soon(order: Vec<usize>, grouping: &Grouping, memory: &Memory) -> Vec<usize> {
    let mut places: BTreeMap<usize, Moved> = order.iter().enumerate().map(|(at, group)| (*group, (at, 0))).collect();
    let mut before: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for group in &order {
        grouping.after[*group].keys().for_each(|after| before.entry(*after).or_default().push(*group));
    }
    for (at, group) in order.iter().enumerate() {
        let others = |v: &ValueId| memory.readers[v].iter().filter(|other| *other != group).map(|other| places[other]);
        let freed = memory.reads[group].iter().filter(|v| others(v).all(|other| other < (at, 0)));
        let freed: Vec<&ValueId> = freed.collect();
        if memory.sum(memory.made[group].iter()) >= memory.sum(freed.iter().copied()) {
            continue;
        }
        let earlier = before.get(group).into_iter().flatten().map(|other| places[other]);
        let last = earlier.chain(freed.iter().flat_map(|v| others(v))).max();
        let place = last.map_or((at, 0), |(after, _)| (after, at as i64 + 1));
        if place < (at, 0) {
            places.insert(*group, place);
        }
    }
    let mut out = order;
    out.sort_by_key(|group| places[group]);
    out
}
