//! Blocks and loops.

use iced_x86::Code;

use super::{Binding, Bound, Lane, Lowered, Lowering};
use crate::codegen::x86::machine::{Condition, Instruction as Machine, Label, Virtual};
use crate::ir::loops::{Affine, Block, Instruction, LoopVar, ParallelLoop, Value};

/// Bodies of at most so many instructions are written several times in a round of a vector loop.
const SHORT: usize = 12;

/// How many times.
const COPIES: u64 = 4;

impl Lowering<'_> {
    pub(super) fn block(&mut self, block: &Block) -> Lowered {
        block.instructions.iter().try_for_each(|instruction| match instruction {
            Instruction::For { var, extent, carried, body } => self.for_loop(*var, *extent, carried, body),
            Instruction::Map { .. } | Instruction::OneOf { .. } | Instruction::Convert { .. } => {
                self.at_hand = self.copies.is_some().then(Vec::new);
                let outcome = self.each_copy(&mut |this, _| this.instruction(instruction));
                self.at_hand = None;
                outcome
            }
            single => self.each_copy(&mut |this, _| this.instruction(single)),
        })
    }

    fn instruction(&mut self, instruction: &Instruction) -> Lowered {
        match instruction {
            Instruction::Constant { result, value } => {
                self.bind(*result, Bound::Constant(f64::from_bits(value.0)));
                Ok(())
            }
            Instruction::Index { result, index } => self.index(*result, index),
            Instruction::Map { result, function, operands } => self.map(*result, *function, operands),
            Instruction::Convert { result, operand } => self.convert(*result, *operand),
            Instruction::Bitcast { result, operand } => self.bitcast(*result, *operand),
            Instruction::OneOf { result, index, table } => self.one_of(*result, *index, table),
            Instruction::Load { result, buffer, address } => self.load(*result, *buffer, address),
            Instruction::LoadAt { result, buffer, address, index, stride, extent } => {
                self.load_at(*result, (*buffer, address), (*index, *stride, *extent))
            }
            Instruction::Store { buffer, address, value } => self.store(*buffer, address, *value),
            Instruction::StoreAt { buffer, address, index, stride, value, .. } => {
                self.store_at((*buffer, address), (*index, *stride), *value)
            }
            Instruction::For { var, extent, carried, body } => self.for_loop(*var, *extent, carried, body),
            Instruction::Lanes { var, extent, body } => self.lanes_loop(*var, *extent, body),
            Instruction::Fold { var, extent, body, accumulators, merge } => {
                self.fold(*var, *extent, body, accumulators, merge)
            }
            Instruction::Contract(contract) => self.contract(contract),
            Instruction::Tile(tile) => self.tile(tile),
        }
    }

    /// The rounds of the parallel loop that this call shall do; none if its end is not after its beginning.
    pub(super) fn range(&mut self, parallel: &ParallelLoop, body: &Block) -> Lowered {
        let (begin, end) = (self.parameter(1), self.parameter(2));
        let exit = self.label();
        self.compare(begin, end);
        self.push(Machine::Jump { condition: Condition::NotBelow, to: exit });
        let head = self.begin_loop();
        let round = |this: &mut Self, index| {
            this.with_variable(parallel.var, Binding::Register(index, 0), |this| this.block(body))
        };
        if parallel.reverse {
            self.add(end, -1);
            round(self, end)?;
        } else {
            round(self, begin)?;
            self.add(begin, 1);
        }
        self.compare(begin, end);
        self.end_loop(head);
        self.push(Machine::Label(exit));
        Ok(())
    }

    fn compare(&mut self, register: Virtual, with: Virtual) {
        self.push(Machine::Plain {
            code: Code::Cmp_r64_rm64,
            destination: None,
            in_place: false,
            sources: vec![register.into(), with.into()],
            immediate: None,
        });
    }

    fn begin_loop(&mut self) -> (Label, usize) {
        let label = self.label();
        let begin = self.code.instructions.len();
        self.push(Machine::Label(label));
        (label, begin)
    }

    /// The jump back, taken where the comparison just made says less.
    fn end_loop(&mut self, (label, begin): (Label, usize)) {
        self.push(Machine::Jump { condition: Condition::Less, to: label });
        self.code.loops.push((begin, self.code.instructions.len() - 1));
    }

    /// `register += number`.
    pub(super) fn add(&mut self, register: Virtual, number: i64) {
        if number != 0 {
            self.push(Machine::Plain {
                code: Code::Add_rm64_imm32,
                destination: Some(register.into()),
                in_place: true,
                sources: Vec::new(),
                immediate: Some(number as i32),
            });
        }
    }

    /// A copy of a register, to be changed.
    pub(super) fn copy(&mut self, source: Virtual) -> Virtual {
        let class = self.code.classes[source.0 as usize];
        let destination = self.register(class);
        self.push(Machine::Copy { destination, source });
        destination
    }

    /// `count` rounds of code that does not ask for their number.
    pub(super) fn repeated(&mut self, count: u64, body: &mut dyn FnMut(&mut Self) -> Lowered) -> Lowered {
        self.counted((0, 1, count), &mut |this, _| body(this))
    }

    /// `count` rounds from `start` by `step`; one round is written in line.
    pub(super) fn counted(
        &mut self,
        (start, step, count): (i64, i64, u64),
        body: &mut dyn FnMut(&mut Self, Binding) -> Lowered,
    ) -> Lowered {
        match count {
            0 => return Ok(()),
            1 => return body(self, Binding::Known(start)),
            _ => {}
        }
        let end = start + step * count as i64;
        let end = i32::try_from(end).map_err(|_| super::Unsupported("a long loop"))?;
        let register = self.general();
        self.push(Machine::Number { destination: register, value: start });
        let head = self.begin_loop();
        body(self, Binding::Register(register, 0))?;
        self.add(register, step);
        self.push(Machine::Plain {
            code: Code::Cmp_rm64_imm32,
            destination: None,
            in_place: false,
            sources: vec![register.into()],
            immediate: Some(end),
        });
        self.end_loop(head);
        Ok(())
    }

    /// Lowers something with a loop variable in scope.
    pub(super) fn with_variable<T>(
        &mut self,
        var: LoopVar,
        binding: Binding,
        lower: impl FnOnce(&mut Self) -> Lowered<T>,
    ) -> Lowered<T> {
        self.scope.push((var, binding));
        let result = lower(self);
        self.scope.pop();
        let depth = self.scope.len();
        self.pointers.retain(|p| p.0 <= depth);
        result
    }

    /// Lowers something as `active` rounds of a vector loop from `binding` on.
    pub(super) fn in_lanes<T>(
        &mut self,
        var: LoopVar,
        active: usize,
        binding: Binding,
        lower: impl FnOnce(&mut Self) -> Lowered<T>,
    ) -> Lowered<T> {
        let before = self.lane.replace(Lane { var, active });
        let result = self.with_variable(var, binding, lower);
        self.lane = before;
        result
    }

    fn lanes_loop(&mut self, var: LoopVar, extent: u64, body: &Block) -> Lowered {
        self.hoist(body)?;
        let lanes = self.lanes();
        let whole = extent / lanes as u64;
        let together = super::rounds::copies(body, whole);
        if together > 1 {
            return self.jammed_loop(var, extent, together, body);
        }
        let copies = if body.instructions.len() <= SHORT { COPIES.min(whole.max(1)) } else { 1 };
        let step = copies as i64 * lanes as i64;
        self.counted((0, step, whole / copies), &mut |this, binding| {
            (0..copies as i64).try_for_each(|copy| {
                let binding = further(binding, copy * lanes as i64);
                this.in_lanes(var, lanes, binding, |this| this.block(body))
            })
        })?;
        for group in whole / copies * copies..whole {
            let binding = Binding::Known(group as i64 * lanes as i64);
            self.in_lanes(var, lanes, binding, |this| this.block(body))?;
        }
        let rest = (extent % lanes as u64) as usize;
        if rest > 0 {
            let binding = Binding::Known((whole * lanes as u64) as i64);
            self.in_lanes(var, rest, binding, |this| this.block(body))?;
        }
        Ok(())
    }

    /// A vector loop with serial loops in it, several vectors at a time.
    fn jammed_loop(&mut self, var: LoopVar, extent: u64, together: u64, body: &Block) -> Lowered {
        let lanes = self.lanes() as u64;
        let whole = extent / lanes;
        self.counted((0, (together * lanes) as i64, whole / together), &mut |this, binding| {
            this.jammed(var, binding, together as usize, body)
        })?;
        let (done, left) = (whole / together * together, whole % together);
        if left > 0 {
            self.jammed(var, Binding::Known((done * lanes) as i64), left as usize, body)?;
        }
        let rest = (extent % lanes) as usize;
        if rest > 0 {
            self.in_lanes(var, rest, Binding::Known((whole * lanes) as i64), |this| this.block(body))?;
        }
        Ok(())
    }

    /// The `i32` value of an affine expression of loop variables.
    fn index(&mut self, result: Value, index: &Affine) -> Lowered {
        let coefficient = self.lane_coefficient(index);
        let (mut known, mut sum) = (index.constant, None);
        for (var, binding) in self.scope.clone() {
            let factor = index.coefficient(var);
            if factor == 0 {
                continue;
            }
            if i32::try_from(factor).is_err() {
                return Err(super::Unsupported("a far index"));
            }
            match binding {
                Binding::Known(number) => known += number * factor,
                Binding::Register(register, more) => {
                    known += more * factor;
                    sum = Some(match sum {
                        Some(sum) => self.plus_scaled(sum, register, factor),
                        None => self.multiplied(register, factor),
                    });
                }
            }
        }
        let lane = |lane: usize| known.wrapping_add(coefficient * lane as i64) as i32 as u32;
        let steps = self.lanes_constant(lane);
        let register = match sum {
            None => self.in_register(steps),
            Some(sum) => {
                let low = self.op(Code::VEX_Vmovd_xmm_rm32, &[sum.into()]);
                let all = self.op(Code::VEX_Vpbroadcastd_ymm_xmmm32, &[low.into()]);
                self.op(Code::VEX_Vpaddd_ymm_ymm_ymmm256, &[all.into(), steps])
            }
        };
        self.bind(result, if coefficient == 0 { Bound::Uniform(register) } else { Bound::Lanes(register) });
        Ok(())
    }
}

/// The variable so much further on.
pub(super) fn further(binding: Binding, by: i64) -> Binding {
    match binding {
        Binding::Known(number) => Binding::Known(number + by),
        Binding::Register(register, more) => Binding::Register(register, more + by),
    }
}
