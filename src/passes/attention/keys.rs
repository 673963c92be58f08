//! Follows the axis of keys through attention: it is summed and folded, so that the readings of a [`Region`] do not know it.

use rustc_hash::FxHashMap;

use super::region::{Axes, Reading, Region, operand_axes};
use crate::ir::graph::{Graph, Node};
use crate::ir::ops::Op;

/// The region with readings that know the axis of keys, and that axis of the weights. `None` if there is not just one, or it is not the same axis wherever
/// a value is read.
pub fn followed(graph: &Graph, region: &Region) -> Option<(Region, usize)> {
    let Op::Contract(product) = &graph.node(region.product.value.node).op else { return None };
    let labels = [&product.left, &product.right];
    let weights = labels[region.weights];
    let is_key = |axis: &usize| !product.result.contains(&weights[*axis]) && region.sizes[*axis] > 1;
    let mut all = (0..weights.len()).filter(is_key);
    let (keys, None) = (all.next()?, all.next()) else { return None };
    let mut places = Places::default();
    for (operand, labels) in region.operands.iter().zip(labels) {
        places.put(operand, labels.iter().position(|label| *label == weights[keys]))?;
    }
    // The last first: all readers of a value have been seen before it.
    for (reading, operands) in region.inside.iter().rev() {
        let Some(place) = places.of(reading) else { continue };
        let node = graph.node(reading.value.node);
        for (operand, place) in operands.iter().zip(in_operands(graph, node, reading.axes.len(), place)?) {
            places.put(operand, place)?;
        }
    }
    let folds_keys = |(reading, operands): &(Reading, Vec<Reading>)| match &graph.node(reading.value.node).op {
        Op::Reduce(op) if places.of(reading).is_none() => places.of(&operands[0]).is_some_and(|p| op.axes.contains(&p)),
        _ => true,
    };
    if !region.inside.iter().all(folds_keys) {
        return None;
    }
    let known = |reading: &Reading| places.marked(reading, keys);
    let inside = region.inside.iter().map(|(reading, operands)| (known(reading), operands.iter().map(known).collect()));
    let inside = inside.collect();
    let outside = region.outside.iter().map(known).collect();
    let operands = region.operands.each_ref().map(known);
    Some((Region { inside, outside, operands, ..region.clone() }, keys))
}

/// Which axis of each operand of a node is that of keys, if it is the axis `place` of the result.
fn in_operands(graph: &Graph, node: &Node, rank: usize, place: usize) -> Option<Vec<Option<usize>>> {
    let axes: Axes = (0..rank).map(|axis| (axis == place).then_some(0)).collect();
    let operands = operand_axes(graph, node, &axes)?;
    Some(operands.into_iter().map(|axes| axes.iter().position(Option::is_some)).collect())
}

/// Where the axis of keys is.
#[derive(Default)]
struct Places(FxHashMap<Reading, usize>);

impl Places {
    fn of(&self, reading: &Reading) -> Option<usize> {
        self.0.get(reading).copied()
    }

    /// Notes a place, if there is one; `None` if it is another one than before.
    fn put(&mut self, reading: &Reading, place: Option<usize>) -> Option<()> {
        let Some(place) = place else { return Some(()) };
        (*self.0.entry(reading.clone()).or_insert(place) == place).then_some(())
    }

    /// The reading with the axis of keys.
    fn marked(&self, reading: &Reading, keys: usize) -> Reading {
        let mut reading = reading.clone();
        if let Some(place) = self.of(&reading) {
            reading.axes[place] = Some(keys);
        }
        reading
    }
}
