//! Bytes from instructions whose registers are known: the frame, the saved registers, jumps, and the constants behind the code.

use iced_x86::{Code, Encoder, IcedError, Instruction as Machine, OpCodeOperandKind, OpKind, Register};
use rustc_hash::FxHashMap;

use super::avx512::{self, Form, Masking, Role};
use super::machine::{Base, Condition, Instruction, KernelCode, Label, Memory, Operand, Vectors, Virtual};

/// General registers in the order of allocation: those that a call may change come first.
const GENERAL: [Register; super::allocate::GENERAL] = {
    use Register::{R8, R9, R10, R11, R12, R13, R14, R15, RAX, RBP, RBX, RCX, RDI, RDX, RSI};
    [RAX, RCX, RDX, RSI, RDI, R8, R9, R10, R11, RBX, RBP, R12, R13, R14, R15]
};

/// The lower halves of [`GENERAL`].
const HALVES: [Register; super::allocate::GENERAL] = {
    use Register::{EAX, EBP, EBX, ECX, EDI, EDX, ESI, R8D, R9D, R10D, R11D, R12D, R13D, R14D, R15D};
    [EAX, ECX, EDX, ESI, EDI, R8D, R9D, R10D, R11D, EBX, EBP, R12D, R13D, R14D, R15D]
};

/// The first of [`GENERAL`] that a function gives back as it found it.
const FIRST_SAVED: usize = 9;

/// The registers of a kernel's three parameters.
const PARAMETERS: [Register; 3] = [Register::RDI, Register::RSI, Register::RDX];

/// The mask register that wide instructions use; none keeps its value from one instruction of lowering to the next.
const MASK: Register = Register::K1;

/// The machine code of a kernel.
///
/// # Errors
/// If an instruction does not exist as it is written, which is a bug of lowering.
pub fn encode(code: &KernelCode, assigned: &[u8]) -> Result<Vec<u8>, IcedError> {
    let mut writer = Writer {
        code,
        assigned,
        encoder: Encoder::try_with_capacity(64, 16 * code.instructions.len())?,
        position: 0,
        labels: FxHashMap::default(),
        jumps: Vec::new(),
        constants: Vec::new(),
    };
    writer.function()?;
    Ok(writer.finish())
}

struct Writer<'a> {
    code: &'a KernelCode,
    assigned: &'a [u8],
    encoder: Encoder,
    position: usize,
    labels: FxHashMap<Label, usize>,
    /// Where the 32-bit distance of a jump is, and what it leads to.
    jumps: Vec<(usize, Label)>,
    /// Where the 32-bit distance to a constant is, where the instruction ends, and its number.
    constants: Vec<(usize, usize, u32)>,
}

impl Writer<'_> {
    fn function(&mut self) -> Result<(), IcedError> {
        let saved = self.saved();
        for register in &saved {
            self.emit(Machine::with1(Code::Push_r64, *register)?)?;
        }
        // The frame begins at a multiple of its alignment; the stack as it was is kept in its last word.
        let alignment = self.code.vectors.bytes() as u32;
        let bytes = (self.code.frame + 8).next_multiple_of(alignment) as i32;
        let home = iced_x86::MemoryOperand::with_base_displ(Register::RSP, i64::from(bytes - 8));
        self.emit(Machine::with2(Code::Mov_r64_rm64, Register::RAX, Register::RSP)?)?;
        self.emit(Machine::with2(Code::Sub_rm64_imm32, Register::RSP, bytes)?)?;
        self.emit(Machine::with2(Code::And_rm64_imm8, Register::RSP, -(alignment as i32))?)?;
        self.emit(Machine::with2(Code::Mov_rm64_r64, home, Register::RAX)?)?;
        for (number, parameter) in PARAMETERS.into_iter().enumerate() {
            let slot = iced_x86::MemoryOperand::with_base_displ(Register::RSP, 8 * number as i64);
            self.emit(Machine::with2(Code::Mov_rm64_r64, slot, parameter)?)?;
        }
        for instruction in &self.code.instructions {
            self.instruction(instruction)?;
        }
        self.emit(Machine::with(Code::VEX_Vzeroupper))?;
        self.emit(Machine::with2(Code::Mov_r64_rm64, Register::RSP, home)?)?;
        for register in saved.iter().rev() {
            self.emit(Machine::with1(Code::Pop_r64, *register)?)?;
        }
        self.emit(Machine::with(Code::Retnq))
    }

    /// The registers in use that the caller wants back.
    fn saved(&self) -> Vec<Register> {
        let mut used = [false; GENERAL.len()];
        for instruction in &self.code.instructions {
            instruction.uses(|u| {
                if self.code.classes[u.register.0 as usize] == super::machine::Class::General {
                    used[self.assigned[u.register.0 as usize] as usize] = true;
                }
            });
        }
        (FIRST_SAVED..GENERAL.len()).filter(|i| used[*i]).map(|i| GENERAL[i]).collect()
    }

    fn emit(&mut self, machine: Machine) -> Result<(), IcedError> {
        self.position += self.encoder.encode(&machine, self.position as u64)?;
        Ok(())
    }

    fn number(&self, register: Virtual) -> u8 {
        self.assigned[register.0 as usize]
    }

    fn general(&self, register: Virtual) -> Register {
        GENERAL[self.number(register) as usize]
    }

    fn half(&self, register: Virtual) -> Register {
        HALVES[self.number(register) as usize]
    }

    fn instruction(&mut self, instruction: &Instruction) -> Result<(), IcedError> {
        match instruction {
            Instruction::Plain { code, destination, sources, immediate, .. } => {
                let operands: Vec<Operand> = destination.iter().chain(sources).copied().collect();
                self.plain(*code, &operands, *immediate)
            }
            Instruction::MultiplyAdd { destination, a, b, c } => self.multiply_add(*destination, [*a, *b, *c]),
            Instruction::Copy { destination, source } => self.copy(*destination, *source),
            Instruction::Number { destination, value } => {
                let register = self.general(*destination);
                self.emit(match i32::try_from(*value) {
                    Ok(0) => {
                        let half = self.half(*destination);
                        Machine::with2(Code::Xor_r32_rm32, half, half)?
                    }
                    Ok(small) => Machine::with2(Code::Mov_rm64_imm32, register, small)?,
                    Err(_) => Machine::with2(Code::Mov_r64_imm64, register, *value)?,
                })
            }
            Instruction::Label(label) => {
                self.labels.insert(*label, self.position);
                Ok(())
            }
            Instruction::Jump { condition, to } => {
                let code = match condition {
                    Condition::Less => Code::Jl_rel32_64,
                    Condition::NotBelow => Code::Jae_rel32_64,
                };
                self.emit(Machine::with_branch(code, self.position as u64)?)?;
                self.jumps.push((self.position - 4, *to));
                Ok(())
            }
        }
    }

    fn copy(&mut self, destination: Virtual, source: Virtual) -> Result<(), IcedError> {
        if self.number(destination) == self.number(source) {
            return Ok(());
        }
        let code = match self.code.classes[source.0 as usize] {
            super::machine::Class::General => Code::Mov_r64_rm64,
            super::machine::Class::Vector => Code::VEX_Vmovaps_ymm_ymmm256,
        };
        self.plain(code, &[destination.into(), source.into()], None)
    }

    /// An instruction of lowering, named by its AVX2 form, with these operands.
    fn plain(&mut self, code: Code, operands: &[Operand], immediate: Option<i32>) -> Result<(), IcedError> {
        if self.code.vectors == Vectors::Avx2 {
            return self.machine(code, operands, immediate, Masking::None);
        }
        match avx512::form(code) {
            Form::Same(code) => self.machine(code, operands, immediate, Masking::None),
            Form::Compare(code) => {
                self.machine(code, operands, immediate, Masking::None)?;
                self.machine(Code::EVEX_Vpmovm2d_zmm_kr, &[operands[0]; 2], None, Masking::None)
            }
            Form::Masked { code, mask, masking } => {
                self.machine(Code::EVEX_Vpmovd2m_kr_zmm, &[operands[mask]; 2], None, Masking::None)?;
                let others: Vec<Operand> =
                    operands.iter().enumerate().filter(|(at, _)| *at != mask).map(|(_, o)| *o).collect();
                self.machine(code, &others, immediate, masking)
            }
            Form::Blend => self.blend(operands[0], [operands[1], operands[2], operands[3]]),
        }
    }

    /// `destination = mask ? yes : no`, bit by bit. The destination is read as the first of the three.
    fn blend(&mut self, destination: Operand, [no, yes, mask]: [Operand; 3]) -> Result<(), IcedError> {
        let mut sources = [(Role::Mask, mask), (Role::No, no), (Role::Yes, yes)];
        match sources.iter().position(|(_, source)| self.same_register(*source, destination)) {
            Some(at) => sources.swap(0, at),
            None => self.plain(Code::VEX_Vmovaps_ymm_ymmm256, &[destination, mask], None)?,
        }
        if sources[1].1.is_memory() {
            sources.swap(1, 2);
        }
        let table = avx512::choice(sources.map(|(role, _)| role));
        let operands = [destination, sources[1].1, sources[2].1];
        self.machine(Code::EVEX_Vpternlogd_zmm_k1z_zmm_zmmm512b32_imm8, &operands, Some(table), Masking::None)
    }

    fn same_register(&self, a: Operand, b: Operand) -> bool {
        matches!((a, b), (Operand::Register(a), Operand::Register(b)) if self.number(a) == self.number(b))
    }

    /// A machine instruction with these operands, each in the width that it asks for.
    fn machine(
        &mut self,
        code: Code,
        operands: &[Operand],
        immediate: Option<i32>,
        masking: Masking,
    ) -> Result<(), IcedError> {
        let kinds = code.op_code().op_kinds();
        let mut machine = Machine::default();
        machine.set_code(code);
        if masking != Masking::None {
            machine.set_op_mask(MASK);
            machine.set_zeroing_masking(masking == Masking::Zero);
        }
        let mut constant = None;
        for (at, operand) in operands.iter().enumerate() {
            match operand {
                Operand::Register(register) => {
                    let register = self.in_width(*register, kinds.get(at).copied());
                    machine.set_op_register(at as u32, register);
                    machine.set_op_kind(at as u32, OpKind::Register);
                }
                Operand::Memory(memory) | Operand::Repeated(memory) => {
                    machine.set_op_kind(at as u32, OpKind::Memory);
                    machine.set_is_broadcast(matches!(operand, Operand::Repeated(_)));
                    constant = self.address(&mut machine, *memory, kinds.get(at).copied());
                }
            }
        }
        if let Some(value) = immediate {
            let at = operands.len() as u32;
            match kinds.get(at as usize) {
                Some(OpCodeOperandKind::imm8) => {
                    machine.set_op_kind(at, OpKind::Immediate8);
                    machine.set_immediate8(value as u8);
                }
                Some(OpCodeOperandKind::imm32sex64) => {
                    machine.set_op_kind(at, OpKind::Immediate32to64);
                    machine.set_immediate32(value as u32);
                }
                _ => {
                    machine.set_op_kind(at, OpKind::Immediate32);
                    machine.set_immediate32(value as u32);
                }
            }
        }
        let begin = self.position;
        self.emit(machine)?;
        if let Some(number) = constant {
            let place = begin + self.encoder.get_constant_offsets().displacement_offset();
            self.constants.push((place, self.position, number));
        }
        Ok(())
    }

    fn in_width(&self, register: Virtual, kind: Option<OpCodeOperandKind>) -> Register {
        use OpCodeOperandKind as Kind;
        let number = u32::from(self.number(register));
        match kind {
            Some(Kind::r32_reg | Kind::r32_rm | Kind::r32_or_mem | Kind::r32_vvvv) => self.half(register),
            Some(Kind::r64_reg | Kind::r64_rm | Kind::r64_or_mem) => self.general(register),
            Some(Kind::xmm_reg | Kind::xmm_rm | Kind::xmm_or_mem | Kind::xmm_vvvv | Kind::xmm_is4) => {
                Register::XMM0 + number
            }
            Some(Kind::ymm_reg | Kind::ymm_or_mem) => Register::YMM0 + number,
            Some(Kind::k_reg | Kind::k_rm) => MASK,
            _ => self.vector(number),
        }
    }

    fn vector(&self, number: u32) -> Register {
        match self.code.vectors {
            Vectors::Avx2 => Register::YMM0 + number,
            Vectors::Avx512 => Register::ZMM0 + number,
        }
    }

    /// Sets the address; the number of the constant, if it is one.
    fn address(&self, machine: &mut Machine, memory: Memory, kind: Option<OpCodeOperandKind>) -> Option<u32> {
        let vectors = matches!(kind, Some(OpCodeOperandKind::mem_vsib32y | OpCodeOperandKind::mem_vsib32z));
        if let Some((index, scale)) = memory.index {
            let register = if vectors { self.vector(u32::from(self.number(index))) } else { self.general(index) };
            machine.set_memory_index(register);
            machine.set_memory_index_scale(u32::from(scale));
        }
        match memory.base {
            Base::Constant(number) => {
                machine.set_memory_base(Register::RIP);
                machine.set_memory_displ_size(8);
                machine.set_memory_displacement64(self.position as u64);
                return Some(number);
            }
            Base::Register(base) => machine.set_memory_base(self.general(base)),
            Base::Frame => machine.set_memory_base(Register::RSP),
        }
        machine.set_memory_displacement64(i64::from(memory.displacement) as u64);
        // The encoder takes four bytes where the distance does not go into one, which counts whole operands in AVX-512.
        machine.set_memory_displ_size(match memory.displacement {
            0 => 0,
            _ if avx512::has_long_distances(machine.code()) => 8,
            _ => 1,
        });
        None
    }

    /// The form that overwrites an operand which stands in the destination already, else one after a copy.
    fn multiply_add(&mut self, destination: Virtual, [a, b, c]: [Operand; 3]) -> Result<(), IcedError> {
        const PRODUCT_FIRST: Code = Code::VEX_Vfmadd213ps_ymm_ymm_ymmm256;
        const SUM_FIRST: Code = Code::VEX_Vfmadd231ps_ymm_ymm_ymmm256;
        const ACROSS: Code = Code::VEX_Vfmadd132ps_ymm_ymm_ymmm256;
        let target = Operand::Register(destination);
        let here = |o: Operand| matches!(o, Operand::Register(r) if self.number(r) == self.number(destination));
        // Multiplication commutes: memory comes last.
        let (a, b) = if a.is_memory() { (b, a) } else { (a, b) };
        if here(c) {
            return self.plain(SUM_FIRST, &[target, a, b], None);
        }
        if here(a) {
            // a = a · b + c
            return match b.is_memory() {
                true => self.plain(ACROSS, &[target, c, b], None),
                false => self.plain(PRODUCT_FIRST, &[target, b, c], None),
            };
        }
        if here(b) {
            return self.plain(PRODUCT_FIRST, &[target, a, c], None);
        }
        let copy = |this: &mut Self, from: Operand| this.plain(Code::VEX_Vmovaps_ymm_ymmm256, &[target, from], None);
        if c.is_memory() && !b.is_memory() {
            copy(self, a)?;
            return self.plain(PRODUCT_FIRST, &[target, b, c], None);
        }
        let code = if c.is_memory() { Code::VEX_Vmovups_ymm_ymmm256 } else { Code::VEX_Vmovaps_ymm_ymmm256 };
        self.plain(code, &[target, c], None)?;
        self.plain(SUM_FIRST, &[target, a, b], None)
    }

    /// Fills in distances and appends the constants.
    fn finish(mut self) -> Vec<u8> {
        let mut bytes = self.encoder.take_buffer();
        let mut patch = |at: usize, from: usize, to: usize| {
            let distance = to as i64 - from as i64;
            bytes[at..at + 4].copy_from_slice(&(distance as i32).to_le_bytes());
        };
        for (at, label) in &self.jumps {
            patch(*at, at + 4, self.labels[label]);
        }
        let start = self.position.next_multiple_of(self.code.vectors.bytes());
        for (at, end, number) in &self.constants {
            patch(*at, *end, start + self.code.vectors.bytes() * *number as usize);
        }
        if !self.code.constants.is_empty() {
            bytes.resize(start, 0xcc);
        }
        bytes.extend(self.code.constants.iter().flatten().flat_map(|lane| lane.to_le_bytes()));
        bytes
    }
}
