//! Attention whose queries look at no key behind their own place: the hidden half of the weights is not computed.
//!
//! Under a causal mask the weights `[.., queries, keys]` are 0 above the diagonal. Queries are taken in a few groups, one after the other, and each group with the keys up to its last
//! query alone: for four groups five eighths of the weights are left, forward and backward. A mask is found by what it says of places ([`hidden`]), so any order of operations that
//! gives exactly 0 there will do. A weight of exactly 0 adds nothing, so the result is the same sum with fewer terms; only a value that is hidden and no number is not read any more.
//!
//! Weights that are dropped out stay whole: their random numbers are drawn for all of them in one order.

use super::region::Region;
use super::rounds::Range;
use super::{hidden, keys};
use crate::ir::graph::Graph;

/// Fewer bytes of weights stay whole: there is little to gain.
pub const LEAST_BYTES: u64 = 1 << 17;

/// So many groups at most if each has so many queries at least: products of fewer rows and keys take longer by the operation, and more groups are more code
/// (`docs/performance.md`).
const GROUPS: [(usize, usize); 2] = [(4, 64), (8, 128)];

/// Groups begin at multiples of this many queries, so that their keys are whole vectors.
const WHOLE: usize = 16;

/// Queries that are taken together, and the keys that they see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    pub queries: Range,
    pub keys: Range,
}

/// The region with readings that know the axis of keys, and at least two groups of its queries; `None` if that leaves nothing out.
pub fn of(graph: &Graph, region: &Region) -> Option<(Region, Vec<Group>)> {
    if region.draws || region.bytes < LEAST_BYTES {
        return None;
    }
    let (region, keys) = keys::followed(graph, region)?;
    let diagonal = hidden::diagonal(graph, &region, keys)?;
    let group = |(first, size, seen): (usize, usize, usize)| Group {
        queries: Range { axis: diagonal.queries, first, size },
        keys: Range { axis: keys, first: 0, size: seen },
    };
    let groups = groups(region.sizes[diagonal.queries], region.sizes[keys], diagonal.offset)?;
    Some((region, groups.into_iter().map(group).collect()))
}

/// The first query of each group, their number, and how many keys they see, where query `q` sees those up to `q + offset`. `None` if less than an eighth of the weights is left out.
fn groups(queries: usize, keys: usize, offset: i64) -> Option<Vec<(usize, usize, usize)>> {
    let count = GROUPS.iter().map(|(most, least)| (queries / least).clamp(1, *most)).max().unwrap_or(1);
    let size = queries.div_ceil(count).next_multiple_of(WHOLE);
    let group = |first: usize| {
        let end = (first + size).min(queries);
        let seen = (end as i64 + offset).clamp(1, keys as i64) as usize;
        (first, end - first, seen)
    };
    let groups: Vec<_> = (0..queries).step_by(size).map(group).collect();
    let left: usize = groups.iter().map(|(_, queries, seen)| queries * seen).sum();
    (groups.len() > 1 && 8 * left <= 7 * queries * keys).then_some(groups)
}

#[cfg(test)]
mod tests {
    use super::groups;

    #[test]
    fn groups_see_the_keys_up_to_their_last_query() {
        assert_eq!(groups(256, 256, 0).unwrap(), [(0, 64, 64), (64, 64, 128), (128, 64, 192), (192, 64, 256)]);
        assert_eq!(groups(130, 130, 0).unwrap(), [(0, 80, 80), (80, 50, 130)]);
        assert_eq!(groups(512, 512, 0).unwrap().len(), 4);
        assert_eq!(groups(1024, 1024, 0).unwrap().len(), 8);
        // Each query sees one key less, and ten keys more than there are queries.
        assert_eq!(groups(128, 128, -1).unwrap(), [(0, 64, 63), (64, 64, 127)]);
        assert_eq!(groups(128, 138, 10).unwrap(), [(0, 64, 74), (64, 64, 138)]);
        // No query sees a key: each has one all the same, so that there is something to fold.
        assert_eq!(groups(128, 4, -200).unwrap(), [(0, 64, 1), (64, 64, 1)]);
    }

    #[test]
    fn nothing_is_cut_where_little_is_hidden() {
        assert_eq!(groups(127, 127, 0), None);
        assert_eq!(groups(128, 640, 512), None);
    }
}
