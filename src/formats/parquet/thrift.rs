//! Thrift's compact protocol, as a tree of values: Parquet's metadata and page headers.

/// How deep structures may lie in each other, and how many values there may be in all.
const DEEPEST: usize = 16;
const MOST_VALUES: usize = 1 << 22;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Bool(bool),
    Int(i64),
    /// Not used by what is read of Parquet.
    Double,
    Bytes(Vec<u8>),
    List(Vec<Value>),
    /// Fields by number.
    Struct(Vec<(i64, Value)>),
}

impl Value {
    /// The field `number` of a structure.
    pub fn find(&self, number: i64) -> Option<&Value> {
        match self {
            Value::Struct(fields) => fields.iter().find(|(found, _)| *found == number).map(|(_, value)| value),
            _ => None,
        }
    }

    /// A whole number.
    pub fn int(&self) -> Option<i64> {
        match self {
            Value::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// The number in a field, which cannot be negative.
    pub fn unsigned(&self, number: i64) -> Result<u64, String> {
        let value = self.find(number).and_then(Value::int).and_then(|value| u64::try_from(value).ok());
        value.ok_or_else(|| format!("field {number} is no number from 0"))
    }

    /// The list in a field.
    pub fn list(&self, number: i64) -> Result<&[Value], String> {
        match self.find(number) {
            Some(Value::List(list)) => Ok(list),
            _ => Err(format!("field {number} is no list")),
        }
    }

    /// The text in a field.
    pub fn text(&self, number: i64) -> Result<String, String> {
        match self.find(number) {
            Some(Value::Bytes(bytes)) => Ok(String::from_utf8_lossy(bytes).into_owned()),
            _ => Err(format!("field {number} is no text")),
        }
    }
}

/// The structure that `bytes` begins with, and how many bytes it takes.
pub fn parse(bytes: &[u8]) -> Result<(Value, usize), String> {
    let mut reader = Reader { bytes, at: 0, values: 0 };
    let value = reader.structure(0)?;
    Ok((value, reader.at))
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    values: usize,
}

impl Reader<'_> {
    fn byte(&mut self) -> Result<u8, String> {
        let byte = *self.bytes.get(self.at).ok_or("it ends within a value")?;
        self.at += 1;
        Ok(byte)
    }

    fn varint(&mut self) -> Result<u64, String> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("a number has too many bytes".into())
    }

    fn zigzag(&mut self) -> Result<i64, String> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    fn structure(&mut self, depth: usize) -> Result<Value, String> {
        let mut fields = Vec::new();
        let mut number = 0i64;
        loop {
            let head = self.byte()?;
            if head == 0 {
                return Ok(Value::Struct(fields));
            }
            number = match head >> 4 {
                0 => self.zigzag()?,
                delta => number.wrapping_add(i64::from(delta)),
            };
            let value = match head & 0x0f {
                1 => Value::Bool(true),
                2 => Value::Bool(false),
                kind => self.value(kind, depth + 1)?,
            };
            fields.push((number, value));
        }
    }

    fn value(&mut self, kind: u8, depth: usize) -> Result<Value, String> {
        self.values += 1;
        if depth > DEEPEST || self.values > MOST_VALUES {
            return Err("it is too deep or too large".into());
        }
        Ok(match kind {
            1 | 2 => Value::Bool(self.byte()? == 1),
            3 => Value::Int(i64::from(self.byte()? as i8)),
            4..=6 => Value::Int(self.zigzag()?),
            7 => {
                self.skip(8)?;
                Value::Double
            }
            8 => {
                let length = self.varint()?;
                let start = self.at;
                self.skip(length)?;
                Value::Bytes(self.bytes[start..self.at].to_vec())
            }
            9 | 10 => {
                let head = self.byte()?;
                let count = if head >> 4 == 15 { self.varint()? } else { u64::from(head >> 4) };
                let kind = head & 0x0f;
                // No element takes less than a byte, so a list cannot be longer than what follows.
                let mut list = Vec::new();
                for _ in 0..count {
                    list.push(self.value(kind, depth + 1)?);
                }
                Value::List(list)
            }
            12 => self.structure(depth)?,
            other => return Err(format!("it has a value of the unknown type {other}")),
        })
    }

    fn skip(&mut self, count: u64) -> Result<(), String> {
        let end = usize::try_from(count).ok().and_then(|count| self.at.checked_add(count));
        self.at = end.filter(|end| *end <= self.bytes.len()).ok_or("it ends within a value")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_lists_and_ends() {
        let bytes = [0x15, 0x03, 0x18, 0x02, b'h', b'i', 0x19, 0x25, 0x02, 0x04, 0x11, 0x00];
        let (value, length) = parse(&bytes).unwrap();
        assert_eq!(length, bytes.len());
        assert_eq!((value.find(1), value.text(2)), (Some(&Value::Int(-2)), Ok("hi".into())));
        assert_eq!(value.list(3), Ok([Value::Int(1), Value::Int(2)].as_slice()));
        assert_eq!(value.find(4), Some(&Value::Bool(true)));
        for end in 0..bytes.len() {
            assert!(parse(&bytes[..end]).is_err());
        }
    }
}
