//! Numbers and times as people read them.

use crate::train::event::{Measured, Values};

/// `ce 0.0812  accuracy 0.9778`; what is no single number is not in it.
pub fn values_text(values: &Values) -> String {
    let numbers = values.0.iter().filter_map(|(name, value)| match value {
        Measured::Number(x) => Some(format!("{name} {}", number_text(*x))),
        Measured::Array(..) => None,
    });
    numbers.collect::<Vec<_>>().join("  ")
}

/// The tables among the values, each under its name, one row a line.
pub fn tables_text(values: &Values) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, value) in &values.0 {
        let Measured::Array(shape, elements) = value else { continue };
        lines.push(format!("{name} {shape:?}"));
        let columns = shape.last().copied().unwrap_or(1).max(1);
        let text: Vec<String> = elements.iter().map(|x| element_text(*x)).collect();
        let width = text.iter().map(String::len).max().unwrap_or(0);
        let line = |row: &[String]| row.iter().map(|t| format!("  {t:>width$}")).collect::<String>();
        lines.extend(text.chunks(columns).map(line));
    }
    lines
}

/// Counts as they are, other numbers as [`number_text`] has them.
fn element_text(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e15 { format!("{value:.0}") } else { number_text(value) }
}

/// Four decimals, or four significant digits of very small and very large numbers.
fn number_text(value: f64) -> String {
    if value == 0.0 || (1e-3..1e5).contains(&value.abs()) { format!("{value:.4}") } else { format!("{value:.3e}") }
}

/// `41 ms`, `2.31 s`, `3 min 20 s`.
pub fn seconds_text(seconds: f64) -> String {
    if seconds < 1.0 {
        format!("{:.0} ms", seconds * 1e3)
    } else if seconds < 120.0 {
        format!("{seconds:.2} s")
    } else {
        let whole = seconds.round();
        format!("{:.0} min {:.0} s", (whole / 60.0).floor(), whole % 60.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times() {
        assert_eq!(number_text(0.97777), "0.9778");
        assert_eq!(number_text(0.00001234), "1.234e-5");
        assert_eq!(number_text(f64::NAN), "NaN");
        let table = Measured::Array(vec![2, 2], vec![12.0, 1.0, 0.5, 3.0]);
        let values = Values(vec![("ce".into(), Measured::Number(0.5)), ("m".into(), table)]);
        assert_eq!(values_text(&values), "ce 0.5000");
        assert_eq!(tables_text(&values), ["m [2, 2]", "      12       1", "  0.5000       3"]);
        assert_eq!(seconds_text(0.0412), "41 ms");
        assert_eq!(seconds_text(200.2), "3 min 20 s");
    }
}
