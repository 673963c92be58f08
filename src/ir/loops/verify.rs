//! Checks the invariants of kernels and programs.
