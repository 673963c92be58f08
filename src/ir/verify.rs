//! Checks the invariants of a function.
