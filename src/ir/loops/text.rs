//! The text form of programs and kernels, printed and parsed.
//!
//! ```text
//! kernel scale_rows
//!   read x: f32[48]
//!   write y: f32[48]
//!   parallel i0 in 0..3 grain 1
//!   lanes i1 in 0..16 {
//!     %0: f32 = load x[16*i0 + i1]
//!     %1: f32 = const 2.0
//!     %2: f32 = mul %0, %1
//!     store y[16*i0 + i1] = %2
//!   }
//! end
//! ```
//!
//! A program lists its buffers, its kernels, and its steps: `call 0 (2, 3[4*i0])`, `index 5 = i0`, and
//! `repeat i0 in 0..9 backwards { ... }`. The numbers in a call are buffers, each with the element at which its section starts.
//!
//! Values and variables are renumbered in the order in which they occur, so a text does not change when a pass leaves holes in the
//! numbers. A buffer whose name is not plain, or not the only one of that name, is called `#` and its number.

use std::fmt::{self, Write};

use rustc_hash::FxHashMap;

use super::*;

mod parse;

pub use parse::{ParseError, parse_kernel, parse_program};

/// Prints a kernel.
pub fn kernel(kernel: &Kernel) -> String {
    let mut out = String::new();
    Printer::new(kernel, &mut out, 0).kernel().expect("writing to a string does not fail");
    out
}

/// Prints a program with its kernels.
pub fn program(program: &Program) -> String {
    let mut out = String::new();
    write_program(program, &mut out).expect("writing to a string does not fail");
    out
}

fn write_program(program: &Program, out: &mut String) -> fmt::Result {
    let (name, pointers, arena) = (quoted(&program.name), program.pointers, program.arena_bytes);
    writeln!(out, "program {name} pointers {pointers} arena {arena}")?;
    for (i, buffer) in program.buffers.iter().enumerate() {
        write!(out, "  buffer {i} {}: {}[{}]", quoted(&buffer.name), buffer.dtype, buffer.elements)?;
        match &buffer.place {
            Place::Argument { index } => writeln!(out, " argument {index}")?,
            Place::Arena { offset: None } => writeln!(out, " arena")?,
            Place::Arena { offset: Some(offset) } => writeln!(out, " arena {offset}")?,
            Place::Constant { bytes } => {
                let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
                writeln!(out, " constant \"{hex}\"")?;
            }
        }
    }
    for kernel in &program.kernels {
        Printer::new(kernel, out, 1).kernel()?;
    }
    write_steps(&program.steps, 1, &mut Variables::default(), out)?;
    writeln!(out, "end")
}

/// Steps as lines, those of repeats one level deeper.
fn write_steps(steps: &[Step], depth: usize, variables: &mut Variables, out: &mut String) -> fmt::Result {
    for step in steps {
        write!(out, "{:1$}", "", 2 * depth)?;
        match step {
            Step::Call(call) => {
                let buffers: Vec<String> = call.buffers.iter().map(|s| variables.section(s)).collect();
                writeln!(out, "call {} ({})", call.kernel, buffers.join(", "))?;
            }
            Step::Index { target, index } => {
                writeln!(out, "index {} = {}", variables.section(target), variables.affine(index))?;
            }
            Step::Repeat(repeat) => {
                let direction = if repeat.reverse { " backwards" } else { "" };
                writeln!(out, "repeat {} in 0..{}{direction} {{", variables.name(repeat.var), repeat.count)?;
                write_steps(&repeat.steps, depth + 1, variables, out)?;
                writeln!(out, "{:1$}}}", "", 2 * depth)?;
            }
        }
    }
    Ok(())
}

/// Variables by the order in which they occur.
#[derive(Default)]
struct Variables(FxHashMap<LoopVar, usize>);

impl Variables {
    fn name(&mut self, var: LoopVar) -> String {
        let next = self.0.len();
        format!("i{}", self.0.entry(var).or_insert(next))
    }

    fn affine(&mut self, affine: &Affine) -> String {
        let mut text = String::new();
        let mut add = |factor: i64, rest: &str| {
            let sign = match (text.is_empty(), factor < 0) {
                (true, false) => "",
                (true, true) => "-",
                (false, false) => " + ",
                (false, true) => " - ",
            };
            text.push_str(sign);
            match (factor.unsigned_abs(), rest) {
                (number, "") => text.push_str(&number.to_string()),
                (1, rest) => text.push_str(rest),
                (number, rest) => text.push_str(&format!("{number}*{rest}")),
            }
        };
        for (var, factor) in &affine.terms {
            add(*factor, &self.name(*var));
        }
        if affine.constant != 0 || affine.terms.is_empty() {
            add(affine.constant, "");
        }
        text
    }

    /// `3`, or `3[4*i0 + 1]` if it does not start with the buffer.
    fn section(&mut self, section: &Section) -> String {
        match section.is_at_start() {
            true => section.buffer.to_string(),
            false => format!("{}[{}]", section.buffer, self.affine(&section.offset)),
        }
    }
}

/// A name as it is if it is plain, else in quotes.
fn quoted(name: &str) -> String {
    if is_plain(name) { name.to_string() } else { format!("{name:?}") }
}

/// Letters, digits, `_` and `.`, not beginning with a digit or dot.
fn is_plain(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.')
}

impl BufferUse {
    /// The word in texts.
    fn word(self) -> &'static str {
        match self {
            BufferUse::Read => "read",
            BufferUse::Write => "write",
            BufferUse::Update => "update",
        }
    }
}

struct Printer<'a> {
    kernel: &'a Kernel,
    out: &'a mut String,
    depth: usize,
    buffers: Vec<String>,
    values: FxHashMap<Value, usize>,
    variables: Variables,
}

impl<'a> Printer<'a> {
    fn new(kernel: &'a Kernel, out: &'a mut String, depth: usize) -> Self {
        let unique = |name: &str| kernel.buffers.iter().filter(|b| b.name == name).count() == 1;
        let buffers = kernel.buffers.iter().enumerate().map(|(i, b)| match is_plain(&b.name) && unique(&b.name) {
            true => b.name.clone(),
            false => format!("#{i}"),
        });
        let buffers = buffers.collect();
        Printer { kernel, out, depth, buffers, values: FxHashMap::default(), variables: Variables::default() }
    }

    fn line(&mut self, text: impl fmt::Display) -> fmt::Result {
        writeln!(self.out, "{:1$}{text}", "", 2 * self.depth)
    }

    fn kernel(mut self) -> fmt::Result {
        let kernel = self.kernel;
        self.line(format_args!("kernel {}", quoted(&kernel.name)))?;
        self.depth += 1;
        for b in &kernel.buffers {
            self.line(format_args!("{} {}: {}[{}]", b.usage.word(), quoted(&b.name), b.dtype, b.elements))?;
        }
        if let Some(p) = &kernel.parallel {
            let var = self.variable(p.var);
            let direction = if p.reverse { " backwards" } else { "" };
            self.line(format_args!("parallel {var} in 0..{} grain {}{direction}", p.extent, p.grain))?;
        }
        kernel.body.instructions.iter().try_for_each(|i| self.instruction(i))?;
        self.depth -= 1;
        self.line("end")
    }

    fn variable(&mut self, var: LoopVar) -> String {
        self.variables.name(var)
    }

    fn value(&mut self, value: Value) -> String {
        let next = self.values.len();
        format!("%{}", self.values.entry(value).or_insert(next))
    }

    fn values(&mut self, values: impl IntoIterator<Item = Value>) -> String {
        let texts: Vec<String> = values.into_iter().map(|v| self.value(v)).collect();
        texts.join(", ")
    }

    /// A value where it is defined, with its dtype.
    fn definition(&mut self, value: Value) -> String {
        format!("{}: {}", self.value(value), self.kernel.values[value.0 as usize])
    }

    fn element(&mut self, buffer: BufferId, address: &Affine) -> String {
        format!("{}[{}]", self.buffers[buffer.0 as usize].clone(), self.variables.affine(address))
    }

    /// `x[8*i0] at %3 by 4 below 7`.
    fn indexed(&mut self, buffer: BufferId, address: &Affine, index: Value, (stride, extent): (i64, u64)) -> String {
        let (element, index) = (self.element(buffer, address), self.value(index));
        format!("{element} at {index} by {stride} below {extent}")
    }

    /// The instructions of a block, one level deeper.
    fn block(&mut self, block: &Block) -> fmt::Result {
        self.depth += 1;
        block.instructions.iter().try_for_each(|i| self.instruction(i))?;
        self.depth -= 1;
        Ok(())
    }

    /// The last line of a block: the values that it hands on.
    fn hand_on(&mut self, word: &str, values: impl Iterator<Item = Value>) -> fmt::Result {
        let values = self.values(values);
        self.depth += 1;
        self.line(format_args!("{word} {values}"))?;
        self.depth -= 1;
        Ok(())
    }

    fn instruction(&mut self, instruction: &Instruction) -> fmt::Result {
        match instruction {
            Instruction::For { var, extent, carried, body } => return self.for_loop(*var, *extent, carried, body),
            Instruction::Lanes { var, extent, body } => {
                let var = self.variable(*var);
                self.line(format_args!("lanes {var} in 0..{extent} {{"))?;
                self.block(body)?;
                return self.line("}");
            }
            Instruction::Fold { var, extent, body, accumulators, merge } => {
                return self.fold(*var, *extent, body, accumulators, merge);
            }
            Instruction::Contract(contract) => return self.contract(contract),
            Instruction::Tile(tile) => return self.tile(tile),
            Instruction::Store { buffer, address, value } => {
                let (element, value) = (self.element(*buffer, address), self.value(*value));
                return self.line(format_args!("store {element} = {value}"));
            }
            Instruction::StoreAt { buffer, address, index, stride, extent, value } => {
                let place = self.indexed(*buffer, address, *index, (*stride, *extent));
                let value = self.value(*value);
                return self.line(format_args!("scatter {place} = {value}"));
            }
            _ => {}
        }
        let (result, text) = self.assignment(instruction);
        let result = self.definition(result);
        self.line(format_args!("{result} = {text}"))
    }

    /// The result and the right side of an instruction that has one result.
    fn assignment(&mut self, instruction: &Instruction) -> (Value, String) {
        match instruction {
            Instruction::Constant { result, value } => (*result, format!("const {:?}", f64::from_bits(value.0))),
            Instruction::Index { result, index } => (*result, format!("index {}", self.variables.affine(index))),
            Instruction::Map { result, function, operands } => {
                (*result, format!("{} {}", function.name(), self.values(operands.iter().copied())))
            }
            Instruction::Convert { result, operand } => (*result, format!("convert {}", self.value(*operand))),
            Instruction::Bitcast { result, operand } => (*result, format!("bitcast {}", self.value(*operand))),
            Instruction::OneOf { result, index, table } => {
                let [a, b, c, d] = table.map(|entry| f64::from_bits(entry.0));
                (*result, format!("one_of {}, {a:?}, {b:?}, {c:?}, {d:?}", self.value(*index)))
            }
            Instruction::Load { result, buffer, address } => {
                (*result, format!("load {}", self.element(*buffer, address)))
            }
            Instruction::LoadAt { result, buffer, address, index, stride, extent } => {
                (*result, format!("gather {}", self.indexed(*buffer, address, *index, (*stride, *extent))))
            }
            other => unreachable!("{other:?} has a line of its own form"),
        }
    }

    fn for_loop(&mut self, var: LoopVar, extent: u64, carried: &[Carried], body: &Block) -> fmt::Result {
        let var = self.variable(var);
        let mut parts = Vec::new();
        for c in carried {
            let initial = self.value(c.initial);
            parts.push(format!("{} = {initial}", self.definition(c.parameter)));
        }
        let carry = if parts.is_empty() { String::new() } else { format!(" carry {}", parts.join(", ")) };
        self.line(format_args!("for {var} in 0..{extent}{carry} {{"))?;
        self.block(body)?;
        if carried.is_empty() {
            return self.line("}");
        }
        self.hand_on("next", carried.iter().map(|c| c.next))?;
        let results = self.values(carried.iter().map(|c| c.result));
        self.line(format_args!("}} -> {results}"))
    }

    fn fold(
        &mut self,
        var: LoopVar,
        extent: u64,
        body: &Block,
        accumulators: &[Accumulator],
        merge: &Block,
    ) -> fmt::Result {
        let var = self.variable(var);
        self.line(format_args!("fold {var} in 0..{extent} {{"))?;
        self.block(body)?;
        self.hand_on("element", accumulators.iter().map(|a| a.element))?;
        let mut parts = Vec::new();
        for a in accumulators {
            let (left, right) = (self.value(a.left), self.definition(a.right));
            parts.push(format!("{left}, {right} from {:?}", f64::from_bits(a.initial.0)));
        }
        self.line(format_args!("}} merge {} {{", parts.join("; ")))?;
        self.block(merge)?;
        self.hand_on("merged", accumulators.iter().map(|a| a.merged))?;
        let results = self.values(accumulators.iter().map(|a| a.result));
        self.line(format_args!("}} -> {results}"))
    }

    fn matrix(&mut self, matrix: &Matrix) -> String {
        let element = self.element(matrix.buffer, &matrix.address);
        format!("{element} by ({}, {})", matrix.row_stride, matrix.column_stride)
    }

    fn contract(&mut self, c: &Contract) -> fmt::Result {
        let (row, column) = (self.variable(c.row), self.variable(c.column));
        let (left, right) = (self.matrix(&c.left), self.matrix(&c.right));
        let depth = depth_text(c.depth, &c.rounds, c.cut);
        self.line(format_args!("contract {row} in 0..{}, {column} in 0..{}, {depth}", c.rows, c.columns))?;
        self.operands(&left, &right, c.accumulator, &c.epilogue)
    }

    fn tile(&mut self, t: &Tile) -> fmt::Result {
        let (row, column) = (self.variable(t.row), self.variable(t.column));
        let (left, right) = (self.matrix(&t.left), self.matrix(&t.right));
        let stored = format!("{column} in 0..{} of {}", t.stored_columns, t.columns);
        let depth = depth_text(t.depth, &t.rounds, t.cut);
        self.line(format_args!("tile {row} in 0..{}, {stored}, {depth}", t.rows))?;
        self.operands(&left, &right, t.accumulator, &t.epilogue)
    }

    fn operands(&mut self, left: &str, right: &str, accumulator: Value, epilogue: &Block) -> fmt::Result {
        let accumulator = self.definition(accumulator);
        self.depth += 1;
        self.line(format_args!("left {left}"))?;
        self.line(format_args!("right {right}"))?;
        self.depth -= 1;
        self.line(format_args!("-> {accumulator} {{"))?;
        self.block(epilogue)?;
        self.line("}")
    }
}

/// `depth 96 cut 1 every 5, rounds 3 by (832, 3072), 11 by (1, 4)`, without what there is not.
fn depth_text(depth: u64, rounds: &[Round], cut: Option<Cut>) -> String {
    let each: Vec<String> =
        rounds.iter().map(|r| format!("{} by ({}, {})", r.count, r.left_stride, r.right_stride)).collect();
    let rounds = if each.is_empty() { String::new() } else { format!(", rounds {}", each.join(", ")) };
    let cut = cut.map_or(String::new(), |c| format!(" cut {} every {}", c.level, c.size));
    format!("depth {depth}{cut}{rounds}")
}
