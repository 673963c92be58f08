//! Copies that turn columns into rows: squares of as many rows as there are lanes are read as whole rows and turned in registers.
//!
//! Element by element, each vector that is stored needs a load for each lane, and where rows are as far apart as the first cache has sets they drive
//! each other out before their next element is read.

use iced_x86::Code;

use super::control::further;
use super::{Binding, Bound, Lowered, Lowering};
use crate::codegen::x86::machine::{Memory, Virtual};
use crate::ir::loops::{Affine, Block, BufferId, Carried, Instruction, LoopVar, Value};

/// Distances beyond this are not put into instructions.
const FAR: i64 = 1 << 28;

/// Lanes of a quarter, in which shuffles stay.
const QUARTER: usize = 4;

/// `for column { lanes row { store target[.. + row] = load source[.. + column + stride · row] } }`.
pub(super) struct Transposition<'b> {
    body: &'b Block,
    column: LoopVar,
    columns: u64,
    row: LoopVar,
    rows: usize,
    source: (BufferId, &'b Affine),
    target: (BufferId, &'b Affine),
    value: Value,
}

impl Lowering<'_> {
    /// The copy that a loop is, if its rows are to be turned.
    pub(super) fn transposition<'b>(
        &self,
        column: LoopVar,
        columns: u64,
        carried: &[Carried],
        body: &'b Block,
    ) -> Option<Transposition<'b>> {
        let [Instruction::Lanes { var: row, extent: rows, body: copy }] = &body.instructions[..] else { return None };
        let [
            Instruction::Load { result, buffer: source, address: from },
            Instruction::Store { buffer: target, address: to, value },
        ] = &copy.instructions[..]
        else {
            return None;
        };
        let stride = from.coefficient(*row);
        let near = |stride: i64, count: u64| stride.saturating_mul(count as i64).saturating_mul(4).abs() < FAR;
        let serves = carried.is_empty()
            && self.copies.is_none()
            && self.lane.is_none()
            && (result, source != target, self.dtype(*result).bytes()) == (value, true, 4)
            && (from.coefficient(column), to.coefficient(*row)) == (1, 1)
            && !matches!(stride, 0 | 1)
            && columns >= self.lanes() as u64
            && near(stride, *rows)
            && near(to.coefficient(column), self.lanes() as u64);
        serves.then_some(Transposition {
            body,
            column,
            columns,
            row: *row,
            rows: *rows as usize,
            source: (*source, from),
            target: (*target, to),
            value: *value,
        })
    }

    pub(super) fn transposed(&mut self, copy: &Transposition<'_>) -> Lowered {
        let lanes = self.lanes();
        let (whole, rest) = (copy.columns / lanes as u64, copy.columns % lanes as u64);
        self.counted((0, lanes as i64, whole), &mut |this, binding| {
            this.with_variable(copy.column, binding, |this| {
                this.hoist(copy.body)?;
                (0..copy.rows).step_by(lanes).try_for_each(|first| this.turned(copy, binding, first))
            })
        })?;
        self.counted(((whole * lanes as u64) as i64, 1, rest), &mut |this, binding| {
            this.with_variable(copy.column, binding, |this| this.block(copy.body))
        })
    }

    /// A square of columns from the one that is bound on, and of rows from `first` on; fewer where fewer are left.
    fn turned(&mut self, copy: &Transposition<'_>, binding: Binding, first: usize) -> Lowered {
        let active = self.lanes().min(copy.rows - first);
        let at_first = Binding::Known(first as i64);
        let from = self.with_variable(copy.row, at_first, |this| this.memory(copy.source.0, copy.source.1))?;
        let parts = self.rows_in_quarters(from, 4 * copy.source.1.coefficient(copy.row), active);
        let columns: Vec<Virtual> = parts.into_iter().flat_map(|part| self.turned_quarters(part)).collect();
        let place = self.scope.len() - 1;
        for (number, column) in columns.into_iter().enumerate() {
            self.scope[place].1 = further(binding, number as i64);
            self.in_lanes(copy.row, active, at_first, |this| {
                this.bind(copy.value, Bound::Lanes(column));
                this.store(copy.target.0, copy.target.1, copy.value)
            })?;
        }
        self.scope[place].1 = binding;
        Ok(())
    }

    /// As many columns as there are lanes, four in each part, of the first rows: vector `j` of a part has those of row `4q + j` in quarter `q`. The line of a row
    /// is read to its end before the next one's.
    fn rows_in_quarters(&mut self, from: Memory, stride: i64, rows: usize) -> Vec<[Virtual; QUARTER]> {
        let parts = self.lanes() / QUARTER;
        let mut vectors: Vec<Vec<Virtual>> = vec![Vec::new(); parts];
        for row in 0..rows {
            for (part, vectors) in vectors.iter_mut().enumerate() {
                let place = from.plus(row as i64 * stride + 16 * part as i64);
                match row / QUARTER {
                    0 => vectors.push(self.op(Code::VEX_Vmovups_xmm_xmmm128, &[place.into()])),
                    quarter => {
                        let vector = &mut vectors[row % QUARTER];
                        let sources = [(*vector).into(), place.into()];
                        *vector = self.op_with(Code::VEX_Vinsertf128_ymm_ymm_xmmm128_imm8, &sources, quarter as i32);
                    }
                }
            }
        }
        // Lanes without a row are not stored.
        let filled = |vectors: Vec<Virtual>| std::array::from_fn(|j| *vectors.get(j).unwrap_or(&vectors[0]));
        vectors.into_iter().map(filled).collect()
    }

    /// Four rows of four in each quarter turned: the vectors of the first to the fourth column.
    fn turned_quarters(&mut self, [a, b, c, d]: [Virtual; QUARTER]) -> [Virtual; QUARTER] {
        let mut two = |code, a: Virtual, b: Virtual| self.op(code, &[a.into(), b.into()]);
        let pairs = [(a, b), (c, d)].map(|(a, b)| {
            [Code::VEX_Vunpcklps_ymm_ymm_ymmm256, Code::VEX_Vunpckhps_ymm_ymm_ymmm256].map(|code| two(code, a, b))
        });
        let [[first, third], [second, fourth]] = pairs;
        [
            two(Code::VEX_Vunpcklpd_ymm_ymm_ymmm256, first, second),
            two(Code::VEX_Vunpckhpd_ymm_ymm_ymmm256, first, second),
            two(Code::VEX_Vunpcklpd_ymm_ymm_ymmm256, third, fourth),
            two(Code::VEX_Vunpckhpd_ymm_ymm_ymmm256, third, fourth),
        ]
    }
}
