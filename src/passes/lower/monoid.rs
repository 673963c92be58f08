//! Folds as scalar code: neutral elements, the accumulators of one element, and how two partial results become one.

use crate::ir::loops::build::BlockBuilder;
use crate::ir::loops::{Affine, Value};
use crate::ir::scalar::{Monoid, ScalarFunction};
use crate::ir::types::DType;

/// The accumulators of a fold of elements of `dtype`, each with its neutral element.
pub fn neutral(monoid: Monoid, dtype: DType) -> Vec<(DType, f64)> {
    let dtype = dtype.storage();
    let value = match monoid {
        Monoid::ArgMax => Monoid::Max,
        Monoid::ArgMin => Monoid::Min,
        other => other,
    };
    let mut all = vec![(dtype, value.neutral(dtype))];
    if keeps_index(monoid) {
        // No element's index is as large, so any element wins a tie against the neutral one.
        all.push((DType::I32, f64::from(i32::MAX)));
    }
    all
}

/// Whether a fold keeps an index beside its value.
pub fn keeps_index(monoid: Monoid) -> bool {
    matches!(monoid, Monoid::ArgMax | Monoid::ArgMin)
}

/// The accumulators after one element: itself, and its index for a fold that keeps one.
pub fn element(b: &mut BlockBuilder<'_>, monoid: Monoid, value: Value, position: Affine) -> Vec<Value> {
    if keeps_index(monoid) {
        let index = b.index(position);
        return vec![value, index];
    }
    vec![value]
}

/// The accumulators of two runs of elements, from those of each.
pub fn merge(b: &mut BlockBuilder<'_>, monoid: Monoid, left: &[Value], right: &[Value]) -> Vec<Value> {
    use ScalarFunction as F;
    let truth = b.dtype(left[0]) == DType::Bool;
    let function = match monoid {
        Monoid::ArgMax => return merge_index(b, F::Greater, left, right),
        Monoid::ArgMin => return merge_index(b, F::Less, left, right),
        Monoid::Sum if truth => F::Or,
        Monoid::Prod if truth => F::And,
        Monoid::Max if truth => F::Or,
        Monoid::Min if truth => F::And,
        Monoid::Sum => F::Add,
        Monoid::Prod => F::Mul,
        Monoid::Max => F::Max,
        Monoid::Min => F::Min,
    };
    vec![b.map(function, &[left[0], right[0]])]
}

/// As [`merge`] of runs of which the right one has the larger indices: of equals the left one stays.
pub fn merge_later(b: &mut BlockBuilder<'_>, monoid: Monoid, left: &[Value], right: &[Value]) -> Vec<Value> {
    use ScalarFunction as F;
    let (better, no_better) = match monoid {
        Monoid::ArgMax => (F::Greater, F::LessEqual),
        Monoid::ArgMin => (F::Less, F::GreaterEqual),
        other => return merge(b, other, left, right),
    };
    let takes = match b.dtype(left[0]).is_float() {
        // Better, or NaN, which is better than any number.
        true => {
            let no_better = b.map(no_better, &[right[0], left[0]]);
            let wins = b.map(F::Not, &[no_better]);
            let left_is_number = b.map(F::Equal, &[left[0], left[0]]);
            b.map(F::And, &[wins, left_is_number])
        }
        false => b.map(better, &[right[0], left[0]]),
    };
    (0..2).map(|i| b.map(F::Select, &[takes, right[i], left[i]])).collect()
}

/// Takes the right pair if it is better, or as good with the smaller index. NaN is better than any number, as in NumPy.
fn merge_index(b: &mut BlockBuilder<'_>, better: ScalarFunction, left: &[Value], right: &[Value]) -> Vec<Value> {
    use ScalarFunction as F;
    let mut wins = b.map(better, &[right[0], left[0]]);
    let mut ties = b.map(F::Equal, &[right[0], left[0]]);
    if b.dtype(left[0]).is_float() {
        let left_is_nan = b.map(F::NotEqual, &[left[0], left[0]]);
        let right_is_nan = b.map(F::NotEqual, &[right[0], right[0]]);
        let left_is_number = b.map(F::Not, &[left_is_nan]);
        let only_right = b.map(F::And, &[right_is_nan, left_is_number]);
        let both = b.map(F::And, &[right_is_nan, left_is_nan]);
        wins = b.map(F::Or, &[wins, only_right]);
        ties = b.map(F::Or, &[ties, both]);
    }
    let first = b.map(F::Less, &[right[1], left[1]]);
    let draws = b.map(F::And, &[ties, first]);
    let takes = b.map(F::Or, &[wins, draws]);
    let value = b.map(F::Select, &[takes, right[0], left[0]]);
    let index = b.map(F::Select, &[takes, right[1], left[1]]);
    vec![value, index]
}
