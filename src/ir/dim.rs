//! Dimensions: integers, or polynomials over symbolic sizes such as `batch`.
//!
//! A [`Dim`] is kept in a normal form (monomials sorted, like terms merged, no zero coefficient), so `==`
//! decides whether two dims are the same size for every value of the symbols. Types are checked once with
//! symbolic dims; [`Dim::substitute`] makes them concrete before code is generated.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A size not known at compile time, identified by its name within one model.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Symbol(pub Arc<str>);

/// The concrete sizes of symbolic dims.
pub type Sizes = BTreeMap<Symbol, i64>;

/// A product of symbols (sorted; none is the number 1) and its coefficient.
type Term = (Vec<Symbol>, i64);

/// A polynomial with integer coefficients over [`Symbol`]s. A clone allocates nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Dim(Form);

/// The normal form. Invariant: what is a number is `Number`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Form {
    Number(i64),
    /// Invariant: sorted by their symbols, no two with the same, no coefficient zero.
    Terms(Arc<[Term]>),
}

impl Dim {
    /// The symbol `name` itself.
    pub fn symbol(name: impl Into<Arc<str>>) -> Dim {
        Dim(Form::Terms(Arc::from([(vec![Symbol(name.into())], 1)])))
    }

    /// The value, if no symbol occurs.
    pub fn constant(&self) -> Option<i64> {
        match self.0 {
            Form::Number(value) => Some(value),
            Form::Terms(_) => None,
        }
    }

    /// Whether the dim is the literal `value`.
    pub fn is(&self, value: i64) -> bool {
        self.constant() == Some(value)
    }

    /// The symbols that occur, each once.
    pub fn symbols(&self) -> Vec<Symbol> {
        let mut all: Vec<Symbol> = self.terms().iter().flat_map(|(s, _)| s.iter().cloned()).collect();
        all.sort();
        all.dedup();
        all
    }

    /// The terms of the sum; none is 0.
    fn terms(&self) -> Cow<'_, [Term]> {
        match &self.0 {
            Form::Number(0) => Cow::Borrowed(&[]),
            Form::Number(value) => Cow::Owned(vec![(Vec::new(), *value)]),
            Form::Terms(terms) => Cow::Borrowed(terms),
        }
    }

    fn from_terms(terms: impl IntoIterator<Item = Term>) -> Option<Dim> {
        let mut merged: BTreeMap<Vec<Symbol>, i64> = BTreeMap::new();
        for (symbols, coefficient) in terms {
            let entry = merged.entry(symbols).or_insert(0);
            *entry = entry.checked_add(coefficient)?;
        }
        let terms: Vec<Term> = merged.into_iter().filter(|(_, coefficient)| *coefficient != 0).collect();
        Some(match terms.as_slice() {
            [] => Dim::from(0i64),
            [(symbols, value)] if symbols.is_empty() => Dim::from(*value),
            _ => Dim(Form::Terms(Arc::from(terms))),
        })
    }

    /// The sum; `None` on overflow of a coefficient.
    pub fn add(&self, other: &Dim) -> Option<Dim> {
        match (&self.0, &other.0) {
            (Form::Number(ours), Form::Number(theirs)) => ours.checked_add(*theirs).map(Dim::from),
            _ => Dim::from_terms(self.terms().iter().chain(other.terms().iter()).cloned()),
        }
    }

    /// The difference; `None` on overflow.
    pub fn sub(&self, other: &Dim) -> Option<Dim> {
        self.add(&other.mul(&Dim::from(-1i64))?)
    }

    /// The product; `None` on overflow, or when it has more than 64 terms (no honest shape does).
    pub fn mul(&self, other: &Dim) -> Option<Dim> {
        match (&self.0, &other.0) {
            (Form::Number(ours), Form::Number(theirs)) => return ours.checked_mul(*theirs).map(Dim::from),
            (Form::Number(1), Form::Terms(_)) => return Some(other.clone()),
            (Form::Terms(_), Form::Number(1)) => return Some(self.clone()),
            _ => {}
        }
        let (ours, theirs) = (self.terms(), other.terms());
        if ours.len() * theirs.len() > 64 {
            return None;
        }
        let mut terms = Vec::with_capacity(ours.len() * theirs.len());
        for (a, x) in ours.iter() {
            for (b, y) in theirs.iter() {
                let mut symbols: Vec<Symbol> = a.iter().chain(b).cloned().collect();
                symbols.sort();
                terms.push((symbols, x.checked_mul(*y)?));
            }
        }
        Dim::from_terms(terms)
    }

    /// The quotient, if `other` divides this dim exactly for every value of the symbols.
    ///
    /// `other` may be a constant or a single term; anything else divides only itself.
    pub fn div_exact(&self, other: &Dim) -> Option<Dim> {
        if self == other && !self.is(0) {
            return Some(Dim::from(1i64));
        }
        let divisors = other.terms();
        let [(divisor_symbols, divisor)] = &*divisors else { return None };
        let mut terms = Vec::new();
        for (symbols, coefficient) in self.terms().iter() {
            if coefficient.checked_rem(*divisor)? != 0 {
                return None;
            }
            let mut rest = symbols.clone();
            for s in divisor_symbols {
                let at = rest.iter().position(|r| r == s)?;
                rest.remove(at);
            }
            terms.push((rest, coefficient / divisor));
        }
        Dim::from_terms(terms)
    }

    /// The quotient rounded down, if it is a dim: if `divisor` divides the coefficient of every term that has symbols.
    pub fn div_floor(&self, divisor: i64) -> Option<Dim> {
        if divisor <= 0 {
            return None;
        }
        let terms = self.terms();
        let quotients = terms.iter().map(|(symbols, coefficient)| {
            let exact = symbols.is_empty() || coefficient % divisor == 0;
            exact.then(|| (symbols.clone(), coefficient.div_euclid(divisor)))
        });
        Dim::from_terms(quotients.collect::<Option<Vec<_>>>()?)
    }

    /// The dim with the given symbols replaced by their sizes; `None` on overflow.
    pub fn substitute(&self, sizes: &Sizes) -> Option<Dim> {
        let Form::Terms(from) = &self.0 else { return Some(self.clone()) };
        let mut terms = Vec::with_capacity(from.len());
        for (symbols, coefficient) in from.iter() {
            let mut value = *coefficient;
            let mut rest = Vec::new();
            for s in symbols {
                match sizes.get(s) {
                    Some(size) => value = value.checked_mul(*size)?,
                    None => rest.push(s.clone()),
                }
            }
            terms.push((rest, value));
        }
        Dim::from_terms(terms)
    }
}

impl From<i64> for Dim {
    fn from(value: i64) -> Dim {
        Dim(Form::Number(value))
    }
}

impl From<usize> for Dim {
    fn from(value: usize) -> Dim {
        Dim::from(i64::try_from(value).expect("a size in memory fits in i64"))
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Form::Number(value) = &self.0 {
            return write!(f, "{value}");
        }
        let terms = self.terms();
        // Terms with symbols first, the constant last: `2*h + 1`.
        let ordered = terms.iter().filter(|(s, _)| !s.is_empty());
        let constant = terms.iter().filter(|(s, _)| s.is_empty());
        for (i, (symbols, coefficient)) in ordered.chain(constant).enumerate() {
            let magnitude = coefficient.unsigned_abs();
            match (i, *coefficient < 0) {
                (0, true) => f.write_str("-")?,
                (0, false) => {}
                (_, true) => f.write_str(" - ")?,
                (_, false) => f.write_str(" + ")?,
            }
            let names: Vec<&str> = symbols.iter().map(|s| &*s.0).collect();
            match (names.is_empty(), magnitude) {
                (true, m) => write!(f, "{m}")?,
                (false, 1) => f.write_str(&names.join("*"))?,
                (false, m) => write!(f, "{m}*{}", names.join("*"))?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_form_decides_equality() {
        let b = Dim::symbol("batch");
        let flat = b.mul(&Dim::from(8i64)).unwrap().mul(&Dim::from(8i64)).unwrap();
        assert_eq!(flat, Dim::from(64i64).mul(&b).unwrap());
        assert_eq!(flat.div_exact(&b).unwrap(), Dim::from(64i64));
        assert_eq!(flat.to_string(), "64*batch");
        assert_eq!(b.sub(&b).unwrap(), Dim::from(0i64));
        assert!(b.div_exact(&Dim::from(2i64)).is_none());
        assert!(Dim::from(7i64).div_exact(&Dim::from(0i64)).is_none());
        let odd = b.mul(&Dim::from(4i64)).unwrap().add(&Dim::from(-3i64)).unwrap();
        assert_eq!(odd.div_floor(2).unwrap().to_string(), "2*batch - 2");
        assert!(odd.div_floor(3).is_none());
    }
}
