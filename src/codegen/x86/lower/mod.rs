//! From the loop IR to instructions on virtual registers.
//!
//! Every value of 32 bits (`f32`, `i32`, `u32`, `bool` as a mask) is a vector of lanes, eight or sixteen; a value that is the same for all rounds has it in
//! all of them, so scalar code and vector code are one. `u8` is widened when it is loaded. What else there is (64-bit
//! and 16-bit dtypes, integer division, scattered stores) is [`Unsupported`] and left to the other code generator.
//!
//! Reading order: this file (state, constants), [`address`], [`control`] (loops), [`rounds`] (serial ones), [`memory`] (loads and stores), [`map`], [`fold`], [`tile`], [`deferred`] (tiles that are finished later), [`contract`], [`transpose`].

use iced_x86::Code;
use rustc_hash::FxHashMap;

use super::allocate::new_slot;
use super::machine::{Base, Class, Instruction, KernelCode, Label, Memory, Operand, Vectors, Virtual, plain};
use crate::ir::loops::{Affine, BufferId, Kernel, LoopVar, Value};
use crate::ir::types::DType;

mod address;
mod contract;
mod control;
mod deferred;
mod fold;
mod map;
mod memory;
mod rounds;
mod tile;
mod transpose;

/// A kernel is not taken, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsupported(pub &'static str);

/// The result of lowering something.
type Lowered<T = ()> = Result<T, Unsupported>;

/// The frame begins with the kernel's three parameters, each a word.
const PARAMETER_BYTES: u32 = 32;

/// A loop variable while its loop is being lowered.
#[derive(Clone, Copy, Debug)]
enum Binding {
    /// The number is known.
    Known(i64),
    /// So much more than a register holds.
    Register(Virtual, i64),
}

/// The vector loop around: its variable is that of the first lane, and so many lanes count.
#[derive(Clone, Copy, Debug)]
struct Lane {
    var: LoopVar,
    active: usize,
}

/// Where a value is.
#[derive(Clone, Copy, Debug)]
enum Bound {
    Constant(f64),
    /// The same in all lanes.
    Uniform(Virtual),
    /// A value for each lane.
    Lanes(Virtual),
}

/// What a pointer in a register points to: a buffer and the terms of variables (by place in the scope) with their bytes.
type PointerKey = (BufferId, Vec<(usize, i64)>);

/// The state of lowering one kernel.
struct Lowering<'k> {
    kernel: &'k Kernel,
    code: KernelCode,
    /// Variables in scope, outermost first.
    scope: Vec<(LoopVar, Binding)>,
    /// Pointers in registers, and how many variables were in scope when each was made: it is gone when there are fewer.
    pointers: Vec<(usize, PointerKey, Virtual)>,
    lane: Option<Lane>,
    values: Vec<Option<Bound>>,
    /// The vectors that are being written together.
    copies: Option<rounds::Copies>,
    /// Constants in registers, by number, while one instruction without loops is written for several vectors.
    at_hand: Option<Vec<(u32, Virtual)>>,
    constants: FxHashMap<Vec<u32>, u32>,
    labels: u32,
}

/// The code of a kernel on virtual registers, for vectors of some width.
///
/// # Errors
/// If the kernel does something that this code generator leaves to the other.
pub fn lower(kernel: &Kernel, vectors: Vectors) -> Result<KernelCode, Unsupported> {
    let taken = |dtype: &DType| matches!(dtype, DType::F32 | DType::I32 | DType::U32 | DType::Bool | DType::U8);
    if !kernel.values.iter().all(taken) {
        return Err(Unsupported("a value of another width"));
    }
    let mut lowering = Lowering {
        kernel,
        code: KernelCode { vectors, frame: PARAMETER_BYTES, ..KernelCode::default() },
        scope: Vec::new(),
        pointers: Vec::new(),
        lane: None,
        values: vec![None; kernel.values.len()],
        copies: None,
        at_hand: None,
        constants: FxHashMap::default(),
        labels: 0,
    };
    lowering.function()?;
    Ok(lowering.code)
}

impl Lowering<'_> {
    fn function(&mut self) -> Lowered {
        let table = self.parameter(0);
        for number in 0..self.kernel.buffers.len() {
            let pointer = self.general();
            self.push(super::machine::load(Class::General, pointer, Memory::at(table, 8 * number as i32)));
            self.pointers.push((0, (BufferId(number as u32), Vec::new()), pointer));
        }
        let kernel = self.kernel;
        match &kernel.parallel {
            None => self.block(&kernel.body),
            Some(parallel) => self.range(parallel, &kernel.body),
        }
    }

    /// Lanes of a vector.
    fn lanes(&self) -> usize {
        self.code.vectors.lanes()
    }

    /// A parameter of the kernel: the table of buffers, the first round, the end of the rounds.
    fn parameter(&mut self, number: u32) -> Virtual {
        let register = self.general();
        self.push(super::machine::load(Class::General, register, Memory::frame(8 * number)));
        register
    }

    fn push(&mut self, instruction: Instruction) {
        self.code.instructions.push(instruction);
    }

    fn register(&mut self, class: Class) -> Virtual {
        self.code.classes.push(class);
        Virtual(self.code.classes.len() as u32 - 1)
    }

    fn general(&mut self) -> Virtual {
        self.register(Class::General)
    }

    fn vector(&mut self) -> Virtual {
        self.register(Class::Vector)
    }

    fn label(&mut self) -> Label {
        self.labels += 1;
        Label(self.labels - 1)
    }

    /// A fresh vector register with the result of an instruction.
    fn op(&mut self, code: Code, sources: &[Operand]) -> Virtual {
        let result = self.vector();
        self.push(plain(code, Some(result.into()), sources.to_vec()));
        result
    }

    /// As `op`, with an immediate.
    fn op_with(&mut self, code: Code, sources: &[Operand], immediate: i32) -> Virtual {
        let result = self.vector();
        self.push(Instruction::Plain {
            code,
            destination: Some(result.into()),
            in_place: false,
            sources: sources.to_vec(),
            immediate: Some(immediate),
        });
        result
    }

    /// As `op`, into a general register.
    fn general_op(&mut self, code: Code, sources: &[Operand], immediate: Option<i32>) -> Virtual {
        let result = self.general();
        self.push(Instruction::Plain {
            code,
            destination: Some(result.into()),
            in_place: false,
            sources: sources.to_vec(),
            immediate,
        });
        result
    }

    /// Room for a vector in the frame.
    fn slot(&mut self) -> Memory {
        let bytes = self.code.vectors.bytes() as u32;
        Memory::frame(new_slot(&mut self.code, bytes))
    }

    /// Lanes of 32 bits, by number, as a memory operand.
    fn lanes_constant(&mut self, lane: impl Fn(usize) -> u32) -> Operand {
        let lanes: Vec<u32> = (0..self.lanes()).map(lane).collect();
        let next = self.code.constants.len() as u32;
        let number = *self.constants.entry(lanes.clone()).or_insert(next);
        if number == next {
            self.code.constants.push(lanes);
        }
        Memory { base: Base::Constant(number), index: None, displacement: 0 }.into()
    }

    /// The same 32 bits in every lane.
    fn bits(&mut self, bits: u32) -> Operand {
        self.lanes_constant(|_| bits)
    }

    /// The register with an operand's value.
    fn in_register(&mut self, operand: Operand) -> Virtual {
        let number = match operand {
            Operand::Register(register) => return register,
            Operand::Memory(Memory { base: Base::Constant(number), .. }) => Some(number),
            Operand::Memory(_) | Operand::Repeated(_) => None,
        };
        let known = self.at_hand.iter().flatten().find(|entry| Some(entry.0) == number);
        if let Some((_, register)) = known {
            return *register;
        }
        let register = self.op(Code::VEX_Vmovups_ymm_ymmm256, &[operand]);
        if let (Some(at_hand), Some(number)) = (&mut self.at_hand, number) {
            at_hand.push((number, register));
        }
        register
    }

    /// All ones in the lanes that count.
    fn active_mask(&mut self, active: usize) -> Operand {
        self.lanes_constant(|lane| if lane < active { u32::MAX } else { 0 })
    }

    fn dtype(&self, value: Value) -> DType {
        self.kernel.values[value.0 as usize]
    }

    fn bind(&mut self, value: Value, bound: Bound) {
        self.values[value.0 as usize] = Some(bound);
    }

    fn bound(&self, value: Value) -> Bound {
        self.values[value.0 as usize].expect("the verifier saw that uses follow definitions")
    }

    /// A value as a source: a constant is read from memory.
    fn operand(&mut self, value: Value) -> Operand {
        match self.bound(value) {
            Bound::Constant(number) => {
                let bits = constant_bits(self.dtype(value), number);
                self.bits(bits)
            }
            Bound::Uniform(register) | Bound::Lanes(register) => register.into(),
        }
    }

    /// A value in a register.
    fn value(&mut self, value: Value) -> Virtual {
        let operand = self.operand(value);
        self.in_register(operand)
    }

    fn is_uniform(&self, value: Value) -> bool {
        !matches!(self.bound(value), Bound::Lanes(_))
    }

    /// Binds a result made of some values: uniform if all of them are.
    fn bind_made_of(&mut self, result: Value, from: &[Value], register: Virtual) {
        let uniform = from.iter().all(|v| self.is_uniform(*v));
        self.bind(result, if uniform { Bound::Uniform(register) } else { Bound::Lanes(register) });
    }

    /// The coefficient of the vector loop's variable; 0 outside of one.
    fn lane_coefficient(&self, affine: &Affine) -> i64 {
        self.lane.map_or(0, |lane| affine.coefficient(lane.var))
    }
}

/// A constant of some dtype as the bits of a lane.
fn constant_bits(dtype: DType, value: f64) -> u32 {
    match dtype {
        DType::F32 => (value as f32).to_bits(),
        DType::Bool => {
            if value != 0.0 {
                u32::MAX
            } else {
                0
            }
        }
        DType::U32 => value as u32,
        DType::U8 => u32::from(value as u8),
        _ => value as i32 as u32,
    }
}
