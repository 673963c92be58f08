//! What attention computes where a mask hides keys: numbers that are known, if the mask is one of places.

use rustc_hash::FxHashMap;

use super::blocks::Axis;
use super::region::{Reading, Region};
use crate::ir::graph::{Graph, Node};
use crate::ir::ops::Op;
use crate::ir::scalar::meaning::convert;
use crate::ir::scalar::{Monoid, ScalarFunction};
use crate::ir::types::DType;

/// Query `q` sees no key behind `q + offset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Diagonal {
    /// The axis of queries in the weights.
    pub queries: usize,
    pub offset: i64,
}

/// What is known of a value.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fact {
    Anything,
    /// The same for all keys of a query.
    Row,
    /// The same number everywhere.
    Number(f64),
    /// A whole number that places make.
    Place(Place),
    /// This number wherever the diagonal hides the key, and anything else elsewhere.
    Hidden(f64, Diagonal),
}

use Fact::{Anything, Hidden, Number, Row};

/// A whole number: the key's place times a factor, the query's along an axis of the weights times another, and a constant.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Place {
    keys: i64,
    queries: Option<(usize, i64)>,
    constant: i64,
}

/// The diagonal behind which all weights are 0, and no fold over keys finds anything that counts. `None` if there is none.
pub fn diagonal(graph: &Graph, region: &Region, keys: usize) -> Option<Diagonal> {
    let mut facts = Facts { graph, region, keys, known: FxHashMap::default() };
    let mut widest: Option<Diagonal> = None;
    for (reading, operands) in &region.inside {
        let node = graph.node(reading.value.node);
        if let (Op::Reduce(op), false) = (&node.op, facts.varies(reading)) {
            widest = Some(wider(widest, neutral(facts.of(&operands[0]), op.monoid)?)?);
        }
        let fact = facts.computed(node, reading, operands);
        facts.known.insert(reading, fact);
    }
    // A sum of products with 0.
    wider(widest, neutral(facts.of(&region.operands[region.weights]), Monoid::Sum)?)
}

/// The diagonal behind which a fold finds its neutral element.
fn neutral(fact: Fact, monoid: Monoid) -> Option<Diagonal> {
    match (fact, monoid) {
        (Hidden(0.0, diagonal), Monoid::Sum) | (Hidden(f64::NEG_INFINITY, diagonal), Monoid::Max) => Some(diagonal),
        _ => None,
    }
}

/// The diagonal that hides what both hide.
fn wider(a: Option<Diagonal>, b: Diagonal) -> Option<Diagonal> {
    let Some(a) = a else { return Some(b) };
    (a.queries == b.queries).then_some(Diagonal { offset: a.offset.max(b.offset), ..a })
}

/// What is known of the values of a region.
struct Facts<'a> {
    graph: &'a Graph,
    region: &'a Region,
    keys: usize,
    known: FxHashMap<&'a Reading, Fact>,
}

impl Facts<'_> {
    fn of(&self, reading: &Reading) -> Fact {
        self.known.get(reading).copied().unwrap_or_else(|| self.unknown(reading))
    }

    /// All that is known of a value because of its axes.
    fn unknown(&self, reading: &Reading) -> Fact {
        if self.varies(reading) { Anything } else { Row }
    }

    /// Whether a value has the axis of keys.
    fn varies(&self, reading: &Reading) -> bool {
        reading.axes.contains(&Some(self.keys))
    }

    fn computed(&self, node: &Node, reading: &Reading, operands: &[Reading]) -> Fact {
        let facts: Vec<Fact> = operands.iter().map(|r| self.of(r)).collect();
        match &node.op {
            Op::Iota(op) => self.place(reading.axes[op.axis]),
            Op::Constant(op) => op.known().map_or(Anything, Number),
            Op::Cast(op) => {
                let from = self.graph.type_of(operands[0].value).dtype;
                match facts[0] {
                    Number(x) => Number(convert(x, from, op.dtype)),
                    Hidden(x, diagonal) => Hidden(convert(x, from, op.dtype), diagonal),
                    Fact::Place(_) if !matches!(op.dtype, DType::I32 | DType::I64) => self.unknown(reading),
                    other => other,
                }
            }
            Op::StopGradient(_) | Op::Broadcast(_) | Op::Reshape(_) | Op::Transpose(_) => facts[0],
            Op::Map(op) => {
                let dtype = self.graph.type_of(operands.last().expect("a function has operands").value).dtype;
                match mapped(op.function, dtype, &facts) {
                    Anything => self.unknown(reading),
                    fact => fact,
                }
            }
            _ => self.unknown(reading),
        }
    }

    /// The number of a place along an axis of the weights.
    fn place(&self, axis: Option<usize>) -> Fact {
        match axis {
            Some(axis) if axis == self.keys => Fact::Place(Place { keys: 1, ..Place::default() }),
            Some(axis) if self.region.axes[axis] == Axis::Rows => {
                Fact::Place(Place { queries: Some((axis, 1)), ..Place::default() })
            }
            _ => Anything,
        }
    }
}

/// What is known of a scalar function of operands.
fn mapped(function: ScalarFunction, dtype: DType, facts: &[Fact]) -> Fact {
    use ScalarFunction as F;
    match (function, facts) {
        (F::Add | F::Sub, [a, b]) if !dtype.is_float() && [a, b].iter().any(|fact| matches!(fact, Fact::Place(_))) => {
            sum(*a, *b, if function == F::Add { 1 } else { -1 }).map_or(Anything, Fact::Place)
        }
        (F::Less | F::LessEqual | F::Greater | F::GreaterEqual, [a, b]) => compared(function, *a, *b),
        (F::And, [Hidden(x, d), other] | [other, Hidden(x, d)]) if *x == 0.0 && dtype == DType::Bool => match other {
            Hidden(y, e) if *y == 0.0 && d.queries == e.queries => {
                Hidden(0.0, Diagonal { offset: d.offset.min(e.offset), ..*d })
            }
            _ => Hidden(0.0, *d),
        },
        (F::Select, [Hidden(condition, d), yes, no]) => match if *condition == 0.0 { no } else { yes } {
            Number(x) => Hidden(*x, *d),
            Hidden(x, e) => wider(Some(*d), *e).map_or(Anything, |d| Hidden(*x, d)),
            _ => Anything,
        },
        // A row that is no number where it counts makes no number of all of its weights, hidden or not.
        (F::Sub | F::Add, [Hidden(x, d), Row]) | (F::Add, [Row, Hidden(x, d)]) if *x == f64::NEG_INFINITY => {
            Hidden(*x, *d)
        }
        (F::Mul | F::Div, [Hidden(x, d), Row]) | (F::Mul, [Row, Hidden(x, d)]) if *x == 0.0 => Hidden(0.0, *d),
        _ if facts.iter().all(|fact| matches!(fact, Row | Number(_))) && facts.contains(&Row) => Row,
        _ => evaluated(function, dtype, facts),
    }
}

/// What comes of numbers that are known.
fn evaluated(function: ScalarFunction, dtype: DType, facts: &[Fact]) -> Fact {
    let (mut numbers, mut diagonal) = (Vec::new(), None);
    for fact in facts {
        match fact {
            Number(x) => numbers.push(*x),
            Hidden(x, d) => {
                let Some(both) = wider(diagonal, *d) else { return Anything };
                diagonal = Some(both);
                numbers.push(*x);
            }
            _ => return Anything,
        }
    }
    let number = function.eval(dtype, &numbers);
    diagonal.map_or(Number(number), |d| Hidden(number, d))
}

/// `a + sign * b` for whole numbers that places make.
fn sum(a: Fact, b: Fact, sign: i64) -> Option<Place> {
    let (a, b) = (whole(a)?, whole(b)?);
    let queries = match (a.queries, b.queries) {
        (Some((axis, n)), Some((other, m))) if axis == other => Some((axis, n + sign * m)),
        (Some(_), Some(_)) => return None,
        (Some(one), None) => Some(one),
        (None, other) => other.map(|(axis, m)| (axis, sign * m)),
    };
    Some(Place { keys: a.keys + sign * b.keys, queries, constant: a.constant + sign * b.constant })
}

/// A whole number, if it is no large one: such do not wrap.
fn whole(fact: Fact) -> Option<Place> {
    const SMALL: i64 = 1 << 30;
    let place = match fact {
        Number(x) if x.fract() == 0.0 => Place { constant: x as i64, ..Place::default() },
        Fact::Place(place) => place,
        _ => return None,
    };
    (place.constant.abs() < SMALL).then_some(place)
}

/// A comparison of places: where the key is far behind the query it is the same for all.
fn compared(function: ScalarFunction, a: Fact, b: Fact) -> Fact {
    use ScalarFunction as F;
    let Some(Place { keys, queries: Some((queries, factor)), constant }) = sum(a, b, -1) else { return Anything };
    // a - b is `key - query + constant` or the negative of that with another constant; the offset is that of the last key for which the comparison may be otherwise.
    let (behind, offset) = match (keys, factor, function) {
        (1, -1, F::LessEqual) => (0.0, -constant),
        (1, -1, F::Less) => (0.0, -constant - 1),
        (1, -1, F::Greater) => (1.0, -constant),
        (1, -1, F::GreaterEqual) => (1.0, -constant - 1),
        (-1, 1, F::GreaterEqual) => (0.0, constant),
        (-1, 1, F::Greater) => (0.0, constant - 1),
        (-1, 1, F::Less) => (1.0, constant),
        (-1, 1, F::LessEqual) => (1.0, constant - 1),
        _ => return Anything,
    };
    Hidden(behind, Diagonal { queries, offset })
}
