//! Which machine register holds which virtual one: linear scan over lives, with spilling to the frame and another try.
//!
//! A life is the stretch from a register's first to its last use, made longer to the end of every loop that uses it and before which it
//! began. Where more lives meet than there are registers, the one that is used the least for its length moves to the frame: each use then
//! reads or writes memory, directly where the instruction can, else through a register that lives for that instruction only.

use super::machine::{Class, Instruction, KernelCode, Memory, Operand, Virtual};

/// A place in the order of allocation: reads are even, writes odd.
type Position = usize;

/// The general registers that code may use.
pub const GENERAL: usize = 15;

/// Rounds of spilling after which the kernel is given up; each makes lives shorter.
const MOST_ROUNDS: usize = 12;

#[derive(Clone, Copy, Debug)]
struct Life {
    register: Virtual,
    start: Position,
    end: Position,
    /// What spilling would cost.
    weight: f64,
    /// A register that this one would best share: that of a copy's source.
    hint: Option<Virtual>,
}

/// The machine register of each virtual one, by number within its class; `None` if the kernel has no room.
pub fn allocate(code: &mut KernelCode) -> Option<Vec<u8>> {
    let mut fixed = vec![false; code.classes.len()];
    for _ in 0..MOST_ROUNDS {
        let lives = lives(code, &fixed);
        let (assigned, spilled) = scan(code, &lives);
        if spilled.is_empty() {
            return Some(assigned);
        }
        rewrite(code, &spilled, &mut fixed)?;
    }
    None
}

/// The lives of all registers that are used, by their start.
fn lives(code: &KernelCode, fixed: &[bool]) -> Vec<Life> {
    let depth = depths(code);
    let mut lives: Vec<Option<Life>> = vec![None; code.classes.len()];
    for (at, instruction) in code.instructions.iter().enumerate() {
        let cost = 8f64.powi(depth[at].min(6) as i32);
        instruction.uses(|u| {
            let position = 2 * at + usize::from(u.written && !u.read);
            let life = lives[u.register.0 as usize].get_or_insert(Life {
                register: u.register,
                start: position,
                end: position,
                weight: 0.0,
                hint: None,
            });
            life.end = life.end.max(2 * at + usize::from(u.written));
            life.weight += cost;
        });
        if let Instruction::Copy { destination, source } = instruction
            && let Some(life) = &mut lives[destination.0 as usize]
        {
            life.hint.get_or_insert(*source);
        }
    }
    extend_over_loops(code, &mut lives);
    let mut out: Vec<Life> = lives.into_iter().flatten().collect();
    for life in &mut out {
        let length = (life.end - life.start + 1) as f64;
        life.weight = if fixed[life.register.0 as usize] { f64::INFINITY } else { life.weight / length };
    }
    out.sort_by_key(|l| (l.start, l.register));
    out
}

/// How many loops are around each instruction.
fn depths(code: &KernelCode) -> Vec<usize> {
    let mut change = vec![0i32; code.instructions.len() + 1];
    for (begin, end) in &code.loops {
        change[*begin] += 1;
        change[*end + 1] -= 1;
    }
    let mut depth = 0;
    change
        .iter()
        .map(|c| {
            depth += c;
            depth as usize
        })
        .collect()
}

/// What lives before a loop and is used in it lives to its end. Inner loops come first.
fn extend_over_loops(code: &KernelCode, lives: &mut [Option<Life>]) {
    let mut loops = code.loops.clone();
    loops.sort_by_key(|(begin, end)| end - begin);
    for (begin, end) in loops {
        for instruction in &code.instructions[begin..=end] {
            instruction.uses(|u| {
                let life = lives[u.register.0 as usize].as_mut().expect("a used register has a life");
                if life.start < 2 * begin {
                    life.end = life.end.max(2 * end + 1);
                }
            });
        }
    }
}

/// Assigns machine registers in the order of starts. Returns what found none, which must be spilled.
fn scan(code: &KernelCode, lives: &[Life]) -> (Vec<u8>, Vec<Virtual>) {
    let mut assigned = vec![u8::MAX; code.classes.len()];
    let mut spilled = Vec::new();
    let mut active: [Vec<Life>; 2] = Default::default();
    for life in lives {
        let class = code.classes[life.register.0 as usize];
        let (count, active) = match class {
            Class::General => (GENERAL, &mut active[0]),
            Class::Vector => (code.vectors.registers(), &mut active[1]),
        };
        active.retain(|a| a.end >= life.start);
        let mut free = vec![true; count];
        active.iter().for_each(|a| free[assigned[a.register.0 as usize] as usize] = false);
        let hinted = life.hint.map(|h| assigned[h.0 as usize] as usize).filter(|r| *r < count && free[*r]);
        if let Some(register) = hinted.or_else(|| free.iter().position(|f| *f)) {
            assigned[life.register.0 as usize] = register as u8;
            active.push(*life);
            continue;
        }
        let cheapest = active.iter().enumerate().min_by(|a, b| a.1.weight.total_cmp(&b.1.weight));
        match cheapest {
            Some((place, other)) if other.weight < life.weight => {
                spilled.push(other.register);
                assigned[life.register.0 as usize] = assigned[other.register.0 as usize];
                active[place] = *life;
            }
            _ => spilled.push(life.register),
        }
    }
    (assigned, spilled)
}

/// Moves registers to the frame; what has to pass through a register on the way is never spilled again.
fn rewrite(code: &mut KernelCode, spilled: &[Virtual], fixed: &mut Vec<bool>) -> Option<()> {
    let mut homes: Vec<Option<u32>> = vec![None; code.classes.len()];
    for register in spilled {
        if fixed[register.0 as usize] {
            return None;
        }
        let bytes = match code.classes[register.0 as usize] {
            Class::General => 8,
            Class::Vector => code.vectors.bytes() as u32,
        };
        homes[register.0 as usize] = Some(new_slot(code, bytes));
    }
    let old = std::mem::take(&mut code.instructions);
    let mut moved = Vec::with_capacity(old.len() + 1);
    for instruction in old {
        moved.push(code.instructions.len());
        spill_one(code, instruction, &homes, fixed);
    }
    moved.push(code.instructions.len());
    for (begin, end) in &mut code.loops {
        // A jump has no operands: it stays one instruction, the last of what it became.
        (*begin, *end) = (moved[*begin], moved[*end + 1] - 1);
    }
    Some(())
}

/// Room in the frame, aligned to its size.
pub fn new_slot(code: &mut KernelCode, bytes: u32) -> u32 {
    let offset = code.frame.next_multiple_of(bytes);
    code.frame = offset + bytes;
    offset
}

fn spill_one(code: &mut KernelCode, instruction: Instruction, homes: &[Option<u32>], fixed: &mut Vec<bool>) {
    let home = |register: Virtual| homes.get(register.0 as usize).copied().flatten();
    let mut touched = false;
    instruction.uses(|u| touched |= home(u.register).is_some());
    if !touched {
        code.instructions.push(instruction);
        return;
    }
    if let Instruction::Copy { destination, source } = instruction {
        match (home(destination), home(source)) {
            (None, Some(slot)) => return push_load(code, destination, slot),
            (Some(slot), None) => return push_store(code, source, slot),
            _ => {}
        }
    }
    let mut spiller = Spiller { code, fixed, homes, temporaries: Vec::new(), stores: Vec::new() };
    let rewritten = spiller.instruction(instruction);
    let stores = std::mem::take(&mut spiller.stores);
    code.instructions.push(rewritten);
    stores.into_iter().for_each(|(register, slot)| push_store(code, register, slot));
}

fn push_load(code: &mut KernelCode, destination: Virtual, slot: u32) {
    let class = code.classes[destination.0 as usize];
    code.instructions.push(super::machine::load(class, destination, Memory::frame(slot)));
}

fn push_store(code: &mut KernelCode, source: Virtual, slot: u32) {
    let class = code.classes[source.0 as usize];
    code.instructions.push(super::machine::store(class, source, Memory::frame(slot)));
}

/// One instruction whose registers move to the frame.
struct Spiller<'a> {
    code: &'a mut KernelCode,
    fixed: &'a mut Vec<bool>,
    homes: &'a [Option<u32>],
    /// The register of each spilled one for this instruction.
    temporaries: Vec<(Virtual, Virtual)>,
    stores: Vec<(Virtual, u32)>,
}

impl Spiller<'_> {
    fn home(&self, register: Virtual) -> Option<u32> {
        self.homes.get(register.0 as usize).copied().flatten()
    }

    fn temporary(&mut self, of: Virtual) -> (Virtual, bool) {
        if let Some((_, temporary)) = self.temporaries.iter().find(|(old, _)| *old == of) {
            return (*temporary, false);
        }
        let class = self.code.classes[of.0 as usize];
        self.code.classes.push(class);
        self.fixed.push(true);
        let temporary = Virtual(self.code.classes.len() as u32 - 1);
        self.temporaries.push((of, temporary));
        (temporary, true)
    }

    /// The register through which a spilled one is read.
    fn read(&mut self, register: Virtual) -> Virtual {
        let Some(slot) = self.home(register) else { return register };
        let (temporary, new) = self.temporary(register);
        if new {
            push_load(self.code, temporary, slot);
        }
        temporary
    }

    /// The register through which a spilled one is written.
    fn write(&mut self, register: Virtual) -> Virtual {
        let Some(slot) = self.home(register) else { return register };
        let (temporary, _) = self.temporary(register);
        self.stores.push((temporary, slot));
        temporary
    }

    fn operand(&mut self, operand: Operand, in_memory: bool) -> Operand {
        match operand {
            Operand::Register(register) => match self.home(register) {
                Some(slot) if in_memory => Memory::frame(slot).into(),
                _ => self.read(register).into(),
            },
            Operand::Memory(memory) => memory.map(|r| self.read(r)).into(),
            Operand::Repeated(memory) => Operand::Repeated(memory.map(|r| self.read(r))),
        }
    }

    fn instruction(&mut self, instruction: Instruction) -> Instruction {
        match instruction {
            Instruction::Plain { code, destination, in_place, mut sources, immediate } => {
                let memory = sources.iter().chain(&destination).any(Operand::is_memory);
                let first = usize::from(destination.is_some());
                let last = sources.len().wrapping_sub(1);
                for (number, source) in sources.iter_mut().enumerate() {
                    let direct = number == last && !memory && super::machine::may_be_memory(code, first + number);
                    *source = self.operand(*source, direct);
                }
                let destination = destination.map(|d| match d {
                    Operand::Register(register) => {
                        if in_place {
                            self.read(register);
                        }
                        self.write(register).into()
                    }
                    memory => self.operand(memory, false),
                });
                Instruction::Plain { code, destination, in_place, sources, immediate }
            }
            Instruction::MultiplyAdd { destination, a, b, c } => {
                let mut free = ![a, b, c].iter().any(Operand::is_memory);
                let mut source = |this: &mut Self, operand: Operand| {
                    let spilled = matches!(operand, Operand::Register(r) if this.home(r).is_some());
                    let direct = spilled && std::mem::take(&mut free);
                    this.operand(operand, direct)
                };
                let (c, b, a) = (source(self, c), source(self, b), source(self, a));
                Instruction::MultiplyAdd { destination: self.write(destination), a, b, c }
            }
            Instruction::Copy { destination, source } => {
                let source = self.read(source);
                Instruction::Copy { destination: self.write(destination), source }
            }
            Instruction::Number { destination, value } => {
                Instruction::Number { destination: self.write(destination), value }
            }
            other => other,
        }
    }
}
