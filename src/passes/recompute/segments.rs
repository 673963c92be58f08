//! Where keeping the fewest values is still too much: parts of the forward half are run again, products included.
//!
//! Where one value alone leads from what was computed to what follows (between the blocks of a residual network, say), the forward half is cut into segments. A segment
//! either keeps what its gradient reads, or only its last value; then it runs again from the value before it, when the gradient reaches it. The choice with
//! the fewest operations that never has more than a limit in memory is found by going through the cuts in order, with all choices that are not beaten in both.
//!
//! Source: Chen, Xu, Zhang, Guestrin, *Training Deep Nets with Sublinear Memory Cost*, 2016.

use super::super::fuse::classify::Class;
use super::cut::bytes;
use super::{reads_buffers, runs_once};
use crate::ir::cost::flops;
use crate::ir::graph::{Function, NodeId, ValueId};

/// Smaller values do not count: they are kept wherever they are made.
pub(super) const SMALL: u64 = 1 << 16;

/// So many choices for one cut are remembered at most.
const MOST_CHOICES: usize = 256;

/// What the gradient needs of the forward half, node by node.
pub(super) struct Forward<'f> {
    pub function: &'f Function,
    pub classes: &'f [Class],
    pub turn: NodeId,
    /// Whether a node's values are computed again by each reader, and whether they are to be kept, as far as segments do not run again.
    pub again: &'f [bool],
    pub kept: &'f [bool],
}

/// The parts of the forward half that run again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Segments {
    /// For each the node before the first one, which is kept, if there is one, and the last, which is kept as well.
    pub again: Vec<(Option<usize>, usize)>,
}

impl Segments {
    /// Whether a segment that runs again ends with a node.
    pub fn end_at(&self, node: usize) -> bool {
        self.again.iter().any(|(_, last)| node == *last)
    }

    /// Whether a node runs again when the gradient reaches it: all but the last of its segment.
    pub fn run_again(&self, node: usize) -> bool {
        self.again.iter().any(|(before, last)| before.is_none_or(|b| node > b) && node < *last)
    }
}

/// One way to come as far as a cut.
#[derive(Clone, Copy, Debug)]
struct Choice {
    /// Bytes that are kept when the next segment begins.
    bytes: u64,
    flops: u64,
    /// The cut before, the number of the choice there, and whether the segment between runs again.
    from: Option<(usize, usize, bool)>,
}

/// The segments that run again so that at most `limit` bytes are kept at a time, or as few as can be.
pub(super) fn plan(forward: &Forward<'_>, limit: u64) -> Segments {
    let cuts = Cuts::of(forward);
    let most = cuts.kept.last().zip(cuts.own.last()).map_or(0, |(kept, own)| kept + own);
    let most = most + cuts.beside.iter().max().unwrap_or(&0);
    if most <= limit || cuts.places.len() < 2 {
        return Segments::default();
    }
    if let Some(segments) = cuts.best(limit, 0) {
        return segments;
    }
    // A sixteenth of what may have to be added each time: the least limit that can be kept to.
    let mut limits = (1..=16).map(|part| limit + (most - limit) / 16 * part);
    limits.find_map(|limit| cuts.best(limit, WORTH_OF_A_BYTE)).unwrap_or_default()
}

/// The places between segments, and what is between the beginning and each.
struct Cuts {
    /// The node whose value leads on; none at the beginning. The last is the turn.
    places: Vec<Option<usize>>,
    /// Bytes of that value, those of it that are kept even if no segment runs again, and those that are kept if only the one behind it does.
    widths: Vec<u64>,
    own: Vec<u64>,
    begin: Vec<u64>,
    /// Bytes kept of all nodes before each place.
    kept: Vec<u64>,
    /// Operations of all nodes up to each place.
    flops: Vec<u64>,
    /// How many loops that never run again are up to there.
    loops: Vec<usize>,
    /// What the gradient needs beside values of the forward half while it goes from each place to the one before it.
    beside: Vec<u64>,
}

/// So many operations more for a byte less, where the limit cannot be kept to.
const WORTH_OF_A_BYTE: u64 = 1024;

/// While the gradient goes through a segment, so many of its largest values are on their way: what came in and what is made of it.
const ON_THEIR_WAY: u64 = 2;

/// And so many copies of the right operand of a product, transposed and packed; of a large one only parts at a time.
const COPIES: u64 = 2;
const LARGEST_COPY: u64 = 4 << 20;

impl Cuts {
    fn of(forward: &Forward<'_>) -> Cuts {
        let Forward { function, classes, turn, again, kept } = forward;
        let count = turn.0 as usize + 1;
        let zero = || vec![0];
        let mut cuts = Cuts {
            places: vec![None],
            widths: zero(),
            own: zero(),
            begin: zero(),
            kept: zero(),
            flops: zero(),
            loops: vec![0],
            beside: zero(),
        };
        let bridges = bridges(forward);
        let (mut bytes_kept, mut all_flops, mut loops, mut largest, mut copied) = (0, 0, 0, 0, 0);
        for node in 0..count {
            let width = bytes(function, node);
            let own = if kept[node] && width >= SMALL { width } else { 0 };
            largest = largest.max(own);
            if let (Class::Contract { .. }, [_, right]) = (&classes[node], inputs_of(function, node)) {
                copied = LARGEST_COPY.min(bytes(function, right.node.0 as usize)).max(copied);
            }
            all_flops += flops(function, function.graph.node(NodeId(node as u32))).unwrap_or(0).max(width / 4);
            loops += usize::from(runs_once(function, classes, node));
            if bridges[node] || node + 1 == count {
                cuts.places.push(Some(node));
                cuts.widths.push(if bridges[node] { width } else { own });
                cuts.own.push(own);
                cuts.begin.push(if again[node] { 0 } else { width - own });
                cuts.kept.push(bytes_kept);
                cuts.flops.push(all_flops);
                cuts.loops.push(loops);
                cuts.beside.push(ON_THEIR_WAY * std::mem::take(&mut largest) + COPIES * std::mem::take(&mut copied));
            }
            bytes_kept += own;
        }
        cuts
    }

    /// The choice with the fewest operations within a limit, where each byte kept at the end counts as some more.
    fn best(&self, limit: u64, byte: u64) -> Option<Segments> {
        let mut choices: Vec<Vec<Choice>> = vec![vec![Choice { bytes: 0, flops: 0, from: None }]];
        let last = self.places.len() - 1;
        for to in 1..=last {
            let mut found = Vec::new();
            for (from, before) in choices.iter().enumerate() {
                let inside = self.kept[to] - self.kept[from] - self.own[from];
                let at_once = inside + self.beside[from + 1..=to].iter().max().unwrap_or(&0);
                let again = self.loops[from] == self.loops[to] && to != last && inside > self.widths[to];
                for (number, choice) in before.iter().enumerate().filter(|(_, c)| c.bytes + at_once <= limit) {
                    if from + 1 == to {
                        let bytes = choice.bytes + inside + self.own[to];
                        found.push(Choice { bytes, flops: choice.flops, from: Some((from, number, false)) });
                    }
                    if again {
                        let flops = choice.flops + self.flops[to] - self.flops[from];
                        let begin = if choice.from.is_some_and(|f| f.2) { 0 } else { self.begin[from] };
                        let bytes = choice.bytes + begin + self.widths[to];
                        found.push(Choice { bytes, flops, from: Some((from, number, true)) });
                    }
                }
            }
            choices.push(unbeaten(found));
        }
        let mut at = (
            last,
            (0..choices[last].len())
                .min_by_key(|n| choices[last][*n].flops.saturating_add(choices[last][*n].bytes.saturating_mul(byte)))?,
        );
        let mut again = Vec::new();
        while let Some((from, number, runs_again)) = choices[at.0][at.1].from {
            if runs_again {
                again.push((self.places[from], self.places[at.0].expect("only the beginning has no node")));
            }
            at = (from, number);
        }
        again.reverse();
        Some(Segments { again })
    }
}

/// The choices than which no other has fewer bytes and no more operations.
fn unbeaten(mut choices: Vec<Choice>) -> Vec<Choice> {
    choices.sort_by_key(|c| (c.bytes, c.flops));
    let mut least = u64::MAX;
    choices.retain(|c| {
        let better = c.flops < least;
        least = least.min(c.flops);
        better
    });
    choices.truncate(MOST_CHOICES);
    choices
}

fn inputs_of(function: &Function, node: usize) -> &[ValueId] {
    &function.graph.node(NodeId(node as u32)).inputs
}

/// For each node of the forward half whether all that follows there reads nothing large of what came before but its value, and a product or a sum reads that.
fn bridges(forward: &Forward<'_>) -> Vec<bool> {
    let Forward { function, classes, turn, .. } = forward;
    let count = turn.0 as usize + 1;
    let is_view = |class: &Class| matches!(class, Class::View(_) | Class::Reshape);
    let is_free = |class: &Class| is_view(class) || matches!(class, Class::Source | Class::Pointwise { cost: 0, .. });
    let is_large = |node: usize| !is_free(&classes[node]) && bytes(function, node) >= SMALL;
    // What each node is a view of, the last node of the forward half that reads that, and whether one reads it from memory.
    let mut bases: Vec<usize> = (0..count).collect();
    let (mut last_read, mut in_memory) = (vec![0; count], vec![false; count]);
    for node in 0..count {
        let class = &classes[node];
        let inputs = inputs_of(function, node);
        if is_view(class) {
            bases[node] = bases[inputs[0].node.0 as usize];
            continue;
        }
        for input in inputs {
            let base = bases[input.node.0 as usize];
            last_read[base] = node;
            in_memory[base] |= reads_buffers(class) || matches!(class, Class::Reduce { .. });
        }
    }
    let mut open: Vec<usize> = Vec::new();
    let mut bridges = vec![false; count];
    for node in 0..count {
        open.retain(|before| last_read[*before] > node);
        if is_large(node) && last_read[node] > node {
            let alone = open.is_empty() && function.graph.node(NodeId(node as u32)).outputs.len() == 1;
            bridges[node] = alone && in_memory[node];
            open.push(node);
        }
    }
    bridges
}
