//! Numbers and times as people read them.

use crate::train::event::Values;

/// `ce 0.0812  accuracy 0.9778`.
pub fn values_text(values: &Values) -> String {
    values.0.iter().map(|(name, value)| format!("{name} {}", number_text(*value))).collect::<Vec<_>>().join("  ")
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
        assert_eq!(seconds_text(0.0412), "41 ms");
        assert_eq!(seconds_text(200.2), "3 min 20 s");
    }
}
