//! A place in one line of a text form, and the small words that can be read there.

use std::str::FromStr;
use std::sync::Arc;

use crate::ir::dim::Dim;
use crate::ir::ops::Attribute;
use crate::ir::types::{DType, TensorType};

/// What is left of a line.
pub(super) struct Cursor<'a> {
    rest: &'a str,
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

impl<'a> Cursor<'a> {
    pub fn new(text: &'a str) -> Self {
        Cursor { rest: text.trim() }
    }

    fn advance(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.rest = rest.trim_start();
        taken
    }

    /// Takes `token` if it is next.
    pub fn accept(&mut self, token: &str) -> bool {
        let found = self.rest.starts_with(token);
        if found {
            self.advance(token.len());
        }
        found
    }

    pub fn expect(&mut self, token: &str) -> Result<(), String> {
        if self.accept(token) { Ok(()) } else { Err(format!("expected `{token}` before `{}`", self.rest)) }
    }

    pub fn end(&self) -> Result<(), String> {
        if self.rest.is_empty() { Ok(()) } else { Err(format!("`{}` is too much", self.rest)) }
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a str {
        std::mem::take(&mut self.rest)
    }

    fn run(&mut self, taken: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !taken(c)).unwrap_or(self.rest.len());
        self.advance(end)
    }

    /// A word of letters, digits and underscores.
    pub fn word(&mut self) -> Result<&'a str, String> {
        match self.run(is_word) {
            "" => Err(format!("expected a word before `{}`", self.rest)),
            word => Ok(word),
        }
    }

    pub fn number<T: FromStr>(&mut self) -> Result<T, String> {
        let digits = self.run(|c| c.is_ascii_digit());
        digits.parse().map_err(|_| format!("expected a number before `{}`", self.rest))
    }

    /// `%3`.
    pub fn value_number<T: FromStr>(&mut self) -> Result<T, String> {
        self.expect("%")?;
        self.number()
    }

    /// `f32`, `index(10)`, if one is next.
    fn accept_dtype(&mut self) -> Option<DType> {
        let end = self.rest.find(|c| !is_word(c)).unwrap_or(self.rest.len());
        if let Some(dtype) = DType::from_name(&self.rest[..end]) {
            self.advance(end);
            return Some(dtype);
        }
        let classes = self.rest.strip_prefix("index(")?;
        let close = classes.find(')')?;
        let dtype = DType::Index { classes: classes[..close].parse().ok()? };
        self.advance("index(".len() + close + 1);
        Some(dtype)
    }

    /// `f32[batch, 3]`.
    pub fn tensor_type(&mut self) -> Result<TensorType, String> {
        let dtype = self.accept_dtype().ok_or_else(|| format!("expected a type before `{}`", self.rest))?;
        self.expect("[")?;
        let mut shape = Vec::new();
        while !self.accept("]") {
            shape.push(self.dim()?);
            self.accept(",");
        }
        Ok(TensorType { dtype, shape })
    }

    /// `2*h*w - 3`.
    fn dim(&mut self) -> Result<Dim, String> {
        let mut total = Dim::from(0i64);
        let mut sign = if self.accept("-") { -1i64 } else { 1 };
        loop {
            let mut term = Dim::from(sign);
            loop {
                let factor = match self.word()? {
                    digits if digits.starts_with(|c: char| c.is_ascii_digit()) => {
                        Dim::from(digits.parse::<i64>().map_err(|_| format!("`{digits}` is no number"))?)
                    }
                    name => Dim::symbol(name),
                };
                term = term.mul(&factor).ok_or("a dim overflows")?;
                if !self.accept("*") {
                    break;
                }
            }
            total = total.add(&term).ok_or("a dim overflows")?;
            sign = match (self.accept("+"), self.accept("-")) {
                (true, _) => 1,
                (_, true) => -1,
                _ => return Ok(total),
            };
        }
    }

    /// A float, if one is next: a number with a point or an exponent, `inf` or `NaN`.
    fn accept_float(&mut self) -> Option<f64> {
        let end = self.rest.find(|c| !is_word(c) && c != '.' && c != '-').unwrap_or(self.rest.len());
        let token = &self.rest[..end];
        let unsigned = token.trim_start_matches('-');
        let digits = unsigned.starts_with(|c: char| c.is_ascii_digit()) && unsigned.contains(['.', 'e']);
        if !digits && !["inf", "NaN"].contains(&unsigned) {
            return None;
        }
        let value = token.parse().ok()?;
        self.advance(end);
        Some(value)
    }

    /// The value of an attribute. A bare word that is nothing else is a symbolic dim; the op's getter settles what it is.
    pub fn attribute(&mut self) -> Result<Attribute, String> {
        if self.accept("[") {
            return self.list();
        }
        if self.accept("{") {
            return self.function();
        }
        if let Some(value) = self.accept_float() {
            return Ok(Attribute::float(value));
        }
        if let Some(dtype) = self.accept_dtype() {
            return Ok(Attribute::DType(dtype));
        }
        let end = self.rest.find(|c| !is_word(c)).unwrap_or(self.rest.len());
        match &self.rest[..end] {
            word @ ("true" | "false") => {
                self.advance(end);
                Ok(Attribute::Bool(word == "true"))
            }
            _ => Ok(Attribute::Dim(self.dim()?)),
        }
    }

    /// A function's lines up to the `}` that closes its brace. A brace opens at the end of a line and closes at the start of one.
    fn function(&mut self) -> Result<Attribute, String> {
        let (mut open, mut end) = (1usize, 0);
        for line in self.rest.split_inclusive('\n') {
            open = open - usize::from(line.starts_with('}')) + usize::from(line.trim_end().ends_with('{'));
            if open == 0 {
                let lines = self.advance(end);
                self.expect("}")?;
                let body = super::parse(lines).map_err(|e| format!("in its body, {e}"))?;
                return Ok(Attribute::Function(Arc::new(body)));
            }
            end += line.len();
        }
        Err("a `{` has no `}`".into())
    }

    fn list(&mut self) -> Result<Attribute, String> {
        let (mut floats, mut dims) = (Vec::new(), Vec::new());
        while !self.accept("]") {
            match self.accept_float() {
                Some(value) => floats.push(value.to_bits()),
                None => dims.push(self.dim()?),
            }
            self.accept(",");
        }
        match (floats.is_empty(), dims.is_empty()) {
            (true, _) => Ok(Attribute::Dims(dims)),
            (false, true) => Ok(Attribute::Floats(floats)),
            (false, false) => Err("floats and dims in one list".into()),
        }
    }
}
