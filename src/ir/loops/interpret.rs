//! Runs kernels in the machine's own arithmetic.
