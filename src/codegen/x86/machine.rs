//! Code of one kernel before registers are chosen: x86 instructions on virtual registers, in the order in which they shall run.
//!
//! Virtual registers may be written more than once (carried values, counters). Loops are a label and a jump back to it; they nest, and other
//! jumps lead forward, over whole loops and over what writes no register that is read behind it. So the life of a register follows from positions alone.
//!
//! Vector instructions are named by their AVX2 forms whatever the vectors are: the last step, [`encode`](super::encode), writes them for the width.

use iced_x86::{Code, OpCodeOperandKind};

/// The vectors that a kernel's code is written with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Vectors {
    /// AVX2 and FMA: sixteen registers of eight lanes.
    #[default]
    Avx2,
    /// AVX-512 F, DQ, BW and VL: thirty-two registers of sixteen lanes.
    Avx512,
}

impl Vectors {
    /// Lanes of 32 bits in a register.
    pub const fn lanes(self) -> usize {
        self.bytes() / 4
    }

    /// Bytes of a register.
    pub const fn bytes(self) -> usize {
        match self {
            Vectors::Avx2 => 32,
            Vectors::Avx512 => 64,
        }
    }

    /// How many registers there are.
    pub const fn registers(self) -> usize {
        match self {
            Vectors::Avx2 => 16,
            Vectors::Avx512 => 32,
        }
    }

    /// How many of them a tile sums in; the others hold numbers of the left operand and vectors of the right one.
    pub const fn sums(self) -> usize {
        self.registers() / 4 * 3
    }

    /// How many of them those are.
    pub const fn spare(self) -> usize {
        self.registers() - self.sums()
    }
}

/// A virtual register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Virtual(pub u32);

/// What a virtual register holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A pointer or counter: one of the 64-bit registers.
    General,
    /// 32-bit lanes: one of the vector registers.
    Vector,
}

/// Where memory is addressed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    Register(Virtual),
    /// The kernel's frame on the stack; the displacement counts from its start.
    Frame,
    /// The constant of this number; the displacement is 0.
    Constant(u32),
}

/// A memory operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    pub base: Base,
    /// A register times 1, 2, 4 or 8. Of a gather it holds vectors of indices.
    pub index: Option<(Virtual, u8)>,
    pub displacement: i32,
}

impl Memory {
    /// Some bytes beyond the address in a register.
    pub fn at(base: Virtual, displacement: i32) -> Memory {
        Memory { base: Base::Register(base), index: None, displacement }
    }

    /// Bytes of the frame.
    pub fn frame(offset: u32) -> Memory {
        Memory { base: Base::Frame, index: None, displacement: offset as i32 }
    }

    /// The registers that the address needs.
    pub fn registers(&self) -> impl Iterator<Item = Virtual> {
        let base = if let Base::Register(base) = self.base { Some(base) } else { None };
        base.into_iter().chain(self.index.map(|i| i.0))
    }

    /// The same with other registers.
    pub fn map(self, mut with: impl FnMut(Virtual) -> Virtual) -> Memory {
        let base = if let Base::Register(base) = self.base { Base::Register(with(base)) } else { self.base };
        Memory { base, index: self.index.map(|(r, scale)| (with(r), scale)), ..self }
    }
}

/// A source of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    Register(Virtual),
    Memory(Memory),
    /// A number of memory in every lane. Only the products of AVX-512 have it.
    Repeated(Memory),
}

impl Operand {
    /// Whether it is read from memory.
    pub fn is_memory(&self) -> bool {
        matches!(self, Operand::Memory(_) | Operand::Repeated(_))
    }
}

impl From<Virtual> for Operand {
    fn from(register: Virtual) -> Operand {
        Operand::Register(register)
    }
}

impl From<Memory> for Operand {
    fn from(memory: Memory) -> Operand {
        Operand::Memory(memory)
    }
}

/// A place that code jumps to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Label(pub u32);

/// When a jump is taken, by the comparison before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Signed less than.
    Less,
    /// Unsigned not less than.
    NotBelow,
}

/// One instruction.
#[derive(Clone, Debug, PartialEq)]
pub enum Instruction {
    /// A machine instruction whose operands are the destination, the sources and the immediate, each where there is one.
    /// With `in_place` the destination is also read, and is not repeated among the sources.
    Plain {
        code: Code,
        destination: Option<Operand>,
        in_place: bool,
        sources: Vec<Operand>,
        immediate: Option<i32>,
    },
    /// `destination = a · b + c` in all lanes, rounded once; which form depends on the registers.
    MultiplyAdd {
        destination: Virtual,
        a: Operand,
        b: Operand,
        c: Operand,
    },
    /// `destination = source`, of one class; none where both have one register.
    Copy {
        destination: Virtual,
        source: Virtual,
    },
    /// `destination = value`, in a general register.
    Number {
        destination: Virtual,
        value: i64,
    },
    Label(Label),
    Jump {
        condition: Condition,
        to: Label,
    },
}

/// The code of a kernel.
#[derive(Debug, Default)]
pub struct KernelCode {
    pub vectors: Vectors,
    pub instructions: Vec<Instruction>,
    pub classes: Vec<Class>,
    /// The positions of the label and of the jump back, for each loop.
    pub loops: Vec<(usize, usize)>,
    /// The lanes of constants, each a whole vector.
    pub constants: Vec<Vec<u32>>,
    /// Bytes of the frame used so far.
    pub frame: u32,
}

/// A register as an instruction uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use {
    pub register: Virtual,
    pub read: bool,
    pub written: bool,
}

impl Instruction {
    /// Calls `see` for each use of a register; sources come before the destination.
    pub fn uses(&self, mut see: impl FnMut(Use)) {
        let mut read = |register: Virtual| see(Use { register, read: true, written: false });
        match self {
            Instruction::Plain { destination, in_place, sources, .. } => {
                sources.iter().for_each(|s| operand_registers(s).for_each(&mut read));
                match destination {
                    Some(Operand::Register(register)) => {
                        see(Use { register: *register, read: *in_place, written: true });
                    }
                    Some(Operand::Memory(memory) | Operand::Repeated(memory)) => {
                        memory.registers().for_each(&mut read);
                    }
                    None => {}
                }
            }
            Instruction::MultiplyAdd { destination, a, b, c } => {
                [a, b, c].into_iter().for_each(|s| operand_registers(s).for_each(&mut read));
                see(Use { register: *destination, read: false, written: true });
            }
            Instruction::Copy { destination, source } => {
                read(*source);
                see(Use { register: *destination, read: false, written: true });
            }
            Instruction::Number { destination, .. } => {
                see(Use { register: *destination, read: false, written: true });
            }
            Instruction::Label(_) | Instruction::Jump { .. } => {}
        }
    }
}

fn operand_registers(operand: &Operand) -> impl Iterator<Item = Virtual> + use<> {
    let (register, memory) = match operand {
        Operand::Register(register) => (Some(*register), None),
        Operand::Memory(memory) | Operand::Repeated(memory) => (None, Some(*memory)),
    };
    register.into_iter().chain(memory.into_iter().flat_map(|m| m.registers().collect::<Vec<_>>()))
}

/// Reads a whole register from memory.
pub fn load(class: Class, destination: Virtual, from: Memory) -> Instruction {
    let code = match class {
        Class::General => Code::Mov_r64_rm64,
        Class::Vector => Code::VEX_Vmovups_ymm_ymmm256,
    };
    plain(code, Some(destination.into()), vec![from.into()])
}

/// Writes a whole register to memory.
pub fn store(class: Class, source: Virtual, to: Memory) -> Instruction {
    let code = match class {
        Class::General => Code::Mov_rm64_r64,
        Class::Vector => Code::VEX_Vmovups_ymmm256_ymm,
    };
    plain(code, Some(to.into()), vec![source.into()])
}

/// An instruction without an immediate whose destination is written only.
pub fn plain(code: Code, destination: Option<Operand>, sources: Vec<Operand>) -> Instruction {
    Instruction::Plain { code, destination, in_place: false, sources, immediate: None }
}

/// Whether operand `number` of a machine instruction may be memory; a spilled register's home is as wide as any reads.
pub fn may_be_memory(code: Code, number: usize) -> bool {
    use OpCodeOperandKind::{r32_or_mem, r64_or_mem, xmm_or_mem, ymm_or_mem};
    let kind = code.op_code().op_kinds().get(number).copied();
    matches!(kind, Some(r32_or_mem | r64_or_mem | xmm_or_mem | ymm_or_mem))
}
