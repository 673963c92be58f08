//! The parser of the text form. What it accepts may still be invalid; `verify` says so.

use rustc_hash::FxHashMap;

use super::super::*;
use crate::ir::types::DType;

/// What is wrong with a text, and in which line (from 1).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct ParseError {
    pub line: usize,
    pub message: String,
}

type Parsed<T> = Result<T, ParseError>;

/// Loops in loops deeper than this are refused; no pass writes a tenth of it.
const DEEPEST: usize = 64;

/// Parses the text of one kernel.
pub fn parse_kernel(text: &str) -> Parsed<Kernel> {
    let mut parser = Parser::new(text)?;
    let kernel = parser.kernel()?;
    parser.end_of_text()?;
    Ok(kernel)
}

/// Parses the text of a program.
pub fn parse_program(text: &str) -> Parsed<Program> {
    let mut parser = Parser::new(text)?;
    let program = parser.program()?;
    parser.end_of_text()?;
    Ok(program)
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    /// A word: keyword, name or number. Names may hold dots, numbers signs of exponents.
    Word(String),
    /// In quotes.
    Text(String),
    /// `%3`.
    Value(u32),
    /// `#3`.
    Number(u32),
    /// One of `{}[]():;,=*+-` or `->` (as `>`) or `..` (as `~`).
    Sign(char),
}

/// Cuts the text into tokens with their lines.
fn tokens(text: &str) -> Parsed<Vec<(usize, Token)>> {
    let mut out = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let mut rest = line.trim_start();
        while !rest.is_empty() {
            let (token, length) =
                token(rest).map_err(|message| ParseError { line: number + 1, message: message.to_string() })?;
            out.push((number + 1, token));
            rest = rest[length..].trim_start();
        }
    }
    Ok(out)
}

fn token(rest: &str) -> Result<(Token, usize), &'static str> {
    let first = rest.chars().next().expect("the rest is not empty");
    if rest.starts_with("->") || rest.starts_with("..") {
        return Ok((Token::Sign(if first == '-' { '>' } else { '~' }), 2));
    }
    match first {
        '{' | '}' | '[' | ']' | '(' | ')' | ':' | ';' | ',' | '=' | '*' | '+' | '-' => Ok((Token::Sign(first), 1)),
        '"' => quoted(rest),
        '%' | '#' => {
            let digits = rest[1..].len() - rest[1..].trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let number: u32 = rest[1..=digits].parse().map_err(|_| "a number should follow `%` or `#`")?;
            Ok((if first == '%' { Token::Value(number) } else { Token::Number(number) }, 1 + digits))
        }
        c if c.is_ascii_alphanumeric() || c == '_' => Ok(word(rest)),
        _ => Err("an unexpected character"),
    }
}

/// A word; a number takes in the sign of its exponent and stops at `..`.
fn word(rest: &str) -> (Token, usize) {
    let bytes = rest.as_bytes();
    let number = bytes[0].is_ascii_digit();
    let mut end = 1;
    while let Some(c) = bytes.get(end) {
        let exponent = number && matches!(c, b'-' | b'+') && matches!(bytes[end - 1], b'e' | b'E');
        let dot = *c == b'.' && bytes.get(end + 1) != Some(&b'.');
        if !(c.is_ascii_alphanumeric() || *c == b'_' || dot || exponent) {
            break;
        }
        end += 1;
    }
    (Token::Word(rest[..end].to_string()), end)
}

/// A text in quotes with the escapes that Rust's `{:?}` writes.
fn quoted(rest: &str) -> Result<(Token, usize), &'static str> {
    let mut out = String::new();
    let mut chars = rest.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((Token::Text(out), at + 1)),
            '\\' => match chars.next().map(|(_, c)| c) {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some('r') => out.push('\r'),
                Some('0') => out.push('\0'),
                Some('u') => {
                    let code: String = chars.by_ref().map(|(_, c)| c).skip(1).take_while(|c| *c != '}').collect();
                    let code = u32::from_str_radix(&code, 16).ok().and_then(char::from_u32);
                    out.push(code.ok_or("not a character")?);
                }
                Some(other) => out.push(other),
                None => break,
            },
            c => out.push(c),
        }
    }
    Err("a text without its closing quote")
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    at: usize,
    depth: usize,
    buffers: Vec<BufferParameter>,
    /// New numbers of values and variables by their numbers in the text.
    values: FxHashMap<u32, Value>,
    dtypes: Vec<DType>,
    variables: FxHashMap<String, LoopVar>,
}

impl Parser {
    fn new(text: &str) -> Parsed<Parser> {
        let tokens = tokens(text)?;
        Ok(Parser {
            tokens,
            at: 0,
            depth: 0,
            buffers: Vec::new(),
            values: FxHashMap::default(),
            dtypes: Vec::new(),
            variables: FxHashMap::default(),
        })
    }

    fn error<T>(&self, message: impl Into<String>) -> Parsed<T> {
        let line = self.tokens.get(self.at).or(self.tokens.last()).map_or(1, |t| t.0);
        Err(ParseError { line, message: message.into() })
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|t| &t.1)
    }

    fn end_of_text(&self) -> Parsed<()> {
        if self.peek().is_some() { self.error("text after the end") } else { Ok(()) }
    }

    /// Takes the sign if it comes next.
    fn takes(&mut self, sign: char) -> bool {
        let found = self.peek() == Some(&Token::Sign(sign));
        self.at += usize::from(found);
        found
    }

    fn sign(&mut self, sign: char) -> Parsed<()> {
        if self.takes(sign) {
            return Ok(());
        }
        let shown = match sign {
            '>' => "->".to_string(),
            '~' => "..".to_string(),
            other => other.to_string(),
        };
        self.error(format!("expected `{shown}`"))
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Some(Token::Word(w)) if w == word)
    }

    fn takes_word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        self.at += usize::from(found);
        found
    }

    fn word(&mut self, word: &str) -> Parsed<()> {
        if self.takes_word(word) { Ok(()) } else { self.error(format!("expected `{word}`")) }
    }

    fn any_word(&mut self) -> Parsed<String> {
        match self.peek() {
            Some(Token::Word(w)) => {
                let w = w.clone();
                self.at += 1;
                Ok(w)
            }
            _ => self.error("expected a word"),
        }
    }

    fn name(&mut self) -> Parsed<String> {
        if let Some(Token::Text(t)) = self.peek() {
            let t = t.clone();
            self.at += 1;
            return Ok(t);
        }
        self.any_word()
    }

    fn number<T: std::str::FromStr>(&mut self) -> Parsed<T> {
        let minus = self.takes('-');
        let word = self.any_word()?;
        let text = if minus { format!("-{word}") } else { word };
        text.parse().or_else(|_| {
            self.at -= 1;
            self.error(format!("`{text}` is not a number that fits here"))
        })
    }

    fn dtype(&mut self) -> Parsed<DType> {
        let word = self.any_word()?;
        DType::from_name(&word).map_or_else(|| self.error(format!("`{word}` is no dtype")), Ok)
    }

    /// `NAME: dtype[elements]`.
    fn array(&mut self) -> Parsed<(String, DType, u64)> {
        let name = self.name()?;
        self.sign(':')?;
        let dtype = self.dtype()?;
        self.sign('[')?;
        let elements = self.number()?;
        self.sign(']')?;
        Ok((name, dtype, elements))
    }

    fn program(&mut self) -> Parsed<Program> {
        self.word("program")?;
        let name = self.name()?;
        self.word("pointers")?;
        let pointers = self.number()?;
        self.word("arena")?;
        let arena_bytes = self.number()?;
        let (mut buffers, mut kernels) = (Vec::new(), Vec::new());
        while self.takes_word("buffer") {
            let _: u32 = self.number()?;
            let (name, dtype, elements) = self.array()?;
            buffers.push(Buffer { name, dtype, elements, place: self.place()? });
        }
        while self.is_word("kernel") {
            kernels.push(self.kernel()?);
        }
        self.variables.clear();
        let steps = self.steps()?;
        self.word("end")?;
        Ok(Program { name, buffers, kernels, steps, pointers, arena_bytes })
    }

    /// Steps up to what is none.
    fn steps(&mut self) -> Parsed<Vec<Step>> {
        let mut steps = Vec::new();
        loop {
            if self.takes_word("call") {
                let kernel = self.number()?;
                self.sign('(')?;
                let mut buffers = Vec::new();
                while !self.takes(')') {
                    buffers.push(self.section()?);
                    self.takes(',');
                }
                steps.push(Step::Call(Call { kernel, buffers }));
            } else if self.takes_word("index") {
                let target = self.section()?;
                self.sign('=')?;
                steps.push(Step::Index { target, index: self.affine()? });
            } else if self.takes_word("repeat") {
                steps.push(Step::Repeat(self.repeat()?));
            } else {
                return Ok(steps);
            }
        }
    }

    fn repeat(&mut self) -> Parsed<Repeat> {
        let (var, count) = self.range()?;
        let reverse = self.takes_word("backwards");
        self.sign('{')?;
        self.depth += 1;
        if self.depth > DEEPEST {
            return self.error("repeats are too deep in each other");
        }
        let steps = self.steps()?;
        self.depth -= 1;
        self.sign('}')?;
        Ok(Repeat { var, count, reverse, steps })
    }

    /// `3`, or `3[AFFINE]`.
    fn section(&mut self) -> Parsed<Section> {
        let buffer = self.number()?;
        let mut offset = Affine::default();
        if self.takes('[') {
            offset = self.affine()?;
            self.sign(']')?;
        }
        Ok(Section { buffer, offset })
    }

    fn place(&mut self) -> Parsed<Place> {
        if self.takes_word("argument") {
            return Ok(Place::Argument { index: self.number()? });
        }
        if self.takes_word("arena") {
            let planned = matches!(self.peek(), Some(Token::Word(w)) if w.starts_with(|c: char| c.is_ascii_digit()));
            return Ok(Place::Arena { offset: if planned { Some(self.number()?) } else { None } });
        }
        self.word("constant")?;
        let hex = self.name()?;
        let digits: Option<Vec<u8>> = hex.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect();
        match digits {
            Some(digits) if digits.len() % 2 == 0 => {
                Ok(Place::Constant { bytes: digits.chunks(2).map(|d| d[0] << 4 | d[1]).collect() })
            }
            _ => self.error("a constant is an even number of hexadecimal digits"),
        }
    }

    fn kernel(&mut self) -> Parsed<Kernel> {
        self.buffers.clear();
        self.values.clear();
        self.dtypes.clear();
        self.variables.clear();
        self.word("kernel")?;
        let name = self.name()?;
        while let Some(usage) = self.usage() {
            let (name, dtype, elements) = self.array()?;
            self.buffers.push(BufferParameter { name, dtype, elements, usage });
        }
        let parallel = match self.takes_word("parallel") {
            true => {
                let (var, extent) = self.range()?;
                self.word("grain")?;
                let grain = self.number()?;
                Some(ParallelLoop { var, extent, grain, reverse: self.takes_word("backwards") })
            }
            false => None,
        };
        let mut body = Block::default();
        while !self.takes_word("end") {
            body.instructions.push(self.instruction()?);
        }
        Ok(Kernel {
            name,
            buffers: std::mem::take(&mut self.buffers),
            parallel,
            body,
            values: std::mem::take(&mut self.dtypes),
            variables: self.variables.len() as u32,
        })
    }

    fn usage(&mut self) -> Option<BufferUse> {
        let all = [BufferUse::Read, BufferUse::Write, BufferUse::Update];
        all.into_iter().find(|usage| self.takes_word(usage.word()))
    }

    /// A variable, new or known.
    fn variable(&mut self) -> Parsed<LoopVar> {
        let word = self.any_word()?;
        if !word.starts_with('i') || word.len() < 2 || !word[1..].bytes().all(|b| b.is_ascii_digit()) {
            self.at -= 1;
            return self.error(format!("`{word}` is no loop variable"));
        }
        let next = LoopVar(self.variables.len() as u32);
        Ok(*self.variables.entry(word).or_insert(next))
    }

    /// `i0 in 0..EXTENT`.
    fn range(&mut self) -> Parsed<(LoopVar, u64)> {
        let var = self.variable()?;
        self.word("in")?;
        self.word("0")?;
        self.sign('~')?;
        Ok((var, self.number()?))
    }

    fn value_number(&mut self) -> Parsed<u32> {
        match self.peek() {
            Some(Token::Value(number)) => {
                let number = *number;
                self.at += 1;
                Ok(number)
            }
            _ => self.error("expected a value"),
        }
    }

    /// A value that was defined before.
    fn value(&mut self) -> Parsed<Value> {
        let number = self.value_number()?;
        match self.values.get(&number) {
            Some(value) => Ok(*value),
            None => {
                self.at -= 1;
                self.error(format!("%{number} is not defined here"))
            }
        }
    }

    fn values(&mut self) -> Parsed<Vec<Value>> {
        let mut out = vec![self.value()?];
        while self.takes(',') {
            out.push(self.value()?);
        }
        Ok(out)
    }

    fn define(&mut self, number: u32, dtype: DType) -> Value {
        self.dtypes.push(dtype);
        let value = Value(self.dtypes.len() as u32 - 1);
        self.values.insert(number, value);
        value
    }

    /// `%3: f32`.
    fn definition(&mut self) -> Parsed<Value> {
        let number = self.value_number()?;
        self.sign(':')?;
        let dtype = self.dtype()?;
        Ok(self.define(number, dtype))
    }

    /// Results of a loop, whose dtypes are those of `like`.
    fn results(&mut self, like: &[Value]) -> Parsed<Vec<Value>> {
        self.sign('>')?;
        let mut out = Vec::new();
        for (i, value) in like.iter().enumerate() {
            if i > 0 {
                self.sign(',')?;
            }
            let number = self.value_number()?;
            out.push(self.define(number, self.dtypes[value.0 as usize]));
        }
        Ok(out)
    }

    fn buffer(&mut self) -> Parsed<BufferId> {
        if let Some(Token::Number(number)) = self.peek() {
            let number = *number;
            self.at += 1;
            return Ok(BufferId(number));
        }
        let name = self.any_word()?;
        match self.buffers.iter().position(|b| b.name == name) {
            Some(at) => Ok(BufferId(at as u32)),
            None => self.error(format!("there is no buffer `{name}`")),
        }
    }

    fn affine(&mut self) -> Parsed<Affine> {
        let mut sum = Affine::default();
        let mut minus = self.takes('-');
        loop {
            let starts_with_digit =
                matches!(self.peek(), Some(Token::Word(w)) if w.starts_with(|c: char| c.is_ascii_digit()));
            let factor: i64 = if starts_with_digit { self.number()? } else { 1 };
            let factor = if minus { -factor } else { factor };
            let term = if !starts_with_digit || self.takes('*') { Some(self.variable()?) } else { None };
            let added = match term {
                Some(var) => sum.coefficient(var).checked_add(factor).map(|_| sum.clone().plus(var, factor)),
                None => sum.constant.checked_add(factor).map(|_| sum.clone().offset(factor)),
            };
            match added {
                Some(added) => sum = added,
                None => return self.error("an address is too large"),
            }
            minus = match (self.takes('+'), self.takes('-')) {
                (true, _) => false,
                (_, true) => true,
                _ => return Ok(sum),
            };
        }
    }

    /// `x[AFFINE]`.
    fn element(&mut self) -> Parsed<(BufferId, Affine)> {
        let buffer = self.buffer()?;
        self.sign('[')?;
        let address = self.affine()?;
        self.sign(']')?;
        Ok((buffer, address))
    }

    /// `x[AFFINE] at %3 by 4 below 7`.
    fn indexed(&mut self) -> Parsed<(BufferId, Affine, Value, i64, u64)> {
        let (buffer, address) = self.element()?;
        self.word("at")?;
        let index = self.value()?;
        self.word("by")?;
        let stride = self.number()?;
        self.word("below")?;
        Ok((buffer, address, index, stride, self.number()?))
    }

    /// Instructions up to `}` or one of the words that end a block.
    fn block(&mut self) -> Parsed<Block> {
        self.sign('{')?;
        self.depth += 1;
        if self.depth > DEEPEST {
            return self.error("loops are too deep in each other");
        }
        let mut block = Block::default();
        while !self.takes('}') {
            if ["next", "element", "merged"].iter().any(|w| self.is_word(w)) {
                break;
            }
            block.instructions.push(self.instruction()?);
        }
        self.depth -= 1;
        Ok(block)
    }

    /// A block that ends in values handed on.
    fn block_handing_on(&mut self, word: &str) -> Parsed<(Block, Vec<Value>)> {
        let block = self.block()?;
        self.word(word)?;
        let values = self.values()?;
        self.sign('}')?;
        Ok((block, values))
    }

    fn instruction(&mut self) -> Parsed<Instruction> {
        if let Some(Token::Value(_)) = self.peek() {
            return self.assignment();
        }
        match self.any_word()?.as_str() {
            "store" => {
                let (buffer, address) = self.element()?;
                self.sign('=')?;
                Ok(Instruction::Store { buffer, address, value: self.value()? })
            }
            "scatter" => {
                let (buffer, address, index, stride, extent) = self.indexed()?;
                self.sign('=')?;
                Ok(Instruction::StoreAt { buffer, address, index, stride, extent, value: self.value()? })
            }
            "for" => self.for_loop(),
            "lanes" => {
                let (var, extent) = self.range()?;
                Ok(Instruction::Lanes { var, extent, body: self.block()? })
            }
            "fold" => self.fold(),
            "contract" => self.contract(),
            "tile" => self.tile(),
            other => {
                self.at -= 1;
                self.error(format!("`{other}` is no instruction"))
            }
        }
    }

    fn assignment(&mut self) -> Parsed<Instruction> {
        let number = self.value_number()?;
        self.sign(':')?;
        let dtype = self.dtype()?;
        self.sign('=')?;
        let word = self.any_word()?;
        // The result is defined after the operands, so that an instruction cannot use it.
        let placeholder = Value(u32::MAX);
        let mut instruction = match word.as_str() {
            "const" => {
                let value: f64 = self.number()?;
                Instruction::Constant { result: placeholder, value: ConstantBits(value.to_bits()) }
            }
            "index" => Instruction::Index { result: placeholder, index: self.affine()? },
            "convert" => Instruction::Convert { result: placeholder, operand: self.value()? },
            "bitcast" => Instruction::Bitcast { result: placeholder, operand: self.value()? },
            "one_of" => self.one_of(placeholder)?,
            "load" => {
                let (buffer, address) = self.element()?;
                Instruction::Load { result: placeholder, buffer, address }
            }
            "gather" => {
                let (buffer, address, index, stride, extent) = self.indexed()?;
                Instruction::LoadAt { result: placeholder, buffer, address, index, stride, extent }
            }
            name => match ScalarFunction::from_name(name) {
                Some(function) => Instruction::Map { result: placeholder, function, operands: self.values()? },
                None => {
                    self.at -= 1;
                    return self.error(format!("`{name}` is no function"));
                }
            },
        };
        let value = self.define(number, dtype);
        match &mut instruction {
            Instruction::Constant { result, .. }
            | Instruction::Index { result, .. }
            | Instruction::Map { result, .. }
            | Instruction::Convert { result, .. }
            | Instruction::Bitcast { result, .. }
            | Instruction::OneOf { result, .. }
            | Instruction::Load { result, .. }
            | Instruction::LoadAt { result, .. } => *result = value,
            _ => {}
        }
        Ok(instruction)
    }

    fn one_of(&mut self, result: Value) -> Parsed<Instruction> {
        let index = self.value()?;
        let mut table = [ConstantBits(0); 4];
        for entry in &mut table {
            self.sign(',')?;
            *entry = ConstantBits(self.number::<f64>()?.to_bits());
        }
        Ok(Instruction::OneOf { result, index, table })
    }

    fn for_loop(&mut self) -> Parsed<Instruction> {
        let (var, extent) = self.range()?;
        let mut started = Vec::new();
        if self.takes_word("carry") {
            loop {
                let parameter = self.definition()?;
                self.sign('=')?;
                started.push((parameter, self.value()?));
                if !self.takes(',') {
                    break;
                }
            }
        }
        if started.is_empty() {
            return Ok(Instruction::For { var, extent, carried: Vec::new(), body: self.block()? });
        }
        let (body, next) = self.block_handing_on("next")?;
        if next.len() != started.len() {
            return self.error("not as many values go on as are carried");
        }
        let parameters: Vec<Value> = started.iter().map(|s| s.0).collect();
        let results = self.results(&parameters)?;
        let carried = (0..started.len())
            .map(|i| Carried { initial: started[i].1, parameter: started[i].0, next: next[i], result: results[i] })
            .collect();
        Ok(Instruction::For { var, extent, carried, body })
    }

    fn fold(&mut self) -> Parsed<Instruction> {
        let (var, extent) = self.range()?;
        let (body, elements) = self.block_handing_on("element")?;
        self.word("merge")?;
        let mut parameters = Vec::new();
        loop {
            let left = self.value_number()?;
            self.sign(',')?;
            let right = self.definition()?;
            let left = self.define(left, self.dtypes[right.0 as usize]);
            self.word("from")?;
            let initial: f64 = self.number()?;
            parameters.push((left, right, ConstantBits(initial.to_bits())));
            if !self.takes(';') {
                break;
            }
        }
        let (merge, merged) = self.block_handing_on("merged")?;
        if elements.len() != parameters.len() || merged.len() != parameters.len() {
            return self.error("a fold has one element and one merged value for each accumulator");
        }
        let likes: Vec<Value> = parameters.iter().map(|p| p.0).collect();
        let results = self.results(&likes)?;
        let accumulators = (0..parameters.len())
            .map(|i| Accumulator {
                initial: parameters[i].2,
                element: elements[i],
                left: parameters[i].0,
                right: parameters[i].1,
                merged: merged[i],
                result: results[i],
            })
            .collect();
        Ok(Instruction::Fold { var, extent, body, accumulators, merge })
    }

    /// `(1, 2)`.
    fn pair(&mut self) -> Parsed<(i64, i64)> {
        self.word("by")?;
        self.sign('(')?;
        let first = self.number()?;
        self.sign(',')?;
        let second = self.number()?;
        self.sign(')')?;
        Ok((first, second))
    }

    fn matrix(&mut self, word: &str) -> Parsed<Matrix> {
        self.word(word)?;
        let (buffer, address) = self.element()?;
        let (row_stride, column_stride) = self.pair()?;
        Ok(Matrix { buffer, address, row_stride, column_stride })
    }

    /// Both operands, the accumulator and the epilogue.
    fn operands(&mut self) -> Parsed<(Matrix, Matrix, Value, Block)> {
        let (left, right) = (self.matrix("left")?, self.matrix("right")?);
        self.sign('>')?;
        let accumulator = self.definition()?;
        Ok((left, right, accumulator, self.block()?))
    }

    fn contract(&mut self) -> Parsed<Instruction> {
        let (row, rows) = self.range()?;
        self.sign(',')?;
        let (column, columns) = self.range()?;
        self.sign(',')?;
        let (depth, cut, rounds) = self.depth()?;
        let (left, right, accumulator, epilogue) = self.operands()?;
        let contract = Contract { row, rows, column, columns, rounds, depth, cut, left, right, accumulator, epilogue };
        Ok(Instruction::Contract(Box::new(contract)))
    }

    /// `depth 96 cut 1 every 5, rounds 3 by (832, 3072), 11 by (1, 4)`.
    fn depth(&mut self) -> Parsed<(u64, Option<Cut>, Vec<Round>)> {
        self.word("depth")?;
        let depth = self.number()?;
        let mut cut = None;
        if self.takes_word("cut") {
            let level = self.number()?;
            self.word("every")?;
            cut = Some(Cut { level, size: self.number()? });
        }
        let mut rounds = Vec::new();
        while self.takes(',') {
            if rounds.is_empty() {
                self.word("rounds")?;
            }
            let count = self.number()?;
            let (left_stride, right_stride) = self.pair()?;
            rounds.push(Round { count, left_stride, right_stride });
        }
        Ok((depth, cut, rounds))
    }

    fn tile(&mut self) -> Parsed<Instruction> {
        let (row, rows) = self.range()?;
        self.sign(',')?;
        let (column, stored_columns) = self.range()?;
        self.word("of")?;
        let columns = self.number()?;
        self.sign(',')?;
        let (depth, cut, rounds) = self.depth()?;
        let (left, right, accumulator, epilogue) = self.operands()?;
        Ok(Instruction::Tile(Box::new(Tile {
            row,
            rows,
            column,
            columns,
            stored_columns,
            rounds,
            depth,
            cut,
            left,
            right,
            accumulator,
            epilogue,
        })))
    }
}
