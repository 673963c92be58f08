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
    let bytes = |v: ValueId| (view::elements(analysis.sizes_of(v)) * function.graph.type_of(v).dtype.bytes()) as i64;
    let temporary: BTreeSet<ValueId> = groups
        .values()
        .flat_map(|g| g.stores.iter().filter(|s| s.destination == Destination::Temporary).map(|s| s.value))
        .collect();
    let reads: BTreeMap<usize, BTreeSet<ValueId>> = groups
        .keys()
        .map(|g| (*g, grouping.members[*g].iter().flat_map(|u| &units.reads[*u]).map(|r| r.value).collect()))
        .collect();
    let mut readers: BTreeMap<ValueId, usize> = BTreeMap::new();
    reads.values().flatten().for_each(|v| *readers.entry(*v).or_default() += 1);
    let made = |g: &usize| -> i64 {
        groups[g].stores.iter().map(|s| s.value).filter(|v| temporary.contains(v)).map(bytes).sum()
    };
    let from_memory = |g: &usize| reads[g].iter().copied().filter(|v| temporary.contains(v)).collect::<Vec<ValueId>>();
    // What makes more than it reads, and alone reads it, does not keep anything in memory by waiting.
    let waits = |g: &usize| {
        let read = from_memory(g);
        read.iter().all(|v| readers[v] == 1) && made(g) > read.into_iter().map(bytes).sum()
    };
    let movable: BTreeSet<usize> = groups.keys().copied().filter(waits).collect();
    let mut waiting: BTreeMap<usize, usize> = groups.keys().map(|g| (*g, 0)).collect();
    for g in groups.keys() {
        grouping.after[*g].keys().for_each(|n| *waiting.entry(*n).or_default() += 1);
    }
    let mut ready: BTreeSet<usize> = waiting.iter().filter(|(_, n)| **n == 0).map(|(g, _)| *g).collect();
    let mut out = Vec::new();
    while !ready.is_empty() {
        let growth = |g: &usize| {
            let freed: i64 = from_memory(g).into_iter().filter(|v| readers[v] == 1).map(bytes).sum();
            (made(g) - freed, *g)
        };
        let next = *ready.iter().min_by_key(|g| growth(g)).expect("the set is not empty");
        ready.remove(&next);
        for value in &reads[&next] {
            *readers.get_mut(value).expect("every read was counted") -= 1;
        }
        for after in grouping.after[next].keys() {
            let left = waiting.get_mut(after).expect("every group was counted");
            *left -= 1;
            if *left == 0 {
                ready.insert(*after);
            }
        }
        out.push(next);
    }
    late(&out, grouping, &movable)
}

/// The order with each of the `movable` groups as late as it can run, but for others of them.
fn late(order: &[usize], grouping: &Grouping, movable: &BTreeSet<usize>) -> Vec<usize> {
    let mut backwards: Vec<usize> = Vec::with_capacity(order.len());
    for group in order.iter().rev() {
        let first_after = || backwards.iter().rposition(|other| grouping.after[*group].contains_key(other));
        let after = movable.contains(group).then(first_after).flatten().map_or(backwards.len(), |place| place + 1);
        let others = backwards[after..].iter().take_while(|other| movable.contains(other)).count();
        backwards.insert(after + others, *group);
    }
    backwards.reverse();
    backwards
}
