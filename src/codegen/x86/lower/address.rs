//! Addresses: pointers that move with outer loops are kept in registers, the innermost variable is an index register.

use iced_x86::Code;

use super::{Binding, Lowered, Lowering, Unsupported};
use crate::codegen::x86::machine::{Base, Memory, Operand, Virtual};
use crate::ir::loops::{Affine, Block, BufferId, Instruction};

/// Distances beyond this are not put into instructions.
const FAR: i64 = 1 << 30;

impl Lowering<'_> {
    /// The bytes of an element of a buffer.
    pub(super) fn element_bytes(&self, buffer: BufferId) -> i64 {
        self.kernel.buffers[buffer.0 as usize].dtype.bytes() as i64
    }

    /// The terms of an address in registers, by place in the scope, and the bytes that are known.
    fn terms(&self, buffer: BufferId, address: &Affine) -> Lowered<(Vec<(usize, i64)>, i32)> {
        let bytes = self.element_bytes(buffer);
        let mut known = address.constant.saturating_mul(bytes);
        let mut terms = Vec::new();
        for (place, (var, binding)) in self.scope.iter().enumerate() {
            let factor = address.coefficient(*var).saturating_mul(bytes);
            if factor == 0 {
                continue;
            }
            match binding {
                Binding::Known(number) => known = known.saturating_add(number.saturating_mul(factor)),
                Binding::Register(_, more) => {
                    known = known.saturating_add(more.saturating_mul(factor));
                    terms.push((place, factor));
                }
            }
            if factor.abs() >= FAR {
                return Err(Unsupported("a far address"));
            }
        }
        if known.abs() >= FAR {
            return Err(Unsupported("a far address"));
        }
        Ok((terms, known as i32))
    }

    /// The address of an element.
    pub(super) fn memory(&mut self, buffer: BufferId, address: &Affine) -> Lowered<Memory> {
        let (mut terms, displacement) = self.terms(buffer, address)?;
        let innermost = self.scope.len().wrapping_sub(1);
        let index = match terms.last() {
            Some((place, scale @ (1 | 2 | 4 | 8))) if *place == innermost => {
                let scale = *scale as u8;
                terms.pop();
                Some((self.variable(innermost), scale))
            }
            _ => None,
        };
        let base = self.pointer(buffer, &terms);
        Ok(Memory { base: Base::Register(base), index, displacement })
    }

    /// The register of a variable that is not known.
    fn variable(&self, place: usize) -> Virtual {
        match self.scope[place].1 {
            Binding::Register(register, _) => register,
            Binding::Known(_) => unreachable!("terms are of variables in registers"),
        }
    }

    /// The buffer's start moved by some terms, in a register that lasts as long as the scope does.
    fn pointer(&mut self, buffer: BufferId, terms: &[(usize, i64)]) -> Virtual {
        let same = |(_, key, _): &&(usize, super::PointerKey, Virtual)| key.0 == buffer && key.1 == terms;
        if let Some((_, _, register)) = self.pointers.iter().find(same) {
            return *register;
        }
        let ((place, factor), before) = terms.split_last().expect("the buffers' starts are always there");
        let base = self.pointer(buffer, before);
        let register = self.plus_scaled(base, self.variable(*place), *factor);
        self.pointers.push((self.scope.len(), (buffer, terms.to_vec()), register));
        register
    }

    /// `base + register · factor`.
    pub(super) fn plus_scaled(&mut self, base: Virtual, register: Virtual, factor: i64) -> Virtual {
        let (index, scale) = match factor {
            1 | 2 | 4 | 8 => (register, factor as u8),
            _ => (self.multiplied(register, factor), 1),
        };
        let memory = Memory { base: Base::Register(base), index: Some((index, scale)), displacement: 0 };
        self.address_of(memory)
    }

    /// `register · factor`.
    pub(super) fn multiplied(&mut self, register: Virtual, factor: i64) -> Virtual {
        self.general_op(Code::Imul_r64_rm64_imm32, &[register.into()], Some(factor as i32))
    }

    /// An address in a register.
    pub(super) fn address_of(&mut self, memory: Memory) -> Virtual {
        self.general_op(Code::Lea_r64_m, &[Operand::Memory(memory)], None)
    }

    /// Makes the pointers that a loop's body needs and that do not move in it, before the loop.
    pub(super) fn hoist(&mut self, body: &Block) -> Lowered {
        let mut accesses = Vec::new();
        collect(body, &mut accesses);
        for (buffer, address) in accesses {
            let (terms, _) = self.terms(buffer, address)?;
            self.pointer(buffer, &terms);
        }
        Ok(())
    }
}

/// All addresses in a block.
fn collect<'b>(block: &'b Block, out: &mut Vec<(BufferId, &'b Affine)>) {
    for instruction in &block.instructions {
        match instruction {
            Instruction::Load { buffer, address, .. }
            | Instruction::LoadAt { buffer, address, .. }
            | Instruction::Store { buffer, address, .. }
            | Instruction::StoreAt { buffer, address, .. } => out.push((*buffer, address)),
            Instruction::For { body, .. } | Instruction::Lanes { body, .. } => collect(body, out),
            Instruction::Fold { body, merge, .. } => {
                collect(body, out);
                collect(merge, out);
            }
            Instruction::Contract(c) => {
                out.extend([(c.left.buffer, &c.left.address), (c.right.buffer, &c.right.address)]);
                collect(&c.epilogue, out);
            }
            Instruction::Tile(t) => {
                out.extend([(t.left.buffer, &t.left.address), (t.right.buffer, &t.right.address)]);
                collect(&t.epilogue, out);
            }
            _ => {}
        }
    }
}
