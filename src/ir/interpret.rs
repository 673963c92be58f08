//! The naive f64 interpreter of graphs.
